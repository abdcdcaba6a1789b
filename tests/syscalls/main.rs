//! System calls, as the kernel counts them: none for a span, about one for a request.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod engine;
mod record;
#[path = "../workload/mod.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod workload;
