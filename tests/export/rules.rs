//! The rules for sending (HTTP-*) and for exporters (EXI-*) that take the whole engine and a collector to see.
//!
//! The others are tested where they are decided: what a reply means in `transport/client/verdict.rs` (HTTP-06, HTTP-12,
//! HTTP-18), times in `transport/client/exporter/tests.rs` (HTTP-07, HTTP-08, HTTP-14, HTTP-15), heads in
//! `transport/http/head.rs` (HTTP-01, HTTP-16), and what goes wrong in the rows of `testing::collector`, which
//! `faults.rs` runs (HTTP-05 to HTTP-13, HTTP-18).

#![cfg(unix)]

use std::{
    io::{self, Read, Write},
    mem,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use spanring::{
    Compression, Config, DiagnosticSink, DriverChoice, Engine, Export, Health, Resource, WorkerChoice,
    testing::collector::{Collector, Connection, Mode, OK, Plan, Port, Row, Stand, answer},
};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the engine says of itself.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<Vec<String>>>);

impl Words {
    fn sink(&self) -> Option<DiagnosticSink> {
        let words = self.clone();
        Some(DiagnosticSink::new(move |said| words.0.lock().unwrap().push(said.text.clone())))
    }

    fn say(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|text| text.contains(part))
    }
}

fn engine(export: Export) -> Engine {
    let diagnostics = export.diagnostics.or_else(|| Words::default().sink());
    // Requests enough for a small load.
    let batch_spans_max = export.batch_spans_max.min(512);
    let export = Export { diagnostics, batch_spans_max, ..export };
    Engine::start(Config { export: Some(export), ..Config::default() }).unwrap()
}

/// An engine in front of a collector that has this fault for ever.
fn faulty(row: &str, export: Export) -> (Stand, Engine, Words) {
    let stand = Row::named(row).start(Plan::forever(), Mode::Ids).unwrap();
    let words = Words::default();
    let to = Export::to(&stand.collector.url()).endpoint;
    let engine = engine(Export { endpoint: to, diagnostics: words.sink(), ..export });
    (stand, engine, words)
}

fn record(engine: &Engine, spans: usize) {
    let tracer = engine.tracer("test");
    (0..spans).for_each(|_| tracer.span("work").start().end());
}

#[test]
fn http_01_http_02_http_16_request_says_what_it_is_and_who_sends_it() {
    assert_eq!(Export::default().endpoint, "http://localhost:4318/v1/traces");
    let collector = Collector::start(Mode::Record).unwrap();
    let headers = vec![("api-key".to_owned(), "secret".to_owned())];
    let engine = engine(Export { headers, ..Export::to(&collector.url()) });
    record(&engine, 3);
    assert!(engine.flush(PATIENCE).is_complete());
    let [request] = <[_; 1]>::try_from(collector.received()).unwrap();
    // The collector takes nothing but a POST of HTTP/1.1, and refuses what is not protobuf.
    assert_eq!(request.head.path, "/v1/traces");
    let value = |name: &str| {
        let mut values = request.head.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.clone());
        assert!(values.next().is_none(), "{name} comes once");
        value.unwrap_or_default()
    };
    assert_eq!(value("content-type"), "application/x-protobuf");
    assert_eq!(value("api-key"), "secret");
    assert_eq!(format!("http://{}", value("host")), collector.url());
    let agent = value("user-agent");
    assert!(agent.starts_with("OTel-OTLP-Exporter-Rust") && agent.ends_with(env!("CARGO_PKG_VERSION")), "{agent}");
    assert_eq!(value("content-encoding"), "");
    assert_eq!(value("accept-encoding"), "", "nobody here unpacks an answer");
    assert_eq!(value("transfer-encoding"), "");
}

#[test]
fn http_03_compressed_body_is_named_as_such() {
    let collector = Collector::start(Mode::Record).unwrap();
    let engine = engine(Export { compression: Compression::Gzip, ..Export::to(&collector.url()) });
    record(&engine, 200);
    assert!(engine.flush(PATIENCE).is_complete());
    let [request] = <[_; 1]>::try_from(collector.received()).unwrap();
    assert!(request.head.headers.iter().any(|pair| *pair == ("content-encoding".into(), "gzip".into())));
    assert_eq!(collector.tally().spans, 200);
    let (wire, plain) = (request.head.body_bytes, request.body.len());
    assert!(wire < plain, "{wire} bytes of {plain}");
}

