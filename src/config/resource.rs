//! The resource: attributes of the process that records, sent once for all of its spans.

use std::fmt;

use crate::{
    otlp,
    record::{Key, Value},
};

/// The process that records spans (an OpenTelemetry resource). `Resource::default()` sets `service.name` to
/// `unknown_service:` and the name of the program, and says which SDK this is.
///
/// Each attribute is the program's word, or a default, which yields to the environment's.
///
/// ```
/// # use spanring::{Config, Resource};
/// // The name of the service, whatever the environment says:
/// let config = Config { resource: Resource::service("shop"), ..Config::from_env() };
/// // Its name unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES give another:
/// let config = Config { resource: Resource::service_by_default("shop"), ..Config::from_env() };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    attributes: Vec<Attribute>,
    schema_url: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Attribute {
    key: String,
    value: ResourceValue,
    /// It yields to the environment, and to what is added.
    is_default: bool,
}

/// Two resources that follow different schemas: their attributes cannot be told apart in one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SchemaConflict {
    urls: [String; 2],
}

impl fmt::Display for SchemaConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, updating] = &self.urls;
        write!(f, "resources of the schemas {old} and {updating} cannot be merged: bring one of them to the other's")
    }
}

impl std::error::Error for SchemaConflict {}

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
    /// A resource without attributes, for a detector of a platform. What an engine sends has those of
    /// `Resource::default()` as well.
    #[must_use]
    pub fn empty() -> Self {
        Self { attributes: vec![], schema_url: String::new() }
    }

    /// A resource of this service.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self::default().with("service.name", name)
    }

    /// A resource of this service, unless the environment names it.
    #[must_use]
    pub fn service_by_default(name: &str) -> Self {
        Self::default().with_default("service.name", name)
    }

    /// Adds an attribute; a key that is there takes the new value. An attribute with an empty key, or of more than 64
    /// KiB, is not sent.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<ResourceValue>) -> Self {
        self.put(key, value.into(), false);
        self
    }

    /// Adds an attribute that yields to the environment's, and to one that is there and is no default.
    #[must_use]
    pub fn with_default(mut self, key: &str, value: impl Into<ResourceValue>) -> Self {
        self.put(key, value.into(), true);
        self
    }

    /// This resource and another, whose attributes win where both have a key, even empty ones; its defaults only win
    /// over defaults (RES-02). The schema is that of the one that has one.
    ///
    /// # Errors
    ///
    /// When they have two schemas.
    pub fn merged(mut self, updating: &Self) -> Result<Self, SchemaConflict> {
        let has_both = !self.schema_url.is_empty() && !updating.schema_url.is_empty();
        if has_both && self.schema_url != updating.schema_url {
            return Err(SchemaConflict { urls: [self.schema_url, updating.schema_url.clone()] });
        }
        for Attribute { key, value, is_default } in &updating.attributes {
            self.put(key, value.clone(), *is_default);
        }
        if self.schema_url.is_empty() {
            self.schema_url.clone_from(&updating.schema_url);
        }
        Ok(self)
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
        self.attributes.iter().find(|known| known.key == key).map(|known| &known.value)
    }

    /// All attributes, in the order in which they came.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &ResourceValue)> {
        self.attributes.iter().map(|attribute| (attribute.key.as_str(), &attribute.value))
    }

    /// This resource as it is sent: below its own attributes those of the environment, of which later ones win, and
    /// below these all defaults (RES-03, RES-05).
    pub(super) fn above(&self, environment: &[(String, String)]) -> Self {
        let mut merged = self.clone();
        let is_own = |key: &str| self.attributes.iter().any(|known| known.key == key && !known.is_default);
        for (key, value) in environment.iter().filter(|(key, _)| !is_own(key)) {
            merged.put(key, value.as_str().into(), false);
        }
        for Attribute { key, value, .. } in Self::default().attributes {
            if merged.attribute(&key).is_none() {
                merged.put(&key, value, true);
            }
        }
        merged
    }

    fn put(&mut self, key: &str, value: ResourceValue, is_default: bool) {
        match self.attributes.iter_mut().find(|known| known.key == key) {
            Some(known) if is_default && !known.is_default => {}
            Some(known) => (known.value, known.is_default) = (value, is_default),
            None => self.attributes.push(Attribute { key: key.to_owned(), value, is_default }),
        }
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
        let pairs: Vec<_> = self.attributes().map(|(key, given)| (Key::from(key), value(given))).collect();
        otlp::Resource::new(&pairs, &self.schema_url)
    }
}

