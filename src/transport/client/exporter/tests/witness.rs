//! An account of its own, from nothing but what the exporter tells the driver and what the driver brings: what must
//! hold of every request that leaves, whatever the exporter believes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use super::{
    collector::{Head, spans_of},
    rig::{RETRY_AFTER_MAX, STALL_TIMEOUT, TIMEOUT, UNIX_TIME},
};
use crate::transport::{
    client::exporter::Exporter,
    driver::{Completion, Conn, Event, Moment, is_unheard, sim::Call},
    http::{
        compression::Coding,
        http1::{Progress, Reply, ReplyReader},
        retry_after::RetryAfter,
    },
};

/// What has passed between the exporter and the driver.
#[derive(Debug)]
pub(super) struct Witness {
    lines: Vec<Line>,
    /// Nothing may be sent before this, because the collector asked for it.
    asked_until: Moment,
    /// Spans that an answer was heard for: how many a request with one of them may have from then on.
    spans_max: BTreeMap<u64, usize>,
    /// What the collector has declined.
    declined: Option<Coding>,
    /// Spans of which an attempt was sent whole and ended without an answer, or with one of a gateway.
    doubtful: BTreeSet<u64>,
    /// Spans of which an attempt was sent whole.
    pub(super) sent_whole: BTreeSet<u64>,
    /// When what was sent left first, by its spans, and how long its attempts took that are over.
    begun: BTreeMap<Vec<u64>, (Moment, Duration)>,
    /// The time for all attempts of a request.
    pub(super) timeout: Duration,
    repeats: u64,
    duplicates_max: u64,
    /// Connections in a row that were opened, and closed without a request.
    wasted: usize,
    /// Whether connections may be left without a reason: all is given up.
    pub(super) is_giving_up: bool,
}

/// A connection.
#[derive(Debug)]
struct Line {
    conn: Conn,
    is_up: bool,
    /// Whether the exporter has given it up.
    is_left: bool,
    /// Whether the peer or the driver has.
    is_broken: bool,
    /// Whether it leads to a proxy that makes a tunnel.
    is_tunnel: bool,
    /// Whether a request was sent on it.
    is_used: bool,
    /// Whether more than one was.
    is_used_again: bool,
    /// Whether it brought an answer after which it is not used again: another connection may lead to a better server.
    is_sick: bool,
    attempt: Option<Attempt>,
}

/// A request on its way.
#[derive(Debug)]
struct Attempt {
    spans: Vec<u64>,
    coding: Coding,
    began: Moment,
    len: usize,
    sent: usize,
    /// Whether the driver has what is unsent.
    is_sending: bool,
    /// Whether the rest could not be sent.
    is_refused: bool,
    reply: ReplyReader,
    /// Whether it is known by the answer what became of it.
    is_certain: bool,
    /// Whether nothing more is heard of it.
    is_over: bool,
}

/// Most connections that one dial tries at the same time: one for each address.
const TRIES_MAX: usize = 16;
/// Most connections that are opened and closed again before the next request is sent.
const WASTED_MAX: usize = 16;
/// How long a peer that takes no more bytes has for its answer.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

impl Attempt {
    /// Whether all of it is sent, or with the driver.
    fn may_be_there(&self) -> bool {
        self.is_sending || self.sent == self.len
    }
}

impl Witness {
    pub(super) fn new() -> Self {
        Self {
            lines: vec![],
            asked_until: Moment::START,
            spans_max: BTreeMap::new(),
            declined: None,
            doubtful: BTreeSet::new(),
            sent_whole: BTreeSet::new(),
            begun: BTreeMap::new(),
            timeout: TIMEOUT,
            repeats: 0,
            duplicates_max: 0,
            wasted: 0,
            is_giving_up: false,
        }
    }

