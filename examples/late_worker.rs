//! Work that is done long after its request: a trace of its own, with a link to where it came from.
//!
//! A child would do as well, but its trace would be open for as long as the work lies in the queue.
//!
//! Prints:
//!
//! ```text
//! request
//!   enqueue
//! worker
//! worker: mail -> enqueue
//!   send
//! ```

mod shown;

use std::{collections::VecDeque, error::Error};

use spanring::{Config, Engine, SpanContext};

struct Mail {
    to: &'static str,
    /// The identity of the span that asked for it: a few words, `Send`, without the span itself.
    origin: SpanContext,
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("mails");
    let mut queue = VecDeque::new();
    tracer.in_span("request", |_| {
        tracer.in_span("enqueue", |span| queue.push_back(Mail { to: "ada", origin: span.context().clone() }));
    });

    // Hours later, and in a span of the worker, which is not the parent either.
    tracer.in_span("worker", |_| {
        while let Some(mail) = queue.pop_front() {
            tracer.span("worker: mail").root_linked_to(&mail.origin).start().run(|span| {
                span.set("mail.to", mail.to);
                tracer.in_span("send", |_| ());
            });
        }
    });
    shown::print(&engine);
    Ok(())
}
