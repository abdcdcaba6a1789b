//! The state of the export, as the worker reports it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    report::{Counts, Health, Stats},
    sync::ticks,
};

/// What the worker says of the export, for callers to read.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    health: Health,
    driver: Option<(&'static str, String)>,
}

impl Status {
    pub(super) fn set_health(&self, health: Health) {
        self.said().health = health;
    }

    pub(super) fn health(&self) -> Health {
        self.said().health.clone()
    }

    pub(super) fn set_driver(&self, name: &'static str, reason: String) {
        self.said().driver = Some((name, reason));
    }

    /// Adds what only the export knows.
    pub(super) fn complete(&self, stats: Stats, counts: &Counts) -> Stats {
        let said = self.said();
        let (driver, driver_reason) = said.driver.clone().unwrap_or_default();
        let since = |moment: u64| match moment {
            0 => Duration::ZERO,
            moment => Duration::from_nanos(ticks::monotonic_nanos().saturating_sub(moment)),
        };
        let exports = counts.times.all();
        Stats {
            health: said.health.clone(),
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

    pub(super) fn with_lock_held<R>(&self, work: impl FnOnce() -> R) -> R {
        let Self(_) = self;
        let _said = self.said();
        work()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
