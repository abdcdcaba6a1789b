//! What the worker counts of the export.

use super::{
    causes::{Cause, Lost},
    times::Times,
};
use crate::sync::Counter;

/// What became of spans after they left the lanes. Written by the worker, read by the ledger.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) exported: Counter,
    /// By [`Cause`]; those of the lanes stay zero.
    lost: [Counter; Cause::ALL.len()],
    /// Requests that have ended, and their times.
    pub(crate) times: Times,
    /// Requests that were sent again.
    pub(crate) repeats: Counter,
    /// Bytes of all bodies, before compression.
    pub(crate) body_bytes: Counter,
    /// Connections that are open now.
    pub(crate) connections: Counter,
    /// Drops that were reported, as in [`Drops`](super::ledger::Drops).
    pub(crate) starts_told: Counter,
    pub(crate) ends_told: Counter,
    /// When the oldest span that is in no finished request came out of the lanes, on the monotonic clock; zero without
    /// one.
    pub(crate) oldest: Counter,
}

impl Counts {
    /// Counts spans that the export has lost.
    pub(crate) fn lose(&self, cause: Cause, spans: u64) {
        debug_assert!(cause.is_of_export(), "{cause:?} is counted at the lanes");
        self.lost[cause as usize].add_owned(spans);
    }

    /// What the export has lost.
    pub(crate) fn lost(&self) -> Lost {
        Lost::each(|cause| self.lost[cause as usize].load())
    }

    /// Spans that left the lanes and have come to an end.
    pub(crate) fn ended(&self) -> u64 {
        self.lost().total() + self.exported.load()
    }
}
