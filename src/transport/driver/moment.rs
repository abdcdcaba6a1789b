//! Time as the drivers see it: nanoseconds that only grow, on a clock that a simulation can replace.

use std::time::{Duration, Instant};

/// Nanoseconds on the driver's own clock, which began when the driver did.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(u64);

impl Moment {
    /// The driver's beginning; to wait until then is to look without waiting.
    pub const START: Self = Self(0);

    /// The moment this long after this one. Past 584 years it stays where it is.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since the driver's beginning.
    #[must_use]
    pub fn nanos(self) -> u64 {
        self.0
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The machine's clock, for the drivers that move real bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    start: Instant,
}

impl Timer {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(self) -> Moment {
        Moment::START.after(self.start.elapsed())
    }

    /// How long it is until then, from now.
    pub(super) fn until(self, moment: Moment) -> Duration {
        moment.since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_at_both_ends() {
        let late = Moment::START.after(Duration::from_secs(3));
        assert_eq!(late.since(Moment::START), Duration::from_secs(3));
        assert_eq!(Moment::START.since(late), Duration::ZERO);
        let last = late.after(Duration::MAX);
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert_eq!(last.nanos(), u64::MAX);
    }

    #[test]
    fn timer_only_grows() {
        let timer = Timer::start();
        let first = timer.now();
        assert!(timer.now() >= first);
        assert_eq!(timer.until(Moment::START), Duration::ZERO);
    }
}
