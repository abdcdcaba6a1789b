//! Each misuse is counted once and by its kind, and nothing else is: races on a shared span included.
//!
//! The counters are those of the process, so these tests run one at a time.

use std::{
    hint, mem,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{Barrier, Mutex, MutexGuard},
    thread,
    time::{Duration, SystemTime},
};

use spanring::{
    Config, Engine, IdSource, Link, Misuse, Sampling, SharedSpan, Span, SpanContext, SpanId, Status, TraceId,
    TraceState, Tracer, Value, testing::finished,
};

use crate::alone;

const NOTHING: [(&str, Value<'static>); 0] = [];
/// More than the 4,096 bytes that a name or a text may have.
const TOO_LONG: usize = 4097;

/// The counters, held by one test at a time.
pub struct Counts {
    before: [u64; Misuse::ALL.len()],
    _alone: MutexGuard<'static, ()>,
}

impl Counts {
    pub fn begin() -> Self {
        let alone = alone();
        Self { before: Misuse::ALL.map(Misuse::count), _alone: alone }
    }

    /// How often `kind` happened since the last look; nothing else did.
    pub fn only(&mut self, kind: Misuse) -> u64 {
        self.of([kind])[0]
    }

    /// How often each of these happened since the last look; nothing else did.
    pub fn of<const N: usize>(&mut self, kinds: [Misuse; N]) -> [u64; N] {
        let before = mem::replace(&mut self.before, Misuse::ALL.map(Misuse::count));
        let counts = |kind: Misuse| {
            let at = Misuse::ALL.iter().position(|each| *each == kind).expect("all kinds are there");
            self.before[at] - before[at]
        };
        for other in Misuse::ALL.into_iter().filter(|kind| !kinds.contains(kind)) {
            assert_eq!(counts(other), 0, "{other:?} beside {kinds:?}");
        }
        kinds.map(counts)
    }
}

pub fn engine() -> Engine {
    Engine::start(Config { memory_budget: 4 << 20, ..Config::default() }).expect("the configuration is good")
}

fn span(engine: &Engine) -> Span {
    engine.tracer("t").span("a").start()
}

fn target() -> SpanContext {
    SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default())
}

fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

/// Every way to change a span.
const CHANGES: [fn(&mut Span); 8] = [
    |span| span.set("key", 1),
    |span| span.set("long", "x".repeat(1000).as_str()),
    |span| span.set_all([("key", 1)]),
    |span| span.event_with("event", [("key", 1)]),
    |span| span.event_at("event", SystemTime::UNIX_EPOCH, NOTHING),
    |span| span.link_with(&target(), NOTHING),
    |span| span.status(Status::Error("boom")),
    |span| span.rename("b"),
];

/// Every way to change a shared span.
const SHARED_CHANGES: [fn(&SharedSpan); 5] = [
    |span| span.set("key", 1),
    |span| span.event_with("event", [("key", 1)]),
    |span| span.link_with(&target(), NOTHING),
    |span| span.status(Status::Error("boom")),
    |span| span.rename("b"),
];

/// Every way to change a span that is wrong in itself.
const WRONG_CHANGES: [fn(&mut Span); 8] = [
    |span| span.set("", 1),
    |span| span.event_with("", NOTHING),
    |span| span.event_at("", SystemTime::UNIX_EPOCH, NOTHING),
    |span| span.event_with(&"x".repeat(TOO_LONG), NOTHING),
    |span| span.link_with(&SpanContext::default(), NOTHING),
    |span| span.status(Status::Error(&"x".repeat(TOO_LONG))),
    |span| span.rename(""),
    |span| span.rename(&"x".repeat(TOO_LONG)),
];

#[test]
fn right_use_counts_nothing() {
    let mut counts = Counts::begin();
    let engine = engine();
    let mut own = span(&engine);
    CHANGES.iter().for_each(|change| change(&mut own));
    own.end();
    let shared = span(&engine).share();
    SHARED_CHANGES.iter().for_each(|change| change(&shared));
    shared.end();
    drop(shared);
    drop(span(&engine));
    assert_eq!(counts.only(Misuse::ChangedAfterEnd), 0);
}

#[test]
fn each_change_after_the_end_counts_once() {
    let mut counts = Counts::begin();
    let engine = engine();
    let shared = span(&engine).share();
    shared.end();
    for change in SHARED_CHANGES {
        change(&shared);
        assert_eq!(counts.only(Misuse::ChangedAfterEnd), 1);
    }
}

#[test]
fn each_further_end_counts_once() {
    let mut counts = Counts::begin();
    let engine = engine();
    let shared = span(&engine).share();
    shared.end();
    shared.end();
    shared.end_at(epoch());
    assert_eq!(counts.only(Misuse::EndedTwice), 2);
    drop(shared);
    assert_eq!(counts.only(Misuse::EndedTwice), 0, "a drop after the end is no second one");
    assert_eq!(engine.drain(|_, _| ()), 1);
}

#[test]
fn calls_on_a_span_that_does_not_record_are_no_misuse() {
    let mut counts = Counts::begin();
    let engine = Engine::start(Config { sampling: Sampling::AlwaysOff, ..Config::default() }).unwrap();
    let mut own = span(&engine);
    CHANGES.iter().for_each(|change| change(&mut own));
    let shared = span(&engine).share();
    SHARED_CHANGES.iter().for_each(|change| change(&shared));
    shared.end();
    shared.end();
    assert_eq!(counts.only(Misuse::ChangedAfterEnd), 0);
    for (index, change) in WRONG_CHANGES.iter().enumerate() {
        change(&mut own);
        assert_eq!(counts.only(Misuse::EmptyName), 0, "nothing is recorded, so nothing is wrong with it: {index}");
    }
}

#[test]
fn empty_keys_are_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let attributes = [("".into(), Value::Int(1))];
    let mut own = engine.tracer("t").span("a").attributes(&attributes).start();
    own.set("", 1);
    own.set_all([("", 1), ("key", 1)]);
    assert_eq!(counts.only(Misuse::EmptyKey), 3);
    let shared = span(&engine).share();
    shared.set("", "text");
    assert_eq!(counts.only(Misuse::EmptyKey), 1);
}

