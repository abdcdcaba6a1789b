//! The only door to the machine: atomics, cells and locks (std, or loom under the model), which core, fork word, ticks,
//! memory, files.

pub(crate) mod cell;
pub mod cpu;
pub(crate) mod current;
pub(crate) mod deadline;
pub(crate) mod exit;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod handler;
// Only signal handlers need it, and its model.
#[cfg(any(unix, feature = "__internals"))]
pub(crate) mod latest;
pub(crate) mod memory;
pub(crate) mod once;
pub(crate) mod region;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod stderr;
pub(crate) mod thread;
pub mod ticks;
pub(crate) mod trust;

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicPtr, Ordering},
};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicPtr, Ordering},
};

/// Stores `value` where other threads exchange: a plain store.
///
/// In a model it is a swap that looks at nothing. loom would else let an exchange come after a store that it has not
/// seen, which no memory model allows: what an exchange reads is what comes right before it.
#[inline(always)]
pub(crate) fn store_among_exchanges(word: &AtomicU32, value: u32, order: Ordering) {
    #[cfg(not(loom))]
    word.store(value, order);
    #[cfg(loom)]
    word.swap(value, order);
}

/// What loom has no counterpart of: atomics for statics, which say nothing of other memory, and the compiler's own
/// fence.
pub(crate) mod statics {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, compiler_fence};
}

/// A number that many threads read.
///
/// A thread that sees a count also sees what the counting thread had counted before: so a ledger that reads ends before
/// starts never finds a span that ended and was not begun. On x86 that costs nothing.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n` where the caller is the only writer: a load and a store, no locked instruction.
    #[inline]
    pub fn add_owned(&self, n: u64) {
        // ORDERING: Relaxed. Only this thread writes; it reads back its own last store.
        let old = self.0.load(Ordering::Relaxed);
        // ORDERING: [count] Release. What this thread counted before is seen with this.
        self.0.store(old.wrapping_add(n), Ordering::Release);
    }

    /// Adds `n` where several threads write; the value before.
    #[inline]
    pub fn add_shared(&self, n: u64) -> u64 {
        // ORDERING: [count] Release. As in `add_owned`.
        self.0.fetch_add(n, Ordering::Release)
    }

    /// Takes `n` off where several threads write.
    #[inline]
    pub fn sub_shared(&self, n: u64) {
        // ORDERING: Relaxed. What is taken off was counted before by others; nothing is concluded from it.
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Overwrites the value, where the caller is the only writer.
    #[inline]
    pub fn set(&self, n: u64) {
        // ORDERING: [count] Release. As in `add_owned`.
        self.0.store(n, Ordering::Release);
    }

    /// The value now.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        // ORDERING: [count] Acquire. What the counting thread had counted before is seen by a later look.
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}
