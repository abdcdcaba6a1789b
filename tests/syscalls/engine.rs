//! What the engine asks of the kernel, as strace sees it: calls for each request under load, and calls while nothing
//! happens.
//!
//! Each test starts this binary again for itself alone, under strace; the collector stays here, untraced. The log is
//! read between two marks of the child, and of the thread alone that calls itself `spanring`.

#![cfg(target_os = "linux")]

use std::{
    env, fs,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, DriverChoice, Engine, Export,
    testing::collector::{Collector, Mode},
};

use crate::workload;

/// Says to the child where the collector is.
const ENDPOINT: &str = "SPANRING_TEST_ENDPOINT";
/// Says to the child which driver to use.
const DRIVER: &str = "SPANRING_TEST_DRIVER";
/// The child got another driver than it was told to use.
const NOT_PERMITTED: i32 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

/// One call submits a send and returns with an answer, its own or that of another request: with `--release` it is less
/// than one. Without the optimiser the worker is slow enough to be woken for full rings between the answers, now and
/// then.
#[test]
fn request_costs_about_one_system_call() {
    const NAME: &str = "request_costs_about_one_system_call";
    if env::var(ENDPOINT).is_ok() {
        load();
    }
    let collector = Collector::start(Mode::Count).unwrap();
    let Some(log) = traced(NAME, &collector, "uring") else { return };
    let (calls, requests): (usize, usize) = (log.calls.len(), log.end.parse().unwrap());
    say(&format!("{calls} calls for {requests} requests: {}", log.kinds()));
    // The requests at the marks are counted by one and not by the other.
    assert!(calls <= requests + requests / 4 + 16, "{calls} calls for {requests} requests: {}", log.kinds());
}

#[test]
fn idle_engine_wakes_up_no_more_than_twice_a_second() {
    const NAME: &str = "idle_engine_wakes_up_no_more_than_twice_a_second";
    if env::var(ENDPOINT).is_ok() {
        rest();
    }
    for driver in ["uring", "poll"] {
        let collector = Collector::start(Mode::Count).unwrap();
        let Some(log) = traced(NAME, &collector, driver) else { continue };
        say(&format!("{driver}: {} calls in {} s: {}", log.calls.len(), REST.as_secs(), log.kinds()));
        let waits = log.calls.iter().filter(|call| WAITS.contains(&call.as_str())).count();
        // The first and the last second may each be cut off after a wake.
        let wakes_max = 2 * usize::try_from(REST.as_secs()).unwrap() + 1;
        assert!(waits <= wakes_max, "{driver}: {waits} waits, {wakes_max} at most: {}", log.kinds());
    }
}

#[test]
fn engine_sleeps_while_a_collector_keeps_all_its_connections_waiting() {
    const NAME: &str = "engine_sleeps_while_a_collector_keeps_all_its_connections_waiting";
    if env::var(ENDPOINT).is_ok() {
        stall();
    }
    for driver in ["uring", "poll"] {
        let collector = Collector::start(Mode::Count).unwrap();
        collector.pause();
        let Some(log) = traced(NAME, &collector, driver) else { continue };
        // Generous: a wake for each deadline, and for each visit that the lanes would be due for.
        let calls_max = 100 * usize::try_from(REST.as_secs()).unwrap();
        let calls = log.calls.len();
        assert!(calls <= calls_max, "{driver}: {calls} calls in {} s: {}", REST.as_secs(), log.kinds());
    }
}

/// Not before: a collector that lives and reads nothing for a while is no different to the system.
#[test]
fn kernel_gives_up_a_silent_peer_after_the_time_of_a_request() {
    const NAME: &str = "kernel_gives_up_a_silent_peer_after_the_time_of_a_request";
    if env::var(ENDPOINT).is_ok() {
        connect();
    }
    for driver in ["uring", "poll"] {
        let collector = Collector::start(Mode::Count).unwrap();
        let Some(log) = traced(NAME, &collector, driver) else { continue };
        let limits: Vec<&String> = log.lines.iter().filter(|line| line.contains("TCP_USER_TIMEOUT")).collect();
        assert!(!limits.is_empty(), "{driver}: no connection was made: {}", log.kinds());
        assert!(limits.iter().all(|line| line.contains("[10000]")), "{driver}: {limits:?}");
    }
}

/// What the engine's thread called between the marks.
struct Log {
    calls: Vec<String>,
    /// The calls as they are in the log.
    lines: Vec<String>,
    /// What the child had to say at the end.
    end: String,
}

