//! What a thread keeps of the lanes for itself: its seat, and a few free blocks.

use std::{
    cell::Cell,
    mem,
    ptr::{self, NonNull},
    sync::Arc,
};

use arrayvec::ArrayVec;

use super::{
    Block, LANES_MAX, Lanes, Offer,
    pool::{Class, GROUP},
    ring::Ring,
    seats::{Seat, SeatId, Teller},
};
use crate::sync::cpu;

/// A thread's share of one engine's lanes. It serves one engine at a time and moves when the thread turns to another.
#[derive(Debug)]
pub struct Share<Owner, Scratch: Copy + Default = ()> {
    /// The engine that is served. Alive while it is here.
    lanes: Option<Arc<Lanes<Owner, Scratch>>>,
    seat: SeatId,
    /// What every start and end looks at: the lanes that are served, if the seat in them is the thread's own; else
    /// null.
    home: *const Lanes<Owner, Scratch>,
    /// That seat. Dangling without a home.
    own_seat: NonNull<Seat>,
    /// The ring of the core that the thread ran on when that was last looked up, and how often it may still be used:
    /// the look-up is a chain of loads in front of the lease, and a thread seldom moves. Dangling without a home.
    ring: Cell<NonNull<Ring>>,
    ring_uses: Cell<u32>,
    drought: Cell<Drought>,
    /// How many free blocks the thread may keep. Threads that came late, of very many, have to do without: each start
    /// takes a block from the pool then, and each end gives it back.
    kept_max: u64,
    /// Free blocks of the first size: at most as many, but for a moment.
    magazine: ArrayVec<Block<Owner, Scratch>, MAGAZINE>,
}

/// Blocks that a thread keeps at most: enough for a tree of spans as deep as most requests have.
const MAGAZINE: usize = 2 * GROUP;

/// How often a ring is used before the core's number is looked up again.
const RING_USES: u32 = 32;

/// What a thread remembers that has found all rings full: to look at eight of them for each span that is dropped would
/// cost several times the span, and pull their lines from the cores that use them.
#[derive(Clone, Copy, Debug)]
struct Drought {
    /// Where the tail of the thread's own ring stood. When it has moved, there is room again.
    tail: u64,
    /// How many ends may still try that ring alone.
    spans: u32,
}

/// How many ends try a thread's own ring alone, after all were full.
const DROUGHT_SPANS: u32 = 32;

