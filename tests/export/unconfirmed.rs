//! What nobody can know: spans that were sent whole and never answered for are neither delivered nor lost, and spans
//! that were sent again may be there more than once. Over real sockets, by each driver.

#![cfg(unix)]

use std::{
    ops::Range,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export, Receipt, internals,
    testing::collector::{
        Act, Asked, Collector, Connection, Leave, Mode, Pause, Port, Scheduled, Serve, Taken, Turn, on_free_port, serve,
    },
};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [DriverChoice; 2] = [DriverChoice::Uring, DriverChoice::Poll];
const SPANS: u64 = 10;
/// Shutdowns by each driver.
const ROUNDS: u64 = 20;

/// Takes it and closes the connection without an answer.
const CLOSE: Act = Act::Leave(Leave::Close, Taken::Yes);
/// Takes it and says nothing, and keeps the connection open.
const HOLD: Act = Act::Leave(Leave::Hold, Taken::Yes);
/// Takes it, and says as a gateway does that its upstream has not answered in time.
const GATEWAY_TIMEOUT: Act = Act::TakeAndPutOff("504 Gateway Timeout");
const LATER: Act = Act::PutOff("503 Service Unavailable", Pause::Unsaid);

/// An engine and its collector, which does as it is told, request by request.
struct Stand {
    engine: Engine,
    collector: Collector,
    words: Arc<Mutex<Vec<String>>>,
}

impl Stand {
    /// The last act is repeated.
    fn start(driver: DriverChoice, acts: &'static [Act], export: Export) -> Self {
        let last = acts.len() - 1;
        let decide = move |asked: &Asked<'_>| Turn::of(acts[last.min(usize::try_from(asked.number).unwrap())]);
        Self::with(driver, Scheduled::start(decide).unwrap().collector, export)
    }

    fn with(driver: DriverChoice, collector: Collector, export: Export) -> Self {
        let words = Arc::new(Mutex::new(vec![]));
        let said = Arc::clone(&words);
        let export = Export {
            driver,
            connections_max: 1,
            diagnostics: Some(DiagnosticSink::new(move |line| said.lock().unwrap().push(line.text.clone()))),
            endpoint: Export::to(&collector.url()).endpoint,
            ..export
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        Self { engine, collector, words }
    }

    fn record(&self, spans: u64) {
        let tracer = self.engine.tracer("test");
        (0..spans).for_each(|_| tracer.span("work").start().end());
    }

    /// Sends what there is, and waits for the request with this number to arrive whole.
    fn await_request(&self, number: u64) {
        let _ = self.engine.flush(Duration::ZERO);
        let late = Instant::now() + PATIENCE;
        assert!(self.collector.wait_for(late, |tally| tally.requests >= number), "{:?}", self.collector.tally());
    }

    /// Exported, unconfirmed, lost, duplicates at most; and the collector's own count is within what they say.
    fn columns(&self) -> [u64; 4] {
        let ledger = self.engine.ledger();
        assert!(ledger.is_closed() && ledger.queued + ledger.in_flight + ledger.unanswered == 0, "{ledger:?}");
        let taken = self.collector.tally().spans;
        let possible: Range<u64> = ledger.exported..ledger.exported + ledger.unconfirmed + ledger.duplicates_max + 1;
        assert!(possible.contains(&taken), "the collector took {taken}: {ledger:?}");
        [ledger.exported, ledger.unconfirmed, ledger.lost.total(), ledger.duplicates_max]
    }

    fn says(&self, part: &str) -> bool {
        self.words.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

fn is_honest(receipt: &Receipt, unconfirmed: u64) {
    assert!(receipt.is_complete() && !receipt.is_lossless(), "{receipt:?}");
    assert_eq!(receipt.unconfirmed, unconfirmed, "{receipt:?}");
    let line = receipt.to_string();
    assert!(line.contains(&format!("{unconfirmed} unconfirmed")), "{line}");
}

/// It may have counted them all the same.
#[test]
fn request_that_is_never_answered_is_unconfirmed() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[HOLD], Export { timeout: Duration::from_millis(700), ..Export::default() });
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), SPANS);
        let [exported, unconfirmed, lost, _] = stand.columns();
        assert_eq!([exported, unconfirmed, lost], [0, SPANS, 0], "{driver:?}");
        assert!(stand.says("10 spans are unconfirmed"), "{:?}", stand.words);
        assert!(stand.engine.stats().prometheus().contains("spanring_unconfirmed_spans_total 10\n"));
    }
}

