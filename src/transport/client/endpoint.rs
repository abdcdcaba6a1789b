//! Where spans go: the URL of an endpoint, read strictly, so that what is accepted is exactly what will be dialled.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::Uri;

/// The address of a collector, and the path to ask for there.
///
/// `http://host:port/path`, `https://…`, or `unix:///run/otel.sock`: the path of a socket, which may be followed by
/// `#` and the path of the request, `/v1/traces` without one. (A fragment, because a file name may have a colon.)
#[derive(Clone, Eq, PartialEq)]
pub struct Endpoint {
    place: Place,
    /// Path and query of the request.
    path: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Tcp { host: Host, port: u16, is_tls: bool },
    Unix { path: String },
}

impl Endpoint {
    /// Where a collector listens by default: a base, for [`Endpoint::traces_url`] (HTTP-02).
    pub const BASE_DEFAULT: &'static str = "http://localhost:4318";

    /// The endpoint of this URL, as it is: without a path it is `/` (CFG-21), without a port 80 or 443 (CFG-23).
    ///
    /// # Errors
    ///
    /// When the URL is not one of the forms above; see [`EndpointFault`].
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (place, path) = read(url).map_err(|fault| EndpointError::new(url, fault))?;
        Ok(Self { place, path: path.unwrap_or_else(|| UNIX_REQUEST_PATH.to_owned()) })
    }

    /// The URL for traces below this base: the base's path, made to end with `/`, and `v1/traces` (CFG-22). A query
    /// stays after the path. The path of a socket is the file's own, and requests go to `/v1/traces` there.
    ///
    /// # Errors
    ///
    /// When the base is no endpoint itself.
    pub fn traces_url(base: &str) -> Result<String, EndpointError> {
        let (place, path) = read(base).map_err(|fault| EndpointError::new(base, fault))?;
        let path = match (place, path) {
            (Place::Unix { .. }, None) => return Ok(base.to_owned()),
            (_, path) => path.unwrap_or_default(),
        };
        let (start, query) = base.split_at(base.len() - path.find('?').map_or(0, |at| path.len() - at));
        Ok(format!("{}/v1/traces{query}", start.strip_suffix('/').unwrap_or(start)))
    }

    /// Whether the path of traces was appended to a base that had it already.
    #[must_use]
    pub fn is_doubled(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        path.strip_suffix("/v1/traces").is_some_and(|base| base.trim_end_matches('/').ends_with("/v1/traces"))
    }

    /// Whether requests go to `/`, where no collector takes spans.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.path.split('?').next() == Some("/")
    }

    /// Whether the exchange is inside TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.place, Place::Tcp { is_tls: true, .. })
    }

    /// Whether the peer is on this machine: a socket in the file system, a loopback address, or `localhost`.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Tcp { host, .. } => host.is_loopback(),
            Place::Unix { .. } => true,
        }
    }

    /// The host without brackets, lower-case; `localhost` for a socket in the file system, which has none.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host.text(),
            Place::Unix { .. } => "localhost",
        }
    }

    /// The host, if it is an address: there is nothing to resolve.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.place {
            Place::Tcp { host, .. } => host.ip(),
            Place::Unix { .. } => None,
        }
    }

    /// The port; 0 for a socket in the file system, and never otherwise.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Tcp { port, .. } => port,
            Place::Unix { .. } => 0,
        }
    }

    /// Path and query, as in the first line of a request.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The socket in the file system.
    #[must_use]
    pub fn unix_path(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix { path } => Some(path),
        }
    }

    /// What the `Host` header says: host and port, without the scheme's own port.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { host, port, is_tls } if *port != default_port(*is_tls) => format!("{host}:{port}"),
            Place::Tcp { host, .. } => host.to_string(),
            Place::Unix { .. } => "localhost".to_owned(),
        }
    }

    /// Host and port, both always: what a proxy is asked to connect to.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        match &self.place {
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix { .. } => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Endpoint {
    /// The URL, for a log. Some vendors take a key in the query, so a query is shown as `?***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.path.split_at(self.path.find('?').unwrap_or(self.path.len()));
        let query = if query.is_empty() { "" } else { "?***" };
        match &self.place {
            Place::Tcp { is_tls, .. } => {
                let scheme = if *is_tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{path}{query}", self.authority())
            }
            Place::Unix { path: socket } if self.path == UNIX_REQUEST_PATH => write!(f, "unix://{socket}"),
            Place::Unix { path: socket } => write!(f, "unix://{socket}#{path}{query}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// Why a text is no endpoint. It says which text, without credentials; the caller says which setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointError {
    shown: String,
    fault: EndpointFault,
}

impl EndpointError {
    pub(super) fn new(url: &str, fault: EndpointFault) -> Self {
        Self { shown: without_secrets(url), fault }
    }

    /// The text as it was given, without what may be secret.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> EndpointFault {
        self.fault
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.shown, self.fault)
    }
}

