//! What is current in a thread: parents that nobody names, changes from deep code, closures and futures in a span.

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::mpsc,
    task::{Context as Task, Poll, Waker},
    thread,
    time::{Duration, SystemTime},
};

use spanring::{
    Annotate, Baggage, Config, Context, Engine, SpanContext, SpanId, Status, TraceFuture, TraceId, TraceState, Tracer,
    current_ids, current_span,
    testing::{FinishedSpan, finished},
};

fn engine() -> (Engine, Tracer) {
    let engine = Engine::start(Config::default()).unwrap();
    let tracer = engine.tracer("t");
    (engine, tracer)
}

fn named<'a>(spans: &'a [FinishedSpan], name: &str) -> &'a FinishedSpan {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Each of these pairs is a parent and its child, in one trace.
#[track_caller]
fn assert_children(spans: &[FinishedSpan], pairs: &[(&str, &str)]) {
    for (parent, child) in pairs {
        let (above, below) = (named(spans, parent), named(spans, child));
        assert_eq!(
            (below.parent_id, below.trace_id),
            (above.span_id, above.trace_id),
            "{child} is a child of {parent}"
        );
    }
}

#[track_caller]
fn assert_nothing_current() {
    assert!(Context::current().is_empty(), "{}", Context::current());
    assert_eq!(current_ids(), None);
    assert!(!current_span().is_recording());
}

fn remote() -> SpanContext {
    SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default())
}

#[test]
fn current_span_is_the_parent_unless_another_is_named() {
    let (engine, tracer) = engine();
    let outer = tracer.span("outer").start().enter();
    let inner = tracer.span("inner").start().enter();
    tracer.span("leaf").start().end();
    tracer.root("root").start().end();
    tracer.span("of the outer").parent(&*outer).start().end();
    tracer.span("of another process").parent(&Some(remote())).start().end();
    tracer.span("of nobody").parent(&None::<Context>).start().end();
    drop(inner);
    tracer.span("second").start().end();
    drop(outer);
    tracer.span("late").start().end();
    assert_nothing_current();
    let spans = finished(&engine);
    assert_children(&spans, &[("outer", "inner"), ("inner", "leaf"), ("outer", "of the outer"), ("outer", "second")]);
    for root in ["outer", "root", "of nobody", "late"] {
        assert!(!named(&spans, root).parent_id.is_valid(), "{root}");
    }
    let child = named(&spans, "of another process");
    assert_eq!((child.trace_id, child.parent_id), (remote().trace_id(), remote().span_id()));
}

/// API-05, API-06, API-10: a span that was only started is not current.
#[test]
fn api_06_span_is_current_from_enter_to_the_end_of_its_guard() {
    let (engine, tracer) = engine();
    let span = tracer.span("a").start();
    assert_nothing_current();
    let entered = span.enter();
    let ids = current_ids().unwrap();
    assert_eq!((ids.trace_id, ids.span_id), (entered.context().trace_id(), entered.context().span_id()));
    assert!(ids.is_sampled);
    assert_eq!(Context::current().span_context(), entered.context());
    let span = entered.exit();
    assert_nothing_current();
    assert!(span.is_recording());
    assert_eq!(finished(&engine).len(), 0, "it has only been left");
    span.end();
    assert_eq!(finished(&engine).len(), 1);
}

#[test]
fn deep_code_changes_the_span_that_is_current() {
    fn deep(mut span: impl Annotate) {
        span.set("b", 2);
        span.event("deep");
        span.status(Status::Error("no"));
    }
    let (engine, tracer) = engine();
    tracer.in_span("a", |span| {
        span.set("a", 1);
        deep(current_span());
        tracer.in_span("child", |_| current_span().set("c", 3));
    });
    current_span().set("nobody", 1);
    let spans = finished(&engine);
    let span = named(&spans, "a");
    assert_eq!(span.attributes, [("a".to_owned(), 1.into()), ("b".to_owned(), 2.into())]);
    assert_eq!(span.events.len(), 1);
    assert_eq!(span.status, Status::Error("no"));
    assert_eq!(named(&spans, "child").attributes, [("c".to_owned(), 3.into())]);
}

