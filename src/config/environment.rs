//! The configuration from the environment: OpenTelemetry's variables, and two of our own. What cannot be read is a warning (an
//! endpoint is an error at start), and so is what is known here and not supported: nobody should wonder why a variable has no
//! effect.

use std::{env, ffi::OsString, iter, mem, ops::RangeInclusive, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    export::{BATCH_SPANS_MAX, Export, traces_url},
    origins::{Instead, Origins},
    resource::Resource,
    settings::{BUDGET_MIN, COUNT_MAX, Config},
};
use crate::{
    record::SpanLimits,
    report::QUEUE_SPAN_BYTES,
    trace::Sampling,
    transport::{
        client::endpoint::Endpoint,
        driver::DriverChoice,
        http::{gzip::Compression, headers::Headers},
    },
};

impl Config {
    /// The configuration that the environment of this process asks for. Unlike [`Config::default`] it exports, to this
    /// machine, unless told otherwise.
    ///
    /// Nothing here fails: a value that cannot work is ignored, and is one of the [`warnings`](Self::warnings), which says what
    /// is used instead. Only an endpoint that cannot work is kept, and [`Engine::start`](crate::Engine::start) refuses it: spans
    /// and headers shall not go elsewhere because of a mistyped URL. An empty variable is an unset one. What the program sets in
    /// the struct wins over the environment, and [`explain`](Self::explain) says where each value comes from:
    ///
    /// ```
    /// let config = spanring::Config { memory_budget: 64 << 20, ..spanring::Config::from_env() };
    /// println!("{}", config.explain());
    /// ```
    ///
    /// | variable | field | |
    /// |---|---|---|
    /// | `OTEL_SDK_DISABLED` | `sampling`, `export` | `true`: nothing is recorded or sent, in as little memory as can be |
    /// | `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME` | `resource` | `key=value,key=value`, percent-encoded; the name wins |
    /// | `OTEL_TRACES_SAMPLER` | `sampling` | `always_on`, `always_off`, `parentbased_always_on`; ratios are not supported |
    /// | `OTEL_TRACES_EXPORTER` | `export` | `otlp`, `none` |
    /// | `OTEL_BSP_SCHEDULE_DELAY` | `export.schedule_delay` | milliseconds |
    /// | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | `export.batch_spans_max` | no more than the queue's size |
    /// | `OTEL_BSP_MAX_QUEUE_SIZE` | `memory_budget` | so many spans of 512 bytes fit the rings, which are half of the budget; 4 MiB at least |
    /// | `OTEL_BSP_EXPORT_TIMEOUT` | `export.timeout` | milliseconds; the smaller of the two bounds all attempts, 0 is no bound |
    /// | `OTEL_EXPORTER_OTLP_TIMEOUT` | `export.timeout` | |
    /// | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_COUNT_LIMIT` | `limits.attribute_count` | the first wins |
    /// | `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` | `limits.attribute_value_length` | the first wins |
    /// | `OTEL_SPAN_EVENT_COUNT_LIMIT`, `OTEL_SPAN_LINK_COUNT_LIMIT` | `limits` | |
    /// | `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`, `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT` | `limits` | |
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | `export.endpoint` | a base: `v1/traces` is appended; `…_TRACES_ENDPOINT` is taken as it is |
    /// | `OTEL_EXPORTER_OTLP_HEADERS` | `export.headers` | `name=value,name=value`, percent-encoded |
    /// | `OTEL_EXPORTER_OTLP_COMPRESSION` | `export.compression` | `none`, `gzip` |
    /// | `OTEL_EXPORTER_OTLP_PROTOCOL` | | `http/protobuf` |
    /// | `OTEL_EXPORTER_OTLP_CERTIFICATE` | `export.certificate` | file; it and the next two need an `https` endpoint |
    /// | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` | `export.client_certificate` | file |
    /// | `OTEL_EXPORTER_OTLP_CLIENT_KEY` | `export.client_key` | file |
    /// | `SPANRING_MEMORY_BUDGET` | `memory_budget` | bytes, 2 MiB at least, or 1 MiB without an export; wins over the queue's size |
    /// | `SPANRING_DRIVER` | `export.driver` | `auto`, `uring`, `poll` |
    /// | `HTTP_PROXY`, `http_proxy` | | read at start, unless `export.proxy` says otherwise: the proxy for `http` endpoints |
    /// | `HTTPS_PROXY`, `https_proxy` | | the same for `https` endpoints |
    /// | `ALL_PROXY`, `all_proxy` | | the same for both, where the scheme's own is not set |
    /// | `NO_PROXY`, `no_proxy` | | hosts, domains and networks that are reached without; this machine always is |
    /// | `OTEL_CONFIG_FILE`, `OTEL_LOG_LEVEL`, `OTEL_PROPAGATORS`, `OTEL_TRACES_SAMPLER_ARG` | | not supported: a warning says what happens instead |
    ///
    /// Each `OTEL_EXPORTER_OTLP_…` has an `OTEL_EXPORTER_OTLP_TRACES_…`, which wins. The lower-case form of a proxy's variable
    /// wins, and `HTTP_PROXY` is not read in a CGI program, where it is a header of the caller's. A `SPANRING_…` that is almost
    /// one of ours, but for a letter or two, is a warning.
    #[must_use]
    pub fn from_env() -> Self {
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::from_texts(&|name| env::var_os(name).map(OsString::into_string), names)
    }

