//! Forests by example, and against naive ones.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const TRACE: TraceId = TraceId([1; 16]);

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn id(number: u8) -> SpanId {
    SpanId([0, 0, 0, 0, 0, 0, 0, number])
}

/// A span of the trace, from `start` to `end` in nanoseconds.
fn span(number: u8, parent: u8, start: u64, end: u64) -> TreeSpan {
    TreeSpan {
        trace_id: TRACE,
        span_id: id(number),
        parent_id: id(parent),
        is_parent_remote: Some(false),
        name: format!("s{number}"),
        kind: Kind::Internal,
        start: at(start),
        end: at(end),
        status: OwnedStatus::Unset,
        links: vec![],
    }
}

fn explained(forest: &Forest) -> Vec<String> {
    forest.findings().iter().map(|finding| forest.explain(finding)).collect()
}

fn path(forest: &Forest, span: usize) -> Vec<(usize, u64, u64)> {
    let nanos = |time: SystemTime| u64::try_from(between(SystemTime::UNIX_EPOCH, time).as_nanos()).unwrap();
    forest.critical_path(span).iter().map(|part| (part.span, nanos(part.start), nanos(part.end))).collect()
}

#[test]
fn children_come_by_start_and_then_by_id() {
    let forest = Forest::new(vec![span(4, 1, 5, 6), span(3, 1, 2, 6), span(2, 1, 5, 6), span(1, 0, 0, 9)]);
    assert_eq!(forest.children(3), [1, 2, 0]);
    assert_eq!(forest.traces(), [Trace { id: TRACE, tops: vec![3], spans: 4 }]);
    assert_eq!(explained(&forest), [""; 0]);
}

#[test]
fn parent_in_another_process_makes_no_orphan() {
    let mut remote = span(2, 9, 0, 1);
    remote.is_parent_remote = Some(true);
    let mut silent = [span(3, 9, 0, 1), span(4, 9, 0, 1)];
    silent.iter_mut().for_each(|span| span.is_parent_remote = None);
    silent[0].kind = Kind::Server;
    let [server, internal] = silent;
    let forest = Forest::new(vec![remote, server, internal, span(5, 9, 0, 1)]);
    let origins = [0, 1, 2, 3].map(|span| forest.origin(span));
    assert_eq!(origins, [Origin::Remote, Origin::Remote, Origin::Orphan, Origin::Orphan]);
    assert_eq!(forest.findings(), [Finding::Orphan { span: 2 }, Finding::Orphan { span: 3 }]);
    assert_eq!(explained(&forest)[1], "orphan: `s5` has the parent 0000000000000009, which is not there");
}

#[test]
fn remote_parent_that_is_there_is_the_parent() {
    let mut server = span(2, 1, 0, 1);
    server.is_parent_remote = Some(true);
    let forest = Forest::new(vec![span(1, 0, 0, 1), server]);
    assert_eq!(forest.origin(1), Origin::Child(0));
}

#[test]
fn same_ids_in_another_trace_are_other_spans() {
    let mut other = span(2, 1, 0, 1);
    other.trace_id = TraceId([2; 16]);
    let forest = Forest::new(vec![span(1, 0, 0, 1), other]);
    assert_eq!(forest.origin(1), Origin::Orphan);
    assert_eq!(forest.traces().len(), 2);
}

#[test]
fn several_roots_cycles_and_doubled_ids_are_found() {
    let forest = Forest::new(vec![span(1, 0, 0, 1), span(2, 0, 3, 4), span(2, 1, 0, 1)]);
    assert_eq!(
        explained(&forest),
        [
            "trace 01010101010101010101010101010101 has several roots: `s1`, `s2`",
            "2 spans have the id 0000000000000002: `s2`, `s2`",
        ]
    );
    assert_eq!(forest.find(TRACE, id(2)), Some(2), "the one that began first");
    // 3 > 4 > 5 > 3, with a child and with a span that is its own parent.
    let spans = vec![span(5, 4, 2, 3), span(3, 5, 4, 4), span(4, 3, 3, 3), span(6, 4, 9, 9), span(7, 7, 9, 9)];
    let forest = Forest::new(spans);
    assert_eq!(forest.findings()[..2], [Finding::Cycle { spans: vec![0, 1, 2] }, Finding::Cycle { spans: vec![4] }]);
    assert_eq!(explained(&forest)[..2], ["cycle: `s5` > `s3` > `s4` > `s5`", "cycle: `s7` > `s7`"]);
    assert_eq!(forest.traces()[0].tops, [0, 4]);
    assert_eq!(forest.children(2), [3]);
}

#[test]
fn times_that_cannot_be_are_told_with_their_size() {
    let forest = Forest::new(vec![span(1, 0, 10, 20), span(2, 1, 7, 25), span(3, 1, 10, 20), span(4, 1, 15, 11)]);
    assert_eq!(
        explained(&forest),
        [
            "`s2` began 3ns before its parent `s1`",
            "`s2` ended 5ns after its parent `s1`",
            "`s4` ended 4ns before it began",
        ]
    );
}

