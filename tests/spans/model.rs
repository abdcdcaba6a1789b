//! Random calls on a span, compared with the naive model: what fits into a span field by field, what does not by its
//! counts.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, ProptestConfig, Strategy, any},
    prop_oneof, proptest,
};

use crate::naive::{Call, Case, Limits, Pairs, Said, Start, Val, check};

/// Numbers of names: mostly a few that come again, among them the empty one and those that are too long.
fn name() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![8 => 4..12u8, 2 => any::<u8>(), 1 => Just(0), 1 => 1..4u8]
}

/// Numbers of keys: no key is so long that it fills a span alone.
fn key() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![8 => 4..12u8, 4 => 4..=255u8, 1 => Just(0)]
}

fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![4 => "[a-z]{0,12}", 2 => "\\PC{0,40}", 1 => "[a-zä€🦀]{0,300}"]
}

fn leaf() -> impl Strategy<Value = Val> + Clone {
    prop_oneof![
        Just(Val::Empty),
        any::<bool>().prop_map(Val::Bool),
        any::<i64>().prop_map(Val::Int),
        (-200..200i64).prop_map(Val::Int),
        any::<u64>().prop_map(Val::Uint),
        any::<f64>().prop_map(Val::Double),
        text().prop_map(Val::Str),
        text().prop_map(Val::Str),
        vec(any::<u8>(), 0..200).prop_map(Val::Bytes),
        vec(any::<bool>(), 0..8).prop_map(Val::Bools),
        vec(any::<i64>(), 0..20).prop_map(Val::Ints),
        vec(any::<f64>(), 0..8).prop_map(Val::Doubles),
        vec(text(), 0..8).prop_map(Val::Strs),
        vec(text(), 0..8).prop_map(Val::Shown),
    ]
}

fn value() -> impl Strategy<Value = Val> + Clone {
    leaf().prop_recursive(5, 24, 5, |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(Val::Array), vec((key(), inner), 0..5).prop_map(Val::Map),]
    })
}

/// Values that push a span into each larger size of block, up to `bytes_max`.
fn long(bytes_max: u16) -> impl Strategy<Value = Val> + Clone {
    let step = |bytes: u16| (bytes / 2..=bytes.min(bytes_max)).prop_map(|bytes| Val::Long('x', bytes));
    prop_oneof![step(600), step(2000), step(8000), step(bytes_max)]
}

fn pairs() -> impl Strategy<Value = Pairs> + Clone {
    vec((key(), value()), 0..6)
}

fn call(value: impl Strategy<Value = Val> + Clone + 'static) -> impl Strategy<Value = Call> {
    prop_oneof![
        10 => (key(), value).prop_map(|(key, value)| Call::Set { key, value }),
        2 => (name(), option::of(any::<u32>()), pairs())
            .prop_map(|(name, at, attributes)| Call::Event { name, at, attributes }),
        2 => (any::<u8>(), pairs()).prop_map(|(target, attributes)| Call::Link { target, attributes }),
        1 => prop_oneof![Just(Said::Unset), Just(Said::Ok), name().prop_map(Said::Error), name().prop_map(Said::Error)]
            .prop_map(Call::Status),
        1 => name().prop_map(Call::Rename),
        1 => any::<u32>().prop_map(Call::Advance),
    ]
}

/// A count that is often met, often not, and sometimes zero.
fn count() -> impl Strategy<Value = u8> {
    prop_oneof![0..6u8, 6..20u8, Just(128)]
}

fn limits() -> impl Strategy<Value = Limits> {
    let depth = prop_oneof![0..4u8, Just(63), any::<u8>()];
    let length = option::of(prop_oneof![0..5u8, any::<u8>()]);
    (count(), length, depth, count(), count(), count(), count()).prop_map(
        |(attributes, value_length, depth, events, links, per_event, per_link)| Limits {
            attributes,
            value_length,
            depth,
            events,
            links,
            per_event,
            per_link,
        },
    )
}

fn start() -> impl Strategy<Value = Start> {
    let links = vec((any::<u8>(), pairs()), 0..3);
    (name(), any::<u8>(), any::<u8>(), option::of(any::<u32>()), pairs(), links)
        .prop_map(|(name, kind, parent, at, attributes, links)| Start { name, kind, parent, at, attributes, links })
}

fn case(calls: impl Strategy<Value = Vec<Call>>, limits: impl Strategy<Value = Limits>) -> impl Strategy<Value = Case> {
    (limits, start(), any::<bool>(), calls, option::of(any::<u32>()))
        .prop_map(|(limits, start, is_shared, calls, end)| Case { limits, start, is_shared, calls, end })
}

/// No limit of counts and lengths that is met before the span is full.
fn wide() -> Limits {
    let most = u8::MAX;
    Limits {
        attributes: most,
        value_length: None,
        depth: most,
        events: most,
        links: most,
        per_event: most,
        per_link: most,
    }
}

fn config(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 4 } else { cases };
    // A failure becomes a test of its own; no file of seeds is kept.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(100))]

    /// SPN-03 to SPN-12, LIM-01 to LIM-08, PB-02 to PB-08, CRE-05: all at once.
    #[test]
    fn span_is_what_the_model_says(case in case(vec(call(value()), 0..40), limits())) {
        check(&case);
    }

    /// The same with values that make the span move to larger blocks.
    #[test]
    fn span_that_grows_is_what_the_model_says(
        case in case(vec(call(prop_oneof![value(), long(10_000)]), 0..12), limits()),
    ) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(config(20))]

    /// Past the cap of 64 KiB the span still arrives, and everything that was offered is there or counted (LIM-08).
    #[test]
    fn span_that_is_full_counts_what_it_turns_away(
        mut case in case(vec(call(prop_oneof![value(), long(60_000)]), 10..60), Just(wide())),
    ) {
        let flood = (4..=255u8).map(|key| Call::Set { key, value: Val::Long('y', 400) });
        case.calls.extend(flood);
        check(&case);
    }
}