#[test]
fn empty_names_are_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let mut own = engine.tracer("t").span("").start();
    assert_eq!(counts.only(Misuse::EmptyName), 1);
    own.rename("");
    own.event_with("", NOTHING);
    own.event_at("", epoch(), NOTHING);
    assert_eq!(counts.only(Misuse::EmptyName), 3);
    let shared = own.share();
    shared.rename("");
    shared.event_with("", NOTHING);
    assert_eq!(counts.only(Misuse::EmptyName), 2);
}

#[test]
fn texts_that_are_cut_are_counted() {
    let mut counts = Counts::begin();
    let long = "x".repeat(TOO_LONG);
    let longest = &long[..TOO_LONG - 1];
    let engine = engine();
    let mut own = engine.tracer("t").span(longest).start();
    own.rename(longest);
    own.event_with(longest, NOTHING);
    own.status(Status::Error(longest));
    assert_eq!(counts.only(Misuse::TextCut), 0);
    own.rename(&long);
    own.event_with(&long, NOTHING);
    own.event_at(&long, epoch(), NOTHING);
    own.status(Status::Error(&long));
    assert_eq!(counts.only(Misuse::TextCut), 4);
    let shared = own.share();
    shared.rename(&long);
    shared.event_with(&long, NOTHING);
    shared.status(Status::Error(&long));
    assert_eq!(counts.only(Misuse::TextCut), 3);
}

#[test]
fn name_that_is_cut_at_the_start_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    engine.tracer("t").span(&"x".repeat(TOO_LONG)).start().end();
    assert_eq!(counts.only(Misuse::TextCut), 1);
}

#[test]
fn links_that_lead_nowhere_are_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let nowhere = SpanContext::default();
    let half = SpanContext::remote(TraceId([1; 16]), SpanId::NONE, 1, TraceState::default());
    let links = [Link { target: &nowhere, attributes: &[] }];
    let mut own = engine.tracer("t").span("a").links(&links).start();
    own.link_with(&half, NOTHING);
    own.link_with(&nowhere, [("key", 1)]);
    assert_eq!(counts.only(Misuse::InvalidLink), 2);
    let shared = own.share();
    shared.link_with(&nowhere, NOTHING);
    assert_eq!(counts.only(Misuse::InvalidLink), 1);
}

