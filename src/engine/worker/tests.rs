//! The worker on a simulated network, in virtual time: what it says, and when it visits the lanes.

use std::{
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{Turn, Visits, Wait, Worker, health, tell_reload};
use crate::{
    config::{Config, Export, WorkerChoice},
    engine::{Engine, Side, desk::Desk},
    report::{DiagnosticSink, Health, Reporter, Topic},
    sync::deadline::Deadline,
    transport::{
        client::condition::Condition,
        driver::{
            Address, Driver, Moment,
            sim::{Network, Peer, Replies, Sim},
        },
    },
};

/// A collector that takes all it gets, up to a size.
struct Service {
    unread: Vec<u8>,
    takes: Arc<AtomicUsize>,
}

impl Default for Service {
    fn default() -> Self {
        Self { unread: vec![], takes: Arc::new(usize::MAX.into()) }
    }
}

impl Peer for Service {
    fn received(&mut self, bytes: &[u8], _: Moment, replies: &mut Replies) {
        self.unread.extend(bytes);
        let Some(head) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") else {
            return;
        };
        let text = String::from_utf8(self.unread[..head].to_vec()).unwrap();
        let len = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let len: usize = len.parse().unwrap();
        if self.unread.len() == head + 4 + len {
            self.unread.clear();
            let status = if len > self.takes.load(SeqCst) { 413 } else { 200 };
            replies.send(format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"));
        }
    }
}

/// A worker on a simulated network, in virtual time, and the engine that it works for.
struct Rig {
    worker: Worker,
    desk: Arc<Desk>,
    sim: Sim,
    _end: End,
    engine: Engine,
    said: Said,
}

/// Lets the engine find its worker gone, as it is. It would else wait for one, or start one in real time.
struct End(Arc<Desk>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.handoff.over();
    }
}

/// What the worker says.
struct Said {
    desk: Arc<Desk>,
    lines: Arc<Mutex<Vec<(Topic, String)>>>,
}

impl Said {
    /// All that was said and not looked at, once the sink has it.
    fn heard(&self) -> MutexGuard<'_, Vec<(Topic, String)>> {
        while self.desk.lines.is_served() {
            std::thread::yield_now();
        }
        self.lines.lock().unwrap()
    }
}

const BATCH: usize = 500;

impl Rig {
    fn new() -> Self {
        let lines = Arc::new(Mutex::new(vec![]));
        let heard = Arc::clone(&lines);
        let sink = DiagnosticSink::new(move |line| heard.lock().unwrap().push((line.topic, line.text.clone())));
        let place = "http://127.0.0.1:4318";
        let export = Export { batch_spans_max: BATCH, diagnostics: Some(sink), ..Export::to(place) };
        let worker = WorkerChoice::Polled;
        let config = Config { export: Some(export), worker, memory_budget: 4 << 20, ..Config::default() };
        let engine = Engine::start(config).unwrap();
        let Side::Exporting(exporting) = &engine.side else { panic!("it exports") };
        let desk = Arc::clone(exporting.supervisor(&engine.lanes).desk());
        let sim = Sim::new(Network::calm(1));
        let mut worker = Worker::start(&desk).unwrap();
        worker.driver = Driver::sim(&sim);
        worker.exporter = desk.plan.exporter(worker.driver.waker(), 1);
        let now = worker.driver.now();
        worker.visits = Visits { last: now, next: now, found: 0, has_more: false };
        worker.drops_seen = now;
        let said = Said { desk: Arc::clone(&desk), lines };
        Self { worker, _end: End(Arc::clone(&desk)), desk, sim, engine, said }
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
            self.worker.turn(&self.desk, Wait::UntilDue);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.worker.driver.now().after(time);
        self.until(|rig| rig.worker.driver.now() >= end);
    }

    /// What was said since the last look.
    fn said(&self) -> Vec<Topic> {
        mem::take(&mut *self.said.heard()).into_iter().map(|(topic, _)| topic).collect()
    }

