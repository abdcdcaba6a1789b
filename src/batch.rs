//! Gathers ended spans into batches, closed by bytes, count and age, and says when to look for more. Time is an
//! argument.

use std::{mem, time::Duration};

use crate::{
    lane::{Marks, Reader, Visit},
    record::{Record, Timeline},
};

/// Spans of one scope on their way out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run<Bytes> {
    /// The scope's number in the engine's table.
    pub scope: u16,
    /// Whole elements of `ScopeSpans.spans`, one after the other.
    pub spans: Bytes,
}

/// The run of the scope that came first in a batch. A request is made of it where it is, without a copy of its spans.
#[derive(Debug)]
pub(crate) struct Front {
    /// The scope's number in the engine's table.
    pub scope: u16,
    /// Room for what a request has before its spans, and the spans.
    pub bytes: Vec<u8>,
    /// Where the spans begin.
    pub spans_at: usize,
}

/// What one request may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bounds {
    /// Spans.
    pub spans_max: usize,
    /// Bytes of the spans and of their scopes' envelopes, unless one span alone has more.
    pub bytes_aim: usize,
    /// Bytes of a span and its scope's envelope that go out alone.
    pub bytes_max: usize,
}

/// The open batch: spans that were taken out of the lanes and are in no request yet. Its memory is reused for the next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Those of this batch come first, in the order of their first spans; the memory of the others is for later ones.
    runs: Vec<Run<Vec<u8>>>,
    /// Bytes that a request has before its first scope, at most.
    lead: usize,
    /// Where the spans of the first run begin: there is room for the lead and for the scope's envelope before them.
    front_at: usize,
    /// How many of the runs are in this batch.
    used: usize,
    /// By scope: where its run was when it last had one. It is there still if that run is in use and of that scope, so
    /// that nothing has to be cleared from batch to batch.
    positions: Vec<usize>,
    spans: usize,
    bytes: usize,
    /// When its first span came, in nanoseconds of the caller's clock.
    since: u64,
    /// A span that did not fit, with its scope: the first of the next batch.
    carried: Option<Run<Vec<u8>>>,
}

/// What a visit of the lanes came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Visited {
    /// Spans that were taken out.
    pub spans: usize,
    /// Of these, spans that no request can carry: they are in no batch.
    pub oversize: usize,
    /// Whether the batch is full; then there may be more in the lanes.
    pub is_full: bool,
}

impl Batch {
    /// An empty batch for requests with so many bytes before their first scope, at most.
    #[must_use]
    pub(crate) fn new(lead: usize) -> Self {
        Self { lead, ..Self::default() }
    }

    /// Takes spans out of the lanes until the batch is full or nothing is left, in nanosecond `now`. `envelope_len`
    /// says how many bytes the envelope of a scope takes.
    pub(crate) fn fill<Owner, Scratch: Copy + Default>(
        &mut self,
        reader: &mut Reader<Owner, Scratch>,
        until: Option<&Marks>,
        bounds: Bounds,
        times: &impl Timeline,
        now: u64,
        mut envelope_len: impl FnMut(u16) -> usize,
    ) -> Visited {
        let mut oversize = 0;
        if let Some(carried) = self.carried.take() {
            // It was too large for what was left; whether it is for a whole batch shows now.
            oversize += usize::from(!self.place(&carried, bounds, now, &mut envelope_len));
        }
        if self.is_full(bounds) {
            return Visited { spans: 0, oversize, is_full: true };
        }
        let (spans, is_all) = reader.read_some(until, |record| {
            let Some(record) = Record::parse(record) else {
                debug_assert!(false, "lanes hold records");
                return Visit::Next;
            };
            let len = record.framed_len();
            let scope = record.scope();
            let envelope = if self.has(scope) { 0 } else { envelope_len(scope) };
            if self.bytes + envelope + len > self.bytes_max(bounds) {
                if self.spans == 0 {
                    oversize += 1;
                    return Visit::Next;
                }
                let mut carried = Run { scope, spans: Vec::with_capacity(len) };
                record.emit(times, &mut carried.spans);
                self.carried = Some(carried);
                return Visit::Enough;
            }
            record.emit(times, self.run(scope, envelope, len, bounds));
            self.count(envelope + len, now);
            if self.is_full(bounds) { Visit::Enough } else { Visit::Next }
        });
        Visited { spans, oversize, is_full: !is_all }
    }

