//! Sampling by a probability that the trace state carries on.

use std::borrow::Cow;

use super::{
    Composable, Decision, Intent, InvalidRatio, Sampler, SpanStart,
    intent::Decider,
    threshold::{Prepared, Threshold},
};

/// Samples a share of all traces, consistently (SMP-11): who samples at one ratio has all traces of those who sample at
/// a lower one. The trace state tells the others at which (`ot=th:…`), so that spans can be counted up again.
///
/// It ignores the parent: use it in [`ParentThreshold`](super::ParentThreshold) where traces are to be whole.
#[derive(Debug)]
pub struct Probability {
    /// `None` samples nothing.
    prepared: Option<Prepared>,
    ratio: f64,
    decider: Decider,
}

impl Probability {
    /// Samples this share.
    ///
    /// # Errors
    ///
    /// When `ratio` is neither 0 nor from 2⁻⁵⁶ to 1.
    pub fn new(ratio: f64) -> Result<Self, InvalidRatio> {
        let threshold = if ratio == 0.0 { None } else { Some(Threshold::of(ratio)?) };
        Ok(Self { prepared: threshold.map(Prepared::new), ratio, decider: Decider::default() })
    }
}

impl Sampler for Probability {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        self.decider.decide(self.intent(start), start)
    }

    fn description(&self) -> Cow<'_, str> {
        format!("ProbabilitySampler{{{}}}", self.ratio).into()
    }
}

impl Composable for Probability {
    fn intent<'a>(&'a self, _: &SpanStart<'a>) -> Intent<'a> {
        self.prepared.as_ref().map_or_else(Intent::never, Intent::prepared)
    }

    fn description(&self) -> Cow<'_, str> {
        format!("ComposableProbability{{{}}}", self.ratio).into()
    }
}
