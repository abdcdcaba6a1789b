//! What is accepted is seen by whoever reads after the close; everything else is counted closed (M3).

use std::sync::Arc;

use spanring::internals::{AtomicU32, Ring, Shut, Spill, SpillRefusal, Visit};
use spanring_loom::{Answer, Cells, HERE, RING_BYTES, Stamp, links, model, offer, read};

const RECORD_LEN: usize = 8;

/// Offers two records; those that were accepted.
fn write(ring: &Ring) -> Vec<Stamp> {
    let mut accepted = vec![];
    for stamp in [Stamp::new(1, 0), Stamp::new(1, 1)] {
        match offer(ring, stamp, RECORD_LEN) {
            Answer::Accepted => accepted.push(stamp),
            answer => assert_eq!(answer, Answer::Shut(Shut::Closed)),
        }
    }
    accepted
}

/// A writer, and a thread that closes the ring and reads it, without a word from the writer. It reads exactly the
/// records that the writer was told are accepted.
#[test]
fn closer_reads_all_that_was_accepted() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (accepted, stamps) = run.two(&ring, |ring| write(ring), |ring| ring.close().then(|| read(ring)));
        if let Some(stamps) = &stamps {
            assert_eq!(*stamps, accepted);
        }
        run.note(format!("{:?}", stamps.map(|stamps| stamps.len())));
    });
    run.expect(["None", "Some(0)", "Some(1)", "Some(2)"]);
}

/// The same, where a third thread may have closed the ring before the one that reads.
#[test]
fn second_closer_reads_all_that_was_accepted() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (accepted, _, stamps) =
            run.three(&ring, |ring| write(ring), |ring| ring.close(), |ring| ring.close().then(|| read(ring)));
        if let Some(stamps) = &stamps {
            assert_eq!(*stamps, accepted);
        }
        run.note(format!("{:?}", stamps.map(|stamps| stamps.len())));
    });
    run.expect(["None", "Some(0)", "Some(1)", "Some(2)"]);
}

/// A thread closes the ring, reads it, and gives its memory back. No writer is in it then: loom sees both in one word.
#[test]
fn memory_goes_back_when_the_last_writer_is_out() {
    let run = model(|run| {
        let ring = Arc::new(Ring::new(RING_BYTES, HERE).unwrap());
        let (accepted, stamps) = run.two(
            &ring,
            |ring| write(ring),
            |ring| {
                let is_closed = ring.close();
                let stamps = read(ring);
                // SAFETY: this thread is the only reader.
                unsafe { ring.give_back() };
                is_closed.then_some(stamps)
            },
        );
        if let Some(stamps) = &stamps {
            assert_eq!(*stamps, accepted);
        }
        run.note(stamps.is_some());
    });
    run.expect([false, true]);
}

struct Spilled {
    spill: Spill,
    links: Arc<[AtomicU32]>,
    /// What each block holds.
    blocks: Cells<u32>,
}

/// Spills two blocks; those that were accepted.
fn push(Spilled { spill, links, blocks }: &Spilled) -> Vec<u32> {
    let mut accepted = vec![];
    for block in 0..2 {
        blocks.change(block as usize, |value| *value = block + 10);
        match spill.push(links, block, 1) {
            Ok(()) => accepted.push(block),
            Err(refusal) => {
                assert_eq!(refusal, SpillRefusal::Closed);
                // A refused block is still the pusher's.
                blocks.change(block as usize, |value| *value = 0);
            }
        }
    }
    accepted
}

/// A pusher against the close of the spill stack. What the closer takes is what the pusher was told is accepted, with
/// what it wrote into the blocks (loom's cells); the byte count ends at zero.
#[test]
fn closer_takes_all_that_was_spilled() {
    let run = model(|run| {
        let shared = Arc::new(Spilled { spill: Spill::new(2), links: links(2), blocks: Cells::new(2, &0) });
        let (accepted, taken) = run.two(
            &shared,
            |shared| push(shared),
            |shared| {
                shared.spill.close();
                let mut taken = vec![];
                shared.spill.take_all(
                    &shared.links,
                    |_| 1,
                    |block| {
                        shared.blocks.change(block as usize, |value| assert_eq!(*value, block + 10));
                        taken.push(block);
                        Visit::Next
                    },
                );
                taken
            },
        );
        assert_eq!(accepted, taken);
        assert_eq!(shared.spill.bytes(), 0);
        assert_eq!(shared.spill.take_all(&shared.links, |_| 1, |_| panic!("nothing is left")), (0, Visit::Next));
        run.note(taken.len());
    });
    run.expect([0, 1, 2]);
}
