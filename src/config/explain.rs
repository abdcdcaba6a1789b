//! What is configured and why: every setting with its value and where it came from, without what is secret.

use std::time::Duration;

use super::{
    export::{Export, ProxyChoice, proxy_of_environment},
    origins::{Instead, name_of},
    resource::{Resource, ResourceValue},
    settings::Config,
};
use crate::{
    record::SpanLimits,
    sample::Sampling,
    transport::client::{endpoint::Endpoint, proxy::Proxy},
};

/// One line of the explanation.
struct Setting {
    name: String,
    shown: String,
    /// The whole value, also where it is secret: to compare, never to show.
    value: String,
}

impl Config {
    /// One line for each setting: its name, its value, and whether that is the default, comes from a variable of the
    /// environment, or was set by the program (`code`). What may be secret is shown as `***`.
    #[must_use]
    pub fn explain(&self) -> String {
        let export = self.export.as_ref().map(|_| Export::default());
        let mut defaults = settings(&Self { export, ..Self::default() });
        if let Some(export) = defaults.iter_mut().find(|default| default.name == "export") {
            // A plain `Config::default()` sends nothing; one from the environment does.
            export.value = exporter(self.origins.is_of_environment).to_owned();
        }
        let lines = settings(self).into_iter().map(|setting| {
            let note = self.origins.notes.iter().find(|note| note.setting == setting.name);
            let default = defaults.iter().find(|default| default.name == setting.name);
            let origin = match (note, default) {
                (Some(note), _) if note.value == setting.value => note.variable,
                (None, Some(default)) if default.value == setting.value => "default",
                _ => "code",
            };
            format!("{} = {} ({origin})\n", setting.name, setting.shown)
        });
        lines.collect()
    }

    /// What was wrong with the environment, a line for each variable that is ignored. The engine reports these lines at
    /// start, and with them what it finds only then: a path `/v1/traces` that comes twice or not at all, a proxy that
    /// cannot be used, certificates for an endpoint without TLS, a resource that leaves little room for spans, and
    /// `OTEL_TRACES_EXPORTER=none`.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.origins.warnings()
    }

    /// What to say if nothing is recorded because nothing is to be exported. To disable the whole is no news.
    pub(crate) fn idle(&self) -> Option<String> {
        let variable = self.variable("sampling").filter(|variable| *variable == EXPORTER)?;
        Some(format!(
            "nothing is recorded, because {variable} is none; a program that takes spans out by Engine::drain, or \
             exports them all the same, sets `sampling` too"
        ))
    }

    /// The variable that a setting comes from; `None` if that is the default, or the program has changed it since.
    pub(crate) fn variable(&self, setting: &str) -> Option<&'static str> {
        let setting = settings(self).into_iter().find(|known| known.name == setting)?;
        let notes = self.origins.notes.iter();
        notes
            .filter(|note| note.setting == setting.name && note.value == setting.value)
            .map(|note| note.variable)
            .next()
    }

    /// Notes the values that were read, once all are there, and what happens instead of those that are ignored.
    pub(crate) fn remember(&mut self, ignored: Vec<(String, Instead)>) {
        let settings = settings(self);
        for note in &mut self.origins.notes {
            if let Some(setting) = settings.iter().find(|setting| setting.name == note.setting) {
                note.value.clone_from(&setting.value);
            }
        }
        let warnings = ignored.into_iter().map(|(line, instead)| match instead {
            Instead::Is(what) => format!("{line}; {what}"),
            Instead::Stays(name) => match settings.iter().find(|setting| setting.name == name) {
                Some(setting) => format!("{line}; {name} stays {}", setting.shown),
                None => format!("{line}; nothing is exported"),
            },
        });
        self.origins.warnings = warnings.collect();
    }
}

/// The variable that says where spans go.
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SECRET: &str = "***";
const NONE: &str = "none";

/// One of the program by its description, which says more than what it is made of.
fn sampler(sampling: &Sampling) -> String {
    match sampling {
        Sampling::By(sampler) => sampler.description().into_owned(),
        known => format!("{known:?}"),
    }
}

/// Every setting there is. Structs are taken apart, so that none can be forgotten.
fn settings(config: &Config) -> Vec<Setting> {
    let Config {
        memory_budget,
        lanes,
        limits,
        sampling,
        ids,
        clock,
        resource: _,
        export,
        worker,
        propagators,
        origins: _,
    } = config;
    let mut settings = vec![
        plain("memory_budget", format!("{memory_budget} bytes")),
        plain("lanes", lanes.map_or("by the number of cores".to_owned(), |lanes| lanes.to_string())),
        plain("sampling", sampler(sampling)),
        plain("ids", if ids.is_some() { "a source of the program" } else { "random" }),
        plain("clock", if clock.is_some() { "a clock of the program" } else { "the machine's" }),
        plain("worker", format!("{worker:?}")),
        plain("propagators", propagators.to_string()),
    ];
    settings.extend(of_limits(limits));
    settings.extend(of_resource(&config.merged_resource()));
    settings.push(plain("export", exporter(export.is_some())));
    settings.extend(export.iter().flat_map(of_export));
    settings
}

