//! A bound on sampled spans a second.

use std::borrow::Cow;

use crossbeam_utils::CachePadded;

use super::{Composable, Decision, Intent, Sampler, Sampling, SpanStart, Threshold, Verdict};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Samples so many spans a second, and after a pause as many at once. Use it for roots, in
/// [`ParentBased`](super::ParentBased) or [`ParentThreshold`](super::ParentThreshold): then they are traces.
///
/// It is the one sampler whose starts write to a line of memory that threads share: expect some tens of nanoseconds
/// more where several cores start spans at once. It gives no threshold, because nothing can be counted up by it.
///
/// ```
/// # use spanring::{Config, Engine, sample::{ParentBased, RateLimit}};
/// let sampler = ParentBased::new(RateLimit::per_second(100));
/// let engine = Engine::start(Config { sampling: sampler.into(), ..Config::default() })?;
/// # Ok::<(), spanring::StartError>(())
/// ```
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    inner: Sampling,
    /// Nanoseconds that a span takes up.
    each: u64,
    /// When, on the clock of the starts, all spans so far have had their time. Written by each start that is sampled,
    /// read by all.
    spent_until: CachePadded<AtomicU64>,
}

const SECOND: u64 = 1_000_000_000;
/// Other threads that may come first before a start gives up: it takes a bounded number of steps.
const TRIES_MAX: usize = 8;

impl RateLimit {
    /// Samples so many spans a second.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        let each = SECOND / u64::from(per_second.max(1));
        Self { per_second, inner: Sampling::AlwaysOn, each, spent_until: CachePadded::new(AtomicU64::new(0)) }
    }

    /// The same for what this sampler samples, which is asked first.
    #[must_use]
    pub fn of(self, inner: impl Into<Sampling>) -> Self {
        Self { inner: inner.into(), ..self }
    }

    fn has_room(&self, now: u64) -> bool {
        if self.per_second == 0 {
            return false;
        }
        // ORDERING: Relaxed, here and below. A number that says nothing of other memory.
        let mut spent_until = self.spent_until.load(Relaxed);
        for _ in 0..TRIES_MAX {
            // What was not used is kept for a second.
            let next = spent_until.max(now.saturating_sub(SECOND)).saturating_add(self.each);
            if next > now {
                return false;
            }
            match self.spent_until.compare_exchange(spent_until, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(newer) => spent_until = newer,
            }
        }
        false
    }
}

impl Sampler for RateLimit {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let decision = self.inner.sample(start);
        let is_over = decision.verdict == Verdict::RecordAndSample && !self.has_room(start.nanos());
        if is_over { Decision::drop() } else { decision }
    }

    fn description(&self) -> Cow<'_, str> {
        format!("RateLimit{{{}/s,{}}}", self.per_second, self.inner.description()).into()
    }
}

impl Composable for RateLimit {
    fn intent<'a>(&'a self, start: &SpanStart<'a>) -> Intent<'a> {
        match Sampler::sample(self, start).verdict {
            Verdict::RecordAndSample => Intent::unreliably_at(Threshold::ALWAYS),
            _ => Intent::never(),
        }
    }

    fn description(&self) -> Cow<'_, str> {
        Sampler::description(self)
    }
}
