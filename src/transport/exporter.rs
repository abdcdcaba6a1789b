//! One collector: the connections to it, the requests that are on their way, and when to try again.

use std::{collections::VecDeque, mem, time::Duration};

use super::{
    dial::{Leaving, Net},
    driver::{Address, Completion, Driver, Moment, Resolver},
    gzip::{Compression, Gzip, choose, decompress},
    head::{Coding, RequestHead, UserAgent},
    http1::Reply,
    line::{Ending, Greeting, Line, News},
    request::Request,
    retry::{Backoff, Verdict, classify},
    route::Route,
    tls::Tls,
};

/// Most connections to one collector.
pub const CONNECTIONS_MAX: usize = 16;

/// How requests are sent.
#[derive(Debug)]
pub struct Settings {
    /// Connections at a time.
    pub connections_max: usize,
    /// Time for all attempts of one request together, while the collector can be reached.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub compression: Compression,
    /// The time since 1970, for a collector that says until when it wants to be left alone.
    pub unix_time: fn() -> Duration,
    /// Where random numbers start. Equal seeds make equal runs.
    pub seed: u64,
}

/// Sends requests to one collector. It is moved by completions and by time, and does no I/O itself.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    route: Route,
    head: RequestHead,
    tls: Option<Tls>,
    names: Names,
    gzip: Gzip,
    lines: Vec<Line>,
    leaving: Leaving,
    /// Requests that are not being sent, the next first.
    waiting: VecDeque<Request>,
    /// Buffers of requests that are done.
    spare: Vec<Vec<u8>>,
    backoff: Backoff,
    /// Whether the last attempt failed, so that the next is a probe.
    is_in_trouble: bool,
    /// Nothing is sent before this: the collector asked for it, or failed.
    not_before: Moment,
    condition: Condition,
    random: u64,
    /// Requests that were sent again.
    repeats: u64,
    /// Requests that were submitted: the number of the last.
    submitted: u64,
}

/// How the collector does, as far as the last attempt shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Condition {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// It took the last request.
    Fine,
    /// It answers, and wants to be asked again later, or answered in part.
    Troubled(String),
    /// It cannot be reached.
    Unreachable(String),
}

/// The end of a request.
#[derive(Debug)]
pub struct Outcome {
    /// Spans in the request.
    pub spans: usize,
    /// Bytes of the body, before compression.
    pub bytes: usize,
    /// From the first attempt to the end of the last.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a request ended.
#[derive(Debug)]
pub enum End {
    /// The collector took it; what it said.
    Taken(Reply),
    /// It is too large for the collector. The body comes back, as it was before compression.
    TooLarge(Vec<u8>),
    /// The collector does not want it, or answers no HTTP. It must not be sent again (HTTP-06, HTTP-12).
    Refused {
        /// The status of the answer, if it was one.
        status: Option<u16>,
        /// What went wrong, and what to do.
        why: String,
        /// The body of the answer.
        body: Vec<u8>,
    },
    /// The time for all attempts is over; how the last one failed.
    Expired(String),
}

/// Where the peer lives.
#[derive(Debug)]
struct Names {
    addresses: Vec<Address>,
    /// When the addresses were looked up; `None` for those that need no looking up.
    looked_up: Option<Moment>,
    resolver: Option<Resolver>,
    is_asked: bool,
}

/// Addresses that are older are looked up again before the next connection: a service may have moved.
const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(60);
/// A connection beyond the first that had nothing to do for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Buffers that are kept for later.
const SPARE_MAX: usize = CONNECTIONS_MAX + 2;

impl Exporter {
    /// An exporter that knows where to go and has sent nothing. A host name is looked up with `resolver`.
    #[must_use]
    pub fn new(settings: Settings, route: Route, head: RequestHead, tls: Option<Tls>, resolver: Resolver) -> Self {
        let (addresses, resolver) = match route.literal() {
            Some(addresses) => (addresses, None),
            None => (vec![], Some(resolver)),
        };
        let seed = settings.seed;
        Self {
            lines: (0..settings.connections_max.clamp(1, CONNECTIONS_MAX)).map(|_| Line::default()).collect(),
            settings,
            route,
            head,
            tls,
            names: Names { addresses, looked_up: None, resolver, is_asked: false },
            gzip: Gzip::default(),
            leaving: Leaving::default(),
            waiting: VecDeque::new(),
            spare: vec![],
            backoff: Backoff::default(),
            is_in_trouble: false,
            submitted: 0,
            not_before: Moment::START,
            condition: Condition::default(),
            random: seed | 1,
            repeats: 0,
        }
    }

