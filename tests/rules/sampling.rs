//! The rules for samplers: SMP of the specification, at least one test each.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use spanring::{
    Config, Engine, Kind, Link, Misuse, Sampling, Span, SpanContext, SpanId, TraceId, TraceState, Value,
    sample::{
        AlwaysOff, AlwaysOn, AlwaysRecord, Annotating, Composable, Composite, Decision, Intent, NotExchanged,
        ParentBased, ParentThreshold, Probability, RateLimit, Rule, RuleBased, Sampler, SpanStart, Threshold,
        TraceIdRatio, Verdict,
    },
    testing::{TestEngine, finished},
};

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

fn started(sampling: impl Into<Sampling>) -> Engine {
    Engine::start(Config { memory_budget: 4 << 20, sampling: sampling.into(), ..Config::default() }).unwrap()
}

fn remote(trace_id: TraceId, trace_flags: u8, state: &str) -> SpanContext {
    SpanContext::remote(trace_id, SpanId([8; 8]), trace_flags, TraceState::new(state).unwrap())
}

/// The trace whose randomness is this.
fn trace(randomness: u64) -> TraceId {
    TraceId((u128::from(randomness) | 7 << 64).to_be_bytes())
}

fn verdict(sampler: &dyn Sampler, start: SpanStart<'_>) -> Verdict {
    sampler.sample(&start).verdict()
}

/// Numbers that look random, the same in each run (SplitMix64).
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |index: u64| {
        let state = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^ (state >> 31)
    })
}

fn traces(seed: u64) -> impl Iterator<Item = TraceId> {
    let mut numbers = numbers(seed);
    std::iter::from_fn(move || {
        let (high, low) = (numbers.next()?, numbers.next()?);
        Some(TraceId((u128::from(high) << 64 | u128::from(low)).to_be_bytes()))
    })
}

// ---- What a sampler sees, and what its decision does.

/// Answers by a function, and keeps what it saw as text.
struct Asked<F> {
    seen: Arc<Mutex<Vec<String>>>,
    answer: F,
}

impl<F> std::fmt::Debug for Asked<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl<F: Fn() -> Decision<'static> + Send + Sync> Sampler for Asked<F> {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let attributes: Vec<_> =
            start.attributes().iter().map(|(key, value)| (key.name(), format!("{value:?}"))).collect();
        let links: Vec<_> = start.links().map(|link| (link.target.span_id(), link.attributes.len())).collect();
        let parent = start.parent().map(SpanContext::span_id);
        let line = format!(
            "{} {:?} {:?} {parent:?} {attributes:?} {links:?} {}",
            start.name(),
            start.kind(),
            start.trace_id(),
            start.is_random()
        );
        self.seen.lock().unwrap().push(line);
        (self.answer)()
    }

    fn description(&self) -> Cow<'_, str> {
        "Asked".into()
    }
}

fn asked<F: Fn() -> Decision<'static> + Send + Sync + 'static>(answer: F) -> (Engine, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    (started(Asked { seen: Arc::clone(&seen), answer }), seen)
}

/// API-12: what is given later, it does not see, as the documentation of the builder says.
#[test]
fn smp_01_sampler_sees_all_that_the_builder_has() {
    let (engine, seen) = asked(Decision::drop);
    let tracer = engine.tracer("t");
    let parent = remote(trace(1), SAMPLED, "a=1");
    let target = remote(trace(2), 0, "");
    let attributes = [("key".into(), Value::from(1)), ("other".into(), "text".into())];
    let links = [Link { target: &target, attributes: &attributes }];
    let child = tracer.span("work").kind(Kind::Client).parent(&parent).attributes(&attributes).links(&links).start();
    let root = tracer.root("plain").start();
    let late = tracer.root("late").root_linked_to(&target).start();
    {
        let _entered = child.enter();
        drop(tracer.span("below").attributes(&attributes).start());
    }
    let seen = seen.lock().unwrap();
    let both = r#"[("key", "Int(1)"), ("other", "Str(\"text\")")]"#;
    assert_eq!(
        seen[0],
        format!("work Client {:?} Some({:?}) {both} [({:?}, 2)] false", trace(1), SpanId([8; 8]), SpanId([8; 8]))
    );
    assert_eq!(seen[1], format!("plain Internal {:?} None [] [] true", root.context().trace_id()));
    assert_eq!(
        seen[2],
        format!("late Internal {:?} None [] [({:?}, 0)] true", late.context().trace_id(), SpanId([8; 8]))
    );
    assert!(
        seen[3].starts_with(&format!("below Internal {:?} Some(", trace(1))) && seen[3].contains(both),
        "{}",
        seen[3]
    );
    assert_eq!(seen.len(), 4, "each start asks once");
}

