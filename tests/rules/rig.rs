//! A small engine for tests that look at one span, and that span as it came out.

use spanring::{
    Config, Engine, Span, SpanLimits,
    testing::{FinishedSpan, finished},
};

/// An engine of these limits: small, because each test starts its own.
pub fn engine(limits: SpanLimits) -> Engine {
    Engine::start(Config { memory_budget: 4 << 20, limits, ..Config::default() }).expect("the configuration is good")
}

/// The one span that has ended. Nothing is lost and nothing is open.
pub fn only(engine: &Engine) -> FinishedSpan {
    let [span] = <[_; 1]>::try_from(finished(engine)).expect("one span has ended");
    let ledger = engine.ledger();
    assert!(ledger.is_closed(), "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.lost.total()), (0, 0, 0), "{ledger:?}");
    span
}

/// A root span as `change` leaves it.
pub fn recorded(limits: SpanLimits, change: impl FnOnce(&mut Span)) -> FinishedSpan {
    let engine = engine(limits);
    let mut span = engine.tracer("rig").span("work").start();
    change(&mut span);
    span.end();
    only(&engine)
}
