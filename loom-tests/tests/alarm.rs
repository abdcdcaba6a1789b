//! [alarm]: a reader that sleeps over a filled ring is woken (M5).

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use spanring::internals::{ForkWord, Lanes, Offer, Shape};
use spanring_loom::{RING_BYTES, model};

struct Shared {
    lanes: Arc<Lanes<()>>,
    rang: Arc<AtomicBool>,
}

impl Shared {
    /// One ring, in which half of the mark waits already.
    fn new() -> Arc<Self> {
        let shape = Shape { lanes: 1, ring_bytes: RING_BYTES, arena_bytes: 1024, spill_bytes: 0, seats: 1 };
        let lanes = Lanes::new(shape, ()).expect("a model has memory");
        let rang = Arc::new(AtomicBool::new(false));
        let bell = Arc::clone(&rang);
        lanes.alarm().hang(Box::new(move || bell.store(true, SeqCst)));
        let shared = Arc::new(Self { lanes, rang });
        shared.end();
        shared
    }

    /// As a span ends: at once where the last look at the ring left room, else the way that looks.
    fn end(&self) {
        let lease = self.lanes.ring(0).enter(self.lanes.generation()).expect("there is one writer");
        match lease.claim_at_once(8) {
            Some(claim) => claim.publish(|record| record.fill(1)),
            None => assert_eq!(self.lanes.offer(0, 8, |record| record.fill(1)), Offer::Queued { tries: 1 }),
        }
    }
}

/// A writer fills the ring past the mark while the reader goes to sleep. Either the reader notices, or it is woken: it
/// never sleeps over a filled ring with nobody having rung.
#[test]
fn reader_never_sleeps_over_a_filled_ring() {
    let run = model(|run| {
        let shared = Shared::new();
        let ((), sleeps) = run.two(
            &shared,
            |shared| (0..2).for_each(|_| shared.end()),
            |shared| shared.lanes.alarm().sleep(|| shared.lanes.is_filled()),
        );
        assert!(shared.lanes.is_filled());
        let rang = shared.rang.load(SeqCst);
        assert!(!sleeps || rang, "the reader sleeps, and nobody woke it");
        // Who was woken hears of it; who was not, does not.
        assert_eq!(sleeps && shared.lanes.alarm().wake_up(), sleeps);
        run.note(match (sleeps, rang) {
            (true, _) => "woken",
            (false, true) => "noticed, and was woken",
            (false, false) => "noticed",
        });
    });
    run.expect(["woken", "noticed"]);
}

/// The process forks while the parent's reader sleeps, and two threads of the child come: one that records, and one
/// that becomes the reader. A reader is called for once, the sleep of the parent's is forgotten, and the child's own is
/// not.
#[test]
fn child_forgets_the_sleep_of_its_parents_reader_alone() {
    let run = model(|run| {
        let shared = Shared::new();
        let calls = Arc::new(AtomicU32::new(0));
        let called = Arc::clone(&calls);
        shared.lanes.alarm().start_by(Box::new(move || {
            called.fetch_add(1, SeqCst);
        }));
        assert!(shared.lanes.alarm().sleep(|| shared.lanes.is_filled()), "the parent's reader");
        ForkWord::of_process().wipe();
        let (writes, sleeps) = run.two(
            &shared,
            |shared| {
                let is_settled = shared.lanes.settle() && shared.lanes.alarm().call_reader();
                if is_settled {
                    (0..3).for_each(|_| shared.end());
                }
                is_settled
            },
            |shared| {
                let is_settled = shared.lanes.settle() && shared.lanes.alarm().call_reader();
                is_settled.then(|| shared.lanes.alarm().sleep(|| shared.lanes.is_filled()))
            },
        );
        assert_eq!(calls.load(SeqCst), 1, "a reader is called for once");
        assert_eq!(shared.lanes.is_filled(), writes);
        let rang = shared.rang.load(SeqCst);
        assert!(!writes || sleeps != Some(true) || rang, "the reader sleeps, and nobody woke it");
        assert!(sleeps.is_some() || !rang, "no reader of the child ever slept");
        run.note(format!("{writes} {sleeps:?} {rang}"));
    });
    run.expect(["true Some(true) true", "true Some(false) false", "true None false", "false Some(true) false"]);
}
