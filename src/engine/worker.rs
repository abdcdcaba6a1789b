//! The engine's own work: lanes to batches, batches to requests, requests to the collector, and an account of every
//! span.

use std::{fmt, mem, time::Duration};

use super::{
    desk::Desk,
    goal::Goal,
    handoff::Asked,
    limit::Limit,
    scopes::Scopes,
    words::{dropped, health, shortened, stale, too_large},
};
use crate::{
    batch::{Batch, Bounds, Front, Pace, Run},
    clock::Anchors,
    config::Load,
    lane::{Marks, Reader},
    notice::counted,
    otlp,
    record::Draft,
    report::{Cause, Counts, Drops, Ended, GivenUp, Health, Ledger, Topic},
    sync::{deadline::Deadline, ticks},
    trace::Shared,
    transport::{
        client::{
            condition::Condition,
            exporter::Exporter,
            outcome::{Abandoned, Outcome, RequestEnd},
            request::Whole,
        },
        driver::{Completion, Driver, DriverChoice, Moment},
        http::{buffer::RequestBuffer, compression::Coding, http1::Reply},
    },
};

/// One worker, on one thread. What it knows goes with it when it fails; what it counts does not.
pub(super) struct Worker {
    reader: Reader<Shared, Draft>,
    anchors: Anchors,
    batch: Batch,
    pace: Pace,
    scopes: Scopes,
    /// Bytes that a request has at most, unless one span alone has more.
    limit: Limit,
    driver: Driver,
    exporter: Exporter,
    outcomes: Vec<Outcome>,
    completions: Vec<Completion>,
    visits: Visits,
    /// The flush that is under way.
    goal: Goal<Box<Marks>>,
    /// The condition of the collector that was last reported.
    told: Condition,
    /// Why the newest certificates are not in use, as it was last reported.
    told_reload: Option<String>,
    /// The health that was last set here.
    health: Health,
    /// What the last answer was, if it was none of a collector's.
    unread: Option<String>,
    /// What the workers before this one had sent again: requests, and spans that may be there twice.
    repeated_before: (u64, u64),
    /// When the drops at the lanes were last looked at.
    drops_seen: Moment,
    is_closing: bool,
}

/// When the lanes were visited, and when they will be.
#[derive(Debug)]
struct Visits {
    last: Moment,
    next: Moment,
    /// Spans that were found since the last visit by the clock.
    found: usize,
    /// Whether there is more in the lanes, as far as the last visit shows.
    has_more: bool,
}

/// How long a turn may wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// Until there is something to do.
    UntilDue,
    /// No longer than this.
    AtMost(Duration),
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Something came.
    Busy,
    /// Nothing came.
    Idle,
    /// The engine has shut down.
    Over,
}

/// What a driver gets to bring its buffers home at the end. Past that they are left to the kernel.
const DRIVER_END_MAX: Duration = Duration::from_millis(10);
/// How often the drops at the lanes are looked at: that sums up the counters of all threads.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// Requests that a visit is to find spans for, at an even load: with two, a span costs a third less than with one
/// (`benches/programs/rates.rs`).
const BATCHES_A_VISIT: usize = 2;
/// How old the first batch may become, where the collector is on this machine. What is recorded together is sent
/// together.
const FIRST_AGE_MAX: Duration = Duration::from_millis(500);
/// How long it is until a lane that could not be closed is tried again: a thread is in the middle of an end.
const CLOSE_AGAIN: Duration = Duration::from_millis(1);

