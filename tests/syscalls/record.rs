//! No span costs a system call: the recording thread goes on under a filter that kills it for one, and strace sees
//! none.
//!
//! Each test starts this binary again for itself alone; the child records, and says how far it came. The log of strace
//! is read between two marks of the recording thread, so that the rest of the process may do what it likes.

#![cfg(target_os = "linux")]

use std::{
    env, fs, hint,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{self, Command, Output},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
};

use spanring::{
    Config, Engine, Export, Ledger, Tracer,
    testing::collector::{Collector, Mode},
};

use crate::workload;

/// Says to the child what to do.
const ROLE: &str = "SPANRING_TEST_SYSCALLS";
/// Says to the child where the collector is, which is not traced and not filtered.
const ENDPOINT: &str = "SPANRING_TEST_ENDPOINT";
/// States of the engine while a thread records: no spans are taken out; a thread of the program takes them; a collector
/// takes requests and answers none; a collector takes everything.
const ROLES: [&str; 4] = ["stalled", "drained", "unanswered", "exported"];
/// The system has no filter for us.
const NOT_PERMITTED: i32 = 77;
/// The child's engine did not get into the state that was to be looked at.
const NOT_AS_MEANT: i32 = 3;
const WARM_UP: usize = 1_000;
/// A small engine, whose rings are soon full.
const BUDGET_SMALL: usize = 4 << 20;
/// With W1 more than the rings hold, so that the spans are first taken and then refused.
const SPANS: usize = 25_000;

#[test]
fn recording_thread_lives_under_a_filter_that_kills_for_a_system_call() {
    const NAME: &str = "recording_thread_lives_under_a_filter_that_kills_for_a_system_call";
    if let Ok(role) = env::var(ROLE) {
        filtered(&role);
    }
    for role in ROLES {
        let output = again(Command::new(itself()), NAME, role);
        if output.status.code() == Some(NOT_PERMITTED) {
            return say("no filter for system calls on this system: only strace looks");
        }
        let stages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{role}: {:?}, came as far as\n{stages}", output.status);
    }
    // A filter that lets everything pass proves nothing.
    let control = again(Command::new(itself()), NAME, "control");
    assert_eq!(control.status.signal(), Some(libc::SIGSYS), "{control:?}");
}

/// SPN-13: the end of a span does no input or output.
#[test]
fn strace_sees_no_system_call_of_the_recording_thread() {
    const NAME: &str = "strace_sees_no_system_call_of_the_recording_thread";
    if let Ok(role) = env::var(ROLE) {
        traced(&role);
    }
    for (role, calls_expected) in ROLES.map(|role| (role, 0)).into_iter().chain([("control", 1)]) {
        let Some(log) = strace(NAME, role) else {
            return say("only the filter looks");
        };
        let calls = between_marks(&log);
        // The engine is closed in the end, which is told once.
        let (notices, calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.contains(NOTICE));
        assert_eq!((notices.len(), calls.len()), (1, calls_expected), "{role}: {notices:?} {calls:?}");
    }
}

/// A thread's first span may be one in a signal handler. What draws a seed from the system may look up a function under
/// the loader's lock, or open a file.
#[test]
fn first_span_of_a_thread_draws_nothing_from_the_system() {
    const NAME: &str = "first_span_of_a_thread_draws_nothing_from_the_system";
    if let Ok(role) = env::var(ROLE) {
        first_span(&role);
    }
    for (role, draws_expected) in [("first span", 0), ("draw", 1)] {
        let Some(log) = strace(NAME, role) else { return };
        let calls = between_marks(&log);
        let draws = calls.iter().filter(|call| call.contains("getrandom") || call.contains("urandom")).count();
        assert_eq!(draws, draws_expected, "{role}: {calls:?}");
    }
}

