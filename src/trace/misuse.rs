//! Wrong calls: ignored or corrected, and counted by kind.

use std::thread;

use crate::sync::statics::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A wrong use of the API: the call has no effect, or not the one that was asked for.
///
/// Counted per process, not per engine, because a span that has ended no longer knows its engine.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Misuse {
    /// A shared span was changed after its end. The change is ignored. End the span later, or change it earlier.
    ChangedAfterEnd,
    /// A shared span was ended twice. The first end counts. Remove the second call.
    EndedTwice,
    /// An attribute has an empty key. It is ignored. Give it a name.
    EmptyKey,
    /// A span or an event has an empty name. It is recorded as `unnamed`. Give it a name.
    EmptyName,
    /// A name or a text was too long, or found no room, and was cut. Put long text into an attribute.
    TextCut,
    /// A link has invalid ids, no attributes and no trace state. It is ignored.
    InvalidLink,
    /// The given end is before the given start. The span gets its start as its end.
    EndBeforeStart,
    /// An [`IdSource`](crate::IdSource) gave an id of zeros. A random one took its place.
    ZeroId,
    /// A change of a shared span found no memory: open spans have it all, or changes that wait for a stopped thread
    /// have half of it. Raise `memory_budget`.
    ChangeLost,
    /// A guard was dropped while what was attached after it still is. It stays the current one, and the thread goes
    /// back to what was there before both. Drop guards in the reverse order, and do not leak them.
    DetachedOutOfOrder,
    /// A span that was entered has ended while a child that was entered after it has not. End the child first.
    ParentEndedFirst,
    /// A context from another process was attached over a span of this one, which is not its parent. Attach it where
    /// the request comes in, before any span.
    RemoteOverCurrent,
    /// A thread has ended with a context still attached: a guard was leaked. Spans in it have ended then.
    LeftAttached,
    /// [`Context::capture`](crate::Context::capture) found nothing current. Capture inside of the span.
    NothingToCapture,
    /// A change of the current span was made by code that another change of it runs, such as a `Display`. It is
    /// ignored.
    ChangedInItself,
    /// The current context has a span's identity alone: the span is in another place, and a change is ignored.
    /// [Share](crate::Span::share) the span, and enter it there.
    ChangedElsewhere,
    /// A thread has 4096 contexts attached. A further one is not: guards are leaked in a loop, or code calls itself.
    TooManyAttached,
}

impl Misuse {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::ChangedAfterEnd,
        Self::EndedTwice,
        Self::EmptyKey,
        Self::EmptyName,
        Self::TextCut,
        Self::InvalidLink,
        Self::EndBeforeStart,
        Self::ZeroId,
        Self::ChangeLost,
        Self::DetachedOutOfOrder,
        Self::ParentEndedFirst,
        Self::RemoteOverCurrent,
        Self::LeftAttached,
        Self::NothingToCapture,
        Self::ChangedInItself,
        Self::ChangedElsewhere,
        Self::TooManyAttached,
    ];

    /// How often this happened in the process.
    #[must_use]
    pub fn count(self) -> u64 {
        // ORDERING: Relaxed. A figure to report.
        COUNTS[self as usize].load(Relaxed)
    }

    #[cold]
    #[track_caller]
    pub(super) fn happened(self) {
        self.count_one();
        // ORDERING: Relaxed. A switch that tests set before they begin.
        let panics = PANICS.load(Relaxed);
        // Guards are dropped by panics, too, and a second one would end the process.
        assert!(!panics || thread::panicking(), "spanring misuse: {self:?}");
    }

    /// As [`Misuse::happened`] where nobody would catch a panic.
    #[cold]
    pub(super) fn count_one(self) {
        // ORDERING: Relaxed. A sum.
        COUNTS[self as usize].fetch_add(1, Relaxed);
    }
}

/// Makes misuse panic, for tests. Off by default; do not use it in a service.
///
/// The panic names the line of the call, except for [`Span::set`](crate::Span::set), starts and shared spans, where
/// passing it on would make every call slower. Set `RUST_BACKTRACE=1` to find those.
pub fn panic_on_misuse(on: bool) {
    // ORDERING: Relaxed. A switch that tests set before they begin.
    PANICS.store(on, Relaxed);
}

/// Plain statics: a lazy one could be interrupted by a signal handler that misuses as well, and wait for itself.
static COUNTS: [AtomicU64; Misuse::ALL.len()] = [const { AtomicU64::new(0) }; Misuse::ALL.len()];
static PANICS: AtomicBool = AtomicBool::new(false);
