//! The alarm: a writer that finds its ring filled above the mark wakes the reader, if it sleeps, and only once; and whoever
//! settles a child process has a reader called there.

use std::fmt;

use crate::sync::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
    once::SetOnce,
};

/// Between writers and a reader that sleeps on a timer of its own. Without the alarm it would come in time for an even load,
/// and too late for a burst.
#[derive(Default)]
pub struct Alarm {
    /// Whether the reader sleeps. Set by the reader, cleared by the first writer that rings and by the reader.
    asleep: AtomicBool,
    /// What wakes it. Set once, before the first sleep.
    bell: SetOnce<Bell>,
}

/// What a writer calls: for a ring that fills up one system call, and nothing that waits.
pub type Bell = Box<dyn Fn(Call) + Send + Sync>;

/// Why a writer calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// The reader sleeps, and a ring is filled above the mark.
    Filled,
    /// This is a child process, which has no reader yet.
    Settled,
}

impl Alarm {
    /// Hangs the bell; the first one stays.
    pub fn hang(&self, bell: Bell) {
        let _ = self.bell.set(bell);
    }

    /// Says that the reader goes to sleep; false if it must not, because `is_filled`.
    pub fn sleep(&self, is_filled: impl FnOnce() -> bool) -> bool {
        // ORDERING: [alarm] AcqRel. All swaps of the word are in one order. A writer whose swap comes later finds the reader
        // asleep and rings. One whose swap came before is acquired here: what it published is seen by `is_filled`.
        self.asleep.swap(true, AcqRel);
        if is_filled() {
            // ORDERING: Relaxed. The reader is awake; a writer that still takes it for asleep rings for nothing.
            self.asleep.store(false, Relaxed);
            return false;
        }
        true
    }

    /// Says that the reader is up; whether a writer had rung.
    pub fn wake_up(&self) -> bool {
        // ORDERING: Relaxed. The reader looks at the lanes after this in any case, with an Acquire of its own.
        !self.asleep.swap(false, Relaxed)
    }

    /// Wakes the reader if it sleeps. Called by a writer behind its publish, outside of the lease.
    #[cold]
    pub fn ring(&self) {
        // ORDERING: [alarm] AcqRel. As in `sleep`: released is the record that filled the ring.
        if self.asleep.swap(false, AcqRel) {
            self.call(Call::Filled);
        }
    }

    /// Forgets the sleep of a reader of the parent, in a child process, and calls for one.
    pub(super) fn settle(&self) {
        // ORDERING: Relaxed. The reader that this calls for begins awake.
        self.asleep.store(false, Relaxed);
        self.call(Call::Settled);
    }

    fn call(&self, call: Call) {
        if let Some(bell) = self.bell.get() {
            bell(call);
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}
