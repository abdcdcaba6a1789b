//! Each way in which an async program moves work: every parent is the expected one, and nothing is current afterwards
//! for the next task on the same thread.

use std::{
    future::{Future, pending, poll_fn},
    ops::Range,
    pin::{Pin, pin},
    sync::mpsc,
    task::{self, Poll},
    thread::{self, ThreadId},
    time::Duration,
};

use futures_core::Stream;
use spanring::{
    Baggage, Context, Status, TraceFuture, TraceStream, Tracer, carrying, current_ids, current_span,
    testing::{FinishedSpan, TestEngine},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::{JoinSet, LocalSet, spawn_blocking, spawn_local, yield_now},
    time::timeout,
};

/// A span and its parent; roots have an empty one.
type Expected<'a> = &'a [(&'a str, &'a str)];

/// Runs the case in a span called `request`, as a task of a runtime with one worker and of one that lives in its own
/// thread, where time is simulated. Afterwards other tasks look at what is current on each of their threads.
#[track_caller]
fn check<W>(case: impl Fn(Tracer) -> W, expected: Expected<'_>) -> Vec<FinishedSpan>
where
    W: Future<Output = ()> + Send + 'static,
{
    let one_worker = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_time().build();
    let own_thread = Builder::new_current_thread().max_blocking_threads(1).enable_time().start_paused(true).build();
    let mut spans = vec![];
    for runtime in [one_worker.unwrap(), own_thread.unwrap()] {
        let engine = TestEngine::start();
        let tracer = engine.tracer("t");
        let work = case(tracer.clone());
        let request = async move {
            work.await;
            thread::current().id()
        };
        let request = runtime.spawn(request.in_span(tracer.root("request").start()));
        let worker = runtime.block_on(request).unwrap();
        assert_eq!(probe(&runtime), worker, "the next task is on the same thread");
        spans = engine.finished();
        assert_tree(&spans, expected);
        engine.assert_clean();
    }
    spans
}

/// The thread of the next task, in which nothing is current; nor is it in the thread for blocking work.
#[track_caller]
fn probe(runtime: &Runtime) -> ThreadId {
    let look = || (Context::current().is_empty(), current_ids(), thread::current().id());
    let next = async move { (look(), spawn_blocking(look).await) };
    let (here, blocking) = runtime.block_on(runtime.spawn(next)).unwrap();
    for (is_empty, ids, _) in [here, blocking.unwrap()] {
        assert_eq!((is_empty, ids), (true, None), "a context leaked into the next task");
    }
    here.2
}

/// These are all the spans, each with its parent, and in the trace of its parent.
#[track_caller]
fn assert_tree(spans: &[FinishedSpan], expected: Expected<'_>) {
    let parent = |span: &FinishedSpan| spans.iter().find(|other| other.span_id == span.parent_id);
    let name = |span: &FinishedSpan| match parent(span) {
        Some(parent) if parent.trace_id == span.trace_id => parent.name.clone(),
        None if !span.parent_id.is_valid() => String::new(),
        _ => "a span of another trace".to_owned(),
    };
    let mut found: Vec<_> = spans.iter().map(|span| (span.name.clone(), name(span))).collect();
    let expected = expected.iter().chain(&[("request", "")]);
    let mut expected: Vec<_> = expected.map(|(span, parent)| ((*span).to_owned(), (*parent).to_owned())).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[track_caller]
fn assert_cancelled(spans: &[FinishedSpan], cancelled: &[&str]) {
    for span in spans {
        let mark = cancelled.contains(&span.name.as_str()).then(|| true.into());
        assert_eq!(span.attribute("spanring.cancelled"), mark.as_ref(), "{}", span.name);
    }
}

fn leaf(tracer: &Tracer, name: &str) {
    tracer.span(name).start().end();
}

/// Records a span, waits for ever, and records another one when it is dropped.
async fn stuck(tracer: Tracer, name: &str) {
    struct AtDrop(Tracer, String);
    impl Drop for AtDrop {
        fn drop(&mut self) {
            leaf(&self.0, &format!("{} at its drop", self.1));
        }
    }
    leaf(&tracer, &format!("{name} at its start"));
    let _at_drop = AtDrop(tracer, name.to_owned());
    pending().await
}

#[test]
fn spawned_tasks() {
    let case = |tracer: Tracer| async move {
        let work = |name| {
            let tracer = tracer.clone();
            async move {
                yield_now().await;
                leaf(&tracer, name);
            }
        };
        tokio::spawn(work("in a context").in_context(Context::current())).await.unwrap();
        tokio::spawn(work("short").in_current_context()).await.unwrap();
        tokio::spawn(work("leaf").in_span(tracer.span("in a span").start())).await.unwrap();
        let spawn = carrying(tokio::spawn);
        spawn(work("carried")).await.unwrap();
        let mut set = JoinSet::new();
        set.spawn(work("in a set").in_current_context());
        set.join_all().await;
        // What nobody can patch.
        tokio::spawn(work("bare")).await.unwrap();
    };
    let request = ["in a context", "short", "in a span", "carried", "in a set"].map(|name| (name, "request"));
    check(case, &[&request[..], &[("leaf", "in a span"), ("bare", "")]].concat());
}

#[test]
fn baggage_of_a_future_in_a_span_is_that_of_its_making() {
    let case = |tracer: Tracer| async move {
        let tenant = || async {
            yield_now().await;
            Context::current().baggage().get("tenant").map(str::to_owned)
        };
        let context = Context::current().with_baggage(Baggage::default().with("tenant", "blue").unwrap());
        let inside = context.clone().run(|| tenant().in_span(tracer.span("inside").start()));
        let outside = tenant().in_span(tracer.span("outside").start()).in_context(context);
        assert_eq!((inside.await.as_deref(), outside.await), (Some("blue"), None));
        assert_eq!(tenant().await, None);
    };
    check(case, &[("inside", "request"), ("outside", "request")]);
}

/// As libraries take an executor: a function of their own type of task.
#[test]
fn executor_of_boxed_tasks() {
    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;
    let case = |tracer: Tracer| async move {
        let (execute, mut queue) = tokio::sync::mpsc::unbounded_channel::<Boxed>();
        let spawn = carrying::<Boxed, _>(move |task| execute.send(Box::pin(task)).unwrap());
        let library = |spawn: &dyn Fn(Boxed), name: &'static str| {
            let tracer = tracer.clone();
            spawn(Box::pin(async move { leaf(&tracer, name) }));
        };
        library(&spawn, "first");
        tracer.in_span("inner", |_| library(&spawn, "second"));
        drop(spawn);
        let executor = async move {
            while let Some(task) = queue.recv().await {
                task.await;
                assert!(Context::current().is_empty());
            }
        };
        tokio::spawn(executor).await.unwrap();
    };
    check(case, &[("first", "request"), ("inner", "request"), ("second", "inner")]);
}

#[test]
fn blocking_work() {
    let case = |tracer: Tracer| async move {
        let wrapped = Context::current().wrap({
            let tracer = tracer.clone();
            move || tracer.in_span("blocking", |_| leaf(&tracer, "leaf"))
        });
        spawn_blocking(wrapped).await.unwrap();
        leaf(&tracer, "after");
    };
    check(case, &[("blocking", "request"), ("leaf", "blocking"), ("after", "request")]);
}

#[test]
fn loser_of_a_select() {
    let case = |tracer: Tracer| async move {
        let winner = async {
            yield_now().await;
            leaf(&tracer, "leaf");
        };
        let loser = stuck(tracer.clone(), "loser").in_span(tracer.span("loser").start());
        let winner = winner.in_span(tracer.span("winner").start());
        tokio::select! {
            biased;
            () = loser => unreachable!(),
            () = winner => leaf(&tracer, "in the arm"),
        }
        leaf(&tracer, "after");
    };
    let expected = [
        ("loser", "request"),
        ("loser at its start", "loser"),
        ("loser at its drop", "loser"),
        ("winner", "request"),
        ("leaf", "winner"),
        ("in the arm", "request"),
        ("after", "request"),
    ];
    assert_cancelled(&check(case, &expected), &["loser"]);
}

#[test]
fn timeouts() {
    let case = |tracer: Tracer| async move {
        // The limit of the one runtime is over at once, that of the other in simulated time.
        let slow = stuck(tracer.clone(), "slow").in_span(tracer.span("slow").start());
        assert!(timeout(Duration::ZERO, slow).await.is_err());
        let quick = async {
            yield_now().await;
            leaf(&tracer, "leaf");
        };
        timeout(Duration::MAX, quick.in_span(tracer.span("quick").start())).await.unwrap();
        leaf(&tracer, "after");
    };
    let expected = [
        ("slow", "request"),
        ("slow at its start", "slow"),
        ("slow at its drop", "slow"),
        ("quick", "request"),
        ("leaf", "quick"),
        ("after", "request"),
    ];
    assert_cancelled(&check(case, &expected), &["slow"]);
}

/// An hour of simulated time.
#[test]
fn timers_of_several_futures() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    let ticking = |name: &'static str, minutes: u64| {
        let tracer = &tracer;
        let work = async move {
            timeout(Duration::from_secs(60 * minutes), pending::<()>()).await.unwrap_err();
            leaf(tracer, &format!("{name} has rung"));
        };
        timeout(Duration::from_secs(3600), work.in_span(tracer.span(name).start()))
    };
    let request = async {
        let (early, late, never) = tokio::join!(ticking("early", 1), ticking("late", 59), ticking("never", 61));
        assert!(early.is_ok() && late.is_ok() && never.is_err());
    };
    runtime.block_on(request.in_span(tracer.root("request").start()));
    probe(&runtime);
    let spans = engine.finished();
    let expected = [
        ("early", "request"),
        ("late", "request"),
        ("never", "request"),
        ("early has rung", "early"),
        ("late has rung", "late"),
    ];
    assert_tree(&spans, &expected);
    assert_cancelled(&spans, &["never"]);
}

