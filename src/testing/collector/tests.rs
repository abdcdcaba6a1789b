//! The stand-in collector itself, seen by a plain blocking client: its counts are right, its faults show as their rows
//! say.

#![cfg(unix)]

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_assert, prop_assert_eq, proptest,
};
use prost::Message;

use super::{
    Act, Close, Collector, Delivered, Encoding, End, Expect, Mode, OK, Outcome, PARTIALLY_REJECTED, Pause, Plan,
    REJECTED, RETRY_EXPIRED, ROWS, Resend, Row, Scheduled, Stand, Turn, for_each_span, http_date, ids,
};
use crate::record::{SpanId, TraceId};

/// More than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter than the rest between two bytes of a slow reply, longer than a reply that comes takes.
const SILENCE: Duration = Duration::from_millis(400);
/// Of a flood, as much as makes clear that it is one: more than a client may take in.
const FLOOD_BYTES: usize = 6 << 20;

// ---- Healthy.

#[test]
fn healthy_requests_are_counted_decoded_and_answered_on_one_connection() {
    for mode in [Mode::Count, Mode::Ids, Mode::Decode, Mode::Record] {
        let collector = Collector::start(mode).unwrap();
        let mut client = connect(&collector);
        for turn in 0..3 {
            client.write_all(&post(&batch(turn, 4).encode_to_vec())).unwrap();
            expect_ok(&mut client);
        }
        let tally = collector.tally();
        assert_eq!((tally.connections, tally.requests, tally.spans), (1, 3, 12), "{mode:?}");
        assert_eq!((tally.spans_arrived, tally.refused, tally.resends, tally.ids_seen_twice), (12, 0, 0, 0));
        let messages: Vec<_> = collector.received().into_iter().map(|request| decoded(&request.body)).collect();
        let recorded: Vec<_> = (0..3).map(|turn| batch(turn, 4)).collect();
        assert_eq!(messages, if mode == Mode::Record { recorded } else { vec![] });
    }
}

#[test]
fn gzip_is_unpacked_and_headers_are_kept() {
    let collector = Collector::start(Mode::Record).unwrap();
    let mut client = connect(&collector);
    let body = gzip(&batch(1, 100).encode_to_vec());
    client.write_all(&request("Content-Encoding: gzip\r\nX-Key: a b \r\n", &body)).unwrap();
    expect_ok(&mut client);
    let [received] = <[_; 1]>::try_from(collector.received()).unwrap();
    assert_eq!(decoded(&received.body), batch(1, 100));
    let spans = received.spans();
    assert_eq!((spans.len(), spans[99].name.as_str()), (100, "GET /cart"));
    assert_eq!((spans[99].trace_id, spans[99].span_id), (TraceId(2_u128.to_be_bytes()), SpanId(100_u64.to_be_bytes())));
    assert_eq!((received.head.encoding, received.head.path.as_str()), (Encoding::Gzip, "/v1/traces"));
    assert!(received.head.headers.contains(&("X-Key".into(), "a b".into())), "{:?}", received.head);
    assert_eq!(collector.tally().body_bytes, body.len() as u64);
}

#[test]
fn requests_that_come_in_pieces_or_together_are_the_same_requests() {
    let both: Vec<u8> = [1, 2].iter().flat_map(|turn| post(&batch(*turn, 2).encode_to_vec())).collect();
    for size in [1, 7, 100, both.len()] {
        let collector = Collector::start(Mode::Decode).unwrap();
        let mut client = connect(&collector);
        for piece in both.chunks(size) {
            client.write_all(piece).unwrap();
        }
        expect_ok(&mut client);
        expect_ok(&mut client);
        assert_eq!(collector.tally().spans, 4, "in pieces of {size}");
    }
}

#[test]
fn large_body_outgrows_the_buffer_and_a_small_one_follows() {
    let collector = Collector::start(Mode::Decode).unwrap();
    let mut client = connect(&collector);
    for spans in [20_000, 1, 20_000] {
        client.write_all(&post(&batch(spans, spans).encode_to_vec())).unwrap();
        expect_ok(&mut client);
    }
    assert_eq!(collector.tally().spans, 40_001);
}