/// A resource takes so much of each request that a large span does not fit, and two of the middling ones do not
/// together.
#[test]
fn http_04_no_request_is_above_the_limit_and_what_cannot_fit_is_counted() {
    const LIMIT: usize = 96 << 10;
    let collector = Collector::start(Mode::Record).unwrap();
    let words = Words::default();
    let export = Export { request_bytes_max: LIMIT, diagnostics: words.sink(), ..Export::to(&collector.url()) };
    let resource = Resource::service("shop").with("ballast", "x".repeat(50 << 10).as_str());
    let config = Config { export: Some(export), resource, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    let fills = [100, 30 << 10, 30 << 10, 60 << 10, 30 << 10, 100, 60 << 10, 30 << 10];
    for fill in fills {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(fill).as_str());
        span.end();
    }
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!((receipt.exported, receipt.lost.oversize, receipt.lost.total()), (6, 2, 2), "{receipt:?}");
    assert_eq!(collector.tally().spans, 6);
    let sizes: Vec<_> = collector.received().iter().map(|request| request.head.body_bytes).collect();
    assert!(sizes.iter().all(|&bytes| bytes <= LIMIT), "{sizes:?}");
    assert!(words.say("too large for a request of"));
}

/// A span that did not fit after another waits for the next batch, and may turn out to fit in none; the same visit may
/// find more of the kind.
#[test]
fn http_04_spans_that_waited_for_a_batch_and_fit_in_none_are_counted() {
    let collector = Collector::start(Mode::Ids).unwrap();
    let words = Words::default();
    let export = Export { request_bytes_max: 96 << 10, diagnostics: words.sink(), ..Export::to(&collector.url()) };
    let resource = Resource::service("shop").with("ballast", "x".repeat(50 << 10).as_str());
    // All are there when the program looks for the first time.
    let config = Config { export: Some(export), resource, worker: WorkerChoice::Polled, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    for fill in [100, 60 << 10, 60 << 10, 60 << 10, 100] {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(fill).as_str());
        span.end();
    }
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed() && receipt.waiting == 0, "{receipt:?}");
    assert_eq!((receipt.exported, receipt.lost.oversize, receipt.lost.total()), (2, 3, 3), "{receipt:?}");
    assert_eq!((collector.tally().spans, collector.tally().requests), (2, 2));
    assert!(words.say("3 spans are too large for a request of 98304 bytes"));
}

/// What a collector calls too large is split and not sent again; the flush waits for the parts (HTTP-12).
#[test]
fn http_12_flush_waits_for_the_parts_of_a_request_that_was_too_large() {
    let (stand, engine, words) = faulty("status_413_above_a_limit", Export::default());
    for round in 1..=3 {
        record(&engine, 400);
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.exported == 400 && receipt.waiting == 0, "{receipt:?}");
        assert_eq!((stand.delivered(), stand.collector.tally().resends), (400 * round, 0));
    }
    assert!(words.say("the collector takes no request of"));
    let (stand, engine, words) = faulty("status_413_always", Export::default());
    record(&engine, 2);
    assert_eq!((engine.flush(PATIENCE).lost.oversize, stand.collector.tally().requests), (2, 3));
    assert!(words.say(", the least that is tried"));
    let (stand, engine, _) = faulty("status_413_always", Export::default());
    record(&engine, 400);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.lost.oversize == 400, "{receipt:?}");
    assert_eq!(stand.collector.tally().requests, 799, "a tree with 400 leaves");
}

/// A collector that takes no body of more bytes than this; and the bytes of those that came, in their order.
fn limited(body_bytes_max: usize) -> (Collector, Arc<Mutex<Vec<usize>>>) {
    let bodies = Arc::<Mutex<Vec<usize>>>::default();
    let seen = Arc::clone(&bodies);
    let serve = move |connection: &mut Connection| {
        while connection.wait()? {
            let Ok(request) = connection.read_request()? else {
                break;
            };
            seen.lock().unwrap().push(request.body_bytes);
            if request.body_bytes > body_bytes_max {
                connection.write(&answer("413 Content Too Large", ""))?;
            } else {
                connection.take(request);
                connection.write(OK)?;
            }
        }
        Ok(())
    };
    let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    (Collector::start_with(Arc::new(port), Mode::Ids, Arc::new(serve)).unwrap(), bodies)
}

