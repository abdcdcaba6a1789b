//! A value that several threads change without ever waiting: one holds it, the others leave notes for a holder.

use std::{
    cell::Cell,
    hint,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::{
    Block, Lanes,
    pool::Class,
    stack::{take_first, turn_around},
};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    cell::UnsafeCell,
};

/// A value and the notes of those who came while it was held.
///
/// A thread that finds the value free holds it; a thread that finds it held leaves a note (a block's number, linked
/// through the pool's table) and goes on. A holder applies the notes before it lets go, oldest first, but only so many:
/// what is left then waits for the next thread that comes. So a thread that is stopped while it holds delays changes,
/// not threads, and no thread works for the others without end. Who closes the value leaves no such rest: its notes are
/// all applied.
#[derive(Debug)]
pub struct Combined<T> {
    /// [`HELD`], [`CLOSED`], how many notes are left and not taken off (from bit 32 on), and the top note's number plus
    /// one (below). Written by everyone who comes and by the holder.
    word: AtomicU64,
    /// What the thread that closes says to the holder that makes the last change; [`OPEN`] before. Written by the first
    /// to close.
    last: AtomicU64,
    inside: UnsafeCell<Inside<T>>,
}

/// What only the holder touches.
#[derive(Debug)]
struct Inside<T> {
    value: T,
    /// Notes that a holder took off the word and did not get to: the oldest and the newest, numbers plus one.
    oldest: u32,
    newest: u32,
}

// SAFETY: the inside is touched by the holder alone, and the word hands it from one holder to the next.
unsafe impl<T: Send> Sync for Combined<T> {}

const HELD: u64 = 1 << 63;
/// No note is taken any more. Once this is set and the value is free, nothing of it ever changes.
const CLOSED: u64 = 1 << 62;
/// In `last`: nobody has closed the value. As a stamp of a span's end it would be an uptime of 146 years.
const OPEN: u64 = u64::MAX;
const ONE_NOTE: u64 = 1 << 32;
const TOP: u64 = ONE_NOTE - 1;

/// What became of a note.
#[derive(Debug)]
pub enum Left<'a, T> {
    /// The value was free: the caller holds it, and its release applies the note.
    Holder(Hold<'a, T>),
    /// A holder will find the note.
    Noted,
    /// As many notes wait as may; the caller keeps its note.
    Full,
    /// The value is closed; the caller keeps its note.
    Closed,
}

impl<T> Combined<T> {
    /// A value that nobody holds.
    pub fn new(value: T) -> Self {
        let inside = UnsafeCell::new(Inside { value, oldest: 0, newest: 0 });
        Self { word: AtomicU64::new(0), last: AtomicU64::new(OPEN), inside }
    }

    /// Leaves `note` for the holder, unless `notes_max` wait already, or becomes the holder.
    pub fn leave(&self, links: &[AtomicU32], note: u32, notes_max: u64) -> Left<'_, T> {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.word.load(Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Left::Closed;
            }
            let is_held = word & HELD != 0;
            if is_held && notes(word) >= notes_max {
                return Left::Full;
            }
            // ORDERING: Relaxed. The note is ours until the word's Release below shows it.
            links[note as usize].store(top(word), Relaxed);
            let top = if is_held { u64::from(note + 1) } else { HELD };
            // ORDERING: [hold] Acquire, for the thread that becomes the holder: the value is as the last one left it,
            // and the notes below its own are as they were left.
            // ORDERING: [note] Release, for a thread that leaves a note: the holder that takes it sees its bytes and
            // its link.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.word.compare_exchange(word, (word & !TOP) + ONE_NOTE + top, AcqRel, Relaxed) {
                Ok(_) if is_held => return Left::Noted,
                Ok(_) => return Left::Holder(Hold { of: self, taken: note + 1 }),
                Err(found) => word = found,
            }
            hint::spin_loop();
        }
    }

    /// Refuses every later note, and lets the holder make the last change by what `last` says (not [`OPEN`]). The
    /// caller becomes the holder if there is none. False when the value was closed before.
    pub fn close(&self, last: u64) -> (bool, Option<Hold<'_, T>>) {
        debug_assert!(last != OPEN, "it says that nobody closes");
        // ORDERING: Relaxed. Whoever makes the last change has seen the word's CLOSED, which comes with it.
        if self.last.compare_exchange(OPEN, last, Relaxed, Relaxed).is_err() {
            return (false, None);
        }
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.word.load(Relaxed);
        loop {
            let is_held = word & HELD != 0;
            let next = if is_held { word | CLOSED } else { (word & !TOP) | HELD | CLOSED };
            // ORDERING: [hold] Acquire, for the thread that becomes the holder.
            // ORDERING: [last] Release. The holder that finds the value closed sees what `last` says.
            // ORDERING: Relaxed on failure: the value is only the next guess.
            match self.word.compare_exchange(word, next, AcqRel, Relaxed) {
                Ok(_) if is_held => return (true, None),
                Ok(_) => return (true, Some(Hold { of: self, taken: top(word) })),
                Err(found) => word = found,
            }
            hint::spin_loop();
        }
    }

    /// Holds the value if it is free and open.
    pub fn enter(&self) -> Option<Hold<'_, T>> {
        // ORDERING: Relaxed. Only a guess, which the exchange checks.
        let mut word = self.word.load(Relaxed);
        while word & (HELD | CLOSED) == 0 {
            // ORDERING: [hold] Acquire. The value and the notes are as they were left. Relaxed on failure: only a
            // guess.
            match self.word.compare_exchange(word, (word & !TOP) | HELD, Acquire, Relaxed) {
                Ok(_) => return Some(Hold { of: self, taken: top(word) }),
                Err(found) => word = found,
            }
            hint::spin_loop();
        }
        None
    }

    /// Whether the value was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // ORDERING: Relaxed. An answer that may be old when it arrives.
        self.word.load(Relaxed) & CLOSED != 0
    }

    /// Touches the value as its only owner.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: a mutable borrow of the whole proves that there is no holder.
        self.inside.with_mut(|inside| unsafe { &mut (*inside).value })
    }
}

