//! What a program does wrong costs it a count, never the span, the ledger or the process.
//!
//! Sizes and times out of range, calls at the wrong time, and code of the program that panics inside of a call
//! (API-22).

use std::{
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    time::{Duration, SystemTime},
};

use spanring::{
    Clock, Config, Engine, FakeClock, IdSource, InvalidTraceState, Span, SpanContext, SpanId, SpanLimits, Status,
    TraceId, TraceState, Value,
    testing::{OwnedValue, finished},
};

use crate::rig::{engine, only, recorded};

const NOTHING: [(&str, Value<'static>); 0] = [];
const MIB: usize = 1 << 20;
/// Bytes that a span may hold, whatever its limits say.
const CAP: usize = 64 << 10;
/// Bytes that a name, or the text of a status, is cut to.
const TEXT: usize = 4096;

fn remote(state: TraceState) -> SpanContext {
    SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), 1, state)
}

/// No limit but the cap.
fn wide() -> SpanLimits {
    let most = 16_384;
    SpanLimits {
        attribute_count: most,
        event_count: most,
        link_count: most,
        attribute_per_event_count: most,
        attribute_per_link_count: most,
        ..SpanLimits::default()
    }
}

// ---- Sizes.

#[test]
fn names_and_status_texts_of_a_mebibyte_are_cut_at_a_character() {
    // One byte in front moves the boundaries of the three-byte characters through all places.
    for shift in 0..3 {
        let long = "x".repeat(shift) + &"€".repeat(MIB / 3);
        let engine = engine(SpanLimits::default());
        let mut span = engine.tracer("t").span(&long).start();
        span.event_with(&long, [("key", 1)]);
        span.status(Status::Error(&long));
        span.end();
        let span = only(&engine);
        let Status::Error(status) = span.status.as_status() else { panic!("{:?}", span.status) };
        for text in [&span.name, &span.events[0].name, status] {
            assert!(long.starts_with(text) && text.len() <= TEXT && text.len() > TEXT - 3, "{}", text.len());
        }
        assert_eq!(span.events[0].attributes.len(), 1);
    }
}

#[test]
fn renaming_to_a_mebibyte_is_cut_too() {
    let long = "x".repeat(MIB);
    assert_eq!(recorded(SpanLimits::default(), |span| span.rename(&long)).name, long[..TEXT]);
    let engine = engine(SpanLimits::default());
    let span = engine.tracer("t").span("a").start().share();
    span.rename(&long);
    span.end();
    assert_eq!(only(&engine).name, long[..TEXT]);
}

#[test]
fn keys_and_values_of_a_mebibyte_are_dropped_and_counted() {
    let text = "x".repeat(MIB);
    let texts = vec!["text"; MIB / 4];
    let numbers = vec![-1i64; MIB / 8];
    let values: [Value<'_>; 7] = [
        Value::Str(&text),
        Value::Bytes(text.as_bytes()),
        Value::Strs(&texts),
        Value::Ints(&numbers),
        Value::Bools(&[true; MIB / 4]),
        Value::Doubles(&[0.5; MIB / 16]),
        Value::Map(&[(&text, Value::Empty)]),
    ];
    for value in values {
        let span = recorded(SpanLimits::default(), |span| {
            span.set("before", 1);
            span.set("long", value);
            span.event_with("long", [("long", value)]);
            span.link_with(&remote(TraceState::default()), [("long", value)]);
            span.set("after", 2);
        });
        assert_eq!((span.attributes.len(), span.dropped_attributes), (2, 1));
        assert_eq!((span.dropped_events, span.dropped_links), (1, 1));
    }
    let span = recorded(SpanLimits::default(), |span| {
        span.set(&text, 1);
        span.event_with("event", [(text.as_str(), 1)]);
        span.set("after", 2);
    });
    assert_eq!((span.attributes.len(), span.dropped_attributes, span.dropped_events), (1, 1, 1));
}

#[test]
fn value_of_a_mebibyte_leaves_the_old_value_of_its_key() {
    let text = "x".repeat(MIB);
    let span = recorded(SpanLimits::default(), |span| {
        span.set("key", 1);
        span.set("key", &text);
    });
    assert_eq!((span.attribute("key"), span.dropped_attributes), (Some(&1.into()), 1));
}

#[test]
fn value_of_a_mebibyte_arrives_if_the_limit_cuts_it() {
    let text = "€".repeat(MIB / 3);
    let limits = SpanLimits { attribute_value_length: Some(1000), ..SpanLimits::default() };
    let span = recorded(limits, |span| span.set("key", &text));
    assert_eq!(span.attribute("key"), Some(&"€".repeat(1000).as_str().into()));
    assert_eq!(span.dropped_attributes, 0);
}

