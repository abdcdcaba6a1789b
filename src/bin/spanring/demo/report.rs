//! What the demo found, for people and for programs.

use std::{fmt::Write, time::Duration};

use spanring::{Health, Ledger, Stats, testing::collector::Tally};

use super::{json::Object, load::Done, machine::Memory, options::Options};

/// Everything that was measured.
pub struct Report<'a> {
    pub options: &'a Options,
    pub done: Done,
    /// How long the threads recorded.
    pub recorded: Duration,
    /// How long it took until all was delivered that could be.
    pub delivered: Duration,
    /// From before the shutdown.
    pub stats: Stats,
    /// Where it is known.
    pub engine_cpu: Option<Duration>,
    /// Where it is known.
    pub memory: Option<Memory>,
    pub uses_counter: bool,
    /// From after the shutdown.
    pub ledger: Ledger,
    /// What the demo's own collector has, if there was one.
    pub collected: Option<Tally>,
}

impl Report<'_> {
    /// What is wrong, and what to do about it. What had no room is lost too, but that is the load's fault, and not
    /// wrong.
    pub fn objection(&self) -> Option<String> {
        let Ledger { started, live, queued, in_flight, exported, unconfirmed, duplicates_max, .. } = self.ledger;
        if !self.ledger.is_closed() || live > 0 || started != self.done.spans {
            return Some(format!(
                "THE LEDGER DOES NOT CLOSE. This is a bug of spanring, please report it: {} recorded, {:?}",
                counted(self.done.spans, "span"),
                self.ledger
            ));
        }
        if queued + in_flight > 0 {
            return Some(format!(
                "{} still waited when the time for the shutdown was over: the machine is busy, lower --rate",
                counted(queued + in_flight, "span")
            ));
        }
        let (lost, all) = (self.undelivered(), counted(started, "span"));
        let complaint = match (lost, unconfirmed) {
            (0, 0) => None,
            (0, _) => Some(format!("{unconfirmed} of {all} were sent, and never answered for")),
            (_, 0) => Some(format!("{lost} of {all} could not be delivered")),
            _ => Some(format!(
                "{lost} of {all} could not be delivered, and {unconfirmed} were sent, and never answered for"
            )),
        };
        if let Some(complaint) = complaint {
            let why = match &self.stats.health {
                Health::Degraded(why) | Health::Down(why) => why,
                _ => "its last answers were good, but there was no time for the rest",
            };
            let remedy = match &self.options.endpoint {
                Some(endpoint) => {
                    format!("check the collector at {endpoint}, or leave --endpoint out to use the demo's own")
                }
                None => "the machine is busy: lower --rate".into(),
            };
            return Some(format!("{complaint}: {why}; {remedy}"));
        }
        let collected = self.collected.as_ref()?.spans;
        let is_explained = (exported..=exported + unconfirmed + duplicates_max).contains(&collected);
        (!is_explained).then(|| {
            format!(
                "the ledger says {} exported, {unconfirmed} unconfirmed and at most {duplicates_max} duplicates, the \
                 collector counted {collected}; this is a bug of spanring, please report it",
                counted(exported, "span")
            )
        })
    }

    /// One object in one line.
    pub fn json(&self) -> String {
        let (options, stats, ledger) = (self.options, &self.stats, &self.ledger);
        let lost = ledger.lost.by_cause().into_iter();
        let lost = lost.fold(Object::new(), |object, (cause, spans)| object.number(cause, spans));
        let columns = Object::new()
            .number("started", ledger.started)
            .number("not_sampled", ledger.not_sampled)
            .number("live", ledger.live)
            .number("queued", ledger.queued)
            .number("in_flight", ledger.in_flight)
            .number("exported", ledger.exported)
            .number("unconfirmed", ledger.unconfirmed)
            .number("duplicates_max", ledger.duplicates_max)
            .object("lost", Some(lost))
            .truth("closed", ledger.is_closed());
        let collector = self.collected.as_ref().map(|tally| {
            Object::new()
                .number("spans", tally.spans)
                .number("seen_twice", tally.ids_seen_twice)
                .number("requests", tally.requests)
                .number("refused", tally.refused)
                .number("connections", tally.connections)
                .number("body_bytes", tally.body_bytes)
                .truth("decodes", options.decodes())
        });
        let mib = |bytes: fn(&Memory) -> u64| self.memory.as_ref().map(|memory| mib(bytes(memory)));
        Object::new()
            .string("driver", stats.driver)
            .string("driver_reason", &stats.driver_reason)
            .string("workload", options.workload.name())
            .number("threads", options.threads)
            .number("rate", options.rate)
            .decimal("recorded_s", Some(self.recorded.as_secs_f64()))
            .decimal("delivered_s", Some(self.delivered.as_secs_f64()))
            .object("ledger", Some(columns))
            .object("collector", collector)
            .number("requests", stats.requests)
            .number("repeats", stats.repeats)
            .decimal("started_per_s", Some(self.started_per_s()))
            .decimal("delivered_per_s", Some(self.delivered_per_s()))
            .decimal("ns_per_span", self.ns_per_span())
            .decimal("cpu_s_per_million", self.cpu_s_per_million())
            .decimal("engine_core_percent", self.engine_core_percent())
            .decimal("rss_mib", mib(|memory| memory.now))
            .decimal("rss_peak_mib", mib(|memory| memory.peak))
            .string("clock", self.clock())
            .end()
    }

    /// The same, for people.
    pub fn text(&self) -> String {
        let (ledger, stats) = (&self.ledger, &self.stats);
        let lost: Vec<String> = ledger
            .lost
            .by_cause()
            .into_iter()
            .filter(|(_, spans)| *spans > 0)
            .map(|(cause, spans)| format!("{cause} {spans}"))
            .collect();
        let known = |value: Option<f64>, unit: &str| {
            value.map_or("not known here".into(), |value| format!("{value:.2} {unit}"))
        };
        let mut text = String::new();
        let mut row = |name: &str, value: &str, note: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<13}{value:>12}   {note}");
        };
        row("driver", stats.driver, &stats.driver_reason);
        row("clock", "", self.clock());
        row("started", &ledger.started.to_string(), &format!("{:.0} a second", self.started_per_s()));
        row(
            "exported",
            &ledger.exported.to_string(),
            &format!("{:.0} a second, in {}", self.delivered_per_s(), counted(stats.requests, "request")),
        );
        if let Some(tally) = &self.collected {
            let how = if self.options.decodes() { "decoded" } else { "counted" };
            row(
                "collected",
                &tally.spans.to_string(),
                &format!("{how} by the collector, over {}", counted(tally.connections, "connection")),
            );
        }
        if ledger.unconfirmed > 0 {
            row("unconfirmed", &ledger.unconfirmed.to_string(), "sent without an answer; the collector may have them");
        }
        row("lost", &ledger.lost.total().to_string(), &lost.join(", "));
        let waiting = ledger.live + ledger.queued + ledger.in_flight;
        row("waiting", &waiting.to_string(), "");
        let load = format!(
            "{} a span, processor time of the demo's threads: with wake-ups, clock readings and cold caches; the cost of a \
             span alone: `cargo bench -p spanring-benches`",
            known(self.ns_per_span(), "ns")
        );
        row("load", "", &load);
        let exporting = format!(
            "{} of a core, {} a million spans, processor time of the engine's thread",
            known(self.engine_core_percent(), "%"),
            known(self.cpu_s_per_million(), "s"),
        );
        row("exporting", "", &exporting);
        row(
            "memory",
            "",
            &format!(
                "{} resident, with the collector and the recording threads",
                known(self.memory.map(|memory| mib(memory.now)), "MiB")
            ),
        );
        if self.objection().is_none() {
            text += "the ledger closes: every span is in exactly one column\n";
        }
        text
    }

    /// Spans that left the lanes, or waited there, and that no collector took.
    fn undelivered(&self) -> u64 {
        let lost = &self.ledger.lost;
        let at_the_program = [lost.lane_full, lost.spill_full, lost.live_limit];
        lost.total() - at_the_program.iter().sum::<u64>()
    }

    fn clock(&self) -> &'static str {
        if self.uses_counter { "the core's counter" } else { "the kernel's monotonic clock" }
    }

    fn started_per_s(&self) -> f64 {
        ratio(self.ledger.started, self.recorded.as_secs_f64()).unwrap_or(0.0)
    }

    /// Over the whole time, with that of the last spans' delivery.
    fn delivered_per_s(&self) -> f64 {
        ratio(self.stats.ledger.exported, self.delivered.as_secs_f64()).unwrap_or(0.0)
    }

    fn ns_per_span(&self) -> Option<f64> {
        (self.done.spans > 0).then(|| self.done.cpu.as_secs_f64() * 1e9 / float(self.done.spans))
    }

    /// Processor seconds of the engine's thread for a million spans that were delivered: everything but the recording
    /// threads and the collector's, see [`super::machine::engine_cpu`].
    fn cpu_s_per_million(&self) -> Option<f64> {
        let exported = self.stats.ledger.exported;
        let cpu = self.engine_cpu.filter(|_| exported > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / float(exported))
    }

    fn engine_core_percent(&self) -> Option<f64> {
        Some(self.engine_cpu?.as_secs_f64() * 100.0 / self.delivered.as_secs_f64())
    }
}

/// A number and its noun, in the singular for one.
fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn ratio(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| float(count) / seconds)
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

/// Exact up to 2⁵³: ten years of spans at a rate that no machine has.
fn float(count: u64) -> f64 {
    count as f64
}
