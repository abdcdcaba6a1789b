//! Contexts into and out of a process: W3C Trace Context, W3C Baggage and B3, over any carrier.
//!
//! A carrier is whatever has named values: the headers of a request, the attributes of a message. [`Extractor`] and
//! [`Injector`] are implemented for
//!
//! * `http::HeaderMap`, and by [`GrpcMetadata`] for what has one inside;
//! * maps of strings, and by [`TypedMap`] maps of typed values: attributes of SQS, tables of AMQP;
//! * lists of pairs, text or bytes, whose names may repeat: headers of Kafka;
//! * [`std::process::Command`], whose variables the child reads from its [`Environment`].
//!
//! A carrier of another kind needs one method of each.
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

pub mod b3;
pub mod baggage;
mod carriers;
mod propagators;
pub mod trace_context;

use std::{fmt, ops::AddAssign};

pub use self::{
    carriers::{Environment, GrpcMetadata, TypedMap},
    propagators::{Extracted, Propagator, Propagators, Trust},
};

/// What a context is read from.
pub trait Extractor {
    /// Hands over each value of this name, in the order in which the carrier has them. The name is in lower case; where
    /// the carrier's names ignore case, as those of HTTP do, it is found in any.
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

/// What a context is written to.
pub trait Injector {
    /// Sets this name to this value alone. Both are ASCII, fit for a header, and the name is in lower case.
    ///
    /// # Errors
    ///
    /// When the carrier cannot take them; it stays as it was.
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused>;

    /// Takes this name out, as it belongs to a context that another one has replaced. A carrier that is new each time
    /// has none to take out.
    fn unset(&mut self, name: &'static str) {
        let _ = name;
    }
}

/// Why a carrier does not take a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refused {
    /// It has as many fields as it can have. Put some of them into the body.
    NoRoom,
    /// The name or the value has characters that it cannot carry.
    Unfit,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "the carrier has as many fields as it can have",
            Self::Unfit => "the carrier cannot have this name or value",
        })
    }
}

impl std::error::Error for Refused {}

/// What was left out on the way into a carrier, or out of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dropped {
    /// Fields that the carrier [refused](Refused).
    pub fields: u32,
    /// Members of baggage past its limits.
    pub excess_members: u32,
    /// Members of baggage that are malformed, or whose names the format cannot carry.
    pub malformed_members: u32,
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.fields += other.fields;
        self.excess_members += other.excess_members;
        self.malformed_members += other.malformed_members;
    }
}