    /// Takes what the exporter told the driver.
    pub(super) fn see(&mut self, calls: Vec<Call>, now: Moment) {
        for call in calls {
            match call {
                Call::Connect(conn) => {
                    self.lines.push(Line {
                        conn,
                        is_up: false,
                        is_left: false,
                        is_broken: false,
                        is_tunnel: false,
                        is_used: false,
                        is_used_again: false,
                        is_sick: false,
                        attempt: None,
                    });
                }
                Call::Send(conn, bytes) => self.see_send(conn, &bytes, now),
                Call::Cancel(conn) => self.see_leave(conn, now),
                Call::Close(conn) => {
                    self.see_leave(conn, now);
                    if let Some(at) = self.line(conn) {
                        let line = self.lines.remove(at);
                        self.wasted += usize::from(line.is_up && !line.is_used && !line.is_broken);
                    }
                }
            }
        }
    }

    /// All connections are gone: the driver has failed.
    pub(super) fn driver_failed(&mut self) {
        self.lines.iter_mut().for_each(|line| line.is_broken = true);
    }

    fn line(&self, conn: Conn) -> Option<usize> {
        self.lines.iter().position(|line| line.conn == conn)
    }

    fn see_send(&mut self, conn: Conn, bytes: &[u8], now: Moment) {
        let at = self.line(conn).expect("it was connected");
        let line = &mut self.lines[at];
        assert!(line.is_up && !line.is_left, "a send on a connection that is no more: {line:?}");
        match &mut line.attempt {
            Some(attempt) => {
                assert!(!attempt.is_over && attempt.sent + bytes.len() == attempt.len, "{attempt:?}");
                attempt.is_sending = true;
            }
            // What a proxy is asked is no request of ours.
            None if bytes.starts_with(b"CONNECT ") => line.is_tunnel = true,
            None => self.see_begin(at, bytes, now),
        }
    }

    /// A request leaves.
    fn see_begin(&mut self, at: usize, bytes: &[u8], now: Moment) {
        let head = Head::read(bytes).expect("the head goes in one piece");
        assert_eq!(head.end, bytes.len(), "a request goes in one piece");
        let spans = spans_of(&head.body(bytes));
        let asked = self.asked_until.since(now);
        assert!(now >= self.asked_until, "{spans:?} leave {asked:?} before the time that was asked for");
        assert!(!self.lines[at].is_sick, "{spans:?} leave on a connection that has said 502, 503 or 504");
        assert_ne!(self.declined, Some(head.coding), "{spans:?} are coded as the collector does not take it");
        for span in &spans {
            let spans_max = self.spans_max.get(span).copied().unwrap_or(usize::MAX);
            assert!(spans.len() <= spans_max, "{spans:?} are sent again after an answer that forbids it");
            let mut others = self.lines.iter().filter_map(|line| line.attempt.as_ref());
            let other = others.find(|other| other.spans.contains(span));
            assert!(other.is_none(), "{spans:?} are sent while they are under way: {other:?}");
        }
        if self.is_doubtful(&spans) {
            self.duplicates_max += spans.len() as u64;
        }
        self.repeats += u64::from(self.begun.contains_key(&spans));
        let (_, took) = self.begun.entry(spans.clone()).or_insert((now, Duration::ZERO));
        assert!(*took < self.timeout, "{spans:?} are sent again after attempts of {took:?}");
        self.wasted = 0;
        self.lines[at].is_used_again = mem::replace(&mut self.lines[at].is_used, true);
        self.lines[at].attempt = Some(Attempt {
            spans,
            coding: head.coding,
            began: now,
            len: bytes.len(),
            sent: 0,
            is_sending: true,
            is_refused: false,
            reply: ReplyReader::new(),
            is_certain: false,
            is_over: false,
        });
    }

    /// The exporter leaves a connection: not one that lives, and on which an answer is still to come.
    fn see_leave(&mut self, conn: Conn, now: Moment) {
        let is_excused = self.is_giving_up;
        let Some(at) = self.line(conn) else {
            return;
        };
        let line = &mut self.lines[at];
        line.is_left = true;
        let Some(attempt) = line.attempt.as_mut().filter(|attempt| !attempt.is_over) else {
            return;
        };
        if let Some(reply) = attempt.reply.cut_off() {
            self.answered(at, &reply, now);
        } else {
            let time = now.since(attempt.began);
            let patience = if attempt.is_refused { LAST_WORD_MAX } else { STALL_TIMEOUT };
            let time_in_all = now.since(self.begun[&attempt.spans].0);
            let is_over = time >= patience || time_in_all >= self.timeout;
            assert!(is_excused || line.is_broken || is_over, "left after {time:?}: {attempt:?}");
        }
        self.end(at, now);
    }

