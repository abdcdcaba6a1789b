//! The supervisor: sees that a worker is at the desk, on a thread of its own or in the program's calls, and replaces
//! one that fails.

use std::{
    io, mem,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

use super::{
    desk::Desk,
    handoff::Awaited,
    plan::Plan,
    words::lasting,
    work::{at_work, is_at_work},
    worker::{Turn, Wait, Worker},
};
use crate::{
    config::WorkerChoice,
    notice::counted,
    report::{Cause, GivenUp, Health, Topic},
    sync::{
        AtomicBool,
        Ordering::Relaxed,
        deadline::Deadline,
        spawn::{self, Thread},
    },
    trace::SpanLanes,
    transport::driver::DriverChoice,
};

/// One process's worker, wherever it runs, and the calls that wait for it.
#[derive(Debug)]
pub(super) struct Supervisor {
    desk: Arc<Desk>,
    choice: WorkerChoice,
    /// Whether the thread was spawned. Set by the first call that needs it.
    is_spawned: AtomicBool,
    thread: Mutex<Option<Thread>>,
    /// The worker of a program that polls.
    polled: Mutex<Option<Worker>>,
    /// The process that this is for.
    generation: u32,
}

/// Pause before a failed worker is replaced, doubled each time up to a minute.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a caller that runs the worker itself leaves it alone with the driver.
const POLLED_WAIT_MAX: Duration = Duration::from_millis(50);

impl Supervisor {
    pub(super) fn new(lanes: &Arc<SpanLanes>, plan: &Arc<Plan>, choice: WorkerChoice) -> Self {
        let driver = match (choice, plan.driver) {
            // io_uring serves one thread for ever, and a program that polls may do so from any.
            (WorkerChoice::Polled, DriverChoice::Auto) => DriverChoice::Poll,
            (_, driver) => driver,
        };
        Self {
            desk: Arc::new(Desk::new(lanes, plan, driver)),
            choice,
            is_spawned: AtomicBool::new(false),
            thread: Mutex::new(None),
            polled: Mutex::new(None),
            generation: lanes.generation(),
        }
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Starts the thread, unless there is one or the program polls.
    pub(super) fn spawn(&self) -> io::Result<()> {
        // ORDERING: Relaxed. The flag alone is shared; the thread is given the desk when it is made.
        if self.choice == WorkerChoice::Polled || self.is_spawned.swap(true, Relaxed) {
            return Ok(());
        }
        let desk = Arc::clone(&self.desk);
        match spawn::start("spanring", move || run(&desk)) {
            Ok(handle) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
                Ok(())
            }
            Err(error) => {
                // ORDERING: Relaxed. As above; the next call tries again.
                self.is_spawned.store(false, Relaxed);
                Err(error)
            }
        }
    }

    /// Waits until what has ended is delivered or lost; false if the deadline comes first.
    pub(super) fn flush(&self, deadline: Deadline) -> bool {
        let flush = self.desk.handoff.ask_flush();
        let is_done = self.await_it(deadline, deadline, Awaited::Flush(flush));
        self.desk.lines.wait(deadline);
        is_done
    }

    /// Ends the work; false if the worker has not accounted for everything by the deadline.
    pub(super) fn shut_down(&self, deadline: Deadline) -> bool {
        // At once, whoever works and when.
        self.desk.lanes.owner().close();
        self.desk.handoff.ask_shutdown(deadline);
        // The worker gives up at the deadline, and needs a moment to say so.
        let is_over = self.await_it(deadline, deadline.after_grace(), Awaited::Over);
        self.desk.lines.wait(deadline.after_grace());
        is_over
    }

    /// Ends the work, and the thread. What a shutdown before has waited for in vain is not waited for again.
    pub(super) fn end(&self) {
        let timeout = Deadline::after(self.desk.plan.shutdown_timeout);
        let deadline = self.desk.handoff.shutdown().map_or(timeout, |earlier| earlier.min(timeout));
        if self.shut_down(deadline) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A worker that drops the last engine in its own sink cannot wait for itself.
            if let Some(thread) = thread.filter(|_| !is_at_work()) {
                thread.join();
            }
        }
    }

    /// Works for as long as there is something to do; whether there is more.
    pub(super) fn poll(&self, until: Deadline) -> bool {
        if self.choice != WorkerChoice::Polled || is_at_work() {
            return false;
        }
        loop {
            match self.poll_one(Duration::ZERO) {
                Some(Turn::Busy) if !until.left().is_zero() => {}
                Some(turn) => return turn == Turn::Busy,
                None => return false,
            }
        }
    }

    fn await_it(&self, deadline: Deadline, late: Deadline, awaited: Awaited) -> bool {
        let handoff = &self.desk.handoff;
        if is_at_work() {
            return handoff.has(awaited);
        }
        if self.choice != WorkerChoice::Polled {
            return handoff.wait(awaited, late);
        }
        while !handoff.has(awaited) {
            if late.left().is_zero() {
                return false;
            }
            if self.poll_one(deadline.left().min(POLLED_WAIT_MAX)).is_none() {
                handoff.wait(awaited, late.min(Deadline::after(POLLED_WAIT_MAX)));
            }
        }
        true
    }

    /// Holds every lock here and at the desk. A new field has to be named, and a new lock taken.
    pub(super) fn with_locks_held<R>(&self, work: impl FnOnce() -> R) -> R {
        let Self { desk, choice: _, is_spawned: _, thread, polled, generation: _ } = self;
        let _thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
        let _polled = polled.lock().unwrap_or_else(PoisonError::into_inner);
        desk.with_locks_held(work)
    }

    /// One turn of the program's own worker; `None` while another thread is at it, or when there can be none.
    fn poll_one(&self, wait_max: Duration) -> Option<Turn> {
        let mut polled = match self.polled.try_lock() {
            Ok(polled) => polled,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if self.desk.handoff.has(Awaited::Over) {
            return Some(Turn::Idle);
        }
        let turn = at_work(|| {
            let worker = match &mut *polled {
                Some(worker) => worker,
                None => polled.insert(Worker::start(&self.desk)?),
            };
            let turn = worker.turn(&self.desk, Wait::AtMost(wait_max));
            if turn == Turn::Over
                && let Some(worker) = polled.take()
            {
                worker.finish(&self.desk);
            }
            Ok(turn)
        });
        match turn {
            Ok(Turn::Over) => {
                self.desk.handoff.over();
                Some(Turn::Over)
            }
            Ok(turn) => Some(turn),
            Err(why) => {
                *polled = None;
                write_off(&self.desk, &why, "at the next poll");
                None
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.desk.lanes.generation() != self.generation {
            // A child process drops its parent's engine: the parent's driver and thread are not there, and are left
            // alone.
            mem::forget(self.polled.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// Works until the engine shuts down. A worker that panics costs the spans that it had, and is replaced.
fn run(desk: &Desk) {
    let mut pauses = Pauses::default();
    loop {
        let begun = Deadline::after(Duration::ZERO);
        let Err(why) = at_work(|| {
            let mut worker = Worker::start(desk)?;
            while worker.turn(desk, Wait::UntilDue) != Turn::Over {}
            worker.finish(desk);
            Ok(())
        }) else {
            break;
        };
        let pause = pauses.after(begun.passed());
        write_off(desk, &why, &format!("in {}", lasting(pause)));
        if desk.handoff.wait(Awaited::Shutdown, Deadline::after(pause)) {
            desk.close_lanes();
            let left = GivenUp { lost: abandon(&desk.lanes).unwrap_or(0), unconfirmed: 0 };
            desk.counts.give_up(Cause::ShutdownDeadline, left);
            desk.tell_balance(left, "");
            desk.status.set_health(Health::Down("the engine has shut down".into()));
            break;
        }
    }
    desk.handoff.over();
}

/// Accounts for the spans of a worker that failed.
fn write_off(desk: &Desk, why: &str, when: &str) {
    if desk.lanes.needs_settling() {
        // What the parent had taken is not of this process's ledger.
        return;
    }
    let GivenUp { lost, unconfirmed } = desk.counts.write_off(desk.lanes.taken().saturating_sub(desk.counts.ended()));
    let spans = counted(lost, "span was", "spans were");
    let unconfirmed = match unconfirmed {
        0 => String::new(),
        spans => format!(" and {} unconfirmed (the collector may have them)", counted(spans, "span is", "spans are")),
    };
    let text = format!("the export failed and restarts {when}, {spans} lost with it{unconfirmed}: {why}");
    desk.status.set_health(Health::Degraded(text.clone()));
    desk.say(Topic::Worker, &text);
}

/// Closes the lanes, takes out what waits there, and drops it. Returns how many spans that were.
fn abandon(lanes: &Arc<SpanLanes>) -> Option<u64> {
    lanes.owner().close();
    let _ = lanes.close();
    Some(lanes.reader()?.give_up())
}

/// The pauses between a worker that fails and the next.
#[derive(Debug, Default)]
struct Pauses {
    /// The last one; zero before the first.
    last: Duration,
}

impl Pauses {
    /// The pause after a worker that failed after so long. One that worked for as long as the longest pause was well:
    /// what failed before it does not count.
    fn after(&mut self, worked: Duration) -> Duration {
        let longer = if worked < PAUSE_MAX { self.last * 2 } else { PAUSE_MIN };
        self.last = longer.clamp(PAUSE_MIN, PAUSE_MAX);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        config::{Config, Export},
        engine::{Engine, Side},
    };

    /// A supervisor whose worker never comes.
    fn deserted(engine: &Engine, shutdown_timeout: Duration) -> Supervisor {
        let export = Export { shutdown_timeout, ..Export::default() };
        let plan = Plan::new(&export, &Config { export: Some(export.clone()), ..Config::default() });
        Supervisor::new(&engine.lanes, &Arc::new(plan.expect("it can work")), WorkerChoice::OwnThread)
    }

    #[test]
    fn drop_after_a_shutdown_that_missed_its_deadline_does_not_wait_again() {
        let timeout = Duration::from_secs(60);
        let engine = Engine::start(Config::default()).expect("it can start");
        assert!(matches!(engine.side, Side::Manual(_)), "it leaves the lanes alone");
        let supervisor = deserted(&engine, timeout);
        assert!(!supervisor.shut_down(Deadline::after(Duration::ZERO)));
        let begun = Instant::now();
        supervisor.end();
        assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
        // A second call waits for as long as it says.
        assert!(!supervisor.shut_down(Deadline::after(Duration::from_millis(1))));
    }

    #[test]
    fn drop_waits_for_its_own_time_where_a_shutdown_has_more() {
        let engine = Engine::start(Config::default()).expect("it can start");
        let supervisor = deserted(&engine, Duration::ZERO);
        supervisor.desk.handoff.ask_shutdown(Deadline::after(Duration::from_secs(60)));
        let begun = Instant::now();
        supervisor.end();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    #[test]
    fn pauses_double_and_start_over_after_a_worker_that_was_well() {
        let mut pauses = Pauses::default();
        let mut after = |worked: Duration| pauses.after(worked).as_millis();
        let failing = [(); 12].map(|()| after(PAUSE_MAX - Duration::from_millis(1)));
        assert_eq!(failing, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!([PAUSE_MAX, Duration::ZERO, Duration::MAX].map(after), [100, 200, 100]);
    }
}
