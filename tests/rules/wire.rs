//! The rules for the bytes of a span: PB of the specification as far as recording goes, at least one test each.
//!
//! The bytes come from `Engine::drain`. Two other readers judge them: the types of opentelemetry-proto, and below a
//! walk over the raw fields, which also sees what a decoder forgives: unknown fields, and zeros that were left out.
//! Requests and their envelopes (PB-01 in full, PB-09 to PB-11) come with the export path.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{ScopeSpans, Span as WireSpan},
};
use prost::Message;
use spanring::{
    Config, Engine, Kind, Sampling, Scope, Span, SpanContext, SpanId, SpanLimits, Status, TraceId, TraceState, Value,
    testing::finished,
};

use crate::rig::{engine, recorded};

const NOTHING: [(&str, Value<'static>); 0] = [];
const SAMPLED: u32 = 0x01;
const RANDOM: u32 = 0x02;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn remote(trace_flags: u8, trace_state: &str) -> SpanContext {
    let state = TraceState::new(trace_state).expect("it is valid");
    SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), trace_flags, state)
}

/// The bytes of each span's message, without the field around it.
fn messages(engine: &Engine) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    engine.drain(|_, bytes| {
        let [field] = <[_; 1]>::try_from(fields(bytes)).expect("one element of `ScopeSpans.spans`");
        assert_eq!((field.number, field.wire), (2, LEN));
        messages.push(field.bytes.to_vec());
    });
    messages
}

/// The message of a root span as `change` leaves it.
fn message(change: impl FnOnce(&mut Span)) -> Vec<u8> {
    let engine = engine(SpanLimits::default());
    let mut span = engine.tracer("t").span("work").start();
    change(&mut span);
    span.end();
    messages(&engine).remove(0)
}

fn decoded(message: &[u8]) -> WireSpan {
    WireSpan::decode(message).expect("it is a span")
}

// ---- Raw protobuf.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LEN: u64 = 2;
const FIXED32: u64 = 5;

#[derive(Debug)]
struct Field<'a> {
    number: u64,
    wire: u64,
    /// The content; of a varint its bytes.
    bytes: &'a [u8],
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let wire = tag & 7;
        let len = match wire {
            VARINT => {
                let mut rest = bytes;
                varint(&mut rest);
                bytes.len() - rest.len()
            }
            FIXED64 => 8,
            LEN => usize::try_from(varint(&mut bytes)).expect("it is shorter than the message"),
            FIXED32 => 4,
            _ => panic!("wire type {wire}"),
        };
        let (content, rest) = bytes.split_at(len);
        fields.push(Field { number: tag >> 3, wire, bytes: content });
        bytes = rest;
    }
    fields
}

/// Takes a varint off, which has no byte more than it needs.
fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            assert!(byte != 0 || shift == 0, "a varint is canonical");
            return value;
        }
    }
    panic!("a varint has ten bytes at most");
}

fn numbers(message: &[u8]) -> Vec<(u64, u64)> {
    let mut numbers: Vec<_> = fields(message).iter().map(|field| (field.number, field.wire)).collect();
    numbers.sort_unstable();
    numbers
}

fn contents(message: &[u8], number: u64) -> Vec<&[u8]> {
    fields(message).into_iter().filter(|field| field.number == number).map(|field| field.bytes).collect()
}

// ---- The rules.

/// API-01: a scope has a name, a version, a schema and attributes.
#[test]
fn pb_01_each_span_comes_with_the_scope_of_its_tracer() {
    let engine = engine(SpanLimits::default());
    let mut full = Scope::named("shop.checkout");
    full.version = "1.2".to_owned();
    full.schema_url = "https://opentelemetry.io/schemas/1.44.0".to_owned();
    full.attributes = vec![("team".to_owned(), "cart".to_owned())];
    let scopes = [Scope::named("shop.checkout"), full, Scope::named("")];
    for round in 0..3 {
        for (index, scope) in scopes.iter().enumerate() {
            // A tracer of an equal scope is the same scope again (CRE-07).
            engine.tracer(scope.clone()).span(&format!("{index} {round}")).start().end();
        }
    }
    let spans = finished(&engine);
    assert_eq!(spans.len(), 9);
    for span in spans {
        let index: usize = span.name.split_once(' ').unwrap().0.parse().unwrap();
        assert_eq!(span.scope, scopes[index]);
    }
}

