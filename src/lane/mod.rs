//! Who owns the bytes now: open spans in blocks, finished ones in rings or on the spill stack, until the reader has them.

mod alarm;
mod block;
mod combined;
mod local;
mod pool;
mod ring;
mod seats;
mod spill;
mod stack;

use std::{
    fmt, io,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Weak},
};

use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;

pub use alarm::{Alarm, Call};
pub use block::Block;
pub use combined::{Combined, Hold, Left};
pub use local::{Home, Local};
pub use pool::{Class, Pool, UNIT};
pub use ring::{Claim, Lease, Ring, Shut, Visit};
pub use seats::{Seat, SeatId, Seats, Tally};
pub use spill::{Spill, SpillRefusal};
pub use stack::Stack;

use crate::sync::{
    AtomicBool, AtomicU32, Counter,
    Ordering::{Acquire, Relaxed, Release},
    cpu,
    fork::ForkWord,
    memory::Memory,
    thread,
};

/// Most rings that an engine has.
pub const LANES_MAX: usize = 128;

/// How many held rings a span meets before it goes to the spill stack.
const HELD_MAX: usize = 3;

/// How many full rings a span meets before it is dropped: one busy thread shall have the memory of its neighbours too, but
/// not at any price when all is full. With [`HELD_MAX`] the bound on the steps of an end.
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

/// All lanes of one engine, and what the program's side needs beside them.
///
/// Every block outside the pool holds a count of the `Arc`, moved in groups; so a span that outlives its engine still has
/// its memory, and starting a span touches no shared count.
pub struct Lanes<Owner, Draft = ()> {
    rings: Box<[Ring]>,
    spill: CachePadded<Spill>,
    pool: Pool,
    seats: Seats,
    arena: Memory,
    /// Spans that the reader has taken out. Written by the reader.
    taken: CachePadded<Taken>,
    /// Whether a reader exists. Written by [`Lanes::reader`] and the reader's drop.
    has_reader: AtomicBool,
    /// The generation of the process that these lanes are fit for, with [`MOVING`] while they are not yet. Written by [`Lanes::settle`].
    home: AtomicU32,
    /// Spans that were started while another thread was settling these lanes. Written by their threads.
    unsettled: Counter,
    fork: ForkWord,
    alarm: CachePadded<Alarm>,
    /// The way back to the `Arc`, whose count the blocks hold.
    itself: Weak<Self>,
    /// What the user of a block keeps in it is of this type.
    draft: PhantomData<Draft>,
    owner: Owner,
}

/// Beside a generation: a thread of that process is putting the lanes in order. Generations stay below it.
const MOVING: u32 = 1 << 31;

/// What became of a finished span that asked for a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// It is in a ring. `tries` is one unless the first choice was taken or full.
    Queued {
        /// Rings that were tried.
        tries: usize,
    },
    /// The rings are full.
    Full,
    /// Other threads are in the rings, or the record is too long for one.
    Busy,
    /// The engine has shut down.
    Closed,
}

/// The tails at one moment: what a flush has to reach.
#[derive(Clone, Debug)]
pub struct Marks(ArrayVec<u64, LANES_MAX>);

