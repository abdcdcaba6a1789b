//! One collector: the connections to it, the requests that are on their way, and when to try again.

use std::{collections::VecDeque, mem, time::Duration};

use super::{
    super::{
        driver::{Completion, Driver, Moment, Resolver},
        http::{
            buffer::RequestBuffer,
            gzip::{Compression, Gzip, decompress},
            head::{Coding, RequestHead, UserAgent},
        },
        tls::TlsSource,
    },
    addresses::Addresses,
    connection::{Change, Greeting},
    dial::{Leaving, Net, NoConnection},
    exchange::ExchangeEnd,
    outcome::{Abandoned, Outcome, RequestEnd},
    request::{Request, Whole},
    retry_gate::RetryGate,
    route::Route,
    slot::Slot,
    verdict::{Verdict, classify},
};

/// Most connections to one collector.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// How requests are sent.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Connections at a time.
    pub connections_max: usize,
    /// Time for all attempts of one request together, while the collector can be reached.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub compression: Compression,
    /// The time since 1970, for a collector that names the time of the next request.
    pub unix_time: fn() -> Duration,
    /// Where random numbers start. Equal seeds make equal runs.
    pub seed: u64,
}

/// Sends requests to one collector. It is moved by completions and by time, and does no I/O itself.
#[derive(Debug)]
pub(crate) struct Exporter {
    settings: Settings,
    route: Route,
    head: RequestHead,
    tls: Option<Box<dyn TlsSource>>,
    addresses: Addresses,
    gzip: Gzip,
    slots: Vec<Slot>,
    leaving: Leaving,
    /// Requests that are not being sent, the next first.
    waiting: VecDeque<Request>,
    /// Memory of requests that are done.
    spare: Vec<Vec<u8>>,
    /// Opens when the next attempt may begin.
    retry_gate: RetryGate,
    /// Whether idle connections are to be closed, because one like them was found broken.
    is_wary: bool,
    /// While one connection is open, no further one is tried before this.
    grow_at: Moment,
    condition: Condition,
    /// During a shutdown, the first of the attempts in a row at which nothing listened on this machine, and the last.
    refused: Option<(Moment, Moment)>,
    is_closing: bool,
    /// Requests that were sent again.
    repeats: u64,
    /// Spans that were sent again though the collector may have had them, each time.
    duplicates_max: u64,
    /// Requests that were submitted: the number of the last.
    submitted: u64,
}

/// The collector's condition at the last attempt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Condition {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// It took the last request.
    Fine,
    /// It asks for another try later, or did not answer in time or in full.
    Troubled(String),
    /// It answers, and refuses: each outcome says so.
    Refusing(String),
    /// It cannot be reached.
    Unreachable(String),
}

/// The next step for a waiting request.
#[derive(Clone, Copy, Debug)]
enum NextMove {
    /// The idle connection in this slot takes it.
    Send(usize),
    /// A connection is made in this slot.
    Connect(usize),
}

/// A connection beyond the first is closed after being idle for this long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// While some connections are open, how long after a failure another one is tried.
const GROW_AGAIN: Duration = Duration::from_secs(10);
/// How long nothing has to listen on this machine before a shutdown stops waiting: what restarts is back by then.
const REFUSED_MAX: Duration = Duration::from_secs(1);
/// How long an answer may take where the time for all attempts is longer than twice that, or has no end.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

impl Exporter {
    /// An exporter that knows where to go and has sent nothing. A host name is looked up with `resolver`.
    #[must_use]
    pub(crate) fn new(
        settings: Settings,
        route: Route,
        head: RequestHead,
        tls: Option<Box<dyn TlsSource>>,
        resolver: Resolver,
    ) -> Self {
        let seed = settings.seed;
        Self {
            slots: (0..settings.connections_max.clamp(1, CONNECTIONS_MAX)).map(|_| Slot::default()).collect(),
            settings,
            addresses: Addresses::new(&route, resolver),
            route,
            head,
            tls,
            gzip: Gzip::default(),
            leaving: Leaving::default(),
            waiting: VecDeque::new(),
            spare: vec![],
            retry_gate: RetryGate::open(seed),
            is_wary: false,
            submitted: 0,
            grow_at: Moment::START,
            condition: Condition::default(),
            refused: None,
            is_closing: false,
            repeats: 0,
            duplicates_max: 0,
        }
    }