/// Drop, record, record and sample: what each does to the span, its context, the export and the ledger.
#[test]
fn smp_01_verdicts_say_what_records_and_what_is_exported() {
    for (verdict, records, is_sampled) in
        [(Verdict::Drop, false, false), (Verdict::RecordOnly, true, false), (Verdict::RecordAndSample, true, true)]
    {
        let (engine, _) = asked(move || Decision::new(verdict).with("by", "sampler").with("key", "sampler"));
        let tracer = engine.tracer("t");
        let own = [("key".into(), "program".into())];
        let mut span = tracer.root("work").attributes(&own).start();
        assert_eq!(span.is_recording(), records, "{verdict:?}");
        assert_eq!(span.context().trace_flags(), RANDOM | if is_sampled { SAMPLED } else { 0 }, "{verdict:?}");
        assert!(span.context().is_valid(), "CRE-01: {verdict:?}");
        span.set("late", 1);
        span.event("event");
        span.end();
        let shared = tracer.root("shared").start().share();
        shared.set("late", 2);
        shared.end();
        drop(tracer.root("shared, too").start().share());
        let spans = finished(&engine);
        assert_eq!(spans.len(), if is_sampled { 3 } else { 0 }, "{verdict:?}");
        if let Some(span) = spans.first() {
            let shown: Vec<_> = span.attributes.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
            assert_eq!(shown.len(), 3, "{shown:?}");
            assert!(shown[0].contains("sampler") && shown[1].contains("program"), "{shown:?}");
        }
        let ledger = engine.ledger();
        assert_eq!(ledger.started, 3, "{verdict:?}");
        assert_eq!(ledger.not_sampled, if is_sampled { 0 } else { 3 }, "{verdict:?}");
        assert_eq!((ledger.live, ledger.lost.total()), (0, 0), "{verdict:?}");
    }
}

/// A span that only records gives its memory back, also where it has grown and where it outlives its engine.
#[test]
fn record_only_spans_give_their_memory_back() {
    let engine = started(AlwaysRecord::new(AlwaysOff));
    let tracer = engine.tracer("t");
    let text = "x".repeat(10_000);
    for _ in 0..2_000 {
        let mut span = tracer.root("work").start();
        assert!(span.is_recording(), "there is memory");
        span.set("text", text.as_str());
    }
    let last = tracer.root("last").start();
    drop(engine);
    assert!(last.is_recording());
    last.end();
}

/// Always answers the same.
#[derive(Debug)]
struct Replacing(Verdict, Option<TraceState>);

impl Sampler for Replacing {
    fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
        let decision = Decision::new(self.0);
        self.1.iter().fold(decision, |decision, state| decision.with_trace_state(state.clone()))
    }

    fn description(&self) -> Cow<'_, str> {
        "Replacing".into()
    }
}

#[test]
fn smp_02_trace_state_of_the_decision_replaces_the_parents() {
    let b = TraceState::new("b=2").unwrap();
    for (decision, expected) in [
        (Decision::sample(), "a=1"),
        (Decision::sample().with_trace_state(b), "b=2"),
        (Decision::drop().with_trace_state(TraceState::default()), ""),
    ] {
        let engine = started(Replacing(decision.verdict(), decision.trace_state().cloned()));
        let parent = remote(trace(1), SAMPLED, "a=1");
        let span = engine.tracer("t").span("work").parent(&parent).start();
        assert_eq!(span.context().trace_state().as_str(), expected);
        assert_eq!(span.context().trace_id(), trace(1));
        let is_sampled = span.context().is_sampled();
        span.end();
        let spans = finished(&engine);
        assert!(!is_sampled || spans[0].trace_state == expected);
    }
}

