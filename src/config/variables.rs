//! The variables of the environment: one row each, from which the reader, the list and the documentation of
//! [`Config::from_env`] follow.

use std::{env, ffi::OsString, iter, path::PathBuf};

use super::{
    environment::{Environment, Read, Row, attributes, count, length, millis, shown, word},
    export::traces_url,
    settings::Config,
};
use crate::transport::{driver::DriverChoice, http::compression::Compression};

/// A row: the variables, of which the first that can be read counts; the setting; what happens where they are ignored,
/// unless the setting stays what it is; how they are read; and what the documentation says.
macro_rules! variables {
    ($(
        [$first:literal $(, $more:literal)*] $(sets $setting:literal)? $(else $instead:literal)?,
        $read:expr,
        $text:literal;
    )+) => {
        const ROWS: &[Row] = &[$(
            Row {
                names: &[$first $(, $more)*],
                setting: concat!("" $(, $setting)?),
                instead: concat!("" $(, $instead)?),
                read: $read,
            },
        )+];

        /// Every variable that [`Config::from_vars`] asks for, for the tests and the fuzzer.
        pub const VARIABLES: [&str; [$( $first $(, $more)* ),+].len()] = [$( $first $(, $more)* ),+];

        /// The rows of the documentation.
        macro_rules! documentation {
            () => {
                concat!($( "| `", $first, "`" $(, ", `", $more, "`")*, " | " $(, "`", $setting, "`")?, " | ", $text, " |\n" ),+)
            };
        }
    };
}

variables! {
    ["OTEL_SDK_DISABLED"] sets "export",
        |to, row| to.disabled(row),
        "`true`: nothing is recorded or sent, in as little memory as can be, and without a word";
    ["OTEL_RESOURCE_ATTRIBUTES"] sets "resource" else "the resource has none of its attributes",
        |to, row| to.resource(row, attributes),
        "`key=value,key=value`, percent-encoded";
    ["OTEL_SERVICE_NAME"] sets "resource.service.name",
        |to, row| to.resource(row, |text| Ok(vec![("service.name".to_owned(), text.to_owned())])),
        "wins over the list above";
    ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"] sets "limits.attribute_count",
        |to, row| to.set(row, |to| &mut to.config.limits.attribute_count, count),
        "";
    ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
        sets "limits.attribute_value_length",
        |to, row| to.set(row, |to| &mut to.config.limits.attribute_value_length, length),
        "";
    ["OTEL_SPAN_EVENT_COUNT_LIMIT"] sets "limits.event_count",
        |to, row| to.set(row, |to| &mut to.config.limits.event_count, count),
        "";
    ["OTEL_SPAN_LINK_COUNT_LIMIT"] sets "limits.link_count",
        |to, row| to.set(row, |to| &mut to.config.limits.link_count, count),
        "";
    ["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"] sets "limits.attribute_per_event_count",
        |to, row| to.set(row, |to| &mut to.config.limits.attribute_per_event_count, count),
        "";
    ["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"] sets "limits.attribute_per_link_count",
        |to, row| to.set(row, |to| &mut to.config.limits.attribute_per_link_count, count),
        "";
    ["OTEL_TRACES_SAMPLER"] sets "sampling",
        |to, row| to.sampler(row),
        "`always_on`, `always_off`, `traceidratio`, each also after `parentbased_`; `parentbased_always_on` by default";
    ["OTEL_TRACES_SAMPLER_ARG"] else "OTEL_TRACES_SAMPLER alone decides what is recorded, and a ratio without it is 1",
        |to, row| to.sampler_argument(row),
        "for `traceidratio`: a share from 0 to 1, 1 by default";
    ["OTEL_PROPAGATORS"] sets "propagators",
        |to, row| to.propagators(row),
        "`tracecontext`, `baggage`, `b3`, `b3multi`, or several of them in a list; `none`";
    ["OTEL_TRACES_EXPORTER"] sets "export",
        |to, row| to.exporters(row),
        "`otlp`; `none`: nothing is recorded or sent, unless the program sets `sampling`, and a line says so at start";
    ["OTEL_BSP_MAX_QUEUE_SIZE"] sets "memory_budget",
        |to, row| to.queue(row),
        "so many spans of 512 bytes fit the rings, which are half of the budget; 4 MiB at least";
    ["SPANRING_MEMORY_BUDGET"] sets "memory_budget",
        |to, row| to.memory_budget(row),
        "bytes, 2 MiB at least, or 1 MiB without an export; wins over the queue's size";
    ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] sets "export.batch_spans_max",
        |to, row| to.batch(row),
        "no more than the queue's size";
    ["OTEL_BSP_SCHEDULE_DELAY"] sets "export.schedule_delay",
        |to, row| to.set(row, |to| &mut to.export.schedule_delay, millis),
        "milliseconds";
    ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"] sets "export.timeout",
        |to, row| to.set(row, |to| &mut to.export.timeout, millis),
        "milliseconds; bounds all attempts of a request, 0 is without a bound";
    ["OTEL_BSP_EXPORT_TIMEOUT"] sets "export.timeout",
        |to, row| to.shorter_timeout(row),
        "milliseconds; the smaller of the two counts";
    ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]
        else "spans are sent as http/protobuf, which collectors mostly take on port 4318, and gRPC on 4317",
        |to, row| to.expect(row, "http/protobuf"),
        "`http/protobuf`";
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] sets "export.endpoint",
        |to, row| to.endpoint(row, [str::to_owned, traces_url]),
        "the first is taken as it is; the second is a base, to which `/v1/traces` is appended";
    ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] sets "export.headers",
        |to, row| to.headers(row),
        "`name=value,name=value`, percent-encoded; one that cannot be sent is left out, and told by its name";
    ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"]
        else "the scheme alone decides: https:// is with TLS, http:// without",
        |to, row| to.insecure(row),
        "for endpoints without a scheme, which only gRPC has; a warning where the scheme says otherwise";
    ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"] sets "export.compression",
        |to, row| to.set(row, |to| &mut to.export.compression, compression),
        "`none`, `gzip`; `zstd` with the feature `zstd`";
    ["SPANRING_DRIVER"] sets "export.driver",
        |to, row| to.set(row, |to| &mut to.export.driver, |text| {
            word(text, &[("auto", DriverChoice::Auto), ("uring", DriverChoice::Uring), ("poll", DriverChoice::Poll)])
        }),
        "`auto`, `uring`, `poll`";
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"] sets "export.certificate",
        |to, row| to.set(row, |to| &mut to.export.certificate, file),
        "file; it and the next two need an `https` endpoint, and with one a file that cannot be used is an error at start";
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]
        sets "export.client_certificate",
        |to, row| to.set(row, |to| &mut to.export.client_certificate, file),
        "file";
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"] sets "export.client_key",
        |to, row| to.set(row, |to| &mut to.export.client_key, file),
        "file";
    ["OTEL_CONFIG_FILE"] else "the other variables are read instead",
        |to, row| to.refuse(row, "", "configuration files are not supported"),
        "not supported";
    ["OTEL_LOG_LEVEL"]
        else "there is one line for each change, and `Export::diagnostics` can sift them by topic",
        |to, row| to.refuse(row, "info", "diagnostics have no levels"),
        "not supported";
}