impl<Owner, Scratch: Copy + Default> Share<Owner, Scratch> {
    /// A thread that serves no engine.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: None,
            seat: SeatId::Shared,
            home: ptr::null(),
            own_seat: NonNull::dangling(),
            ring: Cell::new(NonNull::dangling()),
            ring_uses: Cell::new(0),
            drought: Cell::new(Drought { tail: 0, spans: 0 }),
            kept_max: 0,
            magazine: ArrayVec::new_const(),
        }
    }

    /// Moves to `lanes`, giving back what belonged to the engine before.
    pub fn bind(&mut self, lanes: &Arc<Lanes<Owner, Scratch>>) {
        self.release();
        self.seat = lanes.seats.take();
        if let Teller::Own(seat) = lanes.seats.teller(self.seat) {
            self.home = Arc::as_ptr(lanes);
            self.own_seat = NonNull::from(seat);
        }
        self.ring_uses.set(0);
        self.drought.set(Drought { tail: 0, spans: 0 });
        self.kept_max = lanes.pool.keep(MAGAZINE as u64);
        self.lanes = Some(Arc::clone(lanes));
    }

    /// The lanes that the thread serves.
    pub fn served(&self) -> Option<&Arc<Lanes<Owner, Scratch>>> {
        self.lanes.as_ref()
    }

    /// Gives everything back: the thread ends, or turns to another engine.
    pub fn release(&mut self) {
        let Some(lanes) = self.lanes.take() else {
            return;
        };
        lanes.give_blocks::<MAGAZINE>(self.magazine.drain(..));
        lanes.pool.unkeep(mem::take(&mut self.kept_max));
        lanes.seats.give(self.seat);
        self.seat = SeatId::Shared;
        self.home = ptr::null();
        lanes.let_go();
    }

    /// What the thread has of `lanes`, if it serves them and has a seat of its own there: all that an end needs.
    #[inline(always)]
    pub fn at_home<'a>(&'a self, lanes: &'a Lanes<Owner, Scratch>) -> Option<Home<'a, Owner, Scratch>> {
        ptr::eq(self.home, lanes).then_some(Home { share: self, lanes })
    }

    /// A block of the first size; `None` when the budget is spent.
    #[inline]
    pub fn take(&mut self) -> Option<Block<Owner, Scratch>> {
        match self.magazine.pop() {
            Some(block) => Some(block),
            None => self.refill(),
        }
    }

    #[cold]
    fn refill(&mut self) -> Option<Block<Owner, Scratch>> {
        let lanes = self.lanes.as_ref()?;
        let magazine = &mut self.magazine;
        if self.kept_max < GROUP as u64 {
            lanes.take_blocks::<1>(Class::First, |block| magazine.push(block));
        } else {
            lanes.take_blocks::<GROUP>(Class::First, |block| magazine.push(block));
        }
        magazine.pop()
    }

    /// Offers a finished record of `len` bytes that did not get into the thread's own ring at once, or has no home
    /// here: to the ring of the core and its siblings, or in a drought to the first of them alone.
    pub fn offer(&self, lanes: &Lanes<Owner, Scratch>, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        // The thread may have moved.
        self.ring_uses.set(0);
        let hint = cpu::hint();
        let offer = self.offer_at(hint, lanes, len, fill);
        if let Offer::Queued { tries } = offer
            && ptr::eq(self.home, lanes)
        {
            // The ring that took it is the first choice for a while: who finds its own full or held need not find that
            // out at every end.
            self.ring.set(NonNull::from(lanes.ring(hint + tries - 1)));
            self.ring_uses.set(RING_USES);
        }
        offer
    }

    fn offer_at(&self, hint: usize, lanes: &Lanes<Owner, Scratch>, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        let tail = lanes.ring(hint).tail();
        let mut drought = self.drought.get();
        let is_drought = drought.spans > 0 && drought.tail == tail;
        let offer = lanes.offer_within(if is_drought { 1 } else { LANES_MAX }, hint, len, fill);
        drought.spans = match offer {
            Offer::Full if is_drought => drought.spans - 1,
            Offer::Full => DROUGHT_SPANS,
            _ => 0,
        };
        self.drought.set(Drought { tail, ..drought });
        offer
    }

    /// A block of the first size, if there is one at hand.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Block<Owner, Scratch>> {
        self.magazine.pop()
    }

    /// Takes a block back.
    #[inline]
    pub fn put(&mut self, block: Block<Owner, Scratch>) {
        if self.serves(block.lanes()) { self.put_own(block) } else { drop(block) }
    }

    /// Takes a block of the lanes that are served back.
    #[inline(always)]
    pub fn put_own(&mut self, block: Block<Owner, Scratch>) {
        debug_assert!(self.serves(block.lanes()));
        if block.class() != Class::First || self.magazine.len() as u64 >= self.kept_max {
            return self.overflow(block);
        }
        // SAFETY: `kept_max` is at most what the magazine has room for.
        unsafe { self.magazine.push_unchecked(block) };
    }

    #[cold]
    fn overflow(&mut self, block: Block<Owner, Scratch>) {
        if self.magazine.is_full()
            && let Some(lanes) = &self.lanes
        {
            lanes.give_blocks::<MAGAZINE>(self.magazine.drain(MAGAZINE - GROUP..));
        }
        drop(block);
    }

    /// Where the thread counts for `lanes`: at its own seat if it has one there.
    #[inline]
    #[must_use]
    pub fn teller<'a>(&'a self, lanes: &'a Lanes<Owner, Scratch>) -> Teller<'a> {
        self.at_home(lanes).map_or_else(|| lanes.seats.shared(), |home| Teller::Own(home.seat()))
    }

    /// Whether `lanes` is the engine that is served.
    #[inline]
    #[must_use]
    pub fn serves(&self, lanes: &Lanes<Owner, Scratch>) -> bool {
        self.lanes.as_ref().is_some_and(|mine| ptr::eq(Arc::as_ptr(mine), lanes))
    }
}

/// A thread's own place in the lanes that it serves.
#[derive(Debug)]
pub struct Home<'a, Owner, Scratch: Copy + Default = ()> {
    share: &'a Share<Owner, Scratch>,
    lanes: &'a Lanes<Owner, Scratch>,
}