    /// Whether another request may be submitted: each connection has one, and each may have the next one ready.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let busy = self.lines.iter().filter(|line| line.request().is_some()).count();
        // While the collector is in trouble the spans are better off in the lanes.
        let ready = usize::from(!self.is_in_trouble);
        busy + self.waiting.len() < self.lines.len() + ready
    }

    /// A buffer for the next request: the body goes behind what is in it.
    #[must_use]
    pub fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(self.head.len_max(), 0);
        buffer
    }

    /// Takes a request over: a buffer of [`Exporter::buffer`] with a body of so many spans.
    pub fn submit(&mut self, buffer: Vec<u8>, spans: usize, now: Moment) {
        let body = self.head.len_max();
        let plain_len = buffer.len() - body;
        let coding = choose(self.settings.compression, &self.route.endpoint, plain_len);
        let mut buffer = match coding {
            Coding::Identity => buffer,
            Coding::Gzip => {
                let mut compressed = self.buffer();
                self.gzip.compress(&buffer[body..], &mut compressed);
                self.give_back(buffer);
                compressed
            }
        };
        let mut head = Vec::with_capacity(body);
        self.head.write(buffer.len() - body, coding, &mut head);
        let start = body - head.len();
        buffer[start..body].copy_from_slice(&head);
        self.submitted += 1;
        let request = Request {
            number: self.submitted,
            start,
            body,
            end: buffer.len(),
            buffer,
            coding,
            spans,
            plain_len,
            first_sent: None,
            attempts: 0,
            left: self.settings.timeout,
            since: now,
            was_spared: false,
            failure: String::new(),
        };
        self.waiting.push_back(request);
    }

    /// Does what the time demands: sends, connects, gives up.
    pub fn turn(&mut self, driver: &mut Driver, now: Moment, outcomes: &mut Vec<Outcome>) {
        for at in 0..self.lines.len() {
            let mut net = Net { driver: &mut *driver, leaving: &mut self.leaving, now };
            if let Some(news) = self.lines[at].tick(&mut net) {
                self.hear(news, now, outcomes);
            }
        }
        self.expire(now, outcomes);
        self.start(driver, now);
        self.shrink(driver, now);
    }

    /// Takes what the driver says.
    pub fn complete(&mut self, driver: &mut Driver, completion: Completion, now: Moment, outcomes: &mut Vec<Outcome>) {
        let Completion { conn, event } = completion;
        if self.leaving.complete(driver, conn) {
            return;
        }
        let Some(at) = self.lines.iter().position(|line| line.owns(conn)) else {
            return;
        };
        let mut net = Net { driver, leaving: &mut self.leaving, now };
        if let Some(news) = self.lines[at].complete(&mut net, conn, event) {
            self.hear(news, now, outcomes);
        }
    }

    /// When [`Exporter::turn`] has something to do, if nothing happens before.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        let lines = self.lines.iter().filter_map(Line::due);
        let waiting = (!self.waiting.is_empty()).then(|| self.not_before.max(Moment::START));
        let expiry = self.waiting.iter().filter_map(|request| self.expiry(request));
        let surplus = self.lines.iter().filter_map(Line::idle_since).map(|since| since.after(IDLE_MAX));
        let surplus = if self.standing() > 1 { surplus.min() } else { None };
        // A line that waits for its connection, or an answer of the resolver, is woken by the driver.
        let waiting = waiting.filter(|_| !self.is_coming_up());
        lines.chain(waiting).chain(expiry).chain(surplus).min()
    }

    /// Tries at once what waits for a collector that could not be reached: somebody wants to know now.
    pub fn hurry(&mut self) {
        if matches!(self.condition, Condition::Unreachable(_)) {
            self.not_before = Moment::START;
        }
    }

    /// Gives everything up: the spans of all requests that have not ended. Connections are closed.
    pub fn abandon(&mut self, driver: &mut Driver, now: Moment) -> usize {
        let spans = self.spans();
        for line in &mut self.lines {
            line.close(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now });
        }
        self.waiting.clear();
        spans
    }

    /// Spans in requests that have not ended.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.requests().map(|request| request.spans).sum()
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.requests().count()
    }

    /// The number of the last request that was submitted.
    #[must_use]
    pub fn last_submitted(&self) -> u64 {
        self.submitted
    }

    /// The number of the oldest request that has not ended.
    #[must_use]
    pub fn oldest_pending(&self) -> Option<u64> {
        self.requests().map(|request| request.number).min()
    }

    /// Connections that stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.lines.iter().filter(|line| line.is_up()).count()
    }

    /// How the collector does.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Requests that were sent again. Each may have been taken twice, if the answer to the first was lost.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.lines.iter().filter_map(Line::request).chain(&self.waiting)
    }

    fn is_coming_up(&self) -> bool {
        self.names.is_asked || self.lines.iter().any(|line| !line.is_down() && !line.is_up())
    }

    /// Gives waiting requests to idle lines, and connects another line when all are busy.
    fn start(&mut self, driver: &mut Driver, now: Moment) {
        self.look_up(now);
        if !self.waiting.is_empty() && now >= self.not_before {
            self.count_waiting(now);
        }
        while !self.waiting.is_empty() && now >= self.not_before {
            // A collector that failed gets one request to show that it is back.
            if self.is_in_trouble && self.lines.iter().any(|line| line.request().is_some()) {
                return;
            }
            let Some(at) = self.lines.iter().position(|line| line.idle_since().is_some()) else {
                return self.connect(driver, now);
            };
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            self.repeats += u64::from(request.attempts > 0);
            self.lines[at].send(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now }, request);
        }
    }

    /// Connects one more line, unless one is on its way.
    fn connect(&mut self, driver: &mut Driver, now: Moment) {
        if self.is_coming_up() {
            return;
        }
        let Some(at) = self.lines.iter().position(Line::is_down) else {
            return;
        };
        let is_old = self.names.looked_up.is_some_and(|at| now.since(at) > ADDRESSES_AGE_MAX);
        if let Some(resolver) = &mut self.names.resolver
            && (is_old || self.names.addresses.is_empty())
        {
            let (host, port) = self.route.peer();
            resolver.ask(host, port);
            self.names.is_asked = true;
            return;
        }
        let session = match self.tls.as_ref().map(Tls::session).transpose() {
            Ok(session) => session,
            Err(why) => return self.suffer(Condition::Unreachable(why), None, now),
        };
        let greeting = Greeting { tunnel: self.route.tunnel(&UserAgent::default()), session };
        let mut net = Net { driver, leaving: &mut self.leaving, now };
        self.lines[at].dial(&mut net, &self.names.addresses, greeting);
    }

    /// Takes the resolver's answer.
    fn look_up(&mut self, now: Moment) {
        let Some(answer) = self.names.resolver.as_mut().and_then(Resolver::answer) else {
            return;
        };
        self.names.is_asked = false;
        match answer {
            Ok(addresses) => {
                self.names.addresses = addresses.into_iter().map(Address::Tcp).collect();
                self.names.looked_up = Some(now);
            }
            Err(why) => self.suffer(Condition::Unreachable(why), None, now),
        }
    }

    fn shrink(&mut self, driver: &mut Driver, now: Moment) {
        if self.standing() < 2 {
            return;
        }
        let is_surplus = |line: &Line| line.idle_since().is_some_and(|since| now.since(since) >= IDLE_MAX);
        if let Some(at) = self.lines.iter().position(is_surplus) {
            self.lines[at].close(&mut Net { driver, leaving: &mut self.leaving, now });
        }
    }

    fn hear(&mut self, news: News, now: Moment, outcomes: &mut Vec<Outcome>) {
        match news {
            News::Up => {}
            News::Unreachable(why) => {
                // The name may lead elsewhere by now.
                if self.names.resolver.is_some() {
                    self.names.addresses.clear();
                }
                self.suffer(Condition::Unreachable(why), None, now);
            }
            News::Ended(mut request, ending) => {
                request.left = request.left.saturating_sub(now.since(request.since));
                request.since = now;
                self.judge(request, ending, now, outcomes);
            }
        }
    }

    fn judge(&mut self, request: Request, ending: Ending, now: Moment, outcomes: &mut Vec<Outcome>) {
        let reply = match ending {
            Ending::Replied(reply) => reply,
            Ending::Garbled(why) => {
                let end = End::Refused { status: None, why: why.clone(), body: vec![] };
                self.suffer(Condition::Troubled(why), None, now);
                return self.conclude(request, end, now, outcomes);
            }
            Ending::Broken { is_stale: true, .. } if !request.was_spared => {
                return self.waiting.push_front(Request { was_spared: true, ..request });
            }
            Ending::Broken { why, .. } | Ending::Late(why) => {
                self.suffer(Condition::Troubled(why.clone()), None, now);
                return self.try_again(request, why, now, outcomes);
            }
        };
        match classify(&reply) {
            Verdict::Taken | Verdict::TakenUnread => {
                self.recover(Condition::Fine, now);
                self.conclude(request, End::Taken(reply), now, outcomes);
            }
            Verdict::Retry { after } => {
                let why = format!("the collector asks for another try later (status {})", reply.status);
                let after = after.map(|after| after.delay((self.settings.unix_time)()));
                self.suffer(Condition::Troubled(why.clone()), after, now);
                self.try_again(request, why, now, outcomes);
            }
            Verdict::TooLarge => {
                let sent = &request.buffer[request.body..request.end];
                let body = match request.coding {
                    Coding::Identity => sent.to_vec(),
                    Coding::Gzip => {
                        decompress(sent, request.plain_len).expect("it was compressed here, from so many bytes")
                    }
                };
                self.recover(Condition::Fine, now);
                self.conclude(request, End::TooLarge(body), now, outcomes);
            }
            Verdict::Refused { remedy } => {
                let status = reply.status;
                self.recover(Condition::Troubled(format!("status {status}: {remedy}")), now);
                let end = End::Refused { status: Some(status), why: remedy.to_owned(), body: reply.body };
                self.conclude(request, end, now, outcomes);
            }
        }
    }

    /// Notes that the collector answers.
    fn recover(&mut self, condition: Condition, now: Moment) {
        self.backoff.reset();
        self.is_in_trouble = false;
        self.not_before = Moment::START;
        self.note(condition, now);
    }

    /// Notes a failure, and when to try again: never before the collector wants it, and later each time (HTTP-07, HTTP-08).
    fn suffer(&mut self, condition: Condition, after: Option<Duration>, now: Moment) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let pause = self.backoff.next(self.random).max(after.unwrap_or_default());
        self.not_before = self.not_before.max(now.after(pause));
        self.is_in_trouble = true;
        self.note(condition, now);
    }

    fn note(&mut self, condition: Condition, now: Moment) {
        self.count_waiting(now);
        self.condition = condition;
    }

    /// Counts the time that the waiting requests have waited since the last look, if it counts.
    fn count_waiting(&mut self, now: Moment) {
        let is_counting = !matches!(self.condition, Condition::Unreachable(_));
        for request in &mut self.waiting {
            if is_counting && request.first_sent.is_some() {
                request.left = request.left.saturating_sub(now.since(request.since));
            }
            request.since = now;
        }
    }

    fn try_again(&mut self, mut request: Request, why: String, now: Moment, outcomes: &mut Vec<Outcome>) {
        request.failure = why;
        self.waiting.push_front(request);
        self.expire(now, outcomes);
    }

    /// When a waiting request is given up. It never is while the collector cannot be reached: such a request has as much of
    /// a future as the spans in the lanes, and the memory of both is bounded.
    fn expiry(&self, request: &Request) -> Option<Moment> {
        let is_counting = request.first_sent.is_some() && !matches!(self.condition, Condition::Unreachable(_));
        is_counting.then(|| request.since.after(request.left))
    }

    fn expire(&mut self, now: Moment, outcomes: &mut Vec<Outcome>) {
        while let Some(at) =
            self.waiting.iter().position(|request| self.expiry(request).is_some_and(|expiry| now >= expiry))
            && let Some(mut request) = self.waiting.remove(at)
        {
            let why = mem::take(&mut request.failure);
            self.conclude(request, End::Expired(why), now, outcomes);
        }
    }

    fn conclude(&mut self, request: Request, end: End, now: Moment, outcomes: &mut Vec<Outcome>) {
        let took = request.first_sent.map_or(Duration::ZERO, |first| now.since(first));
        outcomes.push(Outcome { spans: request.spans, bytes: request.plain_len, took, end });
        self.give_back(request.buffer);
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }
}
