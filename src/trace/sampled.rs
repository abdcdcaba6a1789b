//! A start of which a sampler of the program decides: it is asked before anything is recorded.

use std::{
    mem,
    panic::{self, AssertUnwindSafe, Location},
};

use super::{
    misuse::{self, Misuse},
    span::Span,
    thread_state,
    tracer::{Details, Tracer},
};
use crate::{
    context::SpanContext,
    notice,
    record::{Kind, SpanId, TraceId, flags, wire_flags},
    sample::{Decision, Sampling, SpanStart, Verdict},
};

/// No process has this generation, so the end of a span that only records gives its block back, and delivers nothing.
const RECORDS_ONLY: u32 = u32::MAX;

impl Tracer {
    /// Begins a span as the sampler says.
    #[inline(never)]
    pub(super) fn begin_asked(
        &self,
        sampler: &Sampling,
        name: &str,
        kind: Kind,
        parent: Option<&SpanContext>,
        details: &Details<'_>,
    ) -> Span {
        let lanes = &self.lanes;
        let random_flags = self.random_flags(parent);
        // The thread's state is free again while the sampler runs, which is code of the program.
        let drawn = thread_state::ready(lanes, |state| {
            // The program's source of ids comes first: it may panic.
            let ids = self.ids(&mut state.random, parent);
            (ids, state.random.number(), mem::replace(&mut state.is_sampling, true))
        });
        let (ids, chance, is_nested) = drawn.unwrap_or_else(|| {
            let mut random = lanes.owner().seeds.generator(lanes.generation());
            (self.ids(&mut random, parent), random.number(), false)
        });
        let start = SpanStart {
            parent,
            trace_id: TraceId::from_halves(ids.0, ids.1),
            trace_flags: random_flags,
            name,
            kind,
            attributes: details.attributes,
            links: details.links,
            origin: details.origin,
            clock: Some(lanes.owner().clock()),
            chance,
        };
        let decision =
            if is_nested { self.as_parent(&start, Misuse::StartedInSampler) } else { self.ask(sampler, &start) };
        let verdict = self.unless_closed(decision.verdict);
        let block = thread_state::ready(lanes, |state| {
            state.is_sampling = is_nested;
            self.block(state, verdict)
        });
        let block = block.unwrap_or_else(|| self.block_aside(verdict));
        let trace_state = decision.trace_state;
        let trace_state = trace_state.or_else(|| parent.map(|parent| parent.trace_state().clone())).unwrap_or_default();
        let (sampled, generation) = match verdict {
            Verdict::RecordAndSample => (flags::SAMPLED, lanes.generation()),
            _ => (0, RECORDS_ONLY),
        };
        let Some(mut block) = block else {
            return Span::new(None, 0, SpanContext::local(ids, random_flags, trace_state));
        };
        let trace_flags = sampled | random_flags;
        let now = lanes.owner().clock().now();
        let (parent, is_remote) = parent.map_or((SpanId::NONE, false), |parent| (parent.span_id(), parent.is_remote()));
        block.open().0.begin_anew(self.scope, kind, now, parent, wire_flags(trace_flags, is_remote));
        let context = SpanContext::local(ids, trace_flags, trace_state);
        let mut span = Span::begun_slowly(name, block, generation, context);
        span.set_all(decision.attributes.iter());
        span
    }

    fn ask<'a>(&self, sampler: &'a Sampling, start: &SpanStart<'a>) -> Decision<'a> {
        match panic::catch_unwind(AssertUnwindSafe(|| sampler.sample(start))) {
            Ok(decision) => decision,
            Err(payload) => {
                // Its drop is code of the program, too.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
                self.as_parent(start, Misuse::SamplerPanicked)
            }
        }
    }

    /// The decision where no sampler makes one.
    #[cold]
    fn as_parent<'a>(&self, start: &SpanStart<'a>, why: Misuse) -> Decision<'a> {
        let shared = self.lanes.owner();
        // Where misuse is to panic this one does not: it would be in the middle of a start.
        let _ = misuse::count(why, Some(shared.misuses()), Location::caller());
        shared.sampler_failed.say(notice::SAMPLER);
        Sampling::ParentBased.sample(start)
    }
}
