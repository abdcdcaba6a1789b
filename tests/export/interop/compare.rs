//! Compares spans as they were sent with spans as they were understood, and names each field that differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};

use super::Collector;

/// A span with the envelopes that it came in.
#[derive(Clone, Debug, Default)]
pub struct PlacedSpan {
    /// The entity that recorded it.
    pub resource: Resource,
    /// The schema of the resource.
    pub resource_schema_url: String,
    /// The library that recorded it.
    pub scope: InstrumentationScope,
    /// The schema of the scope and of the span.
    pub schema_url: String,
    /// The span itself.
    pub span: Span,
}

impl PlacedSpan {
    /// The spans of one resource.
    pub fn of(spans: ResourceSpans) -> Vec<Self> {
        let ResourceSpans { resource, scope_spans, schema_url: resource_schema_url } = spans;
        let resource = resource.unwrap_or_default();
        let placed = |scope_spans: ScopeSpans| {
            let ScopeSpans { scope, spans, schema_url } = scope_spans;
            let outer = Self {
                resource: resource.clone(),
                resource_schema_url: resource_schema_url.clone(),
                scope: scope.unwrap_or_default(),
                schema_url,
                span: Span::default(),
            };
            spans.into_iter().map(move |span| Self { span, ..outer.clone() })
        };
        scope_spans.into_iter().flat_map(placed).collect()
    }

    /// Its trace and its own id.
    pub fn id(&self) -> (&[u8], &[u8]) {
        (&self.span.trace_id, &self.span.span_id)
    }

    /// Every field by its path, as text. Two ways to say nothing are one: no message and an empty one, no id and zeros.
    fn fields(&self) -> BTreeMap<String, String> {
        // Without `..`, here and below: a field that the protocol adds must not go uncompared.
        let Self { resource, resource_schema_url, scope, schema_url, span } = self;
        let mut list = FieldList::default();
        let Resource { attributes, dropped_attributes_count, entity_refs } = resource;
        list.attributes("resource.attributes", attributes);
        list.field("resource.dropped_attributes_count", dropped_attributes_count);
        list.field("resource.entity_refs", entity_refs);
        list.field("resource_schema_url", resource_schema_url);
        let InstrumentationScope { name, version, attributes, dropped_attributes_count } = scope;
        list.field("scope.name", name);
        list.field("scope.version", version);
        list.attributes("scope.attributes", attributes);
        list.field("scope.dropped_attributes_count", dropped_attributes_count);
        list.field("schema_url", schema_url);
        list.span(span);
        list.0
    }
}

/// The fields of `actual` that are not as in `expected`, one sentence each.
pub fn differences(expected: &PlacedSpan, actual: &PlacedSpan) -> Vec<String> {
    let (expected, actual) = (expected.fields(), actual.fields());
    let paths: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    let said = |fields: &BTreeMap<String, String>, path| fields.get(path).map_or("nothing", String::as_str).to_owned();
    paths
        .into_iter()
        .filter(|&path| expected.get(path) != actual.get(path))
        .map(|path| format!("{path}: expected {}, not {}", said(&expected, path), said(&actual, path)))
        .collect()
}

