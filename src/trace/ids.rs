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
pub(super) struct RandomIds(Option<Xoshiro256PlusPlus>);

impl RandomIds {
    /// A generator that takes its seed when it is first asked.
    pub(super) const fn unseeded() -> Self {
        Self(None)
    }

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
        Self(Some(Xoshiro256PlusPlus::from_seed(seed)))
    }

    /// A new trace id in two halves: from the plugged-in source, or random.
    #[inline]
    pub(super) fn trace_halves(&mut self, source: Option<&dyn IdSource>) -> (u64, u64) {
        match source {
            None => (self.next(), self.next()),
            Some(source) => self.given_trace(source.trace_id()),
        }
    }

    /// A new span id: from the plugged-in source, or random.
    #[inline]
    pub(super) fn span_number(&mut self, source: Option<&dyn IdSource>) -> u64 {
        match source {
            None => self.next(),
            Some(source) => self.given_span(source.span_id()),
        }
    }

    #[cold]
    fn given_trace(&mut self, id: TraceId) -> (u64, u64) {
        if id.is_valid() {
            return id.halves();
        }
        Misuse::ZeroId.happened();
        (self.next(), self.next())
    }

    #[cold]
    fn given_span(&mut self, id: SpanId) -> u64 {
        if id.is_valid() {
            return id.number();
        }
        Misuse::ZeroId.happened();
        self.next()
    }

    #[inline]
    fn next(&mut self) -> u64 {
        loop {
            let number = match &mut self.0 {
                Some(generator) => generator.next_u64(),
                None => self.first(),
            };
            if number != 0 {
                return number;
            }
        }
    }

    #[cold]
    fn first(&mut self) -> u64 {
        *self = Self::from_system();
        self.0.as_mut().map_or(0, Xoshiro256PlusPlus::next_u64)
    }
}
