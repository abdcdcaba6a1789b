//! What the recording threads of an engine share: its lanes, limits, clock, ids, scopes, and whether it still records.

use super::{
    ids::{IdSource, Seeds},
    misuse::Misuses,
    scope::ScopeTable,
};
use crate::{
    clock::Clock,
    context::SpanContext,
    lane::{Block, Class, Lanes},
    notice::{self, Notice},
    record::{Draft, ShortLimits, SpanLimits},
    sync::{AtomicU32, Ordering::Relaxed},
};

/// The lanes of an engine, with what its recording threads share: tracers and spans keep them alive.
pub(crate) type SpanLanes = Lanes<Shared, Draft>;

/// The memory of an open span.
pub(super) type SpanBlock = Block<Shared, Draft>;

// A record is copied out of its image rounded up to eight bytes.
const _: () = assert!((Class::First.bytes() - SpanBlock::HEAD_LEN).is_multiple_of(8), "an image has whole words");
const _: () = assert!((Class::Last.bytes() - SpanBlock::HEAD_LEN).is_multiple_of(8), "an image has whole words");

/// Which spans record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// As the parent's sampled flag says. Spans without a parent record.
    #[default]
    ParentBased,
    /// As the parent's sampled flag says. Spans without a parent do not record (`parentbased_always_off`).
    ParentOnly,
    /// Every span records.
    AlwaysOn,
    /// No span records. Spans still get ids and contexts.
    AlwaysOff,
}

/// What open spans need of their engine. Written at start, read by every thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) clock: Clock,
    pub(super) limits: SpanLimits,
    pub(super) short_limits: ShortLimits,
    pub(super) sampling: Sampling,
    pub(super) ids: Option<Box<dyn IdSource>>,
    pub(super) seeds: Seeds,
    pub(super) scopes: ScopeTable,
    /// [`ALL_RECORD`], [`AS_PARENT`], [`OTHERWISE`] or [`CLOSED`]: the settings and the switch, in one look. Written at
    /// start and by the shutdown, read by every start.
    starts: AtomicU32,
    /// That spans are lost because the engine has shut down.
    closed: Notice,
    /// Apart, so that what every start looks at stays together.
    misuses: Box<Misuses>,
}

/// What a start leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// A span that records, with random ids.
    Plain,
    /// A span that does not record, with random ids, under a parent that is not sampled.
    NotSampled,
    /// The settings, or the shutdown, say what.
    Other,
}

/// Every span records, with random ids.
const ALL_RECORD: u32 = 0;
/// Roots and children of sampled parents record, with random ids.
const AS_PARENT: u32 = 1;
/// Look at the settings. `ParentOnly`, which is rare, has no number of its own: each start under `ParentBased` that
/// does not record would pay for one more branch.
const OTHERWISE: u32 = 2;
/// The engine has shut down.
const CLOSED: u32 = 3;

impl Shared {
    /// For an engine that records.
    #[must_use]
    pub(crate) fn new(clock: Clock, limits: SpanLimits, sampling: Sampling, ids: Option<Box<dyn IdSource>>) -> Self {
        let starts = match (&ids, sampling) {
            (None, Sampling::AlwaysOn) => ALL_RECORD,
            (None, Sampling::ParentBased) => AS_PARENT,
            _ => OTHERWISE,
        };
        let short_limits = ShortLimits::of(&limits);
        Self {
            clock,
            limits,
            short_limits,
            sampling,
            ids,
            seeds: Seeds::new(),
            scopes: ScopeTable::default(),
            starts: AtomicU32::new(starts),
            closed: Notice::default(),
            misuses: Box::default(),
        }
    }

    /// The scopes that tracers were made for.
    #[must_use]
    pub(crate) fn scopes(&self) -> &ScopeTable {
        &self.scopes
    }

    /// What was misused with this engine.
    #[must_use]
    pub(crate) fn misuses(&self) -> &Misuses {
        &self.misuses
    }

    /// The clock.
    #[must_use]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes every later start give a span that does not record.
    pub(crate) fn close(&self) {
        // ORDERING: Relaxed. A start that misses it ends in a closed lane, and is counted there.
        self.starts.store(CLOSED, Relaxed);
    }

    /// Whether [`Shared::close`] was called.
    #[inline]
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Relaxed. As in `close`.
        self.starts.load(Relaxed) == CLOSED
    }

    /// Says that spans start or end after [`Shared::close`], and are lost.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_closed(&self) {
        self.closed.say(notice::CLOSED);
    }

    /// What a start under `parent` leads to, in one look.
    #[inline(always)]
    pub(super) fn start(&self, parent: Option<&SpanContext>) -> Start {
        // ORDERING: Relaxed. As in `close`.
        match self.starts.load(Relaxed) {
            ALL_RECORD => Start::Plain,
            AS_PARENT if parent.is_none_or(SpanContext::is_sampled) => Start::Plain,
            AS_PARENT => Start::NotSampled,
            _ => Start::Other,
        }
    }
}
