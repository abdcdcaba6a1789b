//! What must be true of a process that ends, each as a case of its own.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

use std::{
    env,
    io::{self, BufRead, BufReader, Lines, Write},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use spanring::testing::collector::{Collector, Mode};

use crate::{
    actor::{DEADLINE, ENDPOINT, EXIT, HANDLED, ROLE, SPANS},
    holes::{NOISE, Times, deadline, holes, rounds},
};

pub const CASES: &[(&str, fn())] = &[
    ("signal_delivers_what_had_ended_and_then_ends_the_process", signal_delivers_what_had_ended),
    ("dead_collector_holds_the_end_back_for_the_deadline_at_most", dead_collector_holds_nobody_up),
    ("second_signal_ends_the_process_at_once", second_signal_ends_the_process_at_once),
    ("handler_of_the_program_runs_after_the_last_batch", handler_of_the_program_runs),
    ("handler_that_returns_gets_every_signal", handler_that_returns_gets_every_signal),
    ("server_goes_on_recording_after_the_flush_at_its_signal", server_goes_on_recording),
    ("flush_at_a_signal_without_a_handler_ends_the_process_after_it", flush_without_a_handler_ends_the_process),
    ("spans_that_a_flush_at_a_signal_leaves_are_told_as_the_process_ends", spans_that_a_flush_leaves_are_told),
    ("engine_in_a_static_is_shut_down_at_exit", engine_in_a_static_is_shut_down),
    ("exit_of_a_child_leaves_the_spans_to_its_parent", exit_of_a_child_leaves_the_spans),
    ("ignored_signal_stays_ignored", ignored_signal_stays_ignored),
    ("child_process_ends_by_its_own_signal_and_the_parent_goes_on", child_process_ends_by_its_own_signal),
    ("signal_after_the_engine_is_gone_ends_the_process", signal_after_the_engine_is_gone),
    ("panic_on_the_main_thread_is_delivered", panic_on_the_main_thread_is_delivered),
    ("panic_on_a_thread_is_delivered_and_tracing_goes_on", panic_on_a_thread_is_delivered),
    ("exit_delivers_by_a_handler_of_the_program", exit_delivers),
    ("exit_by_a_dead_collector_ends_by_the_deadline", exit_by_a_dead_collector),
    ("child_process_shuts_down_its_own_side_by_the_deadline", child_process_shuts_down),
];

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(50);

fn signal_delivers_what_had_ended() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let collector = collector();
        let mut actor = Actor::start("wait", &collector.url(), PATIENCE);
        actor.expect("ready");
        assert_eq!(collector.tally().spans, 0, "nothing leaves before the end");
        actor.kill(signal);
        assert_eq!(actor.end().signal(), Some(signal));
        assert_eq!(collector.tally().spans, SPANS as u64);
    }
}

fn dead_collector_holds_nobody_up() {
    let deadline = Duration::from_millis(300);
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut actor = Actor::start("wait", &url(&hole), deadline);
    actor.expect("ready");
    let begun = Instant::now();
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
    let elapsed = begun.elapsed();
    assert!((deadline..deadline + NOISE).contains(&elapsed), "{elapsed:?}");
}

fn second_signal_ends_the_process_at_once() {
    for second in [libc::SIGTERM, libc::SIGINT] {
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut actor = Actor::start("wait", &url(&hole), Duration::from_secs(3600));
        actor.expect("ready");
        actor.kill(libc::SIGTERM);
        // The first signal has begun the shutdown, which will not come to its end by itself.
        let _connection = hole.accept().unwrap();
        actor.kill(second);
        assert_eq!(actor.end().signal(), Some(second));
    }
}

fn handler_of_the_program_runs() {
    let collector = collector();
    let mut actor = Actor::start("handler", &collector.url(), PATIENCE);
    actor.expect("ready");
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().code(), Some(HANDLED));
    assert_eq!(collector.tally().spans, SPANS as u64);
}

fn handler_that_returns_gets_every_signal() {
    let collector = collector();
    let mut actor = Actor::start("survivor", &collector.url(), PATIENCE);
    for _ in 0..2 {
        actor.expect("ready");
        actor.kill(libc::SIGTERM);
    }
    assert_eq!(actor.end().code(), Some(0));
    assert_eq!(collector.tally().spans, 2 * SPANS as u64);
}

