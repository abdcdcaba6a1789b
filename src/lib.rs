//! A lock-free span pipeline for latency-sensitive services: tens of nanoseconds a span, and every span accounted for.
//!
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod record;

#[expect(unsafe_code, reason = "the only door to the machine")]
mod sync;

#[expect(unsafe_code, reason = "memory that changes its owner")]
mod lane;

mod clock;

mod trace;

mod drain;

mod otlp;

mod transport;

mod engine;

#[cfg(feature = "testing")]
pub mod testing;

#[doc(hidden)]
pub mod internals;

pub use clock::{Clock, FakeClock};
pub use engine::{
    Config, ConfigError, Deadline, Diagnostic, DiagnosticSink, Engine, Export, ExportTime, Health, Ledger, Load, Lost,
    Memory, Origins, ProxyChoice, Receipt, Resource, ResourceValue, Sizing, StartError, Stats, Topic, WorkerChoice,
    flush_on_panic, shut_down_on_signals, size,
};
pub use record::{Key, Kind, NO_ATTRIBUTES, SpanId, SpanLimits, Status, TraceId, Value};
pub use sync::signal::Signal;
pub use trace::{
    IdSource, InvalidTraceState, Link, Misuse, Sampling, Scope, SharedSpan, Span, SpanBuilder, SpanContext, TraceState,
    Tracer, panic_on_misuse,
};
pub use transport::{
    driver::{DriverChoice, UnknownDriver},
    gzip::Compression,
};
