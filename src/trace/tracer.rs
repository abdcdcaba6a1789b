//! Tracers and span builders: from a name and a parent to a span, sampling decided before anything is recorded.

use std::{sync::Arc, time::SystemTime};

use super::{
    ids::{IdSource, RandomIds},
    lanes::{Rule, SpanBlock, SpanLanes, Start},
    misuse::Misuse,
    span::Span,
    stack,
    thread_state::{self, ThreadState},
};
use crate::{
    clock::unix_nanos,
    context::{AsParent, Link, SpanContext, TraceState},
    lane::{Class, Tally},
    record::{Key, Kind, SpanId, Stamp, Value, flags, wire_flags},
    sample::Verdict,
};

/// Starts spans for one instrumentation scope. Cheap to clone: keep one wherever spans are started.
#[derive(Clone, Debug)]
pub struct Tracer {
    pub(super) lanes: Arc<SpanLanes>,
    pub(super) scope: u16,
}

impl Tracer {
    pub(crate) fn new(lanes: &Arc<SpanLanes>, scope: u16) -> Self {
        Self { lanes: Arc::clone(lanes), scope }
    }

    /// Describes a new span, a child of the [current](crate::Context::current) one. Nothing is recorded before
    /// [`SpanBuilder::start`].
    #[inline]
    pub fn span<'a>(&'a self, name: &'a str) -> SpanBuilder<'a> {
        self.describe(name, Parent::Current)
    }

    /// Describes a new span that begins a trace of its own, whatever is current.
    #[inline]
    pub fn root<'a>(&'a self, name: &'a str) -> SpanBuilder<'a> {
        self.describe(name, Parent::None)
    }

    #[inline]
    fn describe<'a>(&'a self, name: &'a str, parent: Parent<'a>) -> SpanBuilder<'a> {
        SpanBuilder {
            tracer: self,
            name,
            kind: Kind::Internal,
            parent,
            origin: None,
            start: None,
            identity: None,
            attributes: &[],
            links: &[],
        }
    }

    /// Whether a span started now could record. Ask each time, before work that is only done for a span.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.lanes.owner().may_record()
    }
}

/// A span that is being described.
///
/// Give attributes and links here rather than later where you can: a sampler sees only these.
#[derive(Clone, Copy, Debug)]
#[must_use = "a span begins with `start`"]
pub struct SpanBuilder<'a> {
    tracer: &'a Tracer,
    name: &'a str,
    kind: Kind,
    parent: Parent<'a>,
    origin: Option<&'a SpanContext>,
    start: Option<SystemTime>,
    identity: Option<&'a SpanContext>,
    attributes: &'a [(Key<'a>, Value<'a>)],
    links: &'a [Link<'a>],
}

/// Whose child a span becomes.
#[derive(Clone, Copy, Debug)]
enum Parent<'a> {
    /// That of the span that is current when it starts.
    Current,
    /// Nobody's: it begins a trace.
    None,
    /// That of this one, which is valid.
    Given(&'a SpanContext),
}

impl<'a> SpanBuilder<'a> {
    /// The kind of the span. Internal by default.
    #[inline]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The parent of the span, in place of the current one. An `Option` without a parent, or one whose ids are not
    /// valid, begins a trace.
    #[inline]
    pub fn parent(mut self, parent: &'a (impl AsParent + ?Sized)) -> Self {
        self.parent = parent.as_parent().filter(|parent| parent.is_valid()).map_or(Parent::None, Parent::Given);
        self
    }

    /// The span begins a trace of its own, with a link to the one that led to it: for work that is done later, or for
    /// many at once.
    #[inline]
    pub fn root_linked_to(mut self, origin: &'a (impl AsParent + ?Sized)) -> Self {
        self.parent = Parent::None;
        self.origin = origin.as_parent();
        self
    }

    /// The span's own ids and trace flags, where it was begun elsewhere and is only recorded here: by a bridge, an
    /// importer. It records whatever the sampling says, if it is sampled and valid; else it is as any other span. The
    /// current span is its parent only if it is another one of the same trace.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use spanring::{Config, Engine, SpanContext};
    /// # fn imported() -> (SpanContext, SystemTime) { (SpanContext::default(), SystemTime::now()) }
    /// # let engine = Engine::start(Config::default())?;
    /// # let tracer = engine.tracer("importer");
    /// let (ids, began) = imported();
    /// tracer.root("GET /").identity(&ids).started_at(began).start().end_at(began + Duration::from_millis(3));
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    #[inline]
    pub fn identity(mut self, identity: &'a SpanContext) -> Self {
        self.identity = Some(identity);
        self
    }

