//! HTTP/1.1 as an exporter needs it: the head and the body of a request, and the reply. It knows nothing of connections.

pub mod buffer;
pub mod gzip;
pub mod head;
pub mod headers;
pub mod http1;
pub mod retry_after;