    /// As if nothing had been said for long: the limit on how often has no objection.
    fn end_pauses(&self) {
        *self.desk.reporter.lock().unwrap() = Reporter::default();
    }
}

fn place() -> Address {
    Address::Tcp("127.0.0.1:4318".parse::<SocketAddr>().unwrap())
}

/// It is what a program that polls goes by: there may be more to do at once.
#[test]
fn turn_in_which_an_answer_comes_is_busy_and_one_without_is_idle() {
    let mut rig = Rig::new();
    rig.listen();
    rig.record(1);
    let mut last = None;
    while rig.engine.ledger().exported == 0 {
        last = Some(rig.worker.turn(&rig.desk, Wait::UntilDue));
    }
    assert_eq!(last, Some(Turn::Busy));
    assert_eq!(rig.worker.turn(&rig.desk, Wait::AtMost(Duration::ZERO)), Turn::Idle);
}

#[test]
fn failure_is_told_once_and_so_is_the_recovery() {
    let mut rig = Rig::new();
    rig.record(1);
    rig.until(|rig| matches!(rig.worker.exporter.condition(), Condition::Unreachable(_)));
    rig.until(|rig| !rig.said.heard().is_empty());
    let [(topic, text)] = <[_; 1]>::try_from(mem::take(&mut *rig.said.heard())).unwrap();
    assert!(topic == Topic::Failure && text.contains("cannot be reached; spans wait"), "{text}");
    rig.end_pauses();
    rig.pass(Duration::from_secs(300));
    assert_eq!(rig.said(), [], "it is known");

    rig.listen();
    rig.until(|rig| !rig.said.heard().is_empty());
    let [(topic, text)] = <[_; 1]>::try_from(mem::take(&mut *rig.said.heard())).unwrap();
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
    rig.until(|rig| !rig.said.heard().is_empty());
    assert_eq!(rig.said(), [Topic::Failure]);
    // Another recovery was told a moment ago.
    rig.desk.insist(Topic::Recovery, "before");
    rig.listen();
    rig.until(|rig| rig.worker.exporter.condition() == &Condition::Fine);
    rig.pass(Duration::from_secs(3));
    rig.end_pauses();
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.said(), [Topic::Recovery; 2]);

    // Another failure was. One that is over before it is told is no news, and neither is its end.
    rig.desk.insist(Topic::Failure, "before");
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

/// With the default delay of five seconds before a small batch goes.
#[test]
fn first_failure_on_this_machine_is_told_within_a_second() {
    let mut rig = Rig::new();
    rig.record(1);
    rig.until(|rig| !rig.said.heard().is_empty());
    assert_eq!(rig.said(), [Topic::Failure]);
    let told = rig.worker.driver.now().since(Moment::START);
    assert!(told < Duration::from_secs(1), "after {told:?}");
}

/// One request goes early, to show that there is a collector. The others go by their age.
#[test]
fn only_the_first_batch_goes_early() {
    let mut rig = Rig::new();
    rig.listen();
    rig.record(1);
    rig.until(|rig| rig.engine.ledger().exported == 1);
    let first = rig.worker.driver.now();
    assert!(first.since(Moment::START) < Duration::from_secs(1));
    rig.record(1);
    rig.until(|rig| rig.engine.ledger().exported == 2);
    assert!(rig.worker.driver.now().since(first) >= rig.desk.plan.schedule_delay);
}

