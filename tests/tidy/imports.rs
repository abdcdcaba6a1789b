//! Who may name whom: the table of ARCHITECTURE.md, and no files that import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    paths::{Modules, Name, module_of},
    source::{Source, line_of},
};

const TABLE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Who may import whom";
const EVERYTHING: &str = "everything";

/// A row for each module or folder: what it may name besides itself and what is inside it.
#[derive(Debug)]
pub struct Table(BTreeMap<String, Row>);

#[derive(Debug)]
struct Row {
    line: usize,
    allowed: Vec<String>,
}

impl Table {
    /// The table below its heading, one module or several in the first column.
    pub fn read(text: &str) -> Self {
        let start = text.find(HEADING).unwrap_or(text.len());
        let section = text[start..].split("\n## ").next().unwrap_or_default();
        let mut rows = BTreeMap::new();
        for (at, line) in section.lines().enumerate() {
            let cells: Vec<&str> = line.split('|').collect();
            let [_, modules, allowed, _] = cells[..] else { continue };
            let all = allowed.trim_start().starts_with(EVERYTHING).then(|| EVERYTHING.to_owned());
            let allowed: Vec<String> = quoted(allowed).chain(all).collect();
            for module in quoted(modules) {
                rows.insert(module, Row { line: line_of(text, start) + at, allowed: allowed.clone() });
            }
        }
        Self(rows)
    }

    /// The row that a module belongs to: its own, or that of the folder around it.
    fn row(&self, module: &str) -> Option<(&str, &Row)> {
        let rows = self.0.iter().filter(|(row, _)| is_inside(module, row));
        rows.max_by_key(|(row, _)| row.len()).map(|(name, row)| (name.as_str(), row))
    }
}

/// The words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn is_inside(module: &str, folder: &str) -> bool {
    module.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of a module in the table: the root of the library is `lib`.
fn listed(module: &str) -> &str {
    if module.is_empty() { "lib" } else { module }
}

pub fn table(table: &Table, sources: &[Source]) -> Vec<String> {
    let modules = Modules::new(sources);
    let mut findings = vec![];
    for (module, source, names) in modules.each() {
        let Some((own, Row { allowed, .. })) = table.row(listed(module)) else {
            findings.push(source.finding(0, format!("give `{module}` a row in the import table of {TABLE}")));
            continue;
        };
        findings.extend(reserved(source, own));
        if allowed.iter().any(|name| name == EVERYTHING) {
            continue;
        }
        let mut told = BTreeSet::new();
        for Name { line, segments, .. } in names {
            let Some(target) = modules.written(module, segments) else { continue };
            let target = listed(&target);
            let is_free = |name: &str| is_inside(target, name);
            let named = table.row(target).map_or(target, |(row, _)| row).to_owned();
            if is_free(own) || allowed.iter().any(|name| is_free(name)) || !told.insert((*line, named.clone())) {
                continue;
            }
            let advice = format!("`{own}` may not name `{named}`, only {allowed:?}: let `engine` join them");
            findings.push(source.finding(*line, advice));
        }
    }
    findings.extend(idle(table, sources));
    findings
}

/// Of the library a command may use what everyone may.
fn reserved(source: &Source, row: &str) -> Vec<String> {
    let is_reserved = |_, line: &crate::source::Line| row == "bin" && line.code.contains("internals");
    source.flag(is_reserved, "a command is a user: it has no `internals`")
}

/// Rows that no module is under, and names of no module.
fn idle(table: &Table, sources: &[Source]) -> Vec<String> {
    let modules: Vec<String> = sources.iter().map(|source| module_of(&source.path)).collect();
    let exists = |name: &str| name == EVERYTHING || modules.iter().any(|module| is_inside(listed(module), name));
    let mut findings = vec![];
    for (name, Row { line, allowed }) in &table.0 {
        for name in [name].into_iter().chain(allowed).filter(|name| !exists(name)) {
            findings.push(format!("{TABLE}:{}: there is no module `{name}`: take it off the table", line + 1));
        }
    }
    findings
}

