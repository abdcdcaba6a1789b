//! Where a span goes when it cannot enter a ring: a lock-free stack of whole blocks with a byte budget.

use std::hint;

use super::{
    ring::Visit,
    stack::{take_first, turn_around},
};
use crate::sync::{
    AtomicU32, Counter,
    Ordering::{Acquire, Relaxed, Release},
};

/// Blocks that left with their span in them. Pushed by anyone, taken all at once by the reader.
#[derive(Debug)]
pub struct Spill {
    /// The top block's number plus one, zero being empty; the highest bit says closed. Written by everyone who pushes,
    /// by the reader who takes all, and by `close`.
    head: AtomicU32,
    /// Bytes of the blocks on the stack, an upper bound while calls are under way. Written by pushers and the reader.
    bytes: Counter,
    bytes_max: u64,
}

/// Why a block was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpillRefusal {
    /// The byte budget is spent.
    Full,
    /// The engine has shut down.
    Closed,
}

const CLOSED: u32 = 1 << 31;

impl Spill {
    /// An empty stack that holds at most `bytes_max` bytes of blocks.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { head: AtomicU32::new(0), bytes: Counter::new(), bytes_max }
    }

    /// Pushes a block of `block_bytes`, which the caller owns and gives away on success.
    ///
    /// # Errors
    ///
    /// When the budget is spent or the stack is closed; the caller keeps the block.
    pub fn push(&self, links: &[AtomicU32], block: u32, block_bytes: u64) -> Result<(), SpillRefusal> {
        if self.bytes.add_shared(block_bytes) + block_bytes > self.bytes_max {
            self.bytes.sub_shared(block_bytes);
            return Err(SpillRefusal::Full);
        }
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut head = self.head.load(Relaxed);
        loop {
            if head & CLOSED != 0 {
                self.bytes.sub_shared(block_bytes);
                return Err(SpillRefusal::Closed);
            }
            // ORDERING: Relaxed. The block is ours until the head's Release below shows it.
            links[block as usize].store(head, Relaxed);
            // ORDERING: [spill] Release. The reader that takes the stack sees the block's bytes and its link.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.head.compare_exchange(head, block + 1, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => head = found,
            }
            hint::spin_loop();
        }
    }

    /// Takes every block, oldest first, and hands each to `take`. `size` says how many bytes a block has.
    ///
    /// No block is popped alone, so a number that comes back cannot be mistaken for its earlier self. When `take` has
    /// enough or panics, the blocks after it go back onto the stack; when the stack was abandoned under it they are
    /// nobody's. Returns how many were taken, and the last answer.
    pub fn take_all(
        &self,
        links: &[AtomicU32],
        size: impl Fn(u32) -> u64,
        mut take: impl FnMut(u32) -> Visit,
    ) -> (usize, Visit) {
        // ORDERING: Relaxed. An empty stack is not worth a locked instruction; a push that is missed here is newer than
        // any flush that is under way, or was seen by it (its end happened before, so coherence shows it).
        if self.head.load(Relaxed) & !CLOSED == 0 {
            return (0, Visit::Next);
        }
        // ORDERING: [spill] Acquire. Every block on the stack, and its link, is as its pusher left it. Closed stays
        // closed.
        let top = self.head.fetch_and(CLOSED, Acquire) & !CLOSED;
        let mut rest = Rest { spill: self, links, oldest: turn_around(links, top) };
        let mut count = 0;
        while let Some(block) = take_first(links, &mut rest.oldest) {
            self.bytes.sub_shared(size(block));
            count += 1;
            let answer = take(block);
            if answer == Visit::Gone {
                rest.oldest = 0;
            }
            if answer != Visit::Next {
                return (count, answer);
            }
        }
        (count, Visit::Next)
    }

    /// Refuses every later push. Blocks that are on the stack stay for the reader.
    pub fn close(&self) {
        // ORDERING: Relaxed. Nothing comes with it, and an exchange of any ordering keeps the pushes before it
        // published.
        self.head.fetch_or(CLOSED, Relaxed);
    }

    /// Forgets the bytes of calls that were under way in the parent, in a child process whose stack is empty.
    pub fn abandon(&self) {
        self.bytes.set(0);
    }

    /// Puts a block back, past budget and closing: it was on the stack before.
    fn put_back(&self, links: &[AtomicU32], block: u32) {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut head = self.head.load(Relaxed);
        loop {
            // ORDERING: Relaxed. The block is ours until the head's Release below shows it.
            links[block as usize].store(head & !CLOSED, Relaxed);
            // ORDERING: [spill] Release. As in `push`.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.head.compare_exchange(head, (head & CLOSED) | (block + 1), Release, Relaxed) {
                Ok(_) => return,
                Err(found) => head = found,
            }
            hint::spin_loop();
        }
    }

    /// Bytes of the blocks on the stack.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load()
    }
}

