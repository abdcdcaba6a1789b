//! What the tests of the routes share: an engine whose words are kept, what has to be true of it in the end, and a
//! proxy.

pub mod proxy;

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, DiagnosticSink, DriverChoice, Engine, Export, Health, Ledger, testing::collector::Collector};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look takes at something that is to change, or at a shutdown that is not to wait.
const WHILE: Duration = Duration::from_millis(150);
pub const DRIVERS: [DriverChoice; 2] = [DriverChoice::Uring, DriverChoice::Poll];
/// The spans of a batch.
pub const SPANS: u64 = 40;

/// An engine that exports, and what it says.
pub struct Service {
    pub engine: Engine,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Service {
    pub fn start(driver: DriverChoice, export: Export) -> Self {
        let lines = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&lines);
        let sink = DiagnosticSink::new(move |said| told.lock().unwrap().push(said.text.clone()));
        let export = Export { driver, diagnostics: Some(sink), ..export };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        Self { engine, lines }
    }

    /// Records [`SPANS`] of some size.
    pub fn record(&self) {
        record(&self.engine);
    }

    /// Why nothing can be delivered, once that is seen.
    pub fn is_down(&self) -> String {
        let late = Instant::now() + PATIENCE;
        loop {
            // It cuts the wait between two attempts short.
            let receipt = self.engine.flush(WHILE);
            if let Health::Down(why) = self.engine.health() {
                return why;
            }
            assert!(Instant::now() < late, "{:?}, {receipt:?}, {:?}", self.engine.health(), self.lines());
        }
    }

    /// All that was recorded arrives, once, and nothing was lost on the way.
    pub fn delivers(&self, collector: &Collector, spans: u64) {
        let receipt = self.engine.flush(PATIENCE);
        assert!(receipt.is_complete(), "{receipt:?}, {:?}", self.lines());
        let ledger = receipt.ledger;
        assert!(ledger.is_closed(), "{ledger:?}");
        assert_eq!((ledger.exported, ledger.lost.total()), (spans, 0), "{:?}", self.lines());
        assert_eq!(collector.tally().spans, spans);
        assert_eq!(self.engine.health(), Health::Healthy);
        assert!(self.engine.shutdown(PATIENCE).is_complete());
    }

    /// All that was recorded has waited up to now, and a shutdown ends in time and counts it as lost.
    pub fn gives_up(&self, spans: u64) {
        let Ledger { lost, unconfirmed, .. } = self.ends(spans);
        assert_eq!((lost.shutdown_deadline, lost.total(), unconfirmed), (spans, spans, 0));
    }

    /// All that was recorded has waited up to now, and a shutdown ends in time, with this account.
    pub fn ends(&self, spans: u64) -> Ledger {
        let ledger = self.engine.ledger();
        assert_eq!((ledger.queued + ledger.in_flight, ledger.lost.total()), (spans, 0), "{:?}", self.lines());
        let receipt = self.engine.shutdown(WHILE);
        assert!(receipt.elapsed < PATIENCE, "{receipt:?}");
        // A worker that gets no processor at its deadline has its account ready a little later.
        let receipt = self.engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed() && receipt.waiting == 0, "{receipt:?}");
        receipt.ledger
    }

    /// It has said, or says soon, a line with all these parts.
    pub fn says(&self, parts: &[&str]) {
        let late = Instant::now() + PATIENCE;
        while !self.lines().iter().any(|line| parts.iter().all(|part| line.contains(part))) {
            assert!(Instant::now() < late, "{parts:?} not in {:#?}", self.lines());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// What it has said.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

pub fn record(engine: &Engine) {
    let tracer = engine.tracer("test");
    for _ in 0..SPANS {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(500).as_str());
        span.end();
    }
}

/// A text names each of these.
pub fn assert_names(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no `{part}` in: {text}"));
}

/// On each driver, at the same time: what takes long here takes no work. Where there is no io_uring both are the other
/// one.
pub fn on_each_driver(run: impl Fn(DriverChoice) + Sync) {
    thread::scope(|scope| {
        for driver in DRIVERS {
            let run = &run;
            scope.spawn(move || run(driver));
        }
    });
}