/// Groups of files each of which imports, straight or by others, each other one. An import is a `use` or a path of an
/// item, followed to the file that has the item. What a parent takes from its own folder is none, because it is made of
/// that.
pub fn circles(sources: &[Source]) -> Vec<String> {
    let modules = Modules::new(sources);
    let mut edges: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for (module, _, names) in modules.each() {
        let edges = edges.entry(module).or_default();
        for Name { line, segments, is_export, .. } in names {
            let Some(origin) = modules.origin(module, segments) else { continue };
            if !is_export && !module.is_empty() && !is_inside(&origin, module) {
                edges.entry(origin).or_insert(*line);
            }
        }
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|module| (*module, reach(module, &edges))).collect();
    let mut told = BTreeSet::new();
    let mut findings = vec![];
    for (module, source, _) in modules.each() {
        let circle: Vec<&str> =
            reached[module].iter().filter(|other| reached[*other].contains(module)).copied().collect();
        if circle.len() < 2 || !told.insert(circle.clone()) {
            continue;
        }
        let inside = |module: &&str| {
            let targets = edges[module].iter().filter(|(target, _)| circle.contains(&target.as_str()));
            targets.map(|(target, line)| format!("{module}:{} names {target}", line + 1)).collect::<Vec<_>>()
        };
        let steps: Vec<String> = circle.iter().flat_map(inside).collect();
        let advice = format!("{} import each other in a circle: {}", circle.join(", "), steps.join("; "));
        findings.push(source.finding(0, advice));
    }
    findings
}

/// The modules that can be reached from one; itself only by a circle.
fn reach<'e>(from: &str, edges: &'e BTreeMap<&str, BTreeMap<String, usize>>) -> BTreeSet<&'e str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = edges[from].keys().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(edges[module].keys().map(String::as_str));
        }
    }
    found
}

// ---- Tests.

const SMALL: &str = "\
# Map

## Who may import whom

Words.

| module | may name |
|---|---|
| `record`, `sync` | nothing |
| `lane` | `sync` |
| `client` | `net/http` |
| `net` | nothing |
| `net/http` | nothing |
| `engine`, `lib` | everything |
| `bin` | everything that a user may |

## After

| `later` | `lane` |
";

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// A tree in which each row of the table has a module, with this text in the place of one of them.
fn tree(path: &str, text: &str) -> Vec<Source> {
    let root = "mod record;\nmod sync;\npub use lane::Ring;";
    let mut texts = BTreeMap::from([
        ("src/lib.rs", root),
        ("src/record.rs", ""),
        ("src/sync.rs", ""),
        ("src/lane/mod.rs", "mod ring;\npub use ring::Ring;"),
        ("src/lane/ring.rs", ""),
        ("src/client.rs", ""),
        ("src/net/mod.rs", ""),
        ("src/net/http.rs", ""),
        ("src/engine.rs", "use crate::{client, lane::Ring};"),
        ("src/bin/demo/main.rs", "use crate::x;"),
    ]);
    texts.insert(path, text);
    texts.into_iter().map(|(path, text)| source(path, text)).collect()
}

#[test]
fn table_is_read_from_its_section_alone() {
    let Table(rows) = Table::read(SMALL);
    assert_eq!(rows.len(), 9);
    assert_eq!(rows["sync"].allowed, Vec::<String>::new());
    assert_eq!(rows["bin"].allowed, [EVERYTHING]);
    assert_eq!((rows["lane"].line, rows["lane"].allowed.as_slice()), (9, ["sync".to_owned()].as_slice()));
}

