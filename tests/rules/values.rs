//! What may be passed as a value, what comes of it, and code of the program that runs while it is written.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use proptest::{collection::vec, option, prelude::ProptestConfig, prelude::any, proptest};
use spanring::{
    AttributeValue, Config, Engine, Misuse, SpanContext, SpanId, SpanLimits, TraceId, TraceState, Value,
    testing::{FinishedSpan, OwnedValue, finished},
};

use crate::rig::{engine, only, recorded};

/// `value` as an attribute of a span, of an event and of a link, which all keep the same; `None` where none of them
/// has it.
fn stored(limits: &SpanLimits, value: impl AttributeValue + Clone) -> Option<OwnedValue> {
    let target = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default());
    let span = recorded(limits.clone(), |span| {
        span.set("key", value.clone());
        span.event_with("event", [("key", value.clone())]);
        span.link_with(&target, [("key", value.clone())]);
    });
    assert_eq!(span.events[0].attributes, span.attributes);
    assert_eq!(span.links[0].attributes, span.attributes);
    let dropped = [span.dropped_attributes, span.events[0].dropped_attributes, span.links[0].dropped_attributes];
    assert_eq!(dropped, [0; 3]);
    span.attribute("key").cloned()
}

fn kept(value: impl AttributeValue + Clone) -> OwnedValue {
    stored(&SpanLimits::default(), value).expect("the value is there")
}

fn length_max(length: u32) -> SpanLimits {
    SpanLimits { attribute_value_length: Some(length), ..SpanLimits::default() }
}

fn ints(numbers: &[i64]) -> OwnedValue {
    OwnedValue::Array(numbers.iter().map(|&number| number.into()).collect())
}

fn texts(texts: &[&str]) -> OwnedValue {
    OwnedValue::Array(texts.iter().map(|&text| text.into()).collect())
}

#[test]
fn spn_04_texts_are_text_however_they_are_held() {
    let text = "grüße".to_owned();
    let kinds = [
        kept("grüße"),
        kept(&text),
        kept(&&text),
        kept(text.clone()),
        kept(Cow::Borrowed("grüße")),
        kept(Cow::<str>::Owned(text.clone())),
        kept(Box::<str>::from("grüße")),
        kept(Arc::<str>::from("grüße")),
        kept(Rc::<str>::from("grüße")),
        kept(Value::display(&text)),
        kept(Value::lazy(|| text.clone())),
    ];
    assert_eq!(kinds, [const { "grüße" }; 11].map(OwnedValue::from));
    assert_eq!((kept('ü'), kept(Value::debug(&text))), ("ü".into(), "\"grüße\"".into()));
}

/// The specification's mapping: what is outside of a signed 64-bit integer is a string of decimal digits.
#[test]
fn spn_04_integers_of_every_width_arrive() {
    let smallest = [kept(i8::MIN), kept(i16::MIN), kept(i32::MIN), kept(i64::MIN), kept(-1_isize), kept(-1_i128)];
    assert_eq!(smallest, [-128, -32_768, i64::from(i32::MIN), i64::MIN, -1, -1].map(OwnedValue::Int));
    let largest = [kept(u8::MAX), kept(u16::MAX), kept(u32::MAX), kept(1_u64), kept(1_usize), kept(1_u128)];
    assert_eq!(largest, [255, 65_535, i64::from(u32::MAX), 1, 1, 1].map(OwnedValue::Int));
    assert_eq!(kept(i64::MAX.cast_unsigned()), i64::MAX);
    for (value, text) in [
        (kept(1_u64 << 63), "9223372036854775808"),
        (kept(1_usize << 63), "9223372036854775808"),
        (kept(u64::MAX), "18446744073709551615"),
        (kept(i128::from(i64::MIN) - 1), "-9223372036854775809"),
        (kept(u128::MAX), "340282366920938463463374607431768211455"),
    ] {
        assert_eq!(value, text);
    }
    // LIM-02: a number is no string that may be cut.
    assert_eq!(stored(&length_max(3), u128::MAX), Some(kept(u128::MAX)));
    assert_eq!(stored(&length_max(3), u64::MAX), Some(kept(u64::MAX)));
}