/// The right to change the value, and the duty to apply notes. Must end in [`Hold::release`].
#[derive(Debug)]
#[must_use = "a value that is not released takes notes for ever"]
pub struct Hold<'a, T> {
    of: &'a Combined<T>,
    /// Notes that were taken with the value: the newest one's number plus one.
    taken: u32,
}

impl<T> Hold<'_, T> {
    /// Lets go, after `apply` has seen the notes that wait, oldest first: `enough` of them, and all if the value was
    /// closed. Then `finish` makes the last change.
    pub fn release(
        mut self,
        links: &[AtomicU32],
        enough: u64,
        mut apply: impl FnMut(&mut T, u32),
        finish: impl FnOnce(&mut T, u64),
    ) {
        let mut applied = 0;
        let taken = self.taken;
        self.inside(|inside| inside.append(links, taken));
        // ORDERING: [last] Acquire. Who finds the value closed sees what is said of the last change.
        let mut word = self.of.word.load(Acquire);
        loop {
            let is_closed = word & CLOSED != 0;
            while (is_closed || applied < enough)
                && let Some(note) = self.inside(|inside| inside.next(links))
            {
                self.inside(|inside| apply(&mut inside.value, note));
                applied += 1;
            }
            if top(word) != 0 && (is_closed || applied < enough) {
                // ORDERING: [note] Acquire. Every note on the stack, and its link, is as it was left. The count stays.
                word = self.of.word.fetch_and(!TOP, Acquire);
                self.inside(|inside| inside.append(links, top(word)));
                word &= !TOP;
            } else if is_closed {
                // ORDERING: Relaxed. It came with CLOSED, which was seen with Acquire.
                let last = self.of.last.load(Relaxed);
                self.inside(|inside| finish(&mut inside.value, last));
                // ORDERING: Relaxed. Nobody holds a closed value again; it is dropped by a thread that has every other
                // handle.
                return self.of.word.store(CLOSED, Relaxed);
            } else {
                // ORDERING: [hold] Release. The next holder sees the value, and the notes that wait inside, as we leave
                // them.
                // ORDERING: [last] Acquire on failure, as above.
                match self.of.word.compare_exchange(word, (word & !HELD) - applied * ONE_NOTE, Release, Acquire) {
                    Ok(_) => return,
                    Err(found) => word = found,
                }
            }
        }
    }

    fn inside<R>(&mut self, touch: impl FnOnce(&mut Inside<T>) -> R) -> R {
        // SAFETY: there is one holder at a time, and its borrow is exclusive.
        self.of.inside.with_mut(|inside| touch(unsafe { &mut *inside }))
    }
}

impl<T> Inside<T> {
    /// Puts the notes of the stack `top` after those that wait.
    fn append(&mut self, links: &[AtomicU32], top: u32) {
        let oldest = turn_around(links, top);
        match self.newest.checked_sub(1) {
            None => self.oldest = oldest,
            // ORDERING: Relaxed. The notes are the holder's own: it took them with an Acquire.
            Some(newest) if top != 0 => links[newest as usize].store(oldest, Relaxed),
            Some(_) => return,
        }
        self.newest = top;
    }

