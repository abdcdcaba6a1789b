//! Wrong use of contexts: repaired, counted once by its kind, and never a leak into the next request.

use std::{
    future::{Future, pending, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{self, Poll, Waker},
    thread,
};

use spanring::{
    Context, CurrentSpan, Misuse, SpanContext, SpanId, TraceFuture, TraceId, TraceState, Tracer, current_span,
    testing::finished,
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
        move || {
            mem::forget(tracer.span("parent").start().enter());
            mem::forget(tracer.span("child").start().enter());
        }
    });
    leaked.join().unwrap();
    while engine.ledger().queued < 5 {
        thread::yield_now();
    }
    assert_eq!(counts.only(Misuse::LeftAttached), 2);
    let spans = finished(&engine);
    let end = |name: &str| spans.iter().find(|span| span.name == name).map(|span| span.end);
    assert!(end("child") <= end("parent"));
    assert_eq!(spans.len(), 5);
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
    struct Looks;
    impl Drop for Looks {
        fn drop(&mut self) {
            assert_eq!(current_id(), 1, "it is found in the middle of nothing");
        }
    }
    let outer = remote(1).attach();
    drop(Context::default().with_value(Looks).attach());
    drop(outer);
    let attached = Context::default().with_value(Attaches).attach();
    let on_top = remote(1).attach();
    drop(attached);
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
    drop(on_top);
    assert!(Context::current().is_empty());
    thread::spawn(|| mem::forget(Context::default().with_value(Attaches).attach())).join().unwrap();
    assert_eq!(counts.only(Misuse::LeftAttached), 1);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn panics<R>(work: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(work()))).is_err()
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut task::Context::from_waker(Waker::noop()))
}

/// With `panic_on_misuse`, a panic comes from the middle of a detach. The spans have ended all the same.
#[test]
fn span_ends_though_its_misuse_panics() {
    type Case = (Misuse, fn(&Tracer));
    let cases: [Case; 5] = [
        (Misuse::ParentEndedFirst, |tracer| {
            let parent = tracer.span("parent").start().enter();
            let child = tracer.span("child").start().enter();
            assert!(panics(|| drop(parent)));
            drop(child);
        }),
        (Misuse::ParentEndedFirst, |tracer| {
            let parent = tracer.span("parent").start().enter();
            let _child = tracer.span("child").start().enter();
            assert!(panics(|| parent.exit()));
        }),
        (Misuse::DetachedOutOfOrder, |tracer| {
            let leak = |_: &CurrentSpan| mem::forget(tracer.span("leaked").start().enter());
            assert!(panics(|| tracer.in_span("closure", leak)));
        }),
        (Misuse::DetachedOutOfOrder, |tracer| {
            let leak = async { mem::forget(tracer.span("leaked").start().enter()) };
            let mut future = Box::pin(tracer.in_span_async("future", leak));
            assert!(panics(|| poll(future.as_mut())));
        }),
        (Misuse::TooManyAttached, |tracer| {
            let full: Vec<_> = (0..4096).map(|_| remote(1).attach()).collect();
            assert!(panics(|| tracer.span("too many").start().enter()));
            full.into_iter().rev().for_each(drop);
        }),
    ];
    let mut counts = Counts::begin();
    for (kind, case) in cases {
        let engine = engine();
        let tracer = engine.tracer("t");
        engine.panic_on_misuse(true);
        case(&tracer);
        assert_eq!(counts.only(kind), 1);
        assert!(Context::current().is_empty(), "{kind:?}");
        let (ledger, spans) = (engine.ledger(), finished(&engine).len());
        assert_eq!((ledger.is_closed(), ledger.started), (true, u64::try_from(spans).unwrap()), "{kind:?}");
    }
}

