//! Who owns the bytes now: open spans in blocks, finished ones in rings or on the spill stack, until the reader has
//! them.

mod alarm;
mod block;
mod combined;
mod pool;
mod reader;
mod ring;
mod seats;
mod settle;
mod share;
mod spill;
mod stack;

use std::{
    fmt, io,
    marker::PhantomData,
    ptr,
    sync::{Arc, Weak},
};

use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;

pub use alarm::Alarm;
pub use block::Block;
pub use combined::{Change, Combined, Hold, Left};
pub use pool::{Class, Pool, UNIT};
pub use reader::Reader;
pub use ring::{Claim, Lease, Ring, Shut, Visit};
pub use seats::{Seat, SeatId, Seats, Tally};
pub use share::{Home, Share};
pub use spill::{Spill, SpillRefusal};
pub use stack::Stack;

use crate::sync::{AtomicU32, Counter, cpu, fork::ForkWord, memory::Memory, thread};
use reader::Taken;

/// Most rings that an engine has.
pub(crate) const LANES_MAX: usize = 128;

/// How many held rings a span meets before it goes to the spill stack.
const HELD_MAX: usize = 3;

/// How many full rings a span meets before it is dropped: one busy thread is to have the memory of its neighbours too,
/// but not at any price when all is full. With [`HELD_MAX`] the bound on the steps of an end.
const FULL_MAX: usize = 8;

/// The sizes of an engine's lanes, all fixed at start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Rings; a power of two up to 128.
    pub lanes: usize,
    /// Bytes of each ring; a power of two.
    pub ring_bytes: usize,
    /// Bytes of the arena that blocks are cut from.
    pub arena_bytes: usize,
    /// Bytes of blocks that may wait on the spill stack.
    pub spill_bytes: usize,
    /// Threads that count in a seat of their own.
    pub seats: usize,
}

/// All lanes of one engine, and what the program's side needs in addition.
///
/// Every block outside the pool holds a count of the `Arc`, moved in groups; so a span that outlives its engine still
/// has its memory, and starting a span touches no shared count.
pub struct Lanes<Owner, Scratch = ()> {
    rings: Box<[Ring]>,
    spill: CachePadded<Spill>,
    pool: Pool,
    seats: Seats,
    arena: Memory,
    /// Spans that the reader has taken out. Written by the reader.
    taken: CachePadded<Taken>,
    /// `reader::NOBODY`, `reader::READER` or `reader::GIVEN_UP`. Written by [`Lanes::reader`] and the reader.
    reading: AtomicU32,
    /// The generation of the process that these lanes are fit for, with `MOVING` while they are not yet. Written by
    /// [`Lanes::settle`].
    home: AtomicU32,
    /// Spans that were started while another thread was settling these lanes. Written by their threads.
    unsettled: Counter,
    fork: ForkWord,
    alarm: CachePadded<Alarm>,
    /// The way back to the `Arc`, whose count the blocks hold.
    itself: Weak<Self>,
    /// What the user of a block keeps in it is of this type.
    scratch: PhantomData<Scratch>,
    owner: Owner,
}

/// What became of a finished span that asked for a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// It is in a ring. `tries` is one unless the first choice was taken or full.
    Queued {
        /// Rings that were tried.
        tries: usize,
    },
    /// All rings that were tried are full.
    Full,
    /// Another thread is in one of the rings that were tried, or the record is too long for a ring: it may have its
    /// block instead.
    Busy,
    /// The engine has shut down.
    Closed,
}

/// The tails at one moment: what a flush has to reach.
#[derive(Clone, Debug)]
pub struct Marks(ArrayVec<u64, LANES_MAX>);

impl<Owner, Scratch: Copy + Default> Lanes<Owner, Scratch> {
    /// Maps the memory and backs the rings, so that nothing faults later while a lease is held.
    ///
    /// # Errors
    ///
    /// When the system refuses the memory.
    pub fn new(shape: Shape, owner: Owner) -> io::Result<Arc<Self>> {
        assert!(shape.lanes.is_power_of_two() && shape.lanes <= LANES_MAX, "lanes are a power of two");
        let fork = ForkWord::of_process();
        // What these look up once is looked up now, not in a signal handler.
        let _ = cpu::hint();
        thread::prepare();
        let home = fork.settle();
        let rings: io::Result<Box<[Ring]>> = (0..shape.lanes).map(|_| Ring::new(shape.ring_bytes, home)).collect();
        let rings = rings?;
        let arena = Memory::map(shape.arena_bytes)?;
        Ok(Arc::new_cyclic(|itself| Self {
            rings,
            spill: CachePadded::new(Spill::new(shape.spill_bytes as u64)),
            pool: Pool::new(shape.arena_bytes),
            seats: Seats::new(shape.seats),
            arena,
            taken: CachePadded::default(),
            reading: AtomicU32::new(reader::NOBODY),
            home: AtomicU32::new(home),
            unsettled: Counter::new(),
            fork,
            alarm: CachePadded::default(),
            itself: Weak::clone(itself),
            scratch: PhantomData,
            owner,
        }))
    }

