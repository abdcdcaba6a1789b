//! The tree that a test expects, read from its text.

use super::{FinishedSpan, OwnedStatus};
use crate::{
    record::Kind,
    tree::{Origin, kind_word, shown_name},
};

/// A tree as it was written.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// In the order of their lines.
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<usize>,
}

/// A span that is expected.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) depth: usize,
    /// The line, without its indentation.
    pub(super) line: String,
    pub(super) children: Vec<usize>,
    name: String,
    wants: Vec<String>,
}

impl Expected {
    /// Reads a line for each span; the error says which line is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tree = Self::default();
        // The spans above, each with its indentation.
        let mut above: Vec<(usize, usize)> = vec![];
        for (number, line) in (1..).zip(text.lines()) {
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            let mut closed = None;
            while let Some(&(other, _)) = above.last()
                && other >= indent
            {
                closed = Some(other);
                above.pop();
            }
            // The first line says how far roots are indented.
            let is_aligned = closed.map_or(!above.is_empty() || tree.nodes.is_empty(), |other| other == indent);
            if !is_aligned {
                return Err(format!("line {number}: `{text}` is indented like no line above it"));
            }
            let at = tree.nodes.len();
            let node = Node::parse(above.len(), text).map_err(|error| format!("line {number}: {error}"))?;
            tree.nodes.push(node);
            match above.last() {
                Some(&(_, parent)) => tree.nodes[parent].children.push(at),
                None => tree.roots.push(at),
            }
            above.push((indent, at));
        }
        Ok(tree)
    }
}

impl Node {
    fn parse(depth: usize, line: &str) -> Result<Self, String> {
        let (name, rest) = split_name(line);
        let wants = parts(rest).into_iter().map(normal).collect::<Result<_, _>>()?;
        Ok(Self { depth, line: line.to_owned(), children: vec![], name: name.to_owned(), wants })
    }

    /// Whether a span has this name.
    pub(super) fn names(&self, span: &FinishedSpan) -> bool {
        forms(&span.name).contains(&self.name)
    }

    /// Whether a span has this name and everything that is asked for. An orphan has to be asked for.
    pub(super) fn fits(&self, span: &FinishedSpan, origin: Origin) -> bool {
        let mut facts = facts(span, origin);
        let events = span.events.iter().flat_map(|event| forms(&event.name));
        facts.extend(events.map(|name| format!("{EVENT}{name}")));
        let is_hidden = origin == Origin::Orphan && !self.wants.iter().any(|want| want == ORPHAN);
        self.names(span) && !is_hidden && self.wants.iter().all(|want| facts.contains(want))
    }
}

/// A found span as it would be expected, with what is not usual.
pub(super) fn written(span: &FinishedSpan, origin: Origin) -> String {
    let usual = [kind_word(Kind::Internal), UNSET];
    let mut facts = facts(span, origin);
    // The shorter form says less.
    let has_text = facts.iter().any(|fact| fact.starts_with(ERROR_TEXT));
    facts.retain(|fact| !(usual.contains(&fact.as_str()) || has_text && fact == ERROR));
    let mut line = shown_name(&span.name);
    for fact in facts {
        line.push_str(SEPARATOR);
        line.push_str(&fact);
    }
    line
}

/// All that may be asked of a span, as it is written.
fn facts(span: &FinishedSpan, origin: Origin) -> Vec<String> {
    let mut facts = vec![kind_word(span.kind).to_owned()];
    match &span.status {
        OwnedStatus::Unset => facts.push(UNSET.to_owned()),
        OwnedStatus::Ok => facts.push(OK.to_owned()),
        OwnedStatus::Error(text) => {
            facts.push(ERROR.to_owned());
            if !text.is_empty() {
                facts.push(format!("{ERROR} {text:?}"));
            }
        }
    }
    facts.extend(span.attributes.iter().map(|(key, value)| format!("{} = {value}", shown_key(key))));
    facts.extend(span.events.iter().map(|event| format!("{EVENT}{}", shown_name(&event.name))));
    if span.is_parent_remote() == Some(true) {
        facts.push(REMOTE_PARENT.to_owned());
    }
    if origin == Origin::Orphan {
        facts.push(ORPHAN.to_owned());
    }
    facts
}

/// What is asked for, in the form of [`facts`].
fn normal(part: &str) -> Result<String, String> {
    let part = part.trim();
    let kinds = [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer].map(kind_word);
    let is_known = kinds.contains(&part)
        || [UNSET, OK, ERROR, REMOTE_PARENT, ORPHAN].contains(&part)
        || [ERROR_TEXT, EVENT].iter().any(|start| part.starts_with(start));
    if is_known {
        return Ok(part.to_owned());
    }
    let after_key = if part.starts_with('"') { quoted_len(part) } else { 0 };
    let Some(at) = part[after_key..].find('=') else {
        return Err(format!(
            "`{part}` is no kind (server), status (unset, ok, error, error \"text\"), attribute (key = value), `event name`, \
             `{REMOTE_PARENT}` or `{ORPHAN}`"
        ));
    };
    let (key, value) = part.split_at(after_key + at);
    Ok(format!("{} = {}", key.trim(), value[1..].trim()))
}

/// The ways to write a name: as it is shown, as it is, in quotes.
fn forms(name: &str) -> [String; 3] {
    [shown_name(name), name.to_owned(), format!("{name:?}")]
}

/// A key as it is, or in quotes where it would not be read back.
fn shown_key(key: &str) -> String {
    if key.contains('=') { format!("{key:?}") } else { shown_name(key) }
}

/// The name, as it is or in quotes, and what follows it.
fn split_name(line: &str) -> (&str, &str) {
    let end = if line.starts_with('"') { quoted_len(line) } else { 0 };
    let end = line[end..].find(SEPARATOR).map_or(line.len(), |at| end + at);
    let (name, rest) = line.split_at(end);
    (name.trim_end(), rest.strip_prefix(SEPARATOR).unwrap_or_default())
}

/// The parts of a line between separators that are in no quotes.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = vec![];
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with('"') {
            at += quoted_len(rest);
        } else if rest.starts_with(SEPARATOR) {
            parts.push(&text[start..at]);
            at += SEPARATOR.len();
            start = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The bytes of a text in quotes, with both marks; all there are if it has no end.
fn quoted_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

const SEPARATOR: &str = " | ";
const UNSET: &str = "unset";
const OK: &str = "ok";
const ERROR: &str = "error";
const ERROR_TEXT: &str = "error \"";
const EVENT: &str = "event ";
const REMOTE_PARENT: &str = "remote parent";
const ORPHAN: &str = "orphan";