#[test]
fn shutdown_gives_up_once_it_is_clear_that_nothing_listens_on_this_machine() {
    for spans in [1, 3 * BATCH] {
        for seconds_before in [0, 60] {
            let mut rig = Rig::new();
            rig.record(spans);
            rig.pass(Duration::from_secs(seconds_before));
            let began = rig.worker.driver.now();
            rig.desk.handoff.ask_shutdown(Deadline::after(Duration::from_secs(3600)));
            let late = began.after(Duration::from_secs(60));
            while rig.worker.turn(&rig.desk, Wait::UntilDue) != Turn::Over {
                assert!(rig.worker.driver.now() < late, "it goes on: {:?}", rig.worker.exporter);
            }
            let took = rig.worker.driver.now().since(began);
            assert!((1000..1500).contains(&took.as_millis()), "{took:?}");
            rig.worker.finish(&rig.desk);
            let ledger = rig.engine.ledger();
            assert_eq!((ledger.lost.shutdown_deadline, ledger.lost.total()), (spans as u64, spans as u64));
            // The reason was told with the failure, and is not told again.
            let said = mem::take(&mut *rig.said.heard());
            let reasons = said.iter().filter(|(_, text)| text.contains("127.0.0.1:4318: connection refused")).count();
            assert_eq!(reasons, 1, "{said:#?}");
        }
    }
}

/// As in a container that is frozen: when the thread goes on the deadline is over, and the answer is there.
#[test]
fn answer_that_came_before_a_shutdown_gives_up_counts() {
    let mut rig = Rig::new();
    rig.listen();
    rig.record(1);
    rig.until(|rig| rig.worker.exporter.doubtful_spans() > 0);
    rig.sim.stop_in_wait(Duration::from_secs(1));
    rig.worker.turn(&rig.desk, Wait::UntilDue);
    assert_eq!(rig.engine.ledger().exported, 0);
    rig.desk.handoff.ask_shutdown(Deadline::after(Duration::ZERO));
    assert_eq!(rig.worker.turn(&rig.desk, Wait::UntilDue), Turn::Over);
    rig.worker.finish(&rig.desk);
    let ledger = rig.engine.ledger();
    assert_eq!((ledger.exported, ledger.unconfirmed, ledger.lost.total()), (1, 0, 0));
    assert_eq!(*rig.said.heard(), []);
}

/// Nothing has failed yet, but there is no connection.
#[test]
fn shutdown_says_what_was_waited_for_where_nothing_has_failed() {
    let mut rig = Rig::new();
    rig.sim.ignore(place());
    rig.record(1);
    rig.pass(Duration::from_secs(1));
    rig.desk.handoff.ask_shutdown(Deadline::after(Duration::ZERO));
    assert_eq!(rig.worker.turn(&rig.desk, Wait::UntilDue), Turn::Over);
    rig.worker.finish(&rig.desk);
    let [(Topic::Loss, text)] = &rig.said.heard()[..] else { panic!("{:?}", rig.said.heard()) };
    let why = ": no connection to http://127.0.0.1:4318/v1/traces: the connect is not answered";
    assert!(text.contains(why), "{text}");
}