impl std::error::Error for EndpointError {}

/// What is wrong with a URL. The text of each says what to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndpointFault {
    /// There is no text.
    Empty,
    /// It is longer than 4 KiB.
    TooLong,
    /// A space, a control character, or a character that is not ASCII.
    Character,
    /// It does not begin with a scheme.
    NoScheme,
    /// The scheme is not one of ours.
    Scheme,
    /// A user name or password, which would end up in logs.
    UserInfo,
    /// A fragment, which has no meaning here.
    Fragment,
    /// No host, or a text that is neither a name nor an address.
    Host,
    /// An IPv6 address with a zone, which names an interface of one machine.
    Zone,
    /// No number from 1 to 65535.
    Port,
    /// The path or the query has characters that it must not have.
    Path,
    /// The path of the socket is not absolute, is a folder, or is longer than 107 bytes.
    UnixPath,
    /// A proxy that is reached by TLS or SOCKS.
    ProxyScheme,
    /// Something follows the host and port of a proxy.
    ProxyPath,
}

impl fmt::Display for EndpointFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty: name a collector, as in http://localhost:4318",
            Self::TooLong => "is longer than 4096 bytes: shorten it, and put what is secret in a header",
            Self::Character => {
                "has a space, a control character or one that is not ASCII: take it out of the host, or write that as xn--…, \
                 and percent-encode it elsewhere"
            }
            Self::NoScheme => "has no scheme: begin it with http://, https:// or unix:///",
            Self::Scheme => "has a scheme that is not known here: use http://, https:// or unix:///",
            Self::UserInfo => "has credentials, which would end up in logs: send them in a header `authorization`",
            Self::Fragment => "has a `#` and a fragment, which mean nothing here: remove them",
            Self::Host => "has no valid host: write a name, an IPv4 address, or an IPv6 address in brackets",
            Self::Zone => {
                "has an IPv6 address with a zone, which is not supported: write an address without a zone, not a \
                 link-local one, or a name"
            }
            Self::Port => "has no valid port: write a number from 1 to 65535, or leave the colon out",
            Self::Path => "has a path that cannot be sent: percent-encode it, and begin it with `/`",
            Self::UnixPath => {
                "has no valid path of a socket: it begins with `/`, as in unix:///run/otel.sock, is not a directory, and has \
                 107 bytes at most"
            }
            Self::ProxyScheme => "is not reached by plain HTTP, and only proxies of http:// are supported: give one of those, name the collector in NO_PROXY, or set `proxy` to `ProxyChoice::Direct`",
            Self::ProxyPath => "has something after the host and port: a proxy has no path, and in its password `/`, `?` and `#` are percent-encoded",
        })
    }
}

/// A host name or an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Host {
    /// Lower-case.
    Name(String),
    /// The address, and its text without brackets.
    Ip(IpAddr, String),
}