#[test]
fn shared_span_is_changed_where_it_is_entered() {
    let (engine, tracer) = engine();
    let shared = tracer.span("a").start().share();
    let there = shared.clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _entered = there.enter();
            current_span().set("there", true);
            tracer.span("child").start().end();
        });
    });
    assert!(shared.is_recording(), "leaving it is no end");
    shared.end();
    let spans = finished(&engine);
    assert_children(&spans, &[("a", "child")]);
    assert_eq!(named(&spans, "a").attributes, [("there".to_owned(), true.into())]);
}

#[test]
fn closures_carry_a_context_to_other_threads() {
    #[derive(Debug, PartialEq)]
    struct Tenant(u32);
    let (engine, tracer) = engine();
    tracer.in_span("a", |_| {
        let context = Context::current().with_value(Tenant(7));
        let tracer = tracer.clone();
        let spawned = context.clone().wrap({
            let tracer = tracer.clone();
            move || {
                tracer.span("spawned").start().end();
                Context::current().value::<Tenant>().map(|tenant| tenant.0)
            }
        });
        assert_eq!(thread::spawn(spawned).join().unwrap(), Some(7));
        // A pool, whose thread goes on to other work.
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let pool = thread::spawn(move || {
            for job in queue {
                job();
                assert_nothing_current();
            }
        });
        let each = context.wrap_each({
            let tracer = tracer.clone();
            move |name: &str| tracer.span(name).start().end()
        });
        each("first");
        jobs.send(Box::new(move || each("second"))).unwrap();
        drop(jobs);
        pool.join().unwrap();
    });
    assert_children(&finished(&engine), &[("a", "spawned"), ("a", "first"), ("a", "second")]);
}

#[test]
fn error_of_a_closure_fails_its_span() {
    let (engine, tracer) = engine();
    let result = tracer.try_in_span("a", |_| Err::<(), _>("no such order"));
    assert_eq!(result, Err("no such order"));
    assert_eq!(tracer.try_in_span("b", |_| Ok::<_, String>(3)), Ok(3));
    let spans = finished(&engine);
    let (failed, well) = (named(&spans, "a"), named(&spans, "b"));
    assert_eq!(failed.status, Status::Error("no such order"));
    assert_eq!(failed.events[0].name, "exception");
    assert_eq!((well.status.as_status(), well.events.len()), (Status::Unset, 0));
}

#[derive(Debug)]
struct Broken(Option<Box<Self>>);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "cannot load" } else { "disk is full" })
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|source| source as _)
    }
}

/// SPN-16: the event has the standard's name and attributes; it comes before the status, which an error that was
/// handled does not set.
#[test]
fn spn_16_errors_are_recorded_with_type_text_and_sources() {
    let (engine, tracer) = engine();
    let error = Broken(Some(Box::new(Broken(None))));
    let mut handled = tracer.span("handled").start();
    handled.record_error(&error);
    handled.end();
    let mut failed = tracer.span("failed").start();
    failed.fail(&error);
    failed.end();
    let mut unnamed = tracer.span("unnamed").start();
    unnamed.record_error::<dyn std::error::Error>(&error);
    unnamed.end();
    let spans = finished(&engine);
    let attributes = |name| named(&spans, name).events[0].attributes.clone();
    let text = |key: &str, value: &str| (key.to_owned(), value.into());
    let kind = text("exception.type", std::any::type_name::<Broken>());
    let rest = [text("exception.message", "cannot load"), text("exception.stacktrace", "caused by: disk is full")];
    let all: Vec<_> = std::iter::once(kind).chain(rest.clone()).collect();
    assert_eq!(attributes("handled"), all);
    assert_eq!(attributes("failed"), all);
    assert_eq!(attributes("unnamed"), rest, "a trait object has no name of its own");
    assert_eq!(named(&spans, "handled").status, Status::Unset);
    let failed = named(&spans, "failed");
    assert_eq!(failed.status, Status::Error("cannot load"));
}

/// API-22: a panic goes on, and the span tells of it.
#[test]
fn panic_of_a_closure_is_recorded_and_goes_on() {
    let (engine, tracer) = engine();
    let bread = String::from("bread");
    let result = catch_unwind(AssertUnwindSafe(|| {
        tracer.in_span("outer", |_| tracer.in_span("inner", |_| panic!("no more {bread}")));
    }));
    assert_eq!(result.unwrap_err().downcast_ref::<String>().unwrap(), "no more bread");
    assert_nothing_current();
    let spans = finished(&engine);
    for name in ["inner", "outer"] {
        let span = named(&spans, name);
        assert_eq!(span.status, Status::Error("no more bread"), "{name}");
        assert_eq!(span.events[0].attributes[0], ("exception.type".to_owned(), "panic".into()));
    }
}

