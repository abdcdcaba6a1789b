//! A call at the end of a thread, which works even for threads that the allocator's own hooks run in.

/// Makes `call` run when the current thread ends, after its thread-local destructors. Costs nothing when already asked
/// for.
///
/// It goes through a pthread key: registering a Rust thread-local destructor allocates, and aborts when that allocation
/// comes back to us. glibc keeps the values of the first 32 keys in the thread itself, and allocates for those of later
/// keys: in a program that makes so many before its first engine, a thread must not come here first in a signal
/// handler.
pub(crate) fn at_exit(call: fn()) {
    imp::at_exit(call);
}

/// Makes ready what [`at_exit`] needs, so that it never waits for another thread that does.
pub(crate) fn prepare() {
    imp::prepare();
}

#[cfg(all(unix, not(loom)))]
mod imp {
    use crate::sync::once::SetOnce;

    /// Not one of std's cells: a child that was forked while a thread of its parent fills one would wait for that
    /// thread.
    static KEY: SetOnce<libc::pthread_key_t> = SetOnce::new();

    pub(super) fn prepare() {
        let mut key = 0;
        if KEY.get().is_some() {
            return;
        }
        // SAFETY: `key` is a valid place, and `run` may be called in any thread.
        let is_made = unsafe { libc::pthread_key_create(&raw mut key, Some(run)) } == 0;
        if is_made && KEY.set(key).is_err() {
            // SAFETY: another thread came first, and no value was set for this one.
            unsafe { libc::pthread_key_delete(key) };
        }
    }

    pub(super) fn at_exit(call: fn()) {
        if let Some(key) = KEY.get().copied() {
            // SAFETY: the key was created above; the value is a function pointer, which `run` turns back.
            unsafe { libc::pthread_setspecific(key, call as *const libc::c_void) };
        }
    }

    /// # Safety
    ///
    /// * `call` is the value that `at_exit` set: a `fn()`.
    unsafe extern "C" fn run(call: *mut libc::c_void) {
        // SAFETY: only `at_exit` sets the key's value, and always to a `fn()`; null values are never passed on.
        let call = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(call) };
        call();
    }
}

#[cfg(not(all(unix, not(loom))))]
mod imp {
    use std::cell::Cell;

    struct Guard(Cell<Option<fn()>>);

    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some(call) = self.0.take() {
                call();
            }
        }
    }

    thread_local! {
        static GUARD: Guard = const { Guard(Cell::new(None)) };
    }

    pub(super) fn prepare() {}

    pub(super) fn at_exit(call: fn()) {
        // A thread that is past its destructors has no exit left to wait for.
        let _ = GUARD.try_with(|guard| guard.0.set(Some(call)));
    }
}
