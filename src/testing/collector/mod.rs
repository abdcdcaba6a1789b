//! A stand-in collector inside your test: takes OTLP over HTTP/1.1 on a real socket and counts the spans, or shows a
//! fault.
//!
//! It tells whether what a program records arrives, without a network and without another process:
//!
//! ```
//! use std::time::Duration;
//!
//! use spanring::{Config, Engine, Export, testing::collector::{Collector, Mode}};
//!
//! let collector = Collector::start(Mode::Record).unwrap();
//! let export = Export::to(&collector.url());
//! let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
//! engine.tracer("shop").span("GET /orders/{id}").start().end();
//! assert!(engine.flush(Duration::from_secs(10)).is_complete());
//! assert_eq!(collector.tally().spans, 1);
//! assert_eq!(collector.received()[0].spans()[0].name, "GET /orders/{id}");
//! ```
//!
//! A thread for each connection, blocking sockets, nothing but `std` below: the simplest server that can be right, and
//! a different implementation from the exporter that it judges.
//!
//! # Faults
//!
//! A [`Row`] of [`ROWS`] is a collector that misbehaves: its name, and the rules of the specification that it tests.
//! [`Row::start`] starts a collector with the fault:
//!
//! ```
//! use spanring::testing::collector::{Mode, Plan, Row};
//!
//! let stand = Row::named("black_hole_that_reads_all").start(Plan::forever(), Mode::Count).unwrap();
//! // A program that exports to `stand.collector.url()` never gets an answer.
//! # let _ = stand;
//! ```

mod connection;
mod fault;
mod framing;
mod head;
mod rows;
mod schedule;
mod script;
mod socket;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
#[doc(hidden)]
pub mod tls;
#[cfg(unix)]
mod unix;
#[cfg(feature = "zstd")]
mod zstd;

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

#[cfg(feature = "zstd")]
use self::zstd::unzstd;
use super::{FinishedSpan, spans_of};

pub use self::{
    fault::{Plan, Row},
    head::{Encoding, Ending, Head},
    rows::ROWS,
    script::Stand,
};
// What this library's own tests build other collectors from. Hidden, because a test of a program needs none of it, and
// public, because those tests are outside of the library.
#[cfg(unix)]
#[doc(hidden)]
pub use self::unix::Path;
#[doc(hidden)]
pub use self::{
    connection::{Connection, OK, Request, serve, serve_one},
    fault::{
        Delivered, End, Expect, FLOOD_BYTES_MAX, Fault, OVERSIZE, Outcome, PARTIALLY_REJECTED, REJECTED, RETRY_EXPIRED,
        Resend, SHUTDOWN_DEADLINE, Shows, Step,
    },
    framing::{Ids, Malformed, for_each_span, ids},
    head::Refusal,
    rows::{answer, http_date},
    schedule::{Act, Asked, Close, Leave, Note, Pause, Scheduled, Taken, Turn},
    socket::{Listener, Place, Port, Socket},
};

/// How closely a collector looks at what it takes; each mode also does what those before it do, and costs more.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mode {
    /// Counts the spans by the lengths on the wire.
    Count,
    /// Remembers the ids of the spans and the requests' fingerprints, to find those that come twice: 24 bytes a span
    /// and the set around them, without a limit.
    Ids,
    /// Decodes each request by prost and refuses what it cannot read.
    Decode,
    /// Keeps each request, without a limit.
    Record,
}

/// What a collector has seen since it was made, over all its restarts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests that arrived whole and could be read.
    pub requests: u64,
    /// Bytes of their bodies on the wire.
    pub body_bytes: u64,
    /// Spans in those requests.
    pub spans_arrived: u64,
    /// Spans that were taken: those the collector answers for.
    pub spans: u64,
    /// Requests that were turned away for what they are: another path, too large, not protobuf.
    pub refused: u64,
    /// Requests whose body had arrived before, byte for byte. From [`Mode::Ids`] on.
    pub resends: u64,
    /// Spans that were taken and had been taken before. From [`Mode::Ids`] on.
    pub ids_seen_twice: u64,
}

/// A request as it came. [`Mode::Record`] keeps them.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// What was asked for, the headers, and how the body was packed.
    pub head: Head,
    /// The body as it was before it was packed: an `ExportTraceServiceRequest` of OTLP.
    pub body: Vec<u8>,
}

/// This build has no zstd.
#[cfg(not(feature = "zstd"))]
fn unzstd(_: &[u8]) -> Option<io::Empty> {
    None
}

impl ReceivedRequest {
    /// The spans of the request, decoded.
    ///
    /// # Panics
    ///
    /// Never: the collector keeps a request only if it could decode it.
    #[must_use]
    pub fn spans(&self) -> Vec<FinishedSpan> {
        spans_of(&self.body)
    }
}

/// What is done on a connection, from its first byte to its end.
#[doc(hidden)]
pub type Serve = dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync;