    /// The generation of this process, in one load: zero in a child that nobody has settled.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.fork.raw()
    }

    /// Offers a finished record of `len` bytes to the ring of `hint`, and to its siblings if that is held or full.
    /// Never waits.
    pub fn offer(&self, hint: usize, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        self.offer_within(LANES_MAX, hint, len, fill)
    }

    /// [`Lanes::offer`] to the first `rings_max` rings at most.
    fn offer_within(&self, rings_max: usize, hint: usize, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        match self.claim(rings_max, hint, len) {
            Ok((claim, tries)) => {
                claim.publish(fill);
                // After the publish, and outside of the lease: a writer comes here with the record that takes its ring
                // past the mark, and at every sixteenth of the ring from there on.
                if self.ring(hint + tries - 1).is_filled() {
                    self.alarm.ring();
                }
                Offer::Queued { tries }
            }
            Err(refusal) => refusal,
        }
    }

    /// Room in the ring of `hint`, or in one of its siblings: on until three were held or eight full.
    fn claim(&self, rings_max: usize, hint: usize, len: usize) -> Result<(Claim<'_>, usize), Offer> {
        // Zero in a child process that nobody has settled: no ring is fit for that.
        let generation = self.generation();
        let (mut held, mut full) = (0, 0);
        for tries in 1..=self.rings.len().max(HELD_MAX).min(rings_max) {
            let ring = self.ring(hint + tries - 1);
            match ring.enter(generation) {
                Ok(lease) => match lease.claim(len) {
                    Some(claim) => return Ok((claim, tries)),
                    None if len > ring.record_len_max() => return Err(Offer::Busy),
                    None => full += 1,
                },
                Err(Shut::Held) => held += 1,
                Err(Shut::Closed) => return Err(Offer::Closed),
            }
            if held == HELD_MAX || full == FULL_MAX {
                break;
            }
        }
        Err(if held > 0 { Offer::Busy } else { Offer::Full })
    }

    /// The ring that `hint` leads to.
    #[inline]
    #[must_use]
    pub fn ring(&self, hint: usize) -> &Ring {
        &self.rings[hint & (self.rings.len() - 1)]
    }

    /// Puts a finished record of `len` bytes, which lies in its block, on the spill stack.
    ///
    /// # Errors
    ///
    /// When the budget is spent or the engine has shut down. The block goes back to the pool.
    pub fn spill(&self, mut block: Block<Owner, Scratch>, len: usize) -> Result<(), SpillRefusal> {
        self.assert_own(&block);
        block.set_record_len(len);
        let bytes = block.class().bytes() as u64;
        // The number is taken first: once it is on the stack, the block is the reader's.
        let number = block.into_number();
        // SAFETY: the block is one of these lanes (asserted above), and a stack that refused it has nothing of it.
        let take_back = |_: &SpillRefusal| drop(unsafe { self.listed(number) });
        self.spill.push(self.pool.links(), number, bytes).inspect_err(take_back)
    }

    /// Lists know blocks by number, which means another block, or none, in other lanes.
    fn assert_own(&self, block: &Block<Owner, Scratch>) {
        assert!(ptr::eq(self, block.lanes()), "a list takes only a block of these lanes");
    }

    /// A block that does not pass through a thread's magazine; `None` when the budget is spent.
    #[must_use]
    pub fn take(self: &Arc<Self>, class: Class) -> Option<Block<Owner, Scratch>> {
        let mut taken = None;
        self.take_blocks::<1>(class, |block| taken = Some(block));
        taken
    }

    /// The seats, for counts of threads without one of their own.
    #[must_use]
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    /// The tails now. Whatever ended before this call lies below them, or on the spill stack.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks(self.rings.iter().map(Ring::tail).collect())
    }

    /// A count of these lanes' `Arc`; `None` while the last one is being dropped.
    #[must_use]
    pub fn hold(&self) -> Option<Arc<Self>> {
        self.itself.upgrade()
    }

    /// Closes the lanes for writers. False while a thread is inside a ring: then call again, or give up and say so.
    #[must_use]
    pub fn close(&self) -> bool {
        self.spill.close();
        let mut is_closed = true;
        for ring in &self.rings {
            // Each in its turn: one that is held must not keep the others open.
            is_closed &= ring.close();
        }
        is_closed
    }

    /// Whether a ring is so full that the reader should not sleep.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.rings.iter().any(Ring::is_filled)
    }

    /// Bytes of one ring.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.rings.first().map_or(0, Ring::capacity)
    }

    /// What wakes the reader.
    #[must_use]
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Spans that were accepted. One that is spilled is counted after its push, and may have been taken before.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        // First, because what is taken later is then counted later.
        let taken = self.taken.spilled.load();
        self.seats.sum(Tally::Queued) + self.seats.sum(Tally::Spilled).max(taken)
    }

    /// Figures of the lanes' memory.
    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill {
            ring_bytes: self.rings.iter().map(Ring::capacity).sum(),
            ring_waiting: self.rings.iter().map(Ring::waiting).sum(),
            ring_high_water: self.rings.iter().map(Ring::high_water).max().unwrap_or(0),
            spill_waiting: self.spill.bytes(),
            arena_bytes: self.arena.len() as u64,
            arena_carved: self.pool.carved_bytes(),
        }
    }
}

