//! The `spanring` command: for now its demo, which records, drains into memory and shows that the ledger closes.

#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod collector;
mod demo;

use std::process::ExitCode;

const USAGE: &str = "usage: spanring demo [--seconds N] [--threads N] [--rate N]

  --seconds N   how long to record; 1 unless said otherwise
  --threads N   recording threads; 2 unless said otherwise
  --rate N      spans a second and thread; 20000 unless said otherwise, 0 is flat out";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("demo") => match demo::Options::parse(words) {
            Ok(options) => demo::run(options),
            Err(error) => fail(&error),
        },
        Some("--help" | "-h" | "help") => {
            eprintln!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some(other) => fail(&format!("unknown command {other:?}")),
        None => fail("no command"),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("spanring: {error}\n\n{USAGE}");
    ExitCode::from(2)
}