#[test]
fn span_that_a_panic_drops_is_marked_unless_it_began_in_one() {
    struct AtDrop<'a>(&'a Tracer);
    impl Drop for AtDrop<'_> {
        fn drop(&mut self) {
            self.0.span("cleaning up").start().end();
            drop(self.0.span("cleaning up, too").start());
        }
    }
    let (engine, tracer) = engine();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _entered = tracer.span("entered").start().enter();
        let _clean = AtDrop(&tracer);
        let _dropped = tracer.span("dropped").start();
        let mut said = tracer.span("said").start();
        said.status(Status::Error("known"));
        panic!("now");
    }));
    assert!(result.is_err());
    assert_nothing_current();
    let spans = finished(&engine);
    let status = |name| named(&spans, name).status.as_status();
    assert_eq!((status("entered"), status("dropped")), (Status::Error("panicked"), Status::Error("panicked")));
    assert_eq!(status("said"), Status::Error("known"));
    assert_eq!((status("cleaning up"), status("cleaning up, too")), (Status::Unset, Status::Unset));
}

#[test]
fn span_of_a_future_is_current_in_each_poll_and_nowhere_else() {
    let (engine, tracer) = engine();
    let mut polls = 0;
    let work = poll_fn(|_| {
        polls += 1;
        current_span().set("polls", polls);
        tracer.span(&format!("poll {polls}")).start().end();
        if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
    });
    let mut task = Task::from_waker(Waker::noop());
    let mut work = pin!(tracer.in_span_async("work", work));
    assert!(work.as_mut().poll(&mut task).is_pending());
    assert_nothing_current();
    assert_eq!(finished(&engine).iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["poll 1"]);
    // In the middle of other work.
    tracer.in_span("other", |other| {
        assert!(work.as_mut().poll(&mut task).is_ready());
        assert_eq!(current_ids().unwrap().span_id, other.context().span_id());
    });
    let spans = finished(&engine);
    assert_children(&spans, &[("work", "poll 2")]);
    assert_eq!(named(&spans, "work").attributes, [("polls".to_owned(), 2.into())]);
    assert!(!named(&spans, "work").parent_id.is_valid());
}

#[test]
fn future_that_is_dropped_early_ends_its_span_with_a_mark() {
    struct AtDrop(Tracer);
    impl Drop for AtDrop {
        fn drop(&mut self) {
            self.0.span("at drop").start().end();
        }
    }
    let (engine, tracer) = engine();
    let at_drop = AtDrop(tracer.clone());
    let work = async move {
        let _at_drop = at_drop;
        pending::<()>().await;
    };
    let mut work = Box::pin(work.in_span(tracer.span("work").start()));
    assert!(work.as_mut().poll(&mut Task::from_waker(Waker::noop())).is_pending());
    drop(work);
    drop(async {}.in_span(tracer.span("never polled").start()));
    assert_nothing_current();
    let spans = finished(&engine);
    assert_children(&spans, &[("work", "at drop")]);
    for name in ["work", "never polled"] {
        assert_eq!(named(&spans, name).attributes, [("spanring.cancelled".to_owned(), true.into())], "{name}");
    }
}

#[test]
fn panic_of_a_future_fails_its_span() {
    let (engine, tracer) = engine();
    let mut work = Box::pin(tracer.in_span_async("work", async { panic!("in a poll") }));
    let poll = || work.as_mut().poll(&mut Task::from_waker(Waker::noop())).is_ready();
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    assert_nothing_current();
    drop(work);
    let span = finished(&engine).remove(0);
    assert_eq!(span.status, Status::Error("in a poll"));
    assert!(span.attributes.is_empty(), "it was not cancelled");
}