    /// Whether another request may be submitted: each connection has one, and each may have the next one ready.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        let busy = self.slots.iter().filter(|slot| slot.request().is_some()).count();
        // While the collector is in trouble the spans are better off in the lanes.
        let ready = usize::from(!self.retry_gate.has_failed());
        busy + self.waiting.len() < self.slots.len() + ready
    }

    /// A buffer for the body of the next request.
    #[must_use]
    pub(crate) fn buffer(&mut self) -> RequestBuffer {
        RequestBuffer::new(self.spare.pop().unwrap_or_default(), &self.head)
    }

    /// Takes over a request: a buffer from [`Exporter::buffer`] whose body has this many spans.
    pub(crate) fn submit(&mut self, buffer: RequestBuffer, spans: usize, now: Moment) {
        self.submitted += 1;
        let request = self.request(self.submitted, buffer, spans, now);
        self.waiting.push_back(request);
    }

    /// Takes over a part of a request that was too large. A flush that waits for the whole waits for its parts. They go
    /// before all others, so that there are never more of them than halvings.
    pub(crate) fn submit_part(&mut self, whole: Whole, buffer: RequestBuffer, spans: usize, now: Moment) {
        let request = self.request(whole.number, buffer, spans, now);
        self.waiting.push_front(Request { is_doubtful: whole.is_doubtful, ..request });
    }

    fn request(&mut self, number: u64, mut buffer: RequestBuffer, spans: usize, now: Moment) -> Request {
        let plain_len = buffer.body().len();
        let coding = self.route.coding(self.settings.compression, plain_len);
        if coding == Coding::Gzip {
            let mut compressed = self.buffer();
            self.gzip.compress(buffer.body(), compressed.body_mut());
            self.give_back(mem::replace(&mut buffer, compressed));
        }
        buffer.write_head(&self.head, coding);
        Request {
            number,
            buffer,
            coding,
            spans,
            plain_len,
            submitted: now,
            first_sent: None,
            attempts: 0,
            left: self.settings.timeout,
            // Half of the time, so that a peer that never answers leaves some for another try, which may reach another
            // peer.
            patience: (self.settings.timeout / 2).min(PATIENCE_MAX),
            since: now,
            failure: String::new(),
            is_out: false,
            is_doubtful: false,
        }
    }

    /// Does what is due now: sends, connects, gives up.
    pub(crate) fn turn(&mut self, driver: &mut Driver, now: Moment, outcomes: &mut Vec<Outcome>) {
        for at in 0..self.slots.len() {
            let mut net = Net { driver: &mut *driver, leaving: &mut self.leaving, now };
            if let Some(change) = self.slots[at].tick(&mut net) {
                self.changed(change, now, outcomes);
            }
        }
        self.expire(now, outcomes);
        self.close_idle(driver, now);
        self.dispatch(driver, now);
    }

    /// Takes a completion of the driver.
    pub(crate) fn complete(
        &mut self,
        driver: &mut Driver,
        completion: Completion,
        now: Moment,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Completion { conn, event } = completion;
        if self.leaving.complete(driver, conn) {
            return;
        }
        let Some(at) = self.slots.iter().position(|slot| slot.owns(conn)) else {
            return;
        };
        let mut net = Net { driver, leaving: &mut self.leaving, now };
        if let Some(change) = self.slots[at].complete(&mut net, conn, event) {
            self.changed(change, now, outcomes);
        }
    }

    /// When [`Exporter::turn`] has something to do, if nothing happens before.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Moment> {
        let slots = self.slots.iter().filter_map(Slot::due);
        // The driver wakes what waits for an exchange to end, a connection to open or the resolver to answer.
        let waiting = self.next_move().map(|next| self.earliest(next));
        let expiry = self.waiting.iter().filter_map(|request| self.expiry(request));
        let surplus = self.slots.iter().filter_map(Slot::idle_since).map(|since| since.after(IDLE_MAX));
        let surplus = if self.connections() > 1 { surplus.min() } else { None };
        slots.chain(waiting).chain(expiry).chain(surplus).chain(self.addresses.due()).min()
    }

    /// Cuts the back-off short, because a flush is waiting; but not a wait that the collector asked for.
    pub(crate) fn hurry(&mut self) {
        self.retry_gate.hurry();
    }

    /// The engine shuts down: makes the best of the time that is left.
    pub(crate) fn begin_closing(&mut self) {
        self.is_closing = true;
        self.hurry();
    }

    /// Whether waiting cannot help: since the shutdown began, nothing has listened on this machine, where that is
    /// certain, for a second; so there were two attempts at least.
    #[must_use]
    pub(crate) fn is_hopeless(&self) -> bool {
        self.refused.is_some_and(|(first, last)| last.since(first) >= REFUSED_MAX)
    }

    /// Gives everything up: the spans of all requests that have not ended. Connections are closed.
    pub(crate) fn abandon(&mut self, driver: &mut Driver, now: Moment) -> Abandoned {
        let unconfirmed = self.doubtful_spans();
        let abandoned = Abandoned { lost: self.spans() - unconfirmed, unconfirmed };
        for slot in &mut self.slots {
            slot.close(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now });
        }
        self.waiting.clear();
        abandoned
    }

    /// Spans in requests that have not ended.
    #[must_use]
    pub(crate) fn spans(&self) -> usize {
        self.requests().map(|request| request.spans).sum()
    }

    /// Of these, spans that the collector may have.
    #[must_use]
    pub(crate) fn doubtful_spans(&self) -> usize {
        self.requests().filter(|request| request.may_be_there()).map(|request| request.spans).sum()
    }

    /// Requests that have not ended.
    #[must_use]
    pub(crate) fn pending(&self) -> usize {
        self.requests().count()
    }

    /// The number of the last request that was submitted.
    #[must_use]
    pub(crate) fn last_submitted(&self) -> u64 {
        self.submitted
    }

    /// The number of the oldest request that has not ended.
    #[must_use]
    pub(crate) fn oldest_pending(&self) -> Option<u64> {
        self.requests().map(|request| request.number).min()
    }

    /// When the oldest request that has not ended was submitted.
    #[must_use]
    pub(crate) fn oldest_since(&self) -> Option<Moment> {
        self.requests().map(|request| request.submitted).min()
    }

    /// Open connections.
    #[must_use]
    pub(crate) fn connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_up()).count()
    }

    /// The collector's condition.
    #[must_use]
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Why the newest certificates are not in use, if they were replaced by files that cannot be used.
    #[must_use]
    pub(crate) fn reload_failure(&self) -> Option<&str> {
        self.tls.as_ref()?.failure()
    }

    /// Requests that were sent again.
    #[must_use]
    pub(crate) fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Spans that were sent again after an attempt that was sent whole and not answered, each time.
    #[must_use]
    pub(crate) fn duplicates_max(&self) -> u64 {
        self.duplicates_max
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter_map(Slot::request).chain(&self.waiting)
    }

    fn is_coming_up(&self) -> bool {
        self.addresses.is_asking() || self.slots.iter().any(|slot| !slot.is_empty() && !slot.is_up())
    }

    /// Gives waiting requests to idle connections, and opens another one when all are busy.
    fn dispatch(&mut self, driver: &mut Driver, now: Moment) {
        if let Err(why) = self.addresses.take_answer(&self.route, now) {
            self.no_connection(why.into(), now);
        }
        if !self.waiting.is_empty() && now >= self.retry_gate.not_before() {
            self.count_waiting(now);
        }
        while let Some(next) = self.next_move()
            && now >= self.earliest(next)
        {
            let at = match next {
                NextMove::Send(at) => at,
                NextMove::Connect(at) => return self.connect(at, driver, now),
            };
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            self.repeats += u64::from(request.attempts > 0);
            self.duplicates_max += if request.is_doubtful { request.spans as u64 } else { 0 };
            self.slots[at].send(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now }, request);
        }
    }

    /// The next step for a waiting request; `None` if none waits, or something else has to end first.
    fn next_move(&self) -> Option<NextMove> {
        if self.waiting.is_empty() {
            return None;
        }
        // A collector that failed gets one request to show that it is back.
        if self.retry_gate.has_failed() && self.slots.iter().any(|slot| slot.request().is_some()) {
            return None;
        }
        if let Some(at) = self.slots.iter().position(|slot| slot.idle_since().is_some()) {
            return Some(NextMove::Send(at));
        }
        let at = self.slots.iter().position(Slot::is_empty).filter(|_| !self.is_coming_up())?;
        Some(NextMove::Connect(at))
    }

    /// When that step may be taken.
    fn earliest(&self, next: NextMove) -> Moment {
        match next {
            NextMove::Connect(_) if self.connections() > 0 => self.retry_gate.not_before().max(self.grow_at),
            _ => self.retry_gate.not_before(),
        }
    }

    /// Opens one more connection.
    fn connect(&mut self, at: usize, driver: &mut Driver, now: Moment) {
        let Some(addresses) = self.addresses.ask(&self.route, now) else {
            return;
        };
        let session = match self.tls.as_mut().map(|source| source.tls().session()).transpose() {
            Ok(session) => session,
            Err(why) => return self.no_connection(why.into(), now),
        };
        let greeting = Greeting { tunnel: self.route.tunnel(&UserAgent::default()), session };
        let mut net = Net { driver, leaving: &mut self.leaving, now };
        self.slots[at].dial(&mut net, addresses, greeting);
    }

    /// Notes that no connection, or no further one, could be made.
    fn no_connection(&mut self, failure: NoConnection, now: Moment) {
        if self.connections() > 0 {
            // The open ones go on carrying the requests.
            self.grow_at = now.after(GROW_AGAIN);
        } else {
            let is_refused = self.is_closing && failure.is_refused_here;
            self.refused = is_refused.then(|| (self.refused.map_or(now, |(first, _)| first), now));
            self.failed(Condition::Unreachable(failure.why), None, now, now);
            if self.is_closing {
                self.retry_gate.hurry();
            }
        }
    }

    /// Closes idle connections: all but one that have been idle for long, and all when they are not to be trusted.
    fn close_idle(&mut self, driver: &mut Driver, now: Moment) {
        let is_wary = mem::take(&mut self.is_wary);
        for at in 0..self.slots.len() {
            let Some(since) = self.slots[at].idle_since() else {
                continue;
            };
            if is_wary || (now.since(since) >= IDLE_MAX && self.connections() > 1) {
                self.slots[at].close(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now });
            }
        }
    }

    fn changed(&mut self, change: Change, now: Moment, outcomes: &mut Vec<Outcome>) {
        match change {
            Change::Up => self.refused = None,
            Change::Unreachable(failure) => {
                self.addresses.forget();
                self.no_connection(failure, now);
            }
            Change::Ended(mut request, end) => {
                let began = mem::replace(&mut request.since, now);
                if !matches!(end, ExchangeEnd::Unwelcome(_)) {
                    request.left = request.left.saturating_sub(now.since(began));
                }
                let is_unanswered = matches!(end, ExchangeEnd::Broken { .. } | ExchangeEnd::Late(_));
                request.is_doubtful |= mem::take(&mut request.is_out) && is_unanswered;
                self.exchange_ended(request, end, began, now, outcomes);
            }
        }
    }

    /// Decides what becomes of a request whose attempt has ended. The attempt began at `began`.
    fn exchange_ended(
        &mut self,
        request: Request,
        end: ExchangeEnd,
        began: Moment,
        now: Moment,
        outcomes: &mut Vec<Outcome>,
    ) {
        let reply = match end {
            ExchangeEnd::Replied(reply) => reply,
            ExchangeEnd::Garbled(why) => {
                let end = RequestEnd::Refused { status: None, why: why.clone(), body: vec![] };
                self.failed(Condition::Refusing(why), None, began, now);
                return self.finish(request, end, now, outcomes);
            }
            ExchangeEnd::Broken { why, is_stale } => {
                self.is_wary = true;
                // The next attempt is over a fresh connection, which is no excuse: this does not go on.
                if !is_stale {
                    self.failed(Condition::Troubled(why.clone()), None, began, now);
                }
                return self.try_again(request, why);
            }
            ExchangeEnd::Unwelcome(why) => {
                self.failed(Condition::Unreachable(why.clone()), None, began, now);
                return self.try_again(request, why);
            }
            ExchangeEnd::Late(why) => {
                self.is_wary = true;
                self.failed(Condition::Troubled(why.clone()), None, began, now);
                return self.try_again(request, why);
            }
        };
        match classify(&reply) {
            Verdict::Taken | Verdict::TakenUnread => {
                self.answered(Condition::Fine, now);
                self.finish(request, RequestEnd::Taken(reply), now, outcomes);
            }
            Verdict::Retry { after } => {
                let why = format!("the collector asks for another try later (status {})", reply.status);
                let after = after.map(|after| after.delay((self.settings.unix_time)()));
                self.failed(Condition::Troubled(why.clone()), after, began, now);
                self.try_again(request, why);
            }
            Verdict::TooLarge => {
                let sent = request.buffer.body();
                let body = match request.coding {
                    Coding::Identity => sent.to_vec(),
                    Coding::Gzip => {
                        decompress(sent, request.plain_len).expect("it was compressed here, from so many bytes")
                    }
                };
                self.answered(Condition::Fine, now);
                self.finish(request, RequestEnd::TooLarge(body), now, outcomes);
            }
            Verdict::Refused { remedy } => {
                let status = reply.status;
                self.answered(Condition::Refusing(format!("status {status}: {remedy}")), now);
                let end = RequestEnd::Refused { status: Some(status), why: remedy.to_owned(), body: reply.body };
                self.finish(request, end, now, outcomes);
            }
        }
    }

    /// Notes that the collector answers.
    fn answered(&mut self, condition: Condition, now: Moment) {
        self.retry_gate.succeeded();
        self.note(condition, now);
    }

    /// Notes the failure of an attempt that began at `began`, and the wait that the collector asked for.
    fn failed(&mut self, condition: Condition, after: Option<Duration>, began: Moment, now: Moment) {
        self.retry_gate.failed(after, began, now);
        self.note(condition, now);
    }

    fn note(&mut self, condition: Condition, now: Moment) {
        self.count_waiting(now);
        self.condition = condition;
    }

    /// Takes the time since the last look off what the waiting requests have left, if it counts.
    fn count_waiting(&mut self, now: Moment) {
        let is_counting = !matches!(self.condition, Condition::Unreachable(_));
        for request in &mut self.waiting {
            if is_counting && request.first_sent.is_some() {
                request.left = request.left.saturating_sub(now.since(request.since));
            }
            request.since = now;
        }
    }

    fn try_again(&mut self, mut request: Request, why: String) {
        request.failure = why;
        self.waiting.push_front(request);
    }

    /// When a waiting request is given up: never while the collector cannot be reached. It waits like the spans in the
    /// lanes then, and the memory of both is bounded.
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
            self.finish(request, RequestEnd::Expired(why), now, outcomes);
        }
    }

    fn finish(&mut self, request: Request, end: RequestEnd, now: Moment, outcomes: &mut Vec<Outcome>) {
        let took = request.first_sent.map_or(Duration::ZERO, |first| now.since(first));
        let Request { number, spans, plain_len: bytes, is_doubtful, .. } = request;
        outcomes.push(Outcome { number, spans, bytes, took, end, is_doubtful });
        self.give_back(request.buffer);
    }

    fn give_back(&mut self, buffer: RequestBuffer) {
        // One for each connection, one that is ready, and one to compress into.
        if self.spare.len() < self.slots.len() + 2 {
            self.spare.push(buffer.into_memory());
        }
    }
}

#[cfg(test)]
mod tests;
