//! The end of an engine, and of a process, by a signal, a panic or an exit: it comes by its deadline, and what had
//! ended before is at the collector.
//!
//! It has a `main` of its own, because it starts itself again as the process that ends: a signal, a panic on the main
//! thread and `process::exit` are then what they are in a program. For the full proof of the exit's deadline (see
//! `shutdown.rs`), six minutes:
//!
//! `SPANRING_SHUTDOWN_ROUNDS=1000 SPANRING_SHUTDOWN_MILLIS=2000 cargo test --release --test ending -- exit_by_a_dead`

#![cfg_attr(unix, expect(clippy::print_stdout, reason = "it reports as the tests of the standard harness do"))]

#[cfg(unix)]
mod actor;
#[cfg(unix)]
mod cases;
#[cfg(unix)]
mod holes;
#[cfg(unix)]
mod shutdown;

#[cfg(unix)]
fn main() {
    if let Ok(role) = std::env::var(actor::ROLE) {
        return actor::act(&role);
    }
    let cases: Vec<_> = [shutdown::CASES, cases::CASES].concat();
    if std::env::args().any(|argument| argument == "--list") {
        return cases.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let chosen: Vec<_> = cases.iter().filter(|(name, _)| name.contains(&filter)).collect();
    for (name, case) in &chosen {
        case();
        println!("test {name} ... ok");
    }
    println!("{} of {} cases passed, the others were not asked for", chosen.len(), cases.len());
}

#[cfg(not(unix))]
fn main() {}
