//! A sampler of one's own: health checks never, customers who pay always, of the others none; for whole traces.
//!
//! A span that is not sampled has a context all the same, so that its children, here and elsewhere, are left out, too.
//!
//! Prints:
//!
//! ```text
//! GET /cart
//!   query
//! ```

mod shown;

use std::{borrow::Cow, error::Error};

use spanring::{
    Config, Engine, Key, Kind, Value,
    sample::{Decision, ParentBased, Sampler, SpanStart},
};

/// It is asked before anything is recorded, so it sees only what the span is described with before its start.
#[derive(Debug)]
struct Paying;

impl Sampler for Paying {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let pays =
            |(key, value): &(Key<'_>, Value<'_>)| key.name() == "customer.plan" && matches!(value, Value::Str("gold"));
        if start.name() != "GET /health" && start.attributes().iter().any(pays) {
            Decision::sample()
        } else {
            Decision::drop()
        }
    }

    fn description(&self) -> Cow<'_, str> {
        "Paying".into()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // It decides on roots; all others do as their parents.
    let sampling = ParentBased::new(Paying).into();
    let engine = Engine::start(Config { sampling, ..Config::default() })?;
    let tracer = engine.tracer("shop");
    for (name, plan) in [("GET /cart", "gold"), ("GET /cart", "free"), ("GET /health", "gold")] {
        let plan = [("customer.plan".into(), plan.into())];
        let request = tracer.root(name).kind(Kind::Server).attributes(&plan).start();
        request.run(|_| tracer.in_span("query", |_| ()));
    }
    shown::print(&engine);
    Ok(())
}
