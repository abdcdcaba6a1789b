//! What a peer may say in place of an answer: each row on each driver, over real sockets. Whatever it is, little memory
//! is used, the ledger is exact, and one line names it.
//!
//! In a process of its own, whose memory is counted.

#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
#[cfg(feature = "tls")]
use rustls::{ServerConnection, StreamOwned};
#[cfg(feature = "tls")]
use spanring::internals::tls::certificates::{Folder, Leaf, VERSIONS, authority, server};
use spanring::{DriverChoice, Export, Ledger, ProxyChoice};

use crate::{
    memory, own_process,
    route::{DRIVERS, PATIENCE, SPANS, Service},
};

/// A peer, and what has to come of it.
struct Row {
    name: &'static str,
    begins: Begins,
    says: fn() -> Vec<u8>,
    then: Then,
    ends: Ends,
    /// What the line names.
    why: &'static str,
}

/// When it speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Begins {
    /// At once.
    Unasked,
    /// After a whole request.
    Asked,
}

/// What follows the first words.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The end of the connection.
    Closes,
    /// Nothing.
    Holds,
    /// This, over and over, as fast as it is taken.
    Floods(fn() -> Vec<u8>),
    /// This, over and over, a byte at a time.
    Drips(fn() -> Vec<u8>),
}

/// What becomes of the spans.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ends {
    /// They are exported: the head says so.
    Taken,
    /// They are lost at once: the answer refuses them, or the peer speaks another protocol.
    Refused,
    /// They are unconfirmed at once: the answer cannot be read.
    Unclear,
    /// They are unconfirmed when the time for all attempts is over.
    Unconfirmed,
    /// They wait for another attempt, and are lost with the shutdown: the collector refused them for now.
    Paused,
    /// They wait for another attempt, and are unconfirmed with the shutdown.
    InDoubt,
    /// One of these: whether the first bytes meet the request is up to the network.
    GivenUp,
    /// They wait until the shutdown, because it is no TLS.
    Waits,
    /// They wait until the shutdown, because the proxy makes no tunnel.
    WaitsForATunnel,
}

use Begins::{Asked, Unasked};
use Ends::{GivenUp, InDoubt, Paused, Refused, Taken, Unclear, Unconfirmed, Waits, WaitsForATunnel};
use Then::{Closes, Drips, Floods, Holds};

