//! What we record, as a real OpenTelemetry Collector understands it; and the checks of the means to find out.
//!
//! Without Go there is no Collector: then the tests that need one say so and pass.

#![cfg(unix)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use spanring::{Compression, Config, DriverChoice, Engine, Export, Scope};

use crate::interop::{
    Collector, Folder, LINES, PATIENCE,
    compare::{PlacedSpan, assert_same, differences, discrepancies},
    json,
    record::{config, record_all_kinds},
    until,
};

// ---- Against the Collector.

#[test]
fn spans_of_every_kind_arrive_as_they_were_recorded() {
    let folder = Folder::new();
    let Some(collector) = Collector::start(folder.path()) else {
        return;
    };
    let engine = Engine::start(config()).expect("the configuration is good");
    record_all_kinds(&engine);
    let request = request(&engine);
    post(collector.address(), &request);
    assert_same(&spans(&request), &collector);
}

/// The engine's own exporter, by each driver, compressed and not: what the ledger calls exported is what the Collector
/// holds, and each span is as it was recorded.
#[test]
fn exported_spans_arrive_as_they_were_recorded() {
    for (driver, compression) in [
        (DriverChoice::Uring, Compression::None),
        (DriverChoice::Uring, Compression::Gzip),
        (DriverChoice::Poll, Compression::None),
        (DriverChoice::Poll, Compression::Gzip),
        #[cfg(feature = "zstd")]
        (DriverChoice::Auto, Compression::Zstd),
    ] {
        let folder = Folder::new();
        let Some(collector) = Collector::start(folder.path()) else {
            return;
        };
        let engine = exporting(&collector, config(), Export { driver, compression, ..Export::default() });
        record_all_kinds(&engine);
        let receipt = engine.shutdown(PATIENCE);
        let expected = twins(1);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!((receipt.ledger.exported, receipt.lost.total()), (expected.len() as u64, 0), "{receipt:?}");
        assert_eq!(discrepancies(&expected, &collector.spans()), Vec::<String>::new(), "{driver:?} {compression:?}");
    }
}

/// The Collector is killed, again and again, while requests are under way; it comes back, and spans are recorded all
/// the while. It holds exactly what the ledger calls exported. A request whose answer was lost is there twice, and the
/// count of repeated requests explains that.
#[test]
fn kills_in_the_middle_of_requests_lose_nothing_and_repeat_only_whole_requests() {
    for (driver, compression) in [
        (DriverChoice::Uring, Compression::None),
        (DriverChoice::Uring, Compression::Gzip),
        (DriverChoice::Poll, Compression::None),
        (DriverChoice::Poll, Compression::Gzip),
    ] {
        let folder = Folder::new();
        let Some(mut collector) = Collector::start(folder.path()) else {
            return;
        };
        // Ids are random, so that a span that is there twice is one that was sent twice.
        let config = Config { ids: None, clock: None, memory_budget: 64 << 20, ..config() };
        // Each request has time for every start of the Collector that this machine may want to make long.
        let export = Export { batch_spans_max: BATCH, timeout: Duration::ZERO, ..Export::default() };
        let engine = exporting(&collector, config, Export { driver, compression, ..export });
        let recorded = under_load(&engine, || {
            for kill in 0..KILLS {
                assert!(engine.flush(PATIENCE).is_complete(), "{driver:?} {compression:?}, before kill {kill}");
                if kill < KILLS_UNANSWERED {
                    // What is written from here on is not answered.
                    collector.hold_answers();
                    let requests = collector.request_count();
                    until(|| (collector.request_count() > requests).then_some(())).expect("requests come");
                    collector.kill();
                    collector.give_answers();
                } else {
                    // More than the open batch has room for: some are in a request.
                    until_now(|| engine.ledger().in_flight > BATCH as u64);
                    collector.kill();
                }
                collector.restart();
            }
        });
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!((receipt.ledger.exported, receipt.ledger.lost.total()), (recorded.len() as u64, 0), "{receipt:?}");

        let mut times: BTreeMap<BTreeSet<Vec<u8>>, usize> = BTreeMap::new();
        for request in collector.requests() {
            let ids: BTreeSet<_> = request.iter().map(|span| span.span.span_id.clone()).collect();
            assert_eq!(ids.len(), request.len(), "a span is there once in its request");
            *times.entry(ids).or_default() += 1;
        }
        let held = times.keys().flatten();
        assert!(held.clone().collect::<BTreeSet<_>>().into_iter().eq(&recorded), "it holds what was exported, no more");
        // Each span is in one request: what is there twice is there because its request is.
        assert_eq!(held.count(), recorded.len(), "no span is in two requests");
        let repeated: usize = times.values().map(|times| times - 1).sum();
        let repeats = engine.stats().repeats;
        assert!(repeated as u64 <= repeats, "{repeated} requests are there again, and {repeats} were sent again");
        let duplicates: usize = times.iter().map(|(ids, times)| ids.len() * (times - 1)).sum();
        assert!(duplicates as u64 <= receipt.ledger.duplicates_max, "{duplicates} are there again: {receipt:?}");
        assert!(repeated >= KILLS_UNANSWERED, "each of these kills left a request without its answer: {repeated}");
    }
}

