//! Moves bytes between the engine and a collector: the drivers that do the I/O, and the machines above them that do none.

pub mod driver;
pub mod endpoint;
pub mod gzip;
pub mod head;
pub mod headers;
pub mod http1;
pub mod proxy;
pub mod retry;