#[test]
fn what_comes_twice_is_noticed() {
    let collector = Collector::start(Mode::Ids).unwrap();
    let mut client = connect(&collector);
    for turn in [1, 2, 1] {
        client.write_all(&post(&batch(turn, 5).encode_to_vec())).unwrap();
        expect_ok(&mut client);
    }
    let tally = collector.tally();
    assert_eq!((tally.spans, tally.ids_seen_twice, tally.resends), (15, 5, 1));
}

/// In every mode.
#[cfg(feature = "zstd")]
#[test]
fn zstd_is_unpacked() {
    for mode in [Mode::Count, Mode::Ids, Mode::Decode, Mode::Record] {
        let collector = Collector::start(mode).unwrap();
        let mut client = connect(&collector);
        let body = zstd::encode_all(batch(1, 100).encode_to_vec().as_slice(), 1).unwrap();
        client.write_all(&request("Content-Encoding: zstd\r\n", &body)).unwrap();
        expect_ok(&mut client);
        let tally = collector.tally();
        assert_eq!((tally.spans, tally.body_bytes), (100, body.len() as u64), "{mode:?}");
        for received in collector.received() {
            assert_eq!((decoded(&received.body), received.head.encoding), (batch(1, 100), Encoding::Zstd));
        }
    }
}

#[test]
fn what_is_no_trace_request_is_refused_by_its_status() {
    let bad_length = |length: &str| format!("POST /v1/traces HTTP/1.1\r\n{TYPE}{length}\r\n").into_bytes();
    let ok = post(&batch(1, 1).encode_to_vec());
    let ok = String::from_utf8_lossy(&ok).into_owned();
    let cases: &[(&str, Vec<u8>)] = &[
        ("405", ok.replace("POST", "GET").into()),
        ("404", ok.replace("/v1/traces", "/v1/logs").into()),
        ("415", ok.replace("x-protobuf", "json").into()),
        ("415", ok.replace("\r\nContent-L", "\r\nContent-Encoding: br\r\nContent-L").into()),
        ("400", ok.replace("HTTP/1.1", "HTTP/1.0").into()),
        ("400", ok.replace("Content-Length:", "Content-Length :").into()),
        ("400", "\0\x01\r\n\r\n".into()),
        ("400", bad_length("Content-Length: 1\r\nContent-Length: 1\r\n")),
        ("400", bad_length("Content-Length: -1\r\n")),
        ("411", bad_length("")),
        ("411", bad_length("Transfer-Encoding: chunked\r\n")),
        ("413", bad_length("Content-Length: 99999999999999999999999\r\n")),
        ("413", bad_length("Content-Length: 67108865\r\n")),
        // Members that come one after the other are one stream.
        ("413", request("Content-Encoding: gzip\r\n", &gzip(&vec![0; 1 << 20]).repeat(65))),
        ("400", request("Content-Encoding: gzip\r\n", b"not gzip")),
        (if cfg!(feature = "zstd") { "400" } else { "415" }, request("Content-Encoding: zstd\r\n", b"not zstd")),
        ("400", post(b"\x0A\x7F")),
        ("431", bad_length(&format!("X-Fill: {}\r\n", "x".repeat(64 << 10)))),
    ];
    for (status, bytes) in cases {
        let collector = Collector::start(Mode::Decode).unwrap();
        let mut client = connect(&collector);
        client.write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply:?} to {shown:?}");
        let tally = collector.tally();
        assert_eq!((tally.refused, tally.requests, tally.spans), (1, 0, 0), "{shown:?}");
    }
}

#[test]
fn stopped_collector_refuses_and_restarts_on_its_port_with_its_counts() {
    let mut collector = Collector::start(Mode::Count).unwrap();
    let url = collector.url();
    for turn in 1..=5 {
        let mut client = connect(&collector);
        client.write_all(&post(&batch(turn, 1).encode_to_vec())).unwrap();
        expect_ok(&mut client);
        // The client still holds its end, so that the collector's end is not gone when it comes back.
        collector.stop();
        let refused = TcpStream::connect(collector.address().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        collector.restart().unwrap();
        assert_eq!((collector.tally().spans, collector.url()), (turn as u64, url.clone()));
    }
}

#[test]
fn stop_is_bounded_whatever_the_connections_do() {
    let mut collector = Collector::start(Mode::Count).unwrap();
    let whole = post(&batch(1, 1000).encode_to_vec());
    let mut clients = vec![];
    for bytes in [0, 1, 30, whole.len() - 1] {
        let mut client = connect(&collector);
        client.write_all(&whole[..bytes]).unwrap();
        clients.push(client);
    }
    assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.connections == 4));
    collector.pause();
    clients.push(connect(&collector));
    let start = Instant::now();
    collector.stop();
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    for mut client in clients {
        assert!(matches!(client.read(&mut [0; 64]), Ok(0) | Err(_)), "the connection has ended");
    }
}

