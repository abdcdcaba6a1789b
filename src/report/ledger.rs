//! The ledger: every span that was started is in exactly one column.

use super::counts::Counts;
use crate::{lane::Tally, trace::SpanLanes};

/// What became of every span, at one moment.
///
/// `started == not_sampled + live + queued + in_flight + exported + drained + lost.total()`, always; [`Ledger::is_closed`] says whether the counters
/// agree. A call that is under way in another thread may show as still live, never twice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Calls of `start`.
    pub started: u64,
    /// Of these, spans that the sampler kept from recording: a decision, not a loss.
    pub not_sampled: u64,
    /// Recording and not ended.
    pub live: u64,
    /// Ended, and waiting in the lanes.
    pub queued: u64,
    /// Taken out by the exporter, and neither delivered nor given up.
    pub in_flight: u64,
    /// Taken by the collector.
    pub exported: u64,
    /// Taken out by [`Engine::drain`](crate::Engine::drain), where nothing is exported.
    pub drained: u64,
    /// Lost, by cause.
    pub lost: Lost,
    /// Not a column: spans that ended in a ring that was not their first choice. Many of them mean that threads meet.
    pub sibling_hits: u64,
    recording: u64,
    ended: u64,
}

/// Spans that were lost, by cause. The list is closed: there is no other way to lose one.
///
/// Lost means not known to be delivered: a request that is given up on its way, as by `shutdown(Duration::ZERO)`, may still arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lost {
    /// They ended while the rings were full: spans come faster than they are drained. Raise `memory_budget`, or sample.
    pub lane_full: u64,
    /// They found no ring to enter, and the spill stack full. Raise `memory_budget`.
    pub spill_full: u64,
    /// They started while all memory for open spans was in use. Raise `memory_budget`, or end spans that hang.
    pub live_limit: u64,
    /// They started or ended after the engine was closed. Close it later.
    pub closed: u64,
    /// They were open or waiting in the parent when this process was forked. The parent delivers its own.
    pub forked: u64,
    /// No request can carry them: one span above `request_bytes_max`, or above what the collector takes. Record less.
    pub oversize: u64,
    /// The collector refused their request, or is no OTLP/HTTP collector. The diagnostics say why.
    pub rejected: u64,
    /// The collector took their request, but not them. The diagnostics have its words.
    pub partially_rejected: u64,
    /// The collector was asked again until the time was up. Raise `timeout`, or ease its load.
    pub retry_expired: u64,
    /// They were not delivered before the deadline of the shutdown. Give it more time, or look at the collector.
    pub shutdown_deadline: u64,
    /// The worker failed while it had them. A bug of this library, or of the program's diagnostic sink.
    pub worker_lost: u64,
}

impl Lost {
    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_cause().iter().map(|(_, spans)| spans).sum()
    }

    /// Every cause by its name, as the counts of this struct are called.
    #[must_use]
    pub fn by_cause(&self) -> [(&'static str, u64); 11] {
        [
            ("lane_full", self.lane_full),
            ("spill_full", self.spill_full),
            ("live_limit", self.live_limit),
            ("closed", self.closed),
            ("forked", self.forked),
            ("oversize", self.oversize),
            ("rejected", self.rejected),
            ("partially_rejected", self.partially_rejected),
            ("retry_expired", self.retry_expired),
            ("shutdown_deadline", self.shutdown_deadline),
            ("worker_lost", self.worker_lost),
        ]
    }

    /// What was lost since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            lane_full: self.lane_full.saturating_sub(earlier.lane_full),
            spill_full: self.spill_full.saturating_sub(earlier.spill_full),
            live_limit: self.live_limit.saturating_sub(earlier.live_limit),
            closed: self.closed.saturating_sub(earlier.closed),
            forked: self.forked.saturating_sub(earlier.forked),
            oversize: self.oversize.saturating_sub(earlier.oversize),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            partially_rejected: self.partially_rejected.saturating_sub(earlier.partially_rejected),
            retry_expired: self.retry_expired.saturating_sub(earlier.retry_expired),
            shutdown_deadline: self.shutdown_deadline.saturating_sub(earlier.shutdown_deadline),
            worker_lost: self.worker_lost.saturating_sub(earlier.worker_lost),
        }
    }
}

