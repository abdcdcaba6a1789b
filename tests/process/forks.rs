//! Forks and signal handlers: a child begins its own ledger and delivers its own spans, and a handler may record
//! anywhere.

#![cfg(unix)]

use std::{
    any::Any,
    collections::HashSet,
    fs::File,
    io::{Read, Write},
    mem,
    os::{
        fd::{FromRawFd, IntoRawFd},
        unix::thread::JoinHandleExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
};

use spanring::{
    Config, Engine, Ledger, Span, Tracer,
    internals::{Class, Lanes, Offer, Shape, Tally, enter},
    testing::{self, FinishedSpan},
};

use crate::alone;

/// Spans that wait in the parent's lanes when it forks, and spans that are open.
const QUEUED: usize = 10;
const OPEN: usize = 5;

#[test]
fn child_begins_its_own_ledger_and_delivers_its_own_spans() {
    let _alone = alone();
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("test");
    let mut open = parents_spans(&tracer);
    let before = engine.ledger();
    let ids: Vec<_> = open.iter().map(|span| span.context().clone()).collect();
    in_child(|_| {
        let mut first = tracer.span("child").start();
        assert!(first.is_recording(), "the first start works");
        for (mut span, id) in open.drain(..).zip(&ids) {
            assert_eq!(span.context(), id);
            assert_ne!(span.context().span_id(), first.context().span_id());
            span.set("late", 1);
            span.end();
        }
        first.set("key", "value");
        first.end();
        assert_eq!(names(&testing::finished(&engine)), ["child"], "inherited spans are the parent's to deliver");
        check_child(&engine, QUEUED + OPEN, 1);
        // It goes on as any process does.
        for _ in 0..3 {
            (0..100).for_each(|_| drop(tracer.span("child").start()));
            assert_eq!(names(&testing::finished(&engine)), ["child"; 100]);
        }
        check_child(&engine, QUEUED + OPEN, 301);
    });
    assert_eq!(engine.ledger(), before, "the parent is untouched");
    deliver_parents_spans(&engine, open);
}

#[test]
fn first_call_of_a_child_may_be_any() {
    let _alone = alone();
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("test");
    let mut open = parents_spans(&tracer);
    let calls: [fn(&Engine, &mut Vec<Span>); 6] = [
        |engine, _| assert!(testing::finished(engine).is_empty()),
        |engine, _| assert_closed(&engine.ledger()),
        |engine, _| drop(engine.tracer("other")),
        |_, open| open.drain(..).for_each(Span::end),
        |_, open| open.clear(),
        |_, open| open.iter_mut().for_each(|span| span.set("grows", "x".repeat(2_000).as_str())),
    ];
    for call in calls {
        in_child(|_| {
            call(&engine, &mut open);
            tracer.span("child").start().end();
            assert_eq!(names(&testing::finished(&engine)), ["child"]);
            open.clear();
            assert!(testing::finished(&engine).is_empty());
            check_child(&engine, QUEUED + OPEN, 1);
        });
    }
    deliver_parents_spans(&engine, open);
}

#[test]
fn engine_of_the_parent_may_be_closed_and_dropped_in_the_child() {
    let _alone = alone();
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("test");
    let open = parents_spans(&tracer);
    let mut parent = Some((engine, open));
    in_child(|_| {
        let (engine, open) = parent.take().unwrap();
        assert!(engine.close());
        assert!(!tracer.span("late").start().is_recording());
        assert_closed(&engine.ledger());
        drop(engine);
        drop(open);
        assert!(!tracer.span("late").start().is_recording());
        // A new engine has nothing to do with the old one.
        let engine = Engine::start(Config::default()).unwrap();
        engine.tracer("test").span("child").start().end();
        assert_eq!(names(&testing::finished(&engine)), ["child"]);
        assert_closed(&engine.ledger());
    });
    let (engine, open) = parent.unwrap();
    deliver_parents_spans(&engine, open);
}

/// A fork shares memory until one side writes: a parent that went on in its rings would copy every page of them, with a
/// lease in its hand. As every record does, these count in the thread's seat.
///
/// One fault or two come without any fork as well, in a third of the runs, for a reason not found. They say nothing of
/// the rings, which have 1,024 pages; without the mend each round had 500.
#[test]
#[cfg(target_os = "linux")]
fn parent_copies_no_page_of_its_rings_after_a_fork() {
    const RECORD_LEN: usize = 512;
    let _alone = alone();
    let shape = Shape { lanes: 4, ring_bytes: 1 << 20, arena_bytes: 1 << 16, spill_bytes: 0, seats: 1 };
    let lanes = Lanes::<(), ()>::new(shape, ()).unwrap();
    let mut reader = lanes.reader().unwrap();
    let seat = lanes.seats().take();
    let mut faults_of_a_round = || {
        let mut faults = 0;
        for hint in 0..shape.lanes {
            for _ in 0..shape.ring_bytes / (2 * RECORD_LEN) {
                lanes.seats().add(seat, Tally::Recording, 1);
                let lease = lanes.ring(hint).enter(lanes.generation()).unwrap();
                let before = faults_of_this_thread();
                lease.claim(RECORD_LEN).unwrap().publish(|record| {
                    record.fill(1);
                    lanes.seats().add(seat, Tally::Queued, 1);
                });
                faults += faults_of_this_thread() - before;
            }
        }
        reader.read(None, |_| ());
        faults
    };
    // Both halves of the rings, so that all code has run and the other half comes next.
    let faults = faults_of_a_round() + faults_of_a_round();
    assert!(faults < 4, "{faults} without a fork");
    // SAFETY: the child does nothing but wait.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: the call only waits.
            unsafe { libc::pause() };
        }
    }
    let faults = faults_of_a_round() + faults_of_a_round();
    // SAFETY: the child is ours, and its end is of no interest.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: as above; a null place is for an answer that nobody wants.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
    assert!(faults < 4, "{faults} while a child shares the memory");
}

