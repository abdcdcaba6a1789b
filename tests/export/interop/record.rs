//! A rich set of spans: at least one of everything that a span can hold, and of everything that the wire tells apart.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use spanring::{
    Clock, Config, Engine, FakeClock, IdSource, Kind, Link, Scope, Span, SpanContext, SpanId, SpanLimits, Status,
    TraceId, TraceState, Tracer, Value,
};

/// An engine of this configuration records the same spans each time: what one has drained is what its twin will export.
///
/// Its limits are low enough to be met and high enough for the richest span.
pub fn config() -> Config {
    Config {
        memory_budget: 4 << 20,
        limits: SpanLimits {
            attribute_count: 64,
            event_count: 4,
            link_count: 4,
            attribute_per_event_count: 3,
            attribute_per_link_count: 2,
            ..SpanLimits::default()
        },
        ids: Some(Box::<CountedIds>::default()),
        clock: Some(Clock::fake(&FakeClock::at(at(1_700_000_000_123_456_789)))),
        ..Config::default()
    }
}

/// Records and ends some of each kind: values, events, links, parents, states, times, scopes, and what limits turn
/// away.
pub fn record_all_kinds(engine: &Engine) {
    let mut full = Scope::named("shop.checkout");
    full.version = "1.2.0-rc.1".to_owned();
    full.schema_url = "https://opentelemetry.io/schemas/1.37.0".to_owned();
    full.attributes = vec![("team".to_owned(), "cart".to_owned()), ("empty".to_owned(), String::new())];
    for tracer in [engine.tracer("plain"), engine.tracer(full), engine.tracer("")] {
        values(&tracer);
        kinds_and_states(&tracer);
        families(&tracer);
        events(&tracer);
        links(&tracer);
        limits(&tracer);
        times(&tracer);
        changes(&tracer);
    }
}

/// Ids that count from one. Most have zeros at one end, which is where a reader cuts first.
#[derive(Debug, Default)]
struct CountedIds(AtomicU64);

impl CountedIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}

impl IdSource for CountedIds {
    fn trace_id(&self) -> TraceId {
        TraceId((u128::from(self.next()) << 64).to_be_bytes())
    }

    fn span_id(&self) -> SpanId {
        SpanId(self.next().to_be_bytes())
    }
}

fn at(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

fn remote(byte: u8, trace_flags: u8, state: &str) -> SpanContext {
    let state = TraceState::new(state).expect("it is a trace state");
    SpanContext::remote(TraceId([byte; 16]), SpanId([byte ^ 0xFF; 8]), trace_flags, state)
}

fn values(tracer: &Tracer) {
    let mut span = tracer.span("plain values").start();
    span.set("empty", Value::Empty);
    for truth in [false, true] {
        span.set(&format!("bool {truth}"), truth);
    }
    for number in [0, 1, -1, 127, 128, i64::from(i32::MIN), (1 << 53) + 1, i64::MAX, i64::MIN] {
        span.set(&format!("int {number}"), number);
    }
    for number in [0, (1_u64 << 63) - 1, 1 << 63, u64::MAX] {
        span.set(&format!("unsigned {number}"), number);
    }
    for number in DOUBLES {
        span.set(&format!("double {number:e} {}", number.is_sign_negative()), number);
    }
    for (index, text) in TEXTS.iter().enumerate() {
        span.set(&format!("text {index}"), *text);
    }
    let all_bytes: Vec<u8> = (0..=255).collect();
    for len in [0, 1, 2, 3, 256] {
        span.set(&format!("bytes {len}"), &all_bytes[..len]);
    }
    span.set("Schlüssel \u{1F511} \"quoted\"\n", "x");
    span.end();

    let mut span = tracer.span("nested values").start();
    span.set("bools", [true, false]);
    span.set("ints", [i64::MIN, 0, i64::MAX]);
    span.set("doubles", DOUBLES);
    span.set("texts", TEXTS);
    let nothing: [bool; 0] = [];
    span.set("empty array", nothing);
    span.set("empty map", Value::Map(&[]));
    let inner =
        [("k", Value::Empty), ("", 1.into()), ("deep", Value::Array(&[Value::Map(&[("x", Value::Bool(false))])]))];
    span.set(
        "mixed",
        [Value::Empty, Value::Bytes(&[0]), Value::Array(&[]), Value::Map(&inner), Value::Double(f64::NAN)],
    );
    span.set("map", Value::Map(&inner));
    // The deepest that the specification asks for, and one more, which becomes an empty value (LIM-03).
    for depth in [63, 64, 65] {
        within_arrays(depth, Value::Str("core"), &mut |value| span.set(&format!("depth {depth}"), value));
    }
    span.end();

    let mut span = tracer.span("long values").start();
    span.set("text", "ä€\u{1F600}x".repeat(3_000).as_str());
    span.set("bytes", vec![0xA5_u8; 20_000].as_slice());
    span.end();
}

/// Calls `then` with `core` in as many arrays.
fn within_arrays(depth: u32, core: Value<'_>, then: &mut dyn FnMut(Value<'_>)) {
    match depth {
        0 => then(core),
        _ => within_arrays(depth - 1, Value::Array(&[core]), then),
    }
}

