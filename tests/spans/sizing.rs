//! What `size` computes is enough, and not much more: a simulation of the load on a real engine, in virtual time.
//!
//! A tick offers what the rate brings; the drain comes by once in each `drain_interval`, now and then as late as the
//! formula's headroom allows, and stays away for the outage once. No time passes meanwhile.

use std::time::Duration;

use spanring::{Config, Engine, Kind, Ledger, Load, Tracer, size};

const SECOND: Duration = Duration::from_secs(1);
/// The formula's spare room: the drain may be late by half.
const LATE: f64 = 1.5;

/// Loads of different shapes. Their rates are stretched below, until the rings that `size` asks for are just full.
const LOADS: [Load; 7] = [
    load(1_000.0, 1.0, 280, SECOND, Duration::ZERO),
    load(1_000.0, 8.0, 280, SECOND, Duration::ZERO),
    load(200.0, 5.0, 120, SECOND, SECOND),
    load(200.0, 3.0, 1_000, Duration::from_millis(200), Duration::from_secs(2)),
    load(300.0, 1.0, 150, SECOND, Duration::from_secs(10)),
    load(10.0, 20.0, 500, Duration::from_secs(5), Duration::from_secs(30)),
    // Rings of more than half of the budget.
    load(500.0, 1.0, 2_000, SECOND, Duration::from_secs(10)),
];

#[test]
fn sized_engine_loses_nothing_at_the_peak() {
    for load in LOADS.map(stretched) {
        // In one ring no space is out of reach: this is the formula alone.
        let run = simulate(&load, budget(&load), Some(1));
        assert_eq!(run.ledger.lost.total(), 0, "{load:?} {run:?}");
        assert_eq!(run.ledger.drained, run.offered, "{load:?} {run:?}");
    }
}

#[test]
fn sized_engine_loses_nothing_when_one_thread_makes_the_whole_load() {
    for load in LOADS.map(stretched) {
        // As many rings as this machine gets, and as many as one thread reaches.
        for lanes in [None, Some(8)] {
            let run = simulate(&load, budget(&load), lanes);
            assert_eq!(run.ledger.lost.total(), 0, "{lanes:?} {load:?} {run:?}");
        }
    }
}

#[test]
fn engine_of_seven_tenths_loses_spans_and_counts_them() {
    for load in LOADS.map(stretched) {
        // The memory of a load for one that needs more: the rings come in powers of two, so the load is what can be
        // varied.
        let larger = Load { peak_rps: load.peak_rps / 0.7, ..load };
        let run = simulate(&larger, budget(&load), Some(1));
        assert!(run.ledger.lost.lane_full > 0, "{load:?} {run:?}");
        assert_eq!(run.ledger.started, run.offered, "{load:?} {run:?}");
        assert_eq!(run.ledger.drained + run.ledger.lost.lane_full, run.offered, "{load:?} {run:?}");
    }
}

#[test]
fn sized_engine_starts_on_any_number_of_cores() {
    let smallest = load(1.0, 1.0, 100, SECOND, Duration::ZERO);
    for load in [smallest, LOADS[0], LOADS[5]] {
        for lanes in [1, 4, 32, 128] {
            let config = Config { memory_budget: budget(&load), lanes: Some(lanes), ..Config::default() };
            assert!(Engine::start(config).is_ok(), "{lanes} lanes, {load:?}: {:?}", size(&load));
        }
    }
}

