//! No span costs an allocation after warm-up, whatever state the engine is in: the allocator of this binary counts for
//! each thread.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

#[allow(dead_code, reason = "the benches use the rest")]
mod workload;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::{Future, poll_fn},
    hint::black_box,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{self, Poll, Waker},
    thread,
};

use spanring::{
    Baggage, Config, Context, Engine, Ledger, Sampling, Span, SpanContext, Status, TraceFuture, Tracer, Value,
    current_ids, current_span,
    propagate::{Dropped, b3, baggage, trace_context},
    sample::{
        AlwaysOff, AlwaysOn, AlwaysRecord, Annotating, Composite, ParentBased, ParentThreshold, Probability, RateLimit,
        Rule, RuleBased, TraceIdRatio,
    },
};
use workload::Headers;

struct Counting;

thread_local! {
    /// Calls of the allocator by this thread.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn called() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; the count is a plain cell of the thread, without a
// destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.realloc(at, layout, size) }
    }

    /// Counted too: what is freed on the request path was allocated there, or by another thread for it.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One round of what is offered: its name, how many spans of it record, and the round.
type Workload<'a> = (&'static str, u64, Box<dyn FnMut(&Tracer) + 'a>);

const WARM_UP: usize = 100;
const ROUNDS: usize = 1_000;
/// One ring, which a few rounds fill.
const BUDGET: usize = 4 << 20;

#[test]
fn spans_allocate_nothing_while_the_drain_runs() {
    let engine = engine();
    let is_over = AtomicBool::new(false);
    let recorded = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                engine.drain(|_, _| ());
                thread::yield_now();
            }
        });
        let _over = Over(&is_over);
        with_inputs(|workloads| {
            let mut recorded = 0;
            for workload in workloads {
                check(&engine, workload);
                recorded += workload.1 * rounds();
            }
            recorded
        })
    });
    let ledger = engine.ledger();
    assert_eq!(ledger.queued + ledger.drained + ledger.lost.total(), recorded, "{ledger:?}");
    assert_eq!(ledger.lost.live_limit, 0, "{ledger:?}");
    assert!(ledger.drained > 0, "the drain never came by: {ledger:?}");
}

#[test]
fn spans_allocate_nothing_while_the_drain_is_stalled_and_the_lanes_are_full() {
    let engine = engine();
    let tracer = engine.tracer("test");
    // A ledger sums up the counters of all threads, which takes longer than a span.
    while engine.ledger().lost.lane_full == 0 {
        (0..100).for_each(|_| workload::w0(&tracer));
    }
    with_inputs(|workloads| {
        for workload in workloads {
            let before = engine.ledger().lost.lane_full;
            check(&engine, workload);
            let lost = engine.ledger().lost.lane_full - before;
            assert_eq!(lost, workload.1 * rounds(), "{}: every span finds the lanes full", workload.0);
        }
    });
}

/// With an export whose collector is away: the lanes fill up, and the worker is busy with trying again.
#[test]
fn spans_allocate_nothing_while_a_collector_is_away() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let export = spanring::Export {
        diagnostics: Some(spanring::DiagnosticSink::new(|_| ())),
        shutdown_timeout: std::time::Duration::ZERO,
        ..spanring::Export::to(&format!("http://{nobody}"))
    };
    let config = Config { export: Some(export), memory_budget: 4 << 20, lanes: Some(1), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    with_inputs(|workloads| workloads.iter_mut().for_each(|workload| check(&engine, workload)));
    assert!(engine.ledger().lost.lane_full > 0, "the lanes were full in the end");
}

#[test]
fn spans_allocate_nothing_at_the_live_limit() {
    let engine = engine();
    let open = fill_the_arena(&engine);
    with_inputs(|workloads| {
        for workload in workloads {
            let before = engine.ledger();
            check(&engine, workload);
            let after = engine.ledger();
            assert_eq!(after.live, before.live, "{}: no span finds memory", workload.0);
            // The children of a root that does not record are the sampler's.
            assert!(workload.1 == 0 || after.lost.live_limit - before.lost.live_limit >= rounds(), "{}", workload.0);
        }
    });
    drop(open);
    assert_closed(&engine.ledger());
}

#[test]
fn spans_allocate_nothing_after_the_close() {
    let engine = engine();
    assert!(engine.close());
    with_inputs(|workloads| workloads.iter_mut().for_each(|workload| check(&engine, workload)));
    let ledger = engine.ledger();
    assert_eq!(ledger.started, ledger.lost.closed, "{ledger:?}");
}

