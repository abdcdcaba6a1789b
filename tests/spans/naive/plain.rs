//! What must come out of a case, and what did: one plain struct for both, and the rules in their simplest form.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use spanring::{
    SpanId, SpanLimits, Status, TraceId,
    testing::{FinishedSpan, OwnedValue},
};

use super::{Call, Case, Pairs, Said, Val, context, name};

/// A span, or what is compared of it. Collections of attributes have no order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plain {
    name: String,
    pub kind: i32,
    pub parent: (TraceId, SpanId),
    trace_state: String,
    pub flags: u32,
    pub start: u64,
    pub end: u64,
    pub attributes: Collection,
    pub events: Vec<PlainEvent>,
    pub links: Vec<PlainLink>,
    pub status: (i32, String),
    pub dropped_events: u32,
    pub dropped_links: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Collection {
    pub entries: Vec<(String, PlainValue)>,
    pub dropped: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlainEvent {
    name: String,
    time: u64,
    attributes: Collection,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlainLink {
    ids: (TraceId, SpanId),
    trace_state: String,
    flags: u32,
    attributes: Collection,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PlainValue {
    Empty,
    Bool(bool),
    Int(i64),
    /// The bits, so that each NaN equals itself.
    Double(u64),
    Str(String),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

/// The bytes that a name or a text keeps: as many whole characters as 4,096 bytes hold.
fn cut(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars() {
        if kept.len() + character.len_utf8() > 4096 {
            break;
        }
        kept.push(character);
    }
    kept
}

/// PB-03: names are never empty.
fn cut_name(text: &str) -> String {
    if text.is_empty() { "unnamed".to_owned() } else { cut(text) }
}

impl PlainValue {
    /// LIM-02 and LIM-03, on the way down.
    fn new(value: &Val, limits: &SpanLimits, depth: u32) -> Self {
        let length = limits.attribute_value_length.map_or(usize::MAX, |length| length as usize);
        let text = |text: &str| Self::Str(text.chars().take(length).collect());
        let is_deep = depth > limits.attribute_value_depth;
        match value {
            Val::Empty => Self::Empty,
            Val::Bool(value) => Self::Bool(*value),
            Val::Int(value) => Self::Int(*value),
            Val::Uint(value) => i64::try_from(*value).map_or_else(|_| Self::Str(value.to_string()), Self::Int),
            Val::Double(value) => Self::Double(value.to_bits()),
            Val::Str(value) => text(value),
            Val::Long(character, times) => text(&character.to_string().repeat(usize::from(*times))),
            Val::Shown(pieces) => text(&pieces.concat()),
            Val::Bytes(bytes) => Self::Bytes(bytes.iter().copied().take(length).collect()),
            Val::Bools(_) | Val::Ints(_) | Val::Doubles(_) | Val::Strs(_) | Val::Array(_) | Val::Map(_) if is_deep => {
                Self::Empty
            }
            Val::Bools(values) => Self::Array(values.iter().map(|&value| Self::Bool(value)).collect()),
            Val::Ints(values) => Self::Array(values.iter().map(|&value| Self::Int(value)).collect()),
            Val::Doubles(values) => Self::Array(values.iter().map(|value| Self::Double(value.to_bits())).collect()),
            Val::Strs(values) => Self::Array(values.iter().map(|value| text(value)).collect()),
            Val::Array(values) => Self::Array(values.iter().map(|value| Self::new(value, limits, depth + 1)).collect()),
            Val::Map(entries) => {
                // A later entry replaces an earlier one of its key (PB-05).
                let entry = |(key, value): &(u8, Val)| (name(*key).to_owned(), Self::new(value, limits, depth + 1));
                Self::Map(entries.iter().map(entry).collect())
            }
        }
    }

    fn seen(value: &OwnedValue) -> Self {
        match value {
            OwnedValue::Empty => Self::Empty,
            OwnedValue::Bool(value) => Self::Bool(*value),
            OwnedValue::Int(value) => Self::Int(*value),
            OwnedValue::Double(value) => Self::Double(value.to_bits()),
            OwnedValue::Str(text) => Self::Str(text.clone()),
            OwnedValue::Bytes(bytes) => Self::Bytes(bytes.clone()),
            OwnedValue::Array(elements) => Self::Array(elements.iter().map(Self::seen).collect()),
            OwnedValue::Map(entries) => {
                let map: BTreeMap<_, _> = entries.iter().map(|(key, value)| (key.clone(), Self::seen(value))).collect();
                assert_eq!(map.len(), entries.len(), "PB-05: keys of a map are unique: {entries:?}");
                Self::Map(map)
            }
            other => panic!("a kind of value that the model does not know: {other:?}"),
        }
    }

    /// Bytes that the value cannot do without.
    fn bytes_min(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(elements) => elements.iter().map(Self::bytes_min).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| key.len() + value.bytes_min()).sum(),
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 0,
        }
    }
}

impl Collection {
    /// LIM-01 and SPN-03. False for an empty key, which is not an attribute.
    fn set(&mut self, key: &str, value: PlainValue, count_max: u32) -> bool {
        if key.is_empty() {
            return false;
        }
        if let Some(entry) = self.entries.iter_mut().find(|(known, _)| known == key) {
            entry.1 = value;
        } else if self.entries.len() < count_max as usize {
            self.entries.push((key.to_owned(), value));
        } else {
            self.dropped += 1;
        }
        true
    }

    /// Of an event or a link, where an empty key counts as dropped: it has no other place to be told.
    fn new(pairs: &Pairs, limits: &SpanLimits, count_max: u32) -> Self {
        let mut collection = Self::default();
        for (key, value) in pairs {
            if !collection.set(name(*key), PlainValue::new(value, limits, 1), count_max) {
                collection.dropped += 1;
            }
        }
        collection.sorted()
    }

    fn seen(attributes: &[(String, OwnedValue)], dropped: u32) -> Self {
        let entries: Vec<_> = attributes.iter().map(|(key, value)| (key.clone(), PlainValue::seen(value))).collect();
        let keys: BTreeSet<_> = entries.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), entries.len(), "PB-05: keys are unique: {entries:?}");
        Self { entries, dropped }.sorted()
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        self
    }

    fn bytes_min(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.len() + value.bytes_min()).sum()
    }
}

