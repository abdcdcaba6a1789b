//! A span while the program has it: mutations write wire bytes at once, the end moves them into a lane.

use std::{sync::Arc, time::SystemTime};

use super::{
    context::SpanContext,
    local,
    misuse::Misuse,
    recorder::{Core, Recorder},
    shared::SharedSpan,
    tracer::named,
};
use crate::{
    clock::unix_nanos,
    lane::{Block, Local, Offer, SeatId, SpillRefusal, Tally},
    record::{
        Draft, Finish, Full, Ids, Key, Landed, LinkTarget, RESERVE, Reading, SpanId, SpanLimits, Stamp, Status,
        TEXT_LEN_MAX, Value,
    },
    sync::cpu,
};

/// One span. It may be moved to other threads, and ends when it is dropped; see [`Span::share`] for use by several at once.
///
/// Where it does not record (not sampled, no memory left, engine shut down) it carries its context all the same, and every
/// call is a cheap no-op.
#[derive(Debug)]
pub struct Span {
    /// The memory of an open span that records. `None` once it has ended.
    block: Option<Block<Recorder>>,
    /// `None` for a span that never recorded.
    draft: Option<Draft>,
    /// The process that the span began in.
    generation: u32,
    context: SpanContext,
}

/// Another span that a span points to, with attributes of the relation.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The other span.
    pub target: &'a SpanContext,
    /// Attributes of the link.
    pub attributes: &'a [(Key<'a>, Value<'a>)],
}

impl Span {
    #[inline]
    pub(super) fn not_recording(context: SpanContext) -> Self {
        Self { block: None, draft: None, generation: 0, context }
    }

    #[inline]
    pub(super) fn recording(block: Block<Recorder>, draft: Draft, context: SpanContext, generation: u32) -> Self {
        Self { block: Some(block), draft: Some(draft), generation, context }
    }

    /// Writes who the parent is, `None` for a root, and the trace state that came with it.
    #[inline]
    pub(super) fn set_parent(&mut self, parent: Option<&SpanContext>) {
        if let Some(draft) = &mut self.draft {
            let (id, is_remote) = parent.map_or((SpanId::NONE, false), |parent| (parent.span_id(), parent.is_remote()));
            draft.set_parent(id, is_remote, self.context.trace_flags());
        }
        if !self.context.trace_state().is_empty() {
            let state = self.context.trace_state().clone();
            self.write(|draft, image, _| draft.trace_state(image, state.as_str()));
        }
    }

