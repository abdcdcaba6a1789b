//! Records a small shop on a few threads, drains it into memory, and compares the ledger with what came out.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, Engine, Kind, Ledger, Status, Tracer, testing};

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    seconds: u64,
    threads: u64,
    /// Spans a second and thread; zero is as fast as it goes.
    rate: u64,
}

impl Options {
    /// Reads `--name value` pairs.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seconds: 1, threads: 2, rate: 20_000 };
        while let Some(name) = words.next() {
            if name == "--" {
                continue; // as in `cargo demo -- --rate 0`
            }
            let (field, range) = match name.as_str() {
                "--seconds" => (&mut options.seconds, 1..=3600),
                "--threads" => (&mut options.threads, 1..=1024),
                "--rate" => (&mut options.rate, 0..=1_000_000_000),
                _ => return Err(format!("unknown option {name:?}")),
            };
            let value = words.next().ok_or_else(|| format!("{name} wants a number"))?;
            *field = value.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| {
                format!("{name} wants a number from {} to {}, not {value:?}", range.start(), range.end())
            })?;
        }
        Ok(options)
    }
}

/// Runs the demo; fails when a span is in no column of the ledger, or in two.
pub fn run(options: Options) -> ExitCode {
    let engine = match Engine::start(Config::default()) {
        Ok(engine) => Arc::new(engine),
        Err(error) => {
            eprintln!("spanring: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..options.threads)
        .map(|_| {
            let (engine, stop) = (Arc::clone(&engine), Arc::clone(&stop));
            thread::spawn(move || work(&engine.tracer("shop"), options.rate, &stop))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (mut decoded, mut failed) = (0u64, 0u64);
    let mut collect = || {
        for span in testing::finished(&engine) {
            decoded += 1;
            failed += u64::from(span.status_code == 2);
        }
    };
    while Instant::now() < end {
        collect();
        thread::park_timeout(Duration::from_millis(1));
    }
    // ORDERING: Relaxed. A worker that learns of it late makes a request more; joining it makes its counts visible.
    stop.store(true, Relaxed);
    let cpu: Duration = workers.into_iter().filter_map(|worker| worker.join().ok()).sum();
    collect();
    report(&engine, cpu, decoded, failed)
}

/// One request after the other: a root with attributes, two children, an event, and now and then an error.
fn work(tracer: &Tracer, rate: u64, stop: &AtomicBool) -> Duration {
    const SPANS: u64 = 3;
    let start = Instant::now();
    let mut busy = Duration::ZERO;
    let mut requests = 0u64;
    // ORDERING: Relaxed. As where it is stored.
    while !stop.load(Relaxed) {
        let ahead =
            rate > 0 && requests * SPANS > u64::try_from(start.elapsed().as_micros()).unwrap_or(0) * rate / 1_000_000;
        if ahead {
            thread::park_timeout(Duration::from_millis(1));
            continue;
        }
        let from = Instant::now();
        let mut root = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
        root.set("http.request.method", "GET");
        root.set("order.id", requests);
        root.set("cache.hit", !requests.is_multiple_of(3));
        for name in ["load", "render"] {
            let mut child = tracer.span(name).parent(root.context()).start();
            child.set("rows", 12);
            child.event("cache.miss", [("cache.key", "order")]);
            child.end();
        }
        if requests.is_multiple_of(100) {
            root.status(Status::Error("out of stock"));
        }
        root.end();
        busy += from.elapsed();
        requests += 1;
    }
    busy
}

fn report(engine: &Engine, busy: Duration, decoded: u64, failed: u64) -> ExitCode {
    let ledger = engine.ledger();
    let Ledger { started, not_sampled, live, queued, drained, lost, .. } = ledger;
    let clock = if engine.uses_counter() { "the core's counter" } else { "the kernel's monotonic clock" };
    let each = busy.as_nanos().checked_div(u128::from(started.max(1))).unwrap_or(0);
    eprintln!("clock        {clock}");
    eprintln!("started      {started:>12}   {each} ns each, on the threads' wall clocks, with attributes and events");
    eprintln!("not sampled  {not_sampled:>12}");
    eprintln!("live         {live:>12}");
    eprintln!("queued       {queued:>12}");
    eprintln!("drained      {drained:>12}   decoded {decoded}, {failed} of them errors");
    eprintln!("lost         {:>12}   {lost:?}", lost.total());
    if ledger.is_closed() && drained == decoded && live == 0 && queued == 0 {
        eprintln!("the ledger closes: every span is in exactly one column");
        ExitCode::SUCCESS
    } else {
        eprintln!("THE LEDGER DOES NOT CLOSE. This is a bug of spanring: {ledger:?}");
        ExitCode::FAILURE
    }
}
