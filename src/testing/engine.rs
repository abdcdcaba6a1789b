//! An engine for one test: its own clock, its own ids, no thread, and its spans at hand.

use std::{
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{FinishedSpan, finished};
use crate::{
    clock::{Clock, FakeClock},
    config::Config,
    engine::Engine,
    record::{SpanId, TraceId},
    sync::{AtomicU64, Ordering::Relaxed},
    trace::{IdSource, Misuse},
    tree::{Finding, Forest, TreeSpan},
};

/// An engine for one test. It is an [`Engine`] besides, shares nothing with those of other tests, and has no thread.
///
/// Time passes only by [`TestEngine::advance`]; ids count from 1; spans come in the order of their ends as long as one
/// thread ends them. It starts within about a millisecond, and has room for some 2,000 spans between two looks.
///
/// A test of a service reads like this:
///
/// ```
/// use std::time::Duration;
/// use spanring::{Kind, Tracer, assert_tree, testing::TestEngine};
///
/// /// The service.
/// fn handle(tracer: &Tracer, clock: &TestEngine) {
///     let mut request = tracer.root("GET /cart").kind(Kind::Server).start();
///     request.set("http.route", "/cart");
///     let query = tracer.span("query").kind(Kind::Client).parent(request.context()).start();
///     clock.advance(Duration::from_millis(3));
///     drop(query);
/// }
///
/// let engine = TestEngine::start();
/// handle(&engine.tracer("shop"), &engine);
///
/// assert_tree!(engine, "
///     GET /cart | server | http.route = \"/cart\"
///       query | client
/// ");
/// assert_eq!(engine.span("query").duration(), Duration::from_millis(3));
/// assert_eq!(engine.span("GET /cart")["http.route"], "/cart");
/// engine.assert_clean();
/// ```
#[derive(Debug)]
#[must_use = "dropping the engine shuts it down: keep it for as long as its tracers"]
pub struct TestEngine {
    engine: Engine,
    clock: FakeClock,
    spans: Mutex<Spans>,
}

/// All spans that have come out.
#[derive(Debug, Default)]
struct Spans {
    all: Vec<FinishedSpan>,
    /// How many of them [`TestEngine::finished`] has given away.
    taken: usize,
}

/// When the clock of a [`TestEngine`] begins: the start of 2025.
const BEGIN: Duration = Duration::from_secs(1_735_689_600);
/// Half of it is for finished spans, and mapping it takes most of the time of a start.
const BUDGET: usize = 2 << 20;

impl TestEngine {
    /// An engine that records everything.
    ///
    /// # Panics
    ///
    /// When the system refuses its memory.
    pub fn start() -> Self {
        Self::start_with(Config::default())
    }

    /// An engine with limits, sampling or a resource of one's own. Its clock, its ids and its memory are set where the
    /// configuration leaves them at their default; one ring keeps the spans in order.
    ///
    /// ```
    /// use spanring::{Config, Sampling, testing::TestEngine};
    ///
    /// let engine = TestEngine::start_with(Config { sampling: Sampling::AlwaysOff, ..Config::default() });
    /// drop(engine.tracer("shop").root("work").start());
    /// assert_eq!(engine.finished(), []);
    /// ```
    ///
    /// # Panics
    ///
    /// When the configuration cannot work, has an export (it would take the spans) or a clock of its own.
    #[track_caller]
    pub fn start_with(config: Config) -> Self {
        assert!(config.export.is_none(), "a TestEngine exports nothing: its spans are looked at by the test");
        assert!(config.clock.is_none(), "a TestEngine has a clock of its own: move it by `advance`");
        let clock = FakeClock::at(SystemTime::UNIX_EPOCH + BEGIN);
        let is_sized = config.memory_budget != Config::default().memory_budget;
        let config = Config {
            clock: Some(Clock::fake(&clock)),
            ids: config.ids.or_else(|| Some(Box::new(CountingIds::default()))),
            memory_budget: if is_sized { config.memory_budget } else { BUDGET },
            lanes: config.lanes.or(Some(1)),
            ..config
        };
        match Engine::start(config) {
            Ok(engine) => Self { engine, clock, spans: Mutex::default() },
            Err(error) => panic!("{error}"),
        }
    }

    /// The clock, which stands still unless it is moved.
    #[must_use]
    pub fn clock(&self) -> &FakeClock {
        &self.clock
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Takes the spans that have ended since the last call.
    #[must_use]
    pub fn finished(&self) -> Vec<FinishedSpan> {
        let mut spans = self.gathered();
        let taken = spans.taken;
        spans.taken = spans.all.len();
        spans.all[taken..].to_vec()
    }

    /// As [`TestEngine::finished`], but leaves them where they are.
    #[must_use]
    pub fn peek(&self) -> Vec<FinishedSpan> {
        let spans = self.gathered();
        spans.all[spans.taken..].to_vec()
    }

    /// The one span with this name among those that [`TestEngine::peek`] sees.
    ///
    /// # Panics
    ///
    /// When there is none, or more than one. The text shows the spans that there are.
    #[must_use]
    #[track_caller]
    pub fn span(&self, name: &str) -> FinishedSpan {
        let mut named = self.spans(name);
        match (named.pop(), named.len()) {
            (Some(span), 0) => span,
            (None, _) => panic!("no finished span is named `{name}`; {}", self.there_are()),
            (_, more) => {
                panic!("{} finished spans are named `{name}` (`spans` has all); {}", more + 1, self.there_are())
            }
        }
    }

    /// The spans with this name among those that [`TestEngine::peek`] sees, in the order of their ends.
    #[must_use]
    pub fn spans(&self, name: &str) -> Vec<FinishedSpan> {
        let mut spans = self.peek();
        spans.retain(|span| span.name == name);
        spans
    }

    /// The trees of the spans that [`TestEngine::peek`] sees. Its text is a picture of them.
    #[must_use]
    pub fn forest(&self) -> Forest {
        forest(&self.peek())
    }

    /// Asserts that every span found its parent and ended, that none was lost, and that nothing was
    /// [misused](crate::Misuse). Spans that were taken before count as well.
    ///
    /// # Panics
    ///
    /// When a span is an orphan, is still open, or was lost, a trace has spans with the same id or in a circle, or a
    /// call was wrong. The text says all that is, and shows the spans.
    #[track_caller]
    pub fn assert_clean(&self) {
        let forest = forest(&self.gathered().all);
        let faults = self.faults(&forest);
        assert!(faults.is_empty(), "the engine is not clean:\n  {}\n{}", faults.join("\n  "), shown(&forest));
    }

    fn faults(&self, forest: &Forest) -> Vec<String> {
        let ledger = self.engine.ledger();
        let is_fault = |finding: &Finding| {
            matches!(finding, Finding::Orphan { .. } | Finding::Cycle { .. } | Finding::DuplicateId { .. })
        };
        let mut faults: Vec<String> = forest
            .findings()
            .iter()
            .filter(|finding| is_fault(finding))
            .map(|finding| forest.explain(finding))
            .collect();
        match ledger.live {
            0 => {}
            1 => faults.push("leak: 1 span is still open".to_owned()),
            live => faults.push(format!("leak: {live} spans are still open")),
        }
        let lost = ledger.lost.by_cause().into_iter().filter(|&(_, count)| count > 0);
        faults.extend(lost.map(|(cause, count)| format!("lost: {count} as `{cause}`")));
        let misuses = Misuse::ALL.into_iter().map(|kind| (kind, self.engine.misuse_count(kind)));
        let misuses = misuses.filter(|&(_, count)| count > 0);
        faults.extend(
            misuses.map(|(kind, count)| format!("misuse: {count} of `{kind:?}` (`panic_on_misuse` shows where)")),
        );
        faults
    }

    fn there_are(&self) -> String {
        shown(&self.forest())
    }

    /// With what has ended by now.
    fn gathered(&self) -> MutexGuard<'_, Spans> {
        // A test that panics with it in hand has pushed whole spans.
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.all.append(&mut finished(&self.engine));
        spans
    }
}

impl Deref for TestEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for TestEngine {
    /// A test need not look at its spans: without this a line on standard error would say that nobody did.
    fn drop(&mut self) {
        self.engine.drain(|_, _| {});
    }
}

pub(super) fn forest(spans: &[FinishedSpan]) -> Forest {
    Forest::new(spans.iter().map(TreeSpan::from).collect())
}

/// The picture, for a panic's text.
pub(super) fn shown(forest: &Forest) -> String {
    if forest.spans().is_empty() { "there are none".to_owned() } else { format!("there are:\n{forest}") }
}

/// Ids that count from 1, in the order of the starts: the same at each run of a test that uses one thread.
///
/// ```
/// use spanring::testing::TestEngine;
///
/// let engine = TestEngine::start();
/// drop(engine.tracer("shop").root("work").start());
/// assert_eq!(engine.span("work").span_id.to_string(), "0000000000000001");
/// ```
#[derive(Debug, Default)]
pub struct CountingIds {
    /// Each start adds to them, on any thread.
    traces: AtomicU64,
    spans: AtomicU64,
}

impl IdSource for CountingIds {
    fn trace_id(&self) -> TraceId {
        TraceId(u128::from(next(&self.traces)).to_be_bytes())
    }

    fn span_id(&self) -> SpanId {
        SpanId(next(&self.spans).to_be_bytes())
    }
}

fn next(count: &AtomicU64) -> u64 {
    // ORDERING: Relaxed. Each gets a number of its own, whatever else it sees.
    count.fetch_add(1, Relaxed) + 1
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
    };

    use super::*;
    use crate::{Context, SpanContext, TraceState};

    /// The text of the panic.
    pub(in crate::testing) fn message_of<R>(work: impl FnOnce() -> R) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| drop(work()))).expect_err("it panics");
        let text = panic.downcast::<String>().map(|text| *text);
        text.unwrap_or_else(|panic| panic.downcast::<&str>().map_or_else(|_| String::new(), |text| (*text).to_owned()))
    }

    fn trace_of(engine: &TestEngine) {
        let tracer = engine.tracer("t");
        let root = tracer.root("root").start();
        engine.advance(Duration::from_millis(2));
        let child = tracer.span("child").parent(root.context()).start();
        engine.advance(Duration::from_millis(1));
        drop(child);
        drop(root);
    }

    #[test]
    fn times_and_ids_are_the_same_at_each_run() {
        let runs = [(), ()].map(|()| {
            let engine = TestEngine::start();
            trace_of(&engine);
            engine.finished()
        });
        assert_eq!(runs[0], runs[1]);
        let [child, root] = &runs[0][..] else { panic!("{runs:?}") };
        assert_eq!((root.span_id, child.span_id), (SpanId(1_u64.to_be_bytes()), SpanId(2_u64.to_be_bytes())));
        assert_eq!((root.trace_id, root.start), (TraceId(1_u128.to_be_bytes()), SystemTime::UNIX_EPOCH + BEGIN));
        assert_eq!((root.duration(), child.duration()), (Duration::from_millis(3), Duration::from_millis(1)));
    }

    #[test]
    fn looks_do_not_drain_and_taking_does() {
        let engine = TestEngine::start();
        trace_of(&engine);
        let names = |spans: Vec<FinishedSpan>| spans.into_iter().map(|span| span.name).collect::<Vec<_>>();
        assert_eq!(names(engine.peek()), ["child", "root"]);
        assert_eq!(names(engine.peek()), ["child", "root"]);
        assert_eq!(engine.span("root").name, "root");
        assert_eq!(names(engine.finished()), ["child", "root"]);
        assert_eq!((engine.peek(), engine.finished()), (vec![], vec![]));
        trace_of(&engine);
        assert_eq!(engine.spans("child").len(), 1, "what was taken is gone");
    }

    #[test]
    fn two_thousand_spans_have_room_between_two_looks() {
        let engine = TestEngine::start();
        let tracer = engine.tracer("t");
        for number in 0..2000 {
            let mut span = tracer.root("GET /orders/{id}").start();
            (0..5).for_each(|key| span.set(&format!("http.attribute.{key}"), number));
        }
        assert_eq!(engine.finished().len(), 2000);
        engine.assert_clean();
    }

    #[test]
    fn finder_says_what_there_is() {
        let engine = TestEngine::start();
        assert_eq!(message_of(|| engine.span("x")), "no finished span is named `x`; there are none");
        trace_of(&engine);
        let picture =
            "there are:\ntrace 00000000000000000000000000000001: 2 spans\n  root  3ms\n    child  1ms at +2ms\n";
        assert_eq!(message_of(|| engine.span("chlid")), format!("no finished span is named `chlid`; {picture}"));
        trace_of(&engine);
        let twice = message_of(|| engine.span("child"));
        assert!(twice.starts_with("2 finished spans are named `child` (`spans` has all); there are:\n"), "{twice}");
    }

    #[test]
    fn clean_is_refused_for_orphans_leaks_and_losses() {
        let engine = TestEngine::start_with(Config { memory_budget: 1 << 20, ..Config::default() });
        let tracer = engine.tracer("t");
        trace_of(&engine);
        engine.assert_clean();
        let open = tracer.root("open").start();
        drop(tracer.span("early").parent(open.context()).start());
        assert_eq!(
            message_of(|| engine.assert_clean()).lines().take(3).collect::<Vec<_>>(),
            [
                "the engine is not clean:",
                "  orphan: `early` has the parent 0000000000000003, which is not there",
                "  leak: 1 span is still open",
            ]
        );
        drop(open);
        engine.assert_clean();
        (0..10_000).for_each(|_| drop(tracer.root("flood").start()));
        let lost = message_of(|| engine.assert_clean());
        let lost = lost.lines().nth(1).unwrap_or_default();
        assert!(lost.starts_with("  lost: ") && lost.ends_with(" as `lane_full`"), "{lost}");
    }

    #[test]
    fn misuse_with_the_engine_is_not_clean_and_elsewhere_it_is() {
        let (engine, other) = (TestEngine::start(), TestEngine::start());
        let shared = engine.tracer("t").root("shared").start().share();
        shared.end();
        // A thread that has recorded nothing changes it.
        thread::scope(|scope| scope.spawn(|| shared.set("late", 1)).join().unwrap());
        drop(other.tracer("t").root("other").start());
        shared.end();
        other.assert_clean();
        let text = message_of(|| engine.assert_clean());
        let lines: Vec<&str> = text.lines().skip(1).take(2).collect();
        assert_eq!(
            lines,
            [
                "  misuse: 1 of `ChangedAfterEnd` (`panic_on_misuse` shows where)",
                "  misuse: 1 of `EndedTwice` (`panic_on_misuse` shows where)"
            ]
        );
    }

    #[test]
    fn misuse_of_a_context_counts_for_the_engine_of_the_thread() {
        thread::spawn(|| {
            let engine = TestEngine::start();
            let _ = Context::capture();
            engine.assert_clean();
            drop(engine.tracer("t").root("first").start());
            let _ = Context::capture();
            assert_eq!(engine.misuse_count(Misuse::NothingToCapture), 1);
            engine.panic_on_misuse(true);
            assert_eq!(message_of(Context::capture), "spanring misuse: NothingToCapture");
            let quiet = TestEngine::start();
            drop(quiet.tracer("t").root("").start());
            assert_eq!((engine.misuse_count(Misuse::EmptyName), quiet.misuse_count(Misuse::EmptyName)), (0, 1));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn parents_that_were_taken_or_are_remote_make_no_orphans() {
        let engine = TestEngine::start();
        let tracer = engine.tracer("t");
        let root = tracer.root("root").start();
        let context = root.context().clone();
        drop(root);
        assert_eq!(engine.finished().len(), 1);
        drop(tracer.span("late").parent(&context).start());
        let remote = SpanContext::remote(TraceId([7; 16]), SpanId([7; 8]), 1, TraceState::default());
        drop(tracer.span("served").parent(&remote).start());
        assert_eq!(engine.span("served").is_parent_remote(), Some(true));
        engine.assert_clean();
    }

    #[test]
    fn configuration_with_an_export_or_a_clock_is_refused() {
        let export = Config { export: Some(crate::Export::default()), ..Config::default() };
        assert!(message_of(|| TestEngine::start_with(export)).contains("exports nothing"));
        let clock = Config { clock: Some(Clock::system()), ..Config::default() };
        assert!(message_of(|| TestEngine::start_with(clock)).contains("clock of its own"));
        let broken = Config { lanes: Some(3), ..Config::default() };
        assert!(message_of(|| TestEngine::start_with(broken)).contains("lanes = 3 cannot work"));
    }
}
