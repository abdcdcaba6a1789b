//! The driver in a process that is not what it hopes for: no io_uring, a ring that fails in mid-life, no descriptors;
//! and what it asks of the kernel while it is idle.
//!
//! Each test starts this binary again for itself alone, because a filter for system calls and a limit stay for good.

#![cfg(target_os = "linux")]

use std::{
    env, fs,
    io::ErrorKind,
    process::{self, Command, Output},
    time::Duration,
};

use spanring::internals::driver::{Driver, DriverChoice, DriverReport, is_cancelled};

use crate::rig::{self, Behaviour, CHUNK, PATIENCE, World, connected};

/// Says to the child that it is one, and which.
const ROLE: &str = "SPANRING_TEST_DRIVER";
/// The child could not look: this system has no filters, or no io_uring to begin with.
const NOT_POSSIBLE: i32 = 77;

/// The system calls, their answer under the filter, and what the report says.
type Refusal = (&'static [libc::c_long], i32, &'static str);

const REFUSALS: &[Refusal] = &[
    (&[libc::SYS_io_uring_setup], libc::EPERM, "io_uring refused: Operation not permitted"),
    (&[libc::SYS_io_uring_setup], libc::ENOSYS, "io_uring refused: Function not implemented"),
    (&[libc::SYS_io_uring_setup], libc::ENOMEM, "io_uring refused: Cannot allocate memory"),
    (&[libc::SYS_io_uring_setup], libc::EOPNOTSUPP, "io_uring refused: Operation not supported"),
    (&[libc::SYS_io_uring_register], libc::EACCES, "io_uring refused: Permission denied"),
    (&[libc::SYS_io_uring_enter], libc::EPERM, "io_uring failed its self-test: Operation not permitted"),
    (&[libc::SYS_eventfd2], libc::EMFILE, "io_uring refused: Too many open files"),
];

#[test]
fn whatever_io_uring_answers_poll_runs_and_says_why() {
    const NAME: &str = "whatever_io_uring_answers_poll_runs_and_says_why";
    if let Ok(role) = env::var(ROLE) {
        let (calls, answer, reason) = REFUSALS[role.parse::<usize>().unwrap()];
        filter(calls, answer);
        for choice in [DriverChoice::Auto, DriverChoice::Uring] {
            if calls == [libc::SYS_eventfd2] {
                // mio wakes by the same means, so that nothing is left.
                assert!(Driver::open(choice, Duration::MAX).is_err());
                continue;
            }
            let (driver, report) = Driver::open(choice, Duration::MAX).unwrap();
            assert_eq!(report.name, "poll");
            assert!(report.reason.contains(reason), "{report}");
            works(driver);
        }
        process::exit(0);
    }
    for role in 0..REFUSALS.len() {
        succeeds(NAME, &role.to_string());
    }
}

#[test]
fn ring_that_the_kernel_closes_in_mid_life_is_replaced() {
    const NAME: &str = "ring_that_the_kernel_closes_in_mid_life_is_replaced";
    if env::var(ROLE).is_ok() {
        let mut world = uring_or_exit();
        let waker = world.driver.waker();
        let conn = world.connect(Behaviour::Silent);
        world.driver.recv(conn, vec![0; CHUNK]);
        world.clog(conn, vec![9; 16 << 20]);
        filter(&[libc::SYS_io_uring_enter], libc::EPERM);
        let cause = world.driver.wait(None, &mut vec![]).unwrap_err();
        let DriverReport { name, reason } = world.driver.fall_back(&cause).unwrap();
        assert_eq!(name, "poll");
        assert!(reason.contains("Operation not permitted"), "{reason}");
        let (buffer, result) = world.sent(conn);
        assert!(buffer == vec![9; 16 << 20]);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        let (buffer, result) = world.received(conn);
        assert_eq!(buffer.len(), CHUNK);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        world.driver.close(conn);
        waker.wake();
        world.wait_without_completion(PATIENCE);
        works(world.driver);
        process::exit(0);
    }
    succeeds(NAME, "child");
}

