//! One collector: the connections to it, the requests that are on their way, and when to try again.

mod figures;

use std::{mem, time::Duration};

use super::{
    super::{
        driver::{Completion, Driver, Moment, Resolver},
        http::{
            buffer::RequestBuffer,
            compression::Coding,
            head::{RequestHead, UserAgent},
            http1::Reply,
        },
        tls::TlsSource,
    },
    addresses::Addresses,
    coder::Coder,
    condition::Condition,
    connection::{Change, Greeting},
    dial::{Leaving, Net, NoConnection},
    exchange::ExchangeEnd,
    outcome::{Abandoned, Outcome, RequestEnd},
    queue::{Counting, Queue},
    request::{Failures, Request, Whole},
    retry_gate::{HURRY_AFTER, RetryGate},
    route::Route,
    settings::{CONNECTIONS_MAX, Settings},
    slot::{Slot, hangs_from, idle},
    verdict::{Verdict, classify, declines_coding},
};

/// Sends requests to one collector. It is moved by completions and by time, and does no I/O itself.
#[derive(Debug)]
pub(crate) struct Exporter {
    settings: Settings,
    route: Route,
    head: RequestHead,
    tls: Option<Box<dyn TlsSource>>,
    addresses: Addresses,
    coder: Coder,
    slots: Vec<Slot>,
    leaving: Leaving,
    /// Requests that are not being sent, the next first.
    waiting: Queue,
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
    /// The longest back-off while somebody waits.
    pause_max: Option<Duration>,
    /// A pause that the collector does not get, until it is told.
    shortened: Option<Duration>,
    /// Requests that were sent again.
    repeats: u64,
    /// Spans that were sent again though the collector may have had them, each time.
    duplicates_max: u64,
    /// Requests that were submitted: the number of the last.
    submitted: u64,
}

/// The next step for a waiting request, which is this one of them.
#[derive(Clone, Copy, Debug)]
enum NextMove {
    /// The idle connection in this slot takes it.
    Send { request: usize, slot: usize },
    /// A connection for it is made in this slot.
    Connect { request: usize, slot: usize },
}

