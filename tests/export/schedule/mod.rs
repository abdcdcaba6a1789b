//! A schedule on real sockets: an engine in front of a collector whose connections each do something else, and what has
//! to be true of both in the end.

mod oracle;
mod plan;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use spanring::{
    Compression, Config, DiagnosticSink, DriverChoice, Engine, Export, Ledger,
    testing::collector::{Act, Asked, Ids, Leave, Note, Scheduled, Tally, Turn},
};

pub use self::plan::{Plan, Sight};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look takes at something that is to change, or at a shutdown that is not to wait.
const WHILE: Duration = Duration::from_millis(20);

/// In which way a schedule runs.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub driver: DriverChoice,
    pub compression: Compression,
}

impl Way {
    pub const ALL: [Self; 4] = [
        Self { driver: DriverChoice::Uring, compression: Compression::None },
        Self { driver: DriverChoice::Uring, compression: Compression::Gzip },
        Self { driver: DriverChoice::Poll, compression: Compression::None },
        Self { driver: DriverChoice::Poll, compression: Compression::Gzip },
    ];
}

/// An engine, its collector, and what was recorded.
pub struct Run {
    pub engine: Engine,
    pub stand: Scheduled,
    /// The spans, in the order in which they were recorded.
    pub recorded: Vec<Ids>,
    lines: Arc<Mutex<Vec<String>>>,
    plan: Plan,
}

/// What there is to see when all is over.
pub struct Seen<'a> {
    pub plan: &'a Plan,
    pub recorded: &'a [Ids],
    pub notes: &'a [Note],
    pub ledger: Ledger,
    pub repeats: u64,
    pub tally: Tally,
}

impl Run {
    /// Nothing is recorded yet. The collector does what `decide` says, and the plan says the rest.
    pub fn start(plan: &Plan, way: Way, decide: impl Fn(&Asked<'_>) -> Turn + Send + Sync + 'static) -> Self {
        let stand = Scheduled::start(decide).unwrap();
        let lines = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&lines);
        let export = Export {
            driver: way.driver,
            compression: way.compression,
            timeout: plan.timeout,
            stall_timeout: plan.stall_timeout,
            retry_after_max: plan.retry_after_max,
            connections_max: plan.connections_max,
            batch_spans_max: plan.batch_spans_max,
            diagnostics: Some(DiagnosticSink::new(move |said| told.lock().unwrap().push(said.text.clone()))),
            ..Export::to(&stand.collector.url())
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        Self { engine, stand, recorded: vec![], lines, plan: plan.clone() }
    }

    /// Runs a plan from its first span to its verdict.
    pub fn whole(plan: &Plan, way: Way) -> Result<(), String> {
        let script = plan.connections.clone();
        let mut run = Self::start(plan, way, move |asked| {
            let turns = script.get(usize::try_from(asked.connection).unwrap());
            let turn = turns.and_then(|turns| turns.get(usize::try_from(asked.of_connection).unwrap()));
            turn.copied().unwrap_or(Turn::of(Act::Take))
        });
        for (at, &spans) in plan.waves.iter().enumerate() {
            run.record(spans);
            let _ = run.engine.flush(WHILE);
            if plan.has_outage && at == 0 {
                run.stand.collector.stop();
                let _ = run.engine.flush(WHILE);
                run.stand.collector.restart().unwrap();
            }
        }
        if plan.deadline.is_none() {
            run.settle()?;
        }
        run.end()
    }

    pub fn record(&mut self, spans: u64) {
        let tracer = self.engine.tracer("schedule");
        for _ in 0..spans {
            let mut span = tracer.span("work").start();
            span.set("fill", "x".repeat(self.plan.fill).as_str());
            let context = span.context();
            let ids = [&context.trace_id().0[..], &context.span_id().0[..]].concat();
            self.recorded.push(ids.try_into().unwrap());
            span.end();
        }
    }

    /// Waits until nothing is under way but what the collector holds for ever.
    fn settle(&self) -> Result<(), String> {
        let late = Instant::now() + PATIENCE;
        loop {
            let receipt = self.engine.flush(WHILE);
            if receipt.waiting == self.held() {
                return Ok(());
            }
            if Instant::now() > late {
                return Err(self.complain(&format!("it does not come to an end: {receipt:?}")));
            }
        }
    }

    /// Spans that are never answered for, nor given up by themselves.
    fn held(&self) -> u64 {
        let is_held =
            |note: &Note| self.plan.sight == Sight::Full && matches!(note.turn.act, Act::Leave(Leave::Hold, _));
        self.stand.notes().iter().filter(|note| is_held(note)).map(|note| note.ids.len() as u64).sum()
    }

    /// Ends it, and compares what the ledger says with what the collector saw.
    pub fn end(mut self) -> Result<(), String> {
        let ample = if self.held() > 0 { WHILE } else { PATIENCE };
        let _ = self.engine.shutdown(self.plan.deadline.unwrap_or(ample));
        // A worker that gets no processor at its deadline has its account ready a little later.
        let receipt = self.engine.shutdown(PATIENCE);
        if !receipt.is_complete() {
            return Err(self.complain(&format!("the shutdown does not end: {receipt:?}")));
        }
        self.stand.collector.stop();
        let seen = Seen {
            plan: &self.plan,
            recorded: &self.recorded,
            notes: &self.stand.notes(),
            ledger: self.engine.ledger(),
            repeats: self.engine.stats().repeats,
            tally: self.stand.collector.tally(),
        };
        oracle::judge(&seen).map_err(|why| self.complain(&why))
    }

    pub fn says(&self, part: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(part))
    }

    /// The complaint, and everything that may explain it.
    pub fn complain(&self, why: &str) -> String {
        let notes = self.stand.notes();
        let number = |ids: &Ids| self.recorded.iter().position(|known| known == ids).unwrap_or(usize::MAX);
        let lines: Vec<_> = notes.iter().map(|note| Line { note, start: &notes[0], number: &number }).collect();
        let requests: String = lines.iter().map(|line| format!("\n    {line}")).collect();
        let said = self.lines.lock().unwrap().join("\n    ");
        format!("{why}\n  {:?}\n  {:?}\n  requests:{requests}\n  lines:\n    {said}", self.plan, self.engine.ledger())
    }
}

/// One request in a complaint.
struct Line<'a> {
    note: &'a Note,
    start: &'a Note,
    number: &'a dyn Fn(&Ids) -> usize,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { connection, began, ids, turn, answering, answered, pause_until } = self.note;
        let after = |instant: &Instant| instant.saturating_duration_since(self.start.began).as_micros();
        let [answering, answered, until] =
            [answering, answered, pause_until].map(|instant| instant.as_ref().map(after));
        let [first, last] = [ids.first(), ids.last()].map(|ids| ids.map(self.number));
        write!(f, "connection {connection} at {} µs: spans {first:?} to {last:?}, ", after(began))?;
        write!(f, "{turn:?}, answered from {answering:?} to {answered:?}, pause until {until:?}")
    }
}