    /// Takes out the run of the scope that came first, and leaves memory for the next batch's; `None` for an empty
    /// batch.
    pub(crate) fn take_front(&mut self, memory: Vec<u8>) -> Option<Front> {
        let run = self.runs[..self.used].first_mut()?;
        let bytes = mem::replace(&mut run.spans, memory);
        Some(Front { scope: run.scope, bytes, spans_at: self.front_at })
    }

    /// The runs of the other scopes.
    pub(crate) fn others(&self) -> impl Iterator<Item = Run<&[u8]>> + Clone {
        self.runs[..self.used].iter().skip(1).map(|run| Run { scope: run.scope, spans: &*run.spans })
    }

    /// Empties the batch; its spans are in a request now. What was carried over stays.
    pub(crate) fn clear(&mut self) {
        self.runs[..self.used].iter_mut().for_each(|run| run.spans.clear());
        self.used = 0;
        // Each run may once have had a whole batch: together they must not keep more than a few.
        if self.runs.iter().map(|run| run.spans.capacity()).sum::<usize>() > KEPT_BYTES_MAX {
            self.runs.iter_mut().for_each(|run| run.spans = Vec::new());
        }
        self.spans = 0;
        self.bytes = 0;
    }

    /// Spans in the batch.
    #[must_use]
    pub(crate) fn spans(&self) -> usize {
        self.spans
    }

    /// Spans in the batch, and the one that waits for the next.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.spans + usize::from(self.carried.is_some())
    }

    /// When the first span of the batch came; `None` for an empty batch.
    #[must_use]
    pub(crate) fn since(&self) -> Option<u64> {
        (self.spans > 0).then_some(self.since)
    }

    /// What the batch may come to with one span more.
    fn bytes_max(&self, bounds: Bounds) -> usize {
        if self.spans == 0 { bounds.bytes_max } else { bounds.bytes_aim }
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.spans >= bounds.spans_max
    }

    fn has(&self, scope: u16) -> bool {
        self.position_of(scope).is_some()
    }

    /// Where the run of this scope is, if the batch has one.
    fn position_of(&self, scope: u16) -> Option<usize> {
        let position = *self.positions.get(usize::from(scope))?;
        self.runs[..self.used].get(position).filter(|run| run.scope == scope).map(|_| position)
    }

    /// Puts a span that is emitted already into the batch; false when no batch can hold it.
    fn place(
        &mut self,
        carried: &Run<Vec<u8>>,
        bounds: Bounds,
        now: u64,
        envelope_len: &mut impl FnMut(u16) -> usize,
    ) -> bool {
        debug_assert_eq!(self.spans, 0, "a span is carried from a full batch into an empty one");
        let envelope = envelope_len(carried.scope);
        let len = envelope + carried.spans.len();
        if len > self.bytes_max(bounds) {
            return false;
        }
        self.run(carried.scope, envelope, carried.spans.len(), bounds).extend_from_slice(&carried.spans);
        self.count(len, now);
        true
    }

    fn count(&mut self, bytes: usize, now: u64) {
        if self.spans == 0 {
            self.since = now;
        }
        self.spans += 1;
        self.bytes += bytes;
    }

    /// The bytes of the run of this scope, with room for a span of `len` bytes now. The scope's envelope is of use
    /// where the run begins.
    fn run(&mut self, scope: u16, envelope: usize, len: usize, bounds: Bounds) -> &mut Vec<u8> {
        let position = self.position_of(scope).unwrap_or_else(|| self.begin(scope, envelope));
        let bytes = &mut self.runs[position].spans;
        if bytes.capacity() - bytes.len() < len {
            // By doubling, but to no more than a request may have: its memory is counted so.
            let most = self.front_at + bounds.bytes_max;
            let wanted = (2 * bytes.capacity()).min(most).max(bytes.len() + len);
            bytes.reserve_exact(wanted - bytes.len());
        }
        bytes
    }

    /// Begins a run, in memory that an earlier one has left if there is any; its position.
    fn begin(&mut self, scope: u16, envelope: usize) -> usize {
        let position = self.used;
        match self.runs.get_mut(position) {
            Some(run) => run.scope = scope,
            None => self.runs.push(Run { scope, spans: Vec::new() }),
        }
        if position == 0 {
            self.front_at = self.lead + envelope;
            self.runs[position].spans.clear();
            self.runs[position].spans.resize(self.front_at, 0);
        }
        let at = usize::from(scope);
        if self.positions.len() <= at {
            self.positions.resize(at + 1, 0);
        }
        self.positions[at] = position;
        self.used += 1;
        position
    }
}

