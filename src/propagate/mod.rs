//! The identity of a span into and out of a process: W3C trace context, over any carrier.
//!
//! A carrier is whatever has named values: the headers of a request, the attributes of a message. [`Extractor`] and
//! [`Injector`] are implemented for `http::HeaderMap`, for maps of strings, and for lists of pairs; a carrier of
//! another kind needs one method of each.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use spanring::{Config, Engine, propagate::trace_context};
//!
//! let mut request = HashMap::new();
//! request.insert("traceparent".to_owned(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
//!
//! let engine = Engine::start(Config::default())?;
//! let tracer = engine.tracer("shop");
//! let caller = trace_context::extract(&request).expect("the header is good");
//! let mut span = tracer.span("GET /orders/{id}").parent(&caller).start();
//!
//! let mut outgoing = HashMap::new();
//! trace_context::inject(span.context(), &mut outgoing);
//! assert!(outgoing["traceparent"].starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
//! span.end();
//! # Ok::<(), spanring::StartError>(())
//! ```

mod carriers;
pub mod trace_context;

/// What a context is read from.
pub trait Extractor {
    /// Hands over each value of this name, in the order in which the carrier has them. The name is in lower case; where
    /// the carrier's names ignore case, as those of HTTP do, it is found in any.
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

/// What a context is written to.
pub trait Injector {
    /// Sets this name to this value alone. Both are ASCII, fit for a header, and the name is in lower case.
    fn set(&mut self, name: &'static str, value: &str);
}