    /// Takes the oldest note.
    fn next(&mut self, links: &[AtomicU32]) -> Option<u32> {
        let note = take_first(links, &mut self.oldest);
        if self.oldest == 0 {
            self.newest = 0;
        }
        note
    }
}

/// How many notes one holder applies before it leaves the rest to the next.
const ENOUGH: u64 = 64;

/// What became of a change of a combined value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It was made, or will be before the value is finished.
    Made,
    /// There is no more memory for changes that wait.
    Full,
    /// The value was closed.
    Closed,
}

// Callers keep a count of the lanes of their own: a note's block gives its count back.
impl<Owner, Scratch: Copy + Default> Lanes<Owner, Scratch> {
    /// Changes `value` by a note of `len` bytes: now, or when a holder comes to it. The notes of one value may take
    /// half of the memory for open spans.
    pub fn change<T>(
        &self,
        value: &Combined<T>,
        mut note: Block<Owner, Scratch>,
        len: usize,
        apply: impl FnMut(&mut T, &[u8]),
        finish: impl FnOnce(&mut T, u64),
    ) -> Change {
        let notes_max = self.arena.len() / Class::First.bytes() / 2;
        self.assert_own(&note);
        note.set_record_len(len);
        let number = note.into_number();
        let refused = match value.leave(self.pool.links(), number, notes_max as u64) {
            Left::Noted => return Change::Made,
            Left::Holder(hold) => {
                self.release(hold, ENOUGH, apply, finish);
                return Change::Made;
            }
            Left::Full => Change::Full,
            Left::Closed => Change::Closed,
        };
        // SAFETY: the block is one of these lanes (asserted above), and a value that refused it has nothing of it.
        drop(unsafe { self.listed(number) });
        refused
    }

    /// Closes `value`: the changes that were left before are made, then the last. False when it was closed before.
    pub fn finish<T>(
        &self,
        value: &Combined<T>,
        last: u64,
        apply: impl FnMut(&mut T, &[u8]),
        finish: impl FnOnce(&mut T, u64),
    ) -> bool {
        let (is_first, hold) = value.close(last);
        if let Some(hold) = hold {
            self.release(hold, ENOUGH, apply, finish);
        }
        is_first
    }

    /// Makes all changes that were left, if the value is free and open: for the last one who has it.
    pub fn catch_up<T>(&self, value: &Combined<T>, apply: impl FnMut(&mut T, &[u8]), finish: impl FnOnce(&mut T, u64)) {
        if let Some(hold) = value.enter() {
            self.release(hold, u64::MAX, apply, finish);
        }
    }

    /// Lets go, after `enough` changes that were left, or all if the value was closed.
    pub(crate) fn release<T>(
        &self,
        hold: Hold<'_, T>,
        enough: u64,
        mut apply: impl FnMut(&mut T, &[u8]),
        finish: impl FnOnce(&mut T, u64),
    ) {
        // A change that panics (misuse may, in tests) must not keep the value held for ever.
        let panicked = Cell::new(None);
        let run = |change: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(change)) {
                panicked.set(Some(panic));
            }
        };
        let mut finish = Some(finish);
        hold.release(
            self.pool.links(),
            enough,
            // SAFETY: a value has only notes that `change` left, blocks of these lanes, and hands over each once.
            |value, number| run(&mut || unsafe { self.free_listed(number, |note| apply(value, note)) }),
            |value, last| run(&mut || finish.take().map_or((), |finish| finish(value, last))),
        );
        if let Some(panic) = panicked.take() {
            resume_unwind(panic);
        }
    }
}

fn top(word: u64) -> u32 {
    (word & TOP) as u32
}