    /// As [`Config::from_env`], with variables from elsewhere: `read` is given a name. Other names than it is given are not known
    /// here, so that none is found to be mistyped.
    #[must_use]
    pub fn from_vars(read: impl Fn(&str) -> Option<String>) -> Self {
        Self::from_texts(&|name| read(name).map(Ok), iter::empty())
    }

    fn from_texts(read: &Read<'_>, names: impl Iterator<Item = String>) -> Self {
        let mut variables = Variables { read, origins: Origins::of_environment(), ignored: vec![] };
        let mut config = Self { resource: variables.resource(), ..Self::default() };
        variables.limits(&mut config.limits);
        variables.sampling(&mut config.sampling);
        let mut export = Export::default();
        let exports = variables.exports();
        variables.sizes(exports, &mut config.memory_budget, &mut export.batch_spans_max);
        variables.times(&mut export);
        variables.otlp(&mut export);
        config.export = exports.then_some(export);
        variables.unsupported();
        variables.mistyped(names);
        if variables.is_disabled() {
            config = Self { memory_budget: BUDGET_MIN, lanes: Some(1), sampling: Sampling::AlwaysOff, ..config };
            config.export = None;
        }
        config.origins = variables.origins;
        config.remember(variables.ignored);
        config
    }
}

/// Gives a variable's text by its name, or its bytes where it is not UTF-8.
type Read<'a> = dyn Fn(&str) -> Option<Result<String, OsString>> + 'a;

/// The variables while they are read, and what there is to say of them.
struct Variables<'a> {
    read: &'a Read<'a>,
    origins: Origins,
    /// What is ignored and why, and what is so instead.
    ignored: Vec<(String, Instead)>,
}