impl Default for Resource {
    fn default() -> Self {
        let path = std::env::args_os().next().unwrap_or_default();
        let program = std::path::Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = program.map_or("unknown_service".to_owned(), |program| format!("unknown_service:{program}"));
        Self::empty()
            .with_default("service.name", name)
            .with_default("telemetry.sdk.name", "spanring")
            .with_default("telemetry.sdk.language", "rust")
            .with_default("telemetry.sdk.version", env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RES-04: the name of the SDK is its own.
    #[test]
    fn later_values_take_the_place_of_earlier_ones() {
        let resource = Resource::service("shop").with("service.name", "other").with("shard", 3);
        assert_eq!(resource.attribute("service.name"), Some(&ResourceValue::from("other")));
        assert_eq!(resource.attribute("shard"), Some(&ResourceValue::Int(3)));
        assert_eq!(resource.attribute("telemetry.sdk.name"), Some(&ResourceValue::from("spanring")));
    }

    /// RES-03: the name of a service is never missing.
    #[test]
    fn unnamed_service_carries_the_name_of_the_program() {
        let Some(ResourceValue::Str(name)) = Resource::default().attribute("service.name").cloned() else {
            panic!("a service has a name");
        };
        assert!(name.starts_with("unknown_service:spanring"), "{name}");
    }
    /// RES-01: a merge makes a resource, and leaves the updating one as it was.
    #[test]
    fn res_02_updating_resource_wins_even_by_an_empty_value() {
        let old = Resource::empty().with("a", "old").with("b", "old").schema_url("one");
        let merged = old.clone().merged(&Resource::empty().with("b", "").with("c", 3)).unwrap();
        let expected = Resource::empty().with("a", "old").with("b", "").with("c", 3).schema_url("one");
        assert_eq!(merged, expected);
        assert_eq!(Resource::empty().merged(&old).unwrap(), old, "an empty schema yields");
        assert_eq!(old.clone().merged(&old).unwrap(), old);
        let error = old.merged(&Resource::empty().schema_url("two")).unwrap_err();
        assert!(error.to_string().starts_with("resources of the schemas one and two cannot be merged"), "{error}");
    }

    #[test]
    fn default_yields_to_all_but_an_earlier_default() {
        let merged = Resource::service("shop").merged(&Resource::service_by_default("other")).unwrap();
        assert_eq!(merged.attribute("service.name"), Some(&"shop".into()));
        let merged = Resource::default().merged(&Resource::service_by_default("other")).unwrap();
        assert_eq!(merged.attribute("service.name"), Some(&"other".into()));
        let own =
            Resource::service_by_default("other").with("service.name", "own").with_default("service.name", "last");
        assert_eq!(own.attribute("service.name"), Some(&"own".into()));
    }

    /// RES-03, RES-05.
    #[test]
    fn res_05_environment_is_between_the_defaults_and_the_word_of_the_program() {
        let environment = [("service.name".to_owned(), "env".to_owned()), ("zone".to_owned(), "b".to_owned())];
        let name = |resource: &Resource| resource.above(&environment).attribute("service.name").cloned();
        assert_eq!(name(&Resource::default()), Some("env".into()));
        assert_eq!(name(&Resource::service_by_default("shop")), Some("env".into()));
        assert_eq!(name(&Resource::service("shop")), Some("shop".into()));
        let unnamed = Resource::default();
        let same = Resource::empty().with("service.name", "unknown_service");
        assert_eq!(name(&same), Some("unknown_service".into()));
        assert_eq!(Resource::service_by_default("shop").above(&[]).attribute("service.name"), Some(&"shop".into()));
        let sent = Resource::empty().with("shard", 1).above(&environment);
        assert_eq!(sent.attributes().count(), 6);
        assert_eq!(sent.attribute("telemetry.sdk.name"), unnamed.attribute("telemetry.sdk.name"));
    }
}