#[test]
fn joined_futures_take_turns() {
    let case = |tracer: Tracer| async move {
        let work = |name: &'static str, leaves: [&'static str; 3]| {
            let tracer = &tracer;
            let work = async move {
                for leaf in leaves {
                    tracer.in_span(leaf, |span| span.set("of", name));
                    yield_now().await;
                }
                current_span().set("is done", true);
            };
            work.in_span(tracer.span(name).start())
        };
        tokio::join!(work("a", ["a1", "a2", "a3"]), work("b", ["b1", "b2", "b3"]));
    };
    let expected = [
        ("a", "request"),
        ("b", "request"),
        ("a1", "a"),
        ("a2", "a"),
        ("a3", "a"),
        ("b1", "b"),
        ("b2", "b"),
        ("b3", "b"),
    ];
    let spans = check(case, &expected);
    for name in ["a", "b"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(span.attributes, [("is done".to_owned(), true.into())]);
    }
}

#[test]
fn aborted_task() {
    let case = |tracer: Tracer| async move {
        let (running, is_running) = oneshot::channel();
        let work = {
            let tracer = tracer.clone();
            async move {
                let stuck = stuck(tracer, "task");
                running.send(()).unwrap();
                stuck.await;
            }
        };
        let task = tokio::spawn(work.in_span(tracer.span("task").start()));
        is_running.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        leaf(&tracer, "after");
    };
    let expected =
        [("task", "request"), ("task at its start", "task"), ("task at its drop", "task"), ("after", "request")];
    assert_cancelled(&check(case, &expected), &["task"]);
}

