//! Many producers and one consumer: the batch is no child of one of them, it has a link to each.
//!
//! Prints:
//!
//! ```text
//! batch -> order 1 -> order 2 -> order 3
//!   write
//! order 1
//! order 2
//! order 3
//! ```

mod shown;

use std::{error::Error, sync::mpsc};

use spanring::{Config, Context, Engine, Kind};

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("fan-out");

    // Whatever travels has its context beside it.
    let (sender, receiver) = mpsc::channel::<(Context, u32)>();
    for order in 1..=3 {
        let span = tracer.root(&format!("order {order}")).kind(Kind::Producer).start();
        span.run(|_| sender.send((Context::current(), order)))?;
    }
    drop(sender);

    let orders: Vec<_> = receiver.into_iter().collect();
    tracer.root("batch").kind(Kind::Consumer).start().run(|batch| {
        for (context, order) in &orders {
            batch.link_with(context.span_context(), [("order.id", *order)]);
        }
        tracer.in_span("write", |write| write.set("write.orders", orders.len()));
    });
    shown::print(&engine);
    Ok(())
}
