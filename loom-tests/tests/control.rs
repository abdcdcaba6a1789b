//! What callers and the worker say to each other: who asks is answered, and the answer covers what was done before the
//! question.
//!
//! Nobody's time runs out here, so a wake-up that is lost shows as a deadlock.

use std::{mem, sync::Arc, time::Duration};

use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use spanring::{
    Deadline,
    internals::{Asked, Awaited, Goal, Handoff, driver},
};
use spanring_loom::{Run, model};

/// What a driver promises of its sleep: a wake-up ends it, or the next one, and so does an answer.
#[derive(Default)]
struct Bed {
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Default)]
struct Calls {
    is_woken: bool,
    answers: usize,
}

/// What a sleep came to.
struct Sleep {
    /// Whether it was one: nobody had called before.
    is_sound: bool,
    /// The collector's answers that came.
    answers: usize,
}

impl Bed {
    /// Sleeps until somebody calls.
    fn sleep(&self) -> Sleep {
        let mut calls = self.calls.lock().unwrap();
        let is_sound = !calls.is_woken && calls.answers == 0;
        while !calls.is_woken && calls.answers == 0 {
            calls = self.changed.wait(calls).unwrap();
        }
        Sleep { is_sound, answers: mem::take(&mut *calls).answers }
    }

    /// The collector answers a request. The answer may come first: then the request is answered at once.
    fn answer(&self) {
        self.calls.lock().unwrap().answers += 1;
        self.changed.notify_one();
    }
}

impl driver::Bell for Bed {
    fn ring(&self) {
        self.calls.lock().unwrap().is_woken = true;
        self.changed.notify_one();
    }
}

const SPANS: usize = 2;

struct Shared {
    handoff: Handoff,
    /// The bed of the first worker.
    bed: Arc<Bed>,
    /// The spans, none of which says anything of another. Each is recorded by one caller, and delivered by the worker.
    recorded: [AtomicBool; SPANS],
    delivered: [AtomicBool; SPANS],
}

impl Shared {
    /// What callers have while no worker was started.
    fn without_worker() -> Arc<Self> {
        Arc::new(Self {
            handoff: Handoff::default(),
            bed: Arc::default(),
            recorded: [(); SPANS].map(|()| AtomicBool::new(false)),
            delivered: [(); SPANS].map(|()| AtomicBool::new(false)),
        })
    }

    /// What callers have once a worker was started.
    fn new() -> Arc<Self> {
        let shared = Self::without_worker();
        shared.sleep_in(&shared.bed);
        shared
    }

    /// Who works sleeps in this bed from now on.
    fn sleep_in(&self, bed: &Arc<Bed>) {
        self.handoff.set_waker(driver::Waker::new(Arc::clone(bed) as Arc<dyn driver::Bell>));
    }

    /// Records a span and asks for a flush; its number.
    fn ask(&self, span: usize) -> u64 {
        self.recorded[span].store(true, Relaxed);
        self.handoff.ask_flush()
    }

    /// Waits for this flush; whether the span was delivered.
    fn hear(&self, number: u64, span: usize) -> bool {
        assert!(self.handoff.wait(Awaited::Flush(number), late(2)));
        self.delivered[span].load(Relaxed)
    }

    /// Records a span and flushes; whether it was delivered.
    fn flush(&self, span: usize) -> bool {
        self.hear(self.ask(span), span)
    }

    /// Records the spans and flushes each, one after the other. All are delivered.
    fn flush_all(&self) {
        (0..SPANS).for_each(|span| assert!(self.flush(span), "span {span} {TOO_EARLY}"));
    }

    fn shut_down(&self, deadline: Deadline) {
        self.handoff.ask_shutdown(deadline);
        assert!(self.handoff.wait(Awaited::Over, deadline));
    }
}

const TOO_EARLY: &str = "was recorded before a flush, and not delivered when that was answered";
/// Where a bell ended the sleep of a worker.
const IDLE: &str = "woken while idle";
const GATHERING: &str = "woken while gathering";
const SENDING: &str = "woken while sending";

fn late(hours: u64) -> Deadline {
    Deadline::after(Duration::from_secs(hours * 3600))
}

fn past() -> Deadline {
    Deadline::after(Duration::ZERO)
}

/// The worker, as far as callers have to do with it. What it makes of their questions is the library's `Goal`; the
/// order of the steps is a copy of `Worker::turn` in `src/engine/worker.rs`, whose requests need a network.
struct Worker {
    bed: Arc<Bed>,
    goal: Goal<Marks>,
    /// How many goals it has had.
    goals: usize,
    /// The request that is on its way, with its number. There is room for one.
    request: Option<(u64, Marks)>,
    /// The number of the last request.
    submitted: u64,
    /// Answers of the collector that are not those of a request yet.
    answers: usize,
    /// It goes to sleep when it has answered, because nobody rang meanwhile: a mistake.
    sleeps_on_answer: bool,
    run: Run,
}

