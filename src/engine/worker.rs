//! The engine's own work: lanes to batches, batches to requests, requests to the collector, and an account of every span.

use std::{fmt, mem, time::Duration};

use super::{
    control::Wish,
    deadline::Deadline,
    diagnostics::{Health, Topic},
    export::REQUEST_BYTES_MIN,
    post::Post,
    stats::Ended,
};
use crate::{
    clock::Anchors,
    drain::{Batch, Bounds, Pace, Run},
    lane::{Marks, Reader, Tally},
    otlp::{self, ScopeHead},
    record::Draft,
    sync::ticks,
    trace::{Core, Recorder},
    transport::{
        driver::{Completion, Driver, DriverChoice, Moment},
        exporter::{Condition, Exporter},
        outcome::{End, Outcome},
    },
};

/// One worker, on one thread. What it knows goes with it when it fails; what it counts does not.
pub(super) struct Worker {
    reader: Reader<Recorder, Draft>,
    anchors: Anchors,
    batch: Batch,
    pace: Pace,
    scopes: Scopes,
    /// Most bytes that a request may have: less than configured once a collector has said so.
    request_bytes_max: usize,
    driver: Driver,
    exporter: Exporter,
    outcomes: Vec<Outcome>,
    completions: Vec<Completion>,
    visits: Visits,
    goal: Option<Goal>,
    /// The last flush that was asked for. Its caller may wait behind the goal of another, and hurries what that waits for.
    heard: u64,
    /// The condition of the collector that was last told.
    told: Condition,
    /// The condition that the health was last set by.
    seen: Condition,
    /// When the drops at the lanes were last looked at, and how many of them were told.
    drops_seen: Moment,
    drops_told: u64,
    is_closing: bool,
}

/// The encoded heads of the scopes that were met, by number.
#[derive(Debug, Default)]
struct Scopes(Vec<Option<ScopeHead>>);

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

/// A flush that is under way.
#[derive(Debug)]
struct Goal {
    /// Flushes up to this one are done with it.
    number: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What ended before these marks is not all in requests.
    Gathering(Box<Marks>),
    /// It is in requests up to this one.
    Sending(u64),
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
/// How long it is until a lane that could not be closed is tried again: a thread is in the middle of an end.
const CLOSE_AGAIN: Duration = Duration::from_millis(1);
/// The next requests are made no smaller than this because of a collector that called one too large: the largest span, a
/// resource and a scope fit, so that no span counts as too large that was never tried.
const REQUEST_BYTES_LEARNT_MIN: usize = REQUEST_BYTES_MIN;

impl Worker {
    /// A worker in place of none; why not, if there cannot be one.
    pub(super) fn start(post: &Post) -> Result<Self, String> {
        if !post.core.settle() {
            return Err("another thread is settling this child process".into());
        }
        let plan = &post.plan;
        let (driver, report) = Driver::open(post.driver()).map_err(|error| format!("no driver: {error}"))?;
        let reader = post.core.reader().ok_or("another drain has the lanes")?;
        let exporter = plan.exporter(driver.waker(), post.seed());
        post.control.set_waker(driver.waker());
        if report.name != "uring" && post.driver() == DriverChoice::Uring {
            post.say(Topic::Driver, &format!("exporting to {} by {}: {}", plan.route, report.name, report.reason));
        }
        post.control.set_driver(report.name, report.reason);
        let now = driver.now();
        Ok(Self {
            reader,
            anchors: Anchors::new(post.core.owner().clock()),
            batch: Batch::default(),
            pace: Pace::new(plan.batch_spans_max, plan.schedule_delay),
            scopes: Scopes::default(),
            request_bytes_max: plan.request_bytes_max,
            driver,
            exporter,
            outcomes: vec![],
            completions: vec![],
            visits: Visits { last: now, next: now, found: 0, has_more: false },
            goal: None,
            heard: 0,
            told: Condition::default(),
            seen: Condition::default(),
            drops_seen: now,
            drops_told: 0,
            is_closing: false,
        })
    }

