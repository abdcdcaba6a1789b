//! The rules for the environment: CFG of the specification, and what LIM, RES and SMP say of variables, at least one
//! test each.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use proptest::prelude::*;
use spanring::{
    Compression, Config, ConfigError, DiagnosticSink, DriverChoice, Engine, Export, ProxyChoice, Resource,
    ResourceValue, Sampling, SpanContext, SpanId, SpanLimits, StartError, Topic, TraceId, TraceState,
    internals::{
        VARIABLES,
        transport::{Endpoint, proxy},
    },
    propagate::{Propagator, Propagators},
};

fn config(variables: &[(&str, &str)]) -> Config {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Config::from_vars(|name| variables.get(name).map(|text| (*text).to_owned()))
}

/// The configuration, of variables that all are good.
fn good(variables: &[(&str, &str)]) -> Config {
    let config = config(variables);
    assert!(config.warnings().is_empty(), "{variables:?}: {:?}", config.warnings());
    config
}

/// The configuration and the one warning there is, of variables of which the first is bad.
fn bad(variables: &[(&str, &str)]) -> (Config, String) {
    let config = config(variables);
    let [warning] = config.warnings() else {
        panic!("{variables:?}: {:?}", config.warnings());
    };
    let warning = warning.clone();
    assert!(warning.starts_with(variables[0].0), "{warning}");
    assert!(!warning.contains(char::is_control), "{warning}");
    (config, warning)
}

fn export(variables: &[(&str, &str)]) -> Export {
    good(variables).export.unwrap()
}

/// Every setting by its name, without the origin.
fn values(config: &Config) -> HashMap<String, String> {
    let lines = config.explain();
    let pairs = lines.lines().map(|line| {
        let (name, rest) = line.split_once(" = ").unwrap();
        (name.to_owned(), rest.rsplit_once(" (").unwrap().0.to_owned())
    });
    pairs.collect()
}

fn origin(config: &Config, setting: &str) -> String {
    let lines = config.explain();
    let line = lines.lines().find(|line| line.starts_with(&format!("{setting} = "))).unwrap();
    line.rsplit_once(" (").unwrap().1.trim_end_matches(')').to_owned()
}

fn str(config: &Config, key: &str) -> Option<String> {
    match config.resource.attribute(key) {
        Some(ResourceValue::Str(text)) => Some(text.clone()),
        _ => None,
    }
}

// ---- CFG-01 to CFG-07.

#[test]
fn cfg_01_every_variable_has_a_field() {
    fn export(change: impl FnOnce(&mut Export)) -> Config {
        let mut export = Export::default();
        change(&mut export);
        Config { export: Some(export), ..Config::default() }
    }
    fn limits(change: impl FnOnce(&mut SpanLimits)) -> Config {
        let mut limits = SpanLimits::default();
        change(&mut limits);
        Config { limits, ..export(|_| ()) }
    }
    let cases: [(&[(&str, &str)], Config); 26] = [
        (&[], export(|_| ())),
        (&[("OTEL_TRACES_EXPORTER", "none")], good(&[("OTEL_SDK_DISABLED", "true")])),
        (&[("OTEL_SERVICE_NAME", "shop")], Config { resource: Resource::service("shop"), ..export(|_| ()) }),
        (
            &[("OTEL_RESOURCE_ATTRIBUTES", "shard=3")],
            Config { resource: Resource::default().with("shard", "3"), ..export(|_| ()) },
        ),
        (&[("OTEL_TRACES_SAMPLER", "always_on")], Config { sampling: Sampling::AlwaysOn, ..export(|_| ()) }),
        (&[("OTEL_TRACES_SAMPLER", "always_off")], Config { sampling: Sampling::AlwaysOff, ..export(|_| ()) }),
        (&[("OTEL_TRACES_SAMPLER", "parentbased_always_on")], export(|_| ())),
        (
            &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")],
            Config { sampling: Sampling::ParentOnly, ..export(|_| ()) },
        ),
        (&[("OTEL_PROPAGATORS", "b3")], Config { propagators: Propagators::new([Propagator::B3]), ..export(|_| ()) }),
        (&[("OTEL_BSP_SCHEDULE_DELAY", "100")], export(|export| export.schedule_delay = Duration::from_millis(100))),
        (&[("OTEL_BSP_EXPORT_TIMEOUT", "100")], export(|export| export.timeout = Duration::from_millis(100))),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "100")], export(|export| export.timeout = Duration::from_millis(100))),
        (&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7")], export(|export| export.batch_spans_max = 7)),
        (&[("OTEL_BSP_MAX_QUEUE_SIZE", "16384")], Config { memory_budget: 16 << 20, ..export(|_| ()) }),
        (&[("SPANRING_MEMORY_BUDGET", "5000000")], Config { memory_budget: 5_000_000, ..export(|_| ()) }),
        (&[("SPANRING_DRIVER", "poll")], export(|export| export.driver = DriverChoice::Poll)),
        (&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "9")], limits(|limits| limits.attribute_count = 9)),
        (&[("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")], limits(|limits| limits.attribute_value_length = Some(9))),
        (&[("OTEL_SPAN_EVENT_COUNT_LIMIT", "9")], limits(|limits| limits.event_count = 9)),
        (&[("OTEL_SPAN_LINK_COUNT_LIMIT", "9")], limits(|limits| limits.link_count = 9)),
        (&[("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "9")], limits(|limits| limits.attribute_per_event_count = 9)),
        (&[("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "9")], limits(|limits| limits.attribute_per_link_count = 9)),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")],
            export(|export| export.endpoint = "http://collector:4318/v1/traces".into()),
        ),
        (
            &[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=1")],
            export(|export| export.headers = vec![("api-key".into(), "1".into())]),
        ),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], export(|export| export.compression = Compression::Gzip)),
        (
            &[
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/certificate"),
            ],
            export(|export| {
                export.certificate = Some(PathBuf::from("/ca"));
                export.client_key = Some(PathBuf::from("/key"));
                export.client_certificate = Some(PathBuf::from("/certificate"));
            }),
        ),
    ];
    for (variables, by_code) in cases {
        assert_eq!(values(&good(variables)), values(&by_code), "{variables:?}");
    }
}