#[cfg(target_os = "linux")]
fn faults_of_this_thread() -> i64 {
    // SAFETY: zeros are a value of this type, and the place is valid for one.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_minflt
}

/// A drain's sink forks, and panics in the child, where another span came meanwhile: what the parent had taken out half
/// way is no concern of the child's.
#[test]
fn panic_of_a_sink_in_a_child_that_it_forked_leaves_the_child_its_own_spans() {
    const TAKEN: usize = 3;
    let _alone = alone();
    for is_spilled in [false, true] {
        in_child(|_| {
            let engine = Engine::start(Config { lanes: Some(1), ..Config::default() }).unwrap();
            let tracer = engine.tracer("test");
            let lease = is_spilled.then(|| enter(&engine, 0).unwrap());
            (0..QUEUED).for_each(|_| tracer.span("queued").start().end());
            drop(lease);
            let (mut seen, mut child) = (0, -1);
            let drained = catch_unwind(AssertUnwindSafe(|| {
                engine.drain(|_, _| {
                    seen += 1;
                    if seen == TAKEN {
                        // SAFETY: this process has one thread that does anything, and its child goes on as it does.
                        child = unsafe { libc::fork() };
                        if child == 0 {
                            tracer.span("child").start().end();
                            panic!("as it may");
                        }
                    }
                })
            }));
            if child == 0 {
                assert!(drained.is_err());
                assert_eq!(names(&testing::finished(&engine)), ["child"]);
                return check_child(&engine, QUEUED - TAKEN, 1);
            }
            assert_eq!(drained.ok(), Some(QUEUED));
            let mut status = 0;
            // SAFETY: the child is ours, and the place is valid.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "in the child's child");
        });
    }
}

#[test]
fn ids_of_a_parent_its_children_and_their_children_differ() {
    const CHILDREN: usize = 8;
    const SPANS: usize = 50;
    let _alone = alone();
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("test");
    // The generator is in use before the fork, so that every child inherits its state.
    let mut all = some_ids(&tracer, SPANS);
    for _ in 0..CHILDREN {
        let written = in_child(|out| {
            out.write_all(&some_ids(&tracer, SPANS).concat()).unwrap();
            let below = in_child(|out| out.write_all(&some_ids(&tracer, SPANS).concat()).unwrap());
            out.write_all(&below).unwrap();
            out.write_all(&some_ids(&tracer, SPANS).concat()).unwrap();
        });
        all.extend(written.chunks(8).map(<[u8]>::to_vec));
        all.extend(some_ids(&tracer, SPANS));
    }
    assert_eq!(all.len(), 3 * SPANS * (1 + 4 * CHILDREN));
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

/// Three pieces of eight bytes a span: both halves of the trace id, and the span id.
fn some_ids(tracer: &Tracer, count: usize) -> Vec<Vec<u8>> {
    let ids = (0..count).flat_map(|_| {
        let span = tracer.span("id").start();
        let context = span.context();
        [context.trace_id().0.to_vec(), context.span_id().0.to_vec()]
            .concat()
            .chunks(8)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    });
    ids.collect()
}

#[test]
fn fork_while_others_record_leaves_both_processes_whole() {
    fork_under_load(Beside::Nothing);
}

#[test]
fn fork_while_another_thread_drains_leaves_the_child_able_to_drain() {
    fork_under_load(Beside::Drain);
}

#[test]
fn fork_while_another_thread_makes_tracers_leaves_the_child_able_to_make_its_own() {
    fork_under_load(Beside::Tracers);
}

/// What the parent does while it records.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Drain,
    Tracers,
}