/// SMP-03: a description is asked each time; SMP-05, SMP-06, SMP-08, SMP-09: what they are.
#[test]
fn smp_03_descriptions_are_those_of_the_specification() {
    let by = |sampler: &dyn Sampler| sampler.description().into_owned();
    assert_eq!(by(&AlwaysOn), "AlwaysOnSampler");
    assert_eq!(by(&AlwaysOff), "AlwaysOffSampler");
    for (ratio, text) in [(0.0001, "0.000100"), (1.0, "1.000000"), (0.25, "0.250000"), (1e-7, "0.0000001")] {
        assert_eq!(by(&TraceIdRatio::new(ratio).unwrap()), format!("TraceIdRatioBased{{{text}}}"));
    }
    let parent_based = by(&ParentBased::new(AlwaysOn));
    assert_eq!(
        parent_based,
        "ParentBased{root:AlwaysOnSampler,remoteParentSampled:AlwaysOnSampler,\
         remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,\
         localParentNotSampled:AlwaysOffSampler}"
    );
    assert_eq!(Sampling::default().description(), parent_based);
    assert_eq!(by(&AlwaysRecord::new(AlwaysOff)), "AlwaysRecordSampler{AlwaysOffSampler}");
    #[derive(Debug, Default)]
    struct Counting(AtomicU32);
    impl Sampler for Counting {
        fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
            Decision::drop()
        }
        fn description(&self) -> Cow<'_, str> {
            self.0.fetch_add(1, Relaxed).to_string().into()
        }
    }
    let sampling = Sampling::from(Counting::default());
    assert_eq!((&*sampling.description(), &*sampling.description()), ("0", "1"));
}

// ---- Those that are built in.

#[test]
fn smp_04_default_is_parent_based_over_always_on() {
    assert_eq!(Config::default().sampling, Sampling::ParentBased);
    assert_eq!(Sampling::from(ParentBased::new(AlwaysOn)), Sampling::ParentBased);
    assert_eq!(Sampling::from(ParentBased::new(AlwaysOff)), Sampling::ParentOnly);
    assert_eq!(Sampling::from(AlwaysOn), Sampling::AlwaysOn);
    assert_eq!(Sampling::from(AlwaysOff), Sampling::AlwaysOff);
    assert!(matches!(ParentBased::new(AlwaysOn).remote_sampled(AlwaysOff).into(), Sampling::By(_)));
}

#[test]
fn smp_05_on_is_on_and_off_is_off() {
    for flags in [0, SAMPLED] {
        let parent = remote(trace(1), flags, "");
        let start = SpanStart::new(trace(1), "work").with_parent(&parent);
        assert_eq!(verdict(&AlwaysOn, start), Verdict::RecordAndSample);
        assert_eq!(verdict(&AlwaysOff, start), Verdict::Drop);
    }
}

#[test]
fn smp_06_ratio_depends_on_the_trace_id_alone_and_grows_with_the_ratio() {
    const TRACES: usize = 20_000;
    let ratios = [0.0, 0.001, 0.1, 0.5, 0.9, 1.0];
    let samplers = ratios.map(|ratio| TraceIdRatio::new(ratio).unwrap());
    let mut kept = [0; 6];
    for id in traces(6).take(TRACES) {
        let parent = remote(id, SAMPLED, "");
        let mut before = false;
        for (sampler, kept) in samplers.iter().zip(&mut kept) {
            let root = verdict(sampler, SpanStart::new(id, "root"));
            assert_eq!(
                root,
                verdict(sampler, SpanStart::new(id, "child").with_parent(&parent)),
                "the parent is ignored"
            );
            let is_kept = root == Verdict::RecordAndSample;
            assert!(is_kept || !before, "what is kept at a lower ratio is kept");
            before = is_kept;
            *kept += usize::from(is_kept);
        }
    }
    for (ratio, kept) in ratios.into_iter().zip(kept) {
        let expected = ratio * TRACES as f64;
        let deviation = (expected * (1.0 - ratio)).sqrt();
        assert!((kept as f64 - expected).abs() <= 4.0 * deviation, "{kept} of {TRACES} at {ratio}");
    }
    // The last 63 bits count, as in the SDKs for Go, Java and Rust.
    let id = |low: u64| TraceId((7 << 64 | u128::from(low)).to_be_bytes());
    let half = TraceIdRatio::new(0.5).unwrap();
    assert_eq!(verdict(&half, SpanStart::new(id(0x7FFF_FFFF_FFFF_FFFF), "below")), Verdict::RecordAndSample);
    assert_eq!(verdict(&half, SpanStart::new(id(0x8000_0000_0000_0000), "at")), Verdict::Drop);
    for ratio in [-0.1, 1.1, f64::NAN] {
        assert!(TraceIdRatio::new(ratio).unwrap_err().to_string().contains("from 0 to 1"));
    }
}

