//! The program's side: tracers, span builders, spans. The public API of recording.

mod ids;
mod lanes;
mod misuse;
mod scope;
mod shared;
mod span;
mod thread_state;
mod tracer;

pub use ids::IdSource;
pub use lanes::Sampling;
pub(crate) use lanes::{Shared, SpanLanes};
pub use misuse::{Misuse, panic_on_misuse};
pub use scope::Scope;
pub use shared::SharedSpan;
pub use span::Span;
pub use tracer::{SpanBuilder, Tracer};
