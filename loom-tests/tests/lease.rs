//! [lease]: who leases the ring has the last holder's cells; who is refused touches nothing.

use std::sync::Arc;

use spanring::internals::{Ring, Shut};
use spanring_loom::{Answer, HERE, RING_BYTES, Stamp, check_order, model, offer, read};

const RECORD_LEN: usize = 8;

/// Offers `count` records; what became of each.
fn write(ring: &Ring, writer: u32, count: u32) -> Vec<(Stamp, Answer)> {
    let stamps = (0..count).map(|number| Stamp::new(writer, number));
    stamps.map(|stamp| (stamp, offer(ring, stamp, RECORD_LEN))).collect()
}

fn with(answers: &[(Stamp, Answer)], wanted: Answer) -> Vec<Stamp> {
    answers.iter().filter(|(_, answer)| *answer == wanted).map(|(stamp, _)| *stamp).collect()
}

/// Two writers, and nobody reads until they are done. A holder that does not know where the last one stopped writes
/// over its record (loom's cells, or a record that is missing), and one that does not know how full the ring is accepts
/// too many.
#[test]
fn cells_travel_with_the_lease() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (first, second) = run.two(&ring, |ring| write(ring, 1, 3), |ring| write(ring, 2, 3));
        let answers = [first, second].concat();
        let mut accepted = with(&answers, Answer::Accepted);
        let held = with(&answers, Answer::Shut(Shut::Held)).len();
        assert_eq!(accepted.len(), 4.min(6 - held), "the ring has room for four records");
        assert_eq!(accepted.len() + held + with(&answers, Answer::Full).len(), 6);
        run.note(held);
        let mut stamps = read(&ring);
        check_order(&stamps);
        stamps.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(stamps, accepted);
    });
    run.expect([0, 1, 2, 3]);
}

/// The ring is full, a reader releases room, and two writers come: what the first has seen of the reader's position,
/// the second uses without looking. Accepted records are read once; loom's cells see a writer that is too early.
#[test]
fn seen_head_travels_with_the_lease() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let mut expected = with(&write(&ring, 0, 4), Answer::Accepted);
        assert_eq!(expected.len(), 4);
        let (first, second, mut stamps) =
            run.three(&ring, |ring| write(ring, 1, 1), |ring| write(ring, 2, 1), |ring| read(ring));
        let accepted = with(&[first, second].concat(), Answer::Accepted);
        run.note(accepted.len());
        stamps.extend(read(&ring));
        check_order(&stamps);
        expected.extend(accepted);
        stamps.sort_unstable();
        expected.sort_unstable();
        assert_eq!(stamps, expected);
    });
    run.expect([0, 1, 2]);
}

/// A close meets a holder: it does not take the ring from under it, and succeeds once the holder is out. From then on
/// nobody enters. The holder leaves the ring closed, unless the close came in the middle of its release.
#[test]
fn close_waits_for_the_holder_and_is_final() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (answers, (closed, next)) =
            run.two(&ring, |ring| write(ring, 1, 2), |ring| (ring.close(), offer(ring, Stamp::new(2, 0), RECORD_LEN)));
        let accepted = with(&answers, Answer::Accepted);
        let refused = with(&answers, Answer::Shut(Shut::Closed)).len();
        assert_eq!(accepted.len() + refused + with(&answers, Answer::Shut(Shut::Held)).len(), 2);
        assert!(!closed || next == Answer::Shut(Shut::Closed), "what was closed let somebody in");
        assert!(ring.close(), "nobody is inside");
        assert_eq!(write(&ring, 2, 1)[0].1, Answer::Shut(Shut::Closed));
        let stamps = read(&ring);
        assert_eq!(stamps.iter().filter(|stamp| stamp.writer == 1).copied().collect::<Vec<_>>(), accepted);
        assert_eq!(stamps.len() - accepted.len(), usize::from(next == Answer::Accepted));
        run.note(format!("{closed} {refused} {next:?}"));
    });
    run.expect([
        "true 0 Shut(Closed)",
        "true 1 Shut(Closed)",
        "true 2 Shut(Closed)",
        "false 0 Shut(Closed)",
        "false 1 Shut(Closed)",
        "false 0 Accepted",
    ]);
}