/// A collector on this machine restarts: the refusals of less than a second say little, whenever they began.
#[test]
fn shutdown_delivers_to_a_collector_that_listens_again_within_a_second() {
    for seconds_before in [0, 60] {
        let mut rig = Rig::new();
        rig.record(1);
        rig.pass(Duration::from_secs(seconds_before));
        rig.desk.handoff.ask_shutdown(Deadline::after(Duration::from_secs(3600)));
        let back = rig.worker.driver.now().after(Duration::from_millis(900));
        while rig.worker.driver.now() < back {
            assert_ne!(rig.worker.turn(&rig.desk, Wait::UntilDue), Turn::Over);
        }
        rig.listen();
        while rig.worker.turn(&rig.desk, Wait::UntilDue) != Turn::Over {}
        assert_eq!((rig.engine.ledger().exported, rig.engine.ledger().lost.total()), (1, 0));
    }
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

/// Each line has what was dropped since the last one.
#[test]
fn drops_are_told_by_their_number_and_each_once() {
    let mut rig = Rig::new();
    let mut told = vec![];
    for _ in 0..3 {
        let dropped = rig.engine.ledger().lost.total();
        while rig.engine.ledger().lost.total() < dropped + 1000 {
            rig.record(100);
        }
        rig.end_pauses();
        rig.pass(Duration::from_secs(3));
        let lines = mem::take(&mut *rig.said.heard()).into_iter();
        let lines: Vec<_> = lines.filter(|(topic, _)| *topic == Topic::Loss).map(|(_, text)| text).collect();
        let [text] = <[_; 1]>::try_from(lines).unwrap();
        let (number, rest) = text.split_once(' ').unwrap();
        assert!(rest.starts_with("spans were dropped because the memory for them is full"), "{text}");
        told.push(number.parse::<u64>().unwrap());
        assert_eq!(told.iter().sum::<u64>(), rig.engine.ledger().lost.lane_full, "{told:?}");
    }
}

/// Full rings say that the collector is slow; open spans that fill their memory say nothing of it.
#[test]
fn spans_that_find_no_memory_for_open_spans_are_told_with_advice_of_their_own() {
    let mut rig = Rig::new();
    let tracer = rig.engine.tracer("test");
    let mut open = vec![];
    while rig.engine.ledger().lost.live_limit == 0 {
        open.push(tracer.span("open").start());
    }
    rig.pass(Duration::from_secs(3));
    let lines = mem::take(&mut *rig.said.heard());
    let [(Topic::Loss, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(text.starts_with("1 span was not recorded because the memory for open spans is full"), "{text}");
    assert!(text.contains("raise memory_budget") && !text.contains("collector"), "{text}");
}

/// As where a gateway is set up wrongly for a while.
#[test]
fn limit_of_a_request_that_was_learnt_in_bad_days_grows_in_good_ones() {
    let mut rig = Rig::new();
    let takes = Arc::new(AtomicUsize::new(20_000));
    let service = Arc::clone(&takes);
    rig.sim.listen(place(), move || Service { takes: Arc::clone(&service), ..Service::default() });
    let send = |rig: &mut Rig| {
        rig.record(BATCH * 4);
        rig.until(|rig| rig.engine.ledger().exported == rig.engine.ledger().started);
        rig.worker.limit.bytes()
    };
    let learnt = send(&mut rig);
    assert!(learnt < 20_000 && rig.said().contains(&Topic::Warning), "{learnt}");
    takes.store(usize::MAX, SeqCst);
    let sends = (0..50).take_while(|_| send(&mut rig) == learnt).count();
    assert!((5..50).contains(&sends), "{sends}");
    assert_eq!(rig.engine.ledger().lost.total(), 0);
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
        rig.worker.turn(&rig.desk, Wait::UntilDue);
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

#[test]
fn change_of_the_certificates_is_told_once_and_until_it_is_heard() {
    let mut told = None;
    let mut say = |reload: Option<&str>, is_heard| {
        let mut said = None;
        tell_reload(&mut told, reload.map(str::to_owned), |text| {
            said = Some(text.to_owned());
            is_heard
        });
        said
    };
    assert_eq!(say(None, true), None);
    assert_eq!(say(Some("bad"), false).as_deref(), Some("bad"));
    assert_eq!(say(Some("bad"), true).as_deref(), Some("bad"));
    assert_eq!(say(Some("bad"), true), None);
    assert_eq!(say(Some("worse"), true).as_deref(), Some("worse"));
    assert_eq!(say(None, true).as_deref(), Some("the new certificates are in use"));
    assert_eq!(say(None, true), None);
}

#[test]
fn certificates_that_cannot_be_used_show_in_every_health_but_the_first() {
    let why = || "why".to_owned();
    let health = |condition: &Condition, complaint: Option<&str>| health(condition, complaint.into_iter());
    assert_eq!(health(&Condition::Unknown, Some("old")), Health::Starting);
    assert_eq!(health(&Condition::Fine, None), Health::Healthy);
    assert_eq!(health(&Condition::Fine, Some("old")), Health::Degraded("old".into()));
    assert_eq!(health(&Condition::Troubled(why()), Some("old")), Health::Degraded("why; old".into()));
    assert_eq!(health(&Condition::Unreachable(why()), None), Health::Down("why".into()));
    assert_eq!(health(&Condition::Unreachable(why()), Some("old")), Health::Down("why; old".into()));
}
