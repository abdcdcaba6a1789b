//! Blocks for open spans: four sizes, carved from one arena, free ones kept in a lock-free stack a size.

use crossbeam_utils::CachePadded;

use super::stack::Stack;
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A size of block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Class {
    /// What nearly every span needs.
    First,
    /// The next size.
    Second,
    /// The size after that.
    Third,
    /// The hard cap.
    Last,
}

impl Class {
    const ALL: [Self; 4] = [Self::First, Self::Second, Self::Third, Self::Last];

    /// Bytes of a block of this size.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::First => 640,
            Self::Second => 2048,
            Self::Third => 8192,
            Self::Last => 65_536,
        }
    }

    /// The next size; `None` at the cap.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    fn units(self) -> u64 {
        (self.bytes() / UNIT) as u64
    }
}

/// Which blocks are free, by number. A block's number is its place in the arena in units of [`UNIT`] bytes.
#[derive(Debug)]
pub struct Pool {
    free: [CachePadded<Stack>; 4],
    /// Units handed out for the first time so far. Written by whoever finds a stack empty.
    carved: CachePadded<AtomicU64>,
    /// Of those, units in blocks above the first size. Written and read with `carved`.
    carved_large: AtomicU64,
    /// Blocks of the first size that threads may keep to themselves in addition to those that they may already. Written
    /// by threads that come and go.
    keepable: AtomicU64,
    /// One link a unit: to the next free block, or in the spill stack to the next block there. A block is in one list.
    links: Box<[AtomicU32]>,
}

/// Blocks begin on cache-line pairs, which x86 fetches together.
pub const UNIT: usize = 128;

/// How many blocks move between a thread and the pool at a time.
pub(crate) const GROUP: usize = 4;

/// Which part of the arena threads may keep to themselves: nobody gets a block back from a thread that went idle, so
/// open spans can count on the rest only. With an eighth, that is a quarter of the memory budget, which `size`
/// promises.
const KEPT_PART: usize = 8;

/// While there is plenty, a thread may keep all that it can use; the last ones of many get one block each.
const KEEPERS: u64 = 64;

