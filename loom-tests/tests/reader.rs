//! [reader]: there is one reader at a time, and the next one goes on where the last one stopped.

use std::sync::Arc;

use spanring::internals::{Lanes, Offer};
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
