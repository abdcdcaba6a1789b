//! A load with everything in it that can happen to a span, and the sums that the ledger has to match afterwards.
//!
//! Threads start spans and end, keep, share, forget or send them to each other, while another drains and stalls at
//! random. All choices come from the seed; what the threads make of them does not.

use std::{
    hint, mem,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::SystemTime,
};

use opentelemetry_proto::tonic::{common::v1::any_value::Value::IntValue, trace::v1::ScopeSpans};
use prost::Message;
use spanring::{
    Config, Engine, IdSource, Kind, Ledger, SharedSpan, Span, SpanContext, SpanId, Status, TraceId, Tracer,
};

/// What one run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub threads: usize,
    /// Starts, by all threads together.
    pub spans: u64,
    pub memory_budget: usize,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    /// Whether spans were ever seen on the spill stack.
    pub has_spilled: bool,
}

/// Runs the plan, and compares the ledger with what was done.
///
/// # Errors
///
/// Names every sum that does not match.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    let style = Style::of(plan);
    let config = Config {
        memory_budget: plan.memory_budget,
        lanes: style.lanes,
        ids: Some(Box::new(Numbers(AtomicU64::new(1)))),
        ..Config::default()
    };
    let engine = Engine::start(config).map_err(|error| error.to_string())?;
    let (is_over, visits) = (AtomicBool::new(false), Visits::default());
    let (known, seen) = thread::scope(|scope| {
        let drain = scope.spawn(|| {
            let _gone = Gone(&visits);
            Seen::new(plan).drain(&engine, &visits, &style, &is_over)
        });
        let known = {
            let _over = Over(&is_over);
            record(&engine, &visits, plan, &style)
        };
        (known, drain.join().expect("the drain does not panic"))
    });
    let ledger = engine.ledger();
    let mut errors = seen.errors.clone();
    known.compare(&ledger, &seen, style.closes, &mut errors);
    if errors.is_empty() {
        return Ok(Outcome { ledger, has_spilled: seen.has_spilled });
    }
    Err(format!("{plan:?} {style:?}\n{}\n{ledger:?}\n{known:?}", errors.join("\n")))
}

/// How a seed differs from the others.
#[derive(Debug)]
struct Style {
    lanes: Option<usize>,
    /// Most rounds that the drain stalls between two visits.
    stall_max: usize,
    /// Whether threads wait for the drain now and then, so that most spans come through; else most find the lanes full.
    is_paced: bool,
    /// Spans that a thread keeps open before it ends them all; above the live limit in some.
    kept_max: usize,
    /// Spans that a thread leaks, at most: what is left of the memory is for the others.
    forgotten_max: u64,
    /// Whether the engine is closed when half of the spans have started.
    closes: bool,
}

impl Style {
    fn of(plan: &Plan) -> Self {
        let mut random = Random(plan.seed);
        let threads = plan.threads;
        // About as many as there is memory for.
        let open_max = plan.memory_budget / 2 / 640 / threads;
        Self {
            lanes: [None, Some(1), Some(4), Some(16)][random.below(4)],
            stall_max: [0, 100, 2_000][random.below(3)],
            is_paced: plan.seed % 4 != 1,
            kept_max: if plan.seed % 2 == 1 { 2 * open_max + 2 } else { open_max / 8 },
            forgotten_max: open_max as u64 / 4,
            closes: plan.seed % 4 == 3,
        }
    }
}

/// A linear congruential generator: Knuth's constants, and the high bits.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// Numbers the spans, so that each one can be told from the others when it comes out.
#[derive(Debug)]
struct Numbers(AtomicU64);

impl IdSource for Numbers {
    fn trace_id(&self) -> TraceId {
        TraceId([7; 16])
    }

    fn span_id(&self) -> SpanId {
        SpanId(self.0.fetch_add(1, Relaxed).to_be_bytes())
    }
}

fn number(id: SpanId) -> u64 {
    u64::from_be_bytes(id.0)
}

/// Says that the recording is over, also when it panics: the drain would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

// ---- The drain.

/// How often the drain has come by, for those who wait for it.
#[derive(Default)]
struct Visits {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Visits {
    fn add(&self) {
        let mut count = self.count.lock().expect("nobody panics with it");
        *count = count.saturating_add(1);
        self.changed.notify_all();
    }