#[test]
fn five_thousand_attributes_are_each_there_or_counted() {
    const COUNT: usize = if cfg!(miri) { 200 } else { 5000 };
    let names: Vec<String> = (0..COUNT).map(|index| format!("an attribute with a long name, number {index}")).collect();
    let attributes = || names.iter().map(|name| (name, true));
    let engine = engine(wide());
    let tracer = engine.tracer("t");
    let shared = tracer.span("shared").start().share();
    attributes().for_each(|(key, value)| shared.set(key, value));
    shared.end();
    let mut own = tracer.span("own").start();
    own.set_all(attributes());
    own.end();
    for span in finished(&engine) {
        let dropped = span.dropped_attributes as usize;
        assert_eq!(span.attributes.len() + dropped, COUNT, "{}", span.name);
        if !cfg!(miri) {
            let bytes: usize = span.attributes.iter().map(|(key, _)| key.len()).sum();
            assert!(dropped > 0 && bytes > CAP / 2, "it is filled to the cap first: {bytes}");
        }
    }
}

#[test]
fn ten_thousand_events_and_links_are_each_there_or_counted() {
    const COUNT: usize = if cfg!(miri) { 100 } else { 10_000 };
    let target = remote(TraceState::default());
    let span = recorded(wide(), |span| {
        for _ in 0..COUNT {
            span.event_with("event", [("key", 1)]);
            span.link_with(&target, NOTHING);
        }
    });
    assert_eq!(span.events.len() + span.dropped_events as usize, COUNT);
    assert_eq!(span.links.len() + span.dropped_links as usize, COUNT);
}

#[test]
fn ten_thousand_levels_end_at_the_limit() {
    let mut arrays = Value::Int(7);
    let mut maps = Value::Int(7);
    for _ in 0..10_000 {
        arrays = Value::Array(Vec::leak(vec![arrays]));
        maps = Value::Map(Vec::leak(vec![("key", maps)]));
    }
    let limits = SpanLimits { attribute_value_depth: 10, ..SpanLimits::default() };
    let span = recorded(limits, |span| {
        span.set("arrays", arrays);
        span.set("maps", maps);
        span.event_with("event", [("arrays", arrays)]);
    });
    let depth = |mut value: &OwnedValue| {
        let mut depth = 0;
        while let Some(inner) = match value {
            OwnedValue::Array(elements) => elements.first(),
            OwnedValue::Map(entries) => entries.first().map(|(_, value)| value),
            _ => None,
        } {
            depth += 1;
            value = inner;
        }
        assert_eq!(*value, OwnedValue::Empty);
        depth
    };
    let values = [&span.attributes[0].1, &span.attributes[1].1, &span.events[0].attributes[0].1];
    assert_eq!(values.map(depth), [10; 3]);
}

#[test]
fn ten_thousand_levels_end_at_the_deepest_limit_there_is() {
    let value = (0..10_000).fold(Value::Int(7), |inner, _| Value::Array(Vec::leak(vec![inner])));
    let limits = SpanLimits { attribute_value_depth: SpanLimits::VALUE_DEPTH_MAX, ..SpanLimits::default() };
    let engine = engine(limits);
    let mut span = engine.tracer("t").span("a").start();
    span.set("deep", value);
    span.end();
    // Counted, not decoded: many decoders refuse such a depth.
    assert_eq!(engine.drain(|_, bytes| assert!(bytes.len() > 2 * SpanLimits::VALUE_DEPTH_MAX as usize)), 1);
}

#[test]
fn keys_of_any_characters_arrive_as_they_are() {
    let keys = ["\0", " ", "\n", "a\u{FFFF}b", "🦀", "=,;\"", &"k".repeat(300)];
    let span = recorded(SpanLimits::default(), |span| span.set_all(keys.map(|key| (key, key))));
    let expected: Vec<(String, OwnedValue)> = keys.iter().map(|&key| (key.to_owned(), key.into())).collect();
    assert_eq!(span.attributes, expected);
}

#[test]
fn trace_state_is_refused_or_arrives_whole() {
    for text in [&"x".repeat(MIB), &",".repeat(MIB), &"a=1,".repeat(MIB / 4), &"€=1".repeat(MIB / 5)] {
        assert!(TraceState::new(text).map_or_else(|error| error == InvalidTraceState, |state| state.is_empty()));
    }
    let members: Vec<String> = (0..32).map(|index| format!("{index:0>256}={}", "v".repeat(256))).collect();
    let largest = members.join(",");
    let engine = engine(SpanLimits::default());
    let parent = remote(TraceState::new(&largest).unwrap());
    let mut span = engine.tracer("t").span("a").parent(&parent).start();
    span.link_with(&parent, NOTHING);
    span.end();
    let span = only(&engine);
    assert_eq!((span.trace_state, &span.links[0].trace_state), (largest.clone(), &largest));
}

