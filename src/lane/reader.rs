//! The reading side of the lanes: one reader at a time takes finished spans out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use super::{Lanes, Marks, Tally, Visit};
use crate::sync::{
    Counter,
    Ordering::{Acquire, Relaxed, Release},
};

/// Takes finished spans out. There is one at a time.
#[derive(Debug)]
pub struct Reader<Owner, Scratch = ()> {
    lanes: Arc<Lanes<Owner, Scratch>>,
    /// The process that this reader belongs to. A child's copy of it reads nothing.
    generation: u32,
    /// The ring that the next pass begins with: a busy ring must not keep the others waiting for ever.
    first: usize,
}

/// In `Lanes::reading`: there is no reader.
pub(super) const NOBODY: u32 = 0;
/// There is one.
const READER: u32 = 1;
/// There is none any more, and will be none.
const GIVEN_UP: u32 = 2;

/// How many spans a reader has taken out, and of where.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) of_rings: Counter,
    pub(super) spilled: Counter,
}

impl<Owner, Scratch: Copy + Default> Lanes<Owner, Scratch> {
    /// The one reader; `None` while there is one, and when the last one has given up.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader<Owner, Scratch>> {
        // ORDERING: [reader] Acquire. The positions are as the last reader left them.
        self.reading.compare_exchange(NOBODY, READER, Acquire, Relaxed).ok()?;
        // ORDERING: Relaxed. The caller's own thread settled the lanes, or was created by one that found them settled.
        let generation = self.home.load(Relaxed);
        Some(Reader { lanes: Arc::clone(self), generation, first: 0 })
    }

    /// Whether the last reader has given up: [`Lanes::taken`] is final then, and what is accepted past it is lost.
    ///
    /// Such a span ended while the lanes were being closed: its thread was stopped in a ring, or came to one that such
    /// a thread had left (see `lane/ring.rs`).
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        // ORDERING: [reader] Acquire. The count of what was taken out is the last reader's last.
        self.reading.load(Acquire) == GIVEN_UP
    }

    /// Gives the memory of the rings back to the system, as far as it has served its time: they are closed and read to
    /// the end. Threads that recorded last to these lanes hold on to them until they turn to others, or end; what they
    /// keep resident then is what open spans have used.
    pub fn give_back(self: &Arc<Self>) {
        let reader = self.reader();
        if reader.is_some() || self.is_given_up() {
            // SAFETY: the one reader is ours, or there is none any more.
            self.rings.iter().for_each(|ring| unsafe { ring.give_back() });
        }
    }

    /// Spans that a reader has taken out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.of_rings.load() + self.taken.spilled.load()
    }
}

impl<Owner, Scratch: Copy + Default> Reader<Owner, Scratch> {
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

