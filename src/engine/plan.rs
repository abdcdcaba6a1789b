//! The export as it was planned at start: the configuration, checked, encoded, and the same for every worker.

use std::time::Duration;

use crate::{
    config::{
        Config, ConfigError, Export, ProxyChoice, WatchedTls,
        export::{BATCH_SPANS_MAX, REQUEST_BYTES_MIN, SPAN_BYTES, SPAN_BYTES_MAX, proxy_of_environment},
    },
    otlp,
    report::DiagnosticSink,
    sync::{spawn, ticks},
    transport::{
        client::{
            endpoint::Endpoint,
            exporter::Exporter,
            proxy::Proxy,
            route::Route,
            settings::{CONNECTIONS_MAX, Settings},
        },
        driver::{DriverChoice, Resolver, Waker},
        http::{
            compression::Compression,
            head::{RequestHead, UserAgent},
            headers::Headers,
        },
        tls::{TlsFile, TlsSource},
    },
};

/// What a worker needs to know.
pub(super) struct Plan {
    pub(super) route: Route,
    pub(super) resource: otlp::Resource,
    pub(super) batch_spans_max: usize,
    pub(super) request_bytes_max: usize,
    pub(super) schedule_delay: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) driver: DriverChoice,
    pub(super) diagnostics: Option<DiagnosticSink>,
    /// What is ignored, a line each.
    pub(super) warnings: Vec<String>,
    head: RequestHead,
    /// As read at start. Each worker makes its own of it.
    tls: Option<WatchedTls>,
    timeout: Duration,
    stall_timeout: Duration,
    pub(super) retry_after_max: Duration,
    compression: Compression,
    connections_max: usize,
}

/// The names of the fields for files.
const CERTIFICATE: &str = "export.certificate";
const CLIENT_CERTIFICATE: &str = "export.client_certificate";
const CLIENT_KEY: &str = "export.client_key";
/// A peer that is this long without a sign of life is not waited for, however long the requests may take.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// Most bytes of a request: what the specification lets a receiver refuse (HTTP-04).
const REQUEST_BYTES_MAX: usize = 64 << 20;

impl Plan {
    /// Checks everything that can be checked before the first request. The export is that of the configuration.
    pub(super) fn new(export: &Export, config: &Config) -> Result<Self, ConfigError> {
        let mut warnings = config.warnings().to_vec();
        warnings.extend(config.idle());
        let shown = Endpoint::parse(&export.endpoint);
        let endpoint = shown.map_err(|error| ConfigError::said("export.endpoint", &error))?;
        if endpoint.is_doubled() {
            warnings.push(format!(
                "spans go to {endpoint}: the endpoint is a base here, and the path was appended; leave `/v1/traces` out of it"
            ));
        }
        if endpoint.is_bare() {
            warnings.push(format!(
                "requests go to `/` at {endpoint}: the endpoint is used as it is here, and collectors take spans at \
                 `/v1/traces`; append that, or set OTEL_EXPORTER_OTLP_ENDPOINT, to which it is appended"
            ));
        }
        let proxy = chosen(&export.proxy, &endpoint, &mut warnings)?;
        let headers = Headers::new(&export.headers).map_err(|error| ConfigError::said("export.headers", &error))?;
        let range = |field, value: usize, min: usize, max: usize| {
            let remedy = format!("give a number from {min} to {max}");
            if (min..=max).contains(&value) { Ok(value) } else { Err(ConfigError::new(field, value, remedy)) }
        };
        let tls = Self::tls(export, &endpoint)?;
        if tls.is_none() {
            warnings.extend(useless_files(export, &endpoint, config)?);
        }
        let connections_max = range("export.connections_max", export.connections_max, 1, CONNECTIONS_MAX)?;
        let batch_spans_max = range("export.batch_spans_max", export.batch_spans_max, 1, BATCH_SPANS_MAX)?;
        let bytes = export.request_bytes_max;
        range("export.request_bytes_max", bytes, REQUEST_BYTES_MIN, REQUEST_BYTES_MAX)?;
        let request_bytes_max = export.request_bytes(config.memory_budget);
        let resource = config.merged_resource().encode();
        warnings.extend(cramped(&resource, request_bytes_max)?);
        let route = Route { endpoint, proxy };
        Ok(Self {
            head: route.request_head(&headers, &UserAgent::default()),
            route,
            resource,
            batch_spans_max,
            request_bytes_max,
            schedule_delay: export.schedule_delay,
            shutdown_timeout: export.shutdown_timeout,
            driver: export.driver,
            diagnostics: export.diagnostics.clone(),
            warnings,
            tls,
            timeout: unbounded_if_zero(export.timeout),
            stall_timeout: unbounded_if_zero(export.stall_timeout),
            retry_after_max: export.retry_after_max,
            compression: export.compression,
            connections_max,
        })
    }