/// Bytes that the runs of an empty batch keep for the next.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// When to visit the lanes next: so seldom that a visit finds about a batch, and so often that nothing grows old.
///
/// A visit that comes too late loses nothing: a writer that finds its ring filled above a mark wakes the drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Spans that make a batch.
    batch: usize,
    interval_max: Duration,
    interval: Duration,
}

/// Shortest time between two visits: at three million spans a second a visit then finds three thousand.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Longest time between two visits: an idle engine wakes up once a second.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

impl Pace {
    /// The pace for batches of so many spans, none of which may wait longer than `age_max`.
    #[must_use]
    pub(crate) fn new(batch: usize, age_max: Duration) -> Self {
        let interval_max = age_max.clamp(INTERVAL_MIN, INTERVAL_MAX);
        Self { batch, interval_max, interval: INTERVAL_MIN }
    }

    /// The time until the next visit, after one that found `spans` in the time since the last.
    pub(crate) fn after(&mut self, spans: usize, elapsed: Duration) -> Duration {
        let wanted = match u32::try_from(spans) {
            Ok(0) => self.interval_max,
            Ok(spans) => {
                elapsed.max(INTERVAL_MIN).saturating_mul(u32::try_from(self.batch).unwrap_or(u32::MAX)) / spans
            }
            Err(_) => INTERVAL_MIN,
        };
        // Faster at once, slower by steps: a pause between two bursts must not make the drain late for the second.
        self.interval = wanted.min(self.interval * 2).clamp(INTERVAL_MIN, self.interval_max);
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        lane::{Lanes, Offer, Shape},
        record::{Draft, Finish, Kind, Stamp},
    };

    struct Raw;

    impl Timeline for Raw {
        fn span(&self, _: Stamp, _: Stamp) -> (u64, u64) {
            (1, 2)
        }
        fn instant(&self, _: Stamp) -> u64 {
            3
        }
    }

    fn lanes() -> Arc<Lanes<()>> {
        let shape = Shape { lanes: 2, ring_bytes: 1 << 16, arena_bytes: 1 << 16, spill_bytes: 1 << 14, seats: 2 };
        Lanes::new(shape, ()).unwrap()
    }

    /// Ends a span with a name of `name_len` bytes.
    fn end(lanes: &Lanes<()>, hint: usize, scope: u16, name_len: usize) {
        let mut draft = Draft::new(scope, Kind::Internal, Stamp::monotonic(1));
        let mut image = vec![0; 8192];
        draft.rename(&mut image, &"n".repeat(name_len)).unwrap();
        let len = draft.seal(&mut image);
        let finish = Finish { trace: (1, 2), span: 3, end: Stamp::monotonic(2) };
        let offer = lanes.offer(hint, len, |record| draft.finish(&image, finish, record));
        assert!(matches!(offer, Offer::Queued { .. }));
    }

