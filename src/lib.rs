//! A lock-free span pipeline for latency-sensitive services: tens of nanoseconds a span, and every span accounted for.
//!
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![cfg_attr(feature = "__internals", warn(unreachable_pub))]
#![cfg_attr(
    not(feature = "__internals"),
    allow(dead_code, unused_imports, reason = "some items serve only the models, fuzz targets and benches")
)]

mod record;

#[expect(unsafe_code, reason = "the only door to the machine")]
mod sync;

#[expect(unsafe_code, reason = "memory that changes its owner")]
mod lane;

mod clock;

mod notice;

mod context;

pub mod propagate;

pub mod sample;

mod trace;

mod batch;

mod otlp;

mod transport;

mod report;

mod config;

mod engine;

#[cfg(feature = "testing")]
pub mod tree;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals;

pub use clock::{Clock, FakeClock};
pub use config::{
    Config, ConfigError, Export, Load, Origins, ProxyChoice, Resource, ResourceValue, SchemaConflict, Sizing,
    WorkerChoice, size,
};
pub use context::{AsParent, Baggage, Context, InvalidBaggage, InvalidTraceState, Link, SpanContext, TraceState};
pub use engine::{
    Engine, Global, StartError, early_spans, flush_on_panic, flush_on_signals, init, init_with, shut_down_at_exit,
    shut_down_on_signals, tracer,
};
pub use record::{
    AttributeList, AttributeValue, InvalidId, Key, Kind, Lazy, List, SpanId, SpanLimits, Status, Text, TraceId, Value,
};
pub use report::{Diagnostic, DiagnosticSink, ExportTime, Health, Ledger, Lost, Memory, Receipt, Stats, Topic};
pub use sample::Sampling;
pub use sync::{deadline::Deadline, signal::Signal};
#[cfg(feature = "stream")]
pub use trace::TraceStream;
pub use trace::{
    Annotate, Attached, CurrentIds, CurrentSpan, Entered, IdSource, InContext, InSpan, Misuse, Scope, SharedSpan, Span,
    SpanBuilder, TraceFuture, Tracer, carrying, current_ids, current_span,
};
pub use transport::{
    driver::{DriverChoice, UnknownDriver},
    http::compression::Compression,
};
