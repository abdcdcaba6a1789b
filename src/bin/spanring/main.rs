//! The `spanring` command: for now its demo, which runs the main job against a collector and shows that the ledger
//! closes.

#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod demo;

use std::process::ExitCode;

const USAGE: &str = "usage: spanring demo [options]

  demo    record a load, export it, and compare the ledger with what the collector counted;
          `spanring demo --help` has its options";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("demo") => demo::main(words),
        Some("--help" | "-h" | "help") => {
            eprintln!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some(other) => fail(&format!("unknown command {other:?}")),
        None => fail("no command"),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("spanring: {error}; `spanring --help` lists the commands");
    ExitCode::from(2)
}
