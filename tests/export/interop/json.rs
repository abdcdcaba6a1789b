//! OTLP/JSON as the types of opentelemetry-proto. Strict: what this reader does not know is an error, not left out.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use serde_json::{Deserializer, Map, Value};

/// What is wrong with a text, and where.
pub type Wrong = String;

/// Reads one line: a `TracesData`, which is also an `ExportTraceServiceRequest`.
///
/// # Errors
///
/// When it is not what `trace.proto` says in JSON.
pub fn traces(line: &str) -> Result<Vec<ResourceSpans>, Wrong> {
    let mut reader = Deserializer::from_str(line);
    // 64 arrays in each other, which the specification allows, are about 200 values in each other.
    reader.disable_recursion_limit();
    let mut values = reader.into_iter::<Value>();
    let value = values.next().ok_or("no value")?.map_err(|error| error.to_string())?;
    if values.next().is_some() {
        return Err("more than one value in a line".to_owned());
    }
    object(value, |traces| traces.list("resourceSpans", resource_spans))
}

fn resource_spans(value: Value) -> Result<ResourceSpans, Wrong> {
    object(value, |fields| {
        Ok(ResourceSpans {
            resource: fields.optional("resource", resource)?,
            scope_spans: fields.list("scopeSpans", scope_spans)?,
            schema_url: fields.text("schemaUrl")?,
        })
    })
}

fn resource(value: Value) -> Result<Resource, Wrong> {
    object(value, |fields| {
        Ok(Resource {
            attributes: fields.list("attributes", key_value)?,
            dropped_attributes_count: fields.count("droppedAttributesCount")?,
            entity_refs: Vec::new(),
        })
    })
}

fn scope_spans(value: Value) -> Result<ScopeSpans, Wrong> {
    object(value, |fields| {
        Ok(ScopeSpans {
            scope: fields.optional("scope", scope)?,
            spans: fields.list("spans", span)?,
            schema_url: fields.text("schemaUrl")?,
        })
    })
}

fn scope(value: Value) -> Result<InstrumentationScope, Wrong> {
    object(value, |fields| {
        Ok(InstrumentationScope {
            name: fields.text("name")?,
            version: fields.text("version")?,
            attributes: fields.list("attributes", key_value)?,
            dropped_attributes_count: fields.count("droppedAttributesCount")?,
        })
    })
}

fn span(value: Value) -> Result<Span, Wrong> {
    object(value, |fields| {
        Ok(Span {
            trace_id: fields.hex("traceId")?,
            span_id: fields.hex("spanId")?,
            trace_state: fields.text("traceState")?,
            parent_span_id: fields.hex("parentSpanId")?,
            flags: fields.count("flags")?,
            name: fields.text("name")?,
            kind: fields.enumeration("kind")?,
            start_time_unix_nano: fields.nanos("startTimeUnixNano")?,
            end_time_unix_nano: fields.nanos("endTimeUnixNano")?,
            attributes: fields.list("attributes", key_value)?,
            dropped_attributes_count: fields.count("droppedAttributesCount")?,
            events: fields.list("events", event)?,
            dropped_events_count: fields.count("droppedEventsCount")?,
            links: fields.list("links", link)?,
            dropped_links_count: fields.count("droppedLinksCount")?,
            status: fields.optional("status", status)?,
        })
    })
}

fn event(value: Value) -> Result<span::Event, Wrong> {
    object(value, |fields| {
        Ok(span::Event {
            time_unix_nano: fields.nanos("timeUnixNano")?,
            name: fields.text("name")?,
            attributes: fields.list("attributes", key_value)?,
            dropped_attributes_count: fields.count("droppedAttributesCount")?,
        })
    })
}

fn link(value: Value) -> Result<span::Link, Wrong> {
    object(value, |fields| {
        Ok(span::Link {
            trace_id: fields.hex("traceId")?,
            span_id: fields.hex("spanId")?,
            trace_state: fields.text("traceState")?,
            attributes: fields.list("attributes", key_value)?,
            dropped_attributes_count: fields.count("droppedAttributesCount")?,
            flags: fields.count("flags")?,
        })
    })
}

fn status(value: Value) -> Result<Status, Wrong> {
    object(value, |fields| Ok(Status { message: fields.text("message")?, code: fields.enumeration("code")? }))
}

fn key_value(value: Value) -> Result<KeyValue, Wrong> {
    object(value, |fields| {
        Ok(KeyValue { key: fields.text("key")?, value: fields.optional("value", any_value)?, key_strindex: 0 })
    })
}

