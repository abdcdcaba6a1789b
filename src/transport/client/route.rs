//! The way to a collector: straight, or through a proxy.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::{
    super::{
        driver::Address,
        http::head::{UserAgent, connect_head},
    },
    endpoint::Endpoint,
    proxy::Proxy,
};

/// An endpoint, and who stands in front of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// The collector.
    pub endpoint: Endpoint,
    /// The proxy that connections go to instead.
    pub proxy: Option<Proxy>,
}

impl Route {
    /// Where to connect, if that needs no looking up.
    #[must_use]
    pub fn literal(&self) -> Option<Vec<Address>> {
        if let Some(path) = self.endpoint.unix_path() {
            return Some(vec![Address::Unix(PathBuf::from(path))]);
        }
        let ip = self.proxy.as_ref().map_or_else(|| self.endpoint.ip(), Proxy::ip)?;
        Some(vec![Address::Tcp(SocketAddr::new(ip, self.peer().1))])
    }

    /// Host and port to connect to.
    #[must_use]
    pub fn peer(&self) -> (&str, u16) {
        match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (self.endpoint.host(), self.endpoint.port()),
        }
    }

    /// What is said to the proxy before the endpoint can be spoken to, where a tunnel is needed: it must not see what is
    /// inside TLS.
    #[must_use]
    pub fn tunnel(&self, agent: &UserAgent) -> Option<Vec<u8>> {
        let proxy = self.proxy.as_ref().filter(|_| self.endpoint.is_tls())?;
        Some(connect_head(&self.endpoint, proxy, agent))
    }
}

impl fmt::Display for Route {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        match &self.proxy {
            Some(proxy) => write!(f, " (through the proxy {}:{})", proxy.host(), proxy.port()),
            None => Ok(()),
        }
    }
}