    /// Waits for the next visit.
    fn wait(&self) {
        let count = self.count.lock().expect("nobody panics with it");
        let here = *count;
        drop(self.changed.wait_while(count, |count| *count == here && here < u64::MAX));
    }
}

/// Lets everyone go when the drain ends, also when it panics.
struct Gone<'a>(&'a Visits);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Ok(mut count) = self.0.count.lock() {
            *count = u64::MAX;
        }
        self.0.changed.notify_all();
    }
}

/// What came out of the engine.
struct Seen {
    count: u64,
    /// A bit for each number.
    numbers: Vec<u64>,
    has_spilled: bool,
    errors: Vec<String>,
}

/// One span in so many is decoded as a whole.
const DECODED_EVERY: u64 = 16;

impl Seen {
    fn new(plan: &Plan) -> Self {
        let words = usize::try_from(plan.spans / 64 + 1).expect("the plan fits the memory");
        Self { count: 0, numbers: vec![0; words], has_spilled: false, errors: Vec::new() }
    }

    fn drain(mut self, engine: &Engine, visits: &Visits, style: &Style, is_over: &AtomicBool) -> Self {
        let mut random = Random(1);
        let mut is_last = false;
        // Where no thread waits for it, it comes too late at first.
        while !style.is_paced && engine.ledger().lost.lane_full == 0 && !is_over.load(Relaxed) {
            thread::yield_now();
        }
        while !mem::replace(&mut is_last, is_over.load(Relaxed)) {
            self.has_spilled |= engine.memory().spill_waiting > 0;
            let mut visited = 0;
            let returned = engine.drain(|_, bytes| {
                visited += 1;
                self.see(bytes);
            });
            self.check(returned == visited, || format!("drain returned {returned} for {visited} spans"));
            visits.add();
            let ledger = engine.ledger();
            self.check(ledger.is_closed(), || format!("open in the middle of the run: {ledger:?}"));
            for round in 0..random.below(style.stall_max + 1) {
                if round % 16 == 0 { thread::yield_now() } else { hint::spin_loop() }
            }
        }
        self
    }

    fn see(&mut self, bytes: &[u8]) {
        self.count += 1;
        let Some(number) = span_id(bytes).map(number) else {
            return self.check(false, || format!("a span without an id: {bytes:x?}"));
        };
        let is_known = number > 0 && number / 64 < self.numbers.len() as u64;
        self.check(is_known, || format!("nobody started {number}"));
        if is_known {
            let is_new = !self.has(number);
            self.check(is_new, || format!("{number} came out twice"));
            self.numbers[word(number)] |= 1 << (number % 64);
        }
        if number % DECODED_EVERY == 0 {
            let said = decoded_number(bytes);
            self.check(said == Some(number), || format!("{number} says that it is {said:?}"));
        }
    }

    fn has(&self, number: u64) -> bool {
        self.numbers[word(number)] & 1 << (number % 64) != 0
    }

    fn check(&mut self, is_right: bool, error: impl FnOnce() -> String) {
        if !is_right && self.errors.len() < 10 {
            self.errors.push(error());
        }
    }
}

fn word(number: u64) -> usize {
    usize::try_from(number / 64).expect("the plan fits the memory")
}

/// The id of the span in one element of `ScopeSpans.spans`, by the wire alone: decoding all is for small runs.
fn span_id(element: &[u8]) -> Option<SpanId> {
    let mut rest = length(element.strip_prefix(&[0x12])?)?.1;
    loop {
        let (&tag, after) = rest.split_first()?;
        let (len, content) = if tag & 7 == 2 { length(after)? } else { return None };
        if tag == 0x12 {
            return content.get(..len)?.try_into().ok().map(SpanId); // trace.proto: Span.span_id = 2
        }
        rest = content.get(len..)?;
    }
}

/// A length, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let len = bytes[..end].iter().rev().fold(0, |len, byte| len << 7 | usize::from(byte & 0x7F));
    Some((len, &bytes[end..]))
}