/// Spans.
type Marks = [bool; SPANS];

impl Worker {
    /// A worker whose collector answers at once.
    fn new(run: Run, bed: &Arc<Bed>) -> Self {
        let (bed, goal) = (Arc::clone(bed), Goal::default());
        Self { bed, goal, goals: 0, request: None, submitted: 0, answers: usize::MAX, sleeps_on_answer: false, run }
    }

    /// Does what is asked, until this was asked and all is done; how many goals that were.
    fn work(mut self, shared: &Shared, is_last: impl Fn(Asked) -> bool) -> usize {
        while self.turn(shared, &is_last) {}
        self.goals
    }

    /// One turn; whether there is another.
    fn turn(&mut self, shared: &Shared, is_last: &impl Fn(Asked) -> bool) -> bool {
        let asked = shared.handoff.asked();
        self.heed(shared, asked);
        self.gather();
        self.account(shared);
        let oldest = self.request.map(|(number, _)| number);
        if self.goal.reach(&shared.handoff, oldest) && !self.sleeps_on_answer {
            return true;
        }
        if is_last(asked) && !self.goal.is_set() && self.request.is_none() {
            return false;
        }
        self.sleep();
        self.account(shared);
        true
    }

    fn heed(&mut self, shared: &Shared, asked: Asked) {
        self.goal.heed(asked, || {
            self.goals += 1;
            shared.recorded.each_ref().map(|recorded| recorded.load(Relaxed))
        });
    }

    fn gather(&mut self) {
        if self.request.is_none()
            && let Some(marks) = self.goal.marks().copied()
        {
            self.submitted += 1;
            self.request = Some((self.submitted, marks));
            self.goal.gathered(self.submitted);
        }
    }

    fn account(&mut self, shared: &Shared) {
        if self.answers > 0
            && let Some((_, marks)) = self.request.take()
        {
            self.answers -= 1;
            for (delivered, _) in shared.delivered.iter().zip(marks).filter(|(_, is_marked)| *is_marked) {
                delivered.store(true, Relaxed);
            }
        }
    }

    fn sleep(&mut self) {
        let Sleep { is_sound, answers } = self.bed.sleep();
        self.answers += answers;
        if is_sound && answers == 0 {
            self.run.note(match (self.goal.is_set(), self.goal.marks()) {
                (false, _) => IDLE,
                (true, Some(_)) => GATHERING,
                (true, None) => SENDING,
            });
        }
    }
}

/// A caller flushes again while the worker that has ended its first flush goes to sleep.
#[test]
fn flush_is_answered_by_a_worker_that_goes_to_sleep() {
    let run = model(|run| {
        let notes = run.clone();
        run.two(
            &Shared::new(),
            |shared| shared.flush_all(),
            |shared| Worker::new(notes, &shared.bed).work(shared, |asked| asked.flush == 2),
        );
    });
    run.expect([IDLE]);
}

/// A flush is asked for while another is under way, and rings a worker that waits for the collector.
#[test]
fn flush_beside_one_that_is_under_way_is_answered() {
    let run = flush_beside_one_that_is_under_way(false);
    run.expect([IDLE, GATHERING, SENDING]);
    run.expect([1, 2]);
}

fn flush_beside_one_that_is_under_way(sleeps_on_answer: bool) -> Run {
    // One of before, which leaves no room for the first, and one of each flush.
    const REQUESTS: usize = 3;
    model(move |run| {
        let notes = run.clone();
        let ((), (), goals) = run.three(
            &Shared::new(),
            |shared| {
                let numbers = [0, 1].map(|span| shared.ask(span));
                (0..SPANS).for_each(|span| assert!(shared.hear(numbers[span], span), "span {span} {TOO_EARLY}"));
            },
            |shared| (0..REQUESTS).for_each(|_| shared.bed.answer()),
            move |shared| {
                let worker = Worker::new(notes, &shared.bed);
                let request = Some((1, Marks::default()));
                let worker = Worker { request, submitted: 1, answers: 0, sleeps_on_answer, ..worker };
                worker.work(shared, |asked| asked.flush == 2)
            },
        );
        run.note(goals);
    })
}

/// The model above sees a worker whose steps come in a wrong order. No mutant can show it: the order is a copy.
mod mistakes {
    use super::*;

