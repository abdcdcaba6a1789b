//! Messages between processes: the producer's span goes into the headers, and is the parent on the other side.
//!
//! Prints:
//!
//! ```text
//! traceparent: 00-…
//! process order, of unknown origin
//! publish order
//!   process order
//! ```

mod shown;

use std::error::Error;

use spanring::{Config, Engine, Kind, Tracer, propagate::trace_context};

/// As queues have them: the values are bytes, and a name may repeat.
struct Message {
    headers: Vec<(String, Vec<u8>)>,
}

fn publish(tracer: &Tracer) -> Message {
    tracer.span("publish order").kind(Kind::Producer).start().run(|span| {
        let mut message = Message { headers: vec![] };
        trace_context::inject(span.context(), &mut message.headers);
        message
    })
}

/// The parent is what the message says, whatever is current in the consumer's loop. Without a good header the span
/// begins a trace.
fn process(tracer: &Tracer, message: &Message) {
    let producer = trace_context::extract(&message.headers);
    let name = if producer.is_some() { "process order" } else { "process order, of unknown origin" };
    tracer.span(name).kind(Kind::Consumer).parent(&producer).start().run(|_| ());
}

#[expect(clippy::print_stdout, reason = "an example says what it has done")]
fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("messages");
    let mut message = publish(&tracer);
    for (name, value) in &message.headers {
        println!("{name}: {}", String::from_utf8_lossy(value));
    }
    process(&tracer, &message);
    message.headers.clear();
    process(&tracer, &message);
    shown::print(&engine);
    Ok(())
}
