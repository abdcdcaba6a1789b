//! How many bytes a request may have: fewer once the collector took no such request, and more again after it has taken
//! many. Whatever stands in front of a collector may refuse for a while only what it takes the rest of the time.

use std::fmt;

/// The limit that batches are filled to. One span alone may be larger.
pub(super) struct Limit {
    bytes: usize,
    /// The most: what the configuration allows.
    bytes_max: usize,
    /// Bytes that each request has, whatever its spans are: the resource.
    overhead: usize,
    /// The limit that was in use before the last growth, until this one has proved good too.
    proven: Option<usize>,
    /// Requests at the limit that were taken since it last changed.
    taken: u32,
    /// How many of those it takes until it grows.
    patience: u32,
    /// The limit that was last told.
    told: usize,
}

/// A collector that rejects everything would otherwise get one span a request.
const SPAN_BYTES_MIN: usize = 4 << 10;
/// Requests at the limit before one of twice the size is tried. If that is refused its bytes were sent for nothing, so
/// that is a hundredth of the traffic at most, and less each time.
const PATIENCE_MIN: u32 = 256;
/// A limit that stays is tried this seldom in the end.
const PATIENCE_MAX: u32 = 1 << 16;

impl Limit {
    /// No request was refused yet.
    pub(super) fn new(bytes_max: usize, overhead: usize) -> Self {
        Self { bytes: bytes_max, bytes_max, overhead, proven: None, taken: 0, patience: PATIENCE_MIN, told: bytes_max }
    }

    /// Notes that the collector has taken a request of so many bytes: after many at the limit the next may have twice
    /// the spans.
    pub(super) fn taken(&mut self, bytes: usize) {
        let is_whole = self.bytes == self.bytes_max && self.proven.is_none();
        let is_at_limit = 2 * self.of_spans(bytes) > self.of_spans(self.bytes);
        if is_whole || !is_at_limit {
            return;
        }
        self.taken += 1;
        if self.taken < self.patience {
            return;
        }
        self.taken = 0;
        if self.proven.take().is_some() {
            self.patience = PATIENCE_MIN;
        }
        if self.bytes == self.bytes_max {
            self.told = self.bytes_max;
        } else {
            self.proven = Some(self.bytes);
            self.bytes = (self.overhead + 2 * self.of_spans(self.bytes)).min(self.bytes_max);
        }
    }

    /// Notes that the collector has refused a request of so many bytes as too large. The new limit, if it is news.
    pub(super) fn refused(&mut self, bytes: usize) -> Option<usize> {
        let half = self.overhead + (self.of_spans(bytes) / 2).max(SPAN_BYTES_MIN);
        let learnt = half.max(self.proven.unwrap_or(0));
        if learnt >= self.bytes {
            return None;
        }
        if self.proven.take().is_some() {
            self.patience = (2 * self.patience).min(PATIENCE_MAX);
        }
        (self.bytes, self.taken) = (learnt, 0);
        let is_news = learnt < self.told;
        self.told = self.told.min(learnt);
        is_news.then_some(learnt)
    }

    /// Bytes that a request may have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn of_spans(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.overhead)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("bytes", &self.bytes).field("proven", &self.proven).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;
    const OVERHEAD: usize = 1_000;

    /// Sends full requests to a collector that takes up to so many bytes; how many it refused, and what was news.
    fn send(limit: &mut Limit, requests: u32, takes: usize) -> (u32, Vec<usize>) {
        let (mut refused, mut news) = (0, vec![]);
        for _ in 0..requests {
            let bytes = limit.bytes();
            if bytes <= takes {
                limit.taken(bytes);
            } else {
                refused += 1;
                news.extend(limit.refused(bytes));
            }
        }
        (refused, news)
    }

    #[test]
    fn limit_that_was_learnt_in_bad_days_grows_back_and_is_told_again_when_it_falls_again() {
        let mut limit = Limit::new(MAX, OVERHEAD);
        for _ in 0..2 {
            let (refused, news) = send(&mut limit, 20, 40_000);
            assert_eq!((refused, news.len()), (5, 5), "{limit:?}");
            assert!(limit.bytes() <= 40_000 && limit.bytes() > 20_000, "{limit:?}");
            assert_eq!(send(&mut limit, 7 * PATIENCE_MIN, usize::MAX), (0, vec![]));
            assert_eq!((limit.bytes(), limit.proven), (MAX, None));
        }
    }

    #[test]
    fn limit_that_stays_is_tried_ever_more_seldom_and_told_once() {
        let mut limit = Limit::new(MAX, OVERHEAD);
        let (_, news) = send(&mut limit, 20, 40_000);
        let learnt = limit.bytes();
        assert_eq!(news.last(), Some(&learnt));
        let tries = [1_000, 10_000, 100_000, 1_000_000].map(|count| send(&mut limit, count, 40_000));
        assert_eq!(tries, [(2, vec![]), (3, vec![]), (3, vec![]), (15, vec![])]);
        assert_eq!(limit.bytes(), learnt);
    }

    /// A request that is refused on trial need not be full: half of it says nothing of what was taken before.
    #[test]
    fn trial_that_fails_ends_where_it_began() {
        let mut limit = Limit::new(MAX, OVERHEAD);
        send(&mut limit, 20, 100_000);
        let learnt = limit.bytes();
        send(&mut limit, PATIENCE_MIN, usize::MAX);
        assert!(limit.bytes() > learnt);
        assert_eq!(limit.refused(learnt + 1), None);
        assert_eq!(limit.bytes(), learnt);
        // Off trial it says something.
        assert!(limit.refused(learnt).is_some_and(|less| less < learnt));
    }

    #[test]
    fn small_requests_say_nothing_of_the_limit() {
        let mut limit = Limit::new(MAX, OVERHEAD);
        send(&mut limit, 20, 100_000);
        let learnt = limit.bytes();
        let small = OVERHEAD + (learnt - OVERHEAD) / 2;
        (0..10 * PATIENCE_MIN).for_each(|_| limit.taken(small));
        assert_eq!(limit.bytes(), learnt);
    }

    #[test]
    fn limit_stops_at_the_least_that_is_tried() {
        let mut limit = Limit::new(MAX, OVERHEAD);
        let (_, news) = send(&mut limit, 20, 0);
        assert_eq!(news.last(), Some(&(OVERHEAD + SPAN_BYTES_MIN)));
        assert_eq!(limit.refused(OVERHEAD + SPAN_BYTES_MIN / 4), None);
    }
}