/// The first request is refused, and so are its halves until they fit. What comes after that is made to fit.
#[test]
fn http_12_limit_that_was_learnt_is_kept_to() {
    // The whole, its halves and its quarters; down to parts smaller than the largest span.
    keeps_to(200 << 10, 1 + 2 + 4);
    keeps_to(50 << 10, 1 + 2 + 4 + 8 + 16);
}

fn keeps_to(limit: usize, refusals: usize) {
    // Together a little less than a megabyte, which is the limit before anything is learnt.
    const SPANS: usize = 240;
    let (collector, bodies) = limited(limit);
    let words = Words::default();
    let export = Export {
        connections_max: 1,
        schedule_delay: Duration::from_secs(3600),
        diagnostics: words.sink(),
        ..Export::to(&collector.url())
    };
    let config = Config { export: Some(export), memory_budget: 64 << 20, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    let fill = "x".repeat(4 << 10);
    let sent = || {
        for _ in 0..SPANS {
            let mut span = tracer.span("work").start();
            span.set("fill", fill.as_str());
            span.end();
        }
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.exported == receipt.ledger.started, "{receipt:?}");
        mem::take(&mut *bodies.lock().unwrap())
    };
    let refused: Vec<_> = sent().into_iter().filter(|&bytes| bytes > limit).collect();
    assert_eq!(refused.len(), refusals, "{refused:?}");
    let learnt = refused.iter().min().unwrap() / 2;
    assert!(words.say("; the next have at most ") && !words.say("the least that is tried"));
    for _ in 0..5 {
        let bodies = sent();
        assert!(bodies.iter().all(|&bytes| bytes <= learnt), "{bodies:?}, but {learnt} is known");
        // Each span has some bytes more.
        let least = learnt / (fill.len() + 256);
        assert!(bodies.len() <= SPANS.div_ceil(least), "no smaller than they have to be: {bodies:?}");
    }
    assert_eq!((collector.tally().spans, engine.stats().repeats), (6 * SPANS as u64, 0));
}

/// What is learnt is of the spans: each request carries the resource anyhow.
#[test]
fn http_12_limit_that_was_learnt_leaves_spans_together() {
    const SPANS: usize = 500;
    let (collector, bodies) = limited(20_000);
    let resource = Resource::service("shop").with("ballast", "x".repeat(14_000).as_str());
    let export = Export { diagnostics: Words::default().sink(), ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), resource, ..Config::default() }).unwrap();
    for _ in 0..3 {
        record(&engine, SPANS);
        assert!(engine.flush(PATIENCE).is_complete());
    }
    bodies.lock().unwrap().clear();
    record(&engine, SPANS);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.exported == receipt.ledger.started, "{receipt:?}");
    let requests = bodies.lock().unwrap().len();
    assert!(requests < SPANS / 10, "{requests} requests");
}

/// A collector's limit is learnt with care: a span is too large only where the collector has said so of that span.
#[test]
fn http_12_limit_that_was_learnt_loses_no_span_untried() {
    let (collector, _) = limited(100 << 10);
    let words = Words::default();
    let export = Export { diagnostics: words.sink(), ..Export::to(&collector.url()) };
    let resource = Resource::service("shop").with("ballast", "x".repeat(3 << 10).as_str());
    let engine = Engine::start(Config { export: Some(export), resource, ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    for (spans, fill) in [(40, 2_700), (2, 63_000)] {
        for _ in 0..spans {
            let mut span = tracer.span("work").start();
            span.set("fill", "x".repeat(fill).as_str());
            span.end();
        }
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.lost.total() == 0, "{receipt:?}");
    }
    assert!(words.say("the collector takes no request of"));
    assert_eq!(collector.tally().spans, 42);
}

/// A collector that has seen the length need not wait for the body, and this one does not read it.
#[test]
fn http_12_refusal_in_the_middle_of_a_body_is_heard() {
    const LIMIT: usize = 1 << 20;
    const SPANS: usize = 3_000;
    for driver in [DriverChoice::Uring, DriverChoice::Poll] {
        let (address, refused) = impatient(LIMIT);
        // Larger than what a socket takes in.
        let export = Export {
            driver,
            batch_spans_max: SPANS,
            request_bytes_max: 8 << 20,
            diagnostics: Words::default().sink(),
            ..Export::to(&format!("http://{address}"))
        };
        let config = Config { export: Some(export), memory_budget: 512 << 20, ..Config::default() };
        let engine = Engine::start(config).unwrap();
        let (tracer, fill) = (engine.tracer("test"), "x".repeat(2_000));
        for _ in 0..SPANS {
            let mut span = tracer.span("work").start();
            span.set("fill", fill.as_str());
            span.end();
        }
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.exported == SPANS as u64, "{driver:?}: {receipt:?}");
        let refused = refused.load(Relaxed);
        assert!((1..=7).contains(&refused), "the whole, its halves and its quarters, no more: {refused}");
    }
}