impl<Owner, Draft: Copy + Default> Lanes<Owner, Draft> {
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
        let rings: io::Result<Box<[Ring]>> = (0..shape.lanes).map(|_| Ring::new(shape.ring_bytes)).collect();
        let rings = rings?;
        let arena = Memory::map(shape.arena_bytes)?;
        Ok(Arc::new_cyclic(|itself| Self {
            rings,
            spill: CachePadded::new(Spill::new(shape.spill_bytes as u64)),
            pool: Pool::new(shape.arena_bytes),
            seats: Seats::new(shape.seats),
            arena,
            taken: CachePadded::default(),
            has_reader: AtomicBool::new(false),
            home: AtomicU32::new(fork.settle()),
            unsettled: Counter::new(),
            fork,
            alarm: CachePadded::default(),
            itself: Weak::clone(itself),
            draft: PhantomData,
            owner,
        }))
    }

    /// The generation of this process, in one load: zero in a child that nobody has settled.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.fork.raw()
    }

    /// Offers a finished record of `len` bytes to the ring of `hint`, and to its siblings if that is held or full. Never waits.
    pub fn offer(&self, hint: usize, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        self.offer_within(LANES_MAX, hint, len, fill)
    }

    /// [`Lanes::offer`] to the first `rings_max` rings at most.
    fn offer_within(&self, rings_max: usize, hint: usize, len: usize, fill: impl FnOnce(&mut [u8])) -> Offer {
        match self.claim(rings_max, hint, len) {
            Ok((claim, tries)) => {
                claim.publish(fill);
                // Behind the publish, and outside of the lease: a writer comes here whenever its ring passes the mark.
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
        let (mut held, mut full) = (0, 0);
        for tries in 1..=self.rings.len().max(HELD_MAX).min(rings_max) {
            let ring = self.ring(hint + tries - 1);
            match ring.enter() {
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
        Err(if full > 0 { Offer::Full } else { Offer::Busy })
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
    pub fn spill(&self, mut block: Block<Owner, Draft>, len: usize) -> Result<(), SpillRefusal> {
        block.set_record_len(len);
        let bytes = block.class().bytes() as u64;
        // The number is taken first: once it is on the stack, the block is the reader's.
        let number = block.into_number();
        self.spill.push(self.pool.links(), number, bytes).inspect_err(|_| drop(self.listed(number)))
    }

    /// A block that does not pass through a thread's magazine; `None` when the budget is spent.
    #[must_use]
    pub fn take(self: &Arc<Self>, class: Class) -> Option<Block<Owner, Draft>> {
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

    /// Counts a span that was started while another thread was settling the lanes, and is lost as forked. It has a counter
    /// of its own, because settling clears the seats.
    pub fn add_unsettled(&self) {
        self.unsettled.add_shared(1);
    }

    /// Spans that were counted by [`Lanes::add_unsettled`].
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load()
    }

    /// Whether this is a child process in which the lanes have not been settled.
    #[must_use]
    pub fn needs_settling(&self) -> bool {
        // ORDERING: [settle] Acquire. Who finds the lanes fit goes on to use them as the settler left them.
        self.home.load(Acquire) != self.fork.raw()
    }

    /// A count of these lanes' `Arc`; `None` while the last one is being dropped.
    #[must_use]
    pub fn hold(&self) -> Option<Arc<Self>> {
        self.itself.upgrade()
    }

    /// Leaves a note of `len` bytes with the holder of `value`, or holds it and lets `apply` see this note and all others.
    /// False when the holder was left `notes_max` already: the note goes home.
    ///
    /// The caller keeps a count of the lanes of its own.
    pub fn combine<T>(
        &self,
        value: &Combined<T>,
        mut note: Block<Owner, Draft>,
        len: usize,
        notes_max: u64,
        mut apply: impl FnMut(&mut T, &[u8]),
    ) -> bool {
        note.set_record_len(len);
        let number = note.into_number();
        let mut hold = match value.leave(self.pool.links(), number, notes_max) {
            Left::Holder(hold) => hold,
            Left::Noted => return true,
            Left::Refused => {
                drop(self.listed(number));
                return false;
            }
        };
        // A note whose application panics (misuse may, in tests) must not keep the value held for ever.
        let mut panicked = None;
        let mut apply = |value: &mut T, number| {
            let applied = AssertUnwindSafe(|| self.free_listed(number, |note| apply(value, note)));
            if let Err(panic) = catch_unwind(applied) {
                panicked = Some(panic);
            }
        };
        hold.change(|value| apply(value, number));
        hold.release(self.pool.links(), apply);
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        true
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

    /// The one who takes spans out; `None` while there is one.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader<Owner, Draft>> {
        // ORDERING: [reader] Acquire. The positions are as the last reader left them.
        self.has_reader.compare_exchange(false, true, Acquire, Relaxed).ok()?;
        // ORDERING: Relaxed. The caller's own thread settled the lanes, or was created by one that found them settled.
        let generation = self.home.load(Relaxed);
        Some(Reader { lanes: Arc::clone(self), generation, first: 0 })
    }

    /// Whether a ring is so full that the reader should not sleep.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.rings.iter().any(Ring::is_filled)
    }

    /// What wakes the reader.
    #[must_use]
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Spans that a reader has taken out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.of_rings.load() + self.taken.spilled.load()
    }

    /// Spans that were accepted. One that is spilled is counted behind its push, and may have been taken before.
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

    /// Makes the lanes fit for this process; false while another thread does.
    ///
    /// In a child process the spans that were waiting are the parent's to deliver, and the threads that had blocks, seats
    /// and leases are gone. What was waiting and what was open is written off as forked; the child's ledger begins anew.
    /// Blocks and seats of the parent's threads stay with them: a thread of ours may be among them, and cannot be told.
    #[must_use]
    pub fn settle(&self) -> bool {
        let here = self.fork.settle();
        // ORDERING: [settle] Acquire. Who finds the lanes fit sees them as the settler left them.
        let home = self.home.load(Acquire);
        if home == here {
            return true;
        }
        // A grandchild may find its parent's move half done; it is as foreign as any other generation.
        let moving = here | MOVING;
        // ORDERING: [settle] Acquire on success, so that the reset stays behind it; Relaxed on failure.
        if home == moving || self.home.compare_exchange(home, moving, Acquire, Relaxed).is_err() {
            return false;
        }
        let started = self.seats.sum(Tally::Recording);
        let outcomes = [Tally::LaneFull, Tally::SpillFull, Tally::EndedClosed, Tally::Forked];
        let ended = outcomes.map(|tally| self.seats.sum(tally)).iter().sum::<u64>() + self.taken();
        for ring in &self.rings {
            // SAFETY: `home` says moving, and every start and end asks for the generation before it comes to a ring: no
            // other thread of this process is in one.
            let _was_held = unsafe { ring.abandon() };
        }
        self.spill.take_all(
            self.pool.links(),
            |_| 0,
            |number| {
                self.free_listed(number, |_| ());
                Visit::Next
            },
        );
        self.spill.abandon();
        self.seats.clear();
        self.taken.of_rings.set(0);
        self.taken.spilled.set(0);
        let lost = started.saturating_sub(ended);
        self.seats.add(SeatId::Shared, Tally::Recording, lost);
        self.seats.add(SeatId::Shared, Tally::Forked, lost);
        // ORDERING: Relaxed. Released by the next line; the parent's reader is no reader of this process.
        self.has_reader.store(false, Relaxed);
        // ORDERING: [settle] Release. Who reads this generation sees everything above.
        self.home.store(here, Release);
        self.alarm.settle();
        true
    }
}

impl<Owner, Draft> Lanes<Owner, Draft> {
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

impl<Owner, Draft> fmt::Debug for Lanes<Owner, Draft> {
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

/// How many spans a reader has taken out, and of where.
#[derive(Debug, Default)]
struct Taken {
    of_rings: Counter,
    spilled: Counter,
}

/// Takes finished spans out. There is one at a time.
#[derive(Debug)]
pub struct Reader<Owner, Draft = ()> {
    lanes: Arc<Lanes<Owner, Draft>>,
    /// The process that this reader belongs to. A child's copy of it reads nothing.
    generation: u32,
    /// The ring that the next pass begins with: a busy ring must not keep the others waiting for ever.
    first: usize,
}

impl<Owner, Draft: Copy + Default> Reader<Owner, Draft> {
    /// Whether this reader belongs to this process. A child's copy of its parent's does not.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        // ORDERING: Relaxed. Only this process's own generation is compared.
        self.lanes.home.load(Relaxed) == self.generation && self.lanes.generation() == self.generation
    }

    /// Hands every finished span to `visit`; how many there were. As [`Reader::read_some`].
    pub fn read(&mut self, until: Option<&Marks>, mut visit: impl FnMut(&[u8])) -> usize {
        let (count, _all) = self.read_some(until, |record| {
            visit(record);
            Visit::Next
        });
        count
    }

    /// Hands finished spans to `visit` for as long as it wants more: oldest first in each ring, then what was spilled. Returns
    /// how many there were, and whether that was all.
    ///
    /// `until` bounds the rings to an earlier moment, so that a flush ends while spans keep coming.
    pub fn read_some(&mut self, until: Option<&Marks>, mut visit: impl FnMut(&[u8]) -> Visit) -> (usize, bool) {
        if !self.is_fit() {
            return (0, true);
        }
        let lanes = &*self.lanes;
        let mut count = 0;
        // A visitor may fork, and go on in the child: there the records are the parent's to deliver, and the lanes may have
        // been settled under this pass.
        let mut visit = |taken: &Counter, record: &[u8]| {
            taken.add_owned(1);
            let answer = visit(record);
            if lanes.fork.raw() == self.generation { answer } else { Visit::Gone }
        };
        for turn in 0..lanes.rings.len() {
            let index = (self.first + turn) % lanes.rings.len();
            let mark = until.map_or(u64::MAX, |marks| marks.0[index]);
            // SAFETY: there is one reader at a time, and it is borrowed mutably.
            let (read, answer) =
                unsafe { lanes.rings[index].read(mark, &mut |record| visit(&lanes.taken.of_rings, record)) };
            count += read;
            if answer != Visit::Next {
                self.first = index + 1;
                return (count, false);
            }
        }
        let size = |number| lanes.listed_bytes(number);
        let (spilled, answer) = lanes.spill.take_all(lanes.pool.links(), size, |number| {
            let mut answer = Visit::Next;
            lanes.free_listed(number, |record| answer = visit(&lanes.taken.spilled, record));
            answer
        });
        (count + spilled, answer == Visit::Next)
    }

    /// Takes out what waits in closed lanes without a look at it, in a time that does not grow with it: how many spans.
    pub fn give_up(&mut self) -> u64 {
        if !self.is_fit() {
            return 0;
        }
        let lanes = &*self.lanes;
        let taken = &lanes.taken;
        // A span is counted under the lease, so whoever finds the ring closed finds it counted.
        let waiting = lanes.seats.sum(Tally::Queued).saturating_sub(taken.of_rings.load());
        taken.of_rings.add_owned(waiting);
        for ring in &lanes.rings {
            // SAFETY: there is one reader at a time, and it is borrowed mutably.
            unsafe { ring.skip() };
        }
        // Blocks have to come home: they keep the lanes' memory.
        let (spilled, _all) = lanes.spill.take_all(
            lanes.pool.links(),
            |number| lanes.listed_bytes(number),
            |number| {
                taken.spilled.add_owned(1);
                lanes.free_listed(number, |_| ());
                Visit::Next
            },
        );
        waiting + spilled as u64
    }

    /// The lanes that are read.
    #[must_use]
    pub fn lanes(&self) -> &Arc<Lanes<Owner, Draft>> {
        &self.lanes
    }
}

impl<Owner, Draft> Drop for Reader<Owner, Draft> {
    fn drop(&mut self) {
        if self.lanes.fork.raw() == self.generation {
            // ORDERING: [reader] Release. The next reader goes on from our positions.
            self.lanes.has_reader.store(false, Release);
        }
    }
}
