//! One request on its way: its bytes, how many spans they are, and how much time is left for them.

use std::{ops::Range, time::Duration};

use super::super::{driver::Moment, http::head::Coding};

/// A request, head and body in one buffer. The body does not change; the head is written in front of it.
#[derive(Debug)]
pub struct Request {
    /// Which one it is: requests are numbered as they are submitted.
    pub(super) number: u64,
    /// Room for the head, then the body. Empty while the driver has it.
    pub(super) buffer: Vec<u8>,
    /// Where the head begins.
    pub(super) start: usize,
    /// Where the body begins.
    pub(super) body: usize,
    /// Where the body ends.
    pub(super) end: usize,
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
    /// Since when it waits, or is sent.
    pub(super) since: Moment,
    /// Why the last attempt failed.
    pub(super) failure: String,
}

impl Request {
    /// The bytes to send.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}
