//! A worker that has nothing to do uses no processor, whatever it waits for. One test, because it looks at the whole
//! process.

#![cfg(target_os = "linux")]

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export,
    testing::collector::{Collector, Mode, Plan, Row, Stand},
};

use crate::own_process;

/// How long the worker is watched: a hundred ticks of the kernel's account, which are 10 ms each.
const WATCH: Duration = Duration::from_secs(1);
/// Ticks that it may take; in a loop without a wait it takes nearly all.
const TICKS_MAX: u64 = 15;

/// The workers of this process, by the number of their thread, and the processor time of each up to now, in ticks.
fn workers() -> BTreeMap<u32, u64> {
    let stats = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("stat"));
    let of_workers = stats.filter_map(|stat| fs::read_to_string(stat).ok()).filter(|stat| stat.contains("(spanring)"));
    of_workers
        .map(|stat| {
            let (thread, _) = stat.split_once(' ').unwrap();
            // The fields after the name: the 12th and the 13th are the times in user and in kernel mode.
            let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            (thread.parse().unwrap(), fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
        })
        .collect()
}

/// What a worker waits for.
const CASES: [Option<&str>; 4] = [
    // The next span.
    None,
    // An answer, with the next request ready and more in the lanes.
    Some("black_hole_that_reads_all"),
    // The end of a wait that the collector has asked for.
    Some("retry_after_a_year"),
    // A collector that is not there.
    Some("closed_port"),
];

/// A worker that has come to wait.
struct Waiting {
    case: String,
    engine: Engine,
    stand: Option<Stand>,
}

#[test]
fn worker_that_waits_uses_no_processor() {
    own_process::run("quiet::worker_that_waits_uses_no_processor", || {
        let healthy = Collector::start(Mode::Ids).unwrap();
        let cases = CASES.into_iter().flat_map(|case| [(case, DriverChoice::Uring), (case, DriverChoice::Poll)]);
        let all: Vec<_> = cases.map(|(case, driver)| start(case, driver, &healthy)).collect();
        // A flush that is not done keeps the worker asked.
        thread::scope(|scope| {
            for Waiting { case, engine, stand, .. } in &all {
                let deadline = Duration::from_secs(if stand.is_none() { 20 } else { 1 });
                scope.spawn(move || assert_eq!(engine.flush(deadline).is_complete(), stand.is_none(), "{case}"));
            }
        });
        let before = workers();
        // Nothing that is waited for here comes; a signal from another thread would be one.
        assert!(!healthy.wait_for(Instant::now() + WATCH, |_| false));
        let after = workers();
        assert_eq!((before.len(), after.len()), (all.len(), all.len()), "each engine has one worker");
        // Threads are numbered in the order of their start.
        for (Waiting { case, engine, .. }, (thread, now)) in all.iter().zip(after) {
            let used = now - before[&thread];
            assert!(used <= TICKS_MAX, "{case}: {used} ticks of {WATCH:?}");
            let _ = engine.shutdown(Duration::ZERO);
        }
    });
}

fn start(case: Option<&str>, driver: DriverChoice, healthy: &Collector) -> Waiting {
    let stand = case.map(|name| Row::named(name).start(Plan::forever(), Mode::Ids).unwrap());
    let collector = stand.as_ref().map_or(healthy, |stand| &stand.collector);
    let export = Export {
        driver,
        connections_max: 1,
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        ..Export::to(&collector.url())
    };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    // More than half of a ring, so that a writer finds reason to ring.
    (0..50_000).for_each(|_| tracer.span("work").start().end());
    Waiting { case: format!("{case:?} by {driver:?}"), engine, stand }
}
