//! Whole exchanges with a collector behind TLS, on a simulated network.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection};

use super::fixture::{Folder, Leaf, VERSIONS, authority, server, tls};
use crate::transport::{
    driver::{
        Address, Driver, Moment, Resolver,
        sim::{Network, Peer, Replies, Sim},
    },
    endpoint::Endpoint,
    exporter::{Condition, Exporter, Settings},
    gzip::Compression,
    head::{RequestHead, UserAgent},
    headers::Headers,
    outcome::End,
    route::Route,
};

/// How the collector answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    KeepsAlive,
    /// It says farewell in the same piece.
    Closes,
    /// What comes behind the answer is no record of TLS.
    Garbles,
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
    heard: Vec<u8>,
    account: Account,
}

impl Peer for Collector {
    fn received(&mut self, mut bytes: &[u8], _: Moment, replies: &mut Replies) {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).expect("there is room");
            self.connection.process_new_packets().expect("good records");
            // Nothing more for now is an error of this reader.
            let _ = self.connection.reader().read_to_end(&mut self.heard);
        }
        let is_over = self.heard.ends_with(BODY);
        if is_over {
            self.heard.clear();
            self.account.seen().requests += 1;
            self.connection.writer().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("there is room");
            if self.manner == Manner::Closes {
                self.connection.send_close_notify();
            }
        }
        let mut records = vec![];
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).expect("a vector takes all");
        }
        if is_over && self.manner == Manner::Garbles {
            records.extend(b"HTTP/1.1 400 Bad Request");
        }
        if !records.is_empty() {
            replies.send(records);
        }
        if is_over && self.manner != Manner::KeepsAlive {
            replies.end();
        }
    }
}

const PLACE: &str = "10.0.0.1:4318";
const HOST: &str = "10.0.0.1";
/// The end of a request, and long enough for several records.
const BODY: &[u8] = &[b'x'; 40_000];

/// What was seen after three requests, all of which were taken, and how many of them were sent again.
fn three_requests(network: Network, manner: Manner, version: usize) -> (usize, usize, u64) {
    let (authority, folder) = (authority("the CA"), Folder::new());
    let config: Arc<ServerConfig> = server(&Leaf::new(&authority, &[HOST]), VERSIONS[version], None).into();
    let account = Account::default();
    let sim = Sim::new(network);
    let address = Address::Tcp(PLACE.parse::<SocketAddr>().expect("it is an address"));
    let served = account.clone();
    sim.listen(address, move || {
        served.seen().connections += 1;
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("random numbers");
        connection.set_buffer_limit(None);
        Collector { connection, manner, heard: vec![], account: served.clone() }
    });
    let mut driver = Driver::sim(&sim);
    let endpoint = Endpoint::parse(&format!("https://{PLACE}/v1/traces")).expect("it is an endpoint");
    let head = RequestHead::new(&endpoint, None, &Headers::default(), &UserAgent::default());
    let settings = Settings {
        connections_max: 1,
        timeout: Duration::from_secs(10),
        compression: Compression::None,
        unix_time: || Duration::ZERO,
        seed: 1,
    };
    let resolver = Resolver::new(driver.waker());
    let tls = tls(&folder, &authority, HOST);
    let mut exporter = Exporter::new(settings, Route { endpoint, proxy: None }, head, Some(tls), resolver);
    let (mut outcomes, mut completions) = (vec![], vec![]);
    for taken in 1..=3 {
        let mut buffer = exporter.buffer();
        buffer.extend(BODY);
        exporter.submit(buffer, 1, driver.now());
        while exporter.pending() > 0 {
            let now = driver.now();
            exporter.turn(&mut driver, now, &mut outcomes);
            let until = exporter.due().unwrap_or(now.after(Duration::from_secs(60)));
            driver.wait(Some(until), &mut completions).expect("no wait was to fail");
            let now = driver.now();
            for completion in completions.drain(..) {
                exporter.complete(&mut driver, completion, now, &mut outcomes);
            }
        }
        assert_eq!(outcomes.len(), taken);
        assert!(matches!(outcomes[taken - 1].end, End::Taken(_)), "{:?}", outcomes[taken - 1]);
        assert_eq!(exporter.condition(), &Condition::Fine);
    }
    let seen = account.seen();
    (seen.requests, seen.connections, exporter.repeats())
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
