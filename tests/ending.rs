//! The end of a process, by a signal, a panic or an exit: what had ended is at the collector, and a dead one holds nobody up.
//!
//! It has a `main` of its own, because it starts itself again as the process that ends: a signal, a panic on the main thread
//! and `process::exit` are then what they are in a program. For the full proof of the exit's deadline (see `shutdown.rs`), six
//! minutes:
//!
//! `SPANRING_SHUTDOWN_ROUNDS=1000 SPANRING_SHUTDOWN_MILLIS=2000 cargo test --release --test ending -- exit_by_a_dead`

#![expect(clippy::print_stdout, reason = "it reports as the tests of the standard harness do")]

#[cfg(unix)]
#[path = "ending/actor.rs"]
mod actor;
#[cfg(unix)]
#[path = "ending/cases.rs"]
mod cases;
#[cfg(unix)]
#[path = "../src/bin/spanring/collector/mod.rs"]
#[allow(dead_code, unused_imports, reason = "this test uses a part of it")]
mod collector;
#[cfg(unix)]
mod holes;

#[cfg(unix)]
fn main() {
    if let Ok(role) = std::env::var(actor::ROLE) {
        return actor::act(&role);
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let chosen: Vec<_> = cases::CASES.iter().filter(|(name, _)| name.contains(&filter)).collect();
    for (name, case) in &chosen {
        case();
        println!("test {name} ... ok");
    }
    println!("{} of {} cases passed, the others were not asked for", chosen.len(), cases::CASES.len());
}

#[cfg(not(unix))]
fn main() {}
