//! A value that several threads change without ever waiting: one holds it, the others leave notes for the holder.

use std::hint;

use super::stack::Chain;
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    cell::UnsafeCell,
};

/// A value and the notes of those who came while it was held.
///
/// Whoever comes and finds it free holds it; whoever finds it held leaves a note (a block's number, linked through the
/// pool's table) and goes on. The holder applies the notes before it lets go, so a change is never refused for contention,
/// and a thread that is stopped while it holds delays the changes, not the threads.
#[derive(Debug)]
pub struct Combined<T> {
    /// Zero when free; else [`HELD`] and the top note's number plus one. Written by everyone who comes and by the holder.
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched by the holder alone, and the word hands it from one holder to the next.
unsafe impl<T: Send> Sync for Combined<T> {}

const HELD: u32 = 1 << 31;

impl<T> Combined<T> {
    /// A value that nobody holds.
    pub fn new(value: T) -> Self {
        Self { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Leaves `note` with the holder, or becomes the holder, who applies it and all that come meanwhile.
    pub fn leave(&self, links: &[AtomicU32], note: u32) -> Option<Hold<'_, T>> {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.word.load(Relaxed);
        loop {
            let next = if word == 0 {
                HELD
            } else {
                // ORDERING: Relaxed. The note is ours until the word's Release below shows it.
                links[note as usize].store(word & !HELD, Relaxed);
                HELD | (note + 1)
            };
            // ORDERING: [hold] Acquire, for who becomes the holder: the value is as the last one left it.
            // ORDERING: [note] Release, for who leaves a note: the holder that takes it sees its bytes and its link.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.word.compare_exchange(word, next, crate::sync::Ordering::AcqRel, Relaxed) {
                Ok(0) => return Some(Hold { of: self }),
                Ok(_) => return None,
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
        // ORDERING: [hold] Release. The next holder sees the value as we leave it.
        // ORDERING: Relaxed on failure: the notes are taken by the line below.
        while self.of.word.compare_exchange(HELD, 0, Release, Relaxed).is_err() {
            // ORDERING: [note] Acquire. Every note on the stack, and its link, is as it was left.
            let top = self.of.word.fetch_and(HELD, Acquire) & !HELD;
            Chain::oldest_first(links, top).for_each(|note| self.change(|value| apply(value, note)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_applied_in_order_by_the_holder() {
        let links: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let mut combined = Combined::new(Vec::new());
        let hold = combined.leave(&links, 0).expect("it is free");
        assert!(combined.enter().is_none());
        assert!(combined.leave(&links, 5).is_none());
        assert!(combined.leave(&links, 2).is_none());
        hold.release(&links, |seen: &mut Vec<u32>, note| seen.push(note));
        combined.enter().expect("it is free again").release(&links, |_, _| panic!("no note is left"));
        assert_eq!(*combined.get_mut(), [5, 2]);
    }
}
