//! A tree that was found against the one that was expected: whether they are the same, and if not, where they differ.

use super::{
    FinishedSpan, TestEngine,
    engine::forest,
    expected::{Expected, written},
};
use crate::tree::Forest;

/// Asserts that finished spans make these trees: a line for each span, indented below its parent.
///
/// The first argument is a [`TestEngine`](crate::testing::TestEngine), whose spans stay where they are, or a list of
/// [`FinishedSpan`](crate::testing::FinishedSpan)s. The trees are all that there are, and have no other spans.
///
/// After the name, separated by ` | `, comes what the test asks of the span; what it does not ask for may be anything:
///
/// | text | asks for |
/// |---|---|
/// | `internal`, `server`, `client`, `producer`, `consumer` | the kind |
/// | `unset`, `ok`, `error`, `error "out of stock"` | the status |
/// | `http.route = "/cart"`, `items = 3`, `vip = true`, `ratio = 0.5`, `ids = [1, 2]` | an attribute |
/// | `event cache.miss` | an event |
/// | `remote parent` | that its parent is in another process |
/// | `orphan` | that its parent is not there; an orphan has to be asked for |
///
/// Spans below the same parent come by their start. Those that began at the same time, as all do while the clock of a
/// test stands still, have no order: a test of threads does not depend on which was first, and one that cares about
/// order moves the clock. A name that would not be read back is written in quotes, with escapes.
///
/// ```
/// use spanring::{Kind, Status, assert_tree, testing::TestEngine};
///
/// let engine = TestEngine::start();
/// let tracer = engine.tracer("shop");
/// let mut request = tracer.root("GET /orders/{id}").kind(Kind::Server).start();
/// request.set("order.id", 17);
/// let mut load = tracer.span("load").parent(request.context()).start();
/// load.status(Status::Error("no such order"));
/// drop(load);
/// drop(request);
///
/// assert_tree!(engine, "
///     GET /orders/{id} | server | order.id = 17
///       load | error \"no such order\"
/// ");
/// ```
///
/// # Panics
///
/// When the trees differ. The text shows both, line by line, so that the lines that were found can be taken over:
///
/// ```text
/// the trees differ (`-` expected, `+` found):
///   GET /orders/{id} | server | order.id = 17
/// -   load | ok
/// +   load | error "no such order"
/// ```
#[macro_export]
macro_rules! assert_tree {
    ($spans:expr, $expected:expr $(,)?) => {
        $crate::testing::check_tree(&$spans, $expected)
    };
}

/// What [`assert_tree!`](crate::assert_tree) looks at.
pub trait SpanSource {
    /// The finished spans.
    fn finished_spans(&self) -> Vec<FinishedSpan>;

    /// How many spans are still open, as far as is known.
    fn open_spans(&self) -> u64 {
        0
    }
}

impl SpanSource for TestEngine {
    fn finished_spans(&self) -> Vec<FinishedSpan> {
        self.peek()
    }

    fn open_spans(&self) -> u64 {
        self.ledger().live
    }
}

impl SpanSource for [FinishedSpan] {
    fn finished_spans(&self) -> Vec<FinishedSpan> {
        self.to_vec()
    }
}

impl SpanSource for Vec<FinishedSpan> {
    fn finished_spans(&self) -> Vec<FinishedSpan> {
        self.clone()
    }
}

impl<S: SpanSource + ?Sized> SpanSource for &S {
    fn finished_spans(&self) -> Vec<FinishedSpan> {
        (**self).finished_spans()
    }

    fn open_spans(&self) -> u64 {
        (**self).open_spans()
    }
}

/// The function of [`assert_tree!`](crate::assert_tree).
#[doc(hidden)]
#[track_caller]
pub fn check_tree(source: &(impl SpanSource + ?Sized), expected: &str) {
    let expected = match Expected::parse(expected) {
        Ok(expected) => expected,
        Err(error) => panic!("the expected tree cannot be read: {error}"),
    };
    let open = source.open_spans();
    let comparison = Comparison::new(source.finished_spans(), &expected);
    if let Some(difference) = comparison.difference() {
        let open = if open > 0 { format!("still open, and so not found: {open}\n") } else { String::new() };
        panic!("the trees differ (`-` expected, `+` found):\n{difference}{open}");
    }
}

