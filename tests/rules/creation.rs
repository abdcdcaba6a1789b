//! The rules for the creation of spans and for their contexts: CRE and API of the specification, at least one test
//! each.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use spanring::{
    Config, Engine, IdSource, Kind, Sampling, Span, SpanContext, SpanId, SpanLimits, Status, TraceId, TraceState,
    Value, testing::finished,
};

use crate::rig::{engine, only, recorded};

const NOTHING: [(&str, Value<'static>); 0] = [];
const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

fn remote(trace_flags: u8, trace_state: &str) -> SpanContext {
    let state = TraceState::new(trace_state).expect("it is valid");
    SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), trace_flags, state)
}

fn sampling(sampling: Sampling) -> Engine {
    Engine::start(Config { memory_budget: 4 << 20, sampling, ..Config::default() }).expect("the configuration is good")
}

// ---- CRE: creation, ids, flags.

/// Ids that count up, and a list of what was asked for.
#[derive(Debug, Default)]
struct CountedIds {
    asked: Arc<Mutex<Vec<&'static str>>>,
    next: AtomicU8,
    is_random: bool,
}

impl IdSource for CountedIds {
    fn trace_id(&self) -> TraceId {
        self.asked.lock().expect("no test panics with it").push("trace");
        TraceId([self.next.fetch_add(1, Relaxed) + 1; 16])
    }

    fn span_id(&self) -> SpanId {
        self.asked.lock().expect("no test panics with it").push("span");
        SpanId([self.next.fetch_add(1, Relaxed) + 1; 8])
    }

    fn is_random(&self) -> bool {
        self.is_random
    }
}

fn counted(sampling: Sampling, is_random: bool) -> (Engine, Arc<Mutex<Vec<&'static str>>>) {
    let ids = CountedIds { is_random, ..CountedIds::default() };
    let asked = Arc::clone(&ids.asked);
    let config = Config { memory_budget: 4 << 20, sampling, ids: Some(Box::new(ids)), ..Config::default() };
    (Engine::start(config).expect("the configuration is good"), asked)
}

#[test]
fn cre_01_dropped_spans_have_ids_of_their_own() {
    for decision in [Sampling::AlwaysOn, Sampling::AlwaysOff] {
        let (engine, asked) = counted(decision, false);
        let tracer = engine.tracer("t");
        let root = tracer.span("root").start();
        let child = tracer.span("child").parent(root.context()).start();
        assert_eq!(*asked.lock().unwrap(), ["trace", "span", "span"], "a child takes the trace of its parent");
        let (root, child) = (root.context(), child.context());
        assert_eq!((root.trace_id(), root.span_id()), (TraceId([1; 16]), SpanId([2; 8])));
        assert_eq!((child.trace_id(), child.span_id()), (TraceId([1; 16]), SpanId([3; 8])));
    }
}

#[test]
fn cre_02_sampled_flag_promises_a_recording_span() {
    let parents = [None, Some(remote(0, "")), Some(remote(SAMPLED, "")), Some(remote(0xFF, ""))];
    for decision in [Sampling::ParentBased, Sampling::ParentOnly, Sampling::AlwaysOn, Sampling::AlwaysOff] {
        let engine = sampling(decision.clone());
        let tracer = engine.tracer("t");
        for is_closed in [false, true] {
            for parent in &parents {
                let mut builder = tracer.span("a");
                if let Some(parent) = parent {
                    builder = builder.parent(parent);
                }
                let span = builder.start();
                let wanted = match decision {
                    Sampling::AlwaysOff => false,
                    Sampling::AlwaysOn => true,
                    Sampling::ParentOnly => parent.as_ref().is_some_and(SpanContext::is_sampled),
                    _ => parent.as_ref().is_none_or(SpanContext::is_sampled),
                };
                assert_eq!(span.is_recording(), wanted && !is_closed, "{decision:?} {parent:?} closed {is_closed}");
                assert_eq!(span.context().is_sampled(), span.is_recording());
                assert!(span.context().is_valid());
            }
            assert!(engine.close());
        }
        assert!(engine.ledger().is_closed());
    }
}