#[test]
fn end_before_the_given_start_is_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let tracer = engine.tracer("t");
    let start = epoch() + Duration::from_secs(10);
    tracer.span("a").started_at(start).start().end_at(start);
    assert_eq!(counts.only(Misuse::EndBeforeStart), 0);
    tracer.span("a").started_at(start).start().end_at(epoch());
    assert_eq!(counts.only(Misuse::EndBeforeStart), 1);
    tracer.span("a").started_at(start).start().share().end_at(epoch());
    assert_eq!(counts.only(Misuse::EndBeforeStart), 1);
}

#[derive(Debug)]
struct Zeros;

impl IdSource for Zeros {
    fn trace_id(&self) -> TraceId {
        TraceId::NONE
    }

    fn span_id(&self) -> SpanId {
        SpanId::NONE
    }
}

#[test]
fn ids_of_zeros_are_counted_and_replaced() {
    let mut counts = Counts::begin();
    let engine = Engine::start(Config { ids: Some(Box::new(Zeros)), ..Config::default() }).unwrap();
    let root = span(&engine);
    assert!(root.context().is_valid());
    assert_eq!(counts.only(Misuse::ZeroId), 2);
    let child = engine.tracer("t").span("b").parent(root.context()).start();
    assert!(child.context().is_valid());
    assert_eq!(counts.only(Misuse::ZeroId), 1);
}

#[test]
fn change_of_a_shared_span_without_memory_is_counted() {
    let mut counts = Counts::begin();
    let engine = Engine::start(Config { memory_budget: 1 << 20, lanes: Some(1), ..Config::default() }).unwrap();
    let shared = span(&engine).share();
    let mut others = Vec::new();
    while others.last().is_none_or(Span::is_recording) {
        others.push(span(&engine));
    }
    shared.set("key", 1);
    assert_eq!(counts.only(Misuse::ChangeLost), 1);
    shared.end();
    assert_eq!(counts.only(Misuse::ChangeLost), 0, "an end needs no memory");
    assert!(!shared.is_recording());
    others.clear();
    let spans = finished(&engine);
    assert!(spans.iter().all(|span| span.attributes.is_empty()));
    let ledger = engine.ledger();
    assert!(ledger.is_closed(), "{ledger:?}");
    assert_eq!(ledger.live, 0);
}

#[test]
fn misuse_panics_where_tests_ask_for_it() {
    let mut counts = Counts::begin();
    let engine = engine();
    let ended = span(&engine).share();
    ended.end();
    engine.panic_on_misuse(true);
    let result = catch_unwind(AssertUnwindSafe(|| ended.set("late", 1)));
    let wrong_start = catch_unwind(AssertUnwindSafe(|| engine.tracer("t").span("").start()));
    engine.panic_on_misuse(false);
    assert!(result.is_err() && wrong_start.is_err());
    ended.set("late", 1);
    let now = Misuse::ALL.map(Misuse::count);
    assert_eq!(now.iter().sum::<u64>() - counts.before.iter().sum::<u64>(), 3);
    counts.before = now;
    // The thread that panicked goes on.
    span(&engine).end();
    assert_eq!(counts.only(Misuse::EmptyName), 0);
    assert!(engine.ledger().is_closed());
}

/// The last bytes of a span's largest block are taken: a text finds no room, and is told as cut.
#[test]
fn texts_that_find_no_room_in_a_full_span_are_counted() {
    let mut counts = Counts::begin();
    let engine = engine();
    let mut full = span(&engine);
    for (step, count) in [(1000, 100), (10, 100)] {
        let text = "x".repeat(step);
        (0..count).for_each(|number| full.set(&format!("{step} {number}"), &text));
    }
    let text = "y".repeat(300);
    full.rename(&text);
    assert_eq!(counts.only(Misuse::TextCut), 1);
    full.status(Status::Error(&text));
    assert_eq!(counts.only(Misuse::TextCut), 1);
    full.status(Status::Error(""));
    full.end();
    assert_eq!(counts.only(Misuse::TextCut), 0);
    let ended = finished(&engine).remove(0);
    assert_eq!((ended.name.as_str(), ended.status.as_status()), ("a", Status::Error("")));
    assert!(ended.dropped_attributes > 0);
}

