//! The changes of a span, once for all that can be changed: a span, a shared one, the one that is current.

use std::{error::Error, fmt, time::SystemTime};

use super::span::Span;
use crate::{
    context::SpanContext,
    record::{AttributeList, AttributeValue, Key, Status},
};

/// Whatever changes can be made on. Private, so that the list of changes may grow.
pub trait Change {
    /// Makes a change on the span, or on a note that is applied to it.
    fn change(&mut self, change: impl FnOnce(&mut Span));
}

/// A span that can be changed: a [`Span`], a [`SharedSpan`](crate::SharedSpan), or the
/// [`CurrentSpan`](crate::CurrentSpan). For a helper that is written once for all of them.
///
/// ```
/// # use spanring::{Annotate, Config, Engine};
/// fn describe(span: &mut impl Annotate, items: i64) {
///     span.set("cart.items", items);
///     span.event("described");
/// }
///
/// # let engine = Engine::start(Config::default())?;
/// # let tracer = engine.tracer("shop");
/// describe(&mut tracer.span("own").start(), 1);
/// describe(&mut tracer.span("shared").start().share(), 2);
/// tracer.in_span("current", |mut span| describe(&mut span, 3));
/// # Ok::<(), spanring::StartError>(())
/// ```
pub trait Annotate: Change {
    /// As [`Span::context`].
    fn context(&self) -> &SpanContext;

    /// As [`Span::is_recording`].
    fn is_recording(&self) -> bool;

    /// As [`Span::set`].
    fn set<'a>(&mut self, key: impl Into<Key<'a>>, value: impl AttributeValue) {
        self.change(|span| span.set(key, value));
    }

    /// As [`Span::set_all`].
    fn set_all<'a, K: Into<Key<'a>>, V: AttributeValue>(&mut self, attributes: impl IntoIterator<Item = (K, V)>) {
        self.change(|span| span.set_all(attributes));
    }

    /// As [`Span::event`].
    fn event(&mut self, name: &str) {
        self.change(|span| span.event(name));
    }

    /// As [`Span::event_with`].
    fn event_with<'a>(&mut self, name: &str, attributes: impl AttributeList<'a>) {
        self.change(|span| span.event_with(name, attributes));
    }

    /// As [`Span::event_at`].
    fn event_at<'a>(&mut self, name: &str, time: SystemTime, attributes: impl AttributeList<'a>) {
        self.change(|span| span.event_at(name, time, attributes));
    }

    /// As [`Span::link`].
    fn link(&mut self, target: &SpanContext) {
        self.change(|span| span.link(target));
    }

    /// As [`Span::link_with`].
    fn link_with<'a>(&mut self, target: &SpanContext, attributes: impl AttributeList<'a>) {
        self.change(|span| span.link_with(target, attributes));
    }

    /// As [`Span::status`].
    fn status(&mut self, status: Status<'_>) {
        self.change(|span| span.status(status));
    }

    /// As [`Span::rename`].
    fn rename(&mut self, name: &str) {
        self.change(|span| span.rename(name));
    }

    /// As [`Span::record_error`].
    fn record_error<E: Error + ?Sized>(&mut self, error: &E) {
        self.change(|span| span.record_error(error));
    }

    /// As [`Span::fail`].
    fn fail<E: Error + ?Sized>(&mut self, error: &E) {
        self.change(|span| span.fail(error));
    }

    /// As [`Span::fail_with`].
    fn fail_with<E: fmt::Display + ?Sized>(&mut self, failure: &E) {
        self.change(|span| span.fail_with(failure));
    }
}

impl Change for Span {
    #[inline]
    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
    }
}

impl Annotate for Span {
    fn context(&self) -> &SpanContext {
        Self::context(self)
    }

    fn is_recording(&self) -> bool {
        Self::is_recording(self)
    }
}

/// Gives a handle, which changes its span through `&self`, the methods of [`Annotate`] without the trait. The handle
/// has `change_by`, `context` and `is_recording`.
macro_rules! changed_through {
    ($handle:ty) => {
        impl $handle {
            /// As [`Span::set`].
            pub fn set<'a>(&self, key: impl Into<Key<'a>>, value: impl AttributeValue) {
                self.change_by(|span| span.set(key, value));
            }

            /// As [`Span::set_all`].
            pub fn set_all<'a, K: Into<Key<'a>>, V: AttributeValue>(
                &self,
                attributes: impl IntoIterator<Item = (K, V)>,
            ) {
                self.change_by(|span| span.set_all(attributes));
            }

            /// As [`Span::event`].
            pub fn event(&self, name: &str) {
                self.change_by(|span| span.event(name));
            }

            /// As [`Span::event_with`].
            pub fn event_with<'a>(&self, name: &str, attributes: impl AttributeList<'a>) {
                self.change_by(|span| span.event_with(name, attributes));
            }

            /// As [`Span::event_at`].
            pub fn event_at<'a>(&self, name: &str, time: SystemTime, attributes: impl AttributeList<'a>) {
                self.change_by(|span| span.event_at(name, time, attributes));
            }

            /// As [`Span::link`].
            pub fn link(&self, target: &SpanContext) {
                self.change_by(|span| span.link(target));
            }

            /// As [`Span::link_with`].
            pub fn link_with<'a>(&self, target: &SpanContext, attributes: impl AttributeList<'a>) {
                self.change_by(|span| span.link_with(target, attributes));
            }

            /// As [`Span::status`].
            pub fn status(&self, status: Status<'_>) {
                self.change_by(|span| span.status(status));
            }

            /// As [`Span::rename`].
            pub fn rename(&self, name: &str) {
                self.change_by(|span| span.rename(name));
            }

            /// As [`Span::record_error`].
            pub fn record_error<E: Error + ?Sized>(&self, error: &E) {
                self.change_by(|span| span.record_error(error));
            }

            /// As [`Span::fail`].
            pub fn fail<E: Error + ?Sized>(&self, error: &E) {
                self.change_by(|span| span.fail(error));
            }

            /// As [`Span::fail_with`].
            pub fn fail_with<E: Display + ?Sized>(&self, failure: &E) {
                self.change_by(|span| span.fail_with(failure));
            }
        }

        changed_through!(@trait $handle);
        changed_through!(@trait &$handle);

        impl AsParent for $handle {
            #[inline]
            fn as_parent(&self) -> Option<&SpanContext> {
                Some(self.context())
            }
        }
    };
    (@trait $changed:ty) => {
        impl $crate::trace::annotate::Change for $changed {
            fn change(&mut self, change: impl FnOnce(&mut Span)) {
                self.change_by(change);
            }
        }

        impl $crate::trace::annotate::Annotate for $changed {
            fn context(&self) -> &SpanContext {
                (*self).context()
            }

            fn is_recording(&self) -> bool {
                (*self).is_recording()
            }
        }
    };
}

pub(super) use changed_through;