#[test]
fn sized_engine_holds_the_live_spans() {
    let load = Load { live_spans: 5_000, ..LOADS[0] };
    let engine = Engine::start(Config { memory_budget: budget(&load), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    let open: Vec<_> = (0..load.live_spans).map(|_| tracer.span("open").start()).collect();
    assert!(open.iter().all(spanring::Span::is_recording), "{:?}", engine.ledger());
}

const fn load(
    peak_rps: f64,
    spans_per_request: f64,
    record_bytes: u32,
    drain_interval: Duration,
    outage: Duration,
) -> Load {
    Load { peak_rps, spans_per_request, record_bytes, drain_interval, outage, live_spans: 100 }
}

/// The load with as high a rate as its memory allows by the formula: rounding up to a power of two hides nothing then.
fn stretched(load: Load) -> Load {
    let first = size(&load);
    // The least budget has rings of two mebibytes.
    let rings = first.ring_bytes.next_power_of_two().max(2 << 20);
    let load = Load { peak_rps: load.peak_rps * rings as f64 / first.ring_bytes as f64 * 0.999, ..load };
    let sizing = size(&load);
    assert!(sizing.ring_bytes <= rings && sizing.ring_bytes > rings / 100 * 99, "{first:?} {sizing:?}");
    assert_eq!(sizing.memory_budget, first.memory_budget, "the rings have the same size");
    load
}

fn budget(load: &Load) -> usize {
    size(load).memory_budget
}

#[derive(Debug)]
#[expect(dead_code, reason = "shown when a test fails")]
struct Run {
    offered: u64,
    ledger: Ledger,
    rings: u64,
    ring_high_water: u64,
}

fn simulate(load: &Load, memory_budget: usize, lanes: Option<usize>) -> Run {
    let engine = Engine::start(Config { memory_budget, lanes, ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    let mut requests = Requests::new(load, &engine, &tracer);
    let delay = load.drain_interval.as_secs_f64();
    // On time, late, and after an outage that began when the drain was due and late.
    for interval in [1.0, LATE, 1.0] {
        requests.offer_for(interval * delay);
        engine.drain(|_, _| ());
    }
    requests.offer_for(LATE * delay + load.outage.as_secs_f64());
    engine.drain(|_, _| ());
    requests.offer_for(LATE * delay);
    engine.drain(|_, _| ());
    let (ledger, memory) = (engine.ledger(), engine.memory());
    assert!(ledger.is_closed(), "{ledger:?}");
    Run { offered: requests.offered, ledger, rings: memory.rings, ring_high_water: memory.ring_high_water }
}

/// Makes the spans of requests, one root and the rest its children, each of `record_bytes` on the wire.
struct Requests<'a> {
    load: &'a Load,
    tracer: &'a Tracer,
    /// What a root and a child need, to be as long as they shall be.
    root_pad: String,
    child_pad: String,
    /// Parts of a request that the last ticks have left over.
    due: f64,
    offered: u64,
}

impl<'a> Requests<'a> {
    fn new(load: &'a Load, engine: &Engine, tracer: &'a Tracer) -> Self {
        let mut requests =
            Self { load, tracer, root_pad: String::new(), child_pad: String::new(), due: 0.0, offered: 0 };
        // Longer by one until it fits: a length on the wire may itself become longer.
        for is_root in [true, false] {
            while requests.wire_len(engine, is_root) < load.record_bytes as usize {
                if is_root { requests.root_pad.push('x') } else { requests.child_pad.push('x') }
            }
            assert!(requests.wire_len(engine, is_root) <= load.record_bytes as usize + 2);
        }
        requests
    }

    fn wire_len(&mut self, engine: &Engine, is_root: bool) -> usize {
        let mut lens = Vec::new();
        // A child ends before its root.
        self.request(if is_root { 1.0 } else { 2.0 });
        engine.drain(|_, bytes| lens.push(bytes.len()));
        lens[0]
    }

    fn offer_for(&mut self, seconds: f64) {
        const TICKS: u32 = 100;
        let requests = self.load.peak_rps * seconds / f64::from(TICKS);
        for _ in 0..TICKS {
            self.due += requests;
            while self.due >= 1.0 {
                self.request(self.load.spans_per_request);
                self.due -= 1.0;
            }
        }
    }

    fn request(&mut self, spans: f64) {
        let mut root = self.tracer.span("GET /orders/{id}").kind(Kind::Server).start();
        root.set("pad", self.root_pad.as_str());
        self.offered += 1;
        let mut rest = spans - 1.0;
        while rest > 0.0 {
            let mut child = self.tracer.span("load").parent(root.context()).start();
            child.set("pad", self.child_pad.as_str());
            self.offered += 1;
            rest -= 1.0;
        }
    }
}
