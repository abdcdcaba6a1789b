//! README and ARCHITECTURE: what they name is there.

/// Code in brackets, which rustdoc makes a link of and nothing else does.
pub fn dead_links(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let links = lines.flat_map(|(at, line)| line.split("[`").skip(1).map(move |rest| (at + 1, rest)));
    let dead = links.filter_map(|(number, rest)| rest.split_once("`]").map(|(name, rest)| (number, name, rest)));
    let dead = dead.filter(|(_, _, rest)| !rest.starts_with('('));
    dead.map(|(number, name, _)| {
        format!("{path}:{number}: [`{name}`] is a link in rustdoc alone: leave the brackets out")
    })
    .collect()
}

/// Where a path begins, so that it is the path of a file or folder here.
const ROOTS: [&str; 4] = ["benches/", "src/", "tests/", ".ci/"];

pub fn files(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut findings = vec![];
    for (at, line) in text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric() && !"/._-".contains(c));
        let names = words.map(|word| word.trim_end_matches('.'));
        for name in names.filter(|name| ROOTS.iter().any(|root| name.starts_with(root)) && !exists(name)) {
            findings.push(format!("{path}:{}: `{name}` is not there: commit it, or name what is", at + 1));
        }
    }
    findings
}

// ---- Tests.

#[test]
fn link_of_rustdoc_alone_is_refused() {
    assert_eq!(dead_links("README.md", "`size`, [a](b), [`c`](d), a[0]").len(), 0);
    assert_eq!(
        dead_links("README.md", "all\nof [`size`] and [`size`](d)"),
        ["README.md:2: [`size`] is a link in rustdoc alone: leave the brackets out"]
    );
}

#[test]
fn missing_file_is_refused() {
    let text = "See [a](benches/results/a.json).\nAnd `benches/results/b.txt`.";
    assert_eq!(files("README.md", text, &|_| true).len(), 0);
    let findings = files("README.md", text, &|path| path == "benches/results/a.json");
    assert!(findings[0].starts_with("README.md:2: `benches/results/b.txt`"), "{findings:?}");
    let text = "| a | `tests/b.rs`, `loom-tests/c`, https://d/tests/e, `tests/f/` |";
    let findings = files("README.md", text, &|path| path == "tests/f/");
    assert_eq!(findings, ["README.md:1: `tests/b.rs` is not there: commit it, or name what is"]);
}