/// The number that the span's own attribute says.
fn decoded_number(bytes: &[u8]) -> Option<u64> {
    let span = ScopeSpans::decode(bytes).ok()?.spans.pop()?;
    let attribute = span.attributes.into_iter().find(|attribute| attribute.key == NUMBER)?;
    match attribute.value?.value? {
        IntValue(number) => number.try_into().ok(),
        _ => None,
    }
}

const NUMBER: &str = "number";

// ---- The threads that record.

/// What the recording threads know of what they did.
#[derive(Debug, Default)]
struct Known {
    started: u64,
    recording: u64,
    /// Started under a parent that is not sampled.
    unsampled: u64,
    forgotten: Vec<u64>,
}

impl Known {
    fn add(&mut self, other: Self) {
        self.started += other.started;
        self.recording += other.recording;
        self.unsampled += other.unsampled;
        self.forgotten.extend(other.forgotten);
    }

    fn compare(&self, ledger: &Ledger, seen: &Seen, closes: bool, errors: &mut Vec<String>) {
        let mut check = |is_right: bool, what: &str| {
            if !is_right {
                errors.push(what.to_owned());
            }
        };
        let lost = &ledger.lost;
        let forgotten = self.forgotten.len() as u64;
        let counted: u64 = seen.numbers.iter().map(|word| u64::from(word.count_ones())).sum();
        check(ledger.is_closed(), "the ledger is open");
        check(ledger.started == self.started, "started is not the number of starts");
        check(ledger.live == forgotten, "live is not the number of forgotten spans");
        check(ledger.queued == 0, "something is left in the lanes");
        check(ledger.drained == seen.count && seen.count == counted, "drained is not what the sink has seen");
        check(!self.forgotten.iter().any(|&number| seen.has(number)), "a forgotten span came out");
        check(lost.forked == 0, "nobody forked");
        // What was decided at the start of spans that do not record.
        let refused = self.started - self.recording;
        let refused_sampled = refused - self.unsampled;
        check(ledger.not_sampled <= self.unsampled, "too many are not sampled");
        check(lost.live_limit <= refused_sampled, "too many are over the live limit");
        let started_closed = refused.saturating_sub(ledger.not_sampled + lost.live_limit);
        check(lost.closed >= started_closed, "starts after the close are missing");
        let ended_closed = lost.closed.saturating_sub(started_closed);
        check(closes || lost.closed == 0, "nobody closed");
        check(closes || started_closed == 0, "a span was refused without a cause");
        // What became of the spans that record.
        let lost_at_end = lost.lane_full + lost.spill_full + ended_closed;
        check(self.recording == forgotten + seen.count + lost_at_end, "ends are not drained plus lost");
    }
}

/// Spans of a thread between two looks at the lanes.
const PACE: u64 = 16;

/// A span on its way to another thread, which ends it.
enum Parcel {
    Span(Span),
    Shared(SharedSpan),
}

fn record(engine: &Engine, visits: &Visits, plan: &Plan, style: &Style) -> Known {
    let text = "x".repeat(1 << 20);
    let elsewhere = Engine::start(Config { memory_budget: 1 << 20, ..Config::default() }).expect("the budget is good");
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..plan.threads).map(|_| sync_channel(64)).unzip();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, inbox) in (0..).zip(inboxes) {
            let count = plan.threads as u64;
            let share = plan.spans / count + u64::from(index < plan.spans % count);
            let worker = Worker {
                engine,
                visits,
                tracer: engine.tracer("stress"),
                elsewhere: elsewhere.tracer("stress"),
                random: Random(plan.seed.wrapping_mul(1_000_003).wrapping_add(index)),
                style,
                text: &text,
                unsampled: SpanContext::remote(TraceId([1; 16]), SpanId([1; 8]), 0, Default::default()),
                close_at: if style.closes { plan.spans / 2 } else { 0 },
                last: SpanContext::default(),
                kept: Vec::new(),
                outboxes: outboxes.clone(),
                known: Known::default(),
            };
            threads.push(scope.spawn(move || worker.run(share, &inbox)));
        }
        // Or no inbox would ever be disconnected.
        drop(outboxes);
        let mut known = Known::default();
        for thread in threads {
            known.add(thread.join().expect("recording does not panic"));
        }
        known
    })
}