/// Kills in a run, and how many of them come after a request and before its answer.
const KILLS: usize = 3;
const KILLS_UNANSWERED: usize = 2;
/// Spans of a request.
const BATCH: usize = 64;

/// Runs `act` while another thread records; the ids of what it recorded.
fn under_load(engine: &Engine, act: impl FnOnce()) -> BTreeSet<Vec<u8>> {
    const TICK: Duration = Duration::from_millis(1);
    const SPANS_A_TICK: usize = 8;
    // However long the Collector is away, the lanes have room for that.
    const QUEUED_MAX: u64 = 5_000;
    // A test that fails drops it as one that is done does, and the load ends.
    let (lasts, is_over) = mpsc::channel::<()>();
    let record = move || {
        let tracer = engine.tracer("load");
        let mut ids = BTreeSet::new();
        while is_over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if engine.ledger().queued < QUEUED_MAX {
                for number in 0..SPANS_A_TICK {
                    let mut span = tracer.span("GET /orders/{id}").start();
                    span.set("order.number", number as i64);
                    ids.insert(span.context().span_id().0.to_vec());
                    span.end();
                }
            }
        }
        ids
    };
    thread::scope(|scope| {
        let load = scope.spawn(record);
        act();
        drop(lasts);
        load.join().expect("recording does not panic")
    })
}

/// Looks all the time: what it waits for is over in a moment.
fn until_now(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never comes");
        thread::yield_now();
    }
}

fn exporting(collector: &Collector, config: Config, export: Export) -> Engine {
    let export = Export { endpoint: Export::to(&collector.url()).endpoint, ..export };
    let resource = spanring::Resource::service("interop").with("process.pid", 4711).schema_url("https://x/r/1");
    Engine::start(Config { export: Some(export), resource, ..config }).expect("the configuration is good")
}

/// What an engine that records the set so often exports: a twin of it says.
fn twins(times: usize) -> Vec<PlacedSpan> {
    let twin = Engine::start(config()).expect("the configuration is good");
    (0..times).for_each(|_| record_all_kinds(&twin));
    let text = |value: &str| any_value::Value::StringValue(value.to_owned());
    let resource = Resource {
        attributes: vec![
            key_value("service.name", Some(text("interop"))),
            key_value("telemetry.sdk.name", Some(text("spanring"))),
            key_value("telemetry.sdk.language", Some(text("rust"))),
            key_value("telemetry.sdk.version", Some(text(env!("CARGO_PKG_VERSION")))),
            key_value("process.pid", Some(any_value::Value::IntValue(4711))),
        ],
        ..Resource::default()
    };
    let spans = spans(&request(&twin)).into_iter().flat_map(PlacedSpan::of);
    spans.map(|span| PlacedSpan { resource: resource.clone(), ..span }).collect()
}