impl Host {
    /// The host of an authority, and its port if it has one.
    pub(super) fn with_port(authority: &str) -> Result<(Self, Option<u16>), EndpointFault> {
        let (host, rest) = match authority.strip_prefix('[') {
            Some(inside) => {
                let (address, rest) = inside.split_once(']').ok_or(EndpointFault::Host)?;
                let (address, zone) = address.split_once('%').map_or((address, None), |(one, zone)| (one, Some(zone)));
                let address: Ipv6Addr = address.parse().map_err(|_| EndpointFault::Host)?;
                if zone.is_some() {
                    return Err(EndpointFault::Zone);
                }
                (Self::from(IpAddr::V6(address)), rest)
            }
            None => {
                let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (Self::parse(host)?, rest)
            }
        };
        match rest.strip_prefix(':') {
            None if rest.is_empty() => Ok((host, None)),
            None => Err(EndpointFault::Host),
            Some(port) => Ok((host, Some(parse_port(port)?))),
        }
    }

    /// A name or an IPv4 address. What ends in a number is an address or nothing: resolvers read `127.1` or `0x7f.1` as
    /// one, each in its own way.
    fn parse(text: &str) -> Result<Self, EndpointFault> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::from(IpAddr::V4(address)));
        }
        let name = text.to_ascii_lowercase();
        let bare = name.strip_suffix('.').unwrap_or(&name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let last = bare.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if bare.len() > HOST_BYTES_MAX || is_number || !bare.split('.').all(is_label) {
            return Err(EndpointFault::Host);
        }
        Ok(Self::Name(name))
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Ip(_, text) => text,
        }
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(address, _) => Some(address.to_canonical()),
        }
    }

    fn is_loopback(&self) -> bool {
        match self.ip() {
            // The address that a collector listens at, copied into the endpoint, reaches this machine as well.
            Some(address) => address.is_loopback() || address.is_unspecified(),
            // RFC 6761: names below `localhost` are loopback as well.
            None => {
                let name = self.text().trim_end_matches('.');
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address, address.to_string())
    }
}

impl fmt::Display for Host {
    /// As in a URL: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(_), text) => write!(f, "[{text}]"),
            Self::Name(text) | Self::Ip(_, text) => f.write_str(text),
        }
    }
}

/// The place, and the path and query if there are any: of an `http` URL always, of a socket only after a `#`.
fn read(url: &str) -> Result<(Place, Option<String>), EndpointFault> {
    check_characters(url)?;
    let (scheme, rest) = url.split_once(':').ok_or(EndpointFault::NoScheme)?;
    if scheme.eq_ignore_ascii_case("unix") {
        return read_unix(rest);
    }
    let rest = rest.strip_prefix("//").ok_or(EndpointFault::NoScheme)?;
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(EndpointFault::Scheme),
    };
    let authority = authority_of(rest);
    if rest.contains('#') && !authority.contains('@') {
        return Err(EndpointFault::Fragment);
    }
    // No host or port has an `@`. One may follow the authority, too: a password may have a slash of its own.
    let explained = |fault| if rest.contains('@') { EndpointFault::UserInfo } else { fault };
    let (host, port) = Host::with_port(authority).map_err(explained)?;
    let uri: Uri = url.parse().map_err(|_| EndpointFault::Path)?;
    // The same authority, or the two readers do not mean the same peer.
    if uri.authority().is_none_or(|parsed| parsed.as_str() != authority) {
        return Err(EndpointFault::Host);
    }
    let mut path = uri.path().to_owned();
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let place = Place::Tcp { host, port: port.unwrap_or(default_port(is_tls)), is_tls };
    Ok((place, Some(path)))
}