impl<Owner, Scratch> Lanes<Owner, Scratch> {
    /// What the program's side keeps here.
    #[inline]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Fill {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring_waiting == 0 && self.spill_waiting == 0
    }
}

impl<Owner, Scratch> fmt::Debug for Lanes<Owner, Scratch> {
    /// Their size alone: whoever prints a tracer must not get a megabyte of counters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

/// How full the lanes are, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fill {
    /// Of all rings.
    pub ring_bytes: u64,
    /// Published and not taken out.
    pub ring_waiting: u64,
    /// Most that ever waited in one ring when the reader came by.
    pub ring_high_water: u64,
    /// Blocks on the spill stack.
    pub spill_waiting: u64,
    /// Of the arena that blocks are cut from.
    pub arena_bytes: u64,
    /// Cut into blocks so far.
    pub arena_carved: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Arc<Lanes<()>> {
        let shape = Shape { lanes: 1, ring_bytes: 1 << 12, arena_bytes: 1 << 16, spill_bytes: 1 << 14, seats: 1 };
        Lanes::new(shape, ()).expect("the memory can be had")
    }

    /// The rings of a span that is refused have one thing in common: all are full, and there is nothing but to drop it.
    /// One that only met other threads is worth a block.
    #[test]
    fn span_is_dropped_as_full_only_where_no_ring_was_held() {
        let shape = Shape { lanes: 8, ring_bytes: 1 << 12, arena_bytes: 1 << 16, spill_bytes: 0, seats: 1 };
        let lanes = Lanes::<()>::new(shape, ()).expect("the memory can be had");
        let fill = |hint| while lanes.offer_within(1, hint, 56, |_| ()) != Offer::Full {};
        let hold = |hint| lanes.ring(hint).enter(lanes.generation()).expect("nobody is in it");
        fill(0);
        let holds = [1, 2, 3].map(hold);
        assert_eq!(lanes.offer(0, 56, |_| ()), Offer::Busy);
        drop(holds);
        assert_eq!(lanes.offer(0, 56, |_| ()), Offer::Queued { tries: 2 });
        (1..7).for_each(fill);
        let held = hold(7);
        assert_eq!(lanes.offer(0, 56, |_| ()), Offer::Busy);
        drop(held);
        fill(7);
        assert_eq!(lanes.offer(0, 56, |_| ()), Offer::Full);
    }

    /// Lists know blocks by number: the block of another engine would be read where this one has something else.
    #[test]
    #[should_panic(expected = "a block of these lanes")]
    fn block_of_other_lanes_is_not_spilled() {
        let (ours, others) = (lanes(), lanes());
        let _ = ours.spill(others.take(Class::First).expect("a block is free"), 0);
    }

    #[test]
    #[should_panic(expected = "a block of these lanes")]
    fn block_of_other_lanes_is_no_note() {
        let (ours, others) = (lanes(), lanes());
        let note = others.take(Class::First).expect("a block is free");
        ours.change(&Combined::new(()), note, 0, |(), _| (), |(), _| ());
    }
}
