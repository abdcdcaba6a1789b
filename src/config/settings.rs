//! The configuration: a plain struct with good defaults, checked once at start.

use std::fmt;

use super::{export::Export, origins::Origins, resource::Resource};
use crate::{
    clock::Clock,
    lane::{Class, LANES_MAX, Seats, Shape, UNIT},
    propagate::Propagators,
    record::SpanLimits,
    sample::Sampling,
    trace::IdSource,
};

/// How an engine is set up. Every field has a default that suits a service with a few cores; write
/// `Config { memory_budget: 64 << 20, ..Config::default() }`, so that fields may be added.
#[derive(Debug)]
pub struct Config {
    /// Bytes that recording may use, in all and for ever: up to five eighths for rings, resident from the start, the
    /// rest for open spans, resident as they are used. 32 MiB; at least 1 MiB, with an export 2 MiB, at most 16 GiB.
    /// Threads may keep an eighth of the memory for open spans to themselves, also when they are idle.
    /// [`size`](crate::size) computes it.
    ///
    /// Dropping the engine gives the rings back to the system (on Linux). What open spans have used stays resident
    /// until each thread that recorded has turned to another engine, or ended: at most what the budget has for open
    /// spans.
    pub memory_budget: usize,
    /// Rings that finished spans go through: a power of two from 1 to 128. `None` takes one for each core, at least
    /// four: fewer make threads meet, more make each smaller.
    pub lanes: Option<usize>,
    /// How much one span may hold.
    pub limits: SpanLimits,
    /// Which spans record.
    pub sampling: Sampling,
    /// Where ids come from; `None` is random.
    pub ids: Option<Box<dyn IdSource>>,
    /// Where the time comes from; `None` is the machine.
    pub clock: Option<Clock>,
    /// The process that the spans come from: `Resource::service("shop")`. With `..Config::from_env()` the attributes of
    /// the environment are sent as well; where both have a key, the value here counts (RES-05).
    pub resource: Resource,
    /// Where spans go. `None` sends them nowhere: the program takes them out by
    /// [`Engine::drain`](crate::Engine::drain).
    pub export: Option<Export>,
    /// Which thread runs the export.
    pub worker: WorkerChoice,
    /// The formats in which contexts go into requests and come out of them, for
    /// [`Engine::propagators`](crate::Engine::propagators): W3C Trace Context and W3C Baggage.
    pub propagators: Propagators,
    /// Where the other fields come from, as far as [`Config::from_env`] has read them; for [`Config::explain`].
    pub origins: Origins,
}

/// Which thread runs the export.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WorkerChoice {
    /// A thread of the engine's own.
    #[default]
    OwnThread,
    /// The program, by calling [`Engine::poll_once`](crate::Engine::poll_once) again and again: for hosts with one
    /// thread for each core, which want none of ours. (Only the collector's name is looked up, and a diagnostic sink
    /// called, on a thread of its own, which then ends.)
    ///
    /// ```no_run
    /// use std::{thread, time::Duration};
    /// use spanring::{Config, Engine, WorkerChoice};
    ///
    /// let engine = Engine::start(Config { worker: WorkerChoice::Polled, ..Config::from_env() })?;
    /// let tracer = engine.tracer("reactor");
    /// for turn in 0..1000 {
    ///     let mut span = tracer.span("turn").start();
    ///     span.set("turn", turn);
    ///     span.end();
    ///     // About 200 µs of this turn. It never waits, and says whether it could go on.
    ///     if !engine.poll_once(Duration::from_micros(200)) {
    ///         thread::sleep(Duration::from_millis(10)); // the host's own wait for work
    ///     }
    /// }
    /// engine.shutdown(Duration::from_secs(2));
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    ///
    /// * Any thread may poll, one at a time. Each poll moves what can be moved now, so a request takes several: poll
    ///   every 10 ms or so, or answers are read late and retries are made late.
    /// * The time of a poll is looked at between its steps: one that has begun, as a batch or a round of the driver, is
    ///   not interrupted, so that a poll may take some hundred microseconds more.
    /// * When nobody polls nothing is sent: spans wait in the lanes, and what finds no more room is dropped and counted
    ///   as `lane_full`. Recording never waits for a poll.
    /// * [`flush`](crate::Engine::flush), [`shutdown`](crate::Engine::shutdown) and dropping the engine do the work
    ///   themselves, on the thread that calls them, until their deadline.
    /// * The driver is readiness (`poll`) unless [`Export::driver`] asks for io_uring, which wants to stay on one
    ///   thread: then poll from the same one always.
    Polled,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_budget: 32 << 20,
            lanes: None,
            limits: SpanLimits::default(),
            sampling: Sampling::default(),
            ids: None,
            clock: None,
            resource: Resource::default(),
            export: None,
            worker: WorkerChoice::default(),
            propagators: Propagators::default(),
            origins: Origins::default(),
        }
    }
}

