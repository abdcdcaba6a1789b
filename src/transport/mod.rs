//! Moves bytes between the engine and a collector: the drivers that do the I/O, and the machines above them that do
//! none.

pub(crate) mod client;
pub mod driver;
pub(crate) mod http;
pub mod tls;
