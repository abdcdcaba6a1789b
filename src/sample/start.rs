//! What a sampler is asked, and what it answers.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::{
    clock::Clock,
    context::{Link, SpanContext, TraceState},
    record::{Key, Kind, TraceId, Value, flags},
};

/// A span that is about to start: all that a sampler can know of it (SMP-01).
#[derive(Clone, Copy, Debug)]
pub struct SpanStart<'a> {
    pub(crate) parent: Option<&'a SpanContext>,
    pub(crate) trace_id: TraceId,
    pub(crate) trace_flags: u8,
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) attributes: &'a [(Key<'a>, Value<'a>)],
    pub(crate) links: &'a [Link<'a>],
    /// What a root was led to by: its first link.
    pub(crate) origin: Option<&'a SpanContext>,
    /// `None` where no engine asks.
    pub(crate) clock: Option<&'a Clock>,
    pub(crate) chance: u64,
}

impl<'a> SpanStart<'a> {
    /// A root as nobody's engine starts it, to try a sampler with.
    #[must_use]
    pub fn new(trace_id: TraceId, name: &'a str) -> Self {
        Self {
            parent: None,
            trace_id,
            trace_flags: flags::RANDOM,
            name,
            kind: Kind::Internal,
            attributes: &[],
            links: &[],
            origin: None,
            clock: None,
            chance: 0,
        }
    }

    /// The same with this kind.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same as a child of this span, and in its trace (SMP-02). A context that is not valid is none.
    #[must_use]
    pub fn with_parent(self, parent: &'a SpanContext) -> Self {
        if !parent.is_valid() {
            return self;
        }
        let trace_flags = parent.trace_flags() & flags::RANDOM;
        Self { parent: Some(parent), trace_id: parent.trace_id(), trace_flags, ..self }
    }

    /// The same with these attributes.
    #[must_use]
    pub fn with_attributes(self, attributes: &'a [(Key<'a>, Value<'a>)]) -> Self {
        Self { attributes, ..self }
    }

    /// The same with these links.
    #[must_use]
    pub fn with_links(self, links: &'a [Link<'a>]) -> Self {
        Self { links, ..self }
    }

    /// The parent; `None` for the root of a trace.
    #[must_use]
    pub fn parent(&self) -> Option<&'a SpanContext> {
        self.parent
    }

    /// The trace: that of the parent, or a new one.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Whether the trace id is known to be random, as the consistent samplers need it.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.trace_flags & flags::RANDOM != 0
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The attributes that the builder has.
    #[must_use]
    pub fn attributes(&self) -> &'a [(Key<'a>, Value<'a>)] {
        self.attributes
    }

    /// The links that the builder has.
    pub fn links(&self) -> impl Iterator<Item = Link<'a>> + use<'a> {
        let origin = self.origin.map(|target| Link { target, attributes: &[] });
        origin.into_iter().chain(self.links.iter().copied())
    }

    /// The time on a clock that never steps back, and on the fake one of a test. It begins anywhere.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    pub(super) fn nanos(&self) -> u64 {
        self.clock.map_or(0, Clock::monotonic_nanos)
    }

    /// A random number of this start alone.
    #[must_use]
    pub fn chance(&self) -> u64 {
        self.chance
    }

    /// The trace state that the span has unless the sampler changes it.
    pub(super) fn trace_state(&self) -> Option<&'a TraceState> {
        self.parent.map(SpanContext::trace_state)
    }
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It only carries a context, which is not sampled.
    Drop,
    /// It records, so that the program sees what is set, but its context is not sampled and it is never exported.
    RecordOnly,
    /// It records, its context is sampled, and it is exported.
    RecordAndSample,
}

/// A sampler's answer: what becomes of the span, attributes for it, and the trace state.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    pub(crate) verdict: Verdict,
    pub(crate) attributes: Attributes<'a>,
    /// `None` leaves the parent's.
    pub(crate) trace_state: Option<TraceState>,
}

/// The attributes of a decision. Up to four need no memory of their own. (A `SmallVec` would keep a decision of static
/// texts from being one of shorter lives.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes<'a> {
    few: ArrayVec<(Key<'a>, Value<'a>), 4>,
    more: Vec<(Key<'a>, Value<'a>)>,
}

impl<'a> Attributes<'a> {
    pub(super) fn push(&mut self, key: Key<'a>, value: Value<'a>) {
        if let Err(refused) = self.few.try_push((key, value)) {
            self.more.push(refused.element());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<'a>, Value<'a>)> {
        self.few.iter().chain(&self.more).copied()
    }
}

impl<'a> Decision<'a> {
    /// This, without attributes, in the parent's trace state.
    #[must_use]
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, attributes: Attributes::default(), trace_state: None }
    }

    /// [`Verdict::Drop`].
    #[must_use]
    pub fn drop() -> Self {
        Self::new(Verdict::Drop)
    }

    /// [`Verdict::RecordOnly`].
    #[must_use]
    pub fn record() -> Self {
        Self::new(Verdict::RecordOnly)
    }

    /// [`Verdict::RecordAndSample`].
    #[must_use]
    pub fn sample() -> Self {
        Self::new(Verdict::RecordAndSample)
    }

    /// The same with one more attribute. Where the program sets the same key, its value counts.
    #[must_use]
    pub fn with(mut self, key: impl Into<Key<'a>>, value: impl Into<Value<'a>>) -> Self {
        self.attributes.push(key.into(), value.into());
        self
    }

    /// The same with this trace state in place of the parent's; an empty one clears it (SMP-02).
    #[must_use]
    pub fn with_trace_state(self, trace_state: TraceState) -> Self {
        Self { trace_state: Some(trace_state), ..self }
    }

    /// What becomes of the span.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The attributes for it.
    pub fn attributes(&self) -> impl Iterator<Item = (Key<'a>, Value<'a>)> {
        self.attributes.iter()
    }

    /// The trace state, if it is not the parent's.
    #[must_use]
    pub fn trace_state(&self) -> Option<&TraceState> {
        self.trace_state.as_ref()
    }
}