#[test]
fn context_of_a_future_is_current_in_its_polls_and_its_drop() {
    let (engine, tracer) = engine();
    let result = tracer.in_span("a", |_| {
        let work = async {
            tracer.span("b").start().end();
            current_ids()
        };
        Box::pin(work.in_context(Context::current()))
    });
    let mut result = result;
    let Poll::Ready(ids) = result.as_mut().poll(&mut Task::from_waker(Waker::noop())) else { panic!("it is ready") };
    assert_nothing_current();
    let spans = finished(&engine);
    assert_children(&spans, &[("a", "b")]);
    assert_eq!(ids.unwrap().span_id, named(&spans, "a").span_id);
    let error = tracer.try_in_span_async("failing", async { Err::<(), _>("late") });
    let polled = pin!(error).poll(&mut Task::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Err("late")));
    assert_eq!(finished(&engine)[0].status, Status::Error("late"));
}

/// A guard that is held while a future waits: on a local executor two tasks take turns in a thread.
#[test]
fn guards_held_over_an_await_stay_with_their_task() {
    thread_local! { static ORDER: RefCell<Vec<&'static str>> = const { RefCell::new(vec![]) } }
    let (engine, tracer) = engine();
    let yield_once = || {
        let mut is_second = false;
        poll_fn(move |_| if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending })
    };
    let task = |name: &'static str, children: [&'static str; 2]| {
        let (tracer, span) = (tracer.clone(), tracer.root(name).start());
        let work = async move {
            let held = tracer.span(children[0]).start().enter();
            yield_once().await;
            ORDER.with_borrow_mut(|order| order.push(name));
            tracer.span(children[1]).start().end();
            drop(held);
        };
        Box::pin(work.in_span(span))
    };
    let (mut first, mut second) =
        (task("first", ["first held", "first leaf"]), task("second", ["second held", "leaf"]));
    let mut cx = Task::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert_nothing_current();
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert!(first.as_mut().poll(&mut cx).is_ready());
    assert!(second.as_mut().poll(&mut cx).is_ready());
    assert_nothing_current();
    assert_eq!(ORDER.take(), ["first", "second"]);
    let pairs =
        [("first", "first held"), ("first held", "first leaf"), ("second", "second held"), ("second held", "leaf")];
    assert_children(&finished(&engine), &pairs);
}

#[test]
fn span_of_another_place_is_recorded_by_its_own_ids() {
    let (engine, tracer) = engine();
    let ids = SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), 1, TraceState::new("a=1").unwrap());
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    let span = tracer.span("imported").parent(&remote()).identity(&ids).started_at(start).start();
    assert_eq!((span.context().span_id(), span.context().is_remote()), (SpanId([8; 8]), false));
    span.end_at(start + Duration::from_secs(1));
    let unsampled = SpanContext::remote(TraceId([7; 16]), SpanId([9; 8]), 0, TraceState::default());
    let span = tracer.root("unsampled").identity(&unsampled).start();
    assert!(!span.is_recording() && !span.context().is_sampled());
    drop(span);
    let span = finished(&engine).remove(0);
    assert_eq!((span.trace_id, span.span_id, span.parent_id), (TraceId([7; 16]), SpanId([8; 8]), remote().span_id()));
    assert_eq!((span.start, span.end), (start, start + Duration::from_secs(1)));
    assert!(engine.ledger().is_closed());
}

/// Its parent is of its own trace, and another span than itself.
#[test]
fn span_of_another_place_is_no_child_of_a_current_one_in_another_trace() {
    let (engine, tracer) = engine();
    let ids = SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), 1, TraceState::default());
    tracer.in_span("of another trace", |_| tracer.span("current").identity(&ids).start().end());
    Context::of(ids.clone()).run(|| tracer.span("itself").identity(&ids).start().end());
    let above = SpanContext::remote(TraceId([7; 16]), SpanId([9; 8]), 1, TraceState::default());
    Context::of(above).run(|| tracer.span("child").identity(&ids).start().end());
    let spans = finished(&engine);
    for name in ["current", "itself"] {
        assert!(!named(&spans, name).parent_id.is_valid(), "{name}");
    }
    assert_eq!(named(&spans, "child").parent_id, SpanId([9; 8]));
    tracer.root("not valid").identity(&SpanContext::default()).start().end();
    let sampled = SpanContext::remote(TraceId([7; 16]), SpanId::NONE, 1, TraceState::default());
    tracer.in_span("here", |_| tracer.span("half valid").identity(&sampled).start().end());
    let spans = finished(&engine);
    assert!(spans.iter().all(|span| span.span_id.is_valid() && span.trace_id.is_valid()));
    assert_children(&spans, &[("here", "half valid")]);
}

