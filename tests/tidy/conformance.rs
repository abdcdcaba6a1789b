//! `docs/conformance.md`: each row that is held is shown by a test that is there and carries the row's id, and no test
//! carries an id that has no row.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{paths, text};

/// The families of ids that have their rows in the table. Those of the export have theirs with the export.
const FAMILIES: [&str; 14] =
    ["API", "SPN", "CRE", "LIM", "SMP", "PRP", "TPA", "TST", "B3", "ENVC", "BAG", "RES", "CFG", "OBS"];

/// By file and name, the ids that a test carries: in its name, its comment or its body.
pub type Tests = BTreeMap<(String, String), BTreeSet<String>>;

pub fn tests() -> Tests {
    let files = ["src", "tests"].into_iter().flat_map(paths).filter(|path| !path.starts_with("tests/tidy/"));
    files.flat_map(|path| in_file(&path, &text(&path))).collect()
}

pub fn table(path: &str, document: &str, tests: &Tests) -> Vec<String> {
    let mut findings = vec![];
    let mut known = BTreeSet::new();
    for (at, line) in document.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, state, rest] = cells[..] else {
            continue;
        };
        let ids = ids(id);
        let mut refuse = |fault: String| findings.push(format!("{path}:{}: {id}: {fault}", at + 1));
        match state {
            "held" => shown(&ids, rest, tests).into_iter().for_each(&mut refuse),
            "refused" | "not yet" if rest.is_empty() => refuse(format!("{state}, and no reason")),
            "refused" | "not yet" => {}
            _ if ids.is_empty() => continue,
            _ => refuse(format!("`{state}` is neither held, refused nor not yet")),
        }
        known.extend(ids);
    }
    for ((file, name), carried) in tests {
        let missing = carried.iter().filter(|id| FAMILIES.iter().any(|family| family_of(id) == *family));
        for id in missing.filter(|id| !known.contains(*id)) {
            findings.push(format!("{file}: {name} carries {id}, which has no row in {path}"));
        }
    }
    findings
}

/// What is wrong with the tests that a row names, as `file` `name` `name` `file` `name`.
fn shown(ids: &BTreeSet<String>, cell: &str, tests: &Tests) -> Vec<String> {
    let (mut faults, mut carried, mut file) = (vec![], BTreeSet::new(), "");
    for word in cell.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            file = word;
            continue;
        }
        match tests.get(&(file.to_owned(), word.to_owned())) {
            None => faults.push(format!("{file} has no test {word}")),
            Some(has) if ids.is_disjoint(has) => faults.push(format!("{file}: {word} does not carry the id")),
            Some(has) => carried.extend(has),
        }
    }
    let unshown = ids.iter().filter(|id| !carried.contains(id));
    faults.extend(unshown.map(|id| format!("no test that is named carries {id}")));
    faults
}

fn in_file(path: &str, text: &str) -> Vec<((String, String), BTreeSet<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = vec![];
    for at in lines.iter().enumerate().filter(|(_, line)| line.trim() == "#[test]").map(|(at, _)| at) {
        let is_head = |line: &&&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
        let above = lines[..at].iter().rev().take_while(is_head).count();
        let head = at + lines[at..].iter().take_while(is_head).count();
        let Some((indent, rest)) = lines.get(head).and_then(|line| line.split_once("fn ")) else {
            continue;
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let blank = &indent[..indent.len() - indent.trim_start().len()];
        let closing = format!("{blank}}}");
        let body = lines[head..].iter().take_while(|line| **line != closing).count();
        let mut carried = ids(&lines[at - above..head + body].join("\n"));
        carried.extend(ids(&name.to_uppercase().replace('_', "-")));
        found.push(((path.to_owned(), name), carried));
    }
    found
}

/// Every `LETTERS-12` in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'));
    let mut found = BTreeSet::new();
    for word in words {
        let parts: Vec<&str> = word.split('-').collect();
        for pair in parts.windows(2) {
            let is_family = pair[0].len() >= 2 && pair[0].starts_with(|c: char| c.is_ascii_uppercase());
            if is_family && pair[1].len() == 2 && pair[1].bytes().all(|byte| byte.is_ascii_digit()) {
                found.insert(pair.join("-"));
            }
        }
    }
    found
}

fn family_of(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}

// ---- Tests.

#[test]
fn ids_are_found_in_names_comments_and_bodies() {
    let text = "\
mod tests {
    /// LIM-01: why.
    #[test]
    fn spn_03_and_spn_04_claim() {
        assert!(true, \"B3-02\");
    }

    // LIM-09
    fn helper() {}
}";
    let found = in_file("a.rs", text);
    let carried: Vec<&str> = found[0].1.iter().map(String::as_str).collect();
    assert_eq!((found.len(), found[0].0.1.as_str()), (1, "spn_03_and_spn_04_claim"));
    assert_eq!(carried, ["B3-02", "LIM-01", "SPN-03", "SPN-04"]);
}

#[test]
fn row_without_its_test_and_id_without_its_row_are_refused() {
    let tests = in_file("a.rs", "#[test]\nfn api_01_a() {\n}\n#[test]\nfn api_02_b() {\n}\n").into_iter().collect();
    let check = |rows: &str| table("d.md", rows, &tests);
    let good = "| API-01 | a | held | `a.rs` `api_01_a` |\n| API-02 | b | held | `a.rs` `api_02_b` |";
    assert_eq!(check(good).len(), 0);
    assert_eq!(check("| API-01 | a | refused | why |\n| API-02 | b | not yet | why |").len(), 0);
    let refused = |rows: &str, fault: &str| {
        let findings = check(rows);
        assert!(findings.iter().any(|finding| finding.contains(fault)), "{findings:?}");
    };
    refused(&good.replace("`api_01_a`", "`api_01_c`"), "d.md:1: API-01: a.rs has no test api_01_c");
    refused(&good.replace("`api_01_a`", "`api_02_b`"), "a.rs: api_02_b does not carry the id");
    refused(&good.replace("`a.rs` `api_01_a`", ""), "no test that is named carries API-01");
    refused("| API-01 | a | held | `a.rs` `api_01_a` |", "api_02_b carries API-02, which has no row");
    refused(&good.replacen("held", "done", 1), "`done` is neither");
    refused(&good.replacen("held", "refused", 1).replace("`a.rs` `api_01_a`", ""), "no reason");
}
