//! The rig of the exporter's tests: a simulated network, a collector that follows a script, and an account of all that
//! went in, which is checked after every step.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    net::SocketAddr,
    time::Duration,
};

use super::{
    collector::{Collector, body, halves, spans_of},
    witness::Witness,
};
use crate::transport::{
    client::{
        condition::Condition,
        endpoint::Endpoint,
        exporter::Exporter,
        outcome::{Abandoned, Outcome, RequestEnd},
        request::Whole,
        retry_gate::JITTER_MAX,
        route::Route,
        settings::Settings,
    },
    driver::{
        Address, Completion, Driver, Moment, Resolver,
        sim::{Network, Sim},
    },
    http::{
        buffer::RequestBuffer,
        compression::{Coding, Compression},
        head::UserAgent,
        headers::Headers,
    },
};

/// An exporter, its network and its collector, and the account of all that went in.
pub(super) struct Rig {
    pub(super) sim: Sim,
    pub(super) driver: Driver,
    pub(super) exporter: Exporter,
    pub(super) collector: Collector,
    pub(super) witness: Witness,
    /// What was submitted and has not ended, a request or a part of one: its spans, by its name and the length of its
    /// body.
    pub(super) open: BTreeMap<(u64, usize), Vec<u64>>,
    pub(super) ends: Vec<(u64, RequestEnd)>,
    /// The news of codings that the collector does not take.
    pub(super) declined: Vec<Coding>,
    /// What became of each span whose request has ended.
    columns: Columns,
    /// Who looks up names, where the test does not.
    pub(super) names: Option<Names>,
    /// Whether somebody waits, and until when if that is known.
    pub(super) awaited: Option<Option<Moment>>,
    completions: Vec<Completion>,
    /// Turns in a row in which no time passed and nothing came.
    vain: usize,
    /// Turns in a row at times of the exporter's own choice in which it did nothing.
    idle: usize,
    submitted: u64,
    body_len_max: usize,
}

#[derive(Debug, Default)]
struct Columns {
    taken: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    unconfirmed: BTreeSet<u64>,
}

/// What looks up names: slowly, wrongly or not at all.
#[derive(Debug)]
pub(super) struct Names {
    /// How long each of the next lookups takes, and what comes of it.
    pub(super) script: VecDeque<(Duration, Result<Vec<&'static str>, &'static str>)>,
    /// What comes of those after that, at once.
    pub(super) then: &'static str,
    next: Option<(Moment, Result<Vec<&'static str>, &'static str>)>,
}

impl Names {
    pub(super) fn new(then: &'static str) -> Self {
        Self { script: VecDeque::new(), then, next: None }
    }
}

pub(super) const PLACE: &str = "10.0.0.1:4318";
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The time since 1970, at any moment: Sun, 06 Nov 1994 08:49:37 GMT.
pub(super) const UNIX_TIME: Duration = Duration::from_secs(784_111_777);
/// Spans of a request.
pub(super) const SPANS: usize = 4;
/// Short waits apart that the network needs.
pub(super) const SOON: Duration = Duration::from_millis(50);

