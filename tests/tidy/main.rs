//! Keeps the house style: each rule that a machine can check is one test, and its failure says where and what to do.
//!
//! A rule is a pure function from text to findings, so that the last tests can feed each one a snippet that it must refuse
//! and one that it must pass. The scanner knows comments and literals, not Rust: the rules read lines as rustfmt writes them.

mod budget;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Which modules of ours a module may name besides itself: data flows one way, and only `engine` knows the order.
const IMPORTS: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("sync", &[]),
    ("transport", &[]),
    ("transport/http", &[]),
    ("transport/tls", &[]),
    ("transport/driver", &[]),
    ("transport/client", &["transport/http", "transport/tls", "transport/driver"]),
    ("lane", &["sync"]),
    ("clock", &["sync", "record"]), // a reading becomes a `Stamp` of `record`
    ("batch", &["record", "lane"]),
    ("context", &["record", "sync"]),
    ("select", &["record"]),
    ("otlp", &["record"]),
    ("trace", &["record", "lane", "sync", "clock", "context"]),
    ("report", &["sync", "lane", "trace"]),
    ("config", &["record", "lane", "sync", "clock", "trace", "otlp", "transport", "report"]), // what its settings set
    ("engine", EVERYTHING),
    ("testing", EVERYTHING),
    ("internals", EVERYTHING),
    ("lib", EVERYTHING),
    ("bin", EVERYTHING), // its `crate` is the command; of the library it may use what everyone may
];
const EVERYTHING: &[&str] = &["*"];

const UNSAFE_PLACES: &[&str] = &["src/lane/", "src/sync/", "src/transport/driver/uring.rs"];
const CFG_PLACES: &[&str] = &[
    "src/sync/",
    "src/transport/driver/mod.rs",
    "src/transport/tls/mod.rs",
    "src/testing/collector/mod.rs",
    "src/lib.rs",
];
/// The drivers are a door of their own: their clock, their waker's flag and their side thread meet no loom model and no span.
const MACHINE_PLACES: &[&str] = &["src/sync/", "src/transport/driver/", "src/testing/collector/", "src/bin/"];
const LABEL_TABLE: &str = "src/lane/ring.rs";
const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// The limits of the house style: past them a file, or a function, holds two ideas.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// How far above its code a comment may start: far enough for two long sentences.
const ORDERING_REACH_LINES: usize = 8;
const SAFETY_REACH_LINES: usize = 6;

macro_rules! rules {
    ($($claim:ident: $rule:expr;)*) => { $(
        #[test]
        fn $claim() {
            let findings: Vec<String> = $rule;
            assert!(findings.is_empty(), "{} to mend:\n{}", findings.len(), findings.join("\n"));
        }
    )* };
}

rules! {
    source_files_open_with_their_purpose: each(&["src"], opening);
    modules_name_only_what_the_import_table_allows: each(&["src"], imports);
    unsafe_stays_in_its_places: each(&["src"], unsafe_places);
    unsafe_is_argued_where_it_stands: each(&["src"], unsafe_reasons);
    atomic_orderings_are_argued_where_they_stand: each(&["src"], orderings);
    ordering_labels_have_two_sides_a_row_and_a_model: labels(&sources("src"), &paths("loom-tests/tests"));
    files_and_functions_hold_one_idea: each(&["src"], sizes);
    nothing_is_left_for_later_and_nothing_sleeps: each(&["src", "tests", "loom-tests"], leftovers);
    conditional_code_stays_in_its_places: each(&["src"], conditions);
    machine_is_reached_through_its_door: each(&["src"], machine);
    nothing_is_imported_by_glob: each(&["src"], globs);
    source_files_are_reachable: unreachable(&sources("src"));
    results_named_in_the_readme_exist: results("README.md", &text("README.md"), &exists);
    links_of_the_readme_lead_somewhere: dead_links("README.md", &text("README.md"));
    results_named_in_the_architecture_exist: results("ARCHITECTURE.md", &text("ARCHITECTURE.md"), &exists);
}

// ---- The rules.

fn opening(source: &Source) -> Vec<String> {
    if source.lines.first().is_some_and(|line| line.raw.starts_with("//! ")) {
        return vec![];
    }
    vec![source.finding(0, "open the file with a `//!` sentence on what it is for")]
}

