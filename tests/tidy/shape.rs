//! The shape of a file: its purpose, its size, the width of its comments, and that it is reached.

use crate::source::{Line, Source, body, has_word, is_word, line_of};

/// The limits of the house style: past them a file, or a function, holds two ideas.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COMMENT_COLUMNS_MAX: usize = 120;

pub fn opening(source: &Source) -> Vec<String> {
    if source.lines.first().is_some_and(|line| line.raw.starts_with("//! ")) {
        return vec![];
    }
    vec![source.finding(0, "open the file with a `//!` sentence on what it is for")]
}

pub fn sizes(source: &Source) -> Vec<String> {
    let mut findings = vec![];
    let lines = source.lines.iter().filter(|line| !line.is_test).count();
    if lines > FILE_LINES_MAX {
        let advice = format!("split the file: {lines} lines besides tests, {FILE_LINES_MAX} at most");
        findings.push(source.finding(0, advice));
    }
    let code = source.code();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(is_word) {
            continue; // the end of a longer word
        }
        let lines = body(&code[at..]).map_or(0, |body| body.lines().count());
        if lines > FUNCTION_LINES_MAX {
            let advice = format!("split the function: {lines} lines, {FUNCTION_LINES_MAX} at most");
            findings.push(source.finding(line_of(&code, at), advice));
        }
    }
    findings
}

pub fn widths(source: &Source) -> Vec<String> {
    // A row of a table is one line, however long.
    let is_row = |line: &Line| line.comment.trim_start_matches(['/', '!']).trim_start().starts_with('|');
    let is_long = |line: &Line| line.raw.chars().count() > COMMENT_COLUMNS_MAX;
    let is_wide = |_, line: &Line| !line.comment.is_empty() && is_long(line) && !is_row(line);
    source.flag(is_wide, &format!("wrap the comment: {COMMENT_COLUMNS_MAX} columns at most"))
}

pub fn leftovers(source: &Source) -> Vec<String> {
    let forms = ["todo!", "unimplemented!", "#[ignore", "thread::sleep"];
    let is_leftover = |_, line: &Line| {
        [&line.code, &line.comment].iter().any(|text| has_word(text, &["TODO", "FIXME"]))
            || forms.iter().any(|form| line.code.contains(form))
            || (line.is_use && has_word(&line.code, &["sleep"]))
    };
    source.flag(is_leftover, "do it now: no marks for later, no ignored tests; wait for the event, not a time")
}

pub fn globs(source: &Source) -> Vec<String> {
    let is_glob = |_, line: &Line| line.is_use && !line.is_test && line.code.contains("::*");
    source.flag(is_glob, "name what is imported")
}

pub fn unreachable(sources: &[Source]) -> Vec<String> {
    let declares = |parent: &str, name: &str| {
        let (item, path) = (format!("mod {name};"), format!("path = \"{name}.rs\""));
        let is_item = |line: &Line| {
            line.code.trim_start() == item || line.code.ends_with(&format!(" {item}")) || line.raw.contains(&path)
        };
        sources.iter().any(|source| source.path == parent && source.lines.iter().any(is_item))
    };
    let is_reached = |source: &&Source| {
        let place = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (folder, name) = place.rsplit_once('/').unwrap_or(("", place));
        let is_command = folder == "src/bin" || (folder.starts_with("src/bin/") && name == "main");
        let files = ["/mod.rs", ".rs", "/lib.rs", "/main.rs"];
        let is_declared = files.iter().any(|file| declares(&format!("{folder}{file}"), name));
        place == "src/lib" || is_command || is_declared
    };
    let lost = sources.iter().filter(|source| !is_reached(source));
    lost.map(|source| source.finding(0, "declare it with `mod` in its parent, or remove it")).collect()
}

// ---- Tests.

#[test]
fn undeclared_file_is_refused() {
    let source = |path, text| Source::new(path, text);
    let root = || source("src/lib.rs", "pub mod lane;\n// mod batch;\n");
    let lane = || source("src/lane/mod.rs", "mod ring;");
    assert_eq!(unreachable(&[root(), lane(), source("src/lane/ring.rs", "")]).len(), 0);
    assert_eq!(unreachable(&[root(), source("src/bin/a/main.rs", "mod b;"), source("src/bin/a/b.rs", "")]).len(), 0);
    assert_eq!(unreachable(&[root(), lane(), source("src/batch.rs", "")]).len(), 1);
    assert_eq!(unreachable(&[root(), lane(), source("src/lane/spill.rs", "")]).len(), 1);
}