#[test]
fn letter_that_changes_on_the_way_is_noticed() {
    let folder = Folder::new();
    let Some(collector) = Collector::start(folder.path()) else {
        return;
    };
    let engine = Engine::start(config()).expect("the configuration is good");
    record_all_kinds(&engine);
    let mut request = request(&engine);
    let expected: Vec<PlacedSpan> = spans(&request).into_iter().flat_map(PlacedSpan::of).collect();
    let name = b"child of a remote span";
    let at = request.windows(name.len()).position(|bytes| bytes == name).expect("it was recorded");
    request[at] = b'C';
    post(collector.address(), &request);
    let findings = discrepancies(&expected, &collector.spans());
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert!(finding.contains(r#"name: expected "child of a remote span", not "Child of a remote span""#), "{finding}");
}

/// A line that a kill tears was not answered; the sender will send it again, and it shall be there once.
#[test]
fn torn_line_is_forgotten() {
    let folder = Folder::new();
    let Some(mut collector) = Collector::start(folder.path()) else {
        return;
    };
    let engine = Engine::start(config()).expect("the configuration is good");
    record_all_kinds(&engine);
    let request = request(&engine);
    post(collector.address(), &request);
    let path = folder.path().join(LINES);
    let mut file = fs::File::options().append(true).open(&path).expect("the Collector has made its file");
    // The first byte of a letter of two.
    file.write_all(b"{\"resourceSpans\":[{\"schemaUrl\":\"\xC3").expect("the file is ours");
    assert_same(&spans(&request), &collector);
    collector.kill();
    collector.restart();
    record_all_kinds(&engine);
    let more = self::request(&engine);
    post(collector.address(), &more);
    assert_same(&[spans(&request), spans(&more)].concat(), &collector);
}

#[test]
fn collector_that_was_killed_or_stopped_has_each_answered_span_once() {
    let folder = Folder::new();
    let Some(mut collector) = Collector::start(folder.path()) else {
        return;
    };
    let address = collector.address();
    // The machine's clock and random ids, as in a service.
    let engine = Engine::start(Config { clock: None, ids: None, ..config() }).expect("the configuration is good");
    let mut expected = Vec::new();
    for round in 0..9 {
        record_all_kinds(&engine);
        let request = request(&engine);
        post(address, &request);
        expected.extend(spans(&request));
        match round {
            2 => collector.kill(),
            5 => collector.stop(),
            _ => continue,
        }
        assert!(TcpStream::connect(address).is_err(), "nobody listens while it is down");
        assert_same(&expected, &collector);
        collector.restart();
        assert_eq!(collector.address(), address);
    }
    assert_same(&expected, &collector);
}

#[test]
fn panicking_test_leaves_neither_process_nor_files() {
    let mut left: Option<(SocketAddr, PathBuf)> = None;
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        let folder = Folder::new();
        let Some(collector) = Collector::start(folder.path()) else {
            return;
        };
        TcpStream::connect(collector.address()).expect("it listens");
        left = Some((collector.address(), folder.path().to_owned()));
        panic!("as a failed assertion does");
    }));
    let Some((address, path)) = left else {
        return;
    };
    assert!(ended.is_err());
    assert!(TcpStream::connect(address).is_err(), "the process is gone");
    assert!(!path.exists(), "the files are gone");
}

/// The set of spans would prove little if a field were never used.
#[test]
fn recorded_set_uses_every_field_and_every_kind_of_value() {
    let engine = Engine::start(config()).expect("the configuration is good");
    record_all_kinds(&engine);
    let all: Vec<PlacedSpan> = spans(&request(&engine)).into_iter().flat_map(PlacedSpan::of).collect();
    let ledger = engine.ledger();
    assert!(ledger.is_closed(), "{ledger:?}");
    assert_eq!((ledger.live, ledger.queued, ledger.lost.total()), (0, 0, 0), "{ledger:?}");
    assert_eq!(ledger.drained, all.len() as u64);
    let used: String =
        all.iter().flat_map(|span| differences(&PlacedSpan::default(), span)).collect::<Vec<_>>().join("\n");
    // Entities and attributes that a scope lost are not ours to record.
    let unused = ["resource.entity_refs", "scope.dropped_attributes_count"];
    for (path, _) in CHANGES.into_iter().filter(|(path, _)| !unused.contains(path)) {
        assert!(used.lines().any(|line| line.starts_with(&format!("{path}: "))), "no span has {path}");
    }
    for kind in ["= empty", "= BoolValue", "= IntValue", "= DoubleValue", "= StringValue", "= BytesValue", "= [", "= {"]
    {
        assert!(used.contains(kind), "no attribute {kind}");
    }
    // The twin of an engine records the same spans.
    let twin = Engine::start(config()).expect("the configuration is good");
    record_all_kinds(&twin);
    let again: Vec<PlacedSpan> = spans(&request(&twin)).into_iter().flat_map(PlacedSpan::of).collect();
    assert_eq!(discrepancies(&all, &again), Vec::<String>::new());
}

