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
    /// Spans that no answer confirmed or refused, and that the collector may have.
    pub(crate) unconfirmed: Counter,
    /// By [`Cause`]; those of the lanes stay zero.
    lost: [Counter; Cause::ALL.len()],
    /// Requests that have ended, and their times.
    pub(crate) times: Times,
    /// Of the spans that a worker has, those that the collector may have: all that is known of them if it fails.
    pub(crate) doubtful: Counter,
    /// Requests that were sent again.
    pub(crate) repeats: Counter,
    /// Spans that were sent again though the collector may have had them, each time.
    pub(crate) duplicates_max: Counter,
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

/// Spans that were given up before an answer came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct GivenUp {
    /// The collector does not have them.
    pub lost: u64,
    /// The collector may have them.
    pub unconfirmed: u64,
}

impl Counts {
    /// Counts spans that the export has lost.
    pub(crate) fn lose(&self, cause: Cause, spans: u64) {
        debug_assert!(cause.is_of_export(), "{cause:?} is counted at the lanes");
        self.lost[cause as usize].add_owned(spans);
    }

    /// Counts spans that were given up; `cause` is why the lost ones are lost.
    pub(crate) fn give_up(&self, cause: Cause, GivenUp { lost, unconfirmed }: GivenUp) {
        self.lose(cause, lost);
        self.unconfirmed.add_owned(unconfirmed);
    }

    /// Counts the spans that a worker had when it failed.
    pub(crate) fn write_off(&self, spans: u64) -> GivenUp {
        let unconfirmed = self.doubtful.load().min(spans);
        self.doubtful.set(0);
        let given_up = GivenUp { lost: spans - unconfirmed, unconfirmed };
        self.give_up(Cause::WorkerLost, given_up);
        given_up
    }

    /// What the export has lost.
    pub(crate) fn lost(&self) -> Lost {
        Lost::each(|cause| self.lost[cause as usize].load())
    }

    /// Spans that left the lanes and have come to an end.
    pub(crate) fn ended(&self) -> u64 {
        self.lost().total() + self.exported.load() + self.unconfirmed.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count of doubtful spans is from the end of the worker's last turn, so it may be more than what it has now.
    #[test]
    fn failed_worker_loses_what_the_collector_cannot_have() {
        let counts = Counts::default();
        for (doubtful, spans, lost, unconfirmed) in
            [(0, 5, 5, 0), (2, 5, 3, 2), (5, 5, 0, 5), (7, 5, 0, 5), (7, 0, 0, 0)]
        {
            counts.doubtful.set(doubtful);
            let before = counts.ended();
            assert_eq!(counts.write_off(spans), GivenUp { lost, unconfirmed });
            assert_eq!(counts.ended() - before, spans);
            assert_eq!(counts.write_off(1), GivenUp { lost: 1, unconfirmed: 0 }, "the next worker has none of them");
        }
    }
}
