//! [spill]: blocks are taken once, whole, and oldest first; their bytes stay below the budget (M6).

use std::sync::Arc;

use spanring::internals::{AtomicU32, Spill, SpillRefusal, Visit};
use spanring_loom::{Cells, Stamp, check_order, links, model};

/// Bytes of each block. The budget has room for two.
const BLOCK_BYTES: u64 = 10;
const BUDGET: u64 = 25;

struct Shared {
    spill: Spill,
    links: Arc<[AtomicU32]>,
    /// What each block holds.
    blocks: Cells<Stamp>,
}

impl Shared {
    fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self { spill: Spill::new(budget), links: links(4), blocks: Cells::new(4, &Stamp::new(0, 0)) })
    }

    /// Spills the two blocks of `writer`; those that were accepted.
    fn push(&self, writer: u32) -> Vec<Stamp> {
        let stamps = [Stamp::new(writer, 0), Stamp::new(writer, 1)];
        stamps.into_iter().filter(|stamp| self.push_one(*stamp).is_ok()).collect()
    }

    fn push_one(&self, stamp: Stamp) -> Result<(), SpillRefusal> {
        let block = 2 * stamp.writer + stamp.number;
        self.blocks.change(block as usize, |value| *value = stamp);
        self.spill.push(&self.links, block, BLOCK_BYTES)
    }

    /// Takes all there is.
    fn take(&self) -> Vec<Stamp> {
        let mut stamps = vec![];
        let (count, _) = self.spill.take_all(
            &self.links,
            |_| BLOCK_BYTES,
            |block| {
                stamps.push(self.blocks.change(block as usize, |value| *value));
                Visit::Next
            },
        );
        assert_eq!(count, stamps.len());
        stamps
    }
}

/// Two pushers with two blocks each against a reader that takes all. Accepted and refused are what was offered; what
/// was accepted is taken once, in each pusher's order, with what the pusher wrote into it (loom's cells); and the stack
/// never has more blocks than the budget.
#[test]
fn blocks_are_taken_once_and_within_the_budget() {
    let run = model(|run| {
        let shared = Shared::new(BUDGET);
        let (first, second, early) =
            run.three(&shared, |shared| shared.push(0), |shared| shared.push(1), |shared| shared.take());
        let late = shared.take();
        assert!(early.len().max(late.len()) as u64 * BLOCK_BYTES <= BUDGET);
        let mut accepted = [first, second].concat();
        assert!(accepted.len() >= 2, "two fit, whatever happens");
        assert_eq!(shared.spill.bytes(), 0);
        run.note(format!("{} of {}", early.len(), accepted.len()));
        let mut stamps = [early, late].concat();
        check_order(&stamps);
        stamps.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(stamps, accepted);
    });
    run.expect(["0 of 2", "1 of 2", "1 of 3", "2 of 2", "2 of 3", "2 of 4"]);
}

/// A taken block comes back while a push that knew it as the top is under way. The chain stays whole: every block is
/// taken as often as it was pushed.
#[test]
fn block_that_comes_back_does_no_harm() {
    let run = model(|run| {
        let shared = Shared::new(100);
        let [below, top, other] = [Stamp::new(0, 0), Stamp::new(0, 1), Stamp::new(1, 0)];
        shared.push_one(below).unwrap();
        shared.push_one(top).unwrap();
        let (_, early) = run.two(
            &shared,
            move |shared| shared.push_one(other).unwrap(),
            move |shared| {
                let taken = shared.take();
                shared.push_one(top).unwrap();
                taken
            },
        );
        run.note(early.len());
        let mut stamps = [early, shared.take()].concat();
        stamps.sort_unstable();
        assert_eq!(stamps, [below, top, top, other]);
    });
    run.expect([2, 3]);
}

/// The reader has enough after one of three blocks and puts the rest back, while another thread pushes and a third
/// closes the stack. Every block is taken once, and a stack that was closed stays closed.
#[test]
fn rest_that_is_put_back_is_not_lost_and_opens_nothing() {
    let run = model(|run| {
        let shared = Shared::new(100);
        let stamps = [Stamp::new(0, 0), Stamp::new(0, 1), Stamp::new(1, 0)];
        let other = Stamp::new(1, 1);
        stamps.iter().for_each(|stamp| shared.push_one(*stamp).unwrap());
        let (is_pushed, (), first) = run.three(
            &shared,
            move |shared| shared.push_one(other).is_ok(),
            |shared| shared.spill.close(),
            |shared| {
                let mut first = None;
                let take = |block| {
                    first = Some(shared.blocks.change(block as usize, |value| *value));
                    Visit::Enough
                };
                shared.spill.take_all(&shared.links, |_| BLOCK_BYTES, take);
                first
            },
        );
        run.note(is_pushed);
        assert_eq!(first, Some(stamps[0]), "the oldest");
        assert_eq!(shared.spill.push(&shared.links, 0, BLOCK_BYTES), Err(SpillRefusal::Closed));
        assert_eq!(shared.spill.bytes(), (2 + u64::from(is_pushed)) * BLOCK_BYTES);
        let late = shared.take();
        let mut rest = stamps[1..].to_vec();
        rest.extend(is_pushed.then_some(other));
        let place = |stamp| late.iter().position(|late| *late == stamp);
        assert!(place(stamps[1]) < place(stamps[2]), "{late:?}");
        assert_eq!(late.len(), rest.len());
        assert!(rest.iter().all(|stamp| late.contains(stamp)), "{late:?}");
        assert_eq!(shared.spill.bytes(), 0);
    });
    run.expect([false, true]);
}
