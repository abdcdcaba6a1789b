//! [settle]: one thread of a child process puts the lanes in order; who finds them in order finds all of it.

use std::sync::Arc;

use spanring::internals::{Class, ForkWord, Lanes, Offer, Tally};
use spanring_loom::{RING_BYTES, Run, Stamp, lanes, model, offer_to};

/// Spans that wait in the lanes of the parent.
const WAITING: u64 = 5;

/// Lanes of a parent: the ring is full, a block is spilled, one span found no room, and one is open.
fn used_lanes() -> Arc<Lanes<()>> {
    let lanes = lanes(1, RING_BYTES, 1);
    let seat = lanes.seats().take();
    lanes.seats().add(seat, Tally::Recording, WAITING + 2);
    lanes.seats().add(seat, Tally::Queued, 4);
    lanes.seats().add(seat, Tally::Spilled, 1);
    lanes.seats().add(seat, Tally::LaneFull, 1);
    for number in 0..4 {
        assert_eq!(offer_to(&lanes, 0, Stamp::new(0, number), 8), Offer::Queued { tries: 1 });
    }
    let block = lanes.take(Class::First).expect("there is one");
    lanes.spill(block, 8).unwrap();
    lanes
}

/// What a thread of the child does before it records: settles, or finds another one at it. Then it records a span; what
/// became of it, if it came so far.
fn settle_and_offer(lanes: &Lanes<()>, lost: u64, stamp: Stamp) -> Option<Offer> {
    if !lanes.settle() {
        return None;
    }
    assert!(!lanes.needs_settling());
    check_tallies(lanes, lost);
    let offer = offer_to(lanes, 0, stamp, 8);
    assert!(matches!(offer, Offer::Queued { .. } | Offer::Busy), "the ring was full before, but {offer:?}");
    Some(offer)
}

fn check_tallies(lanes: &Lanes<()>, lost: u64) {
    let tallies = [Tally::Recording, Tally::Queued, Tally::Spilled, Tally::LaneFull, Tally::Forked];
    let sums = tallies.map(|tally| lanes.seats().sum(tally));
    assert_eq!(sums, [lost, 0, 0, 0, lost], "what the parent left is written off, once");
}

/// Two threads of the child settle and record. Exactly what they recorded is there, and nothing of the parent's but the
/// count of its spans that are lost here.
fn run_child(run: &Run, lanes: &Arc<Lanes<()>>, lost: u64) {
    let stamps = [Stamp::new(1, 0), Stamp::new(2, 0)];
    let (first, second) = run.two(
        lanes,
        move |lanes| settle_and_offer(lanes, lost, stamps[0]),
        move |lanes| settle_and_offer(lanes, lost, stamps[1]),
    );
    run.note(format!("{} {}", first.is_some(), second.is_some()));
    assert!(first.is_some() || second.is_some(), "one of them settled");
    assert!(lanes.settle());
    check_tallies(lanes, lost);
    assert_eq!(lanes.taken(), 0);
    let mut reader = lanes.reader().expect("the parent's reader is not the child's");
    let mut found = vec![];
    reader.read(None, |bytes| found.push(Stamp::read(bytes)));
    let offers = stamps.into_iter().zip([first, second]);
    let queued = offers.filter(|(_, offer)| matches!(offer, Some(Offer::Queued { .. }))).map(|(stamp, _)| stamp);
    found.sort_unstable();
    assert_eq!(found, queued.collect::<Vec<_>>());
}

/// The process forks, and two threads of the child race to their first span. One of them settles. The other is told
/// "not yet", or finds the ring empty and the tallies written off, all of it.
#[test]
fn settled_lanes_are_seen_whole() {
    let run = model(|run| {
        let lanes = used_lanes();
        let mut parents_reader = lanes.reader().expect("there is no other");
        ForkWord::of_process().wipe();
        assert!(lanes.needs_settling());
        assert_eq!(parents_reader.read(None, |_| panic!("these are the parent's to deliver")), 0);
        run_child(run, &lanes, WAITING + 1);
        let reader = lanes.reader().expect("`run_child` has dropped its own");
        drop(parents_reader);
        assert!(lanes.reader().is_none(), "the parent's reader has no say here");
        drop(reader);
    });
    run.expect(["true true", "true false", "false true"]);
}

/// The process forks while a thread of the parent is inside the ring. That thread is not in the child, whose own
/// threads find the ring free.
#[test]
fn ring_that_was_held_is_free() {
    let run = model(|run| {
        let lanes = used_lanes();
        assert_eq!(lanes.reader().expect("there is no other").read(None, |_| ()), 5);
        // What runs in here is the child: its copy of the parent's thread never goes on.
        let inner = Arc::clone(&lanes);
        lanes.offer(0, 8, |_| {
            ForkWord::of_process().wipe();
            let busy = offer_to(&inner, 0, Stamp::new(0, 9), 8);
            assert_eq!(busy, Offer::Busy, "until somebody settles");
            run_child(run, &inner, 1);
            assert_eq!(offer_to(&inner, 0, Stamp::new(1, 1), 8), Offer::Queued { tries: 1 });
        });
    });
    run.expect(["true true", "true false", "false true"]);
}