#[test]
fn fork_in_the_middle_of_a_read_leaves_the_child_its_whole_spill_budget() {
    const SPILLED: usize = 10;
    let _alone = alone();
    let block = Class::First.bytes();
    let arena_bytes = 2 * SPILLED * block;
    let shape = Shape { lanes: 1, ring_bytes: 4096, arena_bytes, spill_bytes: SPILLED * block, seats: 1 };
    let lanes = Lanes::<(), ()>::new(shape, ()).unwrap();
    let spill = || lanes.take(Class::First).is_some_and(|block| lanes.spill(block, 64).is_ok());
    assert!((0..SPILLED).all(|_| spill()));
    let mut visits = 0;
    let mut reader = lanes.reader().unwrap();
    reader.read(None, |_| {
        visits += 1;
        if visits == 1 {
            in_child(|_| {
                assert!(lanes.settle());
                assert_eq!(lanes.fill().spill_waiting, 0);
                assert!((0..SPILLED).all(|_| spill()), "the stack is empty, and its budget is whole");
            });
        }
    });
    assert_eq!((visits, lanes.fill().spill_waiting), (SPILLED, 0));
}

#[test]
fn fork_under_a_lease_leaves_the_child_a_free_ring() {
    const RECORD_LEN: usize = 24;
    let _alone = alone();
    let shape = Shape { lanes: 1, ring_bytes: 4096, arena_bytes: 4096, spill_bytes: 4096, seats: 1 };
    let lanes = Lanes::<(), ()>::new(shape, ()).unwrap();
    let offer = |fill: &dyn Fn()| {
        lanes.offer(0, RECORD_LEN, |record| {
            record.fill(1);
            fill();
        })
    };
    let free = Offer::Queued { tries: 1 };
    assert_eq!(offer(&|| ()), free);
    let in_the_child = || {
        assert!(lanes.settle());
        assert_eq!(offer(&|| ()), free, "the holder has stayed with the parent");
        assert_eq!(lanes.reader().unwrap().read(None, |_| ()), 1);
        assert!(lanes.close());
    };
    assert_eq!(offer(&|| drop(in_child(|_| in_the_child()))), free);
    assert_eq!(lanes.reader().unwrap().read(None, |_| ()), 2);
}

fn fork_under_load(beside: Beside) {
    const THREADS: usize = 4;
    const FORKS: usize = 10;
    const SPANS: usize = 500;
    let _alone = alone();
    let engine = Engine::start(Config { memory_budget: 8 << 20, ..Config::default() }).unwrap();
    let (is_over, started, drained) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let drain = || {
        drained.fetch_add(engine.drain(|_, _| ()) as u64, Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let tracer = engine.tracer("test");
                while !is_over.load(Relaxed) {
                    order(&tracer, "parent");
                    started.fetch_add(1, Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                match beside {
                    Beside::Nothing => break,
                    Beside::Drain => drain(),
                    Beside::Tracers => drop(engine.tracer("test")),
                }
            }
        });
        let _over = Over(&is_over);
        for fork in 0..FORKS as u64 {
            until(|| started.load(Relaxed) > fork * 100);
            if beside != Beside::Drain {
                drain();
            }
            in_child(|_| {
                let tracer = engine.tracer("test");
                (0..SPANS).for_each(|_| order(&tracer, "child"));
                let spans = testing::finished(&engine);
                assert_eq!(spans.len(), SPANS);
                assert!(spans.iter().all(|span| span.name == "child"));
                let ledger = engine.ledger();
                assert_closed(&ledger);
                assert_eq!(ledger.started, SPANS as u64 + ledger.lost.forked, "{ledger:?}");
                assert_eq!((ledger.live, ledger.queued, ledger.drained), (0, 0, SPANS as u64), "{ledger:?}");
            });
        }
    });
    drain();
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!(ledger.started, started.load(Relaxed), "{ledger:?}");
    assert_eq!(ledger.drained, drained.load(Relaxed), "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.lost.forked), (0, 0, 0), "{ledger:?}");
    assert_eq!(ledger.started, ledger.drained + ledger.lost.total(), "{ledger:?}");
}

