//! [publish]: a record is seen whole or not at all (M1).

use std::sync::Arc;

use loom::thread;
use spanring::internals::{Ring, Shut};
use spanring_loom::{Answer, Stamp, WIDE_RING_BYTES, check_order, model, offer, read};

const RECORD_LEN: usize = 16;

/// Offers records until `count` were offered; the numbers of those that were accepted.
fn write(ring: &Ring, writer: u32, count: u32) -> Vec<Stamp> {
    let stamps = (0..count).map(|number| Stamp::new(writer, number));
    stamps.filter(|stamp| offer(ring, *stamp, RECORD_LEN) == Answer::Accepted).collect()
}

/// One writer, and a reader that comes in between. What the reader has in the end is what was accepted, in order; each
/// record's words belong together (`Stamp::read`), and no word is read while it is written (loom's cells).
#[test]
fn reader_sees_whole_records_in_order() {
    let seen = model(|seen| {
        let ring = Arc::new(Ring::new(WIDE_RING_BYTES).unwrap());
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || write(&ring, 1, 3))
        };
        let mut stamps = read(&ring);
        seen.note(stamps.len());
        stamps.extend(read(&ring));
        let accepted = writer.join().unwrap();
        assert_eq!(accepted.len(), 3, "nobody else was there");
        stamps.extend(read(&ring));
        assert_eq!(stamps, accepted);
    });
    seen.expect([0, 1, 2, 3]);
}

/// Two writers and a reader on one ring. A writer may be refused because the other is inside, and then nothing of its record
/// is seen; what was accepted is read once, in each writer's own order.
#[test]
fn two_writers_lose_nothing_that_was_accepted() {
    let seen = model(|seen| {
        let ring = Arc::new(Ring::new(WIDE_RING_BYTES).unwrap());
        let writers = [1, 2].map(|writer| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || write(&ring, writer, 2))
        });
        let mut stamps = read(&ring);
        let mut accepted: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        stamps.extend(read(&ring));
        check_order(&stamps);
        stamps.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(stamps, accepted);
        seen.note(accepted.len());
    });
    seen.expect([2, 3, 4]);
}
