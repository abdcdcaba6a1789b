//! The examples, run as programs: they say what they promise to say.
//!
//! `cargo test` builds them. Where it is told to build less (`--test examples`), `cargo build --examples` goes before.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod printed;
mod program;

mod propagation;
#[cfg(target_os = "linux")]
mod services;
