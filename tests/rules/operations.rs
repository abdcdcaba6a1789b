//! The rules for operations on a span: SPN of the specification, at least one test each.
//!
//! The other rules are in `rules_creation.rs`, `rules_limits.rs` and `rules_wire.rs`.

use std::time::{Duration, SystemTime};

use spanring::{
    Clock, Config, Engine, FakeClock, Link, Sampling, SpanContext, SpanId, SpanLimits, Status, TraceId, TraceState,
    Value,
    testing::{FinishedSpan, OwnedValue, finished},
};

use crate::rig::{engine, only, recorded};

const NOTHING: [(&str, Value<'static>); 0] = [];
const SAMPLED: u8 = 0x01;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn remote(trace_flags: u8, trace_state: &str) -> SpanContext {
    let state = TraceState::new(trace_state).expect("it is valid");
    SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), trace_flags, state)
}

/// An engine whose clock shows 1,000 s.
fn clocked() -> (Engine, FakeClock) {
    let fake = FakeClock::at(at(1000));
    let config = Config { memory_budget: 4 << 20, clock: Some(Clock::fake(&fake)), ..Config::default() };
    (Engine::start(config).expect("the configuration is good"), fake)
}

fn one(key: &str, value: impl Into<OwnedValue>) -> Vec<(String, OwnedValue)> {
    vec![(key.to_owned(), value.into())]
}

#[test]
fn spn_01_context_is_the_same_after_the_end() {
    let engine = engine(SpanLimits::default());
    let span = engine.tracer("t").span("a").parent(&remote(SAMPLED, "a=1")).start().share();
    let before = span.context().clone();
    span.set("key", 1);
    span.rename("b");
    span.end();
    assert_eq!(*span.context(), before);
    let finished = only(&engine);
    assert_eq!((finished.trace_id, finished.span_id), (before.trace_id(), before.span_id()));
}

#[test]
fn spn_02_span_stops_recording_at_its_end() {
    let engine = engine(SpanLimits::default());
    assert!(engine.tracer("t").span("a").start().is_recording());
    let shared = engine.tracer("t").span("b").start().share();
    assert!(shared.is_recording());
    shared.clone().end();
    assert!(!shared.is_recording());
}