    /// `Worker::turn` must come back at once when `Goal::reach` has answered: the ring of a flush that was asked for
    /// meanwhile ended an earlier sleep, and nothing else ends the next.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn worker_sleeps_on_its_answer() {
        flush_beside_one_that_is_under_way(true);
    }
}

/// Two callers flush at once, in one go or in two.
#[test]
fn two_flushes_are_both_answered() {
    let run = model(|run| {
        let notes = run.clone();
        let ((), (), goals) = run.three(
            &Shared::new(),
            |shared| assert!(shared.flush(0), "span 0 {TOO_EARLY}"),
            |shared| assert!(shared.flush(1), "span 1 {TOO_EARLY}"),
            |shared| Worker::new(notes, &shared.bed).work(shared, |asked| asked.flush == 2),
        );
        run.note(goals);
    });
    run.expect([1, 2]);
}

/// A caller flushes twice while the worker's own thread asks twice and does not wait, as a diagnostic sink does: each
/// flush has a number above those before.
#[test]
fn flush_beside_flushes_that_nobody_waits_for_is_answered() {
    model(|run| {
        let notes = run.clone();
        run.two(
            &Shared::new(),
            |shared| {
                shared.flush_all();
                shared.handoff.ask_shutdown(late(1));
            },
            |shared| {
                (0..2).for_each(|_| _ = shared.handoff.ask_flush());
                Worker::new(notes, &shared.bed).work(shared, |asked| asked.shutdown.is_some())
            },
        );
    });
}

/// A flush and a shutdown at once: both are answered, and who comes later does not wait.
#[test]
fn flush_and_shutdown_are_both_answered() {
    let run = model(|run| {
        let notes = run.clone();
        let shared = Shared::new();
        let (is_delivered, (), ()) = run.three(
            &shared,
            |shared| shared.flush(0),
            |shared| shared.shut_down(late(1)),
            |shared| {
                Worker::new(notes, &shared.bed).work(shared, |asked| asked.shutdown.is_some());
                shared.handoff.over();
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
        let notes = run.clone();
        let shared = Shared::new();
        let earlier = late(1);
        run.three(
            &shared,
            move |shared| shared.shut_down(earlier),
            |shared| shared.shut_down(late(2)),
            move |shared| {
                Worker::new(notes, &shared.bed).work(shared, |asked| asked.shutdown == Some(earlier));
                shared.handoff.over();
            },
        );
        assert_eq!(shared.handoff.asked().shutdown, Some(earlier));
    });
}

/// A worker fails before it looks, or has heard a caller already: its successor hears of the flush, or is woken.
#[test]
fn flush_is_answered_by_a_worker_that_was_replaced() {
    for has_turn in [false, true] {
        let run = model(move |run| {
            let notes = run.clone();
            run.two(
                &Shared::new(),
                |shared| shared.flush_all(),
                move |shared| {
                    if has_turn {
                        fail(&notes, shared);
                    }
                    assert!(!shared.handoff.wait(Awaited::Shutdown, past()), "nobody asked");
                    let bed = Arc::default();
                    shared.sleep_in(&bed);
                    Worker::new(notes, &bed).work(shared, |asked| asked.flush == 2)
                },
            );
        });
        run.expect([IDLE]);
        if has_turn {
            run.expect(["fails with a goal", "fails after a bell"]);
        }
    }
}

/// Fails once it has heard a caller: with a flush in hand, or after a bell that nobody rings again.
fn fail(run: &Run, shared: &Shared) {
    let mut worker = Worker::new(run.clone(), &shared.bed);
    worker.heed(shared, shared.handoff.asked());
    if !worker.goal.is_set() {
        worker.sleep();
    }
    run.note(if worker.goal.is_set() { "fails with a goal" } else { "fails after a bell" });
}

/// A shutdown while there is no worker, because one has failed or none could be started: the pause before the next
/// ends, and nobody waits for ever. As in `run` of src/engine/supervisor.rs.
#[test]
fn shutdown_without_a_worker_is_answered() {
    for had_worker in [false, true] {
        let run = model(move |run| {
            let notes = run.clone();
            let shared = if had_worker { Shared::new() } else { Shared::without_worker() };
            let (_, (), ()) = run.three(
                &shared,
                |shared| shared.flush(0),
                |shared| shared.shut_down(late(1)),
                move |shared| {
                    if had_worker {
                        fail(&notes, shared);
                    }
                    notes.note(if shared.handoff.has(Awaited::Shutdown) { "no pause" } else { "pause" });
                    assert!(shared.handoff.wait(Awaited::Shutdown, late(1)));
                    shared.handoff.over();
                },
            );
        });
        run.expect(["no pause", "pause"]);
    }
}
