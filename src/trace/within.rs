//! Closures that run in a span: it is the current one meanwhile, and ends with them; a panic is recorded.

use std::{
    fmt::Display,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::{
    current::{CurrentSpan, current_span},
    future::{InSpan, TraceFuture as _},
    span::Span,
    tracer::Tracer,
};

impl Tracer {
    /// Calls `work` in a new span: the current one while it runs, and ended by its return. A panic of `work` fails the
    /// span, with its text, and goes on.
    ///
    /// ```
    /// # use spanring::{Config, Engine};
    /// # let engine = Engine::start(Config::default())?;
    /// # let tracer = engine.tracer("shop");
    /// let total = tracer.in_span("order", |span| {
    ///     span.set("order.items", 3);
    ///     tracer.in_span("payment", |_| 42) // a child
    /// });
    /// # assert_eq!(total, 42);
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    #[track_caller]
    pub fn in_span<R>(&self, name: &str, work: impl FnOnce(&CurrentSpan) -> R) -> R {
        self.span(name).start().run(work)
    }

    /// As [`Tracer::in_span`]; an `Err` fails the span, as [`Span::fail_with`] does.
    ///
    /// # Errors
    ///
    /// What `work` returns.
    #[track_caller]
    pub fn try_in_span<T, E: Display>(
        &self,
        name: &str,
        work: impl FnOnce(&CurrentSpan) -> Result<T, E>,
    ) -> Result<T, E> {
        self.span(name).start().try_run(work)
    }

    /// A future in a new span, which begins now. As [`TraceFuture::in_span`](crate::TraceFuture::in_span).
    pub fn in_span_async<F: Future>(&self, name: &str, work: F) -> InSpan<F> {
        work.in_span(self.span(name).start())
    }

    /// As [`Tracer::in_span_async`]; an `Err` fails the span, as [`Span::fail_with`] does.
    pub fn try_in_span_async<T, E: Display>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        let work = async {
            let result = work.await;
            if let Err(error) = &result {
                current_span().fail_with(error);
            }
            result
        };
        work.in_span(self.span(name).start())
    }
}

impl Span {
    /// Calls `work` in this span, as [`Tracer::in_span`] does.
    #[track_caller]
    pub fn run<R>(self, work: impl FnOnce(&CurrentSpan) -> R) -> R {
        let entered = self.enter();
        // The panic goes on, so whoever catches it further up sees what it left half done.
        let result = catch_unwind(AssertUnwindSafe(|| work(&entered)));
        entered.end_what_is_left();
        match result {
            Ok(result) => result,
            Err(panic) => {
                entered.exit().fail_by(&*panic);
                resume_unwind(panic)
            }
        }
    }

    /// As [`Tracer::try_in_span`].
    ///
    /// # Errors
    ///
    /// What `work` returns.
    #[track_caller]
    pub fn try_run<T, E: Display>(self, work: impl FnOnce(&CurrentSpan) -> Result<T, E>) -> Result<T, E> {
        self.run(|span| {
            let result = work(span);
            if let Err(error) = &result {
                span.fail_with(error);
            }
            result
        })
    }
}
