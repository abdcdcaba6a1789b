//! The last line of an engine: one, whatever it has to tell.

use std::{sync::mpsc, time::Duration};

use spanring::{
    Config, DiagnosticSink, Engine, Export, Topic,
    testing::collector::{Collector, Mode, Plan, Row},
};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an engine says of losses.
type Lines = mpsc::Receiver<String>;

fn engine(url: &str) -> (Engine, Lines) {
    let (said, lines) = mpsc::channel();
    let sink = DiagnosticSink::new(move |line| {
        if line.topic == Topic::Loss {
            said.send(line.text.clone()).unwrap();
        }
    });
    let export = Export { diagnostics: Some(sink), ..Export::to(url) };
    (Engine::start(Config { export: Some(export), ..Config::default() }).unwrap(), lines)
}

/// All lines of an engine that is dropped: after the last one its sink is dropped too.
fn all(lines: &Lines) -> Vec<String> {
    lines.iter().collect()
}

fn record(engine: &Engine, spans: usize) {
    let tracer = engine.tracer("test");
    (0..spans).for_each(|_| tracer.span("work").start().end());
}

/// A request that is in flight, as there are some in every server that ends.
#[test]
fn spans_that_are_open_at_a_shutdown_are_told_and_their_receipt_is_not_lossless() {
    let collector = Collector::start(Mode::Ids).unwrap();
    let (engine, lines) = engine(&collector.url());
    let open = engine.tracer("test").span("open").start();
    record(&engine, 3);
    let receipt = engine.flush(PATIENCE);
    let line = receipt.to_string();
    assert!(line.starts_with("3 delivered, 0 lost, 0 waiting, 1 still open; complete"), "{line}");
    assert!(receipt.is_lossless(), "a flush is not the end: {line}");
    let receipt = engine.shutdown(PATIENCE);
    let line = receipt.to_string();
    assert!(line.starts_with("0 delivered, 0 lost, 0 waiting, 1 still open; complete"), "{line}");
    assert!(!receipt.is_lossless(), "{line}");
    drop(open);
    let ledger = engine.ledger();
    assert_eq!((ledger.live, ledger.lost.closed), (0, 1), "{ledger:?}");
    drop(engine);
    assert_eq!(all(&lines), ["1 span is still open and will be lost: end spans before the shutdown"]);
}

#[test]
fn spans_that_a_shutdown_loses_are_told_in_one_line() {
    let hole = Row::named("black_hole_that_reads_all").start(Plan::forever(), Mode::Ids).unwrap();
    for (spans, told) in [
        (3, "3 spans were not delivered when the engine shut down"),
        (1, "1 span was not delivered when the engine shut down"),
    ] {
        let (engine, lines) = engine(&hole.collector.url());
        record(&engine, spans);
        let _ = engine.shutdown(Duration::ZERO);
        drop(engine);
        assert_eq!(all(&lines), [told]);
    }
}

#[test]
fn one_span_is_told_of_in_the_singular() {
    let stand = Row::named("status_400").start(Plan::forever(), Mode::Ids).unwrap();
    let (engine, lines) = engine(&stand.collector.url());
    record(&engine, 1);
    drop(engine);
    let lines = all(&lines);
    assert!(lines[0].starts_with("1 span was refused with status 400"), "{lines:?}");
    assert_eq!(lines[1..], ["1 of 1 span lost: 1 as rejected"]);
}

#[test]
fn last_line_has_all_that_was_lost() {
    let (engine, lines) = engine("http://127.0.0.1:9");
    record(&engine, 2);
    let open = engine.tracer("test").span("open").start();
    // Closed, but not shut down: this one is lost at once.
    while !engine.close() {}
    record(&engine, 1);
    let _ = engine.shutdown(Duration::ZERO);
    drop(engine);
    drop(open);
    let line = "2 spans were not delivered when the engine shut down; 3 of 4 spans lost: 1 as closed, 2 as \
        shutdown_deadline; 1 span is still open and will be lost: end spans before the shutdown";
    assert_eq!(all(&lines), [line]);
}
