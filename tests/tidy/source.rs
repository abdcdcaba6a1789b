//! The files, and what the rules ask of them. The scanner knows comments and literals, not Rust: the rules read lines
//! as rustfmt writes them.

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};

/// How far above its code a comment may start: far enough for two long sentences.
pub const ORDERING_REACH_LINES: usize = 8;
pub const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

pub type Rule = fn(&Source) -> Vec<String>;

pub fn each(folders: &[&str], rule: Rule) -> Vec<String> {
    folders.iter().flat_map(|folder| sources(folder)).flat_map(rule).collect()
}

/// The files below `folder`, read once for all rules.
pub fn sources(folder: &str) -> &'static [Source] {
    static READ: Mutex<BTreeMap<String, &'static [Source]>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().expect("a folder can be read");
    read.entry(folder.to_owned()).or_insert_with(|| {
        let sources: Vec<_> = paths(folder).iter().map(|path| Source::new(path, &text(path))).collect();
        sources.leak()
    })
}

/// The Rust files below `folder`, from the root of the package and with `/`, in the order of their names.
pub fn paths(folder: &str) -> Vec<String> {
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

pub fn text(path: &str) -> String {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(place).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

pub struct Source {
    pub path: String,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub raw: String,
    /// The line without comments and without the inside of its literals.
    pub code: String,
    pub comment: String,
    /// Part of an item under `#[cfg(test)]`, or of a file that holds tests alone.
    pub is_test: bool,
    pub is_use: bool,
}

impl Line {
    pub fn is_access(&self) -> bool {
        !self.is_test && !self.is_use && has_word(&self.code, ORDERINGS)
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
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
    pub fn code(&self) -> String {
        let lines = self.lines.iter().map(|line| if line.is_test { "" } else { &line.code });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// First line and text of the nearest comment with `mark`, on the line or at most `reach` lines above.
    pub fn note(&self, at: usize, mark: &str, reach: usize) -> Option<(usize, String)> {
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
    pub fn ordering_notes(&self) -> BTreeMap<usize, (String, Vec<&str>)> {
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
    pub fn docs(&self, at: usize) -> String {
        let above = self.lines[..at].iter().rev();
        let own = above.take_while(|line| !line.raw.is_empty() && !line.code.ends_with([';', '{', '}']));
        own.map(|line| line.comment.as_str()).collect()
    }

    pub fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    pub fn flag(&self, is_bad: impl Fn(usize, &Line) -> bool, advice: &str) -> Vec<String> {
        let bad = self.lines.iter().enumerate().filter(|(at, line)| is_bad(*at, line));
        bad.map(|(at, _)| self.finding(at, advice)).collect()
    }

    pub fn finding(&self, line: usize, advice: impl AsRef<str>) -> String {
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
pub fn body(code: &str) -> Option<&str> {
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

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

pub fn has_word(text: &str, any: &[&str]) -> bool {
    words(text).any(|word| any.contains(&word))
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

// ---- Tests.

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
