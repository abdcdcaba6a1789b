//! The demo as people and programs run it: its JSON keeps its contract, its figures agree, and its errors say what to
//! do.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output},
    sync::Arc,
};

use serde_json::Value;
use spanring::testing::collector::{Collector, Connection, Mode, Port};

fn demo(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanring")).arg("demo").args(words).output().unwrap()
}

/// The one object that it writes, and nothing else.
fn report(output: &Output) -> Value {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let report = values.next().unwrap_or_else(|| panic!("no JSON: {output:?}")).unwrap();
    assert!(values.next().is_none(), "more than one object: {text}");
    report
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {report}"))
}

fn lost(report: &Value) -> u64 {
    report["ledger"]["lost"].as_object().unwrap().values().map(|spans| spans.as_u64().unwrap()).sum()
}

/// What holds for every report, whatever became of the spans.
fn check(report: &Value) {
    for name in ["driver", "driver_reason", "workload"] {
        assert!(!report[name].as_str().unwrap().is_empty(), "{name} in {report}");
    }
    for name in ["delivered_per_s", "started_per_s", "ns_per_span"] {
        assert!(report[name].is_f64(), "{name} in {report}");
    }
    let on_linux = ["rss_mib", "rss_peak_mib", "engine_core_percent"];
    assert!(on_linux.iter().all(|name| report[name].is_f64() == cfg!(target_os = "linux")), "{report}");
    let columns = ["not_sampled", "live", "queued", "in_flight", "exported", "unconfirmed"];
    let columns: u64 = columns.iter().map(|name| number(report, &format!("/ledger/{name}"))).sum();
    assert_eq!(number(report, "/ledger/started"), columns + lost(report), "{report}");
    assert_eq!(report["ledger"]["closed"], true);
}

fn line(output: &Output) -> &str {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text.trim_end()
}

#[test]
fn spans_of_the_ledger_are_those_of_the_collector() {
    for (driver, workload) in [("auto", "shop"), ("poll", "w1")] {
        let words = ["--json", "--seconds", "1", "--rate", "3000", "--driver", driver, "--workload", workload];
        let output = demo(&words);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let report = report(&output);
        check(&report);
        let started = number(&report, "/ledger/started");
        // Each of the two threads may end with a request that has two spans more than were due.
        assert!((3000..=3004).contains(&started), "the rate holds: {report}");
        assert_eq!((number(&report, "/ledger/exported"), lost(&report)), (started, 0));
        assert_eq!(number(&report, "/collector/spans"), started);
        assert_eq!((number(&report, "/collector/seen_twice"), &report["collector"]["decodes"]), (0, &true.into()));
        assert_eq!(report["cpu_s_per_million"].is_f64(), cfg!(target_os = "linux"), "{report}");
        if driver != "auto" {
            assert_eq!(report["driver"], driver);
        }
    }
}

