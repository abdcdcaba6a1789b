//! What belongs to the whole process: forks, signal handlers, counters of misuse. Each test runs alone.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod contexts;
mod export_fork;
mod first_span;
mod fork_bar;
mod forks;
mod global;
mod last_span;
mod misuse;
mod silence;
#[cfg(unix)]
mod unread;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Signals, children and counters belong to the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