#[test]
fn what_a_future_has_left_to_drop_when_it_is_ready_belongs_to_its_span() {
    struct Traces(Tracer);
    impl Drop for Traces {
        fn drop(&mut self) {
            self.0.span("drop").start().end();
        }
    }
    let (engine, tracer) = engine();
    let traces = Traces(tracer.clone());
    let work = poll_fn(move |_| Poll::Ready(traces.0.is_enabled()));
    let mut future = Box::pin(tracer.in_span_async("future", work));
    assert!(future.as_mut().poll(&mut Task::from_waker(Waker::noop())).is_ready());
    assert_children(&finished(&engine), &[("future", "drop")]);
}

#[test]
fn future_is_dropped_in_its_context_though_it_was_never_polled() {
    struct Looks(mpsc::Sender<Option<SpanId>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.send(current_ids().map(|ids| ids.span_id)).unwrap();
        }
    }
    let (sender, seen) = mpsc::channel();
    let looks = Looks(sender);
    let work = async move {
        let _looks = looks;
        pending::<()>().await;
    };
    drop(work.in_context(Context::of(remote())));
    assert_eq!(seen.recv().unwrap(), Some(remote().span_id()));
    assert_nothing_current();
}

#[test]
fn handle_knows_whether_its_span_records() {
    let (_engine, tracer) = engine();
    let unsampled = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 0, TraceState::default());
    let entered = tracer.span("unsampled").parent(&unsampled).start().enter();
    assert!(!entered.is_recording() && !current_span().is_recording());
    drop(entered);
    let shared = tracer.span("shared").start().share();
    let _entered = shared.enter();
    assert!(current_span().is_recording());
    shared.end();
    assert!(!current_span().is_recording());
}

#[test]
fn span_under_a_context_without_one_begins_a_trace() {
    let (engine, tracer) = engine();
    Context::default().with_value(1_u8).run(|| tracer.span("root").start().end());
    let span = finished(&engine).remove(0);
    assert!(span.trace_id.is_valid() && !span.parent_id.is_valid());
}

/// Another context of the very same span is another context.
#[test]
fn future_sees_the_values_and_the_baggage_of_its_context() {
    let baggage = Baggage::default().with("tenant", "blue").unwrap();
    let plain = Context::of(remote());
    let contexts = [plain.clone().with_value(1_u8), plain.clone().with_baggage(baggage), plain];
    for (outer, inner) in contexts.iter().flat_map(|outer| contexts.iter().map(move |inner| (outer, inner))) {
        let _outer = outer.clone().attach();
        let mut future = pin!(async { Context::current() }.in_context(inner.clone()));
        let Poll::Ready(seen) = future.as_mut().poll(&mut Task::from_waker(Waker::noop())) else { unreachable!() };
        let what = |context: &Context| (context.value::<u8>().copied(), context.baggage().clone());
        assert_eq!(what(&seen), what(inner));
    }
}

#[test]
fn handle_of_the_current_span_finds_it_again_after_an_await() {
    let (engine, tracer) = engine();
    let mut is_second = false;
    let work = async {
        let span = current_span();
        span.set("before", 1);
        poll_fn(|_| if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert!(span.is_recording());
        span.set("after", 1);
    };
    let mut future = Box::pin(tracer.in_span_async("future", work));
    let mut cx = Task::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert!(future.as_mut().poll(&mut cx).is_ready());
    let keys: Vec<_> = finished(&engine).remove(0).attributes.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["before", "after"]);
}

#[test]
fn late_work_begins_a_trace_with_a_link_to_its_origin() {
    let (engine, tracer) = engine();
    let origin = tracer.in_span("request", |span| span.context().clone());
    tracer.in_span("poller", |_| tracer.span("job").root_linked_to(&origin).start().end());
    let spans = finished(&engine);
    let job = named(&spans, "job");
    assert!(!job.parent_id.is_valid() && job.trace_id != origin.trace_id());
    assert_eq!((job.links.len(), job.links[0].span_id), (1, origin.span_id()));
}
