//! Ids: random, never zero, fresh after a fork, or from a source that the program plugs in.

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::misuse::Misuse;
use crate::record::{SpanId, TraceId};

/// Gives out ids in place of the random ones, for a backend that wants them its own way.
///
/// It runs on the request path: no lock, no allocation, no system call, or the promises of this library are off.
pub trait IdSource: Send + Sync + std::fmt::Debug {
    /// The id of a new trace. Zeros are refused and replaced by a random id.
    fn trace_id(&self) -> TraceId;
    /// The id of a new span. Zeros are refused and replaced by a random id.
    fn span_id(&self) -> SpanId;
    /// Whether the low seven bytes of [`IdSource::trace_id`] are random, which sampling elsewhere may rely on.
    fn is_random(&self) -> bool {
        false
    }
}

/// Random ids of one thread. Its 256 bits of state make two threads of a fleet meet never, not seldom.
#[derive(Debug)]
pub(super) struct RandomIds(Xoshiro256PlusPlus);

impl RandomIds {
    /// A generator with a seed from the system.
    ///
    /// Where the system has no entropy to give (there is no such system that also runs a service) the address of a local
    /// variable and the time stand in: ids that may collide are better than a service that stops.
    pub(super) fn from_system() -> Self {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            let place = std::ptr::from_ref(&seed) as usize as u64;
            seed[..8].copy_from_slice(&place.to_le_bytes());
            seed[8..16].copy_from_slice(&crate::sync::ticks::counter().to_le_bytes());
        }
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    #[inline]
    pub(super) fn trace_id(&mut self) -> TraceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next().to_ne_bytes());
        id[8..].copy_from_slice(&self.next().to_ne_bytes());
        TraceId(id)
    }

    #[inline]
    pub(super) fn span_id(&mut self) -> SpanId {
        SpanId(self.next().to_ne_bytes())
    }

    #[inline]
    fn next(&mut self) -> u64 {
        loop {
            let number = self.0.next_u64();
            if number != 0 {
                return number;
            }
        }
    }
}

/// Ids of a plugged-in source, or random ones.
#[derive(Debug)]
pub(super) struct Ids<'a> {
    pub(super) random: &'a mut RandomIds,
    pub(super) source: Option<&'a dyn IdSource>,
}

impl Ids<'_> {
    #[inline]
    pub(super) fn trace_id(&mut self) -> TraceId {
        if let Some(id) = self.source.map(IdSource::trace_id) {
            if id.is_valid() {
                return id;
            }
            Misuse::ZeroId.happened();
        }
        self.random.trace_id()
    }

    #[inline]
    pub(super) fn span_id(&mut self) -> SpanId {
        if let Some(id) = self.source.map(IdSource::span_id) {
            if id.is_valid() {
                return id;
            }
            Misuse::ZeroId.happened();
        }
        self.random.span_id()
    }

    /// Whether a new trace id has seven random bytes (CRE-05).
    #[inline]
    pub(super) fn is_random(&self) -> bool {
        self.source.is_none_or(IdSource::is_random)
    }
}
