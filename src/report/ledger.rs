//! The ledger: every span that was started is in exactly one column.

use super::{
    causes::{Cause, Lost},
    counts::Counts,
};
use crate::{lane::Tally, trace::SpanLanes};

/// What became of every span, at one moment.
///
/// `started == not_sampled + live + queued + in_flight + exported + unconfirmed + drained + lost.total()`, always;
/// [`Ledger::is_closed`] says whether the counters agree. A call that is under way in another thread may show as still
/// live, never twice.
///
/// With nothing in flight, a collector that counts every span it takes, also those that come again, has counted from
/// `exported` to `exported + unconfirmed + duplicates_max`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Calls of `start`.
    pub started: u64,
    /// Of these, spans that the sampler kept from recording: a decision, not a loss.
    pub not_sampled: u64,
    /// Recording and not ended. Once the engine is closed they are lost as `closed` when they end.
    pub live: u64,
    /// Ended, and waiting in the lanes.
    pub queued: u64,
    /// Taken out by the exporter, and neither delivered nor given up.
    pub in_flight: u64,
    /// Taken by the collector.
    pub exported: u64,
    /// Neither delivered nor lost, as far as is known: a request with them was sent whole, no answer came, or only that
    /// of a gateway (502, 504), and no later attempt was confirmed. The collector may have them.
    pub unconfirmed: u64,
    /// Taken out by [`Engine::drain`](crate::Engine::drain), where nothing is exported.
    pub drained: u64,
    /// Lost, by cause.
    pub lost: Lost,
    /// Not a column: spans that ended in a ring that was not their first choice. Many of them mean that threads meet.
    pub sibling_hits: u64,
    /// Not a column: spans that were sent again after an attempt that was sent whole and not answered by the collector,
    /// counted each time. The collector has each at most that often besides once.
    pub duplicates_max: u64,
    /// Not a column: of those in flight, spans that the collector may have. They are unconfirmed if nothing more comes.
    pub unanswered: u64,
    recording: u64,
    ended: u64,
    /// Whether the engine was closed, so that what is live will be lost.
    is_last: bool,
}

impl Ledger {
    /// `counts` are those of the export, where there is one.
    pub(crate) fn of(core: &SpanLanes, counts: Option<&Counts>) -> Self {
        let sum = |tally| core.seats().sum(tally);
        let sums = |tallies: &[Tally]| tallies.iter().map(|&tally| sum(tally)).sum();
        // Later stages first: a span that moves on meanwhile is then seen where it was before, and no term goes
        // negative.
        let export = counts.map(|counts| (counts.lost(), counts.unconfirmed.load(), counts.exported.load()));
        let is_given_up = core.is_given_up();
        let taken = core.taken();
        let accepted = core.accepted();
        let waiting = accepted.saturating_sub(taken);
        // Nobody takes them out any more: they got into a ring after the last reader had gone.
        let (queued, late) = if is_given_up { (0, waiting) } else { (waiting, 0) };
        let lost_at_end = Lost::each(|cause| sums(cause.ends()));
        let sibling_hits = sum(Tally::Sibling);
        let not_sampled = sum(Tally::NotSampled);
        let lost_at_start = Lost::each(|cause| sums(cause.starts()));
        let recording = sum(Tally::Recording);
        let unsettled = core.unsettled();
        let ended = accepted + lost_at_end.total();
        let (lost_in_export, unconfirmed, exported) = export.unwrap_or_default();
        let drained = if counts.is_some() { 0 } else { taken };
        let in_flight = taken.saturating_sub(drained + exported + unconfirmed + lost_in_export.total());
        let mut lost = Lost::each(|cause| lost_at_start.of(cause) + lost_at_end.of(cause) + lost_in_export.of(cause));
        lost.forked += unsettled;
        lost.closed += late;
        Self {
            started: recording + not_sampled + lost_at_start.total() + unsettled,
            not_sampled,
            live: recording.saturating_sub(ended),
            queued,
            in_flight,
            exported,
            unconfirmed,
            drained,
            lost,
            sibling_hits,
            duplicates_max: counts.map_or(0, |counts| counts.duplicates_max.load()),
            // What ends meanwhile is in no column twice.
            unanswered: counts.map_or(0, |counts| counts.doubtful.load()).min(in_flight),
            recording,
            ended,
            is_last: core.owner().is_closed(),
        }
    }

