//! What the worker counts of the export.

use super::stats::Times;
use crate::sync::Counter;

/// What became of spans after they left the lanes. Written by the worker, read by the ledger.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exported: Counter,
    pub(crate) rejected: Counter,
    pub(crate) partially_rejected: Counter,
    pub(crate) retry_expired: Counter,
    pub(crate) oversize: Counter,
    pub(crate) shutdown_deadline: Counter,
    pub(crate) worker_lost: Counter,
    /// Requests that have ended, and their times.
    pub(crate) times: Times,
    /// Requests that were sent again.
    pub(crate) repeats: Counter,
    /// Bytes of all bodies, before compression.
    pub(crate) body_bytes: Counter,
    /// Connections that stand now.
    pub(crate) connections: Counter,
    /// Drops at the lanes that were told.
    pub(crate) drops_told: Counter,
    /// When the oldest span that is in no finished request came out of the lanes, on the monotonic clock; zero without one.
    pub(crate) oldest: Counter,
}

impl Counts {
    /// Spans that left the lanes and have come to an end.
    pub(crate) fn ended(&self) -> u64 {
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
