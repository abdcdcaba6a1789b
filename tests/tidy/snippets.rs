//! Each rule of a single file against a snippet that it must refuse, once, and one that it must pass.

use crate::{
    argued::{orderings, unsafe_places, unsafe_reasons},
    places::{borrowed, conditions, machine, outside, shared},
    shape::{globs, leftovers, opening, sizes, widths},
    source::{Rule, Source},
};

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
    // A wide line of code is rustfmt's affair.
    let wide = format!("// {}é", "x".repeat(117));
    let fitting = format!("// {}é\nlet a = \"{}\";", "x".repeat(116), "x".repeat(200));
    for (path, rule, bad, good) in cases![
        opening "src/batch.rs":
            "use std::fmt;\n" => "//! Visits lanes.\n";
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
        widths "tests/a.rs":
            &wide => &fitting;
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
        outside "src/transport/tls/mod.rs":
            "let a = std::fs::read(b);" => "use std::fs;\nlet a = offset::read(b);";
        outside "src/record/mod.rs":
            "let a = f(std::env::var(b));" => "#[cfg(test)]\nmod tests {\n    fn f() { env::temp_dir() }\n}";
        shared "src/engine/supervisor.rs":
            "pub struct A {\n    jobs: Mutex<Vec<u8>>,\n}" => "pub struct A {\n    thread: Mutex<u8>,\n}";
        shared "src/trace/span.rs":
            "static NAMES: OnceLock<u8> = OnceLock::new();" => "fn f(a: &'static str) { Mutex::new(1); }";
        shared "src/record/mod.rs":
            "fn f() { static A: AtomicU64 = AtomicU64::new(0); }" => "#[cfg(test)]\nmod tests {\n    static A: Mutex<u8> = Mutex::new(0);\n}";
        borrowed "tests/a/main.rs":
            "#[path = \"../b/mod.rs\"]\nmod b;" => "#[path = \"../workload/mod.rs\"]\nmod workload;";
        globs "src/batch.rs":
            "use super::*;" => "use super::A;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}";
    ] {
        let findings = rule(&Source::new(path, bad));
        assert_eq!(findings.len(), 1, "{path} {bad}: {findings:?}");
        let findings = rule(&Source::new(path, good));
        assert_eq!(findings.len(), 0, "{path} {good}: {findings:?}");
    }
}
