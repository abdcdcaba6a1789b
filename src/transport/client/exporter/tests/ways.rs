//! The way to the collector fails before there is a connection to speak on: names that lead nowhere, a proxy without a
//! tunnel.

use std::time::Duration;

use super::{
    super::Condition,
    rig::{PLACE, Rig, SOON, place},
};
use crate::transport::{
    client::{
        addresses::{ADDRESSES_AGE_MAX, LOOK_UP_MAX},
        endpoint::Endpoint,
        proxy::Proxy,
        route::Route,
    },
    driver::{
        Moment,
        sim::{Network, Peer, Replies},
    },
};

fn named() -> Rig {
    Rig::at("collector.example:4318", PLACE, Network::calm(5), 1)
}

/// The next attempt to connect fails within this time; why.
fn next_failure(rig: &mut Rig, time_max: Duration) -> String {
    let since = rig.exporter.retry_gate.since;
    rig.until(time_max, |rig| rig.exporter.retry_gate.since != since);
    let Condition::Unreachable(why) = rig.exporter.condition() else { panic!("{:?}", rig.exporter.condition()) };
    why.clone()
}

#[test]
fn name_that_is_not_found_is_asked_for_again_and_nothing_is_given_up() {
    let mut rig = named();
    rig.submit(100);
    for _ in 0..8 {
        rig.settle(Err("collector.example: no such host"));
        assert_eq!(next_failure(&mut rig, SOON), "collector.example: no such host");
    }
    assert_eq!((rig.exporter.pending(), rig.ends.len()), (1, 0));
    rig.settle(Ok(PLACE));
    rig.until_all_end(SOON);
    assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.condition()), (1, 0, &Condition::Fine));
    rig.finish();
}

/// Elsewhere a refusal may be that of a machine in between, or of one that is being replaced.
#[test]
fn only_refusals_on_this_machine_and_in_a_shutdown_make_waiting_hopeless() {
    let refused = |listens: &str, answer: Option<&str>| {
        let mut rig = match answer {
            None => Rig::at(listens, listens, Network::calm(5), 1),
            Some(_) => Rig::at("collector.example:4318", listens, Network::calm(5), 1),
        };
        rig.sim.unlisten(&place(listens));
        rig.submit(100);
        for _ in 0..3 {
            if let Some(address) = answer {
                rig.settle(Ok(address));
            }
            next_failure(&mut rig, Duration::from_secs(10));
            assert!(!rig.exporter.is_hopeless(), "nothing shuts down");
        }
        rig.exporter.begin_closing();
        let begun = rig.driver.now();
        let mut attempts = 0;
        while attempts < 20 && !rig.exporter.is_hopeless() {
            if let Some(address) = answer {
                rig.settle(Ok(address));
            }
            next_failure(&mut rig, Duration::from_secs(10));
            attempts += 1;
        }
        let is_hopeless = rig.exporter.is_hopeless();
        let took = rig.driver.now().since(begun);
        assert!(!is_hopeless || (attempts >= 2 && took >= Duration::from_secs(1)), "{attempts} in {took:?}");
        is_hopeless
    };
    assert!(refused("127.0.0.1:4318", None));
    assert!(refused("[::1]:4318", None));
    assert!(refused("127.0.0.1:4318", Some("127.0.0.1:4318")));
    assert!(!refused(PLACE, None));
    assert!(!refused(PLACE, Some(PLACE)));
}

#[test]
fn lookup_that_hangs_is_given_up_in_time_and_tried_again() {
    let mut rig = named();
    assert_eq!(rig.exporter.obstacle(), None, "nothing waits");
    rig.submit(100);
    let start = rig.driver.now();
    rig.pass(SOON);
    let obstacle = rig.exporter.obstacle();
    assert!(obstacle.is_some_and(|what| what.contains("name")), "{obstacle:?}");
    let why = next_failure(&mut rig, LOOK_UP_MAX + SOON);
    assert!(rig.driver.now().since(start) >= LOOK_UP_MAX);
    assert!(why.contains("collector.example") && why.contains("10 s"), "{why}");
    rig.settle(Ok(PLACE));
    rig.until_all_end(SOON);
    assert_eq!((rig.taken(), rig.exporter.condition()), (1, &Condition::Fine));
    rig.finish();
}