/// The handler of the program is there before the watch, or comes later and calls the one before.
fn server_goes_on_recording() {
    for role in ["server", "server with a handler of later"] {
        let collector = collector();
        let mut actor = Actor::start(role, &collector.url(), PATIENCE);
        actor.expect("ready");
        actor.kill(libc::SIGTERM);
        // While it finishes what it is at, what had ended is delivered.
        actor.expect("told");
        until(|| collector.tally().spans == SPANS as u64);
        actor.kill(libc::SIGTERM);
        actor.tell();
        actor.expect("told 2 times");
        assert_eq!(actor.end().code(), Some(0));
        assert_eq!(collector.tally().spans, 2 * SPANS as u64, "{role}");
    }
}

fn flush_without_a_handler_ends_the_process() {
    let collector = collector();
    let mut actor = Actor::start("flushed", &collector.url(), PATIENCE);
    actor.expect("ready");
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
    assert_eq!(collector.tally().spans, SPANS as u64);
    // A second signal needs no patience.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut actor = Actor::start("flushed", &url(&hole), Duration::from_secs(3600));
    actor.expect("ready");
    actor.kill(libc::SIGTERM);
    let _connection = hole.accept().unwrap();
    actor.kill(libc::SIGINT);
    assert_eq!(actor.end().signal(), Some(libc::SIGINT));
}

/// Nobody else can tell of them: the worker has not given them up, and the program is not asked.
fn spans_that_a_flush_leaves_are_told() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = url(&nobody);
    drop(nobody);
    let collector = collector();
    let lost = format!("a signal ends the process, and {SPANS} spans that wait and 1 span that is open are lost");
    for (url, deadline, words) in [
        (closed, Duration::from_millis(300), &[lost.as_str(), "refused"]),
        (
            collector.url(),
            PATIENCE,
            &["a signal ends the process, and 1 span that is open is lost", "Engine::shutdown"],
        ),
        (url(&hole), Duration::from_millis(300), &["1 span that is open", "Engine::shutdown"]),
    ] {
        let mut actor = Actor::heard("flushed", &url, deadline);
        actor.expect("ready");
        actor.kill(libc::SIGTERM);
        assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
        let told = actor.told();
        assert_eq!(told.lines().count(), 1, "{told:?}");
        words.iter().for_each(|word| assert!(told.contains(word), "{word:?} in {told:?}"));
    }
}

fn engine_in_a_static_is_shut_down() {
    for (role, code) in [("static", EXIT), ("static, and main returns", 0)] {
        let collector = collector();
        let mut actor = Actor::start(role, &collector.url(), PATIENCE);
        assert_eq!(actor.end().code(), Some(code));
        assert_eq!(collector.tally().spans, SPANS as u64, "{role}");
    }
}

fn exit_of_a_child_leaves_the_spans() {
    let collector = collector();
    let mut actor = Actor::start("static, and a child exits", &collector.url(), PATIENCE);
    actor.expect("ready");
    assert_eq!(collector.tally().spans, 0, "they are the parent's");
    actor.tell();
    assert_eq!(actor.end().code(), Some(0));
    assert_eq!(collector.tally().spans, SPANS as u64);
}

fn ignored_signal_stays_ignored() {
    let collector = collector();
    let mut actor = Actor::start("ignored", &collector.url(), PATIENCE);
    actor.expect("ready");
    actor.kill(libc::SIGHUP);
    // Had it shut down, these would be lost.
    actor.tell();
    actor.expect("recorded");
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
    assert_eq!(collector.tally().spans, 2 * SPANS as u64);
}

fn child_process_ends_by_its_own_signal() {
    let collector = collector();
    let mut actor = Actor::start("fork", &collector.url(), PATIENCE);
    // Had the parent heard of its child's signal, the second portion would be lost.
    actor.expect("ready");
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
    assert_eq!(collector.tally().spans, 2 * SPANS as u64);
}

fn signal_after_the_engine_is_gone() {
    let collector = collector();
    let mut actor = Actor::start("dropped", &collector.url(), PATIENCE);
    actor.expect("ready");
    assert_eq!(collector.tally().spans, SPANS as u64, "dropping it delivered them");
    actor.kill(libc::SIGTERM);
    assert_eq!(actor.end().signal(), Some(libc::SIGTERM));
}

fn panic_on_the_main_thread_is_delivered() {
    let collector = collector();
    let mut actor = Actor::start("panic on main", &collector.url(), PATIENCE);
    actor.expect("exported 0"); // said by the hook before
    assert_eq!(actor.end().code(), Some(101));
    assert_eq!(collector.tally().spans, SPANS as u64);
}

