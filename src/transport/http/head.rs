//! The head of a request, rendered once per endpoint: only the length and the coding of the body differ.

use std::fmt;

use super::{
    compression::Coding,
    headers::{HeaderError, HeaderFault, Headers},
};

/// Name and version of the exporter, as each request has them (HTTP-16).
///
/// The specification's pattern is `OTel-OTLP-Exporter-<Lang>/<ver>`, and RFC 9110, section 10.1.5, wants a product and
/// its version. The plain `OTel-OTLP-Exporter-Rust` is the OpenTelemetry project's own exporter, so ours adds its name
/// to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserAgent(String);

impl UserAgent {
    /// The exporter alone.
    pub const EXPORTER: &'static str = concat!("OTel-OTLP-Exporter-Rust-spanring/", env!("CARGO_PKG_VERSION"));

    /// A product of the user in front of the exporter, as a distribution may have it: `shop/1.2`.
    ///
    /// # Errors
    ///
    /// When the product has characters other than visible ASCII and spaces.
    pub fn of(product: &str) -> Result<Self, HeaderError> {
        let is_sendable = product.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_sendable || product.len() > PRODUCT_BYTES_MAX {
            return Err(HeaderError::new("user-agent", HeaderFault::Value));
        }
        Ok(Self(format!("{} {}", product.trim(), Self::EXPORTER).trim_start().to_owned()))
    }
}

impl Default for UserAgent {
    fn default() -> Self {
        Self(Self::EXPORTER.to_owned())
    }
}

/// The target of a request, as its head names it.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The path and query, or the whole URL where a proxy has to know it. RFC 9112, section 3.2.
    pub form: String,
    /// Host and port, for the header `host`.
    pub authority: String,
    /// Credentials for the proxy that reads this head.
    pub proxy_authorization: Option<&'a str>,
}

/// Everything of a request in front of the body, but for its length and coding.
#[derive(Clone, Eq, PartialEq)]
pub struct RequestHead(Vec<u8>);

impl RequestHead {
    /// The head of requests to this target: a path, or for a proxy the whole URL. A `user-agent` among `headers` takes
    /// the place of ours.
    #[must_use]
    pub fn new(target: &Target<'_>, headers: &Headers, agent: &UserAgent) -> Self {
        let Target { form, authority, proxy_authorization } = target;
        // HTTP-01: POST, HTTP/1.1, and the type of a binary protobuf body.
        let mut head = format!("POST {form} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
        field(&mut head, "content-type", b"application/x-protobuf");
        if headers.iter().all(|(name, _)| name != "user-agent") {
            field(&mut head, "user-agent", agent.0.as_bytes());
        }
        if let Some(credentials) = proxy_authorization {
            field(&mut head, "proxy-authorization", credentials.as_bytes());
        }
        for (name, value) in headers.iter() {
            field(&mut head, name, value);
        }
        Self(head)
    }

    /// Most bytes that [`RequestHead::write`] appends.
    #[must_use]
    pub fn len_max(&self) -> usize {
        self.0.len() + LENGTH_AND_CODING_MAX
    }

    /// Appends the head of a request whose body has `body_len` bytes as it is sent. The length is always given: a body
    /// is whole before it is sent, so there is no need for chunks.
    pub fn write(&self, body_len: usize, coding: Coding, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        if let Some(name) = coding.name() {
            field(out, "content-encoding", name.as_bytes()); // HTTP-03
        }
        field(out, "content-length", body_len.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Debug for RequestHead {
    /// The length alone: the headers are credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHead({} bytes)", self.0.len())
    }
}

/// Asks a proxy for a tunnel to this host and port. RFC 9110, section 9.3.6: no body, and none in a 2xx reply.
#[must_use]
pub(crate) fn connect_head(host_and_port: &str, proxy_authorization: Option<&str>, agent: &UserAgent) -> Vec<u8> {
    let mut head = format!("CONNECT {host_and_port} HTTP/1.1\r\nhost: {host_and_port}\r\n").into_bytes();
    field(&mut head, "user-agent", agent.0.as_bytes());
    if let Some(credentials) = proxy_authorization {
        field(&mut head, "proxy-authorization", credentials.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Bytes of the two lines that differ, with a length of twenty digits, and of the empty line after them.
const LENGTH_AND_CODING_MAX: usize = "content-encoding: gzip\r\ncontent-length: \r\n\r\n".len() + 20;
/// Enough for a product and its version.
const PRODUCT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Headers::new(&owned).unwrap()
    }

    fn target(form: &str) -> Target<'static> {
        Target { form: form.to_owned(), authority: "collector:4318".to_owned(), proxy_authorization: None }
    }

    fn rendered(head: &RequestHead, coding: Coding) -> String {
        let mut out = vec![];
        head.write(17, coding, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn agent_line() -> String {
        format!("user-agent: OTel-OTLP-Exporter-Rust-spanring/{}\r\n", env!("CARGO_PKG_VERSION"))
    }

    /// HTTP-01, HTTP-03, HTTP-16: method, version, type, coding, user agent; the length always.
    #[test]
    fn http_01_request_is_a_post_of_protobuf_with_a_length() {
        let head = RequestHead::new(&target("/v1/traces?x=1"), &headers(&[("api-key", "7")]), &UserAgent::default());
        let beginning = format!(
            "POST /v1/traces?x=1 HTTP/1.1\r\nhost: collector:4318\r\ncontent-type: application/x-protobuf\r\n{}api-key: 7\r\n",
            agent_line()
        );
        assert_eq!(rendered(&head, Coding::Identity), format!("{beginning}content-length: 17\r\n\r\n"));
        let coded = format!("{beginning}content-encoding: gzip\r\ncontent-length: 17\r\n\r\n");
        assert_eq!(rendered(&head, Coding::Gzip), coded);
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut headers);
        assert_eq!(request.parse(coded.as_bytes()), Ok(httparse::Status::Complete(coded.len())));
        assert_eq!(request.headers.len(), 6);
    }

    #[test]
    fn http_16_user_agent_takes_a_product_in_front_or_gives_way() {
        let target = target("/");
        let agent = UserAgent::of("shop/1.2").unwrap();
        let head = RequestHead::new(&target, &Headers::default(), &agent);
        assert!(
            rendered(&head, Coding::Identity).contains("\r\nuser-agent: shop/1.2 OTel-OTLP-Exporter-Rust-spanring/")
        );
        let head = RequestHead::new(&target, &headers(&[("User-Agent", "mine")]), &agent);
        let text = rendered(&head, Coding::Identity);
        assert_eq!(text.matches("user-agent").count(), 1);
        assert!(text.contains("\r\nuser-agent: mine\r\n"));
        assert_eq!(UserAgent::of(" "), Ok(UserAgent::default()));
        for product in ["a\r\nb", "a\tb", "ä", &"x".repeat(300)] {
            assert!(UserAgent::of(product).is_err());
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let head = RequestHead::new(&target("/"), &headers(&[("api-key", "secret")]), &UserAgent::default());
        assert!(format!("{head:?}").starts_with("RequestHead("));
        assert!(!format!("{head:?}").contains("secret"));
    }
}