/// A collector that runs until it is stopped or dropped.
pub struct Collector {
    place: Arc<dyn Place>,
    serve: Arc<Serve>,
    shared: Arc<Shared>,
    /// `None` while it is stopped.
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a collector share.
struct Shared {
    mode: Mode,
    gate: Mutex<Gate>,
    /// Rings when the gate changes.
    gate_moved: Condvar,
    memory: Mutex<Memory>,
    /// Rings when the tally changes.
    tally_moved: Condvar,
}

#[derive(Default)]
struct Gate {
    is_paused: bool,
    is_stopping: bool,
    next: u64,
    /// A second handle on each open connection.
    open: HashMap<u64, Box<dyn Socket>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Memory {
    tally: Tally,
    bodies: HashSet<u64>,
    ids: HashSet<Ids>,
    received: Vec<ReceivedRequest>,
}

/// How long an acceptor that has no file descriptor left waits for one.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Runs `start`, which takes a free port, and runs it again if another process got that port first.
#[doc(hidden)]
pub fn on_free_port<R>(start: impl Fn() -> io::Result<R>) -> io::Result<R> {
    const TRIES: usize = 16;
    for _ in 1..TRIES {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    start()
}

impl Collector {
    /// Listens on a free port of loopback.
    pub fn start(mode: Mode) -> io::Result<Self> {
        on_free_port(|| Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), mode))
    }

    /// Listens on this address.
    pub fn start_at(address: SocketAddr, mode: Mode) -> io::Result<Self> {
        Self::start_with(Arc::new(Port::claim(address)?), mode, Arc::new(serve))
    }

    /// Listens on a place of another kind, or serves in another way.
    #[doc(hidden)]
    pub fn start_with(place: Arc<dyn Place>, mode: Mode, serve: Arc<Serve>) -> io::Result<Self> {
        let shared = Shared {
            mode,
            gate: Mutex::default(),
            gate_moved: Condvar::new(),
            memory: Mutex::default(),
            tally_moved: Condvar::new(),
        };
        let mut collector = Self { place, serve, shared: Arc::new(shared), acceptor: None };
        collector.restart()?;
        Ok(collector)
    }

    /// Stops if it runs, and listens at the same place again. What was counted stays.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let listener = self.place.listen()?;
        *self.shared.gate() = Gate::default();
        let (shared, serve) = (Arc::clone(&self.shared), Arc::clone(&self.serve));
        let accept = move || shared.accept_all(&*listener, &serve);
        self.acceptor = Some(thread::Builder::new().name("collector".into()).spawn(accept)?);
        Ok(())
    }

    /// Ends every connection and joins every thread; the place refuses until a restart.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        let mut gate = self.shared.gate();
        gate.is_stopping = true;
        for socket in gate.open.values() {
            // Its client may have ended it already.
            let _ = socket.end(Shutdown::Both);
        }
        drop(gate);
        self.shared.gate_moved.notify_all();
        self.place.knock();
        // A thread that panicked has said so on stderr, and its client saw the connection end.
        let _ = acceptor.join();
        let threads = std::mem::take(&mut self.shared.gate().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Stops accepting and reading, and holds what is open. A read that waits already still takes what comes first.
    pub fn pause(&self) {
        self.shared.gate().is_paused = true;
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.shared.gate().is_paused = false;
        self.shared.gate_moved.notify_all();
    }

    /// The endpoint without a path: `http://127.0.0.1:4318`.
    pub fn url(&self) -> String {
        self.place.url()
    }

    /// Host and port, if it listens on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.place.address()
    }

    /// What was seen up to now, all of one moment.
    pub fn tally(&self) -> Tally {
        self.shared.memory().tally.clone()
    }

    /// Waits until the tally is as wanted; says whether it came to that before the deadline.
    pub fn wait_for(&self, deadline: Instant, is_wanted: impl Fn(&Tally) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let memory = self.shared.memory();
        let wait = self.shared.tally_moved.wait_timeout_while(memory, left, |memory| !is_wanted(&memory.tally));
        let (memory, _) = wait.unwrap_or_else(PoisonError::into_inner);
        is_wanted(&memory.tally)
    }

    /// The requests that arrived whole, taken or not, in the order in which they did. Empty below [`Mode::Record`].
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.shared.memory().received.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>, listener: &dyn Listener, serve: &Arc<Serve>) {
        loop {
            let accepted = listener.accept();
            if self.pass().is_err() {
                return;
            }
            // A client that gave up is no matter, and for want of descriptors or threads the next one may fare better.
            if accepted.and_then(|socket| self.admit(socket, serve)).is_err() {
                self.rest(ACCEPT_AGAIN);
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: Box<dyn Socket>, serve: &Arc<Serve>) -> io::Result<()> {
        let twin = socket.twin()?;
        let mut gate = self.gate();
        if gate.is_stopping {
            return Ok(());
        }
        let id = gate.next;
        gate.next += 1;
        gate.open.insert(id, twin);
        gate.threads.retain(|thread| !thread.is_finished());
        let mut connection = Connection::new(socket, id, Arc::clone(self));
        let serve = Arc::clone(serve);
        // The lock is free before a failed spawn drops the connection, which takes itself off the list.
        drop(gate);
        self.count(|memory| memory.tally.connections += 1);
        let name = format!("collector {id}");
        let thread = thread::Builder::new().name(name).spawn(move || {
            // An error is the end of this connection and of nothing else.
            let _ = serve(&mut connection);
        })?;
        self.gate().threads.push(thread);
        Ok(())
    }

    /// Waits while the collector is paused; an error when it stops.
    fn pass(&self) -> io::Result<()> {
        let gate = self.gate_moved.wait_while(self.gate(), |gate| gate.is_paused && !gate.is_stopping);
        let gate = gate.unwrap_or_else(PoisonError::into_inner);
        if gate.is_stopping { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Lets time pass, but not past a stop.
    fn rest(&self, time: Duration) {
        let rested = self.gate_moved.wait_timeout_while(self.gate(), time, |gate| !gate.is_stopping);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.memory());
        self.tally_moved.notify_all();
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
