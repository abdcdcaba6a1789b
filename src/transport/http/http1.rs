//! Reads one reply of an HTTP/1.1 exchange, from pieces of any size; memory grows only with the bytes received.

use std::{fmt, mem};

use super::retry_after::RetryAfter;

/// A reply, whole.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// The status code, 200 to 999.
    pub status: u16,
    /// When the peer wants the next request.
    pub retry_after: Option<RetryAfter>,
    /// The body: its first [`BODY_BYTES_KEPT`] bytes, or nothing if it came compressed, which was not asked for.
    pub body: Vec<u8>,
    /// Bytes of the body as they came. If there are more than `body` has, the answer is not fully known.
    pub body_len: usize,
    /// Whether the connection may carry another exchange, provided that nothing came after the reply.
    pub keeps_alive: bool,
    /// Whether the body broke off.
    pub is_cut_off: bool,
}

impl Reply {
    /// Whether `body` is all that the peer said.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.body_len && !self.is_cut_off
    }
}

/// The result of reading some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// How many of the bytes belong to this reply. Bytes after it belong to no request, because requests are not
    /// pipelined: a connection that brought some must not be used again.
    pub used: usize,
    /// The reply, once it is whole.
    pub reply: Option<Reply>,
}

/// Reads one reply. After the reply, or an error, every further call is an error.
#[derive(Debug)]
pub struct ReplyReader {
    stage: Stage,
    /// Bytes of the line or head that is not whole yet.
    buffer: Vec<u8>,
    reply: Reply,
    is_compressed: bool,
    is_connect: bool,
    has_begun: bool,
    /// Whether the head is whole, of the reply that counts, and the reply is not.
    has_head: bool,
    interim_count: usize,
    /// Bytes of chunked framing and trailers so far.
    framing_len: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Head,
    /// So many bytes are left of a body of known length.
    Sized(usize),
    /// The body ends with the connection.
    Endless,
    ChunkSize,
    /// So many bytes are left of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    Over,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyReader {
    /// For the reply to a POST.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Head,
            buffer: Vec::new(),
            reply: Reply::default(),
            is_compressed: false,
            is_connect: false,
            has_begun: false,
            has_head: false,
            interim_count: 0,
            framing_len: 0,
        }
    }

    /// For the reply to a CONNECT, which ends with its head: after a 2xx begins the tunnel, and after a refusal, whose
    /// body may have no end, the connection is of no use.
    #[must_use]
    pub fn for_connect() -> Self {
        Self { is_connect: true, ..Self::new() }
    }

    /// Takes received bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are no valid reply; the connection must not be used again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, ReplyError> {
        self.has_begun |= !bytes.is_empty();
        let mut rest = bytes;
        let outcome = self.advance(&mut rest);
        if outcome.is_err() {
            self.stage = Stage::Over;
        }
        Ok(Progress { used: bytes.len() - rest.len(), reply: outcome? })
    }

    /// The peer closed the connection: the end of a body that has no other end.
    ///
    /// # Errors
    ///
    /// When the reply is not whole.
    pub fn end(&mut self) -> Result<Reply, ReplyError> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Endless => Ok(self.finish()),
            Stage::Over => Err(ReplyError::Over),
            Stage::Head if !self.has_begun => Err(ReplyError::Silent),
            // Too few bytes to recognise a reply, and no more will come.
            Stage::Head if !is_http(&self.buffer) => Err(ReplyError::Garbage),
            _ => Err(ReplyError::CutOff),
        }
    }

    /// The reply as far as it has come, once nothing more of use comes: its head says what became of the request.
    pub fn cut_off(&mut self) -> Option<Reply> {
        self.stage = Stage::Over;
        let is_headed = mem::take(&mut self.has_head);
        is_headed.then(|| Reply { keeps_alive: false, is_cut_off: true, ..mem::take(&mut self.reply) })
    }

    /// Whether the next byte is the first of a head: none has come, or interim replies alone.
    #[must_use]
    pub fn awaits_head(&self) -> bool {
        self.stage == Stage::Head && self.buffer.is_empty()
    }

    /// Whether a byte of a reply has come. Before that, a connection that was used before may simply have been closed
    /// meanwhile, and the request goes out again on a fresh one at once.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Goes through the stages as far as `rest` reaches, and removes what is used.
    fn advance(&mut self, rest: &mut &[u8]) -> Result<Option<Reply>, ReplyError> {
        loop {
            match self.stage {
                Stage::Over => return Err(ReplyError::Over),
                Stage::Sized(0) => return Ok(Some(self.finish())),
                Stage::Chunk(0) => self.stage = Stage::ChunkEnd,
                _ if rest.is_empty() => return Ok(None),
                Stage::Head => self.head(rest)?,
                Stage::Sized(left) => self.stage = Stage::Sized(left - self.take_body(rest, left)?),
                Stage::Endless => _ = self.take_body(rest, usize::MAX)?,
                Stage::Chunk(left) => self.stage = Stage::Chunk(left - self.take_body(rest, left)?),
                Stage::ChunkSize => {
                    if self.take_line(rest)? {
                        self.chunk_size()?;
                    }
                }
                Stage::ChunkEnd => {
                    let is_whole = self.take_line(rest)?;
                    if !b"\r\n".starts_with(&self.buffer) {
                        return Err(ReplyError::Chunk);
                    }
                    if is_whole {
                        self.buffer.clear();
                        self.stage = Stage::ChunkSize;
                    }
                }
                Stage::Trailer => {
                    // What a trailer says is of no interest here.
                    if self.take_line(rest)? && mem::take(&mut self.buffer) == b"\r\n" {
                        return Ok(Some(self.finish()));
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Reply {
        self.stage = Stage::Over;
        self.has_head = false;
        mem::take(&mut self.reply)
    }

    /// Takes up to `left` bytes of the body, keeps as many as are wanted, and returns how many there were.
    fn take_body(&mut self, rest: &mut &[u8], left: usize) -> Result<usize, ReplyError> {
        let (taken, behind) = rest.split_at(left.min(rest.len()));
        *rest = behind;
        self.reply.body_len += taken.len();
        if self.reply.body_len > BODY_BYTES_MAX {
            return Err(ReplyError::BodyTooLarge);
        }
        if !self.is_compressed {
            let room = BODY_BYTES_KEPT - self.reply.body.len();
            self.reply.body.extend_from_slice(&taken[..taken.len().min(room)]);
        }
        Ok(taken.len())
    }

    /// Moves bytes to the buffer up to a line feed; true when it has come.
    fn take_line(&mut self, rest: &mut &[u8]) -> Result<bool, ReplyError> {
        let end = rest.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let room = LINE_BYTES_MAX - self.buffer.len();
        let (taken, behind) = rest.split_at(end.unwrap_or(rest.len()).min(room));
        *rest = behind;
        self.buffer.extend_from_slice(taken);
        self.framing_len += taken.len();
        let is_whole = self.buffer.ends_with(b"\n");
        // Otherwise chunks of one byte with long extensions could go on for ever.
        let is_excess = self.framing_len > BODY_BYTES_MAX || (!is_whole && self.buffer.len() == LINE_BYTES_MAX);
        if is_excess { Err(ReplyError::Chunk) } else { Ok(is_whole) }
    }

    fn chunk_size(&mut self) -> Result<(), ReplyError> {
        let line = mem::take(&mut self.buffer);
        // The tokeniser takes an empty size for zero.
        if !line.first().is_some_and(u8::is_ascii_hexdigit) {
            return Err(ReplyError::Chunk);
        }
        let size = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((used, size))) if used == line.len() => size,
            _ => return Err(ReplyError::Chunk),
        };
        let room = BODY_BYTES_MAX - self.reply.body_len;
        self.stage = match usize::try_from(size) {
            Ok(0) => Stage::Trailer,
            Ok(size) if size <= room => Stage::Chunk(size),
            _ => return Err(ReplyError::BodyTooLarge),
        };
        Ok(())
    }

    /// Collects a head, looking for its end byte by byte, so that pieces of any size give the same result.
    fn head(&mut self, rest: &mut &[u8]) -> Result<(), ReplyError> {
        while let Some((&byte, behind)) = rest.split_first() {
            *rest = behind;
            self.buffer.push(byte);
            if self.buffer.len() <= FOREIGN_BYTES_MAX {
                match self.interim_count {
                    0 => foreign(&self.buffer).map_or(Ok(()), Err)?,
                    // Who has spoken HTTP speaks no other protocol.
                    _ if is_http(&self.buffer) => {}
                    _ => return Err(ReplyError::Head),
                }
            }
            if byte == b'\n' && (self.buffer.ends_with(b"\n\r\n") || self.buffer.ends_with(b"\n\n")) {
                let head = mem::take(&mut self.buffer);
                return self.whole_head(&head);
            }
            if self.buffer.len() >= HEAD_BYTES_MAX {
                return Err(ReplyError::HeadTooLarge);
            }
        }
        Ok(())
    }

    fn whole_head(&mut self, bytes: &[u8]) -> Result<(), ReplyError> {
        let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut space);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ReplyError::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(ReplyError::Version),
            _ => return Err(ReplyError::Head),
        }
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(ReplyError::Head);
        };
        let says = Fields::read(parsed.headers)?;
        match status {
            0..=99 => return Err(ReplyError::Head),
            101 => return Err(ReplyError::Upgrade),
            // The next head follows: nothing of this one counts. HTTP-18
            100..=199 => {
                self.interim_count += 1;
                return if self.interim_count > INTERIM_MAX { Err(ReplyError::InterimFlood) } else { Ok(()) };
            }
            _ => {}
        }
        self.has_head = true;
        self.is_compressed = says.is_compressed;
        self.reply.status = status;
        self.reply.retry_after = says.retry_after;
        // HTTP/1.0 closes unless it says otherwise, HTTP/1.1 the other way round.
        self.reply.keeps_alive = !says.closes && (minor == 1 || says.keeps_alive);
        let has_no_body = self.is_connect || matches!(status, 204 | 304);
        self.stage = match (says.length, says.is_chunked) {
            _ if has_no_body => Stage::Sized(0),
            // RFC 9112, section 6.1: readers differ on how long it is, and that is how requests are smuggled.
            (Some(_), true) => return Err(ReplyError::Length),
            (None, true) if minor == 0 => return Err(ReplyError::Transfer),
            (None, true) => Stage::ChunkSize,
            (Some(length), false) => match usize::try_from(length) {
                Ok(length) if length <= BODY_BYTES_MAX => Stage::Sized(length),
                _ => return Err(ReplyError::BodyTooLarge),
            },
            (None, false) => {
                self.reply.keeps_alive = false;
                Stage::Endless
            }
        };
        Ok(())
    }
}

