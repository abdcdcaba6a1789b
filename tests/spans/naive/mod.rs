//! A span in its plainest form: what must come out after a list of calls, by code that is too simple to be wrong.
//!
//! [`check`] makes the same calls on a span of the library and compares. The property tests and the fuzzer share it.
//! The rules are written here a second time and from the specification; nothing of the library's recording is used.

mod lend;
mod plain;

use std::{
    collections::BTreeSet,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use lend::lend;
use plain::{BEGIN, Plain};
use spanring::{
    Clock, Config, Engine, FakeClock, Key, Kind, Link, Sampling, SharedSpan, Span, SpanContext, SpanId, SpanLimits,
    Status, TraceId, TraceState, Value, testing::finished,
};

// ---- What is done to a span.

/// One span: how it starts, what happens to it, and its end.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub struct Case {
    pub limits: Limits,
    pub start: Start,
    pub is_shared: bool,
    pub calls: Vec<Call>,
    /// In seconds after 1970; `None` is the moment of the call.
    pub end: Option<u32>,
}

/// Limits, small enough to be met.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub struct Limits {
    pub attributes: u8,
    pub value_length: Option<u8>,
    /// One less than the depth.
    pub depth: u8,
    pub events: u8,
    pub links: u8,
    pub per_event: u8,
    pub per_link: u8,
}

#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub struct Start {
    pub name: u8,
    pub kind: u8,
    pub parent: u8,
    /// In seconds after 1970; `None` is the moment of the call.
    pub at: Option<u32>,
    pub attributes: Pairs,
    pub links: Vec<(u8, Pairs)>,
}

/// Names, keys and contexts are numbers, so that the same ones come again; see [`name`] and [`context`].
pub type Pairs = Vec<(u8, Val)>;

#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub enum Call {
    Set {
        key: u8,
        value: Val,
    },
    Event {
        name: u8,
        /// A shared span has no way to give it, and takes the moment of the call.
        at: Option<u32>,
        attributes: Pairs,
    },
    Link {
        target: u8,
        attributes: Pairs,
    },
    Status(Said),
    Rename(u8),
    /// Time passes, in nanoseconds.
    Advance(u32),
}

#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub enum Said {
    Unset,
    Ok,
    Error(u8),
}

/// A `Value` that owns what it holds.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Debug)]
pub enum Val {
    Empty,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(String),
    /// One character, many times: a long text from a short input.
    Long(char, u16),
    Bytes(Vec<u8>),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    Strs(Vec<String>),
    /// Text that is formatted piece by piece as it is recorded.
    Shown(Vec<String>),
    Array(Vec<Self>),
    Map(Vec<(u8, Self)>),
}

/// The name of this number: none, one of three that are longer than a name may be, or one of many lengths.
pub fn name(number: u8) -> &'static str {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let name = |number: usize| match number {
            0 => String::new(),
            1..=3 => "x".repeat(number) + &"€".repeat(1400),
            // Names of one length that begin and end alike, and differ in between.
            4..=19 => format!("http.request.header.{number:03}.of.the.client"),
            _ => format!("{number}") + &"ä".repeat(number % 70),
        };
        (0..256).map(name).collect()
    });
    &NAMES[usize::from(number)]
}

/// The context of this number: without ids, with one, with both, each with and without a trace state.
fn context(number: u8) -> SpanContext {
    let ids = [(0, 0), (0, 2), (1, 0), (1, 2), (3, 4), (255, 255)];
    let (trace, span) = ids[usize::from(number) % ids.len()];
    let state = if number & 0x40 == 0 { "" } else { "vendor@tenant=value,other=1" };
    let state = TraceState::new(state).expect("it is valid");
    SpanContext::remote(TraceId([trace; 16]), SpanId([span; 8]), number, state)
}

impl Limits {
    fn to_span_limits(&self) -> SpanLimits {
        SpanLimits {
            attribute_count: self.attributes.into(),
            attribute_value_length: self.value_length.map(u32::from),
            attribute_value_depth: u32::from(self.depth) % SpanLimits::VALUE_DEPTH_MAX + 1,
            event_count: self.events.into(),
            link_count: self.links.into(),
            attribute_per_event_count: self.per_event.into(),
            attribute_per_link_count: self.per_link.into(),
        }
    }
}

// ---- The same on a span of the library.

enum Open {
    Own(Span),
    Shared(SharedSpan),
}

fn at(seconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into())
}

