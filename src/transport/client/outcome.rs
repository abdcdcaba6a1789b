//! How a request ended.

use std::time::Duration;

use super::super::http::http1::Reply;

/// The end of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The number of the request.
    pub number: u64,
    /// Spans in the request.
    pub spans: usize,
    /// Bytes of the body, before compression.
    pub bytes: usize,
    /// From the first attempt to the end of the last.
    pub took: Duration,
    /// How it ended.
    pub end: RequestEnd,
    /// Whether an attempt was sent whole and not answered by the collector itself, which may have the request, whatever
    /// later attempts were told.
    pub is_doubtful: bool,
}

/// Spans that were given up in requests that had not ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Abandoned {
    /// No attempt was sent whole, or the collector answered each.
    pub lost: usize,
    /// An attempt was sent whole and not answered by the collector, which may have them.
    pub unconfirmed: usize,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) enum RequestEnd {
    /// The collector took it, and answered this.
    Taken(Reply),
    /// It is too large for the collector. The body comes back, as it was before compression.
    TooLarge(Vec<u8>),
    /// The collector refuses it, or does not answer in HTTP. It must not be sent again (HTTP-06, HTTP-12).
    Refused {
        /// The status of the answer, if there was one.
        status: Option<u16>,
        /// What went wrong, and what to do.
        why: String,
        /// The body of the answer.
        body: Vec<u8>,
    },
    /// The time for all attempts is over; how the last one failed.
    Expired(String),
    /// The same, while other requests were taken: it is most likely at fault itself.
    Quarantined {
        /// How the last attempt failed.
        why: String,
        /// The body, as it was before compression.
        body: Vec<u8>,
    },
}