#[test]
fn panic_names_the_line_of_the_call() {
    let _counts = Counts::begin();
    let calls: [fn(&mut Span); 5] = [
        |span| span.event_with("", NOTHING),
        |span| span.event_at("", epoch(), NOTHING),
        |span| span.link_with(&SpanContext::default(), NOTHING),
        |span| span.rename(""),
        |span| span.status(Status::Error(&"x".repeat(TOO_LONG))),
    ];
    static PLACE: Mutex<String> = Mutex::new(String::new());
    let engine = engine();
    for (index, call) in calls.into_iter().enumerate() {
        let mut span = span(&engine);
        engine.panic_on_misuse(true);
        let before = panic::take_hook();
        panic::set_hook(Box::new(|panic| {
            *PLACE.lock().unwrap() = panic.location().map_or_else(String::new, |place| place.file().to_owned());
        }));
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut span)));
        panic::set_hook(before);
        engine.panic_on_misuse(false);
        assert!(result.is_err(), "{index}");
        assert_eq!(*PLACE.lock().unwrap(), file!(), "{index}");
    }
}

/// Panics at one of its calls.
#[derive(Debug)]
struct Panicking(&'static str);

impl Panicking {
    fn at(&self, call: &str) {
        assert_ne!(self.0, call, "the id source fails");
    }
}

impl IdSource for Panicking {
    fn trace_id(&self) -> TraceId {
        self.at("trace_id");
        TraceId([1; 16])
    }

    fn span_id(&self) -> SpanId {
        self.at("span_id");
        SpanId([2; 8])
    }

    fn is_random(&self) -> bool {
        self.at("is_random");
        true
    }
}

/// A start with its name.
type Start<'a> = (&'static str, &'a dyn Fn(&Tracer));

#[test]
fn start_that_panics_leaves_no_span_live() {
    let _counts = Counts::begin();
    let long = "x".repeat(TOO_LONG);
    let stated = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::new("a=1").unwrap());
    let nowhere = [Link { target: &SpanContext::default(), attributes: &[] }];
    let starts: [Start<'_>; 6] = [
        ("", &|tracer| drop(tracer.span("").start())),
        ("", &|tracer| drop(tracer.span("").parent(&stated).start())),
        ("", &|tracer| drop(tracer.span(&long).start())),
        ("", &|tracer| drop(tracer.span("a").attributes(&[("".into(), 1.into())]).start())),
        ("", &|tracer| drop(tracer.span("a").links(&nowhere).start())),
        ("zeros", &|tracer| drop(tracer.span("a").start())),
    ];
    let failing = ["trace_id", "span_id", "is_random"];
    let failing = failing.map(|call| (call, (&|tracer: &Tracer| drop(tracer.span("a").start())) as &dyn Fn(&Tracer)));
    for (index, (source, start)) in starts.into_iter().chain(failing).enumerate() {
        let ids: Option<Box<dyn IdSource>> = match source {
            "" => None,
            "zeros" => Some(Box::new(Zeros)),
            call => Some(Box::new(Panicking(call))),
        };
        let engine = Engine::start(Config { memory_budget: 4 << 20, ids, ..Config::default() }).unwrap();
        let tracer = engine.tracer("t");
        engine.panic_on_misuse(true);
        let started = catch_unwind(AssertUnwindSafe(|| start(&tracer)));
        engine.panic_on_misuse(false);
        assert!(started.is_err(), "{index}");
        let spans = finished(&engine);
        assert!(spans.iter().all(|span| !span.name.is_empty()), "{index}: {spans:?}");
        let ledger = engine.ledger();
        assert!(ledger.is_closed() && ledger.live == 0, "{index}: {ledger:?}");
    }
}

// ---- SPN-12 and API-19: changes that race the end.

/// Two threads set attributes while a third ends the span, at another moment each round. Each attribute is there or
/// counted.
#[test]
fn spn_12_change_that_races_the_end_lands_whole_or_is_counted() {
    const ROUNDS: usize = if cfg!(miri) { 8 } else { 1000 };
    const CHANGES: usize = 8;
    let mut counts = Counts::begin();
    let engine = engine();
    let keys: Vec<String> = (0..2 * CHANGES).map(|index| format!("key {index}")).collect();
    let text = "a value that is long enough to be torn in two".repeat(3);
    let mut late = 0;
    for round in 0..ROUNDS {
        let span = span(&engine).share();
        let begin = Barrier::new(3);
        let set = |keys: &[String]| {
            begin.wait();
            keys.iter().for_each(|key| span.set(key, &text));
        };
        thread::scope(|scope| {
            scope.spawn(|| set(&keys[..CHANGES]));
            scope.spawn(|| set(&keys[CHANGES..]));
            begin.wait();
            (0..round % 64 * 8).for_each(|_| hint::spin_loop());
            span.end();
        });
        let ended = finished(&engine).remove(0);
        let counted = counts.only(Misuse::ChangedAfterEnd);
        assert_eq!(ended.attributes.len() as u64 + counted, 2 * CHANGES as u64, "{ended:?}");
        assert!(ended.attributes.iter().all(|(_, value)| *value == text));
        late += counted;
    }
    // Else the race was none; Miri runs too few rounds to promise that.
    let all = (ROUNDS * 2 * CHANGES) as u64;
    assert!(cfg!(miri) || (0 < late && late < all), "{late} of {all} came late");
}

