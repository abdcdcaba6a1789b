//! Attributes that a sampler has from the start: to compare with, and to give to spans.

use std::borrow::Cow;

use super::{Composable, Intent, SpanStart};
use crate::record::{Key, Value};

/// The value of an attribute, which a sampler keeps.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Constant {
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    Text(Cow<'static, str>),
}

impl Constant {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Int(number) => Value::Int(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Text(text) => Value::Str(text),
        }
    }

    /// Whether a span has this value.
    pub(super) fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Bool(own), Value::Bool(truth)) => *own == truth,
            (Self::Int(own), Value::Int(number)) => *own == number,
            (Self::Int(own), Value::Uint(number)) => i64::try_from(number) == Ok(*own),
            (Self::Double(own), Value::Double(number)) => *own == number,
            (Self::Text(own), Value::Str(text)) => own == text,
            _ => false,
        }
    }
}

impl From<bool> for Constant {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i32> for Constant {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<i64> for Constant {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Constant {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl From<&'static str> for Constant {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Constant {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// Gives attributes to the spans that another part samples: which rule it was, for instance (SMP-19).
#[derive(Debug)]
pub struct Annotating {
    inner: Box<dyn Composable>,
    attributes: Vec<(Cow<'static, str>, Constant)>,
}

impl Annotating {
    /// Samples what `inner` samples.
    pub fn new(inner: impl Composable + 'static) -> Self {
        Self { inner: Box::new(inner), attributes: Vec::new() }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Constant>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }
}

impl Composable for Annotating {
    fn intent<'a>(&'a self, start: &SpanStart<'a>) -> Intent<'a> {
        let mut intent = self.inner.intent(start);
        self.attributes.iter().for_each(|(key, value)| intent.attributes.push(Key::new(key), value.value()));
        intent
    }

    fn description(&self) -> Cow<'_, str> {
        format!("ComposableAnnotating{{{}}}", self.inner.description()).into()
    }
}
