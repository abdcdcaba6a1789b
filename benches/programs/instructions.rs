//! Runs one workload a fixed number of times, for callgrind: `.ci/instructions` counts what a span costs in
//! instructions.

#[path = "../../tests/workload/mod.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod workload;

use std::{
    future::{Future, pending},
    hint::black_box,
    task::{self, Waker},
};

use spanring::{Config, Context, Engine, TraceFuture as _, current_ids, propagate::trace_context};
use workload::{Headers, order, sampled_parent, unsampled_child, unsampled_parent, w0, w1, w2};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let count: u64 = args.next().and_then(|count| count.parse().ok()).unwrap_or(1000);
    // The rings hold all spans: nothing is drained, so that the count is of the recording side alone.
    let engine =
        Engine::start(Config { memory_budget: 256 << 20, ..Config::default() }).expect("the configuration is good");
    let tracer = engine.tracer("instructions");
    let (order, parent) = (order(), unsampled_parent());
    let (around, mut headers) = (Context::of(sampled_parent()), Headers::default());
    let _ = trace_context::inject(around.span_context(), &mut headers);
    let mut task = task::Context::from_waker(Waker::noop());
    let mut in_context = Box::pin(pending::<()>().in_context(Context::of(parent.clone())));
    let mut in_span = Box::pin(pending::<()>().in_span(tracer.root("task").start()));
    // What is looked for in a context is looked for in this one.
    let is_around = ["attach", "ids", "child", "poll", "poll_in_span"].contains(&name.as_str());
    let _attached = is_around.then(|| around.clone().attach());
    for round in 1..=count {
        match name.as_str() {
            "W0" => w0(&tracer),
            "W1" => w1(&tracer, &order),
            "W2" => w2(&tracer, &order, round),
            "unsampled" => unsampled_child(&tracer, &parent),
            "attach" => drop(black_box(Context::current().attach())),
            "ids" => drop(black_box(current_ids())),
            "child" => w0(&tracer),
            "entered" => drop(black_box(tracer.span("step").start().enter())),
            "in_span" => tracer.in_span("step", |_| ()),
            "poll" => drop(black_box(in_context.as_mut().poll(&mut task))),
            "poll_in_span" => drop(black_box(in_span.as_mut().poll(&mut task))),
            "write" => drop(black_box(trace_context::inject(black_box(around.span_context()), &mut headers))),
            "parse" => drop(black_box(trace_context::extract(black_box(&headers)))),
            _ => panic!("usage: instructions WORKLOAD COUNT; see .ci/instructions for their names"),
        }
    }
    assert_eq!(engine.ledger().lost.total(), 0, "lost spans cost less");
}
