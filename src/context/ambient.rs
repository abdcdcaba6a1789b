//! The context of a piece of work: the span that it belongs to, and what else travels with it.

use std::{
    any::{Any, TypeId},
    fmt,
    sync::Arc,
};

use super::{SpanContext, baggage::Baggage};

/// What a piece of work takes along: the identity of the span that it belongs to, baggage, and values of the program.
///
/// It never changes: what is set makes a new one. To clone one allocates nothing. A context has a span's identity
/// alone, so a span that is to be changed from elsewhere has to be [shared](crate::Span::share).
#[derive(Clone, Default)]
pub struct Context {
    span: SpanContext,
    baggage: Baggage,
    /// `None` for none; else at most as many as the program has types.
    values: Option<Arc<Vec<Value>>>,
}

/// A value of the program, shared by the contexts that have it.
#[derive(Clone)]
struct Value {
    type_id: TypeId,
    value: Arc<dyn Any + Send + Sync>,
}

impl Context {
    /// The context of this span, and nothing else.
    #[must_use]
    pub fn of(span: SpanContext) -> Self {
        Self { span, ..Self::default() }
    }

    /// The identity of the span; not valid where there is none.
    #[inline]
    #[must_use]
    pub fn span_context(&self) -> &SpanContext {
        &self.span
    }

    /// What is told to those who are called, too.
    #[inline]
    #[must_use]
    pub fn baggage(&self) -> &Baggage {
        &self.baggage
    }

    /// The same with this baggage in place of the one that it has.
    #[must_use]
    pub fn with_baggage(self, baggage: Baggage) -> Self {
        Self { baggage, ..self }
    }

    /// The same with this span in place of the one that it has.
    #[inline]
    #[must_use]
    pub fn with_span_context(self, span: SpanContext) -> Self {
        Self { span, ..self }
    }

    /// The identity of the span, and a context without it.
    #[inline]
    pub(crate) fn part(self) -> (SpanContext, Self) {
        (self.span, Self { span: SpanContext::default(), ..self })
    }

    /// Whether its drop runs no code of the program.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.values.is_none()
    }

    /// Whether both are of the same span, and have the very same values.
    #[inline]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let are_equal = match (&self.values, &other.values) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        are_equal && self.span == other.span && self.baggage == other.baggage
    }

    /// The same with a value of the program, which replaces one of the same type. Its type is its key: make one of your
    /// own for what nobody else is to find.
    #[must_use]
    pub fn with_value<T: Any + Send + Sync>(self, value: T) -> Self {
        let type_id = TypeId::of::<T>();
        let others = self.values().filter(|other| other.type_id != type_id).cloned();
        let values = others.chain([Value { type_id, value: Arc::new(value) }]).collect();
        Self { values: Some(Arc::new(values)), ..self }
    }

    /// The value of this type.
    #[must_use]
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values().find(|value| value.type_id == TypeId::of::<T>())?.value.downcast_ref()
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().flat_map(|values| values.iter())
    }

    /// Whether there is neither a span nor anything else.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.span.is_valid() && self.baggage.is_empty() && self.values.is_none()
    }
}

impl From<SpanContext> for Context {
    fn from(span: SpanContext) -> Self {
        Self::of(span)
    }
}

impl fmt::Display for Context {
    /// A line for a log: `trace_id=… span_id=… trace_flags=01`, and what else there is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { span, baggage, values: _ } = self;
        if span.is_valid() {
            let (trace_id, span_id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
            write!(f, "trace_id={trace_id} span_id={span_id} trace_flags={flags:02x}")?;
        } else {
            f.write_str("no span")?;
        }
        if span.is_remote() {
            f.write_str(" remote")?;
        }
        if !baggage.is_empty() {
            write!(f, " baggage={}", baggage.len())?;
        }
        match self.values().count() {
            0 => Ok(()),
            values => write!(f, " values={values}"),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { span, baggage, values: _ } = self;
        let values = self.values().count();
        f.debug_struct("Context").field("span", span).field("baggage", baggage).field("values", &values).finish()
    }
}

/// Whatever a new span can be a child of: a [`SpanContext`], a [`Context`], a span of any kind, or an `Option` of them.
pub trait AsParent {
    /// The identity of the parent; without a valid one the new span begins a trace.
    fn as_parent(&self) -> Option<&SpanContext>;
}

impl AsParent for SpanContext {
    #[inline]
    fn as_parent(&self) -> Option<&SpanContext> {
        Some(self)
    }
}

impl AsParent for Context {
    #[inline]
    fn as_parent(&self) -> Option<&SpanContext> {
        Some(&self.span)
    }
}

impl<P: AsParent> AsParent for Option<P> {
    #[inline]
    fn as_parent(&self) -> Option<&SpanContext> {
        self.as_ref().and_then(AsParent::as_parent)
    }
}

impl<P: AsParent + ?Sized> AsParent for &P {
    #[inline]
    fn as_parent(&self) -> Option<&SpanContext> {
        (**self).as_parent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{SpanId, TraceId};

    fn span() -> SpanContext {
        SpanContext::remote(TraceId([0xAB; 16]), SpanId([0xCD; 8]), 1, crate::TraceState::default())
    }

    /// API-20: each change is a new context, and the old one stays as it was.
    #[test]
    fn api_20_values_are_found_by_their_types_and_contexts_never_change() {
        #[derive(Debug, PartialEq)]
        struct Tenant(u32);
        #[derive(Debug, PartialEq)]
        struct User(&'static str);
        let empty = Context::default();
        let one = empty.clone().with_value(Tenant(1));
        let both = one.clone().with_value(User("ada"));
        let other = both.clone().with_value(Tenant(2)).with_span_context(span());
        assert!(empty.is_empty() && !one.is_empty());
        assert_eq!((empty.value::<Tenant>(), one.value::<Tenant>()), (None, Some(&Tenant(1))));
        assert_eq!((both.value(), both.value()), (Some(&Tenant(1)), Some(&User("ada"))));
        assert_eq!((other.value(), other.value()), (Some(&Tenant(2)), Some(&User("ada"))));
        assert_eq!((both.span_context(), other.span_context()), (&SpanContext::default(), &span()));
    }

    /// A context that a loop sets again and again has the last value alone.
    #[test]
    fn value_that_is_replaced_is_dropped() {
        let (one, other) = (Arc::new(1_u8), Arc::new(2_u8));
        let context = Context::default().with_value(Arc::clone(&one)).with_value(1_u8).with_value(Arc::clone(&other));
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&other)), (1, 2));
        assert_eq!((context.value(), context.value()), (Some(&1_u8), Some(&other)));
        assert_eq!(context.to_string(), "no span values=2");
    }

    #[test]
    fn context_is_shown_in_a_line() {
        assert_eq!(Context::default().to_string(), "no span");
        let shown = "trace_id=abababababababababababababababab span_id=cdcdcdcdcdcdcdcd trace_flags=01 remote baggage=1 \
                     values=1";
        let context = Context::of(span()).with_value(1_u8);
        assert_eq!(context.with_baggage(Baggage::default().with("tenant", "7").unwrap()).to_string(), shown);
    }
}