/// What was refused is in the ring still: a sleep would wait for an operation that the kernel does not know of.
#[test]
fn ring_does_not_sleep_on_what_the_kernel_did_not_take() {
    const NAME: &str = "ring_does_not_sleep_on_what_the_kernel_did_not_take";
    if env::var(ROLE).is_ok() {
        let mut world = uring_or_exit();
        let conn = world.connect(Behaviour::Silent);
        world.look();
        world.driver.sleep_outside().unwrap();
        filter(&[libc::SYS_io_uring_enter], libc::EAGAIN);
        world.driver.recv(conn, vec![0; CHUNK]);
        let until = world.driver.now().after(Duration::from_secs(60));
        let error = world.driver.wait(Some(until), &mut vec![]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
        process::exit(0);
    }
    succeeds(NAME, "child");
}

#[test]
fn without_descriptors_open_and_connect_fail_and_recover() {
    const NAME: &str = "without_descriptors_open_and_connect_fail_and_recover";
    if let Ok(role) = env::var(ROLE) {
        let choice = role.parse().unwrap();
        let mut world = World::new(Driver::open(choice, Duration::MAX).unwrap().0, None);
        let address = world.address(Behaviour::Echo);
        let old = limit_descriptors(0);
        let error = Driver::open(choice, Duration::MAX).map(|(_, report)| report).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        let conn = world.driver.connect(&address);
        let error = connected(world.next(conn)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        // A send on such a connection fails with the reason.
        world.driver.send(conn, vec![1], 0..1);
        assert_eq!(world.sent(conn).1.unwrap_err().kind(), ErrorKind::NotConnected);
        world.driver.close(conn);
        limit_descriptors(old);
        works(world.driver);
        process::exit(0);
    }
    succeeds(NAME, "uring");
    succeeds(NAME, "poll");
}

/// More than the ring's queues hold, both ways.
const CROWD: usize = 300;

#[test]
fn more_operations_than_the_queues_hold_all_complete() {
    const NAME: &str = "more_operations_than_the_queues_hold_all_complete";
    if let Ok(role) = env::var(ROLE) {
        let mut world = if role == "poll" {
            World::new(Driver::open(DriverChoice::Poll, Duration::MAX).unwrap().0, None)
        } else {
            uring_or_exit()
        };
        let address = world.address(Behaviour::Silent);
        let conns: Vec<_> = (0..CROWD).map(|_| world.driver.connect(&address)).collect();
        conns.iter().for_each(|conn| connected(world.next(*conn)).unwrap());
        conns.iter().for_each(|conn| world.driver.recv(*conn, vec![1; 8]));
        world.look();
        conns.iter().for_each(|conn| world.driver.cancel(*conn));
        for conn in conns {
            assert!(is_cancelled(&world.received(conn).1.unwrap_err()));
            world.driver.close(conn);
        }
        assert_eq!(world.driver.in_flight(), 0);
        process::exit(0);
    }
    succeeds(NAME, "poll");
    succeeds(NAME, "uring");
}

/// Rounds between the marks, where nothing happens but time.
const ROUNDS: usize = 20;

#[test]
fn ring_takes_one_system_call_a_wait_and_tells_the_kernel_that_it_is_idle() {
    const NAME: &str = "ring_takes_one_system_call_a_wait_and_tells_the_kernel_that_it_is_idle";
    if let Ok(role) = env::var(ROLE) {
        waits(&role);
    }
    if Command::new("strace").arg("--version").output().is_err() {
        return say("no strace on this system: nobody counts the calls of an idle wait");
    }
    for (role, waits) in [("idle", ROUNDS), ("busy", 1)] {
        let log = env::temp_dir().join(format!("spanring-driver-strace-{}-{role}", process::id()));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o"]).arg(&log).arg(env::current_exe().unwrap());
        let output = again(strace, NAME, role);
        let lines = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        if output.status.code() == Some(NOT_POSSIBLE) || lines.is_empty() || lines.contains("PTRACE_TRACEME") {
            return say("no io_uring, or no tracing, on this system");
        }
        assert!(output.status.success(), "{role}: {output:?}");
        let calls = between_marks(&lines);
        assert!(calls.iter().all(|call| call.contains("io_uring_enter(")), "{role}: {calls:#?}");
        assert_eq!(calls.len(), waits, "{role}: {calls:#?}");
        let tells = |call: &&str| call.contains("0x80") || call.contains("NO_IOWAIT");
        assert!(!is_kernel_since((6, 15)) || calls.iter().all(tells), "{role}: {calls:#?}");
    }
}

fn waits(role: &str) -> ! {
    let mut world = uring_or_exit();
    let conn = world.connect(Behaviour::Echo);
    let (bytes, place) = (vec![7; 100], vec![0; CHUNK]);
    assert_eq!(world.exchange(conn, &bytes), bytes);
    let mut completions = Vec::with_capacity(8);
    world.look();
    mark(BEGIN);
    world.driver.recv(conn, place);
    if role == "busy" {
        // Both are submitted, and the send completes, with the one call of the wait.
        world.driver.send(conn, bytes, 0..100);
        world.driver.wait(None, &mut completions).unwrap();
        mark(END);
        assert!(!completions.is_empty());
    } else {
        for _ in 0..ROUNDS {
            let until = world.driver.now().after(Duration::from_millis(2));
            world.driver.wait(Some(until), &mut completions).unwrap();
        }
        mark(END);
        assert!(completions.is_empty(), "{completions:?}");
    }
    process::exit(0)
}

const BEGIN: &str = "spanring-begin";
const END: &str = "spanring-end";

fn mark(text: &str) {
    // SAFETY: the bytes are valid for the length given; there is no such file, and the error is ignored.
    unsafe { libc::write(-1, text.as_ptr().cast(), text.len()) };
}

/// What the thread that wrote the marks called between them, but for the time where it takes a call to tell.
fn between_marks(log: &str) -> Vec<&str> {
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let begin = log.lines().position(|line| line.contains(BEGIN)).expect("the child begins");
    let waiter = thread(log.lines().nth(begin).unwrap_or_default());
    assert!(log.contains(END), "the child ends");
    let later = log.lines().skip(begin + 1).filter(|line| thread(line) == waiter);
    let calls = later.take_while(|line| !line.contains(END));
    calls.filter(|line| !line.contains("resumed>") && !line.contains("clock_gettime")).collect()
}

// ---- The child, and what becomes of it.

fn again(mut command: Command, test: &str, role: &str) -> Output {
    command.args(["--exact", &format!("process::{test}"), "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn succeeds(test: &str, role: &str) {
    let output = again(Command::new(env::current_exe().unwrap()), test, role);
    if output.status.code() == Some(NOT_POSSIBLE) {
        return say("no filter, or no io_uring, on this system");
    }
    assert!(output.status.success(), "{role}: {:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[expect(clippy::print_stderr, reason = "a test that cannot look has to say so")]
fn say(text: &str) {
    eprintln!("driver: {text}");
}

fn uring_or_exit() -> World {
    rig::uring_world().unwrap_or_else(|| process::exit(NOT_POSSIBLE))
}

fn works(driver: Driver) {
    let mut world = World::new(driver, None);
    let conn = world.connect(Behaviour::Echo);
    assert_eq!(world.exchange(conn, b"it works"), b"it works");
    world.driver.close(conn);
}

fn is_kernel_since(least: (u32, u32)) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|release: (u32, u32)| release >= least)
}

/// Sets how many descriptors the process may have; the old limit.
fn limit_descriptors(limit: libc::rlim_t) -> libc::rlim_t {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for the call to write.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut old) }, 0);
    let new = libc::rlimit { rlim_cur: limit, ..old };
    // SAFETY: the limit is valid for the call to read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const new) }, 0);
    old.rlim_cur
}

/// Answers these system calls of this thread, and of those that it starts, with an error from now on.
fn filter(calls: &[libc::c_long], error: i32) {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).expect("codes of BPF have sixteen bits"),
        jt,
        jf,
        k,
    };
    let number = |call: libc::c_long| u32::try_from(call).expect("numbers of system calls are small");
    // linux/seccomp.h: `seccomp_data.nr` lies at offset 0.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        program.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number(*call), 0, 1));
        let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(error).expect("errors are small");
        program.push(statement(libc::BPF_RET | libc::BPF_K, answer, 0, 0));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    let len = u16::try_from(program.len()).expect("a few statements");
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the option takes four numbers.
    let prepared = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program lives until the call returns, and the kernel copies it.
    let installed = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if prepared != 0 || installed != 0 {
        process::exit(NOT_POSSIBLE);
    }
}