#[test]
fn span_of_a_future_ends_though_the_drop_of_the_future_panics() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    let started = |bomb: Bomb| {
        let mut future = Box::pin(tracer.in_span_async("future", async {
            let _bomb = bomb;
            let _held = tracer.span("held").start().enter();
            pending::<()>().await;
        }));
        assert!(poll(future.as_mut()).is_pending());
        future
    };
    assert!(panics(|| drop(started(Bomb))));
    assert!(Context::current().is_empty());
    let leaking = async {
        mem::forget(Context::current().with_value(Bomb).attach());
        mem::forget(tracer.span("leaked").start().enter());
    };
    let mut leaking = Box::pin(tracer.in_span_async("future", leaking));
    assert!(panics(|| poll(leaking.as_mut())));
    drop(leaking);
    assert!(Context::current().is_empty());
    assert_eq!((finished(&engine).len(), engine.ledger().is_closed()), (4, true));
    counts.of([Misuse::DetachedOutOfOrder]);
}

#[test]
fn guards_that_are_leaked_by_a_panic_end_with_the_closure_or_the_future() {
    let mut counts = Counts::begin();
    let leak = || {
        mem::forget(remote(2).attach());
        panic!("leaked");
    };
    assert!(panics(|| remote(1).run(leak)));
    assert!(Context::current().is_empty());
    let outer = remote(1).attach();
    assert!(panics(|| poll(pin!(async { leak() }.in_current_context()))));
    assert_eq!(current_id(), 1);
    assert!(panics(|| poll(pin!(async { leak() }.in_context(remote(3))))));
    assert_eq!(current_id(), 1);
    drop(outer);
    assert!(Context::current().is_empty());
    let [count] = counts.of([Misuse::DetachedOutOfOrder]);
    assert_eq!(count, 3);
}

/// What a future leaves attached goes to another thread with it, where the number of a frame means another one.
#[test]
fn guards_that_are_leaked_by_a_future_go_with_it_to_another_thread() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    for attached_before in 0..4 {
        let leaking = {
            let tracer = tracer.clone();
            let mut polls = 0;
            poll_fn(move |_| {
                polls += 1;
                if polls == 1 {
                    mem::forget(tracer.span("leaked").start().enter());
                    return Poll::Pending;
                }
                assert!(current_span().is_recording());
                if polls == 2 { Poll::Pending } else { Poll::Ready(()) }
            })
        };
        let mut future = Box::pin(tracer.in_span_async("future", leaking));
        let future = thread::spawn(move || {
            assert!(poll(future.as_mut()).is_pending());
            future
        });
        let mut future = future.join().unwrap();
        let here = thread::spawn(move || {
            (0..attached_before).for_each(|_| drop(remote(1).attach()));
            assert!(poll(future.as_mut()).is_pending());
            assert!(Context::current().is_empty());
            assert!(poll(future.as_mut()).is_ready());
            assert!(Context::current().is_empty());
        });
        here.join().unwrap();
        assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
    }
    assert_eq!((finished(&engine).len(), engine.ledger().is_closed()), (8, true));
}

/// A signal handler, the destructor of a thread-local value: what happens to a span there is counted.
#[test]
fn changes_of_a_span_that_found_no_place_are_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    let full: Vec<_> = (0..4096).map(|_| remote(1).attach()).collect();
    let entered = tracer.span("too many").start().enter();
    entered.set("lost", 1);
    drop(entered);
    assert_eq!(counts.of([Misuse::TooManyAttached, Misuse::ChangedElsewhere]), [1, 1]);
    let mut left = tracer.span("left").start().enter().exit();
    left.set("kept", 1);
    drop(left);
    assert_eq!(counts.only(Misuse::TooManyAttached), 1);
    let mut future = Box::pin(tracer.in_span_async("future", async { Context::current() }));
    let Poll::Ready(seen) = poll(future.as_mut()) else { panic!("it waits for nothing") };
    assert_eq!((seen.span_context().span_id().0[0], counts.only(Misuse::TooManyAttached)), (1, 1));
    full.into_iter().rev().for_each(drop);
    assert!(engine.ledger().is_closed());
    assert_eq!(finished(&engine).iter().map(|span| span.attributes.len()).collect::<Vec<_>>(), [0, 1, 0]);
}

