//! Ids: random, never zero, fresh after a fork, or from a source that the program plugs in.

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    record::{SpanId, TraceId},
    sync::{AtomicU64, Ordering::Relaxed, fork::ForkWord, ticks},
};

/// A source of ids to use in place of the random ones, for a backend that needs a certain format.
///
/// It runs on the request path. If it locks, allocates or makes a system call, so does every start of a span.
pub trait IdSource: Send + Sync + std::fmt::Debug {
    /// The id of a new trace. An id of zeros is invalid; a random one takes its place.
    fn trace_id(&self) -> TraceId;
    /// The id of a new span. An id of zeros is invalid; a random one takes its place.
    fn span_id(&self) -> SpanId;
    /// Whether the low seven bytes of [`IdSource::trace_id`] are random, which sampling elsewhere may rely on.
    fn is_random(&self) -> bool {
        false
    }
}

/// Random ids of one thread. With 256 bits of state, no two threads of a fleet ever draw the same stream.
#[derive(Debug)]
pub(super) struct RandomIds(Option<Xoshiro256PlusPlus>);

impl RandomIds {
    /// No generator yet.
    pub(super) const fn unseeded() -> Self {
        Self(None)
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

    /// A random number for a sampler; zero without a seed.
    pub(super) fn number(&mut self) -> u64 {
        self.0.as_mut().map_or(0, Xoshiro256PlusPlus::next_u64)
    }

    /// The same for a generator that has a seed, or from the source that is plugged in; `refused` is called for each id
    /// of zeros that it gives.
    pub(super) fn draw_from(
        &mut self,
        trace: Option<(u64, u64)>,
        source: Option<&dyn IdSource>,
        refused: impl Fn(),
    ) -> (u64, u64, u64) {
        debug_assert!(self.0.is_some(), "a thread takes its seed when it turns to an engine");
        let random = self.draw(trace).unwrap_or_default();
        let Some(source) = source else {
            return random;
        };
        let (high, low) = trace.unwrap_or_else(|| {
            let id = source.trace_id();
            if id.is_valid() {
                return id.halves();
            }
            refused();
            (random.0, random.1)
        });
        let id = source.span_id();
        if id.is_valid() {
            return (high, low, id.number());
        }
        refused();
        (high, low, random.2)
    }
}

/// The seeds of an engine's threads, all derived from one that the system gave at the start: a thread's first span may
/// be one in a signal handler, where drawing from the system could look up a function under the loader's lock.
#[derive(Debug)]
pub(super) struct Seeds {
    seed: [u64; 4],
    /// The process that drew the seed.
    generation: u32,
    /// How many were derived. Each thread adds one when it takes its seed.
    derived: AtomicU64,
}

impl Seeds {
    pub(super) fn new() -> Self {
        Self { seed: drawn(), generation: ForkWord::of_process().settle(), derived: AtomicU64::new(0) }
    }

    /// A generator with a seed of its own, for a thread of the process `generation`. A child process derives none,
    /// because its parent derives the same: it draws each, by the function that the parent has looked up.
    pub(super) fn generator(&self, generation: u32) -> RandomIds {
        let seed = if generation == self.generation {
            // ORDERING: Relaxed. Nobody else gets this number, and nothing else is shared.
            self.derived(self.derived.fetch_add(1, Relaxed))
        } else {
            drawn()
        };
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).zip(seed).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        RandomIds(Some(Xoshiro256PlusPlus::from_seed(bytes)))
    }

    /// SplitMix64 in each word, from another start: different numbers give different words, and none shows the seed.
    fn derived(&self, number: u64) -> [u64; 4] {
        self.seed.map(|word| {
            let state = word.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            state ^ (state >> 31)
        })
    }
}

/// A seed from the system.
///
/// On a system without entropy (none that runs a service is known) the address of a local variable and the time are
/// used instead: ids that may collide are better than a service that stops.
fn drawn() -> [u64; 4] {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        let place = std::ptr::from_ref(&seed) as usize as u64;
        return [place, ticks::counter(), ticks::wall_nanos(), 0];
    }
    let mut words = [0; 4];
    words.iter_mut().zip(seed.as_chunks::<8>().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
    words
}

/// One instead of zero, which names nothing.
#[inline(always)]
fn not_zero(number: u64) -> u64 {
    number + u64::from(number == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const THREADS: usize = if cfg!(miri) { 10 } else { 100 };

    #[test]
    fn threads_of_a_process_and_of_its_child_draw_different_ids() {
        let seeds = Seeds::new();
        let child = ForkWord::of_process().settle() + 1;
        let mut seen = BTreeSet::new();
        for generation in [seeds.generation, child] {
            // The child inherits the count as it was.
            // ORDERING: Relaxed. There is one thread.
            seeds.derived.store(0, Relaxed);
            for _ in 0..THREADS {
                let mut generator = seeds.generator(generation);
                let (high, low, span) = generator.draw(None).expect("it has a seed");
                assert!([high, low, span].into_iter().all(|word| seen.insert(word)), "{high:x} {low:x} {span:x}");
            }
        }
    }

    #[test]
    fn derived_seeds_share_no_word() {
        const SEEDS: usize = if cfg!(miri) { 20 } else { 1000 };
        let seeds = Seeds { seed: [1, 2, 3, 4], ..Seeds::new() };
        let words: BTreeSet<u64> = (0..).take(SEEDS).flat_map(|number| seeds.derived(number)).collect();
        assert_eq!(words.len(), 4 * SEEDS);
    }
}