/// Two trees, side by side.
struct Comparison<'e> {
    expected: &'e Expected,
    spans: Vec<FinishedSpan>,
    forest: Forest,
}

/// How well a span fits, the best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fit {
    WithAllBelow,
    Alone,
    ByName,
}

/// A step from one list of lines to the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Both,
    Expected,
    Found,
}

impl<'e> Comparison<'e> {
    fn new(spans: Vec<FinishedSpan>, expected: &'e Expected) -> Self {
        let forest = forest(&spans);
        Self { expected, spans, forest }
    }

    /// The lines of both trees, if they are not the same.
    fn difference(&self) -> Option<String> {
        let found = self.found();
        let expected: Vec<usize> = (0..self.expected.nodes.len()).collect();
        let is_same = |&node: &usize, &(depth, span): &(usize, usize)| {
            self.expected.nodes[node].depth == depth && self.fits(node, span)
        };
        let steps = steps(&expected, &found, is_same);
        if steps.iter().all(|&step| step == Step::Both) {
            return None;
        }
        let (mut expected, mut found) = (expected.into_iter(), found.into_iter());
        let mut text = String::new();
        for step in steps {
            let node = (step != Step::Found).then(|| expected.next()).flatten();
            let span = (step != Step::Expected).then(|| found.next()).flatten();
            let (mark, depth, line) = match (node.map(|node| &self.expected.nodes[node]), span) {
                (Some(node), Some(_)) => (' ', node.depth, node.line.clone()),
                (Some(node), None) => ('-', node.depth, node.line.clone()),
                (None, Some((depth, span))) => ('+', depth, written(&self.spans[span], self.forest.origin(span))),
                (None, None) => break,
            };
            text.push_str(&format!("{mark} {:width$}{line}\n", "", width = 2 * depth));
        }
        Some(text)
    }

    /// The spans that were found, each before its children, with its depth. Those without an order are in the expected
    /// one as far as can be.
    fn found(&self) -> Vec<(usize, usize)> {
        let mut tops: Vec<usize> = self.forest.traces().iter().flat_map(|trace| trace.tops.iter().copied()).collect();
        tops.sort_by_key(|&top| (self.spans[top].start, self.spans[top].span_id));
        let mut next = self.paired(&self.expected.roots, &tops, 0);
        next.reverse();
        let mut found = vec![];
        while let Some((depth, span, node)) = next.pop() {
            found.push((depth, span));
            let expected = node.map_or(&[][..], |node| &self.expected.nodes[node].children);
            let below = self.paired(expected, self.forest.children(span), depth + 1);
            next.extend(below.into_iter().rev());
        }
        found
    }

    /// Siblings in the expected order where they have none of their own, each with its depth and its node.
    fn paired(&self, nodes: &[usize], spans: &[usize], depth: usize) -> Vec<(usize, usize, Option<usize>)> {
        if let Some(spans) = self.whole(nodes, spans) {
            return spans.into_iter().zip(nodes).map(|(span, &node)| (depth, span, Some(node))).collect();
        }
        let mut left = spans.to_vec();
        let mut paired = vec![];
        for &node in nodes {
            let mut first = 0;
            let mut best = None;
            for group in self.at_once(&left) {
                let fits = group.iter().enumerate().filter_map(|(at, &span)| Some((self.fit(node, span)?, first + at)));
                best = fits.min().map(|(_, at)| (first, at));
                if best.is_some() {
                    break;
                }
                first += group.len();
            }
            if let Some((first, at)) = best {
                let span = left.remove(at);
                // What began earlier is in its place.
                paired.extend(left.drain(..first).map(|span| (depth, span, None)));
                paired.push((depth, span, Some(node)));
            }
        }
        paired.extend(left.into_iter().map(|span| (depth, span, None)));
        paired
    }