    /// Does what there is to do, and waits for more if it may.
    pub(super) fn turn(&mut self, post: &Post, wait: Wait) -> Turn {
        let now = self.driver.now();
        let wish = post.control.wish();
        assert!(!wish.wants_failure, "as a test wants it");
        self.heed(post, wish);
        self.gather(post, now);
        self.exporter.turn(&mut self.driver, now, &mut self.outcomes);
        self.account(post, now);
        if self.reach(post) {
            // Another flush may have been asked for meanwhile, and its call was heard already.
            return Turn::Busy;
        }
        if let Some(deadline) = wish.shutdown
            && (deadline.left().is_zero() || self.is_done(post))
        {
            return Turn::Over;
        }
        let due = self.due(post, wish.shutdown, now);
        let until = match wait {
            Wait::UntilDue => due,
            Wait::AtMost(time) => Some(due.map_or(now.after(time), |due| due.min(now.after(time)))),
        };
        let rang = self.wait(post, until);
        let now = self.driver.now();
        let came = !self.completions.is_empty();
        for completion in mem::take(&mut self.completions) {
            self.exporter.complete(&mut self.driver, completion, now, &mut self.outcomes);
        }
        self.account(post, now);
        if rang {
            self.visits.next = now;
        }
        let goes_on = self.visits.has_more && self.exporter.has_room();
        if came || rang || goes_on { Turn::Busy } else { Turn::Idle }
    }

    /// Accounts for everything that is left, at the end.
    pub(super) fn finish(mut self, post: &Post) {
        let now = self.driver.now();
        let given_up = self.exporter.abandon(&mut self.driver, now) + self.batch.held();
        // What ends from here on is lost as closed, not queued for nobody.
        post.close_lanes();
        let left = self.reader.read(None, |_| ());
        let lost = given_up + left;
        post.control.counts.shutdown_deadline.add_owned(lost as u64);
        if lost > 0 {
            post.insist(Topic::Loss, &format!("{lost} spans were not delivered before the shutdown's deadline"));
        }
        // Before the last word: what waits for it may end the process.
        let _left_to_the_kernel = self.driver.shut_down(now.after(DRIVER_END_MAX));
        post.control.counts.connections.set(0);
        post.control.set_health(Health::Down("the engine has shut down".into()));
    }

    /// Takes up what callers want.
    fn heed(&mut self, post: &Post, wish: Wish) {
        if wish.shutdown.is_some() && !self.is_closing {
            post.core.owner().close();
            self.is_closing = true;
            self.exporter.hurry();
        }
        if wish.wants_flush && wish.flush > self.heard {
            self.heard = wish.flush;
            self.exporter.hurry();
        }
        if wish.wants_flush && self.goal.is_none() {
            self.goal = Some(Goal { number: wish.flush, stage: Stage::Gathering(Box::new(post.core.marks())) });
        }
    }

    /// Takes spans out of the lanes, as many as there is room for, and turns full batches into requests.
    fn gather(&mut self, post: &Post, now: Moment) {
        let is_wanted = self.is_closing || matches!(&self.goal, Some(Goal { stage: Stage::Gathering(_), .. }));
        let is_due = now >= self.visits.next;
        if is_due || is_wanted || self.visits.has_more {
            if self.exporter.has_room() {
                self.anchors.refresh();
            }
            self.visits.has_more = true;
            while self.visits.has_more && self.exporter.has_room() {
                self.visits.has_more = self.fill(post, now);
                if self.visits.has_more {
                    self.submit(post, now);
                }
            }
        }
        if is_due && !self.visits.has_more {
            let elapsed = now.since(self.visits.last);
            self.visits.next = now.after(self.pace.after(mem::take(&mut self.visits.found), elapsed));
            self.visits.last = now;
        }
        self.tell_drops(post, now);
        if self.is_ripe(post, now) && self.exporter.has_room() {
            self.submit(post, now);
        }
        if !self.visits.has_more
            && self.batch.held() == 0
            && let Some(Goal { stage: stage @ Stage::Gathering(_), .. }) = &mut self.goal
        {
            *stage = Stage::Sending(self.exporter.last_submitted());
        }
    }

    /// Fills the batch; whether there is more.
    fn fill(&mut self, post: &Post, now: Moment) -> bool {
        let Self { batch, reader, anchors, scopes, goal, .. } = self;
        let marks = match goal {
            // A shutdown wants all there is.
            Some(Goal { stage: Stage::Gathering(marks), .. }) if !self.is_closing => Some(&**marks),
            _ => None,
        };
        let bounds = Bounds {
            spans_max: post.plan.batch_spans_max,
            bytes_max: self.request_bytes_max.saturating_sub(post.plan.resource.envelope_len_max()),
        };
        let visited = batch.fill(reader, marks, bounds, anchors, now.nanos(), |scope| {
            scopes.head(&post.core, scope).envelope_len_max()
        });
        self.visits.found += visited.spans;
        if visited.oversize > 0 {
            post.control.counts.oversize.add_owned(visited.oversize as u64);
            let max = self.request_bytes_max;
            post.say(Topic::Loss, &format!("{} spans are too large for a request of {max} bytes", visited.oversize));
        }
        visited.is_full
    }

