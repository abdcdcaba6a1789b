//! The table of faults against the export: each row on each driver, over real sockets, with every span accounted for.
//!
//! Each row has an engine and a collector of its own. The first test lets the collector heal, as the row says, and
//! wants a second batch to arrive whole; the second one leaves it as it is, and wants the engine to end all the same.
//! The table names the rules that each row tests: HTTP-01, HTTP-03, HTTP-05..13, HTTP-15, HTTP-18, EXI-02,
//! EXI-04.

#![cfg(unix)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export, Health,
    testing::collector::{Delivered, Expect, Fault, Mode, Outcome, Plan, ROWS, Resend, Row, SHUTDOWN_DEADLINE, Stand},
};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a peer is left in its fault, where nothing but time ends it.
const WHILE: Duration = Duration::from_millis(300);
/// Rows that are under way at a time. They mostly wait.
const ROWS_AT_A_TIME: usize = 12;
const DRIVERS: [DriverChoice; 2] = [DriverChoice::Uring, DriverChoice::Poll];

type Words = Arc<Mutex<Vec<String>>>;

struct Run {
    row: &'static Row,
    stand: Stand,
    engine: Engine,
    /// Spans of a batch.
    spans: u64,
}

impl Run {
    fn start(row: &'static Row, driver: DriverChoice, plan: Plan, timeout: Duration, words: &Words) -> Self {
        let stand = row.start(plan, Mode::Ids).unwrap();
        let words = Arc::clone(words);
        let diagnostics = DiagnosticSink::new(move |said| words.lock().unwrap().push(said.text.clone()));
        // More than a small window takes, where it matters that not all of the request gets away.
        let is_of_windows = row.name == "black_hole_that_reads_nothing";
        let (spans, connections_max, memory_budget) = if is_of_windows { (200, 1, 16 << 20) } else { (40, 4, 4 << 20) };
        let export = Export {
            driver,
            timeout,
            connections_max,
            diagnostics: Some(diagnostics),
            ..Export::to(&stand.collector.url())
        };
        let engine = Engine::start(Config { export: Some(export), memory_budget, ..Config::default() }).unwrap();
        Self { row, stand, engine, spans }
    }

    fn record(&self) {
        let tracer = self.engine.tracer("test");
        for _ in 0..self.spans {
            let mut span = tracer.span("work").start();
            span.set("fill", "x".repeat(2000).as_str());
            span.end();
        }
    }

    /// What is wrong with what came of the first batch, if something is.
    fn verdict(&self, expect: &Expect) -> Result<(), String> {
        let ledger = self.engine.ledger();
        ensure(ledger.is_closed(), || format!("the ledger does not close: {ledger:?}"))?;
        let delivered = self.stand.delivered();
        expect.verdict(&Outcome {
            accepted: self.spans,
            queued: ledger.queued + ledger.in_flight + ledger.live,
            exported: ledger.exported,
            unconfirmed: ledger.unconfirmed,
            lost: &ledger.lost.by_cause(),
            delivered,
            resends: self.stand.collector.tally().resends,
        })?;
        // Each span as often as it came.
        let taken = self.stand.collector.tally().spans;
        let most = ledger.exported + ledger.unconfirmed + ledger.duplicates_max;
        ensure((ledger.exported..=most).contains(&taken), || format!("{taken} spans were taken: {ledger:?}"))?;
        let repeats = self.engine.stats().repeats;
        ensure(expect.resend != Resend::Forbidden || repeats == 0, || format!("sent again {repeats} times"))?;
        let is_sent_twice = expect.resend == Resend::Required && matches!(self.row.fault, Fault::AtRequest(_));
        ensure(!is_sent_twice || repeats > 0, || "never sent again".into())?;
        let is_met = matches!(self.row.fault, Fault::ClosedPort) || self.stand.met() > 0;
        ensure(is_met, || "the fault was never shown".into())
    }
}

