//! Which core is this: a hint that spreads threads over lanes, and nothing but a hint.

/// A small number that threads running at the same time rarely share.
///
/// The kernel keeps it in the thread's restartable-sequence area, which the C library registers: one load from
/// thread-local memory. `mm_cid` (dense, below the number of threads that can run at once) is preferred to the core's
/// number, so that two busy threads of a small container on a large host do not fold onto one lane. Without the area
/// the answer comes from `sched_getcpu`, without that from the thread's own address. A stale or wrong answer costs a
/// shared lane, never a span.
#[inline]
#[must_use]
pub fn hint() -> usize {
    imp::hint()
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu", not(miri), not(loom)))]
mod imp {
    use super::super::{AtomicU32, Ordering};

    /// Offset of the number from the thread pointer, as two's complement; written once by [`locate`], read by every
    /// thread.
    static OFFSET: AtomicU32 = AtomicU32::new(UNKNOWN);
    const UNKNOWN: u32 = 0;
    /// Odd, and so no offset: the area's fields are aligned to four bytes.
    const ABSENT: u32 = 1;

    /// Fields of `struct rseq`, include/uapi/linux/rseq.h.
    const CPU_ID: isize = 4;
    const MM_CID: isize = 24;
    /// From this size on the kernel keeps `mm_cid` current.
    const FEATURES_WITH_MM_CID: libc::c_ulong = 28;
    const AT_RSEQ_FEATURE_SIZE: libc::c_ulong = 27;

    #[inline]
    pub(super) fn hint() -> usize {
        // ORDERING: Relaxed. The value is a constant of the process; a thread that misses it looks it up again.
        let offset = OFFSET.load(Ordering::Relaxed);
        if offset & 1 == 0 && offset != UNKNOWN {
            let number: u32;
            // SAFETY: `locate` found the registered area of this offset in every thread of the process (the C library
            // registers it before a thread's first instruction of ours), and the load is aligned and four bytes wide.
            unsafe {
                core::arch::asm!(
                    "mov {number:e}, dword ptr fs:[{offset}]",
                    number = out(reg) number,
                    offset = in(reg) offset.cast_signed() as isize,
                    options(nostack, preserves_flags, nomem),
                );
            }
            return number as usize;
        }
        slow(offset)
    }

    #[cold]
    fn slow(offset: u32) -> usize {
        if offset == UNKNOWN {
            // Before the search, which may allocate, and so come back here.
            // ORDERING: Relaxed. The value is a constant of the process; every thread computes the same one.
            OFFSET.store(ABSENT, Ordering::Relaxed);
            // ORDERING: Relaxed. As above.
            OFFSET.store(locate(), Ordering::Relaxed);
        }
        // SAFETY: the call has no precondition.
        let core = unsafe { libc::sched_getcpu() };
        usize::try_from(core).unwrap_or(0)
    }

    fn locate() -> u32 {
        // SAFETY: the name is a C string; RTLD_DEFAULT needs no handle.
        let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) };
        // SAFETY: as above.
        let size = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()) };
        if offset.is_null() || size.is_null() {
            return ABSENT;
        }
        // SAFETY: the C library defines the symbol as `const unsigned int`.
        let registered = unsafe { *size.cast::<libc::c_uint>() };
        if registered == 0 {
            return ABSENT;
        }
        // SAFETY: the C library defines the symbol as `const ptrdiff_t`.
        let area = unsafe { *offset.cast::<isize>() };
        // SAFETY: the call has no precondition; an unknown entry reads as zero.
        let features = unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) };
        let field = if features >= FEATURES_WITH_MM_CID { MM_CID } else { CPU_ID };
        i32::try_from(area + field).map_or(ABSENT, i32::cast_unsigned)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn hint_is_small_on_a_small_machine() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
            let last = possible.trim().rsplit(['-', ',']).next().and_then(|n| n.parse().ok()).unwrap_or(4096);
            for _ in 0..10 {
                assert!(hint() <= last, "{cores} cores, last possible {last}");
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu", not(miri), not(loom))))]
mod imp {
    #[inline]
    pub(super) fn hint() -> usize {
        #[cfg(all(target_os = "linux", not(miri), not(loom)))]
        {
            // SAFETY: the call has no precondition.
            let core = unsafe { libc::sched_getcpu() };
            if let Ok(core) = usize::try_from(core) {
                return core;
            }
        }
        thread_local! {
            static PLACE: u8 = const { 0 };
        }
        // Threads have their storage at different addresses, at least a page apart.
        PLACE.with(|place| std::ptr::from_ref(place) as usize >> 12)
    }
}
