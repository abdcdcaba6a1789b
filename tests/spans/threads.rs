//! Threads that end: what their destructors record is counted, and what they had is used again.

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use spanring::{Config, Engine, Ledger, Span, Tracer, testing};

#[test]
fn spans_of_thread_local_destructors_are_counted_and_delivered() {
    const THREADS: usize = 200;
    let engine = Engine::start(Config::default()).unwrap();
    // Three ways to the destructor: registered before the thread's first span, after it, and in a thread without
    // another span.
    for order in [Order::Before, Order::After, Order::Alone] {
        for _ in 0..THREADS {
            let tracer = engine.tracer("test");
            run(move || {
                let mut last = Last { tracer: tracer.clone(), open: None };
                match order {
                    Order::Before => {
                        LAST.set(Some(last));
                        tracer.span("body").start().end();
                    }
                    Order::After => {
                        tracer.span("body").start().end();
                        last.open = Some(tracer.span("open").start());
                        LAST.set(Some(last));
                    }
                    Order::Alone => LAST.set(Some(last)),
                }
            });
        }
    }
    let spans = testing::finished(&engine);
    let count = |name| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((count("body"), count("open"), count("destructor")), (2 * THREADS, THREADS, 3 * THREADS));
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!((ledger.live, ledger.queued, ledger.lost.total()), (0, 0, 0), "{ledger:?}");
    assert_eq!(ledger.started, 6 * THREADS as u64, "{ledger:?}");
}

#[derive(Clone, Copy)]
enum Order {
    Before,
    After,
    Alone,
}

/// Records when its thread ends.
struct Last {
    tracer: Tracer,
    open: Option<Span>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let mut span = self.tracer.span("destructor").start();
        span.set("key", "value");
        // A larger block, too.
        span.set("text", "x".repeat(1_000).as_str());
        span.end();
        drop(self.open.take());
    }
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

#[test]
fn blocks_and_seats_of_ended_threads_are_used_again() {
    const WAVES: u64 = 250;
    const WAVE: u64 = 16;
    let engine = Engine::start(Config::default()).unwrap();
    let wave = || {
        thread::scope(|scope| {
            for _ in 0..WAVE {
                scope.spawn(|| {
                    let tracer = engine.tracer("test");
                    let open: Vec<Span> = (0..8).map(|_| tracer.span("wave").start()).collect();
                    drop(open);
                });
            }
        });
        engine.drain(|_, _| ());
    };
    (0..WAVES).for_each(|_| wave());
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert_eq!(ledger.drained, WAVES * WAVE * 8, "{ledger:?}");
    // Eight blocks for each thread of one wave, and half as many again for groups on their way.
    let carved = engine.memory().arena_carved;
    assert!(carved <= WAVE * 12 * 640, "{carved} bytes carved by {} threads", WAVES * WAVE);
}

#[test]
fn span_that_moved_ends_after_the_thread_that_started_it() {
    let engine = Engine::start(Config::default()).unwrap();
    let spans: Vec<Span> = (0..100).map(|_| run_with(|| engine.tracer("test").span("moved").start())).collect();
    assert_eq!(engine.ledger().live, 100);
    run_with(|| drop(spans));
    assert_eq!(testing::finished(&engine).len(), 100);
    assert_closed(&engine.ledger());
}

#[test]
fn thread_may_turn_from_one_engine_to_another_and_back() {
    let engines = [Engine::start(Config::default()).unwrap(), Engine::start(Config::default()).unwrap()];
    let tracers = engines.each_ref().map(|engine| engine.tracer("test"));
    let mut open = Vec::new();
    for round in 0..1_000 {
        open.push(tracers[round % 2].span("open").start());
        if round % 3 == 0 {
            // Ended while the thread serves the other engine as well.
            open.swap_remove(round % open.len()).end();
        }
    }
    drop(open);
    for engine in &engines {
        assert_eq!(testing::finished(engine).len(), 500);
        assert_closed(&engine.ledger());
        let carved = engine.memory().arena_carved;
        assert!(carved <= 520 * 640, "{carved}");
    }
}

