//! The rules for limits: LIM of the specification, at least one test each.
//!
//! LIM-07 ranks a general limit below a span's own; the public API has the span's own alone, so its test is that each
//! limit bounds its own collection. LIM-10 exempts the attributes of a resource, which
//! `tests/export/delivery.rs` shows on the wire.

use spanring::{
    Config, Engine, Link, SpanContext, SpanId, SpanLimits, StartError, TraceId, TraceState, Value,
    testing::{FinishedSpan, OwnedValue},
};

use crate::rig::{engine, only, recorded};

const NOTHING: [(&str, Value<'static>); 0] = [];

fn attributes_max(attribute_count: u32) -> SpanLimits {
    SpanLimits { attribute_count, ..SpanLimits::default() }
}

fn length_max(length: u32) -> SpanLimits {
    SpanLimits { attribute_value_length: Some(length), ..SpanLimits::default() }
}

fn depth_max(attribute_value_depth: u32) -> SpanLimits {
    SpanLimits { attribute_value_depth, ..SpanLimits::default() }
}

fn target() -> SpanContext {
    SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default())
}

fn keys(span: &FinishedSpan) -> Vec<&str> {
    let mut keys: Vec<_> = span.attributes.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

/// `value` as an attribute of a span, of an event and of a link, which all keep the same.
fn stored(limits: &SpanLimits, value: Value<'_>) -> OwnedValue {
    let span = recorded(limits.clone(), |span| {
        span.set("key", value);
        span.event_with("event", [("key", value)]);
        span.link_with(&target(), [("key", value)]);
    });
    assert_eq!(span.events[0].attributes, span.attributes);
    assert_eq!(span.links[0].attributes, span.attributes);
    assert_eq!(
        (span.dropped_attributes, span.events[0].dropped_attributes, span.links[0].dropped_attributes),
        (0, 0, 0)
    );
    span.attribute("key").expect("a limit of lengths or depths drops no attribute").clone()
}

fn texts(texts: &[&str]) -> OwnedValue {
    OwnedValue::Array(texts.iter().map(|&text| text.into()).collect())
}

// ---- LIM-01: attributes of a span.

#[test]
fn lim_01_default_is_128_attributes_and_the_new_one_is_discarded() {
    let names: Vec<String> = (0..200).map(|index| format!("key {index}")).collect();
    let span = recorded(SpanLimits::default(), |span| span.set_all(names.iter().map(|name| (name, 1))));
    assert_eq!(span.dropped_attributes, 72);
    let mut first: Vec<_> = names[..128].iter().map(String::as_str).collect();
    first.sort_unstable();
    assert_eq!(keys(&span), first);
}

#[test]
fn lim_01_known_key_overwrites_at_the_limit_and_is_not_counted() {
    let long = "x".repeat(1000);
    for value in [Value::Int(7), Value::Str("other length"), Value::Str(&long), Value::Empty] {
        let span = recorded(attributes_max(2), |span| {
            span.set_all([("a", 1), ("b", 2), ("c", 3)]);
            span.set("a", value);
            span.set("d", 4);
            span.set("b", 5);
        });
        assert_eq!(keys(&span), ["a", "b"]);
        let alone = recorded(SpanLimits::default(), |span| span.set("a", value));
        assert_eq!(span.attribute("a"), alone.attribute("a"));
        assert_eq!(span.attribute("b"), Some(&5.into()));
        assert_eq!(span.dropped_attributes, 2);
    }
}

#[test]
fn lim_01_shared_span_has_the_same_limit() {
    let engine = engine(attributes_max(2));
    let span = engine.tracer("t").span("a").start().share();
    ["a", "b", "c", "a", "d", "b"].into_iter().zip(1..).for_each(|(key, value)| span.set(key, value));
    span.end();
    let span = only(&engine);
    assert_eq!(keys(&span), ["a", "b"]);
    assert_eq!((span.attribute("a"), span.attribute("b")), (Some(&4.into()), Some(&6.into())));
    assert_eq!(span.dropped_attributes, 2);
}

#[test]
fn lim_01_attributes_of_the_start_count() {
    let engine = engine(attributes_max(2));
    let attributes = ["a", "b", "c"].map(|key| (key.into(), Value::Int(1)));
    let mut span = engine.tracer("t").span("a").attributes(&attributes).start();
    span.set("d", 1);
    span.end();
    let span = only(&engine);
    assert_eq!((keys(&span), span.dropped_attributes), (vec!["a", "b"], 2));
}

#[test]
fn lim_01_only_keys_of_the_top_level_count() {
    let entries: Vec<(String, Value<'_>)> = (0..50).map(|index| (format!("key {index}"), Value::Int(1))).collect();
    let entries: Vec<(&str, Value<'_>)> = entries.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let elements = [Value::Int(1); 50];
    let span = recorded(attributes_max(2), |span| {
        span.set("map", Value::Map(&entries));
        span.set("array", Value::Array(&elements));
    });
    assert!(matches!(span.attribute("map"), Some(OwnedValue::Map(entries)) if entries.len() == 50));
    assert!(matches!(span.attribute("array"), Some(OwnedValue::Array(elements)) if elements.len() == 50));
    assert_eq!(span.dropped_attributes, 0);
}

#[test]
fn lim_01_limit_of_zero_keeps_none() {
    let span = recorded(attributes_max(0), |span| span.set_all([("a", 1), ("a", 2), ("b", 3)]));
    assert_eq!((span.attributes.len(), span.dropped_attributes), (0, 3));
}

// ---- LIM-02: length of a value.

#[test]
fn lim_02_default_is_no_limit() {
    let long = "x".repeat(20_000);
    assert_eq!(stored(&SpanLimits::default(), Value::Str(&long)), long);
}

#[test]
fn lim_02_strings_are_cut_in_characters() {
    for (text, kept) in [
        ("abc", "abc"),
        ("abcd", "abc"),
        ("äöü", "äöü"),
        ("äöüß", "äöü"),
        ("🦀🦀🦀🦀", "🦀🦀🦀"),
        ("a🦀ü", "a🦀ü"),
        ("", ""),
    ] {
        assert_eq!(stored(&length_max(3), Value::Str(text)), kept);
    }
    assert_eq!(stored(&length_max(0), Value::Str("abc")), "");
    let long = "ü".repeat(3000);
    assert_eq!(stored(&length_max(2000), Value::Str(&long)), "ü".repeat(2000));
}

#[test]
fn lim_02_bytes_are_cut_in_bytes() {
    assert_eq!(stored(&length_max(3), Value::Bytes("äöü".as_bytes())), OwnedValue::Bytes(b"\xC3\xA4\xC3".to_vec()));
    assert_eq!(stored(&length_max(3), Value::Bytes(b"abc")), OwnedValue::Bytes(b"abc".to_vec()));
}

#[test]
fn lim_02_elements_of_arrays_and_maps_are_cut_however_deep() {
    let inner = [Value::Str("äöüß"), Value::Bytes(b"abcd"), Value::Strs(&["abcd", "ab"])];
    let map = [("a long key", Value::Array(&inner)), ("k", Value::Str("abcd"))];
    let expected = OwnedValue::Map(vec![
        (
            // A key is no value: it stays.
            "a long key".to_owned(),
            OwnedValue::Array(vec!["äöü".into(), OwnedValue::Bytes(b"abc".to_vec()), texts(&["abc", "ab"])]),
        ),
        ("k".to_owned(), "abc".into()),
    ]);
    assert_eq!(stored(&length_max(3), Value::Map(&map)), expected);
}

#[test]
fn lim_02_other_types_are_never_cut() {
    let limits = length_max(0);
    for value in [Value::Int(123_456), Value::Double(1.5), Value::Bool(true), Value::Empty, Value::Uint(u64::MAX)] {
        assert_eq!(stored(&limits, value), stored(&SpanLimits::default(), value));
    }
    assert_eq!(stored(&limits, (&[1i64; 10]).into()), OwnedValue::Array(vec![1.into(); 10]));
}

// ---- LIM-03: depth of a value.

/// `core` inside of so many arrays.
fn nested<'a>(core: Value<'a>, depth: usize) -> Value<'a> {
    (0..depth).fold(core, |inner, _| Value::Array(Vec::leak(vec![inner])))
}

fn nested_owned(core: OwnedValue, depth: usize) -> OwnedValue {
    (0..depth).fold(core, |inner, _| OwnedValue::Array(vec![inner]))
}

#[test]
fn lim_03_top_value_has_depth_one_and_what_is_deeper_becomes_empty() {
    let core = Value::Int(7);
    for limit in 1..6 {
        for depth in 0..8 {
            let expected = if depth > limit {
                nested_owned(OwnedValue::Empty, limit)
            } else {
                // A plain value at the bottom is no array or map, so it may lie one deeper.
                nested_owned(7.into(), depth)
            };
            let limits = depth_max(u32::try_from(limit).unwrap());
            assert_eq!(stored(&limits, nested(core, depth)), expected, "limit {limit}, depth {depth}");
        }
    }
}

#[test]
fn lim_03_default_is_64() {
    let limits = SpanLimits::default();
    assert_eq!(stored(&limits, nested(Value::Int(7), 64)), nested_owned(7.into(), 64));
    assert_eq!(stored(&limits, nested(Value::Int(7), 65)), nested_owned(OwnedValue::Empty, 64));
}

#[test]
fn lim_03_arrays_and_maps_of_every_kind_become_empty_and_their_siblings_stay() {
    let deep: [Value<'_>; 6] = [
        Value::Bools(&[true]),
        Value::Ints(&[1]),
        Value::Doubles(&[0.5]),
        Value::Strs(&["a"]),
        Value::Array(&[]),
        Value::Map(&[]),
    ];
    for deep in deep {
        let array = [Value::Str("first"), deep, Value::Bytes(b"last")];
        let expected = OwnedValue::Array(vec!["first".into(), OwnedValue::Empty, OwnedValue::Bytes(b"last".to_vec())]);
        assert_eq!(stored(&depth_max(1), Value::Array(&array)), expected);
        let map = [("first", Value::Int(1)), ("deep", deep), ("last", Value::Int(2))];
        let expected = [("first", 1.into()), ("deep", OwnedValue::Empty), ("last", 2.into())];
        let expected = expected.map(|(key, value)| (key.to_owned(), value)).to_vec();
        assert_eq!(stored(&depth_max(1), Value::Map(&map)), OwnedValue::Map(expected));
        assert_eq!(stored(&depth_max(2), Value::Array(&array)), stored(&SpanLimits::default(), Value::Array(&array)));
    }
}

// ---- LIM-04: events and links of a span.

#[test]
fn lim_04_default_is_128_events_and_links_and_the_new_ones_are_discarded() {
    let names: Vec<String> = (0..130).map(|index| index.to_string()).collect();
    let span = recorded(SpanLimits::default(), |span| {
        for name in &names {
            span.event_with(name, NOTHING);
            span.link_with(&target(), [("name", name)]);
        }
    });
    assert!(span.events.iter().map(|event| &event.name).eq(&names[..128]));
    let link_names = span.links.iter().map(|link| link.attributes[0].1.clone());
    assert!(link_names.eq(names[..128].iter().cloned()));
    assert_eq!((span.dropped_events, span.dropped_links), (2, 2));
}

#[test]
fn lim_04_limits_of_events_and_links_are_each_their_own() {
    let limits = SpanLimits { event_count: 1, link_count: 0, ..SpanLimits::default() };
    let engine = engine(limits.clone());
    let shared = engine.tracer("t").span("a").start().share();
    for _ in 0..3 {
        shared.event_with("e", NOTHING);
        shared.link_with(&target(), NOTHING);
    }
    shared.end();
    let own = recorded(limits, |span| {
        for _ in 0..3 {
            span.event_with("e", NOTHING);
            span.link_with(&target(), NOTHING);
        }
    });
    for span in [only(&engine), own] {
        assert_eq!((span.events.len(), span.dropped_events), (1, 2));
        assert_eq!((span.links.len(), span.dropped_links), (0, 3));
    }
}

#[test]
fn lim_04_links_of_the_start_count() {
    let engine = engine(SpanLimits { link_count: 1, ..SpanLimits::default() });
    let target = target();
    let links = [Link { target: &target, attributes: &[] }; 2];
    engine.tracer("t").span("a").links(&links).start().end();
    let span = only(&engine);
    assert_eq!((span.links.len(), span.dropped_links), (1, 1));
}

// ---- LIM-05: attributes of an event and of a link.

#[test]
fn lim_05_default_is_128_attributes_of_an_event_and_of_a_link() {
    let names: Vec<String> = (0..130).map(|index| format!("key {index}")).collect();
    let attributes = || names.iter().map(|name| (name, 1));
    let span = recorded(SpanLimits::default(), |span| {
        span.event_with("e", attributes());
        span.link_with(&target(), attributes());
    });
    assert_eq!((span.events[0].attributes.len(), span.events[0].dropped_attributes), (128, 2));
    assert_eq!((span.links[0].attributes.len(), span.links[0].dropped_attributes), (128, 2));
    assert_eq!(span.dropped_attributes, 0, "they are not the span's");
}

#[test]
fn lim_05_known_key_overwrites_at_the_limit() {
    let limits = SpanLimits { attribute_per_event_count: 1, attribute_per_link_count: 2, ..SpanLimits::default() };
    let attributes = [("a", 1), ("b", 2), ("a", 3), ("c", 4)];
    let span = recorded(limits, |span| {
        span.event_with("e", attributes);
        span.link_with(&target(), attributes);
    });
    assert_eq!((&span.events[0].attributes, span.events[0].dropped_attributes), (&vec![("a".to_owned(), 3.into())], 2));
    let mut kept = span.links[0].attributes.clone();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        (kept, span.links[0].dropped_attributes),
        (vec![("a".to_owned(), 3.into()), ("b".to_owned(), 2.into())], 1)
    );
}

// ---- LIM-06 and LIM-07: names, defaults, and which limit bounds what.

/// Every field by its name: a renamed or a new one does not compile.
#[test]
fn lim_06_limits_have_the_names_and_defaults_of_the_specification() {
    let expected = SpanLimits {
        attribute_count: 128,
        attribute_value_length: None,
        attribute_value_depth: 64,
        event_count: 128,
        link_count: 128,
        attribute_per_event_count: 128,
        attribute_per_link_count: 128,
    };
    assert_eq!(SpanLimits::default(), expected);
}

#[test]
fn lim_06_limits_that_cannot_work_are_refused_at_the_start() {
    let default = SpanLimits::default;
    for (limits, field) in [
        (depth_max(0), "limits.attribute_value_depth"),
        (depth_max(SpanLimits::VALUE_DEPTH_MAX + 1), "limits.attribute_value_depth"),
        (attributes_max(u32::MAX), "limits.attribute_count"),
        (SpanLimits { event_count: u32::MAX, ..default() }, "limits.event_count"),
        (SpanLimits { link_count: u32::MAX, ..default() }, "limits.link_count"),
        (SpanLimits { attribute_per_event_count: u32::MAX, ..default() }, "limits.attribute_per_event_count"),
        (SpanLimits { attribute_per_link_count: u32::MAX, ..default() }, "limits.attribute_per_link_count"),
    ] {
        match Engine::start(Config { limits, ..Config::default() }) {
            Err(StartError::Config(error)) => assert_eq!(error.field(), field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn lim_07_each_limit_bounds_its_own_collection() {
    let attributes = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
    let limits = SpanLimits {
        attribute_count: 1,
        attribute_per_event_count: 2,
        attribute_per_link_count: 3,
        ..SpanLimits::default()
    };
    let span = recorded(limits, |span| {
        span.set_all(attributes);
        span.event_with("e", attributes);
        span.link_with(&target(), attributes);
    });
    let lens = [&span.attributes, &span.events[0].attributes, &span.links[0].attributes].map(Vec::len);
    assert_eq!(lens, [1, 2, 3]);
    let dropped = [span.dropped_attributes, span.events[0].dropped_attributes, span.links[0].dropped_attributes];
    assert_eq!(dropped, [3, 2, 1]);
}

/// CRE-06: an engine owns its configuration.
#[test]
fn lim_07_engines_keep_their_own_limits() {
    let (tight, wide) = (engine(attributes_max(1)), engine(attributes_max(3)));
    for (engine, count) in [(&tight, 1), (&wide, 3), (&tight, 1)] {
        let mut span = engine.tracer("t").span("a").start();
        span.set_all([("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        span.end();
        assert_eq!(only(engine).attributes.len(), count);
    }
}

// ---- LIM-08 and LIM-09: what was dropped is told.

#[test]
fn lim_08_all_dropped_counts_arrive_together() {
    let limits = SpanLimits {
        attribute_count: 1,
        event_count: 2,
        link_count: 3,
        attribute_per_event_count: 0,
        attribute_per_link_count: 0,
        ..SpanLimits::default()
    };
    let span = recorded(limits, |span| {
        for index in 0..300 {
            span.set(&index.to_string(), 1);
            span.event_with("e", [("a", 1)]);
            span.link_with(&target(), [("a", 1), ("b", 2)]);
        }
    });
    assert_eq!((span.dropped_attributes, span.dropped_events, span.dropped_links), (299, 298, 297));
    assert!(span.events.iter().all(|event| event.dropped_attributes == 1));
    assert!(span.links.iter().all(|link| link.dropped_attributes == 2));
}

/// Past the 64 KiB of a span every kind of content is turned away and counted; the span itself arrives.
#[test]
fn lim_08_what_the_byte_cap_turns_away_is_counted() {
    let long = "x".repeat(30_000);
    let long = long.as_str();
    let span = recorded(SpanLimits::default(), |span| {
        for key in ["a", "b", "c"] {
            span.set(key, long);
            span.event_with("e", [(key, long)]);
            span.link_with(&target(), [(key, long)]);
        }
    });
    assert_eq!((span.attributes.len(), span.dropped_attributes), (1, 2));
    assert_eq!((span.events.len(), span.dropped_events), (1, 2));
    assert_eq!((span.links.len(), span.dropped_links), (0, 3));
}

#[test]
fn lim_08_what_the_byte_cap_turns_away_from_a_shared_span_is_counted() {
    let long = "x".repeat(30_000);
    let long = long.as_str();
    let engine = engine(SpanLimits::default());
    let span = engine.tracer("t").span("a").start().share();
    for key in ["a", "b", "c"] {
        span.set(key, long);
        span.event_with("e", [(key, long)]);
        span.link_with(&target(), [(key, long)]);
    }
    span.end();
    let span = only(&engine);
    assert_eq!((span.attributes.len(), span.dropped_attributes), (1, 2));
    assert_eq!((span.events.len(), span.dropped_events), (1, 2));
    assert_eq!((span.links.len(), span.dropped_links), (0, 3));
}

/// "At most one line a span": the library prints nothing where a span is recorded; the counts of the span are the line.
#[test]
fn lim_09_a_thousand_drops_are_one_number() {
    let names: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
    let engine = engine(SpanLimits::default());
    let mut span = engine.tracer("t").span("a").start();
    span.set_all(names.iter().map(|name| (name, 1)));
    span.end();
    assert_eq!(only(&engine).dropped_attributes, 1000 - 128);
    assert_eq!(engine.ledger().lost.total(), 0, "a rich span is not a lost one");
}
