//! Attributes as a test looks at them: by their key, and against plain values.

use std::ops::Index;

use super::{FinishedEvent, FinishedLink, FinishedSpan, OwnedValue};

macro_rules! attributes_of {
    ($($owner:ty),*) => { $(
        impl $owner {
            /// The value of an attribute.
            #[must_use]
            pub fn attribute(&self, key: &str) -> Option<&OwnedValue> {
                self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
        }

        impl Index<&str> for $owner {
            type Output = OwnedValue;

            /// The value of an attribute, for `assert_eq!(span["http.route"], "/cart")`.
            ///
            /// # Panics
            ///
            /// When there is none. The text lists those that there are.
            #[track_caller]
            fn index(&self, key: &str) -> &OwnedValue {
                self.attribute(key).unwrap_or_else(|| missing(key, &self.attributes))
            }
        }
    )* };
}

attributes_of!(FinishedSpan, FinishedEvent, FinishedLink);

#[track_caller]
fn missing(key: &str, attributes: &[(String, OwnedValue)]) -> ! {
    if attributes.is_empty() {
        panic!("there is no attribute `{key}`, nor any other");
    }
    let lines: String = attributes.iter().map(|(key, value)| format!("\n  {key} = {value}")).collect();
    panic!("there is no attribute `{key}`; there are:{lines}");
}

impl PartialEq<str> for OwnedValue {
    fn eq(&self, other: &str) -> bool {
        matches!(self, Self::Str(text) if text == other)
    }
}

impl PartialEq<&str> for OwnedValue {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for OwnedValue {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<bool> for OwnedValue {
    fn eq(&self, other: &bool) -> bool {
        matches!(self, Self::Bool(truth) if truth == other)
    }
}

impl PartialEq<f64> for OwnedValue {
    fn eq(&self, other: &f64) -> bool {
        matches!(self, Self::Double(number) if number == other)
    }
}

macro_rules! equal_to_integers {
    ($($integer:ty),*) => { $(
        impl PartialEq<$integer> for OwnedValue {
            fn eq(&self, other: &$integer) -> bool {
                matches!(self, Self::Int(number) if i64::try_from(*other).is_ok_and(|other| *number == other))
            }
        }
    )* };
}

equal_to_integers!(i32, i64, u16, u32, u64, usize);

impl From<&str> for OwnedValue {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<i64> for OwnedValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for OwnedValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for OwnedValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl std::fmt::Display for OwnedValue {
    /// As it is written in an expected tree: `"text"`, `3`, `1.0`, `true`, `[1, 2]`, `0xff`, `{"key": 1}`, `empty`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Double(number) => write!(f, "{number:?}"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(Self::to_string).collect();
                write!(f, "[{}]", elements.join(", "))
            }
            Self::Map(entries) => {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{OwnedValue, TestEngine, engine::tests::message_of};

    #[test]
    fn attributes_compare_with_plain_values() {
        let engine = TestEngine::start();
        let mut span = engine.tracer("t").span("work").start();
        span.set("route", "/cart");
        span.set("items", 3);
        span.set("vip", true);
        span.set("ratio", 0.5);
        span.event_with("miss", [("key", "a")]);
        drop(span);
        let span = engine.span("work");
        assert_eq!(span["route"], "/cart");
        assert_eq!(span["route"], "/cart".to_owned());
        assert_eq!(span["items"], 3);
        assert_eq!(span["items"], vec![0; 3].len());
        assert_eq!(span["vip"], true);
        assert_eq!(span["ratio"], 0.5);
        assert_eq!(span.events[0]["key"], "a");
        assert!(span["items"] != "3" && span["items"] != 3.0 && span["route"] != 3 && span["vip"] != "true");
        assert!(span["items"] != u64::MAX);
        assert_eq!(span.attribute("none"), None);
        assert_eq!(
            message_of(|| span["rote"] == 1),
            "there is no attribute `rote`; there are:\n  route = \"/cart\"\n  items = 3\n  vip = true\n  ratio = 0.5"
        );
        drop(engine.tracer("t").span("bare").start());
        assert_eq!(message_of(|| engine.span("bare")["key"] == 1), "there is no attribute `key`, nor any other");
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        let map = OwnedValue::Map(vec![("a b".to_owned(), OwnedValue::Bytes(vec![0, 255]))]);
        let values = OwnedValue::Array(vec![map, 1.0.into(), OwnedValue::Empty, "a\n".into()]);
        assert_eq!(values.to_string(), r#"[{"a b": 0x00ff}, 1.0, empty, "a\n"]"#);
        assert_ne!(OwnedValue::Empty, "");
    }
}