#[test]
fn cfg_02_empty_value_is_an_unset_one() {
    for text in ["", " ", "\t"] {
        let config = Config::from_vars(|_| Some(text.to_owned()));
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        assert_eq!(config.explain(), good(&[]).explain());
    }
}

#[test]
fn cfg_03_only_true_is_true() {
    for text in ["true", "TRUE", "True", " true "] {
        let config = good(&[("OTEL_SDK_DISABLED", text)]);
        assert!(config.export.is_none() && config.sampling == Sampling::AlwaysOff, "{text}");
    }
    for text in ["false", "False"] {
        assert!(good(&[("OTEL_SDK_DISABLED", text)]).export.is_some(), "{text}");
    }
    for text in ["1", "yes", "on", "t", "truee"] {
        assert!(bad(&[("OTEL_SDK_DISABLED", text)]).0.export.is_some(), "{text}");
    }
}

/// What is recorded for nobody would fill the memory, and be lost in the end.
#[test]
fn exporter_none_records_nothing_unless_the_program_takes_spans_itself() {
    let config = good(&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_SAMPLER", "always_on")]);
    for setting in ["export", "sampling"] {
        assert_eq!(origin(&config, setting), "OTEL_TRACES_EXPORTER", "{setting}");
    }
    let engine = Engine::start(config).unwrap();
    assert!(engine.memory().rings < 1 << 20, "{:?}", engine.memory());
    let tracer = engine.tracer("test");
    assert!(!tracer.is_enabled(), "API-08: nothing takes spans");
    (0..100_000).for_each(|_| tracer.span("quiet").start().end());
    for receipt in [engine.flush(Duration::ZERO), engine.shutdown(Duration::ZERO)] {
        assert!(receipt.is_complete() && receipt.is_lossless() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!(receipt.ledger.not_sampled, 100_000, "{receipt:?}");
    }

    let engine =
        Engine::start(Config { sampling: Sampling::AlwaysOn, ..good(&[("OTEL_TRACES_EXPORTER", "none")]) }).unwrap();
    engine.tracer("test").span("drained").start().end();
    assert_eq!(engine.drain(|_, _| ()), 1);

    // An export of the program's own starts all the same, and a line says why it has nothing to do.
    let (said, lines) = mpsc::channel();
    let sink = DiagnosticSink::new(move |line| _ = said.send(line.text.clone()));
    let export = Export { diagnostics: Some(sink), ..Export::to("http://127.0.0.1:9") };
    drop(Engine::start(Config { export: Some(export), ..good(&[("OTEL_TRACES_EXPORTER", "none")]) }).unwrap());
    let lines: Vec<_> = lines.iter().collect();
    assert!(lines.len() == 1 && lines[0].contains("sets `sampling` too"), "{lines:?}");
}

#[test]
fn disabled_engine_starts_small_and_records_nothing() {
    let config = good(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000")]);
    assert_eq!(origin(&config, "export"), "OTEL_SDK_DISABLED");
    let engine = Engine::start(config).unwrap();
    assert!(engine.memory().rings < 1 << 20, "{:?}", engine.memory());
    let span = engine.tracer("test").span("quiet").start();
    assert!(!span.is_recording());
    assert!(span.context().is_valid(), "contexts are propagated all the same");
    drop(span);
    assert_eq!(engine.ledger().not_sampled, 1);
}

#[test]
fn cfg_04_bad_numbers_are_warnings_and_the_default() {
    let numbers = [
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "SPANRING_MEMORY_BUDGET",
    ];
    for name in numbers {
        for text in ["-1", "1.5", "1e3", "0x10", "ten", "5000ms", "1 000", "99999999999999999999999999"] {
            let (config, _) = bad(&[(name, text)]);
            assert_eq!(values(&config), values(&good(&[])), "{name}={text}");
        }
    }
    // Out of range: a queue and a batch of nothing, memory that no engine has, limits that no block can hold.
    let out_of_range = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "18446744073709551615"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "40000000000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1048577"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "16385"),
        ("OTEL_BSP_SCHEDULE_DELAY", "2147483648"),
        ("SPANRING_MEMORY_BUDGET", "1000"),
        ("SPANRING_MEMORY_BUDGET", "18446744073709551615"),
    ];
    for (name, text) in out_of_range {
        let (config, _) = bad(&[(name, text)]);
        assert_eq!(values(&config), values(&good(&[])), "{name}={text}");
    }
}

/// The rule's words, for the field whose least value depends on others.
#[test]
fn cfg_04_memory_that_is_too_little_for_the_export_is_a_warning_with_the_least() {
    let (config, warning) = bad(&[("SPANRING_MEMORY_BUDGET", "1048576")]);
    assert_eq!(values(&config), values(&good(&[])));
    assert!(warning.contains("1048576 bytes") && warning.contains("at least 2064384 bytes"), "{warning}");
    drop(Engine::start(good(&[("SPANRING_MEMORY_BUDGET", "2064384")])).unwrap());
    drop(Engine::start(good(&[("SPANRING_MEMORY_BUDGET", "1048576"), ("OTEL_TRACES_EXPORTER", "none")])).unwrap());
    // What the program makes of it later is told at start, with the variable that has the value.
    let mut config = good(&[("SPANRING_MEMORY_BUDGET", "2064384")]);
    config.export.as_mut().unwrap().connections_max = 16;
    let StartError::Config(error) = Engine::start(config).unwrap_err() else { panic!("it is the configuration") };
    assert_eq!((error.field(), error.variable()), ("memory_budget", Some("SPANRING_MEMORY_BUDGET")));
    let text = error.to_string();
    assert!(text.contains("memory_budget = 2064384 (SPANRING_MEMORY_BUDGET)"), "{text}");
    assert!(text.contains("at least 5603328 bytes") && text.contains("export.connections_max"), "{text}");
    let error = Engine::start(Config { memory_budget: 1 << 20, ..good(&[]) }).unwrap_err().to_string();
    assert!(error.contains("memory_budget = 1048576 cannot work"), "the program's own has no variable: {error}");
}

#[test]
fn cfg_05_times_are_milliseconds_and_no_timeout_is_no_limit() {
    assert_eq!(export(&[("OTEL_BSP_SCHEDULE_DELAY", "1500")]).schedule_delay, Duration::from_millis(1500));
    assert_eq!(export(&[("OTEL_BSP_SCHEDULE_DELAY", "0")]).schedule_delay, Duration::ZERO);
    // (exporter's, batch's) → the one that counts
    let cases = [
        ("", "", 10_000),
        ("20000", "", 20_000),
        ("60000", "", 60_000),
        ("", "20000", 10_000),
        ("", "5000", 5_000),
        ("4000", "5000", 4_000),
        ("6000", "5000", 5_000),
        ("0", "", 0),
        ("", "0", 10_000),
        ("0", "5000", 5_000),
        ("4000", "0", 4_000),
        ("0", "0", 0),
    ];
    for (exporter, batch, expected) in cases {
        let export = export(&[("OTEL_EXPORTER_OTLP_TIMEOUT", exporter), ("OTEL_BSP_EXPORT_TIMEOUT", batch)]);
        assert_eq!(export.timeout, Duration::from_millis(expected), "{exporter:?} {batch:?}");
    }
}

#[test]
fn cfg_06_words_are_read_in_any_case_and_unknown_ones_are_ignored() {
    assert_eq!(good(&[("OTEL_TRACES_SAMPLER", "Always_OFF")]).sampling, Sampling::AlwaysOff);
    assert_eq!(export(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip")]).compression, Compression::Gzip);
    assert_eq!(export(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "NONE")]).compression, Compression::None);
    assert_eq!(export(&[("SPANRING_DRIVER", "Uring")]).driver, DriverChoice::Uring);
    assert!(good(&[("OTEL_TRACES_EXPORTER", "None")]).export.is_none());
    assert!(good(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf")]).export.is_some());
    let unknown = [
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("SPANRING_DRIVER", "epoll"),
    ];
    for (name, text) in unknown {
        let (config, warning) = bad(&[(name, text)]);
        assert_eq!(values(&config), values(&good(&[])), "{name}={text}");
        assert!(
            warning.contains(text) && warning.contains("only"),
            "it says what is wrong and what is right: {warning}"
        );
    }
}

/// With it: `config/variables.rs`.
#[cfg(not(feature = "zstd"))]
#[test]
fn cfg_06_zstd_without_the_feature_is_a_warning_with_the_remedy() {
    for name in ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] {
        let (config, warning) = bad(&[(name, "Zstd")]);
        assert_eq!(values(&config), values(&good(&[])));
        let remedy = "\"Zstd\" is not in this build: enable the feature `zstd`, or use gzip";
        assert!(warning.contains(name) && warning.contains(remedy), "{warning}");
    }
}

/// What is not supported is told, with what happens instead; what asks for that anyway is not.
#[test]
fn cfg_06_variables_without_effect_are_warnings() {
    let cases = [
        ("OTEL_LOG_LEVEL", "debug", "Export::diagnostics"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01", "OTEL_TRACES_SAMPLER alone"),
        ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote", "every trace"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "port 4318"),
    ];
    for (name, text, instead) in cases {
        let (config, warning) = bad(&[(name, text)]);
        assert!(warning.contains(instead), "{warning}");
        assert_eq!(values(&config), values(&good(&[])), "{name}={text}");
    }
    good(&[("OTEL_LOG_LEVEL", "INFO")]);
}

/// A warning that a variable is ignored says what happens instead.
#[test]
fn cfg_06_lines_end_with_what_is_used_instead() {
    let long = "x".repeat(20_000);
    let cases: [(&[(&str, &str)], &str); 20] = [
        (&[("OTEL_TRACES_EXPORTER", "zipkin")], "export stays otlp"),
        (&[("OTEL_TRACES_EXPORTER", "otlp,console")], "export stays otlp"),
        (&[("OTEL_TRACES_EXPORTER", "none,console")], "export stays none"),
        (&[("OTEL_SDK_DISABLED", "1")], "export stays otlp"),
        (&[("OTEL_PROPAGATORS", "jaeger")], "propagators stays tracecontext,baggage"),
        (&[("OTEL_PROPAGATORS", "xray,b3")], "b3, b3multi, none; propagators stays b3"),
        (
            &[("OTEL_TRACES_SAMPLER", "jaeger_remote")],
            "every trace that begins here is recorded and sent; sampling stays ParentBased",
        ),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy")], "export.compression stays Auto"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "secret")], "export.headers stays none"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "a=1,secret")], "export.headers stays a=***"),
        (&[("SPANRING_MEMORY_BUDGET", "1000")], "memory_budget stays 33554432 bytes"),
        (
            &[("SPANRING_MEMORY_BUDGET", "64MiB"), ("OTEL_BSP_MAX_QUEUE_SIZE", "4097")],
            "(bytes, without a unit); memory_budget stays 8388608 bytes",
        ),
        (&[("OTEL_BSP_MAX_QUEUE_SIZE", "many")], "memory_budget stays 33554432 bytes"),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "5")],
            "(milliseconds, without a unit); export.timeout stays 5ms",
        ),
        (&[("OTEL_BSP_EXPORT_TIMEOUT", "10s")], "export.timeout stays 10s"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"), ("OTEL_TRACES_EXPORTER", "none")], "; nothing is exported"),
        (
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "spans are sent as http/protobuf, which collectors mostly take on port 4318, and gRPC on 4317",
        ),
        (&[("OTEL_RESOURCE_ATTRIBUTES", "a")], "the resource has none of its attributes"),
        (
            &[("OTEL_SERVICE_NAME", &long), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop")],
            "bytes; resource.service.name stays \"shop\"",
        ),
        (&[("OTEL_CONFIG_FILE", "/etc/otel.yaml")], "the other variables are read instead"),
    ];
    for (variables, instead) in cases {
        let (_, warning) = bad(variables);
        assert!(warning.ends_with(instead), "{warning}");
    }
}

#[test]
fn cfg_07_configuration_file_is_a_warning_and_the_variables_count() {
    let (config, warning) = bad(&[("OTEL_CONFIG_FILE", "/etc/otel.yaml"), ("OTEL_SERVICE_NAME", "shop")]);
    assert!(warning.contains("not supported"), "{warning}");
    assert_eq!(str(&config, "service.name").as_deref(), Some("shop"));
}

// ---- CFG-20 to CFG-24: the exporter.

#[test]
fn cfg_20_variable_of_the_signal_beats_the_general_one() {
    let both = |what: &str, general: &str, own: &str| {
        let names = [format!("OTEL_EXPORTER_OTLP_{what}"), format!("OTEL_EXPORTER_OTLP_TRACES_{what}")];
        export(&[(names[0].as_str(), general), (names[1].as_str(), own)])
    };
    assert_eq!(both("ENDPOINT", "http://general:1", "http://own:2/x").endpoint, "http://own:2/x");
    assert_eq!(both("HEADERS", "a=1,b=2", "a=3").headers, [("a".to_owned(), "3".to_owned())], "they are not merged");
    assert_eq!(both("TIMEOUT", "1", "2").timeout, Duration::from_millis(2));
    assert_eq!(both("COMPRESSION", "gzip", "none").compression, Compression::None);
    assert_eq!(both("CERTIFICATE", "/general", "/own").certificate, Some(PathBuf::from("/own")));
    assert_eq!(both("CLIENT_KEY", "/general", "/own").client_key, Some(PathBuf::from("/own")));
    assert_eq!(both("CLIENT_CERTIFICATE", "/general", "/own").client_certificate, Some(PathBuf::from("/own")));
    let _ = both("PROTOCOL", "grpc", "http/protobuf");
    // One that is empty or cannot be read does not hide the general one.
    assert_eq!(both("TIMEOUT", "1", "").timeout, Duration::from_millis(1));
    let (config, _) = bad(&[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1")]);
    assert_eq!(config.export.unwrap().timeout, Duration::from_millis(1));
}

#[test]
fn cfg_21_endpoint_for_traces_is_taken_as_it_is() {
    for (url, path) in [
        ("http://collector:4318", "/"),
        ("http://collector:4318/", "/"),
        ("http://collector:4318/otlp", "/otlp"),
        ("http://collector:4318/v1/traces/", "/v1/traces/"),
    ] {
        let export = export(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)]);
        assert_eq!(export.endpoint, url);
        assert_eq!(Endpoint::parse(&export.endpoint).unwrap().path(), path);
    }
}

#[test]
fn cfg_22_endpoint_is_a_base_below_which_traces_have_their_path() {
    for (base, url) in [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("http://collector:4318/otlp", "http://collector:4318/otlp/v1/traces"),
        ("http://collector:4318/otlp/", "http://collector:4318/otlp/v1/traces"),
        ("http://collector/otlp?tenant=7", "http://collector/otlp/v1/traces?tenant=7"),
        ("unix:///run/otel.sock", "unix:///run/otel.sock"),
        ("unix:///run/otel.sock#/base", "unix:///run/otel.sock#/base/v1/traces"),
    ] {
        assert_eq!(export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]).endpoint, url);
        assert_eq!(Export::to(base).endpoint, url, "in code it is the same");
    }
}