#[test]
fn stop_is_bounded_while_a_flood_waits_for_a_client_that_does_not_read() {
    let mut stand = Row::named("body_without_end").start(Plan::forever(), Mode::Count).unwrap();
    let mut client = connect(&stand.collector);
    client.write_all(&post(&batch(1, 1).encode_to_vec())).unwrap();
    assert!(stand.collector.wait_for(Instant::now() + PATIENCE, |tally| tally.requests == 1));
    let start = Instant::now();
    stand.collector.stop();
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
}

#[test]
fn paused_collector_answers_only_after_it_resumes() {
    let collector = Collector::start(Mode::Count).unwrap();
    let mut early = connect(&collector);
    assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.connections == 1));
    collector.pause();
    let mut late = connect(&collector);
    for (turn, client) in [&mut early, &mut late].into_iter().enumerate() {
        client.write_all(&post(&batch(turn, 1).encode_to_vec())).unwrap();
        client.set_read_timeout(Some(SILENCE / 4)).unwrap();
        assert!(is_timeout(&client.read(&mut [0; 64]).unwrap_err()));
        client.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    assert_eq!(collector.tally().spans, 0);
    assert!(!collector.wait_for(Instant::now(), |tally| tally.spans > 0));
    collector.resume();
    expect_ok(&mut early);
    expect_ok(&mut late);
    assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.spans == 2));
}

#[test]
fn unix_socket_serves_the_same_and_restarts() {
    let path = env::temp_dir().join(format!("spanring-{}.sock", process::id()));
    let place = Arc::new(super::Path(path.clone()));
    let mut stand = Row::named("status_503").start_on(place, Plan { after: 1, times: 1 }, Mode::Decode).unwrap();
    assert_eq!(stand.collector.url(), format!("unix:{}", path.display()));
    for turn in 0..2 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for status in if turn == 0 { ["200", "503"] } else { ["200", "200"] } {
            client.write_all(&post(&batch(turn, 3).encode_to_vec())).unwrap();
            let head = read_head(&mut client);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            client.read_exact(&mut [0; 6][..if status == "503" { 6 } else { 0 }]).unwrap();
        }
        stand.collector.restart().unwrap();
    }
    assert_eq!((stand.collector.tally().spans, stand.met()), (9, 1));
    drop(stand);
    assert!(!fs::exists(path).unwrap());
}

// ---- Counting and decoding.

fn span() -> impl Strategy<Value = Span> {
    let field = vec(any::<u8>(), 0..40);
    (any::<[u8; 16]>(), any::<[u8; 8]>(), ".{0,300}", field, any::<u64>(), any::<u32>()).prop_map(
        |(trace_id, span_id, name, parent_span_id, start_time_unix_nano, flags)| Span {
            trace_id: trace_id.into(),
            span_id: span_id.into(),
            name,
            parent_span_id,
            start_time_unix_nano,
            flags,
            ..Span::default()
        },
    )
}