#[test]
fn long_lists_of_names_are_cut() {
    let forest = Forest::new((1..=10).map(|number| span(number, 0, u64::from(number), 99)).collect());
    let [finding] = &explained(&forest)[..] else { panic!("{:?}", forest.findings()) };
    assert!(finding.ends_with("`s1`, `s2`, `s3`, `s4`, `s5`, `s6`, `s7`, `s8`, 2 more"), "{finding}");
}

#[test]
fn critical_path_follows_what_ended_last() {
    // 2 and 3 run at once, 3 ends later; 4 follows and has 5 inside.
    let spans =
        vec![span(1, 0, 0, 100), span(2, 1, 10, 30), span(3, 1, 10, 40), span(4, 1, 50, 90), span(5, 4, 60, 70)];
    let expected = [(0, 0, 10), (2, 10, 40), (0, 40, 50), (3, 50, 60), (4, 60, 70), (3, 70, 90), (0, 90, 100)];
    assert_eq!(path(&Forest::new(spans), 0), expected);
}

#[test]
fn child_outside_of_its_parents_time_is_cut_to_it_on_the_path() {
    let forest = Forest::new(vec![span(1, 0, 10, 20), span(2, 1, 5, 12), span(3, 1, 15, 30), span(4, 1, 40, 50)]);
    assert_eq!(path(&forest, 0), [(1, 10, 12), (0, 12, 15), (2, 15, 20)]);
}

#[test]
fn picture_has_a_line_for_each_span() {
    let mut spans = vec![span(1, 0, 0, 12_000_000), span(2, 1, 1_000_000, 3_000_000), span(3, 2, 0, 0)];
    spans[0].kind = Kind::Server;
    spans[0].links = vec![(TRACE, id(2)), (TRACE, id(9))];
    spans[1].status = OwnedStatus::Error("out of\nstock".to_owned());
    spans[2].name = "two\nlines".to_owned();
    spans.push(TreeSpan { is_parent_remote: Some(true), status: OwnedStatus::Ok, ..span(4, 9, 2, 2) });
    spans.extend([span(5, 8, 3, 3), span(6, 6, 4, 4)]);
    let mut before = span(7, 6, 1, 2);
    before.trace_id = TraceId([2; 16]);
    spans.push(before);
    let expected = "\
trace 01010101010101010101010101010101: 6 spans
  s1  12ms  server  (link to s2)  (link to 0000000000000009 of trace 01010101010101010101010101010101)
    s2  2ms at +1ms  error \"out of\\nstock\"
      \"two\\nlines\"  0ns
  s4  0ns at +2ns  ok  (remote parent 0000000000000009)
  s5  0ns at +3ns  (orphan of 0000000000000008)
  s6  0ns at +4ns  (cycle: descends from itself)
trace 02020202020202020202020202020202: 1 span
  s7  1ns  (orphan of 0000000000000006)
";
    assert_eq!(Forest::new(spans).to_string(), expected);
}

/// A chain that recursion would not survive, and whose picture must not grow with its square.
#[test]
fn deep_chain_is_no_trouble() {
    const SPANS: u32 = if cfg!(miri) { 200 } else { 20_000 };
    let long = |number: u32| SpanId(u64::from(number).to_be_bytes());
    let chain = |parent_of_first: u32| {
        let link = |number| TreeSpan {
            span_id: long(number),
            parent_id: long(if number == 1 { parent_of_first } else { number - 1 }),
            ..span(1, 0, 0, 1)
        };
        Forest::new((1..=SPANS).map(link).collect())
    };
    let forest = chain(0);
    assert_eq!(forest.critical_path(0).len(), 1);
    assert_eq!(forest.findings(), []);
    let picture = forest.to_string();
    assert!(picture.len() < 200 * SPANS as usize);
    assert!(picture.contains(&format!("[{}] s1", SPANS - 1)), "{picture}");
    let round = chain(SPANS);
    let [Finding::Cycle { spans }] = &round.findings()[..] else { panic!("one cycle") };
    assert_eq!(spans.len(), SPANS as usize);
    assert!(round.explain(&round.findings()[0]).ends_with("19992 more > `s1`") || cfg!(miri));
}

/// What the definitions say, looked up span by span.
mod naive {
    use super::*;

    pub(super) fn parent(spans: &[TreeSpan], at: usize) -> Option<usize> {
        let is_parent = |other: &TreeSpan| {
            spans[at].parent_id.is_valid()
                && (other.trace_id, other.span_id) == (spans[at].trace_id, spans[at].parent_id)
        };
        let parents = (0..spans.len()).filter(|&other| is_parent(&spans[other]));
        parents.min_by_key(|&other| (spans[other].start, other))
    }

    /// The cycles, by their members.
    pub(super) fn cycles(spans: &[TreeSpan]) -> BTreeSet<BTreeSet<usize>> {
        let round = |start: usize| {
            let mut members = BTreeSet::from([start]);
            let mut at = start;
            for _ in spans {
                at = parent(spans, at)?;
                if at == start {
                    return Some(members);
                }
                members.insert(at);
            }
            None
        };
        (0..spans.len()).filter_map(round).collect()
    }

