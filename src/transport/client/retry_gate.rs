//! When to try again after a failure: later each time, not in step with others, and not before the collector allows it.

use std::time::Duration;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::{super::driver::Moment, backoff::Backoff};

/// When the next attempt of any request may begin. Two things close the gate, and each has an end of its own: that the
/// collector fails, which an answer disproves, and that it asked for a pause, which nothing but time ends.
#[derive(Debug)]
pub(super) struct RetryGate {
    pub(super) backoff: Backoff,
    /// When the last attempt failed; `None` while all is well.
    pub(super) since: Option<Moment>,
    /// Nothing is sent before this, because the collector failed.
    not_before: Moment,
    /// Nothing is sent before this, because the collector asked for it (HTTP-07).
    asked_until: Moment,
    random: Xoshiro256PlusPlus,
}

/// Most jitter that is added to a wait that the collector names, so that clients do not come back in step.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(500);
/// A flush tries again at once, but not sooner than this after a failure: a program may flush in a loop.
pub(super) const HURRY_AFTER: Duration = Duration::from_millis(100);

impl RetryGate {
    /// Nothing has failed yet. Equal seeds make equal waits.
    pub(super) fn open(seed: u64) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { backoff: Backoff::default(), since: None, not_before: Moment::START, asked_until: Moment::START, random }
    }

    /// Notes the failure of an attempt that began at `began`: the next one comes later each time (HTTP-08), or after
    /// the pause that the collector asks for, with a little jitter.
    pub(super) fn failed(&mut self, asked: Option<Duration>, began: Moment, now: Moment) {
        // Attempts that were under way together fail together, and count as one failure.
        let is_news = self.since.is_none_or(|last| began >= last);
        let pause = if is_news { self.backoff.next(self.random.next_u64()) } else { Duration::ZERO };
        match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) => self.asked(Some(asked + pause.min(JITTER_MAX)), now),
            None => self.not_before = self.not_before.max(now.after(pause)),
        }
        self.since = Some(now);
    }

    /// Notes the pause that the collector asks for. Whoever is answered meanwhile, it holds.
    pub(super) fn asked(&mut self, pause: Option<Duration>, now: Moment) {
        self.asked_until = self.asked_until.max(now.after(pause.unwrap_or_default()));
    }

    /// Notes that the collector answered an attempt that began at `began`. One that began before the last failure says
    /// nothing of what came after it; then this is false.
    pub(super) fn succeeded(&mut self, began: Moment) -> bool {
        let is_news = self.since.is_none_or(|last| began >= last);
        if is_news {
            self.backoff.reset();
            self.since = None;
            self.not_before = Moment::START;
        }
        is_news
    }

    /// Ends the back-off this long after the last failure at the latest, but not the wait that the collector has asked
    /// for.
    pub(super) fn shorten(&mut self, pause_max: Duration) {
        if let Some(since) = self.since {
            self.not_before = self.not_before.min(since.after(pause_max));
        }
    }

    /// When the next attempt may begin.
    pub(super) fn not_before(&self) -> Moment {
        self.not_before.max(self.asked_until)
    }

    /// When the pause is over that the collector asked for.
    pub(super) fn asked_until(&self) -> Moment {
        self.asked_until
    }

    /// The next wait of a request that fails by itself.
    pub(super) fn pause_of_one(&mut self, backoff: &mut Backoff) -> Duration {
        backoff.next(self.random.next_u64())
    }
}