#[test]
fn cre_02_span_without_memory_is_not_sampled() {
    let engine = Engine::start(Config { memory_budget: 1 << 20, lanes: Some(1), ..Config::default() }).unwrap();
    let tracer = engine.tracer("t");
    let spans: Vec<Span> = (0..2000).map(|_| tracer.span("hangs").start()).collect();
    let lost = spans.iter().filter(|span| !span.is_recording()).count();
    assert!(lost > 0);
    assert!(spans.iter().all(|span| span.context().is_sampled() == span.is_recording() && span.context().is_valid()));
    let ledger = engine.ledger();
    assert_eq!((ledger.lost.live_limit, ledger.live), (lost as u64, (spans.len() - lost) as u64));
}

#[test]
fn cre_03_unsampled_spans_are_not_exported() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    tracer.span("dropped").parent(&remote(0, "")).start().end();
    tracer.span("kept").parent(&remote(SAMPLED, "")).start().end();
    assert_eq!(finished(&engine).into_iter().map(|span| span.name).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(engine.ledger().not_sampled, 1);
}

#[test]
fn cre_04_ids_are_random_and_never_meet() {
    const SPANS: usize = if cfg!(miri) { 50 } else { 5000 };
    let engine = sampling(Sampling::AlwaysOff);
    let tracer = engine.tracer("t");
    let mut ids = HashSet::new();
    std::thread::scope(|scope| {
        let start = || (0..SPANS).map(|_| tracer.span("a").start().context().clone()).collect::<Vec<_>>();
        let others = [scope.spawn(start), scope.spawn(start)];
        let threads = others.map(|thread| thread.join().unwrap()).into_iter().chain([start()]);
        for context in threads.flatten() {
            assert!(ids.insert(context.trace_id().0.to_vec()), "trace ids are new");
            assert!(ids.insert(context.span_id().0.to_vec()), "span ids are new");
        }
    });
    assert_eq!(ids.len(), 3 * 2 * SPANS);
}

#[test]
fn cre_04_program_can_plug_in_its_ids() {
    let (engine, _) = counted(Sampling::ParentBased, false);
    engine.tracer("t").span("a").start().end();
    let span = only(&engine);
    assert_eq!((span.trace_id, span.span_id), (TraceId([1; 16]), SpanId([2; 8])));
}

#[test]
fn cre_05_random_flag_is_that_of_the_source_of_the_trace_id() {
    let default = engine(SpanLimits::default());
    assert_eq!(default.tracer("t").span("a").start().context().trace_flags(), SAMPLED | RANDOM);
    for is_random in [false, true] {
        let (engine, _) = counted(Sampling::ParentBased, is_random);
        let root = engine.tracer("t").span("a").start();
        assert_eq!(root.context().trace_flags() & RANDOM != 0, is_random);
        // A child's trace id is not ours: what its maker said of it holds.
        for parent in [remote(SAMPLED, ""), remote(SAMPLED | RANDOM, "")] {
            let child = engine.tracer("t").span("b").parent(&parent).start();
            assert_eq!(child.context().trace_flags(), parent.trace_flags());
        }
    }
}

// ---- API: contexts.

#[test]
fn api_02_tracer_without_a_name_records() {
    let engine = engine(SpanLimits::default());
    engine.tracer("").span("work").start().end();
    let span = only(&engine);
    assert_eq!((span.name.as_str(), span.scope.name.as_str()), ("work", ""));
}

#[test]
fn api_11_span_is_internal_unless_said_otherwise() {
    assert_eq!(recorded(SpanLimits::default(), |_| ()).kind, Kind::Internal);
}

#[test]
fn api_13_each_root_has_a_new_trace() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let first = tracer.span("a").start();
    let second = tracer.span("b").start();
    assert_ne!(first.context().trace_id(), second.context().trace_id());
    assert!(first.context().trace_state().is_empty());
}

