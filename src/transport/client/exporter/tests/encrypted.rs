//! Whole exchanges with a collector behind TLS, on a simulated network.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection};

use crate::transport::{
    client::{
        condition::Condition,
        endpoint::Endpoint,
        exporter::Exporter,
        outcome::{Outcome, RequestEnd},
        route::Route,
        settings::Settings,
    },
    driver::{
        Address, Driver, Moment, Resolver,
        sim::{Network, Peer, Replies, Sim},
    },
    http::{compression::Compression, head::UserAgent, headers::Headers},
    tls::fixture::{Leaf, VERSIONS, authority, server, tls},
};

/// How the collector answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    KeepsAlive,
    /// It says farewell in the same piece.
    Closes,
    /// What comes after the answer is no record of TLS.
    Garbles,
    /// What comes instead of an answer is no record of TLS.
    Breaks,
    /// What comes instead of an answer is an alert: its session has failed.
    Fails,
    /// It closes without an answer, and with a farewell or without one.
    Leaves(bool),
    /// It says something as soon as it may, before it is asked.
    Greets(&'static [u8]),
    /// What comes after its handshake, in the same piece, is no record of TLS.
    Stammers,
    /// It says farewell after its handshake, in the same piece.
    Dismisses,
    /// It never says a word.
    Hangs,
    /// It says one byte a second.
    Drips,
}

/// What a collector has seen.
#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    requests: usize,
}

#[derive(Clone, Default)]
struct Account(Arc<Mutex<Seen>>);

impl Account {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Collector {
    connection: ServerConnection,
    manner: Manner,
    has_greeted: bool,
    heard: Vec<u8>,
    account: Account,
}

impl Peer for Collector {
    fn received(&mut self, mut bytes: &[u8], _: Moment, replies: &mut Replies) {
        if self.manner == Manner::Hangs {
            return;
        }
        let mut is_refused = false;
        while !bytes.is_empty() && !is_refused {
            self.connection.read_tls(&mut bytes).expect("there is room");
            is_refused = self.connection.process_new_packets().is_err();
            // Nothing more for now is an error of this reader.
            let _ = self.connection.reader().read_to_end(&mut self.heard);
        }
        let is_over = self.heard.ends_with(BODY);
        if is_over {
            self.heard.clear();
            self.account.seen().requests += 1;
            if !matches!(self.manner, Manner::Breaks | Manner::Fails | Manner::Leaves(_)) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                self.connection.writer().write_all(answer).expect("there is room");
            }
            if matches!(self.manner, Manner::Closes | Manner::Leaves(true)) {
                self.connection.send_close_notify();
            }
            if self.manner == Manner::Fails {
                // A record that no key opens: the alert is `BadRecordMac`.
                self.connection
                    .read_tls(&mut &*[&b"\x17\x03\x03\x00\x20"[..], &[7; 32]].concat())
                    .expect("there is room");
                self.connection.process_new_packets().expect_err("it is no record");
            }
        }
        let mut records = vec![];
        let is_up = !self.connection.is_handshaking();
        let greets = match self.manner {
            Manner::Greets(words) if !self.has_greeted => {
                self.connection.writer().write_all(words).expect("there is room");
                true
            }
            Manner::Dismisses if is_up && !self.has_greeted => {
                self.connection.send_close_notify();
                true
            }
            Manner::Stammers => is_up && !self.has_greeted,
            _ => false,
        };
        self.has_greeted |= greets;
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).expect("a vector takes all");
        }
        if is_over && matches!(self.manner, Manner::Garbles | Manner::Breaks) {
            records.extend(b"HTTP/1.1 400 Bad Request");
        }
        if greets && self.manner == Manner::Stammers {
            records.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        if self.manner == Manner::Drips {
            for &byte in &records {
                replies.send([byte]);
                replies.pause(Duration::from_secs(1));
            }
        } else if !records.is_empty() {
            replies.send(records);
        }
        if is_refused || is_over && !matches!(self.manner, Manner::KeepsAlive | Manner::Greets(_)) {
            replies.end();
        }
    }
}

const PLACE: &str = "10.0.0.1:4318";
const HOST: &str = "10.0.0.1";
/// The end of a request, and long enough for several records.
const BODY: &[u8] = &[b'x'; 40_000];

/// An exporter and its collector behind TLS.
struct Stage {
    driver: Driver,
    exporter: Exporter,
    outcomes: Vec<Outcome>,
    account: Account,
}

