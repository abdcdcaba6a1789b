//! A child process whose first span is recorded in a signal handler: nothing is allocated there, and the export starts
//! later.

#![cfg(unix)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::Write,
    mem, ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use spanring::{
    Config, Engine, Export, Tracer,
    testing::collector::{Collector, Mode},
};

use crate::alone;

/// The tracer of the handler.
static TRACER: AtomicPtr<Tracer> = AtomicPtr::new(ptr::null_mut());
/// Spans of the handler, and allocations that were made in it.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Elsewhere) };
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Elsewhere,
    /// The next allocation is interrupted by the handler.
    Armed,
    /// An allocation is interrupted: a real one would hold the allocator's lock.
    Interrupted,
}

/// An allocator that is interrupted in the middle of an allocation.
struct Interrupted;

fn called() {
    match PLACE.get() {
        Place::Elsewhere => {}
        Place::Armed => {
            PLACE.set(Place::Interrupted);
            // SAFETY: the call takes a number; the handler has run when it returns.
            unsafe { libc::raise(libc::SIGWINCH) };
            PLACE.set(Place::Elsewhere);
        }
        Place::Interrupted => _ = ALLOCATED.fetch_add(1, SeqCst),
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Interrupted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract, word for word.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Interrupted = Interrupted;

extern "C" fn record_in_handler(_: libc::c_int) {
    // SAFETY: the tracer is leaked before the handler is set.
    let tracer = unsafe { TRACER.load(SeqCst).as_ref() }.expect("it was set before");
    tracer.span("handler").start().end();
    HANDLED.fetch_add(1, SeqCst);
}

const SPANS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn first_span_in_a_handler_allocates_nothing_and_the_next_one_starts_the_export() {
    let _alone = alone();
    let (collector, engine) = start();
    let tracer = engine.tracer("test");
    TRACER.store(Box::leak(Box::new(tracer.clone())), SeqCst);
    handle(libc::SIGWINCH, record_in_handler);
    in_child(|| {
        for handled in 1..=3 {
            PLACE.set(Place::Armed);
            drop(std::hint::black_box(Box::new(7)));
            assert_eq!(HANDLED.load(SeqCst), handled);
            assert_eq!(ALLOCATED.load(SeqCst), 0, "allocations in the handler");
        }
        let thread = thread::spawn(move || (0..SPANS).for_each(|_| tracer.span("thread").start().end()));
        thread.join().unwrap();
        until_exported(&engine, SPANS + 3);
    });
    assert_eq!(collector.tally().spans, SPANS + 3);
}

/// The thread that has recorded in the handler first may be the only one that ever records.
#[test]
fn thread_of_the_handler_starts_the_export_afterwards() {
    let _alone = alone();
    let (collector, engine) = start();
    let tracer = engine.tracer("test");
    TRACER.store(Box::leak(Box::new(tracer.clone())), SeqCst);
    handle(libc::SIGWINCH, record_in_handler);
    in_child(|| {
        // SAFETY: the call takes a number.
        unsafe { libc::raise(libc::SIGWINCH) };
        tracer.span("ordinary").start().end();
        until_exported(&engine, 2);
    });
    assert_eq!(collector.tally().spans, 2);
}

/// Servers block the signals that they take by `sigwait`: that is no handler, and a span starts the export.
#[test]
fn blocked_signals_without_a_handler_keep_nobody_from_the_export() {
    let _alone = alone();
    let (collector, engine) = start();
    let tracer = engine.tracer("test");
    in_child(|| {
        block(&[libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD]);
        tracer.span("ordinary").start().end();
        until_exported(&engine, 1);
    });
    assert_eq!(collector.tally().spans, 1);
}

/// A thread that blocks a signal which has a handler looks like one that is in it. Any call on the engine starts the
/// export.
#[test]
fn blocked_signal_with_a_handler_leaves_the_export_to_a_call_on_the_engine() {
    let _alone = alone();
    let calls: [fn(&Engine); 3] = [
        |engine| drop(engine.tracer("another")),
        |engine| assert!(engine.flush(PATIENCE).is_complete()),
        |engine| assert!(engine.shutdown(PATIENCE).is_complete()),
    ];
    for call in calls {
        let (collector, engine) = start();
        let tracer = engine.tracer("test");
        handle(libc::SIGURG, record_in_handler);
        in_child(|| {
            block(&[libc::SIGURG]);
            (0..SPANS).for_each(|_| tracer.span("ordinary").start().end());
            call(&engine);
            until_exported(&engine, SPANS);
        });
        assert_eq!(collector.tally().spans, SPANS);
    }
}

/// Nothing but the drop follows: it delivers them.
#[test]
fn drop_delivers_what_waits_for_the_export() {
    let _alone = alone();
    let (collector, engine) = start();
    let tracer = engine.tracer("test");
    handle(libc::SIGURG, record_in_handler);
    let mut engine = Some(engine);
    in_child(|| {
        block(&[libc::SIGURG]);
        (0..SPANS).for_each(|_| tracer.span("ordinary").start().end());
        drop(engine.take());
    });
    assert_eq!(collector.tally().spans, SPANS);
}

fn start() -> (Collector, Engine) {
    let collector = Collector::start(Mode::Ids).unwrap();
    let export = Export { schedule_delay: Duration::from_millis(20), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    (collector, engine)
}

fn until_exported(engine: &Engine, spans: u64) {
    let late = Instant::now() + PATIENCE;
    while engine.ledger().exported < spans {
        assert!(Instant::now() < late, "{:?}", engine.ledger());
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Runs `work` in a child process; fails if it panics, or is not over in time.
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child uses the engine, whose promise this is, and ends without coming back.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // A child that hangs is killed by the kernel.
        // SAFETY: the call takes a number.
        unsafe { libc::alarm(90) };
        // What the harness would keep to itself.
        std::panic::set_hook(Box::new(|panic| _ = writeln!(std::io::stderr(), "{panic}")));
        let is_fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends the child at once, without the destructors of its parent's threads.
        unsafe { libc::_exit(i32::from(!is_fine)) }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the place is valid.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: an action is plain data, of which all zeros is a value.
    let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does what this test is about.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
}

fn block(signals: &[libc::c_int]) {
    // SAFETY: a set of signals is plain bits, and is emptied by the next call.
    let mut set = unsafe { mem::zeroed::<libc::sigset_t>() };
    // SAFETY: the set is a valid place.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: the set is a valid place, and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: the set is filled, and nobody wants to know the old one.
    assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }, 0);
}