#[test]
fn pb_01_elements_of_one_scope_concatenate_to_its_message() {
    let engine = engine(SpanLimits::default());
    let tracers = ["a", "b"].map(|name| engine.tracer(name));
    for index in 0..10 {
        tracers[index % 2].span(&index.to_string()).start().end();
    }
    let mut runs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let count = engine.drain(|scope, bytes| runs.entry(scope.name.clone()).or_default().extend_from_slice(bytes));
    assert_eq!(count, 10);
    let names = |run: &[u8]| {
        let spans = ScopeSpans::decode(run).unwrap().spans;
        spans.into_iter().map(|span| span.name.parse::<usize>().unwrap()).collect::<HashSet<_>>()
    };
    assert_eq!(names(&runs["a"]), (0..10).step_by(2).collect());
    assert_eq!(names(&runs["b"]), (1..10).step_by(2).collect());
}

#[test]
fn pb_02_fields_have_the_numbers_and_types_of_trace_proto() {
    let limits = SpanLimits { attribute_count: 1, event_count: 1, link_count: 1, ..SpanLimits::default() };
    let engine = engine(limits);
    let parent = remote(1, "a=1");
    let mut span = engine.tracer("t").span("work").kind(Kind::Client).parent(&parent).started_at(at(10)).start();
    for key in ["a", "b"] {
        span.set(key, 1);
        span.event_at(key, at(11), [("key", 1)]);
        span.link_with(&remote(0, "b=2"), [("key", 1)]);
    }
    span.status(Status::Error("boom"));
    let id = span.context().span_id();
    span.end_at(at(12));
    let message = messages(&engine).remove(0);
    let all = [
        (1, LEN),
        (2, LEN),
        (3, LEN),
        (4, LEN),
        (5, LEN),
        (6, VARINT),
        (7, FIXED64),
        (8, FIXED64),
        (9, LEN),
        (10, VARINT),
        (11, LEN),
        (12, VARINT),
        (13, LEN),
        (14, VARINT),
        (15, LEN),
        (16, FIXED32),
    ];
    assert_eq!(numbers(&message), all);
    let wire = decoded(&message);
    assert_eq!(wire.trace_id, [7; 16]);
    assert_eq!(wire.span_id, id.0);
    assert_eq!((wire.trace_state.as_str(), wire.name.as_str()), ("a=1", "work"));
    assert_eq!(wire.parent_span_id, [8; 8]);
    assert_eq!((wire.kind, wire.start_time_unix_nano, wire.end_time_unix_nano), (3, 10_000_000_000, 12_000_000_000));
    assert_eq!((wire.attributes.len(), wire.attributes[0].key.as_str()), (1, "a"));
    let (event, link) = (&wire.events[0], &wire.links[0]);
    assert_eq!((event.name.as_str(), event.time_unix_nano, event.attributes.len()), ("a", 11_000_000_000, 1));
    assert_eq!((link.trace_id.as_slice(), link.span_id.as_slice()), ([7; 16].as_slice(), [8; 8].as_slice()));
    assert_eq!((link.trace_state.as_str(), link.attributes.len(), link.flags), ("b=2", 1, 0x300));
    let counts = [wire.dropped_attributes_count, wire.dropped_events_count, wire.dropped_links_count];
    assert_eq!(counts, [1, 1, 1]);
    let status = wire.status.unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "boom"));
}

#[test]
fn pb_02_plain_root_has_neither_parent_nor_anything_empty() {
    let expected = [(1, LEN), (2, LEN), (5, LEN), (6, VARINT), (7, FIXED64), (8, FIXED64), (16, FIXED32)];
    assert_eq!(numbers(&message(|_| ())), expected);
}