    /// Hands finished spans to `visit` for as long as it wants more: oldest first in each ring, then what was spilled.
    /// Returns how many there were, and whether that was all.
    ///
    /// `until` bounds the rings to an earlier moment, so that a flush ends while spans keep coming.
    pub fn read_some(&mut self, until: Option<&Marks>, mut visit: impl FnMut(&[u8]) -> Visit) -> (usize, bool) {
        if !self.is_fit() {
            return (0, true);
        }
        let lanes = &*self.lanes;
        let mut count = 0;
        // A visitor may fork, and go on in the child: there the records are the parent's to deliver, and the lanes may
        // have been settled under this pass.
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
        // SAFETY: the stack has only blocks of these lanes, and hands over each once: after this to the visit below.
        let size = |number| unsafe { lanes.listed_bytes(number) };
        let mut panicked = None;
        let (spilled, answer) = lanes.spill.take_all(lanes.pool.links(), size, |number| {
            let mut answer = Visit::Next;
            let visited = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the stack has only blocks of these lanes, and hands over each once.
                unsafe { lanes.free_listed(number, |record| answer = visit(&lanes.taken.spilled, record)) };
            }));
            if let Err(panic) = visited {
                panicked = Some(panic);
                // In a child process the other blocks are the parent's, and must not come back onto the stack.
                answer = if lanes.fork.raw() == self.generation { Visit::Enough } else { Visit::Gone };
            }
            answer
        });
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        (count + spilled, answer == Visit::Next)
    }

    /// Takes out what waits without a look at it, in a time that does not grow with it: how many spans. There is no
    /// reader after this one, so close the lanes before: a thread that is stopped in a ring may go on at any time
    /// later, and what it then leaves there is lost too.
    pub fn give_up(self) -> u64 {
        if !self.is_fit() {
            return 0;
        }
        let lanes = &*self.lanes;
        let taken = &lanes.taken;
        // A span is counted under the lease, so in a ring that is closed there is none that is not counted. One that is
        // counted and not published yet is given up too.
        let waiting = lanes.seats.sum(Tally::Queued).saturating_sub(taken.of_rings.load());
        taken.of_rings.add_owned(waiting);
        for ring in &lanes.rings {
            // SAFETY: there is one reader at a time, and this is it.
            unsafe { ring.skip() };
        }
        // Blocks have to come home: they keep the lanes' memory.
        let (spilled, _all) = lanes.spill.take_all(
            lanes.pool.links(),
            // SAFETY: as below; the visit comes after this.
            |number| unsafe { lanes.listed_bytes(number) },
            |number| {
                taken.spilled.add_owned(1);
                // SAFETY: the stack has only blocks of these lanes, and hands over each once.
                unsafe { lanes.free_listed(number, |_| ()) };
                Visit::Next
            },
        );
        // ORDERING: [reader] Release. Who sees this sees the final count.
        lanes.reading.store(GIVEN_UP, Release);
        waiting + spilled as u64
    }

    /// The lanes that are read.
    #[must_use]
    pub fn lanes(&self) -> &Arc<Lanes<Owner, Scratch>> {
        &self.lanes
    }
}

impl<Owner, Scratch> Drop for Reader<Owner, Scratch> {
    fn drop(&mut self) {
        // ORDERING: Relaxed. Only the reader itself gives up.
        if self.lanes.fork.raw() == self.generation && self.lanes.reading.load(Relaxed) == READER {
            // ORDERING: [reader] Release. The next reader goes on from our positions.
            self.lanes.reading.store(NOBODY, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Offer, SeatId, Shape};

    fn lanes() -> Arc<Lanes<()>> {
        let shape = Shape { lanes: 1, ring_bytes: 4096, arena_bytes: 64 << 10, spill_bytes: 0, seats: 1 };
        Lanes::new(shape, ()).unwrap()
    }

    /// Ends a span, as a thread that does `within` while it is in the ring.
    fn end_while(lanes: &Arc<Lanes<()>>, within: impl FnOnce()) {
        let offer = lanes.offer(0, 8, |_| {
            within();
            lanes.seats().add(SeatId::Shared, Tally::Queued, 1);
        });
        assert_eq!(offer, Offer::Queued { tries: 1 });
    }

    #[test]
    fn span_of_a_thread_that_was_stopped_in_a_ring_is_told_from_those_that_wait() {
        let lanes = lanes();
        end_while(&lanes, || ());
        let reader = lanes.reader().unwrap();
        end_while(&lanes, || {
            assert!(!lanes.close(), "a thread is inside");
            assert_eq!(reader.give_up(), 1);
            assert!(lanes.is_given_up());
        });
        assert_eq!((lanes.accepted(), lanes.taken()), (2, 1));
        assert!(lanes.reader().is_none(), "nobody takes out what was given up");
    }

    #[test]
    fn ring_that_was_held_when_it_was_closed_is_not_entered_again() {
        let lanes = lanes();
        end_while(&lanes, || assert!(!lanes.close(), "a thread is inside"));
        assert_eq!(lanes.offer(0, 8, |_| ()), Offer::Closed);
        assert!(lanes.close());
    }
}
