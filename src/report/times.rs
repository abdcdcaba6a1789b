//! How requests ended, and how long they took.

use std::time::Duration;

use super::causes::Cause;
use crate::sync::Counter;

/// Requests of one kind of end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ExportTime {
    /// Requests.
    pub count: u64,
    /// Their time, added up.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Taken,
    /// Taken in part.
    PartlyRejected,
    Rejected,
    Expired,
    Quarantined,
    /// The collector may have it.
    Unconfirmed,
}

/// The `error.type` of what was sent and never answered, which is no loss.
pub(super) const UNCONFIRMED: &str = "unconfirmed";

impl Ended {
    pub(crate) const ALL: [Self; 6] =
        [Self::Taken, Self::PartlyRejected, Self::Rejected, Self::Expired, Self::Quarantined, Self::Unconfirmed];

    /// The `error.type` of OpenTelemetry's metrics; empty for a success.
    pub(super) fn error_type(self) -> &'static str {
        match self {
            Self::Taken => "",
            Self::PartlyRejected => Cause::PartiallyRejected.error_type(),
            Self::Rejected => Cause::Rejected.error_type(),
            Self::Expired => Cause::RetryExpired.error_type(),
            Self::Quarantined => Cause::Quarantined.error_type(),
            Self::Unconfirmed => UNCONFIRMED,
        }
    }
}

/// Times of requests. Written by the worker.
#[derive(Debug, Default)]
pub(crate) struct Times([TimeCell; Ended::ALL.len()]);

#[derive(Debug, Default)]
struct TimeCell {
    count: Counter,
    sum: Counter,
    max: Counter,
}

impl Times {
    pub(crate) fn observe(&self, ended: Ended, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let cell = &self.0[ended as usize];
        cell.count.add_owned(1);
        cell.sum.add_owned(nanos);
        cell.max.set(cell.max.load().max(nanos));
    }

    pub(crate) fn all(&self) -> [ExportTime; Ended::ALL.len()] {
        Ended::ALL.map(|ended| {
            let TimeCell { count, sum, max } = &self.0[ended as usize];
            let [sum, max] = [sum, max].map(|nanos| Duration::from_nanos(nanos.load()));
            ExportTime { count: count.load(), sum, max }
        })
    }
}
