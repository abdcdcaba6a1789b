//! The trees that finished spans make: who is whose child, what is wrong with them, and what took the time.
//!
//! The spans may come from anywhere, also from a hostile file: nothing here recurses, and for `n` spans all of it takes
//! `n log n`.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use spanring::{Kind, SpanId, TraceId, tree::{Finding, Forest, OwnedStatus, TreeSpan}};
//!
//! let span = |id: u8, parent: u8, name: &str| TreeSpan {
//!     trace_id: TraceId([1; 16]),
//!     span_id: SpanId([0, 0, 0, 0, 0, 0, 0, id]),
//!     parent_id: SpanId([0, 0, 0, 0, 0, 0, 0, parent]),
//!     is_parent_remote: Some(false),
//!     name: name.to_owned(),
//!     kind: Kind::Internal,
//!     start: SystemTime::UNIX_EPOCH,
//!     end: SystemTime::UNIX_EPOCH + Duration::from_millis(5),
//!     status: OwnedStatus::Unset,
//!     links: vec![],
//! };
//! let forest = Forest::new(vec![span(1, 0, "GET /cart"), span(2, 1, "load"), span(3, 9, "lost")]);
//! assert_eq!(forest.children(0), [1]);
//! assert_eq!(forest.findings(), [Finding::Orphan { span: 2 }]);
//! let text = forest.explain(&forest.findings()[0]);
//! assert_eq!(text, "orphan: `lost` has the parent 0000000000000009, which is not there");
//! assert_eq!(forest.to_string(), "\
//! trace 01010101010101010101010101010101: 3 spans
//!   GET /cart  5ms
//!     load  5ms
//!   lost  5ms  (orphan of 0000000000000009)
//! ");
//! ```
//!
#![doc = include_str!("../../docs/orphans.md")]

mod critical;
mod findings;
mod picture;

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use crate::record::{Kind, SpanId, Status, TraceId};

pub use critical::Segment;
pub use findings::Finding;
pub(crate) use picture::{kind_word, shown_name};

/// What a tree needs to know of a finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeSpan {
    /// The id of its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The id of its parent; [`SpanId::NONE`] for a root.
    pub parent_id: SpanId,
    /// Whether the parent is in another process, where the span says so. Where it does not, the parent of a server or a
    /// consumer is taken to be.
    pub is_parent_remote: Option<bool>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Its status.
    pub status: OwnedStatus,
    /// The spans that it links to.
    pub links: Vec<(TraceId, SpanId)>,
}

/// A [`Status`] that owns its text, and equals the one that was set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum OwnedStatus {
    /// No status was set.
    #[default]
    Unset,
    /// The operation failed.
    Error(String),
    /// The application says that the operation succeeded.
    Ok,
}

impl OwnedStatus {
    /// The status as it is set.
    #[must_use]
    pub fn as_status(&self) -> Status<'_> {
        match self {
            Self::Unset => Status::Unset,
            Self::Error(text) => Status::Error(text),
            Self::Ok => Status::Ok,
        }
    }
}

impl PartialEq<Status<'_>> for OwnedStatus {
    fn eq(&self, other: &Status<'_>) -> bool {
        self.as_status() == *other
    }
}

/// Finished spans as the trees that they make. A span is known by its place in the list that the forest was made of.
#[derive(Clone, Debug)]
pub struct Forest {
    spans: Vec<TreeSpan>,
    /// One for each span.
    origins: Vec<Origin>,
    /// One for each span: where in `children` its own are.
    ranges: Vec<Range<usize>>,
    /// The children of all spans, each span's by their start.
    children: Vec<usize>,
    /// By the start of their first top.
    traces: Vec<Trace>,
    /// All spans by trace and id, those with the same id by their start.
    by_id: Vec<usize>,
    /// Each from the span at which it was cut, then from parent to child.
    cycles: Vec<Vec<usize>>,
}

/// The spans of one trace.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// The spans that have no parent here, by their start: roots, children of remote parents, orphans, and the span at
    /// which a cycle is cut.
    pub tops: Vec<usize>,
    /// How many spans it has.
    pub spans: usize,
}

/// Where a span comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// It has no parent.
    Root,
    /// The child of this span.
    Child(usize),
    /// Its parent is in another process, and not in this forest.
    Remote,
    /// Its parent should be in this forest, and is not.
    Orphan,
    /// Its parent is itself or a span that descends from it; the tree is cut here.
    Cycle,
}

impl Forest {
    /// Sorts spans into trees. Of spans with the same id the one that began first has the children.
    #[must_use]
    pub fn new(spans: Vec<TreeSpan>) -> Self {
        let mut by_id: Vec<usize> = (0..spans.len()).collect();
        by_id.sort_unstable_by_key(|&at| {
            let span = &spans[at];
            (span.trace_id, span.span_id, span.start, at)
        });
        let mut origins: Vec<Origin> = spans.iter().map(|span| origin(span, &spans, &by_id)).collect();
        let mut by_start: Vec<usize> = (0..spans.len()).collect();
        by_start.sort_unstable_by_key(|&at| (spans[at].start, spans[at].span_id, at));
        let cycles = cut_cycles(&mut origins, &by_start);
        let (ranges, children) = families(&origins, &by_start);
        let mut forest = Self { spans, origins, ranges, children, traces: vec![], by_id, cycles };
        forest.traces = forest.gathered(&by_start);
        forest
    }

    /// The spans, in the order that they were given in.
    #[must_use]
    pub fn spans(&self) -> &[TreeSpan] {
        &self.spans
    }