    /// All runs, as a request would have them.
    fn runs(batch: &Batch) -> impl Iterator<Item = Run<&[u8]>> {
        let front = batch.runs[..batch.used].first().into_iter();
        let front = front.map(|run| Run { scope: run.scope, spans: &run.spans[batch.front_at..] });
        front.chain(batch.others())
    }

    fn bounds(spans_max: usize, bytes_max: usize) -> Bounds {
        Bounds { spans_max, bytes_aim: bytes_max, bytes_max }
    }

    #[test]
    fn batch_closes_at_its_count_and_the_rest_waits_in_the_lanes() {
        let lanes = lanes();
        (0..7).for_each(|number| end(&lanes, number, 0, 4));
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let mut counts = vec![];
        loop {
            let visited = batch.fill(&mut reader, None, bounds(3, 1 << 20), &Raw, 5, |_| 10);
            counts.push(batch.spans());
            batch.clear();
            if !visited.is_full {
                break;
            }
        }
        assert_eq!(counts, [3, 3, 1]);
    }

    #[test]
    fn batch_never_exceeds_its_bytes_and_loses_nothing() {
        let lanes = lanes();
        let lens = [10, 900, 20, 300, 300, 300, 5, 800];
        for (number, len) in lens.into_iter().enumerate() {
            end(&lanes, number, u16::try_from(number % 3).unwrap(), len);
        }
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let mut total = 0;
        loop {
            let visited = batch.fill(&mut reader, None, bounds(100, 1200), &Raw, 5, |_| 50);
            assert_eq!(visited.oversize, 0);
            let bytes: usize = runs(&batch).map(|run| 50 + run.spans.len()).sum();
            assert!(bytes <= 1200, "{bytes}");
            total += batch.spans();
            batch.clear();
            if !visited.is_full && batch.held() == 0 {
                break;
            }
        }
        assert_eq!(total, lens.len());
    }

    #[test]
    fn span_that_no_request_can_carry_is_lost_alone() {
        let lanes = lanes();
        [10, 2000, 10].into_iter().for_each(|len| end(&lanes, 0, 0, len));
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let (mut spans, mut oversize) = (0, 0);
        for _ in 0..3 {
            let visited = batch.fill(&mut reader, None, bounds(100, 1000), &Raw, 5, |_| 50);
            spans += batch.spans();
            oversize += visited.oversize;
            batch.clear();
        }
        assert_eq!((spans, oversize, batch.held()), (2, 1, 0));
    }

    #[test]
    fn span_above_the_aim_goes_alone() {
        let lanes = lanes();
        [10, 10, 500, 10, 500, 500, 10].into_iter().for_each(|len| end(&lanes, 0, 0, len));
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let bounds = Bounds { bytes_aim: 400, ..bounds(100, 1000) };
        let counts = [(); 6].map(|()| {
            let visited = batch.fill(&mut reader, None, bounds, &Raw, 5, |_| 50);
            let count = batch.spans();
            batch.clear();
            (count, visited.oversize)
        });
        assert_eq!(counts, [(2, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0)]);
        assert_eq!(batch.held(), 0);
    }

