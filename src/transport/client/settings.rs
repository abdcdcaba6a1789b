//! How requests are sent.

use std::time::Duration;

use super::super::http::compression::Compression;

/// Most connections to one collector.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// How requests are sent.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Connections at a time.
    pub connections_max: usize,
    /// Time for all attempts of one request together, while the collector can be reached and asks for no pause. One
    /// attempt may use all of it.
    pub timeout: Duration,
    /// How long a peer may leave a request or a reply half-way. It does not count while the next word is the
    /// collector's.
    pub stall_timeout: Duration,
    /// The longest pause that a collector may ask for. One that names a longer one, by mistake or with intent, does not
    /// silence the exporter for it.
    pub retry_after_max: Duration,
    /// Whether bodies are compressed.
    pub compression: Compression,
    /// The time since 1970, for a collector that names the time of the next request.
    pub unix_time: fn() -> Duration,
    /// Where random numbers start. Equal seeds make equal runs.
    pub seed: u64,
}
