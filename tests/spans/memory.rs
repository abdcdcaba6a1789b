//! Memory stays within `memory_budget`, whatever the program does: measured by the kernel, in a process for each case.
//!
//! Each test starts this binary again for itself alone; the child measures itself from before the engine's start to its
//! own highest mark, and the test allows what a few threads' stacks and the measuring itself take.

#![cfg(target_os = "linux")]

use std::{
    env, fs, mem,
    process::{self, Command},
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use spanring::{Config, Engine, Kind, Ledger, Tracer};

const BUDGET: usize = 16 << 20;
/// Stacks of the threads, what the C library keeps for each of them, and pages that the test's own code touches.
const SLACK_KIB: u64 = 8 << 10;
const ROLE: &str = "SPANRING_TEST_MEMORY";

#[test]
fn threads_that_come_and_go_stay_within_the_budget() {
    const WAVES: usize = 4_000 / WAVE;
    const WAVE: usize = 50;
    within_budget("threads_that_come_and_go_stay_within_the_budget", |engine| {
        for _ in 0..WAVES {
            thread::scope(|scope| {
                for _ in 0..WAVE {
                    let small = thread::Builder::new().stack_size(128 << 10);
                    small.spawn_scoped(scope, || (0..4).for_each(|_| order(&engine.tracer("test")))).unwrap();
                }
            });
            engine.drain(|_, _| ());
        }
        let ledger = engine.ledger();
        assert_eq!(ledger.drained, (4 * WAVES * WAVE) as u64, "{ledger:?}");
        // Blocks come back from the threads that ended: there are never more than the threads of one wave hold at once.
        let blocks_max = (WAVE * 8) as u64;
        let carved = engine.memory().arena_carved;
        assert!(carved <= blocks_max * 640, "{carved} bytes carved");
    });
}

#[test]
fn spans_that_never_end_stay_within_the_budget() {
    within_budget("spans_that_never_end_stay_within_the_budget", |engine| {
        let tracer = engine.tracer("test");
        for _ in 0..100_000 {
            let mut span = tracer.span("forgotten").start();
            span.set("key", "value");
            mem::forget(span);
        }
        let ledger = engine.ledger();
        assert_eq!(ledger.live + ledger.lost.live_limit, 100_000, "{ledger:?}");
        assert!(ledger.lost.live_limit > 0, "{ledger:?}");
    });
}

#[test]
fn values_of_a_mebibyte_stay_within_the_budget() {
    // Before the engine's start: the program's own memory is not the engine's.
    let text = "x".repeat(1 << 20);
    within_budget("values_of_a_mebibyte_stay_within_the_budget", |engine| {
        let barrier = Barrier::new(RICH_THREADS);
        thread::scope(|scope| {
            for _ in 0..RICH_THREADS {
                scope.spawn(|| rich_spans(&engine.tracer("test"), &text, &barrier));
            }
        });
        let ledger = engine.ledger();
        assert_eq!(ledger.started, (RICH_THREADS * RICH_ROUNDS * RICH_OPEN) as u64, "{ledger:?}");
        assert_eq!(ledger.live, 0, "{ledger:?}");
        assert!(engine.memory().arena_carved > BUDGET as u64 / 8, "the large blocks were not in use");
    });
}

const RICH_THREADS: usize = 8;
const RICH_ROUNDS: usize = 16;
const RICH_OPEN: usize = 8;

/// The spans of all threads are open at once, and full of what is too large for them.
fn rich_spans(tracer: &Tracer, text: &str, barrier: &Barrier) {
    for _ in 0..RICH_ROUNDS {
        let mut open: Vec<_> = (0..RICH_OPEN).map(|_| tracer.span(text).start()).collect();
        for span in &mut open {
            for len in [100, 1_000, 10_000, 40_000, 1 << 20] {
                span.set("text", &text[..len]);
                span.set("bytes", &text.as_bytes()[..len]);
                span.event_with(&text[..len], [("text", &text[..len])]);
            }
            span.set("kept", true);
        }
        barrier.wait();
    }
}

#[test]
fn blocks_of_spans_that_grew_are_used_again() {
    let engine = Engine::start(Config { memory_budget: BUDGET, ..Config::default() }).unwrap();
    let (tracer, text) = (engine.tracer("test"), "x".repeat(40_000));
    let carved_after = |rounds: usize| {
        for _ in 0..rounds {
            let mut span = tracer.span("grows").start();
            [1_000, 4_000, 40_000].into_iter().for_each(|len| span.set("text", &text[..len]));
            drop(span);
            engine.drain(|_, _| ());
        }
        engine.memory().arena_carved
    };
    let carved = carved_after(10);
    assert_eq!(carved_after(1_000), carved);
    assert_eq!(engine.ledger().drained, 1_010);
}

/// Threads that recorded to an engine hold on to its lanes until they turn to another one, or end.
#[test]
fn engine_that_is_dropped_leaves_little_resident() {
    const IDLE: usize = 8;
    let name = "engine_that_is_dropped_leaves_little_resident";
    if env::var_os(ROLE).is_none() {
        assert!(again(name).success());
        return;
    }
    // Without the pages of the program itself, which come as they are run.
    let before = status_kib("RssAnon:");
    let engine = Engine::start(Config { memory_budget: BUDGET, ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    let [are_idle, may_end] = [(); 2].map(|()| Barrier::new(IDLE + 1));
    let idle = |tracer: Tracer| {
        order(&tracer);
        drop(tracer);
        are_idle.wait();
        may_end.wait();
    };
    thread::scope(|scope| {
        for tracer in vec![tracer.clone(); IDLE] {
            scope.spawn(|| idle(tracer));
        }
        are_idle.wait();
        let rings_kib = BUDGET as u64 / 2 / 1024;
        assert!(status_kib("RssAnon:") >= before + rings_kib, "the rings are resident from the start");
        drop((engine, tracer));
        let left = status_kib("RssAnon:").saturating_sub(before);
        may_end.wait();
        // The threads' stacks, and a huge page of the memory for open spans.
        assert!(left < rings_kib / 2, "{left} KiB are left");
    });
}

/// Threads that have recorded and went idle keep blocks for themselves. What `size` promises to open spans is left all
/// the same.
#[test]
fn idle_threads_leave_the_blocks_that_are_promised() {
    const IDLE: usize = 500;
    const BUDGET: usize = 4 << 20;
    // The budget is at least four times the bytes of all open spans.
    const LIVE: usize = BUDGET / 4 / 640;
    let engine = Engine::start(Config { memory_budget: BUDGET, ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    let [are_idle, may_end] = [(); 2].map(|()| Barrier::new(IDLE + 1));
    thread::scope(|scope| {
        for _ in 0..IDLE {
            let small = thread::Builder::new().stack_size(128 << 10);
            let idle = || {
                // As many at once as a thread keeps blocks for.
                drop([(); 8].map(|()| tracer.span("deep").start()));
                are_idle.wait();
                may_end.wait();
            };
            small.spawn_scoped(scope, idle).unwrap();
        }
        are_idle.wait();
        let open: Vec<_> = (0..LIVE).map(|_| tracer.span("open").start()).collect();
        let ledger = engine.ledger();
        drop(open);
        may_end.wait();
        assert_eq!(ledger.live, LIVE as u64, "{ledger:?}");
        assert_eq!(ledger.lost.live_limit, 0, "{ledger:?}");
    });
}

/// API-24: spans that find no room are dropped and counted, and nothing grows or waits.
#[test]
fn lanes_that_nobody_drains_stay_within_the_budget() {
    const THREADS: u64 = 4;
    const SPANS: u64 = 100_000;
    within_budget("lanes_that_nobody_drains_stay_within_the_budget", |engine| {
        let text = "x".repeat(20_000);
        let large = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let tracer = engine.tracer("test");
                    for round in 0..SPANS {
                        order(&tracer);
                        if round % 100 == 0 {
                            tracer.span("large").start().set("text", &text);
                            large.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        let ledger = engine.ledger();
        assert_eq!(ledger.started, THREADS * SPANS + large.load(Relaxed), "{ledger:?}");
        assert_eq!(ledger.started, ledger.queued + ledger.lost.total(), "{ledger:?}");
        assert!(ledger.lost.lane_full > SPANS, "{ledger:?}");
        assert!(ledger.queued > 0, "{ledger:?}");
    });
}

#[test]
fn measure_notices_memory_above_the_budget() {
    const NAME: &str = "measure_notices_memory_above_the_budget";
    if env::var_os(ROLE).is_some() {
        let used = used_kib(|_| assert_ne!(vec![1_u8; 4 * BUDGET].iter().map(|&byte| u64::from(byte)).sum::<u64>(), 0));
        process::exit(i32::from(is_within(used)));
    }
    assert!(again(NAME).success());
}

/// Runs the case in a child of its own, which fails if it takes more than it may.
fn within_budget(name: &str, case: impl FnOnce(&Engine)) {
    if env::var_os(ROLE).is_none() {
        return assert!(again(name).success(), "{name}: see above");
    }
    let used = used_kib(|engine| {
        case(engine);
        assert_closed(&engine.ledger());
    });
    let limit = BUDGET / 1024;
    assert!(is_within(used), "{used} KiB at the highest, with a budget of {limit} KiB");
}

fn is_within(used_kib: u64) -> bool {
    used_kib <= BUDGET as u64 / 1024 + SLACK_KIB
}

fn again(name: &str) -> process::ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("memory::{name}"), "--test-threads=1"]).env(ROLE, "child");
    // Its output is ours, shown when the test fails.
    let output = command.output().unwrap();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{text}\n{errors}");
    }
    output.status
}

/// What an engine adds to the resident memory of this process, at the highest.
fn used_kib(case: impl FnOnce(&Engine)) -> u64 {
    // proc(5): sets the peak back to what is resident now.
    // Where the kernel cannot, the peak of before counts too.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let baseline = status_kib("VmRSS:");
    let engine = Engine::start(Config { memory_budget: BUDGET, ..Config::default() }).unwrap();
    case(&engine);
    status_kib("VmHWM:").saturating_sub(baseline)
}

fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap()
}

fn order(tracer: &Tracer) {
    let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    span.set("http.request.method", "GET");
    span.set("http.response.status_code", 200);
    span.end();
}

fn assert_closed(ledger: &Ledger) {
    assert!(ledger.is_closed(), "{ledger:?}");
}
