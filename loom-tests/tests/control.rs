//! What callers and the worker say to each other: who asks is answered, and the answer covers what was done before the question.
//!
//! Nobody's time runs out here, so a wake-up that is lost shows as a deadlock.

use std::{sync::Arc, time::Duration};

use loom::sync::{
    Condvar, Mutex,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};
use spanring::{
    Deadline,
    internals::{Awaited, Wish, Wishes, driver},
};
use spanring_loom::model;

/// What a driver promises of its sleep: a wake-up ends it, or the next one.
#[derive(Default)]
struct Bed {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Bed {
    /// Sleeps until somebody wakes it; whether it came to sleep at all.
    fn sleep(&self) -> bool {
        let mut is_woken = self.is_woken.lock().unwrap();
        let sleeps = !*is_woken;
        while !*is_woken {
            is_woken = self.changed.wait(is_woken).unwrap();
        }
        *is_woken = false;
        sleeps
    }
}

impl driver::Bell for Bed {
    fn ring(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

const SPANS: usize = 2;

struct Shared {
    wishes: Wishes,
    bed: Arc<Bed>,
    /// The spans, none of which says anything of another. Each is recorded by one caller, and delivered by the worker.
    recorded: [AtomicBool; SPANS],
    delivered: [AtomicBool; SPANS],
}

impl Shared {
    fn new() -> Arc<Self> {
        let shared = Self {
            wishes: Wishes::default(),
            bed: Arc::default(),
            recorded: [(); SPANS].map(|()| AtomicBool::new(false)),
            delivered: [(); SPANS].map(|()| AtomicBool::new(false)),
        };
        shared.lie_in(&shared.bed);
        Arc::new(shared)
    }

    /// Goes to sleep in this bed from now on.
    fn lie_in(&self, bed: &Arc<Bed>) {
        self.wishes.set_waker(driver::Waker::new(Arc::clone(bed) as Arc<dyn driver::Bell>));
    }

    /// Records a span and flushes; whether it was delivered.
    fn flush(&self, span: usize) -> bool {
        self.recorded[span].store(true, Relaxed);
        let number = self.wishes.ask_flush();
        assert!(self.wishes.wait(Awaited::Flush(number), late(2)));
        self.delivered[span].load(Relaxed)
    }

    /// Delivers what is recorded.
    fn deliver(&self) {
        for (recorded, delivered) in self.recorded.iter().zip(&self.delivered) {
            if recorded.load(Relaxed) {
                delivered.store(true, Relaxed);
            }
        }
    }

    /// Does what is wished, or sleeps, until this was wished; whether it came to sleep.
    fn work(&self, bed: &Bed, is_last: impl Fn(Wish) -> bool) -> bool {
        let mut has_slept = false;
        loop {
            let wish = self.wishes.wish();
            if wish.wants_flush {
                self.deliver();
                self.wishes.flushed(wish.flush);
            }
            if is_last(wish) {
                return has_slept;
            }
            // A worker that has done something looks again before it sleeps.
            has_slept |= !wish.wants_flush && bed.sleep();
        }
    }
}

fn late(hours: u64) -> Deadline {
    Deadline::after(Duration::from_secs(hours * 3600))
}

/// A caller flushes again while the worker that has ended its first flush goes to sleep.
#[test]
fn flush_is_answered_by_a_worker_that_goes_to_sleep() {
    let run = model(|run| {
        let ((), has_slept) = run.two(
            &Shared::new(),
            |shared| (0..2).for_each(|span| assert!(shared.flush(span), "span {span} was recorded before its flush")),
            |shared| shared.work(&shared.bed, |wish| wish.flush == 2),
        );
        run.note(if has_slept { "asleep" } else { "awake" });
    });
    run.expect(["asleep", "awake"]);
}

/// Two callers flush at once, in one go or in two; the last to be answered ends the work.
#[test]
fn two_flushes_are_both_answered() {
    let run = model(|run| {
        let goes = Arc::new(AtomicUsize::new(0));
        let answered = Arc::new(AtomicUsize::new(0));
        let flush = |span: usize| {
            let answered = Arc::clone(&answered);
            move |shared: &Arc<Shared>| {
                assert!(shared.flush(span), "span {span} was recorded before its flush");
                if answered.fetch_add(1, SeqCst) == 1 {
                    shared.wishes.ask_shutdown(late(1));
                }
            }
        };
        let count = Arc::clone(&goes);
        run.three(&Shared::new(), flush(0), flush(1), move |shared| {
            shared.work(&shared.bed, |wish| {
                count.fetch_add(usize::from(wish.wants_flush), SeqCst);
                wish.shutdown.is_some()
            })
        });
        run.note(goes.load(SeqCst));
    });
    run.expect([1, 2]);
}

/// A caller flushes twice while another asks twice and does not wait: each flush has a number above those before.
#[test]
fn flush_beside_flushes_that_were_given_up_is_answered() {
    model(|run| {
        run.three(
            &Shared::new(),
            |shared| {
                (0..2).for_each(|span| assert!(shared.flush(span), "span {span} was recorded before its flush"));
                shared.wishes.ask_shutdown(late(1));
            },
            |shared| {
                for _ in 0..2 {
                    shared.wishes.ask_flush();
                }
            },
            |shared| shared.work(&shared.bed, |wish| wish.shutdown.is_some()),
        );
    });
}

/// A flush and a shutdown at once: both are answered, and who comes later does not wait.
#[test]
fn flush_and_shutdown_are_both_answered() {
    let run = model(|run| {
        let shared = Shared::new();
        let (is_delivered, (), _) = run.three(
            &shared,
            |shared| shared.flush(0),
            |shared| {
                shared.wishes.ask_shutdown(late(1));
                assert!(shared.wishes.wait(Awaited::Over, late(1)));
            },
            |shared| {
                shared.work(&shared.bed, |wish| wish.shutdown.is_some());
                shared.wishes.over();
            },
        );
        // It would wait for ever: nobody works any more.
        shared.flush(1);
        run.note(if is_delivered { "delivered" } else { "too late" });
    });
    run.expect(["delivered", "too late"]);
}

/// Two shutdowns at once: the worker hears the earlier deadline, whoever comes last.
#[test]
fn earliest_of_two_shutdowns_counts() {
    model(|run| {
        let shared = Shared::new();
        let earlier = late(1);
        let shut_down = |deadline| {
            move |shared: &Arc<Shared>| {
                shared.wishes.ask_shutdown(deadline);
                assert!(shared.wishes.wait(Awaited::Over, deadline));
            }
        };
        run.three(&shared, shut_down(earlier), shut_down(late(2)), move |shared: &Arc<Shared>| {
            shared.work(&shared.bed, |wish| wish.shutdown == Some(earlier));
            shared.wishes.over();
        });
        assert_eq!(shared.wishes.wish().shutdown, Some(earlier));
    });
}

/// A worker takes the post of one that failed while a caller flushes: it hears of it, or is woken.
#[test]
fn flush_is_answered_by_a_worker_that_was_replaced() {
    let run = model(|run| {
        let ((), has_slept) = run.two(
            &Shared::new(),
            |shared| assert!(shared.flush(0)),
            |shared| {
                let bed = Arc::default();
                shared.lie_in(&bed);
                shared.work(&bed, |wish| wish.flush == 1)
            },
        );
        run.note(if has_slept { "asleep" } else { "awake" });
    });
    run.expect(["asleep", "awake"]);
}