    /// When the span began, if not now.
    #[inline]
    pub fn started_at(mut self, time: SystemTime) -> Self {
        self.start = Some(time);
        self
    }

    /// Attributes that are known at the start.
    #[inline]
    pub fn attributes(mut self, attributes: &'a [(Key<'a>, Value<'a>)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Links that are known at the start.
    #[inline]
    pub fn links(mut self, links: &'a [Link<'a>]) -> Self {
        self.links = links;
        self
    }

    /// Starts the span. Never waits. If the span cannot be recorded, it only carries a context, and the reason is
    /// counted.
    #[inline(always)]
    pub fn start(self) -> Span {
        // What most spans do not have stays out of the way of those that do not have it.
        let is_plain = self.start.is_none() && self.attributes.is_empty() && self.links.is_empty();
        if is_plain && self.origin.is_none() && self.identity.is_none() {
            return self.tracer.begin(self.name, self.kind, self.parent);
        }
        self.start_described()
    }

    #[inline(never)]
    fn start_described(self) -> Span {
        let mut span = match self.identity {
            Some(identity) => self.tracer.begin_known(self.name, self.kind, self.parent, identity),
            None => {
                let details = Details { attributes: self.attributes, links: self.links, origin: self.origin };
                self.tracer.begin_described(self.name, self.kind, self.parent, &details)
            }
        };
        if let Some(time) = self.start {
            span.set_start(Stamp::wall(unix_nanos(time)));
        }
        if span.is_recording() {
            span.set_all(self.attributes.iter().copied());
            self.origin.iter().for_each(|origin| span.link(origin));
            self.links.iter().for_each(|link| span.link_with(link.target, link.attributes.iter().copied()));
        }
        span
    }
}

/// What else a sampler sees of a span that is being described.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details<'a> {
    pub(super) attributes: &'a [(Key<'a>, Value<'a>)],
    pub(super) links: &'a [Link<'a>],
    pub(super) origin: Option<&'a SpanContext>,
}

impl Tracer {
    /// Begins a root or a child. Where the span is described it is known which, so one of the two calls is all that is
    /// left.
    #[inline]
    fn begin(&self, name: &str, kind: Kind, parent: Parent<'_>) -> Span {
        match parent {
            Parent::Current if stack::is_something() => self.begin_under_current(name, kind),
            Parent::Current | Parent::None => self.begin_root(name, kind),
            Parent::Given(parent) => self.begin_child(name, kind, parent),
        }
    }

    #[inline(never)]
    fn begin_under_current(&self, name: &str, kind: Kind) -> Span {
        match stack::parent() {
            None => self.begin_root(name, kind),
            Some(parent) => self.begin_child(name, kind, &parent),
        }
    }

    #[inline(never)]
    fn begin_root(&self, name: &str, kind: Kind) -> Span {
        self.begin_either::<true>(name, kind, None, None)
    }

    #[inline(never)]
    fn begin_child(&self, name: &str, kind: Kind, parent: &SpanContext) -> Span {
        self.begin_either::<false>(name, kind, Some(parent), None)
    }

    #[inline(never)]
    fn begin_described(&self, name: &str, kind: Kind, parent: Parent<'_>, details: &Details<'_>) -> Span {
        let current;
        let parent = match parent {
            Parent::Current => {
                current = stack::parent();
                current.as_ref()
            }
            Parent::None => None,
            Parent::Given(parent) => Some(parent),
        };
        self.begin_either::<false>(name, kind, parent, Some(details))
    }

    /// `IS_ROOT` only tells the compiler apart what it would else keep in one piece, uninlined.
    #[inline(always)]
    fn begin_either<const IS_ROOT: bool>(
        &self,
        name: &str,
        kind: Kind,
        parent: Option<&SpanContext>,
        details: Option<&Details<'_>>,
    ) -> Span {
        let lanes = &*self.lanes;
        match (lanes.owner().start(parent), parent, details) {
            (Start::Plain, ..) => {}
            (Start::NotSampled, Some(parent), _) => return self.begin_unsampled(name, kind, parent),
            (_, _, None) => return self.begin_otherwise(name, kind, parent),
            (_, _, Some(details)) => return self.begin_by_rule(name, kind, parent, details),
        }
        // Plain numbers and one address come out of the thread's state, to be kept in registers; the span is put
        // together at the very end, where it will live. Moved around half-built it would cost more than everything else
        // together.
        let seed = thread_state::at_home(lanes, |state| {
            let ids = state.random.draw(parent.map(SpanContext::trace_halves))?;
            let block = state.lane.pop()?;
            state.lane.teller(lanes).count(Tally::Recording);
            Some((ids, block, state.generation))
        });
        let Some((ids, block, generation)) = seed else {
            return self.begin_kept(name, kind, parent);
        };
        let random = parent.map_or(flags::RANDOM, |parent| parent.trace_flags() & flags::RANDOM);
        self.grow(ids, flags::SAMPLED | random, block, generation, name, kind, parent)
    }