fn export() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let schema_url = "[a-z]{0,8}";
    let scope_spans = (vec(span(), 0..6), schema_url).prop_map(|(spans, schema_url)| ScopeSpans {
        spans,
        schema_url,
        ..ScopeSpans::default()
    });
    let resource_spans = (vec(scope_spans, 0..4), schema_url).prop_map(|(scope_spans, schema_url)| ResourceSpans {
        scope_spans,
        schema_url,
        ..ResourceSpans::default()
    });
    vec(resource_spans, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn decoded_ids(message: &ExportTraceServiceRequest) -> Vec<[u8; 24]> {
    let scopes = message.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let spans = scopes.flat_map(|scope| &scope.spans);
    spans.map(|span| [&span.trace_id[..], &span.span_id].concat().try_into().unwrap_or_default()).collect()
}

proptest! {
    #[test]
    fn counting_and_decoding_agree(message in export()) {
        let mut counted = vec![];
        for_each_span(&message.encode_to_vec(), |span| counted.push(ids(span).unwrap())).unwrap();
        prop_assert_eq!(counted, decoded_ids(&message));
    }

    #[test]
    fn counting_any_bytes_is_safe_and_never_differs(message in export(), at: usize, byte: u8, cut: usize) {
        let mut bytes = message.encode_to_vec();
        if bytes.is_empty() {
            return Ok(());
        }
        let end = bytes.len();
        bytes[at % end] = byte;
        bytes.truncate(end - cut % (end / 4 + 1));
        let mut spans = 0;
        let counted = for_each_span(&bytes, |span| {
            spans += 1;
            let _ = ids(span);
        });
        if let Ok(message) = ExportTraceServiceRequest::decode(&bytes[..]) {
            // Groups, which prost skips, are the one thing that only prost takes.
            if counted.is_ok() {
                prop_assert_eq!(spans, decoded_spans(&message));
            }
        }
    }

    #[test]
    fn random_bytes_are_counted_without_harm(bytes in vec(any::<u8>(), 0..300)) {
        let mut inside = 0;
        let _ = for_each_span(&bytes, |span| inside += span.len());
        prop_assert!(inside <= bytes.len());
    }
}

fn decoded_spans(message: &ExportTraceServiceRequest) -> usize {
    let scopes = message.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

// ---- Faults.

/// The rows run side by side: most of their time they wait.
#[test]
fn each_fault_shows_as_its_row_says() {
    let failures: Vec<_> = thread::scope(|scope| {
        let start = |row: &'static Row| (row, scope.spawn(|| observe(row)));
        let running: Vec<_> = ROWS.iter().map(start).collect();
        running.into_iter().filter_map(|(row, thread)| thread.join().err().map(|_| row.name)).collect()
    });
    assert_eq!(failures, [""; 0]);
}

fn observe(row: &Row) {
    let name = row.name;
    let mut stand = row.start(row.plan(), Mode::Ids).unwrap();
    if row.shows.end == End::Refused {
        let refused = TcpStream::connect(stand.collector.address().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{name}");
        stand.collector.restart().unwrap();
    } else {
        let spans = if row.shows.end == End::Stuck { 200_000 } else { 1000 };
        watch(row, &stand.collector, &post(&batch(1, spans).encode_to_vec()));
        let is_healed = row.expect.heals_after.is_some() || row.shows.end != End::Kept;
        let wanted = if is_healed { 1 } else { 2 };
        // A client that is stuck does not know whether the collector has come to its script.
        let end = Instant::now() + PATIENCE;
        while stand.met() < wanted && Instant::now() < end {
            thread::yield_now();
        }
        assert_eq!(stand.met(), wanted, "{name}");
    }
    if row.expect.heals_after.is_some() || row.shows.end == End::Refused {
        let before = stand.collector.tally().spans;
        let mut client = connect(&stand.collector);
        client.write_all(&post(&batch(3, 7).encode_to_vec())).unwrap();
        expect_ok(&mut client);
        assert_eq!(stand.collector.tally().spans, before + 7, "{name} does not heal");
    }
    let start = Instant::now();
    stand.collector.stop();
    assert!(start.elapsed() < PATIENCE / 4, "{name} took {:?} to stop", start.elapsed());
}

/// Sends a request and reads on until it is clear that the row ends as it says.
fn watch(row: &Row, collector: &Collector, request: &[u8]) {
    let (name, begin) = (row.name, row.shows.begin);
    let mut client = connect(collector);
    if row.shows.end == End::Stuck {
        client.set_write_timeout(Some(SILENCE)).unwrap();
        assert!(is_timeout(&client.write_all(request).unwrap_err()), "{name} takes a large request");
        client.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(is_timeout(&client.read(&mut [0; 64]).unwrap_err()), "{name} says something");
        return;
    }
    let mut errors = vec![];
    errors.extend(client.write_all(request).err());
    if row.shows.end == End::Silent {
        // On a busy machine it may be silent only because it has not come to this connection.
        assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.requests == 1), "{name} does not read");
    }
    let start = Instant::now();
    let mut seen = read_until(&mut client, begin.len());
    let shown = String::from_utf8_lossy(&seen[..seen.len().min(200)]).into_owned();
    assert!(seen.starts_with(begin), "{name} begins with {shown:?}");
    match row.shows.end {
        End::Kept => {
            client.write_all(&post(&batch(2, 2).encode_to_vec())).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client.read_to_end(&mut seen).unwrap();
            let second: &[u8] =
                if row.expect.heals_after.is_some() || name.ends_with("above_a_limit") { OK } else { begin };
            let is_second = seen.windows(second.len()).rposition(|window| window == second).is_some_and(|at| at > 0);
            assert!(is_second, "{name} does not serve a second request");
        }
        End::Closed => {
            client.read_to_end(&mut seen).unwrap_or_else(|error| panic!("{name} does not close in order: {error}"));
        }
        End::Reset => {
            // A reset is told once: to the next write or to the next read.
            if !begin.is_empty() {
                errors.extend(client.write_all(request).err());
            }
            errors.extend(client.read_to_end(&mut seen).err());
            let is_reset =
                |error: &io::Error| [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind());
            assert!(!errors.is_empty() && errors.iter().all(is_reset), "{name}: {errors:?}");
        }
        End::Silent => {
            client.set_read_timeout(Some(SILENCE)).unwrap();
            let error = client.read_to_end(&mut seen).expect_err(name);
            assert!(is_timeout(&error), "{name} is not silent: {error}");
        }
        End::Slow => {
            client.set_read_timeout(Some(SILENCE)).unwrap();
            let error = client.read_to_end(&mut seen).expect_err(name);
            let (more, time) = ((seen.len() - begin.len()) as u64, start.elapsed());
            assert!(is_timeout(&error) && more <= time.as_secs() + 1, "{name}: {more} bytes in {time:?}, {error}");
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 1, "{name} is silent");
        }
        End::Endless => {
            let more = read_until(&mut client, FLOOD_BYTES).len();
            assert!(more >= FLOOD_BYTES, "{name} ends after {more} bytes");
        }
        End::Refused | End::Stuck => unreachable!("seen above"),
    }
}