#[test]
fn panic_in_a_poll() {
    let case = |tracer: Tracer| async move {
        let work = {
            let tracer = tracer.clone();
            async move {
                let _held = tracer.span("dropped by the panic").start();
                yield_now().await;
                tracer.in_span("innermost", |_| panic!("in the second poll"))
            }
        };
        let task = tokio::spawn(work.in_span(tracer.span("task").start()));
        assert!(task.await.unwrap_err().is_panic());
        leaf(&tracer, "after");
    };
    let expected = [("task", "request"), ("dropped by the panic", "task"), ("innermost", "task"), ("after", "request")];
    let spans = check(case, &expected);
    let failed = |span: &&FinishedSpan| matches!(span.status.as_status(), Status::Error(_));
    assert_eq!(spans.iter().filter(failed).count(), 3);
    let task = spans.iter().find(|span| span.name == "task").unwrap();
    assert_eq!(task.status, Status::Error("in the second poll"));
    assert_cancelled(&spans, &[]);
}

/// Numbers, each in a span of its own, with a pause before it.
struct Numbers {
    tracer: Tracer,
    left: Range<u32>,
    is_paused: bool,
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<u32>> {
        self.is_paused = !self.is_paused;
        if self.is_paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.left.next();
        leaf(&self.tracer, &next.map_or("last".to_owned(), |number| format!("number {number}")));
        Poll::Ready(next)
    }
}