fn kinds_and_states(tracer: &Tracer) {
    let kinds = [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
    let states =
        [Status::Unset, Status::Ok, Status::Error(""), Status::Error("boom"), Status::Error("\u{0}\u{2028}<&>")];
    for (kind, status) in kinds.into_iter().zip(states) {
        let mut span = tracer.span(&format!("{kind:?}")).kind(kind).start();
        span.status(status);
        span.end();
    }
    tracer.span("").start().end();
    tracer.span(&"long name ".repeat(500)).start().end();
}

fn families(tracer: &Tracer) {
    let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,tenant@vendor=a b";
    for (flags, state) in [(0x01, state), (0x03, "")] {
        let child = tracer.span("child of a remote span").parent(&remote(0x5A, flags, state)).start();
        tracer.span("grandchild").parent(child.context()).start().end();
        child.end();
    }
    let parent = tracer.span("parent").start();
    let context = parent.context().clone();
    parent.end();
    tracer.span("child that begins after its parent's end").parent(&context).start().end();
}

fn events(tracer: &Tracer) {
    let mut span = tracer.span("events").started_at(at(1_700_000_000_000_000_000)).start();
    span.event("now");
    span.event_at(
        "before the span",
        at(1),
        [("int", Value::Int(-1)), ("empty", Value::Empty), ("map", Value::Map(&[]))],
    );
    span.event_at("after the span", at(i64::MAX.unsigned_abs()), [("double", f64::INFINITY)]);
    span.event_with("", [("bytes", [0xFF_u8, 0x00].as_slice())]);
    span.end();
}

fn links(tracer: &Tracer) {
    let far = remote(0x01, 0x01, "a=1,b=2");
    let near = tracer.span("link target").start();
    let attributes = [("since".into(), Value::Str("start")), ("ints".into(), Value::Ints(&[1, 2]))];
    let from_start = [Link { target: &far, attributes: &attributes }, Link { target: near.context(), attributes: &[] }];
    let mut span = tracer.span("links").links(&from_start).start();
    span.link_with(&remote(0xFE, 0x00, ""), [("later", true)]);
    // Leads nowhere but says something.
    span.link_with(&SpanContext::default(), [("why", "no context came with the message")]);
    span.end();
}

fn limits(tracer: &Tracer) {
    let mut span = tracer.span("over the limits").start();
    let keys: Vec<String> = (0..67).map(|index| format!("key {index}")).collect();
    span.set_all(keys.iter().map(|key| (key, 1)));
    let five = || keys[..5].iter().map(|key| (key, 0.5));
    for _ in 0..6 {
        span.event_with("crowded", five());
    }
    for byte in 1..=9 {
        span.link_with(&remote(byte, 0, ""), five());
    }
    span.end();
}

fn times(tracer: &Tracer) {
    for (start, end) in [(1, 1), (1_699_999_999_999_999_999, 1_700_000_000_000_000_001), (1, i64::MAX.unsigned_abs())] {
        let span = tracer.span("explicit times").started_at(at(start)).start();
        span.end_at(at(end));
    }
}

fn changes(tracer: &Tracer) {
    let mut span =
        tracer.span("first name").attributes(&[("key".into(), 1.into()), ("other".into(), 2.into())]).start();
    span.rename("second name");
    span.set("key", "another kind");
    span.status(Status::Error("overruled"));
    span.status(Status::Ok);
    drop::<Span>(span);
    let shared = tracer.span("shared").start().share();
    let other = shared.clone();
    shared.set("key", 1);
    other.set("key", "from another holder");
    other.event_with("noted", [("key", true)]);
    shared.end();
}

/// Where decimal digits go wrong: the ends, subnormals, halves of a last place, signs, and what is not finite.
const DOUBLES: [f64; 16] = [
    0.0,
    -0.0,
    0.1,
    -1.0 / 3.0,
    0.1 + 0.2,
    5e-324,
    f64::MIN_POSITIVE,
    f64::MAX,
    f64::MIN,
    9_007_199_254_740_993.0,
    1e21,
    1e-7,
    2.225_073_858_507_201e-308,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// Where texts go wrong: nothing, quotes and escapes, controls, line ends that JavaScript knows, all lengths of UTF-8.
const TEXTS: [&str; 8] = [
    "",
    "plain",
    "\"quoted\" \\ / \u{8}\t\n\u{c}\r",
    "\u{0}\u{1}\u{1F}\u{7F}\u{80}",
    "\u{2028}\u{2029}\u{FEFF}\u{FFFD}\u{FFFF}",
    "<script>&amp;</script>",
    "äß€漢\u{1F600}\u{10FFFF}",
    "e\u{301} \u{202E}rtl",
];