#[test]
fn plan_puts_the_fault_between_healthy_requests() {
    let stand = Row::named("status_400").start(Plan { after: 2, times: 1 }, Mode::Ids).unwrap();
    let mut client = connect(&stand.collector);
    for (turn, status) in ["200", "200", "400", "200"].into_iter().enumerate() {
        client.write_all(&post(&batch(turn, 1).encode_to_vec())).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{turn}: {head}");
        let body = if status == "400" { 6 } else { 0 };
        client.read_exact(&mut [0; 6][..body]).unwrap();
    }
    let tally = stand.collector.tally();
    assert_eq!((tally.spans, tally.spans_arrived, stand.met(), stand.delivered()), (3, 4, 1, 3));
}

#[test]
fn partial_success_leaves_out_the_last_spans() {
    for (name, taken) in [("one_span_rejected", 9), ("more_rejected_than_sent", 0), ("negative_number_rejected", 10)] {
        let stand = Row::named(name).start(Plan::forever(), Mode::Ids).unwrap();
        watch_once(&stand, 10);
        assert_eq!(stand.delivered(), taken, "{name}");
    }
}

#[test]
fn limit_on_the_body_lets_smaller_requests_through() {
    let stand = Row::named("status_413_above_a_limit").start(Plan::forever(), Mode::Ids).unwrap();
    let mut client = connect(&stand.collector);
    for (spans, status) in [(1000, "413"), (10, "200"), (1000, "413")] {
        client.write_all(&post(&batch(spans, spans).encode_to_vec())).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{spans}: {head}");
        client.read_exact(&mut [0; 6][..if status == "413" { 6 } else { 0 }]).unwrap();
    }
    assert_eq!(stand.delivered(), 10);
}