async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|cx| stream.as_mut().poll_next(cx)).await
}

fn numbers(tracer: &Tracer, left: Range<u32>) -> Numbers {
    Numbers { tracer: tracer.clone(), left, is_paused: false }
}

#[test]
fn streams_consumed_whole_and_in_part() {
    let case = |tracer: Tracer| async move {
        {
            let mut whole = pin!(numbers(&tracer, 0..2).in_span(tracer.span("whole").start()));
            while let Some(number) = next(whole.as_mut()).await {
                leaf(&tracer, &format!("use of {number}"));
            }
            assert_eq!(next(whole.as_mut()).await, None, "it stays at its end");
        }
        {
            let mut part = pin!(numbers(&tracer, 5..9).in_span(tracer.span("part").start()));
            assert_eq!(next(part.as_mut()).await, Some(5));
            leaf(&tracer, "use of 5");
        }
        drop(numbers(&tracer, 0..1).in_span(tracer.span("never asked").start()));
        let context = tracer.in_span("of a context", |_| Context::current());
        let mut polled = pin!(numbers(&tracer, 7..8).in_context(context));
        assert_eq!(next(polled.as_mut()).await, Some(7));
    };
    let expected = [
        ("whole", "request"),
        ("number 0", "whole"),
        ("number 1", "whole"),
        ("last", "whole"),
        ("use of 0", "request"),
        ("use of 1", "request"),
        ("part", "request"),
        ("number 5", "part"),
        ("use of 5", "request"),
        ("never asked", "request"),
        ("of a context", "request"),
        ("number 7", "of a context"),
    ];
    assert_cancelled(&check(case, &expected), &["part", "never asked"]);
}

#[test]
fn stream_that_panics_fails_its_span_and_is_over() {
    struct Broken;
    impl Stream for Broken {
        type Item = ();
        fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<()>> {
            panic!("no such number")
        }
    }
    let case = |tracer: Tracer| async move {
        let mut broken = Box::pin(Broken.in_span(tracer.span("broken").start()));
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            broken.as_mut().poll_next(&mut task::Context::from_waker(task::Waker::noop())).is_ready()
        }));
        assert!(polled.is_err());
        assert_eq!(next(broken.as_mut()).await, None);
        leaf(&tracer, "after");
    };
    let spans = check(case, &[("broken", "request"), ("after", "request")]);
    let broken = spans.iter().find(|span| span.name == "broken").unwrap();
    assert_eq!(broken.status, Status::Error("no such number"));
    assert_cancelled(&spans, &[]);
}

#[test]
fn hop_over_a_channel() {
    let case = |tracer: Tracer| async move {
        let (jobs, mut queue) = tokio::sync::mpsc::channel::<(Context, &str)>(4);
        let receiver = {
            let tracer = tracer.clone();
            tokio::spawn(async move {
                while let Some((context, name)) = queue.recv().await {
                    async {
                        yield_now().await;
                        leaf(&tracer, name);
                    }
                    .in_context(context)
                    .await;
                    assert!(Context::current().is_empty());
                }
            })
        };
        jobs.send((Context::current(), "first")).await.unwrap();
        let sender = async {
            jobs.send((Context::current(), "second")).await.unwrap();
        };
        sender.in_span(tracer.span("sender").start()).await;
        drop(jobs);
        receiver.await.unwrap();
    };
    check(case, &[("first", "request"), ("sender", "request"), ("second", "sender")]);
}

