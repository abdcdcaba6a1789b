//! One moment by which something must be over, through all its stages.

use std::time::Duration;

use super::ticks;

/// A moment by which a call returns, whatever it waits for; a shutdown has 25 ms more. A [`Duration`] is one, from now
/// on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline {
    /// On the kernel's monotonic clock.
    nanos: u64,
}

/// What the worker gets to say that it has given up, beyond the deadline that it gave up at.
const GRACE: Duration = Duration::from_millis(25);

impl Deadline {
    /// The moment this long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { nanos: ticks::monotonic_nanos().saturating_add(nanos(time)) }
    }

    /// The time that is left; zero when it is over.
    #[must_use]
    pub fn left(self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(ticks::monotonic_nanos()))
    }

    /// The time since the deadline; zero before it.
    pub(crate) fn passed(self) -> Duration {
        Duration::from_nanos(ticks::monotonic_nanos().saturating_sub(self.nanos))
    }

    pub(crate) fn after_grace(self) -> Self {
        Self { nanos: self.nanos.saturating_add(nanos(GRACE)) }
    }
}

impl From<Duration> for Deadline {
    fn from(time: Duration) -> Self {
        Self::after(time)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
