//! Forks under load: each process delivers its own spans, all of them, once, under ids of its own.

#![cfg(unix)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
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

/// A child has a copy of each descriptor, for as long as it lives and does not drop it.
#[test]
fn peer_hears_the_end_of_a_connection_while_a_child_lives() {
    let _alone = alone();
    for (driver, worker) in ways() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let export = Export { driver, ..Export::to(&format!("http://{}", listener.local_addr().unwrap())) };
        let peer = thread::spawn(move || hears_the_end(&listener.accept().unwrap().0));
        let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
        engine.tracer("parent").span("parent").start().end();
        assert!(engine.flush(PATIENCE).is_lossless());
        // SAFETY: as in `child`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            end_if_it_hangs();
            loop {
                // SAFETY: the call takes nothing.
                unsafe { libc::pause() };
            }
        }
        assert!(engine.shutdown(PATIENCE).is_complete());
        let is_heard = peer.join().unwrap();
        // SAFETY: the child is ours.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        // SAFETY: the child is ours, and nobody wants its status.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        assert!(is_heard, "{driver:?}, {worker:?}: the peer waits for the child");
    }
}

/// Answers every request; whether the end of the connection comes after them.
fn hears_the_end(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut unread, mut piece) = (vec![], vec![0; 16 << 10]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(len) => unread.extend_from_slice(&piece[..len]),
            Err(_) => return false,
        }
        let Some(end) = unread.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&unread[..end]);
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if unread.len() == end + 4 + len.parse::<usize>().unwrap() {
            unread.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }
}

/// What ends with a child is its copy of the connection, and not the parent's.
#[test]
fn child_that_drops_the_engine_leaves_the_connections_of_its_parent() {
    let _alone = alone();
    for (driver, worker) in ways() {
        let collector = Collector::start(Mode::Ids).unwrap();
        let export = Export { driver, ..Export::to(&collector.url()) };
        let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
        for process in ["before", "after"] {
            engine.tracer("parent").span(process).start().end();
            assert!(engine.flush(PATIENCE).is_lossless());
            // SAFETY: as in `child`.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                end_if_it_hangs();
                drop(engine);
                // SAFETY: as in `child`.
                unsafe { libc::_exit(0) }
            }
            wait_for(pid);
        }
        let tally = collector.tally();
        assert_eq!((tally.spans, tally.connections), (2, 1), "{driver:?}, {worker:?}");
        assert!(engine.shutdown(PATIENCE).is_lossless());
    }
}

/// Every driver, on a thread of its own and in the program's calls.
fn ways() -> impl Iterator<Item = (DriverChoice, WorkerChoice)> {
    let drivers = [DriverChoice::Uring, DriverChoice::Poll];
    drivers
        .into_iter()
        .flat_map(|driver| [WorkerChoice::OwnThread, WorkerChoice::Polled].map(|worker| (driver, worker)))
}
