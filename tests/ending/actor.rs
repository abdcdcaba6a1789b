//! The process that ends: records spans, gets ready for its end in one of several ways, and says on stdout how far it
//! is.

use std::{
    env,
    io::{self, BufRead, Write},
    mem, panic, process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, DiagnosticSink, DriverChoice, Engine, Export, Signal};

use crate::holes::NOISE;

/// Names the part that the process plays.
pub const ROLE: &str = "SPANRING_TEST_ENDING";
/// Where its collector is, and how long its end may take, in milliseconds.
pub const ENDPOINT: &str = "SPANRING_TEST_ENDING_ENDPOINT";
pub const DEADLINE: &str = "SPANRING_TEST_ENDING_DEADLINE";

/// Spans of one portion: less than a batch, so that none leaves before the end.
pub const SPANS: usize = 400;
/// What the handler of the program ends the process with, and the program itself.
pub const HANDLED: i32 = 42;
pub const EXIT: i32 = 7;

const SIGNALS: [Signal; 3] = [Signal::Terminate, Signal::Interrupt, Signal::Hangup];

pub fn act(role: &str) {
    // A shell starts what it runs in the background with SIGINT ignored, and an ignored signal is inherited.
    [libc::SIGHUP, libc::SIGINT, libc::SIGTERM].into_iter().for_each(|signal| _ = set(signal, libc::SIG_DFL));
    match role {
        "wait" => {
            let engine = ready();
            say("ready");
            wait_for_ever(&engine);
        }
        "handler" => {
            set(libc::SIGTERM, end_in_handler as extern "C" fn(i32) as usize);
            let engine = ready();
            say("ready");
            wait_for_ever(&engine);
        }
        "survivor" => survive(),
        "server" => {
            set(libc::SIGTERM, count_in_handler as extern "C" fn(i32) as usize);
            let engine = flushed();
            serve(engine);
        }
        "server with a handler of later" => {
            let engine = flushed();
            BEFORE.store(set(libc::SIGTERM, count_and_pass_on as extern "C" fn(i32) as usize), SeqCst);
            serve(engine);
        }
        "flushed" => {
            let engine = flushed();
            say("ready");
            wait_for_ever(&engine);
        }
        "static" => {
            in_a_static();
            process::exit(EXIT);
        }
        "static, and main returns" => _ = in_a_static(),
        "static, and a child exits" => {
            in_a_static();
            // SAFETY: this thread is the only one that uses stdout, and the engine is made for forks.
            let child = unsafe { libc::fork() };
            if child == 0 {
                process::exit(EXIT);
            }
            let mut status = 0;
            // SAFETY: the status is a valid place.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == EXIT, "{status}");
            say("ready");
            hear();
        }
        "ignored" => {
            set(libc::SIGHUP, libc::SIG_IGN);
            let engine = ready();
            say("ready");
            hear();
            record(&engine);
            say("recorded");
            wait_for_ever(&engine);
        }
        "fork" => fork(),
        "shut down in a child" => shut_down_in_a_child(),
        "dropped" => {
            let engine = ready();
            assert_eq!(Arc::strong_count(&engine), 1, "the watch does not keep it alive");
            drop(engine);
            say("ready");
            hear();
        }
        "panic on main" => {
            let engine = panics();
            // Unwinding must not deliver what the hook is there for.
            mem::forget(Arc::clone(&engine));
            panic!("the program's own");
        }
        "panic on a thread" => {
            let engine = panics();
            let panicking = Arc::clone(&engine);
            let thread = thread::spawn(move || {
                let _open = panicking.tracer("test").span("open").start();
                panic!("the program's own");
            });
            assert!(thread.join().is_err());
            say("caught");
            hear();
            record(&engine);
            assert!(engine.shutdown(patience()).is_complete());
        }
        _ if role.starts_with("exit") => exit(role[4..].parse().unwrap_or(0)),
        _ => panic!("no such role: {role}"),
    }
}

// ---- Parts.

/// Shuts down in a handler that runs at the exit. The rounds differ as those of `shutdown.rs` do: in the driver, and in
/// whether a request is out already.
fn exit(round: usize) -> ! {
    let driver = if round.is_multiple_of(2) { DriverChoice::Auto } else { DriverChoice::Poll };
    assert!(ENGINE.set(engine_by(driver)).is_ok());
    let engine = ENGINE.get().expect("it was just set");
    record(engine);
    if round % 4 >= 2 {
        let _ = engine.flush(Duration::from_millis(10));
    }
    // SAFETY: the handler may run in any thread that exits, and the engine lives for ever.
    unsafe { libc::atexit(shut_down_at_exit) };
    process::exit(EXIT);
}

/// The program's handler returns: it gets each signal, after the last batch of the engine of that time.
fn survive() {
    set(libc::SIGTERM, count_in_handler as extern "C" fn(i32) as usize);
    for times in 1..=2 {
        let engine = ready();
        say("ready");
        while HANDLED_TIMES.load(SeqCst) < times {
            thread::park_timeout(Duration::from_millis(1));
        }
        assert_eq!(engine.ledger().exported, SPANS as u64, "the engine is done when the handler runs");
        assert!(!engine.tracer("test").span("late").start().is_recording());
    }
}

/// A server: it hears of the signal at once, finishes what it is at, and ends by itself.
fn serve(engine: Engine) {
    say("ready");
    while HANDLED_TIMES.load(SeqCst) == 0 {
        thread::park_timeout(Duration::from_millis(1));
    }
    say("told");
    hear();
    record(&engine);
    drop(engine);
    say(&format!("told {} times", HANDLED_TIMES.load(SeqCst)));
}

