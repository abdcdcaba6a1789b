//! Answers that ask for another try: what they leave open, and what becomes of the connection that brought them.

use std::time::Duration;

use super::{
    collector::{Do, Sick},
    rig::{Rig, SOON, SPANS, TIMEOUT, calm, place},
};
use crate::transport::{client::outcome::RequestEnd, driver::sim::Network};

/// A gateway may have passed on what it says 502 or 504 to. What the request is told later does not change that.
#[test]
fn request_that_is_refused_after_a_gateway_failed_is_unconfirmed() {
    for (first, unconfirmed) in [
        (Do::TakeAndSay(502), SPANS),
        (Do::TakeAndSay(504), SPANS),
        (Do::Say(504, ""), SPANS),
        (Do::Say(503, ""), 0),
        (Do::Say(429, ""), 0),
    ] {
        let mut rig = calm();
        rig.collector.will([first.clone(), Do::Say(400, "")]);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(1));
        assert!(matches!(rig.ends[..], [(1, RequestEnd::Refused { status: Some(400), .. })]), "{:?}", rig.ends);
        assert_eq!((rig.unconfirmed(), rig.arrivals().len()), (unconfirmed, 2), "{first:?}");
        assert_eq!(rig.exporter.duplicates_max(), unconfirmed as u64, "{first:?}");
        rig.finish();
    }
}

#[test]
fn request_that_a_gateway_fails_until_its_time_is_over_is_unconfirmed() {
    let mut rig = calm();
    rig.collector.will((0..1_000).map(|_| Do::TakeAndSay(504)));
    rig.submit(100);
    rig.until_all_end(TIMEOUT + Duration::from_secs(1));
    assert!(matches!(&rig.ends[..], [(1, RequestEnd::Expired(why))] if why.contains("504")), "{:?}", rig.ends);
    let copies = SPANS * (rig.arrivals().len() - 1);
    assert_eq!((rig.unconfirmed(), rig.exporter.duplicates_max()), (SPANS, copies as u64));
    rig.finish();
}

/// The halves may have arrived with the whole.
#[test]
fn halves_of_a_request_that_a_gateway_failed_are_doubtful() {
    let mut rig = calm();
    let refusals = [Do::Say(400, ""), Do::Say(400, "")];
    rig.collector.will([Do::TakeAndSay(502), Do::Say(413, "")].into_iter().chain(refusals));
    rig.submit(100);
    rig.until_all_end(Duration::from_secs(1));
    assert_eq!((rig.unconfirmed(), rig.exporter.duplicates_max()), (SPANS, 2 * SPANS as u64));
    rig.finish();
}

/// What was not sent cannot have been passed on.
#[test]
fn gateway_that_fails_before_it_has_the_request_leaves_no_doubt() {
    let mut rig = Rig::new(Network { window_bytes: 2_000, ..Network::calm(5) }, 1);
    rig.collector.will([Do::SayEarly(504), Do::Say(400, "")]);
    rig.submit(9_000);
    rig.until_all_end(Duration::from_secs(1));
    assert_eq!((rig.unconfirmed(), rig.exporter.repeats(), rig.exporter.duplicates_max()), (0, 1, 0));
    rig.finish();
}

/// Behind a balancer each connection leads to a server of its own: one that fails for ever costs an attempt.
#[test]
fn connection_that_is_put_off_is_left_and_a_fresh_one_is_tried() {
    for status in [502, 503, 504] {
        let mut rig = calm();
        rig.collector.sicken(Sick::Connection(1), status);
        for _ in 0..4 {
            rig.submit(100);
            rig.until_all_end(Duration::from_secs(1));
        }
        let connections = rig.collector.seen().connections;
        assert_eq!((rig.taken(), rig.exporter.repeats(), connections), (4, 1, 2), "{status}");
        rig.finish();
    }
}

/// A 429 is the service's word on this client, and would be the same on any connection.
#[test]
fn connection_that_is_throttled_is_kept() {
    let mut rig = calm();
    rig.collector.will([Do::Say(429, ""), Do::Say(429, "retry-after: 1\r\n")]);
    rig.submit(100);
    rig.until_all_end(Duration::from_secs(4));
    let connections = rig.collector.seen().connections;
    assert_eq!((rig.taken(), rig.exporter.repeats(), connections), (1, 2, 1));
    rig.finish();
}

const ADDRESSES: [&str; 2] = ["[::1]:4318", "127.0.0.1:4318"];

/// A collector at both addresses of a name.
fn at_two(connections_max: usize) -> Rig {
    let rig = Rig::at("localhost:4318", ADDRESSES[1], Network::calm(5), connections_max);
    rig.collector.listen(&rig.sim, ADDRESSES[0]);
    rig
}

#[test]
fn address_that_puts_off_is_left_for_another_and_stays_the_last() {
    for connections_max in [1, 4] {
        let mut rig = at_two(connections_max);
        rig.collector.sicken(Sick::Place(ADDRESSES[0]), 503);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(1));
        // Fresh connections, too.
        rig.sim.reset_all();
        rig.pass(SOON);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert_eq!((rig.taken(), rig.exporter.repeats()), (2, 1));
        rig.finish();
    }
}

#[test]
fn address_is_preferred_for_a_success_only() {
    for (status, arrives_there) in [(200, true), (400, false), (429, false)] {
        let mut rig = at_two(1);
        rig.sim.unlisten(&place(ADDRESSES[0]));
        let answer = if status == 200 { Do::TakeAndClose("connection: close\r\n") } else { Do::Say(status, CLOSE) };
        rig.collector.will([answer]);
        rig.submit(100);
        rig.until(SOON, |rig| !rig.arrivals().is_empty() && rig.exporter.connections() == 0);
        rig.collector.listen(&rig.sim, ADDRESSES[0]);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(1));
        assert_eq!(rig.collector.seen().last_at == Some(place(ADDRESSES[1])), arrives_there, "{status}");
        rig.finish();
    }
}

const CLOSE: &str = "connection: close\r\n";

/// Each connection that is made is asked something, and the back-off is that of a collector whose connections stay.
#[test]
fn collector_that_puts_everything_off_is_not_dialled_more_often_than_it_is_asked() {
    for (status, connections_max) in [503, 429].into_iter().flat_map(|status| [(status, 1), (status, 4)]) {
        let mut rig = at_two(connections_max);
        rig.collector.will((0..1_000).map(|_| Do::Say(status, "")));
        let limit = rig.driver.now().after(Duration::from_secs(60));
        while rig.driver.now() < limit {
            if rig.exporter.has_room() {
                rig.submit(100);
            }
            rig.pass(SOON);
        }
        let connections = rig.collector.seen().connections;
        let asked = rig.arrivals().len();
        assert!(connections <= asked, "{status}: {connections} connections, asked {asked} times");
        // Half of at most five seconds on the average.
        assert!((15..50).contains(&asked), "{status}: asked {asked} times in a minute");
        rig.finish();
    }
}
