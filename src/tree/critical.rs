//! The critical path: which span the time of another one was spent in, at each moment.

use std::time::SystemTime;

use super::Forest;

/// A stretch of a critical path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The span that was at work, as a place in [`Forest::spans`].
    pub span: usize,
    /// When this stretch began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
}

/// A span on the path, seen from its end.
struct Step {
    span: usize,
    /// Not before this: it began then, or its parent did.
    start: SystemTime,
    /// Not after this: it ended then, or its parent did.
    end: SystemTime,
    /// What comes after this is on the path already.
    open: SystemTime,
    /// Its children that may still be on the path, by their end.
    children: Vec<usize>,
}

impl Forest {
    /// What a span waited for, from its start to its end without a gap: for the critical path of a trace, ask for its
    /// root.
    ///
    /// Seen from the end, the child that ended last was waited for; before that child began, the one that had ended
    /// last by then, and so on. The rest is the span's own. A child that ran on after its parent counts as having ended
    /// with it, since that is what clocks that disagree make of a child that was waited for.
    ///
    /// # Panics
    ///
    /// When there is no such span.
    #[must_use]
    pub fn critical_path(&self, span: usize) -> Vec<Segment> {
        let whole = &self.spans[span];
        let mut path = vec![];
        let mut steps = vec![self.step(span, whole.start, whole.end)];
        while let Some(step) = steps.last_mut() {
            if let Some(child) = step.children.pop() {
                let (start, end) = (self.spans[child].start.max(step.start), self.spans[child].end.min(step.end));
                // One that ran on beside what came next was not waited for; one of no length takes no time.
                if end <= step.open && start < end {
                    push(&mut path, step.span, end, step.open);
                    step.open = start;
                    steps.push(self.step(child, start, end));
                }
                continue;
            }
            push(&mut path, step.span, step.start, step.open);
            steps.pop();
        }
        path.reverse();
        path
    }

    /// A span between two times.
    fn step(&self, span: usize, start: SystemTime, end: SystemTime) -> Step {
        let mut children = self.children(span).to_vec();
        children.sort_by_key(|&child| self.spans[child].end);
        Step { span, start, end, open: end, children }
    }
}

fn push(path: &mut Vec<Segment>, span: usize, start: SystemTime, end: SystemTime) {
    if start < end {
        path.push(Segment { span, start, end });
    }
}