impl Worker {
    /// A worker in place of none; why not, if there cannot be one.
    pub(super) fn start(desk: &Desk) -> Result<Self, String> {
        if !desk.lanes.settle() {
            return Err("another thread is settling this child process".into());
        }
        let plan = &desk.plan;
        let (driver, report) =
            Driver::open(desk.driver, plan.unacknowledged_max()).map_err(|error| format!("no driver: {error}"))?;
        let reader = desk.lanes.reader().ok_or("another drain has the lanes")?;
        let exporter = plan.exporter(driver.waker(), desk.seed());
        desk.handoff.set_waker(driver.waker());
        if report.name != "uring" && desk.driver == DriverChoice::Uring {
            desk.say(Topic::Driver, &format!("exporting to {} by {}: {}", plan.route, report.name, report.reason));
        }
        desk.status.set_driver(report.name, report.reason);
        let now = driver.now();
        Ok(Self {
            reader,
            anchors: Anchors::new(desk.lanes.owner().clock()),
            batch: Batch::new(exporter.head_len_max() + plan.resource.envelope_len_max()),
            pace: Pace::new(spans_a_visit(desk), plan.schedule_delay),
            scopes: Scopes::default(),
            limit: Limit::new(plan.request_bytes_max, plan.resource.envelope_len_max()),
            driver,
            exporter,
            outcomes: vec![],
            completions: vec![],
            visits: Visits { last: now, next: now, found: 0, has_more: false },
            goal: Goal::default(),
            told: Condition::default(),
            told_reload: None,
            health: Health::default(),
            repeated_before: (desk.counts.repeats.load(), desk.counts.duplicates_max.load()),
            drops_seen: now,
            unread: None,
            is_closing: false,
        })
    }

    /// Does what there is to do, and waits for more if it may.
    pub(super) fn turn(&mut self, desk: &Desk, wait: Wait) -> Turn {
        let now = self.driver.now();
        let asked = desk.handoff.asked();
        assert!(!asked.wants_failure, "as a test wants it");
        self.heed(desk, asked, now);
        self.gather(desk, now);
        self.exporter.turn(&mut self.driver, now, &mut self.outcomes);
        self.account(desk, now);
        if self.goal.reach(&desk.handoff, self.exporter.oldest_pending()) {
            // Another flush may have been asked for meanwhile, and its call was heard already.
            return Turn::Busy;
        }
        if let Some(deadline) = asked.shutdown
            && (deadline.left().is_zero() || self.exporter.is_hopeless() || self.is_done(desk))
        {
            return Turn::Over;
        }
        let due = self.due(desk, asked.shutdown, now);
        let until = match wait {
            Wait::UntilDue => due,
            Wait::AtMost(time) => Some(due.map_or(now.after(time), |due| due.min(now.after(time)))),
        };
        let rang = self.wait(desk, until);
        let came = !self.completions.is_empty();
        self.complete(desk);
        if rang {
            self.visits.next = self.driver.now();
        }
        let goes_on = self.visits.has_more && self.exporter.has_room();
        if came || rang || goes_on { Turn::Busy } else { Turn::Idle }
    }

    /// Accounts for everything that is left, at the end.
    pub(super) fn finish(mut self, desk: &Desk) {
        // This thread may have been stopped in its last wait. What has come by now counts, whatever else fails.
        let _ = self.driver.wait(Some(Moment::START), &mut self.completions);
        self.complete(desk);
        let now = self.driver.now();
        let obstacle = self.exporter.obstacle();
        let Abandoned { lost, unconfirmed } = self.exporter.abandon(&mut self.driver, now);
        let unsent = lost + self.batch.held();
        // What ends from here on is lost as closed, not queued.
        desk.close_lanes();
        let given_up = GivenUp { lost: unsent as u64 + self.reader.give_up(), unconfirmed: unconfirmed as u64 };
        desk.counts.give_up(Cause::ShutdownDeadline, given_up);
        let why = match self.exporter.condition() {
            Condition::Unknown | Condition::Fine => {
                obstacle.map_or(String::new(), |what| format!(": no connection to {}: {what}", desk.plan.route))
            }
            // It was told with the failure.
            told if *told == self.told => String::new(),
            Condition::Troubled(why) | Condition::Refusing(why) | Condition::Unreachable(why) => format!(": {why}"),
        };
        desk.tell_balance(given_up, &why);
        // Before the last word: what waits for it may end the process.
        let _left_to_the_kernel = self.driver.shut_down(now.after(DRIVER_END_MAX));
        desk.counts.connections.set(0);
        desk.status.set_health(Health::Down("the engine has shut down".into()));
    }

    /// Takes up what has come from the driver.
    fn complete(&mut self, desk: &Desk) {
        let now = self.driver.now();
        for completion in self.completions.drain(..) {
            self.exporter.complete(&mut self.driver, completion, now, &mut self.outcomes);
        }
        self.account(desk, now);
    }

