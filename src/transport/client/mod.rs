//! The client of one collector: where it is, which connections lead there, and which request is sent when.

mod addresses;
pub mod backoff;
mod connection;
mod dial;
pub mod endpoint;
mod exchange;
pub mod exporter;
pub mod outcome;
pub mod proxy;
mod request;
mod retry_gate;
pub mod route;
mod slot;
pub mod verdict;
