//! The main job where it can be watched: threads record, the engine exports, and the ledger is held against a
//! collector.

mod json;
mod load;
mod machine;
mod options;
mod report;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, DiagnosticSink, Engine, Export, Health, Resource, StartError, Topic,
    testing::collector::{Collector, Mode},
};

use load::{Done, Load};
use options::{Asked, Options};
use report::Report;

/// What the rest of the spans get at the end to be delivered.
const FLUSH_MAX: Duration = Duration::from_secs(10);
/// The same, when the collector cannot be reached: somebody sits and waits.
const FLUSH_MAX_DOWN: Duration = Duration::from_secs(1);
/// The last word of a worker that has flushed, or has shown that it cannot.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What the command line got wrong, or what the machine would not do.
enum Failure {
    Usage(String),
    Machine(String),
}

/// Runs the demo as the command line says.
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let run = match Options::parse(words) {
        Ok(Asked::Run(options)) => run(&options),
        Ok(Asked::Help) => {
            eprintln!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(Failure::Usage(error)),
    };
    match run {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            eprintln!("spanring: {error}; `spanring demo --help` has the options");
            ExitCode::from(2)
        }
        Err(Failure::Machine(error)) => {
            eprintln!("spanring: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Records, exports and reports.
fn run(options: &Options) -> Result<ExitCode, Failure> {
    let collector = match &options.endpoint {
        Some(_) => None,
        None => Some(collect(options)?),
    };
    let engine = Arc::new(start(options, collector.as_ref())?);
    let begun = Instant::now();
    let done = record(options, &engine).map_err(Failure::Machine)?;
    let recorded = begun.elapsed();
    let flush_max = if matches!(engine.health(), Health::Down(_)) { FLUSH_MAX_DOWN } else { FLUSH_MAX };
    let _what_is_left_is_in_the_receipt_of_the_shutdown = engine.flush(flush_max);
    let delivered = begun.elapsed();
    // Before the shutdown ends the thread whose time is looked at.
    let (stats, engine_cpu, memory) = (engine.stats(), machine::engine_cpu(), machine::memory());
    let mut receipt = engine.shutdown(SHUTDOWN_MAX);
    if !receipt.is_complete() {
        // On a busy machine the engine's thread may come to its last word later than it was asked to: the second call
        // waits for that alone.
        receipt = engine.shutdown(SHUTDOWN_MAX);
    }
    let report = Report {
        options,
        done,
        recorded,
        delivered,
        stats,
        engine_cpu,
        memory,
        uses_counter: engine.uses_counter(),
        ledger: receipt.ledger,
        collected: collector.as_ref().map(Collector::tally),
    };
    // A reader that has gone away wants no report.
    let _ = if options.json {
        writeln!(io::stdout(), "{}", report.json())
    } else {
        io::stderr().write_all(report.text().as_bytes())
    };
    Ok(match report.objection() {
        None => ExitCode::SUCCESS,
        Some(objection) => {
            eprintln!("spanring: {objection}");
            ExitCode::FAILURE
        }
    })
}

fn collect(options: &Options) -> Result<Collector, Failure> {
    let mode = if options.decodes() { Mode::Decode } else { Mode::Count };
    Collector::start(mode).map_err(|error| {
        Failure::Machine(format!("no collector could listen on loopback: {error}; give --endpoint one that runs"))
    })
}

fn start(options: &Options, collector: Option<&Collector>) -> Result<Engine, Failure> {
    let to = match (&options.endpoint, collector) {
        (Some(endpoint), _) => to(endpoint),
        (None, Some(collector)) => Export::to(&collector.url()),
        (None, None) => Export::default(),
    };
    // A program that reads the JSON gets one line on what went wrong, at the end.
    let is_quiet = options.json;
    let diagnostics = DiagnosticSink::new(move |diagnostic| {
        // The driver is in the report.
        if !is_quiet && diagnostic.topic != Topic::Driver {
            eprintln!("{diagnostic}");
        }
    });
    let defaults = Export::default();
    let export = Export {
        driver: options.driver,
        connections_max: options.connections.unwrap_or(defaults.connections_max),
        diagnostics: Some(diagnostics),
        ..to
    };
    let config = Config::default();
    let memory_budget = options.memory_mib.map_or(config.memory_budget, |mib| mib << 20);
    let resource = Resource::service("spanring-demo");
    Engine::start(Config { memory_budget, resource, export: Some(export), ..config }).map_err(|error| match error {
        StartError::Config(error) => Failure::Usage(error.to_string()),
        error => Failure::Machine(error.to_string()),
    })
}

/// An endpoint as people have it at hand: the base URL, or the whole one; the path of a socket stands for itself.
fn to(endpoint: &str) -> Export {
    if endpoint.ends_with("/v1/traces") || endpoint.starts_with("unix:") {
        return Export { endpoint: endpoint.to_owned(), ..Export::default() };
    }
    Export::to(endpoint)
}

/// Runs the threads to their end.
fn record(options: &Options, engine: &Arc<Engine>) -> Result<Done, String> {
    let here = thread::current();
    let workers = (0..options.threads).map(|number| {
        let (engine, here) = (Arc::clone(engine), here.clone());
        let load = Load::share(options, number);
        let work = move || {
            let done = load.run(&engine.tracer("shop"));
            here.unpark();
            done
        };
        thread::Builder::new().name(format!("producer {number}")).spawn(work)
    });
    let workers = workers.collect::<Result<Vec<_>, _>>();
    let workers = workers.map_err(|error| format!("the system refused a thread: {error}; give fewer --threads"))?;
    let mut progress = Progress::new();
    while !workers.iter().all(thread::JoinHandle::is_finished) {
        // It returns early when a worker is done; one that has said so and is not finished yet is looked for soon.
        let is_ending = workers.iter().any(thread::JoinHandle::is_finished);
        thread::park_timeout(if is_ending { Duration::from_millis(1) } else { Duration::from_millis(100) });
        progress.show(engine);
    }
    progress.end();
    let joined = workers.into_iter().map(|worker| worker.join().map_err(|_| "a recording thread panicked".to_owned()));
    joined.sum()
}

/// A line that is written over every second, for people.
struct Progress {
    begun: Instant,
    shown: u32,
    has_reader: bool,
}

impl Progress {
    fn new() -> Self {
        Self { begun: Instant::now(), shown: 0, has_reader: io::stderr().is_terminal() }
    }

    fn show(&mut self, engine: &Engine) {
        if !self.has_reader || self.begun.elapsed() < PROGRESS_EVERY * (self.shown + 1) {
            return;
        }
        self.shown += 1;
        let ledger = engine.ledger();
        let (waiting, lost) = (ledger.live + ledger.queued + ledger.in_flight, ledger.lost.total());
        eprint!(
            "\r{:>4} s  started {}  exported {}  waiting {waiting}  lost {lost}   ",
            self.shown, ledger.started, ledger.exported
        );
    }

    fn end(&self) {
        if self.shown > 0 {
            eprintln!();
        }
    }
}
