//! What each thread has counted: plain counters in a seat that it has alone, summed on demand from any thread.

use crossbeam_utils::CachePadded;

use super::stack::Stack;
use crate::sync::{AtomicU32, Counter};

/// What a thread counts on the request path. Every span that is started ends in exactly one of the outcomes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tally {
    /// A span was started that records.
    Recording,
    /// A span was started that does not: the sampler's decision.
    NotSampled,
    /// A span was started without a block, because the budget for open spans is spent.
    LiveLimit,
    /// A span was started after the shutdown.
    StartedClosed,
    /// A span ended and waits in a ring.
    Queued,
    /// A span ended and waits on the spill stack.
    Spilled,
    /// A span ended and found the rings full.
    LaneFull,
    /// A span ended, found no ring to enter, and the spill stack full.
    SpillFull,
    /// A span ended after the shutdown.
    EndedClosed,
    /// A span was begun before a fork and ended in the child, or was waiting when the child was made.
    Forked,
    /// A span ended in a ring that was not the first choice.
    Sibling,
}

const TALLIES: usize = 11;

/// Counters of one thread at a time.
#[derive(Debug)]
pub struct Seat {
    counts: [Counter; TALLIES],
}

impl Seat {
    fn new() -> Self {
        Self { counts: std::array::from_fn(|_| Counter::new()) }
    }

    /// Counts one, for the thread whose own seat this is.
    #[inline(always)]
    pub fn count(&self, tally: Tally) {
        self.counts[tally as usize].add_owned(1);
    }
}

/// All seats, and one that is shared: by threads that came when no seat was free, that are past their end, or that were
/// interrupted (by a signal handler, or an allocator that traces) while they used their own.
#[derive(Debug)]
pub struct Seats {
    seats: Box<[CachePadded<Seat>]>,
    shared: CachePadded<Seat>,
    free: CachePadded<Stack>,
    links: Box<[AtomicU32]>,
}

/// Where to count: at a seat that the caller has alone, or at the shared one.
#[derive(Clone, Copy, Debug)]
pub enum Teller<'a> {
    /// The caller's own: a load and a store.
    Own(&'a Seat),
    /// The shared one: a locked addition.
    Shared(&'a Seat),
}

impl Teller<'_> {
    /// Counts one.
    #[inline(always)]
    pub fn count(self, tally: Tally) {
        match self {
            Self::Own(seat) => seat.count(tally),
            Self::Shared(seat) => {
                seat.counts[tally as usize].add_shared(1);
            }
        }
    }
}

/// Which seat a thread has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SeatId {
    /// The one of this number, alone.
    Own(u32),
    /// The shared one.
    Shared,
}

impl Seats {
    /// Room for `count` threads that have a seat of their own.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let links: Box<[_]> = (0..count).map(|_| AtomicU32::new(0)).collect();
        let free = Stack::new();
        let numbers: Vec<_> = (0..u32::try_from(count).unwrap_or(0)).collect();
        free.push(&links, &numbers);
        Self {
            seats: (0..count).map(|_| CachePadded::new(Seat::new())).collect(),
            shared: CachePadded::new(Seat::new()),
            free: CachePadded::new(free),
            links,
        }
    }

    /// Bytes of one seat.
    pub const SEAT_BYTES: usize = size_of::<CachePadded<Seat>>();

    /// A seat for a thread; its counts go on from where the thread before left them.
    #[must_use]
    pub fn take(&self) -> SeatId {
        let mut seat = SeatId::Shared;
        self.free.pop::<1>(&self.links, |number| seat = SeatId::Own(number));
        seat
    }

    /// Takes a seat back.
    pub fn give(&self, seat: SeatId) {
        if let SeatId::Own(number) = seat {
            self.free.push(&self.links, &[number]);
        }
    }

    /// Counts `n` at `seat`, which is the caller's own or the shared one.
    #[inline]
    pub fn add(&self, seat: SeatId, tally: Tally, n: u64) {
        match seat {
            SeatId::Own(number) => self.seats[number as usize].counts[tally as usize].add_owned(n),
            SeatId::Shared => {
                self.shared.counts[tally as usize].add_shared(n);
            }
        }
    }

    /// The shared seat.
    #[must_use]
    pub fn shared(&self) -> Teller<'_> {
        Teller::Shared(&self.shared)
    }

    /// The seat of this number, for the thread that has it.
    #[must_use]
    pub fn teller(&self, seat: SeatId) -> Teller<'_> {
        match seat {
            SeatId::Own(number) => Teller::Own(&self.seats[number as usize]),
            SeatId::Shared => self.shared(),
        }
    }

    /// The sum over all threads.
    #[must_use]
    pub fn sum(&self, tally: Tally) -> u64 {
        let own = self.seats.iter().map(|seat| seat.counts[tally as usize].load());
        own.sum::<u64>() + self.shared.counts[tally as usize].load()
    }

    /// Zeroes all counters, for a child process before it has other threads.
    pub fn clear(&self) {
        let all = self.seats.iter().chain([&self.shared]);
        all.flat_map(|seat| &seat.counts).for_each(|count| count.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_their_thread() {
        let seats = Seats::new(1);
        let first = seats.take();
        assert_eq!(first, SeatId::Own(0));
        assert_eq!(seats.take(), SeatId::Shared);
        seats.add(first, Tally::Queued, 2);
        seats.add(SeatId::Shared, Tally::Queued, 3);
        seats.give(first);
        let second = seats.take();
        assert_eq!(second, first);
        seats.add(second, Tally::Queued, 4);
        assert_eq!(seats.sum(Tally::Queued), 9);
        assert_eq!(seats.sum(Tally::Spilled), 0);
    }
}