// ---- A span that is full.

/// Filled with attributes until not even the shortest finds room.
const FILLING: [usize; 4] = [30_000, 30_000, 5000, 100];

#[test]
fn full_span_still_takes_a_status_code_and_a_shorter_name() {
    let span = recorded(wide(), |span| {
        fill(|key, value| span.set(key, value));
        span.status(Status::Error(&"x".repeat(TEXT)));
        span.rename(&"x".repeat(TEXT));
    });
    assert_eq!(span.status, Status::Error(""));
    assert_eq!(span.name, "work");
    let span = recorded(wide(), |span| {
        fill(|key, value| span.set(key, value));
        span.status(Status::Ok);
    });
    assert_eq!(span.status, Status::Ok);
}

#[test]
fn full_shared_span_still_takes_a_status_code() {
    let long = "x".repeat(TEXT);
    let cases = [Status::Error(""), Status::Ok, Status::Error(&long)];
    for (status, expected) in cases.into_iter().zip([Status::Error(""), Status::Ok, Status::Error("")]) {
        let engine = engine(wide());
        let span = engine.tracer("t").span("a").start().share();
        fill(|key, value| span.set(key, value));
        span.status(status);
        span.end();
        let span = only(&engine);
        assert_eq!(span.status, expected);
    }
}

fn fill(mut set: impl FnMut(&str, &str)) {
    let text = "x".repeat(30_000);
    for (index, len) in FILLING.into_iter().cycle().take(200).enumerate() {
        set(&index.to_string(), &text[..len]);
    }
}

// ---- Times.

#[test]
fn times_out_of_range_become_the_nearest_that_the_wire_has() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let after = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000); // the year 2286
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    let last = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::MAX >> 1);
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let mut early = tracer.span("early").started_at(before).start();
    early.event_at("early", before, NOTHING);
    early.event_at("late", after, NOTHING);
    early.event_at("far", far, NOTHING);
    early.end_at(before);
    for time in [after, far] {
        tracer.span("late").started_at(time).start().end_at(time);
        tracer.span("long").started_at(before).start().share().end_at(time);
    }
    let epoch = SystemTime::UNIX_EPOCH;
    let mut spans = finished(&engine);
    spans.sort_by(|a, b| a.name.cmp(&b.name));
    let times: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.start, span.end)).collect();
    let (late, long) = (("late", last, last), ("long", epoch, last));
    assert_eq!(times, [("early", epoch, epoch), late, late, long, long]);
    let events: Vec<_> = spans[0].events.iter().map(|event| event.time).collect();
    assert_eq!(events, [epoch, last, last]);
}

#[test]
fn shared_span_can_end_in_1970() {
    let engine = engine(SpanLimits::default());
    let span = engine.tracer("t").span("a").started_at(SystemTime::UNIX_EPOCH).start().share();
    span.end_at(SystemTime::UNIX_EPOCH);
    assert!(!span.is_recording());
    assert!(only(&engine).duration() <= Duration::from_nanos(1));
}

#[test]
fn wall_clock_that_steps_changes_no_duration() {
    let fake = FakeClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
    let config = Config { clock: Some(Clock::fake(&fake)), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let span = engine.tracer("t").span("a").start();
    fake.advance(Duration::from_secs(3));
    fake.step_wall(SystemTime::UNIX_EPOCH);
    span.end();
    let span = only(&engine);
    assert_eq!(span.duration(), Duration::from_secs(3));
    assert_eq!(span.start, SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
}

// ---- Calls at the wrong time.

#[test]
fn spans_that_end_after_the_close_are_counted_and_those_before_still_come_out() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    tracer.span("before").start().end();
    let mut open = tracer.span("open").start();
    let shared = tracer.span("shared").start().share();
    assert!(engine.close());
    assert!(engine.close(), "a second time is fine");
    open.set("key", 1);
    open.event_with("event", NOTHING);
    shared.set("key", 1);
    assert!(open.is_recording() && shared.is_recording());
    open.end();
    shared.end();
    tracer.span("after").start().end();
    assert_eq!(finished(&engine).into_iter().map(|span| span.name).collect::<Vec<_>>(), ["before"]);
    let ledger = engine.ledger();
    assert!(ledger.is_closed(), "{ledger:?}");
    assert_eq!((ledger.started, ledger.drained, ledger.lost.closed, ledger.live), (4, 1, 3, 0));
}

#[test]
fn open_spans_outlive_their_engine() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let mut span = tracer.span("own").start();
    let shared = tracer.span("shared").start().share();
    let left = tracer.span("dropped").start();
    tracer.span("waiting").start().end();
    drop(engine);
    let text = "x".repeat(30_000);
    span.set("key", &text);
    span.event_with("event", [("key", &text)]);
    shared.set("key", &text);
    std::thread::scope(|scope| {
        scope.spawn(|| shared.set("other", 1));
        scope.spawn(move || drop(left));
    });
    assert!(span.context().is_valid());
    span.end();
    shared.end();
    assert!(!shared.is_recording());
    assert!(!tracer.span("late").start().is_recording());
}

