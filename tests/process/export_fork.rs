//! Forks under load: each process delivers its own spans, all of them, once, under ids of its own.

#![cfg(unix)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export, WorkerChoice, internals,
    testing::collector::{Collector, Mode},
};

use crate::alone;

/// Children at a time, as a server that forks its workers has them.
const CHILDREN: usize = 32;
const SPANS_OF_CHILD: u64 = 50;
/// Rounds: `SPANRING_FORK_ROUNDS=100` is the long run.
fn rounds() -> usize {
    std::env::var("SPANRING_FORK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn children_deliver_their_own_spans_once() {
    let _alone = alone();
    for driver in [DriverChoice::Uring, DriverChoice::Poll] {
        let collector = Collector::start(Mode::Ids).unwrap();
        let export = Export { driver, batch_spans_max: 512, ..Export::to(&collector.url()) };
        let engine = Arc::new(Engine::start(Config { export: Some(export), ..Config::default() }).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let load = thread::spawn({
            let (engine, stop) = (Arc::clone(&engine), Arc::clone(&stop));
            move || {
                let tracer = engine.tracer("parent");
                while !stop.load(Relaxed) {
                    (0..20).for_each(|_| tracer.span("load").start().end());
                    thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        for _ in 0..rounds() {
            let children: Vec<_> = (0..CHILDREN).map(|_| child(&engine)).collect();
            children.into_iter().for_each(wait_for);
        }
        stop.store(true, Relaxed);
        load.join().unwrap();
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        let tally = collector.tally();
        let of_children = (rounds() * CHILDREN) as u64 * SPANS_OF_CHILD;
        assert_eq!(receipt.lost.total(), 0);
        assert_eq!(tally.spans, receipt.ledger.exported + of_children);
        assert_eq!(tally.ids_seen_twice, 0);
    }
}

/// Forks a child that records, shuts its engine down and ends.
fn child(engine: &Engine) -> libc::pid_t {
    // SAFETY: the child uses the engine, whose promise this is, and ends without coming back.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    end_if_it_hangs();
    let tracer = engine.tracer("child");
    (0..SPANS_OF_CHILD).for_each(|_| tracer.span("child").start().end());
    let receipt = engine.shutdown(PATIENCE);
    let is_right = receipt.is_complete()
        && receipt.ledger.is_closed()
        && receipt.ledger.exported == SPANS_OF_CHILD
        && receipt.waiting == 0;
    if !is_right {
        eprintln!("child: {receipt:?}");
    }
    // SAFETY: ends the child at once, without the destructors of its parent's threads.
    unsafe { libc::_exit(i32::from(!is_right)) }
}

/// The kernel ends this process in a while, and the test sees by what.
fn end_if_it_hangs() {
    let patience = u32::try_from(2 * PATIENCE.as_secs()).unwrap();
    // SAFETY: the call takes a number.
    unsafe { libc::alarm(patience) };
}

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the child is ours, and the place is valid.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "a child failed");
}

/// Every lock of the parent's export is held when the child is made, by a thread that will never release it there. A
/// new piece of the export's state is named in `with_locks_held`, or does not compile.
#[test]
fn child_exports_whatever_its_parent_held() {
    let _alone = alone();
    for worker in [WorkerChoice::OwnThread, WorkerChoice::Polled] {
        let collector = Collector::start(Mode::Ids).unwrap();
        let export = Some(Export::to(&collector.url()));
        let engine = Engine::start(Config { export, worker, ..Config::default() }).unwrap();
        let pid = internals::with_locks_held(&engine, || child(&engine));
        wait_for(pid);
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!(collector.tally().spans, SPANS_OF_CHILD);
    }
}

/// They are the parent's to deliver, and a child that says that it lost them raises a false alarm.
#[test]
fn spans_of_the_parent_are_no_losses_of_a_child() {
    let _alone = alone();
    let collector = Collector::start(Mode::Ids).unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let is_told = Arc::clone(&told);
    let export = Export {
        schedule_delay: Duration::from_secs(3600),
        diagnostics: Some(DiagnosticSink::new(move |_| is_told.store(true, Relaxed))),
        ..Export::to(&collector.url())
    };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("parent");
    let open = tracer.span("open").start();
    (0..4).for_each(|_| tracer.span("ended").start().end());
    // SAFETY: as in `child`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        end_if_it_hangs();
        (0..SPANS_OF_CHILD).for_each(|_| engine.tracer("child").span("child").start().end());
        let receipt = engine.shutdown(PATIENCE);
        let line = receipt.to_string();
        let is_right = receipt.is_lossless()
            && receipt.ledger.lost.forked == 5
            && line.contains(" 0 lost, 0 waiting; complete")
            && !line.contains("since the start")
            && !told.load(Relaxed);
        if !is_right {
            eprintln!("child: {line}, is told: {}, {receipt:?}", told.load(Relaxed));
        }
        // SAFETY: as in `child`.
        unsafe { libc::_exit(i32::from(!is_right)) }
    }
    wait_for(pid);
    drop(open);
    assert!(engine.shutdown(PATIENCE).is_lossless());
    assert_eq!(collector.tally().spans, 5 + SPANS_OF_CHILD);
}

/// A child that only records exports all the same, from its first span on.
#[test]
fn child_that_only_records_exports() {
    let _alone = alone();
    let collector = Collector::start(Mode::Ids).unwrap();
    let export = Export { schedule_delay: Duration::from_millis(20), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    // SAFETY: as in `child`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let tracer = engine.tracer("child");
        (0..SPANS_OF_CHILD).for_each(|_| tracer.span("child").start().end());
        let late = std::time::Instant::now() + PATIENCE;
        while engine.ledger().exported < SPANS_OF_CHILD && std::time::Instant::now() < late {
            thread::park_timeout(Duration::from_millis(5));
        }
        // SAFETY: as in `child`.
        unsafe { libc::_exit(i32::from(engine.ledger().exported != SPANS_OF_CHILD)) }
    }
    wait_for(pid);
    assert_eq!(collector.tally().spans, SPANS_OF_CHILD);
}

/// A child that does nothing with its parent's engine but drop it has no worker, and the parent's spans are delivered
/// once.
#[test]
fn child_that_only_drops_the_engine_has_no_worker() {
    let _alone = alone();
    for worker in [WorkerChoice::OwnThread, WorkerChoice::Polled] {
        let collector = Collector::start(Mode::Ids).unwrap();
        let is_said = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_said);
        let export = Export {
            schedule_delay: Duration::from_secs(3600),
            diagnostics: Some(DiagnosticSink::new(move |_| told.store(true, Relaxed))),
            ..Export::to(&collector.url())
        };
        let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
        let tracer = engine.tracer("parent");
        (0..SPANS_OF_CHILD).for_each(|_| tracer.span("parent").start().end());
        // SAFETY: as in `child`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // A worker would get no driver, and say so: a thread that has come and gone can be seen in no other way.
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the limit is valid for the call to read.
            let limited = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) } == 0;
            drop(engine);
            tracer.span("late").start().end();
            // SAFETY: as in `child`.
            unsafe { libc::_exit(i32::from(!limited || is_said.load(Relaxed))) }
        }
        wait_for(pid);
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.exported == SPANS_OF_CHILD, "{receipt:?}");
        let tally = collector.tally();
        assert_eq!((tally.spans, tally.connections), (SPANS_OF_CHILD, 1));
    }
}