/// Checks that the Collector has each of these spans once, field by field, and no others.
///
/// # Panics
///
/// When it has not; the message names the spans and the fields.
#[track_caller]
pub fn assert_same(expected: &[ResourceSpans], collector: &Collector) {
    let expected: Vec<PlacedSpan> = expected.iter().cloned().flat_map(PlacedSpan::of).collect();
    let findings = discrepancies(&expected, &collector.spans());
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// What is missing, what came twice, what was never sent, and what changed on the way.
pub fn discrepancies(expected: &[PlacedSpan], actual: &[PlacedSpan]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut rest: BTreeMap<_, Vec<&PlacedSpan>> = BTreeMap::new();
    for span in actual {
        rest.entry(span.id()).or_default().push(span);
    }
    for span in expected {
        let name = format!("span {:02x?} {:?}", span.span.span_id, span.span.name);
        let found = rest.remove(&span.id()).unwrap_or_default();
        if found.len() != 1 {
            findings.push(format!("{name} is there {} times", found.len()));
        }
        for actual in found {
            findings.extend(differences(span, actual).into_iter().map(|difference| format!("{name}: {difference}")));
        }
    }
    let strangers = rest.into_values().flatten();
    findings.extend(strangers.map(|span| format!("nobody sent span {:02x?} {:?}", span.span.span_id, span.span.name)));
    findings
}

#[derive(Default)]
struct FieldList(BTreeMap<String, String>);

impl FieldList {
    fn field(&mut self, path: impl Into<String>, value: impl Debug) {
        self.0.insert(path.into(), format!("{value:?}"));
    }

    fn span(&mut self, span: &Span) {
        let Span {
            trace_id,
            span_id,
            trace_state,
            parent_span_id,
            flags,
            name,
            kind,
            start_time_unix_nano,
            end_time_unix_nano,
            attributes,
            dropped_attributes_count,
            events,
            dropped_events_count,
            links,
            dropped_links_count,
            status,
        } = span;
        self.id("trace_id", trace_id);
        self.id("span_id", span_id);
        self.field("trace_state", trace_state);
        self.id("parent_span_id", parent_span_id);
        self.field("flags", flags);
        self.field("name", name);
        self.field("kind", kind);
        self.field("start_time_unix_nano", start_time_unix_nano);
        self.field("end_time_unix_nano", end_time_unix_nano);
        self.attributes("attributes", attributes);
        self.field("dropped_attributes_count", dropped_attributes_count);
        events.iter().enumerate().for_each(|(index, event)| self.event(index, event));
        self.field("dropped_events_count", dropped_events_count);
        links.iter().enumerate().for_each(|(index, link)| self.link(index, link));
        self.field("dropped_links_count", dropped_links_count);
        let Status { message, code } = status.clone().unwrap_or_default();
        self.field("status.message", message);
        self.field("status.code", code);
    }

    fn event(&mut self, index: usize, event: &span::Event) {
        let span::Event { time_unix_nano, name, attributes, dropped_attributes_count } = event;
        self.field(format!("events[{index}].time_unix_nano"), time_unix_nano);
        self.field(format!("events[{index}].name"), name);
        self.attributes(&format!("events[{index}].attributes"), attributes);
        self.field(format!("events[{index}].dropped_attributes_count"), dropped_attributes_count);
    }

    fn link(&mut self, index: usize, link: &span::Link) {
        let span::Link { trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags } = link;
        self.id(&format!("links[{index}].trace_id"), trace_id);
        self.id(&format!("links[{index}].span_id"), span_id);
        self.field(format!("links[{index}].trace_state"), trace_state);
        self.attributes(&format!("links[{index}].attributes"), attributes);
        self.field(format!("links[{index}].dropped_attributes_count"), dropped_attributes_count);
        self.field(format!("links[{index}].flags"), flags);
    }

    fn id(&mut self, path: &str, id: &[u8]) {
        let is_none = id.iter().all(|&byte| byte == 0);
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.field(path, if is_none { String::new() } else { hex });
    }

    fn attributes(&mut self, path: &str, attributes: &[KeyValue]) {
        for (index, attribute) in attributes.iter().enumerate() {
            self.0.insert(format!("{path}[{index}]"), attribute_text(attribute));
        }
    }
}

/// The key and the value as text, which tells values apart that differ: `-0.0` is not `0.0`, and a number knows its
/// kind.
fn attribute_text(attribute: &KeyValue) -> String {
    let KeyValue { key, value, key_strindex } = attribute;
    // Keys by number are for profiles. One here is a fault, and is shown where a span has none.
    let index = if *key_strindex == 0 { String::new() } else { format!(" #{key_strindex}") };
    format!("{key:?}{index} = {}", value_text(value.as_ref()))
}

fn value_text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => "empty".to_owned(),
        Some(Value::ArrayValue(array)) => {
            let elements: Vec<String> = array.values.iter().map(|element| value_text(Some(element))).collect();
            format!("[{}]", elements.join(", "))
        }
        Some(Value::KvlistValue(map)) => {
            let entries: Vec<String> = map.values.iter().map(attribute_text).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Some(plain) => format!("{plain:?}"),
    }
}