/// A connection beyond the first is closed after being idle for this long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// While some connections are open, how long after a failure another one is tried.
const GROW_AGAIN: Duration = Duration::from_secs(10);
/// The longest back-off while a flush waits, whose deadline is not known here.
const AWAITED_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long nothing has to listen on this machine before a shutdown stops waiting: what restarts is back by then.
const REFUSED_MAX: Duration = Duration::from_secs(1);

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
            coder: Coder::new(settings.compression),
            settings,
            addresses: Addresses::new(&route, resolver),
            route,
            head,
            tls,
            leaving: Leaving::default(),
            waiting: Queue::default(),
            spare: vec![],
            retry_gate: RetryGate::open(seed),
            is_wary: false,
            submitted: 0,
            grow_at: Moment::START,
            condition: Condition::default(),
            refused: None,
            is_closing: false,
            pause_max: None,
            shortened: None,
            repeats: 0,
            duplicates_max: 0,
        }
    }

    /// Whether another request may be submitted: each connection has one, and one more is ready. It is so while a
    /// request fails, too: whether the request is at fault or the collector, only another one shows.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        let busy = self.slots.iter().filter(|slot| slot.request().is_some()).count();
        busy + self.waiting.len() < self.slots.len() + 1
    }

    /// A buffer for the body of the next request.
    #[must_use]
    pub(crate) fn buffer(&mut self) -> RequestBuffer {
        RequestBuffer::new(self.memory(), &self.head)
    }

    /// Memory of a request that is done, for a body with room for the head before it.
    #[must_use]
    pub(crate) fn memory(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Bytes of the head of a request, at most.
    #[must_use]
    pub(crate) fn head_len_max(&self) -> usize {
        self.head.len_max()
    }

    /// Takes over a request: a buffer with room for the head, whose body has this many spans.
    pub(crate) fn submit(&mut self, buffer: RequestBuffer, spans: usize, now: Moment) {
        self.submitted += 1;
        let request = self.request(self.submitted, buffer, spans, now);
        self.waiting.put_last(request);
    }

    /// Takes over a part of a request that was too large. A flush that waits for the whole waits for its parts. They go
    /// before all others, so that there are never more of them than halvings.
    pub(crate) fn submit_part(&mut self, whole: Whole, buffer: RequestBuffer, spans: usize, now: Moment) {
        let request = self.request(whole.number, buffer, spans, now);
        self.waiting.put_first(Request { is_doubtful: whole.is_doubtful, ..request });
    }

    fn request(&mut self, number: u64, buffer: RequestBuffer, spans: usize, now: Moment) -> Request {
        let plain_len = buffer.body().len();
        let coding = self.coder.coding(&self.route, plain_len);
        Request {
            number,
            buffer: self.coded(coding, buffer),
            coding,
            spans,
            plain_len,
            submitted: now,
            first_sent: None,
            attempts: 0,
            left: self.settings.timeout,
            stall_timeout: self.settings.stall_timeout,
            since: now,
            failures: Failures::default(),
            is_out: false,
            is_doubtful: false,
        }
    }

    /// The body, coded so, and the head in front of it.
    fn coded(&mut self, coding: Coding, mut buffer: RequestBuffer) -> RequestBuffer {
        if coding != Coding::Identity {
            let mut compressed = self.buffer();
            self.coder.code(coding, buffer.body(), compressed.body_mut());
            self.give_back(mem::replace(&mut buffer, compressed));
        }
        buffer.write_head(&self.head, coding);
        buffer
    }

    /// Codes a request once more, if the collector has declined how it is coded.
    fn recode(&mut self, request: &mut Request) {
        if let Some(coding) = self.coder.instead_of(request.coding) {
            let mut plain = self.buffer();
            plain.body_mut().extend(request.plain_body());
            let coded = self.coded(coding, plain);
            self.give_back(mem::replace(&mut request.buffer, coded));
            request.coding = coding;
        }
    }

    /// Does what is due now: sends, connects, gives up.
    pub(crate) fn turn(&mut self, driver: &mut Driver, now: Moment, outcomes: &mut Vec<Outcome>) {
        // A peer is late by what is known of it: this thread may have been stopped since.
        let looked = driver.looked().min(now);
        for at in 0..self.slots.len() {
            let mut net = Net { driver: &mut *driver, leaving: &mut self.leaving, now: looked };
            if let Some(change) = self.slots[at].tick(&mut net) {
                self.changed(at, change, driver, outcomes);
            }
        }
        self.expire(now, outcomes);
        let is_wary = mem::take(&mut self.is_wary);
        self.close_idle(driver, now, |_, _| is_wary);
        self.dispatch(driver, now);
        // After that, because a connection that was made for a request would otherwise be made again, over and over.
        let is_hanging = hangs_from(&self.slots).is_some_and(|from| now >= from);
        self.close_idle(driver, now, |exporter, idle| is_hanging || idle >= IDLE_MAX && exporter.connections() > 1);
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
            self.changed(at, change, driver, outcomes);
        }
    }

    /// When [`Exporter::turn`] has something to do, if nothing happens before.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Moment> {
        let slots = self.slots.iter().filter_map(Slot::due);
        // The driver wakes what waits for an exchange to end, a connection to open or the resolver to answer.
        let waiting = self.next_move(Moment::START).map(|next| self.earliest(next));
        let expiry = self.waiting.expiry(self.counting());
        let surplus = self.slots.iter().filter_map(Slot::idle_since).map(|since| since.after(IDLE_MAX));
        let surplus = if self.connections() > 1 { surplus.min() } else { None };
        let hangs = hangs_from(&self.slots).filter(|_| idle(&self.slots).is_some());
        slots.chain(waiting).chain(expiry).chain(surplus).chain(hangs).chain(self.addresses.due()).min()
    }

    /// Cuts the back-off short for a flush or a shutdown, but not a wait that the collector asked for.
    pub(crate) fn hurry(&mut self) {
        self.shorten(Some(HURRY_AFTER));
    }

    /// Says whether somebody waits, and until when, as far as that is known. The closer the end, the sooner the next
    /// attempt, so that one more fits before it.
    pub(crate) fn awaited(&mut self, is_awaited: bool, deadline: Option<Moment>, now: Moment) {
        let known = deadline.map(|deadline| (deadline.since(now) / 4).max(HURRY_AFTER));
        self.pause_max = known.or(is_awaited.then_some(AWAITED_PAUSE_MAX));
        self.addresses.shorten(self.pause_max);
        self.shorten(self.pause_max);
    }

    fn shorten(&mut self, pause_max: Option<Duration>) {
        if let Some(pause_max) = pause_max {
            self.retry_gate.shorten(pause_max);
            self.waiting.shorten(pause_max);
        }
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

    /// The last pause that was not granted whole.
    pub(crate) fn take_shortened(&mut self) -> Option<Duration> {
        self.shortened.take()
    }

    /// The coding that the collector does not take, once.
    pub(crate) fn take_declined(&mut self) -> Option<Coding> {
        self.coder.take_declined()
    }

    fn is_coming_up(&self) -> bool {
        self.addresses.is_asking() || self.slots.iter().any(|slot| !slot.is_empty() && !slot.is_up())
    }

    /// Gives waiting requests to idle connections, and opens another one when all are busy.
    fn dispatch(&mut self, driver: &mut Driver, now: Moment) {
        match self.addresses.take_answer(&self.route, now) {
            // What failed elsewhere is no reason to wait.
            Ok(true) => self.retry_gate.shorten(Duration::ZERO),
            Ok(false) => {}
            Err(why) => self.no_connection(why.into(), now),
        }
        if !self.waiting.is_empty() && now >= self.retry_gate.not_before() {
            self.waiting.count(self.counting(), now);
        }
        while let Some(next) = self.next_move(now)
            && now >= self.earliest(next)
        {
            let (at, slot) = match next {
                NextMove::Send { request, slot } => (request, slot),
                NextMove::Connect { slot, .. } => return self.connect(slot, driver, now),
            };
            let Some(mut request) = self.waiting.take(at) else {
                return;
            };
            self.recode(&mut request);
            self.repeats += u64::from(request.attempts > 0);
            self.duplicates_max += if request.is_doubtful { request.spans as u64 } else { 0 };
            self.slots[slot].send(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now }, request);
        }
    }

    /// The next step for a waiting request; `None` if none waits, or something else has to end first.
    fn next_move(&self, now: Moment) -> Option<NextMove> {
        let request = self.waiting.next(now)?;
        if let Some(slot) = idle(&self.slots) {
            return Some(NextMove::Send { request, slot });
        }
        let slot = self.slots.iter().position(Slot::is_empty).filter(|_| !self.is_coming_up())?;
        Some(NextMove::Connect { request, slot })
    }

    /// When that step may be taken.
    fn earliest(&self, next: NextMove) -> Moment {
        let (NextMove::Send { request, .. } | NextMove::Connect { request, .. }) = next;
        // A collector that failed gets one request to show that it is back, and another one when that hangs.
        let is_probe = |request: &&Request| self.retry_gate.since.is_some_and(|last| request.since >= last);
        let probes = self.slots.iter().filter_map(Slot::request).filter(is_probe).map(Request::hangs_from);
        let open = self.retry_gate.not_before().max(self.waiting.not_before(request));
        let open = probes.fold(open, Moment::max);
        match next {
            NextMove::Connect { .. } if self.connections() > 0 => open.max(self.grow_at),
            _ => open,
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
                self.retry_gate.shorten(HURRY_AFTER);
            }
        }
    }

    /// Closes the connections that are of no use after being idle for so long.
    fn close_idle(&mut self, driver: &mut Driver, now: Moment, is_useless: impl Fn(&Self, Duration) -> bool) {
        for at in 0..self.slots.len() {
            if self.slots[at].idle_since().is_some_and(|since| is_useless(self, now.since(since))) {
                self.slots[at].close(&mut Net { driver: &mut *driver, leaving: &mut self.leaving, now });
            }
        }
    }

    /// Follows a change of the connection in this slot.
    fn changed(&mut self, at: usize, change: Change, driver: &Driver, outcomes: &mut Vec<Outcome>) {
        let now = driver.now();
        if let Some(peer) = self.slots[at].peer() {
            self.addresses.learn(peer, &change);
        }
        match change {
            Change::Up => self.refused = None,
            Change::Unreachable(mut failure) => {
                self.addresses.doubt(&mut failure);
                self.no_connection(failure, now);
            }
            Change::Ended(mut request, end) => {
                let began = mem::replace(&mut request.since, now);
                if !matches!(end, ExchangeEnd::Unwelcome(_)) {
                    request.left = request.left.saturating_sub(now.since(began));
                }
                request.is_doubtful |= mem::take(&mut request.is_out) && end.leaves_doubt();
                self.exchange_ended(*request, end, began, driver, outcomes);
            }
        }
    }

    /// Decides what becomes of a request whose attempt has ended. The attempt began at `began`.
    fn exchange_ended(
        &mut self,
        mut request: Request,
        end: ExchangeEnd,
        began: Moment,
        driver: &Driver,
        outcomes: &mut Vec<Outcome>,
    ) {
        let now = driver.now();
        match end {
            ExchangeEnd::Replied(reply) => self.replied(request, reply, began, driver, outcomes),
            ExchangeEnd::Garbled { why, .. } => {
                self.failed(Condition::Refusing(why.clone()), None, began, now);
                self.finish(request, RequestEnd::Refused { status: None, why, body: vec![] }, now, outcomes);
            }
            ExchangeEnd::Broken { why, is_stale: true } | ExchangeEnd::Unread(why) => {
                self.is_wary = true;
                // At once: the next attempt is over a fresh connection, where the same failure counts, so this cannot
                // loop.
                request.failures.why = why;
                self.waiting.put_first(request);
            }
            ExchangeEnd::Broken { why, is_stale: false } | ExchangeEnd::Late(why) => {
                self.is_wary = true;
                self.try_again(request, Condition::Troubled(why.clone()), why, None, began, now);
            }
            ExchangeEnd::Unwelcome(why) => {
                self.failed(Condition::Unreachable(why.clone()), None, began, now);
                request.failures.why = why;
                self.waiting.put_first(request);
            }
        }
    }

    /// Decides what becomes of a request that was answered.
    fn replied(
        &mut self,
        mut request: Request,
        reply: Reply,
        began: Moment,
        driver: &Driver,
        outcomes: &mut Vec<Outcome>,
    ) {
        // The driver's clock comes second, so that a date is never taken to be nearer than it is.
        let (unix_time, now) = ((self.settings.unix_time)(), driver.now());
        if declines_coding(&reply) && self.coder.decline(request.coding) {
            // At once: the next attempt is coded otherwise, where the same failure counts, so this cannot loop.
            request.failures.why = format!("the collector does not take its coding (status {})", reply.status);
            return self.waiting.put_first(request);
        }
        match classify(&reply) {
            Verdict::Taken | Verdict::TakenUnread => {
                self.waiting.see_taken(began);
                self.answered(Condition::Fine, began, now);
                self.finish(request, RequestEnd::Taken(reply), now, outcomes);
            }
            Verdict::Retry { after } => {
                let why = format!("the collector asks for another try later (status {})", reply.status);
                let asked = after.map(|after| self.granted(after.delay(unix_time)));
                self.try_again(request, Condition::Troubled(why.clone()), why, asked, began, now);
            }
            Verdict::TooLarge => {
                let body = request.plain_body();
                let asked = reply.retry_after.map(|after| self.granted(after.delay(unix_time)));
                self.retry_gate.asked(asked, now);
                self.answered(Condition::Fine, began, now);
                self.finish(request, RequestEnd::TooLarge(body), now, outcomes);
            }
            Verdict::Refused { remedy } => {
                let status = reply.status;
                self.answered(Condition::Refusing(format!("status {status}: {remedy}")), began, now);
                let end = RequestEnd::Refused { status: Some(status), why: remedy.to_owned(), body: reply.body };
                self.finish(request, end, now, outcomes);
            }
        }
    }

    /// The pause that a collector gets that asks for this one.
    fn granted(&mut self, asked: Duration) -> Duration {
        let max = self.settings.retry_after_max;
        if asked > max {
            self.shortened = Some(asked);
        }
        asked.min(max)
    }

    /// Puts back a request whose attempt has failed. While others are taken it is its own failure, and it waits alone;
    /// otherwise nothing is sent for a while, and then another one first, if there is one: if that is taken, the
    /// collector is well.
    fn try_again(
        &mut self,
        mut request: Request,
        condition: Condition,
        why: String,
        asked: Option<Duration>,
        began: Moment,
        now: Moment,
    ) {
        request.failures.note(why, now);
        if request.failures.are_its_own() {
            let pause = self.retry_gate.pause_of_one(&mut request.failures.backoff);
            request.failures.not_before = now.after(pause);
            self.retry_gate.asked(asked, now);
            if matches!(self.condition, Condition::Unreachable(_)) {
                // It was reached, so that the time of requests counts again.
                self.note(condition, now);
            }
        } else {
            self.failed(condition, asked, began, now);
        }
        self.waiting.put_last(request);
        self.shorten(self.pause_max);
    }

    fn answered(&mut self, condition: Condition, began: Moment, now: Moment) {
        if self.retry_gate.succeeded(began) {
            self.note(condition, now);
        }
    }

    /// Notes the failure of an attempt that began at `began`, and the wait that the collector asked for.
    fn failed(&mut self, condition: Condition, asked: Option<Duration>, began: Moment, now: Moment) {
        self.retry_gate.failed(asked, began, now);
        self.shorten(self.pause_max);
        self.note(condition, now);
    }

    fn note(&mut self, condition: Condition, now: Moment) {
        self.waiting.count(self.counting(), now);
        self.condition = condition;
    }

    fn counting(&self) -> Counting {
        let is_reachable = !matches!(self.condition, Condition::Unreachable(_));
        Counting { is_reachable, asked_until: self.retry_gate.asked_until() }
    }

    fn expire(&mut self, now: Moment, outcomes: &mut Vec<Outcome>) {
        while let Some(mut request) = self.waiting.take_expired(self.counting(), now) {
            let end = request.give_up();
            self.finish(request, end, now, outcomes);
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
