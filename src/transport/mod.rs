//! Moves bytes between the engine and a collector: the drivers that do the I/O, and the machines above them that do none.

mod dial;
pub mod driver;
pub mod endpoint;
pub mod exporter;
pub mod gzip;
pub mod head;
pub mod headers;
pub mod http1;
mod line;
mod link;
pub mod outcome;
pub mod proxy;
mod request;
pub mod retry;
pub mod route;
pub mod tls;
mod trouble;
