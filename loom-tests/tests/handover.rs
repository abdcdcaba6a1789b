//! [free]: a block or a seat has one owner at a time, who has seen what the last one did (M8).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use spanring::internals::{self, Block, Class, Lanes, Pool, SeatId, Seats, Shape, Share, Stack, Tally, UNIT};
use spanring_loom::{Cells, RING_BYTES, Stamp, fill, lanes, links, model};

/// A stack, its links, and for each item a cell that only the owner may touch.
struct Items {
    stack: Stack,
    links: Arc<[internals::AtomicU32]>,
    cells: Cells<u32>,
}

impl Items {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { stack: Stack::new(), links: links(count), cells: Cells::new(count, &0) })
    }

    fn pop<const N: usize>(&self) -> Vec<u32> {
        let mut items = vec![];
        self.stack.pop::<N>(&self.links, |item| items.push(item));
        items.iter().for_each(|item| self.touch(*item));
        items
    }

    fn push(&self, items: &[u32]) {
        items.iter().for_each(|item| self.touch(*item));
        self.stack.push(&self.links, items);
    }

    /// Does what an owner may: loom fails when a second one is there, or comes without having seen this.
    fn touch(&self, item: u32) {
        self.cells.change(item as usize, |uses| *uses += 1);
    }

    /// Fails unless all `count` items are in the stack or among those that are `out`, once.
    fn check(&self, count: u32, out: &[u32]) {
        out.iter().for_each(|item| self.touch(*item));
        let mut items = out.to_vec();
        while let [item] = self.pop::<1>()[..] {
            items.push(item);
            assert!(items.len() <= count as usize, "an item is there twice: {items:?}");
        }
        items.sort_unstable();
        assert_eq!(items, (0..count).collect::<Vec<_>>());
    }
}

/// Two threads borrow items, and a third gives one more. Never two owners, and in the end all are there.
#[test]
fn items_have_one_owner() {
    let borrow = |items: &Arc<Items>| {
        let borrowed = items.pop::<1>();
        items.push(&borrowed);
        borrowed
    };
    let run = model(move |run| {
        let items = Items::new(3);
        items.push(&[0, 1]);
        let (first, second, ()) = run.three(&items, borrow, borrow, |items| items.push(&[2]));
        items.check(3, &[]);
        run.note(format!("{first:?} {second:?}"));
    });
    run.expect(["[0] [0]", "[0] [1]", "[0] [2]", "[1] [0]", "[2] [0]", "[2] [2]"]);
}

/// One thread is in the middle of a pop when another pops the same item, pops the next one, and pushes the first back:
/// the head's number is as it was, but the item below has an owner. Nobody may get it a second time.
#[test]
fn pop_that_was_overtaken_starts_anew() {
    let run = model(|run| {
        let items = Items::new(2);
        items.push(&[0, 1]);
        let (mine, theirs) = run.two(
            &items,
            |items| items.pop::<1>(),
            |items| {
                let mut popped = items.pop::<1>();
                popped.extend(items.pop::<1>());
                // The second is kept, if there is one.
                items.push(&popped[..1]);
                popped.split_off(1)
            },
        );
        run.note(format!("{mine:?} {theirs:?}"));
        items.check(2, &[mine, theirs].concat());
    });
    run.expect(["[0] []", "[0] [1]", "[1] []", "[] [1]"]);
}

/// Groups are popped while groups are pushed: no item is lost between the links and none is given twice.
#[test]
fn groups_stay_whole() {
    let run = model(|run| {
        let items = Items::new(4);
        items.push(&[0]);
        let (first, second) = run.two(
            &items,
            |items| {
                items.push(&[1, 2]);
                items.pop::<2>()
            },
            |items| {
                items.push(&[3]);
                items.pop::<2>()
            },
        );
        run.note(format!("{first:?} {second:?}"));
        items.check(4, &[first, second].concat());
    });
    run.expect(["[1, 2] [3, 0]", "[3, 1] [2, 0]", "[2, 0] [3, 1]", "[3, 0] [1, 2]"]);
}

/// Two threads find no free block and cut new ones from the arena, which has three. Nobody gets what another one has.
#[test]
fn new_blocks_have_one_owner() {
    const UNITS: u32 = (Class::First.bytes() / UNIT) as u32;
    let run = model(|run| {
        let pool = Arc::new((Pool::new(3 * Class::First.bytes()), Cells::new(3, &0)));
        let take = |pool: &Arc<(Pool, Cells<u32>)>| {
            let mut taken = vec![];
            for _ in 0..2 {
                pool.0.take::<1>(Class::First, |number| taken.push(number / UNITS));
            }
            taken.iter().for_each(|block| pool.1.change(*block as usize, |uses| *uses += 1));
            taken
        };
        let (first, second) = run.two(&pool, take, take);
        run.note(format!("{first:?} {second:?}"));
        let mut blocks = [first, second].concat();
        blocks.sort_unstable();
        assert_eq!(blocks, [0, 1, 2]);
    });
    run.expect(["[0, 1] [2]", "[0, 2] [1]", "[0] [1, 2]", "[1, 2] [0]"]);
}

