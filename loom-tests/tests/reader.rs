//! [reader]: there is one reader at a time, and the next one goes on where the last one stopped.

use std::sync::Arc;

use spanring::internals::{Lanes, Offer, SeatId, Tally};
use spanring_loom::{Cells, RING_BYTES, Stamp, lanes, model, offer_to};

/// The lanes, and a cell that only who has the reader touches.
struct Shared {
    lanes: Arc<Lanes<()>>,
    desk: Cells<u32>,
}

impl Shared {
    /// Lanes with the records `numbers` in their one ring.
    fn new() -> Arc<Self> {
        Arc::new(Self { lanes: lanes(1, RING_BYTES, 1), desk: Cells::new(1, &0) })
    }

    fn write(&self, numbers: std::ops::Range<u32>) -> Vec<Stamp> {
        let stamps = numbers.map(|number| Stamp::new(1, number));
        let is_queued = |offer| matches!(offer, Offer::Queued { .. });
        stamps.filter(|stamp| is_queued(offer_to(&self.lanes, 0, *stamp, 8))).collect()
    }

    /// Reads all there is, if there is no other reader.
    fn read(&self) -> Option<Vec<Stamp>> {
        let mut reader = self.lanes.reader()?;
        self.desk.change(0, |visits| *visits += 1);
        let mut stamps = vec![];
        reader.read(None, |bytes| stamps.push(Stamp::read(bytes)));
        self.desk.change(0, |visits| *visits += 1);
        Some(stamps)
    }
}

/// Two threads want to read what is there. Each gets a reader or none; while one has it, it has it alone (loom's cell),
/// and together they read every record once.
#[test]
fn readers_follow_each_other() {
    let run = model(|run| {
        let shared = Shared::new();
        let offered = shared.write(0..2);
        assert_eq!(offered.len(), 2);
        let (first, second) = run.two(&shared, |shared| shared.read(), |shared| shared.read());
        let lens = [&first, &second].map(|stamps| stamps.as_ref().map(Vec::len));
        run.note(format!("{lens:?}"));
        let stamps: Vec<_> = [first, second].into_iter().flatten().flatten().collect();
        assert_eq!(stamps, offered);
        assert_eq!(shared.lanes.taken(), 2);
        let mut last = shared.lanes.reader().expect("the last one gave it back");
        assert!(shared.lanes.reader().is_none(), "there is one");
        assert_eq!(last.read(None, |_| panic!("all was read")), 0);
    });
    run.expect(["[Some(2), Some(0)]", "[Some(0), Some(2)]", "[Some(2), None]", "[None, Some(2)]"]);
}

/// The ring is full, and a writer goes on while two readers follow each other: each record is read once, and room that
/// the first reader released is not released again (the writer would write over a record that waits).
#[test]
fn positions_are_handed_over() {
    let run = model(|run| {
        let shared = Shared::new();
        let mut offered = shared.write(0..4);
        assert_eq!(offered.len(), 4);
        let (accepted, first, second) =
            run.three(&shared, |shared| shared.write(4..5), |shared| shared.read(), |shared| shared.read());
        offered.extend(accepted);
        let mut stamps: Vec<_> = [first, second, shared.read()].into_iter().flatten().flatten().collect();
        stamps.sort_unstable();
        assert_eq!(stamps, offered);
        run.note(stamps.len());
    });
    run.expect([4, 5]);
}

/// Ends a span as the recorder does: it is counted in the ring, before it is published.
fn end(lanes: &Lanes<()>) -> Offer {
    lanes.offer(0, 8, |_| lanes.seats().add(SeatId::Shared, Tally::Queued, 1))
}

/// The last reader gives up while a writer goes on. What was given up, and what is accepted past it, is what the writer
/// was told is accepted; and whoever sees that the reader has given up sees the final count.
#[test]
fn what_is_given_up_is_final() {
    let run = model(|run| {
        let lanes = lanes(1, RING_BYTES, 1);
        assert_eq!(end(&lanes), Offer::Queued { tries: 1 });
        let ((offers, seen), (closed, given_up)) = run.two(
            &lanes,
            |lanes| ([end(lanes), end(lanes)], lanes.is_given_up().then(|| lanes.taken())),
            |lanes| {
                let reader = lanes.reader().expect("there is no other");
                (lanes.close(), reader.give_up())
            },
        );
        assert!(seen.is_none_or(|taken| taken == given_up), "{seen:?} of {given_up}");
        assert!(lanes.is_given_up() && lanes.reader().is_none());
        assert_eq!(lanes.taken(), given_up);
        let queued = offers.iter().filter(|offer| matches!(offer, Offer::Queued { .. })).count() as u64;
        assert!(offers.iter().all(|offer| matches!(offer, Offer::Queued { .. } | Offer::Closed)), "{offers:?}");
        assert_eq!(lanes.accepted(), 1 + queued);
        assert!(!closed || lanes.accepted() == given_up, "nothing comes after a close");
        run.note(format!("{closed} {queued} {given_up} {}", seen.is_some()));
    });
    run.expect([
        "true 0 1 true",
        "true 1 2 false",
        "true 2 3 false",
        "false 1 1 true",
        "false 2 2 false",
        "false 1 2 true",
    ]);
}