    /// Siblings that began at the same time.
    fn at_once<'s>(&self, spans: &'s [usize]) -> impl Iterator<Item = &'s [usize]> {
        spans.chunk_by(|&a, &b| self.spans[a].start == self.spans[b].start)
    }

    /// A span for each node, if all of them fit with all that is below: of those that began at once, any may be any.
    /// Goes as deep as the test's own text.
    fn whole(&self, nodes: &[usize], spans: &[usize]) -> Option<Vec<usize>> {
        if nodes.len() != spans.len() {
            return None;
        }
        let mut found = vec![];
        for group in self.at_once(spans) {
            let nodes = &nodes[found.len()..][..group.len()];
            let fits: Vec<Vec<usize>> = nodes.iter().map(|&node| self.whole_places(node, group)).collect();
            let mut owners = vec![None; group.len()];
            for node in 0..nodes.len() {
                if !settle(node, &fits, &mut owners, &mut vec![false; group.len()]) {
                    return None;
                }
            }
            let mut order = vec![0; group.len()];
            owners.iter().zip(group).for_each(|(owner, &span)| order[owner.unwrap_or_default()] = span);
            found.extend(order);
        }
        Some(found)
    }

    /// The places of the spans that a node fits with all that is below.
    fn whole_places(&self, node: usize, spans: &[usize]) -> Vec<usize> {
        let below = &self.expected.nodes[node].children;
        let is_whole = |span| self.fits(node, span) && self.whole(below, self.forest.children(span)).is_some();
        (0..spans.len()).filter(|&at| is_whole(spans[at])).collect()
    }

    fn fit(&self, node: usize, span: usize) -> Option<Fit> {
        if !self.expected.nodes[node].names(&self.spans[span]) {
            None
        } else if !self.fits(node, span) {
            Some(Fit::ByName)
        } else if self.whole_places(node, &[span]).is_empty() {
            Some(Fit::Alone)
        } else {
            Some(Fit::WithAllBelow)
        }
    }

    fn fits(&self, node: usize, span: usize) -> bool {
        self.expected.nodes[node].fits(&self.spans[span], self.forest.origin(span))
    }
}

/// Finds a place for a node, if need be by finding another one for a node that has its place.
fn settle(node: usize, fits: &[Vec<usize>], owners: &mut [Option<usize>], is_tried: &mut [bool]) -> bool {
    if let Some(&free) = fits[node].iter().find(|&&at| owners[at].is_none()) {
        owners[free] = Some(node);
        return true;
    }
    for &at in &fits[node] {
        if is_tried[at] {
            continue;
        }
        is_tried[at] = true;
        if owners[at].is_none_or(|owner| settle(owner, fits, owners, is_tried)) {
            owners[at] = Some(node);
            return true;
        }
    }
    false
}

/// The steps from one list to the other with the most pairs.
fn steps<A, B>(expected: &[A], found: &[B], is_same: impl Fn(&A, &B) -> bool) -> Vec<Step> {
    let start = expected.iter().zip(found).take_while(|(a, b)| is_same(a, b)).count();
    let (expected, found) = (&expected[start..], &found[start..]);
    let end = expected.iter().rev().zip(found.iter().rev()).take_while(|(a, b)| is_same(a, b)).count();
    let (expected, found) = (&expected[..expected.len() - end], &found[..found.len() - end]);
    let mut steps = vec![Step::Both; start];
    if expected.len().saturating_mul(found.len()) <= TABLE_MAX {
        steps.extend(aligned(expected, found, is_same));
    } else {
        steps.extend(expected.iter().map(|_| Step::Expected));
        steps.extend(found.iter().map(|_| Step::Found));
    }
    steps.extend((0..end).map(|_| Step::Both));
    steps
}

/// Cells of the table of [`aligned`]: a thousand lines that differ on each side.
const TABLE_MAX: usize = 1_000_000;

/// By the longest common subsequence.
fn aligned<A, B>(expected: &[A], found: &[B], is_same: impl Fn(&A, &B) -> bool) -> Vec<Step> {
    let width = found.len() + 1;
    // How many pairs can still be made from a place in each list on.
    let mut pairs = vec![0_u32; (expected.len() + 1) * width];
    for (row, a) in expected.iter().enumerate().rev() {
        for (column, b) in found.iter().enumerate().rev() {
            pairs[row * width + column] = if is_same(a, b) {
                pairs[(row + 1) * width + column + 1] + 1
            } else {
                pairs[(row + 1) * width + column].max(pairs[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut steps = vec![];
    while row < expected.len() || column < found.len() {
        let (has_row, has_column) = (row < expected.len(), column < found.len());
        let step = if has_row && has_column && is_same(&expected[row], &found[column]) {
            Step::Both
        } else if has_row && (!has_column || pairs[(row + 1) * width + column] >= pairs[row * width + column + 1]) {
            Step::Expected
        } else {
            Step::Found
        };
        row += usize::from(step != Step::Found);
        column += usize::from(step != Step::Expected);
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests;
