//! A shutdown returns by its deadline, whatever the collector does and whoever calls, and its receipt accounts for
//! every span.
//!
//! The promise is the deadline and 50 ms. A busy machine may stop this process for longer, so the tests allow more, and
//! say how long it took, and the longest time that the machine kept a thread that only sleeps. An exit and a child
//! process are in `cases.rs`. For the full proof, an hour and a half a test:
//!
//! `SPANRING_SHUTDOWN_ROUNDS=1000 SPANRING_SHUTDOWN_MILLIS=2000 cargo test --release --test ending -- shutdown_`

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

use std::{
    cell::RefCell,
    panic::{self, catch_unwind},
    sync::{Arc, Mutex, Once},
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, DiagnosticSink, DriverChoice, Engine, Export, Receipt, WorkerChoice};

use crate::holes::{self, GRACE, Hole, NOISE, Times, deadline, holes, rounds};

/// As in `cases.rs`.
pub const CASES: &[(&str, fn())] = &[
    ("shutdown_on_a_plain_thread_keeps_its_deadline", shutdown_on_a_plain_thread_keeps_its_deadline),
    ("shutdown_of_a_polled_engine_keeps_its_deadline", shutdown_of_a_polled_engine_keeps_its_deadline),
    (
        "shutdown_in_a_task_of_a_current_thread_runtime_keeps_its_deadline",
        shutdown_in_a_task_of_a_current_thread_runtime_keeps_its_deadline,
    ),
    (
        "shutdown_in_a_task_of_a_multi_thread_runtime_keeps_its_deadline",
        shutdown_in_a_task_of_a_multi_thread_runtime_keeps_its_deadline,
    ),
    ("shutdown_in_a_panic_hook_keeps_its_deadline", shutdown_in_a_panic_hook_keeps_its_deadline),
    ("dropped_engine_keeps_the_deadline_of_its_configuration", dropped_engine_keeps_the_deadline_of_its_configuration),
    (
        "span_that_waits_between_two_requests_is_counted_at_the_deadline",
        span_that_waits_between_two_requests_is_counted_at_the_deadline,
    ),
];

/// More than a batch: some are in a request, some are not.
const SPANS: u64 = 700;
/// Time for a request, so long that a shutdown that waits for one is found out.
const TIMEOUT: Duration = Duration::from_secs(60);

// ---- Rounds.

/// One shutdown.
#[derive(Debug)]
struct Round {
    receipt: Receipt,
    elapsed: Duration,
}

/// An engine with spans for this hole, some of them on their way.
fn engine(hole: &Hole, round: usize, worker: WorkerChoice) -> Engine {
    let driver = if round.is_multiple_of(2) { DriverChoice::Auto } else { DriverChoice::Poll };
    let quiet = Some(DiagnosticSink::new(|_| ()));
    let url = format!("http://{}", hole.address);
    let export = Export { timeout: TIMEOUT, driver, batch_spans_max: 512, diagnostics: quiet, ..Export::to(&url) };
    let config = Config { memory_budget: 4 << 20, lanes: Some(4), export: Some(export), worker, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    (0..SPANS).for_each(|_| tracer.span("work").start().end());
    if round % 4 >= 2 {
        // A request is out when the shutdown begins, in every other pair of rounds.
        let flushed = engine.flush(Duration::from_millis(10));
        assert!(!flushed.is_complete() && flushed.exported == 0, "{flushed:?}");
    }
    engine
}

fn shut_down(engine: &Engine) -> Round {
    let begun = Instant::now();
    let receipt = engine.shutdown(deadline());
    Round { receipt, elapsed: begun.elapsed() }
}

/// Runs `call` against each hole, again and again, and looks at every receipt.
fn check(place: &str, worker: WorkerChoice, call: impl Fn(Arc<Engine>) -> Round) {
    for hole in holes() {
        let mut times = Times::of(format!("{place}, {}", hole.name));
        for round in 0..rounds() {
            let engine = Arc::new(engine(&hole, round, worker));
            let Round { receipt, elapsed } = call(Arc::clone(&engine));
            times.note(elapsed, receipt.is_complete());
            assert!(receipt.ledger.is_closed(), "{receipt:?}");
            assert_eq!(receipt.ledger.exported, 0, "{receipt:?}");
            // A hole may have read a whole request; what it does with that nobody knows.
            let given_up = receipt.lost.shutdown_deadline + receipt.unconfirmed;
            assert_eq!(given_up + receipt.waiting, SPANS, "{receipt:?}");
            assert!(!receipt.is_complete() || receipt.waiting == 0, "{receipt:?}");
            // A worker that was kept from its last word by the machine has it later.
            let last = engine.shutdown(NOISE);
            assert!(last.is_complete() && last.ledger.is_closed(), "{last:?}");
            let lost = last.ledger.lost;
            assert_eq!(
                (lost.shutdown_deadline + last.ledger.unconfirmed, lost.total()),
                (SPANS, lost.shutdown_deadline)
            );
        }
        let unfinished = times.tell();
        assert!(unfinished * 2 < rounds(), "{place}, {}: {unfinished} receipts are incomplete", hole.name);
    }
}

// ---- Places.

fn shutdown_on_a_plain_thread_keeps_its_deadline() {
    check("thread", WorkerChoice::OwnThread, |engine| thread::spawn(move || shut_down(&engine)).join().unwrap());
}

fn shutdown_of_a_polled_engine_keeps_its_deadline() {
    check("polled", WorkerChoice::Polled, |engine| shut_down(&engine));
}

fn shutdown_in_a_task_of_a_current_thread_runtime_keeps_its_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    check("tokio, one thread", WorkerChoice::OwnThread, |engine| {
        let task = runtime.spawn(async move { shut_down(&engine) });
        runtime.block_on(task).unwrap()
    });
}

