//! The workloads that benches and instruction counts share: W0, W1, W2, and an engine that is drained on the side.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use spanring::{
    Config, Engine, Key, Kind, Sampling, Span, SpanContext, SpanId, Status, TraceId, TraceState, Tracer,
    propagate::{Extractor, Injector, Refused},
};

const METHOD: Key<'static> = Key::new("http.request.method");
const STATUS_CODE: Key<'static> = Key::new("http.response.status_code");
const ORDER: Key<'static> = Key::new("order.id");
const CACHED: Key<'static> = Key::new("cache.hit");
const SHARE: Key<'static> = Key::new("load.share");

/// W0: one internal span without attributes.
#[inline]
pub fn w0(tracer: &Tracer) {
    let span = tracer.span("step").start();
    span.end();
}

/// W1: one root server span with five attributes.
#[inline]
pub fn w1(tracer: &Tracer, order: &str) {
    let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    fill(&mut span, order);
    span.end();
}

/// W2: a tree of five W1 spans, one with an event, every hundredth root with an error status.
#[inline]
pub fn w2(tracer: &Tracer, order: &str, round: u64) {
    let mut root = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    fill(&mut root, order);
    for name in ["auth", "load", "price", "render"] {
        let mut child = tracer.span(name).parent(root.context()).start();
        fill(&mut child, order);
        if name == "load" {
            child.event_with("cache.miss", [("cache.key", order)]);
        }
        child.end();
    }
    if round.is_multiple_of(100) {
        root.status(Status::Error("out of stock"));
    }
    root.end();
}

#[inline]
fn fill(span: &mut Span, order: &str) {
    span.set(METHOD, "GET");
    span.set(ORDER, order);
    span.set(STATUS_CODE, black_box(200));
    span.set(CACHED, black_box(true));
    span.set(SHARE, black_box(0.25));
}

/// A child of an unsampled parent.
#[inline]
pub fn unsampled_child(tracer: &Tracer, parent: &SpanContext) {
    let span = tracer.span("step").parent(parent).start();
    span.end();
}

/// The context of a span that is not sampled.
pub fn unsampled_parent() -> SpanContext {
    let engine =
        Engine::start(Config { sampling: Sampling::AlwaysOff, ..config() }).expect("the configuration is good");
    let span = engine.tracer("bench").span("parent").start();
    span.context().clone()
}

/// The context of a span that is sampled, of another process.
pub fn sampled_parent() -> SpanContext {
    SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default())
}

/// The leanest carrier there is: a buffer for the header that was set last.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    name: &'static str,
    value: Vec<u8>,
}

impl Extractor for Headers {
    #[inline]
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if name == self.name {
            visit(&self.value);
        }
    }
}

impl Injector for Headers {
    #[inline]
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        self.name = name;
        self.value.clear();
        self.value.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

/// The dynamic sixteen-byte string of W1.
pub fn order() -> String {
    black_box("order-0123456789").to_owned()
}

fn config() -> Config {
    Config::default()
}

/// An engine and a thread that drains it, as the exporter will.
pub struct Drained {
    pub engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Drained {
    /// Starts both.
    pub fn start() -> Self {
        let engine =
            Arc::new(Engine::start(Config { memory_budget: 64 << 20, ..config() }).expect("the configuration is good"));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (engine, stop) = (Arc::clone(&engine), Arc::clone(&stop));
            move || {
                let mut bytes = 0;
                while !stop.load(Relaxed) {
                    engine.drain(|_, span| bytes += black_box(span).len() as u64);
                    // A visit takes the tail's line from the writer; the exporter will not come more often either.
                    thread::park_timeout(Duration::from_micros(100));
                }
                engine.drain(|_, span| bytes += black_box(span).len() as u64);
                bytes
            }
        });
        Self { engine, stop, thread: Some(thread) }
    }

    /// Stops the drain and says what was lost: a bench that lost spans measured something else.
    pub fn report(&mut self, name: &str) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let bytes = thread.join().expect("the drain does not panic");
            let ledger = self.engine.ledger();
            assert!(ledger.is_closed(), "{ledger:?}");
            eprintln!("{name}: {} spans, {bytes} bytes, lost {:?}", ledger.started, ledger.lost);
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.report("dropped");
    }
}
