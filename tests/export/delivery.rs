//! The export end to end, over real sockets, on every driver: what a collector holds is what the ledger calls exported.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value};
use prost::Message;
use spanring::{
    Compression, Config, DiagnosticSink, DriverChoice, Engine, Export, Health, Kind, ProxyChoice, Resource, SpanLimits,
    internals,
    testing::collector::{Collector, Mode},
};

const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [(DriverChoice, &str); 2] = [(DriverChoice::Uring, "uring"), (DriverChoice::Poll, "poll")];

fn engine(collector: &Collector, driver: DriverChoice) -> Engine {
    let export = Export { driver, batch_spans_max: 512, ..Export::to(&collector.url()) };
    Engine::start(Config { export: Some(export), resource: Resource::service("shop"), ..Config::default() }).unwrap()
}

fn record(engine: &Engine, spans: usize) {
    let tracer = engine.tracer("test");
    for number in 0..spans {
        let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
        span.set("order.id", i64::try_from(number).unwrap());
        span.end();
    }
}

#[test]
fn flush_delivers_what_has_ended_before_it() {
    for (driver, name) in DRIVERS {
        let collector = Collector::start(Mode::Decode).unwrap();
        let engine = engine(&collector, driver);
        for round in 1..=3 {
            record(&engine, 1500);
            let receipt = engine.flush(PATIENCE);
            assert!(receipt.is_complete(), "{receipt:?}");
            assert_eq!((receipt.ledger.exported, receipt.lost.total(), receipt.waiting), (round * 1500, 0, 0));
            assert_eq!(collector.tally().spans, round * 1500);
        }
        assert_eq!(engine.health(), Health::Healthy);
        let stats = engine.stats();
        // Where io_uring cannot be had the other one runs, and says why.
        assert!(stats.driver == name || stats.driver == "poll", "{}", stats.driver_reason);
        assert!(!stats.driver_reason.is_empty());
        assert_eq!(stats.requests, 9, "three of at most 512 spans a round");
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!(receipt.ledger.exported, 4500);
    }
}

#[test]
fn compressed_requests_arrive_whole() {
    let collector = Collector::start(Mode::Decode).unwrap();
    let export = Export { compression: Compression::Gzip, ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    record(&engine, 2000);
    assert!(engine.shutdown(PATIENCE).is_complete());
    assert_eq!(collector.tally().spans, 2000);
}

/// PRC-14: a batch that is not full leaves by its age, without a flush.
#[test]
fn batch_leaves_when_its_first_span_is_old_enough() {
    let collector = Collector::start(Mode::Count).unwrap();
    let export = Export { schedule_delay: Duration::from_millis(50), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    record(&engine, 3);
    assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.spans == 3));
    assert!(engine.shutdown(PATIENCE).is_complete());
}

/// A burst between two visits of a drain that sleeps: the writer that passes the mark wakes it, and nothing is dropped.
#[test]
fn burst_wakes_the_drain() {
    let collector = Collector::start(Mode::Count).unwrap();
    let export = Export { schedule_delay: Duration::from_secs(3600), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    // More than a ring holds, and less than all of them.
    for _ in 0..30_000 {
        tracer.span("a name that takes some bytes of the ring, so that it fills up").start().end();
    }
    assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.spans > 0), "nobody asked but the writer");
    let receipt = engine.shutdown(PATIENCE);
    assert_eq!((receipt.ledger.exported, receipt.ledger.lost.total()), (30_000, 0), "{receipt:?}");
}

#[test]
fn worker_that_fails_costs_what_it_had_and_is_replaced() {
    let collector = Collector::start(Mode::Count).unwrap();
    let lines = Arc::new(Mutex::new(vec![]));
    let said = Arc::clone(&lines);
    let sink = DiagnosticSink::new(move |diagnostic| said.lock().unwrap().push(diagnostic.to_string()));
    let export = Export { diagnostics: Some(sink), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    record(&engine, 1000);
    assert!(engine.flush(PATIENCE).is_complete());
    internals::fail_worker(&engine);
    record(&engine, 1000);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete(), "{receipt:?}");
    let ledger = receipt.ledger;
    assert!(ledger.is_closed() && ledger.queued + ledger.in_flight == 0, "{ledger:?}");
    assert_eq!(ledger.exported + ledger.lost.worker_lost, 2000, "{ledger:?}");
    assert_eq!(ledger.lost.total(), ledger.lost.worker_lost);
    assert_eq!(collector.tally().spans, ledger.exported);
    let lines = lines.lock().unwrap().join("\n");
    assert!(lines.contains("the export failed and restarts") && lines.contains("as a test wants it"), "{lines}");
    assert_eq!(engine.health(), Health::Healthy);
}

