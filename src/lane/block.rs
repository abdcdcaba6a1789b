//! One open span's memory, and how blocks and the lanes keep each other alive.

use std::{mem, ptr::NonNull, slice, sync::Arc};

use super::{
    FRAME_LEN, Lanes,
    pool::{Class, UNIT},
};

/// A block, owned. It holds a count of the engine's `Arc`, so its memory outlives the engine if it must.
#[derive(Debug)]
pub struct Block<Owner> {
    lanes: NonNull<Lanes<Owner>>,
    start: NonNull<u8>,
    number: u32,
    pub(super) class: Class,
}

// SAFETY: a block is an owned piece of memory; the lanes behind the pointer are shared by all threads.
unsafe impl<Owner: Send + Sync> Send for Block<Owner> {}
// SAFETY: as above; a shared block gives out its lanes and nothing else.
unsafe impl<Owner: Send + Sync> Sync for Block<Owner> {}

impl<Owner> Block<Owner> {
    /// The bytes for a record's image, and beside them what the owner of the lanes keeps there.
    #[inline]
    pub fn open(&mut self) -> (&mut [u8], &Owner) {
        let len = self.class.bytes() - FRAME_LEN;
        // SAFETY: `start` is the start of a block of this size inside the arena.
        let start = unsafe { self.start.add(FRAME_LEN) };
        // SAFETY: the block is ours alone (it is in no list), zeroed at birth, and lives as long as the lanes, which it holds.
        let image = unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) };
        (image, self.owner())
    }

    /// The bytes of a record's image.
    #[inline]
    #[must_use]
    pub fn image(&self) -> &[u8] {
        let len = self.class.bytes() - FRAME_LEN;
        // SAFETY: as in `open`.
        let start = unsafe { self.start.add(FRAME_LEN) };
        // SAFETY: as in `open`; the shared borrow keeps writers away.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// What the owner of the lanes keeps there.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> &Owner {
        self.lanes().owner()
    }

    /// The lanes that the block belongs to.
    #[inline]
    #[must_use]
    pub fn lanes(&self) -> &Lanes<Owner> {
        // SAFETY: the block holds a count of the `Arc` that the lanes live in.
        unsafe { self.lanes.as_ref() }
    }

    /// A block with room for `need` bytes and the first `len` bytes of this one; `None` above the cap, or when the budget is
    /// spent. It is larger than this one.
    #[must_use]
    pub fn grown(&self, len: usize, need: usize) -> Option<Self> {
        let mut class = self.class;
        let mut larger = None;
        // A size whose share is spent does not end the search: the one above may have free blocks.
        while let Some(next) = class.next().filter(|_| larger.is_none()) {
            class = next;
            if next.bytes() - FRAME_LEN >= need {
                self.lanes().take_blocks::<1>(next, |number| larger = Some(self.lanes().block(number, next)));
            }
        }
        let mut larger: Self = larger?;
        larger.open().0[..len].copy_from_slice(&self.image()[..len]);
        Some(larger)
    }

    /// Notes the length of the record and the block's size in front of the image, for the reader of the spill stack.
    pub(super) fn set_frame(&mut self, len: usize) {
        let len = u32::try_from(len).expect("a record fits its block, which has at most 64 KiB");
        let frame = u64::from(len) << 32 | u64::from(self.class as u32);
        // SAFETY: the frame is the first eight bytes of the block, which is ours alone and aligned to a unit.
        unsafe { self.start.cast::<u64>().write(frame) };
    }

    /// Which block this is.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Gives up the handle and keeps the block, with its count: it goes into a list.
    #[inline]
    pub(super) fn into_number(self) -> u32 {
        let number = self.number;
        mem::forget(self);
        number
    }
}

impl<Owner> Drop for Block<Owner> {
    fn drop(&mut self) {
        let lanes = self.lanes.as_ptr();
        self.lanes().pool.give(self.class, &[self.number]);
        // SAFETY: the pointer came from the `Arc`, and the block held one of its counts, which it gives back here once.
        unsafe { Arc::decrement_strong_count(lanes) };
    }
}

impl<Owner> Lanes<Owner> {
    /// The handle of a block that is outside the pool and in no list, with its count.
    #[inline]
    pub(super) fn block(&self, number: u32, class: Class) -> Block<Owner> {
        // The pointer comes from the `Arc`, not from `self`: the block gives its count back through it.
        let lanes = NonNull::new(self.itself.as_ptr().cast_mut()).expect("a pointer into an `Arc` is never null");
        Block { lanes, start: self.arena.at(number as usize * UNIT), number, class }
    }

    /// Takes blocks out of the pool, each with a count of the engine.
    pub(super) fn take_blocks<const N: usize>(&self, class: Class, mut take: impl FnMut(u32)) {
        self.pool.take::<N>(class, |number| {
            // SAFETY: lanes are only made by `Lanes::new`, in an `Arc`, and `self` proves that a count is left.
            unsafe { Arc::increment_strong_count(self.itself.as_ptr()) };
            take(number);
        });
    }

    /// Gives blocks back to the pool, each with its count of the engine. The caller keeps a count of its own.
    pub(super) fn give_blocks(&self, class: Class, numbers: &[u32]) {
        self.pool.give(class, numbers);
        for _ in numbers {
            // SAFETY: each block that was outside the pool held a count; the caller's own keeps the lanes alive.
            unsafe { Arc::decrement_strong_count(self.itself.as_ptr()) };
        }
    }

    /// Reads a block that came out of a list with its frame set, and gives it back to the pool; its size. The caller keeps a count of its own.
    pub(super) fn free_framed(&self, number: u32, read: impl FnOnce(&[u8])) -> u64 {
        let start = self.arena.at(number as usize * UNIT);
        // SAFETY: whoever pushed the block wrote the frame, and the taking of the stack made it visible; the block is ours.
        let frame = unsafe { start.cast::<u64>().read() };
        let class =
            u32::try_from(frame & 0xFFFF_FFFF).ok().and_then(Class::from_number).expect("`set_frame` wrote a size");
        let len = usize::try_from(frame >> 32).expect("`set_frame` wrote a length of at most 64 KiB");
        let block = self.block(number, class);
        // The block goes back also when `read` panics.
        read(&block.image()[..len]);
        drop(block);
        class.bytes() as u64
    }
}
