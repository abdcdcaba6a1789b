//! What a thread keeps of the lanes for itself: its seat, and a few free blocks.

use std::{ptr, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    Block, Lanes,
    pool::{Class, GROUP},
    seats::{SeatId, Tally},
};

/// A thread's share of one engine's lanes. It serves one engine at a time and moves when the thread turns to another.
#[derive(Debug)]
pub struct Local<Owner> {
    /// The engine that is served. Alive while it stands here.
    lanes: Option<Arc<Lanes<Owner>>>,
    seat: SeatId,
    /// Numbers of free blocks of the first size. Each holds a count of the engine, as a block outside the pool does.
    magazine: ArrayVec<u32, MAGAZINE>,
}

/// Blocks that a thread keeps: enough for a tree of spans as deep as most requests have.
const MAGAZINE: usize = 2 * GROUP;

impl<Owner> Local<Owner> {
    /// A thread that serves no engine.
    #[must_use]
    pub const fn new() -> Self {
        Self { lanes: None, seat: SeatId::Shared, magazine: ArrayVec::new_const() }
    }

    /// Moves to `lanes`, giving back what belonged to the engine before.
    pub fn bind(&mut self, lanes: &Arc<Lanes<Owner>>) {
        self.release();
        self.seat = lanes.seats.take();
        self.lanes = Some(Arc::clone(lanes));
    }

    /// Gives everything back: the thread ends, or turns to another engine.
    pub fn release(&mut self) {
        let Some(lanes) = self.lanes.take() else {
            return;
        };
        lanes.give_blocks(Class::First, &self.magazine);
        self.magazine.clear();
        lanes.seats.give(self.seat);
        self.seat = SeatId::Shared;
    }

    /// A block of the first size; `None` when the budget is spent.
    #[inline]
    pub fn take(&mut self) -> Option<Block<Owner>> {
        let lanes = self.lanes.as_ref()?;
        if let Some(number) = self.magazine.pop() {
            return Some(lanes.block(number, Class::First));
        }
        self.refill()
    }

    #[cold]
    fn refill(&mut self) -> Option<Block<Owner>> {
        let lanes = self.lanes.as_ref()?;
        lanes.take_blocks::<GROUP>(Class::First, |number| self.magazine.push(number));
        self.magazine.pop().map(|number| lanes.block(number, Class::First))
    }

    /// Takes a block back.
    #[inline]
    pub fn put(&mut self, block: Block<Owner>) {
        if block.class == Class::First && !self.magazine.is_full() && self.serves(block.lanes()) {
            self.magazine.push(block.into_number());
        } else {
            self.overflow(block);
        }
    }

    #[cold]
    fn overflow(&mut self, block: Block<Owner>) {
        if self.magazine.is_full()
            && let Some(lanes) = &self.lanes
        {
            let rest = MAGAZINE - GROUP;
            lanes.give_blocks(Class::First, &self.magazine[rest..]);
            self.magazine.truncate(rest);
        }
        drop(block);
    }

    /// Counts at the thread's seat.
    #[inline]
    pub fn add(&self, tally: Tally) {
        if let Some(lanes) = &self.lanes {
            lanes.seats.add(self.seat, tally, 1);
        }
    }

    /// Whether `lanes` is the engine that is served.
    #[inline]
    #[must_use]
    pub fn serves(&self, lanes: &Lanes<Owner>) -> bool {
        self.lanes.as_ref().is_some_and(|mine| ptr::eq(Arc::as_ptr(mine), lanes))
    }
}

impl<Owner> Default for Local<Owner> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Owner> Drop for Local<Owner> {
    fn drop(&mut self) {
        self.release();
    }
}
