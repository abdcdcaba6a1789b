//! Lists of attributes, as the calls for events and links take them.

use super::{attribute_value::AttributeValue, value::Key};

/// Attributes of an event or a link: an array, a `Vec` or an iterator of pairs, each of what makes a [`Key`] and an
/// [`AttributeValue`]. A list may be read twice, so its iterator has to be `Clone`; one of `String`s is copied then,
/// one of references to them is not.
///
/// ```
/// # use spanring::{Config, Engine, Value};
/// # let engine = Engine::start(Config::default())?;
/// # let mut span = engine.tracer("doc").span("work").start();
/// span.event("retry");
/// span.event_with("cache.miss", [("cache.key", "cart-17")]);
/// span.event_with("rejected", vec![("attempt", Value::from(3)), ("reason", "full".into())]);
/// span.event_with("left", [("coupon", None), ("user", Some("ada"))]);
/// span.event_with("found", ["a", "b"].iter().map(|key| (key, 1)));
/// # Ok::<(), spanring::StartError>(())
/// ```
pub trait AttributeList<'a> {
    /// The pairs.
    fn pairs(self) -> impl Iterator<Item = (Key<'a>, impl AttributeValue)> + Clone;
}

impl<'a, K, V, I> AttributeList<'a> for I
where
    K: Into<Key<'a>>,
    V: AttributeValue,
    I: IntoIterator<Item = (K, V), IntoIter: Clone>,
{
    #[inline]
    fn pairs(self) -> impl Iterator<Item = (Key<'a>, impl AttributeValue)> + Clone {
        self.into_iter().map(|(key, value)| (key.into(), value))
    }
}
