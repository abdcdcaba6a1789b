//! Futures that are polled in a span or in a context, whichever thread polls them.

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
        InSpan { work: Some(self), span: Some(span), context: Context::current(), stash: Stash::default() }
    }

    /// The context is the current one whenever the future is polled, and when it is dropped.
    fn in_context(self, context: Context) -> InContext<Self> {
        InContext { work: Some(self), context, stash: Stash::default() }
    }
}

impl<F: Future> TraceFuture for F {}

pin_project! {
    /// What [`TraceFuture::in_span`] makes.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct InSpan<F> {
        #[pin]
        work: Option<F>,
        // `None` during a poll, and after the last.
        span: Option<Span>,
        context: Context,
        stash: Stash,
    }

    impl<F> PinnedDrop for InSpan<F> {
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
    /// What [`TraceFuture::in_context`] makes.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct InContext<F> {
        #[pin]
        work: Option<F>,
        context: Context,
        stash: Stash,
    }

    impl<F> PinnedDrop for InContext<F> {
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

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let (Some(work), Some(span)) = (this.work.as_mut().as_pin_mut(), this.span.take()) else {
            panic!("a future in a span was polled after it was ready or had panicked");
        };
        let entered = enter(span, this.context, this.stash);
        // As in `Span::run`.
        let polled = catch_unwind(AssertUnwindSafe(|| work.poll(cx)));
        *this.stash = entered.stash();
        match polled {
            Ok(Poll::Pending) => {
                *this.span = Some(entered.exit());
                Poll::Pending
            }
            Ok(ready) => {
                // What the future has left to drop belongs to the span, too.
                this.stash.put_back();
                this.work.set(None);
                entered.end_what_is_left();
                ready
            }
            Err(panic) => {
                entered.record_panic(&*panic);
                drop(entered);
                resume_unwind(panic)
            }
        }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let attached = attach(this.context, this.stash);
        let work = this.work.as_pin_mut().expect("it is there until the drop");
        let polled = work.poll(cx);
        *this.stash = attached.stash();
        polled
    }
}
