//! The bytes of a ring: plain memory, or under loom a row of words whose every access is checked for races.

use std::io;

/// A fixed run of bytes that a ring hands from its writer to its reader.
#[derive(Debug)]
pub(crate) struct Region {
    bytes: imp::Bytes,
}

impl Region {
    /// A zeroed region of `len` bytes, backed by memory from the first moment: no access faults a page, also after a
    /// fork. In a child process it is zeroed again, and its pages are backed as they come into use.
    ///
    /// # Errors
    ///
    /// When the system has no memory to give.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        Ok(Self { bytes: imp::Bytes::new(len)? })
    }

    /// Length in bytes, never zero.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Gives `fill` the bytes `at..at + len` to write.
    ///
    /// # Safety
    ///
    /// * `at` and `len` are multiples of 8, and the range lies inside the region.
    /// * Nobody else reads or writes the range until this call returns.
    #[inline(always)]
    pub(crate) unsafe fn fill<R>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        debug_assert!(at + len <= self.len());
        debug_assert!(at.is_multiple_of(8) && len.is_multiple_of(8));
        // SAFETY: the caller's contract, word for word.
        unsafe { self.bytes.fill(at, len, fill) }
    }

    /// Gives `read` the bytes `at..at + len`.
    ///
    /// # Safety
    ///
    /// * `at` and `len` are multiples of 8, and the range lies inside the region.
    /// * Nobody writes the range until this call returns.
    #[inline]
    pub(crate) unsafe fn read<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        debug_assert!(at + len <= self.len());
        debug_assert!(at.is_multiple_of(8) && len.is_multiple_of(8));
        // SAFETY: the caller's contract, word for word.
        unsafe { self.bytes.read(at, len, read) }
    }

    /// Gives the memory back to the system, for a region that has served its time: what is read there later is zeros.
    ///
    /// # Safety
    ///
    /// * Nobody reads or writes the region until this call returns, or expects to find later what is there now.
    pub(crate) unsafe fn give_back(&self) {
        // SAFETY: the caller's contract, word for word.
        unsafe { self.bytes.give_back() };
    }

    /// Asks for the lines of `at..at + len` for writing, so that later stores there do not wait for another core's
    /// cache. What lies after the region is asked for in vain: at most `len` bytes a round, and cheaper than a look
    /// for its end.
    #[inline(always)]
    pub(crate) fn prefetch(&self, at: usize, len: usize) {
        debug_assert!(at < self.len());
        self.bytes.prefetch(at, len);
    }
}

#[cfg(not(loom))]
mod imp {
    use std::{io, slice};

    use super::super::memory::Memory;

    #[derive(Debug)]
    pub(super) struct Bytes(Memory);

    impl Bytes {
        pub(super) fn new(len: usize) -> io::Result<Self> {
            let memory = Memory::map(len)?;
            memory.wipe_on_fork();
            memory.prefault();
            Ok(Self(memory))
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }

        /// # Safety
        ///
        /// * As for `Region::fill`.
        #[inline(always)]
        pub(super) unsafe fn fill<R>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
            // SAFETY: the range is inside the mapping.
            let start = unsafe { self.0.at(at) };
            // SAFETY: the range is inside the mapping and zeroed at birth, so initialised; the caller has it alone.
            fill(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
        }

        /// # Safety
        ///
        /// * As for `Region::read`.
        #[inline]
        pub(super) unsafe fn read<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> R {
            // SAFETY: the range is inside the mapping.
            let start = unsafe { self.0.at(at) };
            // SAFETY: the range is inside the mapping and initialised; the caller keeps writers away.
            read(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
        }

        /// # Safety
        ///
        /// * As for `Region::give_back`.
        pub(super) unsafe fn give_back(&self) {
            // SAFETY: handed on from the caller.
            unsafe { self.0.give_back() };
        }

        #[inline(always)]
        pub(super) fn prefetch(&self, at: usize, len: usize) {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                const LINE: usize = 64;
                let start = self.0.start().as_ptr().wrapping_add(at);
                for offset in (0..len).step_by(LINE) {
                    let line = start.wrapping_add(offset);
                    // SAFETY: a prefetch changes no memory and cannot fault; processors without it run it as a no-op.
                    unsafe {
                        core::arch::asm!("prefetchw [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
                    }
                }
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = (at, len);
        }
    }
}

#[cfg(loom)]
mod imp {
    use std::io;

    use super::super::cell::UnsafeCell;

    #[derive(Debug)]
    pub(super) struct Bytes(Vec<UnsafeCell<u64>>);

    // SAFETY: as for `Memory`: who may touch which words is the business of the users; loom checks each access.
    unsafe impl Sync for Bytes {}

    impl Bytes {
        pub(super) fn new(len: usize) -> io::Result<Self> {
            Ok(Self((0..len / 8).map(|_| UnsafeCell::new(0)).collect()))
        }

        pub(super) fn len(&self) -> usize {
            self.0.len() * 8
        }

        /// Writes through a copy, word by word, so that loom sees each word and a torn record shows.
        ///
        /// # Safety
        ///
        /// * As for `Region::fill`.
        pub(super) unsafe fn fill<R>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
            let words = &self.0[at / 8..(at + len) / 8];
            let mut copy = vec![0; len];
            let result = fill(&mut copy);
            for (word, bytes) in words.iter().zip(copy.chunks_exact(8)) {
                let value = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
                // SAFETY: the caller has the range alone; loom checks that claim.
                word.with_mut(|word| unsafe { *word = value });
            }
            result
        }

        /// # Safety
        ///
        /// * As for `Region::read`.
        pub(super) unsafe fn read<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> R {
            let words = &self.0[at / 8..(at + len) / 8];
            let mut copy = Vec::with_capacity(len);
            for word in words {
                // SAFETY: the caller keeps writers away; loom checks that claim.
                copy.extend(word.with(|word| unsafe { *word }).to_ne_bytes());
            }
            read(&copy)
        }

        /// Touches every word as a writer, so that loom sees who else does.
        ///
        /// # Safety
        ///
        /// * As for `Region::give_back`.
        pub(super) unsafe fn give_back(&self) {
            for word in &self.0 {
                // SAFETY: the caller has the region alone; loom checks that claim.
                word.with_mut(|word| unsafe { *word = 0 });
            }
        }

        pub(super) fn prefetch(&self, _at: usize, _len: usize) {}
    }
}