fn imports(source: &Source) -> Vec<String> {
    let path = source.path.trim_start_matches("src/");
    let module = path.split(['/', '.']).next().unwrap_or(path);
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
        return vec![source.finding(0, format!("give `{module}` a row in the import table"))];
    };
    let code = source.code();
    let mut named = match module {
        "bin" => heads(&code, "spanring::"),
        _ => heads(&code, "crate::"),
    };
    if *allowed == EVERYTHING {
        named.retain(|(_, name)| module == "bin" && name == "internals");
    } else {
        // As many `super`s as the file is deep end at the root too. An inline module hides one of them, so such a name
        // counts only if the table has it.
        let depth = path.trim_end_matches("/mod.rs").matches('/').count() + 1;
        for supers in depth..depth + 3 {
            let mut from_root = heads(&code, &"super::".repeat(supers));
            from_root.retain(|(_, name)| IMPORTS.iter().any(|(module, _)| module == name));
            named.extend(from_root);
        }
        named.retain(|(_, name)| name != module && !allowed.contains(&name.as_str()));
    }
    let advise = |(line, name)| {
        let advice = format!("`{module}` may not name `{name}`, only {allowed:?}: let `engine` join them");
        source.finding(line, advice)
    };
    named.into_iter().map(advise).collect()
}

fn unsafe_places(source: &Source) -> Vec<String> {
    let free = source.is_in(UNSAFE_PLACES);
    let is_unsafe = |_, line: &Line| !free && has_word(&line.code, &["unsafe"]);
    source.flag(is_unsafe, &format!("keep `unsafe` in {UNSAFE_PLACES:?}"))
}