impl Pool {
    /// A pool over an arena of `arena_bytes`.
    #[must_use]
    pub fn new(arena_bytes: usize) -> Self {
        let units = arena_bytes / UNIT;
        assert!(units < Stack::LIMIT, "the arena's units are numbered in 28 bits");
        Self {
            free: std::array::from_fn(|_| CachePadded::new(Stack::new())),
            carved: CachePadded::new(AtomicU64::new(0)),
            carved_large: AtomicU64::new(0),
            keepable: AtomicU64::new((arena_bytes / KEPT_PART / Class::First.bytes()) as u64),
            links: (0..units).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// The table of links, which the spill stack shares.
    pub fn links(&self) -> &[AtomicU32] {
        &self.links
    }

    /// Takes up to `N` blocks; zero when the budget is spent.
    pub fn take<const N: usize>(&self, class: Class, mut take: impl FnMut(u32)) -> usize {
        let count = self.free[class as usize].pop::<N>(&self.links, &mut take);
        if count > 0 {
            return count;
        }
        // Fewer where the arena nears its end.
        for count in [N, 1] {
            if let Some(first) = self.carve(class, count as u64) {
                (0..count).for_each(|index| take(first + number(index as u64 * class.units())));
                return count;
            }
        }
        0
    }

    /// Gives blocks back, which the caller owned.
    pub fn give(&self, class: Class, blocks: &[u32]) {
        self.free[class as usize].push(&self.links, blocks);
    }

    /// How many blocks a thread may keep that could use `wanted`. It gives them back by [`Pool::unkeep`].
    pub fn keep(&self, wanted: u64) -> u64 {
        let share = |keepable: u64| keepable.div_ceil(KEEPERS).min(wanted);
        // ORDERING: Relaxed. A sum that bounds; the blocks themselves go by the stack.
        let before = self.keepable.fetch_update(Relaxed, Relaxed, |keepable| Some(keepable - share(keepable)));
        before.map_or(0, share)
    }

    /// Takes back what [`Pool::keep`] allowed.
    pub fn unkeep(&self, count: u64) {
        // ORDERING: Relaxed. As in `keep`.
        self.keepable.fetch_add(count, Relaxed);
    }

    /// Cuts `count` new blocks from the arena; the number of the first.
    ///
    /// Blocks never change their size, so large ones may take at most half of the arena: a phase of rich spans must not
    /// leave the plain ones without memory for ever.
    fn carve(&self, class: Class, count: u64) -> Option<u32> {
        let units = self.links.len() as u64;
        let need = class.units() * count;
        if class != Class::First {
            // ORDERING: Relaxed. A sum that bounds; no memory is published by it, for new blocks are zeroed.
            let large = self.carved_large.fetch_add(need, Relaxed);
            if large + need > units / 2 {
                // ORDERING: Relaxed. As above.
                self.carved_large.fetch_sub(need, Relaxed);
                return None;
            }
        }
        // ORDERING: Relaxed. As above.
        let carved =
            self.carved.fetch_update(Relaxed, Relaxed, |carved| Some(carved + need).filter(|&end| end <= units));
        if carved.is_err() && class != Class::First {
            // ORDERING: Relaxed. As above.
            self.carved_large.fetch_sub(need, Relaxed);
        }
        carved.ok().map(number)
    }

    /// Bytes of the arena that are cut into blocks, free or not.
    #[must_use]
    pub fn carved_bytes(&self) -> u64 {
        // ORDERING: Relaxed. A figure to report.
        self.carved.load(Relaxed) * UNIT as u64
    }
}

#[expect(clippy::cast_possible_truncation, reason = "numbers stay below the stack's limit, asserted in `new`")]
fn number(units: u64) -> u32 {
    units as u32
}

const _: () = assert!(Class::First.bytes().is_multiple_of(UNIT), "blocks are cut in whole units");

#[cfg(test)]
mod tests {
    use std::mem;

    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_the_arena_is_the_limit() {
        let pool = Pool::new(64 * 1024);
        let mut taken = [false; 64 * 1024 / UNIT];
        let mut blocks = 0;
        loop {
            let count = pool.take::<GROUP>(Class::First, |first| {
                for unit in first..first + 5 {
                    assert!(!mem::replace(&mut taken[unit as usize], true), "unit {unit} handed out twice");
                }
            });
            if count == 0 {
                break;
            }
            blocks += count;
        }
        assert_eq!(blocks, 64 * 1024 / 640);
    }

    #[test]
    fn large_blocks_leave_half_of_the_arena() {
        let pool = Pool::new(64 * 1024);
        let mut count = 0;
        while pool.take::<1>(Class::Third, |_| ()) > 0 {
            count += 1;
        }
        assert_eq!(count, 4);
        assert!(pool.take::<1>(Class::First, |_| ()) > 0);
    }

    #[test]
    fn threads_keep_an_eighth_at_most() {
        let pool = Pool::new(4 << 20);
        let eighth = (4 << 20) / 8 / 640;
        let kept: Vec<_> = std::iter::from_fn(|| Some(pool.keep(8)).filter(|&kept| kept > 0)).collect();
        assert_eq!(kept.iter().sum::<u64>(), eighth);
        assert_eq!((kept[0], kept.last()), (8, Some(&1)), "the first gets what it wants, the last one block");
        assert!(kept.len() as u64 > 2 * eighth / 8, "{} share it", kept.len());
        assert_eq!(pool.keep(8), 0);
        kept.iter().for_each(|&count| pool.unkeep(count));
        assert_eq!(pool.keep(3), 3);
        let tiny = Pool::new(8 * 640);
        assert_eq!([tiny.keep(8), tiny.keep(8)], [1, 0]);
    }

    #[test]
    fn given_blocks_are_taken_again() {
        let pool = Pool::new(64 * 1024);
        let mut first = Vec::new();
        pool.take::<GROUP>(Class::First, |block| first.push(block));
        let carved = pool.carved_bytes();
        pool.give(Class::First, &first);
        let mut second = Vec::new();
        pool.take::<GROUP>(Class::First, |block| second.push(block));
        assert_eq!(first, second);
        assert_eq!(pool.carved_bytes(), carved);
    }
}