const BROKE_OFF: &str = "though the answer broke off";
const UNREAD: &str = "does not answer as a collector does";
const TEXT: &str = "text that is not an HTTP/1 reply: check the endpoint's port";
const BYTES: &str = "bytes that are not an HTTP reply: check the endpoint's port";
const LARGE_HEAD: &str = "the head of the reply has more than 64 headers or 16 KiB";
const HEAD: &str = "the head of the reply is malformed";
const INTERIM: &str = "more than 8 interim replies";
const TLS: &str = "the peer speaks TLS: begin the endpoint with https://";
const HTTP_2: &str = "the peer speaks HTTP/2";
const NO_TLS: &str = "does not speak TLS: use its port for https";
const SLOW: &str = "no answer in time";
const STALLED: &str = "the peer stalled half-way";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // ---- Without an end.
    row("headers_without_end", Asked, || OK.into(), Floods(|| b"X-Fill: x\r\n".repeat(1024)), Unclear, LARGE_HEAD),
    row("header_without_end", Asked, || b"HTTP/1.1 200 OK\r\nX: ".into(), Floods(fill), Unclear, LARGE_HEAD),
    row("status_line_without_end", Asked, || b"HTTP/1.1 200 ".into(), Floods(fill), Unclear, LARGE_HEAD),
    row("interim_replies_without_end", Asked, Vec::new, Floods(hints), Unclear, INTERIM),
    row("body_without_end", Asked, || head(""), Floods(fill), Taken, BROKE_OFF),
    row("chunks_without_end", Asked, || head(CHUNKED), Floods(|| with(b"1000\r\n".into(), &[b'x'; 0x1000]).into_iter().chain(*b"\r\n").collect()), Taken, BROKE_OFF),
    row("chunk_size_without_end", Asked, || head(CHUNKED), Floods(|| vec![b'0'; 64 << 10]), Taken, BROKE_OFF),
    row("chunk_extension_without_end", Asked, || with(head(CHUNKED), b"5;"), Floods(fill), Taken, BROKE_OFF),
    row("trailers_without_end", Asked, || with(head(CHUNKED), b"0\r\n"), Floods(|| b"X: x\r\n".repeat(1024)), Taken, BROKE_OFF),
    row("refusal_without_end", Asked, || b"HTTP/1.1 400 Bad Request\r\n\r\n".into(), Floods(fill), Refused, "status 400"),
    row("excuse_without_end", Asked, || b"HTTP/1.1 503 Busy\r\nRetry-After: 20\r\n\r\n".into(), Floods(fill), Paused, "status 503"),
    row("zeros_without_end", Asked, Vec::new, Floods(|| vec![0; 64 << 10]), Refused, BYTES),
    row("lines_without_end", Asked, Vec::new, Floods(|| b"\r\n".repeat(1024)), Refused, TEXT),

    // ---- One byte after the other, or none.
    row("head_in_drips", Asked, || OK.into(), Drips(fill), Unconfirmed, SLOW),
    row("interim_replies_in_drips", Asked, Vec::new, Drips(hints), Unconfirmed, SLOW),
    row("body_in_drips", Asked, || head("Content-Length: 100000\r\n"), Drips(|| vec![b'x']), Taken, BROKE_OFF),
    row("head_that_stops", Asked, || OK.into(), Holds, InDoubt, STALLED),
    row("body_that_stops", Asked, || with(head("Content-Length: 9\r\n"), b"half"), Holds, Taken, BROKE_OFF),

    // ---- Large, packed, deep.
    row("head_of_64_kib", Asked, || head(&format!("X: {}\r\n", "x".repeat(64 << 10))), Closes, Unclear, LARGE_HEAD),
    row("two_hundred_headers", Asked, || head(&"X: x\r\n".repeat(200)), Closes, Unclear, LARGE_HEAD),
    row("json_of_10_mib", Asked, || sized(JSON, &json()), Closes, Taken, BROKE_OFF),
    row("json_of_10_mib_in_chunks", Asked, || with(head(&[JSON, CHUNKED].concat()), &chunk(&json())), Closes, Taken, BROKE_OFF),
    row("json_of_1_mib", Asked, || sized(JSON, &json()[..1 << 20]), Closes, Taken, UNREAD),
    row("json_60_000_deep", Asked, || sized(JSON, &[b'['; 60_000]), Closes, Taken, UNREAD),
    row("protobuf_of_lengths_beyond_its_end", Asked, || sized("", &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), Closes, Taken, UNREAD),
    row("gzip_bomb", Asked, || sized("Content-Encoding: gzip\r\n", &bomb()), Closes, Taken, UNREAD),
    row("gzip_bomb_in_a_refusal", Asked, || {
        with(b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n".into(), &bomb())
    }, Closes, Refused, "status 400"),
    row("gzip_bomb_as_a_transfer_coding", Asked, || with(head("Transfer-Encoding: gzip, chunked\r\n"), &bomb()), Closes, Unclear, "transfer coding"),
    row("zip_of_unknown_coding", Asked, || sized("Content-Encoding: zip\r\n", b"PK\x03\x04\x14\0\0\0\x08\0"), Closes, Taken, UNREAD),

    // ---- Other protocols.
    row("ssh", Unasked, || b"SSH-2.0-OpenSSH_9.2\r\n".into(), Holds, GivenUp, TEXT),
    row("ssh_after_the_request", Asked, || b"SSH-2.0-OpenSSH_9.2\r\nInvalid SSH identification string.\r\n".into(), Closes, Refused, TEXT),
    row("smtp", Unasked, || b"220 mail.example ESMTP Postfix\r\n".into(), Holds, GivenUp, TEXT),
    row("smtp_after_the_request", Asked, || b"220 mail.example ESMTP\r\n502 5.5.2 Error: command not recognized\r\n".into(), Closes, Refused, TEXT),
    row("redis", Asked, || b"-ERR unknown command 'POST'\r\n".into(), Closes, Refused, TEXT),
    row("mysql", Unasked, || b"J\0\0\0\x0A8.0.36\0\x08\0\0\0".into(), Holds, GivenUp, TEXT),
    row("rtsp", Asked, || b"RTSP/1.0 200 OK\r\n\r\n".into(), Closes, Refused, TEXT),
    row("http_2_settings", Asked, || b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x0F\0\0\0\x06\0\0\x20\0".into(), Closes, Refused, HTTP_2),
    row("http_2_preface", Asked, || b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Closes, Refused, HTTP_2),
    row("http_2_status", Asked, || b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n".into(), Closes, Unclear, "HTTP version"),
    row("tls_alert", Asked, || b"\x15\x03\x03\0\x02\x02\x0A".into(), Closes, Refused, TLS),
    row("tls_hello", Asked, || with(b"\x16\x03\x03\0\x7A\x02\0\0\x76\x03\x03".into(), &[7; 117]), Holds, Refused, TLS),
    row("status_0", Asked, || b"HTTP/1.1 000 No\r\n\r\n".into(), Closes, Unclear, HEAD),
    row("status_of_letters", Asked, || b"HTTP/1.1 OK\r\n\r\n".into(), Closes, Unclear, HEAD),
    row("null_in_a_header", Asked, || head("X: \0\r\n"), Closes, Unclear, HEAD),

    // ---- In place of a handshake.
    row("https_ssh", Unasked, || b"SSH-2.0-OpenSSH_9.2\r\n".into(), Holds, Waits, NO_TLS),
    row("https_smtp", Unasked, || b"220 mail.example ESMTP Postfix\r\n".into(), Holds, Waits, NO_TLS),
    row("https_http_2_settings", Unasked, || b"\0\0\0\x04\0\0\0\0\0".into(), Holds, Waits, NO_TLS),
    row("https_zeros_without_end", Unasked, Vec::new, Floods(|| vec![0; 64 << 10]), Waits, NO_TLS),
    row("https_records_without_end", Unasked, Vec::new, Floods(records), Waits, "breaks the TLS protocol"),

    // ---- In place of a tunnel.
    row("proxy_ssh", Unasked, || b"SSH-2.0-OpenSSH_9.2\r\n".into(), Holds, WaitsForATunnel, TEXT),
    row("proxy_headers_without_end", Asked, || OK.into(), Floods(|| b"X-Fill: x\r\n".repeat(1024)), WaitsForATunnel, LARGE_HEAD),
    row("proxy_interim_replies_without_end", Asked, Vec::new, Floods(hints), WaitsForATunnel, INTERIM),
    row("proxy_refusal_without_end", Asked, || b"HTTP/1.1 403 No\r\n\r\n".into(), Floods(fill), WaitsForATunnel, "status 403"),
    row("proxy_that_goes_on_after_the_tunnel", Asked, || OK.into(), Floods(|| b"\r\n".repeat(1024)), WaitsForATunnel, NO_TLS),
];

const fn row(
    name: &'static str,
    begins: Begins,
    says: fn() -> Vec<u8>,
    then: Then,
    ends: Ends,
    why: &'static str,
) -> Row {
    Row { name, begins, says, then, ends, why }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn head(headers: &str) -> Vec<u8> {
    format!("{OK}{headers}\r\n").into()
}

fn with(mut first: Vec<u8>, second: &[u8]) -> Vec<u8> {
    first.extend_from_slice(second);
    first
}

fn sized(headers: &str, body: &[u8]) -> Vec<u8> {
    with(head(&format!("{headers}Content-Length: {}\r\n", body.len())), body)
}

fn chunk(body: &[u8]) -> Vec<u8> {
    with(with(format!("{:x}\r\n", body.len()).into(), body), b"\r\n0\r\n\r\n")
}

fn fill() -> Vec<u8> {
    vec![b'x'; 64 << 10]
}

fn hints() -> Vec<u8> {
    b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1024)
}

/// Valid, and long.
fn json() -> Vec<u8> {
    let message = "x".repeat(10 << 20);
    format!(r#"{{"partialSuccess":{{"rejectedSpans":"0","errorMessage":"{message}"}}}}"#).into()
}

/// A few KiB that would be 8 MiB.
fn bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::fast());
    gzip.write_all(&vec![0; 8 << 20]).unwrap();
    gzip.finish().unwrap()
}

/// A message of the handshake that is 16 MiB long, in records as long as they may be.
fn records() -> Vec<u8> {
    with(b"\x16\x03\x03\x40\0\x02\xFF\xFF\xFF".into(), &[0; 0x4000 - 4])
}

// ---- The peer.

/// Does the same with each connection.
struct Peer {
    address: SocketAddr,
    wire: Arc<Wire>,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// What its words go through.
struct Wire {
    wrap: Box<dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync>,
    /// The CA of its certificate, if it encrypts.
    certificate: Option<PathBuf>,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// What it says, made before it is said.
struct Words {
    first: Vec<u8>,
    then: Vec<u8>,
}

/// Between two bytes: shorter than what counts as a stall.
const DRIP: Duration = Duration::from_millis(10);

impl Wire {
    fn plain() -> Arc<Self> {
        Arc::new(Self { wrap: Box::new(|socket| Box::new(socket)), certificate: None })
    }

    #[cfg(feature = "tls")]
    fn encrypted(folder: &Folder) -> Arc<Self> {
        let authority = authority("the CA");
        let config = Arc::new(server(&Leaf::new(&authority, &["127.0.0.1"]), VERSIONS[1], None));
        let wrap = move |socket| -> Box<dyn Stream> {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(StreamOwned::new(connection, socket))
        };
        Arc::new(Self { wrap: Box::new(wrap), certificate: Some(folder.write("ca.pem", authority.pem(), 0)) })
    }
}

impl Peer {
    fn start(row: &'static Row, wire: &Arc<Wire>) -> Self {
        let then = match row.then {
            Closes | Holds => vec![],
            Floods(bytes) | Drips(bytes) => bytes(),
        };
        let words = Arc::new(Words { first: (row.says)(), then });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, is_stopping) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (must_stop, through) = (Arc::clone(&is_stopping), Arc::clone(wire));
        let acceptor = thread::spawn(move || {
            thread::scope(|scope| {
                while let Ok((socket, _)) = listener.accept() {
                    if must_stop.load(Relaxed) {
                        break;
                    }
                    let (words, through) = (&words, &through);
                    // It ends when the client has had enough; an error is one way to say so.
                    scope.spawn(move || {
                        socket.set_nodelay(true)?;
                        serve(&mut *(through.wrap)(socket), row, words)
                    });
                }
            });
        });
        Self { address, wire: Arc::clone(wire), is_stopping, acceptor: Some(acceptor) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(mut socket: &mut dyn Stream, row: &Row, words: &Words) -> io::Result<()> {
    if row.begins == Asked {
        read_request(socket)?;
    }
    socket.write_all(&words.first)?;
    match row.then {
        Closes => return Ok(()),
        Holds => {}
        Floods(_) => loop {
            socket.write_all(&words.then)?;
        },
        Drips(_) => {
            for byte in words.then.iter().cycle() {
                socket.write_all(&[*byte])?;
                thread::park_timeout(DRIP);
            }
        }
    }
    // Until the client closes: what it has not read yet would be lost to a reset.
    io::copy(&mut socket, &mut io::sink()).map(drop)
}

fn read_request(mut socket: &mut dyn Stream) -> io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    // There is none for a tunnel.
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |len| len.parse().unwrap());
    io::copy(&mut (&mut socket).take(len), &mut io::sink()).map(drop)
}

// ---- The test.

/// Rows at a time, each on both drivers.
const ROWS_AT_A_TIME: usize = 2;
/// By how much they may grow: twice what an engine takes that is answered well, and less than a body of 4 MiB.
const GROWTH_MAX: usize = ROWS_AT_A_TIME * DRIVERS.len() * (1400 << 10);

#[test]
fn bad_input_costs_little_ends_exactly_and_is_named_in_one_line() {
    own_process::run("bad_input::bad_input_costs_little_ends_exactly_and_is_named_in_one_line", || {
        for rows in rows().chunks(ROWS_AT_A_TIME) {
            let names: Vec<_> = rows.iter().map(|row| row.name).collect();
            let growth = meet_all(rows, &Wire::plain(), meet);
            assert!(growth <= GROWTH_MAX, "{growth} bytes of memory for {names:?}");
        }
    });
}

#[test]
fn shutdown_in_the_middle_of_bad_input_ends_with_an_account() {
    let rows: Vec<_> = rows().into_iter().filter(|row| !matches!(row.then, Closes)).collect();
    for rows in rows.chunks(12) {
        meet_all(rows, &Wire::plain(), |row, driver, peer| {
            let service = start(row, driver, peer, PATIENCE);
            service.record();
            let _ = service.engine.shutdown(Duration::from_millis(50));
            let receipt = service.engine.shutdown(PATIENCE);
            let ledger = receipt.ledger;
            let is_exact = ledger.exported + ledger.unconfirmed + ledger.lost.total() == SPANS;
            ensure(receipt.is_complete() && ledger.is_closed() && is_exact, || format!("{receipt:?}"))
        });
    }
}

/// As they end without it.
#[cfg(feature = "tls")]
#[test]
fn bad_input_inside_of_tls_ends_exactly_and_is_named_in_one_line() {
    let folder = Folder::new();
    let wire = Wire::encrypted(&folder);
    let rows: Vec<_> = ROWS.iter().filter(|row| row.begins == Asked && row.ends != WaitsForATunnel).collect();
    let rows: Vec<_> = rows.into_iter().filter(|row| !matches!(row.then, Closes)).collect();
    for rows in rows.chunks(12) {
        meet_all(rows, &wire, meet);
    }
}

fn rows() -> Vec<&'static Row> {
    ROWS.iter().filter(|row| cfg!(feature = "tls") || !matches!(row.ends, Waits | WaitsForATunnel)).collect()
}

type Meet = fn(&Row, DriverChoice, &Peer) -> Result<(), String>;

/// Does this with the peer of each row, on each driver and at the same time; by how many bytes the process grew.
fn meet_all(rows: &[&'static Row], wire: &Arc<Wire>, meet: Meet) -> usize {
    let peers: Vec<_> = rows.iter().map(|row| Peer::start(row, wire)).collect();
    let failures = Mutex::new(String::new());
    let growth = memory::growth_during(|| {
        thread::scope(|scope| {
            for (row, peer) in rows.iter().zip(&peers) {
                for driver in DRIVERS {
                    let failures = &failures;
                    scope.spawn(move || {
                        if let Err(why) = meet(row, driver, peer) {
                            writeln!(failures.lock().unwrap(), "{} by {driver:?}: {why}", row.name).unwrap();
                        }
                    });
                }
            }
        });
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures}");
    growth
}

/// An engine that exports to such a peer, or through it.
fn start(row: &Row, driver: DriverChoice, peer: &Peer, timeout: Duration) -> Service {
    let Peer { address, wire, .. } = peer;
    let (endpoint, proxy) = match row.ends {
        WaitsForATunnel => ("https://collector.invalid".into(), ProxyChoice::Url(format!("http://{address}"))),
        _ if row.ends == Waits || wire.certificate.is_some() => (format!("https://{address}"), ProxyChoice::Direct),
        _ => (format!("http://{address}"), ProxyChoice::Direct),
    };
    // A drip is no stall.
    let stall_timeout = if let Holds = row.then { Duration::from_millis(100) } else { PATIENCE };
    let certificate = wire.certificate.clone();
    Service::start(driver, Export { timeout, stall_timeout, proxy, certificate, ..Export::to(&endpoint) })
}

/// Exports to such a peer; what is wrong with what comes of it.
fn meet(row: &Row, driver: DriverChoice, peer: &Peer) -> Result<(), String> {
    // Short where nothing but time ends it; the head has to come in it.
    let timeout = match (row.ends, row.then) {
        (Unconfirmed, _) => Duration::from_millis(500),
        (_, Drips(_)) => Duration::from_secs(2),
        _ => PATIENCE,
    };
    let service = start(row, driver, peer, timeout);
    service.record();
    match row.ends {
        Waits | WaitsForATunnel => _ = service.is_down(),
        Paused | InDoubt | GivenUp => service.says(&[row.why]),
        Taken | Refused | Unclear | Unconfirmed => {
            let receipt = service.engine.flush(PATIENCE);
            ensure(receipt.is_complete(), || format!("{receipt:?}"))?;
        }
    }
    let mut lines = service.lines();
    let _ = service.engine.shutdown(Duration::from_millis(10));
    let receipt = service.engine.shutdown(PATIENCE);
    ensure(receipt.is_complete() && receipt.ledger.is_closed(), || format!("{receipt:?}"))?;
    let Ledger { exported, unconfirmed, lost, .. } = receipt.ledger;
    let counted = match row.ends {
        Taken => exported,
        Refused => lost.rejected,
        Unclear | Unconfirmed | InDoubt => unconfirmed,
        GivenUp => lost.rejected + lost.shutdown_deadline + unconfirmed,
        Paused | Waits | WaitsForATunnel => lost.shutdown_deadline,
    };
    let is_exact = counted == SPANS && exported + unconfirmed + lost.total() == SPANS;
    ensure(is_exact, || format!("not {:?}: {:?}", row.ends, receipt.ledger))?;
    // Where there is no io_uring.
    lines.retain(|line| !line.starts_with("exporting to "));
    ensure(lines.first().is_some_and(|line| line.contains(row.why)), || format!("no `{}` in {lines:#?}", row.why))?;
    // A failure that lasts is told, and later what it cost.
    let count = if row.ends == Unconfirmed { 2 } else { 1 };
    let is_short = lines.len() == count && !lines.iter().any(|line| line.contains('\n'));
    ensure(is_short, || format!("{lines:#?}"))
}

fn ensure(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

#[test]
fn rows_have_names_of_their_own() {
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
}
