//! The collector of the exporter's tests: it follows a script, and keeps a record of each span that came.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::rig::{SPANS, place};
use crate::transport::{
    driver::{
        Address, Moment,
        sim::{Peer, Replies, Sim},
    },
    http::compression::{Coding, Compression, decompress},
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
    /// The same, with an answer that ends with the connection.
    SayEarlyAndClose(u16),
    /// Says this before it was asked, as soon as the connection is open.
    Greet(&'static str),
    /// Takes it, and answers twice.
    TakeAndBabble,
    /// Takes it and throws the connection away.
    TakeAndReset,
    /// Takes it and answers, and reads nothing more for this time.
    TakeAndDoze(Duration),
    /// Answers with this status, and these headers.
    Say(u16, &'static str),
    /// Takes it, and answers with this status all the same, as a gateway does that loses its upstream's answer.
    TakeAndSay(u16),
    /// Takes it, answers with an interim reply at once, and after this time for good.
    TakeAfterInterim(Duration),
    /// Takes it, and answers with so many interim replies, each after this time, before the one that counts.
    TakeAfterInterims(usize, Duration),
    /// Sends these bytes, and closes or stays silent. One with status 200 is taken.
    SayRaw(String, bool),
    /// Takes it, sends these bytes, and closes or stays silent.
    TakeAndSayRaw(&'static str, bool),
    /// Takes it, and sends a head of an answer with so many bytes of a header, and no end.
    TakeAndSwell(usize),
    /// Sends what is no reply; on a used connection after it has taken the request.
    Garble,
    /// Reads, and never answers.
    Hold,
    /// Reads no further; on a new connection not even the request.
    Stop,
    Close,
    Reset,
}

impl Do {
    fn takes(&self) -> bool {
        match self {
            Self::Take(_)
            | Self::TakeAndClose(_)
            | Self::TakeSlowly(_)
            | Self::TakeAndBabble
            | Self::TakeAndReset
            | Self::TakeAndSay(_)
            | Self::TakeAndDoze(_)
            | Self::TakeAfterInterim(_)
            | Self::TakeAfterInterims(..)
            | Self::TakeAndSayRaw(..)
            | Self::TakeAndSwell(_) => true,
            // Of a whole request.
            Self::SayEarly(status) | Self::SayEarlyAndClose(status) => *status == 200,
            Self::SayRaw(bytes, _) => bytes.starts_with("HTTP/1.1 200"),
            _ => false,
        }
    }

    /// Whether the connection serves requests after this one.
    fn goes_on(&self) -> bool {
        matches!(
            self,
            Self::Take(_)
                | Self::TakeSlowly(_)
                | Self::TakeAfterInterim(_)
                | Self::TakeAfterInterims(..)
                | Self::TakeAndBabble
                | Self::TakeAndDoze(_)
                | Self::Say(..)
                | Self::TakeAndSay(_)
                | Self::TakeAndSayRaw(_, false)
        )
    }
}

/// What the collector has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    /// How many of them the exporter has closed.
    pub(super) closed: usize,
    /// When each request arrived, whole unless it was answered early; by its name.
    pub(super) arrivals: Vec<(u64, Moment)>,
    /// Where the last of them arrived.
    pub(super) last_at: Option<Address>,
    /// How each of them was coded.
    pub(super) codings: Vec<Coding>,
    /// How often each span came in a whole request.
    pub(super) received: BTreeMap<u64, usize>,
    /// How often each span was taken.
    pub(super) taken: BTreeMap<u64, usize>,
    /// Requests of which it took a part for the whole, and said yes: no client can tell, once it has sent the rest.
    pub(super) deceived: BTreeSet<u64>,
    /// Spans that were taken once more, each time.
    pub(super) duplicates: u64,
    /// What is done with the next requests; after that all are taken.
    script: VecDeque<Do>,
    /// The name of a request that is always asked to come later.
    poison: Option<u64>,
    /// What is asked by, or at, to come later always; with which status.
    sick: Option<(Sick, u16)>,
}

/// A part of the collector that fails by itself, while the rest is well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sick {
    /// The connection of this number, from one.
    Connection(usize),
    /// The address.
    Place(&'static str),
}

impl Seen {
    /// Notes a whole request.
    fn note(&mut self, spans: &[u64], is_taken: bool) {
        for &span in spans {
            *self.received.entry(span).or_default() += 1;
            if is_taken {
                let times = self.taken.entry(span).or_default();
                *times += 1;
                self.duplicates += u64::from(*times > 1);
            }
        }
    }
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

    /// From now on this part of it says that, always.
    pub(super) fn sicken(&self, sick: Sick, status: u16) {
        self.seen().sick = Some((sick, status));
    }

    pub(super) fn will(&self, script: impl IntoIterator<Item = Do>) {
        self.seen().script = script.into_iter().collect();
    }

    /// Listens at this address.
    pub(super) fn listen(&self, sim: &Sim, listens: &str) {
        let (collector, at) = (self.clone(), place(listens));
        sim.listen(place(listens), move || Service {
            collector: collector.clone(),
            at: at.clone(),
            number: 0,
            unread: vec![],
            is_used: false,
            is_done: false,
        });
    }
}

/// One connection of the collector.
struct Service {
    collector: Collector,
    /// Where it was accepted, and as which one.
    at: Address,
    number: usize,
    unread: Vec<u8>,
    /// Whether it has answered.
    is_used: bool,
    /// Whether it has ended its side, or hangs.
    is_done: bool,
}

impl Peer for Service {
    fn accepted(&mut self, _: Moment, replies: &mut Replies) {
        let mut seen = self.collector.seen();
        seen.connections += 1;
        self.number = seen.connections;
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
            let Some(head) = Head::read(&self.unread) else {
                return;
            };
            let mut seen = self.collector.seen();
            let is_whole = self.unread.len() >= head.end;
            let is_early = matches!(seen.script.front(), Some(Do::SayEarly(_) | Do::SayEarlyAndClose(_)));
            let has_name = self.unread.len() >= head.len + 8;
            if !is_whole && (head.coding != Coding::Identity || !is_early || !has_name) {
                return;
            }
            let body = head.body(&self.unread);
            let name = name_of(&body);
            seen.arrivals.push((name, now));
            seen.codings.push(head.coding);
            seen.last_at = Some(self.at.clone());
            let sick = seen.sick.filter(|(sick, _)| match sick {
                Sick::Connection(number) => self.number == *number,
                Sick::Place(at) => self.at == place(at),
            });
            let action = match (seen.poison == Some(name), sick) {
                (true, _) => Do::Say(503, ""),
                (false, Some((_, status))) => Do::Say(status, ""),
                (false, None) => seen.script.pop_front().unwrap_or(Do::Take(Duration::ZERO)),
            };
            if is_whole {
                let garbles_later = matches!(action, Do::Garble) && self.is_used;
                seen.note(&spans_of(&body), action.takes() || garbles_later);
            } else if action.takes() {
                seen.deceived.insert(name);
            }
            drop(seen);
            self.is_used = true;
            self.unread.drain(..head.end.min(self.unread.len()));
            self.is_done = !is_whole || !action.goes_on();
            act(action, replies);
        }
    }
}

fn act(action: Do, replies: &mut Replies) {
    let mut say = |bytes: &[u8], ends: bool| {
        replies.send(bytes);
        if ends {
            replies.end();
        }
    };
    match action {
        Do::SayRaw(bytes, ends) => say(bytes.as_bytes(), ends),
        Do::TakeAndSayRaw(bytes, ends) => say(bytes.as_bytes(), ends),
        Do::TakeAndClose(word) => say(format!("HTTP/1.1 200 OK\r\n{word}content-length: 0\r\n\r\n").as_bytes(), true),
        Do::SayEarly(status) | Do::TakeAndSay(status) => say(reply(status).as_bytes(), false),
        Do::SayEarlyAndClose(status) => say(format!("HTTP/1.1 {status} Said\r\n\r\n").as_bytes(), true),
        Do::TakeAndBabble => say(&OK.repeat(2), false),
        Do::TakeAndSwell(len) => say(&[b"HTTP/1.1 200 OK\r\nx: ", &vec![b'x'; len][..]].concat(), false),
        Do::Garble => say(b"SSH-2.0-OpenSSH_9.9\r\n", false),
        Do::Say(status, headers) => {
            say(format!("HTTP/1.1 {status} Said\r\n{headers}content-length: 2\r\n\r\nno").as_bytes(), false);
        }
        Do::Take(after) => {
            replies.pause(after);
            replies.send(OK);
        }
        Do::TakeAfterInterim(after) => {
            replies.send(INTERIM);
            replies.pause(after);
            replies.send(OK);
        }
        Do::TakeAfterInterims(count, rest) => {
            for _ in 0..count {
                replies.pause(rest);
                replies.send(INTERIM);
            }
            replies.send(OK);
        }
        Do::TakeSlowly(rest) => OK.chunks(7).for_each(|piece| {
            replies.send(piece);
            replies.pause(rest);
        }),
        Do::TakeAndDoze(rest) => {
            replies.send(OK);
            replies.stop_reading();
            replies.pause(rest);
            replies.read_on();
        }
        Do::Hold | Do::Greet(_) => {}
        Do::Stop => replies.stop_reading(),
        Do::Close => replies.end(),
        Do::Reset | Do::TakeAndReset => replies.reset(),
    }
}

fn reply(status: u16) -> String {
    format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n")
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const INTERIM: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// The head of a request.
pub(super) struct Head {
    /// Its bytes.
    len: usize,
    /// Where the body ends.
    pub(super) end: usize,
    pub(super) coding: Coding,
}

impl Head {
    /// `None` if it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let len = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..len]).expect("a head is text");
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let body_len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
        let end = len + body_len.parse::<usize>().expect("a length is a number");
        let name = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
        let named = |name| Compression::NAMED.iter().find(|(known, _)| *known == name).expect("it is known here").1;
        Some(Self { len, end, coding: name.map_or(Coding::Identity, |name| named(name).coding(Coding::Identity)) })
    }

    /// The body of this request, as far as it is here, before compression.
    pub(super) fn body(&self, bytes: &[u8]) -> Vec<u8> {
        let sent = &bytes[self.len..self.end.min(bytes.len())];
        match self.coding {
            Coding::Identity => sent.to_vec(),
            coding => decompress(coding, sent, 1 << 20).expect("it is packed as it says"),
        }
    }
}

/// The body of a request: its spans, of about `len` bytes together, one by one longer so that no two parts of a request
/// are of one length. A span is its number, its length, and the last byte of its number over and over.
pub(super) fn body(name: u64, len: usize) -> Vec<u8> {
    let mut body = vec![];
    for at in 0..SPANS {
        let span = name * SPANS as u64 + at as u64;
        let span_len = (len / SPANS).max(SPAN_HEAD) + at;
        body.extend(span.to_be_bytes());
        body.extend(u32::try_from(span_len).expect("it is small").to_be_bytes());
        body.resize(body.len() + span_len - SPAN_HEAD, span.to_be_bytes()[7]);
    }
    body
}

const SPAN_HEAD: usize = 12;

/// The spans and their bytes, after a check that every byte is where it was.
pub(super) fn chunks_of(mut body: &[u8]) -> Vec<(u64, &[u8])> {
    let mut chunks = vec![];
    while let Some((&span, rest)) = body.split_first_chunk() {
        let len = rest.first_chunk().map(|&len| u32::from_be_bytes(len) as usize).filter(|&len| len <= body.len());
        let (chunk, behind) = body.split_at(len.expect("a span has its length"));
        assert!(chunk[SPAN_HEAD..].iter().all(|&byte| byte == span[7]), "span {span:?} came apart");
        chunks.push((u64::from_be_bytes(span), chunk));
        body = behind;
    }
    assert!(body.is_empty(), "{body:?} is no span");
    chunks
}

/// The spans.
pub(super) fn spans_of(body: &[u8]) -> Vec<u64> {
    chunks_of(body).into_iter().map(|(span, _)| span).collect()
}

/// The name of the request that begins so: the number of the whole, for a part.
pub(super) fn name_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(*body.first_chunk().expect("a name has eight bytes")) / SPANS as u64
}

/// The two halves of a body; `None` if it is one span.
pub(super) fn halves(body: &[u8]) -> Option<[Vec<u8>; 2]> {
    let chunks = chunks_of(body);
    let half = |chunks: &[(u64, &[u8])]| chunks.iter().flat_map(|(_, chunk)| chunk.to_vec()).collect();
    let (first, second) = chunks.split_at(chunks.len() / 2);
    (!first.is_empty()).then(|| [half(first), half(second)])
}