/// Two threads sit down, count and get up, with one seat for both. Counts go on from where the thread before left them,
/// because the seat is handed over with all that was done in it.
#[test]
fn seat_is_handed_over_with_its_counts() {
    let sit = |seats: &Arc<Seats>| {
        let seat = seats.take();
        seats.add(seat, Tally::Queued, 1);
        seats.add(seat, Tally::Queued, 1);
        seats.give(seat);
        seat
    };
    let run = model(move |run| {
        let seats = Arc::new(Seats::new(1));
        let (first, second) = run.two(&seats, sit, sit);
        assert_eq!(seats.sum(Tally::Queued), 4);
        assert_eq!(seats.take(), SeatId::Own(0), "the seat came back");
        run.note(format!("{first:?} {second:?}"));
    });
    run.expect(["Own(0) Own(0)", "Own(0) Shared", "Shared Own(0)"]);
}

/// Counts its drops, outside of the model.
struct Owner(Arc<AtomicUsize>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What each thread starts with. The locks are outside of the model: who takes what is fixed.
struct Handles {
    blocks: [Mutex<Option<Block<Owner>>>; 2],
    lanes: Mutex<Option<Arc<Lanes<Owner>>>>,
}

/// Two threads get a block each, with a record that another thread wrote, and give it back; a third takes what has come
/// back by then. A block has one owner, and the lanes go away with the last handle or block, once.
#[test]
fn lanes_live_as_long_as_their_blocks() {
    let run = model(|run| {
        let drops = Arc::new(AtomicUsize::new(0));
        let arena_bytes = 2 * Class::First.bytes();
        let shape = Shape { lanes: 1, ring_bytes: 64, arena_bytes, spill_bytes: 0, seats: 1 };
        let lanes = Lanes::new(shape, Owner(Arc::clone(&drops))).unwrap();
        let mut blocks = [(); 2].map(|()| lanes.take(Class::First).expect("there are two"));
        assert!(lanes.take(Class::First).is_none(), "there are no more");
        assert_eq!(Arc::strong_count(&lanes), 3, "each block holds one");
        for (number, block) in (0..).zip(&mut blocks) {
            fill(block, Stamp::new(number, 0), 8);
        }
        let handles = Handles { blocks: blocks.map(|block| Mutex::new(Some(block))), lanes: Mutex::new(Some(lanes)) };
        let give = |number: u32| {
            move |handles: &Arc<Handles>| {
                let block = handles.blocks[number as usize].lock().unwrap().take().expect("each is given once");
                assert_eq!(Stamp::read(&block.image()[..8]), Stamp::new(number, 0));
                drop(block);
            }
        };
        let ((), (), count) = run.three(&Arc::new(handles), give(0), give(1), |handles| {
            let lanes = handles.lanes.lock().unwrap().take().expect("this thread is the only one");
            let again = [lanes.take(Class::First), lanes.take(Class::First)];
            // Now only blocks hold the lanes: these two, or those that the other threads still have.
            drop(lanes);
            again.into_iter().flatten().count()
        });
        assert_eq!(drops.load(SeqCst), 1, "with the last block, and once");
        run.note(count);
    });
    run.expect([0, 1, 2]);
}

/// Two threads have a share of the lanes each, use it and give it back. In the end the pool has every block, the seats
/// have every count, and no block holds the lanes any more.
#[test]
fn threads_give_their_share_back() {
    // A thread may keep one block in eight.
    const BLOCKS: usize = 16;
    let work = |lanes: &Arc<Lanes<()>>| {
        let mut share = Share::new();
        share.bind(lanes);
        let block = share.take();
        share.teller(lanes).count(Tally::Recording);
        let has_block = block.is_some();
        if let Some(block) = block {
            share.put(block);
        }
        has_block
    };
    let run = model(move |run| {
        let lanes = lanes(1, RING_BYTES, BLOCKS);
        let (first, second) = run.two(&lanes, work, work);
        run.note(first && second);
        assert_eq!(lanes.seats().sum(Tally::Recording), 2);
        assert_eq!(Arc::strong_count(&lanes), 1, "nobody else has them");
        let blocks: Vec<_> = std::iter::from_fn(|| lanes.take(Class::First)).collect();
        assert_eq!(blocks.len(), BLOCKS);
    });
    run.expect([true]);
}
