//! What parts of a sampler say, and the one decision that is made of it.

use std::{borrow::Cow, fmt};

use super::{
    Decision, SpanStart, Verdict,
    start::Attributes,
    threshold::{Entry, Prepared, Threshold, TooLong},
};
use crate::{
    context::TraceState,
    notice::Notice,
    record::{Key, Value},
};

/// A part of a [`Composite`](super::Composite): it says at which threshold it would sample (SMP-18).
pub trait Composable: fmt::Debug + Send + Sync {
    /// At which threshold this span would be sampled. It leaves the entry `ot` of a trace state alone.
    fn intent<'a>(&'a self, start: &SpanStart<'a>) -> Intent<'a>;

    /// What the part does, for people.
    fn description(&self) -> Cow<'_, str>;
}

/// At which threshold a span would be sampled, and with what.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    pub(super) threshold: Option<Threshold>,
    pub(super) is_reliable: bool,
    pub(super) attributes: Attributes<'a>,
    pub(super) trace_state: Option<TraceState>,
    pub(super) prepared: Option<&'a Prepared>,
}

impl<'a> Intent<'a> {
    /// The span is not sampled.
    #[must_use]
    pub fn never() -> Self {
        Self {
            threshold: None,
            is_reliable: false,
            attributes: Attributes::default(),
            trace_state: None,
            prepared: None,
        }
    }

    /// The span is sampled if the randomness of its trace reaches this, which the trace state tells others. That takes
    /// memory for each root, unless the threshold is [`Threshold::ALWAYS`].
    #[must_use]
    pub fn at(threshold: Threshold) -> Self {
        Self { threshold: Some(threshold), is_reliable: true, ..Self::never() }
    }

    /// The span is sampled with the probability of this threshold, whatever its trace is. Others are told nothing,
    /// because no count follows from it.
    #[must_use]
    pub fn unreliably_at(threshold: Threshold) -> Self {
        Self { threshold: Some(threshold), ..Self::never() }
    }

    /// The same with one more attribute, if the span is sampled.
    #[must_use]
    pub fn with(mut self, key: impl Into<Key<'a>>, value: impl Into<Value<'a>>) -> Self {
        self.attributes.push(key.into(), value.into());
        self
    }

    /// The same with this trace state in place of the parent's.
    #[must_use]
    pub fn with_trace_state(self, trace_state: TraceState) -> Self {
        Self { trace_state: Some(trace_state), ..self }
    }

    /// The threshold; `None` for a span that is not sampled.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// Whether spans can be counted up by the threshold.
    #[must_use]
    pub fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    pub(super) fn prepared(prepared: &'a Prepared) -> Self {
        Self { prepared: Some(prepared), ..Self::at(prepared.threshold()) }
    }
}

/// Decides by intents. It keeps the trace state of those who sample everything, and what it has to say, once.
#[derive(Debug)]
pub(super) struct Decider {
    always: Prepared,
    presumed: Notice,
    too_long: Notice,
}

const PRESUMED: &str = "spanring: a trace from elsewhere is sampled by its id, which is not marked as random: the share \
    of its spans may be wrong; let its root set the flag `random` (W3C Trace Context Level 2) or `ot=rv:…`.\n";
const TOO_LONG: &str = "spanring: the entry `ot` of a trace state has no room for a sampling threshold, and stays as it \
    is: spans of that trace are counted wrongly; shorten it where it comes from.\n";

impl Default for Decider {
    fn default() -> Self {
        Self { always: Prepared::new(Threshold::ALWAYS), presumed: Notice::default(), too_long: Notice::default() }
    }
}

impl Decider {
    /// What reaches the threshold is sampled (SMP-18).
    pub(super) fn decide<'a>(&self, intent: Intent<'a>, start: &SpanStart<'a>) -> Decision<'a> {
        let given = intent.trace_state;
        let state = given.as_ref().or(start.trace_state());
        let entry = Entry::of(state);
        let randomness = if intent.is_reliable { entry.randomness(start.trace_id()) } else { start.chance() >> 8 };
        let is_presumed = intent.is_reliable && entry.explicit.is_none() && !start.is_random();
        if is_presumed && start.parent().is_some() {
            self.presumed.say(PRESUMED);
        }
        let is_kept = intent.threshold.is_some_and(|threshold| threshold.keeps(randomness));
        let threshold = intent.threshold.filter(|_| is_kept && intent.is_reliable);
        let mut prepared = intent.prepared.into_iter().chain([&self.always]);
        let ready = prepared.find(|prepared| Some(prepared.threshold()) == threshold);
        let changed = match ready {
            Some(prepared) if state.is_none_or(TraceState::is_empty) => Some(prepared.state(start.chance())),
            _ => entry.with(state, threshold).unwrap_or_else(|TooLong| {
                self.too_long.say(TOO_LONG);
                None
            }),
        };
        Decision {
            verdict: if is_kept { Verdict::RecordAndSample } else { Verdict::Drop },
            attributes: if is_kept { intent.attributes } else { Attributes::default() },
            trace_state: changed.or(given),
        }
    }
}
