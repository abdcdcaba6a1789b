//! Figures of a running engine, as a struct and as the text that Prometheus reads.

use std::{fmt::Write as _, time::Duration};

use super::{
    causes::Cause,
    diagnostics::Health,
    ledger::{Ledger, Memory},
    times::{Ended, ExportTime, UNCONFIRMED},
};
use crate::trace::{Misuse, Misuses};

/// Figures of one moment. Taking them costs the request path nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// What became of every span.
    pub ledger: Ledger,
    /// How much of the memory budget is in use.
    pub memory: Memory,
    /// State of the export.
    pub health: Health,
    /// The I/O driver: `uring` or `poll`; empty where nothing is exported.
    pub driver: &'static str,
    /// Why this driver.
    pub driver_reason: String,
    /// Open connections.
    pub connections: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Requests that were sent again, for whatever reason. How many spans the collector may have more than once is
    /// [`Ledger::duplicates_max`].
    pub repeats: u64,
    /// Bytes of the bodies of the requests that have ended, before compression.
    pub body_bytes: u64,
    /// Requests and their time, from the first attempt to the end of the last: those that were taken, taken in part,
    /// refused, given up, quarantined, and not confirmed.
    pub exports: [ExportTime; Ended::ALL.len()],
    /// How long the oldest span that has left the lanes has waited for the end of its request.
    pub oldest: Duration,
    /// How often the wall clock was seen to step.
    pub wall_clock_steps: u64,
    /// How often each kind of misuse happened with this engine.
    pub misuse: [(Misuse, u64); Misuse::ALL.len()],
    pub(crate) server: (String, u16),
}

/// The names that OpenTelemetry gives to a component of this kind, and its number: there is one in an engine.
const PROCESSOR: &str =
    r#"otel_component_name="batching_span_processor/0",otel_component_type="batching_span_processor""#;
const EXPORTER: &str =
    r#"otel_component_name="otlp_http_span_exporter/0",otel_component_type="otlp_http_span_exporter""#;

impl Stats {
    pub(crate) fn new(ledger: Ledger, memory: Memory, wall_clock_steps: u64, misuses: &Misuses) -> Self {
        Self {
            ledger,
            memory,
            health: Health::Healthy,
            driver: "",
            driver_reason: String::new(),
            connections: 0,
            requests: 0,
            repeats: 0,
            body_bytes: 0,
            exports: [ExportTime::default(); Ended::ALL.len()],
            oldest: Duration::ZERO,
            wall_clock_steps,
            misuse: Misuse::ALL.map(|kind| (kind, misuses.count(kind))),
            server: (String::new(), 0),
        }
    }