/// A caller that leaves the decision to us, or is not asked, decides nothing; its trace goes on all the same.
#[test]
fn undecided_parent_is_for_sampling_as_none() {
    let cases = [
        (Sampling::ParentBased, true),
        (ParentBased::new(RateLimit::per_second(1_000)).into(), true),
        (Composite::new(ParentThreshold::new(AlwaysOn)).into(), true),
        (Composite::new(ParentThreshold::new(AlwaysOff)).into(), false),
        (Sampling::ParentOnly, false),
        (Sampling::AlwaysOn, true),
        (Sampling::AlwaysOff, false),
    ];
    for (sampling, expected) in cases {
        let engine = started(sampling.clone());
        for flags in [0, SAMPLED] {
            let parent = remote(trace(1), flags, "").undecided();
            let span = engine.tracer("t").span("work").parent(&parent).start();
            assert_eq!(span.is_recording(), expected, "{sampling:?} under flags {flags}");
            assert_eq!(span.context().is_sampled(), expected);
            assert_eq!((span.context().trace_id(), span.context().is_undecided()), (parent.trace_id(), false));
        }
    }
}

/// The table of the specification, with a sampler that leaves its mark for each of five cases.
#[test]
fn smp_08_each_kind_of_parent_has_a_sampler_of_its_own() {
    #[derive(Debug)]
    struct Mark(&'static str);
    impl Sampler for Mark {
        fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
            Decision::sample().with("mark", self.0)
        }
        fn description(&self) -> Cow<'_, str> {
            self.0.into()
        }
    }
    let sampler = ParentBased::new(Mark("root"))
        .remote_sampled(Mark("remote sampled"))
        .remote_not_sampled(Mark("remote not sampled"))
        .local_sampled(Mark("local sampled"))
        .local_not_sampled(Mark("local not sampled"));
    let local = |sampling| started(sampling).tracer("t").root("parent").start().context().clone();
    let engine = started(sampler);
    let tracer = engine.tracer("t");
    for (parent, expected) in [
        (None, "root"),
        (Some(remote(trace(1), SAMPLED, "")), "remote sampled"),
        (Some(remote(trace(1), 0, "")), "remote not sampled"),
        (Some(local(Sampling::AlwaysOn)), "local sampled"),
        (Some(local(Sampling::AlwaysOff)), "local not sampled"),
        (Some(SpanContext::default()), "root"),
        (Some(remote(trace(1), SAMPLED, "").undecided()), "root"),
    ] {
        tracer.span("work").parent(&parent).start().end();
        let span = finished(&engine).remove(0);
        assert_eq!(span.attributes, [("mark".to_owned(), expected.into())]);
    }
    for (parent, expected) in [(None, true), (Some(SAMPLED), true), (Some(0), false)] {
        let parent = parent.map(|flags| remote(trace(1), flags, ""));
        let plain = ParentBased::new(RateLimit::per_second(1_000));
        let span = started(plain).tracer("t").span("work").parent(&parent).start();
        assert_eq!(span.is_recording(), expected, "defaults: {parent:?}");
    }
}

#[test]
fn smp_09_always_record_records_what_is_dropped() {
    for (verdict, expected) in [
        (Verdict::Drop, Verdict::RecordOnly),
        (Verdict::RecordOnly, Verdict::RecordOnly),
        (Verdict::RecordAndSample, Verdict::RecordAndSample),
    ] {
        let seen = Arc::default();
        let inner = Asked { seen, answer: move || Decision::new(verdict).with("key", 1) };
        let sampler = AlwaysRecord::new(inner);
        let decision = sampler.sample(&SpanStart::new(trace(1), "work"));
        assert_eq!((decision.verdict(), decision.attributes().count()), (expected, 1));
    }
}

// ---- Consistent probability.