fn ensure(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// The collector heals, and everything goes on.
fn healed(row: &'static Row, driver: DriverChoice, words: &Words) -> Result<(), String> {
    let mut run = Run::start(row, driver, row.plan(), timeout(row), words);
    run.record();
    if let Fault::ClosedPort = row.fault {
        let late = Instant::now() + PATIENCE;
        while !matches!(run.engine.health(), Health::Down(_)) && Instant::now() < late {
            let receipt = run.engine.flush(WHILE);
            let is_kept = !receipt.is_complete() && receipt.waiting == run.spans;
            ensure(is_kept, || format!("nobody was there: {receipt:?}"))?;
        }
        run.stand.collector.restart().unwrap();
    }
    if is_asked_to_stay_away(row) {
        return stays_away(&run);
    }
    let receipt = run.engine.flush(PATIENCE);
    ensure(receipt.is_complete(), || format!("the flush was not done in time: {receipt:?}"))?;
    run.verdict(&row.expect)?;

    let first = (run.stand.delivered(), run.engine.ledger().lost);
    run.record();
    let receipt = run.engine.flush(PATIENCE);
    ensure(receipt.is_complete(), || format!("the second flush was not done in time: {receipt:?}"))?;
    let second = (run.stand.delivered(), run.engine.ledger().lost);
    if row.expect.heals_after.is_some() || row.expect.delivered == Delivered::All {
        let is_whole = second == (first.0 + run.spans, first.1);
        ensure(is_whole, || format!("the second batch is not whole: {first:?}, then {second:?}"))?;
        ensure(run.engine.health() == Health::Healthy, || format!("{:?}", run.engine.health()))?;
    }
    let receipt = run.engine.shutdown(PATIENCE);
    ensure(receipt.is_complete() && receipt.waiting == 0, || format!("{receipt:?}"))?;
    ensure(receipt.ledger.is_closed(), || format!("the ledger does not close: {receipt:?}"))
}

/// The collector wants to be left alone for longer than any test: both batches wait, until the shutdown's deadline.
fn stays_away(run: &Run) -> Result<(), String> {
    let late = Instant::now() + PATIENCE;
    while !matches!(run.engine.health(), Health::Degraded(_)) && Instant::now() < late {
        let receipt = run.engine.flush(WHILE);
        ensure(!receipt.is_complete() && receipt.waiting == run.spans, || format!("it did not wait: {receipt:?}"))?;
    }
    let requests = run.stand.collector.tally().requests;
    run.record();
    let _ = run.engine.shutdown(WHILE);
    let ledger = run.engine.shutdown(PATIENCE).ledger;
    let came = run.stand.collector.tally().requests - requests;
    ensure(came == 0, || "the collector was asked before its time (HTTP-07)".into())?;
    let is_counted = ledger.lost.shutdown_deadline == 2 * run.spans && ledger.is_closed();
    ensure(is_counted, || format!("{ledger:?}"))
}

/// The collector stays as it is: the engine ends in time, and says what was lost.
fn left_alone(row: &'static Row, driver: DriverChoice, words: &Words) -> Result<(), String> {
    let expect = row.expect_without_healing();
    // Short where nothing but time ends it.
    let is_of_time = is_asked_to_stay_away(row) || is_never_answered(row) || expect.resend == Resend::Required;
    let seconds = if is_of_time { 1 } else { 6 };
    let run = Run::start(row, driver, Plan::forever(), Duration::from_secs(seconds), words);
    run.record();
    let deadline = Duration::from_secs(seconds + 1);
    let receipt = run.engine.shutdown(deadline);
    // EXI-02: a bound, and not the patience of whoever waits.
    ensure(receipt.elapsed < deadline + Duration::from_secs(10), || format!("late: {receipt:?}"))?;
    // A worker that gets no processor at its deadline has its account ready a little later.
    let receipt = run.engine.shutdown(PATIENCE);
    ensure(receipt.is_complete() && receipt.waiting == 0, || format!("not ended: {receipt:?}"))?;
    // On a busy machine the time may end at the same moment as the answer comes; then nobody has seen that one.
    let is_late = words.lock().unwrap().iter().any(|line| line.contains("no answer in time"));
    run.verdict(&Expect {
        resend: if expect.resend == Resend::Required { Resend::Allowed } else { expect.resend },
        is_doubtful: expect.is_doubtful || is_of_time && is_late,
        ..expect
    })
}

/// Time for all attempts: short only where it is what the row waits for.
fn timeout(row: &Row) -> Duration {
    if is_never_answered(row) { Duration::from_millis(700) } else { Duration::from_secs(6) }
}

/// Whether nothing but time ends the wait for an answer.
fn is_never_answered(row: &Row) -> bool {
    row.expect.is_doubtful && row.expect.resend == Resend::Forbidden
}

/// Whether the collector wants to be left alone for longer than any time that a batch has.
fn is_asked_to_stay_away(row: &Row) -> bool {
    row.expect.lost == [SHUTDOWN_DEADLINE]
}

fn run_all(run: fn(&'static Row, DriverChoice, &Words) -> Result<(), String>) {
    let only = std::env::var("SPANRING_ROW").ok();
    let jobs: Vec<_> = ROWS
        .iter()
        .filter(|row| only.as_ref().is_none_or(|only| row.name == only))
        .flat_map(|row| DRIVERS.map(|driver| (row, driver)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..ROWS_AT_A_TIME {
            scope.spawn(|| {
                while let Some(&(row, driver)) = jobs.get(next.fetch_add(1, Relaxed)) {
                    let words = Words::default();
                    if let Err(why) = run(row, driver, &words) {
                        let words = words.lock().unwrap().join("\n    ");
                        failures.lock().unwrap().push(format!("{} by {driver:?}: {why}\n    {words}", row.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), jobs.len(), failures.join("\n"));
}

#[test]
fn every_fault_is_survived_and_accounted_for() {
    run_all(healed);
}

#[test]
fn every_fault_that_stays_is_given_up_in_time_and_accounted_for() {
    run_all(left_alone);
}

#[test]
fn table_has_a_cause_for_what_a_shutdown_leaves() {
    let lost = Row::named("closed_port").expect_without_healing().lost;
    assert!(lost.contains(&SHUTDOWN_DEADLINE));
}
