//! An outage of the collector: nothing is lost where the sizing formula says so, what is lost where it does not is
//! counted to the span, and the recovery takes one step of the back-off.

use std::{
    thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, DiagnosticSink, Engine, Export, Load, size,
    testing::collector::{Collector, Mode},
};

/// Spans a second.
const RATE: u64 = 1_000;
/// How long the collector is away: `SPANRING_OUTAGE_SECONDS=60` is the long run.
fn outage() -> Duration {
    let seconds = std::env::var("SPANRING_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

const PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait between two attempts.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Records at the rate for so long.
fn record(engine: &Engine, time: Duration) {
    let tracer = engine.tracer("outage");
    let begin = Instant::now();
    let mut spans = 0;
    while begin.elapsed() < time {
        let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * RATE / 1000;
        while spans < due {
            let mut span = tracer.span("GET /orders/{id}").start();
            span.set("order.id", "order-0123456789");
            span.end();
            spans += 1;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn engine(collector: &Collector, memory_budget: usize) -> Engine {
    let export = Export { diagnostics: Some(DiagnosticSink::new(|_| ())), ..Export::to(&collector.url()) };
    Engine::start(Config { export: Some(export), memory_budget, ..Config::default() }).unwrap()
}

#[test]
fn outage_that_the_memory_is_sized_for_loses_nothing() {
    let load = Load {
        peak_rps: RATE as f64,
        spans_per_request: 1.0,
        // A root with a name of sixteen bytes and one attribute.
        record_bytes: 128,
        drain_interval: Duration::from_secs(1),
        outage: outage(),
        live_spans: 10,
    };
    let sized = size(&load).memory_budget;
    let default = Config::default().memory_budget;
    assert!(sized <= default, "the default memory is enough for the outage of this test");
    let mut collector = Collector::start(Mode::Ids).unwrap();
    let engine = engine(&collector, default);
    record(&engine, Duration::from_millis(500));
    collector.stop();
    record(&engine, outage());
    collector.restart().unwrap();
    // No flush here: it would cut the back-off short.
    let before = collector.tally().spans;
    let is_back = collector.wait_for(Instant::now() + STEP_MAX, |tally| tally.spans > before);
    assert!(is_back, "the recovery takes more than a step of the back-off");
    let receipt = engine.shutdown(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!(receipt.ledger.lost.total(), 0, "{receipt:?}");
    let tally = collector.tally();
    // A request whose answer was lost with the collector may be there twice.
    assert_eq!(tally.spans - tally.ids_seen_twice, receipt.ledger.exported);
    assert!(tally.ids_seen_twice == 0 || engine.stats().repeats > 0);
}

#[test]
fn outage_that_the_memory_is_too_small_for_is_counted_to_the_span() {
    let mut collector = Collector::start(Mode::Ids).unwrap();
    let engine = engine(&collector, 2 << 20);
    let tracer = engine.tracer("outage");
    collector.stop();
    // More than the rings hold.
    for _ in 0..20_000 {
        tracer.span("GET /orders/{id}").start().end();
    }
    let full = engine.ledger();
    assert!(full.lost.lane_full > 0 && full.lost.total() == full.lost.lane_full, "{full:?}");
    collector.restart().unwrap();
    let receipt = engine.shutdown(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    let tally = collector.tally();
    assert_eq!(receipt.ledger.lost.total(), receipt.ledger.lost.lane_full);
    assert_eq!(tally.spans - tally.ids_seen_twice, receipt.ledger.exported);
    assert_eq!(receipt.ledger.exported + receipt.ledger.lost.lane_full, 20_000);
}