impl Stage {
    /// With a collector that wants a certificate of the CA's from its clients, or none.
    fn new(network: Network, manner: Manner, version: usize, wants_certificate: bool) -> Self {
        let authority = authority("the CA");
        let clients = wants_certificate.then_some(&authority);
        let mut config = server(&Leaf::new(&authority, &[HOST]), VERSIONS[version], clients);
        // In TLS 1.3 too the server's first words may come with the last of its handshake.
        config.send_half_rtt_data = true;
        let config: Arc<ServerConfig> = config.into();
        let account = Account::default();
        let sim = Sim::new(network);
        let address = Address::Tcp(PLACE.parse::<SocketAddr>().expect("it is an address"));
        let served = account.clone();
        sim.listen(address, move || {
            served.seen().connections += 1;
            let mut connection = ServerConnection::new(Arc::clone(&config)).expect("random numbers");
            connection.set_buffer_limit(None);
            Collector { connection, manner, has_greeted: false, heard: vec![], account: served.clone() }
        });
        let driver = Driver::sim(&sim);
        let endpoint = Endpoint::parse(&format!("https://{PLACE}/v1/traces")).expect("it is an endpoint");
        let route = Route { endpoint, proxy: None };
        let head = route.request_head(&Headers::default(), &UserAgent::default());
        let settings = Settings {
            connections_max: 1,
            timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(30),
            compression: Compression::None,
            unix_time: || Duration::ZERO,
            seed: 1,
        };
        let resolver = Resolver::new(driver.waker());
        let tls = tls(&authority, HOST);
        let exporter = Exporter::new(settings, route, head, Some(Box::new(tls)), resolver);
        Self { driver, exporter, outcomes: vec![], account }
    }

    fn submit(&mut self) {
        let mut buffer = self.exporter.buffer();
        buffer.body_mut().extend(BODY);
        self.exporter.submit(buffer, 1, self.driver.now());
    }

    /// Waits, at most for so long.
    fn turn(&mut self, time: Duration) {
        let now = self.driver.now();
        self.exporter.turn(&mut self.driver, now, &mut self.outcomes);
        let until = now.after(time);
        let until = self.exporter.due().map_or(until, |due| due.min(until));
        let mut completions = vec![];
        self.driver.wait(Some(until), &mut completions).expect("no wait was to fail");
        let now = self.driver.now();
        for completion in completions {
            self.exporter.complete(&mut self.driver, completion, now, &mut self.outcomes);
        }
    }
}

/// What was seen after three requests, all of which were taken, and how many of them were sent again.
fn three_requests(network: Network, manner: Manner, version: usize) -> (usize, usize, u64) {
    let mut stage = Stage::new(network, manner, version, false);
    for taken in 1..=3 {
        stage.submit();
        while stage.exporter.pending() > 0 {
            stage.turn(Duration::from_secs(60));
        }
        assert_eq!(stage.outcomes.len(), taken);
        assert!(matches!(stage.outcomes[taken - 1].end, RequestEnd::Taken(_)), "{:?}", stage.outcomes[taken - 1]);
        assert_eq!(stage.exporter.condition(), &Condition::Fine);
    }
    let seen = stage.account.seen();
    (seen.requests, seen.connections, stage.exporter.repeats())
}

fn networks() -> [Network; 3] {
    let window_bytes = 3_000;
    [
        Network::calm(1),
        Network { window_bytes, ..Network::calm(2) },
        Network { window_bytes, short_per_mille: 300, ..Network::calm(3) },
    ]
}

#[test]
fn one_connection_serves_all_requests() {
    for (version, network) in (0..VERSIONS.len()).flat_map(|version| networks().map(|network| (version, network))) {
        assert_eq!(three_requests(network, Manner::KeepsAlive, version), (3, 1, 0));
    }
}

/// A server that closes often says so in the same segment as its answer.
#[test]
fn answer_that_comes_with_the_farewell_counts() {
    for (version, network) in (0..VERSIONS.len()).flat_map(|version| networks().map(|network| (version, network))) {
        let is_whole = network.short_per_mille == 0;
        let (requests, connections, repeats) = three_requests(network, Manner::Closes, version);
        assert_eq!((requests, connections), (3, 3));
        // A farewell that comes apart from the answer may meet the next request, which then never arrives.
        assert!(repeats == 0 || !is_whole, "{repeats}");
    }
}

#[test]
fn answer_that_comes_before_garbage_counts() {
    for (version, network) in (0..VERSIONS.len()).flat_map(|version| networks().map(|network| (version, network))) {
        let (requests, connections, _) = three_requests(network, Manner::Garbles, version);
        assert_eq!((requests, connections), (3, 3));
    }
}