/// A collector that looks at the announced length, and answers 413 at once to more than this.
fn impatient(body_bytes_max: usize) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Connections that are accepted have the same.
    listener.set_recv_buffer_size(4 << 10).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(16).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let refusals = Arc::<AtomicU64>::default();
    let refused = Arc::clone(&refusals);
    let serve = move |mut stream: &TcpStream| -> io::Result<()> {
        loop {
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let len: usize = len.parse().unwrap();
            if len > body_bytes_max {
                refused.fetch_add(1, Relaxed);
                return stream.write_all(&answer("413 Content Too Large", ""));
            }
            stream.read_exact(&mut vec![0; len])?;
            stream.write_all(OK)?;
        }
    };
    // They end with the test's process, and what was refused stays open until then: a close would take the answer
    // along.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || (serve(&stream), mem::forget(stream)));
        }
    });
    (address, refusals)
}

#[test]
fn http_10_many_requests_go_over_one_connection() {
    let collector = Collector::start(Mode::Ids).unwrap();
    let engine = engine(Export { batch_spans_max: 10, connections_max: 1, ..Export::to(&collector.url()) });
    for _ in 0..20 {
        record(&engine, 50);
        assert!(engine.flush(PATIENCE).is_complete());
    }
    let tally = collector.tally();
    assert_eq!((tally.connections, tally.requests, tally.spans, tally.ids_seen_twice), (1, 100, 1000, 0));
    assert_eq!((engine.stats().connections, engine.stats().repeats), (1, 0));
}

#[test]
fn http_11_http_13_what_the_collector_says_is_told() {
    let (_stand, engine, words) = faulty("one_span_rejected", Export::default());
    record(&engine, 5);
    let receipt = engine.flush(PATIENCE);
    assert_eq!((receipt.exported, receipt.lost.partially_rejected), (4, 1));
    assert!(words.say("rejected 1 of 5 spans: too old"));

    let (_stand, engine, words) = faulty("warning_only", Export::default());
    record(&engine, 5);
    let receipt = engine.flush(PATIENCE);
    assert_eq!((receipt.exported, receipt.lost.total()), (5, 0));
    assert!(words.say("rejected 0 of 5 spans: old"));

    let (_stand, engine, words) = faulty("status_400", Export::default());
    record(&engine, 5);
    assert_eq!(engine.flush(PATIENCE).lost.rejected, 5);
    assert!(words.say("5 spans were refused with status 400") && words.say("(it says: no)"));
    assert!(matches!(engine.health(), Health::Degraded(why) if why.contains("400")));
}

/// An engine whose collector gives this answer to every request.
fn answered(answer: Vec<u8>) -> (Collector, Engine, Words) {
    let serve = move |connection: &mut Connection| {
        while connection.wait()? && connection.read_request()?.is_ok() {
            connection.write(&answer)?;
        }
        Ok(())
    };
    let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let collector = Collector::start_with(Arc::new(port), Mode::Count, Arc::new(serve)).unwrap();
    let words = Words::default();
    let engine = engine(Export { diagnostics: words.sink(), ..Export::to(&collector.url()) });
    (collector, engine, words)
}

/// An answer with this body.
fn in_json(status: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}").into()
}

/// It took them, so they are not sent again; but whether there is a collector at all is in doubt.
#[test]
fn answer_that_is_not_a_collectors_is_no_good_health() {
    let deep = "[".repeat(10_000);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(80_000));
    for body in ["<html>Welcome</html>", "[]", &deep, &long] {
        let (_collector, engine, words) = answered(in_json("200 OK", body));
        record(&engine, 5);
        let receipt = engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.exported == 5, "{receipt:?}");
        assert!(words.say("5 spans count as delivered, but http://127.0.0.1:"));
        assert!(matches!(engine.health(), Health::Degraded(why) if why.contains("does not answer as a collector")));
    }
}

