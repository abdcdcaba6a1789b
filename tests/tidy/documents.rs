//! README and ARCHITECTURE: what they name is there.

use crate::source::line_of;

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

pub fn results(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
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
fn missing_result_is_refused() {
    let text = "See [a](benches/results/a.json).\nAnd `benches/results/b.txt`.";
    assert_eq!(results("README.md", text, &|_| true).len(), 0);
    let findings = results("README.md", text, &|path| path == "benches/results/a.json");
    assert!(findings[0].starts_with("README.md:2: `benches/results/b.txt`"), "{findings:?}");
}
