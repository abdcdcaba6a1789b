//! A resolver that is slow, hangs, or talks nonsense: what is known goes on, and each question is put once.

use std::time::Duration;

use super::{
    super::Condition,
    collector::{Collector, Do},
    rig::{PLACE, Rig, SOON, TIMEOUT, place},
};
use crate::transport::{
    client::addresses::{ADDRESSES_AGE_MAX, FALL_BACK_AFTER, LOOK_UP_MAX},
    driver::{Answer, Moment, sim::Network},
};

/// A resolver that takes this long for each answer, and how often it was asked.
struct Slow {
    takes: Duration,
    answer: Answer,
    asked: Option<Moment>,
    questions: usize,
}

/// More than any lookup takes that ends.
const HANGS: Duration = Duration::from_secs(24 * 3600);
const SPEEDS: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(6), Duration::from_secs(12), Duration::from_secs(20), HANGS];
const OTHER: &str = "10.0.0.2:4318";

fn named() -> Rig {
    Rig::at("collector.example:4318", PLACE, Network::calm(5), 1)
}

fn found(addresses: &[&str]) -> Answer {
    Ok(addresses.iter().map(|address| address.parse().expect("it is an address")).collect())
}

impl Slow {
    fn new(takes: Duration, answer: Answer) -> Self {
        Self { takes, answer, asked: None, questions: 0 }
    }

    /// Turns until it holds, or for this long; answers what is asked meanwhile.
    fn serve(&mut self, rig: &mut Rig, time_max: Duration, holds: impl Fn(&Rig) -> bool) -> Duration {
        let start = rig.driver.now();
        let limit = start.after(time_max);
        while !holds(rig) && rig.driver.now() < limit {
            // A question is seen between two turns only.
            let next = self.asked.map_or(rig.driver.now().after(SOON / 10), |asked| asked.after(self.takes));
            rig.turn(limit.min(next));
            let resolver = rig.exporter.addresses.resolver.as_ref().expect("there is a name");
            let now = rig.driver.now();
            if self.asked.is_none() && resolver.is_asked() {
                self.asked = Some(now);
                self.questions += 1;
            }
            if self.asked.is_some_and(|asked| now >= asked.after(self.takes)) {
                resolver.settle(self.answer.clone());
                self.asked = None;
            }
        }
        rig.driver.now().since(start)
    }
}

/// A rig that has delivered to its name once, and has no connection any more.
fn acquainted() -> Rig {
    let mut rig = named();
    rig.submit(100);
    rig.settle(Ok(PLACE));
    rig.until_all_end(SOON);
    rig
}

fn disconnect(rig: &mut Rig) {
    rig.sim.reset_all();
    rig.pass(SOON);
    assert_eq!(rig.exporter.connections(), 0);
}

#[test]
fn first_addresses_are_used_whenever_they_come_and_are_asked_for_once() {
    for takes in SPEEDS {
        let mut rig = named();
        let mut resolver = Slow::new(takes, found(&[PLACE]));
        rig.submit(100);
        let mut failures = 0;
        for _ in 0..120 {
            let since = rig.exporter.retry_gate.since;
            resolver.serve(&mut rig, Duration::from_millis(500), |rig| rig.open.is_empty());
            failures += usize::from(rig.exporter.retry_gate.since.is_some_and(|now| Some(now) != since));
        }
        let is_answered = takes < HANGS;
        assert_eq!((rig.taken(), rig.exporter.pending()), if is_answered { (1, 0) } else { (0, 1) }, "{takes:?}");
        assert_eq!(rig.exporter.repeats(), 0, "{takes:?}");
        assert_eq!((resolver.questions, failures), (1, usize::from(takes > LOOK_UP_MAX)), "{takes:?}");
        if is_answered {
            let at = rig.arrivals()[0].1;
            assert!(
                at.since(Moment::START) <= takes + SOON,
                "{takes:?}: nothing waits once there is an answer: {at:?}"
            );
        } else {
            let Condition::Unreachable(why) = rig.exporter.condition() else {
                panic!("{:?}", rig.exporter.condition())
            };
            assert!(why.contains("where collector.example is within 10 s"), "{why}");
        }
        rig.finish();
    }
}

/// A connection breaks when its addresses are old. The lookup gets a second, then those are used that are known.
#[test]
fn old_addresses_are_used_while_the_resolver_is_slow() {
    for takes in SPEEDS {
        let mut rig = acquainted();
        rig.pass(ADDRESSES_AGE_MAX + SOON);
        let mut resolver = Slow::new(takes, found(&[PLACE]));
        for _ in 0..3 {
            disconnect(&mut rig);
            rig.submit(100);
            let waited = resolver.serve(&mut rig, TIMEOUT, |rig| rig.open.is_empty());
            assert!(waited <= FALL_BACK_AFTER + SOON, "{takes:?}: {waited:?}");
            assert_eq!(rig.exporter.condition(), &Condition::Fine);
        }
        assert_eq!((rig.taken(), rig.exporter.repeats(), resolver.questions), (4, 0, 1), "{takes:?}");
        rig.finish();
    }
}