/// Gateways and small collectors answer in JSON, whatever they were asked in.
#[test]
fn http_11_json_01_answer_in_json_is_a_collectors() {
    let (_collector, engine, words) = answered(in_json("200 OK", "{}"));
    record(&engine, 5);
    assert_eq!(engine.flush(PATIENCE).exported, 5);
    assert!(matches!(engine.health(), Health::Healthy), "{:?}", engine.health());
    assert!(!words.say("count as delivered"));

    let body = r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
    let (_collector, engine, words) = answered(in_json("200 OK", body));
    record(&engine, 5);
    let receipt = engine.flush(PATIENCE);
    assert_eq!((receipt.exported, receipt.lost.partially_rejected), (3, 2));
    assert!(words.say("rejected 2 of 5 spans: too old"));

    let body = r#"{"code":3,"message":"no such\ntenant","details":[]}"#;
    let (_collector, engine, words) = answered(in_json("400 Bad Request", body));
    record(&engine, 5);
    assert_eq!(engine.flush(PATIENCE).lost.rejected, 5);
    assert!(words.say("(it says: no such tenant)"));
}

#[test]
fn last_word_on_losses_is_their_balance() {
    let (_stand, engine, words) = faulty("status_400", Export::default());
    record(&engine, 5);
    assert!(engine.flush(PATIENCE).is_complete());
    assert!(engine.shutdown(PATIENCE).is_complete());
    engine.tracer("test").span("late").start().end();
    assert!(words.say("5 of 5 spans lost: 5 as rejected"));
}

#[test]
fn cfg_05_timeout_of_zero_is_none() {
    let row = Row::named("reset_before_answering");
    let stand = row.start(row.plan(), Mode::Ids).unwrap();
    let engine = engine(Export { timeout: Duration::ZERO, ..Export::to(&stand.collector.url()) });
    record(&engine, 5);
    let receipt = engine.flush(PATIENCE);
    assert_eq!((receipt.exported, receipt.lost.total(), stand.met()), (5, 0, 1), "{receipt:?}");
}

/// How many requests a slow collector has at a time.
#[derive(Default)]
struct Crowd {
    now: AtomicU64,
    max: AtomicU64,
}

impl Crowd {
    /// A collector that answers a request when so many are here, or after a while.
    fn collector(self: &Arc<Self>, wanted: u64, while_max: Duration) -> Collector {
        let crowd = Arc::clone(self);
        let serve = move |connection: &mut Connection| {
            while connection.wait()? {
                let Ok(request) = connection.read_request()? else {
                    break;
                };
                let here = crowd.now.fetch_add(1, Relaxed) + 1;
                crowd.max.fetch_max(here, Relaxed);
                let late = Instant::now() + while_max;
                while crowd.max.load(Relaxed) < wanted && Instant::now() < late {
                    connection.rest(Duration::from_millis(1))?;
                }
                crowd.now.fetch_sub(1, Relaxed);
                connection.take(request);
                connection.write(OK)?;
            }
            Ok(())
        };
        let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Collector::start_with(Arc::new(port), Mode::Ids, Arc::new(serve)).unwrap()
    }
}

/// The worker hears the answers also while the rings are so full that a writer would wake it.
#[test]
fn http_14_full_rings_behind_a_slow_collector_are_emptied() {
    let crowd = Arc::new(Crowd::default());
    let collector = crowd.collector(2, Duration::from_millis(5));
    let engine = engine(Export { connections_max: 1, ..Export::to(&collector.url()) });
    record(&engine, 50_000);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    let ledger = receipt.ledger;
    assert_eq!(collector.tally().spans, ledger.exported);
    assert_eq!(ledger.exported + ledger.lost.lane_full, 50_000, "{ledger:?}");
}

/// EXI-03: whoever flushes, what runs side by side is the exporter's own business, and bounded.
#[test]
fn http_14_exi_03_requests_run_side_by_side_up_to_the_configured_number() {
    for (connections_max, while_max) in [(1, Duration::from_millis(20)), (4, PATIENCE / 2)] {
        let crowd = Arc::new(Crowd::default());
        let wanted = if connections_max == 1 { 2 } else { 4 };
        let collector = crowd.collector(wanted, while_max);
        let engine = engine(Export { batch_spans_max: 10, connections_max, ..Export::to(&collector.url()) });
        record(&engine, 120);
        thread::scope(|scope| {
            let flushes: Vec<_> = (0..8).map(|_| scope.spawn(|| engine.flush(PATIENCE))).collect();
            assert!(flushes.into_iter().all(|flush| flush.join().unwrap().is_complete()));
        });
        let tally = collector.tally();
        assert_eq!((tally.requests, tally.spans), (12, 120));
        assert_eq!(crowd.max.load(Relaxed), connections_max as u64);
        assert_eq!(tally.connections, connections_max as u64);
    }
}

