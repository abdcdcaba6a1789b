//! Tracers and span builders: from a name and a parent to a span, sampling decided before anything is recorded.

use std::{sync::Arc, time::SystemTime};

use super::{
    context::{SpanContext, TraceState},
    ids::{Ids, RandomIds},
    local::{self, Local},
    misuse::Misuse,
    recorder::{Core, Recorder, Sampling},
    span::{Link, Span},
};
use crate::{
    clock::unix_nanos,
    lane::{Block, Class, SeatId, Tally},
    record::{Draft, Key, Kind, Stamp, TraceId, Value, flags},
};

/// Starts spans for one instrumentation scope. Cheap to clone; keep one where it is used.
#[derive(Clone, Debug)]
pub struct Tracer {
    core: Arc<Core>,
    scope: u16,
}

impl Tracer {
    pub(crate) fn new(core: &Arc<Core>, scope: u16) -> Self {
        Self { core: Arc::clone(core), scope }
    }

    /// Begins to describe a span. Nothing is recorded before [`SpanBuilder::start`].
    #[inline]
    #[must_use]
    pub fn span<'a>(&'a self, name: &'a str) -> SpanBuilder<'a> {
        SpanBuilder { tracer: self, name, kind: Kind::Internal, parent: None, start: None, attributes: &[], links: &[] }
    }

    /// Whether a span started now could record. Ask before work that only serves to fill a span, each time anew.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.core.owner().is_closed() && self.core.owner().sampling != Sampling::AlwaysOff
    }
}

/// A span that is being described.
///
/// Prefer attributes and links given here to later calls: samplers see only these.
#[derive(Clone, Copy, Debug)]
#[must_use = "a span begins with `start`"]
pub struct SpanBuilder<'a> {
    tracer: &'a Tracer,
    name: &'a str,
    kind: Kind,
    parent: Option<&'a SpanContext>,
    start: Option<SystemTime>,
    attributes: &'a [(Key<'a>, Value<'a>)],
    links: &'a [Link<'a>],
}

/// What is decided before a span is recorded.
struct Decision {
    records: bool,
    trace_id: Option<TraceId>,
}

impl<'a> SpanBuilder<'a> {
    /// What the span describes, seen from the program. Internal unless said otherwise.
    #[inline]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The span that this one is part of. Without a valid one the span is the root of a new trace.
    #[inline]
    pub fn parent(mut self, parent: &'a SpanContext) -> Self {
        self.parent = parent.is_valid().then_some(parent);
        self
    }

    /// When the span began, if that is not now.
    #[inline]
    pub fn started_at(mut self, time: SystemTime) -> Self {
        self.start = Some(time);
        self
    }

    /// Attributes that are known from the start.
    #[inline]
    pub fn attributes(mut self, attributes: &'a [(Key<'a>, Value<'a>)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Links that are known from the start.
    #[inline]
    pub fn links(mut self, links: &'a [Link<'a>]) -> Self {
        self.links = links;
        self
    }

    /// Starts the span. It never waits; where it cannot record it gives a span that only carries the context, and counts why.
    #[inline]
    #[must_use]
    pub fn start(self) -> Span {
        let core = &self.tracer.core;
        let decision = self.decide(core.owner());
        match local::ready(core, |local| self.start_in(local, &decision)) {
            Some(span) => span,
            None => self.start_aside(&decision),
        }
    }

    #[inline]
    fn decide(&self, recorder: &Recorder) -> Decision {
        let wanted = match recorder.sampling {
            Sampling::ParentBased => self.parent.is_none_or(SpanContext::is_sampled),
            Sampling::AlwaysOn => true,
            Sampling::AlwaysOff => false,
        };
        Decision { records: wanted && !recorder.is_closed(), trace_id: self.parent.map(SpanContext::trace_id) }
    }

    /// Starts the span with the thread's own state.
    #[inline]
    fn start_in(&self, local: &mut Local, decision: &Decision) -> Span {
        let owner = self.tracer.core.owner();
        let Some(random) = &mut local.random else {
            return self.start_aside(decision);
        };
        let context = self.context(Ids { random, source: owner.ids.as_deref() }, decision);
        if !decision.records {
            local.lane.add(self.refusal());
            return Span::not_recording(context);
        }
        match local.lane.take() {
            Some(block) => {
                local.lane.add(Tally::Recording);
                self.begin(block, context)
            }
            None => {
                local.lane.add(Tally::LiveLimit);
                Span::not_recording(unsampled(&context))
            }
        }
    }

