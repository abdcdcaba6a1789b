//! What an engine reports: the ledger of all spans, receipts, figures for an operator, and its own diagnostics.

mod causes;
mod counts;
mod diagnostics;
mod ledger;
mod receipt;
mod stats;
mod times;

pub(crate) use causes::Cause;
pub use causes::Lost;
pub(crate) use counts::{Counts, GivenUp};
pub(crate) use diagnostics::Reporter;
pub use diagnostics::{Diagnostic, DiagnosticSink, Health, Topic};
pub(crate) use ledger::Drops;
pub use ledger::{Ledger, Memory};
pub use receipt::Receipt;
pub(crate) use stats::QUEUE_SPAN_BYTES;
pub use stats::Stats;
pub(crate) use times::Ended;
pub use times::ExportTime;