#[test]
fn http_15_exi_04_batch_is_given_up_after_the_timeout_and_counted() {
    let timeout = Duration::from_millis(700);
    let (stand, engine, words) = faulty("status_503", Export { timeout, ..Export::default() });
    record(&engine, 10);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!((receipt.lost.retry_expired, receipt.lost.total()), (10, 10));
    assert!(receipt.elapsed >= timeout && receipt.elapsed < timeout + Duration::from_secs(5), "{receipt:?}");
    assert!(stand.collector.tally().resends >= 1);
    assert!(words.say("10 spans were given up") && words.say("status 503"));
}

#[test]
fn http_17_exi_02_shutdown_returns_by_its_deadline_and_counts_what_is_left() {
    for row in ["black_hole_that_reads_all", "retry_after_a_year"] {
        let (stand, engine, words) = faulty(row, Export::default());
        record(&engine, 1_000);
        let deadline = Duration::from_millis(300);
        let receipt = engine.shutdown(deadline);
        assert!(
            receipt.elapsed >= deadline && receipt.elapsed < deadline + Duration::from_secs(10),
            "{row}: {receipt:?}"
        );
        // A worker that gets no processor at its deadline has its account ready a little later.
        let ledger = engine.shutdown(PATIENCE).ledger;
        assert!(ledger.is_closed() && ledger.queued + ledger.in_flight == 0, "{row}: {ledger:?}");
        assert_eq!(
            (ledger.lost.shutdown_deadline + ledger.unconfirmed, ledger.exported),
            (1_000, 0),
            "{row}: {ledger:?}"
        );
        assert_eq!((stand.delivered(), ledger.lost.total()), (0, ledger.lost.shutdown_deadline));
        match row {
            "black_hole_that_reads_all" => {
                assert!(ledger.unconfirmed > 0 && words.say("spans are unconfirmed"), "{ledger:?}")
            }
            _ => assert!(words.say("1000 spans were not delivered when the engine shut down"), "{ledger:?}"),
        }
    }
}

/// Nothing listens on this machine, which is known at once and for sure: waiting for the deadline would not help.
#[test]
fn shutdown_does_not_wait_for_a_collector_that_is_not_there() {
    let closed = Row::named("closed_port").start(Plan::forever(), Mode::Ids).unwrap();
    for url in [&closed.collector.url(), "unix:///no/such/directory/otel.sock"] {
        let words = Words::default();
        let engine = engine(Export { diagnostics: words.sink(), ..Export::to(url) });
        record(&engine, 1_000);
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.elapsed < PATIENCE / 2, "{receipt:?}");
        let ledger = receipt.ledger;
        assert!(ledger.is_closed() && ledger.queued + ledger.in_flight == 0, "{ledger:?}");
        assert_eq!((ledger.lost.shutdown_deadline, ledger.lost.total()), (1_000, 1_000));
        assert!(words.say("cannot be reached") && words.say("1000 spans were not delivered when the engine shut down"));
    }
}

/// A span that was taken out of the lanes and did not fit into the open batch is in no request, and is counted all the
/// same.
#[test]
fn http_17_exi_02_span_that_waits_for_the_next_request_is_counted_at_the_end() {
    let stand = Row::named("black_hole_that_reads_all").start(Plan::forever(), Mode::Ids).unwrap();
    let export = Export {
        connections_max: 1,
        request_bytes_max: 96 << 10,
        diagnostics: Words::default().sink(),
        ..Export::to(&stand.collector.url())
    };
    // All are there when the program looks for the first time.
    let config = Config { export: Some(export), worker: WorkerChoice::Polled, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    // One in a request, one in the next request, one that did not fit into that, and more in the lanes.
    for _ in 0..5 {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(60 << 10).as_str());
        span.end();
    }
    let late = Instant::now() + PATIENCE;
    while engine.ledger().in_flight < 3 && Instant::now() < late {
        engine.poll_once(Duration::from_millis(10));
    }
    let ledger = engine.ledger();
    assert_eq!((ledger.in_flight, ledger.queued), (3, 2), "{ledger:?}");
    let _ = engine.shutdown(Duration::from_millis(10));
    // A worker that gets no processor at its deadline has its account ready a little later.
    let ledger = engine.shutdown(PATIENCE).ledger;
    assert!(ledger.is_closed(), "{ledger:?}");
    // The first request is there, and the collector says nothing.
    assert_eq!((ledger.unconfirmed, ledger.lost.shutdown_deadline, ledger.exported), (1, 4, 0), "{ledger:?}");
}

