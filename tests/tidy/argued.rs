//! Unsafe code and atomic orderings: in their places, argued, and each label with two sides, a row and a model.

use std::collections::BTreeSet;

use crate::source::{Line, ORDERING_REACH_LINES, Source, has_word, is_word, words};

const UNSAFE_PLACES: &[&str] =
    &["src/lane/", "src/sync/", "src/transport/driver/uring.rs", "src/transport/driver/uring/event_fd.rs"];
const LABEL_TABLE: &str = "src/lane/ring.rs";
const SAFETY_REACH_LINES: usize = 6;

pub fn unsafe_places(source: &Source) -> Vec<String> {
    let free = source.is_in(UNSAFE_PLACES);
    let is_unsafe = |_, line: &Line| !free && has_word(&line.code, &["unsafe"]);
    source.flag(is_unsafe, &format!("keep `unsafe` in {UNSAFE_PLACES:?}"))
}

pub fn unsafe_reasons(source: &Source) -> Vec<String> {
    let after = |line: &Line, forms: &[&str]| {
        let mut rests = line.code.split("unsafe").skip(1).map(str::trim_start);
        rests.any(|rest| {
            let rest = rest.strip_prefix("extern").map_or(rest, |rest| rest.trim_matches([' ', '"']));
            forms.iter().any(|form| rest.starts_with(form))
        })
    };
    // A `fn` without a name is a pointer's type, and has no contract of its own.
    let contracts = source.flag(
        |at, line| after(line, &["fn ", "trait "]) && !source.docs(at).contains("# Safety"),
        "write the contract: a `# Safety` section in the doc comment",
    );
    let proof = |at| source.note(at, "SAFETY:", SAFETY_REACH_LINES);
    let proofs = source.flag(
        |at, line| after(line, &["{", "impl"]) && proof(at).is_none(),
        &format!("prove it: `// SAFETY:` at most {SAFETY_REACH_LINES} lines above"),
    );
    [contracts, proofs].concat()
}

pub fn orderings(source: &Source) -> Vec<String> {
    let argued = |at| source.note(at, "ORDERING:", ORDERING_REACH_LINES).is_some();
    let advice = format!("argue it: `// ORDERING:` at most {ORDERING_REACH_LINES} lines above");
    source.flag(|at, line| line.is_access() && !argued(at), &advice)
}

pub fn labels(sources: &[Source], models: &[String]) -> Vec<String> {
    let Some(table) = sources.iter().find(|source| source.path == LABEL_TABLE) else {
        return vec![format!("{LABEL_TABLE}:1: the table of labels heads this file")];
    };
    let row = |line: &Line| Some(line.raw.strip_prefix("//! | [")?.replacen(']', "", 1));
    let lines = table.lines.iter().enumerate();
    let rows: Vec<(usize, String)> = lines.filter_map(|(at, line)| Some((at, row(line)?))).collect();
    let names: Vec<&str> = rows.iter().filter_map(|(_, row)| row.split(' ').next()).collect();

    let mut findings = vec![];
    let mut sides = BTreeSet::new();
    for source in sources {
        for (at, (note, used)) in source.ordering_notes() {
            for (label, ordering) in labels_in(&note) {
                if !names.contains(&label) {
                    let advice = format!("give [{label}] a row in the table of {LABEL_TABLE}");
                    findings.push(source.finding(at, advice));
                }
                for side in ["Release", "Acquire"] {
                    let ways = [side, "AcqRel", "SeqCst"];
                    if !ways.contains(&ordering) {
                        continue;
                    }
                    if used.iter().any(|ordering| ways.contains(ordering)) {
                        sides.insert((label.to_owned(), side));
                    } else {
                        let advice = format!("[{label}] says {side} here, the code below does not");
                        findings.push(source.finding(at, advice));
                    }
                }
            }
        }
    }
    for ((at, row), label) in rows.iter().zip(names) {
        for side in ["Release", "Acquire"] {
            if !sides.contains(&(label.to_owned(), side)) {
                let advice = format!("no `// ORDERING: [{label}] {side}` in the code");
                findings.push(table.finding(*at, advice));
            }
        }
        // Five columns, and the empty piece after the last bar.
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let model = cells.get(4).filter(|_| cells.len() == 6).map_or("", |cell| cell.trim_matches('`'));
        if !models.contains(&format!("loom-tests/tests/{model}")) {
            let advice = format!("end the row of [{label}] with its model in loom-tests/tests");
            findings.push(table.finding(*at, advice));
        }
    }
    findings
}

/// The labels of an ordering comment, each with the word after it. A label is a lower-case word in brackets; an index
/// such as `bytes[at]` is none.
fn labels_in(note: &str) -> Vec<(&str, &str)> {
    let brackets = note.match_indices('[').filter(|(at, _)| !note[..*at].ends_with(is_word));
    let inside = brackets.filter_map(|(at, _)| note[at + 1..].split_once(']'));
    let mut labels: Vec<_> = inside.map(|(label, rest)| (label, words(rest).next().unwrap_or(""))).collect();
    labels.retain(|(label, _)| label.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    labels
}

// ---- Tests.

#[test]
fn label_without_row_side_or_model_is_refused() {
    let row = "//! Ring.\n//! | [publish] | `a` | `b` | bytes |";
    let release = "// ORDERING: [publish] Release.\na.store(1, Release);";
    let acquire = "// ORDERING: [publish] Acquire on success,\n// ORDERING: Relaxed on failure.\na.swap(\n    Acquire,\n    Relaxed,\n);";
    let count = |lines: &[&str]| {
        let source = Source::new(LABEL_TABLE, &lines.join("\n"));
        labels(&[source], &["loom-tests/tests/a.rs".to_owned()]).len()
    };
    let whole = format!("{row} `a.rs` |");
    assert_eq!(count(&[&whole, release, acquire]), 0);
    assert_eq!(count(&[&whole, release]), 1, "no Acquire side");
    assert_eq!(count(&[&whole, acquire]), 1, "no Release side");
    assert_eq!(count(&[&whole, release, &acquire.replace("  Acquire", "  Relaxed")]), 2, "the code says otherwise");
    assert_eq!(count(&[&format!("{row} `b.rs` |"), release, acquire]), 1, "no such model");
    assert_eq!(count(&[row, release, acquire]), 1, "no column for the model");
    assert_eq!(count(&[release]), 1, "no row");
    assert_eq!(labels(&[], &[]).len(), 1, "no table");
}
