//! Is a broken collector felt on the request path? Times `end()` with collectors that are healthy, refuse, reset, read
//! nothing and answer a byte a second, turn about in one run: the 99.9th percentile of each against the healthy one's.
//!
//! `cargo run --release -p spanring-benches --bin isolation [ROUNDS]`

#![expect(clippy::print_stdout, reason = "the result")]

#[path = "../../tests/workload/mod.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod workload;

use std::{thread, time::Duration};

use spanring::{
    Config, DiagnosticSink, Engine, Export, Kind,
    internals::ticks,
    testing::collector::{Mode, Plan, Row},
};
use workload::order;

/// Peers of the stand-in collector, by their names in the table of faults; the first is healthy.
const PEERS: [&str; 5] =
    ["healthy", "closed_port", "reset_before_answering", "black_hole_that_reads_nothing", "slow_loris_head"];
/// Spans of one turn, and of one burst in it: a service at 100,000 spans a second.
const SPANS: usize = 50_000;
const BURST: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(7);
    let mut percentiles = vec![vec![]; PEERS.len()];
    for _ in 0..rounds {
        for (peer, found) in PEERS.iter().zip(&mut percentiles) {
            found.push(turn(peer));
        }
    }
    println!("{SPANS} spans a turn, {rounds} turns each; ticks of the core's counter");
    let healthy = median(&mut percentiles[0].clone());
    for (peer, mut found) in PEERS.iter().zip(percentiles) {
        let middle = median(&mut found);
        let (low, high) = (found[0], found[found.len() - 1]);
        let ratio = middle as f64 / healthy as f64;
        println!("{peer:32} p99.9 of end(): median {middle:6}, {low:6} to {high:6}, {ratio:.2} of healthy");
    }
}

/// The 99.9th percentile of `end()` while spans go to this peer.
fn turn(peer: &str) -> u64 {
    let row = Row::named(if peer == "healthy" { "connection_close" } else { peer });
    // The healthy one meets no fault.
    let plan = if peer == "healthy" { Plan { after: u64::MAX, times: 0 } } else { Plan::forever() };
    let stand = row.start(plan, Mode::Count).expect("loopback has a free port");
    let export = Export {
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        shutdown_timeout: Duration::ZERO,
        ..Export::to(&stand.collector.url())
    };
    let engine =
        Engine::start(Config { export: Some(export), ..Config::default() }).expect("the configuration is good");
    let tracer = engine.tracer("isolation");
    let order = order();
    let mut times = Vec::with_capacity(SPANS);
    for number in 0..SPANS {
        if number % BURST == 0 {
            thread::park_timeout(PAUSE);
        }
        let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
        span.set("order.id", order.as_str());
        span.set("cache.hit", true);
        let begin = ticks::counter();
        span.end();
        times.push(ticks::counter() - begin);
    }
    drop(engine);
    times.sort_unstable();
    times[SPANS - SPANS / 1000]
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
