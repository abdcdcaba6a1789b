//! Calls that cannot mean what they say: ignored, and counted by kind.

use crate::sync::statics::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A way to call the API that has no effect, or not the one that was asked for.
///
/// Counted for the process, not for an engine: a span that has ended knows no engine any more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Misuse {
    /// A span was changed after its end. The change is ignored. End the span later, or change it earlier.
    ChangedAfterEnd,
    /// A span was ended again. The first end counts. Drop the second call.
    EndedTwice,
    /// An attribute has an empty key. It is ignored. Give it a name.
    EmptyKey,
    /// A span or an event has an empty name. It is recorded as `unnamed`. Give it a name.
    EmptyName,
    /// A name or a text is too long, and was cut. Put the long part into an attribute.
    TextCut,
    /// A link leads nowhere: invalid ids, no attributes, no trace state. It is ignored.
    InvalidLink,
    /// The given end lies before the given start. The span ends when it starts.
    EndBeforeStart,
    /// A pluggable id source gave an id of zeros. A random one was taken.
    ZeroId,
    /// A change of a shared span found no memory: open spans have it all, or changes that wait for a stopped thread have half
    /// of it. Raise `memory_budget`.
    ChangeLost,
}

impl Misuse {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::ChangedAfterEnd,
        Self::EndedTwice,
        Self::EmptyKey,
        Self::EmptyName,
        Self::TextCut,
        Self::InvalidLink,
        Self::EndBeforeStart,
        Self::ZeroId,
        Self::ChangeLost,
    ];

    /// How often it happened in this process.
    #[must_use]
    pub fn count(self) -> u64 {
        // ORDERING: Relaxed. A figure to report.
        COUNTS[self as usize].load(Relaxed)
    }

    #[cold]
    #[track_caller]
    pub(super) fn happened(self) {
        // ORDERING: Relaxed. A sum.
        COUNTS[self as usize].fetch_add(1, Relaxed);
        // ORDERING: Relaxed. A switch that tests set before they begin.
        assert!(!PANICS.load(Relaxed), "spanring misuse: {self:?}");
    }
}

/// Makes misuse panic, in tests that want to find it. Off until asked for; never use it in a service.
///
/// The panic names the line of the call. Not so for [`Span::set`](crate::Span::set), a start and shared spans, where to pass
/// the line on would cost every call: set `RUST_BACKTRACE=1`.
pub fn panic_on_misuse(on: bool) {
    // ORDERING: Relaxed. A switch that tests set before they begin.
    PANICS.store(on, Relaxed);
}

/// Plain statics: a lazy one could be interrupted by a signal handler that misuses as well, and wait for itself.
static COUNTS: [AtomicU64; Misuse::ALL.len()] = [const { AtomicU64::new(0) }; Misuse::ALL.len()];
static PANICS: AtomicBool = AtomicBool::new(false);
