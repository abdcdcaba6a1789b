//! The lanes as a whole: who finds a ring taken goes to its sibling, and every span is in one column of the ledger.

use std::{ops::Range, sync::Arc};

use spanring::internals::{Lanes, Offer};
use spanring_loom::{RING_BYTES, Stamp, lanes, model, offer_to};

const RECORD_LEN: usize = 8;

/// How many offers had each outcome.
#[derive(Clone, Debug, Default)]
struct Ledger {
    queued: Vec<Stamp>,
    full: usize,
    busy: usize,
    closed: usize,
}

impl Ledger {
    fn count(&mut self, stamp: Stamp, offer: Offer) {
        match offer {
            Offer::Queued { .. } => self.queued.push(stamp),
            Offer::Full => self.full += 1,
            Offer::Busy => self.busy += 1,
            Offer::Closed => self.closed += 1,
        }
    }

    fn offered(&self) -> usize {
        self.queued.len() + self.full + self.busy + self.closed
    }
}

/// Offers records to ring 0 and, where that fails, its sibling.
fn write(lanes: &Lanes<()>, writer: u32, numbers: Range<u32>) -> Ledger {
    let mut ledger = Ledger::default();
    for number in numbers {
        let stamp = Stamp::new(writer, number);
        ledger.count(stamp, offer_to(lanes, 0, stamp, RECORD_LEN));
    }
    ledger
}

fn read(lanes: &Arc<Lanes<()>>) -> Vec<Stamp> {
    let mut stamps = vec![];
    let mut reader = lanes.reader().expect("there is no other");
    reader.read(None, |bytes| stamps.push(Stamp::read(bytes)));
    stamps
}

/// Two threads want the same ring, and there is a sibling: both get in, at the first try or at the second.
#[test]
fn sibling_takes_who_finds_the_ring_taken() {
    let run = model(|run| {
        let lanes = lanes(2, RING_BYTES, 1);
        let stamps = [Stamp::new(1, 0), Stamp::new(2, 0)];
        let (first, second, early) = run.three(
            &lanes,
            move |lanes| offer_to(lanes, 0, stamps[0], RECORD_LEN),
            move |lanes| offer_to(lanes, 0, stamps[1], RECORD_LEN),
            read,
        );
        for offer in [first, second] {
            assert!(
                matches!(offer, Offer::Queued { tries: 1 | 2 }),
                "there are as many rings as writers, but {offer:?}"
            );
        }
        run.note(format!("{first:?} {second:?}"));
        let mut found = [early, read(&lanes)].concat();
        found.sort_unstable();
        assert_eq!(found, stamps);
    });
    run.expect([
        "Queued { tries: 1 } Queued { tries: 1 }",
        "Queued { tries: 1 } Queued { tries: 2 }",
        "Queued { tries: 2 } Queued { tries: 1 }",
    ]);
}

/// Two writers, and a reader that closes and then reads. What was offered is queued, full, busy or closed; what is
/// queued is read, once; and when the close says that it is complete, nothing comes after it.
#[test]
fn ledger_closes() {
    let run = model(|run| {
        let lanes = lanes(2, RING_BYTES, 1);
        // Each ring has room for one more.
        let mut ledger = write(&lanes, 0, 0..4);
        for number in 4..7 {
            let stamp = Stamp::new(0, number);
            ledger.count(stamp, offer_to(&lanes, 1, stamp, RECORD_LEN));
        }
        lanes.reader().expect("there is no other").read(None, |_| ());
        let (first, second, (closed, early)) = run.three(
            &lanes,
            |lanes| write(lanes, 1, 0..2),
            |lanes| write(lanes, 2, 0..2),
            |lanes| (lanes.close(), read(lanes)),
        );
        let late = read(&lanes);
        assert!(!closed || late.is_empty(), "{late:?} came after the close");
        for ledger in [&first, &second] {
            assert_eq!(ledger.offered(), 2);
            assert!(ledger.full == 0, "there was room for all");
            run.note(format!("{} closed", ledger.closed));
        }
        let mut found = [early, late].concat();
        let mut queued = [first.queued, second.queued].concat();
        found.sort_unstable();
        queued.sort_unstable();
        assert_eq!(found, queued);
    });
    run.expect(["0 closed", "1 closed", "2 closed"]);
}

/// Two writers want the last room of both rings. One gets it. The other is told that the rings are full, or that it is
/// in the way, where it met the first one.
#[test]
fn full_rings_refuse_and_count() {
    let run = model(|run| {
        let lanes = lanes(2, RING_BYTES, 1);
        let before = write(&lanes, 0, 0..7);
        assert_eq!(before.queued.len(), 7, "there is room for one more");
        let (first, second) = run.two(&lanes, |lanes| write(lanes, 1, 0..1), |lanes| write(lanes, 2, 0..1));
        for ledger in [&first, &second] {
            assert_eq!(ledger.offered() - ledger.closed, 1);
            run.note(format!("{} full, {} busy", ledger.full, ledger.busy));
        }
        let (mut found, mut queued) = (read(&lanes), [before.queued, first.queued, second.queued].concat());
        assert_eq!(queued.len(), 8);
        found.sort_unstable();
        queued.sort_unstable();
        assert_eq!(found, queued);
    });
    run.expect(["0 full, 0 busy", "1 full, 0 busy", "0 full, 1 busy"]);
}

/// A close that finds one ring taken closes the other one all the same.
#[test]
fn held_ring_does_not_keep_the_others_open() {
    let run = model(|run| {
        let lanes = lanes(2, RING_BYTES, 1);
        let (written, (closed, offer)) = run.two(
            &lanes,
            |lanes| write(lanes, 1, 0..1),
            |lanes| (lanes.close(), offer_to(lanes, 1, Stamp::new(2, 0), RECORD_LEN)),
        );
        assert_eq!(offer, Offer::Closed, "the other ring");
        assert_eq!(written.queued.len() + written.closed, 1);
        assert!(lanes.close(), "nobody is inside");
        run.note(format!("{closed} {}", written.queued.len()));
    });
    run.expect(["false 1", "false 0", "true 0", "true 1"]);
}