fn unsafe_reasons(source: &Source) -> Vec<String> {
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

fn orderings(source: &Source) -> Vec<String> {
    let argued = |at| source.note(at, "ORDERING:", ORDERING_REACH_LINES).is_some();
    let advice = format!("argue it: `// ORDERING:` at most {ORDERING_REACH_LINES} lines above");
    source.flag(|at, line| line.is_access() && !argued(at), &advice)
}

fn labels(sources: &[Source], models: &[String]) -> Vec<String> {
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

fn sizes(source: &Source) -> Vec<String> {
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

fn leftovers(source: &Source) -> Vec<String> {
    let forms = ["todo!", "unimplemented!", "#[ignore", "thread::sleep"];
    let is_leftover = |_, line: &Line| {
        [&line.code, &line.comment].iter().any(|text| has_word(text, &["TODO", "FIXME"]))
            || forms.iter().any(|form| line.code.contains(form))
            || (line.is_use && has_word(&line.code, &["sleep"]))
    };
    source.flag(is_leftover, "do it now: no marks for later, no ignored tests; wait for the event, not a time")
}

fn conditions(source: &Source) -> Vec<String> {
    let free = source.is_in(CFG_PLACES);
    let is_condition = |_, line: &Line| {
        let code = line.code.replace("#[cfg(test)]", "").replace("cfg!(debug_assertions)", "");
        let forms = ["[cfg(", "[cfg_attr(", "cfg!(", "cfg_select!"];
        !free && !line.is_test && forms.iter().any(|form| code.contains(form))
    };
    let advice = format!("choose by configuration only in {CFG_PLACES:?}");
    source.flag(is_condition, &advice)
}

fn machine(source: &Source) -> Vec<String> {
    let forms =
        ["atomic::", "std::cell::UnsafeCell", "Instant::now", "SystemTime::now", "thread::spawn", "thread::Builder"];
    let free = source.is_in(MACHINE_PLACES);
    let goes_around = |_, line: &Line| !free && !line.is_test && forms.iter().any(|form| line.code.contains(form));
    source.flag(goes_around, "take atomics, clocks and threads from `sync`, so that loom and the fake clock see them")
}

fn globs(source: &Source) -> Vec<String> {
    let is_glob = |_, line: &Line| line.is_use && !line.is_test && line.code.contains("::*");
    source.flag(is_glob, "name what is imported")
}

fn unreachable(sources: &[Source]) -> Vec<String> {
    let declares = |parent: &str, name: &str| {
        let item = format!("mod {name};");
        let is_item = |line: &Line| line.code.trim_start() == item || line.code.ends_with(&format!(" {item}"));
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

/// Code in brackets, which rustdoc makes a link of and nothing else does.
fn dead_links(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let links = lines.flat_map(|(at, line)| line.split("[`").skip(1).map(move |rest| (at + 1, rest)));
    let dead = links.filter_map(|(number, rest)| rest.split_once("`]").map(|(name, rest)| (number, name, rest)));
    let dead = dead.filter(|(_, _, rest)| !rest.starts_with('('));
    dead.map(|(number, name, _)| {
        format!("{path}:{number}: [`{name}`] is a link in rustdoc alone: leave the brackets out")
    })
    .collect()
}

fn results(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut findings = vec![];
    for (start, _) in text.match_indices("benches/results/") {
        let is_end = |c: char| !c.is_alphanumeric() && !"/._-".contains(c);
        let name = text[start..].split(is_end).next().unwrap_or_default().trim_end_matches('.');
        if !exists(name) {
            let line = line_of(text, start) + 1;
            findings.push(format!("{path}:{line}: `{name}` is not there: commit it, or name what is"));
        }
    }
    findings
}

// ---- The files, and what the rules ask of them.

type Rule = fn(&Source) -> Vec<String>;

fn each(folders: &[&str], rule: Rule) -> Vec<String> {
    folders.iter().flat_map(|folder| sources(folder)).flat_map(|source| rule(&source)).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    paths(folder).iter().map(|path| Source::new(path, &text(path))).collect()
}

/// The Rust files below `folder`, from the root of the package and with `/`, in the order of their names.
fn paths(folder: &str) -> Vec<String> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = vec![];
    for entry in fs::read_dir(&place).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.expect("the folder was readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" {
            found.extend(paths(&format!("{folder}/{name}")));
        } else if name.ends_with(".rs") {
            found.push(format!("{folder}/{name}"));
        }
    }
    found.sort_unstable();
    found
}

fn text(path: &str) -> String {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(place).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

struct Source {
    path: String,
    lines: Vec<Line>,
}

struct Line {
    raw: String,
    /// The line without comments and without the inside of its literals.
    code: String,
    comment: String,
    /// Part of an item under `#[cfg(test)]`, or of a file that holds tests alone.
    is_test: bool,
    is_use: bool,
}

impl Line {
    fn is_access(&self) -> bool {
        !self.is_test && !self.is_use && has_word(&self.code, ORDERINGS)
    }
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, comments) = scan(text);
        let mut lines = vec![];
        let mut is_use = false;
        // As `tests.rs`, or as a file of `tests/`: declared under `#[cfg(test)]`.
        let is_test = path.starts_with("src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"));
        for ((raw, code), comment) in text.lines().zip(code.lines()).zip(comments.lines()) {
            let (raw, code, comment) = (raw.into(), code.trim_end().into(), comment.trim().into());
            let mut line = Line { raw, code, comment, is_test, is_use };
            let openings = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
            line.is_use |= openings.iter().any(|opening| line.code.trim_start().starts_with(opening));
            is_use = line.is_use && !line.code.ends_with(';');
            lines.push(line);
        }
        let mut source = Self { path: path.into(), lines };
        for at in 0..source.lines.len() {
            let code = source.lines[at].code.trim_start();
            if code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test,") {
                // What is test code already reads as empty, and the item is looked for in the rest.
                let rest = source.code().lines().skip(at).collect::<Vec<_>>().join("\n");
                let len = body(&rest).map_or(0, |body| body.lines().count());
                source.lines[at..at + len].iter_mut().for_each(|line| line.is_test = true);
            }
        }
        source
    }

    /// The code outside tests, line for line.
    fn code(&self) -> String {
        let lines = self.lines.iter().map(|line| if line.is_test { "" } else { &line.code });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// First line and text of the nearest comment with `mark`, on the line or at most `reach` lines above.
    fn note(&self, at: usize, mark: &str, reach: usize) -> Option<(usize, String)> {
        let mut near = (at.saturating_sub(reach)..=at).rev();
        let near = near.find(|line| self.lines[*line].comment.contains(mark))?;
        if !self.lines[near].code.is_empty() {
            return Some((near, self.lines[near].comment.clone()));
        }
        let is_rest = |line: &&Line| line.code.is_empty() && !line.comment.is_empty();
        let first = near - self.lines[..near].iter().rev().take_while(is_rest).count();
        let lines = self.lines[first..].iter().take_while(is_rest);
        Some((first, lines.fold(String::new(), |text, line| text + &line.comment + " ")))
    }

    /// Each ordering comment outside tests: its first line, its text, and the orderings of the code that it argues.
    fn ordering_notes(&self) -> BTreeMap<usize, (String, Vec<&str>)> {
        let mut notes = BTreeMap::new();
        let lines = self.lines.iter().enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.is_test) {
            let reach = ORDERING_REACH_LINES * usize::from(line.is_access());
            if let Some((first, text)) = self.note(at, "ORDERING:", reach) {
                let (_, used) = notes.entry(first).or_insert((text, vec![]));
                used.extend(words(&line.code).filter(|word| ORDERINGS.contains(word)));
            }
        }
        notes
    }

    /// The comments right above the item of a line, past its attributes.
    fn docs(&self, at: usize) -> String {
        let above = self.lines[..at].iter().rev();
        let own = above.take_while(|line| !line.raw.is_empty() && !line.code.ends_with([';', '{', '}']));
        own.map(|line| line.comment.as_str()).collect()
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn flag(&self, is_bad: impl Fn(usize, &Line) -> bool, advice: &str) -> Vec<String> {
        let bad = self.lines.iter().enumerate().filter(|(at, line)| is_bad(*at, line));
        bad.map(|(at, _)| self.finding(at, advice)).collect()
    }

    fn finding(&self, line: usize, advice: impl AsRef<str>) -> String {
        format!("{}:{}: {}", self.path, line + 1, advice.as_ref())
    }
}

/// The text twice, with every line in its place: code without comments and literals, and comments alone.
fn scan(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let comment = comment_len(&chars[at..]);
        let len = comment.or_else(|| literal_len(&chars, at)).unwrap_or(1);
        for (place, c) in chars[at..at + len].iter().enumerate() {
            // The ends of a literal stay, so that `extern "C" fn` still reads as three words.
            let is_inside = place > 0 && place + 1 < len;
            let blank = if *c == '\n' { '\n' } else { ' ' };
            let is_code = comment.is_none() && !is_inside;
            code.push(if is_code { *c } else { blank });
            comments.push(if comment.is_some() { *c } else { blank });
        }
        at += len;
    }
    (code, comments)
}

fn comment_len(chars: &[char]) -> Option<usize> {
    if chars.starts_with(&['/', '/']) {
        return Some(chars.iter().position(|c| *c == '\n').unwrap_or(chars.len()));
    }
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth > 0 => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    chars.starts_with(&['/', '*']).then_some(at)
}

/// Length of the string or character literal that starts at `at`, prefix `r`, `br` or `cr` included.
fn literal_len(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let letters = rest.iter().take_while(|c| is_word(**c)).count();
    let hashes = rest[letters..].iter().take_while(|c| **c == '#').count();
    let inside = letters + hashes + 1;
    let is_prefix = ["r", "br", "cr"].contains(&rest[..letters].iter().collect::<String>().as_str());
    let is_start = at == 0 || !is_word(chars[at - 1]);
    // Hashes without a quote after them are a raw identifier.
    if is_prefix && is_start && rest.get(inside - 1) == Some(&'"') {
        let end: Vec<char> = format!("\"{}", "#".repeat(hashes)).chars().collect();
        let len = rest[inside..].windows(end.len()).position(|window| window == end);
        return Some(len.map_or(rest.len(), |len| inside + len + end.len()));
    }
    match rest {
        ['\'', '\\', _, tail @ ..] => Some(tail.iter().position(|c| *c == '\'').map_or(rest.len(), |len| len + 4)),
        ['\'', _, '\'', ..] => Some(3),
        ['"', ..] => {
            let mut len = 1;
            while len < rest.len() && rest[len] != '"' {
                len += if rest[len] == '\\' { 2 } else { 1 };
            }
            Some((len + 1).min(rest.len()))
        }
        _ => None, // a lone quote is a lifetime's
    }
}

/// The item that `code` starts with, to the brace that closes it; none if a semicolon ends it.
fn body(code: &str) -> Option<&str> {
    let (mut parens, mut braces) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => parens += 1,
            ')' | ']' => parens -= 1,
            ';' if parens == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces <= 1 => return (braces == 1).then(|| &code[..=at]),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

/// The names that follow a path's `prefix`, each with its line: one, or the heads of a group.
fn heads(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c| is_word(c) || c == ':') {
            continue; // the middle of a longer path
        }
        let mut depth = 0;
        let mut is_head = true;
        for (place, c) in code[at..].char_indices().skip(prefix.len()) {
            if is_word(c) && is_head && depth < 2 {
                let name = code[at + place..].chars().take_while(|c| is_word(*c)).collect();
                found.push((line_of(code, at + place), name));
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            is_head = depth == 1 && (c == '{' || c == ',' || (is_head && c.is_whitespace()));
            if depth == 0 {
                break;
            }
        }
    }
    found
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

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

fn has_word(text: &str, any: &[&str]) -> bool {
    words(text).any(|word| any.contains(&word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

// ---- The tests of the scanner and of the rules.

fn code_of(text: &str) -> String {
    scan(text).0
}

#[test]
fn scanner_blanks_comments_and_keeps_their_lines() {
    assert_eq!(code_of("a // unsafe\nb"), "a          \nb");
    assert_eq!(code_of("a /* x /* y */ \n z */ b"), "a              \n      b");
    assert_eq!(scan("a // why\nb").1, "  // why\n ");
    assert_eq!(code_of("\"// no comment\"; b"), "\"             \"; b");
}

#[test]
fn scanner_blanks_the_inside_of_literals() {
    for literal in ["\"unsafe\"", r#""a \" unsafe""#, "r\"unsafe\"", "r#\"a \" unsafe\"#", "br##\"\"# unsafe\"##"] {
        let code = code_of(&format!("x({literal}); end"));
        assert!(!has_word(&code, &["unsafe"]) && code.ends_with("); end"), "{literal}: {code}");
    }
    for literal in ["'{'", r"'\''", r"'\\'", r"'\u{7b}'", "b'{'", "'\"'"] {
        let code = code_of(&format!("x({literal}); end"));
        assert!(!code.contains('{') && code.ends_with("); end"), "{literal}: {code}");
    }
}

#[test]
fn scanner_keeps_lifetimes_and_raw_identifiers() {
    for code in ["fn f<'a>(x: &'a str, y: &'_ u8) { r#unsafe() }", "'outer: loop { break 'outer }"] {
        assert_eq!(code_of(code), code);
    }
}

#[test]
fn test_code_ends_with_its_brace() {
    let source = Source::new("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n");
    let is_test: Vec<bool> = source.lines.iter().map(|line| line.is_test).collect();
    assert_eq!(is_test, [false, true, true, true, true, false]);
}

#[test]
fn heads_are_the_first_names_only() {
    let code = "use crate::{\n    lane::{ring, block},\n    record,\n};\nfn f() { crate::batch::run(super::x) }";
    let names = |line: usize, name: &str| (line, name.to_owned());
    assert_eq!(heads(code, "crate::"), [names(1, "lane"), names(2, "record"), names(4, "batch")]);
}

/// Path, rule, a text that the rule must refuse, one that it must pass.
macro_rules! cases {
    ($($rule:ident $path:literal: $bad:expr => $good:expr;)*) => {
        [$(($path, $rule as Rule, $bad, $good)),*] as [(&str, Rule, &str, &str); _]
    };
}

#[test]
fn each_rule_refuses_its_bad_snippet_once_and_passes_its_good_one() {
    let function = |lines| format!("fn f(a: [u8; 2]) {{\n{}}}\n", "    x();\n".repeat(lines));
    let file = |lines| "// x\n".repeat(lines) + "#[cfg(test)]\nmod tests {\n}\n";
    let [long_function, short_function] = [69, 68].map(function);
    let [long_file, short_file] = [601, 600].map(file);
    for (path, rule, bad, good) in cases![
        opening "src/batch.rs":
            "use std::fmt;\n" => "//! Visits lanes.\n";
        imports "src/batch.rs":
            "use crate::otlp::Frame;" => "use crate::{batch::A, lane::{otlp, B}};";
        imports "src/lane/ring.rs":
            "fn f() { crate::record::g() }" => "// crate::record\nuse super::block;";
        imports "src/lane/ring.rs":
            "use super::super::record::A;" => "use super::record::A;";
        imports "src/lane/mod.rs":
            "use super::record::A;" => "use crate::sync::{self, A};";
        imports "src/otlp/mod.rs":
            "use crate::{\n    lane::A,\n    record::B,\n};" => "#[cfg(test)]\nmod tests {\n    use crate::lane::A;\n}";
        imports "src/bin/spanring/main.rs":
            "use spanring::internals::A;" => "use spanring::Tracer; use crate::view;";
        unsafe_places "src/record/mod.rs":
            "unsafe { x() }" => "fn f() { g(\"unsafe\", unsafe_code) } // unsafe";
        unsafe_reasons "src/lane/ring.rs":
            "a();\nunsafe { x() };" => "// SAFETY: proof.\nlet a = unsafe { x() };";
        unsafe_reasons "src/lane/ring.rs":
            "unsafe impl Send for A {}" => "/// # Safety\n#[inline]\npub unsafe fn f();";
        unsafe_reasons "src/lane/ring.rs":
            "fn a() {}\nunsafe extern \"C\" fn f() {}" => "type F = unsafe fn(u8);";
        orderings "src/lane/ring.rs":
            "a.load(Relaxed);" => "use std::{\n    Acquire,\n};\n// ORDERING: x.\na.load(\n    Acquire);";
        sizes "src/lane/ring.rs":
            &long_function => &short_function;
        sizes "src/lane/ring.rs":
            &long_file => &short_file;
        leftovers "tests/a.rs":
            "fn f() {} // TODO: g" => "fn f() { \"TODO\" } // todo";
        leftovers "tests/a.rs":
            "fn f() { todo!() }" => "fn todo() {}";
        leftovers "tests/a.rs":
            "#[ignore = \"slow\"]\nfn f() {}" => "#[should_panic]\nfn f() {}";
        leftovers "tests/a.rs":
            "fn f() { std::thread::sleep(a) }" => "fn f() { thread::park_timeout(a) }";
        leftovers "tests/a.rs":
            "use std::thread::{self, sleep};" => "use std::thread::{self, park};";
        conditions "src/batch.rs":
            "#[cfg(unix)]\nfn f() {}" => "#[cfg(test)]\nfn f() { if cfg!(miri) {} }";
        conditions "src/batch.rs":
            "fn f() { cfg!(loom) }" => "fn f() { cfg!(debug_assertions) }";
        machine "src/lane/ring.rs":
            "use std::sync::atomic::AtomicU64;" => "use crate::sync::AtomicU64;";
        machine "src/trace/span.rs":
            "let a = std::time::Instant::now();" => "#[cfg(test)]\nmod tests {\n    fn f() { Instant::now() }\n}";
        globs "src/batch.rs":
            "use super::*;" => "use super::A;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}";
    ] {
        let findings = rule(&Source::new(path, bad));
        assert_eq!(findings.len(), 1, "{path} {bad}: {findings:?}");
        let findings = rule(&Source::new(path, good));
        assert_eq!(findings.len(), 0, "{path} {good}: {findings:?}");
    }
    let strange = Source::new("src/utils.rs", "//! Odds and ends.");
    assert_eq!(imports(&strange), ["src/utils.rs:1: give `utils` a row in the import table"]);
}

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

#[test]
fn link_of_rustdoc_alone_is_refused() {
    assert_eq!(dead_links("README.md", "`size`, [a](b), [`c`](d), a[0]").len(), 0);
    assert_eq!(
        dead_links("README.md", "all\nof [`size`] and [`size`](d)"),
        ["README.md:2: [`size`] is a link in rustdoc alone: leave the brackets out"]
    );
}

#[test]
fn missing_result_is_refused() {
    let text = "See [a](benches/results/a.json).\nAnd `benches/results/b.txt`.";
    assert_eq!(results("README.md", text, &|_| true).len(), 0);
    let findings = results("README.md", text, &|path| path == "benches/results/a.json");
    assert!(findings[0].starts_with("README.md:2: `benches/results/b.txt`"), "{findings:?}");
}