fn panic_on_a_thread_is_delivered() {
    let collector = collector();
    let mut actor = Actor::start("panic on a thread", &collector.url(), PATIENCE);
    actor.expect("exported 0");
    actor.expect("caught");
    assert_eq!(collector.tally().spans, SPANS as u64);
    actor.tell();
    assert_eq!(actor.end().code(), Some(0));
    // The span that was open ended with the panic, after the flush.
    assert_eq!(collector.tally().spans, 2 * SPANS as u64 + 1);
}

fn exit_delivers() {
    let collector = collector();
    let mut actor = Actor::start("exit", &collector.url(), PATIENCE);
    assert!(actor.receipt().is_accounted);
    assert_eq!(actor.end().code(), Some(EXIT));
    assert_eq!(collector.tally().spans, SPANS as u64);
}

/// Each round is a process of its own, and several run at a time: they do little but wait.
fn exit_by_a_dead_collector() {
    const AT_A_TIME: usize = 16;
    for hole in holes() {
        let url = format!("http://{}", hole.address);
        let times = Mutex::new(Times::of(format!("exit, {}", hole.name)));
        let next = AtomicUsize::new(0);
        let run = || loop {
            let round = next.fetch_add(1, Relaxed);
            if round >= rounds() {
                break;
            }
            let mut actor = Actor::start(&format!("exit{round}"), &url, deadline());
            let Told { elapsed, is_complete, is_accounted } = actor.receipt();
            assert!(is_accounted, "every span is delivered or lost by the deadline");
            assert_eq!(actor.end().code(), Some(EXIT));
            times.lock().unwrap().note(elapsed, is_complete);
        };
        thread::scope(|scope| (0..AT_A_TIME).for_each(|_| _ = scope.spawn(run)));
        let _unfinished = times.into_inner().unwrap().tell();
    }
}

fn child_process_shuts_down() {
    let deadline = Duration::from_millis(300);
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut actor = Actor::start("shut down in a child", &url(&hole), deadline);
    for who in ["child", "parent"] {
        let Told { elapsed, is_accounted, .. } = actor.receipt();
        assert!(elapsed < deadline + NOISE, "{who}: {elapsed:?}");
        assert!(is_accounted, "{who}");
    }
    assert_eq!(actor.end().code(), Some(0));
    let collector = collector();
    let mut actor = Actor::start("shut down in a child", &collector.url(), PATIENCE);
    for who in ["child", "parent"] {
        assert!(actor.receipt().is_accounted, "{who}");
    }
    assert_eq!(actor.end().code(), Some(0));
    assert_eq!(collector.tally().spans, 2 * SPANS as u64, "each delivers its own");
}

// ---- The process.

struct Actor {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a process says of its shutdown.
struct Told {
    elapsed: Duration,
    /// Whether the receipt was, by the deadline.
    is_complete: bool,
    /// Whether every span was accounted for, then or a little later.
    is_accounted: bool,
}

impl Actor {
    fn start(role: &str, endpoint: &str, deadline: Duration) -> Self {
        Self::start_with(role, endpoint, deadline, Stdio::inherit())
    }

    /// One whose standard error is read.
    fn heard(role: &str, endpoint: &str, deadline: Duration) -> Self {
        Self::start_with(role, endpoint, deadline, Stdio::piped())
    }

    fn start_with(role: &str, endpoint: &str, deadline: Duration, stderr: Stdio) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(ROLE, role).env(ENDPOINT, endpoint).env(DEADLINE, deadline.as_millis().to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the process says something").unwrap()
    }

    /// What it has told on its standard error.
    fn told(&mut self) -> String {
        io::read_to_string(self.child.stderr.take().expect("it is read")).unwrap()
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// What it says of its shutdown.
    fn receipt(&mut self) -> Told {
        let line = self.line();
        let [elapsed, is_complete, is_accounted] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        Told {
            elapsed: Duration::from_micros(elapsed.parse().unwrap()),
            is_complete: is_complete == "true",
            is_accounted: is_accounted == "true",
        }
    }

    fn tell(&mut self) {
        self.stdin.write_all(b"go on\n").unwrap();
    }

    fn kill(&self, signal: i32) {
        let process = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the call takes two numbers, and the process is our own and not waited for yet.
        assert_eq!(unsafe { libc::kill(process, signal) }, 0);
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        panic!("the process has not ended in {PATIENCE:?}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // A case that failed leaves no process running; killing one that has ended does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never comes");
        thread::park_timeout(Duration::from_millis(2));
    }
}

fn collector() -> Collector {
    Collector::start(Mode::Decode).unwrap()
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}
