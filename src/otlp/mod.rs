//! Frames runs of encoded spans as OTLP requests, and reads what the collector answers. Pure.

mod reply;
mod request;

pub use reply::{Accepted, MESSAGE_BYTES_MAX, Malformed, accepted, status_message};
pub(crate) use request::first_span;
pub use request::{Resource, Run, ScopeHead, enclose, span_count, split};