pub(super) fn place(text: &str) -> Address {
    Address::Tcp(socket(text))
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
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
        collector.listen(&sim, listens);
        // From now on.
        let _ = sim.take_calls();
        let driver = Driver::sim(&sim);
        let headers = Headers::new(&[]).expect("there are none");
        let head = route.request_head(&headers, &UserAgent::default());
        let settings = Settings {
            connections_max,
            timeout: TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            retry_after_max: RETRY_AFTER_MAX,
            compression: if seed % 7 == 3 { Compression::Gzip } else { Compression::None },
            unix_time: || UNIX_TIME,
            seed,
        };
        let resolver = Resolver::new(driver.waker()).on(|_, _| Ok(()));
        let exporter = Exporter::new(settings, route, head, None, resolver);
        Self {
            sim,
            driver,
            exporter,
            collector,
            witness: Witness::new(),
            open: BTreeMap::new(),
            ends: vec![],
            declined: vec![],
            columns: Columns::default(),
            names: None,
            awaited: None,
            completions: vec![],
            vain: 0,
            idle: 0,
            submitted: 0,
            body_len_max: 0,
        }
    }

    pub(super) fn submit(&mut self, len: usize) -> u64 {
        self.submitted += 1;
        let name = self.submitted;
        let body = body(name, len);
        self.body_len_max = self.body_len_max.max(body.len());
        let buffer = self.request(name, &body);
        self.exporter.submit(buffer, SPANS, self.driver.now());
        name
    }

    fn request(&mut self, name: u64, body: &[u8]) -> RequestBuffer {
        let mut buffer = self.exporter.buffer();
        buffer.body_mut().extend(body);
        let replaced = self.open.insert((name, body.len()), spans_of(body));
        assert!(replaced.is_none(), "two parts of {name} are alike");
        buffer
    }

    /// Waits for the exporter to ask for a name's addresses, and answers.
    pub(super) fn settle(&mut self, answer: Result<&str, &str>) {
        self.until(Duration::from_secs(60), |rig| rig.exporter.addresses.is_asking());
        let answer = answer.map(|address| vec![address.parse().expect("it is an address")]).map_err(str::to_owned);
        self.exporter.addresses.resolver.as_ref().expect("there is a name").settle(answer);
    }

    /// One turn, at most until then.
    pub(super) fn turn(&mut self, until: Moment) {
        let now = self.driver.now();
        let until = self.look_up(until, now);
        let mut outcomes = vec![];
        if let Some(deadline) = self.awaited {
            self.exporter.awaited(true, deadline, now);
        }
        let inside = |rig: &Self| (rig.exporter.addresses.is_asking(), rig.exporter.retry_gate.since);
        let before = inside(self);
        self.exporter.turn(&mut self.driver, now, &mut outcomes);
        let is_idle = !self.step(outcomes, now) && inside(self) == before;
        self.idle = if is_idle { self.idle } else { 0 };
        assert!(self.idle < 8, "it wants to be woken, again and again, and does nothing: {:?}", self.exporter);
        let due = self.exporter.due();
        self.check_due(due, now);
        let until = due.map_or(until, |due| due.min(until));
        if let Err(error) = self.driver.wait(Some(until), &mut self.completions) {
            self.driver.fall_back(&error).expect("there is nothing to open");
            self.witness.driver_failed();
        }
        let later = self.driver.now();
        let is_quiet = self.completions.is_empty();
        self.vain = if later == now && is_quiet { self.vain + 1 } else { 0 };
        assert!(self.vain < 4, "turn after turn, and nothing happens: {:?}", self.exporter);
        self.idle = if is_quiet && due == Some(until) && later == until { self.idle + 1 } else { 0 };
        for completion in mem::take(&mut self.completions) {
            let mut outcomes = vec![];
            self.witness.hear(&completion, later);
            self.exporter.complete(&mut self.driver, completion, later, &mut outcomes);
            self.step(outcomes, later);
        }
    }

    /// Takes what came of a step, and checks what must hold after each; whether anything came of it.
    fn step(&mut self, outcomes: Vec<Outcome>, now: Moment) -> bool {
        let calls = self.sim.take_calls();
        let is_news = !calls.is_empty() || !outcomes.is_empty();
        self.witness.timeout = self.exporter.settings.timeout;
        self.witness.see(calls, now);
        self.declined.extend(self.exporter.take_declined());
        for outcome in outcomes {
            self.end(outcome, now);
        }
        self.check();
        is_news
    }

    /// What must hold between two steps.
    fn check(&self) {
        let Columns { taken, lost, unconfirmed } = &self.columns;
        let in_hand: usize = self.open.values().map(Vec::len).sum();
        let submitted = usize::try_from(self.submitted).expect("it is small") * SPANS;
        assert_eq!(
            submitted,
            taken.len() + lost.len() + unconfirmed.len() + in_hand,
            "each span is in one column: {:?}",
            self.columns
        );
        assert_eq!(self.exporter.spans(), in_hand, "spans were forgotten or counted twice");
        assert_eq!(self.exporter.pending(), self.open.len());
        assert_eq!(self.exporter.doubtful_spans(), self.witness.unconfirmed(self.open.values()), "what may be there");
        let requests_max = self.exporter.settings.connections_max + 1;
        let bytes: usize = self.open.keys().map(|(_, len)| len).sum();
        assert!(in_hand <= requests_max * SPANS && bytes <= requests_max * self.body_len_max, "{in_hand}, {bytes}");
        assert!(self.exporter.spare.len() <= self.exporter.settings.connections_max + 2);
        assert!(self.exporter.duplicates_max() >= self.collector.seen().duplicates, "more duplicates than are told");
        self.witness.check(&self.exporter);
    }

    /// While something waits, the next look is not far off, or something is on its way that ends by itself. An answer
    /// of the resolver comes whenever it does.
    fn check_due(&self, due: Option<Moment>, now: Moment) {
        let far = RETRY_AFTER_MAX.max(self.exporter.settings.timeout) + JITTER_MAX;
        let is_near = due.is_some_and(|due| due.since(now) <= far);
        let is_ending = self.witness.is_ending() || self.exporter.addresses.is_asking();
        assert!(self.open.is_empty() || is_near || is_ending, "{due:?} at {now:?}: {:?}", self.exporter);
    }

    /// Answers the open question for addresses when its time has come; until when to wait at most.
    fn look_up(&mut self, until: Moment, now: Moment) -> Moment {
        let Some(names) = &mut self.names else {
            return until;
        };
        let resolver = self.exporter.addresses.resolver.as_ref().expect("there is a name");
        if resolver.is_asked() && names.next.is_none() {
            let (time, answer) = names.script.pop_front().unwrap_or((Duration::ZERO, Ok(vec![names.then])));
            names.next = Some((now.after(time), answer));
        }
        let Some((at, _)) = &names.next else {
            return until;
        };
        if *at > now {
            return until.min(*at);
        }
        let (_, answer) = names.next.take().expect("it is there");
        let answer = answer.map(|found| found.into_iter().map(socket).collect()).map_err(str::to_owned);
        resolver.settle(answer);
        until
    }

    fn end(&mut self, outcome: Outcome, now: Moment) {
        let name = outcome.number;
        let spans = self.open.remove(&(name, outcome.bytes)).expect("a request ends once");
        assert_eq!(spans.len(), outcome.spans);
        let is_doubtful = outcome.is_doubtful;
        assert_eq!(is_doubtful, self.witness.is_doubtful(&spans), "{name} ends with {:?}", outcome.end);
        assert!(!self.witness.is_under_way(&spans), "{name} ends with {:?} and is on its way", outcome.end);
        let given_up = if is_doubtful { &mut self.columns.unconfirmed } else { &mut self.columns.lost };
        let column = match &outcome.end {
            RequestEnd::Taken(_) => &mut self.columns.taken,
            RequestEnd::Refused { .. } => given_up,
            RequestEnd::Expired(_) => {
                assert!(outcome.took >= TIMEOUT, "{name} was given up after {:?}", outcome.took);
                given_up
            }
            RequestEnd::Quarantined { body, .. } => {
                assert_eq!(spans_of(body), spans, "the body comes back as it was");
                assert!(outcome.took >= TIMEOUT, "{name} was given up after {:?}", outcome.took);
                given_up
            }
            RequestEnd::TooLarge(body) => {
                assert_eq!(spans_of(body), spans, "the body comes back as it was");
                if let Some(halves) = halves(body) {
                    // The first half comes last, because each goes to the front.
                    for half in halves.into_iter().rev() {
                        let buffer = self.request(name, &half);
                        let whole = Whole { number: name, is_doubtful };
                        self.exporter.submit_part(whole, buffer, spans_of(&half).len(), now);
                    }
                    return;
                }
                given_up
            }
        };
        column.extend(&spans);
        self.agree(spans);
        self.ends.push((name, outcome.end));
    }

    /// What became of these spans, as far as it is told here, is not what the collector knows better.
    fn agree(&self, spans: impl IntoIterator<Item = u64>) {
        let seen = self.collector.seen();
        let Columns { taken, lost, .. } = &self.columns;
        for span in spans {
            let is_there = seen.taken.contains_key(&span);
            let is_deceived = seen.deceived.contains(&(span / SPANS as u64));
            assert!(is_there || is_deceived || !taken.contains(&span), "span {span} was never taken");
            let is_sent = self.witness.sent_whole.contains(&span);
            assert!(is_sent || !taken.contains(&span), "span {span} is held to be taken, and was not sent whole");
            assert!(!is_there || !lost.contains(&span), "span {span} is lost, and the collector has it");
            let has_come = seen.received.contains_key(&span);
            assert!(is_sent || !has_come, "span {span} has come, and was not sent");
        }
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
        self.collector.listen(&self.sim, PLACE);
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

    /// Spans whose request has ended, of which nobody can know whether they were taken.
    pub(super) fn unconfirmed(&self) -> usize {
        self.columns.unconfirmed.len()
    }

    /// Everything is given up: every buffer comes home, and every connection is closed.
    pub(super) fn finish(mut self) {
        let is_in_use = !self.open.is_empty() || self.ends.is_empty();
        assert!(is_in_use || !self.exporter.spare.is_empty(), "no buffer came home");
        assert!(self.exporter.spare.iter().all(|buffer| buffer.capacity() > 0), "an empty buffer came home");
        let now = self.driver.now();
        let unconfirmed = self.witness.unconfirmed(self.open.values());
        let lost = self.exporter.spans() - unconfirmed;
        self.witness.is_giving_up = true;
        let abandoned = self.exporter.abandon(&mut self.driver, now);
        assert_eq!(abandoned, Abandoned { lost, unconfirmed });
        for spans in mem::take(&mut self.open).into_values() {
            let is_doubtful = self.witness.unconfirmed([&spans].into_iter()) > 0;
            let column = if is_doubtful { &mut self.columns.unconfirmed } else { &mut self.columns.lost };
            column.extend(spans);
        }
        self.witness.see(self.sim.take_calls(), now);
        assert_eq!((self.exporter.pending(), self.exporter.connections()), (0, 0));
        let limit = now.after(Duration::from_secs(1));
        while self.driver.in_flight() > 0 {
            assert!(self.driver.now() < limit, "operations do not end");
            self.turn(limit);
        }
        self.agree(0..(self.submitted + 1) * SPANS as u64);
        let seen = self.collector.seen();
        assert_eq!(seen.connections, seen.closed, "a connection was forgotten");
    }
}

pub(super) fn calm() -> Rig {
    Rig::new(Network::calm(1), 1)
}