/// A decoder takes the last of several; strict readers refuse them.
#[test]
fn pb_02_fields_that_were_changed_come_once() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let mut own = tracer.span("first").parent(&remote(1, "a=1")).start();
    for name in ["second, longer", "3", ""] {
        own.set("key", name);
        own.rename(name);
        own.status(Status::Error(name));
        own.status(Status::Error("again"));
    }
    own.status(Status::Ok);
    own.end();
    let shared = tracer.span("first").start().share();
    for name in ["second, longer", "3", ""] {
        shared.set("key", name);
        shared.rename(name);
        shared.status(Status::Error(name));
        shared.status(Status::Error("again"));
    }
    shared.end();
    for message in messages(&engine) {
        let numbers = numbers(&message);
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "{numbers:?}");
    }
}

#[test]
fn pb_02_fields_inside_of_events_and_links_have_their_numbers() {
    let limits = SpanLimits { attribute_per_event_count: 1, attribute_per_link_count: 1, ..SpanLimits::default() };
    let engine = engine(limits);
    let mut span = engine.tracer("t").span("work").start();
    span.event_with("e", [("a", 1), ("b", 2)]);
    span.link_with(&remote(0, "a=1"), [("a", 1), ("b", 2)]);
    span.end();
    let message = messages(&engine).remove(0);
    assert_eq!(numbers(contents(&message, 11)[0]), [(1, FIXED64), (2, LEN), (3, LEN), (4, VARINT)]);
    let link = [(1, LEN), (2, LEN), (3, LEN), (4, LEN), (5, VARINT), (6, FIXED32)];
    assert_eq!(numbers(contents(&message, 13)[0]), link);
}

#[test]
fn pb_03_ids_names_and_kinds_are_what_strict_receivers_want() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let kinds = [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
    for kind in kinds {
        tracer.span("").kind(kind).start().end();
    }
    let messages = messages(&engine);
    for (message, kind) in messages.iter().zip(1..) {
        let wire = decoded(message);
        assert_eq!((wire.kind, wire.trace_id.len(), wire.span_id.len()), (kind, 16, 8));
        assert!(wire.trace_id.iter().any(|&byte| byte != 0) && wire.span_id.iter().any(|&byte| byte != 0));
        assert!(!wire.name.is_empty() && wire.parent_span_id.is_empty());
        assert!(wire.start_time_unix_nano > 0 && wire.end_time_unix_nano >= wire.start_time_unix_nano);
    }
    assert_eq!(messages.len(), kinds.len());
}

#[test]
fn pb_03_renamed_spans_and_events_have_names_too() {
    let wire = decoded(&message(|span| {
        span.event_with("", NOTHING);
        span.event_at("", at(1), NOTHING);
        span.rename("");
    }));
    assert!(!wire.name.is_empty() && wire.events.iter().all(|event| !event.name.is_empty()));
    assert_eq!(wire.events.len(), 2);
}

#[test]
fn pb_03_end_is_never_before_the_start() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let far = at(8_000_000_000);
    tracer.span("start given").started_at(at(100)).start().end_at(at(50));
    tracer.span("start measured").start().end_at(at(50));
    tracer.span("start in the future").started_at(far).start().end();
    let shared = tracer.span("shared").started_at(at(100)).start().share();
    shared.end_at(at(50));
    let spans = finished(&engine);
    assert_eq!(spans.len(), 4);
    for span in spans {
        assert_eq!(span.end, span.start, "{}", span.name);
    }
}

#[test]
fn pb_04_flags_of_a_span_say_where_its_parent_is() {
    let engine = Engine::start(Config { sampling: Sampling::AlwaysOn, ..Config::default() }).unwrap();
    let tracer = engine.tracer("t");
    let root = tracer.span("root").start();
    tracer.span("child").parent(root.context()).start().end();
    drop(root);
    for flags in [0, 1, 2, 3, 0xFF] {
        tracer.span(&format!("{flags}")).parent(&remote(flags, "")).start().end();
    }
    let flags: BTreeMap<_, _> = finished(&engine).into_iter().map(|span| (span.name, span.flags)).collect();
    let expected = [
        ("root", SAMPLED | RANDOM | HAS_IS_REMOTE),
        ("child", SAMPLED | RANDOM | HAS_IS_REMOTE),
        ("0", SAMPLED | HAS_IS_REMOTE | IS_REMOTE),
        ("1", SAMPLED | HAS_IS_REMOTE | IS_REMOTE),
        ("2", SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE),
        ("3", SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE),
        // What no level of W3C knows is not passed on.
        ("255", SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE),
    ];
    assert_eq!(flags, expected.map(|(name, flags)| (name.to_owned(), flags)).into_iter().collect());
}