    /// Takes what the driver brings, before the exporter does.
    pub(super) fn hear(&mut self, completion: &Completion, now: Moment) {
        let Some(at) = self.line(completion.conn) else {
            return;
        };
        let line = &mut self.lines[at];
        match &completion.event {
            Event::Connected(result) => {
                line.is_up = result.is_ok();
                // A try that was given up may have won all the same.
                line.is_left = false;
            }
            Event::Sent { buffer, result } => {
                if line.is_tunnel {
                    return;
                }
                if line.attempt.is_none() {
                    assert!(line.is_broken, "nothing was sent: {line:?}");
                    self.see_begin(at, buffer, now);
                }
                let attempt = self.lines[at].attempt.as_ref().expect("it was begun");
                let sent = match result {
                    Ok(len) => *len,
                    // The driver failed before it heard: all may have been sent.
                    Err(error) if is_unheard(error) => attempt.len - attempt.sent,
                    Err(_) => 0,
                };
                self.sent(at, sent, now);
            }
            Event::Received { .. } if line.is_left => {}
            Event::Received { buffer, result: Ok(len) } if *len > 0 => self.heard(at, &buffer[..*len], now),
            Event::Received { result, .. } => {
                line.is_broken = true;
                let Some(attempt) = line.attempt.as_mut().filter(|attempt| !attempt.is_over) else {
                    return;
                };
                let whole = if result.is_ok() { attempt.reply.end().ok() } else { None };
                if let Some(reply) = whole.or_else(|| attempt.reply.cut_off()) {
                    self.answered(at, &reply, now);
                }
                self.end(at, now);
            }
        }
    }

    fn sent(&mut self, at: usize, len: usize, now: Moment) {
        let line = &mut self.lines[at];
        let attempt = line.attempt.as_mut().expect("it was begun");
        attempt.is_sending = false;
        attempt.sent += len;
        attempt.is_refused |= len == 0;
        if attempt.sent == attempt.len {
            self.sent_whole.extend(&attempt.spans);
        }
        if attempt.is_over || line.is_left {
            self.end(at, now);
        }
    }

    fn heard(&mut self, at: usize, bytes: &[u8], now: Moment) {
        let is_used_again = self.lines[at].is_used_again;
        let Some(attempt) = self.lines[at].attempt.as_mut().filter(|attempt| !attempt.is_over) else {
            return;
        };
        if attempt.sent == 0 && !attempt.is_refused {
            // No answer to what was not asked.
            return self.end(at, now);
        }
        match attempt.reply.feed(bytes) {
            Ok(Progress { reply: None, .. }) => {}
            Ok(Progress { reply: Some(mut reply), used }) => {
                reply.keeps_alive &= used == bytes.len();
                self.answered(at, &reply, now);
            }
            Err(error) => match attempt.reply.cut_off() {
                Some(reply) => self.answered(at, &reply, now),
                None if error.is_disconnect() => self.end(at, now),
                None => {
                    // What came is no answer, but would come again.
                    self.spans_max.extend(attempt.spans.iter().map(|&span| (span, 0)));
                    // Who has spoken HTTP on the connection may have taken it.
                    attempt.is_certain = error.is_foreign() && !is_used_again;
                    self.end(at, now);
                }
            },
        }
    }

