//! [reclaim]: a writer takes the room of what was read, and no other room (M2).

use std::sync::Arc;

use spanring::internals::{Ring, Visit};
use spanring_loom::{Answer, HERE, RING_BYTES, Stamp, WIDE_RING_BYTES, model, offer, read};

/// Offers records of `len` bytes; those that were accepted, and how many were refused because the ring is full.
fn write(ring: &Ring, numbers: std::ops::Range<u32>, len: usize) -> (Vec<Stamp>, usize) {
    let mut accepted = vec![];
    let mut refused = 0;
    for number in numbers {
        let stamp = Stamp::new(1, number);
        match offer(ring, stamp, len) {
            Answer::Accepted => accepted.push(stamp),
            Answer::Full => refused += 1,
            Answer::Shut(shut) => panic!("nobody else writes, but the ring is {shut:?}"),
        }
    }
    (accepted, refused)
}

/// The ring is full, a writer goes on, and a reader makes room. What is read is what was accepted, in order, and
/// accepted and refused are what was offered. A word that is written before its reader is done fails in loom's cells.
#[test]
fn room_is_taken_only_after_its_release() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (mut expected, refused) = write(&ring, 0..5, 8);
        assert_eq!((expected.len(), refused), (4, 1));
        let ((accepted, refused), mut stamps) = run.two(
            &ring,
            |ring| write(ring, 5..8, 8),
            |ring| {
                let first = read(ring);
                [first, read(ring)].concat()
            },
        );
        assert_eq!(accepted.len() + refused, 3);
        run.note(accepted.len());
        stamps.extend(read(&ring));
        expected.extend(accepted);
        assert_eq!(stamps, expected);
    });
    run.expect([0, 1, 2, 3]);
}

/// The reader reads one record and steps over the others, while a writer goes on: what it had read is given back with
/// them (loom's cells), and nothing of what comes later is stepped over.
#[test]
fn skipped_room_is_taken_only_after_its_release() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (expected, _) = write(&ring, 0..4, 8);
        assert_eq!(expected.len(), 4);
        let ((accepted, refused), stamps) = run.two(
            &ring,
            |ring| write(ring, 4..6, 8),
            |ring| {
                let mut stamps = vec![];
                let mut visit = |bytes: &[u8]| {
                    stamps.push(Stamp::read(bytes));
                    Visit::Enough
                };
                // SAFETY: this thread alone reads the ring.
                unsafe { ring.read(u64::MAX, &mut visit) };
                // SAFETY: as above.
                unsafe { ring.skip() };
                stamps
            },
        );
        assert_eq!(stamps, expected[..1]);
        assert_eq!(accepted.len() + refused, 2);
        // A record that came before the skip may be gone with it, and the last one that came later is there.
        let late = read(&ring);
        assert!(accepted.ends_with(&late), "{late:?} of {accepted:?}");
        run.note(format!("{} {}", accepted.len(), late.len()));
    });
    run.expect(["0 0", "1 0", "1 1", "2 1", "2 2"]);
}

/// The next record does not fit before the end of the memory: it needs room for the padding and, behind the end, for
/// itself. The oracle is the same.
#[test]
fn padding_waits_for_room_too() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(WIDE_RING_BYTES, HERE).unwrap());
        // 16 and four times 24 bytes with their frames: 16 are left, and a record of 24 needs them as padding.
        let (mut expected, _) = write(&ring, 0..1, 8);
        expected.extend(write(&ring, 1..5, 16).0);
        assert_eq!(expected.len(), 5);
        let ((accepted, refused), mut stamps) = run.two(&ring, |ring| write(ring, 5..8, 16), |ring| read(ring));
        assert_eq!(accepted.len() + refused, 3);
        run.note(accepted.len());
        stamps.extend(read(&ring));
        expected.extend(accepted);
        assert_eq!(stamps, expected);
    });
    run.expect([0, 1, 2, 3]);
}
