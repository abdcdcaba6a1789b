//! A span that several threads change at once. Nobody waits: a thread that finds it taken leaves a note for another to
//! apply.

use std::{
    error::Error,
    fmt::Display,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{annotate::changed_through, lanes::SpanLanes, misuse::Misuse, span::Span};
use crate::{
    clock::unix_nanos,
    context::{AsParent, SpanContext},
    lane::{Change, Class, Combined},
    record::{AttributeList, AttributeValue, Draft, Key, Kind, Reading, Stamp, Status},
};

/// A handle of a shared span; clones are handles of the same span, which ends by [`SharedSpan::end`] or with the last
/// handle.
///
/// A change that races the end lands whole, or is ignored and counted as [`Misuse::ChangedAfterEnd`]. No thread waits
/// for another: while one is stopped in the middle of a change, those of the others wait in memory. The end has all
/// changes that came before it. A change is lost only where that memory is spent (half of what there is for open
/// spans), and counted as [`Misuse::ChangeLost`]. Each change is written into a block of its own first, so it costs
/// about twice what it costs on a [`Span`].
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
}

impl Span {
    /// Lets several threads use the span at once. Costs one allocation now, and a copy at each call.
    #[must_use]
    pub fn share(self) -> SharedSpan {
        SharedSpan::new(self)
    }
}

impl SharedSpan {
    fn new(span: Span) -> Self {
        let context = span.context().clone();
        let open = span.lanes().map(|core| Open { generation: core.generation(), span: Combined::new(span), core });
        Self { inner: Arc::new(Inner { open, context }) }
    }

    /// As [`Span::end`].
    pub fn end(&self) {
        if let Some(open) = &self.inner.open {
            open.end(open.core.owner().clock.now());
        }
    }

    /// As [`Span::end_at`].
    pub fn end_at(&self, time: SystemTime) {
        if let Some(open) = &self.inner.open {
            open.end(Stamp::wall(unix_nanos(time)));
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
        self.inner.open.as_ref().is_some_and(|open| !open.span.is_closed())
    }

    pub(super) fn change_by(&self, write: impl FnOnce(&mut Span)) {
        if let Some(open) = &self.inner.open {
            open.change(write);
        }
    }
}

changed_through!(SharedSpan);

/// No process has this generation: a note that is dropped unfinished is thrown away, not delivered.
const NOTE: u32 = u32::MAX;

impl Open {
    /// Writes a note, and leaves it to whoever has the span, or applies it.
    fn change(&self, write: impl FnOnce(&mut Span)) {
        if self.is_foreign() {
            return;
        }
        if self.span.is_closed() {
            return self.misused(Misuse::ChangedAfterEnd);
        }
        let Some(mut block) = self.core.take(Class::First) else {
            return self.misused(Misuse::ChangeLost);
        };
        *block.open().0 = Draft::new(0, Kind::Internal, Stamp::EPOCH);
        let mut note = Span::new(Some(block), NOTE, SpanContext::default());
        // The program's code runs here, before anything is held.
        write(&mut note);
        let Some((block, len)) = note.into_note() else {
            return;
        };
        match self.core.change(&self.span, block, len, apply, finish) {
            Change::Made => {}
            Change::Full => self.misused(Misuse::ChangeLost),
            Change::Closed => self.misused(Misuse::ChangedAfterEnd),
        }
    }

    fn end(&self, end: Stamp) {
        if !self.is_foreign() && !self.core.finish(&self.span, end.to_bits(), apply, finish) {
            self.misused(Misuse::EndedTwice);
        }
    }

    #[track_caller]
    fn misused(&self, kind: Misuse) {
        self.core.owner().misuses().happened(kind);
    }

    /// Whether the process has forked since: then a thread of the parent may hold the span for ever, and the parent
    /// delivers it.
    fn is_foreign(&self) -> bool {
        self.core.generation() != self.generation
    }
}

impl Drop for Open {
    /// The span ends with the last handle; the changes that wait are made first.
    fn drop(&mut self) {
        if self.is_foreign() {
            self.core.catch_up(&self.span, |_, _| {}, |_, _| {});
        } else {
            self.core.catch_up(&self.span, apply, finish);
        }
    }
}

fn apply(span: &mut Span, note: &[u8]) {
    // What finds no room is lost with the note; the span's own counts say so.
    span.absorb(note);
}

fn finish(span: &mut Span, end: u64) {
    let end = Stamp::from_bits(end);
    match end.reading() {
        Reading::Wall(nanos) => span.finish_at(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)),
        _ => span.finish(end),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{Config, Engine, testing::finished};

    fn engine() -> Engine {
        let whole = Config::default();
        Engine::start(if cfg!(miri) { Config { memory_budget: 1 << 20, lanes: Some(2), ..whole } } else { whole })
            .unwrap()
    }

    #[test]
    fn end_at_the_first_moment_of_all_is_kept() {
        let engine = engine();
        let epoch = SystemTime::UNIX_EPOCH;
        let shared = engine.tracer("t").span("old").started_at(epoch).start().share();
        shared.end_at(epoch);
        assert_eq!(finished(&engine)[0].end, epoch);
    }

    /// A thread is stopped while it has the span; another one makes changes, and a third ends the span.
    #[test]
    fn changes_before_the_end_wait_for_a_stopped_thread() {
        const CHANGES: u32 = if cfg!(miri) { 40 } else { 10_000 };
        let engine = engine();
        let shared = engine.tracer("t").span("shared").start().share();
        let open = shared.inner.open.as_ref().unwrap();
        let lost = Misuse::ChangeLost.count();
        let hold = open.span.enter().unwrap();
        thread::scope(|scope| {
            let change = || (0..CHANGES).for_each(|index| shared.set(&format!("key {index}"), index));
            scope.spawn(change).join().unwrap();
            scope.spawn(|| shared.end());
        });
        assert!(!shared.is_recording());
        assert_eq!(finished(&engine).len(), 0, "the stopped thread has it");
        open.core.release(hold, 0, apply, finish);
        let span = finished(&engine).remove(0);
        assert_eq!(u32::try_from(span.attributes.len()).unwrap() + span.dropped_attributes, CHANGES);
        assert_eq!(Misuse::ChangeLost.count(), lost);
    }

    #[test]
    fn last_handle_makes_the_changes_that_were_left() {
        let engine = engine();
        let shared = engine.tracer("t").span("shared").start().share();
        let open = shared.inner.open.as_ref().unwrap();
        let hold = open.span.enter().unwrap();
        shared.set("key", 1);
        open.core.release(hold, 0, apply, finish);
        assert!(shared.is_recording());
        drop(shared);
        assert_eq!(finished(&engine).remove(0).attributes, [("key".to_owned(), 1.into())]);
    }
}
