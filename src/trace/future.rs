//! Futures that are polled in a span or in a context, whichever thread polls them; spawning that carries a context.

use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{self, Poll},
};

use pin_project_lite::pin_project;

use super::{
    span::{Body, Span},
    stack::{self, Held, Place, Stash},
};
use crate::context::{Context, SpanContext};

/// Two ways for a future to go on with what is current.
///
/// ```
/// # use spanring::{Config, Context, Engine, TraceFuture};
/// # let engine = Engine::start(Config::default())?;
/// # let tracer = engine.tracer("shop");
/// # async fn pay() {}
/// # async fn ship() {}
/// let payment = pay().in_span(tracer.span("payment").start()); // the span covers the whole future
/// let shipment = ship().in_context(Context::current()); // what is current here is so there
/// # drop((payment, shipment));
/// # Ok::<(), spanring::StartError>(())
/// ```
pub trait TraceFuture: Future + Sized {
    /// The span covers the whole future: it is the current one whenever the future is polled, and ends when the future
    /// is ready. If the future is dropped before, the span has the attribute `spanring.cancelled`. A panic of the
    /// future fails the span.
    ///
    /// Baggage and values are those that are current at this call. Where they have come with a request, make it in
    /// their context: `context.run(|| work.in_span(span))`.
    fn in_span(self, span: Span) -> InSpan<Self> {
        InSpan::new(self, span)
    }

    /// The context is the current one whenever the future is polled, and when it is dropped.
    fn in_context(self, context: Context) -> InContext<Self> {
        InContext::new(self, context)
    }

    /// As [`TraceFuture::in_context`], with what is current at this call: for the call that spawns a task.
    fn in_current_context(self) -> InContext<Self> {
        self.in_context(Context::current())
    }
}

impl<F: Future> TraceFuture for F {}

/// Wraps the `spawn` of an executor, whichever it is: tasks go on with what is current where they are spawned, and the
/// calls stay as they are.
///
/// ```
/// # use spanring::{Config, Engine, carrying, current_ids};
/// # let engine = Engine::start(Config::default())?;
/// # let tracer = engine.tracer("shop");
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let spawn = carrying(tokio::spawn);
/// let order = tracer.span("order").start().enter();
/// let task = spawn(async { current_ids() }); // in `order`
/// # assert_eq!(task.await.unwrap().unwrap().span_id, order.context().span_id());
/// # });
/// # Ok::<(), spanring::StartError>(())
/// ```
///
/// It is for executors that are handed on as values, as a pool or a client takes one; there tasks have one type, such
/// as `Pin<Box<dyn Future<Output = ()> + Send>>`, and so has what this makes. A function for all types has to be
/// written out, with the bounds of the executor. Under the name of the one that it replaces it leaves the calls alone,
/// and the imports alone change:
///
/// ```
/// /// As `tokio::task`, but tasks go on with what is current. An item that is written here hides one of the glob.
/// mod task {
///     use spanring::{Context, TraceFuture};
///     pub use tokio::task::*;
///
///     pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
///     where
///         F: Future<Output: Send> + Send + 'static,
///     {
///         tokio::task::spawn(task.in_current_context())
///     }
///
///     pub fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
///         tokio::task::spawn_blocking(Context::current().wrap(work))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// task::spawn(async { task::spawn_blocking(|| 1).await }).await.unwrap().unwrap();
/// # });
/// ```
///
/// What Rust cannot patch: a call by its full path (`tokio::spawn(…)`), a method of a foreign type
/// (`JoinSet::spawn`), and what a library spawns inside of itself. Such tasks have nothing current, and their spans are
/// roots, unless the future itself is wrapped, by [`TraceFuture::in_current_context`]. Threads, pools and channels take
/// closures and values: see [`Context::wrap`]; a message has its context beside it, as in `(Context::current(), job)`.
pub fn carrying<F: Future, R>(spawn: impl Fn(InContext<F>) -> R) -> impl Fn(F) -> R {
    move |task| spawn(task.in_current_context())
}

/// What a future or a stream has attached in its turns at a thread, and takes along between them.
#[derive(Debug)]
struct Turn {
    context: Context,
    /// The span that is entered with the context; `None` during a turn.
    body: Option<Body>,
    stash: Stash,
}