#[test]
fn span_may_end_in_another_thread_than_it_began() {
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let spans: Vec<Span> = (0..20).map(|_| tracer.span("a").start()).collect();
    std::thread::scope(|scope| {
        for mut span in spans {
            scope.spawn(move || {
                span.set("key", 1);
                span.end();
            });
        }
    });
    assert_eq!(finished(&engine).len(), 20);
    assert!(engine.ledger().is_closed());
}

// ---- The program's own code, which panics in the middle.

/// Attributes whose second one cannot be had.
fn broken() -> impl Iterator<Item = (&'static str, i64)> + Clone {
    (0..2).map(|index| if index == 0 { ("key", 1) } else { panic_any("broken") })
}

fn fails(work: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
}

#[test]
fn attributes_that_panic_leave_the_span_as_it_was() {
    let engine = engine(SpanLimits::default());
    let mut span = engine.tracer("t").span("a").start();
    span.set("before", 1);
    fails(|| span.event_with("event", broken()));
    fails(|| span.link_with(&remote(TraceState::default()), broken()));
    span.event_with("after", NOTHING);
    span.end();
    let span = only(&engine);
    assert_eq!((span.events.len(), span.events[0].name.as_str(), span.links.len()), (1, "after", 0));
    assert_eq!(span.attributes.len(), 1);
}

#[test]
fn attributes_that_panic_leave_a_shared_span_as_it_was() {
    let engine = engine(SpanLimits::default());
    let span = engine.tracer("t").span("a").start().share();
    fails(|| span.event_with("event", broken()));
    fails(|| span.link_with(&remote(TraceState::default()), broken()));
    span.event_with("after", NOTHING);
    span.end();
    let span = only(&engine);
    assert_eq!((span.events.len(), span.events[0].name.as_str(), span.links.len()), (1, "after", 0));
}

#[derive(Debug)]
struct BrokenIds;

impl IdSource for BrokenIds {
    fn trace_id(&self) -> TraceId {
        TraceId([1; 16])
    }

    fn span_id(&self) -> SpanId {
        panic_any("broken")
    }
}

#[test]
fn ids_that_panic_leave_the_thread_fit_for_others() {
    let broken = Engine::start(Config { ids: Some(Box::new(BrokenIds)), ..Config::default() }).unwrap();
    let tracer = broken.tracer("t");
    for _ in 0..100 {
        fails(|| drop(tracer.span("a").start()));
    }
    assert!(broken.ledger().is_closed());
    let engine = engine(SpanLimits::default());
    engine.tracer("t").span("b").start().end();
    assert_eq!(only(&engine).name, "b");
}

#[test]
fn sink_that_panics_breaks_no_count() {
    // Plain spans come out of a ring. In an engine whose rings are tiny, longer ones come off the spill stack.
    for (lanes, len) in [(1, 0), (32, 6000)] {
        let engine = Engine::start(Config { memory_budget: 1 << 20, lanes: Some(lanes), ..Config::default() }).unwrap();
        let tracer = engine.tracer("t");
        let text = "x".repeat(len);
        for name in ["a", "b", "c"] {
            let mut span = tracer.span(name).start();
            span.set("text", &text);
            span.end();
        }
        assert_eq!(engine.memory().spill_waiting > 0, len > 0);
        let mut seen = 0;
        fails(|| {
            engine.drain(|_, _| {
                seen += 1;
                assert!(seen < 2, "the second span is too much");
            });
        });
        let rest = finished(&engine).len();
        assert!(rest == 1 || rest == 2, "the span of the panic comes again or is gone, the others are there: {rest}");
        let ledger = engine.ledger();
        assert!(ledger.is_closed(), "{ledger:?}");
        assert_eq!((ledger.started, ledger.drained, ledger.queued), (3, 3, 0));
    }
}