    /// A span that did not fit after another is measured again, with the envelope of its scope, and so is the one after
    /// it.
    #[test]
    fn span_that_was_carried_takes_its_envelope_with_it() {
        const ENVELOPE: usize = 50;
        let fill = |lens: &[usize], bytes_max| {
            let lanes = lanes();
            lens.iter().for_each(|&len| end(&lanes, 0, 0, len));
            let mut reader = lanes.reader().unwrap();
            let mut batch = Batch::default();
            let mut fills = vec![];
            for _ in 0..3 {
                let visited = batch.fill(&mut reader, None, bounds(100, bytes_max), &Raw, 5, |_| ENVELOPE);
                let bytes: usize = runs(&batch).map(|run| run.spans.len()).sum();
                fills.push((batch.spans(), visited.oversize, bytes));
                batch.clear();
            }
            assert_eq!(batch.held(), 0);
            fills
        };
        let (_, _, large) = fill(&[500], 1 << 20)[0];
        let (_, _, small) = fill(&[10], 1 << 20)[0];
        assert!(large > 500 && small > 10 && small < 200);
        let fits = ENVELOPE + large;
        assert_eq!(fill(&[10, 500], fits), [(1, 0, small), (1, 0, large), (0, 0, 0)]);
        assert_eq!(fill(&[10, 500, 10], fits - 1), [(1, 0, small), (1, 1, small), (0, 0, 0)]);
        assert_eq!(fill(&[10, 500, 10], fits + small), [(2, 0, small + large), (1, 0, small), (0, 0, 0)]);
        assert_eq!(fill(&[10, 10, 500, 10], fits + small), [(2, 0, 2 * small), (2, 0, large + small), (0, 0, 0)]);
        assert_eq!(fill(&[10, 10, 500, 10], fits + small - 1), [(2, 0, 2 * small), (1, 0, large), (1, 0, small)]);
    }

    /// What an earlier batch left over may fill one alone; then nothing is read, and there may be more.
    #[test]
    fn batch_that_is_filled_by_what_was_carried_says_that_it_is_full() {
        let lanes = lanes();
        (0..3).for_each(|_| end(&lanes, 0, 0, 300));
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let mut fill = |spans_max, bytes_max| {
            let visited = batch.fill(&mut reader, None, bounds(spans_max, bytes_max), &Raw, 5, |_| 10);
            let held = batch.held();
            batch.clear();
            (visited, held)
        };
        let (first, held) = fill(10, 500);
        assert_eq!((first.is_full, held), (true, 2), "one and the one that did not fit");
        assert_eq!(fill(1, 500), (Visited { spans: 0, oversize: 0, is_full: true }, 1));
        assert_eq!(fill(10, 500), (Visited { spans: 1, oversize: 0, is_full: false }, 1));
    }

    /// Two batches of two scopes each, the second begun by a span that was carried: the lead and the first scope's
    /// envelope fit before its spans, whatever was in the memory before, and the other scope's run is as it was.
    #[test]
    fn front_has_room_before_its_spans_in_memory_that_is_used_again() {
        const LEAD: usize = 40;
        let envelope = |scope: u16| 10 + usize::from(scope);
        let lanes = lanes();
        for (scope, len) in [(3, 10), (3, 20), (1, 30), (5, 40), (1, 50)] {
            end(&lanes, 0, scope, len);
        }
        let element = |scope, len| {
            let lanes = self::lanes();
            end(&lanes, 0, scope, len);
            let mut batch = Batch::default();
            batch.fill(&mut lanes.reader().unwrap(), None, bounds(1, 1 << 20), &Raw, 5, |_| 0);
            runs(&batch).next().unwrap().spans.to_vec()
        };
        let most = envelope(3)
            + envelope(1)
            + [(3, 10), (3, 20), (1, 30)].map(|(scope, len)| element(scope, len).len()).iter().sum::<usize>();
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::new(LEAD);
        assert!(batch.take_front(vec![]).is_none());
        let expected = [
            (3, [element(3, 10), element(3, 20)].concat(), vec![(1, element(1, 30))]),
            (5, element(5, 40), vec![(1, element(1, 50))]),
        ];
        for (scope, spans, others) in expected {
            batch.fill(&mut reader, None, bounds(100, most), &Raw, 5, envelope);
            let Front { scope: first, bytes, spans_at } = batch.take_front(vec![0xAA; 1000]).unwrap();
            assert_eq!((first, spans_at), (scope, LEAD + envelope(scope)));
            assert_eq!(bytes[spans_at..], spans);
            let found: Vec<_> = batch.others().map(|run| (run.scope, run.spans.to_vec())).collect();
            assert_eq!(found, others);
            batch.clear();
        }
        assert_eq!(batch.held(), 0);
    }

