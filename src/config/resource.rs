//! The resource: attributes of the process that records, sent once for all of its spans.

use crate::{
    otlp,
    record::{Key, Value},
};

/// The process that records spans (an OpenTelemetry resource). `Resource::default()` sets `service.name` to
/// `unknown_service:` and the name of the program, and says which SDK this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    attributes: Vec<(String, ResourceValue)>,
    schema_url: String,
}

/// A value of a resource's attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ResourceValue {
    /// Text.
    Str(String),
    /// A number.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Bool(bool),
}

impl From<&str> for ResourceValue {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for ResourceValue {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl From<i64> for ResourceValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for ResourceValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for ResourceValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Resource {
    /// A resource of this service.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self::default().with("service.name", name)
    }

    /// Adds an attribute; a key that is there takes the new value. An attribute with an empty key, or of more than 64
    /// KiB, is not sent.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<ResourceValue>) -> Self {
        let value = value.into();
        match self.attributes.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => self.attributes.push((key.to_owned(), value)),
        }
        self
    }

    /// Sets which schema the attributes follow.
    #[must_use]
    pub fn schema_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.schema_url);
        self
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&ResourceValue> {
        self.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// All attributes, in the order in which they came.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &ResourceValue)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// This resource and the attributes of another, of which later ones win, below its own. What it has by default is
    /// not its own.
    pub(super) fn above(&self, others: &[(String, String)]) -> Self {
        let default = Self::default();
        let is_own = |key: &str| self.attribute(key).is_some_and(|value| default.attribute(key) != Some(value));
        let missing = others.iter().filter(|(key, _)| !is_own(key));
        missing.fold(self.clone(), |merged, (key, value)| merged.with(key, value.as_str()))
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema_url
    }

    pub(crate) fn encode(&self) -> otlp::Resource {
        let value = |value| match value {
            &ResourceValue::Int(value) => Value::Int(value),
            &ResourceValue::Double(value) => Value::Double(value),
            &ResourceValue::Bool(value) => Value::Bool(value),
            ResourceValue::Str(value) => Value::Str(value),
        };
        let pairs: Vec<_> =
            self.attributes.iter().map(|(key, given)| (Key::from(key.as_str()), value(given))).collect();
        otlp::Resource::new(&pairs, &self.schema_url)
    }
}

impl Default for Resource {
    fn default() -> Self {
        let path = std::env::args_os().next().unwrap_or_default();
        let program = std::path::Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = program.map_or("unknown_service".to_owned(), |program| format!("unknown_service:{program}"));
        let empty = Self { attributes: vec![], schema_url: String::new() };
        empty
            .with("service.name", name)
            .with("telemetry.sdk.name", "spanring")
            .with("telemetry.sdk.language", "rust")
            .with("telemetry.sdk.version", env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_take_the_place_of_earlier_ones() {
        let resource = Resource::service("shop").with("service.name", "other").with("shard", 3);
        assert_eq!(resource.attribute("service.name"), Some(&ResourceValue::from("other")));
        assert_eq!(resource.attribute("shard"), Some(&ResourceValue::Int(3)));
        assert_eq!(resource.attribute("telemetry.sdk.name"), Some(&ResourceValue::from("spanring")));
    }

    #[test]
    fn unnamed_service_carries_the_name_of_the_program() {
        let Some(ResourceValue::Str(name)) = Resource::default().attribute("service.name").cloned() else {
            panic!("a service has a name");
        };
        assert!(name.starts_with("unknown_service:spanring"), "{name}");
    }
}
