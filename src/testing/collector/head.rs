//! The head of a request: what it asks for, how long its body is, and why it is refused.

/// What a collector has to know before it reads the body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// What was asked for.
    pub path: String,
    /// The headers as they came, in their order.
    pub headers: Vec<(String, String)>,
    /// Bytes that follow the head.
    pub body_bytes: usize,
    /// How the body is packed.
    pub encoding: Encoding,
    /// Whether the client ends the connection with this request.
    pub ending: Ending,
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878. Unpacked where the feature `zstd` is on, and refused elsewhere.
    Zstd,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It waits for the next request.
    KeepAlive,
    /// It ends after the reply.
    Close,
}

/// Why a request is not taken; each is a status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Not HTTP/1.1, or a body that is not what its headers say, or not protobuf.
    Malformed,
    /// Traces go to a path that ends in `/v1/traces`.
    NoSuchPath,
    /// Traces are posted.
    NotPost,
    /// The body must come with its length.
    NoLength,
    /// The body, packed or unpacked, is above the collector's limit.
    TooLarge,
    /// The body is another type than protobuf, or packed in a way that is not known here.
    NotProtobuf,
    /// The head is above 64 KiB.
    HeadTooLarge,
}

/// As much as the strictest of the usual proxies, times eight.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

impl Refusal {
    /// The whole reply. The connection ends after it, because what follows on it is not known.
    pub fn reply(self) -> Vec<u8> {
        let status = match self {
            Self::Malformed => "400 Bad Request",
            Self::NoSuchPath => "404 Not Found",
            Self::NotPost => "405 Method Not Allowed",
            Self::NoLength => "411 Length Required",
            Self::TooLarge => "413 Content Too Large",
            Self::NotProtobuf => "415 Unsupported Media Type",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    }
}

/// Where the head ends, its empty line included.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    let is_end = |window: &[u8]| window == b"\r\n\r\n";
    bytes.windows(4).position(is_end).map(|at| at + 4)
}

impl Head {
    /// Reads a head whose body may have at most `body_bytes_max` bytes.
    #[doc(hidden)]
    pub fn parse(bytes: &[u8], body_bytes_max: usize) -> Result<Self, Refusal> {
        let text = str::from_utf8(bytes).map_err(|_| Refusal::Malformed)?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::Malformed);
        };
        let headers: Option<Vec<(String, String)>> = lines.map(header).collect();
        let headers = headers.ok_or(Refusal::Malformed)?;
        if method != "POST" {
            return Err(Refusal::NotPost);
        }
        if !path.ends_with("/v1/traces") {
            return Err(Refusal::NoSuchPath);
        }
        if only(&headers, "content-type")? != Some("application/x-protobuf") {
            return Err(Refusal::NotProtobuf);
        }
        let encoding = match only(&headers, "content-encoding")? {
            None | Some("identity") => Encoding::Identity,
            Some("gzip") => Encoding::Gzip,
            Some("zstd") => Encoding::Zstd,
            Some(_) => return Err(Refusal::NotProtobuf),
        };
        let (None, Some(length)) = (only(&headers, "transfer-encoding")?, only(&headers, "content-length")?) else {
            return Err(Refusal::NoLength);
        };
        if length.is_empty() || length.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Err(Refusal::Malformed);
        }
        // What does not fit into a `usize` is too large as well.
        let length = length.parse().ok().filter(|length| *length <= body_bytes_max);
        let body_bytes = length.ok_or(Refusal::TooLarge)?;
        let is_last = only(&headers, "connection")?.is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let ending = if is_last { Ending::Close } else { Ending::KeepAlive };
        Ok(Self { path: path.to_owned(), headers, body_bytes, encoding, ending })
    }
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    // A space before the colon, or at the start of a folded line, is how requests are smuggled.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// The value of a header that may come once at most.
fn only<'a>(headers: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::Malformed),
    }
}