#[test]
fn smp_11_probability_keeps_what_reaches_its_threshold_and_says_so() {
    let half = Probability::new(0.5).unwrap();
    let edge = 1 << 55;
    for (randomness, parent, expected) in [
        (edge, "", Some("ot=th:8")),
        (edge - 1, "", None),
        (edge, "a=1,ot=x:1;th:c", Some("ot=th:8;x:1,a=1")),
        (edge - 1, "ot=rv:80000000000000", Some("ot=th:8;rv:80000000000000")),
        (edge, "ot=rv:7fffffffffffff", None),
    ] {
        for flags in [0, SAMPLED] {
            let parent = remote(trace(randomness), flags | RANDOM, parent);
            let start = SpanStart::new(trace(randomness), "work").with_parent(&parent);
            let decision = half.sample(&start);
            let is_kept = decision.verdict() == Verdict::RecordAndSample;
            let state = decision.trace_state().map_or(parent.trace_state().as_str(), TraceState::as_str);
            assert_eq!(is_kept, expected.is_some(), "{parent:?}");
            assert!(expected.is_none_or(|expected| state == expected), "{state} {parent:?}");
            assert!(is_kept || !state.contains("th:"), "{state}");
            assert!(!parent.trace_state().as_str().contains("rv:") || state.contains("rv:"), "SMP-13: {state}");
        }
    }
    let never = Probability::new(0.0).unwrap();
    assert_eq!(verdict(&never, SpanStart::new(trace((1 << 56) - 1), "work")), Verdict::Drop);
    assert!(Probability::new(1e-18).is_err() && Probability::new(1.5).is_err());
}

/// Kept at p means kept at every q above it, and the shares are right: of trace ids and of ids of this engine.
#[test]
fn smp_11_probability_is_consistent_across_ratios() {
    const TRACES: usize = 20_000;
    let ratios = [0.001, 0.01, 0.1, 1.0 / 3.0, 0.5, 0.99, 1.0];
    let samplers = ratios.map(|ratio| Probability::new(ratio).unwrap());
    let mut kept = [0; 7];
    for id in traces(11).take(TRACES) {
        let verdicts = samplers.each_ref().map(|sampler| verdict(sampler, SpanStart::new(id, "root")));
        let is_kept = verdicts.map(|verdict| verdict == Verdict::RecordAndSample);
        assert!(is_kept.is_sorted(), "{is_kept:?}");
        kept.iter_mut().zip(is_kept).for_each(|(kept, is_kept)| *kept += usize::from(is_kept));
    }
    for (ratio, kept) in ratios.into_iter().zip(kept) {
        let expected = ratio * TRACES as f64;
        let deviation = (expected * (1.0 - ratio)).sqrt();
        assert!((kept as f64 - expected).abs() <= 4.0 * deviation, "{kept} of {TRACES} at {ratio}");
    }
}

/// SMP-17: a threshold goes on if the flag confirms it; else it is erased, and the flag counts.
#[test]
fn smp_17_parents_threshold_goes_on_if_it_is_true() {
    let sampler = Composite::new(ParentThreshold::new(AlwaysOff));
    let high = 0xC0_0000_0000_0000;
    for (randomness, flags, parent, state) in [
        (high, SAMPLED, "ot=th:8", "ot=th:8"),
        (high, SAMPLED, "ot=th:c", "ot=th:c"),
        (high, SAMPLED, "ot=th:d", ""),
        (high, 0, "ot=th:d", ""),
        (high, 0, "ot=th:8", ""),
        (high, SAMPLED, "", ""),
        (high, 0, "", ""),
        (0, SAMPLED, "a=1,ot=rv:c0000000000000;th:c", "a=1,ot=rv:c0000000000000;th:c"),
        (0, SAMPLED, "a=1,ot=rv:10000000000000;th:c", "ot=rv:10000000000000,a=1"),
    ] {
        let parent = remote(trace(randomness), flags | RANDOM, parent);
        let decision = sampler.sample(&SpanStart::new(trace(randomness), "work").with_parent(&parent));
        let is_kept = decision.verdict() == Verdict::RecordAndSample;
        // A parent that is not sampled although it should be: its threshold is a lie, and the flag counts.
        assert_eq!(is_kept, flags == SAMPLED, "{parent:?}");
        let found = decision.trace_state().map_or(parent.trace_state().as_str(), TraceState::as_str);
        assert_eq!(found, state, "{parent:?}");
    }
}

