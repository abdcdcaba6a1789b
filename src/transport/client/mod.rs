//! The client of one collector: where it is, which connections lead there, and which request is sent when.

mod addresses;
pub(crate) mod backoff;
mod coder;
pub(crate) mod condition;
mod connection;
mod dial;
pub(crate) mod endpoint;
mod exchange;
pub(crate) mod exporter;
pub(crate) mod outcome;
pub mod proxy;
mod queue;
pub(crate) mod request;
mod retry_gate;
pub(crate) mod route;
pub(crate) mod settings;
mod slot;
pub(crate) mod verdict;
