//! A forest as text: a line for each span, indented below its parent.

use std::fmt::{self, Write as _};

use super::{Forest, Origin, OwnedStatus, between};
use crate::record::Kind;

/// Levels that are indented. Deeper ones say their depth, or a long chain would make a text of its length squared.
const INDENTED_MAX: usize = 64;

impl fmt::Display for Forest {
    /// The picture: each trace with its spans, how long they took, and what is unusual about them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trace in &self.traces {
            let plural = if trace.spans == 1 { "" } else { "s" };
            writeln!(f, "trace {}: {} span{plural}", trace.id, trace.spans)?;
            for (depth, span) in self.walk(&trace.tops) {
                writeln!(f, "  {}{}", Indent(depth), self.line(trace.tops[0], span))?;
            }
        }
        Ok(())
    }
}

impl Forest {
    /// A span's line; `first` is the span that its start is told from.
    fn line(&self, first: usize, at: usize) -> String {
        let (span, first) = (&self.spans[at], self.spans[first].start);
        let mut line = format!("{}  {:?}", shown_name(&span.name), between(span.start, span.end));
        // Writing to a string cannot fail.
        let _ = match span.start.duration_since(first) {
            Ok(after) if after.is_zero() => Ok(()),
            Ok(after) => write!(line, " at +{after:?}"),
            Err(before) => write!(line, " at -{:?}", before.duration()),
        };
        if span.kind != Kind::Internal {
            let _ = write!(line, "  {}", kind_word(span.kind));
        }
        let _ = match &span.status {
            OwnedStatus::Unset => Ok(()),
            OwnedStatus::Ok => write!(line, "  ok"),
            OwnedStatus::Error(text) if text.is_empty() => write!(line, "  error"),
            OwnedStatus::Error(text) => write!(line, "  error {text:?}"),
        };
        let _ = match self.origins[at] {
            Origin::Root | Origin::Child(_) => Ok(()),
            Origin::Remote => write!(line, "  (remote parent {})", span.parent_id),
            Origin::Orphan => write!(line, "  (orphan of {})", span.parent_id),
            Origin::Cycle => write!(line, "  (cycle: descends from itself)"),
        };
        for &(trace, id) in &span.links {
            let _ = match self.find(trace, id) {
                Some(target) => write!(line, "  (link to {})", shown_name(&self.spans[target].name)),
                None => write!(line, "  (link to {id} of trace {trace})"),
            };
        }
        line
    }
}

/// Two columns for each level.
struct Indent(usize);

impl fmt::Display for Indent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = 2 * self.0.min(INDENTED_MAX);
        write!(f, "{:width$}", "")?;
        if self.0 > INDENTED_MAX { write!(f, "[{}] ", self.0) } else { Ok(()) }
    }
}

/// A name as it is, or in quotes with escapes where it would not be read back: it may come from anywhere.
pub(crate) fn shown_name(name: &str) -> String {
    let is_plain = !name.is_empty()
        && name.trim() == name
        && !name.contains('"')
        && !format!(" {name} ").contains(" | ")
        && !name.chars().any(char::is_control);
    if is_plain { name.to_owned() } else { format!("{name:?}") }
}

/// A kind in one word.
pub(crate) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Internal => "internal",
        Kind::Server => "server",
        Kind::Client => "client",
        Kind::Producer => "producer",
        Kind::Consumer => "consumer",
    }
}
