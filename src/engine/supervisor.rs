//! The worker's post: what stays when a worker fails, who works there, and who replaces whom.

use std::{
    any::Any,
    cell::Cell,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

use super::{
    handoff::Awaited,
    plan::Plan,
    status::Control,
    worker::{Turn, Wait, Worker},
};
use crate::{
    config::WorkerChoice,
    report::{Cause, Health, Ledger, Reporter, Topic},
    sync::{
        AtomicBool,
        Ordering::Relaxed,
        deadline::Deadline,
        spawn::{self, Thread},
        ticks,
    },
    trace::SpanLanes,
    transport::driver::DriverChoice,
};

/// What a worker works with. Each process has one.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) core: Arc<SpanLanes>,
    pub(super) plan: Arc<Plan>,
    pub(super) control: Control,
    choice: WorkerChoice,
    pub(super) reporter: Mutex<Reporter>,
    /// Whether the thread was started. Set by the first who needs it.
    is_manned: AtomicBool,
    thread: Mutex<Option<Thread>>,
    /// The worker of a program that polls.
    guest: Mutex<Option<Worker>>,
    /// The process whose post this is.
    generation: u32,
}

thread_local! {
    /// Whether this thread is at a worker's work now, and so may be in the program's diagnostic sink.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Pause before a failed worker is replaced, doubled each time up to a minute.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a thread that is in a ring may hold up the end. Its end takes well under a microsecond, unless it is stopped.
const CLOSE_MAX: Duration = Duration::from_millis(5);
/// How long a caller that drives the worker itself leaves it alone with the driver.
const DRIVEN_WAIT_MAX: Duration = Duration::from_millis(50);

impl Post {
    pub(super) fn new(core: &Arc<SpanLanes>, plan: &Arc<Plan>, choice: WorkerChoice) -> Self {
        Self {
            core: Arc::clone(core),
            plan: Arc::clone(plan),
            control: Control::default(),
            choice,
            reporter: Mutex::new(Reporter::new(plan.diagnostics.clone())),
            is_manned: AtomicBool::new(false),
            thread: Mutex::new(None),
            guest: Mutex::new(None),
            generation: core.generation(),
        }
    }

    /// Starts the thread, unless there is one or the program polls.
    pub(super) fn man(self: &Arc<Self>) -> io::Result<()> {
        // ORDERING: Relaxed. The flag alone is shared; the thread is given the post when it is made.
        if self.choice == WorkerChoice::Polled || self.is_manned.swap(true, Relaxed) {
            return Ok(());
        }
        let post = Arc::clone(self);
        match spawn::start("spanring", move || post.hold()) {
            Ok(handle) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
                Ok(())
            }
            Err(error) => {
                // ORDERING: Relaxed. As above; the next call tries again.
                self.is_manned.store(false, Relaxed);
                Err(error)
            }
        }
    }

    /// Says that a child process got no thread.
    pub(super) fn unmanned(&self, error: &io::Error) {
        let text = format!("the system refused a thread for the export, spans wait in memory: {error}");
        self.control.set_health(Health::Down(text.clone()));
        self.say(Topic::Worker, &text);
    }

    /// Waits until what has ended is delivered or lost; false if the deadline comes first.
    pub(super) fn flush(&self, deadline: Deadline) -> bool {
        let flush = self.control.wishes.ask_flush();
        self.await_it(deadline, deadline, Awaited::Flush(flush))
    }

    /// Ends the work; false if the worker has not accounted for everything by the deadline.
    pub(super) fn shut_down(&self, deadline: Deadline) -> bool {
        // At once, whoever works and when.
        self.core.owner().close();
        self.control.wishes.ask_shutdown(deadline);
        // The worker gives up at the deadline, and needs a moment to say so.
        self.await_it(deadline, deadline.after_grace(), Awaited::Over)
    }

    /// Ends the work, and the thread.
    pub(super) fn end(&self) {
        if self.shut_down(Deadline::after(self.plan.shutdown_timeout)) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A worker that drops the last engine in its own sink cannot wait for itself.
            if let Some(thread) = thread.filter(|_| !AT_WORK.get()) {
                thread.join();
            }
        }
    }

    /// Works for as long as there is something to do; whether there is more.
    pub(super) fn poll(&self, until: Deadline) -> bool {
        if self.choice != WorkerChoice::Polled || AT_WORK.get() {
            return false;
        }
        loop {
            match self.drive(Duration::ZERO) {
                Some(Turn::Busy) if !until.left().is_zero() => {}
                Some(turn) => return turn == Turn::Busy,
                None => return false,
            }
        }
    }

    fn await_it(&self, deadline: Deadline, late: Deadline, awaited: Awaited) -> bool {
        let wishes = &self.control.wishes;
        if AT_WORK.get() {
            return wishes.has(awaited);
        }
        if self.choice != WorkerChoice::Polled {
            return wishes.wait(awaited, late);
        }
        while !wishes.has(awaited) {
            if late.left().is_zero() {
                return false;
            }
            if self.drive(deadline.left().min(DRIVEN_WAIT_MAX)).is_none() {
                wishes.wait(awaited, late.min(Deadline::after(DRIVEN_WAIT_MAX)));
            }
        }
        true
    }

    /// One turn of the program's own worker; `None` while another thread is at it, or when there can be none.
    fn drive(&self, wait_max: Duration) -> Option<Turn> {
        let mut guest = match self.guest.try_lock() {
            Ok(guest) => guest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if self.control.wishes.has(Awaited::Over) {
            return Some(Turn::Idle);
        }
        let turn = at_work(|| {
            let worker = match &mut *guest {
                Some(worker) => worker,
                None => guest.insert(Worker::start(self)?),
            };
            let turn = worker.turn(self, Wait::AtMost(wait_max));
            if turn == Turn::Over
                && let Some(worker) = guest.take()
            {
                worker.finish(self);
            }
            Ok(turn)
        });
        match turn {
            Ok(Turn::Over) => {
                self.control.wishes.over();
                Some(Turn::Over)
            }
            Ok(turn) => Some(turn),
            Err(why) => {
                *guest = None;
                self.write_off(&why, "at the next poll");
                None
            }
        }
    }

    /// Works until the engine shuts down. A worker that panics costs the spans that it had, and is replaced.
    fn hold(&self) {
        let mut pauses = Pauses::default();
        loop {
            let begun = Deadline::after(Duration::ZERO);
            let Err(why) = at_work(|| {
                let mut worker = Worker::start(self)?;
                while worker.turn(self, Wait::UntilDue) != Turn::Over {}
                worker.finish(self);
                Ok(())
            }) else {
                break;
            };
            let pause = pauses.after(begun.passed());
            self.write_off(&why, &format!("in {pause:?}"));
            if self.control.wishes.wait(Awaited::Shutdown, Deadline::after(pause)) {
                self.close_lanes();
                let left = Self::abandon(&self.core).unwrap_or(0);
                self.control.counts.lose(Cause::ShutdownDeadline, left);
                self.tell_balance();
                self.control.set_health(Health::Down("the engine has shut down".into()));
                break;
            }
        }
        self.control.wishes.over();
    }

    /// Accounts for the spans of a worker that failed.
    fn write_off(&self, why: &str, when: &str) {
        if self.core.needs_settling() {
            // What the parent had taken is not of this process's ledger.
            return;
        }
        let lost = self.core.taken().saturating_sub(self.control.counts.ended());
        self.control.counts.lose(Cause::WorkerLost, lost);
        let text = format!("the export failed and begins anew {when}, {lost} spans were lost with it: {why}");
        self.control.set_health(Health::Degraded(text.clone()));
        self.say(Topic::Worker, &text);
    }

    /// Closes the lanes and takes out what waits there, for nobody; how many spans that were.
    fn abandon(core: &Arc<SpanLanes>) -> Option<u64> {
        core.owner().close();
        let _ = core.close();
        Some(core.reader()?.give_up())
    }

    /// Closes the lanes. A thread that is in the middle of an end has a few milliseconds to get out of its ring.
    pub(super) fn close_lanes(&self) {
        let late = Deadline::after(CLOSE_MAX);
        while !self.core.close() && !late.left().is_zero() {
            std::thread::yield_now();
        }
    }

    /// Tells the program. What its sink does wrong is its own; what it does with the engine does not wait, and what is said
    /// meanwhile, by itself or by another thread, is not heard.
    pub(super) fn say(&self, topic: Topic, text: &str) {
        self.report(|reporter| reporter.say(topic, text));
    }

    /// Tells the program, past the limit on how often.
    pub(super) fn insist(&self, topic: Topic, text: &str) {
        self.report(|reporter| reporter.insist(topic, text));
    }

    /// Tells the program if the limit on how often allows it; whether it did.
    pub(super) fn announce(&self, topic: Topic, text: impl FnOnce() -> String) -> bool {
        let mut is_said = false;
        self.report(|reporter| {
            if reporter.may_say(topic) {
                is_said = true;
                reporter.insist(topic, text());
            }
        });
        is_said
    }

    /// The last word on losses, whatever was told of them before.
    pub(super) fn tell_balance(&self) {
        let ledger = Ledger::of(&self.core, Some(&self.control.counts));
        let (lost, started) = (ledger.lost.total(), ledger.started);
        if lost > 0 {
            self.insist(Topic::Loss, &format!("{lost} of {started} spans lost: {}", ledger.lost));
        }
    }

    fn report(&self, report: impl FnOnce(&mut Reporter)) {
        let mut reporter = match self.reporter.try_lock() {
            Ok(reporter) => reporter,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let was_at_work = AT_WORK.replace(true);
        let _ = catch_unwind(AssertUnwindSafe(|| report(&mut reporter)));
        AT_WORK.set(was_at_work);
    }

    /// The driver to open. io_uring serves one thread for ever, and a program that polls may do so from any.
    pub(super) fn driver(&self) -> DriverChoice {
        match (self.choice, self.plan.driver) {
            (WorkerChoice::Polled, DriverChoice::Auto) => DriverChoice::Poll,
            (_, choice) => choice,
        }
    }

    /// Where the random numbers of a worker start.
    pub(super) fn seed(&self) -> u64 {
        ticks::counter() ^ ticks::wall_nanos().rotate_left(32) ^ u64::from(std::process::id())
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.core.generation() != self.generation {
            // A child process drops its parent's engine: the parent's driver and thread are not there, and are left alone.
            mem::forget(self.guest.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// The pauses between a worker that fails and the next.
#[derive(Debug, Default)]
struct Pauses {
    /// The last one; zero before the first.
    last: Duration,
}

impl Pauses {
    /// The pause behind a worker that failed after so long. One that worked for as long as the longest pause was well: what
    /// failed before it does not count.
    fn after(&mut self, worked: Duration) -> Duration {
        let longer = if worked < PAUSE_MAX { self.last * 2 } else { PAUSE_MIN };
        self.last = longer.clamp(PAUSE_MIN, PAUSE_MAX);
        self.last
    }
}

/// Runs a worker's work; a panic becomes its text.
fn at_work<R>(work: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    AT_WORK.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    AT_WORK.set(false);
    result.unwrap_or_else(|panic| Err(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_begin_anew_behind_a_worker_that_was_well() {
        let mut pauses = Pauses::default();
        let mut after = |worked: Duration| pauses.after(worked).as_millis();
        let failing = [(); 12].map(|()| after(PAUSE_MAX - Duration::from_millis(1)));
        assert_eq!(failing, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!([PAUSE_MAX, Duration::ZERO, Duration::MAX].map(after), [100, 200, 100]);
    }
}
