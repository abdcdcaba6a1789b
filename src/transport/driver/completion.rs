//! The nouns of the seam: where to connect, a connection's handle, and what became of an operation.

use std::{error::Error, fmt, io, net::SocketAddr, path::PathBuf};

/// Where a connection goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// TCP, resolved already.
    Tcp(SocketAddr),
    /// A stream socket in the file system; refused on systems that have none.
    Unix(PathBuf),
}

impl Address {
    /// Whether it is on this machine: whether something listens there is known at once, and does not depend on a
    /// network.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection, from `connect` to `close`. After that the handle is stale, and harmless.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Conn {
    pub(super) slot: u32,
    /// How often the slot was given away before, modulo 2²⁴.
    pub(super) generation: u32,
}

impl Conn {
    pub(super) fn index(self) -> usize {
        usize::try_from(self.slot).expect("a slot is an index of a Vec")
    }
}

/// What became of one operation. Each operation has exactly one, whatever happens.
#[derive(Debug)]
pub struct Completion {
    /// The connection, as it was when the operation began.
    pub conn: Conn,
    /// Which operation it was, its result, and its buffer back.
    pub event: Event,
}

/// The end of an operation.
#[derive(Debug)]
pub enum Event {
    /// The connection is open, or why not. Close the handle in both cases.
    Connected(io::Result<()>),
    /// This many bytes from the start of the range were sent: maybe fewer than asked.
    Sent {
        /// The buffer that was given.
        buffer: Vec<u8>,
        /// Bytes sent.
        result: io::Result<usize>,
    },
    /// This many bytes are at the front of the buffer; none means that the peer sends no more.
    Received {
        /// The buffer that was given.
        buffer: Vec<u8>,
        /// Bytes received.
        result: io::Result<usize>,
    },
}

/// Which operation. At most one of each is in flight on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Operation {
    Connect,
    Send,
    Recv,
}

impl Event {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Connected(_) => Operation::Connect,
            Self::Sent { .. } => Operation::Send,
            Self::Received { .. } => Operation::Recv,
        }
    }
}

/// The error of an operation that did not happen, because of [`cancel`](super::Driver::cancel).
#[derive(Clone, Copy, Debug)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl Error for Cancelled {}

pub(super) fn cancelled() -> io::Error {
    io::Error::other(Cancelled)
}

/// Whether this error says that the operation was cancelled, and nothing about the peer.
#[must_use]
pub fn is_cancelled(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}

/// The driver failed before the operation had completed: what became of it nobody can say.
#[derive(Debug)]
struct Unheard;

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the driver failed")
    }
}

impl Error for Unheard {}

pub(super) fn unheard() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, Unheard)
}

/// Whether this error says that the driver failed before the operation had completed: all of a send may be there.
#[must_use]
pub fn is_unheard(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Unheard>())
}
