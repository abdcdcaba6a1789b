//! The desk: what a worker works with, and what its supervisor and the callers share with it. It stays when a worker
//! fails.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{handoff::Handoff, lines::Lines, plan::Plan, status::Status};
use crate::{
    notice::counted,
    report::{Counts, Diagnostic, GivenUp, Ledger, Reporter, Topic},
    sync::{deadline::Deadline, ticks},
    trace::SpanLanes,
    transport::driver::DriverChoice,
};

/// Shared by an engine's callers, its supervisor and its worker, in one process. A child process has one of its own.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) lanes: Arc<SpanLanes>,
    pub(super) plan: Arc<Plan>,
    /// The driver to open.
    pub(super) driver: DriverChoice,
    pub(super) handoff: Handoff,
    pub(super) status: Status,
    pub(super) counts: Counts,
    pub(super) reporter: Mutex<Reporter>,
    pub(super) lines: Arc<Lines>,
}

/// How long a thread that is in a ring may hold up the end. Its end takes well under a microsecond, unless it is
/// stopped.
const CLOSE_MAX: Duration = Duration::from_millis(5);

impl Desk {
    pub(super) fn new(lanes: &Arc<SpanLanes>, plan: &Arc<Plan>, driver: DriverChoice) -> Self {
        Self {
            lanes: Arc::clone(lanes),
            plan: Arc::clone(plan),
            driver,
            handoff: Handoff::default(),
            status: Status::default(),
            counts: Counts::default(),
            reporter: Mutex::default(),
            lines: Lines::new(plan.diagnostics.clone()),
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::of(&self.lanes, Some(&self.counts))
    }

    /// Closes the lanes. A thread that is in the middle of an end has a few milliseconds to get out of its ring.
    pub(super) fn close_lanes(&self) {
        let late = Deadline::after(CLOSE_MAX);
        while !self.lanes.close() && !late.left().is_zero() {
            std::thread::yield_now();
        }
    }

    /// Tells the program, for which nobody here waits.
    pub(super) fn say(&self, topic: Topic, text: &str) {
        let _ = self.report(|reporter| reporter.say(topic, text));
    }

    /// Tells the program, past the limit on how often.
    pub(super) fn insist(&self, topic: Topic, text: &str) {
        let _ = self.report(|reporter| Some(reporter.insist(topic, text)));
    }

    /// Tells the program if the limit on how often allows it; whether it did.
    pub(super) fn announce(&self, topic: Topic, text: impl FnOnce() -> String) -> bool {
        self.report(|reporter| reporter.may_say(topic).then(|| reporter.insist(topic, text())))
    }

    /// Tells the program on this thread, which waits for its sink: at the start, before there is a worker.
    pub(super) fn tell_at_start(&self, text: &str) {
        let line = self.reporter().insist(Topic::Configuration, text);
        self.lines.tell(line);
    }

    /// The last word on losses, in one line: what was not delivered at the end and why, what was lost or not confirmed
    /// in all, whatever was reported before, and what will be lost.
    pub(super) fn tell_balance(&self, given_up: GivenUp, why: &str) {
        let ledger = self.ledger();
        let lost = ledger.lost.without_forked();
        let mut parts = vec![];
        if given_up.lost > 0 {
            let spans = counted(given_up.lost, "span was", "spans were");
            parts.push(format!("{spans} not delivered when the engine shut down{why}"));
        }
        if lost.total() > given_up.lost {
            let started = counted(ledger.started - ledger.lost.forked, "span", "spans");
            parts.push(format!("{} of {started} lost: {lost}", lost.total()));
        }
        if ledger.unconfirmed > 0 {
            let spans = counted(ledger.unconfirmed, "span is", "spans are");
            // Told once, and only of what is given up now.
            let why = if given_up.lost == 0 && given_up.unconfirmed > 0 { why } else { "" };
            parts.push(format!("{spans} unconfirmed: sent without the collector's answer, so it may have them{why}"));
        }
        if ledger.live > 0 {
            let spans = counted(ledger.live, "span is", "spans are");
            parts.push(format!("{spans} still open and will be lost: end spans before the shutdown"));
        }
        if !parts.is_empty() {
            self.insist(Topic::Loss, &parts.join("; "));
        }
    }

    /// As [`Supervisor::with_locks_held`](super::supervisor::Supervisor::with_locks_held).
    pub(super) fn with_locks_held<R>(&self, work: impl FnOnce() -> R) -> R {
        let Self { lanes: _, plan: _, driver: _, handoff, status, counts: _, reporter: _, lines } = self;
        let _reporter = self.reporter();
        lines.with_lock_held(|| status.with_lock_held(|| handoff.with_lock_held(work)))
    }

    /// Passes on what the limit lets through; whether that is anything.
    fn report(&self, report: impl FnOnce(&mut Reporter) -> Option<Diagnostic>) -> bool {
        // Held until the line is in the queue, so that the lines keep their order.
        let mut reporter = self.reporter();
        let line = report(&mut reporter);
        let is_said = line.is_some();
        line.into_iter().for_each(|line| self.lines.pass(line));
        is_said
    }

    fn reporter(&self) -> MutexGuard<'_, Reporter> {
        // Nothing panics while it holds the lock.
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the random numbers of a worker start.
    pub(super) fn seed(&self) -> u64 {
        ticks::counter() ^ ticks::wall_nanos().rotate_left(32) ^ u64::from(std::process::id())
    }
}