#[test]
fn pb_04_flags_of_a_link_say_where_its_target_is() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let local = tracer.span("local").start();
    let span = recorded(SpanLimits::default(), |span| {
        span.link_with(local.context(), NOTHING);
        span.link_with(&remote(0, ""), NOTHING);
        span.link_with(&remote(3, ""), NOTHING);
    });
    let flags: Vec<_> = span.links.iter().map(|link| link.flags).collect();
    let expected =
        [SAMPLED | RANDOM | HAS_IS_REMOTE, HAS_IS_REMOTE | IS_REMOTE, SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE];
    assert_eq!(flags, expected);
}

/// Checks all keys below, and how many collections there were.
fn unique_keys(attributes: &[KeyValue]) -> usize {
    let keys: HashSet<_> = attributes.iter().map(|attribute| &attribute.key).collect();
    assert_eq!(keys.len(), attributes.len(), "{attributes:?}");
    let inner = |value: &AnyValue| match &value.value {
        Some(any_value::Value::KvlistValue(map)) => unique_keys(&map.values),
        _ => 0,
    };
    1 + attributes.iter().filter_map(|attribute| attribute.value.as_ref()).map(inner).sum::<usize>()
}

#[test]
fn pb_05_keys_are_unique_in_spans_events_links_and_maps_and_the_last_value_wins() {
    // Long keys that begin and end alike meet in every hash of both ends.
    let keys: Vec<String> = (0..20).map(|index| format!("the same beginning {} the same end", index % 7)).collect();
    let inner: Vec<(&str, Value<'_>)> = keys.iter().map(String::as_str).zip((0..).map(Value::Int)).collect();
    let outer = [("m", Value::Map(&inner[..3])), ("n", Value::Int(1)), ("m", Value::Map(&inner))];
    let attributes = || inner.iter().copied().chain([("map", Value::Map(&outer))]);
    let wire = decoded(&message(|span| {
        span.set_all(attributes());
        span.event_with("e", attributes());
        span.link_with(&remote(0, ""), attributes());
    }));
    for collection in [&wire.attributes, &wire.events[0].attributes, &wire.links[0].attributes] {
        assert_eq!(unique_keys(collection), 3, "the collection, `map`, and `m` in it");
        assert_eq!(collection.len(), 8);
        last_wins(collection, &keys);
        let map = collection.iter().find(|attribute| attribute.key == "map").and_then(inner_map);
        let last = map.and_then(|map| map.iter().find(|entry| entry.key == "m")).and_then(inner_map);
        last_wins(last.expect("the last `m` is a map"), &keys);
    }
}

fn inner_map(attribute: &KeyValue) -> Option<&[KeyValue]> {
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::KvlistValue(map) => Some(&map.values),
        _ => None,
    }
}

/// Each of `keys` has the place of its last occurrence as its value.
fn last_wins(attributes: &[KeyValue], keys: &[String]) {
    for (index, key) in keys.iter().enumerate().filter(|(index, key)| !keys[index + 1..].contains(key)) {
        let attribute = attributes.iter().find(|attribute| attribute.key == *key).expect("each key is there");
        let last = i64::try_from(index).expect("there are few");
        assert_eq!(
            attribute.value.as_ref().and_then(|value| value.value.clone()),
            Some(any_value::Value::IntValue(last))
        );
    }
}

/// The fields of a `KeyValue`, and of all values in it.
fn only_known_fields(key_value: &[u8]) {
    assert_eq!(numbers(key_value), [(1, LEN), (2, LEN)]);
    only_known_values(contents(key_value, 2)[0]);
}