    /// Which span each nanosecond of `from..to` belongs to.
    pub(super) fn path(forest: &Forest, at: usize, from: u64, to: u64, out: &mut BTreeMap<u64, usize>) {
        let nanos = |time: SystemTime| u64::try_from(between(SystemTime::UNIX_EPOCH, time).as_nanos()).unwrap();
        out.extend((from..to).map(|nano| (nano, at)));
        let mut open = to;
        let mut left: Vec<usize> = forest.children(at).to_vec();
        loop {
            let bounds =
                |child: usize| (nanos(forest.spans()[child].start).max(from), nanos(forest.spans()[child].end).min(to));
            let fits = |child: usize| bounds(child).0 < bounds(child).1 && bounds(child).1 <= open;
            let last = (0..left.len())
                .filter(|&place| fits(left[place]))
                .max_by_key(|&place| (nanos(forest.spans()[left[place]].end), place));
            let Some(place) = last else { return };
            let child = left.remove(place);
            let (start, end) = bounds(child);
            path(forest, child, start, end, out);
            open = start;
        }
    }
}

fn any_span() -> impl Strategy<Value = TreeSpan> {
    let times = (0..12_u64, 0..12_u64);
    (0..2_u8, 0..9_u8, 0..9_u8, any::<Option<bool>>(), times).prop_map(
        |(trace, number, parent, remote, (start, end))| TreeSpan {
            trace_id: TraceId([trace + 1; 16]),
            is_parent_remote: remote,
            ..span(number, parent, start, end)
        },
    )
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 10 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn forest_is_what_the_naive_one_is(spans in proptest::collection::vec(any_span(), 0..12)) {
        let forest = Forest::new(spans.clone());
        let cycles = naive::cycles(&spans);
        let findings = forest.findings();
        let mut found: Vec<BTreeSet<usize>> = vec![];
        for finding in &findings {
            if let Finding::Cycle { spans: members } = finding {
                let first = *members.iter().min_by_key(|&&at| (spans[at].start, spans[at].span_id, at)).unwrap();
                prop_assert_eq!(members[0], first);
                let is_child = |pair: &[usize]| naive::parent(&spans, pair[1]) == Some(pair[0]);
                prop_assert!(members.windows(2).all(is_child));
                found.push(members.iter().copied().collect());
            }
        }
        prop_assert_eq!(found.len(), cycles.len());
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), cycles);
        for at in 0..spans.len() {
            let is_cut = findings.iter().any(|finding| matches!(finding, Finding::Cycle { spans } if spans[0] == at));
            let expected = match naive::parent(&spans, at) {
                Some(_) if is_cut => Origin::Cycle,
                Some(parent) => Origin::Child(parent),
                None if !spans[at].parent_id.is_valid() => Origin::Root,
                None if spans[at].is_parent_remote == Some(true) => Origin::Remote,
                None => Origin::Orphan,
            };
            prop_assert_eq!(forest.origin(at), expected);
            prop_assert_eq!(findings.contains(&Finding::Orphan { span: at }), expected == Origin::Orphan);
        }
        // Each span is in the picture once, below its trace.
        let mut seen: Vec<usize> = vec![];
        for trace in forest.traces() {
            let walked: Vec<usize> = forest.walk(&trace.tops).map(|(_, at)| at).collect();
            prop_assert_eq!(walked.len(), trace.spans);
            prop_assert!(walked.iter().all(|&at| spans[at].trace_id == trace.id));
            let roots: Vec<usize> =
                trace.tops.iter().copied().filter(|&top| forest.origin(top) == Origin::Root).collect();
            let finding = Finding::SeveralRoots { trace: trace.id, roots: roots.clone() };
            prop_assert_eq!(findings.contains(&finding), roots.len() > 1);
            seen.extend(walked);
        }
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..spans.len()));
        prop_assert_eq!(forest.to_string().lines().count(), spans.len() + forest.traces().len());
        let doubled: usize = (0..spans.len())
            .filter(|&at| {
                let id = |span: &TreeSpan| (span.trace_id, span.span_id);
                spans.iter().filter(|other| id(other) == id(&spans[at])).count() > 1
            })
            .count();
        let told = findings.iter().map(|finding| match finding {
            Finding::DuplicateId { spans } => spans.len(),
            _ => 0,
        });
        prop_assert_eq!(told.sum::<usize>(), doubled);
        findings.iter().for_each(|finding| drop(forest.explain(finding)));
    }

    #[test]
    fn critical_path_is_the_naive_one(spans in proptest::collection::vec(any_span(), 1..12)) {
        let forest = Forest::new(spans.clone());
        for (at, span) in spans.iter().enumerate() {
            let nanos = |time: SystemTime| u64::try_from(between(SystemTime::UNIX_EPOCH, time).as_nanos()).unwrap();
            let mut expected = BTreeMap::new();
            naive::path(&forest, at, nanos(span.start), nanos(span.end), &mut expected);
            let found: Vec<(u64, usize)> =
                path(&forest, at).into_iter().flat_map(|(span, from, to)| (from..to).map(move |nano| (nano, span))).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
