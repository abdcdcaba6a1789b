//! What an engine reports: the ledger of all spans, receipts, figures for an operator, and its own diagnostics.

mod counts;
mod diagnostics;
mod ledger;
mod receipt;
mod stats;

pub(crate) use counts::Counts;
pub(crate) use diagnostics::Reporter;
pub use diagnostics::{Diagnostic, DiagnosticSink, Health, Topic};
pub use ledger::{Ledger, Lost, Memory};
pub use receipt::Receipt;
pub(crate) use stats::{Ended, QUEUE_SPAN_BYTES};
pub use stats::{ExportTime, Stats};
