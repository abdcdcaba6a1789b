//! The lanes in a child process: one thread there puts them in order, and the others wait for nothing.

use super::{Lanes, SeatId, Tally, Visit, reader};
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release},
    fork::GENERATION_MAX,
};

/// Beside a generation: a thread of that process is putting the lanes in order.
const MOVING: u32 = 1 << 31;
const _: () = assert!(GENERATION_MAX & MOVING == 0, "generations stay below the flag");

impl<Owner, Scratch: Copy + Default> Lanes<Owner, Scratch> {
    /// Makes the lanes fit for this process; false while another thread does.
    ///
    /// In a child process the spans that were waiting are the parent's to deliver, and the threads that had blocks,
    /// seats and leases are gone. What was waiting and what was open is written off as forked; the child's ledger
    /// begins again. Blocks and seats of the parent's threads stay with them: a thread of ours may be among them, and
    /// cannot be told.
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
        self.assert_all_is_known();
        let started = self.seats.sum(Tally::Recording);
        let outcomes = [Tally::LaneFull, Tally::SpillFull, Tally::EndedClosed, Tally::Forked];
        let ended = outcomes.map(|tally| self.seats.sum(tally)).iter().sum::<u64>() + self.taken();
        for ring in &self.rings {
            // SAFETY: `home` says moving, and every start and end asks for the generation before it comes to a ring: no
            // other thread of this process is in one. Nor is this one: starts and ends in a signal handler do not
            // settle, and handlers must not call the engine.
            let _was_held = unsafe { ring.abandon(here) };
        }
        self.spill.take_all(
            self.pool.links(),
            |_| 0,
            |number| {
                // SAFETY: the stack has only blocks of these lanes, and hands over each once.
                unsafe { self.free_listed(number, |_| ()) };
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
        self.reading.store(reader::NOBODY, Relaxed);
        self.alarm.settle();
        // ORDERING: [settle] Release. Who reads this generation sees everything above.
        self.home.store(here, Release);
        true
    }

    /// Names every field, so that a new one does not compile before it is known what a child process makes of it. The
    /// first row is put in order. In the second, blocks are taken and given without waiting, and what is counted beside
    /// a settling stays counted; the rest is only read.
    fn assert_all_is_known(&self) {
        #[rustfmt::skip]
        let Self {
            rings: _, spill: _, seats: _, taken: _, reading: _, home: _, alarm: _, fork: _,
            pool: _, unsettled: _, arena: _, itself: _, scratch: _, owner: _,
        } = self;
    }

    /// Counts a span that was started while another thread was settling the lanes, and is lost as forked. It has a
    /// counter of its own, because settling clears the seats.
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
}
