//! The client of one collector: where it is, which connections lead there, and which request is sent when.

pub mod backoff;
mod dial;
pub mod endpoint;
pub mod exporter;
mod line;
mod link;
pub mod outcome;
pub mod proxy;
mod request;
mod retry_gate;
pub mod route;
pub mod verdict;