fn shutdown_in_a_task_of_a_multi_thread_runtime_keeps_its_deadline() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    check("tokio, two threads", WorkerChoice::OwnThread, |engine| {
        let task = runtime.spawn(async move { shut_down(&engine) });
        runtime.block_on(task).unwrap()
    });
}

thread_local! {
    /// What the hook shuts down if this thread panics.
    static ENDANGERED: RefCell<Option<Arc<Engine>>> = const { RefCell::new(None) };
}

static IN_HOOK: Mutex<Option<Round>> = Mutex::new(None);

fn shutdown_in_a_panic_hook_keeps_its_deadline() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match ENDANGERED.take() {
            Some(engine) => *IN_HOOK.lock().unwrap() = Some(shut_down(&engine)),
            None => before(info),
        }));
    });
    check("panic hook", WorkerChoice::OwnThread, |engine| {
        ENDANGERED.set(Some(engine));
        assert!(catch_unwind(|| panic!("the program's own")).is_err());
        IN_HOOK.lock().unwrap().take().unwrap()
    });
}

fn dropped_engine_keeps_the_deadline_of_its_configuration() {
    for hole in holes() {
        let export = Export {
            timeout: TIMEOUT,
            shutdown_timeout: deadline(),
            diagnostics: Some(DiagnosticSink::new(|_| ())),
            ..Export::to(&format!("http://{}", hole.address))
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        engine.tracer("test").span("work").start().end();
        let begun = Instant::now();
        drop(engine);
        let elapsed = begun.elapsed();
        assert!(elapsed < deadline() + GRACE + NOISE, "{}: {elapsed:?}", hole.name);
    }
}

/// The span that was one too many for a request waits outside of the lanes, and is in no request.
fn span_that_waits_between_two_requests_is_counted_at_the_deadline() {
    const LARGE: u64 = 20;
    let hole = holes::silent();
    let export = Export {
        timeout: TIMEOUT,
        connections_max: 1,
        request_bytes_max: 96 << 10,
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        ..Export::to(&format!("http://{}", hole.address))
    };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    for _ in 0..LARGE {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(40_000).as_str());
        span.end();
    }
    // One request is out and one is ready, with two spans each.
    let begun = Instant::now();
    while engine.flush(Duration::from_millis(10)).ledger.in_flight < 5 && begun.elapsed() < NOISE {}
    let _ = engine.shutdown(Duration::ZERO);
    let receipt = engine.shutdown(NOISE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed() && receipt.waiting == 0, "{receipt:?}");
    assert_eq!(receipt.ledger.lost.shutdown_deadline + receipt.ledger.unconfirmed, LARGE, "{receipt:?}");
}