impl Ledger {
    /// `counts` are those of the export, where there is one.
    pub(crate) fn of(core: &SpanLanes, counts: Option<&Counts>) -> Self {
        let sum = |tally| core.seats().sum(tally);
        // Later stages first: a span that moves on meanwhile is then seen where it was before, and no term goes negative.
        let export = counts.map(Export::of);
        let taken = core.taken();
        let accepted = core.accepted();
        let ended_closed = sum(Tally::EndedClosed);
        let (lane_full, spill_full) = (sum(Tally::LaneFull), sum(Tally::SpillFull));
        let sibling_hits = sum(Tally::Sibling);
        let settled_forked = sum(Tally::Forked);
        let (not_sampled, live_limit) = (sum(Tally::NotSampled), sum(Tally::LiveLimit));
        let started_closed = sum(Tally::StartedClosed);
        let recording = sum(Tally::Recording);
        let unsettled = core.unsettled();
        let ended = accepted + ended_closed + lane_full + spill_full + settled_forked;
        let (drained, Export { exported, lost }) = match export {
            Some(export) => (0, export),
            None => (taken, Export::default()),
        };
        let in_flight = taken.saturating_sub(drained + exported + lost.total());
        let lost = Lost {
            lane_full,
            spill_full,
            live_limit,
            closed: started_closed + ended_closed,
            forked: settled_forked + unsettled,
            ..lost
        };
        Self {
            started: recording + not_sampled + live_limit + started_closed + unsettled,
            not_sampled,
            live: recording.saturating_sub(ended),
            queued: accepted.saturating_sub(taken),
            in_flight,
            exported,
            drained,
            lost,
            sibling_hits,
            recording,
            ended,
        }
    }

    /// Whether the columns add up to what was started, and no more ended than began.
    ///
    /// `live` and `queued` are what is left over, so this alone does not prove that nothing vanished: that shows when both
    /// come to zero after the last end and the last drain.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let waiting = self.live + self.queued + self.in_flight;
        let columns = self.not_sampled + waiting + self.exported + self.drained + self.lost.total();
        self.started == columns && self.ended <= self.recording
    }
}

/// The export's part.
#[derive(Default)]
struct Export {
    exported: u64,
    lost: Lost,
}

impl Export {
    fn of(counts: &Counts) -> Self {
        let lost = Lost {
            oversize: counts.oversize.load(),
            rejected: counts.rejected.load(),
            partially_rejected: counts.partially_rejected.load(),
            retry_expired: counts.retry_expired.load(),
            shutdown_deadline: counts.shutdown_deadline.load(),
            worker_lost: counts.worker_lost.load(),
            ..Lost::default()
        };
        Self { exported: counts.exported.load(), lost }
    }
}

/// How much of the memory budget is in use, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Memory {
    /// The budget.
    pub budget: u64,
    /// All rings.
    pub rings: u64,
    /// Waiting in the rings.
    pub rings_waiting: u64,
    /// Most that ever waited in one ring when the drain came by.
    pub ring_high_water: u64,
    /// Waiting on the spill stack.
    pub spill_waiting: u64,
    /// The arena of open spans.
    pub arena: u64,
    /// Of it, cut into blocks so far: the high-water mark of open spans.
    pub arena_carved: u64,
}

impl Memory {
    pub(crate) fn of(core: &SpanLanes, budget: usize) -> Self {
        let fill = core.fill();
        Self {
            budget: budget as u64,
            rings: fill.ring_bytes,
            rings_waiting: fill.ring_waiting,
            ring_high_water: fill.ring_high_water,
            spill_waiting: fill.spill_waiting,
            arena: fill.arena_bytes,
            arena_carved: fill.arena_carved,
        }
    }
}
