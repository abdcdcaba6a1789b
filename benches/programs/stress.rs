//! Runs the load of `tests/spans/ledger.rs` large, seed after seed, and says whether each ledger closes to the span.
//!
//! `cargo run --release -p spanring-benches --bin stress --
//! --threads 64 --spans 10000000 --seeds 100 --first 0 --budget-mib 4`

#[path = "../../tests/spans/stress/mod.rs"]
#[allow(dead_code, reason = "the test uses the rest")]
mod stress;

use std::{process::ExitCode, time::Instant};

use stress::{Outcome, Plan};

const USAGE: &str = "usage: stress [--threads N] [--spans N] [--seeds N] [--first SEED] [--budget-mib N]
  --threads     threads that record; 64
  --spans       spans of a seed, all threads together; 10000000
  --seeds       how many seeds are run; 100
  --first       the first seed; 0
  --budget-mib  memory_budget in MiB; unless given 1, 2, 4 or 32, by the seed";

fn main() -> ExitCode {
    let Some(options) = Options::of(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let seeds = options.first..options.first + options.seeds;
    let open = seeds.filter(|&seed| !closes(&options, seed)).count();
    if open > 0 {
        eprintln!("{open} of {} seeds failed", options.seeds);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Options {
    threads: usize,
    spans: u64,
    seeds: u64,
    first: u64,
    budget_mib: Option<usize>,
}

impl Options {
    fn of(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { threads: 64, spans: 10_000_000, seeds: 100, first: 0, budget_mib: None };
        while let Some(name) = args.next() {
            let value = args.next()?;
            match name.as_str() {
                "--threads" => options.threads = value.parse().ok().filter(|&threads| threads > 0)?,
                "--spans" => options.spans = value.parse().ok()?,
                "--seeds" => options.seeds = value.parse().ok()?,
                "--first" => options.first = value.parse().ok()?,
                "--budget-mib" => options.budget_mib = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs one seed and prints its line.
#[expect(clippy::print_stdout, reason = "the output of the command")]
fn closes(options: &Options, seed: u64) -> bool {
    let by_seed = [1, 2, 4, 32][usize::try_from(seed % 4).expect("below four")];
    let memory_budget = options.budget_mib.unwrap_or(by_seed) << 20;
    let plan = Plan { seed, threads: options.threads, spans: options.spans, memory_budget };
    let start = Instant::now();
    let outcome = stress::run(&plan);
    let ms = start.elapsed().as_millis();
    match outcome {
        Ok(Outcome { ledger, .. }) => {
            let lost = ledger.lost;
            println!(
                "seed {seed}: {} MiB, {} spans, {} drained, {} not sampled, {} forgotten, lost: {} lane_full, {} spill_full, \
                 {} live_limit, {} closed; {ms} ms",
                memory_budget >> 20,
                ledger.started,
                ledger.drained,
                ledger.not_sampled,
                ledger.live,
                lost.lane_full,
                lost.spill_full,
                lost.live_limit,
                lost.closed
            );
            true
        }
        Err(error) => {
            println!("seed {seed}: FAILED after {ms} ms\n{error}");
            false
        }
    }
}
