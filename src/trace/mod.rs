//! The program's side: tracers, span builders, spans. The public API of recording.

mod context;
mod ids;
mod local;
mod misuse;
mod recorder;
mod scope;
mod shared;
mod span;
mod tracer;

pub use context::{InvalidTraceState, SpanContext, TraceState};
pub use ids::IdSource;
pub use misuse::{Misuse, panic_on_misuse};
pub use recorder::{Core, Recorder, Sampling};
pub use scope::Scope;
pub use shared::SharedSpan;
pub use span::{Link, Span};
pub use tracer::{SpanBuilder, Tracer};