/// What strace saw of the child in this role; `None` where it cannot be had or may not trace, which is said.
fn strace(test: &str, role: &str) -> Option<String> {
    if Command::new("strace").arg("--version").output().is_err() {
        say("no strace on this system");
        return None;
    }
    let log = env::temp_dir().join(format!("spanring-strace-{}-{}", process::id(), role.replace(' ', "-")));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(&log).arg(itself());
    let output = again(strace, test, role);
    let lines = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    if lines.is_empty() || lines.contains("PTRACE_TRACEME") {
        say("strace may not trace on this system");
        return None;
    }
    assert!(output.status.success(), "{role}: {output:?}");
    Some(lines)
}

/// What the thread that wrote the marks called between them.
fn between_marks(log: &str) -> Vec<&str> {
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let begin = log.lines().position(|line| line.contains(BEGIN)).expect("the child begins");
    let recorder = thread(log.lines().nth(begin).unwrap_or_default());
    assert!(log.contains(END), "the child ends");
    let later = log.lines().skip(begin + 1).filter(|line| thread(line) == recorder);
    let calls = later.take_while(|line| !line.contains(END));
    // The end of the mark's own call, where strace saw another thread in between.
    calls.filter(|line| !line.contains("resumed>")).collect()
}

fn again(mut command: Command, test: &str, role: &str) -> Output {
    let collector = Collector::start(Mode::Count).unwrap();
    if role == "unanswered" {
        collector.pause();
    }
    command
        .args(["--exact", &format!("record::{test}"), "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ENDPOINT, collector.url());
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn itself() -> PathBuf {
    env::current_exe().unwrap()
}

#[expect(clippy::print_stderr, reason = "a test that cannot look has to say so")]
fn say(text: &str) {
    eprintln!("syscalls: {text}");
}

// ---- The child.

const BEGIN: &str = "spanring-begin";
const END: &str = "spanring-end";
/// The one line that a recording thread writes itself here, if there is room for it (by one call from Linux 6.5 on).
/// That no one drains is told while it warms up.
const NOTICE: &str = "pwritev2(2, [{iov_base=\"spanring: a span was started or ";

fn filtered(role: &str) -> ! {
    let begin = || {
        if !kill_on_system_calls() {
            exit(NOT_PERMITTED);
        }
    };
    // Tells the parent how far the child came, should it be killed.
    steady(role, begin, |stage| write(libc::STDERR_FILENO, stage))
}

fn traced(role: &str) -> ! {
    steady(role, || write(-1, BEGIN), |_| ())
}

fn first_span(role: &str) -> ! {
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("test");
    thread::scope(|scope| {
        scope.spawn(|| {
            write(-1, BEGIN);
            drop(tracer.span("first").start());
            if role == "draw" {
                let mut byte = 0_u8;
                // SAFETY: the byte is valid for the call.
                unsafe { libc::syscall(libc::SYS_getrandom, &raw mut byte, 1, 0) };
            }
            write(-1, END);
        });
    });
    exit(0)
}

/// A name, how many rounds are recorded, and a round.
type Kind<'a> = (&'a str, usize, &'a mut dyn FnMut(&Tracer));

/// Warms up, calls `begin`, and records in a steady state from then on, until it ends the process.
fn steady(role: &str, begin: impl FnOnce(), tell: impl Fn(&str)) -> ! {
    let endpoint = env::var(ENDPOINT).unwrap();
    let export =
        matches!(role, "unanswered" | "exported").then(|| Export { batch_spans_max: 64, ..Export::to(&endpoint) });
    let mut config = Config { export, ..Config::default() };
    if role != "exported" {
        config.memory_budget = BUDGET_SMALL;
    }
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    let visits = AtomicU32::new(0);
    thread::scope(|scope| {
        if role == "drained" {
            // It goes on until the process ends.
            scope.spawn(|| {
                loop {
                    engine.drain(|_, _| ());
                    visits.fetch_add(1, Relaxed);
                    thread::yield_now();
                }
            });
            while visits.load(Relaxed) == 0 {
                thread::yield_now();
            }
        }
        let (order, unsampled, text) = (workload::order(), workload::unsampled_parent(), "x".repeat(3_000));
        let mut round = 0;
        let mut w2 = |tracer: &Tracer| {
            round += 1;
            workload::w2(tracer, &order, round);
        };
        let mut kinds: [Kind<'_>; 6] = [
            ("W1\n", SPANS, &mut |tracer| workload::w1(tracer, &order)),
            ("W0\n", SPANS / 5, &mut workload::w0),
            ("W2\n", SPANS / 5, &mut w2),
            ("unsampled child\n", SPANS / 5, &mut |tracer| workload::unsampled_child(tracer, &unsampled)),
            ("growth\n", SPANS / 100, &mut |tracer| tracer.span("growth").start().set("text", &text)),
            ("misuse\n", SPANS / 100, &mut misuse),
        ];
        kinds.iter_mut().for_each(|(_, _, round)| (0..WARM_UP).for_each(|_| round(&tracer)));
        if role == "unanswered" {
            // Every connection waits for an answer, one request more is ready, and the rest stays in the rings.
            while engine.ledger().in_flight == 0 || engine.ledger().queued == 0 {
                workload::w1(&tracer, &order);
            }
        }
        begin();
        for (name, rounds, round) in &mut kinds {
            tell(name);
            for count in 0..*rounds {
                round(&tracer);
                // The sum over all threads' counters takes longer than a span.
                if role == "exported" && count % 64 == 0 {
                    keep_below_the_mark(&engine);
                }
            }
        }
        let ledger = engine.ledger();
        tell("closed\n");
        let _ = engine.close();
        kinds.iter_mut().for_each(|(_, _, round)| (0..WARM_UP).for_each(|_| round(&tracer)));
        if role == "control" {
            // SAFETY: the call has no precondition.
            unsafe { libc::getppid() };
        }
        write(-1, END);
        let is_full = |ledger: &Ledger| ledger.queued > 0 && ledger.lost.lane_full > 0;
        let was_as_meant = match role {
            "drained" => ledger.drained > 0,
            "unanswered" => is_full(&ledger) && ledger.in_flight > 0 && ledger.exported == 0,
            "exported" => ledger.exported > 0 && ledger.lost.lane_full == 0,
            _ => is_full(&ledger),
        };
        tell("ledger\n");
        exit(if ledger.is_closed() && was_as_meant { 0 } else { NOT_AS_MEANT })
    })
}

/// Gives the worker time for all but an open batch, long before a ring is half full: past that a writer wakes it, by
/// the one system call that there is.
fn keep_below_the_mark(engine: &Engine) {
    while engine.ledger().queued > 200 {
        hint::spin_loop();
    }
}

fn misuse(tracer: &Tracer) {
    let mut span = tracer.span("").start();
    span.set("", 1);
    let shared = span.share();
    shared.end();
    shared.end();
    shared.set("late", 1);
}

/// A system call that the filter allows.
fn write(file: i32, text: &str) {
    // SAFETY: the bytes are valid for the length given; where the file does not exist, the error is ignored.
    unsafe { libc::write(file, text.as_ptr().cast(), text.len()) };
}

fn exit(code: i32) -> ! {
    // SAFETY: the call ends the process.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    unreachable!("the process has ended")
}

/// Kills the process at the next system call of this thread that is neither a write nor the end; false where the system
/// has no such filter.
fn kill_on_system_calls() -> bool {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).expect("codes of BPF have sixteen bits"),
        jt,
        jf,
        k,
    };
    let number = |call: libc::c_long| u32::try_from(call).expect("numbers of system calls are small");
    // linux/seccomp.h: `seccomp_data.nr` lies at offset 0.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(libc::SYS_exit_group), 3, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(libc::SYS_write), 2, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(libc::SYS_pwritev2), 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: the option takes four numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return false;
    }
    // SAFETY: the program lives until the call returns, and the kernel copies it.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) == 0 }
}
