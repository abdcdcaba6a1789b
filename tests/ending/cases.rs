//! What must be true of a process that ends, each as a case of its own.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    env,
    io::{BufRead, BufReader, Lines, Write},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    actor::{DEADLINE, ENDPOINT, EXIT, HANDLED, ROLE, SPANS},
    collector::{Collector, Mode},
};

pub const CASES: &[(&str, fn())] = &[
    ("signal_delivers_what_had_ended_and_then_ends_the_process", signal_delivers_what_had_ended),
    ("dead_collector_holds_the_end_back_for_the_deadline_at_most", dead_collector_holds_nobody_up),
    ("second_signal_ends_the_process_at_once", second_signal_ends_the_process_at_once),
    ("handler_of_the_program_runs_after_the_last_batch", handler_of_the_program_runs),
    ("handler_that_returns_gets_every_signal", handler_that_returns_gets_every_signal),
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
/// What a process and a busy machine may take beyond a deadline: one was seen to stand still for 2.7 s.
const NOISE: Duration = Duration::from_secs(20);

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
    // The span that was open ended with the panic, behind the flush.
    assert_eq!(collector.tally().spans, 2 * SPANS as u64 + 1);
}

fn exit_delivers() {
    let collector = collector();
    let mut actor = Actor::start("exit", &collector.url(), PATIENCE);
    let (_, accounted) = actor.receipt();
    assert!(accounted);
    assert_eq!(actor.end().code(), Some(EXIT));
    assert_eq!(collector.tally().spans, SPANS as u64);
}

fn exit_by_a_dead_collector() {
    let deadline = Duration::from_millis(300);
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut actor = Actor::start("exit", &url(&hole), deadline);
    let (elapsed, accounted) = actor.receipt();
    assert!(elapsed < deadline + NOISE, "{elapsed:?}");
    assert!(accounted, "every span is delivered or lost by the deadline");
    assert_eq!(actor.end().code(), Some(EXIT));
}

fn child_process_shuts_down() {
    let deadline = Duration::from_millis(300);
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut actor = Actor::start("shut down in a child", &url(&hole), deadline);
    for who in ["child", "parent"] {
        let (elapsed, accounted) = actor.receipt();
        assert!(elapsed < deadline + NOISE, "{who}: {elapsed:?}");
        assert!(accounted, "{who}");
    }
    assert_eq!(actor.end().code(), Some(0));
    let collector = collector();
    let mut actor = Actor::start("shut down in a child", &collector.url(), PATIENCE);
    for who in ["child", "parent"] {
        assert!(actor.receipt().1, "{who}");
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

impl Actor {
    fn start(role: &str, endpoint: &str, deadline: Duration) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(ROLE, role).env(ENDPOINT, endpoint).env(DEADLINE, deadline.as_millis().to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the process says something").unwrap()
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// How long its shutdown took, and whether every span was accounted for.
    fn receipt(&mut self) -> (Duration, bool) {
        let line = self.line();
        let (millis, accounted) = line.split_once(' ').unwrap();
        (Duration::from_millis(millis.parse().unwrap()), accounted == "true")
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
        // A case that failed leaves no process behind; one that has ended is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collector() -> Collector {
    Collector::start(Mode::Decode).unwrap()
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}