#[test]
fn spn_04_numbers_times_addresses_and_ids_arrive() {
    assert_eq!((kept(0.25_f32), kept(&0.1_f64), kept(true)), (0.25.into(), 0.1.into(), true.into()));
    assert_eq!(kept(Duration::from_millis(1500)), 1.5);
    assert_eq!((kept(Duration::ZERO), kept(Duration::from_nanos(1))), (0.0.into(), 1e-9.into()));
    assert_eq!(kept(SocketAddr::from((Ipv4Addr::LOCALHOST, 80))), "127.0.0.1:80");
    assert_eq!(kept(SocketAddr::from((Ipv6Addr::LOCALHOST, 80))), "[::1]:80");
    assert_eq!(kept(IpAddr::from(Ipv6Addr::LOCALHOST)), "::1");
    assert_eq!(kept(TraceId([0xAB; 16])), "ab".repeat(16));
    assert_eq!(kept(SpanId([1; 8])), "0101010101010101");
}

#[test]
fn spn_04_arrays_hold_what_can_be_a_value() {
    let owned: Vec<String> = ["a", "b"].map(String::from).into();
    assert_eq!(
        [kept(&owned), kept(owned.clone()), kept(&owned[..]), kept(["a", "b"])],
        [const { &["a", "b"] }; 4].map(|t| texts(t))
    );
    assert_eq!(
        [kept(vec![1_i64, 2]), kept([1_u8, 2].map(u32::from)), kept([1_u64, 2])],
        [const { [1, 2] }; 3].map(|n| ints(&n))
    );
    assert_eq!(kept([u64::MAX, 1]), OwnedValue::Array(vec![kept(u64::MAX), 1.into()]));
    assert_eq!(kept([true, false]), OwnedValue::Array(vec![true.into(), false.into()]));
    assert_eq!(kept([0.5_f32]), OwnedValue::Array(vec![0.5.into()]));
    assert_eq!(kept(&[Duration::from_secs(2)][..]), OwnedValue::Array(vec![2.0.into()]));
    assert_eq!((kept(vec![0_u8, 255]), kept([0_u8, 255])), (kept(b"\0\xFF"), OwnedValue::Bytes(vec![0, 255])));
    assert_eq!(kept(vec![vec![1_i32], vec![]]), OwnedValue::Array(vec![ints(&[1]), ints(&[])]));
    assert_eq!(kept([Value::Int(1), "x".into()]), OwnedValue::Array(vec![1.into(), "x".into()]));
    // The specification keeps what is null in an array.
    assert_eq!(kept([Some(1), None]), OwnedValue::Array(vec![1.into(), OwnedValue::Empty]));
    // SPN-05: an empty array is a value.
    assert_eq!((kept(Vec::<String>::new()), kept([0_u8; 0])), (ints(&[]), OwnedValue::Bytes(vec![])));
}

#[test]
fn absent_value_sets_nothing_and_is_no_misuse() {
    let misuse = || (Misuse::EmptyKey.count(), Misuse::ChangedAfterEnd.count());
    let before = misuse();
    assert_eq!(stored(&SpanLimits::default(), None::<&str>), None);
    assert_eq!(stored(&SpanLimits::default(), Some(None::<i64>)), None);
    assert_eq!(stored(&SpanLimits::default(), Value::lazy(|| None::<u8>)), None);
    assert_eq!(kept(Some(3)), 3);
    let span = recorded(SpanLimits::default(), |span| {
        span.set("key", 1);
        span.set("key", None::<i64>);
        span.set("", None::<i64>);
        span.set_all([("a", Some("x")), ("b", None)]);
    });
    assert_eq!(span.attributes, [("key".to_owned(), 1.into()), ("a".to_owned(), "x".into())]);
    assert_eq!((span.dropped_attributes, misuse()), (0, before));
}

#[test]
fn lim_02_elements_and_formatted_text_are_cut_in_characters() {
    let limits = length_max(2);
    let owned = vec!["äöü".to_owned(), "a".to_owned()];
    assert_eq!(stored(&limits, &owned), Some(texts(&["äö", "a"])));
    assert_eq!(stored(&limits, vec![vec!["äöü"]]), Some(OwnedValue::Array(vec![texts(&["äö"])])));
    assert_eq!(stored(&limits, Value::display(&owned[0])), Some("äö".into()));
    assert_eq!(stored(&limits, [Value::display(&owned[0])]), Some(texts(&["äö"])));
    assert_eq!(stored(&limits, vec![vec![1_u8, 2, 3]]), Some(OwnedValue::Array(vec![OwnedValue::Bytes(vec![1, 2])])));
}