/// OBS-01..08: every metric is there, under its name, once, and the identities of the specification hold at rest.
#[test]
fn prometheus_text_has_every_metric_and_its_sums_agree() {
    let collector = Collector::start(Mode::Count).unwrap();
    let engine = engine(&collector, DriverChoice::Auto);
    record(&engine, 1000);
    assert!(engine.flush(PATIENCE).is_complete());
    let open = engine.tracer("test").span("open").start();
    let text = engine.stats().prometheus();
    let value = |sample: &str| -> f64 {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && line.starts_with(sample));
        lines.find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {sample} in\n{text}"))
    };
    let names = [
        "otel_sdk_span_started_total",                        // OBS-01
        "otel_sdk_span_live",                                 // OBS-02
        "otel_sdk_processor_span_queue_size",                 // OBS-03
        "otel_sdk_processor_span_queue_capacity",             // OBS-04
        "otel_sdk_processor_span_processed_total",            // OBS-05
        "otel_sdk_exporter_span_inflight",                    // OBS-06
        "otel_sdk_exporter_span_exported_total",              // OBS-07
        "otel_sdk_exporter_operation_duration_seconds_count", // OBS-08
    ];
    names.iter().for_each(|name| assert!(value(name) >= 0.0));
    assert_eq!(value("otel_sdk_span_started_total{otel_span_sampling_result=\"RECORD_AND_SAMPLE\"}"), 1001.0);
    assert_eq!(value("otel_sdk_span_live"), 1.0);
    assert_eq!(value("otel_sdk_exporter_span_exported_total"), 1000.0);
    // Processed is exported and in flight.
    let exported: f64 = text
        .lines()
        .filter(|line| line.starts_with("otel_sdk_exporter_span_exported_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(value("otel_sdk_processor_span_processed_total"), exported + value("otel_sdk_exporter_span_inflight"));
    assert_eq!(value("otel_sdk_exporter_operation_duration_seconds_count"), 2.0);
    for cause in engine.ledger().lost.by_cause() {
        assert_eq!(value(&format!("spanring_lost_spans_total{{cause=\"{}\"}}", cause.0)), 0.0);
    }
    assert_eq!(["unconfirmed", "duplicate"].map(|kind| value(&format!("spanring_{kind}_spans"))), [0.0; 2]);
    // Each metric says what it is, once; each sample is one line of a name, labels and a number.
    let kinds: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let mut once = kinds.clone();
    once.dedup();
    assert_eq!(kinds, once);
    drop(open);
}

#[test]
fn age_of_the_oldest_span_shows_what_waits() {
    let collector = Collector::start(Mode::Count).unwrap();
    let engine = engine(&collector, DriverChoice::Auto);
    collector.pause();
    record(&engine, 10);
    assert!(!engine.flush(Duration::from_millis(100)).is_complete());
    assert!(engine.stats().oldest > Duration::from_millis(50), "{:?}", engine.stats().oldest);
    collector.resume();
    assert!(engine.flush(PATIENCE).is_complete());
    assert_eq!(engine.stats().oldest, Duration::ZERO);
}

#[test]
fn export_that_cannot_work_is_an_error_at_start_that_says_what_to_do() {
    let cases: [(Export, &str, &str); 8] = [
        (Export { endpoint: "localhost:4318".into(), ..Export::default() }, "export.endpoint", "http"),
        (Export { endpoint: "ftp://host/v1/traces".into(), ..Export::default() }, "export.endpoint", "http"),
        (Export { endpoint: "http://user:secret@host/".into(), ..Export::default() }, "export.endpoint", "header"),
        (Export { headers: vec![("a\r\nb".into(), "c".into())], ..Export::default() }, "export.headers", ""),
        (Export { connections_max: 0, ..Export::default() }, "export.connections_max", "1 to 16"),
        (Export { batch_spans_max: 0, ..Export::default() }, "export.batch_spans_max", "from 1"),
        (Export { request_bytes_max: 1, ..Export::default() }, "export.request_bytes_max", "from"),
        (
            Export { proxy: ProxyChoice::Url("socks5://host:1".into()), ..Export::to("http://example.com") },
            "export.proxy",
            "",
        ),
    ];
    for (export, field, hint) in cases {
        let error = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(hint), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn resource_that_leaves_no_room_for_spans_is_an_error_at_start() {
    let start = |budget: usize| {
        let half = "x".repeat(45 << 10);
        let resource = Resource::service("shop").with("one", half.as_str()).with("other", half.as_str());
        Engine::start(Config { export: Some(Export::default()), resource, memory_budget: budget, ..Config::default() })
    };
    let error = start(4 << 20).unwrap_err().to_string();
    assert!(error.contains("resource") && error.contains("memory_budget"), "{error}");
    assert!(start(32 << 20).is_ok());
}

/// `..Config::from_env()` beside a `resource` of the program's: both are sent, and the program's keys win.
/// LIM-10: limits are for spans, and cut nothing from a resource.
#[test]
fn res_05_resource_of_the_program_is_merged_with_that_of_the_environment() {
    let collector = Collector::start(Mode::Record).unwrap();
    let environment = Config::from_vars(|name| match name {
        "OTEL_RESOURCE_ATTRIBUTES" => Some("service.name=other,zone=b,shard=3".to_owned()),
        _ => None,
    });
    let resource = Resource::service("shop").with("shard", 4);
    let limits = SpanLimits { attribute_count: 1, attribute_value_length: Some(1), ..SpanLimits::default() };
    let export = Some(Export::to(&collector.url()));
    let engine = Engine::start(Config { export, resource, limits, ..environment }).unwrap();
    record(&engine, 1);
    assert!(engine.shutdown(PATIENCE).is_complete());
    let request = ExportTraceServiceRequest::decode(collector.received()[0].body.as_slice()).unwrap();
    let attributes = &request.resource_spans[0].resource.as_ref().unwrap().attributes;
    let sent = |key: &str| {
        let mut values = attributes.iter().filter(|attribute| attribute.key == key);
        let value = values.next().and_then(|attribute| attribute.value.clone()?.value);
        assert!(values.next().is_none(), "{key} comes once");
        value
    };
    assert_eq!(sent("service.name"), Some(Value::StringValue("shop".to_owned())));
    assert_eq!(sent("shard"), Some(Value::IntValue(4)));
    assert_eq!(sent("zone"), Some(Value::StringValue("b".to_owned())));
    assert_eq!(sent("telemetry.sdk.name"), Some(Value::StringValue("spanring".to_owned())));
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_without_the_feature_is_an_error_at_start() {
    let export = Export::to("https://example.com");
    let error = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap_err().to_string();
    assert!(error.contains("tls"), "{error}");
}