impl Open {
    fn start(case: &Case, engine: &Engine) -> Self {
        let start = &case.start;
        let parent = context(start.parent);
        let tracer = engine.tracer("model");
        let kinds = [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
        let targets: Vec<_> = start.links.iter().map(|(target, _)| context(*target)).collect();
        let pairs: Pairs = start.links.iter().flat_map(|(_, pairs)| pairs.clone()).collect();
        lend(&start.attributes, |attributes| {
            lend(&pairs, |pairs| {
                let attributes = keyed(attributes);
                let pairs = keyed(pairs);
                let mut rest = pairs.as_slice();
                let mut links = Vec::new();
                for (target, (_, own)) in targets.iter().zip(&start.links) {
                    let (attributes, others) = rest.split_at(own.len());
                    links.push(Link { target, attributes });
                    rest = others;
                }
                let mut builder = tracer.span(name(start.name)).kind(kinds[usize::from(start.kind % 5)]);
                builder = builder.parent(&parent).attributes(&attributes).links(&links);
                if let Some(seconds) = start.at {
                    builder = builder.started_at(at(seconds));
                }
                let span = builder.start();
                if case.is_shared { Self::Shared(span.share()) } else { Self::Own(span) }
            })
        })
    }

    fn call(&mut self, call: &Call, clock: &FakeClock) {
        match (self, call) {
            (Self::Own(span), Call::Set { key, value }) => {
                lend(&[(*key, value.clone())], |pairs| pairs.iter().for_each(|&(key, value)| span.set(key, value)));
            }
            (Self::Shared(span), Call::Set { key, value }) => {
                lend(&[(*key, value.clone())], |pairs| pairs.iter().for_each(|&(key, value)| span.set(key, value)));
            }
            (Self::Own(span), Call::Event { name: number, at: None, attributes }) => {
                lend(attributes, |pairs| span.event_with(name(*number), pairs.iter().copied()));
            }
            (Self::Own(span), Call::Event { name: number, at: Some(seconds), attributes }) => {
                lend(attributes, |pairs| span.event_at(name(*number), at(*seconds), pairs.iter().copied()));
            }
            (Self::Shared(span), Call::Event { name: number, attributes, .. }) => {
                lend(attributes, |pairs| span.event_with(name(*number), pairs.iter().copied()));
            }
            (Self::Own(span), Call::Link { target, attributes }) => {
                lend(attributes, |pairs| span.link_with(&context(*target), pairs.iter().copied()));
            }
            (Self::Shared(span), Call::Link { target, attributes }) => {
                lend(attributes, |pairs| span.link_with(&context(*target), pairs.iter().copied()));
            }
            (Self::Own(span), Call::Status(said)) => span.status(said.status()),
            (Self::Shared(span), Call::Status(said)) => span.status(said.status()),
            (Self::Own(span), Call::Rename(number)) => span.rename(name(*number)),
            (Self::Shared(span), Call::Rename(number)) => span.rename(name(*number)),
            (_, Call::Advance(nanos)) => clock.advance(Duration::from_nanos(u64::from(*nanos))),
        }
    }

    fn end(self, time: Option<u32>) {
        match (self, time.map(at)) {
            (Self::Own(span), None) => span.end(),
            (Self::Own(span), Some(time)) => span.end_at(time),
            (Self::Shared(span), None) => span.end(),
            (Self::Shared(span), Some(time)) => span.end_at(time),
        }
    }
}

fn keyed<'a>(pairs: &[(&'a str, Value<'a>)]) -> Vec<(Key<'a>, Value<'a>)> {
    pairs.iter().map(|&(key, value)| (key.into(), value)).collect()
}

impl Said {
    fn status(&self) -> Status<'static> {
        match self {
            Self::Unset => Status::Unset,
            Self::Ok => Status::Ok,
            Self::Error(text) => Status::Error(name(*text)),
        }
    }
}

/// Bytes that surely fit into one span, with all that it holds for the length of a call.
const FITS: usize = 40 << 10;
/// Bytes that surely do not.
const BURSTS: usize = 64 << 10;

