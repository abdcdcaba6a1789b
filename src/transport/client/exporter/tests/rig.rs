//! The rig of the exporter's tests: a simulated network, a collector that follows a script, and an account of all that
//! went in.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::transport::{
    client::{
        condition::Condition,
        endpoint::Endpoint,
        exporter::Exporter,
        outcome::{Abandoned, Outcome, RequestEnd},
        request::Whole,
        route::Route,
        settings::Settings,
    },
    driver::{
        Address, Completion, Driver, Moment, Resolver,
        sim::{Network, Peer, Replies, Sim},
    },
    http::{
        gzip::{Compression, decompress},
        head::UserAgent,
        headers::Headers,
    },
};

/// What the collector does with a request.
#[derive(Clone, Debug)]
pub(super) enum Do {
    /// Takes it, and answers after this time.
    Take(Duration),
    /// Takes it, answers and closes, with or without a word.
    TakeAndClose(&'static str),
    /// Takes it, and answers in pieces with rests between them.
    TakeSlowly(Duration),
    /// Answers to a part of it, before the rest has come.
    SayEarly(u16),
    /// Says this before it was asked, as soon as the connection is open.
    Greet(&'static str),
    /// Takes it, and answers twice.
    TakeAndBabble,
    /// Takes it and throws the connection away.
    TakeAndReset,
    /// Answers with this status, and these headers.
    Say(u16, &'static str),
    /// Takes it, answers with an interim reply at once, and after this time for good.
    TakeAfterInterim(Duration),
    /// Sends these bytes, and closes or stays silent.
    SayRaw(String, bool),
    /// Sends what is no reply.
    Garble,
    /// Reads, and never answers.
    Hold,
    /// Reads no further; on a new connection not even the request.
    Stop,
    Close,
    Reset,
}

/// What the collector has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    /// How many of them the exporter has closed.
    closed: usize,
    /// When each request arrived, whole; by its name.
    pub(super) arrivals: Vec<(u64, Moment)>,
    pub(super) taken: BTreeSet<u64>,
    /// What is done with the next requests; after that all are taken.
    script: VecDeque<Do>,
    /// The name of a request that is always asked to come later.
    poison: Option<u64>,
}

#[derive(Clone, Default)]
pub(super) struct Collector(Arc<Mutex<Seen>>);

impl Collector {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, poison: u64) {
        self.seen().poison = Some(poison);
    }

    pub(super) fn will(&self, script: impl IntoIterator<Item = Do>) {
        self.seen().script = script.into_iter().collect();
    }
}

/// One connection of the collector.
struct Service {
    pub(super) collector: Collector,
    unread: Vec<u8>,
    /// Whether it has ended its side, or hangs.
    is_done: bool,
}

impl Peer for Service {
    fn accepted(&mut self, _: Moment, replies: &mut Replies) {
        let mut seen = self.collector.seen();
        seen.connections += 1;
        match seen.script.front() {
            Some(Do::Stop) => replies.stop_reading(),
            Some(&Do::Greet(words)) => replies.send(words),
            _ => return,
        }
        seen.script.pop_front();
    }

    fn closed(&mut self, _: Moment) {
        self.collector.seen().closed += 1;
    }

    fn received(&mut self, bytes: &[u8], now: Moment, replies: &mut Replies) {
        self.unread.extend(bytes);
        while !self.is_done {
            let Some(head_len) = self.unread.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4) else {
                return;
            };
            let head = std::str::from_utf8(&self.unread[..head_len]).expect("a head is text");
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
            let end = head_len + len.parse::<usize>().expect("a length is a number");
            let is_packed = head.lines().any(|line| line == "content-encoding: gzip");
            let mut seen = self.collector.seen();
            let is_whole = self.unread.len() >= end;
            let is_early = matches!(seen.script.front(), Some(Do::SayEarly(_))) && !is_packed;
            let has_name = self.unread.len() >= head_len + 8;
            if !is_whole && (!is_early || !has_name) {
                return;
            }
            let body = &self.unread[head_len..end.min(self.unread.len())];
            let name = match is_packed {
                true => name_of(&decompress(body, 1 << 20).expect("it is packed as it says")),
                false => name_of(body),
            };
            seen.arrivals.push((name, now));
            let action = match seen.poison == Some(name) {
                true => Do::Say(503, ""),
                false => seen.script.pop_front().unwrap_or(Do::Take(Duration::ZERO)),
            };
            match action {
                Do::SayRaw(ref bytes, _) => bytes.starts_with("HTTP/1.1 200") && seen.taken.insert(name),
                Do::Say(..)
                | Do::SayEarly(_)
                | Do::Greet(_)
                | Do::Garble
                | Do::Hold
                | Do::Stop
                | Do::Close
                | Do::Reset => false,
                _ => seen.taken.insert(name),
            };
            self.unread.drain(..end.min(self.unread.len()));
            self.is_done = !is_whole;
            drop(seen);
            self.act(action, replies);
        }
    }
}

