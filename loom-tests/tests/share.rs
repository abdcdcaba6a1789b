//! What a thread remembers of the lanes: the ring that took its last span is the first that it tries.

use std::{ptr, sync::Arc};

use spanring::internals::{Lanes, Offer, Shape, Share, Tally, cpu};
use spanring_loom::{RING_BYTES, Stamp, model};

const RECORD_LEN: usize = 8;

/// Ends `count` spans as the recorder does, with the thread's own share; in which ring each went, and whether at once.
fn write(lanes: &Arc<Lanes<()>>, writer: u32, count: u32) -> Vec<String> {
    let mut share = Share::new();
    share.bind(lanes);
    let places = (0..count).map(|number| end(lanes, &share, Stamp::new(writer, number))).collect();
    share.release();
    places
}

fn end(lanes: &Arc<Lanes<()>>, share: &Share<()>, stamp: Stamp) -> String {
    let fill = |record: &mut [u8]| {
        stamp.fill(&mut record[..RECORD_LEN]);
        share.at_home(lanes).expect("each thread has a seat").seat().count(Tally::Queued);
    };
    let home = share.at_home(lanes).expect("each thread has a seat");
    let ring = home.ring();
    if let Some(claim) = ring.enter(lanes.generation()).ok().and_then(|lease| lease.claim_at_once(RECORD_LEN)) {
        claim.publish(fill);
        return "at once".into();
    }
    match share.offer(lanes, RECORD_LEN, fill) {
        Offer::Queued { tries } => {
            let home = share.at_home(lanes).expect("each thread has a seat");
            assert!(
                ptr::eq(home.ring(), lanes.ring(cpu::hint() + tries - 1)),
                "it took the span, and is the first choice"
            );
            format!("{tries}")
        }
        offer => panic!("there are as many rings as threads, but {offer:?}"),
    }
}

/// Two threads whose hints lead to the same of two rings. One meets the other, goes to the sibling, and ends its next
/// span there at once. Every span is read, and counted before that.
#[test]
fn thread_stays_with_the_ring_that_took_its_span() {
    let run = model(|run| {
        let shape = Shape { lanes: 2, ring_bytes: RING_BYTES, arena_bytes: 1024, spill_bytes: 0, seats: 2 };
        let lanes = Lanes::new(shape, ()).expect("a model has memory");
        let (first, second) = run.two(&lanes, |lanes| write(lanes, 1, 2), |lanes| write(lanes, 2, 2));
        for places in [first, second] {
            run.note(places.join(", "));
        }
        let mut stamps = vec![];
        let mut reader = lanes.reader().expect("there is no other");
        reader.read(None, |bytes| stamps.push(Stamp::read(bytes)));
        stamps.sort_unstable();
        assert_eq!(stamps, [Stamp::new(1, 0), Stamp::new(1, 1), Stamp::new(2, 0), Stamp::new(2, 1)]);
        assert_eq!(lanes.accepted(), 4);
    });
    run.expect(["1, at once", "2, at once", "1, 2"]);
}