#[test]
fn ends_of_threads_without_a_seat_are_counted_to_the_span() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 1_000;
    const OPEN: u64 = 8;
    let engines = [Engine::start(Config::default()).unwrap(), Engine::start(Config::default()).unwrap()];
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let [here, elsewhere] = engines.each_ref().map(|engine| engine.tracer("test"));
                for _ in 0..ROUNDS {
                    let open: Vec<Span> = (0..OPEN).map(|_| here.span("open").start()).collect();
                    // The thread turns to the other engine, and gives its seat at the first one back.
                    drop(elsewhere.span("elsewhere").start());
                    drop(open);
                }
            });
        }
    });
    for (engine, spans) in engines.iter().zip([THREADS * ROUNDS * OPEN, THREADS * ROUNDS]) {
        let drained = engine.drain(|_, _| ()) as u64;
        let ledger = engine.ledger();
        assert_closed(&ledger);
        assert_eq!((ledger.started, ledger.live, ledger.queued), (spans, 0, 0), "{ledger:?}");
        assert_eq!((ledger.drained, ledger.drained + ledger.lost.total()), (drained, spans), "{ledger:?}");
    }
}

/// What runs when all Rust destructors of a thread are through, ours among them.
#[cfg(unix)]
mod late {
    use std::sync::OnceLock;

    use super::{AtomicBool, Cell, Config, Engine, Relaxed, Tracer, assert_closed, run, testing};

    static TRACER: OnceLock<Tracer> = OnceLock::new();
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();

    thread_local! {
        static ROUNDS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn spans_after_our_own_exit_are_counted_and_what_they_took_is_given_back() {
        const THREADS: u64 = 2_000;
        let engine = Engine::start(Config::default()).unwrap();
        TRACER.set(engine.tracer("test")).expect("only this test sets it");
        // Our key exists from the first span on. Keys run in the order of their creation, so this one runs after ours.
        TRACER.get().unwrap().span("first").start().end();
        let mut key = 0;
        // SAFETY: the place is valid, and the destructor may run in any thread.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(record_late)) }, 0);
        KEY.set(key).unwrap();
        for _ in 0..THREADS {
            run(|| {
                TRACER.get().unwrap().span("body").start().end();
                set_key();
            });
        }
        assert!(HAS_RUN.load(Relaxed));
        let spans = testing::finished(&engine);
        let late = spans.iter().filter(|span| span.name == "late").count() as u64;
        assert_eq!(late, 2 * THREADS);
        let ledger = engine.ledger();
        assert_closed(&ledger);
        assert_eq!((ledger.live, ledger.queued, ledger.lost.total()), (0, 0, 0), "{ledger:?}");
        // One thread after the other: what each took came back.
        let carved = engine.memory().arena_carved;
        assert!(carved <= 64 * 640, "{carved} bytes carved by {THREADS} threads");
    }

    extern "C" fn record_late(_value: *mut libc::c_void) {
        HAS_RUN.store(true, Relaxed);
        if let Some(tracer) = TRACER.get() {
            tracer.span("late").start().set("key", "value");
        }
        // Once more, in the next round of the thread's keys.
        if ROUNDS.replace(ROUNDS.get() + 1) == 0 {
            set_key();
        }
    }

    fn set_key() {
        if let Some(&key) = KEY.get() {
            // SAFETY: the key was created; its value is never read, and is not null so that the destructor runs.
            unsafe { libc::pthread_setspecific(key, std::ptr::dangling::<u8>().cast()) };
        }
    }
}

/// Runs `work` in a thread of its own, to the end of that thread.
fn run(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().spawn(work).unwrap().join().unwrap();
}

/// As [`run`], for what borrows.
fn run_with<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn assert_closed(ledger: &Ledger) {
    assert!(ledger.is_closed(), "{ledger:?}");
}