impl Service {
    fn act(&mut self, action: Do, replies: &mut Replies) {
        self.is_done |= !matches!(
            action,
            Do::Take(_) | Do::TakeSlowly(_) | Do::TakeAfterInterim(_) | Do::TakeAndBabble | Do::Say(..)
        );
        match action {
            Do::Take(after) => {
                replies.pause(after);
                replies.send(OK);
            }
            Do::TakeAfterInterim(after) => {
                replies.send("HTTP/1.1 102 Processing\r\n\r\n");
                replies.pause(after);
                replies.send(OK);
            }
            Do::SayRaw(bytes, ends) => {
                replies.send(bytes);
                if ends {
                    replies.end();
                }
            }
            Do::TakeAndClose(word) => {
                replies.send(format!("HTTP/1.1 200 OK\r\n{word}content-length: 0\r\n\r\n"));
                replies.end();
            }
            Do::TakeSlowly(rest) => OK.chunks(7).for_each(|piece| {
                replies.send(piece);
                replies.pause(rest);
            }),
            Do::SayEarly(status) => replies.send(reply(status)),
            Do::TakeAndBabble => replies.send(OK.repeat(2)),
            Do::Say(status, headers) => {
                replies.send(format!("HTTP/1.1 {status} Said\r\n{headers}content-length: 2\r\n\r\nno"));
            }
            Do::Garble => replies.send("SSH-2.0-OpenSSH_9.9\r\n"),
            Do::Hold | Do::Greet(_) => {}
            Do::Stop => replies.stop_reading(),
            Do::Close => replies.end(),
            Do::Reset | Do::TakeAndReset => replies.reset(),
        }
    }
}