#[test]
fn single_bytes_come_in_many_reads_and_cuts_move_through_the_reply() {
    let reads = |client: &mut TcpStream, len: usize| {
        let mut sizes = vec![];
        while sizes.iter().sum::<usize>() < len {
            sizes.push(client.read(&mut [0; 4096]).unwrap());
        }
        sizes
    };
    let whole = watch_once(&Row::named("warning_only").start(Plan::forever(), Mode::Ids).unwrap(), 1).len();
    let stand = Row::named("reply_in_single_bytes").start(Plan::forever(), Mode::Ids).unwrap();
    let mut client = connect(&stand.collector);
    // A client that is held up may find everything at once; it asks again.
    let end = Instant::now() + PATIENCE;
    let mut reads_most = 0;
    while reads_most <= 2 && Instant::now() < end {
        client.write_all(&post(b"")).unwrap();
        reads_most = reads_most.max(reads(&mut client, whole).len());
    }
    assert!(reads_most > 2);

    let stand = Row::named("reply_cut_at_every_place").start(Plan::forever(), Mode::Ids).unwrap();
    let mut client = connect(&stand.collector);
    let wanted: BTreeSet<_> = (1..whole).collect();
    let mut cuts = BTreeSet::new();
    // The same here: it comes round to each cut again.
    let end = Instant::now() + PATIENCE;
    while cuts != wanted && Instant::now() < end {
        client.write_all(&post(b"")).unwrap();
        let sizes = reads(&mut client, whole);
        if sizes.len() == 2 {
            cuts.insert(sizes[0]);
        }
    }
    assert_eq!(cuts, wanted);
}

#[test]
fn rows_have_names_of_their_own_and_name_rules() {
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
    for row in ROWS {
        let is_rule = |rule: &&str| {
            rule.strip_prefix("HTTP-").is_some_and(|number| (1..=18).contains(&number.parse().unwrap_or(0)))
        };
        assert!(!row.rules.is_empty() && row.rules.iter().all(is_rule), "{}", row.name);
        let Expect { delivered, lost, resend, .. } = row.expect;
        let loses = matches!(delivered, Delivered::Nothing | Delivered::AllBut(_) | Delivered::AllIfSentAgain);
        assert_eq!(loses, !lost.is_empty(), "{}: what is not delivered has a cause", row.name);
        assert!(resend != Resend::Required || delivered == Delivered::All, "{}", row.name);
        let never_answers =
            matches!(row.shows.end, End::Silent | End::Stuck | End::Slow) && !row.shows.begin.contains(&b' ');
        let is_unclear = resend == Resend::Allowed && lost == [REJECTED];
        let is_doubtful = never_answers || is_unclear;
        assert_eq!(row.expect.is_doubtful, is_doubtful, "{}: only what is not answered is in doubt", row.name);
        let is_answered = row.shows.begin.starts_with(b"HTTP/1.1 503");
        assert!(!is_answered || !row.expect_without_healing().is_doubtful, "{}", row.name);
    }
}

#[test]
fn verdict_finds_what_is_wrong_with_a_batch() {
    let right = Outcome { accepted: 10, queued: 0, exported: 10, unconfirmed: 0, lost: &[], delivered: 10, resends: 0 };
    let rejected = &[(REJECTED, 10)];
    let lost = Outcome { exported: 0, delivered: 0, lost: rejected, ..right };
    let expect = |name| Row::named(name).expect;
    for (name, outcome, is_right) in [
        ("status_503", right, true),
        ("status_503", Outcome { resends: 3, ..right }, true),
        ("status_503", Outcome { delivered: 9, ..right }, false),
        ("status_503", Outcome { exported: 9, delivered: 9, queued: 1, ..right }, false),
        ("status_503", lost, false),
        ("status_400", lost, true),
        ("status_400", right, false),
        ("status_400", Outcome { resends: 1, ..lost }, false),
        ("status_400", Outcome { lost: &[("lane_full", 10)], ..lost }, false),
        ("status_400", Outcome { lost: &[(REJECTED, 9), ("closed", 1)], ..lost }, false),
        ("status_400", Outcome { lost: &[(REJECTED, 10), ("closed", 0)], ..lost }, true),
        ("garbage", lost, true),
        ("garbage", Outcome { resends: 1, ..right }, true),
        ("garbage", Outcome { exported: 5, delivered: 5, lost: &[(REJECTED, 5)], ..right }, false),
        ("warning_only", Outcome { resends: 1, ..right }, false),
        ("one_span_rejected", Outcome { exported: 9, delivered: 9, lost: &[(PARTIALLY_REJECTED, 1)], ..right }, true),
        ("one_span_rejected", Outcome { exported: 9, delivered: 9, lost: &[(PARTIALLY_REJECTED, 2)], ..right }, false),
        ("close_before_answering", Outcome { exported: 0, unconfirmed: 10, ..right }, false),
    ] {
        assert_eq!(expect(name).verdict(&outcome).is_ok(), is_right, "{name}: {:?}", expect(name).verdict(&outcome));
    }
    // Without healing.
    let unconfirmed = Outcome { exported: 0, unconfirmed: 10, ..right };
    let untold = Row::named("reset_after_taking").expect_without_healing();
    assert!(untold.verdict(&unconfirmed).is_ok(), "it is there, and nobody said so");
    assert!(untold.verdict(&Outcome { unconfirmed: 0, lost: &[(RETRY_EXPIRED, 10)], ..unconfirmed }).is_err());
    let refused = Row::named("status_503").expect_without_healing();
    assert!(refused.verdict(&Outcome { delivered: 0, ..unconfirmed }).is_err(), "each attempt was answered");
}