/// Drains the engine into one request. The spans are the engine's own bytes: it is those that the Collector shall
/// judge.
fn request(engine: &Engine) -> Vec<u8> {
    let mut runs: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    engine.drain(|scope, bytes| {
        let run = runs.entry((scope.name.clone(), scope.version.clone())).or_insert_with(|| envelope(scope));
        run.extend_from_slice(bytes);
    });
    let attribute = |key: &str, value| key_value(key, Some(value));
    let resource = Resource {
        attributes: vec![
            attribute("service.name", any_value::Value::StringValue("interop".to_owned())),
            attribute("process.pid", any_value::Value::IntValue(4711)),
        ],
        dropped_attributes_count: 1,
        entity_refs: Vec::new(),
    };
    let outer =
        ResourceSpans { resource: Some(resource), scope_spans: Vec::new(), schema_url: "https://x/r/1".to_owned() };
    let mut body = outer.encode_to_vec();
    for run in runs.values() {
        message(2, run, &mut body); // trace/v1/trace.proto: ResourceSpans.scope_spans = 2
    }
    let mut request = Vec::new();
    message(1, &body, &mut request); // trace_service.proto: ExportTraceServiceRequest.resource_spans = 1
    request
}

/// A `ScopeSpans` to which spans are appended as they are.
fn envelope(scope: &Scope) -> Vec<u8> {
    let Scope { name, version, schema_url, attributes, .. } = scope.clone();
    let text = |(key, value): (String, String)| key_value(&key, Some(any_value::Value::StringValue(value)));
    let attributes = attributes.into_iter().map(text).collect();
    let scope = InstrumentationScope { name, version, attributes, dropped_attributes_count: 0 };
    ScopeSpans { scope: Some(scope), spans: Vec::new(), schema_url }.encode_to_vec()
}

fn message(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// What prost reads in a request.
fn spans(request: &[u8]) -> Vec<ResourceSpans> {
    ExportTraceServiceRequest::decode(request).expect("it is a request").resource_spans
}

/// Sends a request and checks that all of it was taken.
fn post(address: SocketAddr, request: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the Collector listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-protobuf\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        request.len()
    );
    stream.write_all(head.as_bytes()).expect("the Collector reads");
    stream.write_all(request).expect("the Collector reads");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("the Collector answers");
    let text = String::from_utf8_lossy(&response);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").expect("the head ends");
    let answer = ExportTraceServiceResponse::decode(&response[end + 4..]).expect("it is a response");
    assert_eq!(answer.partial_success.unwrap_or_default().rejected_spans, 0, "{text}");
}

// ---- The comparison.

fn key_value(key: &str, value: Option<any_value::Value>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), key_strindex: 0 }
}

fn number(key: &str, value: i64) -> KeyValue {
    key_value(key, Some(any_value::Value::IntValue(value)))
}