    /// Takes up what callers want.
    fn heed(&mut self, desk: &Desk, asked: Asked, now: Moment) {
        if asked.shutdown.is_some() && !self.is_closing {
            self.is_closing = true;
            self.exporter.begin_closing();
        }
        if self.goal.heed(asked, || Box::new(desk.lanes.marks())) {
            self.exporter.hurry();
        }
        let deadline = asked.shutdown.map(|deadline| now.after(deadline.left()));
        self.exporter.awaited(self.goal.is_set(), deadline, now);
    }

    /// Takes spans out of the lanes, as many as there is room for, and turns full batches into requests.
    fn gather(&mut self, desk: &Desk, now: Moment) {
        let is_wanted = self.is_closing || self.goal.marks().is_some();
        let is_due = now >= self.visits.next;
        if is_due || is_wanted || self.visits.has_more {
            if self.exporter.has_room() {
                self.anchors.refresh();
            }
            self.visits.has_more = true;
            while self.visits.has_more && self.exporter.has_room() {
                self.visits.has_more = self.fill(desk, now);
                if self.visits.has_more {
                    self.submit(desk, now);
                }
            }
        }
        if is_due && !self.visits.has_more {
            let elapsed = now.since(self.visits.last);
            self.visits.next = now.after(self.pace.after(mem::take(&mut self.visits.found), elapsed));
            self.visits.last = now;
        }
        self.tell_drops(desk, now);
        if self.is_ripe(desk, now) && self.exporter.has_room() {
            self.submit(desk, now);
        }
        if !self.visits.has_more && self.batch.held() == 0 {
            self.goal.gathered(self.exporter.last_submitted());
        }
    }

    /// Fills the batch; whether there is more.
    fn fill(&mut self, desk: &Desk, now: Moment) -> bool {
        let Self { batch, reader, anchors, scopes, goal, .. } = self;
        // A shutdown wants all there is.
        let marks = goal.marks().filter(|_| !self.is_closing).map(|marks| &**marks);
        let plan = &desk.plan;
        let without_the_resource = |bytes: usize| bytes.saturating_sub(plan.resource.envelope_len_max());
        let bounds = Bounds {
            spans_max: plan.batch_spans_max,
            bytes_aim: without_the_resource(self.limit.bytes()),
            bytes_max: without_the_resource(plan.request_bytes_max),
        };
        let visited = batch.fill(reader, marks, bounds, anchors, now.nanos(), |scope| {
            scopes.head(&desk.lanes, scope).envelope_len_max()
        });
        self.visits.found += visited.spans;
        if visited.oversize > 0 {
            desk.counts.lose(Cause::Oversize, visited.oversize as u64);
            let max = plan.request_bytes_max;
            let spans = counted(visited.oversize as u64, "span is", "spans are");
            desk.say(Topic::Loss, &format!("{spans} too large for a request of {max} bytes"));
        }
        visited.is_full
    }

    /// Whether the open batch has to go as it is.
    fn is_ripe(&self, desk: &Desk, now: Moment) -> bool {
        let Some(since) = self.batch.since() else {
            return false;
        };
        let is_wanted = self.is_closing || self.goal.is_set();
        let age = Duration::from_nanos(now.nanos().saturating_sub(since));
        !self.visits.has_more && (is_wanted || age >= self.age_max(desk))
    }

    /// How old a batch may become. The first one goes early to a collector on this machine, so that one that is not
    /// there is reported while somebody still watches the start.
    fn age_max(&self, desk: &Desk) -> Duration {
        let is_first = self.exporter.last_submitted() == 0 && desk.plan.route.endpoint.is_local();
        if is_first { desk.plan.schedule_delay.min(FIRST_AGE_MAX) } else { desk.plan.schedule_delay }
    }

