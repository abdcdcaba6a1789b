//! Streams that are polled in a span or in a context, whichever thread polls them.

use std::{
    pin::Pin,
    task::{self, Poll},
};

use futures_core::Stream;

use super::{
    future::{InContext, InSpan},
    span::Span,
};
use crate::context::Context;

/// Two ways for a stream to go on with what is current, as [`TraceFuture`](crate::TraceFuture) has for futures. Needs
/// the feature `stream`.
pub trait TraceStream: Stream + Sized {
    /// The span covers the whole stream: it is the current one whenever the next item is asked for, and ends with the
    /// stream. If the stream is dropped before its end, the span has the attribute `spanring.cancelled`. A panic of the
    /// stream fails the span, and ends both.
    ///
    /// Baggage and values are those that are current at this call, as for a future.
    ///
    /// What is done with an item is not in the span: the stream has none of its own between two items.
    fn in_span(self, span: Span) -> InSpan<Self> {
        InSpan::new(self, span)
    }

    /// The context is the current one whenever the next item is asked for, and when the stream is dropped.
    fn in_context(self, context: Context) -> InContext<Self> {
        InContext::new(self, context)
    }
}

impl<S: Stream> TraceStream for S {}

/// After its end it gives `None`, whatever the stream in it would do.
impl<S: Stream> Stream for InSpan<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<S::Item>> {
        let is_end = |polled: &Poll<Option<S::Item>>| matches!(polled, Poll::Ready(None));
        self.poll_work(|work| work.poll_next(cx), is_end).unwrap_or(Poll::Ready(None))
    }
}

impl<S: Stream> Stream for InContext<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<S::Item>> {
        self.poll_work(|work| work.poll_next(cx))
    }
}