#[test]
fn dates_are_those_of_the_specification() {
    for (seconds, date) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    ] {
        assert_eq!(http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), date);
    }
}

// ---- Schedules.

/// What is noted is what a client gets, request by request and connection by connection.
#[test]
fn schedule_is_followed_on_each_connection_and_noted() {
    let later = Act::PutOff("503 Service Unavailable", Pause::Seconds(7));
    let scheduled = Scheduled::start(move |asked| match (asked.connection, asked.of_connection) {
        (0, 0) => Turn::of(later),
        (0, _) => Turn { close: Close::Announced, ..Turn::of(Act::TakeAllBut(1)) },
        _ => Turn { close: Close::InBody, ..Turn::of(Act::Take) },
    })
    .unwrap();
    let request = |turn| post(&batch(turn, 3).encode_to_vec());
    let mut client = connect(&scheduled.collector);
    client.write_all(&request(0)).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n"), "{head}");
    let mut no = [0; 6];
    client.read_exact(&mut no).unwrap();
    client.write_all(&request(1)).unwrap();
    let first = all(&mut client);
    assert!(first.contains("HTTP/1.1 200 OK\r\nConnection: close\r\n") && first.contains("too old"), "{first}");
    let mut client = connect(&scheduled.collector);
    client.write_all(&request(0)).unwrap();
    let second = all(&mut client);
    assert!(second.starts_with("HTTP/1.1 200 OK\r\n") && second.contains("Content-Length: 64\r\n"), "{second}");
    let notes = scheduled.notes();
    let seen: Vec<_> = notes.iter().map(|note| (note.connection, note.ids.len(), note.turn.act)).collect();
    assert_eq!(seen, [(0, 3, later), (0, 3, Act::TakeAllBut(1)), (1, 3, Act::Take)]);
    assert_eq!(notes[0].pause_until, notes[0].answering.map(|now| now + Duration::from_secs(7)));
    let tally = scheduled.collector.tally();
    assert_eq!((tally.spans, tally.ids_seen_twice, tally.resends), (5, 0, 1));
}

// ---- The client.

const TYPE: &str = "Content-Type: application/x-protobuf\r\n";

fn connect(collector: &Collector) -> TcpStream {
    let client = TcpStream::connect(collector.address().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

fn decoded(body: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body).unwrap()
}

fn post(body: &[u8]) -> Vec<u8> {
    request("", body)
}

fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /v1/traces HTTP/1.1\r\nHost: a\r\n{TYPE}{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Spans that no batch of another turn has.
fn batch(turn: usize, spans: usize) -> ExportTraceServiceRequest {
    let span = |at: usize| Span {
        trace_id: (turn as u128 + 1).to_be_bytes().into(),
        span_id: (at as u64 + 1).to_be_bytes().into(),
        name: "GET /cart".into(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn expect_ok(client: &mut TcpStream) {
    let mut reply = vec![0; OK.len()];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(String::from_utf8_lossy(&reply), String::from_utf8_lossy(OK));
}

fn read_head(client: &mut impl Read) -> String {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// One request to a collector that keeps the connection, and all that it says.
fn watch_once(stand: &Stand, spans: usize) -> Vec<u8> {
    let mut client = connect(&stand.collector);
    client.write_all(&post(&batch(1, spans).encode_to_vec())).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut reply = vec![];
    client.read_to_end(&mut reply).unwrap();
    reply
}

/// So many bytes, or as many as come before the end or an error.
fn read_until(client: &mut impl Read, bytes: usize) -> Vec<u8> {
    let mut seen = vec![];
    let _ = client.take(bytes as u64).read_to_end(&mut seen);
    seen
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What comes until the collector ends the connection.
fn all(client: &mut TcpStream) -> String {
    let mut bytes = vec![];
    client.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