impl Variables<'_> {
    fn is_disabled(&mut self) -> bool {
        let disabled = self.first(Instead::Stays("export"), &["OTEL_SDK_DISABLED"], |text| {
            // CFG-03: what is not true is false.
            word(text, &[("true", true), ("false", false)])
        });
        let Some((true, name)) = disabled else {
            return false;
        };
        ["memory_budget", "lanes", "sampling", "export"]
            .into_iter()
            .for_each(|setting| self.origins.note(setting, name));
        true
    }

    /// RES-06: the service's own variable wins over the list.
    fn resource(&mut self) -> Resource {
        let none = Instead::Is("the resource has none of its attributes");
        let list = self.first(none, &["OTEL_RESOURCE_ATTRIBUTES"], attributes);
        let name = |text: &str| Ok(vec![("service.name".to_owned(), text.to_owned())]);
        let service = self.first(Instead::Stays("resource.service.name"), &["OTEL_SERVICE_NAME"], name);
        let pairs =
            list.into_iter().chain(service).flat_map(|(pairs, name)| pairs.into_iter().map(move |pair| (pair, name)));
        pairs.fold(Resource::default(), |resource, ((key, value), name)| {
            self.origins.note(&format!("resource.{key}"), name);
            resource.with(&key, value)
        })
    }

    /// LIM-07: a span's own limit wins over the general one.
    fn limits(&mut self, limits: &mut SpanLimits) {
        let count = |text: &str| number(text, 0..=COUNT_MAX);
        let counts = [
            (
                &mut limits.attribute_count,
                "limits.attribute_count",
                &["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"][..],
            ),
            (&mut limits.event_count, "limits.event_count", &["OTEL_SPAN_EVENT_COUNT_LIMIT"]),
            (&mut limits.link_count, "limits.link_count", &["OTEL_SPAN_LINK_COUNT_LIMIT"]),
            (
                &mut limits.attribute_per_event_count,
                "limits.attribute_per_event_count",
                &["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"],
            ),
            (
                &mut limits.attribute_per_link_count,
                "limits.attribute_per_link_count",
                &["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"],
            ),
        ];
        for (place, setting, names) in counts {
            self.set(place, setting, names, count);
        }
        let names = ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
        let length = |text: &str| number(text, 0..=u32::MAX).map(Some);
        self.set(&mut limits.attribute_value_length, "limits.attribute_value_length", &names, length);
    }

    fn sampling(&mut self, sampling: &mut Sampling) {
        let samplers = [
            ("parentbased_always_on", Sampling::ParentBased),
            ("always_on", Sampling::AlwaysOn),
            ("always_off", Sampling::AlwaysOff),
        ];
        self.set(sampling, "sampling", &["OTEL_TRACES_SAMPLER"], |text| {
            word(text, &samplers).map_err(|why| format!("{why}; {UNSAMPLED}"))
        });
    }

    /// Says what happens in place of what is not supported.
    fn unsupported(&mut self) {
        for (name, met, why, instead) in UNSUPPORTED {
            let instead = Instead::Is(instead);
            if self.text(name, instead).is_some_and(|text| !text.eq_ignore_ascii_case(met)) {
                self.ignore(name, why, instead);
            }
        }
    }

    /// Says which of these names are almost ours. Others with our prefix may be anybody's: a service of this name has
    /// `SPANRING_SERVICE_HOST` and more from Kubernetes.
    fn mistyped(&mut self, names: impl Iterator<Item = String>) {
        for name in names.filter(|name| name.starts_with("SPANRING_")) {
            let close = OWN.iter().find(|(own, _)| (1..=TYPOS_MAX).contains(&distance(own, &name)));
            if let Some((own, setting)) = close {
                self.ignore(
                    &name.escape_debug().to_string(),
                    &format!("no such variable is read, but {own} is"),
                    Instead::Stays(setting),
                );
            }
        }
    }

    /// Whether spans are exported. Of several exporters those that are known count.
    fn exports(&mut self) -> bool {
        let exporters = [("otlp", true), ("none", false)];
        let stays = Instead::Stays("export");
        let Some(text) = self.text(EXPORTER, stays) else {
            return true;
        };
        let mut exports = None;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match word(name, &exporters) {
                Ok(is_otlp) => exports = Some(is_otlp || exports == Some(true)),
                Err(why) => self.ignore(EXPORTER, &why, stays),
            }
        }
        if exports.is_some() {
            self.origins.note("export", EXPORTER);
        }
        exports.unwrap_or(true)
    }

    fn sizes(&mut self, exports: bool, memory_budget: &mut usize, batch_spans_max: &mut usize) {
        let queue = self.first(Instead::Stays("memory_budget"), &["OTEL_BSP_MAX_QUEUE_SIZE"], |text| {
            let spans = number(text, 1..=usize::MAX)?;
            Ok((spans, queue_budget(spans).ok_or_else(|| format!("{spans} spans need more memory than 16 GiB"))?))
        });
        if let Some(((_, budget), name)) = queue {
            *memory_budget = budget;
            self.origins.note("memory_budget", name);
        }
        self.set(memory_budget, "memory_budget", &["SPANRING_MEMORY_BUDGET"], |text| {
            let memory_budget = number_of("bytes", text, 1..=usize::MAX)?;
            let config = Config { memory_budget, export: exports.then(Export::default), ..Config::default() };
            let shape = config.shape().map(|_| memory_budget);
            shape.map_err(|error| format!("{memory_budget} bytes cannot work: {}", error.remedy()))
        });
        let most = queue.map_or(BATCH_SPANS_MAX, |((spans, _), _)| spans.min(BATCH_SPANS_MAX));
        let batch = |text: &str| number(text, 1..=most);
        self.set(batch_spans_max, "export.batch_spans_max", &["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], batch);
        if let Some((_, name)) = queue.filter(|_| *batch_spans_max > most) {
            *batch_spans_max = most;
            self.origins.note("export.batch_spans_max", name);
        }
    }

    fn times(&mut self, export: &mut Export) {
        self.set(&mut export.schedule_delay, "export.schedule_delay", &["OTEL_BSP_SCHEDULE_DELAY"], millis);
        // Two clocks for one thing, the end of all attempts: the one that rings first counts. An unset one never rings first,
        // because the default of the batch's (30 s) is longer than that of the exporter (10 s).
        let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        self.set(&mut export.timeout, "export.timeout", &names, millis);
        let bound = |timeout: Duration| if timeout.is_zero() { Duration::MAX } else { timeout };
        if let Some((timeout, name)) =
            self.first(Instead::Stays("export.timeout"), &["OTEL_BSP_EXPORT_TIMEOUT"], millis)
            && bound(timeout) < bound(export.timeout)
        {
            export.timeout = timeout;
            self.origins.note("export.timeout", name);
        }
    }

    fn otlp(&mut self, export: &mut Export) {
        let instead =
            Instead::Is("spans are sent as http/protobuf, which collectors mostly take on port 4318, and gRPC on 4317");
        let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let _ = self.first(instead, &names, |text| word(text, &[("http/protobuf", ())]));
        self.endpoint(&mut export.endpoint);
        let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        self.set(&mut export.headers, "export.headers", &names, headers);
        let names = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        let compressions = [("none", Compression::None), ("gzip", Compression::Gzip)];
        self.set(&mut export.compression, "export.compression", &names, |text| word(text, &compressions));
        let drivers = [("auto", DriverChoice::Auto), ("uring", DriverChoice::Uring), ("poll", DriverChoice::Poll)];
        self.set(&mut export.driver, "export.driver", &["SPANRING_DRIVER"], |text| word(text, &drivers));
        let files = [
            (
                &mut export.certificate,
                "export.certificate",
                ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
            ),
            (
                &mut export.client_certificate,
                "export.client_certificate",
                ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"],
            ),
            (
                &mut export.client_key,
                "export.client_key",
                ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
            ),
        ];
        for (place, setting, names) in files {
            self.set(place, setting, &names, |text| Ok(Some(PathBuf::from(text))));
        }
    }

    /// CFG-21: the one for traces as it is. CFG-22: a base. One that cannot work is kept as well, so that the start fails: in its
    /// place the spans, and the headers with what is secret, would go where nobody has sent them.
    fn endpoint(&mut self, place: &mut String) {
        let as_it_is: fn(&str) -> String = str::to_owned;
        let below_it = |base: &str| if Endpoint::traces(base).is_ok() { traces_url(base) } else { base.to_owned() };
        let names = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", as_it_is), ("OTEL_EXPORTER_OTLP_ENDPOINT", below_it)];
        let given = names.into_iter().find_map(|(name, url)| {
            let text = (self.read)(name)?.unwrap_or_else(|garbled| garbled.to_string_lossy().into_owned());
            let text = text.trim();
            (!text.is_empty()).then(|| (url(text), name))
        });
        if let Some((url, name)) = given {
            *place = url;
            self.origins.note("export.endpoint", name);
        }
    }

    /// Sets a field to what the first of these variables says that can be read.
    fn set<T>(
        &mut self,
        place: &mut T,
        setting: &'static str,
        names: &[&'static str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        if let Some((value, name)) = self.first(Instead::Stays(setting), names, parse) {
            *place = value;
            self.origins.note(setting, name);
        }
    }

    /// What the first of these variables says that can be read, and its name.
    fn first<T>(
        &mut self,
        instead: Instead,
        names: &[&'static str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(T, &'static str)> {
        names.iter().find_map(|&name| match parse(&self.text(name, instead)?) {
            Ok(value) => Some((value, name)),
            Err(why) => {
                self.ignore(name, &why, instead);
                None
            }
        })
    }

    /// The text of a variable. An empty one is as good as none (CFG-02).
    fn text(&mut self, name: &str, instead: Instead) -> Option<String> {
        let Ok(text) = (self.read)(name)? else {
            self.ignore(name, "it is not UTF-8", instead);
            return None;
        };
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            self.ignore(name, &format!("it has more than {TEXT_BYTES_MAX} bytes"), instead);
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn ignore(&mut self, name: &str, why: &str, instead: Instead) {
        self.ignored.push((format!("{name} is ignored: {why}"), instead));
    }
}

const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// What happens to those who wanted fewer traces.
const UNSAMPLED: &str = "every trace that begins here is recorded and sent";
/// Variables of OpenTelemetry's that have no effect: the name, the value that asks for what happens anyway, why, and what that
/// is.
const UNSUPPORTED: [(&str, &str, &str, &str); 4] = [
    ("OTEL_CONFIG_FILE", "", "configuration files are not supported", "the other variables are read instead"),
    (
        "OTEL_LOG_LEVEL",
        "info",
        "diagnostics have no levels",
        "there is one line for each change, and `Export::diagnostics` can sift them by topic",
    ),
    (
        "OTEL_PROPAGATORS",
        "none",
        "no headers are read or written",
        "take contexts from requests and put them there yourself, as a `SpanContext`",
    ),
    (
        "OTEL_TRACES_SAMPLER_ARG",
        "",
        "no sampler that takes an argument is supported",
        "OTEL_TRACES_SAMPLER alone decides what is recorded",
    ),
];
/// Our own variables, and what each sets.
const OWN: [(&str, &str); 2] = [("SPANRING_MEMORY_BUDGET", "memory_budget"), ("SPANRING_DRIVER", "export.driver")];
/// Letters in which a name may differ from one of ours and be taken for it: two that change places are two.
const TYPOS_MAX: usize = 2;
/// Every variable that [`Config::from_vars`] asks for, for the tests and the fuzzer: one of them sees that it is so, and that
/// the documentation has them all.
pub const VARIABLES: [&str; 39] = [
    "OTEL_SDK_DISABLED",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_TRACES_EXPORTER",
    "OTEL_CONFIG_FILE",
    "OTEL_LOG_LEVEL",
    "OTEL_PROPAGATORS",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "SPANRING_MEMORY_BUDGET",
    "SPANRING_DRIVER",
];
/// Most bytes of a value. The resource is a part of every request, and headers have this limit of their own.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Most of a bad value that a warning shows.
const SHOWN_CHARS_MAX: usize = 64;
/// Longest time that is believed, which is the largest number that OpenTelemetry demands: 24 days.
const MILLIS_MAX: u32 = i32::MAX as u32;
/// Least memory for a queue: enough for an engine of any number of lanes, as for [`size`](crate::size).
const QUEUE_BUDGET_MIN: usize = 4 << 20;

/// One of these words, in any case (CFG-06).
fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|&(name, _)| name).collect();
        format!("{} is not supported, only {}", shown(text), names.join(", "))
    })
}

