//! One anonymous mapping: zeroed, page-aligned, backed by the kernel when it is first touched.

use std::{io, ptr::NonNull};

/// Memory that is mapped whole at start and returned whole at the end.
///
/// Private rather than shared: a child process gets a copy of its own and can never write into its parent's spans.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: `Memory` is an address and a length; who may touch which bytes is the business of its users, by `unsafe`
// calls.
unsafe impl Send for Memory {}
// SAFETY: as above: no safe method touches the bytes.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` zeroed bytes.
    ///
    /// # Errors
    ///
    /// When the system refuses: no address space, or a limit of the process.
    pub(crate) fn map(len: usize) -> io::Result<Self> {
        assert!(len > 0, "a mapping has at least one byte");
        Ok(Self { start: imp::map(len)?, len })
    }

    /// Length in bytes, never zero.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address of the first byte.
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The address of byte `offset`.
    ///
    /// # Safety
    ///
    /// * `offset` is below the length.
    #[inline]
    #[must_use]
    pub(crate) unsafe fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.len);
        // SAFETY: the address is inside the mapping (contract), which is one object.
        unsafe { self.start.add(offset) }
    }

    /// Gives child processes zeros here, where the system can, instead of a copy. A fork shares the pages of a copy
    /// until one side writes, and so makes the parent fault once more on each page of it.
    #[cfg(not(loom))]
    pub(crate) fn wipe_on_fork(&self) {
        imp::wipe_on_fork(self.start, self.len);
    }

    /// Backs every page now, so that no later access faults.
    ///
    /// One call, which clears 16 MiB in some 15 ms with pages of 4 KiB. With pages of 2 MiB it took 2 to 10 ms where
    /// the kernel had them at hand, and up to 200 ms where it had to move memory to make them: not worth it.
    #[cfg(not(loom))]
    pub(crate) fn prefault(&self) {
        imp::prefault(self.start, self.len);
    }

    /// Gives the pages back to the system, where it can take them while the mapping stays (Linux). The bytes are zeros
    /// then, or what they were.
    ///
    /// # Safety
    ///
    /// * Nobody reads or writes the bytes until the call returns, or expects to find later what is there now.
    #[cfg(not(loom))]
    pub(crate) unsafe fn give_back(&self) {
        // SAFETY: the mapping is ours, and the caller answers for its bytes.
        unsafe { imp::give_back(self.start, self.len) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping with this length, and nothing outlives its owner.
        unsafe { imp::unmap(self.start, self.len) };
    }
}

#[cfg(all(unix, not(miri), not(loom)))]
mod imp {
    use std::{io, ptr::NonNull};

    pub(super) fn map(len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: a new private anonymous mapping touches no memory of the program.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    pub(super) fn wipe_on_fork(start: NonNull<u8>, len: usize) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the range is one mapping of ours, and the advice changes nothing in this process.
            let _unless_the_kernel_is_old = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_WIPEONFORK) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, len);
    }

    pub(super) fn prefault(start: NonNull<u8>, len: usize) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the range is one mapping of ours, and populating it leaves its bytes as they are.
            let done = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) };
            if done == 0 {
                return;
            }
        }
        for offset in (0..len).step_by(4096) {
            // SAFETY: the offset lies inside the mapping.
            let byte = unsafe { start.add(offset) };
            // SAFETY: nobody else has the mapping yet: it is prefaulted by its maker, before it is shared.
            unsafe { byte.write_volatile(0) };
        }
    }

    /// # Safety
    ///
    /// * `start` and `len` are those of a mapping of [`map`], whose bytes nobody uses meanwhile or needs any more.
    pub(super) unsafe fn give_back(start: NonNull<u8>, len: usize) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: handed on from the caller. The pages of a private anonymous mapping come back as zeros; a refusal
            // leaves them as they are.
            unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, len);
    }

    /// # Safety
    ///
    /// * `start` and `len` are those of a mapping of [`map`], which nobody uses any more.
    pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) {
        // SAFETY: handed on from the caller: a mapping of `map`, with its length, that nobody uses any more.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

#[cfg(not(all(unix, not(miri), not(loom))))]
mod imp {
    use std::{alloc, io, ptr::NonNull};

    fn layout(len: usize) -> alloc::Layout {
        alloc::Layout::from_size_align(len, 4096).expect("a length below isize::MAX and a power of two")
    }

    pub(super) fn map(len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the layout is not empty (asserted by the caller).
        let start = unsafe { alloc::alloc_zeroed(layout(len)) };
        NonNull::new(start).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    #[cfg(not(loom))]
    pub(super) fn wipe_on_fork(_start: NonNull<u8>, _len: usize) {}

    #[cfg(not(loom))]
    pub(super) fn prefault(_start: NonNull<u8>, _len: usize) {}

    /// # Safety
    ///
    /// * As above; nothing is given back here.
    #[cfg(not(loom))]
    pub(super) unsafe fn give_back(_start: NonNull<u8>, _len: usize) {}

    /// # Safety
    ///
    /// * `start` and `len` are those of a mapping of [`map`], which nobody uses any more.
    pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) {
        // SAFETY: handed on from the caller: an allocation of `map`, with its length, that nobody uses any more.
        unsafe { alloc::dealloc(start.as_ptr(), layout(len)) };
    }
}
