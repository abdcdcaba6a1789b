//! Futures that are polled in a span or in a context, whichever thread polls them; spawning that carries a context.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{self, Poll},
};

use pin_project_lite::pin_project;

use super::{
    current::{Attached, Entered},
    span::Span,
    stack::Stash,
};
use crate::context::Context;

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

pin_project! {
    /// What [`TraceFuture::in_span`] makes, and `TraceStream::in_span`.
    #[derive(Debug)]
    #[must_use = "futures and streams do nothing unless they are polled"]
    pub struct InSpan<W> {
        #[pin]
        work: Option<W>,
        // `None` during a poll, and after the last.
        span: Option<Span>,
        context: Context,
        stash: Stash,
    }

    impl<W> PinnedDrop for InSpan<W> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(mut span) = this.span.take() {
                span.set("spanring.cancelled", true);
                let _entered = enter(span, this.context, this.stash);
                let mut work = this.work;
                work.set(None);
            }
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
        context: Context,
        stash: Stash,
    }

    impl<W> PinnedDrop for InContext<W> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let _attached = attach(this.context, this.stash);
            let mut work = this.work;
            work.set(None);
        }
    }
}

fn enter(span: Span, context: &Context, stash: &mut Stash) -> Entered {
    let entered = span.enter_in(context.clone());
    stash.put_back();
    entered
}

fn attach(context: &Context, stash: &mut Stash) -> Attached {
    let attached = context.clone().attach_again();
    stash.put_back();
    attached
}

impl<W> InSpan<W> {
    pub(super) fn new(work: W, span: Span) -> Self {
        Self { work: Some(work), span: Some(span), context: Context::current(), stash: Stash::default() }
    }

    /// Polls the work in its span, which ends with the work; `None` where it has ended before.
    pub(super) fn poll_work<P>(
        self: Pin<&mut Self>,
        poll: impl FnOnce(Pin<&mut W>) -> P,
        is_end: impl FnOnce(&P) -> bool,
    ) -> Option<P> {
        let mut this = self.project();
        let (work, span) = (this.work.as_mut().as_pin_mut()?, this.span.take()?);
        let entered = enter(span, this.context, this.stash);
        // As in `Span::run`.
        let polled = catch_unwind(AssertUnwindSafe(|| poll(work)));
        *this.stash = entered.stash();
        match polled {
            Ok(polled) if is_end(&polled) => {
                // What the work has left to drop belongs to the span, too.
                this.stash.put_back();
                this.work.set(None);
                entered.end_what_is_left();
                Some(polled)
            }
            Ok(polled) => {
                *this.span = Some(entered.exit());
                Some(polled)
            }
            Err(panic) => {
                entered.record_panic(&*panic);
                drop(entered);
                resume_unwind(panic)
            }
        }
    }

    /// The work, until it has ended.
    pub(super) fn work(&self) -> Option<&W> {
        self.work.as_ref().filter(|_| self.span.is_some())
    }
}

impl<W> InContext<W> {
    pub(super) fn new(work: W, context: Context) -> Self {
        Self { work: Some(work), context, stash: Stash::default() }
    }

    pub(super) fn poll_work<P>(self: Pin<&mut Self>, poll: impl FnOnce(Pin<&mut W>) -> P) -> P {
        let this = self.project();
        let attached = attach(this.context, this.stash);
        let polled = poll(this.work.as_pin_mut().expect("it is there until the drop"));
        *this.stash = attached.stash();
        polled
    }

    pub(super) fn work(&self) -> Option<&W> {
        self.work.as_ref()
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let polled = self.poll_work(|work| work.poll(cx), Poll::is_ready);
        polled.expect("a future in a span is not polled after it was ready or has panicked")
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.poll_work(|work| work.poll(cx))
    }
}
