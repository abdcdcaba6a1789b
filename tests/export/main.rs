//! The export end to end, over real sockets: to a stand-in collector that is healthy or has faults, and to a real one.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod advice;
mod bad_input;
mod delivery;
mod descriptors;
mod faults;
mod flush;
#[cfg(feature = "tls")]
mod https;
mod interop;
mod interop_collector;
mod last_line;
#[cfg(target_os = "linux")]
mod memory;
mod outage;
#[cfg(target_os = "linux")]
mod own_process;
mod quiet;
mod replacement;
mod route;
mod routes;
mod rules;
#[cfg(unix)]
mod schedule;
mod schedules;
mod unconfirmed;
#[cfg(all(unix, feature = "zstd"))]
mod zstd;