fn only_known_values(any_value: &[u8]) {
    let types = [(1, LEN), (2, VARINT), (3, VARINT), (4, FIXED64), (5, LEN), (6, LEN), (7, LEN)];
    let numbers = numbers(any_value);
    assert!(numbers.len() <= 1, "a oneof has one member at most");
    assert!(numbers.iter().all(|number| types.contains(number)), "{numbers:?}");
    contents(any_value, 5).iter().flat_map(|array| contents(array, 1)).for_each(only_known_values);
    contents(any_value, 6).iter().flat_map(|map| contents(map, 1)).for_each(only_known_fields);
}

#[test]
fn pb_06_values_use_no_field_of_profiles() {
    let map = [("a", Value::Strs(&["x"])), ("b", Value::Empty)];
    let values = [Value::Map(&map), Value::Bytes(b"x"), Value::Double(0.5), Value::Bool(true), Value::Uint(u64::MAX)];
    let message = message(|span| {
        span.set("all", Value::Array(&values));
        span.set("int", 1);
    });
    let attributes = contents(&message, 9);
    assert_eq!(attributes.len(), 2);
    attributes.into_iter().for_each(only_known_fields);
}

#[test]
fn pb_07_zero_values_are_written_and_an_empty_value_has_no_member() {
    let zeros: [(Value<'_>, &[u8]); 9] = [
        (Value::Str(""), &[0x0A, 0]),                          // AnyValue.string_value = 1
        (Value::Bool(false), &[0x10, 0]),                      // AnyValue.bool_value = 2
        (Value::Int(0), &[0x18, 0]),                           // AnyValue.int_value = 3
        (Value::Uint(0), &[0x18, 0]),                          // AnyValue.int_value = 3
        (Value::Double(0.0), &[0x21, 0, 0, 0, 0, 0, 0, 0, 0]), // AnyValue.double_value = 4
        (Value::Array(&[]), &[0x2A, 0]),                       // AnyValue.array_value = 5
        (Value::Map(&[]), &[0x32, 0]),                         // AnyValue.kvlist_value = 6
        (Value::Bytes(&[]), &[0x3A, 0]),                       // AnyValue.bytes_value = 7
        (Value::Empty, &[]),
    ];
    for (value, expected) in zeros {
        let map = [("key", value)];
        let message = message(|span| {
            span.set("key", value);
            span.set("in an array", Value::Array(&[value]));
            span.set("in a map", Value::Map(&map));
            span.event_with("e", [("key", value)]);
        });
        let values: Vec<_> = contents(&message, 9).into_iter().map(|key_value| contents(key_value, 2)[0]).collect();
        assert_eq!(values[0], expected, "{value:?}");
        let array = contents(values[1], 5)[0];
        assert_eq!(contents(array, 1), [expected], "{value:?}");
        let entry = contents(contents(values[2], 6)[0], 1)[0];
        assert_eq!(contents(entry, 2), [expected], "{value:?}");
        let event = contents(&message, 11)[0];
        assert_eq!(contents(contents(event, 3)[0], 2), [expected], "{value:?}");
    }
}

#[test]
fn pb_08_status_has_a_message_only_with_an_error_and_unset_is_left_out() {
    let status = |change: &dyn Fn(&mut Span)| {
        let message = message(|span| change(span));
        contents(&message, 15).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let none: [&[u8]; 0] = [];
    assert_eq!(status(&|_| ()), none);
    assert_eq!(status(&|span| span.status(Status::Unset)), none);
    // Status.message = 2, Status.code = 3.
    assert_eq!(status(&|span| span.status(Status::Ok)), [&[0x18, 1]]);
    assert_eq!(status(&|span| span.status(Status::Error(""))), [&[0x18, 2]]);
    assert_eq!(status(&|span| span.status(Status::Error("no"))), [&[0x12, 2, b'n', b'o', 0x18, 2]]);
    let error_then_ok = status(&|span| {
        span.status(Status::Error("no"));
        span.status(Status::Ok);
    });
    assert_eq!(error_then_ok, [&[0x18, 1]]);
}
