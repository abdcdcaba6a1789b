//! How long to wait before the next attempt, when the collector does not say.

use std::time::Duration;

/// Waits between attempts: exponential, with full jitter (HTTP-08), so that the clients of a collector that comes back
/// do not come back in step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Before the first failure.
    #[must_use]
    pub fn new() -> Self {
        Self { ceiling: DELAY_FIRST_MAX }
    }

    /// The next wait: from nothing up to a ceiling, as evenly as `random` is, and the ceiling rises.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 8 / 5).min(PAUSE_MAX);
        let nanos = (ceiling.as_nanos() * u128::from(random)) >> u64::BITS;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// The longest wait of our own choice: the memory has to hold the spans of an outage for this much longer.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Half a second, times 1.6 a step, is at the longest wait after five failures.
const DELAY_FIRST_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn http_08_waits_grow_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<_> = (0..12).map(|_| backoff.next(u64::MAX).as_millis() + 1).collect();
        assert_eq!(ceilings, [500, 800, 1280, 2048, 3277, 5000, 5000, 5000, 5000, 5000, 5000, 5000]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(1 << 63), PAUSE_MAX / 2);
        backoff.reset();
        assert_eq!(backoff, Backoff::new());
    }

    proptest! {
        #[test]
        fn waits_are_below_their_ceiling(randoms in prop::collection::vec(any::<u64>(), 0..30)) {
            let mut backoff = Backoff::new();
            for random in randoms {
                let ceiling = backoff.ceiling;
                prop_assert!(backoff.next(random) < ceiling);
            }
        }
    }
}