fn read_unix(rest: &str) -> Result<(Place, Option<String>), EndpointFault> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (socket, request) = match rest.split_once('#') {
        Some((socket, request)) => (socket, Some(request)),
        None => (rest, None),
    };
    if !socket.starts_with('/') || socket.ends_with('/') || socket.len() > UNIX_PATH_BYTES_MAX {
        return Err(EndpointFault::UnixPath);
    }
    if let Some(request) = request {
        let is_path = request.starts_with('/') && !request.contains('#');
        if !is_path || request.parse::<Uri>().is_err() {
            return Err(EndpointFault::Path);
        }
    }
    Ok((Place::Unix { path: socket.to_owned() }, request.map(str::to_owned)))
}

/// What every URL has to obey, before anything is made of it: nothing that could end a line or a header.
pub(super) fn check_characters(url: &str) -> Result<(), EndpointFault> {
    if url.is_empty() {
        return Err(EndpointFault::Empty);
    }
    if url.len() > URL_BYTES_MAX {
        return Err(EndpointFault::TooLong);
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(EndpointFault::Character);
    }
    Ok(())
}

/// The part between the slashes and the path.
pub(super) fn authority_of(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

fn parse_port(text: &str) -> Result<u16, EndpointFault> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|&port| is_number && port != 0);
    port.ok_or(EndpointFault::Port)
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

/// The text for a message: nothing before an `@`, because that may be a password, nothing of a query, nothing that a
/// terminal acts on, and no more than fits a line.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    // The last `@` of the whole text: a password may have slashes and question marks of its own.
    let (scheme, mask, rest) = match url.rfind('@') {
        None => (scheme, "", rest),
        Some(at) if at >= scheme.len() => (scheme, "***", &url[at..]),
        Some(at) => ("", "***", &url[at..]),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?***"),
        None => (rest, ""),
    };
    let shown = [scheme, mask, rest].concat();
    let printable = shown.chars().map(|character| if character.is_ascii_graphic() { character } else { '\u{FFFD}' });
    let mut shown: String = printable.take(SHOWN_CHARS_MAX).collect();
    shown.push_str(query);
    shown
}

