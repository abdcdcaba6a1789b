//! Wrong calls: ignored or corrected, and counted by kind.

use std::{panic::Location, thread};

use crate::sync::{
    once::SetForEver,
    statics::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// A wrong use of the API: the call has no effect, or not the one that was asked for.
///
/// Counted by [`Engine::misuse_count`](crate::Engine::misuse_count). A context belongs to no engine: what is done wrong
/// with one counts for the engine that the thread recorded to last, and before it recorded only in [`Misuse::count`].
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
    /// So is one of a span that the thread had no place for when it was entered.
    /// [Share](crate::Span::share) the span, and enter it there.
    ChangedElsewhere,
    /// A thread has 4096 contexts attached. A further one is not: guards are leaked in a loop, or code calls itself.
    TooManyAttached,
    /// A sampler has panicked. The span is sampled as its parent is, or as a root. Mend the sampler.
    SamplerPanicked,
    /// A sampler has started a span, which is sampled as its parent is. Do not trace in samplers.
    StartedInSampler,
    /// The hook of [`Context::on_switch`](crate::Context::on_switch) has panicked. The panic ends there.
    HookPanicked,
}

impl Misuse {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 20] = [
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
        Self::SamplerPanicked,
        Self::StartedInSampler,
        Self::HookPanicked,
    ];

    /// Its name in metrics and lines, and what to do.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ChangedAfterEnd => ("changed_after_end", "end the span later, or change it earlier"),
            Self::EndedTwice => ("ended_twice", "remove the second end"),
            Self::EmptyKey => ("empty_key", "give the attribute a name"),
            Self::EmptyName => ("empty_name", "give the span or the event a name"),
            Self::TextCut => ("text_cut", "put long text into an attribute"),
            Self::InvalidLink => ("invalid_link", "link to a valid context"),
            Self::EndBeforeStart => ("end_before_start", "give an end that is after the start"),
            Self::ZeroId => ("zero_id", "have the source of ids give none of zeros"),
            Self::ChangeLost => ("change_lost", "raise memory_budget"),
            Self::DetachedOutOfOrder => ("detached_out_of_order", "drop guards in the reverse order, and leak none"),
            Self::ParentEndedFirst => ("parent_ended_first", "end the child first"),
            Self::RemoteOverCurrent => ("remote_over_current", "attach the caller's context before any span"),
            Self::LeftAttached => ("left_attached", "leak no guard"),
            Self::NothingToCapture => ("nothing_to_capture", "capture inside of a span"),
            Self::ChangedInItself => ("changed_in_itself", "do not trace in a Display or an iterator of attributes"),
            Self::ChangedElsewhere => ("changed_elsewhere", "share the span, and enter it there"),
            Self::TooManyAttached => ("too_many_attached", "leak no guard in a loop"),
            Self::SamplerPanicked => ("sampler_panicked", "mend the sampler"),
            Self::StartedInSampler => ("started_in_sampler", "do not trace in samplers"),
            Self::HookPanicked => ("hook_panicked", "mend the hook of Context::on_switch"),
        }
    }

    /// Its name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// How often this happened in the process, with any engine or none.
    #[must_use]
    pub fn count(self) -> u64 {
        // ORDERING: Relaxed. A figure to report.
        COUNTS[self as usize].load(Relaxed)
    }
}

/// What was misused with one engine.
#[derive(Debug, Default)]
pub(crate) struct Misuses {
    /// By kind. Written by every thread that misuses, read by reports.
    counts: [AtomicU64; Misuse::ALL.len()],
    /// Written by tests before they begin, read at each misuse.
    panics: AtomicBool,
    /// The kinds that were told, a bit each. Written by reports.
    told: AtomicU64,
}

impl Misuses {
    /// Makes each further misuse panic, or no longer.
    pub(crate) fn panic(&self, on: bool) {
        // ORDERING: Relaxed. A switch that tests set before they begin.
        self.panics.store(on, Relaxed);
    }

    /// How often this happened.
    pub(crate) fn count(&self, kind: Misuse) -> u64 {
        // ORDERING: Relaxed. A figure to report.
        self.counts[kind as usize].load(Relaxed)
    }

    /// What is to be told of the kinds that happened since [`Misuses::are_told`]: where first, and what to do.
    pub(crate) fn news(&self) -> Option<String> {
        // ORDERING: Relaxed. One thread reports at a time, and a line too many is no harm.
        let told = self.told.load(Relaxed);
        let is_new = |kind: &Misuse| told & 1 << *kind as u32 == 0 && self.count(*kind) > 0;
        let line = |kind: Misuse| {
            let (name, remedy) = kind.words();
            let place = PLACES[kind as usize].get().map(|place| format!(" at {}:{}", place.file(), place.line()));
            format!("{name}{}: {remedy}", place.unwrap_or_default())
        };
        let lines: Vec<String> = Misuse::ALL.into_iter().filter(is_new).map(line).collect();
        (!lines.is_empty()).then(|| format!("misuse, told once: {}", lines.join("; ")))
    }

    /// Takes what has happened so far as told.
    pub(crate) fn are_told(&self) {
        let kinds = Misuse::ALL.into_iter().filter(|kind| self.count(*kind) > 0);
        // ORDERING: Relaxed. As in `news`.
        self.told.store(kinds.fold(0, |bits, kind| bits | 1 << kind as u32), Relaxed);
    }

    /// Counts a misuse, for the process, too.
    #[cold]
    #[track_caller]
    pub(super) fn happened(&self, kind: Misuse) {
        let panics = count(kind, Some(self), Location::caller());
        assert!(!panics, "spanring misuse: {kind:?}");
    }
}

/// Counts a misuse; whether it is to panic.
#[cold]
pub(super) fn count(kind: Misuse, engine: Option<&Misuses>, place: &'static Location<'static>) -> bool {
    // ORDERING: Relaxed. A sum.
    COUNTS[kind as usize].fetch_add(1, Relaxed);
    if !is_ours(place) {
        let _ = PLACES[kind as usize].set(place);
    }
    let Some(Misuses { counts, panics, told: _ }) = engine else {
        return false;
    };
    // ORDERING: Relaxed. A sum.
    counts[kind as usize].fetch_add(1, Relaxed);
    // ORDERING: Relaxed. As in `panic`.
    let panics = panics.load(Relaxed);
    // Guards are dropped by panics, too, and a second one would end the process.
    panics && !thread::panicking()
}

/// Whether it is a line of this library, which a call came to that passes its caller on no further.
fn is_ours(place: &Location<'_>) -> bool {
    file!().strip_suffix("trace/misuse.rs").is_some_and(|source| place.file().starts_with(source))
}

/// Where each kind happened first, as far as it is known.
static PLACES: [SetForEver<Location<'static>>; Misuse::ALL.len()] = [const { SetForEver::new() }; Misuse::ALL.len()];

/// Plain statics: a lazy one could be interrupted by a signal handler that misuses as well, and wait for itself.
static COUNTS: [AtomicU64; Misuse::ALL.len()] = [const { AtomicU64::new(0) }; Misuse::ALL.len()];
