//! What there is to know about an exporter: its requests, its connections and its counts.

use super::{
    super::{super::driver::Moment, condition::Condition, request::Request, slot::Slot},
    Exporter,
};

impl Exporter {
    /// Spans in requests that have not ended.
    #[must_use]
    pub(crate) fn spans(&self) -> usize {
        self.requests().map(|request| request.spans).sum()
    }

    /// Of these, spans that the collector may have.
    #[must_use]
    pub(crate) fn doubtful_spans(&self) -> usize {
        self.requests().filter(|request| request.may_be_there()).map(|request| request.spans).sum()
    }

    /// Requests that have not ended.
    #[must_use]
    pub(crate) fn pending(&self) -> usize {
        self.requests().count()
    }

    /// The number of the last request that was submitted.
    #[must_use]
    pub(crate) fn last_submitted(&self) -> u64 {
        self.submitted
    }

    /// The number of the oldest request that has not ended.
    #[must_use]
    pub(crate) fn oldest_pending(&self) -> Option<u64> {
        self.requests().map(|request| request.number).min()
    }

    /// When the oldest request that has not ended was submitted.
    #[must_use]
    pub(crate) fn oldest_since(&self) -> Option<Moment> {
        self.requests().map(|request| request.submitted).min()
    }

    /// Open connections.
    #[must_use]
    pub(crate) fn connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_up()).count()
    }

    /// The collector's condition.
    #[must_use]
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What keeps requests from a connection, though nothing has failed.
    #[must_use]
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.pending() == 0 || self.connections() > 0 {
            return None;
        }
        match self.addresses.is_asking() {
            true => Some("no name server has said where the collector is: check this machine's DNS"),
            false => self.slots.iter().find_map(Slot::obstacle),
        }
    }

    /// Why the newest certificates are not in use, if they were replaced by files that cannot be used.
    #[must_use]
    pub(crate) fn reload_failure(&self) -> Option<&str> {
        self.tls.as_ref()?.failure()
    }

    /// Requests that were sent again.
    #[must_use]
    pub(crate) fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Spans that were sent again after an attempt that was sent whole and not answered by the collector, each time.
    #[must_use]
    pub(crate) fn duplicates_max(&self) -> u64 {
        self.duplicates_max
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter_map(Slot::request).chain(self.waiting.iter())
    }
}
