//! The proxy for an endpoint, as the environment of the process names it.

use std::{fmt, net::IpAddr};

use percent_encoding::percent_decode_str;

use super::endpoint::{Endpoint, EndpointError, EndpointFault, Host, authority_of, check_characters};

/// An HTTP proxy: where it listens, and our credentials for it.
#[derive(Clone, Eq, PartialEq)]
pub struct Proxy {
    host: Host,
    port: u16,
    authorization: Option<String>,
}

impl Proxy {
    /// The proxy for `endpoint`: `http_proxy` or `https_proxy`, else `all_proxy`, in lower or upper case, unless
    /// `no_proxy` names the endpoint. An empty variable is an unset one. Nothing on this machine is reached through a
    /// proxy.
    ///
    /// # Errors
    ///
    /// When the variable is no address of an HTTP proxy.
    pub fn choose(
        endpoint: &Endpoint,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ProxyError> {
        let read = |name: &'static str| environment(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        if endpoint.is_local() {
            return Ok(None);
        }
        let excluded = read("no_proxy").or_else(|| read("NO_PROXY"));
        if excluded.is_some_and(|(_, list)| excludes(&list, endpoint)) {
            return Ok(None);
        }
        let own = if endpoint.is_tls() {
            read("https_proxy").or_else(|| read("HTTPS_PROXY"))
        } else {
            // A CGI program finds the header `Proxy` of whoever calls it in HTTP_PROXY (CVE-2016-5385).
            let is_cgi = environment("REQUEST_METHOD").is_some();
            read("http_proxy").or_else(|| read("HTTP_PROXY").filter(|_| !is_cgi))
        };
        let Some((variable, url)) = own.or_else(|| read("all_proxy")).or_else(|| read("ALL_PROXY")) else {
            return Ok(None);
        };
        Self::parse(&url).map(Some).map_err(|error| ProxyError { variable, error })
    }

    /// The proxy of this URL: `http://user:password@host:port`, of which the scheme, the credentials and the port (80)
    /// may be missing.
    ///
    /// # Errors
    ///
    /// When it is not one; proxies that are reached by TLS or SOCKS are not supported.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        Self::read(url).map_err(|fault| EndpointError::new(url, fault))
    }

    /// The host without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.text()
    }

    /// The host, if it is an address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.ip()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Proxy-Authorization`: RFC 7617, Basic.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    fn read(url: &str) -> Result<Self, EndpointFault> {
        check_characters(url)?;
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(EndpointFault::ProxyScheme),
        };
        let authority = authority_of(rest);
        if !matches!(&rest[authority.len()..], "" | "/") {
            return Err(EndpointFault::ProxyPath);
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (host, port) = Host::with_port(place)?;
        let authorization = credentials.map(|credentials| {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let mut plain: Vec<u8> = percent_decode_str(user).collect();
            plain.push(b':');
            plain.extend(percent_decode_str(password));
            format!("Basic {}", base64(&plain))
        });
        Ok(Self { host, port: port.unwrap_or(80), authorization })
    }
}

impl fmt::Display for Proxy {
    /// The address, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The variables that [`Proxy::choose`] reads. Which wins is said there.
pub const VARIABLES: [&str; 8] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"];

/// A variable of the environment that is no address of a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyError {
    variable: &'static str,
    error: EndpointError,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.error)
    }
}

impl std::error::Error for ProxyError {}

/// Whether a list such as `example.com,.internal,10.0.0.0/8,[::2]:4318,*` has the endpoint. A name matches itself and
/// all names below it, with or without a dot or `*.` in front. What is no name, address or network matches nothing.
fn excludes(list: &str, endpoint: &Endpoint) -> bool {
    let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    let name = endpoint.host().trim_end_matches('.');
    entries.into_iter().any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return endpoint.ip().is_some_and(|address| is_within(address, network, bits));
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            return endpoint.ip() == Some(address.to_canonical());
        }
        let entry = entry.strip_prefix('*').unwrap_or(entry);
        let Ok((host, port)) = Host::with_port(entry.strip_prefix('.').unwrap_or(entry)) else {
            return false;
        };
        if port.is_some_and(|port| port != endpoint.port()) {
            return false;
        }
        match host.ip() {
            Some(address) => endpoint.ip() == Some(address),
            None => {
                let domain = host.text().trim_end_matches('.');
                name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
            }
        }
    })
}

/// Whether `address` lies in the network whose first `bits` bits are those of `network`.
fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let (width, difference) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (32, u128::from(address.to_bits() ^ network.to_bits())),
        (IpAddr::V6(address), IpAddr::V6(network)) => (128, address.to_bits() ^ network.to_bits()),
        _ => return false,
    };
    bits <= width && difference.checked_shr(width - bits).unwrap_or(0) == 0
}