    #[test]
    fn memory_of_a_request_does_not_outgrow_its_most_bytes() {
        const MOST: usize = 50_000;
        let lanes = lanes();
        let mut reader = lanes.reader().unwrap();
        for lead in [0, 300, 5_000] {
            (0..100).for_each(|_| end(&lanes, 0, 0, 900));
            let mut batch = Batch::new(lead);
            batch.fill(&mut reader, None, bounds(1_000, MOST), &Raw, 5, |_| 10);
            let Front { bytes, .. } = batch.take_front(vec![]).unwrap();
            assert!(bytes.len() > MOST - 1_000, "the batch is full");
            assert!(bytes.capacity() <= lead + 10 + MOST, "{} bytes for {}", bytes.capacity(), bytes.len());
            batch.clear();
            while batch.fill(&mut reader, None, bounds(1_000, MOST), &Raw, 5, |_| 10).is_full {
                batch.clear();
            }
        }
    }

    #[test]
    fn memory_is_kept_for_a_few_batches_and_not_for_each_scope() {
        let run = |bytes| Run { scope: 0, spans: Vec::<u8>::with_capacity(bytes) };
        let kept = |runs: Vec<Run<Vec<u8>>>| {
            let mut batch = Batch { runs, ..Batch::default() };
            batch.clear();
            batch.runs.iter().map(|run| run.spans.capacity()).sum::<usize>()
        };
        assert_eq!(kept(vec![run(KEPT_BYTES_MAX / 2), run(KEPT_BYTES_MAX / 2)]), KEPT_BYTES_MAX);
        assert_eq!(kept(vec![run(KEPT_BYTES_MAX / 2), run(KEPT_BYTES_MAX / 2 + 1)]), 0);
    }

    /// What a span may cost: nothing looks through more runs than one batch had, however many scopes were met before.
    #[test]
    fn batch_keeps_runs_for_its_own_scopes_and_not_for_all_that_were_met() {
        const SCOPES: u16 = 1_000;
        let lanes = lanes();
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        for scope in 0..SCOPES {
            [scope, scope / 2, scope].into_iter().for_each(|scope| end(&lanes, 0, scope, 4));
            batch.fill(&mut reader, None, bounds(3, 1 << 20), &Raw, 5, |_| 10);
            let mut scopes: Vec<_> = runs(&batch).map(|run| run.scope).collect();
            scopes.sort_unstable();
            let expected = if scope == 0 { vec![0] } else { vec![scope / 2, scope] };
            assert_eq!(scopes, expected, "each scope has one run");
            batch.clear();
            assert!(!batch.has(scope));
        }
        assert_eq!(batch.runs.len(), 2, "runs after {SCOPES} scopes, two of them in a batch");
    }

    #[test]
    fn busy_ring_does_not_keep_the_other_waiting() {
        let lanes = lanes();
        (0..100).for_each(|_| end(&lanes, 0, 0, 4));
        end(&lanes, 1, 7, 4);
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        let mut fills = 0;
        while !batch.has(7) {
            batch.clear();
            batch.fill(&mut reader, None, bounds(10, 1 << 20), &Raw, 5, |_| 10);
            fills += 1;
        }
        assert_eq!(fills, 2);
    }

    #[test]
    fn age_counts_from_the_first_span() {
        let lanes = lanes();
        let mut reader = lanes.reader().unwrap();
        let mut batch = Batch::default();
        batch.fill(&mut reader, None, bounds(10, 1 << 20), &Raw, 5, |_| 10);
        assert_eq!(batch.since(), None);
        for now in [6, 7] {
            end(&lanes, 0, 0, 4);
            batch.fill(&mut reader, None, bounds(10, 1 << 20), &Raw, now, |_| 10);
        }
        assert_eq!((batch.spans(), batch.since()), (2, Some(6)));
    }

