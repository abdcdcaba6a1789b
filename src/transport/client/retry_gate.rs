//! When to try again after a failure: later each time, not in step with others, and not before the collector allows it.

use std::time::Duration;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::{super::driver::Moment, backoff::Backoff};

/// Whether attempts fail, and when the next one may begin.
#[derive(Debug)]
pub(super) struct RetryGate {
    pub(super) backoff: Backoff,
    /// When the last attempt failed; `None` while all is well.
    pub(super) since: Option<Moment>,
    /// Nothing is sent before this, because the collector failed or asked for it.
    not_before: Moment,
    /// The part of that wait that the collector asked for.
    asked_until: Moment,
    random: Xoshiro256PlusPlus,
}

/// Most jitter that is added to a wait that the collector names, so that clients do not come back in step.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(500);
/// A flush tries again at once, but not sooner than this after a failure: a program may flush in a loop.
const HURRY_AFTER: Duration = Duration::from_millis(100);

impl RetryGate {
    /// Nothing has failed yet. Equal seeds make equal waits.
    pub(super) fn open(seed: u64) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { backoff: Backoff::default(), since: None, not_before: Moment::START, asked_until: Moment::START, random }
    }

    /// Notes the failure of an attempt that began at `began`: the next one comes later each time (HTTP-08), and never
    /// before the wait `after` that the collector asks for (HTTP-07).
    pub(super) fn failed(&mut self, after: Option<Duration>, began: Moment, now: Moment) {
        let after = after.unwrap_or_default();
        self.asked_until = self.asked_until.max(now.after(after));
        // Attempts that were under way together fail together, and count as one failure.
        let is_news = self.since.is_none_or(|last| began >= last);
        let pause = if is_news { self.backoff.next(self.random.next_u64()) } else { Duration::ZERO };
        let pause = if after.is_zero() { pause } else { after + pause.min(JITTER_MAX) };
        self.not_before = self.not_before.max(now.after(pause));
        self.since = Some(now);
    }

    /// Notes that the collector answers.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.since = None;
        self.not_before = Moment::START;
        self.asked_until = Moment::START;
    }

    /// Cuts the back-off short, but not the wait that the collector has asked for.
    pub(super) fn hurry(&mut self) {
        if let Some(since) = self.since {
            self.not_before = self.not_before.min(since.after(HURRY_AFTER)).max(self.asked_until);
        }
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.since.is_some()
    }

    /// When the next attempt may begin.
    pub(super) fn not_before(&self) -> Moment {
        self.not_before
    }
}
