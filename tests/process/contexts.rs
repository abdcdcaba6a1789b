//! Wrong use of contexts: repaired, counted once by its kind, and never a leak into the next request.

use std::{mem, sync::Mutex, thread};

use spanring::{
    Context, CurrentSpan, Misuse, SpanContext, SpanId, TraceId, TraceState, current_span, testing::finished,
};

use crate::misuse::{Counts, engine};

fn remote(id: u8) -> Context {
    Context::of(SpanContext::remote(TraceId([id; 16]), SpanId([id; 8]), 1, TraceState::default()))
}

fn current_id() -> u8 {
    Context::current().span_context().span_id().0[0]
}

/// API-21: what is on top stays, and afterwards the thread is back where it was.
#[test]
fn api_21_detach_out_of_order_is_repaired_and_counted() {
    let mut counts = Counts::begin();
    let outermost = remote(1).attach();
    let (first, second, third) = (remote(2).attach(), remote(3).attach(), remote(4).attach());
    drop(second);
    assert_eq!((current_id(), counts.only(Misuse::DetachedOutOfOrder)), (4, 1));
    drop(first);
    assert_eq!((current_id(), counts.only(Misuse::DetachedOutOfOrder)), (4, 1));
    drop(third);
    assert_eq!((current_id(), counts.only(Misuse::DetachedOutOfOrder)), (1, 0));
    drop(outermost);
    assert!(Context::current().is_empty());
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 0);
}

#[test]
fn parent_that_ends_before_its_child_on_the_stack_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    let parent = tracer.span("parent").start().enter();
    let child = tracer.span("child").start().enter();
    drop(parent);
    assert_eq!(counts.only(Misuse::ParentEndedFirst), 1);
    assert_eq!(finished(&engine).len(), 1, "it has ended all the same");
    tracer.span("grandchild").start().end();
    assert_eq!(finished(&engine)[0].parent_id, child.context().span_id());
    drop(child);
    assert!(Context::current().is_empty());
    assert_eq!(counts.only(Misuse::ParentEndedFirst), 0);
}

#[test]
fn guards_that_are_leaked_end_with_the_closure_they_were_made_in() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    for _ in 0..100 {
        tracer.in_span("request", |_| {
            mem::forget(Context::current().attach());
            mem::forget(tracer.span("leaked").start().enter());
        });
        assert!(Context::current().is_empty());
    }
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 200);
    remote(1).run(|| mem::forget(remote(2).attach()));
    assert!(Context::current().is_empty());
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
    assert_eq!(finished(&engine).len(), 200, "spans that were leaked have ended, too");
    assert!(engine.ledger().is_closed());
}

#[test]
fn what_is_attached_at_the_end_of_a_thread_goes_with_it_and_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    thread::scope(|scope| {
        scope.spawn(|| {
            mem::forget(tracer.span("leaked").start().enter());
            mem::forget(tracer.span("on top").start().enter());
        });
        scope.spawn(|| drop(tracer.span("well").start().enter()));
    });
    // A scope waits for its closures, not for the ends of their threads.
    let leaked = thread::spawn({
        let tracer = tracer.clone();
        move || mem::forget(tracer.span("leaked").start().enter())
    });
    leaked.join().unwrap();
    while engine.ledger().queued < 4 {
        thread::yield_now();
    }
    assert_eq!(counts.only(Misuse::LeftAttached), 2);
    assert_eq!(finished(&engine).len(), 4);
}

#[test]
fn leaked_guards_have_a_bound() {
    let mut counts = Counts::begin();
    let bound = thread::spawn(|| {
        (0..10_000).for_each(|_| mem::forget(remote(1).attach()));
        current_id()
    });
    assert_eq!(bound.join().unwrap(), 1);
    assert_eq!(counts.of([Misuse::TooManyAttached, Misuse::LeftAttached]), [10_000 - 4096, 1]);
}

#[test]
fn remote_context_over_a_span_of_this_process_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    drop(remote(1).attach());
    let outer = remote(1).attach();
    drop(remote(2).attach());
    assert_eq!(counts.only(Misuse::RemoteOverCurrent), 0);
    drop(outer);
    tracer.in_span("a", |_| {
        let attached = remote(1).attach();
        assert_eq!(current_id(), 1, "it counts, and is done");
        drop(attached);
    });
    assert_eq!(counts.only(Misuse::RemoteOverCurrent), 1);
}

