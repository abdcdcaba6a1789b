//! An allocator that records: a span is started and ended inside of `alloc`, wherever that is, and the ledger closes to
//! the span.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use spanring::{Config, Engine, Ledger, Tracer};

struct Recording;

static TRACER: OnceLock<Tracer> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Spans that the allocator has started.
static STARTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// One call in so many records. Not every one, because the test is about where, not about how many.
const EVERY: u32 = 4;

fn called() {
    let calls = CALLS.replace(CALLS.get().wrapping_add(1));
    if !calls.is_multiple_of(EVERY) || !IS_ON.load(Relaxed) {
        return;
    }
    if let Some(tracer) = TRACER.get() {
        STARTED.fetch_add(1, Relaxed);
        let mut span = tracer.span("alloc").start();
        span.set("calls", calls);
        if calls.is_multiple_of(2 * EVERY) {
            drop(span.enter());
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came; what is recorded before takes no memory from here.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        called();
        // SAFETY: the caller's contract, word for word.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Recording = Recording;

#[test]
fn spans_inside_of_alloc_are_counted_wherever_it_is_called() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 3_000;
    let engine = Engine::start(Config::default()).unwrap();
    let _on = On::with(&engine);
    let drained = AtomicU64::new(0);
    for _ in 0..4 {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                // The first allocations of a thread come before its first span of the body, its last ones after
                // everything.
                scope.spawn(|| {
                    LAST.with_borrow_mut(|last| last.push(String::from("dropped with the thread")));
                    let tracer = engine.tracer("test");
                    for round in 0..ROUNDS / 4 {
                        let mut span = tracer.span("body").start();
                        span.set("text", black_box("x".repeat(usize::try_from(round % 700).unwrap())).as_str());
                        // Shared spans allocate at `share`, and when the last handle frees them.
                        if round % 8 == 0 { span.share().end() } else { span.end() }
                    }
                });
            }
            // The drain allocates while it holds its lock, and so does its sink.
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut spans = Vec::new();
                    engine.drain(|_, bytes| spans.push(bytes.to_vec()));
                    drained.fetch_add(spans.len() as u64, Relaxed);
                }
            });
        });
    }
    let inside = off();
    let started = THREADS * ROUNDS + inside;
    let drained = drained.load(Relaxed) + engine.drain(|_, _| ()) as u64;
    let ledger = engine.ledger();
    assert_closed(&ledger);
    assert!(inside > 10_000, "the allocator records too: {inside}");
    assert_eq!(ledger.started, started, "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.drained), (0, 0, drained), "{ledger:?}");
    assert_eq!(ledger.started, drained + ledger.lost.lane_full + ledger.lost.spill_full, "{ledger:?}");
}

thread_local! {
    static LAST: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Stops the allocator's recording; how many spans it has started.
fn off() -> u64 {
    IS_ON.store(false, Relaxed);
    STARTED.load(Relaxed)
}

/// The allocator's recording, for the time of one test.
struct On;

impl On {
    fn with(engine: &Engine) -> Self {
        TRACER.set(engine.tracer("alloc")).expect("one test sets it");
        IS_ON.store(true, Relaxed);
        Self
    }
}

impl Drop for On {
    fn drop(&mut self) {
        IS_ON.store(false, Relaxed);
    }
}

fn assert_closed(ledger: &Ledger) {
    assert!(ledger.is_closed(), "{ledger:?}");
}