    /// Begins a child of a parent that is not sampled.
    #[inline(never)]
    fn begin_unsampled(&self, name: &str, kind: Kind, parent: &SpanContext) -> Span {
        let ids = thread_state::at_home(&self.lanes, |state| {
            let ids = state.random.draw(Some(parent.trace_halves()))?;
            state.lane.teller(&self.lanes).count(Tally::NotSampled);
            Some(ids)
        });
        match ids {
            Some(ids) => {
                let trace_flags = parent.trace_flags() & flags::RANDOM;
                Span::new(None, 0, SpanContext::local(ids, trace_flags, parent.trace_state().clone()))
            }
            None => self.begin_decided(name, kind, Some(parent), Verdict::Drop),
        }
    }

    /// Begins a span that is sampled, and whose thread has something to fetch first.
    #[inline(never)]
    fn begin_kept(&self, name: &str, kind: Kind, parent: Option<&SpanContext>) -> Span {
        self.begin_decided(name, kind, parent, Verdict::RecordAndSample)
    }

    /// Begins a span of which the settings say whether it records.
    #[inline(never)]
    fn begin_otherwise(&self, name: &str, kind: Kind, parent: Option<&SpanContext>) -> Span {
        self.begin_by_rule(name, kind, parent, &Details::default())
    }

    fn begin_by_rule(&self, name: &str, kind: Kind, parent: Option<&SpanContext>, details: &Details<'_>) -> Span {
        match self.lanes.owner().rule(parent) {
            Rule::Wanted(true) => self.begin_decided(name, kind, parent, Verdict::RecordAndSample),
            Rule::Wanted(false) => self.begin_decided(name, kind, parent, Verdict::Drop),
            Rule::Ask(sampler) => self.begin_asked(sampler, name, kind, parent, details),
        }
    }

    /// Begins a span whose thread may have something to fetch first, or whose ids are not random.
    #[inline(never)]
    fn begin_decided(&self, name: &str, kind: Kind, parent: Option<&SpanContext>, verdict: Verdict) -> Span {
        let verdict = self.unless_closed(verdict);
        // Here and in the seeds, the program's source of ids is asked before a block is taken and counted: it may
        // panic.
        let random = self.random_flags(parent);
        let seed = thread_state::ready(&self.lanes, |state| self.seed(state, parent, verdict));
        // In a signal handler that interrupted the thread in its own state, or while a child settles: without it.
        let (ids, block) = seed.unwrap_or_else(|| self.seed_aside(parent, verdict));
        match block {
            Some(block) => {
                let generation = self.lanes.generation();
                self.grow(ids, flags::SAMPLED | random, block, generation, name, kind, parent)
            }
            None => {
                let trace_state = parent.map_or_else(TraceState::default, |parent| parent.trace_state().clone());
                Span::new(None, 0, SpanContext::local(ids, random, trace_state))
            }
        }
    }

    /// Begins a span whose ids and flags are given; the flags decide whether it records.
    #[cold]
    fn begin_known(&self, name: &str, kind: Kind, parent: Parent<'_>, identity: &SpanContext) -> Span {
        if !identity.is_valid() {
            return self.begin(name, kind, parent);
        }
        let current;
        let parent = match parent {
            Parent::Current => {
                // One of another trace would be no parent, and a bridge may have attached the span itself.
                let is_above = |current: &SpanContext| {
                    current.trace_id() == identity.trace_id() && current.span_id() != identity.span_id()
                };
                current = stack::parent().filter(is_above);
                current.as_ref()
            }
            Parent::None => None,
            Parent::Given(parent) => Some(parent),
        };
        let verdict = if identity.is_sampled() { Verdict::RecordAndSample } else { Verdict::Drop };
        let verdict = self.unless_closed(verdict);
        let seed = thread_state::ready(&self.lanes, |state| self.seed(state, parent, verdict));
        let (_, block) = seed.unwrap_or_else(|| self.seed_aside(parent, verdict));
        let here = |trace_flags| SpanContext::local(identity.ids(), trace_flags, identity.trace_state().clone());
        let Some(mut block) = block else {
            return Span::new(None, 0, here(identity.trace_flags() & !flags::SAMPLED));
        };
        let now = self.lanes.owner().clock.now();
        let (parent, is_remote) = parent.map_or((SpanId::NONE, false), |parent| (parent.span_id(), parent.is_remote()));
        block.open().0.begin_anew(self.scope, kind, now, parent, wire_flags(identity.trace_flags(), is_remote));
        Span::begun_slowly(name, block, self.lanes.generation(), here(identity.trace_flags()))
    }