    /// Starts the span without the thread's own state: in a signal handler that interrupted it, or while a child settles.
    #[cold]
    fn start_aside(&self, decision: &Decision) -> Span {
        let core = &self.tracer.core;
        let mut random = RandomIds::from_system();
        let context = self.context(Ids { random: &mut random, source: core.owner().ids.as_deref() }, decision);
        if core.needs_settling() {
            core.add_unsettled();
            return Span::not_recording(unsampled(&context));
        }
        if !decision.records {
            core.seats().add(SeatId::Shared, self.refusal(), 1);
            return Span::not_recording(context);
        }
        let Some(block) = core.take(Class::First) else {
            core.seats().add(SeatId::Shared, Tally::LiveLimit, 1);
            return Span::not_recording(unsampled(&context));
        };
        core.seats().add(SeatId::Shared, Tally::Recording, 1);
        self.begin(block, context)
    }

    /// Why a span does not record that could have had a block.
    #[inline]
    fn refusal(&self) -> Tally {
        if self.tracer.core.owner().is_closed() { Tally::StartedClosed } else { Tally::NotSampled }
    }

    /// The new span's context: its parent's trace or a new one, an id of its own (for spans that do not record too, CRE-01).
    #[inline]
    fn context(&self, mut ids: Ids<'_>, decision: &Decision) -> SpanContext {
        let sampled = if decision.records { flags::SAMPLED } else { 0 };
        let (trace_id, random, state) = match (decision.trace_id, self.parent) {
            (Some(trace_id), Some(parent)) => {
                (trace_id, parent.trace_flags() & flags::RANDOM, TraceState::clone(parent.trace_state()))
            }
            _ => (ids.trace_id(), if ids.is_random() { flags::RANDOM } else { 0 }, TraceState::default()),
        };
        SpanContext::local(trace_id, ids.span_id(), sampled | random, state)
    }

    #[inline]
    fn begin(&self, mut block: Block<Recorder>, context: SpanContext) -> Span {
        let core = &self.tracer.core;
        let start = match self.start {
            None => core.owner().clock.now(),
            Some(time) => Stamp::wall(unix_nanos(time)),
        };
        let name = named(self.name);
        let draft = match Draft::begin(block.open().0, self.tracer.scope, self.kind, start, name) {
            Ok(draft) => draft,
            Err(_) => self.begin_long(&mut block, start, name),
        };
        let mut span = Span::recording(block, draft, context, core.generation());
        span.set_parent(self.parent);
        if !self.attributes.is_empty() || !self.links.is_empty() {
            span.set_all(self.attributes.iter().copied());
            self.links.iter().for_each(|link| span.link(link.target, link.attributes.iter().copied()));
        }
        span
    }

    /// Begins with a name that needs a larger block; where none is left, with as much of it as fits.
    #[cold]
    fn begin_long(&self, block: &mut Block<Recorder>, start: Stamp, name: &str) -> Draft {
        const FITS_FIRST_BLOCK: usize = 256;
        let (scope, kind) = (self.tracer.scope, self.kind);
        if let Some(mut larger) = block.grown(0, Class::Second.bytes())
            && let Ok(draft) = Draft::begin(larger.open().0, scope, kind, start, name)
        {
            *block = larger;
            return draft;
        }
        Misuse::TextCut.happened();
        let mut end = name.len().min(FITS_FIRST_BLOCK);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let draft = Draft::begin(block.open().0, scope, kind, start, &name[..end]);
        draft.unwrap_or_else(|_| Draft::note(scope, kind, start))
    }
}

/// The context of a span that a limit keeps from recording: without the sampled flag, which would promise a record (CRE-02).
fn unsampled(context: &SpanContext) -> SpanContext {
    let trace_flags = context.trace_flags() & !flags::SAMPLED;
    SpanContext::local(context.trace_id(), context.span_id(), trace_flags, TraceState::clone(context.trace_state()))
}

/// The name as it is recorded. An empty one would be refused by strict receivers (PB-03).
#[inline]
pub(super) fn named(name: &str) -> &str {
    if name.is_empty() {
        Misuse::EmptyName.happened();
        return "unnamed";
    }
    name
}
