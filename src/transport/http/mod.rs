//! HTTP/1.1 as an exporter needs it: the head and body of a request, and the reply. It knows no connections.

pub(crate) mod buffer;
pub(crate) mod compression;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod http1;
pub(crate) mod retry_after;