/// As above with every kind of change, two ends and the drop of the last handle somewhere.
#[test]
fn spn_12_ends_that_race_count_all_but_the_first() {
    const ROUNDS: usize = if cfg!(miri) { 8 } else { 1000 };
    let mut counts = Counts::begin();
    let engine = engine();
    for _ in 0..ROUNDS {
        let handles = [(); 3].map({
            let span = span(&engine).share();
            move |()| span.clone()
        });
        let begin = Barrier::new(3);
        thread::scope(|scope| {
            let begin = &begin;
            for handle in handles {
                scope.spawn(move || {
                    begin.wait();
                    handle.end();
                });
            }
        });
        assert_eq!(counts.only(Misuse::EndedTwice), 2);
        assert_eq!(engine.drain(|_, _| ()), 1);
    }
}

/// Names, statuses and events of two threads: one whole state comes out, never a mixture.
#[test]
fn api_19_changes_of_several_threads_all_land() {
    const ROUNDS: usize = if cfg!(miri) { 4 } else { 250 };
    let mut counts = Counts::begin();
    let engine = engine();
    for _ in 0..ROUNDS {
        let span = span(&engine).share();
        let begin = Barrier::new(2);
        let change = |name: &str, long: &str| {
            begin.wait();
            for index in 0..10 {
                span.rename(name);
                span.event_with(name, [("long", long)]);
                span.status(Status::Error(name));
                span.link_with(&target(), [("long", long)]);
                span.set(&format!("{name} {index}"), long);
                span.set("both", name);
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| change("first", &"a".repeat(100)));
            scope.spawn(|| change("second", &"b".repeat(300)));
        });
        span.end();
        let span = finished(&engine).remove(0);
        let is_whole = |text: &str| ["first", "second"].contains(&text);
        let Status::Error(text) = span.status.as_status() else { panic!("{:?}", span.status) };
        assert!(is_whole(&span.name) && is_whole(text), "{} {text}", span.name);
        let (attributes, events, links) = (span.attributes.len(), span.events.len(), span.links.len());
        assert_eq!((attributes, events, links), (21, 20, 20));
        for event in &span.events {
            let letter = if event.name == "first" { "a".repeat(100) } else { "b".repeat(300) };
            assert_eq!(event.attributes, [("long".to_owned(), letter.as_str().into())]);
        }
        assert_eq!((span.dropped_attributes, span.dropped_events, span.dropped_links), (0, 0, 0));
        assert_eq!(counts.only(Misuse::ChangedAfterEnd), 0);
    }
}

/// Each kind is told once, with its first place, by the thread of the export; and is in the metrics.
#[test]
fn misuse_is_told_once_with_its_place() {
    use spanring::{Diagnostic, DiagnosticSink, Export, Topic};
    let counts = Counts::begin();
    let (sender, lines) = std::sync::mpsc::channel();
    let sink = DiagnosticSink::new(move |line: &Diagnostic| {
        if line.topic == Topic::Misuse {
            sender.send(line.text.clone()).unwrap();
        }
    });
    let export = Export { diagnostics: Some(sink), ..Export::to("http://127.0.0.1:9") };
    let config = Config { export: Some(export), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let shared = span(&engine).share();
    shared.end();
    for _ in 0..3 {
        shared.end();
        span(&engine).link(&SpanContext::default());
    }
    let line = lines.recv().unwrap();
    let known =
        ["misuse, told once: ended_twice", ": remove the second end", "invalid_link at tests/process/misuse.rs:"];
    assert!(known.iter().all(|part| line.contains(part)), "{line}");
    let metrics = engine.stats().prometheus();
    assert!(metrics.contains(r#"spanring_misuse_total{kind="ended_twice"} 3"#), "{metrics}");
    drop(engine);
    assert_eq!(lines.recv().ok(), None, "it is told once");
    drop(counts);
}
