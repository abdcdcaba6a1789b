//! The rules of the specification for spans, contexts, limits, bytes and the environment; and what programs get wrong.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod bad_input;
mod config;
mod creation;
mod limits;
mod operations;
mod rig;
mod sampling;
mod values;
mod wire;