/// SMP-18: what is unreliable has a randomness of its own, and no threshold.
#[test]
fn smp_18_unreliable_intents_use_fresh_randomness() {
    #[derive(Debug)]
    struct Half;
    impl Composable for Half {
        fn intent<'a>(&'a self, _: &SpanStart<'a>) -> Intent<'a> {
            Intent::unreliably_at(Threshold::of(0.5).unwrap()).with("part", "half")
        }
        fn description(&self) -> Cow<'_, str> {
            "Half".into()
        }
    }
    let engine = started(Composite::new(Half));
    let tracer = engine.tracer("t");
    let parent = remote(trace(0), SAMPLED, "a=1,ot=th:0");
    let mut kept = 0_u32;
    for _ in 0..1_000 {
        let span = tracer.span("work").parent(&parent).start();
        assert_eq!(span.context().trace_state().as_str(), "a=1", "one trace, and no threshold");
        kept += u32::from(span.is_recording());
    }
    assert!((400..600).contains(&kept), "{kept}: six deviations from a half");
    let spans = finished(&engine);
    assert!(spans.iter().all(|span| span.attributes == [("part".to_owned(), "half".into())]));
    assert_eq!(verdict(&Composite::new(AlwaysOff), SpanStart::new(trace(1), "work")), Verdict::Drop);
}

/// SMP-19: rules on name, kind, attributes and links; the first that applies counts, and none drops.
#[test]
fn smp_19_first_rule_that_applies_decides() {
    let part = |mark: &'static str| Annotating::new(AlwaysOn).with("rule", mark).with("level", 3).with("share", 0.5);
    let rules = RuleBased::new()
        .rule(Rule::new().name("GET /health*").kind(Kind::Server), AlwaysOff)
        .rule(Rule::new().attribute("tier", "gold"), part("gold"))
        .rule(Rule::new().attribute("tries", 3).attribute("late", true), part("late"))
        .rule(Rule::new().has_attribute("debug"), part("debug"))
        .rule(Rule::new().linked_to_sampled(), part("linked to sampled"))
        .rule(Rule::new().linked(), part("linked"))
        .rule(Rule::new().kind(Kind::Client), Probability::new(0.0).unwrap());
    let engine = started(Composite::new(ParentThreshold::new(rules)));
    let tracer = engine.tracer("t");
    let (sampled, unsampled) = (remote(trace(1), SAMPLED, ""), remote(trace(1), 0, ""));
    let link = |target| [Link { target, attributes: &[] }];
    let (to_sampled, to_unsampled) = (link(&sampled), link(&unsampled));
    let gold = [("tier".into(), "gold".into())];
    let late = [("tries".into(), Value::Uint(3)), ("late".into(), true.into())];
    let changed = [("tier".into(), "gold".into()), ("tier".into(), "tin".into()), ("debug".into(), 0.into())];
    let root = |name| tracer.root(name);
    for (span, expected) in [
        (root("GET /healthz").kind(Kind::Server).attributes(&gold), None),
        (root("GET /healthz").attributes(&gold), Some("gold")),
        (root("work").attributes(&late), Some("late")),
        (root("work").attributes(&late[..1]), None),
        (root("work").attributes(&changed), Some("debug")),
        (root("work").links(&to_sampled), Some("linked to sampled")),
        (root("work").links(&to_unsampled), Some("linked")),
        (root("work").root_linked_to(&sampled), Some("linked to sampled")),
        (root("work").kind(Kind::Client), None),
        (root("work"), None),
    ] {
        let started = span.start();
        let below = tracer.span("below").parent(&started).start();
        assert_eq!(below.is_recording(), expected.is_some(), "traces are whole: {span:?}");
        assert_eq!(started.context().trace_state().as_str(), if expected.is_some() { "ot=th:0" } else { "" });
        drop((below, started));
        let found = finished(&engine);
        let rules: Vec<_> = found.iter().flat_map(|span| &span.attributes).filter(|(key, _)| key == "rule").collect();
        let expected: Vec<_> = expected.into_iter().map(|rule| ("rule".to_owned(), rule.into())).collect();
        assert!(rules.into_iter().eq(&expected), "{span:?}");
    }
}