    /// Whether spans are open that will be lost when they end.
    pub(super) fn loses_open(&self) -> bool {
        self.is_last && self.live > 0
    }

    /// Spans that were dropped so far because the memory for them was full.
    pub(crate) fn dropped(core: &SpanLanes) -> Drops {
        let sum = |tallies: fn(Cause) -> &'static [Tally]| {
            let causes = Cause::ALL.into_iter().filter(|cause| cause.is_of_memory());
            causes.flat_map(tallies).map(|&tally| core.seats().sum(tally)).sum()
        };
        Drops { starts: sum(Cause::starts), ends: sum(Cause::ends) }
    }

    /// Whether the columns add up to what was started, and no more ended than began.
    ///
    /// `live` and `queued` are what is left over, so this alone does not prove that nothing vanished: that shows when
    /// both come to zero after the last end and the last drain.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let waiting = self.live + self.queued + self.in_flight;
        let ended = self.exported + self.unconfirmed + self.drained + self.lost.total();
        let columns = self.not_sampled + waiting + ended;
        self.started == columns && self.ended <= self.recording
    }
}

/// Spans that were dropped because the memory was full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Drops {
    /// When they started: the memory for open spans.
    pub starts: u64,
    /// When they ended: the rings and the spill stack.
    pub ends: u64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        lane::{Lanes, SeatId, Shape},
        sample::Sampling,
        trace::Shared,
    };

    /// A thread was stopped in a ring while the worker gave up: what it publishes later waits for nobody.
    #[test]
    fn span_that_comes_after_the_last_reader_is_lost_as_closed() {
        let shape = Shape { lanes: 1, ring_bytes: 4096, arena_bytes: 64 << 10, spill_bytes: 0, seats: 1 };
        let shared = Shared::new(Clock::system(), Default::default(), Sampling::AlwaysOn, None);
        let lanes: std::sync::Arc<SpanLanes> = Lanes::new(shape, shared).unwrap();
        let count = |tally| lanes.seats().add(SeatId::Shared, tally, 1);
        count(Tally::Recording);
        let ledger = || Ledger::of(&lanes, Some(&Counts::default()));
        lanes.offer(0, 8, |_| {
            assert!(!lanes.close(), "a thread is inside");
            assert_eq!(lanes.reader().map(|reader| reader.give_up()), Some(0));
            count(Tally::Queued);
        });
        let Ledger { live, queued, lost, .. } = ledger();
        assert_eq!((live, queued, lost.closed, lost.total()), (0, 0, 1, 1));
        assert!(ledger().is_closed());
    }

    /// Each of the two conditions alone is not enough.
    #[test]
    fn ledger_is_closed_only_if_the_columns_add_up_and_no_more_ended_than_began() {
        let closed = Ledger { started: 3, live: 1, exported: 2, recording: 3, ended: 2, ..Ledger::default() };
        assert!(closed.is_closed());
        assert!(Ledger { ended: 3, ..closed }.is_closed(), "all may have ended");
        assert!(!Ledger { ended: 4, ..closed }.is_closed(), "more ended than began");
        assert!(!Ledger { started: 4, ..closed }.is_closed(), "a span is in no column");
        let columns = |change: fn(&mut Ledger)| {
            let mut ledger = closed;
            change(&mut ledger);
            ledger.is_closed()
        };
        let more: [fn(&mut Ledger); 8] = [
            |ledger| ledger.not_sampled += 1,
            |ledger| ledger.live += 1,
            |ledger| ledger.queued += 1,
            |ledger| ledger.in_flight += 1,
            |ledger| ledger.exported += 1,
            |ledger| ledger.unconfirmed += 1,
            |ledger| ledger.drained += 1,
            |ledger| ledger.lost.forked += 1,
        ];
        assert_eq!(more.map(columns), [false; 8], "a span is in two columns");
    }
}