    /// The figures in the text format of Prometheus, under the names of OpenTelemetry's SDK metrics where there is one.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = Text::default();
        self.write_spans(&mut text);
        self.write_queue(&mut text);
        self.write_export(&mut text);
        text.0
    }

    fn write_spans(&self, text: &mut Text) {
        let ledger = &self.ledger;
        // OBS-01: every span, also those that do not record. OBS-02: those that do, and have not ended.
        text.metric("otel_sdk_span_started_total", "counter", "Spans that were started.");
        let sampled = ledger.started - ledger.not_sampled;
        text.sample("otel_sdk_span_started_total", r#"otel_span_sampling_result="RECORD_AND_SAMPLE""#, sampled);
        text.sample("otel_sdk_span_started_total", r#"otel_span_sampling_result="DROP""#, ledger.not_sampled);
        text.metric("otel_sdk_span_live", "gauge", "Spans that record and have not ended.");
        text.sample("otel_sdk_span_live", r#"otel_span_sampling_result="RECORD_AND_SAMPLE""#, ledger.live);
        text.metric("spanring_lost_spans_total", "counter", "Spans that were lost, by cause.");
        for (cause, spans) in ledger.lost.by_cause() {
            text.sample("spanring_lost_spans_total", &format!(r#"cause="{cause}""#), spans);
        }
        text.metric(
            "spanring_unconfirmed_spans_total",
            "counter",
            "Spans that were sent without the collector's answer: it may have them.",
        );
        text.sample("spanring_unconfirmed_spans_total", "", ledger.unconfirmed);
        text.metric(
            "spanring_duplicate_spans_max_total",
            "counter",
            "Spans that were sent again though the collector may have had them.",
        );
        text.sample("spanring_duplicate_spans_max_total", "", ledger.duplicates_max);
        text.metric(
            "spanring_sibling_hits_total",
            "counter",
            "Spans that ended in a ring that was not their first choice.",
        );
        text.sample("spanring_sibling_hits_total", "", ledger.sibling_hits);
        text.metric("spanring_misuse_total", "counter", "Wrong uses of the API, by kind.");
        for (kind, count) in self.misuse {
            text.sample("spanring_misuse_total", &format!(r#"kind="{}""#, kind.name()), count);
        }
    }

    fn write_queue(&self, text: &mut Text) {
        let (ledger, memory, lost) = (&self.ledger, &self.memory, &self.ledger.lost);
        // OBS-03, OBS-04. The capacity is bytes; in spans it is what fits of the size that the waiting ones have.
        text.metric("otel_sdk_processor_span_queue_size", "gauge", "Spans that wait in the lanes.");
        text.sample("otel_sdk_processor_span_queue_size", PROCESSOR, ledger.queued);
        text.metric("otel_sdk_processor_span_queue_capacity", "gauge", "Spans of 512 bytes that the lanes can hold.");
        text.sample("otel_sdk_processor_span_queue_capacity", PROCESSOR, memory.rings / QUEUE_SPAN_BYTES);
        // OBS-05: handed to the exporter, or why not.
        let ended = ledger.exported + ledger.unconfirmed + ledger.drained + lost.sum(Cause::is_of_export);
        let handed = ledger.in_flight + ended;
        text.metric(
            "otel_sdk_processor_span_processed_total",
            "counter",
            "Spans that left the lanes, or never came there.",
        );
        let labelled = |error: &str| format!(r#"{PROCESSOR},error_type="{error}""#);
        text.sample("otel_sdk_processor_span_processed_total", PROCESSOR, handed);
        for error in ["queue_full", "already_shutdown"] {
            let spans = lost.sum(|cause| cause.error_type() == error);
            text.sample("otel_sdk_processor_span_processed_total", &labelled(error), spans);
        }
        text.metric("spanring_memory_bytes", "gauge", "Memory of the engine, by use.");
        let uses = [
            ("budget", memory.budget),
            ("rings", memory.rings),
            ("rings_waiting", memory.rings_waiting),
            ("ring_high_water", memory.ring_high_water),
            ("spill_waiting", memory.spill_waiting),
            ("arena", memory.arena),
            ("arena_carved", memory.arena_carved),
        ];
        for (name, bytes) in uses {
            text.sample("spanring_memory_bytes", &format!(r#"use="{name}""#), bytes);
        }
    }

    fn write_export(&self, text: &mut Text) {
        let (ledger, lost) = (&self.ledger, &self.ledger.lost);
        let (address, port) = (escape(&self.server.0), self.server.1);
        let exporter = format!(r#"{EXPORTER},server_address="{address}",server_port="{port}""#);
        let labelled = |error: &str| format!(r#"{exporter},error_type="{error}""#);
        // OBS-06: through all attempts. OBS-07: once for each span, when its last attempt has ended.
        text.metric("otel_sdk_exporter_span_inflight", "gauge", "Spans that the exporter has.");
        text.sample("otel_sdk_exporter_span_inflight", &exporter, ledger.in_flight);
        text.metric("otel_sdk_exporter_span_exported_total", "counter", "Spans whose export has ended.");
        text.sample("otel_sdk_exporter_span_exported_total", &exporter, ledger.exported);
        for cause in Cause::ALL.into_iter().filter(|&cause| cause.is_of_export()) {
            text.sample("otel_sdk_exporter_span_exported_total", &labelled(cause.error_type()), lost.of(cause));
        }
        text.sample("otel_sdk_exporter_span_exported_total", &labelled(UNCONFIRMED), ledger.unconfirmed);
        // OBS-08: one observation for each request, from the first attempt to the end of the last.
        text.metric(
            "otel_sdk_exporter_operation_duration_seconds",
            "summary",
            "Time of a request, all attempts together.",
        );
        for (ended, time) in Ended::ALL.into_iter().zip(&self.exports) {
            let labels = match ended.error_type() {
                "" => exporter.clone(),
                error => labelled(error),
            };
            text.sample("otel_sdk_exporter_operation_duration_seconds_count", &labels, time.count);
            text.sample("otel_sdk_exporter_operation_duration_seconds_sum", &labels, time.sum.as_secs_f64());
        }
        text.metric("spanring_repeated_requests_total", "counter", "Requests that were sent again.");
        text.sample("spanring_repeated_requests_total", "", self.repeats);
        text.metric("spanring_connections", "gauge", "Connections to the collector.");
        text.sample("spanring_connections", "", self.connections);
        text.metric("spanring_oldest_span_seconds", "gauge", "Age of the oldest span that the exporter has.");
        text.sample("spanring_oldest_span_seconds", "", self.oldest.as_secs_f64());
        text.metric(
            "spanring_healthy",
            "gauge",
            "0 while the collector does not take what it is sent, or will not for long.",
        );
        let is_healthy = matches!(self.health, Health::Starting | Health::Healthy);
        text.sample("spanring_healthy", "", u64::from(is_healthy));
        text.metric("spanring_driver", "gauge", "The I/O driver.");
        text.sample(
            "spanring_driver",
            &format!(r#"driver="{}",reason="{}""#, self.driver, escape(&self.driver_reason)),
            1,
        );
        text.metric("spanring_wall_clock_steps_total", "counter", "Steps of the wall clock that were seen.");
        text.sample("spanring_wall_clock_steps_total", "", self.wall_clock_steps);
    }
}

/// What a span is taken to need in the lanes, where OpenTelemetry counts in spans.
pub(crate) const QUEUE_SPAN_BYTES: u64 = 512;

/// The text format, line by line.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }
}

/// A label's value, as the format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