    /// The traces, by the start of their first span.
    #[must_use]
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// Where a span comes from.
    ///
    /// # Panics
    ///
    /// When there is no such span.
    #[must_use]
    pub fn origin(&self, span: usize) -> Origin {
        self.origins[span]
    }

    /// The children of a span by their start, those that began at the same time by their id.
    ///
    /// # Panics
    ///
    /// When there is no such span.
    #[must_use]
    pub fn children(&self, span: usize) -> &[usize] {
        &self.children[self.ranges[span].clone()]
    }

    /// A span with this id; of several the one that began first.
    #[must_use]
    pub fn find(&self, trace: TraceId, span: SpanId) -> Option<usize> {
        lookup(trace, span, &self.spans, &self.by_id)
    }

    /// The spans below `tops` and these themselves, each before its children, with its depth below the top.
    pub(crate) fn walk(&self, tops: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        let mut next: Vec<(usize, usize)> = tops.iter().rev().map(|&top| (0, top)).collect();
        std::iter::from_fn(move || {
            let (depth, span) = next.pop()?;
            next.extend(self.children(span).iter().rev().map(|&child| (depth + 1, child)));
            Some((depth, span))
        })
    }

    /// The spans with the same trace and id, each group by their start.
    fn namesakes(&self) -> impl Iterator<Item = &[usize]> {
        let id = |at: &usize| (self.spans[*at].trace_id, self.spans[*at].span_id);
        self.by_id.chunk_by(move |a, b| id(a) == id(b))
    }

    /// The tops of each trace, by their start.
    fn gathered(&self, by_start: &[usize]) -> Vec<Trace> {
        let mut numbers = vec![usize::MAX; self.spans.len()];
        let groups = self.by_id.chunk_by(|&a, &b| self.spans[a].trace_id == self.spans[b].trace_id);
        let mut traces: Vec<Trace> = vec![];
        for (number, group) in groups.enumerate() {
            group.iter().for_each(|&at| numbers[at] = number);
            traces.push(Trace { id: self.spans[group[0]].trace_id, tops: vec![], spans: group.len() });
        }
        for &at in by_start.iter().filter(|&&at| !matches!(self.origins[at], Origin::Child(_))) {
            traces[numbers[at]].tops.push(at);
        }
        // Each has a top: where every span had a parent there was a cycle, which is cut.
        traces.sort_by_key(|trace| trace.tops.first().map(|&top| self.spans[top].start));
        traces
    }
}

/// Times that may come in the wrong order.
fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

fn lookup(trace: TraceId, span: SpanId, spans: &[TreeSpan], by_id: &[usize]) -> Option<usize> {
    let place = by_id.partition_point(|&at| (spans[at].trace_id, spans[at].span_id) < (trace, span));
    by_id.get(place).copied().filter(|&at| (spans[at].trace_id, spans[at].span_id) == (trace, span))
}

fn origin(span: &TreeSpan, spans: &[TreeSpan], by_id: &[usize]) -> Origin {
    if !span.parent_id.is_valid() {
        return Origin::Root;
    }
    let is_remote = || span.is_parent_remote.unwrap_or(matches!(span.kind, Kind::Server | Kind::Consumer));
    match lookup(span.trace_id, span.parent_id, spans, by_id) {
        Some(parent) => Origin::Child(parent),
        None if is_remote() => Origin::Remote,
        None => Origin::Orphan,
    }
}

/// Makes the first span of each cycle a top, and lists the cycles.
fn cut_cycles(origins: &mut [Origin], by_start: &[usize]) -> Vec<Vec<usize>> {
    // The number of the walk that came by first.
    let mut walks = vec![usize::MAX; origins.len()];
    let mut cycles = vec![];
    for (walk, &first) in by_start.iter().enumerate() {
        let mut at = first;
        while walks[at] == usize::MAX {
            walks[at] = walk;
            let Origin::Child(parent) = origins[at] else { break };
            if walks[parent] == walk {
                cycles.push(cycle(origins, parent));
            }
            at = parent;
        }
    }
    let mut ranks = vec![0; origins.len()];
    by_start.iter().enumerate().for_each(|(rank, &at)| ranks[at] = rank);
    for cycle in &mut cycles {
        let cut = (0..cycle.len()).min_by_key(|&place| ranks[cycle[place]]).unwrap_or_default();
        cycle.rotate_left(cut);
        origins[cycle[0]] = Origin::Cycle;
    }
    cycles
}

/// The cycle that a span is in, from parent to child.
fn cycle(origins: &[Origin], member: usize) -> Vec<usize> {
    let mut cycle = vec![member];
    let mut at = member;
    while let Origin::Child(parent) = origins[at]
        && parent != member
    {
        cycle.push(parent);
        at = parent;
    }
    cycle.reverse();
    cycle
}

/// The children of all spans in one list, with each span's part of it.
fn families(origins: &[Origin], by_start: &[usize]) -> (Vec<Range<usize>>, Vec<usize>) {
    let mut counts = vec![0; origins.len()];
    for origin in origins {
        if let Origin::Child(parent) = *origin {
            counts[parent] += 1;
        }
    }
    let mut end = 0;
    let mut ranges: Vec<Range<usize>> = vec![];
    for count in counts {
        ranges.push(end..end);
        end += count;
    }
    let mut children = vec![0; end];
    for &at in by_start {
        if let Origin::Child(parent) = origins[at] {
            children[ranges[parent].end] = at;
            ranges[parent].end += 1;
        }
    }
    (ranges, children)
}

#[cfg(test)]
mod tests;