/// EXI-01, EXI-02: a flush has a bound of its own, and what it did not wait for goes on.
#[test]
fn exi_02_flush_returns_by_its_deadline_and_loses_nothing() {
    let mut stand = Row::named("closed_port").start(Plan::forever(), Mode::Ids).unwrap();
    let engine = engine(Export::to(&stand.collector.url()));
    record(&engine, 100);
    let deadline = Duration::from_millis(200);
    let receipt = engine.flush(deadline);
    assert!(!receipt.is_complete() && receipt.elapsed < deadline + Duration::from_secs(10), "{receipt:?}");
    assert_eq!((receipt.waiting, receipt.lost.total()), (100, 0));
    stand.collector.restart().unwrap();
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.exported == 100, "{receipt:?}");
}

/// HTTP-07 and HTTP-09 meet here: the caller wants to know now, and the collector does not want to be asked.
#[test]
fn http_09_flush_does_not_wait_for_the_back_off_of_another() {
    let mut stand = Row::named("closed_port").start(Plan::forever(), Mode::Ids).unwrap();
    let engine = engine(Export::to(&stand.collector.url()));
    record(&engine, 10);
    // So many failures that the next try is seconds away.
    for _ in 0..12 {
        assert!(!engine.flush(Duration::from_millis(150)).is_complete());
    }
    stand.collector.restart().unwrap();
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.elapsed < Duration::from_secs(2), "{receipt:?}");
}

/// EXI-02, for a program that runs the export itself: a poll ends when there is nothing to do but wait.
#[test]
fn exi_02_poll_gives_the_thread_back_while_an_answer_is_awaited() {
    let stand = Row::named("black_hole_that_reads_all").start(Plan::forever(), Mode::Ids).unwrap();
    let export =
        Export { connections_max: 1, diagnostics: Words::default().sink(), ..Export::to(&stand.collector.url()) };
    let config = Config { export: Some(export), worker: WorkerChoice::Polled, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    record(&engine, 10_000);
    // The first ones connect and send, until a request is under way and the next one is ready.
    let late = Instant::now() + PATIENCE;
    while stand.met() == 0 && Instant::now() < late {
        engine.poll_once(Duration::from_millis(10));
    }
    let begun = Instant::now();
    let has_more = engine.poll_once(PATIENCE);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert!(!has_more && engine.ledger().queued > 0);
    let _ = engine.shutdown(Duration::ZERO);
}

#[test]
fn exi_05_after_shutdown_nothing_is_taken_and_nothing_waits() {
    let collector = Collector::start(Mode::Ids).unwrap();
    let engine = engine(Export::to(&collector.url()));
    record(&engine, 10);
    assert!(engine.shutdown(PATIENCE).is_complete());
    record(&engine, 7);
    let receipts = [engine.flush(PATIENCE), engine.shutdown(PATIENCE)];
    for receipt in receipts {
        assert!(receipt.elapsed < Duration::from_secs(5), "{receipt:?}");
        assert_eq!((receipt.exported, receipt.waiting, receipt.ledger.lost.closed), (0, 0, 7), "{receipt:?}");
        assert!(receipt.ledger.is_closed());
    }
    assert_eq!(collector.tally().spans, 10);
    assert!(matches!(engine.health(), Health::Down(_)));
}

/// HTTP-18: a redirect is refused, and not followed.
#[test]
fn http_18_redirect_is_not_followed() {
    let (stand, engine, words) = faulty("status_307", Export::default());
    record(&engine, 10);
    assert_eq!(engine.flush(PATIENCE).lost.rejected, 10);
    assert_eq!(stand.collector.tally().requests, 1);
    assert!(words.say("set the endpoint to the final address"));
}
