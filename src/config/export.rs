//! Where spans go, and how: the part of the configuration that concerns the export.

use std::{env, fmt, path::PathBuf, time::Duration};

use crate::{
    report::DiagnosticSink,
    transport::{
        client::{
            endpoint::Endpoint,
            proxy::{Proxy, ProxyError},
            settings::CONNECTIONS_MAX,
        },
        driver::DriverChoice,
        http::compression::Compression,
    },
};

/// Where spans go, and how. Write `Export { timeout, ..Export::to("http://collector:4318") }`, so that fields may be
/// added.
#[derive(Clone)]
pub struct Export {
    /// The URL that requests are posted to, as it is: `http://host:port/v1/traces`, `https://…`, or
    /// `unix:///run/otel.sock`.
    pub endpoint: String,
    /// Headers of every request: names and values. Values are never shown.
    pub headers: Vec<(String, String)>,
    /// Time for all attempts of one request together, while the collector can be reached and asks for no pause; zero is
    /// without limit. 10 s. One attempt may use all of it: while its connection lives nothing is sent again, so that a
    /// slow collector gets everything once. Linux ends a connection whose peer acknowledges nothing, or has no room,
    /// for as long (`TCP_USER_TIMEOUT`, from 4 to 20 s).
    pub timeout: Duration,
    /// How long a peer may leave a request or a reply half-way, without taking or sending a byte, before the connection
    /// is given up; zero is without limit. 5 s. It does not count while a whole request waits for its answer.
    pub stall_timeout: Duration,
    /// The longest pause that a collector may ask for by `Retry-After`. 30 s. Nothing is sent before a pause is over,
    /// and it does not count towards `timeout`: spans wait in the memory, as they do for a collector that is away.
    pub retry_after_max: Duration,
    /// Whether bodies are compressed. On its own the engine does so where bytes leave the machine.
    pub compression: Compression,
    /// Connections at a time, 1 to 16; the first is opened at the first request, others while requests queue up. 4.
    pub connections_max: usize,
    /// Spans of one request. 2048: the specification's default, 512, takes half as much again of the processor, or
    /// more.
    pub batch_spans_max: usize,
    /// Bytes of one request before compression, at least 96 KiB. 1 MiB, and less where the `memory_budget` is small:
    /// all requests on their way take an eighth of it. What a collector calls too large is split, and the limit learnt;
    /// it doubles again once 256 requests at that limit were taken, or more where that was tried in vain.
    pub request_bytes_max: usize,
    /// The longest that a span waits for others to share a request with: the age at which a batch is sent although it
    /// is not full. 5 s; half a second for the first request to a collector on this machine, so that one that is not
    /// there is reported early. ([`Load::drain_interval`](crate::Load::drain_interval) is another time: that between
    /// two visits of the drain, which takes spans out of the lanes.)
    pub schedule_delay: Duration,
    /// How long dropping the engine waits for what has ended to be delivered. 5 s; a second at most if the collector is
    /// on this machine and nothing listens there.
    pub shutdown_timeout: Duration,
    /// The I/O driver.
    pub driver: DriverChoice,
    /// The proxy for endpoints that are not on this machine: the environment's, none, or this one.
    pub proxy: ProxyChoice,
    /// File with the certificates (PEM) that a server's is checked against, instead of the system's. This and the next
    /// two need an `https` endpoint. With another they are an error, or a warning where they come from the environment.
    /// Each is a regular file, of 4 MiB at most.
    pub certificate: Option<PathBuf>,
    /// File with the certificate (PEM) that identifies us; with `client_key`, or not at all.
    pub client_certificate: Option<PathBuf>,
    /// File with the key (PEM) of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// Where lines about losses, failures and recoveries go; `None` is standard error. The export waits for neither. A
    /// flush and a shutdown give a sink a second for the last line, and a standard error that is full no time.
    /// Warnings at start come on the thread that starts the engine, before [`Engine::start`](crate::Engine::start)
    /// returns: a sink must not wait for a lock that is held around that call.
    pub diagnostics: Option<DiagnosticSink>,
}

/// Which proxy requests go through.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ProxyChoice {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, in lower or upper case. Loopback and unix
    /// sockets need none. A variable that does not name an HTTP proxy is a warning, and no proxy is used: it may be
    /// meant for other programs.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one: `http://host:port`. None leads to a unix socket: the two together are an error at start.
    Url(String),
}

impl Export {
    /// To a collector with this base URL: `/v1/traces` is appended. `Export::default()` goes to this machine, port
    /// 4318.
    ///
    /// A base that cannot work is an error of [`Engine::start`](crate::Engine::start).
    #[must_use]
    pub fn to(base: &str) -> Self {
        Self { endpoint: traces_url(base), ..Self::default() }
    }
}

impl Export {
    /// Bytes that a request may have, so that all requests on their way take no more than an eighth of the budget, or
    /// just what the largest span needs.
    pub(crate) fn request_bytes(&self, budget: usize) -> usize {
        self.request_bytes_max.min((budget / 8 / self.requests_max()).max(REQUEST_BYTES_MIN))
    }

    /// Bytes of all requests on their way.
    pub(crate) fn requests_bytes(&self, budget: usize) -> usize {
        self.request_bytes(budget) * self.requests_max()
    }

    /// One for each connection, one that is ready, one that is being written or compressed, and the open batch.
    fn requests_max(&self) -> usize {
        self.connections_max.min(CONNECTIONS_MAX) + 3
    }
}

/// Most spans of a request: more than a request of the largest size can hold.
pub(crate) const BATCH_SPANS_MAX: usize = 1 << 20;
/// Least bytes of a request: the largest span with its scope, and a resource.
pub(crate) const REQUEST_BYTES_MIN: usize = 96 << 10;
/// The largest span that a block holds, and a scope.
pub(crate) const SPAN_BYTES_MAX: usize = 72 << 10;
/// An ordinary span, and a scope.
pub(crate) const SPAN_BYTES: usize = 16 << 10;

/// The proxy for this endpoint, as the environment of the process says.
pub(crate) fn proxy_of_environment(endpoint: &Endpoint) -> Result<Option<Proxy>, ProxyError> {
    Proxy::choose(endpoint, |name| env::var(name).ok())
}

/// The URL for traces below this base. A base that cannot work is kept, so that the start fails and says why.
pub(crate) fn traces_url(base: &str) -> String {
    Endpoint::traces_url(base).unwrap_or_else(|_| base.to_owned())
}

impl Default for Export {
    fn default() -> Self {
        Self {
            endpoint: "http://localhost:4318/v1/traces".into(),
            headers: vec![],
            timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(30),
            compression: Compression::default(),
            connections_max: 4,
            batch_spans_max: 2048,
            request_bytes_max: 1 << 20,
            schedule_delay: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(5),
            driver: DriverChoice::default(),
            proxy: ProxyChoice::default(),
            certificate: None,
            client_certificate: None,
            client_key: None,
            diagnostics: None,
        }
    }
}

impl fmt::Debug for Export {
    /// Without the headers' values and without what may be secret in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Export")
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}