#[test]
fn api_13_child_keeps_trace_and_trace_state() {
    let engine = engine(SpanLimits::default());
    let parent = remote(SAMPLED, "b=2,a=1");
    let child = engine.tracer("t").span("a").parent(&parent).start();
    assert_eq!(child.context().trace_id(), parent.trace_id());
    assert_ne!(child.context().span_id(), parent.span_id());
    assert_eq!(child.context().trace_state(), parent.trace_state());
    child.end();
    let child = only(&engine);
    assert_eq!((child.trace_id, child.parent_id), (parent.trace_id(), parent.span_id()));
    assert_eq!(child.trace_state, "b=2,a=1");
}

#[test]
fn api_13_invalid_parent_makes_a_root() {
    let engine = engine(SpanLimits::default());
    let state = TraceState::new("a=1").unwrap();
    let halves = [(TraceId([1; 16]), SpanId::NONE), (TraceId::NONE, SpanId([1; 8])), (TraceId::NONE, SpanId::NONE)];
    for (trace_id, span_id) in halves {
        let parent = SpanContext::remote(trace_id, span_id, SAMPLED, state.clone());
        engine.tracer("t").span("a").parent(&parent).start().end();
        let span = only(&engine);
        assert_eq!((span.parent_id, span.trace_state.as_str()), (SpanId::NONE, ""));
        assert!(span.trace_id.is_valid() && span.trace_id != trace_id);
    }
}

#[test]
fn api_14_ids_print_as_lower_case_hex_of_fixed_length() {
    let context = SpanContext::remote(TraceId([0xAB; 16]), SpanId([0x0C; 8]), 0, TraceState::default());
    assert_eq!(context.trace_id().to_string(), "ab".repeat(16));
    assert_eq!(context.span_id().to_string(), "0c".repeat(8));
    assert_eq!((context.trace_id().0.len(), context.span_id().0.len()), (16, 8));
}

#[test]
fn api_15_context_is_valid_with_both_ids_and_remote_when_it_came_from_outside() {
    for (trace, span) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let context = SpanContext::remote(TraceId([trace; 16]), SpanId([span; 8]), 0, TraceState::default());
        assert_eq!(context.is_valid(), trace + span == 2);
        assert!(context.is_remote());
    }
    let mut last = [0; 16];
    last[15] = 1;
    assert!(TraceId(last).is_valid(), "one bit is enough");
    let engine = engine(SpanLimits::default());
    let child = engine.tracer("t").span("a").parent(&remote(SAMPLED, "")).start();
    assert!(!child.context().is_remote());
}

#[test]
fn api_17_span_that_does_not_record_carries_its_context_and_ignores_the_rest() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let parent = remote(RANDOM, "a=1");
    let mut span = tracer.span("a").parent(&parent).start();
    let context = span.context().clone();
    assert_eq!((context.trace_id(), context.trace_state()), (parent.trace_id(), parent.trace_state()));
    assert!(!span.is_recording());
    span.set("key", 1);
    span.event_with("event", NOTHING);
    span.link_with(&parent, NOTHING);
    span.status(Status::Ok);
    span.rename("b");
    assert_eq!(*span.context(), context);
    span.end();
    let shared = tracer.span("b").parent(&parent).start().share();
    shared.set("key", 1);
    shared.end();
    assert!(!shared.is_recording() && shared.context().is_valid());
    assert_eq!(finished(&engine).len(), 0);
    let ledger = engine.ledger();
    assert!(ledger.is_closed() && ledger.not_sampled == 2, "{ledger:?}");
}

/// API-07: a tracer says whether a span would record.
#[test]
fn api_18_closed_engine_still_gives_spans_that_pass_the_trace_on() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    assert!(tracer.is_enabled());
    assert!(engine.close());
    assert!(!tracer.is_enabled());
    let parent = remote(SAMPLED, "a=1");
    let span = tracer.span("a").parent(&parent).start();
    assert!(!span.is_recording());
    assert_eq!((span.context().trace_id(), span.context().trace_state()), (parent.trace_id(), parent.trace_state()));
    drop(engine);
    assert!(tracer.span("b").start().context().is_valid(), "a tracer outlives its engine");
}