#[test]
fn rate_limit_samples_so_many_spans_a_second() {
    let engine = TestEngine::start_with(Config {
        sampling: ParentBased::new(RateLimit::per_second(10)).into(),
        ..Config::default()
    });
    let tracer = engine.tracer("t");
    let sampled = |starts: usize| (0..starts).filter(|_| tracer.root("work").start().is_recording()).count();
    assert_eq!(sampled(100), 10, "a second's worth at once");
    engine.advance(Duration::from_millis(100));
    assert_eq!(sampled(100), 1);
    engine.advance(Duration::from_millis(550));
    assert_eq!(sampled(100), 5);
    engine.advance(Duration::from_secs(60));
    assert_eq!(sampled(100), 10, "no more is saved up");
    let root = {
        engine.advance(Duration::from_secs(1));
        tracer.root("root").start()
    };
    assert!((0..100).all(|_| tracer.span("below").parent(&root).start().is_recording()), "traces are whole");
    let none = TestEngine::start_with(Config { sampling: RateLimit::per_second(0).into(), ..Config::default() });
    assert!(!none.tracer("t").root("work").start().is_recording());
    let of = RateLimit::per_second(1).of(AlwaysOff);
    assert_eq!(Sampler::description(&of), "RateLimit{1/s,AlwaysOffSampler}");
}

// ---- What goes wrong, and the exchange.

/// Panics, or starts a span, when it is asked.
#[derive(Debug)]
struct Bad {
    tracer: Mutex<Option<spanring::Tracer>>,
}

impl Sampler for Bad {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let tracer = self.tracer.lock().unwrap().clone();
        match tracer {
            Some(tracer) => {
                let inner = tracer.root("inner").start();
                assert!(inner.is_recording(), "a root is as a root by default");
                Decision::drop()
            }
            None => std::panic::panic_any(format!("no sampler today: {}", start.name())),
        }
    }

    fn description(&self) -> Cow<'_, str> {
        "Bad".into()
    }
}

#[test]
fn sampler_that_panics_is_counted_and_the_span_is_as_its_parent() {
    let engine = started(Bad { tracer: Mutex::new(None) });
    let tracer = engine.tracer("t");
    let before = Misuse::SamplerPanicked.count();
    for (parent, records) in [(None, true), (Some(SAMPLED), true), (Some(0), false)] {
        let parent = parent.map(|flags| remote(trace(1), flags, ""));
        assert_eq!(tracer.span("work").parent(&parent).start().is_recording(), records);
    }
    assert_eq!(Misuse::SamplerPanicked.count(), before + 3);
    let ledger = engine.ledger();
    assert_eq!((ledger.started, ledger.not_sampled), (3, 1));
}

#[test]
fn sampler_that_starts_spans_does_not_come_to_itself() {
    let bad = Arc::new(Bad { tracer: Mutex::new(None) });
    let engine = started(Sampling::By(bad.clone()));
    *bad.tracer.lock().unwrap() = Some(engine.tracer("inner"));
    let before = Misuse::StartedInSampler.count();
    assert!(!engine.tracer("t").root("outer").start().is_recording());
    assert!(!engine.tracer("t").root("outer").start().is_recording());
    assert_eq!(Misuse::StartedInSampler.count(), before + 2);
    assert_eq!(finished(&engine).len(), 2);
}

