//! Moves bytes between the engine and a collector: the drivers that do the I/O, and the machines above them that do none.

pub mod client;
pub mod driver;
pub mod http;
pub mod tls;
