//! The ways to lose a span: one table, from which the ledger, the counters and the metrics follow.

use std::fmt;

use crate::lane::Tally;

/// Where the spans of a cause are counted.
enum Place {
    /// At the lanes: by these counts of spans that started, and these of spans that ended.
    Lanes { starts: &'static [Tally], ends: &'static [Tally] },
    /// In the export, by the worker.
    Export,
}

/// Each row is a cause: its documentation, its name in [`Lost`], its name in [`Cause`], where it is counted, and its
/// `error.type` in OpenTelemetry's metrics (empty where they have no place for it).
macro_rules! causes {
    ($( $(#[$doc:meta])+ $name:ident, $cause:ident, $place:expr, $error_type:literal; )+) => {
        /// Spans that were lost, by cause. The list is closed: there is no other way to lose one.
        ///
        /// Lost means that the collector does not have them, as far as it keeps to its own answers. Those that it may
        /// have are [`Ledger::unconfirmed`](crate::Ledger::unconfirmed).
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct Lost {
            $( $(#[$doc])+ pub $name: u64, )+
        }

        /// A way to lose a span.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Cause {
            $( $cause, )+
        }

        impl Cause {
            pub(crate) const ALL: [Self; [$( stringify!($name) ),+].len()] = [$( Self::$cause ),+];

            const fn name(self) -> &'static str {
                match self { $( Self::$cause => stringify!($name), )+ }
            }

            const fn place(self) -> Place {
                match self { $( Self::$cause => $place, )+ }
            }

            /// The `error.type` of OpenTelemetry's metrics.
            pub(crate) const fn error_type(self) -> &'static str {
                match self { $( Self::$cause => $error_type, )+ }
            }
        }

        impl Lost {
            /// As many of each cause as `spans` says.
            pub(crate) fn each(mut spans: impl FnMut(Cause) -> u64) -> Self {
                Self { $( $name: spans(Cause::$cause), )+ }
            }

            pub(crate) fn of(&self, cause: Cause) -> u64 {
                match cause { $( Cause::$cause => self.$name, )+ }
            }
        }
    };
}

causes! {
    /// They ended while the rings were full: spans come faster than they are drained. Raise `memory_budget`, or sample.
    lane_full, LaneFull, Place::Lanes { starts: &[], ends: &[Tally::LaneFull] }, "queue_full";
    /// They found no ring to enter, and the spill stack full. Raise `memory_budget`.
    spill_full, SpillFull, Place::Lanes { starts: &[], ends: &[Tally::SpillFull] }, "queue_full";
    /// They started while all memory for open spans was in use. Spans are open for long, or too many
    /// at once: end them sooner, or raise `memory_budget`.
    live_limit, LiveLimit, Place::Lanes { starts: &[Tally::LiveLimit], ends: &[] }, "queue_full";
    /// They started or ended after the engine was closed: by [`Engine::shutdown`](crate::Engine::shutdown),
    /// [`Engine::close`](crate::Engine::close), or because it was dropped. Close it later.
    closed, Closed, Place::Lanes { starts: &[Tally::StartedClosed], ends: &[Tally::EndedClosed] }, "already_shutdown";
    /// They were open or waiting in the parent when this process was forked. The parent delivers them itself:
    /// [`Receipt::is_lossless`](crate::Receipt::is_lossless) and the diagnostics take no notice of them.
    forked, Forked, Place::Lanes { starts: &[], ends: &[Tally::Forked] }, "";
    /// No request can carry them: one span above `request_bytes_max`, or above what the collector takes. Record less.
    oversize, Oversize, Place::Export, "oversize";
    /// The collector refused their request, or is not an OTLP/HTTP collector. The diagnostics say why.
    rejected, Rejected, Place::Export, "rejected";
    /// The collector took their request, but not them. The diagnostics have its words.
    partially_rejected, PartiallyRejected, Place::Export, "partially_rejected";
    /// The collector was asked again until the time was up, and put off each attempt that was sent whole. Raise
    /// `timeout`, or ease its load.
    retry_expired, RetryExpired, Place::Export, "timeout";
    /// Each attempt to deliver their request failed, while other requests passed. The diagnostics name its scope and
    /// its first span: look at what the collector does with that.
    quarantined, Quarantined, Place::Export, "quarantined";
    /// They were not delivered before the deadline of the shutdown, or nothing listened at a collector on this machine
    /// for a second of it. Give it more time, or look at the collector.
    shutdown_deadline, ShutdownDeadline, Place::Export, "shutdown_deadline";
    /// The worker failed while it had them. A bug of this library, or of the program's diagnostic sink.
    worker_lost, WorkerLost, Place::Export, "worker_lost";
}

impl Cause {
    /// The lanes' counts of spans that started and were lost by this.
    pub(super) fn starts(self) -> &'static [Tally] {
        match self.place() {
            Place::Lanes { starts, .. } => starts,
            Place::Export => &[],
        }
    }

    /// The lanes' counts of spans that ended and were lost by this.
    pub(super) fn ends(self) -> &'static [Tally] {
        match self.place() {
            Place::Lanes { ends, .. } => ends,
            Place::Export => &[],
        }
    }

    /// Whether the memory for spans was full.
    pub(super) fn is_of_memory(self) -> bool {
        self.error_type() == "queue_full"
    }

    /// Whether the worker counts it.
    pub(super) fn is_of_export(self) -> bool {
        matches!(self.place(), Place::Export)
    }
}

impl Lost {
    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    /// Every cause by its name, as the counts of this struct are called.
    #[must_use]
    pub fn by_cause(&self) -> [(&'static str, u64); Cause::ALL.len()] {
        Cause::ALL.map(|cause| (cause.name(), self.of(cause)))
    }

    /// Without those that are the parent's to deliver.
    pub(crate) fn without_forked(&self) -> Self {
        Self { forked: 0, ..*self }
    }

    /// What was lost since an earlier look.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self::each(|cause| self.of(cause).saturating_sub(earlier.of(cause)))
    }

    /// The sum over some causes.
    pub(super) fn sum(&self, is_counted: impl Fn(Cause) -> bool) -> u64 {
        Cause::ALL.into_iter().filter(|&cause| is_counted(cause)).map(|cause| self.of(cause)).sum()
    }
}

impl fmt::Display for Lost {
    /// The causes that were met: `2 as closed, 1 as oversize`; empty if none was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = self.by_cause().into_iter().filter(|&(_, spans)| spans > 0);
        met.enumerate().try_for_each(|(index, (cause, spans))| {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{spans} as {cause}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each cause has a number of its own: no two share a place, and none is left out of a sum.
    #[test]
    fn every_cause_is_summed_named_and_compared() {
        let lost = Lost::each(|cause| 1 << cause as u64);
        assert_eq!(lost.total(), (1 << Cause::ALL.len()) - 1);
        let names = lost.by_cause();
        assert_eq!(names[3], ("closed", 8));
        assert_eq!(names.map(|(_, spans)| spans), Cause::ALL.map(|cause| lost.of(cause)));
        assert_eq!(lost.since(&Lost { forked: 3, rejected: 1 << 20, ..Lost::default() }).forked, 13);
        assert_eq!(lost.since(&lost), Lost::default());
        assert_eq!(lost.sum(Cause::is_of_export), lost.total() - 0b11111);
    }

    #[test]
    fn tallies_of_the_lanes_belong_to_one_cause_each() {
        let mut tallies: Vec<_> = Cause::ALL.iter().flat_map(|cause| [cause.starts(), cause.ends()].concat()).collect();
        let all = tallies.len();
        tallies.dedup();
        assert_eq!((all, tallies.len()), (6, 6));
    }
}