// ---- Signals.

static TRACER: OnceLock<Tracer> = OnceLock::new();
/// Spans that the handler has started.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn record_in_handler(_signal: libc::c_int) {
    if let Some(tracer) = TRACER.get() {
        order(tracer, "signal");
        HANDLED.fetch_add(1, Relaxed);
    }
}

#[test]
fn signal_handler_records_wherever_it_interrupts() {
    const HANDLED_MIN: u64 = 1_000;
    let _alone = alone();
    let engine = Arc::new(Engine::start(Config::default()).unwrap());
    TRACER.set(engine.tracer("handler")).expect("only this test sets it");
    handle(libc::SIGUSR1, record_in_handler);
    // A handler that never comes back would hang the test: the process is killed instead.
    let _watch = Watch::start(120);
    let (is_over, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new((0, 0))));
    let run = |work: fn(&Engine) -> (u64, u64)| {
        let (engine, is_over, counted) = (Arc::clone(&engine), Arc::clone(&is_over), Arc::clone(&counted));
        let body = move || {
            while !is_over.load(Relaxed) {
                let (started, drained) = work(&engine);
                let mut counted = counted.lock().unwrap();
                *counted = (counted.0 + started, counted.1 + drained);
            }
        };
        thread::Builder::new().spawn(body).unwrap()
    };
    // Two that record, one that drains, and one whose only spans are the handler's.
    let record = |engine: &Engine| {
        let tracer = engine.tracer("test");
        (0..200).for_each(|_| order(&tracer, "thread"));
        (200, 0)
    };
    let idle = |_: &Engine| {
        thread::yield_now();
        (0, 0)
    };
    let threads = [run(record), run(record), run(|engine| (0, engine.drain(|_, _| ()) as u64)), run(idle)];
    let _over = Over(&is_over);
    let mut targets = threads.iter().cycle();
    until(|| {
        let target = targets.next().expect("there are four").as_pthread_t();
        // SAFETY: the thread runs until it is joined below.
        assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
        HANDLED.load(Relaxed) >= HANDLED_MIN
    });
    is_over.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (started, drained) = *counted.lock().unwrap();
    let drained = drained + engine.drain(|_, _| ()) as u64;
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!(ledger.started, started + HANDLED.load(Relaxed), "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.drained), (0, 0, drained), "{ledger:?}");
    assert_eq!(ledger.started, drained + ledger.lost.lane_full + ledger.lost.spill_full, "{ledger:?}");
}

/// Whether the parked thread may go on, and whether it is parked.
static MAY_GO: AtomicBool = AtomicBool::new(false);
static IS_PARKED: AtomicBool = AtomicBool::new(false);

/// Stops the thread at whatever instruction it has reached.
extern "C" fn park_in_handler(_signal: libc::c_int) {
    IS_PARKED.store(true, SeqCst);
    while !MAY_GO.load(SeqCst) {
        thread::yield_now();
    }
    IS_PARKED.store(false, SeqCst);
}