/// Each sampler, at roots and children, with what rules look at; also where it writes a threshold into an empty trace
/// state.
#[test]
fn samplers_allocate_nothing() {
    let rules = RuleBased::new()
        .rule(Rule::new().name("GET /health*"), AlwaysOff)
        .rule(Rule::new().attribute("tier", "gold"), Annotating::new(AlwaysOn).with("rule", "gold").with("level", 3))
        .rule(Rule::new(), Probability::new(0.5).unwrap());
    let parts = Composite::new(ParentThreshold::new(rules));
    let ratio = || TraceIdRatio::new(0.5).unwrap();
    let samplers: [Sampling; 5] = [
        ratio().into(),
        ParentBased::new(ratio()).remote_sampled(AlwaysOff).into(),
        AlwaysRecord::new(ratio()).into(),
        ParentBased::new(RateLimit::per_second(1_000)).into(),
        parts.into(),
    ];
    let engine = engine();
    let tracer = engine.tracer("test");
    let gold = [("tier".into(), "gold".into())];
    let round = || {
        let root = tracer.root("GET /cart").attributes(&gold).start();
        drop(tracer.span("below").parent(&root).start());
        drop(tracer.root("GET /health").start());
        drop(tracer.root("other").start());
    };
    for sampler in samplers {
        engine.set_sampler(sampler.clone()).unwrap();
        (0..WARM_UP).for_each(|_| round());
        assert_eq!(calls(|| (0..ROUNDS).for_each(|_| round())), 0, "{}", sampler.description());
    }
}

#[test]
fn shared_span_allocates_once() {
    let engine = engine();
    let tracer = engine.tracer("test");
    let one = || {
        let span = tracer.span("shared").start().share();
        let other = span.clone();
        other.set("key", "value");
        span.event_with("event", [("key", 1)]);
        span.status(Status::Error("boom"));
        other.end();
    };
    one();
    // One allocation at `share`, freed with the last handle.
    assert_eq!(calls(one), 2);
}

#[test]
fn contexts_allocate_nothing_after_the_first_of_a_thread() {
    let engine = engine();
    let tracer = engine.tracer("test");
    let mut work = Box::pin(poll_fn(|_| Poll::<()>::Pending).in_span(tracer.span("work").start()));
    let mut task = task::Context::from_waker(Waker::noop());
    let mut round = || {
        let context = Context::current().with_span_context(SpanContext::default());
        let attached = context.clone().attach();
        context.wrap(|| ())();
        let entered = tracer.span("a").start().enter();
        entered.set("key", "value");
        current_span().event("deep");
        black_box(current_ids());
        tracer.in_span("b", |span| span.set("key", 1));
        assert!(work.as_mut().poll(&mut task).is_pending());
        drop((entered, attached));
    };
    (0..WARM_UP).for_each(|_| round());
    assert_eq!(calls(|| (0..ROUNDS).for_each(|_| round())), 0);
}

/// What is read and written has no memory but that of a trace state or a baggage: a text, and the count of its users.
#[test]
fn propagators_allocate_nothing_of_their_own() {
    let parent = workload::sampled_parent();
    let mut baggage = Baggage::default();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        baggage = baggage.with(name, "été %").unwrap();
    }
    let mut headers = Headers::default();
    let mut written = |inject: &dyn Fn(&mut Headers) -> Dropped| {
        inject(&mut headers);
        assert_eq!(calls(|| assert_eq!(inject(&mut headers), Dropped::default())), 0);
        headers.clone()
    };
    let traceparent = written(&|headers| trace_context::inject(&parent, headers));
    let single = written(&|headers| b3::inject(&parent, headers));
    written(&|headers| b3::inject_multi(&parent, headers));
    let members = written(&|headers| baggage::inject(&baggage, headers));
    assert_eq!(calls(|| assert_eq!(trace_context::extract(&traceparent).as_ref(), Some(&parent))), 0);
    assert_eq!(calls(|| assert!(b3::extract(&single).is_some())), 0);
    assert_eq!(calls(|| drop(baggage::extract(&members))), 4, "two allocations, which are freed again");
    assert_eq!(calls(|| assert!(baggage::extract(&traceparent).0.is_empty())), 0);
    assert_eq!(calls(|| drop(baggage.clone())), 0);
}

#[test]
fn count_notices_one_allocation() {
    assert_eq!(calls(|| drop(black_box(Box::new(1)))), 2);
    assert_eq!(calls(|| ()), 0);
}