#[test]
fn pool_of_threads() {
    type Job = Box<dyn FnOnce() + Send>;
    let case = |tracer: Tracer| async move {
        let (execute, queue) = mpsc::channel::<Job>();
        let pool = thread::spawn(move || {
            for job in queue {
                job();
                assert!(Context::current().is_empty(), "{}", Context::current());
            }
        });
        // A job's answer wakes the task.
        for (name, span) in [("first", "one"), ("second", "two")] {
            let (answer, is_done) = oneshot::channel();
            let job = {
                let tracer = tracer.clone();
                move || {
                    leaf(&tracer, name);
                    answer.send(()).unwrap();
                }
            };
            let send = async {
                execute.send(Box::new(Context::current().wrap(job))).unwrap();
                is_done.await.unwrap();
            };
            send.in_span(tracer.span(span).start()).await;
        }
        drop(execute);
        pool.join().unwrap();
    };
    check(case, &[("one", "request"), ("first", "one"), ("two", "request"), ("second", "two")]);
}

/// One thread, so that each job finds what the one before it has left.
#[test]
fn scopes_of_rayon_and_of_threads() {
    let case = |tracer: Tracer| async move {
        let pool = rayon_core::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        tracer.in_span("parallel", |_| {
            let context = Context::current();
            let each = context.clone().wrap_each(|name: &str| tracer.in_span(name, |_| ()));
            let each = &each;
            pool.scope(|scope| {
                assert!(Context::current().is_empty(), "the scope itself is in a thread of the pool");
                for name in ["first", "second"] {
                    scope.spawn(move |_| each(name));
                    scope.spawn(|_| assert!(Context::current().is_empty()));
                }
            });
            // A thread that waits for one half runs the other, and others' work, too.
            let halves = || {
                rayon_core::join(context.clone().wrap(|| leaf(&tracer, "left")), || {
                    assert!(Context::current().is_empty());
                });
            };
            pool.install(halves);
            thread::scope(|scope| {
                scope.spawn(|| each("in a thread"));
            });
        });
    };
    let expected = ["first", "second", "left", "in a thread"].map(|name| (name, "parallel"));
    check(case, &[&expected[..], &[("parallel", "request")]].concat());
}

/// Guards are no `Send`, so that only tasks of one thread can hold them over an await.
#[test]
fn guards_held_over_an_await_on_a_local_set() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    let work = |name: &'static str, leaves: [&'static str; 3]| {
        let tracer = tracer.clone();
        async move {
            let held = tracer.span(name).start().enter();
            for leaf in leaves {
                yield_now().await;
                tracer.in_span(leaf, |_| current_span().set("of", name));
            }
            held.set("is done", true);
        }
    };
    let set = LocalSet::new();
    let request = async {
        let spawn = carrying(spawn_local);
        let tasks = [spawn(work("a", ["a1", "a2", "a3"])), spawn(work("b", ["b1", "b2", "b3"]))];
        let stray = spawn_local(async {
            for _ in 0..8 {
                assert!(Context::current().is_empty(), "{}", Context::current());
                yield_now().await;
            }
        });
        for task in tasks {
            task.await.unwrap();
        }
        stray.await.unwrap();
    };
    runtime.block_on(set.run_until(request.in_span(tracer.root("request").start())));
    probe(&runtime);
    let expected = [
        ("a", "request"),
        ("b", "request"),
        ("a1", "a"),
        ("a2", "a"),
        ("a3", "a"),
        ("b1", "b"),
        ("b2", "b"),
        ("b3", "b"),
    ];
    let spans = engine.finished();
    assert_tree(&spans, &expected);
    for name in ["a", "b"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(span.attributes, [("is done".to_owned(), true.into())]);
    }
}