    /// An answer is heard; what it forbids.
    fn answered(&mut self, at: usize, reply: &Reply, now: Moment) {
        let is_used_again = self.lines[at].is_used_again;
        self.lines[at].is_sick = (502..=504).contains(&reply.status);
        let Some(attempt) = &mut self.lines[at].attempt else {
            return;
        };
        let is_success = (200..300).contains(&reply.status);
        let is_sent = attempt.sent == attempt.len;
        // What was not sent cannot have been taken.
        let is_believed = is_sent || !is_success;
        // A gateway that says so does not know what became of the request that it has passed on.
        attempt.is_certain = is_believed && !matches!(reply.status, 502 | 504);
        if is_believed {
            let is_about_coding = reply.status == 415 || reply.body.starts_with(b"unsupported Content-Encoding");
            let spans_max = match reply.status {
                429 | 502 | 503 | 504 => {
                    let asked = match reply.retry_after {
                        Some(RetryAfter::Seconds(seconds)) => Duration::from_secs(seconds),
                        Some(RetryAfter::At(time)) => Duration::from_secs(time).saturating_sub(UNIX_TIME),
                        None => Duration::ZERO,
                    };
                    self.asked_until = self.asked_until.max(now.after(asked.min(RETRY_AFTER_MAX)));
                    usize::MAX
                }
                413 => attempt.spans.len() - 1,
                // The server no longer waited for a request when this one came, and leaves.
                408 if is_used_again && reply.retry_after.is_none() && !reply.keeps_alive => usize::MAX,
                // Coded otherwise. The 400 is a real Collector's.
                400 | 415 if attempt.coding.substitute().is_some() && is_about_coding => {
                    self.declined = Some(attempt.coding);
                    usize::MAX
                }
                _ => 0,
            };
            for &span in &attempt.spans {
                let known = self.spans_max.entry(span).or_insert(usize::MAX);
                *known = spans_max.min(*known);
            }
        }
        self.end(at, now);
    }

    /// Nothing more is heard of the attempt; it ends once the driver has given its bytes back.
    fn end(&mut self, at: usize, now: Moment) {
        let line = &mut self.lines[at];
        if let Some(attempt) = &mut line.attempt {
            attempt.is_over = true;
            if attempt.is_sending {
                return;
            }
            if let Some((_, took)) = self.begun.get_mut(&attempt.spans) {
                *took += now.since(attempt.began);
            }
            if !attempt.is_certain && attempt.sent == attempt.len {
                self.doubtful.extend(&attempt.spans);
            }
        }
        line.attempt = None;
    }

    /// Whether an attempt of these spans was sent whole, and ended without an answer, or with one of a gateway.
    pub(super) fn is_doubtful(&self, spans: &[u64]) -> bool {
        spans.iter().any(|span| self.doubtful.contains(span))
    }

    /// Whether something that was given up is still with the driver, which gives it back by itself.
    pub(super) fn is_ending(&self) -> bool {
        let dials = self.lines.iter().any(|line| line.is_left && !line.is_up);
        dials || self.attempts().any(|attempt| attempt.is_over)
    }

    /// Whether these spans are under way.
    pub(super) fn is_under_way(&self, spans: &[u64]) -> bool {
        self.attempts().any(|attempt| attempt.spans == spans)
    }

    /// Whether the collector may have these spans, as far as anybody can know.
    fn may_be_there(&self, spans: &[u64]) -> bool {
        let is_out = self.attempts().any(|attempt| attempt.spans == spans && attempt.may_be_there());
        is_out || self.is_doubtful(spans)
    }

    /// How many spans of these requests the collector may have.
    pub(super) fn unconfirmed<'a>(&self, requests: impl Iterator<Item = &'a Vec<u64>>) -> usize {
        requests.filter(|spans| self.may_be_there(spans)).map(Vec::len).sum()
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.lines.iter().filter_map(|line| line.attempt.as_ref())
    }

    /// What must hold between two steps.
    pub(super) fn check(&self, exporter: &Exporter) {
        let connections_max = exporter.settings.connections_max;
        let up = self.lines.iter().filter(|line| line.is_up && !line.is_left && !line.is_broken).count();
        let coming = self.lines.iter().filter(|line| !line.is_up && !line.is_left && !line.is_broken).count();
        assert!(up <= connections_max && exporter.connections() <= connections_max, "{up} connections: {exporter:?}");
        assert!(coming <= TRIES_MAX, "{coming} dials: {exporter:?}");
        assert!(self.wasted <= WASTED_MAX, "{} connections were made for nothing: {exporter:?}", self.wasted);
        assert_eq!(exporter.repeats(), self.repeats, "repeats");
        assert_eq!(exporter.duplicates_max(), self.duplicates_max, "spans that may be there twice");
    }
}