/// A field of the configuration that cannot work. Its `Debug` is the text of its `Display`, because that is what `?` in
/// `main` prints.
#[derive(Clone, Eq, PartialEq)]
pub struct ConfigError {
    field: &'static str,
    value: String,
    remedy: String,
    variable: Option<&'static str>,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), remedy: remedy.into(), variable: None }
    }

    /// A field whose trouble another part has put into words: cause, value and remedy.
    pub(crate) fn said(field: &'static str, error: &impl fmt::Display) -> Self {
        Self { field, value: String::new(), remedy: error.to_string(), variable: None }
    }

    /// With the variable of the environment that the field's value comes from, if it does.
    pub(crate) fn read_from(self, variable: Option<&'static str>) -> Self {
        Self { variable, ..self }
    }

    /// The name of the field.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The variable of the environment that the field's value comes from, if [`Config::from_env`] has read it from one.
    #[must_use]
    pub fn variable(&self) -> Option<&'static str> {
        self.variable
    }

    /// What would do.
    pub(crate) fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, remedy, variable } = self;
        let variable = variable.map_or(String::new(), |variable| format!(" ({variable})"));
        if value.is_empty() {
            return write!(f, "config: {field}{variable}: {remedy}");
        }
        write!(f, "config: {field} = {value}{variable} cannot work: {remedy}")
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// Least bytes of a ring: two of the longest records that come from a first block, and their padding, fit many times
/// over.
const RING_BYTES_MIN: usize = 16 << 10;
/// Most bytes of a ring: its frames have lengths of 32 bits.
const RING_BYTES_MAX: usize = 1 << 30;
pub(crate) const BUDGET_MIN: usize = 1 << 20;
/// Blocks are numbered in units of 128 bytes by 28 bits.
const BUDGET_MAX: usize = if usize::BITS < 64 { 1 << 30 } else { 1 << 34 };
/// Threads that count for themselves. A seat takes 128 bytes; threads beyond share one, at the cost of locked
/// additions.
const SEATS_MAX: usize = 1024;
/// A block holds 64 KiB, and nothing that is counted takes less than four bytes.
pub(crate) const COUNT_MAX: u32 = 16_384;
/// Bytes of a unit's link.
const LINK_BYTES: usize = 4;

impl Config {
    /// The resource as it is sent: the environment's below the program's.
    pub(crate) fn merged_resource(&self) -> Resource {
        self.resource.above(&self.origins.resource)
    }

