//! What an engine says, and nobody takes: a standard error that is a full pipe, and a sink that does not return. The
//! export goes on, and each call returns by its deadline.

use std::{
    env,
    io::{PipeReader, PipeWriter, Read, Write},
    os::fd::AsRawFd,
    panic,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export, Receipt, Topic, WorkerChoice,
    testing::collector::{Mode, Plan, Row, Stand},
};

use crate::alone;

const CASE: &str = "SPANRING_TEST_UNREAD";
/// Ends a process that stands still. No case takes so long, however busy the machine is.
const STANDSTILL_SECS: u32 = 120;
const PATIENCE: Duration = Duration::from_secs(60);
const SPANS: u64 = 300;
const WORKERS: [(&str, WorkerChoice); 2] =
    [("a thread of its own", WorkerChoice::OwnThread), ("polled", WorkerChoice::Polled)];

/// A collector that refuses one request, which gives the engine something to say, and is healthy then.
fn collector() -> Stand {
    Row::named("status_503").start(Plan { after: 0, times: 1 }, Mode::Ids).unwrap()
}

/// Records, flushes, and shuts down with a span that is open, which is a last line.
fn run(url: &str, worker: WorkerChoice, diagnostics: Option<DiagnosticSink>) -> [Receipt; 2] {
    let export = Export { driver: DriverChoice::Auto, diagnostics, ..Export::to(url) };
    let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    (0..SPANS).for_each(|_| tracer.span("work").start().end());
    let flushed = engine.flush(PATIENCE);
    let open = tracer.span("open").start();
    let shut_down = engine.shutdown(PATIENCE);
    drop(open);
    drop(engine);
    [flushed, shut_down]
}

fn check(name: &str, [flushed, shut_down]: &[Receipt; 2], delivered: u64) {
    assert!(flushed.is_complete() && flushed.ledger.is_closed(), "{name}: {flushed:?}");
    assert!(shut_down.is_complete() && shut_down.ledger.is_closed(), "{name}: {shut_down:?}");
    assert_eq!((shut_down.ledger.exported, delivered), (SPANS, SPANS), "{name}: {shut_down:?}");
    for receipt in [flushed, shut_down] {
        assert!(receipt.elapsed < PATIENCE / 2, "{name}: waited for the one that does not read: {receipt:?}");
    }
}

/// A pipe in which there is no room.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let set = |flags: libc::c_int| {
        // SAFETY: the call takes three numbers, and the pipe is the test's own.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set(libc::O_NONBLOCK);
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    set(0);
    (reader, writer)
}

#[test]
fn standard_error_that_nobody_reads_stops_nothing() {
    if let Ok(case) = env::var(CASE) {
        // SAFETY: the call takes a number.
        unsafe { libc::alarm(STANDSTILL_SECS) };
        let (_, worker) = WORKERS.into_iter().find(|(name, _)| *name == case).unwrap();
        let stand = collector();
        check(&case, &run(&stand.collector.url(), worker, None), stand.delivered());
        return;
    }
    for (case, _) in WORKERS {
        let (mut reader, writer) = full_pipe();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "unread::standard_error_that_nobody_reads_stops_nothing"]);
        let mut child = command.env(CASE, case).stdin(Stdio::null()).stderr(writer).spawn().unwrap();
        drop(command);
        let status = child.wait().unwrap();
        let mut unread = vec![];
        reader.read_to_end(&mut unread).unwrap();
        assert!(status.success(), "{case}: {status}");
        assert!(unread.iter().all(|byte| *byte == b'x'), "{case}: there was room");
    }
}

#[test]
fn sink_that_does_not_return_stops_nothing() {
    for (name, worker) in WORKERS {
        let (release, held) = mpsc::channel::<()>();
        let (said, lines) = mpsc::channel();
        let held = Mutex::new(held);
        let sink = DiagnosticSink::new(move |line| {
            // Until the test lets go of its end.
            let _ = held.lock().unwrap().recv();
            said.send(line.topic).unwrap();
        });
        let stand = collector();
        check(name, &run(&stand.collector.url(), worker, Some(sink)), stand.delivered());
        drop(release);
        // The sink is dropped after its last line.
        let topics: Vec<_> = lines.iter().collect();
        assert_eq!(topics, [Topic::Failure, Topic::Recovery, Topic::Loss], "{name}: in order, and none is lost");
    }
}

/// The last line is out when the shutdown returns.
#[test]
fn sink_that_returns_has_heard_the_last_line_when_the_shutdown_returns() {
    for (name, worker) in WORKERS {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.store(0, SeqCst);
        let sink = DiagnosticSink::new(|line| _ = LAST.fetch_add(u64::from(line.topic == Topic::Loss), SeqCst));
        let stand = collector();
        let export = Export { diagnostics: Some(sink), ..Export::to(&stand.collector.url()) };
        let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
        let open = engine.tracer("test").span("open").start();
        let receipt = engine.shutdown(PATIENCE);
        assert_eq!((receipt.ledger.live, LAST.load(SeqCst)), (1, 1), "{name}");
        drop(open);
    }
}

/// A panic of the sink costs the line.
/// API-23: the handler of errors is the program's, and is guarded.
#[test]
fn sink_that_panics_stops_nothing() {
    for (name, worker) in WORKERS {
        let (said, lines) = mpsc::channel();
        let sink = DiagnosticSink::new(move |line| {
            said.send(line.topic).unwrap();
            panic::resume_unwind(Box::new("the program's own"));
        });
        let stand = collector();
        check(name, &run(&stand.collector.url(), worker, Some(sink)), stand.delivered());
        assert_eq!(lines.iter().collect::<Vec<_>>(), [Topic::Failure, Topic::Recovery, Topic::Loss], "{name}");
    }
}

/// The child has a queue and a thread of its own. What its parent's thread holds in the sink it holds there for ever.
#[test]
fn child_process_of_a_parent_whose_sink_does_not_return_delivers_its_spans() {
    let _alone = alone();
    for (name, worker) in WORKERS {
        let (release, held) = mpsc::channel::<()>();
        let (reach, reached) = mpsc::channel();
        let held = Mutex::new(held);
        let sink = DiagnosticSink::new(move |_| {
            let held = held.lock().unwrap();
            let _ = reach.send(());
            let _ = held.recv();
        });
        let stand = collector();
        let export = Export { diagnostics: Some(sink), ..Export::to(&stand.collector.url()) };
        let engine = Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap();
        let tracer = engine.tracer("test");
        tracer.span("parent").start().end();
        assert!(engine.flush(PATIENCE).is_complete(), "{name}");
        reached.recv().unwrap();
        // SAFETY: the child uses the engine, whose promise this is, and ends without coming back.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: the call takes a number.
            unsafe { libc::alarm(STANDSTILL_SECS) };
            (0..SPANS).for_each(|_| tracer.span("child").start().end());
            let _open = tracer.span("open").start();
            let receipt = engine.shutdown(PATIENCE);
            let is_right = receipt.is_complete() && receipt.ledger.is_closed() && receipt.exported == SPANS;
            // SAFETY: ends the child at once, without the destructors of its parent's threads.
            unsafe { libc::_exit(i32::from(!is_right)) }
        }
        let mut status = 0;
        // SAFETY: the child is ours, and the place is valid.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "{name}: the child failed");
        assert_eq!(stand.delivered(), SPANS + 1, "{name}");
        drop(release);
        drop(engine);
    }
}