    /// Sets an attribute; a key that is there takes the new value.
    #[inline]
    pub fn set<'a>(&mut self, key: impl Into<Key<'a>>, value: impl Into<Value<'a>>) {
        let (key, value) = (key.into(), value.into());
        // The common case first: the span records, and its block has room.
        if let (Some(block), Some(draft)) = (&mut self.block, &mut self.draft) {
            let (image, owner) = block.open();
            match draft.attribute(image, &owner.limits, key, value) {
                Ok(Landed::Added | Landed::Replaced | Landed::Dropped) => return,
                Ok(Landed::EmptyKey) => return Misuse::EmptyKey.happened(),
                Err(_) => {}
            }
        }
        self.set_slowly(key, value);
    }

    #[cold]
    fn set_slowly(&mut self, key: Key<'_>, value: Value<'_>) {
        if let Some(Err(Full { .. })) = self.write(|draft, image, limits| draft.attribute(image, limits, key, value)) {
            self.draft.iter_mut().for_each(Draft::drop_attribute);
        }
    }

    /// Sets several attributes.
    pub fn set_all<'a, K, V>(&mut self, attributes: impl IntoIterator<Item = (K, V)>)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
    {
        attributes.into_iter().for_each(|(key, value)| self.set(key, value));
    }

    /// Adds an event that happens now.
    #[inline]
    pub fn event<'a, K, V, I>(&mut self, name: &str, attributes: I)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = (K, V), IntoIter: Clone>,
    {
        let Some(block) = &self.block else {
            return self.ignore();
        };
        let now = block.owner().clock.now();
        self.add_event(name, now, attributes.into_iter());
    }

    /// Adds an event that happened at `time`, which may lie outside of the span.
    pub fn event_at<'a, K, V, I>(&mut self, name: &str, time: SystemTime, attributes: I)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = (K, V), IntoIter: Clone>,
    {
        self.add_event(name, Stamp::wall(unix_nanos(time)), attributes.into_iter());
    }

    fn add_event<'a, K, V>(&mut self, name: &str, at: Stamp, attributes: impl Iterator<Item = (K, V)> + Clone)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
    {
        let name = uncut(named(name));
        let added = self.write(|draft, image, limits| draft.event(image, limits, at, name, attributes.clone()));
        if let Some(Err(Full { .. })) = added {
            self.draft.iter_mut().for_each(Draft::drop_event);
        }
    }

    /// Adds a link to another span. One that leads nowhere and says nothing is ignored.
    pub fn link<'a, K, V, I>(&mut self, target: &SpanContext, attributes: I)
    where
        K: Into<Key<'a>>,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = (K, V), IntoIter: Clone>,
    {
        let attributes = attributes.into_iter();
        let says_something =
            target.is_valid() || !target.trace_state().is_empty() || attributes.clone().next().is_some();
        if !says_something {
            return Misuse::InvalidLink.happened();
        }
        let target = LinkTarget {
            ids: Ids { trace: target.trace_id(), span: target.span_id() },
            trace_state: target.trace_state().as_str(),
            trace_flags: target.trace_flags(),
            is_remote: target.is_remote(),
        };
        let added = self.write(|draft, image, limits| draft.link(image, limits, target, attributes.clone()));
        if let Some(Err(Full { .. })) = added {
            self.draft.iter_mut().for_each(Draft::drop_link);
        }
    }

    /// Sets the status: Ok beats Error beats Unset, and of several errors the last counts.
    pub fn status(&mut self, status: Status<'_>) {
        let status = match status {
            Status::Error(text) => Status::Error(uncut(text)),
            other => other,
        };
        if let Some(Err(Full { .. })) = self.write(|draft, image, _| draft.status(image, status)) {
            // The code finds room where the text does not.
            Misuse::TextCut.happened();
            self.write(|draft, image, _| draft.status(image, Status::Error("")));
        }
    }

    /// Replaces the name. The sampling decision stands.
    pub fn rename(&mut self, name: &str) {
        let name = uncut(named(name));
        if let Some(Err(Full { .. })) = self.write(|draft, image, _| draft.rename(image, name)) {
            Misuse::TextCut.happened();
        }
    }

    /// The span's context: the same before and after its end.
    #[inline]
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Whether calls on this span have an effect: it records and has not ended.
    #[inline]
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.block.is_some()
    }

    /// Ends the span now. Later calls are ignored and counted.
    #[inline]
    pub fn end(&mut self) {
        match &self.block {
            // The end time comes first: what follows is our cost, not the program's.
            Some(block) => self.finish(block.owner().clock.now()),
            None => self.end_again(),
        }
    }

    /// Ends the span as of `time`. Later calls are ignored and counted.
    pub fn end_at(&mut self, time: SystemTime) {
        let Some(draft) = self.draft.as_ref().filter(|_| self.block.is_some()) else {
            return self.end_again();
        };
        let mut end = unix_nanos(time);
        if let Reading::Wall(start) = draft.start().reading()
            && end < start
        {
            Misuse::EndBeforeStart.happened();
            end = start;
        }
        self.finish(Stamp::wall(end));
    }

    /// Makes the span usable by several threads at once, at the cost of one allocation now and of a copy for each call.
    #[must_use]
    pub fn share(self) -> SharedSpan {
        SharedSpan::new(self)
    }

    #[cold]
    fn end_again(&self) {
        if self.draft.is_some() {
            Misuse::EndedTwice.happened();
        }
    }

    #[cold]
    fn ignore(&self) {
        if self.draft.is_some() {
            Misuse::ChangedAfterEnd.happened();
        }
    }

    /// Runs a change on the open span, in a larger block when it asks for one. `None` where there is nothing to change.
    pub(super) fn write<R>(
        &mut self,
        mut change: impl FnMut(&mut Draft, &mut [u8], &SpanLimits) -> Result<R, Full>,
    ) -> Option<Result<R, Full>> {
        let (Some(block), Some(draft)) = (&mut self.block, &mut self.draft) else {
            self.ignore();
            return None;
        };
        loop {
            let (image, owner) = block.open();
            let full = match change(draft, image, &owner.limits) {
                Err(full) => full,
                done => return Some(done),
            };
            let Some(larger) = block.grown(draft.image_len(), full.need + RESERVE) else {
                return Some(Err(full));
            };
            let old = std::mem::replace(block, larger);
            give_back(old);
        }
    }

    /// The engine of a span that records.
    pub(super) fn core(&self) -> Option<Arc<Core>> {
        self.block.as_ref().and_then(|block| block.lanes().hold())
    }

    /// Finishes a note in its block; the block and the length of the note.
    pub(super) fn into_note(mut self, finish: Finish) -> Option<(Block<Recorder>, usize)> {
        let (mut block, draft) = self.block.take().zip(self.draft.as_ref())?;
        draft.finish_in_place(finish, block.open().0);
        Some((block, draft.record_len()))
    }

    /// Takes over the change of a note.
    pub(super) fn absorb(&mut self, note: &[u8]) {
        if let Some(Err(Full { .. })) = self.write(|draft, image, limits| draft.absorb(image, limits, note)) {
            Misuse::ChangeLost.happened();
        }
    }

    /// Ends the span: its bytes go to a lane, its block goes home, and one counter says what became of it.
    #[inline]
    pub(super) fn finish(&mut self, end: Stamp) {
        let (Some(block), Some(draft)) = (self.block.take(), &self.draft) else {
            return;
        };
        if block.lanes().generation() != self.generation {
            // Begun before a fork: written off when the child settled, and the parent's own copy lives on there.
            return give_back(block);
        }
        let finish = Finish { ids: Ids { trace: self.context.trace_id(), span: self.context.span_id() }, end };
        let mut block = Some(block);
        let done = local::borrow(|local| {
            let block = block.take()?;
            let has_seat = local.lane.serves(block.lanes());
            let rest = deliver(block, draft, finish, has_seat.then_some(&local.lane));
            rest.map(|block| local.lane.put(block))
        });
        if done.is_none()
            && let Some(block) = block
        {
            drop(deliver(block, draft, finish, None));
        }
    }
}

