//! One request on its way: its bytes, how many spans they are, and how much time is left for them.

use std::{mem, time::Duration};

use super::{
    super::{
        driver::Moment,
        http::{
            buffer::RequestBuffer,
            compression::{Coding, decompress},
        },
    },
    backoff::Backoff,
    outcome::RequestEnd,
};

/// A request. Its bytes do not change from one attempt to the next.
#[derive(Debug)]
pub(super) struct Request {
    /// Its number: requests are numbered as they are submitted.
    pub(super) number: u64,
    /// Head and body.
    pub(super) buffer: RequestBuffer,
    pub(super) coding: Coding,
    /// Spans in it.
    pub(super) spans: usize,
    /// Bytes of the body before compression.
    pub(super) plain_len: usize,
    /// When it was submitted.
    pub(super) submitted: Moment,
    /// When it was first sent; `None` before.
    pub(super) first_sent: Option<Moment>,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// Time that is left for all attempts.
    pub(super) left: Duration,
    /// How long the peer may leave it half-way.
    pub(super) stall_timeout: Duration,
    /// Since when it has been waiting, or under way.
    pub(super) since: Moment,
    /// How its attempts failed.
    pub(super) failures: Failures,
    /// Whether all bytes of this attempt are sent, or with a driver or session that may send them, and no answer has
    /// come.
    pub(super) is_out: bool,
    /// Whether an earlier attempt was sent whole and ended without the collector's own answer.
    pub(super) is_doubtful: bool,
}

/// The failures of one request, and what they say of it: one that fails while others are taken may be at fault itself,
/// and then holds up nobody.
#[derive(Debug)]
pub(super) struct Failures {
    pub(super) count: u32,
    /// Why the last attempt failed.
    pub(super) why: String,
    /// The first and the last.
    first: Moment,
    last: Moment,
    /// Requests that were taken since, by attempts that began after the first failure.
    neighbours: u32,
    pub(super) backoff: Backoff,
    /// It is not sent before this.
    pub(super) not_before: Moment,
}

impl Default for Failures {
    fn default() -> Self {
        let start = Moment::START;
        let (backoff, why) = (Backoff::default(), String::new());
        Self { count: 0, why, first: start, last: start, neighbours: 0, backoff, not_before: start }
    }
}

/// Failures and neighbours that were taken, before a request is held to be at fault itself.
const POISON_FAILURES: u32 = 3;
const POISON_NEIGHBOURS: u32 = 3;

impl Failures {
    /// Notes another one.
    pub(super) fn note(&mut self, why: String, now: Moment) {
        if self.count == 0 {
            self.first = now;
        }
        self.count += 1;
        self.last = now;
        self.why = why;
    }

    /// Notes that another request was taken, by an attempt that began at `began`.
    pub(super) fn see_taken(&mut self, began: Moment) {
        self.neighbours += u32::from(self.count > 0 && began >= self.first);
    }

    /// Whether the failures are its own, as far as is known: others are taken.
    pub(super) fn are_its_own(&self) -> bool {
        self.neighbours > 0
    }

    /// Whether the request is at fault, beyond bad luck.
    pub(super) fn are_poison(&self) -> bool {
        self.count >= POISON_FAILURES && self.neighbours >= POISON_NEIGHBOURS
    }

    /// Ends the back-off this long after the last failure at the latest.
    pub(super) fn shorten(&mut self, pause_max: Duration) {
        self.not_before = self.not_before.min(self.last.after(pause_max));
    }
}

impl Request {
    /// Whether the collector may have it, as far as is known now.
    pub(super) fn may_be_there(&self) -> bool {
        self.is_out || self.is_doubtful
    }

    /// When the attempt that is under way has been unanswered for so long that others do not wait for it any more.
    pub(super) fn hangs_from(&self) -> Moment {
        self.since.after(self.stall_timeout)
    }

    /// How it ends when its time is over.
    pub(super) fn give_up(&mut self) -> RequestEnd {
        let why = mem::take(&mut self.failures.why);
        match self.failures.are_poison() {
            true => RequestEnd::Quarantined { why, body: self.plain_body() },
            false => RequestEnd::Expired(why),
        }
    }

    /// The body as it was before compression.
    pub(super) fn plain_body(&self) -> Vec<u8> {
        let body = decompress(self.coding, self.buffer.body(), self.plain_len);
        body.expect("it was compressed here, from so many bytes")
    }
}

/// What a part takes over from the request that it was a part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    /// Its number.
    pub number: u64,
    /// Whether the collector may have it.
    pub is_doubtful: bool,
}