/// A whole number; a sign has no meaning of its own (CFG-04).
fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{} is no whole number from {} to {}", shown(text), range.start(), range.end()))
}

/// As [`number`], where somebody may write a unit behind it: the number alone has this one.
fn number_of<N>(unit: &str, text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    number(text, range).map_err(|why| format!("{why} ({unit}, without a unit)"))
}

/// A time in whole milliseconds (CFG-05).
fn millis(text: &str) -> Result<Duration, String> {
    number_of("milliseconds", text, 0..=MILLIS_MAX).map(|millis| Duration::from_millis(u64::from(millis)))
}

/// The memory with rings for so many spans; `None` if no engine has so much.
fn queue_budget(spans: usize) -> Option<usize> {
    // Rings have sizes that are powers of two, and half of the budget.
    let rings = spans.checked_mul(usize::try_from(QUEUE_SPAN_BYTES).ok()?)?.checked_next_power_of_two()?;
    let memory_budget = rings.checked_mul(2)?.max(QUEUE_BUDGET_MIN);
    Config { memory_budget, ..Config::default() }.shape().ok().map(|_| memory_budget)
}

fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let headers = Headers::from_env_text(text).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect())
}

/// The pairs of `key=value,key=value`, percent-decoded. One fault is the end of them all (RES-05).
fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pairs = members.enumerate().map(|(index, member)| {
        let pair = member.split_once('=').and_then(|(key, value)| {
            let key = decoded(key.trim()).filter(|key| !key.is_empty())?;
            Some((key, decoded(value.trim())?))
        });
        pair.ok_or_else(|| {
            format!("member {} ({}) is not key=value, percent-encoded in UTF-8", index + 1, shown(member))
        })
    });
    pairs.collect()
}