struct Worker<'a> {
    engine: &'a Engine,
    visits: &'a Visits,
    tracer: Tracer,
    /// Of another engine, which the thread turns to now and then.
    elsewhere: Tracer,
    random: Random,
    style: &'a Style,
    text: &'a str,
    unsampled: SpanContext,
    /// The span whose thread closes the engine for all; none has the number zero.
    close_at: u64,
    /// The last span, for a child.
    last: SpanContext,
    kept: Vec<Span>,
    outboxes: Vec<SyncSender<Parcel>>,
    known: Known,
}

impl Worker<'_> {
    fn run(mut self, share: u64, inbox: &Receiver<Parcel>) -> Known {
        for round in 0..share {
            if self.style.is_paced && round % PACE == 0 {
                self.wait_for_drain();
            }
            inbox.try_iter().for_each(|parcel| self.receive(parcel));
            let span = self.start();
            if number(span.context().span_id()) == self.close_at {
                self.close();
            }
            self.decide(span);
        }
        self.kept.clear();
        self.outboxes.clear();
        // The others may be waiting for nothing, but their spans still come.
        inbox.iter().for_each(|parcel| self.receive(parcel));
        self.known
    }

    /// Until the drain has come by, where there is little room.
    fn wait_for_drain(&self) {
        let memory = self.engine.memory();
        // Of many rings a few are in use, as many as there are cores.
        if memory.rings_waiting > memory.rings / 8 {
            self.visits.wait();
        }
    }

    fn close(&self) {
        while !self.engine.close() {
            thread::yield_now();
        }
    }

    fn start(&mut self) -> Span {
        let parent = match self.random.below(16) {
            0 => &self.unsampled,
            1..8 => &self.last,
            _ => &SpanContext::default(),
        };
        let mut span = self.tracer.span("GET /orders/{id}").kind(Kind::Server).parent(parent).start();
        assert!(span.is_recording() || !span.context().is_sampled(), "the flag promises a record");
        self.known.started += 1;
        self.known.recording += u64::from(span.is_recording());
        self.known.unsampled += u64::from(parent.is_valid() && !parent.is_sampled());
        span.set(NUMBER, number(span.context().span_id()));
        self.last = span.context().clone();
        span
    }

    /// One of a thousand fates.
    fn decide(&mut self, mut span: Span) {
        match self.random.below(1000) {
            0..5 => self.forget(span),
            5..50 => self.send(Parcel::Span(span)),
            50..60 => self.share(span),
            60..70 => {
                let len = [1 << 20, 40_000, 10_000, 3_000][self.random.below(4)];
                span.set("text", &self.text[..len]);
                span.end();
            }
            70..80 => {
                span.event_with("event", [("key", "value")]);
                span.end_at(SystemTime::UNIX_EPOCH);
            }
            80..500 if self.kept.len() < self.style.kept_max => self.kept.push(span),
            80..500 => self.kept.clear(),
            500..510 => {
                // The thread has no seat at the first engine then, when the span ends.
                drop(self.elsewhere.span("elsewhere").start());
                span.end();
            }
            510..750 => drop(span),
            _ => {
                span.set("http.request.method", "GET");
                span.set("cache.hit", true);
                span.end();
            }
        }
    }

    fn forget(&mut self, span: Span) {
        if span.is_recording() && (self.known.forgotten.len() as u64) < self.style.forgotten_max {
            self.known.forgotten.push(number(span.context().span_id()));
            mem::forget(span);
        }
    }

    /// Two threads have the span, and both change it; the last one to let go ends it, if no one did before.
    fn share(&mut self, span: Span) {
        let span = span.share();
        self.send(Parcel::Shared(span.clone()));
        span.set("key", "value");
        if self.random.below(2) == 0 {
            span.end();
        }
    }

    fn send(&mut self, parcel: Parcel) {
        let target = self.random.below(self.outboxes.len());
        // Where the box is full, the span ends here.
        let _ = self.outboxes[target].try_send(parcel);
    }

    fn receive(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Span(mut span) => {
                span.set("moved", true);
                self.last = span.context().clone();
                span.end();
            }
            Parcel::Shared(span) => {
                span.set("moved", true);
                span.status(Status::Error("boom"));
            }
        }
    }
}