#[test]
fn name_outside_of_its_row_is_refused() {
    let rows = Table::read(SMALL);
    let findings = |path, text| table(&rows, &tree(path, text));
    assert_eq!(findings("src/lib.rs", "pub use lane::Ring;"), [""; 0]);
    for (path, bad, good) in [
        ("src/lane/ring.rs", "use crate::{record::A, sync};", "use crate::{lane::B, sync::{C, self}};"),
        ("src/lane/ring.rs", "fn f() { crate::record::g() }", "// crate::record\nfn f() { super::g(crate::sync::a) }"),
        ("src/lane/ring.rs", "use super::super::record::A;", "use super::record::A;"),
        ("src/lane/mod.rs", "use super::record::A;", "mod ring;\nuse ring::record::A;"),
        (
            "src/lane/ring.rs",
            "mod a {\n    use super::super::super::record::A;\n}",
            "mod a {\n    use super::super::{Ring, record::A};\n}",
        ),
        ("src/client.rs", "use crate::net::A;", "use crate::net::http::A;"),
        (
            "src/net/http.rs",
            "use crate::net::A;",
            "use std::net::A;\n#[cfg(test)]\nmod tests {\n    use crate::lane::A;\n}",
        ),
        ("src/net/http.rs", "use crate::Ring;", "use self::a::Ring;"),
        ("src/record.rs", "use crate::{\n    record::A,\n    lane::{ring::B, C},\n};", "use crate::record;"),
        ("src/bin/demo/main.rs", "use spanring::internals::A;", "use spanring::Tracer;"),
    ] {
        assert_eq!(findings(path, bad).len(), 1, "{path} {bad}: {:?}", findings(path, bad));
        assert_eq!(findings(path, good), [""; 0], "{path} {good}");
    }
    let said = findings("src/record.rs", "\nuse crate::lane::Ring;");
    assert_eq!(said, ["src/record.rs:2: `record` may not name `lane`, only []: let `engine` join them"]);
}

#[test]
fn module_without_a_row_and_row_without_a_module_are_refused() {
    let rows = Table::read(SMALL);
    let findings = table(&rows, &tree("src/utils.rs", ""));
    assert_eq!(findings, ["src/utils.rs:1: give `utils` a row in the import table of ARCHITECTURE.md"]);
    let rows = Table::read(&SMALL.replace("| `net` | nothing |", "| `net`, `select` | `batch` |"));
    let findings = table(&rows, &tree("src/lib.rs", ""));
    let there_is_no = |name| format!("ARCHITECTURE.md:12: there is no module `{name}`: take it off the table");
    assert_eq!(findings, [there_is_no("batch"), there_is_no("select"), there_is_no("batch")]);
}

#[test]
fn circle_is_refused_through_exports_and_groups() {
    let said =
        |texts: &[(&str, &str)]| circles(&texts.iter().map(|(path, text)| source(path, text)).collect::<Vec<_>>());
    let root = ("src/lib.rs", "mod a;\npub use a::Span;");
    let parent = ("src/a/mod.rs", "mod span;\nmod shared;\npub use self::span::Span;\npub(crate) use shared::Shared;");
    let shared = ("src/a/shared.rs", "use super::Span;");
    assert_eq!(said(&[root, parent, shared, ("src/a/span.rs", "")]), [""; 0]);
    for back in [
        "use super::shared::Shared;",
        "use super::{\n    Shared,\n};",
        "fn f() -> crate::a::shared::Shared {}",
        "use super::shared;",
    ] {
        let findings = said(&[root, parent, shared, ("src/a/span.rs", back)]);
        let [finding] = findings.as_slice() else { panic!("{back}: {findings:?}") };
        assert!(finding.starts_with("src/a/shared.rs:1: a/shared, a/span import each other in a circle"), "{finding}");
    }
    // A parent is made of its children, which may use what it has.
    let parent = ("src/a/mod.rs", "mod span;\nuse span::f;\npub struct Span;");
    assert_eq!(said(&[root, parent, ("src/a/span.rs", "use super::Span;")]), [""; 0]);
    let other = ("src/b.rs", "use crate::a::Span;");
    assert_eq!(said(&[root, parent, other, ("src/a/span.rs", "use super::Span;\nuse crate::b::C;")]), [""; 0]);
    let parent = ("src/a/mod.rs", "mod span;\nuse crate::b::C;\npub struct Span;");
    assert_eq!(said(&[root, parent, other]).len(), 1);
}