    /// The sizes that follow from the budget.
    pub(crate) fn shape(&self) -> Result<Shape, ConfigError> {
        self.check_limits()?;
        let lanes = self.lanes.unwrap_or_else(default_lanes);
        if !lanes.is_power_of_two() || lanes > LANES_MAX {
            return Err(ConfigError::new(
                "lanes",
                lanes,
                format!("give a power of two from 1 to {LANES_MAX}, or None"),
            ));
        }
        let budget = self.memory_budget;
        let (least, what_for) = self.budget_min(lanes);
        if !(least..=BUDGET_MAX).contains(&budget) {
            let remedy = format!("give at least {least} bytes{what_for}, and at most {BUDGET_MAX} (16 GiB)");
            return Err(ConfigError::new("memory_budget", budget, remedy));
        }
        // What is never recorded needs no room.
        let (budget, lanes) = if self.records_nothing() { (BUDGET_MIN, 1) } else { (budget, lanes) };
        let seats = (budget / 16 / Seats::SEAT_BYTES).min(SEATS_MAX);
        let requests = self.export.as_ref().map_or(0, |export| export.requests_bytes(budget));
        let others = seats * (Seats::SEAT_BYTES + LINK_BYTES) + requests;
        // Sizes are powers of two, of which more than half is often the next one.
        let rings_max = (budget - others - budget / 8).min(budget / 8 * 5).max(budget / 2);
        let ring_bytes = floor_power_of_two(rings_max / lanes).min(RING_BYTES_MAX);
        let taken = ring_bytes * lanes + others;
        let rest = budget - taken;
        assert!(rest >= budget / 16, "the least budget leaves room for open spans");
        let arena_bytes = rest / (UNIT + LINK_BYTES) * UNIT;
        Ok(Shape { lanes, ring_bytes, arena_bytes, spill_bytes: arena_bytes / 4, seats })
    }

    /// Whether no span is ever recorded, and nobody would take one.
    fn records_nothing(&self) -> bool {
        self.export.is_none() && self.sampling == Sampling::AlwaysOff
    }

    /// The least budget for so many lanes, and what takes so much.
    fn budget_min(&self, lanes: usize) -> (usize, String) {
        // Half of the budget at least is for rings.
        let rings = (RING_BYTES_MIN * lanes * 2, format!(" for {lanes} lanes (or take fewer lanes)"));
        // Of the other half seats take an eighth and open spans another one at least, so that a third of the whole is
        // left.
        let requests = self.export.as_ref().map_or(0, |export| export.requests_bytes(0) * 3);
        let requests =
            (requests, " for the requests that are on their way (or lower export.connections_max)".to_owned());
        let least = [(BUDGET_MIN, " (1 MiB)".to_owned()), rings, requests];
        least.into_iter().max_by_key(|&(bytes, _)| bytes).expect("there are three")
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let depth = self.limits.attribute_value_depth;
        if !(1..=SpanLimits::VALUE_DEPTH_MAX).contains(&depth) {
            let remedy = format!("give a depth from 1 to {}", SpanLimits::VALUE_DEPTH_MAX);
            return Err(ConfigError::new("limits.attribute_value_depth", depth, remedy));
        }
        let counts = [
            ("limits.attribute_count", self.limits.attribute_count),
            ("limits.event_count", self.limits.event_count),
            ("limits.link_count", self.limits.link_count),
            ("limits.attribute_per_event_count", self.limits.attribute_per_event_count),
            ("limits.attribute_per_link_count", self.limits.attribute_per_link_count),
        ];
        match counts.into_iter().find(|&(_, count)| count > COUNT_MAX) {
            Some((field, count)) => {
                Err(ConfigError::new(field, count, format!("a span holds 64 KiB; give at most {COUNT_MAX}")))
            }
            None => Ok(()),
        }
    }
}

/// One ring for each thread that can run at once, and four on small machines: a thread that is stopped in a ring takes
/// that ring out of use, and the others need somewhere to go.
fn default_lanes() -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    threads.next_power_of_two().clamp(4, LANES_MAX)
}

fn floor_power_of_two(value: usize) -> usize {
    if value == 0 { 0 } else { 1 << value.ilog2() }
}

const _: () = assert!(RING_BYTES_MIN / 4 > 2 * Class::First.bytes(), "a ring takes the records of first blocks");

#[cfg(test)]
mod tests {
    use super::{super::export::REQUEST_BYTES_MIN, *};