/// The first attempt may have arrived, whatever the collector says to the second.
#[test]
fn request_that_is_refused_after_an_unanswered_attempt_is_unconfirmed() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[CLOSE, Act::Refuse], Export::default());
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), SPANS);
        assert_eq!(stand.columns(), [0, SPANS, 0, SPANS], "{driver:?}");
        assert!(stand.says("10 spans are unconfirmed") && stand.says("status 400"), "{:?}", stand.words);
    }
}

/// A gateway does not know what became of what it has passed on, whatever the collector says to the second attempt.
#[test]
fn request_that_is_refused_after_a_gateway_failed_is_unconfirmed() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[GATEWAY_TIMEOUT, Act::Refuse, Act::Take], Export::default());
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), SPANS);
        assert_eq!(stand.columns(), [0, SPANS, 0, SPANS], "{driver:?}");
        assert_eq!(stand.collector.tally().requests, 2, "never again after the refusal");
        assert!(stand.says("10 spans are unconfirmed") && stand.says("status 400"), "{:?}", stand.words);
    }
}

#[test]
fn request_that_a_gateway_fails_until_its_time_is_over_is_unconfirmed() {
    for driver in DRIVERS {
        let export = Export { timeout: Duration::from_millis(700), ..Export::default() };
        let stand = Stand::start(driver, &[GATEWAY_TIMEOUT], export);
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), SPANS);
        let copies = (stand.engine.stats().repeats) * SPANS;
        assert_eq!(stand.columns(), [0, SPANS, 0, copies], "{driver:?}");
        assert!(stand.says("10 spans are unconfirmed") && stand.says("status 504"), "{:?}", stand.words);
    }
}

#[test]
fn request_that_is_taken_after_a_gateway_failed_is_delivered_and_may_be_there_twice() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[GATEWAY_TIMEOUT, Act::Take], Export::default());
        stand.record(SPANS);
        assert!(stand.engine.flush(PATIENCE).is_lossless());
        assert_eq!(stand.columns(), [SPANS, 0, 0, SPANS], "{driver:?}");
        assert_eq!(stand.collector.tally().ids_seen_twice, SPANS);
    }
}

/// The halves may have arrived with the whole.
#[test]
fn halves_of_a_request_that_may_have_arrived_may_have_arrived() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[CLOSE, Act::CallTooLarge, Act::Refuse], Export::default());
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), SPANS);
        assert_eq!(stand.columns(), [0, SPANS, 0, 2 * SPANS], "{driver:?}");
    }
}

/// What the second attempt rejects may be there by the first.
#[test]
fn spans_that_are_rejected_after_an_unanswered_attempt_are_unconfirmed() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[CLOSE, Act::TakeAllBut(3)], Export::default());
        stand.record(SPANS);
        is_honest(&stand.engine.flush(PATIENCE), 3);
        assert_eq!(stand.columns(), [SPANS - 3, 3, 0, SPANS], "{driver:?}");
    }
}

/// An answer of 503 says that the collector does not have it, so there is no doubt and no duplicate.
#[test]
fn request_that_is_sent_again_after_an_answer_is_no_duplicate() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[LATER, Act::Take], Export::default());
        stand.record(SPANS);
        assert!(stand.engine.flush(PATIENCE).is_lossless());
        assert_eq!((stand.columns(), stand.engine.stats().repeats), ([SPANS, 0, 0, 0], 1), "{driver:?}");
    }
}