/// A guard that is moved into a future, and dropped there while another is held.
#[test]
fn guard_that_a_future_drops_below_what_it_holds_is_gone_when_it_waits() {
    let mut counts = Counts::begin();
    let mut outer = Some(remote(1).attach());
    let mut held = None;
    let work = poll_fn(|_| {
        held.get_or_insert_with(|| remote(2).attach());
        outer = None;
        Poll::<()>::Pending
    });
    let mut future = Box::pin(work.in_current_context());
    assert!(poll(future.as_mut()).is_pending());
    assert!(Context::current().is_empty());
    assert!(poll(future.as_mut()).is_pending());
    assert!(Context::current().is_empty());
    drop(future);
    drop(held);
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 2);
}

/// Ends a span in the middle of a change, by code of the program that the change runs.
struct Ends(std::cell::RefCell<Option<spanring::Entered>>);

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(current_span().is_recording());
        drop(self.0.take());
        f.write_str("ended")
    }
}

#[test]
fn parent_that_ends_in_a_change_of_itself_or_its_child_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    for is_change_of_child in [true, false] {
        let parent = tracer.span("parent").start().enter();
        let itself = current_span();
        let parent = Ends(Some(parent).into());
        let child = tracer.span("child").start().enter();
        if is_change_of_child {
            child.fail_with(&parent)
        } else {
            itself.fail_with(&parent)
        }
        drop(child);
        assert_eq!(counts.only(Misuse::ParentEndedFirst), 1);
        let spans = finished(&engine);
        let failed = spans.iter().find(|span| !span.events.is_empty()).map(|span| &*span.name);
        assert_eq!(failed, Some(if is_change_of_child { "child" } else { "parent" }));
        assert_eq!((spans.len(), engine.ledger().is_closed()), (2, true));
        assert!(Context::current().is_empty());
    }
}

#[test]
fn guard_that_was_dropped_out_of_order_is_not_counted_as_leaked() {
    let mut counts = Counts::begin();
    remote(1).run(|| {
        let first = remote(2).attach();
        mem::forget(remote(3).attach());
        drop(first);
        assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
    });
    assert_eq!(counts.only(Misuse::DetachedOutOfOrder), 1);
}

/// The hook of the process, and so the only test that sets it.
#[test]
fn hook_sees_each_switch() {
    static SEEN: Mutex<Vec<u8>> = Mutex::new(vec![]);
    /// 0: the hook notes what it sees; 1: it attaches as well; 2: it panics.
    static MODE: AtomicU8 = AtomicU8::new(0);
    let mut counts = Counts::begin();
    fn see(context: &Context) {
        if !thread::current().name().is_some_and(|name| name.contains("hook_sees")) {
            return;
        }
        SEEN.lock().unwrap().push(context.span_context().span_id().0[0]);
        match MODE.load(Relaxed) {
            0 => {}
            1 => drop(remote(9).attach()),
            _ => panic!("the hook"),
        }
    }
    let seen = || mem::take(&mut *SEEN.lock().unwrap());
    assert!(Context::on_switch(see));
    assert!(!Context::on_switch(see), "there is one");
    let outer = remote(1).attach();
    remote(2).run(|| ());
    drop(outer);
    assert_eq!(seen(), [1, 2, 1, 0]);

    // What a future holds while it waits.
    let mut held = None;
    let mut future = pin!(
        poll_fn(|_| {
            held.get_or_insert_with(|| remote(2).attach());
            Poll::<()>::Pending
        })
        .in_context(remote(1))
    );
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(seen().last(), Some(&0));
    assert!(poll(future.as_mut()).is_pending());
    let switches = seen();
    assert!(switches.starts_with(&[1, 2]) && switches.last() == Some(&0), "{switches:?}");

    MODE.store(1, Relaxed);
    let outer = remote(1).attach();
    drop(outer);
    assert_eq!(seen(), [1, 0], "switches of the hook's own are not told");
    MODE.store(2, Relaxed);
    let engine = engine();
    let outer = remote(1).attach();
    engine.tracer("t").in_span("span", |_| ());
    drop(outer);
    assert!(Context::current().is_empty());
    MODE.store(0, Relaxed);
    assert_eq!((finished(&engine).len(), engine.ledger().is_closed()), (1, true));
    assert_eq!(counts.only(Misuse::HookPanicked), 4);
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