    #[test]
    fn shapes_stay_inside_the_budget() {
        for budget in [1 << 20, (1 << 20) + 12_345, 32 << 20, 100_000_000, BUDGET_MAX] {
            for lanes in [1, 4, 32] {
                let config = Config { memory_budget: budget, lanes: Some(lanes), ..Config::default() };
                let shape = config.shape().unwrap();
                let used = shape.lanes * shape.ring_bytes
                    + shape.arena_bytes
                    + shape.arena_bytes / UNIT * LINK_BYTES
                    + shape.seats * (Seats::SEAT_BYTES + LINK_BYTES);
                assert!(used <= budget, "{used} of {budget}");
                assert!(shape.arena_bytes >= budget / 5);
            }
        }
    }

    #[test]
    fn requests_on_their_way_are_inside_the_budget() {
        // The least of both is three times what seven requests need.
        for budget in [REQUEST_BYTES_MIN * 7 * 3, 3 << 20, 4 << 20, 32 << 20, 1 << 30] {
            let config = Config { memory_budget: budget, export: Some(Export::default()), ..Config::default() };
            let shape = config.shape().unwrap();
            let requests = Export::default().requests_bytes(budget);
            let lanes = shape.lanes * shape.ring_bytes + shape.arena_bytes;
            assert!(lanes + requests <= budget, "{lanes} and {requests} of {budget}");
        }
    }

    /// The value that an error asks for is one that works, and every larger one does.
    #[test]
    fn least_budget_is_named_and_works() {
        for (lanes, connections_max) in (0..=7).flat_map(|log| (0..=17).map(move |count| (1 << log, count))) {
            let config = |memory_budget| {
                let export = Export { connections_max, ..Export::default() };
                Config { memory_budget, lanes: Some(lanes), export: Some(export), ..Config::default() }
            };
            let error = config(0).shape().unwrap_err();
            assert_eq!(error.field(), "memory_budget");
            let text = error.to_string();
            let least = text.split_once("give at least ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
            let least: usize = least.parse().unwrap();
            assert_eq!(config(least - 1).shape().unwrap_err().field(), "memory_budget");
            for step in 0..64 {
                let shape = config(least + step * 123_457).shape();
                assert!(shape.is_ok(), "{lanes} lanes, {connections_max} connections: {shape:?}");
            }
        }
        let config = Config { memory_budget: 1 << 20, export: Some(Export::default()), ..Config::default() };
        assert_eq!(
            config.shape().unwrap_err().to_string(),
            "config: memory_budget = 1048576 cannot work: give at least 2064384 bytes for the requests that are on their \
             way (or lower export.connections_max), and at most 17179869184 (16 GiB)"
        );
    }

    #[test]
    fn impossible_fields_are_named_with_a_remedy() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.shape().unwrap_err()
        };
        let cases = [
            (with(|config| config.memory_budget = 0), "memory_budget"),
            (with(|config| config.memory_budget = usize::MAX), "memory_budget"),
            (with(|config| config.lanes = Some(3)), "lanes"),
            (with(|config| config.lanes = Some(0)), "lanes"),
            (with(|config| config.lanes = Some(256)), "lanes"),
            (with(|config| config.limits.attribute_value_depth = 0), "limits.attribute_value_depth"),
            (with(|config| config.limits.attribute_value_depth = 1000), "limits.attribute_value_depth"),
            (with(|config| config.limits.event_count = u32::MAX), "limits.event_count"),
        ];
        for (error, field) in cases {
            assert_eq!(error.field(), field);
            assert!(error.to_string().contains("give"), "{error}");
        }
        let error = with(|config| {
            config.memory_budget = 1 << 20;
            config.lanes = Some(128);
        });
        assert_eq!(
            error.to_string(),
            "config: memory_budget = 1048576 cannot work: give at least 4194304 bytes for 128 lanes (or take fewer lanes), \
             and at most 17179869184 (16 GiB)"
        );
    }
}
