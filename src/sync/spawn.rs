//! Threads of our own, also in a child process: std's begin by taking a lock of the whole process, which a thread of
//! the parent may have held when the child was made.

use std::io;

pub(crate) use imp::Thread;

/// Starts a thread on which no signal handler of the program runs, but for the thread's own faults: those are for crash
/// reporters. Its panics end it, and nothing else.
///
/// # Errors
///
/// When the system refuses it.
pub(crate) fn start(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    imp::start(name, Box::new(work))
}

#[cfg(all(unix, not(miri), not(loom)))]
mod imp {
    use std::{
        io, mem,
        panic::{AssertUnwindSafe, catch_unwind},
        ptr,
    };

    use crate::sync::handler::FAULTS;

    /// A thread that runs, or has run. It goes on when this is dropped.
    #[derive(Debug)]
    pub(crate) struct Thread(libc::pthread_t);

    // SAFETY: a handle names a thread to the system, which lets any thread join or detach it. On musl it is a pointer.
    unsafe impl Send for Thread {}
    // SAFETY: as above; a shared handle can only be looked at.
    unsafe impl Sync for Thread {}

    /// As std's threads have: some systems give less than the system's resolver and TLS need.
    const STACK_BYTES: usize = 2 << 20;

    type Work = Box<dyn FnOnce() + Send>;

    /// What a thread is given: its name, and what to do.
    struct Task(&'static str, Work);

    pub(super) fn start(name: &'static str, work: Work) -> io::Result<Thread> {
        let task = Box::into_raw(Box::new(Task(name, work)));
        let masked = block_signals();
        // SAFETY: all zeros is a handle, which the call below overwrites or leaves unused.
        let mut thread = unsafe { mem::zeroed::<libc::pthread_t>() };
        // SAFETY: all zeros is a place for the attributes, which the next call fills in.
        let mut attributes = unsafe { mem::zeroed::<libc::pthread_attr_t>() };
        // SAFETY: the place is valid.
        unsafe { libc::pthread_attr_init(&raw mut attributes) };
        // SAFETY: the attributes are filled in; a size that the system does not like leaves its own.
        unsafe { libc::pthread_attr_setstacksize(&raw mut attributes, STACK_BYTES) };
        // SAFETY: `run` is given what it wants: the task, once.
        let refused = unsafe { libc::pthread_create(&raw mut thread, &raw const attributes, run, task.cast()) };
        // SAFETY: the attributes were filled in above, and are of no more use.
        unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
        // SAFETY: the set is the one that `block_signals` found.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const masked, ptr::null_mut()) };
        if refused == 0 {
            return Ok(Thread(thread));
        }
        // SAFETY: there is no thread, so the task is still ours.
        drop(unsafe { Box::from_raw(task) });
        Err(io::Error::from_raw_os_error(refused))
    }

    impl Thread {
        /// Waits until the thread has ended.
        pub(crate) fn join(self) {
            // SAFETY: the thread was started here, and neither joined nor detached: both take the handle.
            unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
            mem::forget(self);
        }
    }

    impl Drop for Thread {
        fn drop(&mut self) {
            // SAFETY: as in `join`.
            unsafe { libc::pthread_detach(self.0) };
        }
    }

    /// Blocks all signals but faults for the calling thread, and so for the threads that it makes; what was blocked
    /// before. A fault whose signal is blocked ends the process without a word: its handler does not run.
    fn block_signals() -> libc::sigset_t {
        // SAFETY: a set of signals is plain bits, and is filled by the next call.
        let mut all = unsafe { mem::zeroed::<libc::sigset_t>() };
        // SAFETY: as above.
        let mut before = unsafe { mem::zeroed::<libc::sigset_t>() };
        // SAFETY: the set is a valid place.
        unsafe { libc::sigfillset(&raw mut all) };
        for fault in FAULTS {
            // SAFETY: the set is filled, and the number is a signal's.
            unsafe { libc::sigdelset(&raw mut all, fault) };
        }
        // SAFETY: the first set is filled, and the second is a valid place.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        before
    }

    extern "C" fn run(task: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: only `start` passes this function on, with a task of its own making, and the thread is given it once.
        let Task(name, work) = *unsafe { Box::from_raw(task.cast::<Task>()) };
        call_it(name);
        // No caller can take a panic; its message is out already.
        let _ = catch_unwind(AssertUnwindSafe(work));
        ptr::null_mut()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn call_it(name: &str) {
        let mut bytes = [0; 16];
        let len = name.len().min(15);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        // SAFETY: the call has no precondition.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: the name ends with a zero, and the thread is this one.
        unsafe { libc::pthread_setname_np(this, bytes.as_ptr().cast()) };
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn call_it(_name: &str) {}
}

#[cfg(not(all(unix, not(miri), not(loom))))]
mod imp {
    use std::{io, thread};

    /// A thread that runs, or has run. It goes on when this is dropped.
    #[derive(Debug)]
    pub(crate) struct Thread(thread::JoinHandle<()>);

    pub(super) fn start(name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<Thread> {
        thread::Builder::new().name(name.to_owned()).spawn(work).map(Thread)
    }

    impl Thread {
        /// Waits until the thread has ended.
        pub(crate) fn join(self) {
            // Its panic, if it had one, has been said already.
            let _ = self.0.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[cfg(all(unix, not(miri), not(loom)))]
    #[test]
    fn faults_reach_the_crash_reporter_and_no_other_signal_is_taken() {
        use crate::sync::handler::FAULTS;

        let (sender, receiver) = mpsc::channel();
        let thread = start("spanring-test", move || {
            // SAFETY: a set of signals is plain bits, which the next call overwrites.
            let mut blocked = unsafe { std::mem::zeroed::<libc::sigset_t>() };
            // SAFETY: nothing is changed, and the set is a valid place.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked) };
            sender.send(blocked).expect("somebody listens");
        });
        let blocked = receiver.recv().expect("the thread says it");
        thread.expect("there is room for a thread").join();
        // SAFETY: the set is filled.
        let is_blocked = |signal: i32| unsafe { libc::sigismember(&raw const blocked, signal) } == 1;
        FAULTS.iter().for_each(|signal| assert!(!is_blocked(*signal), "signal {signal} is blocked"));
        let others =
            [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPROF, libc::SIGALRM, libc::SIGPIPE];
        others.iter().for_each(|signal| assert!(is_blocked(*signal), "signal {signal} is not blocked"));
    }

    #[test]
    fn thread_works_and_its_panic_ends_nothing_else() {
        let (sender, receiver) = mpsc::channel();
        let thread = start("spanring-test", move || {
            sender.send(7).expect("somebody listens");
            panic!("as it may");
        });
        thread.expect("there is room for a thread").join();
        assert_eq!(receiver.recv(), Ok(7));
    }
}