#[test]
fn spn_03_last_value_of_a_key_wins_whatever_its_kind_and_length() {
    let long = "x".repeat(3000);
    let values: [Value<'_>; 6] =
        [Value::Int(1), Value::Str("one"), Value::Str(&long), Value::Bool(true), Value::Str("two"), Value::Empty];
    for first in values {
        for last in values {
            let span = recorded(SpanLimits::default(), |span| {
                span.set("before", 1);
                span.set("key", first);
                span.set("after", 2);
                span.set("key", last);
            });
            let alone = recorded(SpanLimits::default(), |span| span.set("key", last));
            assert_eq!(span.attribute("key"), alone.attribute("key"), "{first:?} then {last:?}");
            assert_eq!(span.attribute("before"), Some(&1.into()));
            assert_eq!(span.attribute("after"), Some(&2.into()));
            assert_eq!((span.attributes.len(), span.dropped_attributes), (3, 0));
        }
    }
}

#[test]
fn spn_03_bulk_setter_sets_each() {
    let span = recorded(SpanLimits::default(), |span| span.set_all([("a", 1), ("b", 2), ("a", 3)]));
    let mut attributes = span.attributes;
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(attributes, [("a".to_owned(), 3.into()), ("b".to_owned(), 2.into())]);
}

#[test]
fn spn_04_every_kind_of_value_arrives() {
    let nested = [Value::Int(-1), Value::Strs(&["a", ""]), Value::Map(&[("k", Value::Bytes(&[0, 255]))])];
    let int = OwnedValue::Int;
    let array = OwnedValue::Array;
    let map = |key: &str, value| OwnedValue::Map(one(key, value));
    let cases: Vec<(Value<'_>, OwnedValue)> = vec![
        ("text".into(), "text".into()),
        (true.into(), true.into()),
        (0.5.into(), 0.5.into()),
        (f64::INFINITY.into(), f64::INFINITY.into()),
        (0.25f32.into(), 0.25.into()),
        (i64::MIN.into(), int(i64::MIN)),
        (i64::MAX.into(), int(i64::MAX)),
        ((-1i8).into(), int(-1)),
        (u32::MAX.into(), int(i64::from(u32::MAX))),
        (7u64.into(), int(7)),
        (7usize.into(), int(7)),
        ((1u64 << 63).into(), "9223372036854775808".into()),
        (b"\x00\xFF".into(), OwnedValue::Bytes(vec![0, 255])),
        ((&[true, false]).into(), array(vec![true.into(), false.into()])),
        ((&[1i64, -2]).into(), array(vec![int(1), int(-2)])),
        ((&[0.5, -0.5]).into(), array(vec![0.5.into(), (-0.5).into()])),
        ((&["a", "b"]).into(), array(vec!["a".into(), "b".into()])),
        (Value::Empty, OwnedValue::Empty),
        (
            Value::Array(&nested),
            array(vec![int(-1), array(vec!["a".into(), "".into()]), map("k", OwnedValue::Bytes(vec![0, 255]))]),
        ),
        (Value::Map(&[("outer", Value::Map(&[("inner", Value::Int(1))]))]), map("outer", map("inner", int(1)))),
    ];
    for (value, expected) in cases {
        let span = recorded(SpanLimits::default(), |span| {
            span.set("key", value);
            span.event_with("event", [("key", value)]);
            span.link_with(&remote(0, ""), [("key", value)]);
        });
        assert_eq!(span.attributes, one("key", expected.clone()));
        assert_eq!(span.events[0].attributes, one("key", expected.clone()));
        assert_eq!(span.links[0].attributes, one("key", expected));
    }
}

#[test]
fn spn_04_not_a_number_arrives_as_such() {
    let span = recorded(SpanLimits::default(), |span| span.set("key", f64::NAN));
    assert!(matches!(span.attribute("key"), Some(OwnedValue::Double(value)) if value.is_nan()), "{span:?}");
}

#[test]
fn spn_05_empty_values_are_values() {
    let cases: [(Value<'_>, OwnedValue); 9] = [
        (Value::Str(""), "".into()),
        (Value::Int(0), 0.into()),
        (Value::Uint(0), 0.into()),
        (Value::Double(0.0), 0.0.into()),
        (Value::Bool(false), false.into()),
        (Value::Bytes(&[]), OwnedValue::Bytes(vec![])),
        (Value::Strs(&[]), OwnedValue::Array(vec![])),
        (Value::Map(&[]), OwnedValue::Map(vec![])),
        (Value::Empty, OwnedValue::Empty),
    ];
    for (value, expected) in cases {
        let span = recorded(SpanLimits::default(), |span| span.set("key", value));
        assert_eq!(span.attributes, one("key", expected));
    }
}

#[test]
fn spn_06_keys_are_case_sensitive_and_never_empty() {
    let span = recorded(SpanLimits::default(), |span| span.set_all([("key", 1), ("KEY", 2), ("", 3)]));
    assert_eq!(span.attributes.len(), 2);
    assert_eq!((span.attribute("key"), span.attribute("KEY")), (Some(&1.into()), Some(&2.into())));
}

#[test]
fn spn_07_events_keep_their_order_and_their_times() {
    let (engine, clock) = clocked();
    let mut span = engine.tracer("t").span("a").start();
    clock.advance(Duration::from_secs(1));
    span.event_with("now", NOTHING);
    // Times outside of the span are left as they are.
    span.event_at("long ago", at(3), [("key", 1)]);
    span.event_at("in the future", at(9_000_000_000), NOTHING);
    clock.advance(Duration::from_secs(1));
    span.event_with("now", NOTHING);
    clock.advance(Duration::from_secs(1));
    span.end();
    let events: Vec<_> = only(&engine).events.into_iter().map(|event| (event.name, event.time)).collect();
    let expected = [("now", 1001), ("long ago", 3), ("in the future", 9_000_000_000), ("now", 1002)];
    assert_eq!(events, expected.map(|(name, seconds)| (name.to_owned(), at(seconds))));
}

#[test]
fn spn_08_links_of_the_start_and_later_ones_keep_their_order() {
    let engine = engine(SpanLimits::default());
    let targets: Vec<_> = (1..=4)
        .map(|byte| SpanContext::remote(TraceId([byte; 16]), SpanId([byte; 8]), byte, TraceState::default()))
        .collect();
    let attributes = [("key".into(), Value::Int(1))];
    let links = [Link { target: &targets[0], attributes: &attributes }, Link { target: &targets[1], attributes: &[] }];
    let mut span = engine.tracer("t").span("a").links(&links).start();
    span.link_with(&targets[2], [("late", 2)]);
    span.link_with(&targets[3], NOTHING);
    span.end();
    let span = only(&engine);
    let ids: Vec<_> = span.links.iter().map(|link| (link.trace_id, link.span_id)).collect();
    assert_eq!(ids, targets.iter().map(|target| (target.trace_id(), target.span_id())).collect::<Vec<_>>());
    assert_eq!(span.links[0].attributes, one("key", 1));
    assert_eq!(span.links[2].attributes, one("late", 2));
}

#[test]
fn spn_08_link_without_ids_is_kept_if_it_says_something() {
    let nowhere = SpanContext::default();
    let stateful = SpanContext::remote(TraceId::NONE, SpanId::NONE, 0, TraceState::new("a=1").unwrap());
    let span = recorded(SpanLimits::default(), |span| {
        span.link_with(&nowhere, NOTHING);
        span.link_with(&nowhere, [("key", 1)]);
        span.link_with(&stateful, NOTHING);
    });
    assert_eq!(span.links.len(), 2);
    assert_eq!((span.links[0].trace_id, span.links[0].attributes.clone()), (TraceId::NONE, one("key", 1)));
    assert_eq!((span.links[1].span_id, span.links[1].trace_state.as_str()), (SpanId::NONE, "a=1"));
    assert_eq!(span.dropped_links, 0);
}

#[test]
fn spn_09_only_an_error_has_a_description() {
    let span = recorded(SpanLimits::default(), |span| span.status(Status::Error("boom")));
    assert_eq!(span.status, Status::Error("boom"));
    let span = recorded(SpanLimits::default(), |span| {
        span.status(Status::Error("boom"));
        span.status(Status::Ok);
    });
    assert_eq!(span.status, Status::Ok);
    let span = recorded(SpanLimits::default(), |span| span.status(Status::Error("")));
    assert_eq!(span.status, Status::Error(""));
}

/// All sequences of up to four calls, on both kinds of span, against the rule in its plainest form.
#[test]
fn spn_10_ok_beats_error_beats_unset_in_every_order() {
    const CALLS: [Status<'static>; 5] =
        [Status::Unset, Status::Ok, Status::Error("a"), Status::Error("longer"), Status::Error("")];
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let mut sequences: Vec<Vec<Status<'_>>> = vec![vec![]];
    for from in 0.. {
        if from == sequences.len() {
            break;
        }
        if sequences[from].len() < if cfg!(miri) { 2 } else { 4 } {
            let longer = CALLS.map(|call| [sequences[from].as_slice(), &[call]].concat());
            sequences.extend(longer);
        }
        let calls = &sequences[from];
        let mut span = tracer.span("own").start();
        let shared = tracer.span("shared").start().share();
        let mut expected = Status::Unset;
        for &call in calls {
            span.status(call);
            shared.status(call);
            if expected != Status::Ok && call != Status::Unset {
                expected = call;
            }
        }
        span.end();
        shared.end();
        let spans = finished(&engine);
        assert_eq!(spans.len(), 2);
        for span in spans {
            assert_eq!(span.status, expected, "{calls:?} on {}", span.name);
        }
    }
}

#[test]
fn spn_11_rename_replaces_the_name_and_nothing_else() {
    for name in ["b", "a name that is longer than the first", &"long".repeat(500)] {
        let span = recorded(SpanLimits::default(), |span| {
            let before = span.context().clone();
            span.set("key", 1);
            span.rename("in between");
            span.rename(name);
            assert_eq!(*span.context(), before);
            assert!(span.is_recording());
        });
        assert_eq!((span.name.as_str(), span.attributes), (name, one("key", 1)));
    }
}

#[test]
fn spn_11_rename_does_not_wake_a_span_that_was_not_sampled() {
    let config = Config { memory_budget: 4 << 20, sampling: Sampling::AlwaysOff, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let mut span = engine.tracer("t").span("a").start();
    span.rename("b");
    assert!(!span.is_recording());
    span.end();
    assert_eq!(finished(&engine).len(), 0);
}

#[test]
fn spn_12_nothing_changes_after_the_end_of_a_shared_span() {
    let (engine, clock) = clocked();
    let span = engine.tracer("t").span("a").start().share();
    let other = span.clone();
    span.set("key", 1);
    clock.advance(Duration::from_secs(5));
    other.end();
    clock.advance(Duration::from_secs(5));
    span.set("key", 2);
    span.event_with("late", NOTHING);
    span.link_with(&remote(0, ""), NOTHING);
    span.status(Status::Error("late"));
    span.rename("late");
    span.end();
    span.end_at(at(1));
    drop((span, other));
    expect_five_seconds(&only(&engine));
}

fn expect_five_seconds(span: &FinishedSpan) {
    assert_eq!((span.name.as_str(), &span.attributes), ("a", &one("key", 1)));
    assert_eq!((span.start, span.end), (at(1000), at(1005)));
    assert_eq!((span.events.len(), span.links.len(), span.status.as_status()), (0, 0, Status::Unset));
}

#[test]
fn spn_12_end_is_now_or_the_time_that_is_given() {
    let (engine, clock) = clocked();
    let tracer = engine.tracer("t");
    let now = tracer.span("now").start();
    let given = tracer.span("given").start();
    let dropped = tracer.span("dropped").start();
    let shared = tracer.span("shared").start().share();
    let last_handle = tracer.span("last handle").start().share();
    clock.advance(Duration::from_secs(2));
    now.end();
    given.end_at(at(1010));
    shared.end_at(at(1020));
    drop(dropped);
    drop(last_handle);
    let mut ends: Vec<_> = finished(&engine).into_iter().map(|span| (span.name, span.end)).collect();
    ends.sort();
    let expected = [("dropped", 1002), ("given", 1010), ("last handle", 1002), ("now", 1002), ("shared", 1020)];
    assert_eq!(ends, expected.map(|(name, seconds)| (name.to_owned(), at(seconds))));
}

#[test]
fn spn_14_ended_span_can_be_a_parent_and_does_not_end_its_children() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let parent = tracer.span("parent").start().share();
    let mut child = tracer.span("child").parent(parent.context()).start();
    parent.end();
    assert!(child.is_recording());
    child.set("key", 1);
    child.end();
    let late = tracer.span("late child").parent(parent.context()).start();
    late.end();
    let spans = finished(&engine);
    assert_eq!(spans.len(), 3);
    for span in spans.iter().filter(|span| span.name != "parent") {
        assert_eq!((span.parent_id, span.trace_id), (parent.context().span_id(), parent.context().trace_id()));
    }
}

#[test]
fn spn_15_times_are_those_of_the_calls() {
    let (engine, clock) = clocked();
    let builder = engine.tracer("t");
    let builder = builder.span("a");
    clock.advance(Duration::from_nanos(1));
    let span = builder.start().share();
    clock.advance(Duration::from_nanos(20));
    span.event_with("event", NOTHING);
    clock.advance(Duration::from_nanos(300));
    span.end();
    clock.advance(Duration::from_secs(4));
    let span = only(&engine);
    let nanos = |time: SystemTime| time.duration_since(at(1000)).unwrap().as_nanos();
    assert_eq!((nanos(span.start), nanos(span.events[0].time), nanos(span.end)), (1, 21, 321));
}

#[test]
fn spn_15_start_can_be_given() {
    let (engine, _clock) = clocked();
    let span = engine.tracer("t").span("a").started_at(at(10)).start();
    span.end();
    assert_eq!(only(&engine).start, at(10));
}
