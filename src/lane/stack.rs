//! A lock-free stack of small numbers: the free blocks of one size, and the free seats.

use std::hint;

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Numbers below [`Stack::LIMIT`], each linked to the next through a table that the caller owns.
///
/// The head counts the pops next to the number, so that a pop that was overtaken fails instead of trusting an old link.
/// Thirty-six bits of count wrap after 68 billion pops during one pop.
#[derive(Debug)]
pub struct Stack {
    /// `pops << 28 | top + 1`, zero being the empty stack. Written by everyone who pushes or pops.
    head: AtomicU64,
}

const INDEX_BITS: u32 = 28;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

impl Stack {
    /// One more than the largest number that fits.
    pub const LIMIT: usize = (1 << INDEX_BITS) - 2;

    /// An empty stack.
    #[must_use]
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Pushes the chain `items`, which the caller owns and gives away.
    pub fn push(&self, links: &[AtomicU32], items: &[u32]) {
        let (Some(&first), Some(&last)) = (items.first(), items.last()) else {
            return;
        };
        for pair in items.windows(2) {
            // ORDERING: Relaxed. The chain is ours until the head's Release below shows it.
            links[pair[0] as usize].store(pair[1] + 1, Relaxed);
        }
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut head = self.head.load(Relaxed);
        loop {
            // ORDERING: Relaxed. As above.
            links[last as usize].store(top(head), Relaxed);
            let next = (head & !INDEX_MASK) | u64::from(first + 1);
            // ORDERING: [free] Release. Who pops an item sees everything that its last owner did with it.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.head.compare_exchange(head, next, Release, Relaxed) {
                Ok(_) => return,
                Err(found) => head = found,
            }
            hint::spin_loop();
        }
    }

    /// Pops up to `N` items, handing each to `take`; how many there were.
    pub fn pop<const N: usize>(&self, links: &[AtomicU32], mut take: impl FnMut(u32)) -> usize {
        // ORDERING: [free] Acquire. The links behind this head, and the items' bytes, are as their pushers left them.
        let mut head = self.head.load(Acquire);
        loop {
            let mut items = [0; N];
            let mut count = 0;
            let mut next = top(head);
            while count < N && next != 0 {
                items[count] = next - 1;
                count += 1;
                // ORDERING: Relaxed. If another pop has taken the item meanwhile, the exchange below fails.
                next = links[items[count - 1] as usize].load(Relaxed);
            }
            if count == 0 {
                return 0;
            }
            let popped = (head >> INDEX_BITS).wrapping_add(1) << INDEX_BITS;
            // ORDERING: [free] Acquire, on failure too: the chain that is found then is walked again.
            match self.head.compare_exchange(head, popped | u64::from(next), Acquire, Acquire) {
                Ok(_) => {
                    items[..count].iter().for_each(|&item| take(item));
                    return count;
                }
                Err(found) => head = found,
            }
            hint::spin_loop();
        }
    }
}

/// Turns around the chain of `top` (a number plus one), which the caller owns: the oldest, which leads to the newest.
pub(super) fn turn_around(links: &[AtomicU32], top: u32) -> u32 {
    let mut turned = 0;
    let mut next = top;
    while next != 0 {
        let link = &links[next as usize - 1];
        // ORDERING: Relaxed. The chain is the caller's own: it took it with an Acquire.
        let below = link.load(Relaxed);
        // ORDERING: Relaxed. As above.
        link.store(turned, Relaxed);
        turned = next;
        next = below;
    }
    turned
}

/// Takes the first item of the chain `first` (a number plus one), which the caller owns.
pub(super) fn take_first(links: &[AtomicU32], first: &mut u32) -> Option<u32> {
    let item = first.checked_sub(1)?;
    // ORDERING: Relaxed. The chain is the caller's own; read before the item is given away.
    *first = links[item as usize].load(Relaxed);
    Some(item)
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

fn top(head: u64) -> u32 {
    (head & INDEX_MASK) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_in_groups_newest_first() {
        let links: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let stack = Stack::new();
        stack.push(&links, &[0, 1, 2]);
        stack.push(&links, &[5]);
        let mut taken = Vec::new();
        assert_eq!(stack.pop::<3>(&links, |item| taken.push(item)), 3);
        assert_eq!(taken, [5, 0, 1]);
        assert_eq!(stack.pop::<3>(&links, |item| taken.push(item)), 1);
        assert_eq!(stack.pop::<3>(&links, |_| panic!("empty")), 0);
        assert_eq!(taken, [5, 0, 1, 2]);
    }
}
