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

    /// The trace id's halves and the span id of a new span: its trace as given, or a new one. `None` without a seed.
    #[inline(always)]
    pub(super) fn draw(&mut self, trace: Option<(u64, u64)>) -> Option<(u64, u64, u64)> {
        let generator = self.0.as_mut()?;
        let (high, low) = match trace {
            Some(trace) => trace,
            None => (not_zero(generator.next_u64()), generator.next_u64()),
        };
        Some((high, low, not_zero(generator.next_u64())))
    }

    /// The same for a thread that may have no seed yet, or from the source that is plugged in.
    pub(super) fn draw_from(&mut self, trace: Option<(u64, u64)>, source: Option<&dyn IdSource>) -> (u64, u64, u64) {
        if self.0.is_none() {
            *self = Self::from_system();
        }
        // With a seed there is always a draw.
        let random = self.draw(trace).unwrap_or_default();
        let Some(source) = source else {
            return random;
        };
        let (high, low) = trace.unwrap_or_else(|| {
            let id = source.trace_id();
            if id.is_valid() { id.halves() } else { refused((random.0, random.1)) }
        });
        let id = source.span_id();
        (high, low, if id.is_valid() { id.number() } else { refused(random.2) })
    }
}

/// The random id that stands in for zeros.
fn refused<T>(random: T) -> T {
    Misuse::ZeroId.happened();
    random
}

/// One instead of zero, which names nothing.
#[inline(always)]
fn not_zero(number: u64) -> u64 {
    number + u64::from(number == 0)
}