#[test]
fn thread_stopped_at_any_instruction_stops_no_other_and_opens_no_ledger() {
    const STOPS: usize = 500;
    let _alone = alone();
    // Many rings, so that each is small and the long spans go through the spill stack.
    let config = Config { memory_budget: 1 << 20, lanes: Some(16), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    handle(libc::SIGUSR2, park_in_handler);
    let _watch = Watch::start(120);
    let is_over = Arc::new(AtomicBool::new(false));
    // Made here: a tracer takes a lock when it is made, and never again.
    let tracer = engine.tracer("test");
    let body = {
        let (tracer, is_over, text) = (tracer.clone(), Arc::clone(&is_over), "x".repeat(9_000));
        move || {
            while !is_over.load(Relaxed) {
                order(&tracer, "short");
                tracer.span("long").start().set("text", &text);
            }
        }
    };
    let recorder = thread::Builder::new().spawn(body).unwrap();
    let _over = Over(&is_over);
    let mut errors = Vec::new();
    for _ in 0..STOPS {
        MAY_GO.store(false, SeqCst);
        // SAFETY: the thread runs until it is joined below.
        assert_eq!(unsafe { libc::pthread_kill(recorder.as_pthread_t(), libc::SIGUSR2) }, 0);
        until(|| IS_PARKED.load(SeqCst));
        // Nothing moves now but this thread.
        engine.drain(|_, _| ());
        let before = engine.ledger();
        order(&tracer, "other");
        let drained = engine.drain(|_, _| ());
        let after = engine.ledger();
        if !before.is_closed() || !after.is_closed() || drained != 1 || after.started != before.started + 1 {
            errors.push((before, drained, after));
        }
        MAY_GO.store(true, SeqCst);
        until(|| !IS_PARKED.load(SeqCst));
    }
    is_over.store(true, Relaxed);
    recorder.join().unwrap();
    assert!(errors.is_empty(), "{} of {STOPS} stops, such as {:?}", errors.len(), errors[0]);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: zeros are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler takes a signal's number, and records a span, which is the claim under test.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
}

// ---- What the tests share.

/// Kills the process when its time is up; a hang is a failure, not a wait.
struct Watch;

impl Watch {
    fn start(seconds_max: libc::c_uint) -> Self {
        // SAFETY: the call has no precondition; the signal's default action ends the process.
        unsafe { libc::alarm(seconds_max) };
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the call has no precondition.
        unsafe { libc::alarm(0) };
    }
}

/// Runs `work` in a child process, which leaves without a destructor; what it has written to its file. A child that
/// panics or hangs fails the test.
fn in_child(work: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut ends = [0; 2];
    // SAFETY: the place is valid for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the descriptor is open, and owned by this file alone.
    let mut source = unsafe { File::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let mut target = unsafe { File::from_raw_fd(ends[1]) };
    // SAFETY: the child does what programs do after a fork, which is the claim under test, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        mem::forget(Watch::start(20));
        drop(source);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut target)));
        if let Err(panic) = &result {
            let _ = target.write_all(text(panic.as_ref()).as_bytes());
        }
        let _ = target.into_raw_fd();
        // SAFETY: the call ends the process.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    drop(target);
    let mut written = Vec::new();
    // Ends with the child, which a hang does not keep alive.
    source.read_to_end(&mut written).unwrap();
    let mut status = 0;
    // SAFETY: the child is ours, and the place is valid.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(!libc::WIFSIGNALED(status), "the child was killed by signal {}: it hung", libc::WTERMSIG(status));
    assert_eq!(status, 0, "in the child: {}", String::from_utf8_lossy(&written));
    written
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

/// Says that it is over, also when the test panics: its threads would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Spins until the event has come; the bound is for a test that would hang.
fn until(mut has_come: impl FnMut() -> bool) {
    const ROUNDS_MAX: u64 = 50_000_000;
    for _ in 0..ROUNDS_MAX {
        if has_come() {
            return;
        }
        thread::yield_now();
    }
    panic!("it never came");
}

fn parents_spans(tracer: &Tracer) -> Vec<Span> {
    (0..QUEUED).for_each(|_| tracer.span("queued").start().end());
    (0..OPEN).map(|_| tracer.span("open").start()).collect()
}

fn deliver_parents_spans(engine: &Engine, open: Vec<Span>) {
    drop(open);
    let spans = testing::finished(engine);
    assert_eq!(spans.iter().filter(|span| span.name == "queued").count(), QUEUED);
    assert_eq!(spans.iter().filter(|span| span.name == "open" && span.attributes.is_empty()).count(), OPEN);
    assert_eq!(spans.len(), QUEUED + OPEN);
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!((ledger.drained, ledger.lost.total()), ((QUEUED + OPEN) as u64, 0), "{ledger:?}");
}

fn check_child(engine: &Engine, forked: usize, drained: u64) {
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!(ledger.lost.forked, forked as u64, "{ledger:?}");
    assert_eq!(ledger.lost.total(), ledger.lost.forked, "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.drained), (0, 0, drained), "{ledger:?}");
    assert_eq!(ledger.started, ledger.lost.forked + drained, "{ledger:?}");
}

fn order(tracer: &Tracer, name: &str) {
    let mut span = tracer.span(name).start();
    span.set("http.request.method", "GET");
    span.set("http.response.status_code", 200);
    span.end();
}

fn names(spans: &[FinishedSpan]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn assert_closed(ledger: &Ledger) {
    assert!(ledger.is_closed(), "{ledger:?}");
}
