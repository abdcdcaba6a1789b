//! Services among the examples, under a collector: what arrives there is what their users would see.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use spanring::{
    Kind,
    testing::{
        FinishedSpan,
        collector::{Collector, Mode},
    },
};

use crate::program::Program;

/// The whole answer to a request that closes its connection.
fn ask(address: &str, request: &str, headers: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn exported(collector: &Collector) -> Vec<FinishedSpan> {
    collector.received().iter().flat_map(|request| request.spans()).collect()
}

/// Name, kind and parent of each span of a trace; a parent that is not there is `remote`.
fn tree(spans: &[FinishedSpan], trace: &FinishedSpan) -> Vec<(String, Kind, String)> {
    let of_trace: Vec<_> = spans.iter().filter(|span| span.trace_id == trace.trace_id).collect();
    let parent = |span: &FinishedSpan| match of_trace.iter().find(|other| other.span_id == span.parent_id) {
        Some(parent) => parent.name.clone(),
        None if span.parent_id.is_valid() => "remote".to_owned(),
        None => "none".to_owned(),
    };
    let mut tree: Vec<_> = of_trace.iter().map(|span| (span.name.clone(), span.kind, parent(span))).collect();
    tree.sort_by(|a, b| a.0.cmp(&b.0));
    tree
}

fn named<'a>(spans: &'a [FinishedSpan], name: &str) -> &'a FinishedSpan {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn expected(rows: &[(&str, Kind, &str)]) -> Vec<(String, Kind, String)> {
    let mut rows: Vec<_> =
        rows.iter().map(|(name, kind, parent)| ((*name).to_owned(), *kind, (*parent).to_owned())).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

#[test]
fn axum_service_records_each_request_as_one_tree() {
    let collector = Collector::start(Mode::Record).unwrap();
    let mut service = Program::start("axum_service", &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    let address = service.address();
    assert!(ask(&address, "POST /orders/7", "").ends_with("7: Ok(200)\n"));
    let caller = "traceparent: 00-12345678901234567890123456789012-1234567890123456-01\r\n";
    assert!(ask(&address, "GET /orders/8", caller).ends_with("(24, 24)\n"));
    service.signal(libc::SIGINT);
    service.finish();

    let spans = exported(&collector);
    let placed = expected(&[
        ("/orders/{id}", Kind::Server, "none"),
        ("audit", Kind::Internal, "/orders/{id}"),
        ("GET /stock", Kind::Client, "/orders/{id}"),
        ("/stock", Kind::Server, "GET /stock"),
        ("receipt", Kind::Internal, "/orders/{id}"),
        ("mail", Kind::Internal, "/orders/{id}"),
    ]);
    assert_eq!(tree(&spans, named(&spans, "mail")), placed);
    let size = named(&spans, "size");
    let shown = expected(&[
        ("/orders/{id}", Kind::Server, "remote"),
        ("size", Kind::Internal, "/orders/{id}"),
        ("price", Kind::Internal, "/orders/{id}"),
    ]);
    assert_eq!(tree(&spans, size), shown);
    assert_eq!(size.trace_id.to_string(), "12345678901234567890123456789012");
    assert_eq!(spans.len(), placed.len() + shown.len());
    assert!(spans.iter().all(|span| span.attributes.is_empty()), "nothing was cancelled");
}

/// SIGTERM comes in the middle of a request, whose span is the last to be delivered.
#[test]
fn graceful_server_delivers_the_span_of_the_request_in_flight() {
    let collector = Collector::start(Mode::Record).unwrap();
    let mut service = Program::start("graceful_shutdown", &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    let address = service.address();
    assert!(ask(&address, "POST /uploads", "content-length: 0\r\n").ends_with("0 bytes\n"));
    let mut upload = TcpStream::connect(&address).unwrap();
    // The answer to `expect` says that the request is in the hands of its handler.
    let head = "connection: close\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    write!(upload, "POST /uploads HTTP/1.1\r\nhost: {address}\r\n{head}").unwrap();
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    upload.read_exact(&mut interim).unwrap();
    service.signal(libc::SIGTERM);
    assert_eq!(service.line(), "finishing");
    upload.write_all(b"body").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("4 bytes\n"), "{answer}");
    let receipt = service.finish();
    assert!(receipt.contains("0 lost, 0 waiting; complete"), "{receipt}");
    // In any order, as they came from two cores.
    let spans = exported(&collector);
    let mut sizes: Vec<_> = spans.iter().map(|span| span["http.request.body.size"].clone()).collect();
    sizes.sort_by_key(|size| *size != 0);
    assert_eq!(sizes, [0, 4]);
}

/// What it costs to have that: lines that would not be there without the trace.
#[test]
fn axum_service_is_60_lines_of_which_15_are_for_the_trace() {
    const TRACING: [&str; 10] = [
        "spanring::",
        "Tracer",
        "tracer",
        "Engine",
        "Context",
        "in_span",
        "trace_context",
        "traced",
        "caller",
        "current_span",
    ];
    let text = include_str!("../../examples/axum_service.rs");
    let code: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.trim_start().starts_with("//")).collect();
    assert!(code.len() <= 60, "{} lines", code.len());
    let is_tracing = |line: &&&str| TRACING.iter().any(|word| line.contains(word));
    // One line is the brace that ends the middleware.
    let tracing: Vec<_> = code.iter().filter(is_tracing).chain([&"    };"]).collect();
    assert!(tracing.len() <= 15, "{tracing:#?}");
    assert!(tracing.len() > 10, "the words are no longer the right ones: {tracing:#?}");
}
