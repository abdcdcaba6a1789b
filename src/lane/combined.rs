//! A value that several threads change without ever waiting: one holds it, the others leave notes for the holder.

use std::hint;

use super::stack::Chain;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    cell::UnsafeCell,
};

/// A value and the notes of those who came while it was held.
///
/// Whoever comes and finds it free holds it; whoever finds it held leaves a note (a block's number, linked through the
/// pool's table) and goes on. The holder applies the notes before it lets go, so a change is never refused for contention,
/// and a thread that is stopped while it holds delays the changes, not the threads.
#[derive(Debug)]
pub struct Combined<T> {
    /// Zero when free; else [`HELD`], how many notes this holder was left (from bit 32 on), and the top note's number plus one
    /// (below). Written by everyone who comes and by the holder.
    word: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched by the holder alone, and the word hands it from one holder to the next.
unsafe impl<T: Send> Sync for Combined<T> {}

const HELD: u64 = 1 << 63;
const ONE_NOTE: u64 = 1 << 32;
const TOP: u64 = ONE_NOTE - 1;

/// What became of who came.
#[derive(Debug)]
pub enum Left<'a, T> {
    /// The value was free: the caller holds it, and has its note.
    Holder(Hold<'a, T>),
    /// The holder has the note.
    Noted,
    /// The holder was left as many notes as one may be; the caller keeps its note.
    Refused,
}

impl<T> Combined<T> {
    /// A value that nobody holds.
    pub fn new(value: T) -> Self {
        Self { word: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// Leaves `note` with the holder, unless it was left `notes_max` already, or becomes the holder.
    ///
    /// One holder is left so many notes and no more: else two busy threads could keep a third at their work for ever, and the
    /// notes could eat the pool.
    pub fn leave(&self, links: &[AtomicU32], note: u32, notes_max: u64) -> Left<'_, T> {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.word.load(Relaxed);
        loop {
            let next = if word == 0 {
                HELD
            } else if (word & !HELD) / ONE_NOTE >= notes_max {
                return Left::Refused;
            } else {
                // ORDERING: Relaxed. The note is ours until the word's Release below shows it.
                links[note as usize].store(top(word), Relaxed);
                (word & !TOP) + ONE_NOTE + u64::from(note + 1)
            };
            // ORDERING: [hold] Acquire, for who becomes the holder: the value is as the last one left it.
            // ORDERING: [note] Release, for who leaves a note: the holder that takes it sees its bytes and its link.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.word.compare_exchange(word, next, AcqRel, Relaxed) {
                Ok(0) => return Left::Holder(Hold { of: self }),
                Ok(_) => return Left::Noted,
                Err(found) => word = found,
            }
            hint::spin_loop();
        }
    }

    /// Holds the value if it is free.
    pub fn enter(&self) -> Option<Hold<'_, T>> {
        // ORDERING: [hold] Acquire. The value is as the last holder left it. Relaxed on failure: nothing is touched.
        self.word.compare_exchange(0, HELD, Acquire, Relaxed).ok()?;
        Some(Hold { of: self })
    }

    /// Touches the value as its only owner.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: a mutable borrow of the whole proves that there is no holder.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}

/// The right to change the value, and the duty to apply the notes. Must end in [`Hold::release`].
#[derive(Debug)]
#[must_use = "a value that is not released takes notes for ever"]
pub struct Hold<'a, T> {
    of: &'a Combined<T>,
}

impl<T> Hold<'_, T> {
    /// Changes the value.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: there is one holder at a time, and its borrow is exclusive.
        self.of.value.with_mut(|value| change(unsafe { &mut *value }))
    }

    /// Lets go, after `apply` has seen every note that was left, oldest first.
    pub fn release(mut self, links: &[AtomicU32], mut apply: impl FnMut(&mut T, u32)) {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.of.word.load(Relaxed);
        loop {
            if word & TOP == 0 {
                // ORDERING: [hold] Release. The next holder sees the value as we leave it.
                // ORDERING: Relaxed on failure: the notes are taken below.
                match self.of.word.compare_exchange(word, 0, Release, Relaxed) {
                    Ok(_) => return,
                    Err(found) => word = found,
                }
                continue;
            }
            // ORDERING: [note] Acquire. Every note on the stack, and its link, is as it was left. The count stays.
            word = self.of.word.fetch_and(!TOP, Acquire);
            Chain::oldest_first(links, top(word)).for_each(|note| self.change(|value| apply(value, note)));
            word &= !TOP;
        }
    }
}

fn top(word: u64) -> u32 {
    (word & TOP) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_applied_in_order_by_the_holder() {
        let links: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let mut combined = Combined::new(Vec::new());
        let Left::Holder(hold) = combined.leave(&links, 0, 2) else { panic!("it is free") };
        assert!(combined.enter().is_none());
        assert!(matches!(combined.leave(&links, 5, 2), Left::Noted));
        assert!(matches!(combined.leave(&links, 2, 2), Left::Noted));
        assert!(matches!(combined.leave(&links, 3, 2), Left::Refused));
        hold.release(&links, |seen: &mut Vec<u32>, note| seen.push(note));
        combined.enter().expect("it is free again").release(&links, |_, _| panic!("no note is left"));
        assert_eq!(*combined.get_mut(), [5, 2]);
    }
}