impl<'a, Owner, Scratch: Copy + Default> Home<'a, Owner, Scratch> {
    /// The seat.
    #[inline(always)]
    #[must_use]
    pub fn seat(&self) -> &'a Seat {
        // SAFETY: the seat lies in the lanes that are served, which `share.lanes` keeps alive for as long as `share` is
        // borrowed; it never moves.
        unsafe { self.share.own_seat.as_ref() }
    }

    /// The ring to try first.
    #[inline(always)]
    #[must_use]
    pub fn ring(&self) -> &'a Ring {
        match self.share.ring_uses.get().checked_sub(1) {
            Some(uses) => self.share.ring_uses.set(uses),
            None => self.look_up_ring(),
        }
        // SAFETY: uses are left only since a look-up or an offer at home, and end with the home: the ring lies in the
        // lanes that are served, which `share.lanes` keeps alive for as long as `share` is borrowed; it never moves.
        unsafe { self.share.ring.get().as_ref() }
    }

    #[inline(always)]
    fn look_up_ring(&self) {
        self.share.ring.set(NonNull::from(self.lanes.ring(cpu::hint())));
        self.share.ring_uses.set(RING_USES - 1);
    }
}

impl<Owner, Scratch: Copy + Default> Default for Share<Owner, Scratch> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Owner, Scratch: Copy + Default> Drop for Share<Owner, Scratch> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Shape, Visit};

    const LEN: usize = 56;

    fn full_lanes() -> (Arc<Lanes<()>>, Share<()>) {
        let shape = Shape { lanes: 4, ring_bytes: 4096, arena_bytes: 64 << 10, spill_bytes: 0, seats: 1 };
        let lanes = Lanes::new(shape, ()).unwrap();
        let mut share = Share::new();
        share.bind(&lanes);
        while offer(&share, &lanes) != Offer::Full {}
        (lanes, share)
    }

    fn offer(share: &Share<()>, lanes: &Lanes<()>) -> Offer {
        share.offer_at(0, lanes, LEN, |_| ())
    }

    fn empty(lanes: &Lanes<()>, hint: usize) {
        // SAFETY: the test has one thread.
        let (count, _) = unsafe { lanes.ring(hint).read(u64::MAX, &mut |_: &[u8]| Visit::Next) };
        assert_eq!(count, 64);
    }

    #[test]
    fn thread_that_found_all_full_tries_its_own_ring_alone_for_a_while() {
        let (lanes, share) = full_lanes();
        empty(&lanes, 1);
        for _ in 0..DROUGHT_SPANS {
            assert_eq!(offer(&share, &lanes), Offer::Full);
        }
        assert_eq!(offer(&share, &lanes), Offer::Queued { tries: 2 });
    }

    #[test]
    fn drought_ends_when_the_own_ring_takes_a_span() {
        let (lanes, share) = full_lanes();
        empty(&lanes, 0);
        for _ in 0..64 {
            assert_eq!(offer(&share, &lanes), Offer::Queued { tries: 1 });
        }
        empty(&lanes, 1);
        assert_eq!(offer(&share, &lanes), Offer::Queued { tries: 2 });
    }

    #[test]
    fn drought_ends_when_another_thread_got_into_the_ring() {
        let (lanes, share) = full_lanes();
        empty(&lanes, 0);
        for _ in 0..64 {
            assert_eq!(lanes.offer(0, LEN, |_| ()), Offer::Queued { tries: 1 });
        }
        empty(&lanes, 1);
        assert_eq!(offer(&share, &lanes), Offer::Queued { tries: 2 });
    }

    #[test]
    fn only_blocks_of_the_first_size_are_kept() {
        let (lanes, mut share) = full_lanes();
        let numbered = |block: Option<Block<()>>| block.map(|block| (block.class(), block.number()));
        let large = lanes.take(Class::Second).unwrap();
        let large_number = large.number();
        share.put_own(large);
        assert_eq!(numbered(share.pop()), None);
        assert_eq!(numbered(lanes.take(Class::Second)), Some((Class::Second, large_number)));
        let small = share.take().unwrap();
        let small_number = small.number();
        share.put_own(small);
        assert_eq!(numbered(share.pop()), Some((Class::First, small_number)));
    }

    #[test]
    fn home_ends_with_the_engine_that_is_served() {
        let (first, mut share) = full_lanes();
        let (second, _) = full_lanes();
        let is_of_first = |ring: &Ring| (0..4).any(|hint| ptr::eq(ring, first.ring(hint)));
        assert!(share.at_home(&first).is_some_and(|home| is_of_first(home.ring())));
        assert!(share.at_home(&second).is_none());
        share.bind(&second);
        assert!(share.at_home(&first).is_none());
        assert!(share.at_home(&second).is_some_and(|home| !is_of_first(home.ring())));
        share.release();
        assert!(share.at_home(&second).is_none());
    }
}
