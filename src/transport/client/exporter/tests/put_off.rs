//! Answers that ask for another try: what they leave open, and what becomes of the connection that brought them.

use std::time::Duration;

use super::{
    collector::Do,
    rig::{Rig, SPANS, TIMEOUT, calm},
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
