//! Exchanges with a collector, as machines that do no I/O: bytes and times are arguments, and what to do next is the answer.

pub mod endpoint;
pub mod gzip;
pub mod head;
pub mod headers;
pub mod http1;
pub mod proxy;
pub mod retry;
