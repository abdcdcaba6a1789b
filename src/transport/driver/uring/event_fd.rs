//! What a thread sleeps on outside of the ring, and what wakes it.

#![expect(unsafe_code, reason = "two calls of the system that no dependency has: `eventfd` and `ppoll`")]

use std::{
    fs::File,
    io::{self, Write},
    os::fd::FromRawFd,
    ptr,
    time::Duration,
};

use super::Bell;

/// A counter in the kernel that a write rings.
pub(super) struct EventFd(pub(super) File);

impl EventFd {
    /// One that is read in the ring must be able to block a read, or the kernel would not wait there. A write never
    /// blocks, before 2⁶⁴ wakes.
    pub(super) fn new(flags: i32) -> io::Result<Self> {
        // SAFETY: the call takes two numbers.
        let descriptor = unsafe { libc::eventfd(0, flags | libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made the descriptor, and nothing else has it.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }
}

impl Bell for EventFd {
    fn ring(&self) {
        // It fails only at the end of its 64 bits, and then it rings anyway.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

/// Waits until one of these has something, at most this long.
pub(super) fn poll(watched: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let time = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let len = libc::nfds_t::try_from(watched.len()).expect("two descriptors at most");
    // SAFETY: the descriptors and the time live until the call returns, and no signal mask is given.
    let found = unsafe { libc::ppoll(watched.as_mut_ptr(), len, time, ptr::null()) };
    match io::Error::last_os_error() {
        error if found < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
