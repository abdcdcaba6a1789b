//! Threads: what is current belongs to a thread, so a closure takes it along to another.
//!
//! Prints:
//!
//! ```text
//! forgotten
//! report
//!   chapter 1
//!   chapter 2
//!   sum
//! ```

mod shown;

use std::{error::Error, thread};

use spanring::{Config, Context, Engine};

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("threads");
    tracer.in_span("report", |report| {
        // A thread of its own: the closure is wrapped.
        let sum = {
            let tracer = tracer.clone();
            move || tracer.in_span("sum", |_| (1..=100).sum::<i64>())
        };
        let sum = thread::spawn(Context::current().wrap(sum));

        // A scope, or a parallel iterator: one closure, called for each item.
        let write = |chapter: &str| tracer.in_span(chapter, |span| span.set("chapter.pages", 12));
        let write = Context::current().wrap_each(write);
        thread::scope(|scope| {
            for chapter in ["chapter 1", "chapter 2"] {
                let write = &write;
                scope.spawn(move || write(chapter));
            }
        });

        // Nobody can do it for a closure that is not wrapped: its span begins a trace.
        thread::scope(|scope| {
            scope.spawn(|| tracer.in_span("forgotten", |_| ()));
        });
        report.set("report.sum", sum.join().unwrap_or_default());
    });
    shown::print(&engine);
    Ok(())
}