/// A process whose engine is in a static, with spans that have ended.
fn in_a_static() -> &'static Engine {
    assert!(ENGINE.set(engine()).is_ok());
    let engine = ENGINE.get().expect("it was just set");
    spanring::shut_down_at_exit(engine, patience()).expect("there is room for a call");
    record(engine);
    engine
}

/// A child process ends by its own signal, and the parent goes on.
fn fork() {
    let engine = ready();
    // SAFETY: the child calls nothing that is not safe in a handler.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // A child that does not end by its signal ends by the alarm, and does not keep the case waiting for its parent.
        // SAFETY: the call takes a number.
        unsafe { libc::alarm(60) };
        // SAFETY: nothing of the child's uses its stdout.
        unsafe { libc::close(libc::STDOUT_FILENO) };
        loop {
            // SAFETY: the call takes nothing.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: the child is this process's own, and has not been waited for.
    unsafe { libc::kill(child, libc::SIGTERM) };
    let mut status = 0;
    // SAFETY: the status is a valid place.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "{status}");
    record(&engine);
    say("ready");
    wait_for_ever(&engine);
}

/// A child process records and shuts down its own side of the engine, with its own worker.
fn shut_down_in_a_child() {
    let engine = engine();
    record(&engine);
    // SAFETY: this thread is the only one that uses stdout, and the engine is made for forks.
    let child = unsafe { libc::fork() };
    if child == 0 {
        record(&engine);
        tell_shutdown(&engine);
        // SAFETY: the call does not come back.
        unsafe { libc::_exit(EXIT) };
    }
    let mut status = 0;
    // SAFETY: the status is a valid place.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == EXIT, "{status}");
    tell_shutdown(&engine);
}

fn panics() -> Arc<Engine> {
    let engine = engine();
    let seen = Arc::clone(&engine);
    panic::set_hook(Box::new(move |_| say(&format!("exported {}", seen.ledger().exported))));
    spanring::flush_on_panic(&engine, patience());
    record(&engine);
    engine
}

static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
static HANDLED_TIMES: AtomicU32 = AtomicU32::new(0);
/// The handler of before.
static BEFORE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn shut_down_at_exit() {
    tell_shutdown(ENGINE.get().expect("it was set before the handler"));
}

/// Says how long a shutdown took, whether its receipt is complete, and whether every span of one portion is accounted
/// for.
fn tell_shutdown(engine: &Engine) {
    let begun = Instant::now();
    let receipt = engine.shutdown(patience());
    let elapsed = begun.elapsed().as_micros();
    // A worker that was kept from its last word by the machine has it later.
    let last = engine.shutdown(NOISE);
    let ledger = last.ledger;
    let is_accounted = last.is_complete()
        && ledger.is_closed()
        && ledger.exported + ledger.unconfirmed + ledger.lost.shutdown_deadline == SPANS as u64;
    say(&format!("{elapsed} {} {is_accounted}", receipt.is_complete()));
}

extern "C" fn end_in_handler(_: i32) {
    // SAFETY: the call is safe in a handler, and does not come back.
    unsafe { libc::_exit(HANDLED) };
}

extern "C" fn count_in_handler(_: i32) {
    HANDLED_TIMES.fetch_add(1, SeqCst);
}

/// As a handler does that is set by a library.
extern "C" fn count_and_pass_on(signal: i32) {
    HANDLED_TIMES.fetch_add(1, SeqCst);
    let before = BEFORE.load(SeqCst);
    // SAFETY: the handler takes the number, a pointer that it passes on to others, and another of the kind.
    let before = unsafe { mem::transmute::<usize, extern "C" fn(i32, usize, usize)>(before) };
    before(signal, 0, 0);
}

// ---- What they are made of.

fn ready() -> Arc<Engine> {
    let engine = engine();
    record(&engine);
    let watch = || spanring::shut_down_on_signals(&engine, &SIGNALS, patience());
    watch().expect("no other watch is there");
    assert_eq!(watch().map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
    engine
}

/// An engine that is flushed at a signal, with spans that have ended.
fn flushed() -> Engine {
    let engine = Arc::into_inner(engine()).expect("it is the only one");
    record(&engine);
    spanring::flush_on_signals(&engine, &SIGNALS, patience()).expect("no other watch is there");
    engine
}

fn engine() -> Arc<Engine> {
    engine_by(DriverChoice::Auto)
}

fn engine_by(driver: DriverChoice) -> Arc<Engine> {
    let endpoint = env::var(ENDPOINT).expect("the case says where to");
    // Nothing leaves before it has to, and no request comes to an end by itself.
    let export = Export {
        schedule_delay: Duration::from_secs(3600),
        timeout: Duration::from_secs(60),
        driver,
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        ..Export::to(&endpoint)
    };
    Arc::new(Engine::start(Config { export: Some(export), ..Config::default() }).expect("the configuration works"))
}

fn record(engine: &Engine) {
    let tracer = engine.tracer("test");
    (0..SPANS).for_each(|_| tracer.span("work").start().end());
}

fn patience() -> Duration {
    let millis = env::var(DEADLINE).expect("the case says how long");
    Duration::from_millis(millis.parse().expect("it is a number"))
}

/// Sets the handler; the one before.
fn set(signal: i32, handler: usize) -> usize {
    // SAFETY: the handler ignores, or is one of the functions above, which are safe in a handler.
    unsafe { libc::signal(signal, handler) }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the case listens");
}

fn hear() {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    assert!(read.is_ok_and(|bytes| bytes > 0), "the case is gone");
}

/// With a span that is open, as there are some in every process that ends.
fn wait_for_ever(engine: &Engine) {
    let open = engine.tracer("test").span("open").start();
    hear();
    drop(open);
}