/// A span without a field that is left at its default.
fn sample() -> PlacedSpan {
    PlacedSpan {
        resource: Resource {
            attributes: vec![number("a", 1)],
            dropped_attributes_count: 1,
            entity_refs: vec![EntityRef::default()],
        },
        resource_schema_url: "r".to_owned(),
        scope: InstrumentationScope {
            name: "s".to_owned(),
            version: "1".to_owned(),
            attributes: vec![number("a", 1)],
            dropped_attributes_count: 1,
        },
        schema_url: "s".to_owned(),
        span: Span {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            trace_state: "a=1".to_owned(),
            parent_span_id: vec![2; 8],
            flags: 1,
            name: "n".to_owned(),
            kind: 1,
            start_time_unix_nano: 1,
            end_time_unix_nano: 2,
            attributes: vec![number("a", 1)],
            dropped_attributes_count: 1,
            events: vec![span::Event {
                time_unix_nano: 1,
                name: "e".to_owned(),
                attributes: vec![number("a", 1)],
                dropped_attributes_count: 1,
            }],
            dropped_events_count: 1,
            links: vec![span::Link {
                trace_id: vec![1; 16],
                span_id: vec![1; 8],
                trace_state: "a=1".to_owned(),
                attributes: vec![number("a", 1)],
                dropped_attributes_count: 1,
                flags: 1,
            }],
            dropped_links_count: 1,
            status: Some(Status { message: "m".to_owned(), code: 2 }),
        },
    }
}

/// The path of a field, and how to change it.
type Change = (&'static str, fn(&mut PlacedSpan));

/// Every field of [`sample`].
const CHANGES: [Change; 36] = [
    ("resource.attributes[0]", |span| span.resource.attributes[0] = number("a", 2)),
    ("resource.dropped_attributes_count", |span| span.resource.dropped_attributes_count = 2),
    ("resource.entity_refs", |span| span.resource.entity_refs.clear()),
    ("resource_schema_url", |span| span.resource_schema_url.clear()),
    ("scope.name", |span| span.scope.name.clear()),
    ("scope.version", |span| span.scope.version.push('0')),
    ("scope.attributes[0]", |span| span.scope.attributes.clear()),
    ("scope.dropped_attributes_count", |span| span.scope.dropped_attributes_count = 0),
    ("schema_url", |span| span.schema_url.push('x')),
    ("trace_id", |span| span.span.trace_id[15] = 0),
    ("span_id", |span| span.span.span_id.clear()),
    ("trace_state", |span| span.span.trace_state.push_str(",b=2")),
    ("parent_span_id", |span| span.span.parent_span_id = vec![0; 8]),
    ("flags", |span| span.span.flags |= 0x100),
    ("name", |span| span.span.name = "N".to_owned()),
    ("kind", |span| span.span.kind = 0),
    ("start_time_unix_nano", |span| span.span.start_time_unix_nano += 1),
    ("end_time_unix_nano", |span| span.span.end_time_unix_nano -= 1),
    ("attributes[0]", |span| span.span.attributes[0].key.push('b')),
    ("dropped_attributes_count", |span| span.span.dropped_attributes_count = 0),
    ("events[0].time_unix_nano", |span| span.span.events[0].time_unix_nano = 0),
    ("events[0].name", |span| span.span.events[0].name.clear()),
    ("events[0].attributes[0]", |span| span.span.events[0].attributes.clear()),
    ("events[0].dropped_attributes_count", |span| span.span.events[0].dropped_attributes_count = 7),
    ("dropped_events_count", |span| span.span.dropped_events_count = 2),
    ("links[0].trace_id", |span| span.span.links[0].trace_id[0] = 0),
    ("links[0].span_id", |span| span.span.links[0].span_id[7] = 2),
    ("links[0].trace_state", |span| span.span.links[0].trace_state.clear()),
    ("links[0].attributes[0]", |span| span.span.links[0].attributes[0].value = None),
    ("links[0].dropped_attributes_count", |span| span.span.links[0].dropped_attributes_count = 0),
    ("links[0].flags", |span| span.span.links[0].flags = 0x300),
    ("dropped_links_count", |span| span.span.dropped_links_count = 0),
    ("status.message", |span| span.span.status = Some(Status { message: String::new(), code: 2 })),
    ("status.code", |span| span.span.status = Some(Status { message: "m".to_owned(), code: 1 })),
    ("events[1].name", |span| span.span.events.push(span::Event { name: "x".to_owned(), ..span::Event::default() })),
    ("attributes[1]", |span| span.span.attributes.push(number("a", 1))),
];

#[test]
fn each_field_that_differs_is_named() {
    assert_eq!(differences(&sample(), &sample()), Vec::<String>::new());
    for (path, change) in CHANGES {
        let mut changed = sample();
        change(&mut changed);
        for findings in [differences(&sample(), &changed), differences(&changed, &sample())] {
            assert!(findings.iter().any(|finding| finding.starts_with(&format!("{path}: "))), "{path}: {findings:?}");
            assert!(findings.len() == 1 || path == "events[1].name", "{path}: {findings:?}");
        }
    }
    // Nothing in the sample is at its default, so the default differs in all that there is.
    for finding in differences(&sample(), &PlacedSpan::default()) {
        assert!(CHANGES.iter().any(|(path, _)| finding.starts_with(&format!("{path}: "))), "no change of {finding}");
    }
}

#[test]
fn values_that_differ_in_kind_sign_or_depth_differ() {
    let array = |values| any_value::Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values });
    let values = [
        None,
        Some(any_value::Value::BoolValue(false)),
        Some(any_value::Value::IntValue(0)),
        Some(any_value::Value::DoubleValue(0.0)),
        Some(any_value::Value::DoubleValue(-0.0)),
        Some(any_value::Value::DoubleValue(f64::NAN)),
        Some(any_value::Value::DoubleValue(0.1 + 0.2)),
        Some(any_value::Value::DoubleValue(0.3)),
        Some(any_value::Value::StringValue("NaN".to_owned())),
        Some(any_value::Value::StringValue(String::new())),
        Some(any_value::Value::BytesValue(Vec::new())),
        Some(array(vec![])),
        Some(array(vec![AnyValue { value: None }])),
        Some(array(vec![AnyValue { value: Some(array(vec![])) }])),
        Some(any_value::Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList { values: vec![] })),
    ];
    for (index, value) in values.iter().enumerate() {
        for (other_index, other) in values.iter().enumerate() {
            let [mut one, mut two] = [sample(), sample()];
            one.span.attributes[0] = key_value("a", value.clone());
            two.span.attributes[0] = key_value("a", other.clone());
            let count = differences(&one, &two).len();
            assert_eq!(count, usize::from(index != other_index), "{value:?} and {other:?}");
        }
    }
}

