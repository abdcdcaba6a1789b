//! The hand-off between callers and the worker: what is asked, what is done, and how each wakes the other.

use std::{mem, sync::PoisonError};

use crate::{
    sync::{Condvar, Mutex, MutexGuard, current::Current, deadline::Deadline},
    transport::driver::Waker,
};

/// What callers ask of the worker, and what it has answered. The lock is held for a few moves, never while somebody
/// works.
#[derive(Debug, Default)]
pub struct Handoff {
    state: Mutex<State>,
    /// Signalled at every change: somebody may wait for it.
    changed: Condvar,
    waker: Current<Waker>,
}

#[derive(Debug, Default)]
struct State {
    /// Flushes that were asked for, and how many of them are done.
    flushes: u64,
    flushed: u64,
    /// The shutdown that was asked for.
    shutdown: Option<Deadline>,
    /// Whether the worker has ended, and accounted for everything that it had.
    is_over: bool,
    /// Whether the worker is to fail, once, for a test.
    failure: bool,
}

/// What the worker finds when it looks.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number of the last flush that was asked for.
    pub flush: u64,
    /// Whether one is waiting.
    pub wants_flush: bool,
    /// The deadline of the shutdown, if one was asked for.
    pub shutdown: Option<Deadline>,
    /// Whether a test wants the worker to fail.
    pub wants_failure: bool,
}

/// What may be waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaited {
    /// The flush of this number is done, or never will be because all is over.
    Flush(u64),
    /// A shutdown was asked for.
    Shutdown,
    /// The worker has ended, and accounted for everything that it had.
    Over,
}

impl Handoff {
    /// Makes the worker fail at its next turn.
    pub fn ask_failure(&self) {
        self.ask(|state| state.failure = true);
    }

    /// Asks for a flush; its number.
    pub fn ask_flush(&self) -> u64 {
        self.ask(|state| {
            state.flushes += 1;
            state.flushes
        })
    }

    /// Asks for the end; of several deadlines the earliest counts.
    pub fn ask_shutdown(&self, deadline: Deadline) {
        self.ask(|state| {
            let earliest = state.shutdown.map_or(deadline, |earlier| earlier.min(deadline));
            state.shutdown = Some(earliest);
        });
    }

    /// The deadline of the shutdown, if one was asked for.
    pub fn shutdown(&self) -> Option<Deadline> {
        self.state().shutdown
    }

    /// Waits for it; false if the deadline comes first.
    pub fn wait(&self, awaited: Awaited, deadline: Deadline) -> bool {
        let mut state = self.state();
        while !state.has(awaited) {
            let left = deadline.left();
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether it has come.
    pub fn has(&self, awaited: Awaited) -> bool {
        self.state().has(awaited)
    }

    /// What is asked of the worker.
    pub fn asked(&self) -> Asked {
        let mut state = self.state();
        Asked {
            wants_failure: mem::take(&mut state.failure),
            flush: state.flushes,
            wants_flush: state.flushes > state.flushed,
            shutdown: state.shutdown,
        }
    }

    /// Says that the flushes up to `number` are done. There is one worker at a time, so the numbers only rise.
    pub fn flushed(&self, number: u64) {
        self.change(|state| state.flushed = number);
    }

    /// Says that the worker has ended.
    pub fn over(&self) {
        self.change(|state| state.is_over = true);
    }

    /// Gives callers what wakes the worker. It looks what they want after this, and before it sleeps.
    pub fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    /// Makes the worker look. This never waits: writers call it too, also from signal handlers.
    pub fn wake(&self) {
        // A worker that is setting its waker has yet to look.
        self.waker.look(Waker::wake);
    }

    pub(super) fn with_lock_held<R>(&self, work: impl FnOnce() -> R) -> R {
        // The waker needs no lock: its readers skip one that is being set.
        let Self { state: _, changed: _, waker: _ } = self;
        let _state = self.state();
        work()
    }

    /// Asks, and then wakes: a worker that was woken before it could look too early, and sleep again.
    fn ask<R>(&self, ask: impl FnOnce(&mut State) -> R) -> R {
        let asked = self.change(ask);
        self.wake();
        asked
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Flush(number) => self.flushed >= number || self.is_over,
            Awaited::Shutdown => self.shutdown.is_some(),
            Awaited::Over => self.is_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn earliest_deadline_of_several_shutdowns_counts() {
        let handoff = Handoff::default();
        let deadlines = [20, 10, 30].map(|secs| Deadline::after(Duration::from_secs(secs)));
        assert_eq!(handoff.asked().shutdown, None);
        deadlines.into_iter().for_each(|deadline| handoff.ask_shutdown(deadline));
        assert_eq!(handoff.asked().shutdown, Some(deadlines[1]));
    }

    #[test]
    fn end_answers_every_flush_and_a_deadline_that_is_past_answers_none() {
        let handoff = Handoff::default();
        let past = Deadline::after(Duration::ZERO);
        let flush = handoff.ask_flush();
        assert!(!handoff.wait(Awaited::Flush(flush), past) && !handoff.wait(Awaited::Over, past));
        handoff.over();
        assert!(handoff.wait(Awaited::Flush(flush), past) && handoff.wait(Awaited::Over, past));
        assert!(!handoff.has(Awaited::Shutdown), "nobody asked");
    }
}
