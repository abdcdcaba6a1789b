//! Requests that are not being sent: which goes next, and how much time each has left.

use std::{collections::VecDeque, time::Duration};

use super::{super::driver::Moment, request::Request};

/// The requests that wait, the next first; one that failed by itself steps aside until its own wait is over.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Request>);

/// When waiting counts towards the time of a request: not while the collector cannot be reached, nor during a pause
/// that it asked for. Requests wait like the spans in the lanes then, and the memory of both is bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counting {
    pub(super) is_reachable: bool,
    pub(super) asked_until: Moment,
}

impl Queue {
    /// Puts it before all others.
    pub(super) fn put_first(&mut self, request: Request) {
        self.0.push_front(request);
    }

    /// Puts it after all others.
    pub(super) fn put_last(&mut self, request: Request) {
        self.0.push_back(request);
    }

    /// The place of the first that need not wait for itself at `now`, or else of the one that may go the earliest.
    pub(super) fn next(&self, now: Moment) -> Option<usize> {
        let first = self.0.iter().position(|request| request.failures.not_before <= now);
        first.or_else(|| (0..self.0.len()).min_by_key(|&at| self.not_before(at)))
    }

    /// When the request at this place may go, as far as it is concerned.
    pub(super) fn not_before(&self, at: usize) -> Moment {
        self.0[at].failures.not_before
    }

    /// Takes the request at this place.
    pub(super) fn take(&mut self, at: usize) -> Option<Request> {
        self.0.remove(at)
    }

    /// Takes the first whose time is over.
    pub(super) fn take_expired(&mut self, counting: Counting, now: Moment) -> Option<Request> {
        let is_over = |request: &Request| counting.expiry(request).is_some_and(|expiry| now >= expiry);
        self.take(self.0.iter().position(is_over)?)
    }

    /// When the first is over, as things are.
    pub(super) fn expiry(&self, counting: Counting) -> Option<Moment> {
        self.0.iter().filter_map(|request| counting.expiry(request)).min()
    }

    /// Takes the time since the last look off what each has left, if it counts.
    pub(super) fn count(&mut self, counting: Counting, now: Moment) {
        for request in &mut self.0 {
            if counting.is_reachable && request.first_sent.is_some() {
                request.left = request.left.saturating_sub(now.since(request.since.max(counting.asked_until)));
            }
            request.since = now;
        }
    }

    /// Notes that another request was taken, by an attempt that began at `began`.
    pub(super) fn see_taken(&mut self, began: Moment) {
        self.0.iter_mut().for_each(|request| request.failures.see_taken(began));
    }

    /// Ends each back-off this long after its failure at the latest.
    pub(super) fn shorten(&mut self, pause_max: Duration) {
        self.0.iter_mut().for_each(|request| request.failures.shorten(pause_max));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Counting {
    fn expiry(self, request: &Request) -> Option<Moment> {
        let counts = self.is_reachable && request.first_sent.is_some();
        counts.then(|| request.since.max(self.asked_until).after(request.left))
    }
}
