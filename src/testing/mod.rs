//! For tests: everything that was recorded, as plain structs, decoded by [prost](https://docs.rs/prost), which shares
//! no code with the encoder.

pub mod collector;
mod compare;
mod difference;
mod engine;
mod expected;

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    trace::v1::{ScopeSpans, Span as WireSpan},
};
use prost::Message;

#[doc(hidden)]
pub use self::difference::check_tree;
pub use self::{
    difference::SpanSource,
    engine::{CountingIds, TestEngine},
};
#[doc(no_inline)]
pub use crate::{Clock, FakeClock, tree::OwnedStatus};
use crate::{
    engine::Engine,
    record::{Kind, SpanId, TraceId, flags},
    trace::Scope,
    tree::TreeSpan,
};

/// A finished span, whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedSpan {
    /// The scope that recorded it.
    pub scope: Scope,
    /// The id of its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The id of its parent; [`SpanId::NONE`] for a root.
    pub parent_id: SpanId,
    /// The wire's flags: trace flags, and where the parent lives.
    pub flags: u32,
    /// The trace state as text.
    pub trace_state: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Its attributes.
    pub attributes: Vec<(String, OwnedValue)>,
    /// Its events.
    pub events: Vec<FinishedEvent>,
    /// Its links.
    pub links: Vec<FinishedLink>,
    /// Its status.
    pub status: OwnedStatus,
    /// Attributes that a limit turned away.
    pub dropped_attributes: u32,
    /// Events that a limit turned away.
    pub dropped_events: u32,
    /// Links that a limit turned away.
    pub dropped_links: u32,
}

/// An event of a finished span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedEvent {
    /// Its name.
    pub name: String,
    /// When it happened.
    pub time: SystemTime,
    /// Its attributes.
    pub attributes: Vec<(String, OwnedValue)>,
    /// Attributes that a limit turned away.
    pub dropped_attributes: u32,
}

/// A link of a finished span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedLink {
    /// The trace of the other span.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Its trace state as text.
    pub trace_state: String,
    /// The wire's flags.
    pub flags: u32,
    /// The link's attributes.
    pub attributes: Vec<(String, OwnedValue)>,
    /// Attributes that a limit turned away.
    pub dropped_attributes: u32,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OwnedValue {
    /// No value.
    Empty,
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array.
    Array(Vec<Self>),
    /// A map.
    Map(Vec<(String, Self)>),
}

impl FinishedSpan {
    /// Whether its parent is in another process; `None` where the span does not say.
    #[must_use]
    pub fn is_parent_remote(&self) -> Option<bool> {
        let has = |flag| self.flags & flag != 0;
        has(flags::HAS_IS_REMOTE).then(|| has(flags::IS_REMOTE))
    }

    /// How long it took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.end.duration_since(self.start).unwrap_or_default()
    }
}

impl From<&FinishedSpan> for TreeSpan {
    fn from(span: &FinishedSpan) -> Self {
        Self {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_id: span.parent_id,
            is_parent_remote: span.is_parent_remote(),
            name: span.name.clone(),
            kind: span.kind,
            start: span.start,
            end: span.end,
            status: span.status.clone(),
            links: span.links.iter().map(|link| (link.trace_id, link.span_id)).collect(),
        }
    }
}

/// Takes out and decodes every span that has ended before this call. With [`Config::export`](crate::Config::export) set
/// it is empty, because the worker takes the spans; use a [`collector`] then.
///
/// # Panics
///
/// When a span's bytes are not what `trace.proto` says they are: that is a bug of this library.
#[must_use]
pub fn finished(engine: &Engine) -> Vec<FinishedSpan> {
    let mut spans = Vec::new();
    engine.drain(|scope, bytes| spans.push(decode(scope, bytes)));
    spans
}