fn of_limits(limits: &SpanLimits) -> [Setting; 7] {
    let SpanLimits {
        attribute_count,
        attribute_value_length,
        attribute_value_depth,
        event_count,
        link_count,
        attribute_per_event_count,
        attribute_per_link_count,
    } = limits;
    [
        plain("limits.attribute_count", attribute_count.to_string()),
        plain("limits.attribute_value_length", attribute_value_length.map_or(NONE.to_owned(), |len| len.to_string())),
        plain("limits.attribute_value_depth", attribute_value_depth.to_string()),
        plain("limits.event_count", event_count.to_string()),
        plain("limits.link_count", link_count.to_string()),
        plain("limits.attribute_per_event_count", attribute_per_event_count.to_string()),
        plain("limits.attribute_per_link_count", attribute_per_link_count.to_string()),
    ]
}

fn of_resource(resource: &Resource) -> impl Iterator<Item = Setting> {
    let attributes = resource.attributes().map(|(key, value)| {
        let shown = match value {
            ResourceValue::Str(text) => format!("{text:?}"),
            ResourceValue::Int(number) => number.to_string(),
            ResourceValue::Double(number) => format!("{number:?}"),
            ResourceValue::Bool(is_true) => is_true.to_string(),
        };
        plain(&format!("resource.{key}"), shown)
    });
    let schema = Some(resource.schema()).filter(|schema| !schema.is_empty());
    attributes.chain(schema.map(|schema| plain("resource_schema_url", format!("{schema:?}"))))
}

fn of_export(export: &Export) -> [Setting; 17] {
    let Export {
        endpoint,
        headers,
        timeout,
        stall_timeout,
        retry_after_max,
        compression,
        connections_max,
        batch_spans_max,
        request_bytes_max,
        schedule_delay,
        shutdown_timeout,
        driver,
        proxy,
        certificate,
        client_certificate,
        client_key,
        diagnostics,
    } = export;
    let url = Endpoint::parse(endpoint).map_or_else(
        |error| match error.shown() {
            "" => format!("nothing, which cannot work: it {}", error.fault()),
            given => format!("{given}, which cannot work: it {}", error.fault()),
        },
        |endpoint| endpoint.to_string(),
    );
    let names = headers.iter().map(|(name, _)| format!("{}={SECRET}", name.escape_debug()));
    let names = if headers.is_empty() { NONE.to_owned() } else { names.collect::<Vec<_>>().join(", ") };
    let limit = |time: &Duration| if time.is_zero() { "no limit".to_owned() } else { format!("{time:?}") };
    let file = |file: &Option<_>| file.as_ref().map_or(NONE.to_owned(), |file| format!("{file:?}"));
    [
        masked("export.endpoint", url, endpoint.clone()),
        masked("export.headers", names, format!("{headers:?}")),
        plain("export.timeout", limit(timeout)),
        plain("export.stall_timeout", limit(stall_timeout)),
        plain("export.retry_after_max", format!("{retry_after_max:?}")),
        plain("export.compression", format!("{compression:?}")),
        plain("export.connections_max", connections_max.to_string()),
        plain("export.batch_spans_max", batch_spans_max.to_string()),
        plain("export.request_bytes_max", request_bytes_max.to_string()),
        plain("export.schedule_delay", format!("{schedule_delay:?}")),
        plain("export.shutdown_timeout", format!("{shutdown_timeout:?}")),
        plain("export.driver", format!("{driver:?}")),
        masked("export.proxy", shown_proxy(proxy, endpoint), format!("{proxy:?}")),
        plain("export.certificate", file(certificate)),
        plain("export.client_certificate", file(client_certificate)),
        masked("export.client_key", client_key.as_ref().map_or(NONE, |_| SECRET), file(client_key)),
        plain("export.diagnostics", if diagnostics.is_some() { "a sink of the program" } else { "standard error" }),
    ]
}

/// The proxy as it would be used now, for this endpoint.
fn shown_proxy(proxy: &ProxyChoice, endpoint: &str) -> String {
    match proxy {
        ProxyChoice::Environment => {
            let proxy = Endpoint::parse(endpoint).map_or(Ok(None), |endpoint| proxy_of_environment(&endpoint));
            let shown = proxy.map(|proxy| proxy.map_or(NONE.to_owned(), |proxy| proxy.to_string()));
            format!("by the environment: {}", shown.unwrap_or_else(|error| format!("{NONE}, because of {error}")))
        }
        ProxyChoice::Direct => NONE.to_owned(),
        ProxyChoice::Url(url) => Proxy::parse(url).map_or_else(|error| error.to_string(), |proxy| proxy.to_string()),
    }
}

fn exporter(is_on: bool) -> &'static str {
    if is_on { "otlp" } else { NONE }
}

fn plain(name: &str, value: impl Into<String>) -> Setting {
    let value = value.into();
    Setting { name: name_of(name), shown: value.clone(), value }
}

fn masked(name: &str, shown: impl Into<String>, value: String) -> Setting {
    Setting { name: name_of(name), shown: shown.into(), value }
}