/// The headers of one head that matter here.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    is_chunked: bool,
    is_compressed: bool,
    closes: bool,
    keeps_alive: bool,
    retry_after: Option<RetryAfter>,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, ReplyError> {
        let mut says = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = header.value.trim_ascii();
            if is("content-length") {
                // Two are refused even if they agree: one of them is not the sender's.
                if says.length.is_some() {
                    return Err(ReplyError::Length);
                }
                says.length = Some(length(value)?);
            } else if is("transfer-encoding") {
                if says.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ReplyError::Transfer);
                }
                says.is_chunked = true;
            } else if is("content-encoding") {
                says.is_compressed |= !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
            } else if is("connection") {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    says.closes |= option.eq_ignore_ascii_case(b"close");
                    says.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("retry-after") && says.retry_after.is_none() {
                says.retry_after = str::from_utf8(value).ok().and_then(RetryAfter::parse);
            }
        }
        Ok(says)
    }
}

/// Digits and nothing else; what is too large for the number is too large for us.
fn length(value: &[u8]) -> Result<u64, ReplyError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ReplyError::Length);
    }
    let text = str::from_utf8(value).map_err(|_| ReplyError::Length)?;
    text.parse().map_err(|_| ReplyError::BodyTooLarge)
}

/// What the first bytes of a stream are, if they do not begin an HTTP/1 reply. The answer does not change as more bytes
/// come.
fn foreign(bytes: &[u8]) -> Option<ReplyError> {
    match *bytes {
        _ if is_http(bytes) => None,
        // RFC 8446, section 5.1: a record of type alert or handshake, of any version.
        [0x15 | 0x16, 0x03, ..] => Some(ReplyError::Tls),
        [0x15 | 0x16] => None,
        // RFC 9113, section 4.1: a frame of less than 64 KiB, which is SETTINGS, or GOAWAY.
        [0, _, _, 0x04 | 0x07, ..] => Some(ReplyError::Http2),
        [0] | [0, _] | [0, _, _] => None,
        [b'P', b'R', b'I', b' ', ..] => Some(ReplyError::Http2),
        [b'P'] | [b'P', b'R'] | [b'P', b'R', b'I'] => None,
        [byte, ..] if byte.is_ascii_graphic() || byte.is_ascii_whitespace() => Some(ReplyError::Headless),
        _ => Some(ReplyError::Garbage),
    }
}

