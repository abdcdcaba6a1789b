//! [note], [hold], [last]: every change of a shared value is made once, by one thread at a time, and nobody waits.

use std::sync::{Arc, Mutex};

use spanring::internals::{AtomicU32, Block, Change, Class, Combined, Hold, Lanes, Left};
use spanring_loom::{Cells, Stamp, check_order, fill, lanes, links, model};

/// The value is the list of notes that were applied, which only the holder touches (loom's cell).
struct Shared {
    value: Combined<Vec<Stamp>>,
    links: Arc<[AtomicU32]>,
    /// The text of each note.
    notes: Cells<Stamp>,
    /// How many notes a holder applies.
    enough: u64,
}

/// What is applied last.
const LAST: Stamp = Stamp { writer: 9, number: 7 };

impl Shared {
    fn new(enough: u64) -> Arc<Self> {
        let notes = Cells::new(4, &Stamp::new(9, 9));
        Arc::new(Self { value: Combined::new(vec![]), links: links(4), notes, enough })
    }

    /// Leaves a note, or holds the value and applies this note and others. False when the value is closed.
    fn leave(&self, stamp: Stamp) -> bool {
        let note = 2 * stamp.writer + stamp.number;
        self.notes.change(note as usize, |text| *text = stamp);
        match self.value.leave(&self.links, note, u64::MAX) {
            Left::Holder(hold) => self.release(hold),
            Left::Noted => {}
            Left::Full => panic!("there is room"),
            Left::Closed => return false,
        }
        true
    }

    /// Holds the value for a moment, if it is free.
    fn enter(&self) -> bool {
        let hold = self.value.enter();
        let is_held = hold.is_some();
        hold.into_iter().for_each(|hold| self.release(hold));
        is_held
    }

    /// Closes the value; whether this thread made the last change.
    fn close(&self, last: u64) -> bool {
        let (_, hold) = self.value.close(last);
        let is_held = hold.is_some();
        hold.into_iter().for_each(|hold| self.release(hold));
        is_held
    }

    fn release(&self, hold: Hold<'_, Vec<Stamp>>) {
        let apply = |applied: &mut Vec<Stamp>, note| applied.push(self.notes.change(note as usize, |text| *text));
        let finish = |applied: &mut Vec<Stamp>, last| {
            assert_eq!(last, u64::from(LAST.number));
            applied.push(LAST);
        };
        hold.release(&self.links, self.enough, apply, finish);
    }

    /// Fails unless the value is free or closed, with exactly these notes applied, each thread's in their order.
    fn check(self: Arc<Self>, expected: &[Stamp]) {
        // Notes that were left by a holder that did enough.
        while self.value.enter().is_some_and(|hold| {
            let mut is_left = false;
            let apply = |applied: &mut Vec<Stamp>, note: u32| {
                applied.push(self.notes.change(note as usize, |text| *text));
                is_left = true;
            };
            hold.release(&self.links, 1, apply, |_, _| panic!("a closed value is not entered"));
            is_left
        }) {}
        let mut applied = Arc::into_inner(self).expect("the threads are gone").value;
        let applied = applied.get_mut();
        check_order(applied);
        if expected.contains(&LAST) {
            assert_eq!(applied.last(), Some(&LAST));
        }
        applied.sort_unstable();
        assert_eq!(applied, expected);
    }
}

/// Two threads, two notes each.
#[test]
fn notes_are_applied_once_and_in_order() {
    model(|run| {
        let shared = Shared::new(u64::MAX);
        let stamps = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(writer, number)| Stamp::new(writer, number));
        run.two(
            &shared,
            move |shared| stamps[..2].iter().for_each(|stamp| assert!(shared.leave(*stamp))),
            move |shared| stamps[2..].iter().for_each(|stamp| assert!(shared.leave(*stamp))),
        );
        shared.check(&stamps);
    });
}

/// The same where a holder applies one note and leaves the rest to the next, which is one of the two or comes later.
#[test]
fn rest_of_the_notes_is_handed_over() {
    let run = model(|run| {
        let shared = Shared::new(1);
        let stamps = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(writer, number)| Stamp::new(writer, number));
        run.two(
            &shared,
            move |shared| stamps[..2].iter().for_each(|stamp| assert!(shared.leave(*stamp))),
            move |shared| stamps[2..].iter().for_each(|stamp| assert!(shared.leave(*stamp))),
        );
        let mut waits = 0;
        let hold = shared.value.enter().expect("nobody holds it any more");
        hold.release(&shared.links, 0, |_, _| unreachable!(), |_, _| unreachable!());
        while let Some(hold) = shared.value.enter() {
            let before = waits;
            let apply = |applied: &mut Vec<Stamp>, note: u32| {
                applied.push(shared.notes.change(note as usize, |text| *text));
                waits += 1;
            };
            hold.release(&shared.links, 1, apply, |_, _| unreachable!());
            if waits == before {
                break;
            }
        }
        run.note(waits);
        shared.check(&stamps);
    });
    run.expect([0, 1, 2]);
}

