//! Prints what an engine has recorded: each span below its parent, in the order of their names.

use spanring::{
    Engine, SpanId, Status,
    testing::{FinishedSpan, finished},
};

pub fn print(engine: &Engine) {
    let mut spans = finished(engine);
    spans.sort_by(|a, b| a.name.cmp(&b.name));
    print_below(&spans, SpanId::NONE, 0);
}

#[expect(clippy::print_stdout, reason = "an example says what it has done")]
fn print_below(spans: &[FinishedSpan], parent: SpanId, depth: usize) {
    for span in spans.iter().filter(|span| span.parent_id == parent) {
        let mut notes = String::new();
        for link in &span.links {
            let target = spans.iter().find(|target| target.span_id == link.span_id);
            notes += &format!(" -> {}", target.map_or("a span of another process", |target| &target.name));
        }
        if span.attribute("spanring.cancelled").is_some() {
            notes += " (cancelled)";
        }
        if let Status::Error(text) = span.status.as_status() {
            notes += &format!(" (failed: {text})");
        }
        println!("{:indent$}{}{notes}", "", span.name, indent = 2 * depth);
        print_below(spans, span.span_id, depth + 1);
    }
}