    /// Turns the batch into a request.
    fn submit(&mut self, desk: &Desk, now: Moment) {
        let Some(Front { scope, mut bytes, spans_at }) = self.batch.take_front(self.exporter.memory()) else {
            return;
        };
        let heads = &self.scopes;
        let others = self.batch.others().map(|Run { scope, spans }| otlp::Run { scope: heads.known(scope), spans });
        let start = otlp::enclose(&desk.plan.resource, heads.known(scope), &mut bytes, spans_at, others);
        self.exporter.submit(RequestBuffer::around(bytes, start), self.batch.spans(), now);
        self.batch.clear();
    }

    /// Books the requests that have ended.
    fn account(&mut self, desk: &Desk, now: Moment) {
        for outcome in mem::take(&mut self.outcomes) {
            self.account_one(desk, outcome, now);
        }
        if let Some(asked) = self.exporter.take_shortened() {
            desk.announce(Topic::Warning, || shortened(asked, desk.plan.retry_after_max));
        }
        if let Some(coding) = self.exporter.take_declined().and_then(Coding::name) {
            let text = format!("the collector does not take {coding}: this and all later requests are sent by gzip");
            desk.insist(Topic::Warning, &text);
        }
        let counts = &desk.counts;
        let (repeats, duplicates_max) = self.repeated_before;
        counts.repeats.set(repeats + self.exporter.repeats());
        counts.duplicates_max.set(duplicates_max + self.exporter.duplicates_max());
        counts.doubtful.set(self.exporter.doubtful_spans() as u64);
        counts.connections.set(self.exporter.connections() as u64);
        counts.oldest.set(self.oldest(now));
        let (condition, reload) = (self.exporter.condition(), self.exporter.reload_failure().map(stale));
        let complaints = [reload.as_deref(), self.unread.as_deref()];
        let health = health(condition, complaints.into_iter().flatten());
        if health != self.health {
            desk.status.set_health(health.clone());
            self.health = health;
        }
        if *condition != self.told && self.tell(desk, condition) {
            self.told = condition.clone();
        }
        tell_reload(&mut self.told_reload, reload, |text| desk.announce(Topic::Certificates, || text.to_owned()));
    }

    /// Says how the collector does now; false if that has to wait, because something of the kind was said a moment ago.
    fn tell(&self, desk: &Desk, condition: &Condition) -> bool {
        let route = &desk.plan.route;
        match condition {
            // What is refused is told as a loss.
            Condition::Unknown | Condition::Refusing(_) => true,
            Condition::Fine if self.told == Condition::Unknown => true,
            Condition::Fine => desk.announce(Topic::Recovery, || format!("{route} takes spans again")),
            Condition::Troubled(why) => desk.announce(Topic::Failure, || format!("{route}: {why}")),
            Condition::Unreachable(why) => desk.announce(Topic::Failure, || {
                format!("{route} cannot be reached; spans wait, and are dropped once the memory is full: {why}")
            }),
        }
    }

    /// Says that spans were dropped before they came here, and what was misused.
    fn tell_drops(&mut self, desk: &Desk, now: Moment) {
        if now.since(self.drops_seen) < DROPS_EVERY {
            return;
        }
        self.drops_seen = now;
        let Drops { starts, ends } = Ledger::dropped(&desk.lanes);
        let Counts { starts_told, ends_told, .. } = &desk.counts;
        let more = Drops { starts: starts - starts_told.load(), ends: ends - ends_told.load() };
        if more != Drops::default() && desk.announce(Topic::Loss, || dropped(more)) {
            starts_told.set(starts);
            ends_told.set(ends);
        }
        let misuses = desk.lanes.owner().misuses();
        if let Some(news) = misuses.news()
            && desk.announce(Topic::Misuse, || news)
        {
            misuses.are_told();
        }
    }

