//! The export end to end, over real sockets, on every driver: what a collector holds is what the ledger calls exported.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../src/bin/spanring/collector/mod.rs"]
#[allow(dead_code, unused_imports, reason = "this test uses a part of it")]
mod collector;

use std::time::Duration;

use collector::{Collector, Mode};
use spanring::{Compression, Config, DriverChoice, Engine, Export, Health, Kind, Resource};

const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [(DriverChoice, &str); 2] = [(DriverChoice::Uring, "uring"), (DriverChoice::Poll, "poll")];

fn engine(collector: &Collector, driver: DriverChoice) -> Engine {
    let export = Export { driver, ..Export::to(&collector.url()) };
    Engine::start(Config { export: Some(export), resource: Resource::service("shop"), ..Config::default() }).unwrap()
}

fn record(engine: &Engine, spans: usize) {
    let tracer = engine.tracer("test");
    for number in 0..spans {
        let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
        span.set("order.id", i64::try_from(number).unwrap());
        span.end();
    }
}

#[test]
fn flush_delivers_what_has_ended_before_it() {
    for (driver, name) in DRIVERS {
        let collector = Collector::start(Mode::Decode).unwrap();
        let engine = engine(&collector, driver);
        for round in 1..=3 {
            record(&engine, 1500);
            let receipt = engine.flush(PATIENCE);
            assert!(receipt.is_complete, "{receipt:?}");
            assert_eq!((receipt.ledger.exported, receipt.lost.total(), receipt.waiting), (round * 1500, 0, 0));
            assert_eq!(collector.tally().spans, round * 1500);
        }
        assert_eq!(engine.health(), Health::Healthy);
        let stats = engine.stats();
        assert_eq!(stats.driver, name, "{}", stats.driver_reason);
        assert_eq!(stats.requests, 9);
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!(receipt.ledger.exported, 4500);
    }
}

#[test]
fn compressed_requests_arrive_whole() {
    let collector = Collector::start(Mode::Decode).unwrap();
    let export = Export { compression: Compression::Gzip, ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    record(&engine, 2000);
    assert!(engine.shutdown(PATIENCE).is_complete);
    assert_eq!(collector.tally().spans, 2000);
}
