//! What callers and the worker say to each other: wishes, answers, and the counts of what was exported.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    deadline::Deadline,
    diagnostics::Health,
    stats::{Stats, Times},
};
use crate::{
    sync::{Counter, once::Latest, ticks},
    transport::driver::Waker,
};

/// Shared by an engine's callers and its worker, in one process. A child process has one of its own.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) counts: Counts,
    wishes: Mutex<Wishes>,
    /// Signalled when the worker has done something that somebody may wait for.
    done: Condvar,
    waker: Latest<Waker>,
}

/// What became of spans after they left the lanes. Written by the worker, read by the ledger.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) exported: Counter,
    pub(super) rejected: Counter,
    pub(super) partially_rejected: Counter,
    pub(super) retry_expired: Counter,
    pub(super) oversize: Counter,
    pub(super) shutdown_deadline: Counter,
    pub(super) worker_lost: Counter,
    /// Requests that have ended, and their times.
    pub(super) times: Times,
    /// Requests that were sent again.
    pub(super) repeats: Counter,
    /// Bytes of all bodies, before compression.
    pub(super) body_bytes: Counter,
    /// Connections that stand now.
    pub(super) connections: Counter,
    /// When the oldest span that is in no finished request came out of the lanes, on the monotonic clock; zero without one.
    pub(super) oldest: Counter,
}

impl Counts {
    /// Spans that left the lanes and have come to an end.
    pub(super) fn ended(&self) -> u64 {
        let lost = [
            &self.rejected,
            &self.partially_rejected,
            &self.retry_expired,
            &self.oversize,
            &self.shutdown_deadline,
            &self.worker_lost,
        ];
        lost.into_iter().map(Counter::load).sum::<u64>() + self.exported.load()
    }
}

#[derive(Debug, Default)]
struct Wishes {
    /// Flushes that were asked for, and how many of them are done.
    flushes: u64,
    flushed: u64,
    /// The shutdown that was asked for.
    shutdown: Option<Deadline>,
    /// Whether the worker has ended, and accounted for everything that it had.
    is_over: bool,
    health: Health,
    driver: Option<(&'static str, String)>,
    /// Whether the worker shall fail, once: a test wants to see it.
    failure: bool,
    /// How often any of this changed.
    changes: u64,
}

/// What the worker finds when it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The number of the last flush that was asked for.
    pub(super) flush: u64,
    /// Whether one is waiting.
    pub(super) wants_flush: bool,
    pub(super) shutdown: Option<Deadline>,
    /// Whether a test wants the worker to fail.
    pub(super) wants_failure: bool,
}

impl Control {
    /// Makes the worker fail at its next turn.
    pub(super) fn ask_failure(&self) {
        self.change(|wishes| wishes.failure = true);
        self.wake();
    }

    /// Asks for a flush; its number.
    pub(super) fn ask_flush(&self) -> u64 {
        let number = self.change(|wishes| {
            wishes.flushes += 1;
            wishes.flushes
        });
        self.wake();
        number
    }

    /// Whether the flush of this number is done, or never will be because all is over.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        let wishes = self.wishes();
        wishes.flushed >= number || wishes.is_over
    }

    /// Asks for the end; of several deadlines the earliest counts.
    pub(super) fn ask_shutdown(&self, deadline: Deadline) {
        self.change(|wishes| {
            wishes.shutdown = Some(wishes.shutdown.map_or(deadline, |earlier| earlier.min(deadline)));
        });
        self.wake();
    }

    /// Waits until something is done; false if the deadline comes first.
    pub(super) fn wait(&self, deadline: Deadline, is_done: &impl Fn() -> bool) -> bool {
        while !is_done() {
            let wishes = self.wishes();
            let changes = wishes.changes;
            drop(wishes);
            // Looked at again behind the count: what was done in between has moved it.
            if is_done() {
                break;
            }
            let left = deadline.left();
            if left.is_zero() {
                return false;
            }
            let wishes = self.wishes();
            if wishes.changes == changes {
                drop(self.done.wait_timeout(wishes, left));
            }
        }
        true
    }

    /// Lets a worker that failed rest; false if the engine shuts down meanwhile.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let is_wanted = || self.wishes().shutdown.is_some();
        !self.wait(Deadline::after(pause), &is_wanted)
    }

    /// What is asked of the worker.
    pub(super) fn wish(&self) -> Wish {
        let mut wishes = self.wishes();
        let wants_failure = mem::take(&mut wishes.failure);
        Wish {
            wants_failure,
            flush: wishes.flushes,
            wants_flush: wishes.flushes > wishes.flushed,
            shutdown: wishes.shutdown,
        }
    }

    /// Says that the flushes up to `number` are done.
    pub(super) fn flushed(&self, number: u64) {
        self.change(|wishes| wishes.flushed = wishes.flushed.max(number));
    }

    /// Says that the worker has ended.
    pub(super) fn over(&self) {
        self.change(|wishes| wishes.is_over = true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.wishes().is_over
    }

    pub(super) fn set_health(&self, health: Health) {
        self.wishes().health = health;
    }

    pub(super) fn health(&self) -> Health {
        self.wishes().health.clone()
    }

    pub(super) fn set_driver(&self, name: &'static str, reason: String) {
        self.wishes().driver = Some((name, reason));
    }

    /// Gives callers what makes the worker look.
    pub(super) fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    /// Makes the worker look.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Wishes) -> R) -> R {
        let mut wishes = self.wishes();
        wishes.changes += 1;
        let result = change(&mut wishes);
        drop(wishes);
        self.done.notify_all();
        result
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        // Nothing panics while it holds the lock.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what only the export knows.
    pub(super) fn complete(&self, stats: Stats) -> Stats {
        let wishes = self.wishes();
        let (driver, driver_reason) = wishes.driver.clone().unwrap_or_default();
        let counts = &self.counts;
        let since = |moment: u64| match moment {
            0 => Duration::ZERO,
            moment => Duration::from_nanos(ticks::monotonic_nanos().saturating_sub(moment)),
        };
        let exports = counts.times.all();
        Stats {
            health: wishes.health.clone(),
            driver,
            driver_reason,
            connections: counts.connections.load(),
            requests: exports.iter().map(|time| time.count).sum(),
            repeats: counts.repeats.load(),
            body_bytes: counts.body_bytes.load(),
            exports,
            oldest: since(counts.oldest.load()),
            ..stats
        }
    }
}