fn any_value(value: Value) -> Result<AnyValue, Wrong> {
    object(value, |fields| {
        let Some((kind, content)) = fields.first() else {
            return Ok(AnyValue { value: None });
        };
        let value = match (kind.as_str(), content) {
            ("stringValue", Value::String(text)) => any_value::Value::StringValue(text),
            ("boolValue", Value::Bool(truth)) => any_value::Value::BoolValue(truth),
            ("intValue", Value::String(digits)) => any_value::Value::IntValue(number(&digits)?),
            ("doubleValue", content) => any_value::Value::DoubleValue(double(&content)?),
            ("bytesValue", Value::String(text)) => any_value::Value::BytesValue(base64(&text)?),
            ("arrayValue", content) => any_value::Value::ArrayValue(object(content, |fields| {
                Ok(ArrayValue { values: fields.list("values", any_value)? })
            })?),
            ("kvlistValue", content) => any_value::Value::KvlistValue(object(content, |fields| {
                Ok(KeyValueList { values: fields.list("values", key_value)? })
            })?),
            (kind, content) => return Err(format!("{kind} is {content}")),
        };
        Ok(AnyValue { value: Some(value) })
    })
}

/// The fields of an object that were not read yet.
struct Fields(Map<String, Value>);

/// Reads an object whole: what `read` leaves is a field that it does not know.
fn object<T>(value: Value, read: impl FnOnce(&mut Fields) -> Result<T, Wrong>) -> Result<T, Wrong> {
    let Value::Object(fields) = value else {
        return Err(format!("expected an object, not {value}"));
    };
    let mut fields = Fields(fields);
    let read = read(&mut fields)?;
    match fields.first() {
        Some((name, value)) => Err(format!("unknown field {name}: {value}")),
        None => Ok(read),
    }
}

impl Fields {
    fn first(&mut self) -> Option<(String, Value)> {
        let name = self.0.keys().next()?.clone();
        self.0.remove_entry(&name)
    }

    fn optional<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, Wrong>) -> Result<Option<T>, Wrong> {
        let value = self.0.remove(name).map(read).transpose();
        value.map_err(|wrong| format!("{name}: {wrong}"))
    }

    fn list<T>(&mut self, name: &str, read: impl Fn(Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
        let list = self.optional(name, |value| match value {
            Value::Array(elements) => elements.into_iter().map(read).collect(),
            other => Err(format!("expected an array, not {other}")),
        })?;
        Ok(list.unwrap_or_default())
    }

    fn text(&mut self, name: &str) -> Result<String, Wrong> {
        Ok(self.optional(name, text)?.unwrap_or_default())
    }

    fn hex(&mut self, name: &str) -> Result<Vec<u8>, Wrong> {
        Ok(self.optional(name, |value| hex(&text(value)?))?.unwrap_or_default())
    }

    /// Numbers of 64 bits are texts, because JSON's numbers are doubles to many.
    fn nanos(&mut self, name: &str) -> Result<u64, Wrong> {
        Ok(self.optional(name, |value| number(&text(value)?))?.unwrap_or_default())
    }

    fn count(&mut self, name: &str) -> Result<u32, Wrong> {
        Ok(self.optional(name, |value| number(&value.to_string()))?.unwrap_or_default())
    }

    fn enumeration(&mut self, name: &str) -> Result<i32, Wrong> {
        Ok(self.optional(name, |value| number(&value.to_string()))?.unwrap_or_default())
    }
}

fn text(value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("expected a text, not {other}")),
    }
}

fn number<N: std::str::FromStr>(digits: &str) -> Result<N, Wrong> {
    digits.parse().map_err(|_| format!("not a number of its size: {digits}"))
}

fn double(value: &Value) -> Result<f64, Wrong> {
    match (value.as_f64(), value.as_str()) {
        (Some(number), _) => Ok(number),
        (None, Some("NaN")) => Ok(f64::NAN),
        (None, Some("Infinity")) => Ok(f64::INFINITY),
        (None, Some("-Infinity")) => Ok(f64::NEG_INFINITY),
        _ => Err(format!("not a double: {value}")),
    }
}

/// Ids are hexadecimal, not base64 like other bytes: the one place where OTLP/JSON leaves protobuf's JSON.
fn hex(text: &str) -> Result<Vec<u8>, Wrong> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| format!("not hexadecimal: {text}"))
}

/// RFC 4648, section 4: four letters are three bytes, and `=` fills up the last four.
fn base64(text: &str) -> Result<Vec<u8>, Wrong> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.trim_end_matches('=');
    let wrong = || format!("not base64: {text}");
    if !text.len().is_multiple_of(4) || text.len() - letters.len() > 2 {
        return Err(wrong());
    }
    let mut bytes = Vec::new();
    let (mut bits, mut bit_count) = (0_u32, 0);
    for letter in letters.bytes() {
        let digit = ALPHABET.iter().position(|&other| other == letter).ok_or_else(wrong)?;
        bits = bits << 6 | u32::try_from(digit).unwrap_or(0);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push(u8::try_from(bits >> bit_count).map_err(|_| wrong())?);
            bits &= (1 << bit_count) - 1;
        }
    }
    if bits == 0 { Ok(bytes) } else { Err(wrong()) }
}