fn decoded(text: &str) -> Option<String> {
    let is_hex =
        |digits: Option<&str>| digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let is_encoded = text.match_indices('%').all(|(at, _)| is_hex(text.get(at + 1..at + 3)));
    let decoded = is_encoded.then(|| percent_decode_str(text).decode_utf8().ok()).flatten();
    decoded.map(|text| text.into_owned())
}

/// How many letters have to be added, left out or changed to make one name of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut before = mem::replace(&mut row[0], at + 1);
        for (next, known) in other.bytes().enumerate() {
            let changed = before + usize::from(letter != known);
            before = row[next + 1];
            row[next + 1] = changed.min(before + 1).min(row[next] + 1);
        }
    }
    row[other.len()]
}

/// A text for a warning: on one line, and not too long.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_are_those_of_the_list() {
        let listed = VARIABLES.into_iter().filter(|name| name.starts_with("SPANRING_"));
        assert!(listed.eq(OWN.map(|(name, _)| name)));
    }

    #[test]
    fn distance_counts_letters() {
        let cases =
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "ac", 1), ("ac", "abc", 1)];
        let more = [("abc", "axc", 1), ("abc", "acb", 2), ("kitten", "sitting", 3), ("abcd", "bcda", 2)];
        for (one, other, expected) in cases.into_iter().chain(more) {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