impl Config {
    /// The configuration that the environment of this process asks for. Unlike [`Config::default`] it exports, to a
    /// collector on this machine unless a variable says otherwise.
    ///
    /// Nothing here fails: a value that cannot work is ignored, and is one of the [`warnings`](Self::warnings), which
    /// says what is used instead. The exceptions are kept, and [`Engine::start`](crate::Engine::start) refuses them: an
    /// endpoint that cannot work, because a mistyped URL must not send spans and headers elsewhere, and with an `https`
    /// endpoint a certificate or key whose file cannot be used, because no other trust may take its place. An empty
    /// variable is an unset one. What the program sets in the struct wins over the environment, and
    /// [`explain`](Self::explain) says where each value comes from:
    ///
    /// ```
    /// let config = spanring::Config { memory_budget: 64 << 20, ..spanring::Config::from_env() };
    /// println!("{}", config.explain());
    /// ```
    ///
    /// Of several variables in a row the first that can be read counts:
    ///
    /// | variable | field | |
    /// |---|---|---|
    #[doc = documentation!()]
    /// | `HTTP_PROXY`, `http_proxy` | | read at start, unless `export.proxy` says otherwise: the proxy for `http` endpoints |
    /// | `HTTPS_PROXY`, `https_proxy` | | the same for `https` endpoints |
    /// | `ALL_PROXY`, `all_proxy` | | the same for both, where the scheme's own is not set |
    /// | `NO_PROXY`, `no_proxy` | | hosts, domains and networks that are reached without; this machine always is |
    ///
    /// What is not supported is a warning that says what happens instead. The lower-case form of a proxy's variable
    /// wins, and `HTTP_PROXY` is not read in a CGI program, where it is a header of the caller's. An `OTEL_…` or
    /// `SPANRING_…` that is almost one of these, but for a letter or two, is a warning.
    #[must_use]
    pub fn from_env() -> Self {
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::from_texts(&|name| env::var_os(name).map(OsString::into_string), names)
    }

    /// As [`Config::from_env`], with variables from elsewhere: `read` is given a name. Other names than it is given are
    /// not known here, so that none is found to be mistyped.
    #[must_use]
    pub fn from_vars(read: impl Fn(&str) -> Option<String>) -> Self {
        Self::from_texts(&|name| read(name).map(Ok), iter::empty())
    }

    fn from_texts(read: &Read<'_>, names: impl Iterator<Item = String>) -> Self {
        let mut environment = Environment::new(read);
        ROWS.iter().for_each(|row| (row.read)(&mut environment, row));
        environment.mistyped(names, ROWS);
        environment.finish()
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.parse::<Compression>() {
        Err(error) if error.is_left_out => Err(format!("{} {error}", shown(text))),
        _ => word(text, Compression::NAMED),
    }
}

fn file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(text)))
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use super::*;

    /// Without the feature: `tests/rules/config.rs`.
    #[test]
    fn cfg_06_zstd_is_read_like_gzip() {
        for name in ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] {
            let config = Config::from_vars(|asked| (asked == name).then(|| "Zstd".to_owned()));
            let warnings = config.warnings().to_vec();
            assert_eq!(config.export.map(|export| export.compression), Some(Compression::Zstd), "{warnings:?}");
        }
    }
}