#[test]
fn old_addresses_are_looked_up_again_and_kept_if_that_fails() {
    let mut rig = named();
    rig.submit(100);
    rig.settle(Ok(PLACE));
    rig.until_all_end(SOON);
    rig.pass(ADDRESSES_AGE_MAX + SOON);
    for lookups in [1, 0] {
        rig.sim.reset_all();
        rig.pass(SOON);
        rig.submit(100);
        (0..lookups).for_each(|_| rig.settle(Err("no answer")));
        rig.until_all_end(SOON);
        assert_eq!(rig.exporter.condition(), &Condition::Fine);
    }
    assert_eq!((rig.taken(), rig.collector.seen().connections), (3, 3));
    rig.finish();
}

#[test]
fn name_that_led_to_nobody_is_looked_up_again() {
    let mut rig = named();
    rig.submit(100);
    rig.settle(Ok("10.0.0.9:4318"));
    assert!(next_failure(&mut rig, SOON).starts_with("10.0.0.9:4318: "));
    rig.settle(Ok(PLACE));
    rig.until_all_end(SOON);
    assert_eq!(rig.taken(), 1);
    rig.finish();
}

/// Accepts, reads, says these pieces with a pause after each, and keeps the connection open.
#[derive(Clone)]
struct Says(Vec<&'static str>, Duration);

impl Peer for Says {
    fn received(&mut self, _: &[u8], _: Moment, replies: &mut Replies) {
        for piece in self.0.drain(..) {
            replies.send(piece);
            replies.pause(self.1);
        }
    }
}

/// An exporter that needs a tunnel, and a proxy that says this when it is asked for one.
fn tunnelled(says: Says) -> Rig {
    let endpoint = Endpoint::parse("https://collector.example:4318/v1/traces").expect("it is an endpoint");
    let proxy = Some(Proxy::parse(PLACE).expect("it is a proxy"));
    let mut rig = Rig::on(Route { endpoint, proxy }, PLACE, Network::calm(5), 1);
    rig.sim.listen(place(PLACE), move || says.clone());
    rig.submit(100);
    rig
}

#[test]
fn proxy_that_never_makes_the_tunnel_is_given_up_in_time_and_tried_again() {
    let letters = "HTTP/1.1 200 OK, but not yet\r\n".split("").filter(|letter| !letter.is_empty()).collect();
    let interims = ["HTTP/1.1 102 Processing\r\n\r\n"; 8].to_vec();
    let second = Duration::from_secs(1);
    for says in [Says(vec![], second), Says(letters, second), Says(interims, second)] {
        let mut rig = tunnelled(says);
        rig.pass(Duration::from_secs(1));
        let obstacle = rig.exporter.obstacle();
        assert!(obstacle.is_some_and(|what| what.contains("made no tunnel")), "{obstacle:?}");
        for _ in 0..2 {
            let why = next_failure(&mut rig, Duration::from_secs(6));
            assert_eq!(why, "the proxy accepts the connection, and makes no tunnel within 5 s");
        }
        assert_eq!((rig.exporter.pending(), rig.ends.len()), (1, 0));
        rig.finish();
    }
}

/// Whatever body it has: nobody waits for that.
#[test]
fn proxy_that_makes_no_tunnel_is_known_by_its_status_at_once() {
    for head in ["", "content-length: 9\r\n", "transfer-encoding: chunked\r\n", "content-length: 99999999999\r\n"] {
        let answer = format!("HTTP/1.1 407 Proxy Authentication Required\r\n{head}\r\nno").leak();
        let mut rig = tunnelled(Says(vec![answer], Duration::ZERO));
        for _ in 0..2 {
            let why = next_failure(&mut rig, Duration::from_secs(4));
            assert!(why.contains("status 407") && why.contains("user:password@"), "{head:?}: {why}");
        }
        assert_eq!((rig.exporter.pending(), rig.ends.len()), (1, 0));
        rig.finish();
    }
}
