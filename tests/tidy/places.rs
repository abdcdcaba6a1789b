//! What has a place of its own: choices by configuration, the machine, files and the environment, and the tests'
//! programs.

use crate::source::{Line, Source, words};

const CFG_PLACES: &[&str] = &[
    "src/sync/",
    "src/transport/driver/mod.rs",
    "src/transport/tls/mod.rs",
    "src/testing/collector/mod.rs",
    "src/lib.rs",
];
/// The drivers are a door of their own: their clock, their waker's flag and their side thread meet no loom model and no
/// span.
const MACHINE_PLACES: &[&str] = &["src/sync/", "src/transport/driver/", "src/testing/collector/", "src/bin/"];

const FILE_PLACES: &[&str] = &[
    "src/config/",
    "src/sync/",
    "src/transport/driver/",
    "src/transport/tls/certificates.rs", // of the tests
    "src/testing/",
    "src/bin/",
];

/// Themes, and claims that change the process: an allocator, a filter, a `main` of their own.
const PROGRAMS_MAX: usize = 15;
/// The one file that tests include by its path: it is the benches'.
const WORKLOAD: &str = "benches/workload/mod.rs\"]";

pub fn conditions(source: &Source) -> Vec<String> {
    let free = source.is_in(CFG_PLACES);
    let is_condition = |_, line: &Line| {
        let code = line.code.replace("#[cfg(test)]", "").replace("cfg!(debug_assertions)", "");
        let forms = ["[cfg(", "[cfg_attr(", "cfg!(", "cfg_select!"];
        !free && !line.is_test && forms.iter().any(|form| code.contains(form))
    };
    let advice = format!("choose by configuration only in {CFG_PLACES:?}");
    source.flag(is_condition, &advice)
}

pub fn machine(source: &Source) -> Vec<String> {
    let forms =
        ["atomic::", "std::cell::UnsafeCell", "Instant::now", "SystemTime::now", "thread::spawn", "thread::Builder"];
    let free = source.is_in(MACHINE_PLACES);
    let goes_around = |_, line: &Line| !free && !line.is_test && forms.iter().any(|form| line.code.contains(form));
    source.flag(goes_around, "take atomics, clocks and threads from `sync`, so that loom and the fake clock see them")
}

pub fn outside(source: &Source) -> Vec<String> {
    let free = source.is_in(FILE_PLACES);
    let names = |line: &Line| {
        let heads = line.code.match_indices("::").map(|(at, _)| words(&line.code[..at]).last().unwrap_or_default());
        heads.into_iter().any(|head| ["fs", "env"].contains(&head))
    };
    let advice = format!("read files and the environment only in {FILE_PLACES:?}");
    source.flag(|_, line| !free && !line.is_test && names(line), &advice)
}

/// A program is a file of `tests/`, or the `main.rs` of a folder there; each links the library and its dependencies
/// again.
pub fn programs(paths: &[String]) -> Vec<String> {
    let is_program = |path: &&String| {
        let place = path.trim_start_matches("tests/");
        !place.contains('/') || (place.ends_with("/main.rs") && place.matches('/').count() == 1)
    };
    let programs: Vec<&str> = paths.iter().filter(is_program).map(String::as_str).collect();
    if programs.len() <= PROGRAMS_MAX {
        return vec![];
    }
    vec![format!(
        "tests: {} programs, {PROGRAMS_MAX} at most: make modules of one theme of {programs:?}",
        programs.len()
    )]
}

pub fn borrowed(source: &Source) -> Vec<String> {
    let is_borrowed = |_, line: &Line| line.code.contains("#[path") && !line.raw.ends_with(WORKLOAD);
    source.flag(is_borrowed, "share it as a module of `testing` or of one program: a path compiles it again")
}

// ---- Tests.

#[test]
fn program_too_many_is_refused() {
    let files = |programs: usize| -> Vec<String> {
        let of = |program| {
            [
                format!("tests/{program}/main.rs"),
                format!("tests/{program}/part.rs"),
                format!("tests/{program}/a/main.rs"),
            ]
        };
        (1..programs).flat_map(of).chain(["tests/alone.rs".to_owned()]).collect()
    };
    assert_eq!(programs(&files(PROGRAMS_MAX)).len(), 0);
    assert_eq!(programs(&files(PROGRAMS_MAX + 1)).len(), 1);
}
