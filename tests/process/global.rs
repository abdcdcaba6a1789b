//! The engine of the process. There is one, for ever, so that each step happens in a child, or in this order.

use spanring::{Config, StartError, early_spans, init_with, testing::finished, tracer};

use crate::alone;

/// API-03: safe before the start and after the shutdown; tracers may be taken anywhere.
#[test]
fn api_03_global_engine_begins_once_and_what_misses_it_is_counted() {
    let _alone = alone();
    let early = tracer("early");
    assert!(!early.is_enabled());
    let span = early.span("lost").start();
    assert!(!span.is_recording() && span.context().is_valid());
    drop(span);
    assert_eq!(early_spans(), 1);

    let global = init_with(Config::default()).unwrap();
    let shop = tracer("shop");
    shop.in_span("work", |span| span.set("items", 3));
    early.span("still early").start().end();
    assert_eq!(early_spans(), 2);
    let spans = finished(&global);
    assert_eq!((spans.len(), spans[0].name.as_str(), spans[0].scope.name.as_str()), (1, "work", "shop"));

    let error = init_with(Config::default()).unwrap_err();
    assert!(matches!(error, StartError::AlreadyInitialised));
    assert!(error.to_string().contains("call `init` once"), "{error}");

    let _ = global.shutdown(std::time::Duration::ZERO);
    assert!(!tracer("late").is_enabled());
    tracer("late").span("late").start().end();
    shop.span("late").start().end();
    assert_eq!((global.ledger().lost.closed, early_spans()), (2, 2));
    drop(global);
    tracer("later").span("later").start().end();
    assert!(init_with(Config::default()).is_err(), "a process has one");
}