/// What is left of a stack that is being taken.
struct Rest<'a> {
    spill: &'a Spill,
    links: &'a [AtomicU32],
    /// The next block's number plus one.
    oldest: u32,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        while let Some(block) = take_first(self.links, &mut self.oldest) {
            self.spill.put_back(self.links, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<AtomicU32> {
        (0..8).map(|_| AtomicU32::new(0)).collect()
    }

    #[test]
    fn blocks_leave_in_the_order_in_which_they_came() {
        let (links, spill) = (links(), Spill::new(100));
        for block in [3, 1, 7] {
            spill.push(&links, block, 10).unwrap();
        }
        assert_eq!(spill.bytes(), 30);
        let mut taken = Vec::new();
        let count = spill.take_all(
            &links,
            |_| 10,
            |block| {
                taken.push(block);
                Visit::Next
            },
        );
        assert_eq!((count, spill.bytes()), ((3, Visit::Next), 0));
        assert_eq!(taken, [3, 1, 7]);
    }

    #[test]
    fn budget_refuses_and_frees_up_again() {
        let (links, spill) = (links(), Spill::new(20));
        spill.push(&links, 0, 15).unwrap();
        assert_eq!(spill.push(&links, 1, 15), Err(SpillRefusal::Full));
        assert_eq!(spill.bytes(), 15);
        spill.take_all(&links, |_| 15, |_| Visit::Next);
        assert_eq!(spill.push(&links, 1, 15), Ok(()));
    }

    #[test]
    fn closed_stack_refuses_but_keeps_what_it_has() {
        let (links, spill) = (links(), Spill::new(100));
        spill.push(&links, 0, 10).unwrap();
        spill.close();
        assert_eq!(spill.push(&links, 1, 10), Err(SpillRefusal::Closed));
        assert_eq!(spill.take_all(&links, |_| 10, |_| Visit::Next).0, 1);
        assert_eq!(spill.push(&links, 1, 10), Err(SpillRefusal::Closed));
        assert_eq!(spill.bytes(), 0);
    }

    #[test]
    fn taker_that_has_enough_leaves_the_rest() {
        let (links, spill) = (links(), Spill::new(100));
        for block in [3, 1, 7] {
            spill.push(&links, block, 10).unwrap();
        }
        assert_eq!(spill.take_all(&links, |_| 10, |_| Visit::Enough), (1, Visit::Enough));
        assert_eq!(spill.bytes(), 20);
        assert_eq!(spill.take_all(&links, |_| 10, |_| Visit::Next), (2, Visit::Next));
    }

    #[test]
    fn panic_of_a_taker_keeps_the_blocks_behind() {
        let (links, spill) = (links(), Spill::new(100));
        for block in [3, 1, 7] {
            spill.push(&links, block, 10).unwrap();
        }
        spill.close();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            spill.take_all(
                &links,
                |_| 10,
                |block| {
                    assert_ne!(block, 3, "the first");
                    Visit::Next
                },
            );
        }));
        assert!(caught.is_err());
        assert_eq!(spill.bytes(), 20);
        assert_eq!(spill.push(&links, 5, 10), Err(SpillRefusal::Closed), "what comes back does not open it");
        let mut taken = Vec::new();
        spill.take_all(
            &links,
            |_| 10,
            |block| {
                taken.push(block);
                Visit::Next
            },
        );
        assert_eq!((taken, spill.bytes()), (vec![1, 7], 0));
    }
}
