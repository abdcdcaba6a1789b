//! [note], [hold]: every change of a shared value is made once, by one thread at a time, and nobody waits.

use std::sync::{Arc, Mutex};

use spanring::internals::{AtomicU32, Block, Class, Combined, Lanes, Left};
use spanring_loom::{Cells, Stamp, check_order, fill, lanes, links, model};

/// The value is the list of notes that were applied, which only the holder touches (loom's cell).
struct Shared {
    value: Combined<Vec<Stamp>>,
    links: Arc<[AtomicU32]>,
    /// The text of each note.
    notes: Cells<Stamp>,
}

impl Shared {
    fn new() -> Arc<Self> {
        let notes = Cells::new(4, &Stamp::new(9, 9));
        Arc::new(Self { value: Combined::new(vec![]), links: links(4), notes })
    }

    /// Leaves a note, or holds the value and applies this note and those that come meanwhile.
    fn leave(&self, stamp: Stamp) {
        let note = 2 * stamp.writer + stamp.number;
        self.notes.change(note as usize, |text| *text = stamp);
        let Left::Holder(mut hold) = self.value.leave(&self.links, note, u64::MAX) else {
            return;
        };
        hold.change(|applied| self.apply(applied, note));
        hold.release(&self.links, |applied, note| self.apply(applied, note));
    }

    /// Holds the value for a moment, if it is free.
    fn enter(&self) -> bool {
        let hold = self.value.enter();
        let is_held = hold.is_some();
        if let Some(mut hold) = hold {
            hold.change(|applied| applied.reserve(1));
            hold.release(&self.links, |applied, note| self.apply(applied, note));
        }
        is_held
    }

    fn apply(&self, applied: &mut Vec<Stamp>, note: u32) {
        applied.push(self.notes.change(note as usize, |text| *text));
    }

    /// Fails unless the value is free, with exactly these notes applied, each thread's in their order.
    fn check(&self, expected: &[Stamp]) {
        let mut hold = self.value.enter().expect("nobody holds it any more");
        let mut applied = hold.change(|applied| applied.clone());
        hold.release(&self.links, |_, note| panic!("note {note} was stranded"));
        check_order(&applied);
        applied.sort_unstable();
        assert_eq!(applied, expected);
    }
}

/// Two threads, two notes each.
#[test]
fn notes_are_applied_once_and_in_order() {
    model(|run| {
        let shared = Shared::new();
        let stamps = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(writer, number)| Stamp::new(writer, number));
        run.two(
            &shared,
            move |shared| stamps[..2].iter().for_each(|stamp| shared.leave(*stamp)),
            move |shared| stamps[2..].iter().for_each(|stamp| shared.leave(*stamp)),
        );
        shared.check(&stamps);
    });
}

/// Two threads leave a note each while a third holds the value for a moment. No note is stranded behind the release,
/// whoever releases.
#[test]
fn no_note_is_stranded() {
    let run = model(|run| {
        let shared = Shared::new();
        let stamps = [Stamp::new(0, 0), Stamp::new(1, 0)];
        let ((), (), has_entered) = run.three(
            &shared,
            move |shared| shared.leave(stamps[0]),
            move |shared| shared.leave(stamps[1]),
            |shared| shared.enter(),
        );
        run.note(has_entered);
        shared.check(&stamps);
    });
    run.expect([false, true]);
}

/// The same through the lanes, with the notes in blocks: they go back to the pool, each once.
#[test]
fn notes_go_back_to_the_pool() {
    type Shared = (Arc<Lanes<()>>, Combined<Vec<Stamp>>, [Mutex<Option<Block<()>>>; 2]);
    let leave = |writer: u32| {
        move |shared: &Arc<Shared>| {
            let (lanes, value, blocks) = &**shared;
            let block = blocks[writer as usize].lock().unwrap().take().expect("each is left once");
            lanes.combine(value, block, 16, u64::MAX, |applied, note| applied.push(Stamp::read(note)));
        }
    };
    model(move |run| {
        let lanes = lanes(1, 64, 2);
        let stamps = [Stamp::new(0, 0), Stamp::new(1, 0)];
        // The locks are outside of the model: who takes what is fixed.
        let blocks = stamps.map(|stamp| {
            let mut block = lanes.take(Class::First).expect("there are two");
            fill(&mut block, stamp, 16);
            Mutex::new(Some(block))
        });
        let shared: Arc<Shared> = Arc::new((Arc::clone(&lanes), Combined::new(vec![]), blocks));
        run.two(&shared, leave(0), leave(1));
        let mut hold = shared.1.enter().expect("nobody holds it any more");
        hold.change(|applied| {
            applied.sort_unstable();
            assert_eq!(*applied, stamps);
        });
        hold.release(&[], |_, note| panic!("note {note} was stranded"));
        let again = [(); 3].map(|()| lanes.take(Class::First));
        assert_eq!(again.iter().flatten().count(), 2);
    });
}
