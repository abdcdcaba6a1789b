//! The seam to the network: the same claims for every driver, and a process that is not what a driver hopes for.

#![expect(clippy::unwrap_used, reason = "a failed test shows the line")]

mod claims;
mod process;
mod rig;
