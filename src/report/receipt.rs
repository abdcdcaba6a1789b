//! What a flush or a shutdown came to.

use std::time::Duration;

use super::{causes::Lost, ledger::Ledger};

/// What became of spans during a flush or a shutdown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a receipt says what was lost"]
#[non_exhaustive]
pub struct Receipt {
    /// Whether every span that had ended before the call has come to an end: delivered, or counted as lost. It says nothing of
    /// losses: look at `lost`. False if the deadline came before the account was whole, and for an engine that exports nothing
    /// while spans wait for its program.
    pub is_complete: bool,
    /// Spans that were delivered during the call.
    pub exported: u64,
    /// Spans that were lost during the call, by cause.
    pub lost: Lost,
    /// Spans that wait in memory now.
    pub waiting: u64,
    /// How long the call took.
    pub elapsed: Duration,
    /// The whole ledger, as it is now.
    pub ledger: Ledger,
}

impl Receipt {
    pub(crate) fn new(before: &Ledger, after: Ledger, is_complete: bool, elapsed: Duration) -> Self {
        Self {
            is_complete,
            exported: after.exported.saturating_sub(before.exported),
            lost: after.lost.since(&before.lost),
            waiting: after.queued + after.in_flight,
            elapsed,
            ledger: after,
        }
    }
}
