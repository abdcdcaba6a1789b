//! What callers and the worker share: wishes, counts of what was exported, and how the export does.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::handoff::Wishes;
use crate::{
    report::{Counts, Health, Stats},
    sync::ticks,
};

/// Shared by an engine's callers and its worker, in one process. A child process has one of its own.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) counts: Counts,
    pub(super) wishes: Wishes,
    status: Mutex<Status>,
}

/// What the worker says of the export.
#[derive(Debug, Default)]
struct Status {
    health: Health,
    driver: Option<(&'static str, String)>,
}

impl Control {
    pub(super) fn set_health(&self, health: Health) {
        self.status().health = health;
    }

    pub(super) fn health(&self) -> Health {
        self.status().health.clone()
    }

    pub(super) fn set_driver(&self, name: &'static str, reason: String) {
        self.status().driver = Some((name, reason));
    }

    /// Adds what only the export knows.
    pub(super) fn complete(&self, stats: Stats) -> Stats {
        let status = self.status();
        let (driver, driver_reason) = status.driver.clone().unwrap_or_default();
        let counts = &self.counts;
        let since = |moment: u64| match moment {
            0 => Duration::ZERO,
            moment => Duration::from_nanos(ticks::monotonic_nanos().saturating_sub(moment)),
        };
        let exports = counts.times.all();
        Stats {
            health: status.health.clone(),
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

    fn status(&self) -> MutexGuard<'_, Status> {
        // Nothing panics while it holds the lock.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