fn flags(trace_flags: u8, is_remote: bool) -> u32 {
    u32::from(trace_flags) | if is_remote { 0x300 } else { 0x100 } // PB-04
}

/// The moment at which the clock of every case begins.
pub(super) const BEGIN: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

impl Plain {
    /// What must come out of `case`.
    pub(super) fn expected(case: &Case) -> Self {
        let limits = case.limits.to_span_limits();
        let mut now = BEGIN;
        let parent = context(case.start.parent);
        let mut span = Self {
            name: cut_name(name(case.start.name)),
            kind: i32::from(case.start.kind % 5) + 1,
            flags: flags(0x03, false),
            start: case.start.at.map_or(now, |seconds| u64::from(seconds) * SECOND),
            ..Self::default()
        };
        if parent.is_valid() {
            span.parent = (parent.trace_id(), parent.span_id());
            span.trace_state = parent.trace_state().as_str().to_owned();
            span.flags = flags(0x01 | (parent.trace_flags() & 0x02), true);
        }
        for (key, value) in &case.start.attributes {
            span.attributes.set(name(*key), PlainValue::new(value, &limits, 1), limits.attribute_count);
        }
        case.start.links.iter().for_each(|(target, attributes)| span.link(*target, attributes, &limits));
        for call in &case.calls {
            match call {
                Call::Set { key, value } => {
                    span.attributes.set(name(*key), PlainValue::new(value, &limits, 1), limits.attribute_count);
                }
                Call::Event { name: number, at, attributes } => {
                    let time = at.filter(|_| !case.is_shared).map_or(now, |seconds| u64::from(seconds) * SECOND);
                    if span.events.len() < limits.event_count as usize {
                        let attributes = Collection::new(attributes, &limits, limits.attribute_per_event_count);
                        span.events.push(PlainEvent { name: cut_name(name(*number)), time, attributes });
                    } else {
                        span.dropped_events += 1;
                    }
                }
                Call::Link { target, attributes } => span.link(*target, attributes, &limits),
                // SPN-10: Ok beats Error beats Unset; of errors the last counts. SPN-09: only an error has a text.
                Call::Status(said) => match said {
                    Said::Unset => {}
                    Said::Ok => span.status = (1, String::new()),
                    Said::Error(_) if span.status.0 == 1 => {}
                    Said::Error(text) => span.status = (2, cut(name(*text))),
                },
                Call::Rename(number) => span.name = cut_name(name(*number)),
                Call::Advance(nanos) => now += u64::from(*nanos),
            }
        }
        span.attributes = span.attributes.sorted();
        span.end = case.end.map_or(now, |seconds| u64::from(seconds) * SECOND).max(span.start);
        span
    }

    /// SPN-08: a link that leads nowhere and says nothing is none.
    fn link(&mut self, target: u8, attributes: &Pairs, limits: &SpanLimits) {
        let target = context(target);
        if !target.is_valid() && target.trace_state().is_empty() && attributes.is_empty() {
            return;
        }
        if self.links.len() < limits.link_count as usize {
            self.links.push(PlainLink {
                ids: (target.trace_id(), target.span_id()),
                trace_state: target.trace_state().as_str().to_owned(),
                flags: flags(target.trace_flags(), true),
                attributes: Collection::new(attributes, limits, limits.attribute_per_link_count),
            });
        } else {
            self.dropped_links += 1;
        }
    }

    /// What came out.
    pub(super) fn seen(span: &FinishedSpan) -> Self {
        let is_root = !span.parent_id.is_valid();
        Self {
            name: span.name.clone(),
            kind: span.kind as i32,
            // The trace of a root is random; that of a child is its parent's.
            parent: (if is_root { TraceId::NONE } else { span.trace_id }, span.parent_id),
            trace_state: span.trace_state.clone(),
            flags: span.flags,
            start: nanos(span.start),
            end: nanos(span.end),
            attributes: Collection::seen(&span.attributes, span.dropped_attributes),
            events: span
                .events
                .iter()
                .map(|event| PlainEvent {
                    name: event.name.clone(),
                    time: nanos(event.time),
                    attributes: Collection::seen(&event.attributes, event.dropped_attributes),
                })
                .collect(),
            links: span
                .links
                .iter()
                .map(|link| PlainLink {
                    ids: (link.trace_id, link.span_id),
                    trace_state: link.trace_state.clone(),
                    flags: link.flags,
                    attributes: Collection::seen(&link.attributes, link.dropped_attributes),
                })
                .collect(),
            status: match span.status.as_status() {
                Status::Unset => (0, String::new()),
                Status::Ok => (1, String::new()),
                Status::Error(text) => (2, text.to_owned()),
            },
            dropped_events: span.dropped_events,
            dropped_links: span.dropped_links,
        }
    }

    /// Bytes that attributes, events and links cannot do without.
    pub(super) fn bytes_min(&self) -> usize {
        let events = self.events.iter().map(|event| event.name.len() + event.attributes.bytes_min());
        let links = self.links.iter().map(|link| link.attributes.bytes_min());
        self.attributes.bytes_min() + events.sum::<usize>() + links.sum::<usize>()
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("no time on the wire is before 1970");
    u64::try_from(since.as_nanos()).expect("no time on the wire is after 2554")
}
