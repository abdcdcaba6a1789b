//! What a thread keeps of the lanes for itself: its seat, and a few free blocks.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    sync::Arc,
};

use arrayvec::ArrayVec;

use super::{
    Block, Lanes,
    pool::{Class, GROUP},
    seats::{Seat, SeatId, Teller},
};
use crate::sync::cpu;

/// A thread's share of one engine's lanes. It serves one engine at a time and moves when the thread turns to another.
#[derive(Debug)]
pub struct Local<Owner, Draft: Copy + Default = ()> {
    /// The engine that is served. Alive while it stands here.
    lanes: Option<Arc<Lanes<Owner, Draft>>>,
    seat: SeatId,
    /// The same, as an address: what is looked at on every start and end. `None` for the shared seat.
    own_seat: Option<NonNull<Seat>>,
    /// The core's number as it was when it was last looked up, and how often it may still be used: the look-up is a chain of
    /// loads in front of the lease, and a thread seldom moves.
    hint: Cell<usize>,
    hint_uses: Cell<u32>,
    /// Free blocks of the first size.
    magazine: ArrayVec<Block<Owner, Draft>, MAGAZINE>,
}

/// Blocks that a thread keeps: enough for a tree of spans as deep as most requests have.
const MAGAZINE: usize = 2 * GROUP;

/// How often a core's number is used before it is looked up again.
const HINT_USES: u32 = 32;

impl<Owner, Draft: Copy + Default> Local<Owner, Draft> {
    /// A thread that serves no engine.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: None,
            seat: SeatId::Shared,
            own_seat: None,
            hint: Cell::new(0),
            hint_uses: Cell::new(0),
            magazine: ArrayVec::new_const(),
        }
    }

    /// Moves to `lanes`, giving back what belonged to the engine before.
    pub fn bind(&mut self, lanes: &Arc<Lanes<Owner, Draft>>) {
        self.release();
        self.seat = lanes.seats.take();
        self.own_seat = match lanes.seats.teller(self.seat) {
            Teller::Own(seat) => Some(NonNull::from(seat)),
            Teller::Shared(_) => None,
        };
        self.lanes = Some(Arc::clone(lanes));
    }

    /// Gives everything back: the thread ends, or turns to another engine.
    pub fn release(&mut self) {
        let Some(lanes) = self.lanes.take() else {
            return;
        };
        lanes.give_blocks::<MAGAZINE>(self.magazine.drain(..));
        lanes.seats.give(self.seat);
        self.seat = SeatId::Shared;
        self.own_seat = None;
    }

    /// Which ring to try first.
    #[inline]
    #[must_use]
    pub fn hint(&self) -> usize {
        match self.hint_uses.get().checked_sub(1) {
            Some(uses) => self.hint_uses.set(uses),
            None => {
                self.hint.set(cpu::hint());
                self.hint_uses.set(HINT_USES - 1);
            }
        }
        self.hint.get()
    }

    /// Looks the core up anew next time: the ring was held or full, so the thread may have moved.
    pub fn doubt_hint(&self) {
        self.hint_uses.set(0);
    }

    /// A block of the first size; `None` when the budget is spent.
    #[inline]
    pub fn take(&mut self) -> Option<Block<Owner, Draft>> {
        match self.magazine.pop() {
            Some(block) => Some(block),
            None => self.refill(),
        }
    }

    #[cold]
    fn refill(&mut self) -> Option<Block<Owner, Draft>> {
        let lanes = self.lanes.as_ref()?;
        lanes.take_blocks::<GROUP>(Class::First, |block| self.magazine.push(block));
        self.magazine.pop()
    }

    /// Takes a block back.
    #[inline]
    pub fn put(&mut self, block: Block<Owner, Draft>) {
        if self.serves(block.lanes()) { self.put_own(block) } else { drop(block) }
    }

    /// Takes a block of the lanes that are served back.
    #[inline(always)]
    pub fn put_own(&mut self, block: Block<Owner, Draft>) {
        debug_assert!(self.serves(block.lanes()));
        if block.class() == Class::First && !self.magazine.is_full() {
            self.magazine.push(block);
        } else {
            self.overflow(block);
        }
    }

    #[cold]
    fn overflow(&mut self, block: Block<Owner, Draft>) {
        if self.magazine.is_full()
            && let Some(lanes) = &self.lanes
        {
            lanes.give_blocks::<MAGAZINE>(self.magazine.drain(MAGAZINE - GROUP..));
        }
        drop(block);
    }

    /// Where the thread counts for `lanes`, which are served.
    #[inline(always)]
    #[must_use]
    pub fn own_teller<'a>(&'a self, lanes: &'a Lanes<Owner, Draft>) -> Teller<'a> {
        debug_assert!(self.serves(lanes));
        match self.own_seat {
            // SAFETY: the seat lies in the lanes that are served, which `self.lanes` keeps alive for as long as `self` is
            // borrowed; it never moves.
            Some(seat) => Teller::Own(unsafe { seat.as_ref() }),
            None => lanes.seats.shared(),
        }
    }

    /// Where the thread counts for `lanes`: at its own seat if they are served.
    #[inline(always)]
    #[must_use]
    pub fn teller<'a>(&'a self, lanes: &'a Lanes<Owner, Draft>) -> Teller<'a> {
        if self.serves(lanes) { self.own_teller(lanes) } else { lanes.seats.shared() }
    }

    /// Whether `lanes` is the engine that is served.
    #[inline]
    #[must_use]
    pub fn serves(&self, lanes: &Lanes<Owner, Draft>) -> bool {
        self.lanes.as_ref().is_some_and(|mine| ptr::eq(Arc::as_ptr(mine), lanes))
    }
}

impl<Owner, Draft: Copy + Default> Default for Local<Owner, Draft> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Owner, Draft: Copy + Default> Drop for Local<Owner, Draft> {
    fn drop(&mut self) {
        self.release();
    }
}
