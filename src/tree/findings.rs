//! What is wrong with a forest.

use std::time::Duration;

use super::{Forest, Origin, between, shown_name};
use crate::record::TraceId;

/// Something about a forest that should not be. Spans are places in [`Forest::spans`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// The span's parent is of its own process, and is not there: it is still open, was lost, or came in another file.
    Orphan {
        /// The span.
        span: usize,
    },
    /// More than one span of a trace has no parent.
    SeveralRoots {
        /// The trace.
        trace: TraceId,
        /// The spans without a parent, by their start.
        roots: Vec<usize>,
    },
    /// Spans that descend from themselves.
    Cycle {
        /// From parent to child; the first one's parent is the last.
        spans: Vec<usize>,
    },
    /// Several spans of a trace have the same id. A collector that got a request twice has such.
    DuplicateId {
        /// The spans, by their start.
        spans: Vec<usize>,
    },
    /// A child began before its parent: the clocks of the two disagree by that much at least.
    StartsEarly {
        /// The child.
        span: usize,
        /// Its parent.
        parent: usize,
        /// By how much.
        by: Duration,
    },
    /// A child ended after its parent. Where the parent did not wait for it, that is as it should be.
    EndsLate {
        /// The child.
        span: usize,
        /// Its parent.
        parent: usize,
        /// By how much.
        by: Duration,
    },
    /// A span ended before it began.
    EndsBeforeStart {
        /// The span.
        span: usize,
        /// By how much.
        by: Duration,
    },
}

impl Forest {
    /// Everything that is wrong: orphans, traces with several roots, cycles, duplicate ids, then times.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let all = 0..self.spans.len();
        let orphans = all.clone().filter(|&span| self.origins[span] == Origin::Orphan);
        let mut findings: Vec<Finding> = orphans.map(|span| Finding::Orphan { span }).collect();
        for trace in &self.traces {
            let is_root = |top: &usize| self.origins[*top] == Origin::Root;
            let roots: Vec<usize> = trace.tops.iter().copied().filter(is_root).collect();
            if roots.len() > 1 {
                findings.push(Finding::SeveralRoots { trace: trace.id, roots });
            }
        }
        findings.extend(self.cycles.iter().map(|spans| Finding::Cycle { spans: spans.clone() }));
        let doubled = self.namesakes().filter(|spans| spans.len() > 1);
        findings.extend(doubled.map(|spans| Finding::DuplicateId { spans: spans.to_vec() }));
        all.for_each(|span| self.look_at_times(span, &mut findings));
        findings
    }

    fn look_at_times(&self, at: usize, findings: &mut Vec<Finding>) {
        let span = &self.spans[at];
        if let Origin::Child(parent) = self.origins[at] {
            let (start, end) = (self.spans[parent].start, self.spans[parent].end);
            if span.start < start {
                findings.push(Finding::StartsEarly { span: at, parent, by: between(span.start, start) });
            }
            if span.end > end {
                findings.push(Finding::EndsLate { span: at, parent, by: between(end, span.end) });
            }
        }
        if span.end < span.start {
            findings.push(Finding::EndsBeforeStart { span: at, by: between(span.end, span.start) });
        }
    }

    /// A finding of this forest in words, on one line.
    ///
    /// # Panics
    ///
    /// When the finding is of another forest, with spans that are not in this one.
    #[must_use]
    pub fn explain(&self, finding: &Finding) -> String {
        let name = |span: usize| format!("`{}`", shown_name(&self.spans[span].name));
        let names = |spans: &[usize], between: &str| {
            let shown: Vec<String> = spans.iter().take(NAMES_MAX).map(|&span| name(span)).collect();
            let rest = spans.len().saturating_sub(NAMES_MAX);
            let rest = if rest > 0 { format!("{between}{rest} more") } else { String::new() };
            shown.join(between) + &rest
        };
        match finding {
            Finding::Orphan { span } => {
                let parent = self.spans[*span].parent_id;
                format!("orphan: {} has the parent {parent}, which is not there", name(*span))
            }
            Finding::SeveralRoots { trace, roots } => {
                format!("trace {trace} has several roots: {}", names(roots, ", "))
            }
            Finding::Cycle { spans } => format!("cycle: {} > {}", names(spans, " > "), name(spans[0])),
            Finding::DuplicateId { spans } => {
                let (count, id) = (spans.len(), self.spans[spans[0]].span_id);
                format!("{count} spans have the id {id}: {}", names(spans, ", "))
            }
            Finding::StartsEarly { span, parent, by } => {
                format!("{} began {by:?} before its parent {}", name(*span), name(*parent))
            }
            Finding::EndsLate { span, parent, by } => {
                format!("{} ended {by:?} after its parent {}", name(*span), name(*parent))
            }
            Finding::EndsBeforeStart { span, by } => format!("{} ended {by:?} before it began", name(*span)),
        }
    }
}

/// Names in one explanation: what a line holds.
const NAMES_MAX: usize = 8;