#[test]
fn request_that_is_taken_after_an_unanswered_attempt_is_delivered_and_may_be_there_twice() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[CLOSE, Act::Take], Export::default());
        stand.record(SPANS);
        assert!(stand.engine.flush(PATIENCE).is_lossless());
        assert_eq!(stand.columns(), [SPANS, 0, 0, SPANS], "{driver:?}");
        assert_eq!(stand.collector.tally().ids_seen_twice, SPANS);
        assert!(stand.engine.stats().prometheus().contains("spanring_duplicate_spans_max_total 10\n"));
    }
}

/// One request is at the collector, and the spans after it are not.
#[test]
fn shutdown_tells_what_was_sent_from_what_was_not() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[HOLD], Export { batch_spans_max: 10, ..Export::default() });
        stand.record(3 * SPANS);
        stand.await_request(1);
        let _ = stand.engine.shutdown(Duration::from_millis(200));
        // A worker that gets no processor at its deadline has its account ready a little later.
        let receipt = stand.engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && !receipt.is_lossless(), "{receipt:?}");
        let sent = stand.collector.tally().spans;
        assert_eq!(stand.columns(), [0, sent, 3 * SPANS - sent, 0], "{driver:?}");
        assert_eq!(receipt.ledger.lost.shutdown_deadline, 3 * SPANS - sent, "{receipt:?}");
        let line = format!("{sent} spans are unconfirmed: sent without the collector's answer, so it may have them");
        assert!(sent > 0 && sent < 3 * SPANS && stand.says(&line), "{:?}", stand.words);
    }
}

/// No time at all is left: the request may go out in the last moment, or not.
#[test]
fn shutdown_at_once_calls_nothing_lost_that_arrives() {
    for driver in DRIVERS {
        for _ in 0..ROUNDS {
            let (end, ended) = mpsc::channel();
            let serve = move |connection: &mut Connection| {
                let result = serve(connection);
                end.send(()).unwrap();
                result
            };
            let serve: Arc<Serve> = Arc::new(serve);
            let any = ([127, 0, 0, 1], 0).into();
            let start = || Collector::start_with(Arc::new(Port::claim(any)?), Mode::Ids, serve.clone());
            let stand = Stand::with(driver, on_free_port(start).unwrap(), Export::default());
            stand.record(SPANS);
            assert!(stand.engine.flush(PATIENCE).is_lossless());
            stand.record(SPANS);
            let _ = stand.engine.shutdown(Duration::ZERO);
            assert!(stand.engine.shutdown(PATIENCE).is_complete());
            ended.recv_timeout(PATIENCE).unwrap();
            stand.columns();
        }
    }
}

/// The next worker knows nothing of the requests of the one before; the counts do.
#[test]
fn worker_that_fails_leaves_its_unanswered_request_unconfirmed_and_its_counts_as_they_were() {
    for driver in DRIVERS {
        let stand = Stand::start(driver, &[CLOSE, Act::Take, HOLD, Act::Take], Export::default());
        stand.record(SPANS);
        assert!(stand.engine.flush(PATIENCE).is_lossless());
        stand.record(SPANS);
        stand.await_request(3);
        let late = Instant::now() + PATIENCE;
        while stand.engine.ledger().unanswered < SPANS && Instant::now() < late {
            let _ = stand.engine.flush(Duration::from_millis(10));
        }
        let ledger = stand.engine.ledger();
        assert_eq!((ledger.unanswered, ledger.in_flight), (SPANS, SPANS), "{ledger:?}");
        internals::fail_worker(&stand.engine);
        let receipt = stand.engine.flush(PATIENCE);
        assert!(receipt.is_complete() && !receipt.is_lossless(), "{receipt:?}");
        assert_eq!(stand.columns(), [SPANS, SPANS, 0, SPANS], "{driver:?}");
        assert!(stand.says("10 spans are unconfirmed (the collector may have them)"), "{:?}", stand.words);
        stand.record(SPANS);
        let receipt = stand.engine.shutdown(PATIENCE);
        assert_eq!((receipt.unconfirmed, receipt.exported, receipt.lost.total()), (0, SPANS, 0), "{receipt:?}");
        assert_eq!(stand.columns(), [2 * SPANS, SPANS, 0, SPANS], "{driver:?}");
        assert_eq!(stand.engine.stats().repeats, 1, "it was counted by the worker before");
    }
}
