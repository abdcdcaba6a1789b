//! A span that several threads change at once. Nobody waits: who finds it taken leaves a note, and the one who has it applies it.

use std::{sync::Arc, time::SystemTime};

use super::{lanes::SpanLanes, misuse::Misuse, span::Span};
use crate::{
    clock::unix_nanos,
    context::SpanContext,
    lane::{Class, Combined},
    record::{Draft, Key, Kind, Reading, Record, Stamp, Status, Value},
    sync::{AtomicBool, Ordering::Relaxed},
};

/// A handle of a shared span; clones are handles of the same span, which ends by [`SharedSpan::end`] or with the last handle.
///
/// A change that races the end lands whole, or is ignored and counted as [`Misuse::ChangedAfterEnd`]. A change that comes while
/// 64 others wait for a stopped thread is lost, and counted as [`Misuse::ChangeLost`]. Each change is written
/// into a block of its own first, so it costs about twice what it costs on a [`Span`].
#[derive(Clone, Debug)]
pub struct SharedSpan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` for a span that does not record.
    open: Option<Open>,
    context: SpanContext,
}

#[derive(Debug)]
struct Open {
    span: Combined<Span>,
    core: Arc<SpanLanes>,
    /// The process that the span began in.
    generation: u32,
    /// Written by the thread that ends the span, read by everyone who asks.
    has_ended: AtomicBool,
}

impl Span {
    /// Makes the span usable by several threads at once, at the cost of one allocation now and of a copy for each call.
    #[must_use]
    pub fn share(self) -> SharedSpan {
        SharedSpan::new(self)
    }
}

impl SharedSpan {
    fn new(span: Span) -> Self {
        let context = span.context().clone();
        let open = span.lanes().map(|core| Open {
            generation: core.generation(),
            span: Combined::new(span),
            core,
            has_ended: AtomicBool::new(false),
        });
        Self { inner: Arc::new(Inner { open, context }) }
    }

    /// As [`Span::set`].
    pub fn set<'a>(&self, key: impl Into<Key<'a>>, value: impl Into<Value<'a>>) {
        self.change(|note| note.set(key, value));
    }

    /// As [`Span::event`].
    pub fn event<'a, K, V, I>(&self, name: &str, attributes: I)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = (K, V), IntoIter: Clone>,
    {
        self.change(|note| note.event(name, attributes));
    }

    /// As [`Span::link`].
    pub fn link<'a, K, V, I>(&self, target: &SpanContext, attributes: I)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = (K, V), IntoIter: Clone>,
    {
        self.change(|note| note.link(target, attributes));
    }

    /// As [`Span::status`].
    pub fn status(&self, status: Status<'_>) {
        self.change(|note| note.status(status));
    }

    /// As [`Span::rename`].
    pub fn rename(&self, name: &str) {
        self.change(|note| note.rename(name));
    }

    /// As [`Span::end`]. Where no memory is left for the note, the span ends with its last handle.
    pub fn end(&self) {
        if let Some(open) = &self.inner.open {
            open.leave(open.core.owner().clock.now(), |_| ());
        }
    }

    /// As [`Span::end_at`].
    pub fn end_at(&self, time: SystemTime) {
        if let Some(open) = &self.inner.open {
            // Zero is how a note says that it ends nothing.
            open.leave(Stamp::wall(unix_nanos(time).max(1)), |_| ());
        }
    }

    /// As [`Span::context`].
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        &self.inner.context
    }

    /// As [`Span::is_recording`]; another thread may be ending the span this very moment.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        // ORDERING: Relaxed. An answer that may be old when it arrives.
        self.inner.open.as_ref().is_some_and(|open| !open.has_ended.load(Relaxed))
    }

    fn change(&self, write: impl FnOnce(&mut Span)) {
        if let Some(open) = &self.inner.open {
            open.leave(NO_END, write);
        }
    }
}

/// Changes that wait for one holder at most; more are lost and counted. Ends find some room beyond.
const CHANGES_MAX: u64 = 64;
const ENDS_MAX: u64 = 64;

/// No process has this generation: a note that is dropped unfinished is thrown away, not delivered.
const NOTE: u32 = u32::MAX;

/// The end of a note that ends nothing.
const NO_END: Stamp = Stamp::EPOCH;

impl Open {
    /// Writes a note, and leaves it with whoever has the span, or applies it.
    fn leave(&self, end: Stamp, write: impl FnOnce(&mut Span)) {
        if self.core.generation() != self.generation {
            return; // Forked since: a thread of the parent may hold the span for ever, and the parent delivers it.
        }
        let Some(mut block) = self.core.take(Class::First) else {
            return Misuse::ChangeLost.happened();
        };
        *block.open().0 = Draft::new(0, Kind::Internal, Stamp::EPOCH);
        let mut note = Span::new(Some(block), NOTE, SpanContext::default());
        // The program's code runs here, before anything is held.
        write(&mut note);
        let Some((block, len)) = note.into_note(end) else {
            return;
        };
        let notes_max = if end == NO_END { CHANGES_MAX } else { CHANGES_MAX + ENDS_MAX };
        if !self.core.combine(&self.span, block, len, notes_max, |span, note| self.apply(span, note)) {
            Misuse::ChangeLost.happened();
        }
    }

    fn apply(&self, span: &mut Span, note: &[u8]) {
        let Some(record) = Record::parse(note) else {
            return debug_assert!(false, "a note is a record");
        };
        let (_, end) = record.times();
        if end == NO_END {
            // What finds no room is lost with the note; the span's own counts say so.
            span.absorb(note);
            return;
        }
        match end.reading() {
            Reading::Wall(nanos) => span.end_at(SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(nanos)),
            _ if span.is_recording() => span.finish(end),
            _ => span.end(),
        }
        // ORDERING: Relaxed. A hint for `is_recording`; the span itself goes from thread to thread by [hold].
        self.has_ended.store(true, Relaxed);
    }
}
