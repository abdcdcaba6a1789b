//! Spans from start to drain, through the public API alone.

use spanring::{Config, Engine, Kind, Status, testing};

/// A small one: Miri runs these tests.
fn engine() -> Engine {
    Engine::start(Config { memory_budget: 1 << 20, lanes: Some(2), ..Config::default() }).unwrap()
}

#[test]
fn span_comes_out_as_it_was_recorded() {
    let engine = engine();
    let tracer = engine.tracer("shop");
    let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    span.set("http.request.method", "GET");
    span.set("http.response.status_code", 200);
    span.set("cached", true);
    span.set("ratio", 0.5);
    span.event_with("cache.miss", [("cache.key", "k")]);
    span.status(Status::Error("boom"));
    let child = tracer.span("child").parent(span.context()).start();
    child.end();
    span.end();
    let spans = testing::finished(&engine);
    assert_eq!(spans.len(), 2);
    let root = spans.iter().find(|s| s.name == "GET /orders/{id}").unwrap();
    let child = spans.iter().find(|s| s.name == "child").unwrap();
    assert_eq!(child.parent_id, root.span_id);
    assert_eq!(root.attributes.len(), 4);
    assert_eq!(root.status, Status::Error("boom"));
    assert_eq!(root.events[0].name, "cache.miss");
    let ledger = engine.ledger();
    assert!(ledger.is_closed());
    assert_eq!(ledger.drained, 2);
}

#[test]
fn shared_span_takes_changes_from_all_threads_until_its_end() {
    let engine = engine();
    let tracer = engine.tracer("shop");
    let span = tracer.span("x").start().share();
    let other = span.clone();
    std::thread::scope(|s| {
        s.spawn(|| other.set("a", 1));
        s.spawn(|| span.set("b", "c"));
    });
    span.status(Status::Ok);
    span.rename("y");
    span.end();
    span.set("late", 1);
    let spans = testing::finished(&engine);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "y");
    assert_eq!(spans[0].attributes.len(), 2);
    assert_eq!(spans[0].status, Status::Ok);
}
