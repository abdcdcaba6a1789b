//! What ended before a flush began is read by it, whatever other threads go on doing (M4).

use std::sync::Arc;

use loom::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use spanring::internals::{Class, Lanes, Marks, Offer};
use spanring_loom::{Cells, Stamp, WIDE_RING_BYTES, check_order, fill, lanes, model, offer_to};

const RECORD_LEN: usize = 16;

/// Where a span went when it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Queued,
    Spilled,
}

struct Shared {
    lanes: Arc<Lanes<()>>,
    /// Says that the marks are there.
    asked: AtomicBool,
    marks: Cells<Option<Marks>>,
}

impl Shared {
    /// Ends a span as the recorder does: into a ring, or onto the spill stack when the rings are taken.
    fn end(&self, stamp: Stamp) -> End {
        match offer_to(&self.lanes, 0, stamp, RECORD_LEN) {
            Offer::Queued { .. } => End::Queued,
            Offer::Busy => {
                let mut block = self.lanes.take(Class::First).expect("there is one for each span");
                fill(&mut block, stamp, RECORD_LEN);
                self.lanes.spill(block, RECORD_LEN).expect("there is room for each block");
                End::Spilled
            }
            offer => panic!("there is room for every span, but {offer:?}"),
        }
    }

    /// Ends a span, asks for a flush, and ends another span.
    fn flush(&self) -> [End; 2] {
        let before = self.end(BEFORE);
        self.marks.change(0, |marks| *marks = Some(self.lanes.marks()));
        self.asked.store(true, Release);
        [before, self.end(AFTER)]
    }

    /// Reads for the flush, if it was asked for.
    fn read(&self) -> Option<Vec<Stamp>> {
        let mut reader = self.lanes.reader().expect("there is no other");
        let marks = self.asked.load(Acquire).then(|| self.marks.change(0, Option::take))?;
        let mut stamps = vec![];
        reader.read(marks.as_ref(), |bytes| stamps.push(Stamp::read(bytes)));
        Some(stamps)
    }
}

const BEFORE: Stamp = Stamp { writer: 1, number: 0 };
const AFTER: Stamp = Stamp { writer: 1, number: 1 };
const OTHER: Stamp = Stamp { writer: 2, number: 0 };

/// One thread ends a span, asks for a flush and ends another span; a second one ends a span all the while; the third is
/// the reader. It has the first span in its pass for the flush, and not the one above the mark. In the end each span
/// was read once, in its thread's order but for those that were spilled.
#[test]
fn flush_has_all_that_ended_before() {
    let run = model(|run| {
        let shared = Arc::new(Shared {
            lanes: lanes(1, WIDE_RING_BYTES, 3),
            asked: AtomicBool::new(false),
            marks: Cells::new(1, &None),
        });
        let ([before, after], other, early) =
            run.three(&shared, |shared| shared.flush(), |shared| shared.end(OTHER), |shared| shared.read());
        match &early {
            Some(early) => {
                assert!(early.contains(&BEFORE), "the flush has only {early:?}");
                assert!(!early.contains(&AFTER) || after == End::Spilled, "it is above the mark");
                run.note(format!("{before:?} {after:?}, the other {other:?}"));
            }
            None => run.note("nobody asked"),
        }
        let mut stamps = early.unwrap_or_default();
        let mut reader = shared.lanes.reader().expect("the other is gone");
        reader.read(None, |bytes| stamps.push(Stamp::read(bytes)));
        if [before, after] == [End::Queued; 2] {
            check_order(&stamps);
        }
        stamps.sort_unstable();
        assert_eq!(stamps, [BEFORE, AFTER, OTHER]);
    });
    run.expect([
        "Queued Queued, the other Queued",
        "Queued Queued, the other Spilled",
        "Queued Spilled, the other Queued",
        "Spilled Queued, the other Queued",
        "nobody asked",
    ]);
}
