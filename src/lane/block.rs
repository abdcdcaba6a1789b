//! One open span's memory, and how blocks and the lanes keep each other alive.

use std::{marker::PhantomData, mem, ptr::NonNull, slice, sync::Arc};

use super::{
    Lanes,
    pool::{Class, UNIT},
};
use crate::sync::handler;

/// A block, owned. It holds a count of the engine's `Arc`, so its memory outlives the engine if it must.
///
/// The handle is one address, which travels in a register; what else is known of a block is at its head, before the
/// `Scratch` of whoever uses it and the image of a record.
#[derive(Debug)]
pub struct Block<Owner, Scratch = ()> {
    head: NonNull<Head<Owner, Scratch>>,
    lanes: PhantomData<Arc<Lanes<Owner, Scratch>>>,
}

/// What comes before a block's image.
#[derive(Debug)]
struct Head<Owner, Scratch> {
    /// The lanes that the block belongs to. Written when the block leaves the pool.
    lanes: NonNull<Lanes<Owner, Scratch>>,
    /// Which block it is. Written when the block leaves the pool.
    number: u32,
    /// Bytes of the image. Written when the block leaves the pool.
    image_len: u32,
    /// Bytes of the finished record. Written when the block goes into a list with its record.
    record_len: u32,
    class: Class,
    /// What the user of the block keeps there. A new user finds what the last one left.
    scratch: Scratch,
}

// SAFETY: a block is an owned piece of memory; the lanes behind the pointer are shared by all threads.
unsafe impl<Owner: Send + Sync, Scratch: Send> Send for Block<Owner, Scratch> {}
// SAFETY: as above; a shared block gives out its lanes and its bytes, and writes neither.
unsafe impl<Owner: Send + Sync, Scratch: Send + Sync> Sync for Block<Owner, Scratch> {}

impl<Owner, Scratch: Copy + Default> Block<Owner, Scratch> {
    /// Bytes of a block that are not its image, which has whole words of eight bytes: a record leaves it rounded up to
    /// those.
    pub const HEAD_LEN: usize = size_of::<Head<Owner, Scratch>>().next_multiple_of(8);

    /// The scratch, the bytes for a record's image, and what the owner of the lanes keeps there.
    #[inline]
    pub fn open(&mut self) -> (&mut Scratch, &mut [u8], &Owner) {
        let len = self.head().image_len as usize;
        let lanes = self.head().lanes;
        // SAFETY: the block is ours alone (it is in no list), zeroed at birth, and lives as long as the lanes, which it
        // holds.
        let image = unsafe { slice::from_raw_parts_mut(self.image_start().as_ptr(), len) };
        // SAFETY: the head is initialised since the block left the pool, and the block is ours alone.
        let scratch = unsafe { &mut self.head.as_mut().scratch };
        // SAFETY: the block holds a count of the `Arc` that the lanes live in.
        let owner = unsafe { lanes.as_ref() }.owner();
        (scratch, image, owner)
    }

    /// The scratch.
    #[inline]
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.head().scratch
    }

    /// The bytes of a record's image.
    #[inline]
    #[must_use]
    pub fn image(&self) -> &[u8] {
        // SAFETY: as in `open`; the shared borrow keeps writers away.
        unsafe { slice::from_raw_parts(self.image_start().as_ptr(), self.head().image_len as usize) }
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
    pub fn lanes(&self) -> &Lanes<Owner, Scratch> {
        // SAFETY: the block holds a count of the `Arc` that the lanes live in.
        unsafe { self.head().lanes.as_ref() }
    }

    /// The size.
    #[inline]
    #[must_use]
    pub fn class(&self) -> Class {
        self.head().class
    }

    /// A block with room for `need` bytes, the scratch and the first `len` bytes of this one; `None` above the cap, or
    /// when the budget is spent. It is larger than this one.
    #[must_use]
    pub fn grown(&self, len: usize, need: usize) -> Option<Self> {
        let mut class = self.class();
        let mut larger = None;
        // A size whose share is spent does not end the search: the one above may have free blocks.
        while let Some(next) = class.next().filter(|_| larger.is_none()) {
            class = next;
            if next.bytes() - Self::HEAD_LEN >= need {
                self.lanes().take_blocks::<1>(next, |block| larger = Some(block));
            }
        }
        let mut larger: Self = larger?;
        let (scratch, image, _) = larger.open();
        *scratch = *self.scratch();
        image[..len].copy_from_slice(&self.image()[..len]);
        Some(larger)
    }

    /// Notes the length of the record, for whoever takes the block out of a list.
    pub(super) fn set_record_len(&mut self, len: usize) {
        debug_assert!(len <= self.image().len());
        let len = u32::try_from(len).expect("a record fits its block, which has at most 64 KiB");
        // SAFETY: the head is initialised since the block left the pool, and the block is ours alone.
        unsafe { self.head.as_mut() }.record_len = len;
    }

    /// Which block this is.
    pub(super) fn number(&self) -> u32 {
        self.head().number
    }

    /// Gives up the handle and keeps the block, with its count: it goes into a list.
    #[inline]
    pub(super) fn into_number(self) -> u32 {
        let number = self.number();
        mem::forget(self);
        number
    }

    #[inline]
    fn head(&self) -> &Head<Owner, Scratch> {
        // SAFETY: the head is initialised since the block left the pool, and the block is ours alone.
        unsafe { self.head.as_ref() }
    }

    #[inline]
    fn image_start(&self) -> NonNull<u8> {
        // SAFETY: the image follows the head, inside the block.
        unsafe { self.head.cast::<u8>().add(Self::HEAD_LEN) }
    }
}