    /// When the oldest span that is here came, on the monotonic clock; zero without one.
    fn oldest(&self, now: Moment) -> u64 {
        let batch = self.batch.since().map(|nanos| Moment::START.after(Duration::from_nanos(nanos)));
        let Some(since) = self.exporter.oldest_since().into_iter().chain(batch).min() else {
            return 0;
        };
        let age = u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX);
        ticks::monotonic_nanos().saturating_sub(age).max(1)
    }

    fn account_one(&mut self, desk: &Desk, outcome: Outcome, now: Moment) {
        let counts = &desk.counts;
        let spans = outcome.spans as u64;
        let whole = Whole { number: outcome.number, is_doubtful: outcome.is_doubtful };
        let ended = match outcome.end {
            RequestEnd::Taken(reply) => {
                self.limit.taken(outcome.bytes);
                self.account_taken(desk, &reply, spans, whole)
            }
            RequestEnd::TooLarge(body) => return self.split(desk, whole, &body, spans, now),
            RequestEnd::Refused { status, why, body } => {
                let said = otlp::status_message(&body).map_or(String::new(), |said| format!(" (it says: {said})"));
                let status = status.map_or(String::new(), |status| format!(" with status {status}"));
                let route = &desk.plan.route;
                let why = format!("refused{status} by {route}: {why}{said}");
                give_up(desk, Cause::Rejected, given_up(spans, whole), &why);
                Ended::Rejected
            }
            RequestEnd::Expired(why) => {
                let why = format!("given up, the time for all attempts is over: {why}");
                give_up(desk, Cause::RetryExpired, given_up(spans, whole), &why);
                Ended::Expired
            }
            RequestEnd::Quarantined { why, body } => {
                let (scope, name) = otlp::first_span(&body).unwrap_or_default();
                let why = format!(
                    "given up, because their request fails while others are taken; its first span is `{name}` of scope \
                     `{scope}`: {why}"
                );
                give_up(desk, Cause::Quarantined, given_up(spans, whole), &why);
                Ended::Quarantined
            }
        };
        let is_taken = matches!(ended, Ended::Taken | Ended::PartlyRejected);
        let ended = if whole.is_doubtful && !is_taken { Ended::Unconfirmed } else { ended };
        counts.times.observe(ended, outcome.took);
        counts.body_bytes.add_owned(outcome.bytes as u64);
    }

    /// Books a request that was taken, wholly or in part.
    fn account_taken(&mut self, desk: &Desk, reply: &Reply, spans: u64, whole: Whole) -> Ended {
        if reply.is_cut_off {
            let told = counted(spans, "span counts", "spans count");
            let status = reply.status;
            let text = format!("{told} as delivered by the answer's status {status}, though the answer broke off");
            desk.say(Topic::Warning, &text);
            desk.counts.exported.add_owned(spans);
            return Ended::Taken;
        }
        let said = if reply.is_whole() { otlp::accepted(&reply.body).ok() } else { None };
        self.unread = said.is_none().then(|| {
            let route = &desk.plan.route;
            format!("{route} does not answer as a collector does: check that the endpoint takes OTLP over HTTP")
        });
        if let Some(why) = &self.unread {
            let spans = counted(spans, "span counts", "spans count");
            desk.say(Topic::Warning, &format!("{spans} as delivered, but {why}"));
        }
        let accepted = said.unwrap_or_default();
        let rejected = accepted.rejected.min(spans);
        if !accepted.message.is_empty() || rejected > 0 {
            let of = counted(spans, "span", "spans");
            let text = format!("the collector rejected {rejected} of {of}: {}", accepted.message);
            desk.say(Topic::Warning, &text);
        }
        desk.counts.give_up(Cause::PartiallyRejected, given_up(rejected, whole));
        desk.counts.exported.add_owned(spans - rejected);
        if rejected > 0 { Ended::PartlyRejected } else { Ended::Taken }
    }

    /// Sends the two halves of a request that was too large, and makes the next ones smaller.
    fn split(&mut self, desk: &Desk, whole: Whole, body: &[u8], spans: u64, now: Moment) {
        let Some(halves) = otlp::split(body) else {
            let why = format!("too large for the collector, with {} bytes", body.len());
            return give_up(desk, Cause::Oversize, given_up(spans, whole), &why);
        };
        if let Some(learnt) = self.limit.refused(body.len()) {
            desk.say(Topic::Warning, &too_large(body.len(), learnt));
        }
        // The first half comes last, because each goes to the front.
        for half in [halves.1, halves.0] {
            let mut buffer = self.exporter.buffer();
            buffer.body_mut().extend_from_slice(&half);
            self.exporter.submit_part(whole, buffer, otlp::span_count(&half), now);
        }
    }

    /// Whether nothing is left, and nothing can come.
    fn is_done(&mut self, desk: &Desk) -> bool {
        self.is_closing
            && !self.visits.has_more
            && self.batch.held() == 0
            && self.exporter.pending() == 0
            && desk.lanes.close()
            // A span may have come between the last visit and the close.
            && desk.lanes.fill().is_empty()
    }

    /// When there is something to do, if nothing comes before.
    fn due(&self, desk: &Desk, shutdown: Option<Deadline>, now: Moment) -> Option<Moment> {
        let mut due = self.exporter.due();
        let mut no_later = |moment: Moment| due = Some(due.map_or(moment, |due| due.min(moment)));
        if self.exporter.has_room() {
            no_later(if self.visits.has_more { now } else { self.visits.next });
            if let Some(since) = self.batch.since() {
                no_later(Moment::START.after(Duration::from_nanos(since)).after(self.age_max(desk)));
            }
        }
        if let Some(deadline) = shutdown {
            no_later(now.after(deadline.left()));
            if self.exporter.pending() == 0 {
                no_later(now.after(CLOSE_AGAIN));
            }
        }
        due
    }

    /// Waits; whether a writer rang, because a ring fills up.
    fn wait(&mut self, desk: &Desk, until: Option<Moment>) -> bool {
        // Without room full rings are no news: the answer that makes room is what there is to wait for.
        let is_asleep = self.exporter.has_room() && until.is_none_or(|until| until > self.driver.now());
        if is_asleep && !desk.lanes.alarm().sleep(|| desk.lanes.is_filled()) {
            return true;
        }
        // While more waits in the lanes the first answer makes room for it.
        let result = match self.visits.has_more {
            true => self.driver.wait(until, &mut self.completions),
            false => self.driver.wait_together(until, &mut self.completions),
        };
        let rang = is_asleep && desk.lanes.alarm().wake_up();
        if let Err(error) = result {
            match self.driver.fall_back(&error) {
                Ok(report) => {
                    desk.say(Topic::Driver, &format!("exporting by {} now ({})", report.name, report.reason));
                    desk.status.set_driver(report.name, report.reason);
                }
                Err(worse) => panic!("the driver failed ({error}), and no other could be had ({worse})"),
            }
        }
        rang
    }
}