#[test]
fn lim_03_array_that_lies_too_deep_becomes_empty() {
    let limits = SpanLimits { attribute_value_depth: 2, ..SpanLimits::default() };
    assert_eq!(stored(&limits, vec![vec![1_u32]]), Some(OwnedValue::Array(vec![ints(&[1])])));
    let inner = OwnedValue::Array(vec![OwnedValue::Empty]);
    assert_eq!(stored(&limits, vec![vec![vec![1_u32]]]), Some(OwnedValue::Array(vec![inner])));
}

#[test]
fn lazy_value_is_computed_only_where_something_records() {
    let calls = Cell::new(0);
    let lazy = Value::lazy(|| {
        calls.set(calls.get() + 1);
        "computed"
    });
    let engine = engine(SpanLimits::default());
    let unsampled = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 0, TraceState::default());
    let mut span = engine.tracer("t").span("unsampled").parent(&unsampled).start();
    assert!(!span.is_recording());
    span.set("key", lazy);
    span.set("key", Some(&lazy));
    span.set("key", [lazy]);
    span.event_with("event", [("key", lazy)]);
    span.link_with(&unsampled, [("key", lazy)]);
    let shared = span.share();
    shared.set("key", lazy);
    shared.end();
    assert_eq!(calls.get(), 0);
    let shared = engine.tracer("t").span("ended").start().share();
    shared.end();
    shared.set("key", lazy);
    assert_eq!((calls.get(), only(&engine).attributes.len()), (0, 0));
    let span = recorded(SpanLimits::default(), |span| span.set("key", lazy));
    assert_eq!((calls.get(), span.attribute("key")), (1, Some(&"computed".into())));
}

/// What formats itself by code of the program, and how often it was asked to.
struct Shown<F>(F, Cell<u32>);

impl<F: Fn(&mut fmt::Formatter<'_>, u32) -> fmt::Result> Shown<F> {
    fn new(show: F) -> Self {
        Self(show, Cell::new(0))
    }
}

impl<F: Fn(&mut fmt::Formatter<'_>, u32) -> fmt::Result> fmt::Display for Shown<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.set(self.1.get() + 1);
        (self.0)(f, self.1.get())
    }
}

fn endless() -> Shown<impl Fn(&mut fmt::Formatter<'_>, u32) -> fmt::Result> {
    Shown::new(|f: &mut fmt::Formatter<'_>, _| {
        loop {
            f.write_str("ü")?;
        }
    })
}

#[test]
fn endless_text_ends_at_the_limit() {
    let shown = endless();
    let span = recorded(length_max(300), |span| span.set("key", Value::display(&shown)));
    assert_eq!(span.attribute("key"), Some(&"ü".repeat(300).as_str().into()));
    // The first block had no room for it.
    assert_eq!(shown.1.get(), 2);
}

#[test]
fn endless_text_without_a_limit_is_dropped_and_counted() {
    let shown = endless();
    let span = recorded(SpanLimits::default(), |span| {
        span.set("before", 1);
        span.set("key", Value::display(&shown));
        span.event_with("event", [("key", Value::display(&shown))]);
        span.set("after", 2);
    });
    assert_eq!(span.attributes, [("before".to_owned(), 1.into()), ("after".to_owned(), 2.into())]);
    assert_eq!((span.dropped_attributes, span.events.len(), span.dropped_events), (1, 0, 1));
}

#[test]
fn text_that_differs_each_time_is_kept_as_it_was_written_last() {
    let shown = Shown::new(|f: &mut fmt::Formatter<'_>, call| {
        let times = if call == 1 { 2_000 } else { 3 };
        (0..times).try_for_each(|_| write!(f, "{call}"))
    });
    let span = recorded(SpanLimits::default(), |span| {
        span.set("key", Value::display(&shown));
        span.set("after", 1);
    });
    assert_eq!((span.attribute("key"), span.attribute("after")), (Some(&"222".into()), Some(&1.into())));
    assert_eq!((shown.1.get(), span.dropped_attributes), (2, 0));
}

#[test]
fn text_before_an_error_of_its_own_is_kept() {
    let shown = Shown::new(|f: &mut fmt::Formatter<'_>, _| {
        f.write_str("half")?;
        Err(fmt::Error)
    });
    let span = recorded(SpanLimits::default(), |span| span.set("key", Value::display(&shown)));
    assert_eq!(span.attribute("key"), Some(&"half".into()));
}