#[test]
fn spans_that_are_missing_twice_there_or_unknown_are_named() {
    let mut other = sample();
    other.span.span_id = vec![9; 8];
    let [one, two] = [sample(), other];
    let count = |expected: &[&PlacedSpan], actual: &[&PlacedSpan]| {
        let owned = |spans: &[&PlacedSpan]| spans.iter().map(|&span| span.clone()).collect::<Vec<_>>();
        discrepancies(&owned(expected), &owned(actual)).len()
    };
    assert_eq!(count(&[&one, &two], &[&two, &one]), 0);
    assert_eq!(count(&[&one, &two], &[&two]), 1, "one is missing");
    assert_eq!(count(&[&one], &[&one, &one]), 1, "one is there twice");
    assert_eq!(count(&[&one], &[&one, &two]), 1, "one is unknown");
}

// ---- The reader.

/// A line as the Collector writes it, with what its spans seldom have.
#[test]
fn json_is_read_whole() {
    let line = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"intValue":"1"}}],"droppedAttributesCount":1},
        "schemaUrl":"r","scopeSpans":[{"scope":{"name":"s","version":"1","attributes":[{"key":"a","value":{"intValue":"1"}}],
        "droppedAttributesCount":1},"schemaUrl":"s","spans":[{"traceId":"01010101010101010101010101010101",
        "spanId":"0101010101010101","traceState":"a=1","parentSpanId":"0202020202020202","flags":1,"name":"n","kind":1,
        "startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[{"key":"a","value":{"intValue":"1"}}],
        "droppedAttributesCount":1,"events":[{"timeUnixNano":"1","name":"e","attributes":[{"key":"a","value":{"intValue":"1"}}],
        "droppedAttributesCount":1}],"droppedEventsCount":1,"links":[{"traceId":"01010101010101010101010101010101",
        "spanId":"0101010101010101","traceState":"a=1","attributes":[{"key":"a","value":{"intValue":"1"}}],
        "droppedAttributesCount":1,"flags":1}],"droppedLinksCount":1,"status":{"message":"m","code":2}}]}]}]}"#;
    let read = json::traces(line).unwrap().into_iter().flat_map(PlacedSpan::of).collect::<Vec<_>>();
    let mut expected = sample();
    expected.resource.entity_refs.clear();
    assert_eq!(discrepancies(&[expected], &read), Vec::<String>::new());
}