    /// Makes a span that records of what it got.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "all of them stay in registers")]
    fn grow(
        &self,
        ids: (u64, u64, u64),
        trace_flags: u8,
        mut block: SpanBlock,
        generation: u32,
        name: &str,
        kind: Kind,
        parent: Option<&SpanContext>,
    ) -> Span {
        let trace_state = parent.map_or_else(TraceState::default, |parent| parent.trace_state().clone());
        let now = self.lanes.owner().clock.now();
        let (draft, image, _) = block.open();
        let (parent, is_remote) = parent.map_or((SpanId::NONE, false), |parent| (parent.span_id(), parent.is_remote()));
        draft.begin_anew(self.scope, kind, now, parent, wire_flags(trace_flags, is_remote));
        if !draft.name_short(image, name) || !trace_state.is_empty() {
            return Span::begun_slowly(name, block, generation, SpanContext::local(ids, trace_flags, trace_state));
        }
        Span::new(Some(block), generation, SpanContext::local(ids, trace_flags, trace_state))
    }

    /// An engine that has shut down records nothing.
    #[inline(always)]
    pub(super) fn unless_closed(&self, verdict: Verdict) -> Verdict {
        if self.lanes.owner().is_closed() { Verdict::Drop } else { verdict }
    }

    /// Ids and a block from the thread's own state.
    fn seed(&self, state: &mut ThreadState, parent: Option<&SpanContext>, verdict: Verdict) -> Seed {
        let ids = self.ids(&mut state.random, parent);
        (ids, self.block(state, verdict))
    }

    /// Ids and a block without the thread's own state.
    #[cold]
    #[inline(never)]
    fn seed_aside(&self, parent: Option<&SpanContext>, verdict: Verdict) -> Seed {
        let lanes = &self.lanes;
        let ids = self.ids(&mut lanes.owner().seeds.generator(lanes.generation()), parent);
        (ids, self.block_aside(verdict))
    }

    /// A block from the thread's own state, if the span records; the start is counted.
    #[inline(always)]
    pub(super) fn block(&self, state: &mut ThreadState, verdict: Verdict) -> Option<SpanBlock> {
        let block = if verdict == Verdict::Drop { None } else { state.lane.take() };
        state.lane.teller(&self.lanes).count(self.tally(verdict, block.is_some()));
        block
    }

    /// A block without the thread's own state, if the span records; the start is counted.
    #[cold]
    pub(super) fn block_aside(&self, verdict: Verdict) -> Option<SpanBlock> {
        let lanes = &self.lanes;
        if lanes.needs_settling() {
            lanes.add_unsettled();
            return None;
        }
        let block = if verdict == Verdict::Drop { None } else { lanes.take(Class::First) };
        lanes.seats().shared().count(self.tally(verdict, block.is_some()));
        block
    }

    /// The parent's trace or a new one, and an id of its own; also for spans that do not record (CRE-01).
    #[inline(always)]
    pub(super) fn ids(&self, random: &mut RandomIds, parent: Option<&SpanContext>) -> (u64, u64, u64) {
        let shared = self.lanes.owner();
        let refused = || shared.misuses().happened(Misuse::ZeroId);
        random.draw_from(parent.map(SpanContext::trace_halves), shared.ids.as_deref(), refused)
    }

    /// What is counted for this start. A span that only records is not sampled: nothing more is counted for it.
    #[inline]
    fn tally(&self, verdict: Verdict, has_block: bool) -> Tally {
        match (verdict, has_block) {
            (Verdict::RecordAndSample, true) => Tally::Recording,
            (Verdict::RecordAndSample, false) => Tally::LiveLimit,
            _ if self.lanes.owner().is_closed() => {
                self.lanes.owner().tell_closed();
                Tally::StartedClosed
            }
            _ => Tally::NotSampled,
        }
    }

    /// The random flag of the parent, or that of a new trace.
    #[inline]
    pub(super) fn random_flags(&self, parent: Option<&SpanContext>) -> u8 {
        parent.map_or_else(|| self.random_flag(), |parent| parent.trace_flags() & flags::RANDOM)
    }

    /// The flag that promises seven random bytes in a new trace id (CRE-05).
    #[inline]
    fn random_flag(&self) -> u8 {
        if self.lanes.owner().ids.as_deref().is_none_or(IdSource::is_random) { flags::RANDOM } else { 0 }
    }
}

/// What a new span gets from its thread: the halves of the trace id and the span id, and the block if it records.
type Seed = ((u64, u64, u64), Option<SpanBlock>);
