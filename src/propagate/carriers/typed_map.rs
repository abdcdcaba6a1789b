//! Maps whose values have a type each: the attributes of SQS, the tables of AMQP.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::visit_pairs;
use crate::propagate::{Extractor, Injector, Refused};

/// A map from names to values of a type that may hold text: `B` is a reference to a `HashMap`, a `BTreeMap`, or what
/// else is a list of pairs that can be extended.
///
/// ```
/// use std::collections::HashMap;
///
/// use spanring::propagate::{Propagators, TypedMap};
///
/// /// As the SDK of AWS has it.
/// struct MessageAttributeValue {
///     data_type: String,
///     string_value: Option<String>,
/// }
///
/// fn text(value: &MessageAttributeValue) -> Option<&[u8]> {
///     value.string_value.as_deref().map(str::as_bytes)
/// }
///
/// fn value(text: &str) -> MessageAttributeValue {
///     MessageAttributeValue { data_type: "String".into(), string_value: Some(text.into()) }
/// }
///
/// let mut attributes = HashMap::new();
/// attributes.insert("traceparent".to_owned(), value("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
/// let propagators = Propagators::default();
/// let received = propagators.extract(&TypedMap::attributes(&attributes, text, value));
///
/// let mut outgoing: HashMap<String, MessageAttributeValue> = HashMap::new();
/// let mut carrier = TypedMap::attributes(&mut outgoing, text, value);
/// let dropped = propagators.inject(&received.into_context(), &mut carrier);
/// assert_eq!((dropped.fields, &*outgoing["traceparent"].data_type), (0, "String"));
/// ```
pub struct TypedMap<B, K, V> {
    map: B,
    names_max: usize,
    text: fn(&V) -> Option<&[u8]>,
    value: fn(&str) -> V,
    names: PhantomData<fn() -> K>,
}

/// Most attributes of a message (the quotas of Amazon SQS).
const ATTRIBUTES_MAX: usize = 10;

impl<B, M, K, V> TypedMap<B, K, V>
where
    B: Deref<Target = M>,
    for<'a> &'a M: IntoIterator<Item = (&'a K, &'a V)>,
{
    /// A table of AMQP. `text` finds the text of a value, if it has any; `value` makes one of a text.
    #[must_use]
    pub fn table(map: B, text: fn(&V) -> Option<&[u8]>, value: fn(&str) -> V) -> Self {
        Self { map, names_max: usize::MAX, text, value, names: PhantomData }
    }

    /// The attributes of a message of SQS, of which there are ten at most: what finds no room is refused.
    #[must_use]
    pub fn attributes(map: B, text: fn(&V) -> Option<&[u8]>, value: fn(&str) -> V) -> Self {
        Self { names_max: ATTRIBUTES_MAX, ..Self::table(map, text, value) }
    }
}

impl<B, M, K: AsRef<str>, V> Extractor for TypedMap<B, K, V>
where
    B: Deref<Target = M>,
    for<'a> &'a M: IntoIterator<Item = (&'a K, &'a V)>,
{
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let texts = self.map.into_iter().filter_map(|(found, value)| Some((found.as_ref(), (self.text)(value)?)));
        visit_pairs(texts, name, visit);
    }
}

impl<B, M, K: AsRef<str> + From<&'static str>, V> Injector for TypedMap<B, K, V>
where
    B: DerefMut<Target = M>,
    M: Extend<(K, V)>,
    for<'a> &'a M: IntoIterator<Item = (&'a K, &'a V)>,
{
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        let others = self.map.into_iter().filter(|(found, _)| (*found).as_ref() != name).count();
        if others >= self.names_max {
            return Err(Refused::NoRoom);
        }
        self.map.extend([(name.into(), (self.value)(value))]);
        Ok(())
    }
}

impl<B, K, V> fmt::Debug for TypedMap<B, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedMap").field("names_max", &self.names_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::{
        Baggage, Context, SpanContext, SpanId, TraceId, TraceState,
        propagate::{Dropped, Propagators, carriers::tests::found},
    };

    #[derive(Debug, PartialEq)]
    enum Typed {
        Text(Vec<u8>),
        Number(i32),
    }

    fn text(value: &Typed) -> Option<&[u8]> {
        match value {
            Typed::Text(text) => Some(text),
            Typed::Number(_) => None,
        }
    }

    fn typed(text: &str) -> Typed {
        Typed::Text(text.into())
    }

    #[test]
    fn values_that_are_text_are_read_and_others_are_not() {
        let table: BTreeMap<String, Typed> =
            [("A-Name".to_owned(), typed("1")), ("a-name".to_owned(), Typed::Number(1)), ("b".to_owned(), typed("2"))]
                .into();
        assert_eq!(found(&TypedMap::table(&table, text, typed)), ["1"]);
    }

    /// Of SQS: ten attributes are all, those of the program among them, and what has no room is told.
    #[test]
    fn attributes_past_the_tenth_are_refused_and_counted() {
        let context = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::new("a=1").unwrap());
        let context = Context::of(context).with_baggage(Baggage::default().with("a", "1").unwrap());
        let sent = |own: usize| {
            let mut attributes: HashMap<String, Typed> =
                (0..own).map(|number| (number.to_string(), Typed::Number(0))).collect();
            let mut carrier = TypedMap::attributes(&mut attributes, text, typed);
            let dropped = Propagators::default().inject(&context, &mut carrier);
            assert_eq!(Propagators::default().inject(&context, &mut carrier), dropped, "again is no more");
            let names = ["traceparent", "tracestate", "baggage"].map(|name| attributes.contains_key(name));
            (names, dropped)
        };
        let fields = |fields| Dropped { fields, ..Dropped::default() };
        assert_eq!(sent(7), ([true, true, true], fields(0)));
        assert_eq!(sent(8), ([true, true, false], fields(1)));
        assert_eq!(sent(9), ([true, false, false], fields(2)));
        assert_eq!(sent(10), ([false; 3], fields(3)));

        let mut table: BTreeMap<String, Typed> = (0..100).map(|n| (n.to_string(), Typed::Number(0))).collect();
        let dropped = Propagators::default().inject(&context, &mut TypedMap::table(&mut table, text, typed));
        assert_eq!((dropped, table.len()), (fields(0), 103));
    }
}