impl Log {
    /// Each call with how often it was made.
    fn kinds(&self) -> String {
        let mut kinds: Vec<(usize, &str)> = vec![];
        for call in &self.calls {
            match kinds.iter_mut().find(|(_, name)| name == call) {
                Some((count, _)) => *count += 1,
                None => kinds.push((1, call)),
            }
        }
        kinds.sort_unstable_by(|a, b| b.cmp(a));
        kinds.iter().map(|(count, name)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// Runs the child under strace; `None` where that, or the driver, is not to be had.
fn traced(test: &str, collector: &Collector, driver: &str) -> Option<Log> {
    if Command::new("strace").arg("--version").output().is_err() {
        say("no strace on this system: nothing is counted");
        return None;
    }
    let path = env::temp_dir().join(format!("spanring-engine-{}-{test}-{driver}", process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "64", "-o"]).arg(&path).arg(env::current_exe().unwrap());
    strace.args(["--exact", &format!("engine::{test}"), "--nocapture", "--test-threads=1"]);
    let output = strace.env(ENDPOINT, collector.url()).env(DRIVER, driver).output().unwrap();
    let lines = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(&path);
    if lines.is_empty() || lines.contains("PTRACE_TRACEME") {
        say("strace may not trace on this system: nothing is counted");
        return None;
    }
    if output.status.code() == Some(NOT_PERMITTED) {
        say(&format!("no {driver} on this system: nothing is counted"));
        return None;
    }
    assert!(output.status.success(), "{driver}: {output:?}");
    Some(read(&lines))
}

fn read(log: &str) -> Log {
    let words = |line: &str| line.split_once(' ').map(|(thread, call)| (thread.to_owned(), call.trim().to_owned()));
    let lines: Vec<(String, String)> = log.lines().filter_map(words).collect();
    let place = |text: &str| lines.iter().position(|(_, call)| call.contains(text));
    let named = place("PR_SET_NAME, \"spanring\"").expect("the engine's thread has a name");
    let engine = &lines[named].0;
    let (begin, end) = (place(BEGIN).expect("the child begins"), place(END).expect("the child ends"));
    let of_engine = lines[begin..end].iter().filter(|(thread, _)| thread == engine);
    let of_engine: Vec<String> = of_engine.map(|(_, call)| call.clone()).collect();
    // Neither the second half of a call that was interrupted by another thread's, nor a signal, nor an exit.
    let names = of_engine.iter().filter_map(|call| call.split_once('(').map(|(name, _)| name.to_owned()));
    let calls = names.filter(|name| !name.contains([' ', '<', '+', '-'])).collect();
    let said = lines[end].1.split_once(END).map_or("", |(_, rest)| rest);
    Log { calls, lines: of_engine, end: said.split('"').next().unwrap_or_default().to_owned() }
}

#[expect(clippy::print_stderr, reason = "what was counted, and a test that cannot look has to say so")]
fn say(text: &str) {
    eprintln!("engine_syscalls: {text}");
}

// ---- The child.

const BEGIN: &str = "spanring-begin";
const END: &str = "spanring-end-";
/// Calls that may wait.
const WAITS: [&str; 4] = ["io_uring_enter", "epoll_wait", "epoll_pwait", "ppoll"];
const REQUESTS: u64 = 600;
/// How long an engine with nothing to do is looked at.
const REST: Duration = Duration::from_secs(4);
/// The drain visits the lanes every millisecond after it has found spans, and half as often each time that it has not.
const SETTLE: Duration = Duration::from_secs(3);

/// Shows in the log, with this text, and does nothing.
fn mark(text: &str) {
    assert!(fs::metadata(text).is_err(), "there is no such file");
}

fn engine(connections_max: usize) -> Engine {
    let wanted = env::var(DRIVER).unwrap();
    let driver: DriverChoice = wanted.parse().unwrap();
    let export = Export { driver, connections_max, ..Export::to(&env::var(ENDPOINT).unwrap()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    wait_until(|| !engine.stats().driver.is_empty());
    if engine.stats().driver != wanted {
        process::exit(NOT_PERMITTED);
    }
    engine
}

fn record(engine: &Engine, spans: usize) {
    let (tracer, order) = (engine.tracer("test"), workload::order());
    (0..spans).for_each(|_| workload::w1(&tracer, &order));
}

/// Two threads record as fast as they can, and what has no room is lost.
fn load() -> ! {
    let engine = engine(4);
    record(&engine, 5_000);
    assert!(engine.flush(PATIENCE).is_complete());
    thread::scope(|scope| {
        let recording = || -> ! {
            loop {
                record(&engine, 1_000);
            }
        };
        (0..2).for_each(|_| drop(scope.spawn(recording)));
        let requests = || engine.stats().requests;
        let warm = requests() + REQUESTS / 4;
        wait_until(|| requests() >= warm);
        mark(BEGIN);
        let before = requests();
        wait_until(|| requests() >= before + REQUESTS);
        mark(&format!("{END}{}", requests() - before));
        // With the recording threads.
        process::exit(0)
    })
}

/// A connection is made between the marks.
fn connect() -> ! {
    let engine = engine(1);
    mark(BEGIN);
    record(&engine, 100);
    assert!(engine.flush(PATIENCE).is_complete());
    mark(END);
    process::exit(0)
}

/// Nothing happens on an open connection.
fn rest() -> ! {
    let engine = engine(4);
    record(&engine, 100);
    assert!(engine.flush(PATIENCE).is_complete());
    wait(SETTLE);
    mark(BEGIN);
    wait(REST);
    mark(END);
    assert_eq!(engine.ledger().exported, 100);
    process::exit(0)
}

/// The one connection has a request that is not answered, another request is ready, and the lanes hold more.
fn stall() -> ! {
    let engine = engine(1);
    record(&engine, 5_000);
    wait_until(|| engine.ledger().in_flight > 0);
    wait(SETTLE / 3);
    mark(BEGIN);
    wait(REST);
    mark(END);
    let ledger = engine.ledger();
    assert!(ledger.in_flight >= 2048 && ledger.queued > 0 && ledger.exported == 0, "{ledger:?}");
    process::exit(0)
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it takes too long");
        thread::park_timeout(Duration::from_millis(1));
    }
}