/// Whether the bytes may be the beginning of a status line, as far as they go.
fn is_http(bytes: &[u8]) -> bool {
    b"HTTP/".iter().zip(bytes).all(|(expected, byte)| expected == byte)
}

/// Why a reply could not be read. The text of each is one line, and says what to do where something can be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReplyError {
    /// The connection was closed before a byte of a reply.
    Silent,
    /// The connection was closed in the middle of a reply.
    CutOff,
    /// The peer speaks TLS.
    Tls,
    /// The peer speaks HTTP/2 and nothing else.
    Http2,
    /// Text without a head: HTTP/0.9, or another protocol.
    Headless,
    /// Bytes that are no text.
    Garbage,
    /// Another version than 1.0 or 1.1.
    Version,
    /// The head is not valid HTTP.
    Head,
    /// The head has more than 64 headers or 16 KiB.
    HeadTooLarge,
    /// More than eight interim replies.
    InterimFlood,
    /// The peer switches to another protocol.
    Upgrade,
    /// No length, more than one, or one besides chunks.
    Length,
    /// A transfer coding other than chunked.
    Transfer,
    /// The chunks are not valid HTTP.
    Chunk,
    /// The body has more than 4 MiB (HTTP-05).
    BodyTooLarge,
    /// The reply had ended already.
    Over,
}

