//! Runs one workload a fixed number of times, for callgrind: `.ci/instructions` counts what a span costs in
//! instructions.

#[path = "../../tests/workload/mod.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod workload;

use spanring::{Config, Engine};
use workload::{order, unsampled_child, unsampled_parent, w0, w1, w2};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let count: u64 = args.next().and_then(|count| count.parse().ok()).unwrap_or(1000);
    // The rings hold all spans: nothing is drained, so that the count is of the recording side alone.
    let engine =
        Engine::start(Config { memory_budget: 256 << 20, ..Config::default() }).expect("the configuration is good");
    let tracer = engine.tracer("instructions");
    let (order, parent) = (order(), unsampled_parent());
    for round in 1..=count {
        match name.as_str() {
            "W0" => w0(&tracer),
            "W1" => w1(&tracer, &order),
            "W2" => w2(&tracer, &order, round),
            "unsampled" => unsampled_child(&tracer, &parent),
            _ => panic!("usage: instructions W0|W1|W2|unsampled COUNT"),
        }
    }
    assert_eq!(engine.ledger().lost.total(), 0, "lost spans cost less");
}
