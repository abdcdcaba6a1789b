//! zstd, and a collector that does not take it: nothing is lost, and all goes on by gzip.

use std::time::Duration;

use super::{
    super::{Coder, RequestEnd},
    collector::Do,
    rig::{Rig, SOON},
};
use crate::transport::{
    driver::sim::Network,
    http::compression::{Coding, Compression},
};

/// An exporter that compresses by zstd.
fn rig(connections_max: usize) -> Rig {
    let mut rig = Rig::new(Network::calm(1), connections_max);
    rig.exporter.coder = Coder::new(Compression::Zstd);
    rig
}

fn codings(rig: &Rig) -> Vec<Coding> {
    rig.collector.seen().codings.clone()
}

#[test]
fn zstd_that_is_taken_stays() {
    let mut rig = rig(1);
    rig.collector.will([Do::Take(SOON), Do::Say(503, ""), Do::Say(413, "")]);
    for _ in 0..4 {
        rig.submit(10_000);
        rig.until_all_end(Duration::from_secs(10));
    }
    // One came twice, and another one in two halves.
    assert_eq!(codings(&rig), [Coding::Zstd; 7]);
    assert_eq!((&rig.declined[..], rig.taken()), (&[][..], 5));
    rig.finish();
}

#[test]
fn http_03_collector_that_declines_zstd_gets_everything_by_gzip_at_once() {
    let declines = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nunsupported Content-Encoding: zstd\n";
    for answer in [Do::Say(415, ""), Do::Say(415, "connection: close\r\n"), Do::SayRaw(declines.to_owned(), true)] {
        let mut rig = rig(1);
        rig.collector.will([Do::Take(Duration::ZERO), answer]);
        for _ in 0..2 {
            rig.submit(10_000);
            rig.submit(10_000);
            rig.until_all_end(SOON);
        }
        use Coding::{Gzip, Zstd};
        assert_eq!(codings(&rig), [Zstd, Zstd, Gzip, Gzip, Gzip]);
        assert_eq!((&rig.declined[..], rig.taken()), (&[Zstd][..], 4));
        // Nothing is coded twice from now on.
        assert_eq!(rig.exporter.coder.coding(&rig.exporter.route, 10_000), Gzip);
        rig.finish();
    }
}

#[test]
fn two_requests_that_are_declined_together_are_one_line() {
    let mut rig = rig(2);
    rig.collector.will([Do::Take(SOON), Do::Take(SOON)]);
    rig.submit(10_000);
    rig.submit(10_000);
    rig.until_all_end(Duration::from_secs(1));
    assert_eq!(rig.exporter.connections(), 2);
    rig.collector.will([Do::Say(415, ""), Do::Say(415, "")]);
    // The third one waits, and is coded already.
    for _ in 0..3 {
        rig.submit(10_000);
    }
    rig.until_all_end(SOON);
    let codings = codings(&rig);
    assert_eq!(codings[2..4], [Coding::Zstd; 2]);
    assert_eq!(codings[4..], [Coding::Gzip; 3]);
    assert_eq!((&rig.declined[..], rig.taken()), (&[Coding::Zstd][..], 5));
    rig.finish();
}

#[test]
fn request_that_is_declined_by_gzip_too_is_refused() {
    let mut rig = rig(1);
    rig.collector.will([Do::Say(415, ""), Do::Say(415, "")]);
    rig.submit(10_000);
    rig.until_all_end(SOON);
    assert!(matches!(rig.ends[..], [(_, RequestEnd::Refused { status: Some(415), .. })]), "{:?}", rig.ends);
    assert_eq!(codings(&rig), [Coding::Zstd, Coding::Gzip]);
    rig.finish();
}

/// A refusal that is not about the coding is none of it.
#[test]
fn other_refusals_of_zstd_are_final() {
    let mut rig = rig(1);
    rig.collector.will([Do::Say(400, "")]);
    rig.submit(10_000);
    rig.submit(10_000);
    rig.until_all_end(SOON);
    assert!(matches!(rig.ends[0].1, RequestEnd::Refused { status: Some(400), .. }), "{:?}", rig.ends);
    assert_eq!((codings(&rig), &rig.declined[..]), (vec![Coding::Zstd; 2], &[][..]));
    rig.finish();
}