impl ReplyError {
    /// Whether the connection broke, and the peer said nothing wrong: the same request is sent again, with back-off
    /// (HTTP-09). Other errors would come again.
    #[must_use]
    pub fn is_disconnect(self) -> bool {
        matches!(self, Self::Silent | Self::CutOff)
    }

    /// Whether the peer speaks another protocol: it cannot have taken a request, unless it has answered one before on
    /// the same connection.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Tls | Self::Http2 | Self::Headless | Self::Garbage)
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "the peer closed the connection without a reply",
            Self::CutOff => "the peer closed the connection in the middle of its reply",
            Self::Tls => "the peer speaks TLS: begin the endpoint with https://",
            Self::Http2 => "the peer speaks HTTP/2, as a gRPC port does: use its port for OTLP over HTTP, usually 4318",
            Self::Headless => "the peer answers with text that is not an HTTP/1 reply: check the endpoint's port",
            Self::Garbage => "the peer answers with bytes that are not an HTTP reply: check the endpoint's port",
            Self::Version => "the reply is of another HTTP version than 1.0 and 1.1",
            Self::Head => "the head of the reply is malformed",
            Self::HeadTooLarge => "the head of the reply has more than 64 headers or 16 KiB",
            Self::InterimFlood => "more than 8 interim replies came before the reply",
            Self::Upgrade => "the peer switches to a protocol that was not asked for: check the endpoint's port",
            Self::Length => "the length of the reply is contradictory or not a number",
            Self::Transfer => "the reply has a transfer coding that was not asked for",
            Self::Chunk => "the chunks of the reply are malformed",
            Self::BodyTooLarge => "the body of the reply has more than 4 MiB",
            Self::Over => "bytes came after the reply",
        })
    }
}

impl std::error::Error for ReplyError {}

/// HTTP-05: the specification's default for the largest reply that is read.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// A partial success or a status is a few hundred bytes; the rest of a body is counted and dropped.
pub const BODY_BYTES_KEPT: usize = 64 << 10;
/// Real heads have a tenth of either; this ends an endless one.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Servers send one, if any.
const INTERIM_MAX: usize = 8;
/// Chunk sizes have a few digits, and extensions are hardly ever used.
const LINE_BYTES_MAX: usize = 1 << 10;
/// How many bytes it takes to tell other protocols apart.
const FOREIGN_BYTES_MAX: usize = 8;