    fn tls(export: &Export, endpoint: &Endpoint) -> Result<Option<WatchedTls>, ConfigError> {
        if !endpoint.is_tls() {
            return Ok(None);
        }
        WatchedTls::open(endpoint.host(), export).map(Some).map_err(|error| {
            let field = match error.file() {
                Some(TlsFile::Certificate) => CERTIFICATE,
                Some(TlsFile::ClientCertificate) => CLIENT_CERTIFICATE,
                Some(TlsFile::ClientKey) => CLIENT_KEY,
                None => "export.endpoint",
            };
            ConfigError::said(field, &error.text())
        })
    }

    /// How long the system lets a peer acknowledge nothing. It counts a peer that lives and reads nothing as well,
    /// which may use all the time that a request has; past that it is gone, or as good as gone.
    pub(super) fn unacknowledged_max(&self) -> Duration {
        self.timeout.min(UNACKNOWLEDGED_MAX)
    }

    /// An exporter that follows the plan.
    pub(super) fn exporter(&self, waker: Waker, seed: u64) -> Exporter {
        let settings = Settings {
            connections_max: self.connections_max,
            timeout: self.timeout,
            stall_timeout: self.stall_timeout,
            retry_after_max: self.retry_after_max,
            compression: self.compression,
            unix_time: || Duration::from_nanos(ticks::wall_nanos()),
            seed,
        };
        let resolver = Resolver::new(waker).on(|name, work| spawn::start(name, work).map(drop));
        let tls = self.tls.as_ref().map(|tls| Box::new(tls.for_worker()) as Box<dyn TlsSource>);
        Exporter::new(settings, self.route.clone(), self.head.clone(), tls, resolver)
    }
}

fn chosen(choice: &ProxyChoice, endpoint: &Endpoint, warnings: &mut Vec<String>) -> Result<Option<Proxy>, ConfigError> {
    let refuse = |why: &dyn std::fmt::Display| ConfigError::said("export.proxy", &why);
    match choice {
        ProxyChoice::Direct => Ok(None),
        // A variable that other programs share must not keep this one from its start.
        ProxyChoice::Environment => Ok(proxy_of_environment(endpoint).unwrap_or_else(|error| {
            warnings.push(format!("{error}; until then no proxy is used"));
            None
        })),
        ProxyChoice::Url(_) if endpoint.unix_path().is_some() => Err(refuse(&format!(
            "no proxy leads to {endpoint}, which is a socket of this machine: leave the proxy out, or name a host in \
             the endpoint"
        ))),
        ProxyChoice::Url(url) => Proxy::parse(url).map(Some).map_err(|error| refuse(&error)),
    }
}

fn unbounded_if_zero(time: Duration) -> Duration {
    if time.is_zero() { Duration::MAX } else { time }
}

/// What to say of a resource that leaves little room for spans, of which each request has a copy of it.
fn cramped(resource: &otlp::Resource, request_bytes_max: usize) -> Result<Option<String>, ConfigError> {
    let bytes = resource.envelope_len_max();
    let left = request_bytes_max.saturating_sub(bytes);
    let remedy = "shorten it, or raise memory_budget and export.request_bytes_max";
    let why =
        format!("each request carries the resource, which leaves {left} of its {request_bytes_max} bytes for spans");
    match left {
        ..SPAN_BYTES => Err(ConfigError::new("resource", format!("{bytes} bytes"), format!("{why}: {remedy}"))),
        SPAN_BYTES..SPAN_BYTES_MAX => Ok(Some(format!("{why}, and larger ones are lost as oversize: {remedy}"))),
        _ => Ok(None),
    }
}

/// What to say of certificates where there is no TLS: the bytes would go out in the clear, which whoever gave them does
/// not expect. What the program gave is an error. A variable is a warning, because other programs and signals share it.
fn useless_files(export: &Export, endpoint: &Endpoint, config: &Config) -> Result<Vec<String>, ConfigError> {
    let files = [
        (CERTIFICATE, &export.certificate),
        (CLIENT_CERTIFICATE, &export.client_certificate),
        (CLIENT_KEY, &export.client_key),
    ];
    let given = files.into_iter().filter(|(_, file)| file.is_some());
    let why = format!("the endpoint {endpoint} has no TLS, so that no certificate is checked or shown");
    let warning = |(field, _)| match config.variable(field) {
        Some(variable) => Ok(format!("{variable} is ignored: {why}; begin the endpoint with https://, or unset it")),
        None => Err(ConfigError::said(field, &format!("{why}: begin the endpoint with https://, or leave it out"))),
    };
    given.map(warning).collect()
}

impl std::fmt::Debug for Plan {
    /// Where to, and nothing that might be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("route", &self.route.to_string()).finish_non_exhaustive()
    }
}