impl Turn {
    /// Calls `work` with everything attached.
    #[inline]
    fn take<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if self.body.is_none()
            && self.stash.is_empty()
            && let Some(place) = stack::place_of(&self.context)
        {
            // It is the current one already: nothing to attach.
            let _rest = Rest { stash: &mut self.stash, place };
            return work();
        }
        let held = self.body.take().map_or(Held::Nothing, Held::Own);
        let place = match stack::attach(mem::take(&mut self.context), held) {
            Ok(place) => place,
            Err(parts) => {
                self.keep(parts);
                return work();
            }
        };
        self.stash.put_back();
        let guard = Leave { turn: self, place };
        let result = work();
        drop(guard);
        result
    }

    fn keep(&mut self, (context, held): (Context, Held)) {
        self.context = context;
        if let Held::Own(body) = held {
            self.body = Some(body);
        }
    }

    /// Ends what is still attached; the span is to be ended by the caller.
    fn end(&mut self) -> Option<Span> {
        // Whole before anything can panic: then it ends, too.
        let span = self.body.take().map(|body| Span::whole(body, self.context.span_context().clone()));
        mem::take(&mut self.stash).end();
        span
    }
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// The end of a turn that has attached nothing itself.
struct Rest<'a> {
    stash: &'a mut Stash,
    place: Place,
}

impl Drop for Rest<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.stash = Stash::above(self.place);
    }
}

/// The end of a turn, whether it returns or panics.
struct Leave<'a> {
    turn: &'a mut Turn,
    place: Place,
}

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        self.turn.stash = Stash::above(self.place);
        if let Some(parts) = stack::leave(self.place) {
            self.turn.keep(parts);
        }
    }
}

pin_project! {
    /// What [`TraceFuture::in_span`] makes, and `TraceStream::in_span`.
    #[derive(Debug)]
    #[must_use = "futures and streams do nothing unless they are polled"]
    pub struct InSpan<W> {
        #[pin]
        work: Option<W>,
        turn: Turn,
    }

    impl<W> PinnedDrop for InSpan<W> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let (mut work, turn) = (this.work, this.turn);
            if work.is_none() {
                return;
            }
            if let Some(body) = turn.body.take() {
                let mut span = Span::whole(body, SpanContext::default());
                span.set("spanring.cancelled", true);
                turn.body = Some(span.part().0);
            }
            turn.take(|| work.set(None));
        }
    }
}

pin_project! {
    /// What [`TraceFuture::in_context`] makes, and `TraceStream::in_context`.
    #[derive(Debug)]
    #[must_use = "futures and streams do nothing unless they are polled"]
    pub struct InContext<W> {
        #[pin]
        work: Option<W>,
        turn: Turn,
    }

    impl<W> PinnedDrop for InContext<W> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let mut work = this.work;
            this.turn.take(|| work.set(None));
        }
    }
}

impl<W> InSpan<W> {
    pub(super) fn new(work: W, span: Span) -> Self {
        let (body, identity) = span.part();
        let context = Context::current().with_span_context(identity);
        Self { work: Some(work), turn: Turn { context, body: Some(body), stash: Stash::default() } }
    }

    /// Polls the work in its span, which ends with the work; `None` where it has ended before.
    #[inline]
    pub(super) fn poll_work<P>(
        self: Pin<&mut Self>,
        poll: impl FnOnce(Pin<&mut W>) -> P,
        is_end: impl FnOnce(&P) -> bool,
    ) -> Option<P> {
        let this = self.project();
        let (mut work, turn) = (this.work, this.turn);
        turn.body.as_ref()?;
        let mut has_ended = false;
        // As in `Span::run`.
        let result = turn.take(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let polled = work.as_mut().as_pin_mut().map(poll);
                has_ended = polled.as_ref().is_none_or(is_end);
                if has_ended {
                    // What the work has left to drop belongs to the span, too.
                    work.set(None);
                }
                polled
            }))
        });
        match result {
            Ok(polled) => {
                if has_ended {
                    drop(turn.end());
                }
                polled
            }
            Err(panic) => {
                if let Some(mut span) = turn.end() {
                    span.fail_by(&*panic);
                }
                resume_unwind(panic)
            }
        }
    }
}

impl<W> InContext<W> {
    pub(super) fn new(work: W, context: Context) -> Self {
        Self { work: Some(work), turn: Turn { context, body: None, stash: Stash::default() } }
    }

    #[inline]
    pub(super) fn poll_work<P>(self: Pin<&mut Self>, poll: impl FnOnce(Pin<&mut W>) -> P) -> P {
        let this = self.project();
        let work = this.work.as_pin_mut().expect("it is there until the drop");
        this.turn.take(|| poll(work))
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let polled = self.poll_work(|work| work.poll(cx), Poll::is_ready);
        polled.expect("a future in a span is not polled after it was ready or has panicked")
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.poll_work(|work| work.poll(cx))
    }
}
