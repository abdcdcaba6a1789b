//! [publish]: a record is seen whole or not at all (M1).

use std::sync::Arc;

use spanring::internals::{Ring, Seats, Tally};
use spanring_loom::{Answer, HERE, Stamp, WIDE_RING_BYTES, check_order, model, offer, read};

const RECORD_LEN: usize = 16;

/// Offers `count` records; those that were accepted.
fn write(ring: &Ring, writer: u32, count: u32) -> Vec<Stamp> {
    let stamps = (0..count).map(|number| Stamp::new(writer, number));
    stamps.filter(|stamp| offer(ring, *stamp, RECORD_LEN) == Answer::Accepted).collect()
}

/// One writer, and a reader that comes twice. What is read in the end is what was accepted, in order; each record's
/// words belong together (`Stamp::read`), and no word is read while it is written (loom's cells).
#[test]
fn reader_sees_whole_records_in_order() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(WIDE_RING_BYTES, HERE).unwrap());
        let (accepted, mut stamps) = run.two(
            &ring,
            |ring| write(ring, 1, 3),
            |ring| {
                let first = read(ring);
                [first, read(ring)].concat()
            },
        );
        run.note(stamps.len());
        assert_eq!(accepted.len(), 3, "nobody else was there");
        stamps.extend(read(&ring));
        assert_eq!(stamps, accepted);
    });
    run.expect([0, 1, 2, 3]);
}

/// Two writers and a reader on one ring. A writer may be refused because the other is inside, and then nothing of its
/// record is seen; what was accepted is read once, in each writer's own order.
#[test]
fn two_writers_lose_nothing_that_was_accepted() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(WIDE_RING_BYTES, HERE).unwrap());
        let (first, second, mut stamps) =
            run.three(&ring, |ring| write(ring, 1, 2), |ring| write(ring, 2, 2), |ring| read(ring));
        let mut accepted = [first, second].concat();
        run.note(format!("{} of {}", stamps.len(), accepted.len()));
        stamps.extend(read(&ring));
        check_order(&stamps);
        stamps.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(stamps, accepted);
    });
    run.expect(["0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4", "1 of 2", "2 of 3"]);
}

/// A writer counts each record before it is published, as a span's end does. Who has read a record finds it counted: a
/// ledger never shows more spans taken out than put in.
#[test]
fn tally_is_seen_with_the_record() {
    let run = model(|run| {
        let shared = Arc::new((Ring::new(WIDE_RING_BYTES, HERE).unwrap(), Seats::new(1)));
        let ((), (count, tally)) = run.two(
            &shared,
            |shared| {
                let (ring, seats) = &**shared;
                let seat = seats.take();
                for number in 0..2 {
                    let claim = ring.enter(HERE).unwrap().claim(RECORD_LEN).expect("there is room");
                    claim.publish(|bytes| {
                        Stamp::new(1, number).fill(bytes);
                        seats.add(seat, Tally::Queued, 1);
                    });
                }
            },
            |shared| {
                let count = read(&shared.0).len() as u64;
                (count, shared.1.sum(Tally::Queued))
            },
        );
        assert!(count <= tally, "{count} were read and {tally} counted");
        run.note(format!("{count} of {tally}"));
    });
    run.expect(["0 of 0", "0 of 1", "1 of 1", "1 of 2", "2 of 2"]);
}
