//! One request on its way: its bytes, how many spans they are, and how much time is left for them.

use std::time::Duration;

use super::super::{
    driver::Moment,
    http::{buffer::RequestBuffer, head::Coding},
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
    /// How long the answer may take, once all is sent.
    pub(super) patience: Duration,
    /// Since when it has been waiting, or under way.
    pub(super) since: Moment,
    /// Why the last attempt failed.
    pub(super) failure: String,
    /// Whether all bytes of this attempt are sent, or with a driver or session that may send them, and no answer has
    /// come.
    pub(super) is_out: bool,
    /// Whether an earlier attempt was sent whole and ended without an answer.
    pub(super) is_doubtful: bool,
}

impl Request {
    /// Whether the collector may have it, as far as is known now.
    pub(super) fn may_be_there(&self) -> bool {
        self.is_out || self.is_doubtful
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