/// What a unix endpoint asks for, unless it says otherwise.
const UNIX_REQUEST_PATH: &str = "/v1/traces";
/// Far more than a URL of a collector has; a request's head stays small with it.
const URL_BYTES_MAX: usize = 4096;
/// RFC 1035, section 3.1: a name has 255 bytes on the wire, which is 253 as text.
const HOST_BYTES_MAX: usize = 253;
/// Linux: `sun_path` has 108 bytes, the last of which is zero.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// What a message shows of a wrong URL.
const SHOWN_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(url: &str) -> EndpointFault {
        Endpoint::parse(url).expect_err(url).fault()
    }

    #[test]
    fn cfg_21_url_is_used_as_it_is_and_has_the_root_without_a_path() {
        let cases = [
            ("http://collector:4318/v1/traces", "/v1/traces"),
            ("http://collector:4318", "/"),
            ("http://collector:4318/", "/"),
            ("http://collector:4318/a/b/", "/a/b/"),
            ("http://collector:4318?x=1", "/?x=1"),
            ("http://collector:4318/a%20b?x=1&y=@", "/a%20b?x=1&y=@"),
        ];
        for (url, path) in cases {
            assert_eq!(Endpoint::parse(url).unwrap().path(), path, "{url}");
        }
    }

    #[test]
    fn http_02_default_is_the_collector_on_this_machine() {
        let endpoint = Endpoint::parse(&Endpoint::traces_url(Endpoint::BASE_DEFAULT).unwrap()).unwrap();
        assert_eq!(endpoint.to_string(), "http://localhost:4318/v1/traces");
        assert!(endpoint.is_local() && !endpoint.is_tls());
    }

    #[test]
    fn cfg_22_base_gets_the_path_of_traces_behind_its_own() {
        let cases = [
            ("http://localhost:4318", "/v1/traces"),
            ("http://localhost:4318/", "/v1/traces"),
            ("http://collector/mycollector", "/mycollector/v1/traces"),
            ("http://collector/mycollector/", "/mycollector/v1/traces"),
            ("http://collector/a?key=1", "/a/v1/traces?key=1"),
            ("http://collector?key=1/2", "/v1/traces?key=1/2"),
            ("unix:///run/otel.sock", "/v1/traces"),
            ("http://collector?", "/v1/traces?"),
            ("http://collector/a/?", "/a/v1/traces?"),
            ("unix:///run/otel.sock#/tenant", "/tenant/v1/traces"),
            ("unix:///run/a?b.sock#/tenant?key=1", "/tenant/v1/traces?key=1"),
            ("unix:///run/a?b.sock#/", "/v1/traces"),
            ("unix:/run/a?b.sock", "/v1/traces"),
        ];
        for (base, path) in cases {
            let url = Endpoint::traces_url(base).unwrap();
            assert_eq!(Endpoint::parse(&url).unwrap().path(), path, "{base}");
        }
    }

    #[test]
    fn cfg_23_scheme_host_and_port_are_honoured() {
        let cases = [
            ("http://collector", "collector", 80, false, "collector"),
            ("https://collector", "collector", 443, true, "collector"),
            ("HTTPS://Collector.Example:8443/x", "collector.example", 8443, true, "collector.example:8443"),
            ("http://collector:443", "collector", 443, false, "collector:443"),
            ("http://10.0.0.1:4318", "10.0.0.1", 4318, false, "10.0.0.1:4318"),
            ("https://[2001:DB8::1]:443/", "2001:db8::1", 443, true, "[2001:db8::1]"),
            (
                "http://otel_collector.ns.svc.:4318",
                "otel_collector.ns.svc.",
                4318,
                false,
                "otel_collector.ns.svc.:4318",
            ),
        ];
        for (url, host, port, is_tls, authority) in cases {
            let endpoint = Endpoint::parse(url).unwrap();
            let read = (endpoint.host(), endpoint.port(), endpoint.is_tls(), endpoint.authority());
            assert_eq!(read, (host, port, is_tls, authority.to_owned()), "{url}");
            assert_eq!(endpoint.unix_path(), None);
        }
    }

    #[test]
    fn sockets_have_a_path_and_may_have_another_for_the_request() {
        for url in ["unix:///run/otel.sock", "unix:/run/otel.sock", "UNIX:///run/otel.sock#/v1/traces"] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.unix_path(), endpoint.path()), (Some("/run/otel.sock"), "/v1/traces"), "{url}");
            assert_eq!((endpoint.authority().as_str(), endpoint.is_local()), ("localhost", true));
            assert_eq!(endpoint.to_string(), "unix:///run/otel.sock");
        }
        assert_eq!(Endpoint::parse("unix:///a:b#/custom").unwrap().path(), "/custom");
    }

    #[test]
    fn each_fault_has_its_name() {
        use EndpointFault::{
            Character, Empty, Fragment, Host, NoScheme, Path, Port, Scheme, TooLong, UnixPath, UserInfo, Zone,
        };
        let long_socket = format!("unix:///{}", "x".repeat(107));
        let long_name = format!("http://{}", "abc.".repeat(64));
        let long_label = format!("http://{}", "a".repeat(64));
        let long = format!("http://h/{}", "x".repeat(4096));
        let cases = [
            ("", Empty),
            (long.as_str(), TooLong),
            ("http://h/a b", Character),
            ("http://h/\r\nX: y", Character),
            ("http://h\0", Character),
            ("http://höst", Character),
            ("collector", NoScheme),
            ("localhost:4318", NoScheme),
            ("http:/h", NoScheme),
            ("grpc://h:4317", Scheme),
            ("file:///x", Scheme),
            ("http://user:secret@h", UserInfo),
            ("http://user@h/x", UserInfo),
            ("http://@h/x", UserInfo),
            ("http://h/x#y", Fragment),
            ("http://", Host),
            ("http:///x", Host),
            ("http://:4318", Host),
            ("http://a..b", Host),
            ("http://.", Host),
            ("http://a%20b", Host),
            ("http://a\\b", Host),
            ("http://[::1", Host),
            ("http://[::1]x:80", Host),
            ("http://[v1.x]", Host),
            ("http://[fe80::1%25eth0]", Zone),
            ("https://[fe80::1%eth0]:4318/x", Zone),
            ("http://[fe80::1%]", Zone),
            ("http://[x%1]", Host),
            ("http://127.1", Host),
            ("http://256.1.1.1", Host),
            ("http://1.2.3.0x4", Host),
            (long_name.as_str(), Host),
            (long_label.as_str(), Host),
            ("http://h:0", Port),
            ("http://h:", Port),
            ("http://h:65536", Port),
            ("http://h:+80", Port),
            ("http://::1:4318", Host),
            ("http://h/a<b", Path),
            ("unix://run/otel.sock", UnixPath),
            ("unix:otel.sock", UnixPath),
            ("unix:///", UnixPath),
            ("unix:", UnixPath),
            (long_socket.as_str(), UnixPath),
            ("unix:///a#", Path),
            ("unix:///a#b", Path),
            ("unix:///a#/b#c", Path),
        ];
        for (url, expected) in cases {
            assert_eq!(fault(url), expected, "{url}");
        }
    }

    #[test]
    fn messages_show_no_credentials_and_say_what_to_do() {
        let cases = [
            ("http://user:p?a/s@s@host/x", "`http://***@host/x` has credentials"),
            ("http//user:secret@host", "`***@host` has no scheme"),
            ("htt://host?api_key=secret", "`htt://host?***` has a scheme"),
            ("secret@b://c", "`***@b://c` has a scheme"),
            ("http://h/\u{1b}[31m", "`http://h/\u{FFFD}[31m` has a space"),
        ];
        for (url, beginning) in cases {
            let message = Endpoint::parse(url).unwrap_err().to_string();
            assert!(message.starts_with(beginning), "{message}");
            assert!(message.contains(": "), "{message}");
        }
        let message = Endpoint::parse("http://a b").unwrap_err().to_string();
        assert!(message.contains("take it out of the host"), "a host with `%20` is none either: {message}");
        let long = format!("htt://{}", "x".repeat(1000));
        assert!(Endpoint::parse(&long).unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn query_is_sent_and_not_shown() {
        let endpoint = Endpoint::parse("https://h/x?key=secret").unwrap();
        assert_eq!(endpoint.path(), "/x?key=secret");
        assert_eq!(endpoint.to_string(), "https://h/x?***");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(https://h/x?***)");
    }

    #[test]
    fn loopback_is_known_by_address_and_by_name() {
        for url in
            ["http://127.0.0.1", "http://127.9.9.9", "http://[::1]", "http://[::ffff:127.0.0.1]", "http://LOCALHOST"]
        {
            assert!(Endpoint::parse(url).unwrap().is_local(), "{url}");
        }
        for url in ["http://a.localhost", "http://localhost.", "http://0.0.0.0:4318", "unix:///x"] {
            assert!(Endpoint::parse(url).unwrap().is_local(), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example", "http://notlocalhost", "http://[::2]"] {
            assert!(!Endpoint::parse(url).unwrap().is_local(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_to_the_same(url in "(http|https|unix)://[a-zA-Z0-9:/?#@\\[\\]._%-]{0,24}") {
            if let Ok(endpoint) = Endpoint::parse(&url) {
                let printed = endpoint.to_string();
                let again = Endpoint::parse(&printed).unwrap();
                prop_assert_eq!(again.to_string(), printed);
                if !endpoint.path().contains('?') {
                    prop_assert_eq!(again, endpoint);
                }
            }
        }

        #[test]
        fn any_text_is_answered(url: String) {
            let _ = Endpoint::parse(&url).map_err(|error| error.to_string());
            let _ = Endpoint::traces_url(&url);
        }
    }
}
