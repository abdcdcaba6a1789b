//! Keeps the promise of a small default tree: few crates, nothing in C, no macro to compile first, no async runtime.
//!
//! The tree is what `cargo tree` says a user of the default features builds on this machine, build scripts included.

use std::{collections::BTreeSet, env, path::Path, process::Command};

/// The upper end of the 25 to 30 crates that the design allows: room for the transports, not for a framework.
const CRATES_MAX: usize = 30;
/// Crates that mean a C compiler, or a library of the system that has to be found; so does every name in `-sys`.
const C_BUILDS: &[&str] = &["bindgen", "cc", "cmake", "pkg-config", "vcpkg"];
/// Executors, and what cannot be used without one.
const RUNTIMES: &[&str] = &[
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-std",
    "compio",
    "embassy-executor",
    "futures-executor",
    "glommio",
    "hyper",
    "hyper-util",
    "monoio",
    "reqwest",
    "smol",
    "tokio",
    "tokio-util",
    "tonic",
];

/// One line of `cargo tree --prefix none --format {p}`.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Crate {
    name: String,
    version: String,
    is_proc_macro: bool,
}

#[test]
fn default_tree_keeps_the_budget() {
    let tree = tree();
    assert!(tree.contains("arrayvec v"), "the tree lacks a known dependency:\n{tree}");
    let excess = excess(&third_party(&tree));
    assert!(excess.is_empty(), "over the budget:\n{}\nof\n{tree}", excess.join("\n"));
}

/// A user's build has no `spanring::internals`, through which safe code can break the library: the module is behind a
/// feature that no other feature turns on. This program itself is built with it, so the sources are the witness.
#[test]
fn internals_are_in_no_build_that_does_not_ask_for_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name| std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(ways_in(&read("src/lib.rs"), &read("Cargo.toml")), Vec::<String>::new());

    let lib = "#[cfg(feature = \"__internals\")]\n#[doc(hidden)]\npub mod internals;\n";
    let manifest = "[features]\ndefault = []\n__internals = []\n[dependencies]\n";
    assert_eq!(ways_in(lib, manifest).len(), 0);
    assert_eq!(ways_in(&lib.replacen("#[cfg", "// [cfg", 1), manifest).len(), 1);
    assert_eq!(ways_in(&lib.replacen("__internals", "testing", 1), manifest).len(), 1);
    assert_eq!(ways_in(lib, &manifest.replacen("[]", "[\"__internals\"]", 1)).len(), 1);
    assert_eq!(ways_in(lib, &manifest.replacen("__internals = []\n", "", 1)).len(), 1);
}

/// Where a user meets `internals` unasked, one sentence each.
fn ways_in(lib: &str, manifest: &str) -> Vec<String> {
    let mut found = vec![];
    let lines: Vec<&str> = lib.lines().collect();
    let module = lines.iter().position(|line| *line == "pub mod internals;");
    let attributes =
        module.map(|at| lines[..at].iter().rev().take_while(|line| line.starts_with("#["))).into_iter().flatten();
    if !attributes.into_iter().any(|line| *line == "#[cfg(feature = \"__internals\")]") {
        found.push("src/lib.rs: `pub mod internals` has no `#[cfg(feature = \"__internals\")]`".to_owned());
    }
    let features = manifest.split("[features]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    if !features.lines().any(|line| line == "__internals = []") {
        found.push("Cargo.toml: `__internals` is not an empty feature".to_owned());
    }
    let others = features.lines().filter(|line| !line.starts_with('#') && line.contains("\"__internals\""));
    found.extend(others.map(|line| format!("Cargo.toml: `{line}` turns on `__internals`")));
    found
}

/// The tree as text, from the local copies if they are whole, else with the network's help.
fn tree() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failures = String::new();
    for offline in [Some("--offline"), None] {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root).args(["tree", "--edges", "normal,build", "--prefix", "none"]);
        cargo.args(["--no-dedupe", "--format", "{p}"]).args(offline);
        if root.join("Cargo.lock").exists() {
            cargo.arg("--locked");
        }
        // A `--cfg loom` or a target of the run around this test would show another tree than a user's.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(variable);
        }
        let output = cargo.output().unwrap_or_else(|error| panic!("cargo tree: {error}"));
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        failures += &String::from_utf8_lossy(&output.stderr);
    }
    panic!("cargo tree: {failures}");
}

/// Each crate of the tree once; what has a path instead of a registry is ours.
fn third_party(tree: &str) -> BTreeSet<Crate> {
    let mut crates = BTreeSet::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let notes: Vec<&str> = words.collect();
        if notes.iter().any(|note| note.contains(['/', '\\']) && !note.contains("://")) {
            continue;
        }
        let is_proc_macro = notes.contains(&"(proc-macro)");
        crates.insert(Crate { name: name.into(), version: version.into(), is_proc_macro });
    }
    crates
}

/// What breaks the budget, one sentence each.
fn excess(crates: &BTreeSet<Crate>) -> Vec<String> {
    let mut found = vec![];
    if crates.len() > CRATES_MAX {
        found.push(format!("{} crates, {CRATES_MAX} at most", crates.len()));
    }
    for Crate { name, version, is_proc_macro } in crates {
        if *is_proc_macro {
            found.push(format!("{name} {version} is a procedural macro: put it behind a feature"));
        }
        if C_BUILDS.contains(&name.as_str()) || name.ends_with("-sys") {
            found.push(format!("{name} {version} means a C build: put it behind a feature"));
        }
        if RUNTIMES.contains(&name.as_str()) {
            found.push(format!("{name} {version} is an async runtime or needs one"));
        }
    }
    found
}

const SAMPLE: &str = "\
spanring v0.1.0 (/home/x/spanring)
libc v0.2.191
syn v2.0.1 (proc-macro)

libc v0.2.191
libc v0.1.0
fork v1.0.0 (https://github.com/x/fork?rev=1#abcdef)
";

#[test]
fn each_version_counts_once_and_ours_not_at_all() {
    let crates = third_party(SAMPLE);
    let names: Vec<String> = crates.iter().map(|item| format!("{} {}", item.name, item.version)).collect();
    assert_eq!(names, ["fork v1.0.0", "libc v0.1.0", "libc v0.2.191", "syn v2.0.1"]);
    let macros: Vec<&str> = crates.iter().filter(|item| item.is_proc_macro).map(|item| item.name.as_str()).collect();
    assert_eq!(macros, ["syn"]);
}

#[test]
fn each_breach_is_named() {
    let breaches = |tree: &str| excess(&third_party(tree));
    assert_eq!(breaches("libc v0.2.0\nhyperloglog v1.0.0\nsystem v1.0.0\nccm v0.5.0\n").len(), 0);
    for line in ["serde_derive v1.0.0 (proc-macro)", "cc v1.0.0", "openssl-sys v0.9.0", "tokio v1.0.0"] {
        assert_eq!(breaches(line).len(), 1, "{line}");
    }
    let tree = |crates: usize| (0..crates).map(|n| format!("crate{n} v1.0.0\n")).collect::<String>();
    assert_eq!(breaches(&tree(30)).len(), 0);
    assert_eq!(breaches(&tree(31)), ["31 crates, 30 at most"]);
}