    const BATCH: usize = 500;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// A pace whose next interval is this one, unless it is to be another.
    fn pace_at(interval: Duration) -> Pace {
        Pace { batch: BATCH, interval_max: INTERVAL_MAX, interval }
    }

    #[test]
    fn pace_of_an_idle_engine_slows_by_doubling_from_the_least_interval_to_the_most() {
        let mut pace = Pace::new(BATCH, Duration::from_secs(5));
        let waits: Vec<_> = (0..12).map(|_| pace.after(0, millis(1)).as_millis()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
    }

    #[test]
    fn pace_follows_what_a_visit_found_faster_at_once_and_slower_by_doubling() {
        let cases = [
            (BATCH, 40),         // what was wanted
            (BATCH / 2, 80),     // half a batch
            (BATCH * 4 / 5, 50), // a little slower
            (BATCH / 8, 80),     // no more than doubled
            (1, 80),
            (0, 80),
            (BATCH * 2, 20),
            (BATCH * 10, 4),
            (BATCH * 40, 1),
            (BATCH * 1000, 1), // no faster than the least interval
            (usize::MAX, 1),
        ];
        for (found, next) in cases {
            assert_eq!(pace_at(millis(40)).after(found, millis(40)), millis(next), "{found} spans");
        }
    }

    /// What counts is the time that passed, not the time that was meant to: a drain that comes late has seen a slower
    /// load.
    #[test]
    fn pace_counts_the_time_that_passed() {
        for (elapsed, next) in [(20, 20), (60, 60), (80, 80), (1_000, 80), (0, 1)] {
            assert_eq!(pace_at(millis(40)).after(BATCH, millis(elapsed)), millis(next), "{elapsed} ms");
        }
        // A visit right after another has found what came in a moment: that moment counts as the least interval.
        assert_eq!(pace_at(millis(40)).after(BATCH / 2, Duration::from_micros(1)), millis(2));
        assert_eq!(pace_at(millis(40)).after(BATCH, Duration::MAX), millis(80));
    }

    #[test]
    fn pace_is_kept_between_the_least_interval_and_the_age() {
        for (age_max, slowest) in [(0, 1), (1, 1), (3, 3), (100, 100), (1_000, 1_000), (60_000, 1_000)] {
            let mut pace = Pace::new(BATCH, millis(age_max));
            let idle = (0..20).map(|_| pace.after(0, INTERVAL_MAX)).last();
            assert_eq!(idle, Some(millis(slowest)), "{age_max} ms");
            assert_eq!(pace.after(1, Duration::from_secs(3600)), millis(slowest), "{age_max} ms");
        }
    }

    /// From the fastest pace and from the slowest, at any constant rate: after twelve visits each finds a batch, unless
    /// that takes more than the longest interval, or less than the shortest.
    #[test]
    fn pace_comes_to_a_batch_at_each_visit() {
        for rate in [1, 100, 512, 700, 3_000, 10_000, 50_000, 300_000, 490_000, 600_000, 3_000_000, 50_000_000_u64] {
            for first in [INTERVAL_MIN, INTERVAL_MAX] {
                let mut pace = pace_at(first);
                let mut interval = first;
                let (mut passed, mut seen) = (Duration::ZERO, 0);
                for visit in 0..40 {
                    passed += interval;
                    let ended = u128::from(rate) * passed.as_nanos() / 1_000_000_000;
                    let found = usize::try_from(ended - seen).unwrap();
                    seen = ended;
                    if visit >= 12 {
                        let is_batch = found.abs_diff(BATCH) <= 8;
                        let is_slowest = interval == INTERVAL_MAX && found < BATCH;
                        let is_fastest = interval == INTERVAL_MIN && found > BATCH;
                        assert!(is_batch || is_slowest || is_fastest, "{rate}/s: {found} spans in {interval:?}");
                    }
                    interval = pace.after(found, interval);
                }
            }
        }
    }
}