#[test]
fn capture_with_nothing_current_is_counted() {
    let mut counts = Counts::begin();
    let _ = Context::current();
    assert_eq!(counts.only(Misuse::NothingToCapture), 0);
    assert!(Context::capture().is_empty());
    assert_eq!(counts.only(Misuse::NothingToCapture), 1);
    remote(1).run(|| assert!(!Context::capture().is_empty()));
    assert_eq!(counts.only(Misuse::NothingToCapture), 0);
}

#[test]
fn change_of_a_span_by_its_own_change_is_ignored_and_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    tracer.in_span("a", |span| {
        let attributes = (0..3).map(|index| {
            current_span().set("from inside", index);
            tracer.span("a child all the same").start().end();
            ("key", index)
        });
        span.set_all(attributes);
    });
    assert_eq!(counts.only(Misuse::ChangedInItself), 3);
    let spans = finished(&engine);
    let span = spans.iter().find(|span| span.name == "a").unwrap();
    assert_eq!(span.attributes, [("key".to_owned(), 2.into())]);
    assert!(spans.iter().filter(|other| other.name != "a").all(|child| child.parent_id == span.span_id));
}

#[test]
fn guard_that_is_dropped_by_a_change_of_its_span_ends_it_after_the_change() {
    let mut counts = Counts::begin();
    let engine = engine();
    let entered = engine.tracer("t").span("a").start().enter();
    let handle = current_span();
    let slot = Mutex::new(Some(entered));
    let attributes = ["a", "b"].iter().map(|key| {
        drop(slot.lock().unwrap().take());
        (*key, 1)
    });
    handle.set_all(attributes);
    let span = finished(&engine).remove(0);
    assert_eq!(span.attributes, [("a".to_owned(), 1.into()), ("b".to_owned(), 1.into())]);
    assert!(Context::current().is_empty());
    handle.set("late", 1);
    assert_eq!(counts.only(Misuse::ChangedAfterEnd), 1);
}

#[test]
fn change_where_the_span_is_not_is_ignored_and_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    engine.tracer("t").in_span("a", |_| {
        let there = Context::current().wrap(|| current_span().set("from afar", 1));
        thread::spawn(there).join().unwrap();
    });
    assert_eq!(counts.only(Misuse::ChangedElsewhere), 1);
    let unsampled = SpanContext::remote(TraceId([1; 16]), SpanId([1; 8]), 0, TraceState::default());
    Context::of(unsampled).run(|| current_span().set("nobody would see it", 1));
    current_span().set("nobody's", 1);
    assert_eq!(counts.only(Misuse::ChangedElsewhere), 0);
    assert!(finished(&engine)[0].attributes.is_empty());
}

#[test]
fn values_of_a_context_may_attach_when_they_are_dropped() {
    struct Attaches;
    impl Drop for Attaches {
        fn drop(&mut self) {
            remote(9).run(|| assert_eq!(current_id(), 9));
        }
    }
    let mut counts = Counts::begin();
    let attached = Context::default().with_value(Attaches).attach();
    let on_top = remote(1).attach();
    drop(attached);
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
    drop(on_top);
    assert!(Context::current().is_empty());
    thread::spawn(|| mem::forget(Context::default().with_value(Attaches).attach())).join().unwrap();
    assert_eq!(counts.only(Misuse::LeftAttached), 1);
}

/// The hook of the process, and so the only test that sets it.
#[test]
fn hook_sees_each_switch() {
    static SEEN: Mutex<Vec<u8>> = Mutex::new(vec![]);
    let _counts = Counts::begin();
    fn see(context: &Context) {
        if thread::current().name().is_some_and(|name| name.contains("hook_sees")) {
            SEEN.lock().unwrap().push(context.span_context().span_id().0[0]);
        }
    }
    assert!(Context::on_switch(see));
    assert!(!Context::on_switch(see), "there is one");
    let outer = remote(1).attach();
    remote(2).run(|| ());
    drop(outer);
    assert_eq!(*SEEN.lock().unwrap(), [1, 2, 1, 0]);
}

#[test]
fn handle_of_the_current_span_stays_in_its_thread() {
    trait Anywhere {}
    impl<T: Send> Anywhere for T {}
    trait Unless<A> {
        fn is_bound() {}
    }
    impl<T: ?Sized> Unless<()> for T {}
    impl<T: ?Sized + Anywhere> Unless<u8> for T {}
    // Two implementations would be there for a type that is `Send`, and none could be chosen.
    <CurrentSpan as Unless<_>>::is_bound();
    <spanring::Entered as Unless<_>>::is_bound();
    <spanring::Attached as Unless<_>>::is_bound();
}
