//! Spans from start to drain: their bytes, the ledger of all that became of them, and the memory that they take.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod async_matrix;
mod current;
mod golden;
mod ledger;
mod life;
mod memory;
mod model;
mod naive;
mod service;
mod sizing;
mod stress;
mod threads;