fn notes(word: u64) -> u64 {
    (word & !(HELD | CLOSED)) / ONE_NOTE
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::lane::Shape;

    fn links() -> Vec<AtomicU32> {
        (0..8).map(|_| AtomicU32::new(0)).collect()
    }

    fn never(_: &mut Vec<u32>, last: u64) {
        panic!("nobody closed it with {last}");
    }

    fn noted(combined: &Combined<Vec<u32>>, links: &[AtomicU32], notes: &[u32]) {
        notes.iter().for_each(|&note| assert!(matches!(combined.leave(links, note, 4), Left::Noted), "note {note}"));
    }

    #[test]
    fn notes_are_applied_in_order_by_the_holder() {
        let (links, mut combined) = (links(), Combined::new(Vec::new()));
        let Left::Holder(hold) = combined.leave(&links, 0, 3) else { panic!("it is free") };
        assert!(combined.enter().is_none());
        noted(&combined, &links, &[5, 2]);
        assert!(matches!(combined.leave(&links, 3, 3), Left::Full));
        hold.release(&links, 8, |seen, note| seen.push(note), never);
        combined.enter().expect("it is free again").release(&links, 8, |_, _| panic!("no note is left"), never);
        assert_eq!(*combined.get_mut(), [0, 5, 2]);
    }

    #[test]
    fn holder_that_did_enough_leaves_the_rest_to_the_next() {
        let (links, mut combined) = (links(), Combined::new(Vec::new()));
        let release = |hold: Hold<'_, Vec<u32>>| hold.release(&links, 2, |seen, note| seen.push(note), never);
        let hold = combined.enter().unwrap();
        noted(&combined, &links, &[1, 2, 3]);
        release(hold);
        let Left::Holder(hold) = combined.leave(&links, 4, 4) else { panic!("it is free, with a note left") };
        noted(&combined, &links, &[5, 6]);
        assert!(matches!(combined.leave(&links, 7, 4), Left::Full));
        release(hold);
        release(combined.enter().unwrap());
        release(combined.enter().unwrap());
        assert_eq!(combined.word.load(Relaxed), 0);
        assert_eq!(*combined.get_mut(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn closed_value_has_every_note_that_came_before() {
        let (links, mut combined) = (links(), Combined::new(Vec::new()));
        let hold = combined.enter().unwrap();
        noted(&combined, &links, &[1, 2, 3]);
        assert!(matches!(combined.close(9), (true, None)));
        assert!(matches!(combined.close(8), (false, None)));
        assert!(matches!(combined.leave(&links, 4, 4), Left::Closed));
        hold.release(&links, 1, |seen, note| seen.push(note), |seen, last| seen.push(u32::try_from(last).unwrap()));
        assert!(combined.enter().is_none() && combined.is_closed());
        assert_eq!(*combined.get_mut(), [1, 2, 3, 9]);
    }

    #[test]
    fn who_closes_a_free_value_applies_the_rest() {
        let (links, mut combined) = (links(), Combined::new(Vec::new()));
        let hold = combined.enter().unwrap();
        noted(&combined, &links, &[1, 2, 3]);
        hold.release(&links, 1, |seen, note| seen.push(note), never);
        let (true, Some(hold)) = combined.close(9) else { panic!("it is free and open") };
        hold.release(&links, 1, |seen, note| seen.push(note), |seen, last| seen.push(u32::try_from(last).unwrap()));
        assert_eq!(*combined.get_mut(), [1, 2, 3, 9]);
    }

    /// A holder is stopped, and others leave more than any fixed number of notes: all are applied, in their order.
    #[test]
    fn stopped_holder_loses_no_change() {
        const CHANGES: u32 = if cfg!(miri) { 40 } else { 10_000 };
        let arena_bytes = CHANGES as usize * 2 * Class::First.bytes();
        let shape = Shape { lanes: 1, ring_bytes: 4096, arena_bytes, spill_bytes: 0, seats: 1 };
        let lanes = Lanes::<()>::new(shape, ()).unwrap();
        let combined = Combined::new(Vec::new());
        let apply = |seen: &mut Vec<u32>, note: &[u8]| seen.push(u32::from_ne_bytes(note.try_into().unwrap()));
        let change = |number: u32| {
            let mut note = lanes.take(Class::First)?;
            note.open().1[..4].copy_from_slice(&number.to_ne_bytes());
            Some(lanes.change(&combined, note, 4, apply, never))
        };
        let hold = combined.enter().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (0..CHANGES).for_each(|number| assert_eq!(change(number), Some(Change::Made), "{number}")));
        });
        assert_eq!(change(CHANGES), Some(Change::Full), "half of the blocks are for spans");
        lanes.release(hold, ENOUGH, apply, never);
        assert_eq!(change(CHANGES), Some(Change::Made));
        assert!(
            lanes.finish(&combined, 7, apply, |seen, last| assert_eq!((seen.len(), last), (CHANGES as usize + 1, 7)))
        );
        assert_eq!(change(0), Some(Change::Closed));
        let mut combined = combined;
        assert!(combined.get_mut().iter().copied().eq(0..=CHANGES));
        let home: Vec<_> = std::iter::from_fn(|| lanes.take(Class::First)).collect();
        assert_eq!(home.len(), 2 * CHANGES as usize, "all came home");
    }
}