#[test]
fn handshake_that_hangs_is_given_up_in_time_and_tried_again() {
    for manner in [Manner::Hangs, Manner::Drips] {
        let mut stage = Stage::new(Network::calm(1), manner, 1, false);
        stage.submit();
        stage.turn(Duration::from_secs(1));
        stage.turn(Duration::from_secs(1));
        let obstacle = stage.exporter.obstacle();
        assert!(obstacle.is_some_and(|what| what.contains("TLS handshake is not done")), "{obstacle:?}");
        // Two attempts, with some turns for each, and the waits after them.
        let limit = stage.driver.now().after(Duration::from_secs(12));
        for _ in 0..40 {
            if stage.account.seen().connections < 3 {
                stage.turn(Duration::from_secs(60));
            }
        }
        assert!(stage.account.seen().connections > 2 && stage.driver.now() < limit, "{:?}", stage.exporter);
        let Condition::Unreachable(why) = stage.exporter.condition() else {
            panic!("{:?}", stage.exporter.condition())
        };
        assert!(why.contains("TLS handshake") && why.contains("within 5 s"), "{why}");
        assert_eq!((stage.exporter.pending(), stage.outcomes.len()), (1, 0));
    }
}

/// In TLS 1.3 our side of the handshake is done before the server has looked at it, so the refusal meets the first
/// request.
#[test]
fn refusal_of_the_client_lets_requests_wait_in_both_versions() {
    // So slow that the attempts of ten minutes take longer than a request may.
    let network =
        Network { delay_min: Duration::from_millis(100), delay_max: Duration::from_millis(200), ..Network::calm(1) };
    for version in 0..VERSIONS.len() {
        let mut stage = Stage::new(network.clone(), Manner::KeepsAlive, version, true);
        stage.submit();
        let limit = stage.driver.now().after(Duration::from_secs(600));
        let mut told = 0;
        while stage.driver.now() < limit {
            stage.turn(Duration::from_secs(60));
            match stage.exporter.condition() {
                Condition::Unreachable(why) if why.contains("asks for a client certificate") => told += 1,
                condition => assert_eq!((condition, told), (&Condition::Unknown, 0)),
            }
        }
        assert!(told > 0 && stage.account.seen().connections > 50);
        assert_eq!((stage.exporter.pending(), stage.outcomes.len()), (1, 0));
        assert_eq!(stage.exporter.duplicates_max(), 0, "an alert says that the request was not read");
    }
}

/// A session that ends in any other way than by a refusal says nothing about the request.
#[test]
fn request_that_was_sent_whole_is_unconfirmed_when_the_session_breaks() {
    for (version, network) in (0..VERSIONS.len()).flat_map(|version| networks().map(|network| (version, network))) {
        for manner in [Manner::Breaks, Manner::Fails, Manner::Leaves(true), Manner::Leaves(false)] {
            let mut stage = Stage::new(network.clone(), manner, version, false);
            stage.submit();
            let limit = stage.driver.now().after(Duration::from_secs(20));
            while stage.exporter.pending() > 0 && stage.driver.now() < limit {
                stage.turn(Duration::from_secs(60));
            }
            let requests = stage.account.seen().requests;
            assert!(requests > 1, "{manner:?}: it is sent again");
            let [Outcome { end: RequestEnd::Expired(_), is_doubtful: true, .. }] = stage.outcomes[..] else {
                panic!("{manner:?}: the collector has it {requests} times, {:?}", stage.outcomes);
            };
            assert_eq!(stage.exporter.duplicates_max(), requests as u64 - 1);
        }
    }
}

/// As a gRPC port does. Read as the answer to the first request it would be wrong, and so would be what follows it.
#[test]
fn peer_that_speaks_with_the_end_of_its_handshake_is_not_asked() {
    let cases: [(Manner, usize, &str); 6] = [
        (Manner::Greets(b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0"), 0, "before it was asked: the peer speaks HTTP/2"),
        (Manner::Greets(b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0"), 1, "before it was asked: the peer speaks HTTP/2"),
        (Manner::Greets(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 0, "the peer spoke before it was asked"),
        (Manner::Greets(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 1, "the peer spoke before it was asked"),
        (Manner::Stammers, 0, "breaks the TLS protocol"),
        (Manner::Dismisses, 0, "closed the connection before the first request"),
    ];
    for (manner, version, what) in cases {
        let mut stage = Stage::new(Network::calm(1), manner, version, false);
        stage.submit();
        let limit = stage.driver.now().after(Duration::from_secs(1));
        while stage.exporter.retry_gate.since.is_none() && stage.driver.now() < limit {
            stage.turn(Duration::from_secs(1));
        }
        let Condition::Unreachable(why) = stage.exporter.condition() else {
            panic!("{manner:?}: {:?}", stage.exporter.condition());
        };
        assert!(why.contains(what), "{why}");
        assert_eq!(stage.account.seen().requests, 0, "{manner:?}");
        assert_eq!((stage.exporter.pending(), stage.exporter.doubtful_spans()), (1, 0));
    }
}
