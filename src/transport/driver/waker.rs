//! Ends a wait from any thread, also from a signal handler.

use std::{fmt, sync::Arc};

/// Makes the driver's wait return: this one, or the next if none is under way. Clones wake the same driver.
#[derive(Clone)]
pub struct Waker {
    bell: Arc<dyn Bell>,
}

/// What each system has for it: one write to a descriptor, no lock, no allocation.
pub trait Bell: Send + Sync {
    /// Ends the driver's wait, or the next one.
    fn ring(&self);
}

impl Waker {
    /// What rings this bell.
    #[must_use]
    pub fn new(bell: Arc<dyn Bell>) -> Self {
        Self { bell }
    }

    /// Wakes the driver. Never blocks and never fails: a bell that rings already, or whose driver is gone, needs
    /// nothing.
    pub fn wake(&self) {
        self.bell.ring();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

impl Bell for mio::Waker {
    fn ring(&self) {
        // An error means that the pipe is full, so that it rings already.
        let _ = self.wake();
    }
}