/// Runs `case` on a span of the library and compares with the model: field by field as long as all of it fits into a
/// span, else by what must be true of a span that is full.
pub fn check(case: &Case) {
    let clock = FakeClock::at(SystemTime::UNIX_EPOCH + Duration::from_nanos(BEGIN));
    let engine = Engine::start(Config {
        memory_budget: 2 << 20,
        lanes: Some(1),
        limits: case.limits.to_span_limits(),
        sampling: Sampling::AlwaysOn,
        clock: Some(Clock::fake(&clock)),
        ..Config::default()
    });
    let engine = engine.expect("two mebibytes are enough");
    let mut span = Open::start(case, &engine);
    case.calls.iter().for_each(|call| span.call(call, &clock));
    span.end(case.end);

    let spans = finished(&engine);
    let ledger = engine.ledger();
    assert!(ledger.is_closed(), "{ledger:?}");
    assert_eq!((spans.len(), ledger.started, ledger.drained, ledger.live), (1, 1, 1, 0), "{ledger:?}");
    let (expected, seen) = (Plain::expected(case), Plain::seen(&spans[0]));
    if case.bytes_max() <= FITS {
        assert_eq!(seen, expected);
    } else {
        check_full(&seen, &expected, case);
    }
}

/// A full span: what does not depend on room is right, and everything that was offered is there or counted.
///
/// Where an earlier attribute found no room, a later one may land that the model, which is at its limit, turned away.
/// So of attributes only the sum has bounds: each key came at least once, and nothing counts more often than it came.
fn check_full(seen: &Plain, expected: &Plain, case: &Case) {
    let fixed = |plain: &Plain| (plain.kind, plain.parent, plain.flags, plain.start, plain.end, plain.status.0);
    assert_eq!(fixed(seen), fixed(expected));
    let count = |len: usize, dropped: u32| len + dropped as usize;
    let events = |plain: &Plain| count(plain.events.len(), plain.dropped_events);
    let links = |plain: &Plain| count(plain.links.len(), plain.dropped_links);
    assert_eq!((events(seen), links(seen)), (events(expected), links(expected)));
    let keys: Vec<u8> = case.attribute_keys().collect();
    let distinct = keys.iter().collect::<BTreeSet<_>>().len();
    let attributes = count(seen.attributes.entries.len(), seen.attributes.dropped);
    assert!((distinct..=keys.len()).contains(&attributes), "{attributes} of {distinct} keys in {} calls", keys.len());
    let dropped = seen.attributes.dropped + seen.dropped_events + seen.dropped_links;
    assert!(expected.bytes_min() <= BURSTS || dropped > 0, "so much cannot have fitted");
}

impl Case {
    /// The key of each attribute that the span was offered.
    fn attribute_keys(&self) -> impl Iterator<Item = u8> {
        let later = self.calls.iter().filter_map(|call| match call {
            Call::Set { key, .. } => Some(*key),
            _ => None,
        });
        self.start.attributes.iter().map(|(key, _)| *key).chain(later).filter(|key| !name(*key).is_empty())
    }

    /// Bytes that all calls together take at most, on the wire and with a hundred to spare for each.
    fn bytes_max(&self) -> usize {
        let pairs =
            |pairs: &Pairs| pairs.iter().map(|(key, value)| name(*key).len() + value.bytes_max()).sum::<usize>();
        let links = self.start.links.iter().map(|(_, attributes)| 100 + pairs(attributes));
        let calls = self.calls.iter().map(|call| match call {
            Call::Set { key, value } => name(*key).len() + value.bytes_max(),
            Call::Event { name: number, attributes, .. } => 100 + name(*number).len() + pairs(attributes),
            Call::Link { attributes, .. } => 200 + pairs(attributes),
            Call::Status(Said::Error(text)) => 100 + name(*text).len(),
            Call::Rename(number) => 100 + name(*number).len(),
            Call::Status(_) | Call::Advance(_) => 0,
        });
        let start = 500 + name(self.start.name).len() + pairs(&self.start.attributes);
        start + links.sum::<usize>() + calls.sum::<usize>()
    }
}

impl Val {
    fn bytes_max(&self) -> usize {
        let inner = match self {
            Self::Str(text) => text.len(),
            Self::Long(character, times) => character.len_utf8() * usize::from(*times),
            Self::Bytes(bytes) => bytes.len(),
            Self::Bools(values) => values.len() * 20,
            Self::Ints(values) => values.len() * 20,
            Self::Doubles(values) => values.len() * 20,
            Self::Shown(pieces) => pieces.iter().map(String::len).sum(),
            Self::Strs(texts) => texts.iter().map(|text| 20 + text.len()).sum(),
            Self::Array(values) => values.iter().map(Self::bytes_max).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| name(*key).len() + value.bytes_max()).sum(),
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => 0,
        };
        100 + inner
    }
}