#[test]
fn panic_of_a_value_leaves_the_span_as_it_was() {
    let panics = Shown::new(|f: &mut fmt::Formatter<'_>, _| {
        f.write_str("lost")?;
        panic!("a value that panics")
    });
    let engine = engine(SpanLimits::default());
    let tracer = engine.tracer("t");
    let (mut span, shared) = (tracer.span("own").start(), tracer.span("shared").start().share());
    span.set("key", "kept");
    shared.set("key", "kept");
    let target = span.context().clone();
    let value = Value::display(&panics);
    let mut is_caught = |call: &mut dyn FnMut(&mut spanring::Span)| {
        assert!(catch_unwind(AssertUnwindSafe(|| call(&mut span))).is_err());
    };
    is_caught(&mut |span| span.set("key", value));
    is_caught(&mut |span| span.set("new", value));
    is_caught(&mut |span| span.set("new", [value]));
    is_caught(&mut |span| span.event_with("event", [("a", Value::Int(1)), ("b", value)]));
    is_caught(&mut |span| span.link_with(&target, [("a", value)]));
    is_caught(&mut |span| span.set("new", Value::lazy(|| -> i64 { panic!("a closure that panics") })));
    is_caught(&mut |_| shared.set("key", value));
    is_caught(&mut |_| shared.event_with("event", [("b", value)]));
    span.set("last", true);
    shared.set("last", true);
    span.end();
    shared.end();
    let spans = finished(&engine);
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("it has ended");
    let bare =
        |span: &FinishedSpan| (span.events.len(), span.links.len(), span.dropped_attributes, span.dropped_events);
    for span in [of("own"), of("shared")] {
        assert_eq!(span.attributes, [("key".to_owned(), "kept".into()), ("last".to_owned(), true.into())]);
        assert_eq!(bare(span), (0, 0, 0, 0), "{}", span.name);
    }
    let ledger = engine.ledger();
    assert!(ledger.is_closed() && ledger.live == 0, "{ledger:?}");
}

/// The text starts and ends spans of its own, many enough to turn to the pool of blocks, and changes a shared span.
#[test]
fn value_may_call_back_while_it_is_written() {
    let engine = Engine::start(Config { memory_budget: 4 << 20, ..Config::default() }).unwrap();
    let tracer = engine.tracer("t");
    let (mut span, shared) = (tracer.span("outer").start(), tracer.span("shared").start().share());
    let shown = Shown::new(|f: &mut fmt::Formatter<'_>, call| {
        let open: Vec<_> = (0..50).map(|_| tracer.span("inner").start()).collect();
        shared.set("call", call);
        shared.set("again", Value::display(&format_args!("{call}")));
        f.write_str(&"x".repeat(400))?;
        drop(open);
        write!(f, "{call}")
    });
    span.set("key", Value::display(&shown));
    shared.set("outer", Value::display(&shown));
    span.end();
    shared.end();
    let calls = shown.1.get();
    let spans = finished(&engine);
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("it has ended");
    assert_eq!(spans.len(), 2 + 50 * calls as usize);
    let text = |call: u32| format!("{}{call}", "x".repeat(400));
    assert_eq!(of("outer").attribute("key"), Some(&text(2).as_str().into()));
    assert_eq!(of("shared").attribute("outer"), Some(&text(calls).as_str().into()));
    assert_eq!(of("shared").attribute("again"), Some(&calls.to_string().as_str().into()));
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 2 } else { 20 }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// SPN-04, SPN-05, LIM-02: arrays of any content, against the decoded span.
    #[test]
    fn arrays_of_any_content_arrive(
        words in vec("\\PC{0,20}", 0..20),
        numbers in vec(option::of(any::<i128>()), 0..20),
        small in vec(vec(any::<u64>(), 0..4), 0..6),
        length in 0..12_u32,
    ) {
        let limits = length_max(length);
        let cut = |text: &String| OwnedValue::from(text.chars().take(length as usize).collect::<String>().as_str());
        assert_eq!(stored(&limits, &words), Some(OwnedValue::Array(words.iter().map(cut).collect())));
        let number = |number: i128| match i64::try_from(number) {
            Ok(number) => OwnedValue::Int(number),
            Err(_) => number.to_string().as_str().into(),
        };
        let expected = numbers.iter().map(|of| of.map_or(OwnedValue::Empty, number)).collect();
        assert_eq!(stored(&limits, &numbers), Some(OwnedValue::Array(expected)));
        let inner = |of: &Vec<u64>| OwnedValue::Array(of.iter().map(|&of| number(i128::from(of))).collect());
        assert_eq!(stored(&limits, &small[..]), Some(OwnedValue::Array(small.iter().map(inner).collect())));
    }
}