fn reply(status: u16) -> String {
    format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n")
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A body is its name, over and over.
fn body(name: u64, len: usize) -> Vec<u8> {
    name.to_be_bytes().into_iter().cycle().take(len.max(8)).collect()
}

/// The name, and a check that every byte is where it was.
fn name_of(body: &[u8]) -> u64 {
    let (first, _) = body.split_first_chunk().expect("a name has eight bytes");
    assert!(body.chunks(8).all(|chunk| first.starts_with(chunk)), "the body of {first:?} came apart");
    u64::from_be_bytes(*first)
}

/// An exporter, its network and its collector, and the account of all that went in.
pub(super) struct Rig {
    pub(super) sim: Sim,
    pub(super) driver: Driver,
    pub(super) exporter: Exporter,
    pub(super) collector: Collector,
    /// What was submitted and has not ended: spans by name.
    pub(super) open: BTreeMap<u64, usize>,
    pub(super) ends: Vec<(u64, RequestEnd)>,
    completions: Vec<Completion>,
    /// Turns in a row in which no time passed and nothing came.
    vain: usize,
    names: u64,
}

pub(super) const PLACE: &str = "10.0.0.1:4318";
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans of a request.
pub(super) const SPANS: usize = 4;
/// Short waits apart that the network needs.
pub(super) const SOON: Duration = Duration::from_millis(50);

pub(super) fn place(text: &str) -> Address {
    Address::Tcp(text.parse::<SocketAddr>().expect("it is an address"))
}

fn listen(sim: &Sim, collector: &Collector, listens: &str) {
    let served = collector.clone();
    sim.listen(place(listens), move || Service { collector: served.clone(), unread: vec![], is_done: false });
}

impl Rig {
    pub(super) fn new(network: Network, connections_max: usize) -> Self {
        Self::at(PLACE, PLACE, network, connections_max)
    }

    /// An exporter to this authority, and a collector at this address.
    pub(super) fn at(authority: &str, listens: &str, network: Network, connections_max: usize) -> Self {
        let endpoint = Endpoint::parse(&format!("http://{authority}/v1/traces")).expect("it is an endpoint");
        Self::on(Route { endpoint, proxy: None }, listens, network, connections_max)
    }

    /// An exporter on this route. Names are looked up by the test: [`Rig::settle`].
    pub(super) fn on(route: Route, listens: &str, network: Network, connections_max: usize) -> Self {
        let seed = network.seed;
        let sim = Sim::new(network);
        let collector = Collector::default();
        listen(&sim, &collector, listens);
        let driver = Driver::sim(&sim);
        let headers = Headers::new(&[]).expect("there are none");
        let head = route.request_head(&headers, &UserAgent::default());
        let settings = Settings {
            connections_max,
            timeout: TIMEOUT,
            stall_timeout: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(30),
            compression: if seed % 7 == 3 { Compression::Gzip } else { Compression::None },
            unix_time: || Duration::from_secs(784_111_777),
            seed,
        };
        let resolver = Resolver::new(driver.waker()).on(|_, _| Ok(()));
        let exporter = Exporter::new(settings, route, head, None, resolver);
        let (open, ends, completions) = (BTreeMap::new(), vec![], vec![]);
        Self { sim, driver, exporter, collector, open, ends, completions, vain: 0, names: 0 }
    }

    pub(super) fn submit(&mut self, len: usize) -> u64 {
        self.names += 1;
        let mut buffer = self.exporter.buffer();
        buffer.body_mut().extend(body(self.names, len));
        self.exporter.submit(buffer, SPANS, self.driver.now());
        self.open.insert(self.names, SPANS);
        self.names
    }

    /// Waits for the exporter to ask for a name's addresses, and answers.
    pub(super) fn settle(&mut self, answer: Result<&str, &str>) {
        self.until(Duration::from_secs(60), |rig| rig.exporter.addresses.is_asking());
        let answer = answer.map(|address| vec![address.parse().expect("it is an address")]).map_err(str::to_owned);
        self.exporter.addresses.resolver.as_ref().expect("there is a name").settle(answer);
    }

    /// One turn, at most until then. Checks what must hold after each.
    pub(super) fn turn(&mut self, until: Moment) {
        let now = self.driver.now();
        let mut outcomes = vec![];
        self.exporter.turn(&mut self.driver, now, &mut outcomes);
        let until = self.exporter.due().map_or(until, |due| due.min(until));
        if let Err(error) = self.driver.wait(Some(until), &mut self.completions) {
            self.driver.fall_back(&error).expect("there is nothing to open");
        }
        let later = self.driver.now();
        self.vain = if later == now && self.completions.is_empty() { self.vain + 1 } else { 0 };
        assert!(self.vain < 4, "turn after turn, and nothing happens: {:?}", self.exporter);
        for completion in mem::take(&mut self.completions) {
            self.exporter.complete(&mut self.driver, completion, later, &mut outcomes);
        }
        for outcome in outcomes {
            self.end(outcome, later);
        }
        assert_eq!(self.exporter.spans(), self.open.values().sum::<usize>(), "spans were forgotten or counted twice");
        assert_eq!(self.exporter.pending(), self.open.len());
    }

    fn end(&mut self, outcome: Outcome, now: Moment) {
        let name = outcome.number;
        let spans = self.open.remove(&name).expect("a request ends once");
        assert_eq!(spans, outcome.spans);
        match &outcome.end {
            RequestEnd::Taken(_) => assert!(self.collector.seen().taken.contains(&name), "{name} was never taken"),
            RequestEnd::Expired(_) => assert!(outcome.took >= TIMEOUT, "{name} was given up after {:?}", outcome.took),
            RequestEnd::TooLarge(large) => {
                assert_eq!(name_of(large), name, "the body comes back as it was");
                if spans > 1 && large.len() > 16 {
                    let mut buffer = self.exporter.buffer();
                    buffer.body_mut().extend(body(name, large.len() / 2));
                    let whole = Whole { number: name, is_doubtful: outcome.is_doubtful };
                    self.exporter.submit_part(whole, buffer, spans / 2, now);
                    self.open.insert(name, spans / 2);
                    return;
                }
            }
            RequestEnd::Quarantined { body, .. } => {
                assert_eq!(name_of(body), name, "the body comes back as it was");
                assert!(outcome.took >= TIMEOUT, "{name} was given up after {:?}", outcome.took);
            }
            RequestEnd::Refused { .. } => {}
        }
        let is_lost = !outcome.is_doubtful && !matches!(outcome.end, RequestEnd::Taken(_));
        assert!(!is_lost || !self.collector.seen().taken.contains(&name), "{name} is lost, and the collector has it");
        self.ends.push((name, outcome.end));
    }

    /// Turns until it holds.
    pub(super) fn until(&mut self, time_max: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.driver.now();
        let limit = start.after(time_max);
        while !holds(self) {
            assert!(self.driver.now() < limit, "not within {time_max:?}: {:?}", self.exporter);
            self.turn(limit);
        }
        self.driver.now().since(start)
    }

    /// The collector is there again.
    pub(super) fn listen(&self) {
        listen(&self.sim, &self.collector, PLACE);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let limit = self.driver.now().after(time);
        while self.driver.now() < limit {
            self.turn(limit);
        }
    }

    pub(super) fn until_all_end(&mut self, time_max: Duration) -> Duration {
        self.until(time_max, |rig| rig.open.is_empty())
    }

    /// Submits requests and has them taken, so that there is a connection that was used.
    pub(super) fn warm_up(&mut self) {
        self.submit(100);
        self.until_all_end(SOON);
        assert_eq!(self.exporter.condition(), &Condition::Fine);
    }

    /// The engine is healthy, whatever it has been through.
    pub(super) fn warm_up_again(&mut self) {
        // A connection that hangs since the bad days may cost a request each, all of its time.
        let taken = self.taken();
        let hung_max = self.exporter.connections();
        for tries in 0.. {
            self.submit(100);
            self.until_all_end(Duration::from_secs(60));
            if self.taken() > taken {
                break;
            }
            assert!(
                tries < hung_max && matches!(self.ends.last(), Some((_, RequestEnd::Expired(_)))),
                "{:?}",
                self.ends
            );
        }
        assert_eq!(self.exporter.condition(), &Condition::Fine);
    }

    pub(super) fn arrivals(&self) -> Vec<(u64, Moment)> {
        self.collector.seen().arrivals.clone()
    }

    pub(super) fn taken(&self) -> usize {
        self.ends.iter().filter(|(_, end)| matches!(end, RequestEnd::Taken(_))).count()
    }

    /// Everything is given up: every buffer comes home, and every connection is closed.
    pub(super) fn finish(mut self) {
        assert!(self.exporter.spare.len() <= self.exporter.slots.len() + 2);
        let is_in_use = !self.open.is_empty() || self.ends.is_empty();
        assert!(is_in_use || !self.exporter.spare.is_empty(), "no buffer came home");
        assert!(self.exporter.spare.iter().all(|buffer| buffer.capacity() > 0), "an empty buffer came home");
        let open: usize = self.open.values().sum();
        let now = self.driver.now();
        let there = self.open.iter().filter(|(name, _)| self.collector.seen().taken.contains(name));
        let there: usize = there.map(|(_, spans)| spans).sum();
        let Abandoned { lost, unconfirmed } = self.exporter.abandon(&mut self.driver, now);
        assert_eq!(lost + unconfirmed, open);
        assert!(
            unconfirmed >= there,
            "{there} spans are at the collector, and {unconfirmed} unconfirmed: {lost} are lost"
        );
        assert_eq!((self.exporter.pending(), self.exporter.connections()), (0, 0));
        let limit = now.after(Duration::from_secs(1));
        self.open.clear();
        while self.driver.in_flight() > 0 {
            assert!(self.driver.now() < limit, "operations do not end");
            self.turn(limit);
        }
        let seen = self.collector.seen();
        assert_eq!(seen.connections, seen.closed, "a connection was forgotten");
    }
}

pub(super) fn calm() -> Rig {
    Rig::new(Network::calm(1), 1)
}
