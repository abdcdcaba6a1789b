//! The names of a file, resolved to the files that they come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::source::{Source, body, is_word, line_of};

/// A path as the code writes it: `crate::lane::ring::Ring` or `super::Span`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    pub line: usize,
    pub segments: Vec<String>,
    /// The name that a `use` gives it; none for a path in an expression or a type.
    pub alias: Option<String>,
    /// From a `pub use`, `pub(crate) use` or `pub(super) use`.
    pub is_export: bool,
}

/// The modules of the sources, and what each of them imports.
pub struct Modules<'a> {
    sources: BTreeMap<String, &'a Source>,
    names: BTreeMap<String, Vec<Name>>,
}

impl<'a> Modules<'a> {
    pub fn new(sources: &'a [Source]) -> Self {
        let sources: BTreeMap<_, _> = sources.iter().map(|source| (module_of(&source.path), source)).collect();
        let modules: Vec<&str> = sources.keys().map(String::as_str).collect();
        let names = |(module, source): (&String, &&Source)| {
            (module.clone(), names(&source.code(), &children(module, &modules)))
        };
        let names = sources.iter().map(names).collect();
        Self { sources, names }
    }

    /// Each module with its source and its names.
    pub fn each(&self) -> impl Iterator<Item = (&str, &Source, &[Name])> {
        self.sources.iter().map(|(module, source)| (module.as_str(), *source, self.names[module].as_slice()))
    }

    /// The module that a path leads to as it is written, without its item; none for a path out of the crate.
    pub fn written(&self, from: &str, segments: &[String]) -> Option<String> {
        self.walk(from, segments).map(|(module, _)| module)
    }

    /// The module that the item of a path comes from, through whatever imports of modules on the way.
    pub fn origin(&self, from: &str, segments: &[String]) -> Option<String> {
        self.follow(from, segments, &mut BTreeSet::new())
    }

    fn follow(&self, from: &str, segments: &[String], seen: &mut BTreeSet<(String, String)>) -> Option<String> {
        let (module, rest) = self.walk(from, segments)?;
        let Some((item, beyond)) = rest.split_first() else { return Some(module) };
        let import = self.names[&module].iter().find(|name| name.alias.as_ref() == Some(item));
        let (Some(import), true) = (import, seen.insert((module.clone(), item.clone()))) else { return Some(module) };
        let on = [&import.segments, beyond].concat();
        Some(self.follow(&module, &on, seen).unwrap_or(module))
    }

    /// Goes as far as there are modules; what is left of the path is an item and what belongs to it.
    fn walk<'s>(&self, from: &str, segments: &'s [String]) -> Option<(String, &'s [String])> {
        let (first, mut rest) = segments.split_first()?;
        let mut module = match first.as_str() {
            "crate" => root_of(from),
            "self" => from.to_owned(),
            "super" => {
                let mut module = parent(from);
                while let Some((next, after)) = rest.split_first().filter(|(next, _)| *next == "super") {
                    debug_assert_eq!(next, "super");
                    (module, rest) = (parent(&module), after);
                }
                module
            }
            _ => {
                rest = segments;
                from.to_owned()
            }
        };
        let begin = rest.len();
        while let Some((next, after)) = rest.split_first() {
            let inner = join(&module, next);
            if !self.sources.contains_key(&inner) {
                break;
            }
            (module, rest) = (inner, after);
        }
        let is_ours = ["crate", "self", "super"].contains(&first.as_str()) || rest.len() < begin;
        (is_ours && self.sources.contains_key(&module)).then_some((module, rest))
    }
}

/// `lane/ring` of `src/lane/ring.rs`, `lane` of `src/lane/mod.rs`, nothing of `src/lib.rs`.
pub fn module_of(path: &str) -> String {
    let path =
        path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/main");
    if path == "lib" { String::new() } else { path.to_owned() }
}

/// The crate that a module belongs to: the library, or a command.
fn root_of(module: &str) -> String {
    let command = module.strip_prefix("bin/").and_then(|rest| rest.split('/').next());
    command.map_or(String::new(), |command| format!("bin/{command}"))
}

fn parent(module: &str) -> String {
    if module == root_of(module) {
        return module.to_owned();
    }
    module.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())
}

fn join(module: &str, inner: &str) -> String {
    if module.is_empty() { inner.to_owned() } else { format!("{module}/{inner}") }
}

fn children<'m>(module: &str, modules: &[&'m str]) -> Vec<&'m str> {
    let inside = modules.iter().filter(|inner| **inner != module && parent(inner) == module);
    inside.map(|inner| inner.rsplit('/').next().unwrap_or(inner)).collect()
}

