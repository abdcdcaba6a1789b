//! Prints what an engine has recorded: each span below its parent, in the order of their names.

use spanring::{
    Engine, Status,
    testing::{FinishedSpan, finished},
};

pub fn print(engine: &Engine) {
    let mut spans = finished(engine);
    spans.sort_by(|a, b| a.name.cmp(&b.name));
    let is_top = |span: &&FinishedSpan| spans.iter().all(|other| other.span_id != span.parent_id);
    for top in spans.iter().filter(is_top) {
        print_with_children(&spans, top, 0);
    }
}

#[expect(clippy::print_stdout, reason = "an example says what it has done")]
fn print_with_children(spans: &[FinishedSpan], span: &FinishedSpan, depth: usize) {
    let mut notes = String::new();
    if depth == 0 && span.parent_id.is_valid() {
        notes += " (child of another process)";
    }
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
    for child in spans.iter().filter(|child| child.parent_id == span.span_id) {
        print_with_children(spans, child, depth + 1);
    }
}
