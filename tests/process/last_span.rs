//! A span that outlives its engine and is ended in a signal handler: the engine's memory is not freed there, where the
//! allocator may be interrupted.

#![cfg(unix)]

use std::{
    mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering::SeqCst},
    },
    thread,
};

use spanring::{Config, Engine, IdSource, Span, SpanId, TraceId};

use crate::alone;

/// The span of the handler.
static SPAN: AtomicPtr<Option<Span>> = AtomicPtr::new(ptr::null_mut());

/// Ids of an engine, which are dropped with the rest of it.
#[derive(Debug)]
struct Ids(#[expect(dead_code, reason = "only its life counts")] Arc<()>);

impl IdSource for Ids {
    fn trace_id(&self) -> TraceId {
        TraceId([1; 16])
    }

    fn span_id(&self) -> SpanId {
        SpanId([1; 8])
    }
}

extern "C" fn end_in_handler(_: libc::c_int) {
    // SAFETY: the span was set before the signal was raised, and is used by this thread alone.
    unsafe { SPAN.load(SeqCst).as_mut() }.and_then(Option::take).expect("it was set before").end();
}

/// A span whose engine is gone, and whether that engine's memory is.
fn orphan() -> (Span, impl Fn() -> bool) {
    let life = Arc::new(());
    let ids: Box<dyn IdSource> = Box::new(Ids(Arc::clone(&life)));
    let engine = Engine::start(Config { ids: Some(ids), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    // The thread that starts the span has a share of the engine until it ends.
    let span = thread::spawn(move || tracer.span("orphan").start()).join().unwrap();
    drop(engine);
    assert!(span.is_recording());
    (span, move || Arc::strong_count(&life) == 1)
}

#[test]
fn engine_is_not_freed_in_a_signal_handler() {
    let _alone = alone();
    let (span, is_freed) = orphan();
    span.end();
    assert!(is_freed(), "the last span frees it, outside of a handler");

    let (span, is_freed) = orphan();
    let mut span = Some(span);
    SPAN.store(&raw mut span, SeqCst);
    // SAFETY: an action is plain data, of which all zeros is a value.
    let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = end_in_handler as *const () as usize;
    // SAFETY: the handler may run in any thread; no other test uses this signal, and tests of this program run alone.
    unsafe { libc::sigaction(libc::SIGWINCH, &raw const action, ptr::null_mut()) };
    // SAFETY: the call takes a number; the handler has run when it returns.
    unsafe { libc::raise(libc::SIGWINCH) };
    assert!(span.is_none(), "the handler has ended it");
    assert!(!is_freed(), "the handler has freed it");
}