#[test]
fn what_has_no_room_flat_out_is_counted_and_no_failure() {
    let output = demo(&["--json", "--seconds", "1", "--rate", "0", "--memory", "2", "--threads", "3"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    check(&report);
    assert!(number(&report, "/ledger/lost/lane_full") > 0, "2 MiB are too little for this: {report}");
    assert_eq!(number(&report, "/ledger/exported"), number(&report, "/collector/spans"));
    assert_eq!(report["collector"]["decodes"], false);
}

#[test]
fn report_for_people_goes_to_the_standard_error() {
    let output = demo(&["--seconds", "1", "--rate", "1000"]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the ledger closes"), "{text}");
    // What the threads of the load cost is not what a span costs, and says so.
    let load = text.lines().find(|line| line.contains("ns a span")).unwrap();
    assert!(
        load.starts_with("load ") && load.contains("the cost of a span alone: `cargo bench -p spanring-benches`"),
        "{load}"
    );
    assert!(!text.contains('\r'), "no progress where nobody looks: {text}");
}

#[test]
fn endpoint_of_another_is_used_in_the_forms_that_people_have() {
    let collector = Collector::start(Mode::Decode).unwrap();
    let mut spans = 0;
    for path in ["", "/", "/v1/traces"] {
        let output = demo(&["--json", "--seconds", "1", "--rate", "100", "--endpoint", &(collector.url() + path)]);
        assert!(output.status.success(), "{output:?}");
        let report = report(&output);
        check(&report);
        assert!(report["collector"].is_null());
        spans += number(&report, "/ledger/exported");
        assert_eq!(collector.tally().spans, spans);
    }
}

#[test]
fn refused_endpoint_loses_nothing_silently() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = demo(&["--json", "--seconds", "1", "--rate", "1000", "--endpoint", &endpoint]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    check(&report);
    let started = number(&report, "/ledger/started");
    assert_eq!(number(&report, "/ledger/lost/shutdown_deadline"), started, "{report}");
    assert!(report["cpu_s_per_million"].is_null(), "nothing was delivered: {report}");
    let line = line(&output);
    assert!(line.starts_with(&format!("spanring: {started} of {started} spans could not be delivered: ")), "{line}");
    assert!(line.contains("refused") && line.ends_with("or leave --endpoint out to use the demo's own"), "{line}");
}

#[test]
fn peer_that_is_no_collector_is_named_with_its_status() {
    let serve = |connection: &mut Connection| {
        while connection.wait()? {
            let _ = connection.read_request()?;
            connection.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    };
    let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let peer = Collector::start_with(Arc::new(port), Mode::Count, Arc::new(serve)).unwrap();
    let output = demo(&["--json", "--seconds", "1", "--rate", "1000", "--endpoint", &peer.url()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    check(&report);
    assert_eq!(number(&report, "/ledger/lost/rejected"), number(&report, "/ledger/started"), "{report}");
    assert!(line(&output).contains("status 404"), "{output:?}");
}

#[test]
fn usage_errors_are_one_line_that_says_what_to_do() {
    let cases: &[(&[&str], &str)] = &[
        (&["--frob"], "unknown option \"--frob\""),
        (&["json"], "unknown option \"json\""),
        (&["--seconds"], "--seconds wants a number from 1 to 3600"),
        (&["--seconds", "0"], "--seconds wants a number from 1 to 3600, not \"0\""),
        (&["--rate", "-1"], "--rate wants a number from 0 to 1000000000, not \"-1\""),
        (&["--rate", "99999999999999999999"], "--rate wants a number from 0 to 1000000000"),
        (&["--threads", "many"], "--threads wants a number from 1 to 1024, not \"many\""),
        (&["--memory", "1.5"], "--memory wants a number from 1 to 16384, not \"1.5\""),
        (&["--connections", "17"], "--connections wants a number from 1 to 16, not \"17\""),
        (&["--driver", "epoll"], "--driver wants auto, uring or poll, not \"epoll\""),
        (&["--workload", "w9"], "--workload wants shop or w1, not \"w9\""),
        (&["--endpoint"], "--endpoint wants a URL, as in http://127.0.0.1:4318"),
        (&["--endpoint", "localhost:4318"], "begin it with http://, https:// or unix:///"),
        (&["--endpoint", "ftp://localhost"], "use http://, https:// or unix:///"),
        (&["--endpoint", "http://localhost", "--decode"], "leave one out"),
    ];
    for (words, message) in cases {
        let output = demo(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
        let line = line(&output);
        assert!(line.starts_with("spanring: ") && line.contains(message), "{words:?}: {line}");
        assert!(line.ends_with("; `spanring demo --help` has the options"), "{words:?}: {line}");
    }
}

#[test]
fn help_names_every_option() {
    let output = demo(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let names =
        ["seconds", "rate", "threads", "workload", "endpoint", "decode", "driver", "connections", "memory", "json"];
    assert!(names.iter().all(|name| text.contains(&format!("--{name}"))), "{text}");
}
