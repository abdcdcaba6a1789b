//! The alarm: a writer that finds its ring filled above the mark wakes the reader, if it sleeps, and only once; and in
//! a child process the first thread that may start another has a reader called.

use std::fmt;

use crate::sync::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
    handler,
    once::SetOnce,
};

/// Between writers and a reader that sleeps on a timer of its own. Without the alarm it would come in time for an even
/// load, and too late for a burst.
#[derive(Default)]
pub struct Alarm {
    /// Whether the reader sleeps. Set by the reader, cleared by the first writer that rings and by the reader.
    asleep: AtomicBool,
    /// Whether this is a child process for which no reader was called. Set when the lanes are settled, cleared by the
    /// first thread that calls.
    is_unread: AtomicBool,
    /// What wakes it. Set once, before the first sleep.
    bell: SetOnce<Bell>,
    /// What starts a reader in a child process. Set once, at start, where a thread of ours is the reader.
    starter: SetOnce<Bell>,
}

/// What a writer calls. A bell takes one system call and waits for nothing. A starter may do more: it is called by
/// ordinary code, never in a signal handler.
pub(crate) type Bell = Box<dyn Fn() + Send + Sync>;

impl Alarm {
    /// Hangs the bell; the first one stays.
    pub fn hang(&self, bell: Bell) {
        let _ = self.bell.set(bell);
    }

    /// Has `starter` called in each child process; the first one stays.
    pub fn start_by(&self, starter: Bell) {
        let _ = self.starter.set(starter);
    }

    /// Says that the reader goes to sleep; false if it must not, because `is_filled`.
    pub fn sleep(&self, is_filled: impl FnOnce() -> bool) -> bool {
        // ORDERING: [alarm] AcqRel. All swaps of the word are in one order. A writer whose swap comes later finds the
        // reader asleep and rings. One whose swap came before is acquired here: what it published is seen by
        // `is_filled`.
        self.asleep.swap(true, AcqRel);
        if is_filled() {
            // ORDERING: Relaxed. The reader is awake; a writer that still takes it for asleep rings for nothing. A
            // swap, because a store would keep the next one from acquiring what writers released before.
            self.asleep.swap(false, Relaxed);
            return false;
        }
        true
    }

    /// Says that the reader is up; whether a writer had rung.
    pub fn wake_up(&self) -> bool {
        // ORDERING: Relaxed. The reader looks at the lanes after this in any case, with an Acquire of its own.
        !self.asleep.swap(false, Relaxed)
    }

    /// Wakes the reader if it sleeps. Called by a writer after its publish, outside of the lease.
    #[cold]
    pub fn ring(&self) {
        // ORDERING: [alarm] AcqRel. As in `sleep`: released is the record that filled the ring.
        if self.asleep.swap(false, AcqRel)
            && let Some(bell) = self.bell.get()
        {
            bell();
        }
    }

    /// Calls for a reader, if this is a child process that has none. False if that is left to a later call, because
    /// this one may come from a signal handler, in which no thread can be started.
    #[cold]
    pub fn call_reader(&self) -> bool {
        // ORDERING: Relaxed. The flag alone is shared. A caller that has settled the lanes, or found them settled, sees
        // it set.
        let Some(starter) = self.starter.get().filter(|_| self.is_unread.load(Relaxed)) else {
            return true;
        };
        if handler::may_be_running() {
            return false;
        }
        // ORDERING: Relaxed. As above; of several callers one calls.
        if self.is_unread.swap(false, Relaxed) {
            starter();
        }
        true
    }

    /// Says that a reader is there, and need not be called.
    pub fn has_reader(&self) {
        // ORDERING: Relaxed. A thread that misses it calls for nothing.
        self.is_unread.store(false, Relaxed);
    }

    /// Forgets the sleep of the parent's reader, in a child process, and notes that there is no reader.
    pub(super) fn settle(&self) {
        // ORDERING: Relaxed. Released with the rest of the lanes by whoever settles them; a reader begins awake.
        self.asleep.store(false, Relaxed);
        // ORDERING: Relaxed. As above.
        self.is_unread.store(true, Relaxed);
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::lane::{Lanes, Offer, Shape, Visit};

    const RING_BYTES: usize = 4096;
    const CASES: u32 = if cfg!(miri) { 2 } else { 256 };
    const STEPS: usize = if cfg!(miri) { 100 } else { 400 };

    /// Ends a span as the recorder does: at once where the last look at the ring left room, else by the way that looks.
    fn end(lanes: &Lanes<()>, len: usize) -> Offer {
        let lease = lanes.ring(0).enter(lanes.generation());
        match lease.ok().and_then(|lease| lease.claim_at_once(len)) {
            Some(claim) => {
                claim.publish(|_| ());
                Offer::Queued { tries: 1 }
            }
            None => lanes.offer(0, len, |_| ()),
        }
    }

    /// Where the program itself is the reader, a child process starts nothing: its recording threads need not ask
    /// whether a signal handler is running.
    #[test]
    fn child_calls_the_starter_once_and_never_the_bell() {
        let alarm = Alarm::default();
        alarm.hang(Box::new(|| panic!("no ring is full")));
        alarm.settle();
        assert!(alarm.call_reader(), "there is nothing to start");
        let started = Arc::new(AtomicBool::new(false));
        let starter = Arc::clone(&started);
        // ORDERING: Relaxed, here and below. The test has one thread.
        alarm.start_by(Box::new(move || assert!(!starter.swap(true, Relaxed), "once")));
        assert!(alarm.call_reader() && alarm.call_reader());
        assert!(started.load(Relaxed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        /// A reader that takes out a part now and then, and sleeps whenever it may, is woken before the ring is filled
        /// more than a sixteenth past the mark, whatever it has read before.
        #[test]
        fn alarm_rings_soon_after_the_mark_is_passed(steps in vec((0..16u8, 8..200usize), 1..STEPS)) {
            let shape = Shape { lanes: 1, ring_bytes: RING_BYTES, arena_bytes: 64 << 10, spill_bytes: 0, seats: 1 };
            let lanes = Lanes::<()>::new(shape, ()).unwrap();
            let rang = Arc::new(AtomicBool::new(false));
            let bell = Arc::clone(&rang);
            // ORDERING: Relaxed, here and below. The test has one thread.
            lanes.alarm().hang(Box::new(move || bell.store(true, Relaxed)));
            let mut reader = lanes.reader().unwrap();
            let mut sleeps = lanes.alarm().sleep(|| lanes.is_filled());
            for (kind, size) in steps {
                if kind > 0 {
                    end(&lanes, size);
                    let waiting = lanes.fill().ring_waiting;
                    let is_due = waiting > (RING_BYTES / 2 + RING_BYTES / 16) as u64;
                    prop_assert!(!sleeps || !is_due || rang.load(Relaxed), "{waiting} of {RING_BYTES}");
                    continue;
                }
                lanes.alarm().wake_up();
                rang.store(false, Relaxed);
                let mut left = size / 20;
                reader.read_some(None, |_| {
                    left = left.saturating_sub(1);
                    if left == 0 { Visit::Enough } else { Visit::Next }
                });
                sleeps = lanes.alarm().sleep(|| lanes.is_filled());
            }
        }
    }
}
