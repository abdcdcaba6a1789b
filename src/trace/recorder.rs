//! What the recording threads share: limits, clock, ids, scopes, and the switch that ends it all.

use super::{ids::IdSource, scope::ScopeTable};
use crate::{
    clock::Clock,
    lane::{Block, Lanes},
    record::{Draft, SpanLimits},
    sync::{AtomicBool, Ordering::Relaxed},
};

/// The lanes of an engine with its recorder: what tracers and spans hold on to.
pub type Core = Lanes<Recorder, Draft>;

/// The memory of an open span.
pub type SpanBlock = Block<Recorder, Draft>;

/// Which spans record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// As the parent's flag says; spans without a parent record.
    #[default]
    ParentBased,
    /// Every span records.
    AlwaysOn,
    /// No span records. Ids and contexts are made all the same.
    AlwaysOff,
}

/// What a span needs from its engine while it is open. Written at start, read by every thread.
#[derive(Debug)]
pub struct Recorder {
    pub(super) clock: Clock,
    pub(super) limits: SpanLimits,
    pub(super) sampling: Sampling,
    pub(super) ids: Option<Box<dyn IdSource>>,
    pub(super) scopes: ScopeTable,
    /// Written by the shutdown, read by every start.
    closed: AtomicBool,
}

impl Recorder {
    /// A recorder that accepts spans.
    #[must_use]
    pub fn new(clock: Clock, limits: SpanLimits, sampling: Sampling, ids: Option<Box<dyn IdSource>>) -> Self {
        Self { clock, limits, sampling, ids, scopes: ScopeTable::default(), closed: AtomicBool::new(false) }
    }

    /// The scopes that tracers were made for.
    #[must_use]
    pub fn scopes(&self) -> &ScopeTable {
        &self.scopes
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes every later start give a span that does not record.
    pub fn close(&self) {
        // ORDERING: Relaxed. A start that misses it ends in a closed lane, and is counted there.
        self.closed.store(true, Relaxed);
    }

    /// Whether [`Recorder::close`] was called.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // ORDERING: Relaxed. As in `close`.
        self.closed.load(Relaxed)
    }
}