/// The attributes' values of a line with one span.
fn value(json: &str) -> Result<Option<any_value::Value>, String> {
    let head =
        r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"attributes":[{"key":"k","value":"#;
    let mut read = json::traces(&format!("{head}{json}}}]}}]}}]}}]}}"))?;
    let attribute = read[0].scope_spans[0].spans[0].attributes.remove(0);
    Ok(attribute.value.ok_or("no value")?.value)
}

#[test]
fn json_values_are_read_as_what_they_are() {
    let double = |json| match value(json) {
        Ok(Some(any_value::Value::DoubleValue(double))) => double,
        other => panic!("{json}: {other:?}"),
    };
    assert_eq!(value("{}"), Ok(None));
    assert_eq!(value(r#"{"boolValue":false}"#), Ok(Some(any_value::Value::BoolValue(false))));
    let least = r#"{"intValue":"-9223372036854775808"}"#;
    assert_eq!(value(least), Ok(Some(any_value::Value::IntValue(i64::MIN))));
    assert!(double(r#"{"doubleValue":"NaN"}"#).is_nan());
    assert_eq!(double(r#"{"doubleValue":"-Infinity"}"#), f64::NEG_INFINITY);
    assert_eq!(double(r#"{"doubleValue":-0}"#).to_bits(), (-0.0_f64).to_bits());
    assert_eq!(double(r#"{"doubleValue":5e-324}"#), 5e-324);
    // The vectors of RFC 4648, section 10.
    let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
    for (len, text) in vectors.into_iter().enumerate() {
        let bytes = any_value::Value::BytesValue(b"foobar"[..len].to_vec());
        assert_eq!(value(&format!(r#"{{"bytesValue":"{text}"}}"#)), Ok(Some(bytes)));
    }
    let bytes = any_value::Value::BytesValue(vec![0xFB, 0xEF, 0xFF]);
    assert_eq!(value(r#"{"bytesValue":"++//"}"#), Ok(Some(bytes)));
    let deep = format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(100), "]}}".repeat(100));
    assert!(value(&deep).is_ok());
}

#[test]
fn json_that_is_not_known_is_refused() {
    let wrong = [
        r#"{"intValue":1}"#,
        r#"{"intValue":"9223372036854775808"}"#,
        r#"{"doubleValue":"1"}"#,
        r#"{"boolValue":"true"}"#,
        r#"{"bytesValue":"Zg="}"#,
        r#"{"bytesValue":"Zh=="}"#,
        r#"{"bytesValue":"Z==="}"#,
        r#"{"bytesValue":"Zm-v"}"#,
        r#"{"boolValue":true,"intValue":"1"}"#,
        r#"{"strangeValue":true}"#,
        r#"{"arrayValue":{"values":[{"boolValue":true}],"more":1}}"#,
        "null",
    ];
    for json in wrong {
        assert!(value(json).is_err(), "{json}");
    }
    let span = |field: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#);
    assert!(json::traces(&span(r#""flags":1"#)).is_ok());
    for field in [r#""colour":1"#, r#""traceId":"0""#, r#""traceId":"0g""#, r#""flags":-1"#, r#""kind":"SERVER""#] {
        assert!(json::traces(&span(field)).is_err(), "{field}");
    }
    for line in ["", "[]", "{}{}", r#"{"resourceSpans":[{"deprecatedScopeSpans":[]}]}"#] {
        assert!(json::traces(line).is_err(), "{line}");
    }
}