fn decode(scope: &Scope, bytes: &[u8]) -> FinishedSpan {
    // One element of `ScopeSpans.spans` is a `ScopeSpans` message with one span.
    let message = ScopeSpans::decode(bytes).expect("the drain gives OTLP bytes");
    let [span] = <[WireSpan; 1]>::try_from(message.spans).expect("the drain gives one span at a time");
    finished_span(scope.clone(), span)
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans_of(request: &[u8]) -> Vec<FinishedSpan> {
    let request = ExportTraceServiceRequest::decode(request).expect("it was decoded before it was kept");
    let of_scope = |scope_spans: ScopeSpans| {
        let scope = scope(scope_spans.scope.unwrap_or_default(), scope_spans.schema_url);
        scope_spans.spans.into_iter().map(move |span| finished_span(scope.clone(), span))
    };
    request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans).flat_map(of_scope).collect()
}

fn scope(scope: InstrumentationScope, schema_url: String) -> Scope {
    let text = |(key, value)| match value {
        OwnedValue::Str(text) => Some((key, text)),
        _ => None,
    };
    let attributes = attributes(scope.attributes).into_iter().filter_map(text).collect();
    Scope { name: scope.name, version: scope.version, schema_url, attributes }
}

fn finished_span(scope: Scope, span: WireSpan) -> FinishedSpan {
    let status = span.status.unwrap_or_default();
    FinishedSpan {
        scope,
        trace_id: trace_id(&span.trace_id),
        span_id: span_id(&span.span_id),
        parent_id: span_id(&span.parent_span_id),
        flags: span.flags,
        trace_state: span.trace_state,
        name: span.name,
        kind: kind(span.kind),
        start: time(span.start_time_unix_nano),
        end: time(span.end_time_unix_nano),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        status: match status.code {
            1 => OwnedStatus::Ok,
            2 => OwnedStatus::Error(status.message),
            _ => OwnedStatus::Unset,
        },
        dropped_attributes: span.dropped_attributes_count,
        dropped_events: span.dropped_events_count,
        dropped_links: span.dropped_links_count,
    }
}

/// A kind by its number on the wire. One that is unknown is internal, as `trace.proto` says of an unspecified one.
fn kind(number: i32) -> Kind {
    let kinds = [Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
    kinds.into_iter().find(|&kind| kind as i32 == number).unwrap_or_default()
}

fn event(event: opentelemetry_proto::tonic::trace::v1::span::Event) -> FinishedEvent {
    FinishedEvent {
        name: event.name,
        time: time(event.time_unix_nano),
        attributes: attributes(event.attributes),
        dropped_attributes: event.dropped_attributes_count,
    }
}

fn link(link: opentelemetry_proto::tonic::trace::v1::span::Link) -> FinishedLink {
    FinishedLink {
        trace_id: trace_id(&link.trace_id),
        span_id: span_id(&link.span_id),
        trace_state: link.trace_state,
        flags: link.flags,
        attributes: attributes(link.attributes),
        dropped_attributes: link.dropped_attributes_count,
    }
}

fn attributes(wire: Vec<KeyValue>) -> Vec<(String, OwnedValue)> {
    wire.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn value(wire: Option<AnyValue>) -> OwnedValue {
    match wire.and_then(|value| value.value) {
        Some(any_value::Value::BoolValue(value)) => OwnedValue::Bool(value),
        Some(any_value::Value::IntValue(value)) => OwnedValue::Int(value),
        Some(any_value::Value::DoubleValue(value)) => OwnedValue::Double(value),
        Some(any_value::Value::StringValue(value)) => OwnedValue::Str(value),
        Some(any_value::Value::BytesValue(value)) => OwnedValue::Bytes(value),
        Some(any_value::Value::ArrayValue(array)) => {
            OwnedValue::Array(array.values.into_iter().map(|element| value(Some(element))).collect())
        }
        Some(any_value::Value::KvlistValue(map)) => OwnedValue::Map(attributes(map.values)),
        _ => OwnedValue::Empty,
    }
}

fn trace_id(bytes: &[u8]) -> TraceId {
    bytes.try_into().map_or(TraceId::NONE, TraceId)
}

fn span_id(bytes: &[u8]) -> SpanId {
    bytes.try_into().map_or(SpanId::NONE, SpanId)
}

fn time(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}
