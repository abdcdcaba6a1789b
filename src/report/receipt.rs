//! What a flush or a shutdown came to.

use std::{fmt, time::Duration};

use super::{causes::Lost, ledger::Ledger};

/// What became of spans during a flush or a shutdown. It prints as one plain line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a receipt says what was lost"]
#[non_exhaustive]
pub struct Receipt {
    /// Spans that were delivered during the call.
    pub exported: u64,
    /// Spans that were given up during the call after they were sent, without the collector's answer: it may have them.
    pub unconfirmed: u64,
    /// Spans that were lost during the call, by cause.
    pub lost: Lost,
    /// Spans that wait in memory now.
    pub waiting: u64,
    /// How long the call took.
    pub elapsed: Duration,
    /// The whole ledger, as it is now.
    pub ledger: Ledger,
    is_complete: bool,
}

impl Receipt {
    /// `is_reached` says whether everything from before the call is known to be accounted for, whatever waits by now.
    pub(crate) fn new(before: &Ledger, after: Ledger, is_reached: bool, elapsed: Duration) -> Self {
        let waiting = after.queued + after.in_flight;
        Self {
            is_complete: is_reached || waiting == 0,
            exported: after.exported.saturating_sub(before.exported),
            unconfirmed: after.unconfirmed.saturating_sub(before.unconfirmed),
            lost: after.lost.since(&before.lost),
            waiting,
            elapsed,
            ledger: after,
        }
    }

    /// Whether every span that had ended before the call is accounted for: delivered, or counted as unconfirmed or
    /// lost. Always true if none is `waiting`; after a flush also if only spans that ended later are. It says nothing
    /// of losses: [`is_lossless`](Self::is_lossless) does.
    ///
    /// False if the deadline came first, and for an engine that exports nothing while spans wait for its program.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether every span that had ended before the call was delivered, and since the engine was started no span was
    /// lost, or is unconfirmed, or will be lost because it is still open after a shutdown. Open spans at a flush are as
    /// usual. What a child process has as `forked` is its parent's to deliver, and no loss.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        let Ledger { unconfirmed, lost, .. } = self.ledger;
        self.is_complete && unconfirmed + lost.without_forked().total() == 0 && !self.ledger.loses_open()
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_complete, exported, unconfirmed, lost, waiting, elapsed, ledger } = self;
        let lost = lost.without_forked();
        write!(f, "{exported} delivered")?;
        if *unconfirmed > 0 {
            write!(f, ", {unconfirmed} unconfirmed")?;
        }
        write!(f, ", {} lost", lost.total())?;
        if lost.total() > 0 {
            write!(f, " ({lost})")?;
        }
        write!(f, ", {waiting} waiting")?;
        if ledger.live > 0 {
            write!(f, ", {} still open", ledger.live)?;
        }
        let end = if *is_complete { "complete" } else { "incomplete" };
        write!(f, "; {end} after {elapsed:.1?}")?;
        let lost_in_all = ledger.lost.without_forked().total();
        let lost = (lost_in_all > lost.total()).then(|| format!("{lost_in_all} lost"));
        let unconfirmed = (ledger.unconfirmed > *unconfirmed).then(|| format!("{} unconfirmed", ledger.unconfirmed));
        match lost.into_iter().chain(unconfirmed).collect::<Vec<_>>() {
            none if none.is_empty() => Ok(()),
            in_all => write!(f, " ({} since the start)", in_all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(exported: u64, queued: u64, in_flight: u64, closed: u64) -> Ledger {
        let mut ledger = Ledger::default();
        (ledger.exported, ledger.queued, ledger.in_flight, ledger.lost.closed) = (exported, queued, in_flight, closed);
        ledger
    }

    #[test]
    fn receipt_is_complete_if_nothing_waits_or_all_of_before_is_accounted_for() {
        let receipt = |after, is_reached| Receipt::new(&ledger(1, 9, 9, 1), after, is_reached, Duration::ZERO);
        for (queued, in_flight, is_reached, is_complete) in
            [(0, 0, false, true), (0, 0, true, true), (1, 0, false, false), (0, 1, false, false), (1, 1, true, true)]
        {
            let receipt = receipt(ledger(2, queued, in_flight, 1), is_reached);
            assert_eq!((receipt.is_complete(), receipt.waiting), (is_complete, queued + in_flight), "{receipt}");
            assert!(!receipt.is_lossless(), "one was lost before the call");
        }
        let lossless =
            |after, is_reached| Receipt::new(&ledger(0, 0, 0, 0), after, is_reached, Duration::ZERO).is_lossless();
        assert!(lossless(ledger(2, 0, 0, 0), true));
        assert!(!lossless(ledger(2, 1, 0, 0), false));
        let mut after = ledger(2, 0, 0, 0);
        after.unconfirmed = 1;
        assert!(!lossless(after, true), "the collector may have it, or not");
    }

    #[test]
    fn receipt_prints_as_one_plain_line() {
        let line = |after, is_reached| {
            Receipt::new(&ledger(1, 0, 0, 1), after, is_reached, Duration::from_micros(12_345)).to_string()
        };
        let mut after = ledger(4, 0, 0, 1);
        let before = "3 delivered, 0 lost, 0 waiting; complete after 12.3ms (1 lost since the start)";
        assert_eq!(line(after, true), before);
        (after.lost.closed, after.lost.forked) = (0, 7);
        assert_eq!(line(after, true), "3 delivered, 0 lost, 0 waiting; complete after 12.3ms", "the parent has them");
        after = ledger(1, 70, 10, 3);
        (after.lost.oversize, after.live) = (1, 5);
        let lost = "0 delivered, 3 lost (2 as closed, 1 as oversize), 80 waiting, 5 still open; incomplete after \
            12.3ms (4 lost since the start)";
        assert_eq!(line(after, false), lost);
        after = ledger(1, 0, 0, 1);
        after.unconfirmed = 5;
        let unconfirmed =
            "0 delivered, 5 unconfirmed, 0 lost, 0 waiting; complete after 12.3ms (1 lost since the start)";
        assert_eq!(line(after, true), unconfirmed);
        let mut before = ledger(1, 0, 0, 0);
        before.unconfirmed = 4;
        let line = Receipt::new(&before, after, true, Duration::from_millis(1)).to_string();
        let since = "0 delivered, 1 unconfirmed, 1 lost (1 as closed), 0 waiting; complete after 1.0ms (5 unconfirmed \
            since the start)";
        assert_eq!(line, since);
    }
}