/// The collector restarts at its old place: a resolver that is away, too, does not keep the exporter from it.
#[test]
fn addresses_that_led_nowhere_are_asked_for_again_and_not_forgotten() {
    for takes in SPEEDS {
        let mut rig = acquainted();
        disconnect(&mut rig);
        rig.sim.unlisten(&place(PLACE));
        let mut resolver = Slow::new(takes, Err("collector.example: no answer".to_owned()));
        rig.submit(100);
        resolver.serve(&mut rig, Duration::from_secs(60), |_| false);
        let Condition::Unreachable(why) = rig.exporter.condition() else { panic!("{:?}", rig.exporter.condition()) };
        assert!(why.starts_with(&format!("{PLACE}: ")), "{takes:?}: {why}");
        let is_doubt = takes > Duration::from_secs(1);
        assert!(!is_doubt || why.contains("; these addresses are old: "), "{takes:?}: {why}");
        rig.listen();
        resolver.serve(&mut rig, Duration::from_secs(7), |rig| rig.open.is_empty());
        assert_eq!((rig.taken(), rig.exporter.condition()), (2, &Condition::Fine), "{takes:?}");
        assert!(resolver.questions <= 40, "{takes:?}: {} questions in a minute", resolver.questions);
        rig.finish();
    }
}

/// A service that moves: its new place is found as soon as the resolver says it, while the old one is tried.
#[test]
fn service_that_moves_is_found_by_a_slow_resolver() {
    for takes in SPEEDS.into_iter().filter(|takes| *takes < HANGS) {
        let mut rig = Rig::at("collector.example:4318", OTHER, Network::calm(5), 1);
        rig.submit(100);
        rig.settle(Ok(PLACE));
        let mut resolver = Slow::new(takes, found(&[OTHER]));
        let waited = resolver.serve(&mut rig, Duration::from_secs(60), |rig| rig.open.is_empty());
        assert!(waited <= takes + Duration::from_millis(500) + SOON, "{takes:?}: {waited:?}");
        assert_eq!((rig.taken(), resolver.questions), (1, 1), "{takes:?}");
        rig.finish();
    }
}

/// A shutdown that is short, and a resolver that does not answer in it.
#[test]
fn last_attempt_does_not_wait_for_the_resolver() {
    for millis in [400, 1_500] {
        let mut rig = acquainted();
        rig.pass(ADDRESSES_AGE_MAX + SOON);
        disconnect(&mut rig);
        rig.submit(100);
        let now = rig.driver.now();
        let deadline = now.after(Duration::from_millis(millis));
        rig.exporter.begin_closing();
        rig.exporter.awaited(true, Some(deadline), now);
        let mut resolver = Slow::new(HANGS, found(&[PLACE]));
        resolver.serve(&mut rig, deadline.since(now), |rig| rig.open.is_empty());
        assert_eq!((rig.taken(), rig.exporter.pending()), (2, 0), "{millis} ms");
        rig.finish();
    }
}

/// Of two addresses the first accepts nobody: after the first connection nobody waits for it again, and once the other
/// fails it is tried in its turn.
#[test]
fn address_that_answered_last_is_tried_first() {
    let mut rig = Rig::at("collector.example:4318", OTHER, Network::calm(5), 1);
    rig.sim.ignore(place(PLACE));
    let mut resolver = Slow::new(Duration::ZERO, found(&[PLACE, OTHER]));
    let mut waits = vec![];
    for round in 0..4 {
        rig.submit(100);
        waits.push(resolver.serve(&mut rig, TIMEOUT, |rig| rig.open.is_empty()));
        disconnect(&mut rig);
        if round == 1 {
            // The new answer has them in the old order.
            rig.pass(ADDRESSES_AGE_MAX + SOON);
        }
    }
    assert_eq!((rig.taken(), resolver.questions), (4, 2));
    assert!(waits[0] >= Duration::from_millis(250), "{waits:?}");
    assert!(waits[1..].iter().all(|wait| *wait < SOON), "{waits:?}");
    rig.finish();
}

/// The first of two addresses accepts connections and answers nothing: it costs one request one attempt.
#[test]
fn address_that_failed_last_is_tried_last() {
    for fault in [Do::Close, Do::Reset, Do::Hold, Do::Garble] {
        let mut rig = Rig::at("collector.example:4318", OTHER, Network::calm(5), 1);
        let bad = Collector::default();
        bad.listen(&rig.sim, PLACE);
        bad.will((0..20).map(|_| fault.clone()));
        let mut resolver = Slow::new(Duration::ZERO, found(&[PLACE, OTHER]));
        for _ in 0..3 {
            rig.submit(100);
            resolver.serve(&mut rig, TIMEOUT + SOON, |rig| rig.open.is_empty());
            disconnect(&mut rig);
        }
        let attempts = bad.seen().connections;
        assert_eq!((attempts, resolver.questions), (1, 1), "{fault:?}");
        assert!(rig.taken() >= 2, "{fault:?}: {:?}", rig.ends);
        rig.finish();
    }
}

/// A connection that was no longer wanted, whether it was closed or said so, is not the fault of its address.
#[test]
fn address_whose_connection_was_stale_stays_the_first() {
    for stale in [Do::Reset, Do::Say(408, "connection: close\r\n")] {
        let mut rig = named();
        rig.submit(100);
        let mut resolver = Slow::new(Duration::ZERO, found(&[PLACE, OTHER]));
        resolver.serve(&mut rig, SOON, |rig| rig.open.is_empty());
        rig.collector.listen(&rig.sim, OTHER);
        rig.collector.will([stale.clone()]);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert_eq!((rig.taken(), rig.exporter.repeats()), (2, 1), "{stale:?}");
        let first =
            rig.exporter.addresses.ask(&rig.exporter.route, rig.driver.now()).expect("they are known")[0].clone();
        assert_eq!(first, place(PLACE), "{stale:?}");
        rig.finish();
    }
}