impl<Owner, Scratch> Drop for Block<Owner, Scratch> {
    // Blocks go home by way of a magazine; this is for those that cannot.
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: the head is initialised since the block left the pool, and the block is ours alone.
        let &Head { lanes, number, class, .. } = unsafe { self.head.as_ref() };
        // SAFETY: the block holds a count of the `Arc` that the lanes live in.
        unsafe { lanes.as_ref() }.pool.give(class, &[number]);
        // SAFETY: the pointer came from the `Arc`, and the block held one of its counts, which it gives back here once.
        Lanes::let_go(unsafe { Arc::from_raw(lanes.as_ptr()) });
    }
}

impl<Owner, Scratch> Lanes<Owner, Scratch> {
    /// Gives back a count, wherever that may be. The last one frees the lanes; in a signal handler they are leaked
    /// instead, because the handler may have interrupted the allocator. Their rings were given back with the engine.
    pub fn let_go(self: Arc<Self>) {
        if let Some(lanes) = Arc::into_inner(self)
            && handler::may_be_running()
        {
            mem::forget(lanes);
        }
    }
}

impl<Owner, Scratch: Copy + Default> Lanes<Owner, Scratch> {
    /// Takes blocks out of the pool, each with a count of the engine.
    pub(super) fn take_blocks<const N: usize>(&self, class: Class, mut take: impl FnMut(Block<Owner, Scratch>)) {
        // The pointer comes from the `Arc`, not from `self`: the block gives its count back through it.
        let lanes = NonNull::new(self.itself.as_ptr().cast_mut()).expect("a pointer into an `Arc` is never null");
        self.pool.take::<N>(class, |number| {
            let image_len =
                u32::try_from(class.bytes() - Block::<Owner, Scratch>::HEAD_LEN).expect("a block has at most 64 KiB");
            // SAFETY: the pool has only blocks that it cut from the arena.
            let head = unsafe { self.head_of(number) };
            // SAFETY: the block has just left the pool, so it is ours alone; a unit is aligned beyond what a head
            // needs.
            unsafe { head.write(Head { lanes, number, image_len, record_len: 0, class, scratch: Scratch::default() }) };
            // SAFETY: lanes are only made by `Lanes::new`, in an `Arc`, and `self` proves that a count is left.
            unsafe { Arc::increment_strong_count(lanes.as_ptr()) };
            take(Block { head, lanes: PhantomData });
        });
    }

    /// Gives blocks of the first size back to the pool. The caller keeps a count of the lanes of its own.
    pub(super) fn give_blocks<const N: usize>(&self, blocks: impl Iterator<Item = Block<Owner, Scratch>>) {
        let numbers: arrayvec::ArrayVec<u32, N> = blocks.map(Block::into_number).collect();
        self.pool.give(Class::First, &numbers);
        for _ in numbers {
            // SAFETY: each block that was outside the pool held a count; the caller's own keeps the lanes alive.
            unsafe { Arc::decrement_strong_count(self.itself.as_ptr()) };
        }
    }

    /// Reads the record of a block that came out of a list, and gives the block back to the pool. The caller keeps a
    /// count of the lanes of its own.
    ///
    /// # Safety
    ///
    /// * As for [`Lanes::listed`].
    pub(super) unsafe fn free_listed(&self, number: u32, read: impl FnOnce(&[u8])) {
        // SAFETY: the caller's contract, word for word.
        let block = unsafe { self.listed(number) };
        // The block goes back also when `read` panics.
        read(&block.image()[..block.head().record_len as usize]);
    }

    /// Bytes of a block that came out of a list.
    ///
    /// # Safety
    ///
    /// * As for [`Lanes::listed`]; the caller still has the block afterwards.
    pub(super) unsafe fn listed_bytes(&self, number: u32) -> u64 {
        // SAFETY: the caller's contract; the handle is given up again below.
        let block = unsafe { self.listed(number) };
        let bytes = block.class().bytes() as u64;
        let _ = block.into_number();
        bytes
    }

    /// The handle of a block that is in a list no more. The list kept its head and its count.
    ///
    /// # Safety
    ///
    /// * The number is that of a block of these lanes which was made a number by `Block::into_number`, and for which no
    ///   handle was made since: the caller has it alone.
    pub(super) unsafe fn listed(&self, number: u32) -> Block<Owner, Scratch> {
        // SAFETY: the block is one of these lanes (contract).
        let head = unsafe { self.head_of(number) };
        Block { head, lanes: PhantomData }
    }

    /// # Safety
    ///
    /// * The number is that of a block which was cut from these lanes' arena.
    unsafe fn head_of(&self, number: u32) -> NonNull<Head<Owner, Scratch>> {
        // SAFETY: a block is inside the arena, and its number is that of its first unit.
        unsafe { self.arena.at(number as usize * UNIT) }.cast()
    }
}