#[test]
fn cfg_23_scheme_host_port_and_path_are_honoured() {
    for (url, is_tls, host, port, path) in [
        ("http://collector/x", false, "collector", 80, "/x"),
        ("https://collector/x", true, "collector", 443, "/x"),
        ("https://10.0.0.1:8443/x/y", true, "10.0.0.1", 8443, "/x/y"),
        ("http://[::1]:4318/x", false, "::1", 4318, "/x"),
    ] {
        let endpoint = Endpoint::parse(&export(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)]).endpoint).unwrap();
        assert_eq!((endpoint.is_tls(), endpoint.host(), endpoint.port(), endpoint.path()), (is_tls, host, port, path));
    }
}

/// The specification has the path appended, so it is, although it cannot have been meant.
#[test]
fn cfg_22_base_that_has_the_path_of_traces_is_a_warning_at_start() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for base in ["http://127.0.0.1:9/v1/traces", "http://127.0.0.1:9/v1/traces/?key=hunter2"] {
        for export in [Some(Export::to(base)), good(&[(name, base)]).export] {
            let text = told_at_start(export);
            assert!(text.contains("/v1/traces/v1/traces") && text.contains("leave `/v1/traces` out"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
    assert_eq!(told_at_start(Some(Export::to("http://127.0.0.1:9/v1"))), "");
}

/// The specification has it taken as it is, so it is.
#[test]
fn cfg_21_endpoint_for_traces_without_a_path_is_a_warning_at_start() {
    let name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    for url in ["http://127.0.0.1:9", "http://127.0.0.1:9/", "http://127.0.0.1:9/?key=hunter2"] {
        let text = told_at_start(good(&[(name, url)]).export);
        assert!(text.contains("requests go to `/` at http://127.0.0.1:9/") && text.contains("`/v1/traces`"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(told_at_start(good(&[(name, "http://127.0.0.1:9/traces")]).export), "");
}

/// The lines about the configuration, of an engine that starts with this export.
fn told_at_start(export: Option<Export>) -> String {
    let lines = Arc::new(Mutex::new(vec![]));
    let said = Arc::clone(&lines);
    let sink = DiagnosticSink::new(move |diagnostic| said.lock().unwrap().push(diagnostic.clone()));
    let export = export.map(|export| Export { diagnostics: Some(sink), ..export });
    drop(Engine::start(Config { export, ..Config::default() }).unwrap());
    let lines = lines.lock().unwrap();
    lines.iter().filter(|line| line.topic == Topic::Configuration).map(ToString::to_string).collect()
}

/// What `?` in `main` prints.
#[test]
fn errors_of_the_start_debug_as_they_display() {
    for variables in [&[][..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")]] {
        let mut config = good(variables);
        config.memory_budget = if variables.is_empty() { 0 } else { config.memory_budget };
        let error = Engine::start(config).unwrap_err();
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(error.to_string().starts_with("config: "), "{error}");
        let StartError::Config(error) = error else { panic!("it is the configuration") };
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}

/// What `Engine::start` says of the endpoint that these variables give.
fn refused_endpoint(variables: &[(&str, &str)]) -> ConfigError {
    let StartError::Config(error) = Engine::start(good(variables)).unwrap_err() else { panic!("{variables:?}") };
    assert_eq!(error.field(), "export.endpoint", "{variables:?}");
    error
}

/// In the place of a mistyped one, spans and credentials would go to the default, in plain text.
#[test]
fn cfg_23_endpoint_that_is_no_url_is_an_error_at_start() {
    let (own, general) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2");
    let long = format!("http://h/{}", "x".repeat(20_000));
    for (url, remedy) in [
        ("htps://collector.prod:4318", "use http://, https:// or unix:///"),
        ("collector:4318", "begin it with http://"),
        ("ftp://collector", "use http://"),
        ("http://", "write a name"),
        ("http://a b", "take it out of the host"),
        ("http://[fe80::1%25eth0]:4318", "an address without a zone"),
        ("http://[fe80::1%eth0]:4318", "an address without a zone"),
        ("http://collector:0", "write a number"),
        ("http://user:hunter2@collector", "in a header"),
        ("unix:///a#", "begin it with `/`"),
        (&long, "shorten it"),
    ] {
        for name in [general, own] {
            let error = refused_endpoint(&[(name, url), headers]);
            assert_eq!(error.variable(), Some(name));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(remedy) && !text.contains("hunter2"), "{text}");
        }
        // In code it is the same.
        let config = Config { export: Some(Export::to(url)), ..Config::default() };
        let StartError::Config(error) = Engine::start(config).unwrap_err() else { panic!("{url}") };
        let text = error.to_string();
        assert!(error.field() == "export.endpoint" && text.contains(remedy) && !text.contains("hunter2"), "{text}");
        // A wrong one does not give way to the general one.
        assert_eq!(refused_endpoint(&[(own, url), (general, "http://localhost:4318")]).variable(), Some(own));
        // One that is not used is not looked at.
        assert_eq!(export(&[(own, "http://own:4318/x"), (general, url)]).endpoint, "http://own:4318/x");
        assert!(good(&[(own, url), ("OTEL_TRACES_EXPORTER", "none")]).export.is_none());
        let mut config = good(&[(own, url)]);
        config.export.as_mut().unwrap().endpoint = Export::default().endpoint;
        drop(Engine::start(config).unwrap());
    }
}

#[test]
fn cfg_24_headers_are_percent_decoded_pairs() {
    let headers = |text| export(&[("OTEL_EXPORTER_OTLP_HEADERS", text)]).headers;
    let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(headers("api-key=abc,tenant=7"), pairs(&[("api-key", "abc"), ("tenant", "7")]));
    assert_eq!(headers("Authorization=Basic%20dTpw%3D"), pairs(&[("authorization", "Basic dTpw=")]));
    for text in ["api-key", "api-key=secret;meta=1", "a b=secret", "api-key=secret%0D%0Ax", "host=secret"] {
        let (config, warning) = bad(&[("OTEL_EXPORTER_OTLP_HEADERS", text)]);
        assert!(config.export.unwrap().headers.is_empty());
        assert!(!warning.contains("secret"), "{warning}");
    }
}

/// What is right is sent: without its credentials every request would be refused.
#[test]
fn cfg_24_bad_header_does_not_take_the_others_with_it() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let name = "OTEL_EXPORTER_OTLP_HEADERS";
    let cases = [
        ("authorization=secret,host=hidden,tenant=7", "header `host` is set by the exporter itself"),
        ("authorization=secret,x-key=hid%0Aden,tenant=7", "header `x-key` has a value that cannot be sent"),
        ("authorization=secret,hidden,tenant=7", "member 2 has no `=`"),
        ("authorization=secret,tenant=7,x-key=hidden;a=b", "header `x-key` has a `;`"),
    ];
    for (text, why) in cases {
        let (config, warning) = bad(&[(name, text)]);
        assert_eq!(config.export.unwrap().headers, [pair("authorization", "secret"), pair("tenant", "7")], "{text}");
        assert!(warning.starts_with(&format!("{name} is ignored in part: {why}")), "{warning}");
        assert!(!warning.contains("secret") && !warning.contains("hid"), "{warning}");
    }
    // Each is named, on one line; of many, the first.
    let (_, warning) = bad(&[(name, "a=1,host=h,te=t")]);
    assert!(warning.contains("`host` is set") && warning.contains("`te` is set"), "{warning}");
    let (config, warning) = bad(&[(name, &format!("a=1{}", ",x".repeat(5000)))]);
    assert_eq!(config.export.unwrap().headers, [pair("a", "1")]);
    assert!(warning.contains("and 4996 more") && warning.len() < 1000, "{warning}");
    let many: Vec<_> = (0..70).map(|index| format!("h{index}=1")).collect();
    let (config, warning) = bad(&[(name, &many.join(","))]);
    assert_eq!(config.export.unwrap().headers.len(), 64);
    assert!(warning.contains("`h64` is one too many") && warning.contains("and 2 more"), "{warning}");
    // Where nothing is left, the general ones count.
    let (config, _) = bad(&[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x"), (name, "a=1")]);
    assert_eq!(config.export.unwrap().headers, [pair("a", "1")]);
    let (config, _) = bad(&[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x,b=2"), (name, "a=1")]);
    assert_eq!(config.export.unwrap().headers, [pair("b", "2")]);
}

/// It is for endpoints of gRPC, which may have no scheme. The one here says whether there is TLS.
#[test]
fn insecure_is_a_warning_where_the_scheme_says_otherwise() {
    let endpoint = |url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    let (plain, tls) = (endpoint("http://collector:4318"), endpoint("https://collector:4318"));
    for name in ["OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_INSECURE"] {
        good(&[(name, "true"), plain]);
        good(&[(name, "TRUE")]);
        good(&[(name, "false"), tls]);
        for (text, url) in [("true", tls), ("false", plain), ("no", plain)] {
            let (config, warning) = bad(&[(name, text), url]);
            assert_eq!(values(&config), values(&good(&[url])));
            assert!(warning.ends_with("the scheme alone decides: https:// is with TLS, http:// without"), "{warning}");
        }
    }
    good(&[("OTEL_EXPORTER_OTLP_INSECURE", "false"), ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"), plain]);
    good(&[("OTEL_EXPORTER_OTLP_INSECURE", "false"), ("OTEL_TRACES_EXPORTER", "none")]);
}

// ---- The resource, the sampler, the exporter, the queue.

#[test]
fn res_05_attributes_are_percent_decoded_strings() {
    let text = "deployment.environment=prod , shard=3,note=a%20b%2Cc%3Dd,empty=,name%2C=x,sum=1=1,";
    let config = good(&[("OTEL_RESOURCE_ATTRIBUTES", text)]);
    let expected = [
        ("deployment.environment", "prod"),
        ("shard", "3"),
        ("note", "a b,c=d"),
        ("empty", ""),
        ("name,", "x"),
        ("sum", "1=1"),
        ("telemetry.sdk.name", "spanring"),
    ];
    for (key, value) in expected {
        assert_eq!(str(&config, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(config.resource.attributes().count(), 4 + 6);
}

#[test]
fn res_05_one_fault_discards_all_attributes() {
    for text in ["a=1,b", "a=1,=2", "a=1,b=%zz", "a=1,b=%4", "a=1,b=100%", "a=1,b=%ff", "a=1,%=2", "a=1,b=%é"] {
        let (config, _) = bad(&[("OTEL_RESOURCE_ATTRIBUTES", text), ("OTEL_SERVICE_NAME", "shop")]);
        assert_eq!(config.resource, Resource::service("shop"), "{text}");
    }
    let long = format!("a={}", "x".repeat(16 << 10));
    let (config, _) = bad(&[("OTEL_RESOURCE_ATTRIBUTES", &long)]);
    assert_eq!(config.resource, Resource::default());
}

#[test]
fn res_05_what_the_program_says_wins() {
    let mut config = good(&[("OTEL_RESOURCE_ATTRIBUTES", "shard=3,zone=b")]);
    config.resource = config.resource.with("shard", 4);
    assert_eq!(config.resource.attribute("shard"), Some(&ResourceValue::Int(4)));
    assert_eq!(origin(&config, "resource.shard"), "code");
    assert_eq!(origin(&config, "resource.zone"), "OTEL_RESOURCE_ATTRIBUTES");
}

/// A resource of the program's is not the end of the environment's.
#[test]
fn res_05_environment_is_merged_below_the_resource_of_the_program() {
    let list = ("OTEL_RESOURCE_ATTRIBUTES", "shard=3,zone=b,telemetry.sdk.name=x");
    let name = ("OTEL_SERVICE_NAME", "other");
    let merged = |resource| Config { resource, ..good(&[list, name]) };
    let config = merged(Resource::service("shop").with("shard", "4").with("own", true));
    let shown = values(&config);
    let settings = [("service.name", "\"shop\""), ("shard", "\"4\""), ("zone", "\"b\""), ("own", "true")];
    for (key, value) in settings {
        assert_eq!(shown[&format!("resource.{key}")], value, "{key}");
    }
    assert_eq!(origin(&config, "resource.service.name"), "code");
    assert_eq!(origin(&config, "resource.shard"), "code");
    assert_eq!(origin(&config, "resource.zone"), "OTEL_RESOURCE_ATTRIBUTES");
    // What the library says by default, the environment may change.
    let config = merged(Resource::default().with("own", true));
    assert_eq!(values(&config)["resource.service.name"], "\"other\"");
    assert_eq!(origin(&config, "resource.service.name"), "OTEL_SERVICE_NAME");
    assert_eq!(values(&config)["resource.telemetry.sdk.name"], "\"x\"");
}

#[test]
fn res_06_name_of_the_service_wins_over_the_attribute() {
    let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,shard=3");
    assert_eq!(str(&good(&[list]), "service.name").as_deref(), Some("other"));
    let config = good(&[list, ("OTEL_SERVICE_NAME", "my shop, 100%")]);
    assert_eq!(str(&config, "service.name").as_deref(), Some("my shop, 100%"), "it is not encoded");
    assert_eq!(str(&config, "shard").as_deref(), Some("3"));
    assert_eq!(origin(&config, "resource.service.name"), "OTEL_SERVICE_NAME");
}

#[test]
fn lim_07_limit_of_spans_wins_over_the_general_one() {
    let limits = |variables: &[(&str, &str)]| good(variables).limits;
    let (own, general) = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT");
    assert_eq!(limits(&[(own, "5"), (general, "6")]).attribute_count, 5);
    assert_eq!(limits(&[(general, "6")]).attribute_count, 6);
    assert_eq!(limits(&[(own, ""), (general, "6")]).attribute_count, 6);
    assert_eq!(limits(&[(own, "0"), (general, "6")]).attribute_count, 0);
    assert_eq!(bad(&[(own, "many"), (general, "6")]).0.limits.attribute_count, 6);
    let (own, general) = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    assert_eq!(limits(&[(own, "5"), (general, "6")]).attribute_value_length, Some(5));
    assert_eq!(limits(&[(general, "6")]).attribute_value_length, Some(6));
    assert_eq!(limits(&[]), SpanLimits::default());
}

/// Roots do not record, and children do as their parents.
#[test]
fn parent_based_always_off_records_no_root() {
    let config = good(&[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    let engine = Engine::start(Config { export: None, ..config }).unwrap();
    let tracer = engine.tracer("t");
    assert!(tracer.is_enabled());
    let root = tracer.span("root").start();
    let child = tracer.span("child").parent(root.context()).start();
    assert!(!root.is_recording() && !child.is_recording());
    let parent = |flags| SpanContext::remote(TraceId([7; 16]), SpanId([8; 8]), flags, TraceState::default());
    let sampled = tracer.span("sampled").parent(&parent(1)).start();
    let unsampled = tracer.span("unsampled").parent(&parent(0)).start();
    assert!(sampled.is_recording() && !unsampled.is_recording());
    assert!(tracer.span("below").parent(sampled.context()).start().is_recording());
    assert_eq!(engine.ledger().not_sampled, 3);
}

#[test]
fn argument_of_a_sampler_is_a_warning() {
    let (config, _) = bad(&[("OTEL_TRACES_SAMPLER_ARG", "0.1")]);
    assert_eq!(config.sampling, Sampling::ParentBased);
}

#[test]
fn known_exporters_of_a_list_count() {
    assert!(good(&[("OTEL_TRACES_EXPORTER", "otlp")]).export.is_some());
    assert!(good(&[("OTEL_TRACES_EXPORTER", "none,otlp")]).export.is_some());
    assert!(good(&[("OTEL_TRACES_EXPORTER", " otlp , otlp ")]).export.is_some());
    assert!(bad(&[("OTEL_TRACES_EXPORTER", "console,none")]).0.export.is_none());
    assert!(bad(&[("OTEL_TRACES_EXPORTER", "console,otlp")]).0.export.is_some());
}

/// PRP-04, PRP-05: those that are known count, each once, in their order; also where nothing is recorded.
#[test]
fn prp_04_known_propagators_of_a_list_count_once() {
    let told = |text: &str| good(&[("OTEL_PROPAGATORS", text)]).propagators.to_string();
    assert_eq!(good(&[]).propagators.to_string(), "tracecontext,baggage");
    assert_eq!(Config::default().propagators, good(&[]).propagators);
    assert_eq!(told("b3, TraceContext,,b3 ,baggage,B3Multi"), "b3,tracecontext,baggage,b3multi");
    assert_eq!((told("none"), told("none,b3")), ("none".into(), "b3".into()));
    let (config, warning) = bad(&[("OTEL_PROPAGATORS", "b3,ottrace")]);
    assert_eq!(config.propagators, Propagators::new([Propagator::B3]));
    assert!(
        warning.contains("\"ottrace\" is not supported, only tracecontext, baggage, b3, b3multi, none"),
        "{warning}"
    );
    assert_eq!(origin(&config, "propagators"), "OTEL_PROPAGATORS");

    let engine = Engine::start(good(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_PROPAGATORS", "b3multi")])).unwrap();
    assert_eq!(engine.propagators().fields().count(), 3);
}

/// PRC-15: the size of the queue is a total, and not that of each ring.
#[test]
fn queue_size_becomes_memory_that_holds_so_many_spans() {
    for (spans, budget) in
        [("1", 4 << 20), ("2048", 4 << 20), ("4096", 4 << 20), ("4097", 8 << 20), ("100000", 128 << 20)]
    {
        let config = good(&[("OTEL_BSP_MAX_QUEUE_SIZE", spans)]);
        assert_eq!(config.memory_budget, budget, "{spans}");
    }
    for spans in [2048_usize, 4097, 30_000] {
        let text = spans.to_string();
        let config = good(&[("OTEL_BSP_MAX_QUEUE_SIZE", &text), ("OTEL_TRACES_EXPORTER", "none")]);
        let engine = Engine::start(Config { sampling: Sampling::default(), ..config }).unwrap();
        assert!(engine.memory().rings >= spans as u64 * 512, "{spans}: {:?}", engine.memory());
    }
    let own = good(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100000"), ("SPANRING_MEMORY_BUDGET", "8388608")]);
    assert_eq!((own.memory_budget, origin(&own, "memory_budget").as_str()), (8 << 20, "SPANRING_MEMORY_BUDGET"));
}

#[test]
fn batch_is_no_larger_than_the_queue() {
    let (queue, batch) = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
    assert_eq!(export(&[(queue, "100"), (batch, "100")]).batch_spans_max, 100);
    assert_eq!(export(&[(queue, "100")]).batch_spans_max, 100);
    assert_eq!(export(&[(queue, "1000")]).batch_spans_max, 1000);
    assert_eq!(export(&[(queue, "5000")]).batch_spans_max, 2048);
    assert_eq!(bad(&[(batch, "101"), (queue, "100")]).0.export.unwrap().batch_spans_max, 100);
    assert_eq!(export(&[(batch, "4000")]).batch_spans_max, 4000);
}

#[cfg(unix)]
#[test]
fn environment_of_the_process_is_read_and_need_not_be_text() {
    use std::{env, ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

    const CHILD: &str = "SPANRING_TEST_CONFIG";
    if env::var_os(CHILD).is_some() {
        let config = Config::from_env();
        assert_eq!(str(&config, "service.name").as_deref(), Some("shop"));
        let warnings = [
            "OTEL_TRACES_SAMPLER is ignored: it is not UTF-8; sampling stays ParentBased",
            "OTEL_SERVCE_NAME is ignored: no such variable is read, but OTEL_SERVICE_NAME is; resource.service.name stays \"shop\"",
            "SPANRING_DRIVR is ignored: no such variable is read, but SPANRING_DRIVER is; export.driver stays Auto",
        ];
        assert_eq!(config.warnings(), warnings);
        let StartError::Config(error) = Engine::start(config).unwrap_err() else { panic!("it is the endpoint") };
        assert_eq!(error.variable(), Some("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child
        .args(["--exact", "config::environment_of_the_process_is_read_and_need_not_be_text"])
        .env_clear()
        .env(CHILD, "1");
    child.env("OTEL_SERVICE_NAME", "shop").env("OTEL_TRACES_SAMPLER", OsStr::from_bytes(b"always_\xff"));
    child.env("OTEL_EXPORTER_OTLP_ENDPOINT", OsStr::from_bytes(b"http://\xff"));
    // What is near one of ours is told, and what is not may be another's.
    child.env("SPANRING_DRIVR", "poll").env("SPANRING_MEMORY_BUDGET", "").env("SPANRING_SERVICE_HOST", "10.0.0.1");
    child.env("OTEL_SERVCE_NAME", "shop").env("OTEL_BLRP_SCHEDULE_DELAY", "1").env("OTEL_METRICS_EXPORTER", "none");
    child
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://h")
        .env("OTEL_SERVICE", "x");
    assert!(child.status().unwrap().success());
}

/// A variable that others share must not keep the program from its start, as the same text in the code does.
#[test]
fn proxy_of_the_environment_that_cannot_be_used_is_a_warning() {
    use std::{env, process::Command};

    const CHILD: &str = "SPANRING_TEST_PROXY";
    if env::var_os(CHILD).is_none() {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "config::proxy_of_the_environment_that_cannot_be_used_is_a_warning"]).env_clear();
        assert!(child.env(CHILD, "1").env("ALL_PROXY", "socks5://user:hunter2@proxy:1080").status().unwrap().success());
        return;
    }
    let mut config = Config::from_env();
    let lines = Arc::new(Mutex::new(vec![]));
    let said = Arc::clone(&lines);
    let export = config.export.as_mut().unwrap();
    export.endpoint = "http://192.0.2.1:4318/v1/traces".into();
    let shown = values(&config)["export.proxy"].clone();
    assert!(
        shown.starts_with("by the environment: none, because of ALL_PROXY") && !shown.contains("hunter2"),
        "{shown}"
    );
    let export = config.export.as_mut().unwrap();
    export.diagnostics = Some(DiagnosticSink::new(move |diagnostic| said.lock().unwrap().push(diagnostic.clone())));
    drop(Engine::start(config).unwrap());
    let lines = lines.lock().unwrap();
    let warning = lines.iter().find(|line| line.topic == Topic::Configuration).unwrap();
    for part in ["ALL_PROXY: `socks5://", "NO_PROXY", "no proxy is used"] {
        assert!(warning.text.contains(part), "{part}: {warning}");
    }
    assert!(!warning.text.contains("hunter2"), "{warning}");
}

/// Its credentials would go to whoever listens there.
#[cfg(unix)]
#[test]
fn proxy_in_front_of_a_unix_socket_is_refused() {
    let proxy = ProxyChoice::Url("http://user:hunter2@proxy:3128".into());
    let export = Export { proxy, ..Export::to("unix:///run/otel.sock") };
    let error = Engine::start(Config { export: Some(export.clone()), ..Config::default() }).unwrap_err();
    let text = error.to_string();
    for part in ["export.proxy", "unix:///run/otel.sock", "leave the proxy out"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!format!("{text} {error:?}").contains("hunter2"), "{text}");
    for proxy in [ProxyChoice::Direct, ProxyChoice::Environment] {
        let export = Export { proxy, ..export.clone() };
        drop(Engine::start(Config { export: Some(export), ..Config::default() }).unwrap());
    }
}

// ---- What is said of it all.

#[test]
fn list_of_variables_is_what_is_read() {
    let asked = RefCell::new(BTreeSet::new());
    let _ = Config::from_vars(|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    assert_eq!(asked.into_inner(), VARIABLES.into_iter().map(str::to_owned).collect());
}

/// Those that are read follow from the same rows; those of the proxy are read elsewhere.
#[test]
fn documentation_has_every_variable_that_is_read_and_no_other() {
    let source = include_str!("../../src/config/variables.rs");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("/// | `"));
    let names = rows.flat_map(|row| row.split(" | ").next().unwrap().split(['`', ',', ' ']));
    let documented: BTreeSet<_> = names.filter(|name| !name.is_empty()).collect();
    assert_eq!(documented, proxy::VARIABLES.into_iter().collect());
    assert_eq!(source.matches("#[doc = documentation!()]").count(), 1);
    assert_eq!(VARIABLES.into_iter().collect::<BTreeSet<_>>().len(), VARIABLES.len(), "each has one row");
}

#[test]
fn explanation_names_the_value_and_where_it_is_from() {
    let read = good(&[("OTEL_BSP_SCHEDULE_DELAY", "100"), ("OTEL_SERVICE_NAME", "shop")]);
    let config = Config { memory_budget: 64 << 20, ..read };
    let lines = config.explain();
    for line in [
        "memory_budget = 67108864 bytes (code)",
        "lanes = by the number of cores (default)",
        "resource.service.name = \"shop\" (OTEL_SERVICE_NAME)",
        "export = otlp (default)",
        "export.schedule_delay = 100ms (OTEL_BSP_SCHEDULE_DELAY)",
        "export.timeout = 10s (default)",
        "export.endpoint = http://localhost:4318/v1/traces (default)",
    ] {
        assert!(lines.lines().any(|known| known == line), "{line}\n{lines}");
    }
    let mut config = config;
    config.export.as_mut().unwrap().schedule_delay = Duration::from_millis(101);
    assert_eq!(origin(&config, "export.schedule_delay"), "code", "what the program changed is its own");
    assert_eq!(origin(&Config { export: Some(Export::default()), ..Config::default() }, "export"), "code");
    assert_eq!(origin(&Config::default(), "export"), "default");
}

#[test]
fn explanation_shows_an_endpoint_that_cannot_work_as_it_was_given() {
    let shown = |url| values(&good(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)]))["export.endpoint"].clone();
    assert!(shown("localhost:4318").starts_with("localhost:4318, which cannot work: it has no scheme: begin it"));
    let secret = shown("http://user:hunter2@collector");
    assert!(secret.starts_with("http://***@collector, which cannot work: it has credentials"), "{secret}");
}

#[test]
fn explanation_shows_no_secret() {
    let mut config = good(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2,api-key=hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector/otlp?key=hunter2"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/hunter2"),
    ]);
    let check = |config: &Config| {
        let told = format!("{} {config:?}", config.explain());
        assert!(!told.contains("hunter2"), "{told}");
    };
    check(&config);
    assert_eq!(values(&config)["export.headers"], "authorization=***, api-key=***");
    let export = config.export.as_mut().unwrap();
    export.proxy = ProxyChoice::Url("http://user:hunter2@proxy:3128".into());
    export.endpoint = "http://user:hunter2@collector".into();
    check(&config);
    let export = config.export.as_mut().unwrap();
    export.headers[0].1 = "hunter2 too".into();
    check(&config);
    assert_eq!(origin(&config, "export.headers"), "code", "a value that is not shown has changed");
}

proptest! {
    #[test]
    fn any_environment_gives_lines_and_no_panic(
        values in prop::collection::hash_map(prop::sample::select(&VARIABLES[..]), "\\PC{0,20}|[0-9]{1,20}|\\x00.*|true", 0..8),
    ) {
        let config = Config::from_vars(|name| values.get(name).cloned());
        let explained = config.explain();
        prop_assert!(explained.lines().all(|line| line.contains(" = ") && line.ends_with(')')), "{}", explained);
        for warning in config.warnings() {
            prop_assert!(!warning.contains(char::is_control), "{:?}", warning);
            prop_assert!(values.keys().any(|name| warning.starts_with(name)), "{}", warning);
        }
    }
}