    /// Whether the open batch has to go as it is.
    fn is_ripe(&self, post: &Post, now: Moment) -> bool {
        let Some(since) = self.batch.since() else {
            return false;
        };
        let is_wanted = self.is_closing || self.goal.is_some();
        let age = Duration::from_nanos(now.nanos().saturating_sub(since));
        !self.visits.has_more && (is_wanted || age >= post.plan.schedule_delay)
    }

    /// Turns the batch into a request.
    fn submit(&mut self, post: &Post, now: Moment) {
        if self.batch.spans() == 0 {
            return;
        }
        let mut buffer = self.exporter.buffer();
        let heads = &self.scopes;
        let runs = self.batch.runs().map(|Run { scope, spans }| otlp::Run { scope: heads.known(*scope), spans });
        otlp::write_request(&post.plan.resource, runs, &mut buffer);
        self.exporter.submit(buffer, self.batch.spans(), now);
        self.batch.clear();
    }

    /// Notes what became of requests.
    fn account(&mut self, post: &Post, now: Moment) {
        for outcome in mem::take(&mut self.outcomes) {
            self.account_one(post, outcome, now);
        }
        let counts = &post.control.counts;
        counts.repeats.set(self.exporter.repeats());
        counts.connections.set(self.exporter.standing() as u64);
        counts.oldest.set(self.oldest(now));
        let condition = self.exporter.condition();
        if *condition != self.seen {
            post.control.set_health(match condition {
                Condition::Unknown => Health::Starting,
                Condition::Fine => Health::Healthy,
                Condition::Troubled(why) => Health::Degraded(why.clone()),
                Condition::Unreachable(why) => Health::Down(why.clone()),
            });
            self.seen = condition.clone();
        }
        if *condition != self.told && self.tell(post, condition) {
            self.told = condition.clone();
        }
    }

    /// Says how the collector does now; false if that has to wait, because something of the kind was said a moment ago.
    fn tell(&self, post: &Post, condition: &Condition) -> bool {
        let route = &post.plan.route;
        match condition {
            Condition::Unknown => true,
            Condition::Fine if self.told == Condition::Unknown => true,
            Condition::Fine => post.announce(Topic::Recovery, || format!("{route} takes spans again")),
            Condition::Troubled(why) => post.announce(Topic::Failure, || format!("{route}: {why}")),
            Condition::Unreachable(why) => post.announce(Topic::Failure, || {
                format!("{route} cannot be reached, spans wait in memory for as long as there is room: {why}")
            }),
        }
    }

