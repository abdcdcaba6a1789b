//! The program's side: tracers, span builders, spans. The public API of recording.

mod annotate;
mod current;
mod failure;
mod future;
mod ids;
mod lanes;
mod misuse;
mod sampled;
mod scope;
mod shared;
mod span;
mod stack;
#[cfg(feature = "stream")]
mod stream;
mod thread_state;
mod tracer;
mod within;

pub use annotate::Annotate;
pub use current::{Attached, CurrentIds, CurrentSpan, Entered, current_ids, current_span};
pub use future::{InContext, InSpan, TraceFuture, carrying};
pub use ids::IdSource;
pub(crate) use lanes::{Shared, SpanLanes};
pub use misuse::Misuse;
pub(crate) use misuse::Misuses;
pub use scope::Scope;
pub use shared::SharedSpan;
pub use span::Span;
#[cfg(feature = "stream")]
pub use stream::TraceStream;
pub use tracer::{SpanBuilder, Tracer};
