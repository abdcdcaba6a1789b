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
    sample::{Exchange, NotExchanged, Sampling},
};

/// The lanes of an engine, with what its recording threads share: tracers and spans keep them alive.
pub(crate) type SpanLanes = Lanes<Shared, Draft>;

/// The memory of an open span.
pub(super) type SpanBlock = Block<Shared, Draft>;

// A record is copied out of its image rounded up to eight bytes.
const _: () = assert!((Class::First.bytes() - SpanBlock::HEAD_LEN).is_multiple_of(8), "an image has whole words");
const _: () = assert!((Class::Last.bytes() - SpanBlock::HEAD_LEN).is_multiple_of(8), "an image has whole words");

/// What open spans need of their engine. Written at start, read by every thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) clock: Clock,
    pub(super) limits: SpanLimits,
    pub(super) short_limits: ShortLimits,
    pub(super) ids: Option<Box<dyn IdSource>>,
    pub(super) seeds: Seeds,
    pub(super) scopes: ScopeTable,
    /// What is sampled, and whether the engine has shut down: one of the numbers below, or a sampler, in one look.
    starts: Exchange<Sampling>,
    /// That spans are lost because the engine has shut down.
    closed: Notice,
    /// Apart, so that what every start looks at stays together.
    misuses: Box<Misuses>,
    /// That a sampler has panicked, or started a span.
    pub(super) sampler_failed: Notice,
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

/// What the settings say of a start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule<'s> {
    /// The span is sampled, or it is not.
    Wanted(bool),
    /// This sampler is asked.
    Ask(&'s Sampling),
}

/// Every span records, with random ids.
const ALL_RECORD: u32 = 0;
/// Roots and children of sampled parents record, with random ids.
const AS_PARENT: u32 = 1;
/// As the two above, with ids of the program.
const ALL_RECORD_NAMED: u32 = 2;
const AS_PARENT_NAMED: u32 = 3;
/// Children of sampled parents record. It is rare, and not looked for where each start under `AS_PARENT` that does not
/// record would pay for one more branch.
const ONLY_AS_PARENT: u32 = 4;
/// No span records.
const NONE_RECORDS: u32 = 5;
/// The engine has shut down.
const CLOSED: u32 = 6;

/// Samplers of the program that an engine has in its life.
const SAMPLERS_MAX: usize = 64;

impl Shared {
    /// For an engine that records.
    #[must_use]
    pub(crate) fn new(clock: Clock, limits: SpanLimits, sampling: Sampling, ids: Option<Box<dyn IdSource>>) -> Self {
        let short_limits = ShortLimits::of(&limits);
        let shared = Self {
            clock,
            limits,
            short_limits,
            ids,
            seeds: Seeds::new(),
            scopes: ScopeTable::default(),
            starts: Exchange::new(NONE_RECORDS, SAMPLERS_MAX),
            closed: Notice::default(),
            misuses: Box::default(),
            sampler_failed: Notice::default(),
        };
        shared.set_sampling(sampling).expect("the first sampler finds room");
        shared
    }

    /// Samples like this from now on.
    pub(crate) fn set_sampling(&self, sampling: Sampling) -> Result<(), NotExchanged> {
        let next = match (sampling, &self.ids) {
            (Sampling::AlwaysOn, None) => Ok(ALL_RECORD),
            (Sampling::AlwaysOn, Some(_)) => Ok(ALL_RECORD_NAMED),
            (Sampling::ParentBased, None) => Ok(AS_PARENT),
            (Sampling::ParentBased, Some(_)) => Ok(AS_PARENT_NAMED),
            (Sampling::ParentOnly, _) => Ok(ONLY_AS_PARENT),
            (Sampling::AlwaysOff, _) => Ok(NONE_RECORDS),
            (sampler @ Sampling::By(_), _) => Err(sampler),
        };
        self.starts.set(next, CLOSED)
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

    /// Makes every later start give a span that does not record. A start that misses it ends in a closed lane, and is
    /// counted there.
    pub(crate) fn close(&self) {
        self.starts.close(CLOSED);
    }

    /// Whether [`Shared::close`] was called.
    #[inline]
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.starts.number() == CLOSED
    }

    /// Whether a span may record.
    pub(super) fn may_record(&self) -> bool {
        !matches!(self.starts.number(), CLOSED | NONE_RECORDS)
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
        match self.starts.number() {
            ALL_RECORD => Start::Plain,
            AS_PARENT if parent.is_none_or(|parent| parent.leads_to_sampling(true)) => Start::Plain,
            AS_PARENT => Start::NotSampled,
            _ => Start::Other,
        }
    }

    /// What the settings say of a start under `parent`, in one look of its own: it may find other settings than the
    /// one before, which has decided nothing then.
    #[inline(always)]
    pub(super) fn rule(&self, parent: Option<&SpanContext>) -> Rule<'_> {
        match self.starts.get() {
            Ok(ALL_RECORD | ALL_RECORD_NAMED) => Rule::Wanted(true),
            Ok(AS_PARENT | AS_PARENT_NAMED) => Rule::Wanted(parent.is_none_or(|parent| parent.leads_to_sampling(true))),
            Ok(ONLY_AS_PARENT) => Rule::Wanted(parent.is_some_and(|parent| parent.leads_to_sampling(false))),
            Err(Some(sampler)) => Rule::Ask(sampler),
            _ => Rule::Wanted(false),
        }
    }
}
