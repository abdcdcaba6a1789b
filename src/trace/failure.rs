//! What goes wrong in a span: errors, and panics that were caught.

use std::{
    any::{self, Any},
    error::Error,
    fmt::Display,
};

use super::span::Span;
use crate::record::Status;

impl Span {
    /// Adds an event `exception` with the type, the text and the sources of this error. The status stays as it is: an
    /// error that was handled is none of the span's. [`Span::fail`] sets it, too.
    #[track_caller]
    pub fn record_error<E: Error + ?Sized>(&mut self, error: &E) {
        if self.is_recording() {
            self.record_as(error, &error.to_string());
        }
    }

    /// Records an error that has this text.
    #[track_caller]
    fn record_as<E: Error + ?Sized>(&mut self, error: &E, text: &str) {
        let sources = sources(error.source());
        let kind = any::type_name::<E>();
        // That of a trait object says nothing.
        let kind = Some(("exception.type", kind)).filter(|(_, kind)| !kind.starts_with("dyn "));
        let sources = Some(("exception.stacktrace", sources.as_str())).filter(|(_, text)| !text.is_empty());
        let attributes = kind.into_iter().chain([("exception.message", text)]).chain(sources);
        self.event_with("exception", attributes);
    }

    /// Records the error as [`Span::record_error`] does, and then sets the status with its text.
    #[track_caller]
    pub fn fail<E: Error + ?Sized>(&mut self, error: &E) {
        if self.is_recording() {
            let text = error.to_string();
            self.record_as(error, &text);
            self.status(Status::Error(&text));
        }
    }

    /// As [`Span::fail`] for what has a text alone: a message, or an error that is no [`Error`], as those of `anyhow`.
    #[track_caller]
    pub fn fail_with<E: Display + ?Sized>(&mut self, failure: &E) {
        if self.is_recording() {
            self.fail_as(any::type_name::<E>(), &failure.to_string());
        }
    }

    /// Fails the span by a panic that was caught.
    pub(super) fn fail_by(&mut self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        self.fail_as("panic", text.unwrap_or("a value that is no text"));
    }

    #[track_caller]
    fn fail_as(&mut self, kind: &str, text: &str) {
        self.event_with("exception", [("exception.type", kind), ("exception.message", text)]);
        self.status(Status::Error(text));
    }
}

/// What led to an error, a line for each.
fn sources(mut source: Option<&(dyn Error + 'static)>) -> String {
    const SOURCES_MAX: usize = 32;
    let mut lines = vec![];
    while let Some(error) = source.filter(|_| lines.len() < SOURCES_MAX) {
        lines.push(format!("caused by: {error}"));
        source = error.source();
    }
    lines.join("\n")
}
