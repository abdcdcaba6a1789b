//! What has a place of its own: choices by configuration, the machine, files and the environment, and the tests'
//! programs.

use crate::source::{Line, Source, words};

const CFG_PLACES: &[&str] = &[
    "src/sync/",
    "src/transport/driver/mod.rs",
    "src/transport/http/compression/mod.rs",
    "src/transport/tls/mod.rs",
    "src/testing/collector/mod.rs",
    "src/trace/mod.rs",
    "src/lib.rs",
];
/// The drivers are a door of their own: their clock, their waker's flag and their side thread meet no loom model and no
/// span.
const MACHINE_PLACES: &[&str] = &["src/sync/", "src/transport/driver/", "src/testing/collector/", "src/bin/"];

const FILE_PLACES: &[&str] = &[
    "src/propagate/carriers/environment.rs",
    "src/config/",
    "src/sync/",
    "src/transport/driver/",
    "src/transport/tls/certificates.rs", // of the tests
    "src/testing/",
    "src/bin/",
];

/// Themes, and claims that change the process: an allocator, a filter, a `main` of their own.
const PROGRAMS_MAX: usize = 15;
/// The one file that tests include by its path: two programs share it with the benches.
const WORKLOAD: &str = "\"../workload/mod.rs\"]";

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

/// Locks, and what the whole process shares: where, what, and why a child process does not wait for it.
const SHARED: &[(&str, &str, &str)] = &[
    ("src/engine/supervisor.rs", "thread: Mutex<", "each process has a supervisor"),
    ("src/engine/supervisor.rs", "polled: Mutex<", "each process has a supervisor"),
    ("src/engine/desk.rs", "reporter: Mutex<", "each process has a desk"),
    ("src/engine/work.rs", "static AT_WORK", "a thread's own"),
    ("src/engine/lines.rs", "queue: Mutex<", "each process has a desk"),
    ("src/engine/lines.rs", "emptied: Condvar", "each process has a desk"),
    ("src/engine/handoff.rs", "state: Mutex<", "each process has a desk"),
    ("src/engine/handoff.rs", "changed: Condvar", "each process has a desk"),
    ("src/engine/status.rs", "struct Status(Mutex<", "each process has a desk"),
    ("src/engine/manual.rs", "PerProcess<Mutex<", "each process has its own"),
    ("src/engine/manual.rs", "static IN_SINK", "a thread's own"),
    ("src/sync/current.rs", "places: [RwLock<", "in the handoff, which is at the desk"),
    ("src/engine/global.rs", "static GLOBAL", "set once, without waiting"),
    ("src/engine/global.rs", "static EARLY", "set once, without waiting"),
    ("src/engine/global.rs", "static TOLD", "a flag"),
    ("src/trace/misuse.rs", "static PLACES", "set once, without waiting"),
    ("src/trace/stack.rs", "static STACK", "a thread's own"),
    ("src/trace/stack.rs", "static AT_EXIT", "a thread's own"),
    ("src/trace/stack.rs", "static NUMBERS", "a sum; the threads of a child are none of the parent's"),
    ("src/trace/stack.rs", "static SWITCHED", "set once, without waiting"),
    ("src/sync/fork.rs", "static PROCESS", "set once, without waiting"),
    ("src/sync/fork.rs", "static ref PROCESS", "of a model"),
    ("src/sync/thread.rs", "static KEY", "set once, without waiting"),
    ("src/sync/thread.rs", "static GUARD", "a thread's own"),
    ("src/sync/signal.rs", "static WATCH", "set without waiting, and knows whose process it is of"),
    ("src/sync/signal.rs", "static SETTING_UP", "a number of the process that it is of"),
    ("src/engine/hooks.rs", "static EXPORTING", "tried, never waited for"),
    ("src/notice.rs", "static IS_SAID", "a flag"),
    ("src/sync/exit.rs", "static FIRST", "set once, without waiting"),
    ("src/sync/cpu.rs", "static OFFSET", "a number that every process finds the same"),
    ("src/sync/cpu.rs", "static PLACE", "a thread's own"),
    ("src/sync/once.rs", "PhantomData<(Box<T>, std::sync::Mutex<T>)>", "a type, and no value of it"),
    ("src/sync/ticks.rs", "static ORIGIN", "not on systems that fork"),
    ("src/trace/thread_state.rs", "static STATE", "a thread's own, and knows whose process it is of"),
    ("src/trace/misuse.rs", "static COUNTS", "numbers"),
    ("src/trace/misuse.rs", "static PANICS", "a flag"),
    ("src/transport/driver/resolve.rs", "state: Mutex<", "the worker's, who is one process's"),
    ("src/transport/driver/resolve.rs", "changed: Condvar", "the worker's, who is one process's"),
];
/// No part of what a program exports with.
const NOT_SHARED: &[&str] =
    &["src/testing/", "src/transport/driver/sim", "src/transport/tls/certificates.rs", "src/bin/"];

/// A child process inherits every lock as it is, with no thread that would ever release it.
pub fn shared(source: &Source) -> Vec<String> {
    let locks = ["Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "Once"];
    let is_lock = |code: &str| {
        let mut places = locks.iter().flat_map(|lock| code.match_indices(lock).map(|(at, _)| (at, at + lock.len())));
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        places.any(|(at, end)| {
            !code[..at].ends_with(is_word) && !code[end..].starts_with([':']) && !code[end..].starts_with(is_word)
        })
    };
    let is_static = |code: &str| {
        let code = code.trim_start();
        let code = code.strip_prefix("pub ").unwrap_or(code);
        code.starts_with("static ") || code.contains(" static ")
    };
    let is_known = |code: &str| SHARED.iter().any(|(path, item, _)| source.path == *path && code.contains(item));
    let is_new = |line: &Line| (is_lock(&line.code) || is_static(&line.code)) && !is_known(&line.code);
    let free = source.is_in(NOT_SHARED);
    let advice = "hang it in what `PerProcess` holds, so that a child has its own, or say in SHARED why it need not";
    source.flag(|_, line| !free && !line.is_test && !line.is_use && is_new(line), advice)
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
