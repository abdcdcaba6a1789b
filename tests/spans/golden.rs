//! The bytes of five spans, written down one by one: whoever changes the encoding sees here what changed on the wire.
//!
//! Besides the bytes there are two checks: prost reads them and writes the same message again, and it needs exactly as
//! many bytes, so every length and number is written in its shortest form.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use prost::Message;
use spanring::{
    Clock, Config, Engine, FakeClock, IdSource, Kind, SpanContext, SpanId, SpanLimits, Status, TraceId, TraceState,
    Tracer, Value,
};

const NOTHING: [(&str, Value<'static>); 0] = [];

/// Trace `A0…A0`, then span `B0…B0`, then `B1…B1` and so on.
#[derive(Debug, Default)]
struct Ids {
    spans: AtomicU8,
}

impl IdSource for Ids {
    fn trace_id(&self) -> TraceId {
        TraceId([0xA0; 16])
    }

    fn span_id(&self) -> SpanId {
        SpanId([0xB0 + self.spans.fetch_add(1, Relaxed); 8])
    }
}

/// What `record` makes of an engine whose clock shows 1,700,000,000 s after 1970, which is 0x17979CFE_362A0000 ns.
fn bytes(limits: SpanLimits, record: impl FnOnce(&Tracer, &FakeClock)) -> Vec<u8> {
    let clock = FakeClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let engine = Engine::start(Config {
        memory_budget: 4 << 20,
        limits,
        ids: Some(Box::<Ids>::default()),
        clock: Some(Clock::fake(&clock)),
        ..Config::default()
    });
    let engine = engine.expect("the configuration is good");
    record(&engine.tracer("golden"), &clock);
    let mut all = Vec::new();
    assert_eq!(engine.drain(|_, bytes| all.extend_from_slice(bytes)), 1);
    all
}

#[track_caller]
fn check(bytes: &[u8], golden: &[&str]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut rest = hex.as_str();
    for line in golden {
        let line = line.replace(' ', "");
        rest = rest.strip_prefix(line.as_str()).unwrap_or_else(|| panic!("expected {line}\nbefore   {rest}\nin {hex}"));
    }
    assert_eq!(rest, "", "more than expected, in {hex}");

    let decoded = ScopeSpans::decode(bytes).expect("it is protobuf");
    assert_eq!(decoded.spans.len(), 1);
    let again = decoded.encode_to_vec();
    assert_eq!(ScopeSpans::decode(again.as_slice()), Ok(decoded.clone()));
    assert_eq!((bytes.len(), again.len()), (decoded.encoded_len(), decoded.encoded_len()), "each length is minimal");
}

fn remote(byte: u8, trace_flags: u8, state: &str) -> SpanContext {
    SpanContext::remote(
        TraceId([byte; 16]),
        SpanId([byte + 1; 8]),
        trace_flags,
        TraceState::new(state).expect("it is valid"),
    )
}

#[test]
fn plain_root() {
    let bytes = bytes(SpanLimits::default(), |tracer, clock| {
        let span = tracer.span("step").start();
        clock.advance(Duration::from_nanos(256));
        span.end();
    });
    check(
        &bytes,
        &[
            // ScopeSpans.spans = 2, 60 bytes
            "12 3c",
            // Span.trace_id = 1
            "0a 10 a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
            // Span.span_id = 2
            "12 08 b0b0b0b0b0b0b0b0",
            // Span.kind = 6: INTERNAL
            "30 01",
            // Span.flags = 16: sampled, not random, parent (if any) known not to be remote
            "85 01 01010000",
            // Span.start_time_unix_nano = 7
            "39 00002a36fe9c9717",
            // Span.end_time_unix_nano = 8
            "41 00012a36fe9c9717",
            // Span.name = 5
            "2a 04 73746570",
        ],
    );
}

#[test]
fn child_of_a_remote_parent() {
    let bytes = bytes(SpanLimits::default(), |tracer, _| {
        let parent = remote(0xC0, 0x03, "b=2,a=1");
        let given = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        tracer.span("get").kind(Kind::Server).parent(&parent).started_at(given(1)).start().end_at(given(258));
    });
    check(
        &bytes,
        &[
            // ScopeSpans.spans = 2, 78 bytes
            "12 4e",
            // Span.parent_span_id = 4: the remote parent
            "22 08 c1c1c1c1c1c1c1c1",
            // Span.trace_id = 1: the parent's
            "0a 10 c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0",
            // Span.span_id = 2
            "12 08 b0b0b0b0b0b0b0b0",
            // Span.kind = 6: SERVER
            "30 02",
            // Span.flags = 16: sampled, random, parent known to be remote
            "85 01 03030000",
            // Span.start_time_unix_nano = 7: as it was given
            "39 0100000000000000",
            // Span.end_time_unix_nano = 8: as it was given
            "41 0201000000000000",
            // Span.name = 5
            "2a 03 676574",
            // Span.trace_state = 3
            "1a 07 623d322c613d31",
        ],
    );
}

#[test]
fn attributes_of_every_kind() {
    let long = "x".repeat(130);
    let map = [("k", Value::Int(-1)), ("z", Value::Empty)];
    let bytes = bytes(SpanLimits::default(), |tracer, _| {
        let mut span = tracer.span("all").start();
        span.set("s", "text");
        span.set("t", true);
        span.set("f", false);
        span.set("i", 300);
        span.set("n", -2);
        span.set("u", u64::MAX);
        span.set("d", 1.5);
        span.set("b", [0u8, 255]);
        span.set("e", Value::Empty);
        span.set("bs", [true, false]);
        span.set("is", [1i64, 128]);
        span.set("ds", [0.5]);
        span.set("ss", ["a", ""]);
        span.set("a", [Value::Str("x"), Value::Ints(&[]), Value::Bytes(b"y")]);
        span.set("m", Value::Map(&map));
        span.set("l", &long);
        span.end();
    });
    check(
        &bytes,
        &[
            // ScopeSpans.spans = 2, 457 bytes
            "12 c903",
            // The fixed fields, as above
            "0a 10 a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
            "12 08 b0b0b0b0b0b0b0b0",
            "30 01",
            "85 01 01010000",
            "39 00002a36fe9c9717",
            "41 00002a36fe9c9717",
            "2a 03 616c6c",
            // Span.attributes = 9, KeyValue.key = 1, KeyValue.value = 2, AnyValue.string_value = 1: s = "text"
            "4a 0b 0a 01 73 12 06 0a 04 74657874",
            // AnyValue.bool_value = 2: t = true
            "4a 07 0a 01 74 12 02 10 01",
            // f = false, which is written
            "4a 07 0a 01 66 12 02 10 00",
            // AnyValue.int_value = 3: i = 300
            "4a 08 0a 01 69 12 03 18 ac02",
            // n = -2, in ten bytes
            "4a 10 0a 01 6e 12 0b 18 feffffffffffffffff01",
            // u = 18446744073709551615, too large for an int: its digits
            "4a 1b 0a 01 75 12 16 0a 14 3138343436373434303733373039353531363135",
            // AnyValue.double_value = 4: d = 1.5
            "4a 0e 0a 01 64 12 09 21 000000000000f83f",
            // AnyValue.bytes_value = 7: b
            "4a 09 0a 01 62 12 04 3a 02 00ff",
            // e, an AnyValue without a member
            "4a 05 0a 01 65 12 00",
            // AnyValue.array_value = 5, ArrayValue.values = 1: bs = [true, false]
            "4a 10 0a 02 6273 12 0a 2a 08 0a 02 10 01 0a 02 10 00",
            // is = [1, 128]
            "4a 11 0a 02 6973 12 0b 2a 09 0a 02 18 01 0a 03 18 8001",
            // ds = [0.5]
            "4a 13 0a 02 6473 12 0d 2a 0b 0a 09 21 000000000000e03f",
            // ss = ["a", ""]
            "4a 11 0a 02 7373 12 0b 2a 09 0a 03 0a 01 61 0a 02 0a 00",
            // a = ["x", [], bytes]
            "4a 15 0a 01 61 12 10 2a 0e 0a 03 0a 01 78 0a 02 2a 00 0a 03 3a 01 79",
            // AnyValue.kvlist_value = 6, KeyValueList.values = 1: m = {"k": -1, "z": empty}
            "4a 20 0a 01 6d 12 1b 32 19 0a 10 0a 01 6b 12 0b 18 ffffffffffffffffff01 0a 05 0a 01 7a 12 00",
            // l, a text of 130 bytes: three lengths of two bytes each
            "4a 8b01 0a 01 6c 12 8501 0a 8201",
            &"78".repeat(130),
        ],
    );
}

#[test]
fn event_and_link() {
    let bytes = bytes(SpanLimits::default(), |tracer, clock| {
        let mut span = tracer.span("all").start();
        clock.advance(Duration::from_nanos(1));
        span.event_with("miss", [("k", "v")]);
        span.link_with(&remote(0xD0, 0x01, "a=1"), [("k", 1)]);
        span.event_at("old", SystemTime::UNIX_EPOCH + Duration::from_nanos(7), NOTHING);
        span.link_with(&SpanContext::default(), [("k", 2)]);
        clock.advance(Duration::from_nanos(1));
        span.end();
    });
    check(
        &bytes,
        &[
            // ScopeSpans.spans = 2, 167 bytes
            "12 a701",
            // The fixed fields, as above
            "0a 10 a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
            "12 08 b0b0b0b0b0b0b0b0",
            "30 01",
            "85 01 01010000",
            "39 00002a36fe9c9717",
            "41 02002a36fe9c9717",
            "2a 03 616c6c",
            // Span.events = 11, 25 bytes
            "5a 19",
            // Event.time_unix_nano = 1: when the call was made
            "09 01002a36fe9c9717",
            // Event.name = 2
            "12 04 6d697373",
            // Event.attributes = 3: k = "v"
            "1a 08 0a 01 6b 12 03 0a 01 76",
            // Span.links = 13, 47 bytes
            "6a 2f",
            // Link.trace_id = 1
            "0a 10 d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0",
            // Link.span_id = 2
            "12 08 d1d1d1d1d1d1d1d1",
            // Link.trace_state = 3
            "1a 03 613d31",
            // Link.attributes = 4: k = 1
            "22 07 0a 01 6b 12 02 18 01",
            // Link.flags = 6: sampled, target known to be remote
            "35 01030000",
            // Span.events = 11, 14 bytes
            "5a 0e",
            // Event.time_unix_nano = 1: as it was given
            "09 0700000000000000",
            // Event.name = 2
            "12 03 6f6c64",
            // Span.links = 13, 14 bytes: no ids
            "6a 0e",
            // Link.attributes = 4: k = 2
            "22 07 0a 01 6b 12 02 18 02",
            // Link.flags = 6: target known not to be remote
            "35 00010000",
        ],
    );
}

#[test]
fn error_with_dropped_counts() {
    let limits = SpanLimits {
        attribute_count: 1,
        event_count: 1,
        link_count: 0,
        attribute_per_event_count: 0,
        ..SpanLimits::default()
    };
    let bytes = bytes(limits, |tracer, _| {
        let mut span = tracer.span("bad").kind(Kind::Consumer).start();
        (0..301).for_each(|index| span.set(&format!("{index:03}"), index));
        span.set("000", 9);
        (0..3).for_each(|_| span.event_with("e", [("k", 1), ("l", 2)]));
        (0..4).for_each(|_| span.link_with(&remote(0xD0, 0, ""), NOTHING));
        span.status(Status::Error("boom"));
        span.end();
    });
    check(
        &bytes,
        &[
            // ScopeSpans.spans = 2, 103 bytes
            "12 67",
            // The fixed fields, as above, but Span.kind = 6: CONSUMER
            "0a 10 a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
            "12 08 b0b0b0b0b0b0b0b0",
            "30 05",
            "85 01 01010000",
            "39 00002a36fe9c9717",
            "41 00002a36fe9c9717",
            "2a 03 626164",
            // Span.attributes = 9: 000 = 9, which took the place of 0
            "4a 09 0a 03 303030 12 02 18 09",
            // Span.events = 11
            "5a 0e",
            // Event.time_unix_nano = 1
            "09 00002a36fe9c9717",
            // Event.name = 2
            "12 01 65",
            // Event.dropped_attributes_count = 4
            "20 02",
            // Span.status = 15, Status.message = 2, Status.code = 3: ERROR
            "7a 08 12 04 626f6f6d 18 02",
            // Span.dropped_attributes_count = 10: 300
            "50 ac02",
            // Span.dropped_events_count = 12
            "60 02",
            // Span.dropped_links_count = 14
            "70 04",
        ],
    );
}
