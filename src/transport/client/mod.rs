//! The client of one collector: where it is, which connections lead there, and which request is sent when.

mod dial;
pub mod endpoint;
pub mod exporter;
mod line;
mod link;
pub mod outcome;
pub mod proxy;
mod request;
pub mod retry;
pub mod route;
mod trouble;