/// Says that it is over, also when the test panics: the scope waits for its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs a workload until it is warm, then counts.
fn check(engine: &Engine, workload: &mut Workload<'_>) {
    let (name, _, round) = workload;
    let tracer = engine.tracer("test");
    (0..WARM_UP).for_each(|_| round(&tracer));
    let count = calls(|| (0..ROUNDS).for_each(|_| round(&tracer)));
    assert_eq!(count, 0, "{name}: calls of the allocator in {ROUNDS} rounds");
    assert_closed(&engine.ledger());
}

fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

fn rounds() -> u64 {
    (WARM_UP + ROUNDS) as u64
}

fn engine() -> Engine {
    Engine::start(Config { memory_budget: BUDGET, lanes: Some(1), ..Config::default() }).unwrap()
}

fn assert_closed(ledger: &Ledger) {
    assert!(ledger.is_closed(), "{ledger:?}");
}

/// Open spans until none finds memory.
fn fill_the_arena(engine: &Engine) -> Vec<Span> {
    let tracer = engine.tracer("test");
    let mut open = vec![tracer.span("open").start()];
    while open[open.len() - 1].is_recording() {
        open.push(tracer.span("open").start());
    }
    open
}

fn with_inputs<R>(work: impl FnOnce(&mut [Workload<'_>]) -> R) -> R {
    let order = workload::order();
    let unsampled: SpanContext = workload::unsampled_parent();
    let keys: Vec<String> = (0..32).map(|index| format!("key.{index}")).collect();
    let text = "x".repeat(3_000);
    let mut round = 0;
    let w2 = |tracer: &Tracer| {
        round += 1;
        workload::w2(tracer, &order, round);
    };
    work(&mut [
        ("W0", 1, Box::new(workload::w0)),
        ("W1", 1, Box::new(|tracer| workload::w1(tracer, &order))),
        ("W2", 5, Box::new(w2)),
        ("unsampled child", 0, Box::new(|tracer| workload::unsampled_child(tracer, &unsampled))),
        ("32 attributes", 1, Box::new(|tracer| many_attributes(tracer, &keys))),
        ("overwrite", 1, Box::new(overwrite)),
        ("growth", 1, Box::new(|tracer| growth(tracer, &text))),
        ("too large for any block", 1, Box::new(|tracer| too_large(tracer, &text))),
        ("links, events and a new name", 1, Box::new(rich)),
        ("values of every kind", 1, Box::new(|tracer| values(tracer, &keys, &text))),
    ])
}

fn many_attributes(tracer: &Tracer, keys: &[String]) {
    let mut span = tracer.span("many").start();
    for (key, value) in keys.iter().zip(0_i64..) {
        span.set(key, value);
    }
    span.end();
}

fn overwrite(tracer: &Tracer) {
    let mut span = tracer.span("overwrite").start();
    for value in ["short", "a longer value than before", "", "last"] {
        span.set("key", value);
        span.set("other", 1);
    }
    span.end();
}

/// The span moves to the second size of block, then to the third.
fn growth(tracer: &Tracer, text: &str) {
    let mut span = tracer.span("growth").start();
    span.set("second", &text[..1_000]);
    span.set("third", text);
    drop(span);
}

fn too_large(tracer: &Tracer, text: &str) {
    let parts = [text; 30];
    let mut span = tracer.span("too large").start();
    span.set("kept", 1);
    span.set("dropped", parts);
    span.event_with("dropped", [("parts", &parts)]);
    span.end();
}

/// Formatted, computed and absent values; the last one moves the span to a larger block as it is formatted.
fn values(tracer: &Tracer, keys: &[String], text: &str) {
    let address = SocketAddr::from(([127, 0, 0, 1], 4318));
    let mut span = tracer.span("values").start();
    span.set("string", &keys[0]);
    span.set("strings", keys);
    span.set("absent", None::<&str>);
    span.set("wide", u128::MAX);
    span.set("address", address);
    span.set("lazy", Value::lazy(|| keys.len()));
    span.set("debug", Value::debug(&Some(1.5)));
    span.event_with("event", [("trace", Value::display(&span.context().trace_id())), ("n", Value::Int(1))]);
    span.set("display", Value::display(&format_args!("{text}{address}")));
    span.end();
}

fn rich(tracer: &Tracer) {
    let attributes = [("key".into(), true.into())];
    let target = SpanContext::default();
    let links = [spanring::Link { target: &target, attributes: &attributes }];
    let mut span = tracer.span("rich").attributes(&attributes).links(&links).start();
    for _ in 0..4 {
        span.event_with("event", [("text", "value")]);
        span.event_with("bare", [("", 0); 0]);
    }
    span.rename("a new and longer name of the span");
    span.status(Status::Error("boom"));
    span.status(Status::Ok);
    span.end();
}
