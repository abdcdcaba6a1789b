//! One connection of a collector: reads whole requests into one buffer, looks at them, and answers.

use std::{
    hash::{DefaultHasher, Hasher},
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use flate2::bufread::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::{
    Mode, ReceivedRequest, Shared,
    framing::{self, Ids},
    head::{self, Encoding, Ending, HEAD_BYTES_MAX, Head, Refusal},
    socket::Socket,
    unzstd,
};

/// Full success: an empty `ExportTraceServiceResponse` has no bytes.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// The default of OTLP's request limit, packed and unpacked.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Room for a head and an average request, so that most take two or three reads.
const BUFFER_BYTES: usize = 256 << 10;
/// What is read and thrown away of a request that was refused by its head, so that the reply is not lost to a reset.
const DISCARD_BYTES_MAX: usize = BODY_BYTES_MAX;

/// A healthy collector's way with a connection: one request after the other.
pub fn serve(connection: &mut Connection) -> io::Result<()> {
    while connection.wait()? {
        if serve_one(connection)? == Ending::Close {
            break;
        }
    }
    Ok(())
}

/// A healthy collector's way with a request: takes it and says so.
pub fn serve_one(connection: &mut Connection) -> io::Result<Ending> {
    match connection.read_request()? {
        Ok(request) => {
            let ending = request.ending;
            connection.take(request);
            connection.write(OK)?;
            Ok(ending)
        }
        Err(refusal) => connection.refuse(refusal),
    }
}

/// A request that arrived whole and is not answered yet.
#[derive(Debug)]
pub struct Request {
    /// How many spans it has.
    pub spans: u64,
    /// Bytes of the body on the wire.
    pub body_bytes: usize,
    /// Whether the client ends the connection with it.
    pub ending: Ending,
    /// From [`Mode::Ids`] on.
    ids: Vec<Ids>,
}

impl Request {
    /// The ids of its spans, from [`Mode::Ids`] on.
    pub fn ids(&self) -> &[Ids] {
        &self.ids
    }
}

/// An accepted connection and the one buffer that its bytes pass through.
pub struct Connection {
    socket: Box<dyn Socket>,
    id: u64,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    /// What is read and not yet used.
    unread: Range<usize>,
    unpacked: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: Box<dyn Socket>, id: u64, shared: Arc<Shared>) -> Self {
        Self { socket, id, shared, buffer: vec![0; BUFFER_BYTES], unread: 0..0, unpacked: Vec::new() }
    }

    /// Waits for the first byte of a request; says whether one came before the end of the stream.
    pub fn wait(&mut self) -> io::Result<bool> {
        Ok(!self.unread.is_empty() || self.fill(usize::MAX)? > 0)
    }

    /// Reads one request and counts it as arrived. After a refusal nothing more can be read from the connection.
    pub fn read_request(&mut self) -> io::Result<Result<Request, Refusal>> {
        let read = self.read_whole()?.and_then(|(head, body)| {
            let packed = &self.buffer[body];
            let body = match head.encoding {
                Encoding::Identity => packed,
                Encoding::Gzip => unpack(MultiGzDecoder::new(packed), &mut self.unpacked)?,
                Encoding::Zstd => unpack(unzstd(packed).ok_or(Refusal::NotProtobuf)?, &mut self.unpacked)?,
            };
            arrive(&self.shared, head, body, packed.len())
        });
        if read.is_err() {
            self.shared.count(|memory| memory.tally.refused += 1);
        }
        Ok(read)
    }

    /// Takes so many bytes off the stream, whatever they are, and leaves the rest with the system.
    pub fn read_exact(&mut self, bytes: usize) -> io::Result<()> {
        while self.unread.len() < bytes {
            if self.fill(bytes - self.unread.len())? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        self.unread.start += bytes;
        Ok(())
    }

    /// Answers for a request: all its spans are taken.
    pub fn take(&mut self, request: Request) {
        self.take_all_but(request, 0);
    }

    /// Answers for a request but for its last `rejected` spans.
    pub fn take_all_but(&mut self, mut request: Request, rejected: u64) {
        let taken = request.spans.saturating_sub(rejected);
        request.ids.truncate(usize::try_from(taken).unwrap_or(usize::MAX));
        self.shared.count(|memory| {
            memory.tally.spans += taken;
            for ids in request.ids {
                memory.tally.ids_seen_twice += u64::from(!memory.ids.insert(ids));
            }
        });
    }

    /// Sends a refusal and ends the connection, once the client has seen it or has said all.
    pub fn refuse(&mut self, refusal: Refusal) -> io::Result<Ending> {
        self.write(&refusal.reply())?;
        self.socket.end(Shutdown::Write)?;
        self.discard(DISCARD_BYTES_MAX)?;
        Ok(Ending::Close)
    }

    /// Sends bytes, in one write if the system takes them at once.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.shared.pass()?;
        self.socket.write_all(bytes)
    }

    /// Lets time pass, but not past a stop of the collector, which is an error.
    pub fn rest(&self, time: Duration) -> io::Result<()> {
        self.shared.rest(time);
        self.shared.pass()
    }

    /// The socket below.
    pub fn socket(&self) -> &dyn Socket {
        &*self.socket
    }

    /// Head and place of the body of a request that is all in the buffer.
    fn read_whole(&mut self) -> io::Result<Result<(Head, Range<usize>), Refusal>> {
        let head_bytes = loop {
            let unread = &self.buffer[self.unread.clone()];
            match head::end(&unread[..unread.len().min(HEAD_BYTES_MAX)]) {
                Some(head_bytes) => break head_bytes,
                None if unread.len() >= HEAD_BYTES_MAX => return Ok(Err(Refusal::HeadTooLarge)),
                None => self.read_up_to(unread.len() + 1)?,
            }
        };
        let body_start = self.unread.start + head_bytes;
        let head = match Head::parse(&self.buffer[self.unread.start..body_start], BODY_BYTES_MAX) {
            Ok(head) => head,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.unread.start = body_start;
        self.read_up_to(head.body_bytes)?;
        let body = self.unread.start..self.unread.start + head.body_bytes;
        self.unread.start = body.end;
        Ok(Ok((head, body)))
    }

    /// Reads and forgets what comes, until the client ends its side or `bytes_max` are exceeded.
    fn discard(&mut self, bytes_max: usize) -> io::Result<()> {
        let mut bytes = 0;
        while bytes <= bytes_max && self.wait()? {
            bytes += self.unread.len();
            self.unread = 0..0;
        }
        Ok(())
    }

    /// Reads until at least this many bytes are unread.
    fn read_up_to(&mut self, bytes: usize) -> io::Result<()> {
        if self.unread.start + bytes > self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            self.buffer.resize(self.buffer.len().max(bytes), 0);
        }
        while self.unread.len() < bytes {
            if self.fill(usize::MAX)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// One read of at most so many bytes into the free end of the buffer.
    fn fill(&mut self, bytes_max: usize) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        debug_assert!(
            self.unread.end < self.buffer.len(),
            "`read_up_to` makes room, and `wait` reads into an empty buffer"
        );
        self.shared.pass()?;
        let read = loop {
            let end = self.unread.end.saturating_add(bytes_max).min(self.buffer.len());
            match self.socket.read(&mut self.buffer[self.unread.end..end]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => break read?,
            }
        };
        // A pause that began while this read waited holds back what it brought.
        self.shared.pass()?;
        self.unread.end += read;
        Ok(read)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // First of all handles the one for others: the socket's own, dropped last, then really closes it.
        drop(self.shared.gate().open.remove(&self.id));
    }
}

/// Unpacks a body into a buffer that is used again.
fn unpack(packed: impl Read, unpacked: &mut Vec<u8>) -> Result<&[u8], Refusal> {
    unpacked.clear();
    let bounded = BODY_BYTES_MAX as u64 + 1;
    packed.take(bounded).read_to_end(unpacked).map_err(|_| Refusal::Malformed)?;
    if unpacked.len() > BODY_BYTES_MAX { Err(Refusal::TooLarge) } else { Ok(unpacked) }
}

/// Looks at a request as closely as the mode asks for, and counts it as arrived.
fn arrive(shared: &Shared, head: Head, body: &[u8], body_bytes: usize) -> Result<Request, Refusal> {
    let (mut spans, mut ids) = (0, Vec::new());
    let mut has_ids = Ok(());
    let walk = framing::for_each_span(body, |span| {
        spans += 1;
        if shared.mode >= Mode::Ids {
            match framing::ids(span) {
                Ok(of_span) => ids.push(of_span),
                Err(malformed) => has_ids = Err(malformed),
            }
        }
    });
    walk.and(has_ids).map_err(|_| Refusal::Malformed)?;
    if shared.mode >= Mode::Decode {
        ExportTraceServiceRequest::decode(body).map_err(|_| Refusal::Malformed)?;
    }
    let fingerprint = (shared.mode >= Mode::Ids).then(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        hasher.finish()
    });
    let ending = head.ending;
    shared.count(|memory| {
        memory.tally.requests += 1;
        memory.tally.body_bytes += body_bytes as u64;
        memory.tally.spans_arrived += spans;
        if let Some(fingerprint) = fingerprint {
            memory.tally.resends += u64::from(!memory.bodies.insert(fingerprint));
        }
        if shared.mode == Mode::Record {
            memory.received.push(ReceivedRequest { head, body: body.to_vec() });
        }
    });
    Ok(Request { spans, body_bytes, ending, ids })
}