/// Moves a finished span into a lane and counts what became of it; the block comes back unless it left with the span.
#[inline]
fn deliver(
    block: Block<Recorder>,
    draft: &Draft,
    finish: Finish,
    seat: Option<&Local<Recorder>>,
) -> Option<Block<Recorder>> {
    let core = block.lanes();
    let image = block.image();
    let offer = core.offer(cpu::hint(), draft.record_len(), |record| {
        draft.finish(image, finish, record);
        // Counted before the record is published: who reads the record finds it counted.
        count(core, seat, Tally::Queued);
    });
    match offer {
        Offer::Queued { tries: 1 } => {}
        Offer::Queued { .. } => count(core, seat, Tally::Sibling),
        Offer::Full => count(core, seat, Tally::LaneFull),
        Offer::Closed => count(core, seat, Tally::EndedClosed),
        Offer::Busy => {
            spill(block, draft, finish, seat);
            return None;
        }
    }
    Some(block)
}

/// Sends a span off with its block, because no ring could be entered.
#[cold]
fn spill(mut block: Block<Recorder>, draft: &Draft, finish: Finish, seat: Option<&Local<Recorder>>) {
    let len = draft.record_len();
    draft.finish_in_place(finish, block.open().0);
    // The reader may free the block, and with it the engine, before the span is counted.
    let Some(core) = block.lanes().hold() else {
        return;
    };
    let tally = match core.spill(block, len) {
        Ok(()) => Tally::Spilled,
        Err(SpillRefusal::Full) => Tally::SpillFull,
        Err(SpillRefusal::Closed) => Tally::EndedClosed,
    };
    count(&core, seat, tally);
}

#[inline]
fn count(core: &Core, seat: Option<&Local<Recorder>>, tally: Tally) {
    match seat {
        Some(local) => local.add(tally),
        None => core.seats().add(SeatId::Shared, tally, 1),
    }
}

/// Takes a block home to the thread's magazine, or to the pool.
fn give_back(block: Block<Recorder>) {
    let mut block = Some(block);
    let _ = local::borrow(|local| block.take().map(|block| local.lane.put(block)));
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(block) = &self.block {
            self.finish(block.owner().clock.now());
        }
    }
}

/// Says when a name or a text will be cut.
fn uncut(text: &str) -> &str {
    if text.len() > TEXT_LEN_MAX {
        Misuse::TextCut.happened();
    }
    text
}
