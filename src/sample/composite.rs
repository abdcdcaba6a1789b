//! Samplers made of parts that say at which threshold they would sample, before one decision is made.

use std::borrow::Cow;

use super::{
    AlwaysOff, AlwaysOn, Composable, Decision, Intent, Sampler, SpanStart,
    intent::Decider,
    threshold::{Entry, Threshold},
};

/// A sampler of parts (SMP-18). It reads and writes the entry `ot` of the trace state for them.
///
/// ```
/// use spanring::{Config, Engine, Kind, sample::*};
///
/// let roots = RuleBased::new()
///     .rule(Rule::new().kind(Kind::Server).name("GET /health*"), AlwaysOff)
///     .rule(Rule::new().attribute("user.tier", "gold"), AlwaysOn)
///     .rule(Rule::new(), Probability::new(0.1)?);
/// // Children are as their parents, so what a rule drops is dropped as a whole.
/// let sampler = Composite::new(ParentThreshold::new(roots));
/// let engine = Engine::start(Config { sampling: sampler.into(), ..Config::default() })?;
///
/// let tracer = engine.tracer("shop");
/// let probe = tracer.root("GET /healthz").kind(Kind::Server).start();
/// let below = tracer.span("check").parent(&probe).start();
/// assert!(!probe.is_recording() && !below.is_recording());
///
/// let tier = [("user.tier".into(), "gold".into())];
/// let cart = tracer.root("GET /cart").kind(Kind::Server).attributes(&tier).start();
/// assert_eq!(cart.context().trace_state().as_str(), "ot=th:0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Composite {
    root: Box<dyn Composable>,
    decider: Decider,
}

impl Composite {
    /// Decides by this part.
    pub fn new(root: impl Composable + 'static) -> Self {
        Self { root: Box::new(root), decider: Decider::default() }
    }
}

impl Sampler for Composite {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        self.decider.decide(self.root.intent(start), start)
    }

    fn description(&self) -> Cow<'_, str> {
        format!("CompositeSampler{{{}}}", self.root.description()).into()
    }
}

impl Composable for AlwaysOn {
    fn intent<'a>(&'a self, _: &SpanStart<'a>) -> Intent<'a> {
        Intent::at(Threshold::ALWAYS)
    }

    fn description(&self) -> Cow<'_, str> {
        "ComposableAlwaysOn".into()
    }
}

impl Composable for AlwaysOff {
    fn intent<'a>(&'a self, _: &SpanStart<'a>) -> Intent<'a> {
        Intent::never()
    }

    fn description(&self) -> Cow<'_, str> {
        "ComposableAlwaysOff".into()
    }
}

/// As the parent, with the parent's threshold (SMP-17). A part for roots is asked where there is none.
#[derive(Debug)]
pub struct ParentThreshold {
    root: Box<dyn Composable>,
}

impl ParentThreshold {
    /// Asks this part for roots.
    pub fn new(root: impl Composable + 'static) -> Self {
        Self { root: Box::new(root) }
    }
}

impl Composable for ParentThreshold {
    fn intent<'a>(&'a self, start: &SpanStart<'a>) -> Intent<'a> {
        let Some(parent) = start.parent().filter(|parent| !parent.is_undecided()) else {
            return self.root.intent(start);
        };
        let entry = Entry::of(Some(parent.trace_state()));
        let is_sampled = parent.is_sampled();
        let is_true = |threshold: &Threshold| threshold.keeps(entry.randomness(parent.trace_id())) == is_sampled;
        match entry.threshold.filter(is_true) {
            Some(threshold) => Intent::at(threshold),
            // The threshold is missing or contradicts the flag, so it is not carried on: the flag alone counts.
            None if is_sampled => Intent::unreliably_at(Threshold::ALWAYS),
            None => Intent::never(),
        }
    }

    fn description(&self) -> Cow<'_, str> {
        format!("ComposableParentThreshold{{root:{}}}", self.root.description()).into()
    }
}