/// RFC 4648, section 4. A crate for these lines would cost more than it saves; the RFC's vectors are the test.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 0x3F;
            text.push(if place <= group.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet};

    use super::*;

    fn chosen(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        let endpoint = Endpoint::parse(url).unwrap();
        let read =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxy::choose(&endpoint, read).unwrap().map(|proxy| proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_and_both_have_a_common_one() {
        let environment = [("http_proxy", "http://a:1"), ("HTTPS_PROXY", "b:2"), ("all_proxy", "c")];
        assert_eq!(chosen("http://h", &environment).as_deref(), Some("http://a:1"));
        assert_eq!(chosen("https://h", &environment).as_deref(), Some("http://b:2"));
        assert_eq!(chosen("https://h", &environment[2..]).as_deref(), Some("http://c:80"));
        assert_eq!(chosen("https://h", &environment[..1]), None);
        let both = [("HTTP_PROXY", "upper"), ("http_proxy", "lower")];
        assert_eq!(chosen("http://h", &both).as_deref(), Some("http://lower:80"));
        let empty = [("http_proxy", ""), ("ALL_PROXY", "c")];
        assert_eq!(chosen("http://h", &empty).as_deref(), Some("http://c:80"));
    }

    #[test]
    fn header_of_a_cgi_caller_is_no_proxy() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "evil:1")];
        assert_eq!(chosen("http://h", &cgi), None);
        assert_eq!(chosen("http://h", &cgi[1..]).as_deref(), Some("http://evil:1"));
        let lower = [("REQUEST_METHOD", ""), ("http_proxy", "good:1"), ("HTTP_PROXY", "evil:1")];
        assert_eq!(chosen("http://h", &lower).as_deref(), Some("http://good:1"));
    }

    #[test]
    fn list_of_variables_is_what_is_read() {
        let asked = RefCell::new(BTreeSet::new());
        for url in ["http://h", "https://h"] {
            let none = Proxy::choose(&Endpoint::parse(url).unwrap(), |name| {
                asked.borrow_mut().insert(name.to_owned());
                None
            });
            assert_eq!(none, Ok(None));
        }
        let listed = VARIABLES.into_iter().chain(["REQUEST_METHOD"]).map(str::to_owned).collect();
        assert_eq!(asked.into_inner(), listed);
    }

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        for url in ["http://localhost:4318", "http://127.0.0.1", "http://[::1]:4318", "unix:///run/otel.sock"] {
            assert_eq!(chosen(url, &[("all_proxy", "p:1")]), None, "{url}");
        }
    }

    #[test]
    fn exclusions_match_names_addresses_networks_and_ports() {
        let cases = [
            ("http://h.example.com", "example.com", true),
            ("http://example.com", ".example.com", true),
            ("http://a.b.Example.com.", "*.EXAMPLE.com", true),
            ("http://notexample.com", "example.com", false),
            ("http://example.com.evil", "example.com", false),
            ("http://h", "*", true),
            ("http://h", "other, h", true),
            ("http://h", "other h", true),
            ("http://h:4318", "h:4318", true),
            ("http://h:4318", "h:4317", false),
            ("http://10.1.2.3", "10.0.0.0/8", true),
            ("http://11.1.2.3", "10.0.0.0/8", false),
            ("http://11.1.2.3", "10.0.0.0/0", true),
            ("http://10.1.2.3", "10.1.2.3/32", true),
            ("http://10.1.2.3", "10.1.2.2/32", false),
            ("http://10.1.2.3", "10.0.0.0/33", false),
            ("http://[2001:db8::7]", "2001:db8::/32", true),
            ("http://[2001:db8::7]", "::/0", true),
            ("http://[2001:db8::7]", "0.0.0.0/0", false),
            ("http://10.1.2.3", "10.1.2.3", true),
            ("http://10.1.2.3:4318", "10.1.2.3:4318", true),
            ("http://[2001:db8::7]", "2001:db8:0::7", true),
            ("http://[2001:db8::7]:4318", "[2001:db8::7]:4318", true),
            ("http://h", "", false),
            ("http://h", ",,/,:,.,[", false),
        ];
        for (url, list, is_excluded) in cases {
            let environment = [("no_proxy", list), ("http_proxy", "p:1")];
            assert_eq!(chosen(url, &environment).is_none(), is_excluded, "{url} in {list}");
        }
    }

    #[test]
    fn credentials_are_decoded_sent_and_never_shown() {
        let proxy = Proxy::parse("http://user:p%40ss%3A@proxy:3128/").unwrap();
        assert_eq!(proxy.authorization(), Some("Basic dXNlcjpwQHNzOg=="));
        assert_eq!((proxy.host(), proxy.port(), proxy.ip()), ("proxy", 3128, None));
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy:3128 Proxy(http://proxy:3128)");
        assert_eq!(Proxy::parse("user@10.0.0.1").unwrap().authorization(), Some("Basic dXNlcjo="));
    }

    #[test]
    fn other_kinds_of_proxies_are_refused_by_the_name_of_their_variable() {
        let cases = ["https://p", "socks5://p", "http://p/path", "http://p?x", "p:0", "a b", "http://user:pw@"];
        for url in cases {
            let endpoint = Endpoint::parse("http://h").unwrap();
            let error = Proxy::choose(&endpoint, |name| (name == "http_proxy").then(|| url.to_owned())).unwrap_err();
            assert!(error.to_string().starts_with("http_proxy: `"), "{error}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xBF]), "+/+/");
    }
}