/// Two threads leave a note each while a third holds the value for a moment. No note is stranded after the release,
/// whoever releases.
#[test]
fn no_note_is_stranded() {
    let run = model(|run| {
        let shared = Shared::new(u64::MAX);
        let stamps = [Stamp::new(0, 0), Stamp::new(1, 0)];
        let (_, _, has_entered) = run.three(
            &shared,
            move |shared| shared.leave(stamps[0]),
            move |shared| shared.leave(stamps[1]),
            |shared| shared.enter(),
        );
        run.note(has_entered);
        let links = Arc::clone(&shared.links);
        let hold = shared.value.enter().expect("nobody holds it any more");
        hold.release(&links, u64::MAX, |_, note| panic!("note {note} was stranded"), |_, _| unreachable!());
        shared.check(&stamps);
    });
    run.expect([false, true]);
}

/// Two threads leave two notes and one while a third closes the value. Holders apply one note each, and yet all that
/// were taken are in before the last change, which is made once, by whoever has the value.
#[test]
fn close_waits_for_nobody_and_has_all_notes() {
    let run = model(|run| {
        let shared = Shared::new(1);
        let stamps = [(0, 0), (0, 1), (1, 0)].map(|(writer, number)| Stamp::new(writer, number));
        let (first, second, has_closed) = run.three(
            &shared,
            move |shared| stamps[..2].iter().map(|stamp| shared.leave(*stamp)).filter(|is_taken| *is_taken).count(),
            move |shared| shared.leave(stamps[2]),
            |shared| shared.close(LAST.number.into()),
        );
        run.note(format!("{first} {second} {has_closed}"));
        assert!(shared.value.enter().is_none() && shared.value.is_closed());
        let mut expected = stamps[..first].to_vec();
        expected.extend(second.then_some(stamps[2]));
        expected.push(LAST);
        shared.check(&expected);
    });
    run.expect(["0 false true", "2 true true", "2 true false", "1 true false", "1 false false"]);
}

/// Two threads close the value while a third leaves a note: one of them is the first, and its word counts.
#[test]
fn value_is_closed_once() {
    let run = model(|run| {
        let shared = Shared::new(1);
        let stamp = Stamp::new(0, 0);
        let close = |shared: &Arc<Shared>| {
            let (is_first, hold) = shared.value.close(LAST.number.into());
            hold.into_iter().for_each(|hold| shared.release(hold));
            is_first
        };
        let (first, second, is_taken) = run.three(&shared, close, close, move |shared| shared.leave(stamp));
        assert!(first != second, "one of them is the first");
        run.note(format!("{first} {is_taken}"));
        shared.check(&[stamp, LAST][usize::from(!is_taken)..]);
    });
    run.expect(["true false", "false false", "true true", "false true"]);
}

/// Changes through the lanes, with the notes in blocks: they go back to the pool, each once.
#[test]
fn notes_go_back_to_the_pool() {
    type Shared = (Arc<Lanes<()>>, Combined<Vec<Stamp>>, [Mutex<Option<Block<()>>>; 2]);
    let leave = |writer: u32| {
        move |shared: &Arc<Shared>| {
            let (lanes, value, blocks) = &**shared;
            let block = blocks[writer as usize].lock().unwrap().take().expect("each is left once");
            let apply = |applied: &mut Vec<_>, note: &[u8]| applied.push(Stamp::read(note));
            assert_eq!(lanes.change(value, block, 16, apply, |_, _| unreachable!()), Change::Made);
        }
    };
    model(move |run| {
        let lanes = lanes(1, 64, 4);
        let stamps = [Stamp::new(0, 0), Stamp::new(1, 0)];
        // The locks are outside of the model: who takes what is fixed.
        let blocks = stamps.map(|stamp| {
            let mut block = lanes.take(Class::First).expect("there are two");
            fill(&mut block, stamp, 16);
            Mutex::new(Some(block))
        });
        let shared: Arc<Shared> = Arc::new((Arc::clone(&lanes), Combined::new(vec![]), blocks));
        run.two(&shared, leave(0), leave(1));
        let (_, mut value, _) = Arc::into_inner(shared).expect("the threads are gone");
        let applied = value.get_mut();
        applied.sort_unstable();
        assert_eq!(*applied, stamps);
        let again = [(); 5].map(|()| lanes.take(Class::First));
        assert_eq!(again.iter().flatten().count(), 4);
    });
}