    /// Says that spans were dropped before they came here.
    fn tell_drops(&mut self, post: &Post, now: Moment) {
        if now.since(self.drops_seen) < DROPS_EVERY {
            return;
        }
        self.drops_seen = now;
        let seats = post.core.seats();
        let drops = [Tally::LaneFull, Tally::SpillFull, Tally::LiveLimit].map(|tally| seats.sum(tally)).iter().sum();
        let text = || {
            let more = drops - self.drops_told;
            format!(
                "{more} spans were dropped because the memory for them is full: raise memory_budget, sample, or see why \
                 the collector does not keep up"
            )
        };
        if drops > self.drops_told && post.announce(Topic::Loss, text) {
            self.drops_told = drops;
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

    fn account_one(&mut self, post: &Post, outcome: Outcome, now: Moment) {
        let counts = &post.control.counts;
        let spans = outcome.spans as u64;
        let ended = match outcome.end {
            End::Taken(reply) => {
                let said = if reply.is_whole() { otlp::accepted(&reply.body).ok() } else { None };
                if said.is_none() {
                    let text = format!("the collector took {spans} spans, and what it says of them cannot be read");
                    post.say(Topic::Warning, &text);
                }
                let accepted = said.unwrap_or_default();
                let rejected = accepted.rejected.min(spans);
                if !accepted.message.is_empty() || rejected > 0 {
                    let text = format!("the collector rejected {rejected} of {spans} spans: {}", accepted.message);
                    post.say(Topic::Warning, &text);
                }
                counts.partially_rejected.add_owned(rejected);
                counts.exported.add_owned(spans - rejected);
                if rejected > 0 { Ended::PartlyRejected } else { Ended::Taken }
            }
            End::TooLarge(body) => return self.split(post, outcome.number, &body, spans, now),
            End::Refused { status, why, body } => {
                counts.rejected.add_owned(spans);
                let said = otlp::status_message(&body).map_or(String::new(), |said| format!(" (it says: {said})"));
                let status = status.map_or(String::new(), |status| format!(" with status {status}"));
                let route = &post.plan.route;
                post.say(Topic::Loss, &format!("{spans} spans were refused{status} by {route}: {why}{said}"));
                Ended::Rejected
            }
            End::Expired(why) => {
                counts.retry_expired.add_owned(spans);
                let text = format!("{spans} spans were given up, their time for all attempts is over: {why}");
                post.say(Topic::Loss, &text);
                Ended::Expired
            }
        };
        counts.times.observe(ended, outcome.took);
        counts.body_bytes.add_owned(outcome.bytes as u64);
    }

    /// Sends the two halves of a request that was too large, and makes the next ones smaller.
    fn split(&mut self, post: &Post, number: u64, body: &[u8], spans: u64, now: Moment) {
        let Some(halves) = otlp::split(body) else {
            post.control.counts.oversize.add_owned(spans);
            let text = format!("a span of {} bytes is too large for the collector", body.len());
            return post.say(Topic::Loss, &text);
        };
        let learnt = (body.len() / 2).max(REQUEST_BYTES_LEARNT_MIN);
        if learnt < self.request_bytes_max {
            self.request_bytes_max = learnt;
            let text =
                format!("the collector takes no request of {} bytes; the next have at most {learnt}", body.len());
            post.say(Topic::Warning, &text);
        }
        // The first half comes last, because each goes to the front.
        for half in [halves.1, halves.0] {
            let mut buffer = self.exporter.buffer();
            buffer.extend_from_slice(&half);
            self.exporter.submit_part(number, buffer, otlp::span_count(&half), now);
        }
    }

    /// Ends the flush that is under way once its last request has; whether it did.
    fn reach(&mut self, post: &Post) -> bool {
        if let Some(Goal { number, stage: Stage::Sending(last) }) = self.goal
            && self.exporter.oldest_pending().is_none_or(|oldest| oldest > last)
        {
            self.goal = None;
            post.control.flushed(number);
            return true;
        }
        false
    }

    /// Whether nothing is left, and nothing can come.
    fn is_done(&mut self, post: &Post) -> bool {
        self.is_closing
            && !self.visits.has_more
            && self.batch.held() == 0
            && self.exporter.pending() == 0
            && post.core.close()
            // A span may have come between the last visit and the close.
            && post.core.fill().is_empty()
    }

    /// When there is something to do, if nothing comes before.
    fn due(&self, post: &Post, shutdown: Option<Deadline>, now: Moment) -> Option<Moment> {
        let mut due = self.exporter.due();
        let mut no_later = |moment: Moment| due = Some(due.map_or(moment, |due| due.min(moment)));
        if self.exporter.has_room() {
            no_later(if self.visits.has_more { now } else { self.visits.next });
            if let Some(since) = self.batch.since() {
                no_later(Moment::START.after(Duration::from_nanos(since)).after(post.plan.schedule_delay));
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
    fn wait(&mut self, post: &Post, until: Option<Moment>) -> bool {
        // Without room full rings are no news: the answer that makes room is what there is to wait for.
        let is_asleep = self.exporter.has_room() && until.is_none_or(|until| until > self.driver.now());
        if is_asleep && !post.core.alarm().sleep(|| post.core.is_filled()) {
            return true;
        }
        let result = self.driver.wait(until, &mut self.completions);
        let rang = is_asleep && post.core.alarm().wake_up();
        if let Err(error) = result {
            match self.driver.fall_back(&error) {
                Ok(report) => {
                    post.say(Topic::Driver, &format!("exporting by {} now ({})", report.name, report.reason));
                    post.control.set_driver(report.name, report.reason);
                }
                Err(worse) => panic!("the driver failed ({error}), and no other could be had ({worse})"),
            }
        }
        rang
    }
}

impl Scopes {
    /// The head of this scope, encoded at its first use.
    fn head(&mut self, core: &Core, number: u16) -> &ScopeHead {
        let at = usize::from(number);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_with(|| {
            let scope = core.owner().scopes().get(number).unwrap_or_default();
            ScopeHead::new(&scope.name, &scope.version, &scope.attributes, &scope.schema_url)
        })
    }

    /// The head of a scope that [`Scopes::head`] was asked for.
    fn known(&self, number: u16) -> &ScopeHead {
        self.0[usize::from(number)].as_ref().expect("the batch asked for each of its scopes")
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("batch", &self.batch.spans()).field("goal", &self.goal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        mem,
        net::SocketAddr,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{
        engine::{Config, DiagnosticSink, Engine, Export, Taker, WorkerChoice, diagnostics::Reporter},
        transport::driver::{
            Address,
            sim::{Network, Peer, Replies, Sim},
        },
    };

    /// A collector that takes all it gets.
    #[derive(Default)]
    struct Service {
        unread: Vec<u8>,
    }

    impl Peer for Service {
        fn received(&mut self, bytes: &[u8], _: Moment, replies: &mut Replies) {
            self.unread.extend(bytes);
            let Some(head) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") else {
                return;
            };
            let text = String::from_utf8(self.unread[..head].to_vec()).unwrap();
            let len = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if self.unread.len() == head + 4 + len.parse::<usize>().unwrap() {
                self.unread.clear();
                replies.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    }

    /// A worker on a simulated network, in virtual time, and the engine that it works for.
    struct Rig {
        worker: Worker,
        post: Arc<Post>,
        sim: Sim,
        engine: Engine,
        said: Arc<Mutex<Vec<(Topic, String)>>>,
    }

    const BATCH: usize = 500;

    impl Rig {
        fn new() -> Self {
            let said = Arc::new(Mutex::new(vec![]));
            let lines = Arc::clone(&said);
            let sink = DiagnosticSink::new(move |line| lines.lock().unwrap().push((line.topic, line.text.clone())));
            let place = "http://127.0.0.1:4318";
            let export = Export { batch_spans_max: BATCH, diagnostics: Some(sink), ..Export::to(place) };
            let worker = WorkerChoice::Polled;
            let config = Config { export: Some(export), worker, memory_budget: 4 << 20, ..Config::default() };
            let engine = Engine::start(config).unwrap();
            let Taker::Export(exports) = &engine.taker else { panic!("it exports") };
            let post = Arc::clone(exports.post(&engine.core));
            let sim = Sim::new(Network::calm(1));
            let mut worker = Worker::start(&post).unwrap();
            worker.driver = Driver::sim(&sim);
            worker.exporter = post.plan.exporter(worker.driver.waker(), 1);
            let now = worker.driver.now();
            worker.visits = Visits { last: now, next: now, found: 0, has_more: false };
            worker.drops_seen = now;
            Self { worker, post, sim, engine, said }
        }

        fn listen(&self) {
            self.sim.listen(place(), Service::default);
        }

        fn unlisten(&self) {
            self.sim.unlisten(&place());
            self.sim.reset_all();
        }

        fn record(&self, spans: usize) {
            let tracer = self.engine.tracer("test");
            (0..spans).for_each(|_| tracer.span("work").start().end());
        }

        /// Turns until it holds.
        fn until(&mut self, holds: impl Fn(&Self) -> bool) {
            let late = self.worker.driver.now().after(Duration::from_secs(600));
            while !holds(self) {
                assert!(self.worker.driver.now() < late, "it never comes: {:?}", self.worker.exporter);
                self.worker.turn(&self.post, Wait::UntilDue);
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.worker.driver.now().after(time);
            self.until(|rig| rig.worker.driver.now() >= end);
        }

        /// What was said since the last look.
        fn said(&self) -> Vec<Topic> {
            mem::take(&mut *self.said.lock().unwrap()).into_iter().map(|(topic, _)| topic).collect()
        }

        /// As if nothing had been said for long: the limit on how often has no objection.
        fn end_pauses(&self) {
            *self.post.reporter.lock().unwrap() = Reporter::new(self.post.plan.diagnostics.clone());
        }
    }

    fn place() -> Address {
        Address::Tcp("127.0.0.1:4318".parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn failure_is_told_once_and_so_is_the_recovery() {
        let mut rig = Rig::new();
        rig.record(1);
        rig.until(|rig| matches!(rig.worker.exporter.condition(), Condition::Unreachable(_)));
        rig.until(|rig| !rig.said.lock().unwrap().is_empty());
        let [(topic, text)] = <[_; 1]>::try_from(mem::take(&mut *rig.said.lock().unwrap())).unwrap();
        assert!(topic == Topic::Failure && text.contains("cannot be reached, spans wait in memory"), "{text}");
        rig.end_pauses();
        rig.pass(Duration::from_secs(300));
        assert_eq!(rig.said(), [], "it is known");

        rig.listen();
        rig.until(|rig| !rig.said.lock().unwrap().is_empty());
        let [(topic, text)] = <[_; 1]>::try_from(mem::take(&mut *rig.said.lock().unwrap())).unwrap();
        assert_eq!((topic, text.as_str()), (Topic::Recovery, "http://127.0.0.1:4318/v1/traces takes spans again"));
        assert_eq!(rig.engine.ledger().exported, 1);
        rig.end_pauses();
        rig.record(1);
        rig.pass(Duration::from_secs(300));
        assert_eq!((rig.said(), rig.engine.ledger().exported), (vec![], 2), "it is known");
    }

    /// What the limit on how often held back is told when it may be, if it is still so then.
    #[test]
    fn recovery_that_was_held_back_is_told_later() {
        let mut rig = Rig::new();
        rig.record(1);
        rig.until(|rig| matches!(rig.worker.exporter.condition(), Condition::Unreachable(_)));
        rig.until(|rig| !rig.said.lock().unwrap().is_empty());
        assert_eq!(rig.said(), [Topic::Failure]);
        // Another recovery was told a moment ago.
        rig.post.insist(Topic::Recovery, "before");
        rig.listen();
        rig.until(|rig| rig.worker.exporter.condition() == &Condition::Fine);
        rig.pass(Duration::from_secs(3));
        rig.end_pauses();
        rig.pass(Duration::from_secs(3));
        assert_eq!(rig.said(), [Topic::Recovery; 2]);

        // Another failure was. One that is over before it is told is no news, and neither is its end.
        rig.post.insist(Topic::Failure, "before");
        rig.unlisten();
        rig.record(1);
        rig.until(|rig| matches!(rig.worker.exporter.condition(), Condition::Unreachable(_)));
        rig.listen();
        rig.until(|rig| rig.worker.exporter.condition() == &Condition::Fine);
        rig.end_pauses();
        rig.pass(Duration::from_secs(3));
        let said = rig.said();
        let count = |wanted| said.iter().filter(|&&topic| topic == wanted).count();
        assert_eq!(count(Topic::Failure) - 1, count(Topic::Recovery), "{said:?}");
    }

    #[test]
    fn first_success_is_no_recovery() {
        let mut rig = Rig::new();
        rig.listen();
        rig.record(1);
        rig.until(|rig| rig.engine.ledger().exported == 1);
        rig.pass(Duration::from_secs(300));
        assert_eq!(rig.said(), []);
    }

    /// At a constant rate a visit finds a batch, and an idle engine wakes up once a second.
    #[test]
    fn visits_find_a_batch_each_and_are_seldom_while_nothing_comes() {
        const RATE: u128 = 10_000;
        let mut rig = Rig::new();
        rig.listen();
        let mut visits = vec![];
        let mut recorded = 0;
        let end = Moment::START.after(Duration::from_secs(10));
        while rig.worker.driver.now() < end {
            let due = usize::try_from(RATE * u128::from(rig.worker.driver.now().nanos()) / 1_000_000_000).unwrap();
            rig.record(due - recorded);
            recorded = due;
            rig.worker.turn(&rig.post, Wait::UntilDue);
            if visits.last() != Some(&rig.worker.visits.last) {
                visits.push(rig.worker.visits.last);
            }
        }
        let late = visits.iter().filter(|at| at.since(Moment::START) >= Duration::from_secs(5)).count();
        assert!((90..=110).contains(&late), "{late} visits in five seconds of 50,000 spans");
        rig.pass(Duration::from_secs(20));
        let waits = rig.sim.waits();
        rig.pass(Duration::from_secs(100));
        let waits = rig.sim.waits() - waits;
        assert!((95..=110).contains(&waits), "{waits} waits in a hundred idle seconds");
        let ledger = rig.engine.ledger();
        assert_eq!((ledger.exported, ledger.lost.total()), (recorded as u64, 0));
    }
}