/// Spans that a visit is to find: the requests that they make leave together, and the thread wakes up once for all of
/// them. But writers are not to ring for a ring that fills up at an even load.
fn spans_a_visit(desk: &Desk) -> usize {
    let batch = desk.plan.batch_spans_max;
    let ring = usize::try_from(desk.lanes.ring_bytes()).unwrap_or(usize::MAX) / Load::RECORD_BYTES as usize;
    (BATCHES_A_VISIT * batch).min(ring / 4).max(batch)
}

/// What becomes of spans that their request did not deliver: they may be at the collector if it may have the request.
fn given_up(spans: u64, whole: Whole) -> GivenUp {
    let (lost, unconfirmed) = if whole.is_doubtful { (0, spans) } else { (spans, 0) };
    GivenUp { lost, unconfirmed }
}

/// Books the spans of a request that was not taken, and says why.
fn give_up(desk: &Desk, cause: Cause, given_up: GivenUp, why: &str) {
    desk.counts.give_up(cause, given_up);
    let text = match given_up {
        GivenUp { unconfirmed: 0, lost } => format!("{} {why}", counted(lost, "span was", "spans were")),
        GivenUp { unconfirmed, .. } => {
            let spans = counted(unconfirmed, "span is", "spans are");
            format!(
                "{spans} unconfirmed, the collector may have them: an attempt was sent whole and not answered by it, and \
                 the request was then {why}"
            )
        }
    };
    desk.say(Topic::Loss, &text);
}

/// Says whether the newest certificates can be used, if that has changed, and until it was heard.
fn tell_reload(told: &mut Option<String>, reload: Option<String>, announce: impl FnOnce(&str) -> bool) {
    if *told != reload && announce(reload.as_deref().unwrap_or("the new certificates are in use")) {
        *told = reload;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("batch", &self.batch.spans()).field("goal", &self.goal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