/// The paths that start at the crate, at the module, at a module above, or at one of `children`.
fn names(code: &str, children: &[&str]) -> Vec<Name> {
    let mut names = vec![];
    let mut rest = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("use ") {
        let line = &code[code[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        let is_export = line.trim_start().starts_with("pub") && !line.contains(';');
        if !is_export && !line.trim().is_empty() {
            continue; // the end of a longer word, or of another item
        }
        let end = code[at..].find(';').map_or(code.len(), |len| at + len);
        tree(code, at + 4, &code[at + 4..end], &[], is_export, &mut names);
        rest[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    let rest = String::from_utf8(rest).expect("whole items were blanked");
    names.retain(|name| is_head(&name.segments[0], children));
    names.extend(inline(&rest, children));
    let inner = inner_modules(code);
    for Name { line, segments, .. } in &mut names {
        let around = inner.iter().filter(|lines| lines.contains(line)).count();
        let supers = segments.iter().take_while(|segment| *segment == "super").count().min(around);
        segments.splice(..supers, (supers > 0 && supers == segments.len()).then(|| "self".to_owned()));
        if supers > 0 && !is_head(&segments[0], &[]) {
            segments.insert(0, "self".to_owned());
        }
    }
    names
}

/// The lines of each module that is written out in the file; `super` in it is the file.
fn inner_modules(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices("mod ").filter(|(at, _)| !code[..*at].ends_with(is_word));
    let bodies = starts.filter_map(|(at, _)| body(&code[at..]).map(|body| (at, body)));
    bodies.map(|(at, body)| line_of(code, at)..line_of(code, at + body.len()) + 1).collect()
}

fn is_head(segment: &str, children: &[&str]) -> bool {
    ["crate", "self", "super"].contains(&segment) || children.contains(&segment)
}

/// Takes a tree of a `use` apart, below `prefix`. `at` is where `text` starts in the code.
fn tree(code: &str, at: usize, text: &str, prefix: &[String], is_export: bool, names: &mut Vec<Name>) {
    let lead = text.len() - text.trim_start().len();
    let (at, text) = (at + lead, text.trim());
    if let Some(brace) = text.find('{') {
        let segments: Vec<_> = prefix
            .iter()
            .cloned()
            .chain(text[..brace].split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned))
            .collect();
        let (mut depth, mut start) = (0, brace + 1);
        for (place, c) in text.char_indices().skip_while(|(place, _)| *place <= brace) {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    tree(code, at + start, &text[start..place], &segments, is_export, names);
                    start = place + 1;
                }
                _ => {}
            }
        }
        return;
    }
    if text.is_empty() {
        return;
    }
    let (path, alias) = text.split_once(" as ").map_or((text, None), |(path, alias)| (path, Some(alias.trim())));
    let own = path.trim().split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned);
    let mut segments: Vec<String> = prefix.iter().cloned().chain(own).collect();
    if segments.len() > 1 {
        segments.pop_if(|last| last == "self");
    }
    let alias = alias.map(str::to_owned).or_else(|| segments.last().cloned());
    names.push(Name { line: line_of(code, at), segments, alias, is_export });
}

fn inline(code: &str, children: &[&str]) -> Vec<Name> {
    let mut names = vec![];
    let mut start = 0;
    while let Some(at) = code[start..].find("::").map(|at| start + at) {
        let head = code[..at].trim_end_matches(is_word).len();
        let len = code[at..].find(|c| !is_word(c) && c != ':').unwrap_or(code.len() - at);
        let path = &code[head..at + len];
        start = at + len.max(2);
        if code[..head].ends_with([':', '.', '\'']) || !is_head(&code[head..at], children) {
            continue;
        }
        let segments = path.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        names.push(Name { line: line_of(code, head), segments, alias: None, is_export: false });
    }
    names
}

#[test]
fn names_are_found_in_groups_exports_and_expressions() {
    let code = "pub(crate) use ring::Ring as R;\nuse crate::{\n    lane::{self, block::B},\n    record,\n};\nuse std::fs;\n\
        fn f(a: super::Span) { crate::batch::run(a.ring::<u8>(), ring::g) }";
    let found = names(code, &["ring"]);
    let found: Vec<_> = found.iter().map(|name| (name.line, name.segments.join("::"), name.alias.as_deref())).collect();
    let expected = [
        (0, "ring::Ring", Some("R")),
        (2, "crate::lane", Some("lane")),
        (2, "crate::lane::block::B", Some("B")),
        (3, "crate::record", Some("record")),
        (6, "super::Span", None),
        (6, "crate::batch::run", None),
        (6, "ring::g", None),
    ];
    assert_eq!(found, expected.map(|(line, path, alias)| (line, path.to_owned(), alias)));
}
