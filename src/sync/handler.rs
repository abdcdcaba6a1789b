//! Whether a signal handler may be running: there a thread may not allocate, lock, or start another thread.

#[cfg(all(unix, not(miri), not(loom)))]
pub(crate) use imp::FAULTS;

/// Whether a signal handler may be running on this thread: while one runs, its signal is blocked. Safe in a handler.
///
/// A blocked signal without a handler does not count: servers block those that they take by `sigwait`. A blocked fault
/// (`SIGSEGV` and the like) counts in any case, because crash handlers often reset their signal before they run. Not
/// recognised is a handler that does not block its own signal (`SA_NODEFER`), and one of another signal that is reset
/// before it runs (`SA_RESETHAND`).
#[must_use]
pub(crate) fn may_be_running() -> bool {
    imp::may_be_running()
}

#[cfg(all(unix, not(miri), not(loom)))]
mod imp {
    use std::{mem, ptr};

    use libc::c_int;

    /// The signals of a fault of the thread itself.
    pub(crate) const FAULTS: [c_int; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

    /// Signals have numbers from one to this. Numbers that a system lacks are in no set.
    const SIGNAL_MAX: c_int = 64;

    pub(super) fn may_be_running() -> bool {
        // SAFETY: a set of signals is plain bits, which the next call overwrites.
        let mut blocked = unsafe { mem::zeroed::<libc::sigset_t>() };
        // SAFETY: nothing is changed, and the set is a valid place.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut blocked) };
        (1..=SIGNAL_MAX).any(|number| {
            // SAFETY: the set is filled; a number that is no signal gives an error, which is not one.
            let is_blocked = unsafe { libc::sigismember(&raw const blocked, number) } == 1;
            is_blocked && (FAULTS.contains(&number) || has_handler(number))
        })
    }

    fn has_handler(number: c_int) -> bool {
        // SAFETY: an action is plain data, of which all zeros is a value: the default.
        let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
        // SAFETY: nothing is changed, and the action is a valid place.
        unsafe { libc::sigaction(number, ptr::null(), &raw mut action) };
        action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
    }
}

#[cfg(not(all(unix, not(miri), not(loom))))]
mod imp {
    pub(super) fn may_be_running() -> bool {
        false
    }
}