const _: () = assert!(BODY_BYTES_KEPT <= BODY_BYTES_MAX, "what is kept has come");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a stream of bytes comes to, with the connection closed after it if the reply wants that.
    #[derive(Clone, Debug, Eq, PartialEq)]
    enum End {
        Reply { reply: Reply, used: usize },
        Closed(Reply),
        Error(ReplyError),
        CutOff(ReplyError),
    }

    fn read_pieces<'a>(mut reader: ReplyReader, pieces: impl Iterator<Item = &'a [u8]>) -> End {
        let mut used = 0;
        for piece in pieces {
            match reader.feed(piece) {
                Ok(fed) => {
                    used += fed.used;
                    match fed.reply {
                        Some(reply) => return End::Reply { reply, used },
                        None => assert_eq!(fed.used, piece.len(), "all is taken while more is wanted"),
                    }
                }
                Err(error) => return End::Error(error),
            }
        }
        reader.end().map_or_else(End::CutOff, End::Closed)
    }

    fn read(bytes: &[u8]) -> End {
        read_pieces(ReplyReader::new(), std::iter::once(bytes))
    }

    fn reply(bytes: &[u8]) -> Reply {
        match read(bytes) {
            End::Reply { reply, used } => {
                assert_eq!(used, bytes.len());
                reply
            }
            End::Closed(reply) => reply,
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    fn error(bytes: &[u8]) -> ReplyError {
        match read(bytes) {
            End::Error(error) | End::CutOff(error) => error,
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\n";

    fn ok(rest: &str) -> Vec<u8> {
        format!("{OK}{rest}").into_bytes()
    }

    /// Replies and other streams, for the tests that cut them in pieces.
    fn samples() -> Vec<Vec<u8>> {
        let long = "x".repeat(20_000);
        [
            ok("content-length: 5\r\n\r\nhello"),
            ok("content-length: 5\r\n\r\nhello, and surplus"),
            ok("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA;ext=1\r\n, world!!!\r\n0\r\nx: y\r\n\r\nsurplus"),
            ok("transfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n"),
            ok("transfer-encoding: chunked\r\n\r\nffffff\r\n"),
            ok("\r\nuntil the end"),
            ok("content-length: 5\r\n\r\nhel"),
            ok("content-length: 5\r\ncontent-length: 5\r\n\r\nhello"),
            ok("content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"),
            ok(&format!("x: {long}\r\n\r\n")),
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\nlink: x\n\nHTTP/1.1 204 No Content\r\n\r\n"
                .to_vec(),
            b"HTTP/1.0 503 Busy\r\nretry-after: 7\r\nconnection: Keep-Alive\r\ncontent-length: 0\r\n\r\n".to_vec(),
            b"HTTP/1.1 100 Continue\r\n\r\n\x15\x03\x03\0\x02".to_vec(),
            b"\x15\x03\x03\0\x02\x02\x46".to_vec(),
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec(),
            b"<html>Bad Request</html>".to_vec(),
            b"HTTP/2 200\r\n\r\n".to_vec(),
            b"HELO".to_vec(),
            b"HTT".to_vec(),
            b"\x15".to_vec(),
        ]
        .to_vec()
    }

    #[test]
    fn body_ends_by_length_by_chunks_or_with_the_connection() {
        let chunked = "transfer-encoding: Chunked\r\n\r\n2\r\nhe\r\n003;x=\"\\r\"\r\nllo\r\n0\r\ntrailer: 1\r\n\r\n";
        for (head, keeps_alive) in [("content-length: 5\r\n\r\nhello", true), (chunked, true), ("\r\nhello", false)] {
            let reply = reply(&ok(head));
            let read = (reply.status, reply.body.as_slice(), reply.body_len, reply.keeps_alive);
            assert_eq!(read, (200, b"hello".as_slice(), 5, keeps_alive), "{head}");
        }
    }

    #[test]
    fn replies_without_a_body_end_with_their_head() {
        for status in ["204 No Content", "304 Not Modified"] {
            let bytes = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n");
            assert_eq!(reply(bytes.as_bytes()).body_len, 0);
        }
        let tunnel = read_pieces(ReplyReader::for_connect(), std::iter::once(ok("\r\n\x16\x03").as_slice()));
        let End::Reply { reply, used } = tunnel else { panic!("{tunnel:?}") };
        assert_eq!((reply.status, reply.body_len, used), (200, 0, OK.len() + 2));
        let refused = b"HTTP/1.1 407 Who?\r\ncontent-length: 2\r\n\r\nno".as_slice();
        let refused = read_pieces(ReplyReader::for_connect(), std::iter::once(refused));
        assert!(matches!(refused, End::Reply { reply, .. } if reply.status == 407 && reply.body_len == 0));
    }

    /// HTTP-10.
    #[test]
    fn http_10_connection_is_kept_unless_the_peer_says_otherwise() {
        let cases = [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: x , CLOSE\r\n", false),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nconnection: close\r\n", false),
            ("HTTP/1.0 200 OK\r\n", false),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", true),
            ("HTTP/1.1 200\r\n", true),
        ];
        for (head, keeps_alive) in cases {
            let bytes = format!("{head}content-length: 0\r\n\r\n");
            assert_eq!(reply(bytes.as_bytes()).keeps_alive, keeps_alive, "{head}");
        }
    }

    #[test]
    fn bytes_behind_the_reply_are_seen_and_not_taken() {
        let bytes = ok("content-length: 2\r\n\r\nokHTTP/1.1");
        assert!(matches!(read(&bytes), End::Reply { used, .. } if used == bytes.len() - 8));
        let mut reader = ReplyReader::new();
        reader.feed(&ok("content-length: 0\r\n\r\n")).unwrap();
        assert_eq!(reader.feed(b"x"), Err(ReplyError::Over));
        assert_eq!(reader.end(), Err(ReplyError::Over));
    }

    /// HTTP-18: interim replies are skipped, up to a number.
    #[test]
    fn http_18_interim_replies_are_skipped_and_a_flood_is_refused() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(reply(format!("{}{last}", interim.repeat(8)).as_bytes()).status, 200);
        assert_eq!(error(interim.repeat(9).as_bytes()), ReplyError::InterimFlood);
        assert_eq!(error(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), ReplyError::Upgrade);
    }

    #[test]
    fn contradictory_lengths_are_refused() {
        for head in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 5\r\n",
            "content-length: +5\r\n",
            "content-length: -1\r\n",
            "content-length: 0x5\r\n",
            "content-length:\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            assert_eq!(error(&ok(&format!("{head}\r\n"))), ReplyError::Length, "{head}");
        }
        for head in ["gzip, chunked", "gzip", "identity", "chunked, chunked", "chunked\r\ntransfer-encoding: chunked"] {
            assert_eq!(error(&ok(&format!("transfer-encoding: {head}\r\n\r\n"))), ReplyError::Transfer, "{head}");
        }
        let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(error(old), ReplyError::Transfer);
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long = format!("1;{}", "x".repeat(2000));
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1\n",
            "1 1\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "11111111111111111\r\n",
            &long,
        ] {
            assert_eq!(error(&ok(&format!("transfer-encoding: chunked\r\n\r\n{body}"))), ReplyError::Chunk, "{body}");
        }
    }

    #[test]
    fn http_05_body_past_the_limit_is_refused_however_it_is_framed() {
        let size = BODY_BYTES_MAX;
        let full = |head: &str| [ok(head), vec![b'x'; size]].concat();
        let chunk = format!("transfer-encoding: chunked\r\n\r\n{size:x}\r\n");
        assert_eq!(reply(&full(&format!("content-length: {size}\r\n\r\n"))).body_len, size);
        assert_eq!(reply(&[full(&chunk), b"\r\n0\r\n\r\n".to_vec()].concat()).body_len, size);
        assert_eq!(reply(&full("\r\n")).body_len, size);
        // Announced: refused before a byte of it.
        assert_eq!(error(&ok(&format!("content-length: {}\r\n\r\n", size + 1))), ReplyError::BodyTooLarge);
        assert_eq!(error(&ok("content-length: 99999999999999999999999\r\n\r\n")), ReplyError::BodyTooLarge);
        assert_eq!(error(&ok("transfer-encoding: chunked\r\n\r\n400001\r\n")), ReplyError::BodyTooLarge);
        assert_eq!(error(&ok("transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n")), ReplyError::BodyTooLarge);
        assert_eq!(error(&[full(&chunk), b"\r\n1\r\n".to_vec()].concat()), ReplyError::BodyTooLarge);
        assert_eq!(error(&[full("\r\n"), vec![b'x']].concat()), ReplyError::BodyTooLarge);
        assert!(!ReplyError::BodyTooLarge.is_disconnect(), "it is not retried");
    }

    #[test]
    fn framing_without_content_is_bounded_too() {
        let extension = "y".repeat(900);
        let chunk = format!("1;{extension}\r\nx\r\n");
        let bytes = format!("{OK}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(5000));
        assert_eq!(error(bytes.as_bytes()), ReplyError::Chunk);
        let trailers = "a: b\r\n".repeat(BODY_BYTES_MAX / 6 + 1);
        let bytes = format!("{OK}transfer-encoding: chunked\r\n\r\n0\r\n{trailers}");
        assert_eq!(error(bytes.as_bytes()), ReplyError::Chunk);
    }

    #[test]
    fn long_body_is_counted_and_its_beginning_kept() {
        let len = BODY_BYTES_KEPT + 7;
        let bytes = [ok(&format!("content-length: {len}\r\n\r\n")), vec![b'x'; len]].concat();
        let reply = reply(&bytes);
        assert_eq!((reply.body.len(), reply.body_len, reply.is_whole()), (BODY_BYTES_KEPT, len, false));
    }

    #[test]
    fn compressed_body_is_not_kept_and_never_inflated() {
        for coding in ["gzip", "br", "gzip, identity", "GZIP"] {
            let reply = reply(&ok(&format!("content-encoding: {coding}\r\ncontent-length: 5\r\n\r\nhello")));
            assert_eq!((reply.body.len(), reply.body_len, reply.is_whole()), (0, 5, false), "{coding}");
        }
        let plain = reply(&ok("content-encoding: identity\r\ncontent-length: 5\r\n\r\nhello"));
        assert!(plain.is_whole());
    }

    #[test]
    fn endless_head_is_refused_with_bounded_memory() {
        let mut reader = ReplyReader::new();
        reader.feed(OK.as_bytes()).unwrap();
        let line = format!("x: {}\r\n", "y".repeat(1000));
        let refusal = (0..1000).find_map(|_| reader.feed(line.as_bytes()).err());
        assert_eq!(refusal, Some(ReplyError::HeadTooLarge));
        assert!(reader.buffer.capacity() <= 2 * HEAD_BYTES_MAX);
        let many = "a: b\r\n".repeat(65);
        assert_eq!(error(&ok(&format!("{many}\r\n"))), ReplyError::HeadTooLarge);
        assert_eq!(reply(&ok(&format!("{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(63)))).status, 200);
    }

    #[test]
    fn memory_follows_what_came_not_what_was_announced() {
        let mut reader = ReplyReader::new();
        reader.feed(&ok("content-length: 4000000\r\n\r\nx")).unwrap();
        assert!(reader.reply.body.capacity() < 1024);
    }

    #[test]
    fn other_protocols_are_told_apart() {
        let cases: [(&[u8], ReplyError); 16] = [
            (b"\x15\x03\x01\0\x02\x02\x0A", ReplyError::Tls),
            (b"\x16\x03", ReplyError::Tls),
            (b"\0\0\x06\x04\0\0\0\0\0", ReplyError::Http2),
            (b"\0\0\x08\x07", ReplyError::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ReplyError::Http2),
            (b"<html>", ReplyError::Headless),
            (b"HELLO", ReplyError::Headless),
            (b"PONG", ReplyError::Headless),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", ReplyError::Headless),
            (b"\x00\x00\x00\x00", ReplyError::Garbage),
            (b"\xFF\xFE", ReplyError::Garbage),
            (b"\x15", ReplyError::Garbage),
            (b"HTTP/2.0 200 OK\r\n\r\n", ReplyError::Version),
            (b"HTTP/1.1 20\r\n\r\n", ReplyError::Head),
            (b"HTTP/1.1 099 X\r\n\r\n", ReplyError::Head),
            (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", ReplyError::Head),
        ];
        for (bytes, expected) in cases {
            assert_eq!(error(bytes), expected, "{bytes:x?}");
            assert!(!expected.is_disconnect());
            assert!(!expected.to_string().contains('\n'));
        }
    }

    /// HTTP-09: a disconnect is told from a wrong reply, and an unused connection from a broken reply.
    #[test]
    fn http_09_disconnects_are_told_apart_by_how_far_the_reply_was() {
        let mut fresh = ReplyReader::new();
        assert!(!fresh.has_begun());
        assert_eq!(fresh.end(), Err(ReplyError::Silent));
        for bytes in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let mut reader = ReplyReader::new();
            reader.feed(bytes.as_bytes()).unwrap();
            assert!(reader.has_begun());
            assert_eq!(reader.end(), Err(ReplyError::CutOff));
        }
        for rest in ["content-length: 2\r\n\r\nx", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"] {
            assert_eq!(error(&ok(rest)), ReplyError::CutOff);
        }
        assert!(ReplyError::Silent.is_disconnect() && ReplyError::CutOff.is_disconnect());
    }

    /// HTTP-07.
    #[test]
    fn http_07_retry_after_is_read_with_the_reply() {
        let bytes = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(reply(bytes).retry_after, RetryAfter::parse("7"));
        let bytes = b"HTTP/1.1 503 Busy\r\nretry-after: soon\r\nretry-after: 8\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(reply(bytes).retry_after, RetryAfter::parse("8"));
    }

    #[test]
    fn pieces_of_one_byte_give_the_same_result() {
        for sample in samples() {
            assert_eq!(
                read_pieces(ReplyReader::new(), sample.chunks(1)),
                read(&sample),
                "{:?}",
                sample.escape_ascii().to_string()
            );
        }
    }

    /// Pieces of the lengths in `cuts`, over and over.
    fn pieces<'a>(mut bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
        cuts.iter().cycle().map_while(move |&cut| {
            let (piece, rest) = bytes.split_at(cut.min(bytes.len()));
            bytes = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// How a body is framed: by its length, in chunks of these lengths, or by the end of the connection.
    #[derive(Clone, Debug)]
    enum Framing {
        Length,
        Chunks(Vec<usize>),
        End,
    }

    fn framings() -> impl Strategy<Value = Framing> {
        let chunks = prop::collection::vec(1..3000usize, 1..8).prop_map(Framing::Chunks);
        prop_oneof![Just(Framing::Length), chunks, Just(Framing::End)]
    }

    /// The bytes of a reply, with as much that is of no interest as HTTP allows.
    fn rendered(status: u16, body: &[u8], framing: &Framing, interim_count: usize) -> Vec<u8> {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n".repeat(interim_count);
        bytes.extend(format!("HTTP/1.1 {status} Some Reason\r\nServer: x\r\nX-Empty:\r\n").bytes());
        match framing {
            Framing::Length => bytes.extend(format!("Content-Length:  {}\t\r\n\r\n", body.len()).bytes()),
            Framing::End => bytes.extend(b"\r\n"),
            Framing::Chunks(_) => bytes.extend(b"TRANSFER-ENCODING: chunked\r\n\r\n"),
        }
        let Framing::Chunks(lengths) = framing else {
            bytes.extend(body);
            return bytes;
        };
        let mut rest = body;
        for &length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            bytes.extend(format!("{:02X} ;name=\"value\"\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
        bytes
    }

    proptest! {
        #[test]
        fn replies_are_read_as_they_were_meant(
            status in 200..600u16,
            body in prop::collection::vec(any::<u8>(), 0..5000),
            framing in framings(),
            interim_count in 0..=INTERIM_MAX,
            cuts in prop::collection::vec(1..2000usize, 1..10),
        ) {
            let has_body = !matches!(status, 204 | 304);
            let body = if has_body { body } else { vec![] };
            let bytes = rendered(status, &body, &framing, interim_count);
            let is_closed = has_body && matches!(framing, Framing::End);
            let expected = Reply {
                status,
                retry_after: None,
                body_len: body.len(),
                body,
                keeps_alive: !is_closed,
                is_cut_off: false,
            };
            let (reply, used) = match read_pieces(ReplyReader::new(), pieces(&bytes, &cuts)) {
                End::Reply { reply, used } if !is_closed => (reply, used),
                End::Closed(reply) if is_closed => (reply, bytes.len()),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            // The framing of a body that cannot be there comes after the reply.
            prop_assert!(used == bytes.len() || !has_body);
            prop_assert_eq!(reply, expected);
        }

        #[test]
        fn any_cut_gives_the_same_result(
            sample in prop::sample::select(samples()),
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in prop::collection::vec(1..50usize, 1..20),
        ) {
            let mut bytes = sample;
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            prop_assert_eq!(read_pieces(ReplyReader::new(), pieces(&bytes, &cuts)), read(&bytes));
        }
    }
}
