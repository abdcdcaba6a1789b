//! Samplers of the specification that need nothing but the start: on, off, record, ratio.

use std::{borrow::Cow, error::Error, fmt};

use super::{Decision, Sampler, Sampling, SpanStart, Verdict};
use crate::notice::Notice;

pub(super) const ALWAYS_ON: &str = "AlwaysOnSampler";
pub(super) const ALWAYS_OFF: &str = "AlwaysOffSampler";

/// Samples every span (SMP-05).
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysOn;

impl Sampler for AlwaysOn {
    fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
        Decision::sample()
    }

    fn description(&self) -> Cow<'_, str> {
        ALWAYS_ON.into()
    }
}

/// Samples no span (SMP-05).
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysOff;

impl Sampler for AlwaysOff {
    fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
        Decision::drop()
    }

    fn description(&self) -> Cow<'_, str> {
        ALWAYS_OFF.into()
    }
}

/// Lets the spans that another sampler drops record, without being exported (SMP-09): for those who look at spans in
/// the program.
#[derive(Clone, Debug)]
pub struct AlwaysRecord {
    inner: Sampling,
}

impl AlwaysRecord {
    /// Samples what `inner` samples.
    pub fn new(inner: impl Into<Sampling>) -> Self {
        Self { inner: inner.into() }
    }
}

impl Sampler for AlwaysRecord {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let decision = self.inner.sample(start);
        let verdict = match decision.verdict {
            Verdict::Drop => Verdict::RecordOnly,
            other => other,
        };
        Decision { verdict, ..decision }
    }

    fn description(&self) -> Cow<'_, str> {
        format!("AlwaysRecordSampler{{{}}}", self.inner.description()).into()
    }
}

/// Samples a share of all traces, by their ids alone (SMP-06): services that agree on the ratio agree on the traces.
///
/// It ignores the parent, so use it as the root of a [`ParentBased`](super::ParentBased). The specification is about to
/// replace it by [`Probability`](super::Probability), whose decisions fit together across different ratios.
#[derive(Debug)]
pub struct TraceIdRatio {
    ratio: f64,
    /// Spans whose id's last 63 bits are below this are sampled.
    bound: u64,
    /// That it decides on children.
    under_parent: Notice,
}

const UNDER_PARENT: &str = "spanring: TraceIdRatioBased decides on a span that has a parent, so traces may be broken; \
    wrap it: `ParentBased::new(TraceIdRatio::new(…)?)`, or OTEL_TRACES_SAMPLER=parentbased_traceidratio.\n";

impl TraceIdRatio {
    /// Samples this share.
    ///
    /// # Errors
    ///
    /// When `ratio` is not from 0 to 1.
    #[expect(clippy::cast_possible_truncation, reason = "a share of the bound is within it")]
    pub fn new(ratio: f64) -> Result<Self, InvalidRatio> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidRatio(ratio));
        }
        let all = Self::all();
        Ok(Self { ratio, bound: (ratio * all.bound as f64) as u64, ..all })
    }

    /// Samples all.
    pub(crate) fn all() -> Self {
        Self { ratio: 1.0, bound: 1 << 63, under_parent: Notice::default() }
    }
}

impl Sampler for TraceIdRatio {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        if start.parent().is_some() {
            self.under_parent.say(UNDER_PARENT);
        }
        let [.., a, b, c, d, e, f, g, h] = start.trace_id().0;
        let is_below = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound;
        if is_below { Decision::sample() } else { Decision::drop() }
    }

    fn description(&self) -> Cow<'_, str> {
        let exact = self.ratio.to_string();
        let decimals = exact.len().saturating_sub(2).max(6);
        format!("TraceIdRatioBased{{{:.decimals$}}}", self.ratio).into()
    }
}

/// A number that is no share of all spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidRatio(pub(super) f64);

impl fmt::Display for InvalidRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no ratio: give a number from 0 to 1", self.0)
    }
}

impl Error for InvalidRatio {}
