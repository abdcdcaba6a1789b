//! The way to a collector: straight, or through a proxy.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::{
    super::{
        driver::Address,
        http::{
            compression::{Coding, Compression},
            head::{RequestHead, Target, UserAgent, connect_head},
            headers::Headers,
        },
    },
    endpoint::Endpoint,
    proxy::Proxy,
};

/// An endpoint, and the proxy in front of it, if there is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// The collector.
    pub endpoint: Endpoint,
    /// The proxy that connections go to instead; a socket in the file system is reached without.
    pub proxy: Option<Proxy>,
}

impl Route {
    /// Where to connect, if that needs no looking up.
    #[must_use]
    pub fn literal(&self) -> Option<Vec<Address>> {
        if let Some(path) = self.endpoint.unix_path() {
            return Some(vec![Address::Unix(PathBuf::from(path))]);
        }
        let ip = self.proxy().map_or_else(|| self.endpoint.ip(), Proxy::ip)?;
        Some(vec![Address::Tcp(SocketAddr::new(ip, self.peer().1))])
    }

    /// Host and port to connect to.
    #[must_use]
    pub fn peer(&self) -> (&str, u16) {
        match self.proxy() {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (self.endpoint.host(), self.endpoint.port()),
        }
    }

    /// The head of requests. A proxy sees the whole URL of an `http` endpoint. To an `https` one it only makes a
    /// tunnel, inside which the head is the same as without a proxy.
    #[must_use]
    pub fn request_head(&self, headers: &Headers, agent: &UserAgent) -> RequestHead {
        let proxy = self.proxy().filter(|_| !self.endpoint.is_tls());
        let authority = self.endpoint.authority();
        let origin = if proxy.is_some() { format!("http://{authority}") } else { String::new() };
        let form = format!("{origin}{}", self.endpoint.path());
        RequestHead::new(
            &Target { form, authority, proxy_authorization: proxy.and_then(Proxy::authorization) },
            headers,
            agent,
        )
    }

    /// What the proxy is asked before the endpoint can be spoken to, where a tunnel is needed: it must not see what is
    /// inside TLS.
    #[must_use]
    pub fn tunnel(&self, agent: &UserAgent) -> Option<Vec<u8>> {
        let proxy = self.proxy().filter(|_| self.endpoint.is_tls())?;
        Some(connect_head(&self.endpoint.host_and_port(), proxy.authorization(), agent))
    }

    /// How a body of this length is coded on this route.
    #[must_use]
    pub fn coding(&self, compression: Compression, body_len: usize) -> Coding {
        let is_worth_it = !self.endpoint.is_local() && body_len >= COMPRESSED_BYTES_MIN;
        compression.coding(if is_worth_it { Coding::Gzip } else { Coding::Identity })
    }

    fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| self.endpoint.unix_path().is_none())
    }
}

impl fmt::Display for Route {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        match self.proxy() {
            Some(proxy) => write!(f, " (through the proxy {}:{})", proxy.host(), proxy.port()),
            None => Ok(()),
        }
    }
}

/// Small bodies hardly shrink, and cost a collector more than they save.
const COMPRESSED_BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(endpoint: &str, proxy: Option<&str>) -> Route {
        let proxy = proxy.map(|url| Proxy::parse(url).unwrap());
        Route { endpoint: Endpoint::parse(endpoint).unwrap(), proxy }
    }

    fn head(route: &Route) -> String {
        let mut out = vec![];
        route.request_head(&Headers::default(), &UserAgent::default()).write(17, Coding::Identity, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn proxy_sees_the_whole_url_of_http_and_only_a_tunnel_of_https() {
        let proxy = Some("http://user:pw@proxy:3128");
        let plain = route("http://h:4318/v1/traces", proxy);
        let text = head(&plain);
        assert!(text.starts_with("POST http://h:4318/v1/traces HTTP/1.1\r\nhost: h:4318\r\n"), "{text}");
        assert!(text.contains("\r\nproxy-authorization: Basic dXNlcjpwdw==\r\n"), "{text}");
        assert_eq!(plain.tunnel(&UserAgent::default()), None);

        let tls = route("https://h/v1/traces", proxy);
        let text = head(&tls);
        assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\nhost: h\r\n"), "{text}");
        assert!(!text.contains("proxy-"), "the credentials are for the proxy alone: {text}");

        let connect = tls.tunnel(&UserAgent::default()).unwrap();
        let expected = format!(
            "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\nuser-agent: {}\r\nproxy-authorization: Basic dXNlcjpwdw==\r\n\r\n",
            UserAgent::EXPORTER
        );
        assert_eq!(String::from_utf8(connect).unwrap(), expected);
        let v6 = route("https://[::2]:9/", proxy).tunnel(&UserAgent::default()).unwrap();
        assert!(v6.starts_with(b"CONNECT [::2]:9 HTTP/1.1\r\nhost: [::2]:9\r\n"));
    }

    /// It is for the proxy, and a socket in the file system is none.
    #[test]
    fn nothing_of_a_proxy_reaches_a_unix_socket() {
        let socket = route("unix:///run/otel.sock", Some("http://user:pw@proxy:3128"));
        assert_eq!(head(&socket), head(&route("unix:///run/otel.sock", None)));
        assert_eq!(socket.to_string(), "unix:///run/otel.sock");
    }

    /// An address never goes to the resolver; a proxy's name does, whatever the endpoint is.
    #[test]
    fn addresses_of_the_peer_need_no_looking_up() {
        let literal = |endpoint, proxy| route(endpoint, proxy).literal();
        let tcp = |address: &str| Some(vec![Address::Tcp(address.parse().unwrap())]);
        assert_eq!(literal("http://192.0.2.1:4318", None), tcp("192.0.2.1:4318"));
        assert_eq!(literal("https://[2001:db8::1]", None), tcp("[2001:db8::1]:443"));
        assert_eq!(literal("http://collector:4318", Some("http://192.0.2.9:3128")), tcp("192.0.2.9:3128"));
        assert_eq!(literal("https://collector", Some("http://[2001:db8::9]:3128")), tcp("[2001:db8::9]:3128"));
        assert_eq!(literal("http://192.0.2.1:4318", Some("http://proxy:3128")), None);
        assert_eq!(literal("http://collector:4318", None), None);
        let socket = literal("unix:///run/otel.sock", None);
        assert_eq!(socket, Some(vec![Address::Unix("/run/otel.sock".into())]));
    }

    #[test]
    fn without_a_proxy_the_head_has_the_path_alone() {
        let text = head(&route("http://h:4318/v1/traces?x=1", None));
        assert!(text.starts_with("POST /v1/traces?x=1 HTTP/1.1\r\nhost: h:4318\r\n"), "{text}");
    }

    #[test]
    fn auto_compresses_what_leaves_the_machine_and_is_not_small() {
        let far = route("https://collector", None);
        assert_eq!(far.coding(Compression::Auto, 1024), Coding::Gzip);
        assert_eq!(far.coding(Compression::Auto, 1023), Coding::Identity);
        for near in ["http://localhost:4318", "http://127.0.0.1", "http://[::1]", "unix:///run/otel.sock"] {
            let near = route(near, None);
            assert_eq!(near.coding(Compression::Auto, 1 << 20), Coding::Identity);
            assert_eq!(near.coding(Compression::Gzip, 0), Coding::Gzip);
        }
        assert_eq!(far.coding(Compression::None, 1 << 20), Coding::Identity);
    }
}
