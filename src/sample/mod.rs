//! Samplers: which spans record, and which of these are exported. They are asked before anything is recorded.
//!
#![doc = include_str!("../../docs/sampling.md")]

mod attributes;
mod basic;
mod composite;
mod consistent;
mod exchange;
mod intent;
mod parent;
mod rate;
mod rules;
mod start;
mod threshold;

use std::{any::Any, borrow::Cow, fmt, sync::Arc};

pub use self::{
    attributes::{Annotating, Constant},
    basic::{AlwaysOff, AlwaysOn, AlwaysRecord, InvalidRatio, TraceIdRatio},
    composite::{Composite, ParentThreshold},
    consistent::Probability,
    exchange::{Exchange, NotExchanged},
    intent::{Composable, Intent},
    parent::ParentBased,
    rate::RateLimit,
    rules::{Rule, RuleBased},
    start::{Decision, SpanStart, Verdict},
    threshold::Threshold,
};

/// Decides what becomes of a span when it starts. Give it as [`Config::sampling`](crate::Config::sampling), or to
/// [`Engine::set_sampler`](crate::Engine::set_sampler).
///
/// It is called by each thread that starts spans, at the same time and in the middle of the program's work: it must not
/// wait, and should not allocate. A start that it makes itself is decided as the parent says, and so is one in which it
/// panics; both are counted as [`Misuse`](crate::Misuse).
///
/// ```
/// use std::borrow::Cow;
/// use spanring::{Config, Engine, sample::{Decision, Sampler, SpanStart}};
///
/// /// Leaves out what nobody will ever look at.
/// #[derive(Debug)]
/// struct NoProbes;
///
/// impl Sampler for NoProbes {
///     fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
///         if start.name() == "GET /health" { Decision::drop() } else { Decision::sample() }
///     }
///
///     fn description(&self) -> Cow<'_, str> {
///         "NoProbes".into()
///     }
/// }
///
/// let engine = Engine::start(Config { sampling: NoProbes.into(), ..Config::default() })?;
/// assert!(!engine.tracer("shop").span("GET /health").start().is_recording());
/// # Ok::<(), spanring::StartError>(())
/// ```
pub trait Sampler: fmt::Debug + Send + Sync {
    /// What becomes of this span.
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a>;

    /// What the sampler does, for people. It may change, and is asked each time (SMP-03).
    fn description(&self) -> Cow<'_, str>;
}

/// Which spans record: one of the samplers that starts know by heart, or any other. Every sampler is one by `into()`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Sampling {
    /// As the parent's sampled flag says. Spans without a parent record (SMP-04).
    #[default]
    ParentBased,
    /// As the parent's sampled flag says. Spans without a parent do not record (`parentbased_always_off`).
    ParentOnly,
    /// Every span records.
    AlwaysOn,
    /// No span records. Spans still get ids and contexts.
    AlwaysOff,
    /// As this sampler says.
    By(Arc<dyn Sampler>),
}

impl<S: Sampler + 'static> From<S> for Sampling {
    /// Finds those that starts know by heart.
    fn from(sampler: S) -> Self {
        let any: &dyn Any = &sampler;
        let known = any.downcast_ref::<ParentBased>().and_then(ParentBased::by_heart);
        let known = known.or_else(|| any.is::<AlwaysOn>().then_some(Self::AlwaysOn));
        let known = known.or_else(|| any.is::<AlwaysOff>().then_some(Self::AlwaysOff));
        known.unwrap_or_else(|| Self::By(Arc::new(sampler)))
    }
}

impl Sampling {
    /// The decision of the sampler that this is.
    pub(crate) fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let wanted = match self {
            Self::ParentBased => start.parent().is_none_or(|parent| parent.leads_to_sampling(true)),
            Self::ParentOnly => start.parent().is_some_and(|parent| parent.leads_to_sampling(false)),
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::By(sampler) => return sampler.sample(start),
        };
        if wanted { Decision::sample() } else { Decision::drop() }
    }

    /// What the sampler does, in the words of the specification.
    #[must_use]
    pub fn description(&self) -> Cow<'_, str> {
        match self {
            Self::ParentBased => ParentBased::new(AlwaysOn).description().into_owned().into(),
            Self::ParentOnly => ParentBased::new(AlwaysOff).description().into_owned().into(),
            Self::AlwaysOn => basic::ALWAYS_ON.into(),
            Self::AlwaysOff => basic::ALWAYS_OFF.into(),
            Self::By(sampler) => sampler.description(),
        }
    }
}

impl PartialEq for Sampling {
    /// Samplers of the program are equal where they are the same object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::By(sampler), Self::By(other)) => Arc::ptr_eq(sampler, other),
            (Self::By(_), _) | (_, Self::By(_)) => false,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}