/// The samplers with even numbers sample, the others do not, and each writes its number into the trace state: a mixture
/// of two would show. What starts after an exchange is new.
/// API-04: a tracer that exists asks the new sampler.
#[test]
fn sampler_is_exchanged_under_load() {
    const STARTS_MAX: usize = if cfg!(miri) { 20 } else { 20_000 };
    #[derive(Debug)]
    struct Numbered(u32, TraceState);
    impl Sampler for Numbered {
        fn sample<'a>(&'a self, _: &SpanStart<'a>) -> Decision<'a> {
            let decision = if self.0.is_multiple_of(2) { Decision::sample() } else { Decision::drop() };
            decision.with_trace_state(self.1.clone())
        }
        fn description(&self) -> Cow<'_, str> {
            "Numbered".into()
        }
    }
    let numbered = |number: u32| Numbered(number, TraceState::new(&format!("number={number}")).unwrap());
    let number = |span: &Span| span.context().trace_state().get("number").map(|text| text.parse::<u32>().unwrap());
    let engine = started(numbered(0));
    let tracer = engine.tracer("t");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in (0..STARTS_MAX).take_while(|_| !is_over.load(Relaxed)) {
                    let span = tracer.root("work").start();
                    let is_even = number(&span).map(|number| number.is_multiple_of(2));
                    assert!(is_even.is_none_or(|is_even| is_even == span.context().is_sampled()), "{span:?}");
                }
            });
        }
        for turn in 1..64 {
            engine.set_sampler(numbered(turn)).unwrap();
            let mine = tracer.root("mine").start();
            assert_eq!((number(&mine), mine.context().is_sampled()), (Some(turn), turn.is_multiple_of(2)));
            for simple in [Sampling::AlwaysOff, Sampling::ParentOnly, Sampling::AlwaysOn, Sampling::ParentBased] {
                let is_sampled = matches!(simple, Sampling::AlwaysOn | Sampling::ParentBased);
                engine.set_sampler(simple).unwrap();
                let mine = tracer.root("mine").start();
                assert_eq!((number(&mine), mine.context().is_sampled()), (None, is_sampled));
            }
        }
        is_over.store(true, Relaxed);
    });
    assert_eq!(engine.set_sampler(numbered(64)), Err(NotExchanged::Spent));
    assert!(tracer.root("as before").start().is_recording());
    engine.set_sampler(AlwaysOff).unwrap();
    assert!(!tracer.is_enabled());
    let taken = finished(&engine).len() as u64;
    let ledger = engine.ledger();
    assert_eq!((ledger.live, ledger.queued, ledger.drained), (0, 0, taken));
    assert_eq!(ledger.started, ledger.not_sampled + ledger.drained + ledger.lost.total(), "{ledger:?}");
    let _ = engine.shutdown(Duration::ZERO);
    assert_eq!(engine.set_sampler(AlwaysOn), Err(NotExchanged::ShutDown));
    assert!(!tracer.root("late").start().is_recording());
}

// ---- The environment.

#[test]
fn sampler_of_the_environment_takes_its_argument() {
    let read = |sampler: &str, argument: Option<&str>| {
        Config::from_vars(|name| match name {
            "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => argument.map(str::to_owned),
            _ => None,
        })
    };
    for (sampler, argument, expected) in [
        ("traceidratio", Some("0.25"), "TraceIdRatioBased{0.250000}"),
        ("TraceIdRatio", None, "TraceIdRatioBased{1.000000}"),
        ("traceidratio", Some("0"), "TraceIdRatioBased{0.000000}"),
        ("traceidratio", Some("1e-3"), "TraceIdRatioBased{0.001000}"),
    ] {
        let config = read(sampler, argument);
        assert_eq!(config.warnings(), [""; 0]);
        assert_eq!(config.sampling.description(), expected);
        let line = config.explain().lines().find(|line| line.starts_with("sampling ")).unwrap().to_owned();
        assert_eq!(line, format!("sampling = {expected} (OTEL_TRACES_SAMPLER)"));
        let config = read(&format!("parentbased_{sampler}"), argument);
        assert!(config.sampling.description().starts_with(&format!("ParentBased{{root:{expected},")));
    }
    for argument in ["1.5", "-1", "ten", "NaN", "10%"] {
        let config = read("parentbased_traceidratio", Some(argument));
        let [warning] = config.warnings() else { panic!("{:?}", config.warnings()) };
        assert!(
            warning.starts_with("OTEL_TRACES_SAMPLER_ARG is ignored") && warning.contains("from 0 to 1"),
            "{warning}"
        );
        assert!(warning.ends_with("a ratio without it is 1"), "{warning}");
        assert!(config.sampling.description().contains("root:TraceIdRatioBased{1.000000}"));
    }
    let engine = Engine::start(Config { export: None, ..read("traceidratio", Some("0.5")) }).unwrap();
    let tracer = engine.tracer("t");
    let kept: BTreeSet<bool> = (0..100).map(|_| tracer.root("work").start().is_recording()).collect();
    assert_eq!(kept.len(), 2, "about a half, and none of 2^100 times all or nothing");
}
