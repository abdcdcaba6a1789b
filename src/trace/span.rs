//! A span while the program has it: mutations write wire bytes at once, the end moves them into a lane.

use std::{mem, sync::Arc, thread, time::SystemTime};

use super::{
    lanes::{Shared, SpanBlock, SpanLanes},
    misuse::Misuse,
    thread_state,
};
use crate::{
    clock::unix_nanos,
    context::SpanContext,
    lane::{Offer, Share, SpillRefusal, Tally},
    record::{
        AttributeList, AttributeValue, Draft, Finish, Full, Ids, Key, Landed, LinkTarget, NO_ATTRIBUTES, RESERVE,
        Reading, Short, SpanLimits, Stamp, Status, TEXT_LEN_MAX, Value,
    },
};

/// A span. It may move between threads, and ends when it is dropped; see [`Span::share`] for use by several threads at
/// once.
///
/// A span that does not record (not sampled, no memory left, engine shut down) still carries its context, and calls on
/// it are cheap and do nothing. A span may outlive its engine: it keeps its context, and is counted as lost when it
/// ends.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped: bind it, as in `let span = …`"]
pub struct Span {
    /// The memory of an open span that records. `None` once it has ended.
    block: Option<SpanBlock>,
    /// The process that the span began in; zero for a span that never recorded.
    generation: u32,
    /// Whether it began while a panic unwound its thread, whose end is then no sign of another.
    is_unwinding: bool,
    context: SpanContext,
}

/// An open span without its identity, as a thread's stack holds it beside its context.
#[derive(Debug)]
pub(super) struct Body {
    block: Option<SpanBlock>,
    generation: u32,
    is_unwinding: bool,
}

impl Body {
    /// Whether there is anything to change.
    pub(super) fn is_recording(&self) -> bool {
        self.block.is_some()
    }
}

impl Span {
    /// The span without its identity, and the identity.
    #[inline]
    pub(super) fn part(mut self) -> (Body, SpanContext) {
        let (generation, is_unwinding) = (self.generation, self.is_unwinding);
        (Body { block: self.block.take(), generation, is_unwinding }, mem::take(&mut self.context))
    }

    /// The inverse of [`Span::part`].
    #[inline]
    pub(super) fn whole(body: Body, context: SpanContext) -> Self {
        let Body { block, generation, is_unwinding } = body;
        Self { block, generation, is_unwinding, context }
    }

    #[inline]
    pub(super) fn new(block: Option<SpanBlock>, generation: u32, context: SpanContext) -> Self {
        let is_unwinding = block.is_some() && thread::panicking();
        Self { block, generation, is_unwinding, context }
    }

    /// A span whose name is empty or long, or whose trace has a state. Misuse may panic: by then this is a span, which
    /// ends.
    #[cold]
    #[inline(never)]
    pub(super) fn begun_slowly(name: &str, block: SpanBlock, generation: u32, context: SpanContext) -> Self {
        let mut span = Self::new(Some(block), generation, context);
        span.begin_slowly(name);
        span
    }

    /// Writes the name, and the trace state where there is one: in a larger block if need be, and where none is left,
    /// as much of the name as fits. Misuse is reported last: it may panic, and the span ends with a name.
    fn begin_slowly(&mut self, name: &str) {
        const FITS_FIRST_BLOCK: usize = 256;
        let Some(block) = &mut self.block else {
            return;
        };
        let recorded = if name.is_empty() { UNNAMED } else { name };
        let mut is_cut = recorded.len() > TEXT_LEN_MAX;
        if change(block, |draft, image, _| draft.rename(image, recorded)).is_err() {
            is_cut = true;
            let end = (0..=FITS_FIRST_BLOCK).rev().find(|&end| recorded.is_char_boundary(end)).unwrap_or(0);
            // A first block has room for this.
            let _ = change(block, |draft, image, _| draft.rename(image, &recorded[..end]));
        }
        let state = self.context.trace_state().as_str();
        let has_state = state.is_empty() || change(block, |draft, image, _| draft.trace_state(image, state)).is_ok();
        if name.is_empty() {
            self.misused(Misuse::EmptyName);
        }
        if is_cut {
            self.misused(Misuse::TextCut);
        }
        if !has_state {
            self.misused(Misuse::TextCut);
        }
    }

    /// Replaces the start time that was taken at the start.
    pub(super) fn set_start(&mut self, start: Stamp) {
        self.write(|draft, _, _| {
            draft.set_start(start);
            Ok(())
        });
    }

    /// Sets an attribute. If the key is already set, the new value replaces the old.
    #[inline]
    pub fn set<'a, V: AttributeValue>(&mut self, key: impl Into<Key<'a>>, value: V) {
        if !V::IS_AT_HAND && self.block.is_none() {
            return;
        }
        let (name, hash) = key.into().parts();
        // The kind is known where this is compiled, so one of these calls is all that is left.
        value.with(|value| match value {
            Value::Str(text) => self.set_fast(name, hash, text),
            Value::Int(number) => self.set_fast(name, hash, number),
            Value::Bool(truth) => self.set_fast(name, hash, truth),
            Value::Double(number) => self.set_fast(name, hash, number),
            other => self.set_slowly(name, hash, other),
        });
    }

    /// The common case first: the span records, the key is new, the value is short, and the block has room.
    #[inline(never)]
    fn set_fast<'a, V: Short + Into<Value<'a>>>(&mut self, name: &str, hash: u32, value: V) {
        if let Some(block) = &mut self.block {
            let (draft, image, owner) = block.open();
            if draft.attribute_fast(image, owner.short_limits, Key::from_parts(name, hash), value) {
                return;
            }
        }
        self.set_slowly(name, hash, value);
    }

    /// Every other case. The value comes in registers, as it came to the fast way, which therefore saves none of them.
    #[cold]
    #[inline(never)]
    fn set_slowly<'a>(&mut self, name: &str, hash: u32, value: impl Into<Value<'a>>) {
        if self.generation == 0 {
            return;
        }
        let (key, value) = (Key::from_parts(name, hash), value.into());
        match self.write(|draft, image, limits| draft.attribute(image, limits, key, value)) {
            Some(Ok(Landed::EmptyKey)) => self.misused(Misuse::EmptyKey),
            Some(Err(Full { .. })) => self.count_dropped(Draft::drop_attribute),
            _ => {}
        }
    }

    /// Sets several attributes.
    pub fn set_all<'a, K, V>(&mut self, attributes: impl IntoIterator<Item = (K, V)>)
    where
        K: Into<Key<'a>>,
        V: AttributeValue,
    {
        attributes.into_iter().for_each(|(key, value)| self.set(key, value));
    }

    /// Adds an event that happens now.
    #[inline]
    #[track_caller]
    pub fn event(&mut self, name: &str) {
        self.event_with(name, NO_ATTRIBUTES);
    }

    /// Adds an event that happens now, with attributes.
    ///
    /// ```
    /// # use spanring::{Config, Engine, Value};
    /// # let engine = Engine::start(Config::default())?;
    /// # let mut span = engine.tracer("doc").span("work").start();
    /// span.event_with("cache.miss", [("cache.key", "cart-17")]);
    /// span.event_with("rejected", [("attempt", Value::from(3)), ("reason", "full".into())]);
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn event_with<'a>(&mut self, name: &str, attributes: impl AttributeList<'a>) {
        let Some(block) = &self.block else {
            return;
        };
        let now = block.owner().clock.now();
        self.add_event(name, now, attributes.pairs());
    }

    /// Adds an event that happened at `time`, which may be outside the span.
    #[track_caller]
    pub fn event_at<'a>(&mut self, name: &str, time: SystemTime, attributes: impl AttributeList<'a>) {
        if self.block.is_none() {
            return;
        }
        self.add_event(name, Stamp::wall(unix_nanos(time)), attributes.pairs());
    }

    #[track_caller]
    fn add_event<'a>(&mut self, name: &str, at: Stamp, attributes: impl AttributeList<'a> + Clone) {
        let name = self.uncut(self.named(name));
        let added = self.write(|draft, image, limits| draft.event(image, limits, at, name, attributes.clone()));
        if let Some(Err(Full { .. })) = added {
            self.count_dropped(Draft::drop_event);
        }
    }

    /// Adds a link to another span. Without valid ids and a trace state it is ignored.
    #[track_caller]
    pub fn link(&mut self, target: &SpanContext) {
        self.link_with(target, NO_ATTRIBUTES);
    }

    /// Adds a link with attributes to another span. Without valid ids, attributes and a trace state it is ignored.
    #[track_caller]
    pub fn link_with<'a>(&mut self, target: &SpanContext, attributes: impl AttributeList<'a>) {
        if self.block.is_none() {
            return;
        }
        let attributes = attributes.pairs();
        let says_something =
            target.is_valid() || !target.trace_state().is_empty() || attributes.clone().next().is_some();
        if !says_something {
            return self.misused(Misuse::InvalidLink);
        }
        let target = LinkTarget {
            ids: Ids { trace: target.trace_id(), span: target.span_id() },
            trace_state: target.trace_state().as_str(),
            trace_flags: target.trace_flags(),
            is_remote: target.is_remote(),
        };
        let added = self.write(|draft, image, limits| draft.link(image, limits, target, attributes.clone()));
        if let Some(Err(Full { .. })) = added {
            self.count_dropped(Draft::drop_link);
        }
    }

    /// Sets the status. Ok overrides Error, Error overrides Unset, and the last of several errors counts.
    #[track_caller]
    pub fn status(&mut self, status: Status<'_>) {
        if self.block.is_none() {
            return;
        }
        let status = match status {
            Status::Error(text) => Status::Error(self.uncut(text)),
            other => other,
        };
        if let Some(Err(Full { .. })) = self.write(|draft, image, _| draft.status(image, status)) {
            // The code finds room where the text does not.
            self.write(|draft, image, _| draft.status(image, Status::Error("")));
            self.misused(Misuse::TextCut);
        }
    }

    /// Replaces the name. The sampling decision does not change.
    #[track_caller]
    pub fn rename(&mut self, name: &str) {
        if self.block.is_none() {
            return;
        }
        let name = self.uncut(self.named(name));
        if let Some(Err(Full { .. })) = self.write(|draft, image, _| draft.rename(image, name)) {
            self.misused(Misuse::TextCut);
        }
    }

    /// The span's context, which its end does not change.
    #[inline]
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Whether the span records and has not ended; only then do calls have an effect.
    #[inline]
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.block.is_some()
    }

    /// Ends the span now.
    #[inline]
    pub fn end(mut self) {
        // The end time comes first: what follows is our cost, not the program's.
        if let Some(block) = &self.block {
            self.finish(block.owner().clock.now());
        }
    }

    /// Ends the span as of `time`.
    #[track_caller]
    pub fn end_at(mut self, time: SystemTime) {
        self.finish_at(time);
    }

    #[track_caller]
    pub(super) fn finish_at(&mut self, time: SystemTime) {
        let Some(block) = &self.block else {
            return;
        };
        let mut end = unix_nanos(time);
        if let Reading::Wall(start) = block.scratch().start().reading()
            && end < start
        {
            block.owner().misuses().happened(Misuse::EndBeforeStart);
            end = start;
        }
        self.finish(Stamp::wall(end));
    }

    /// Ends a span that is open when it is dropped. Not inlined, so that the drop of one that does not record is a look
    /// at two fields.
    #[inline(never)]
    fn end_open(&mut self) {
        if let Some(block) = &self.block {
            let now = block.owner().clock.now();
            if thread::panicking() {
                self.mark_panic();
            }
            self.finish(now);
        }
    }

    /// Fails the span of a scope that a panic leaves, unless the program has said how it went.
    #[cold]
    fn mark_panic(&mut self) {
        let is_silent = self.block.as_ref().is_some_and(|block| !block.scratch().has_status());
        if is_silent && !self.is_unwinding {
            self.status(Status::Error("panicked"));
        }
    }

    /// The name as it is recorded.
    #[inline]
    #[track_caller]
    fn named<'n>(&self, name: &'n str) -> &'n str {
        if name.is_empty() {
            self.misused(Misuse::EmptyName);
            return UNNAMED;
        }
        name
    }

    /// Counts a name or a text that will be cut.
    #[track_caller]
    fn uncut<'t>(&self, text: &'t str) -> &'t str {
        if text.len() > TEXT_LEN_MAX {
            self.misused(Misuse::TextCut);
        }
        text
    }

    /// Counts a misuse of an open span.
    #[cold]
    #[track_caller]
    fn misused(&self, kind: Misuse) {
        if let Some(block) = &self.block {
            block.owner().misuses().happened(kind);
        }
    }

    /// Counts a change that no block is large enough for.
    #[cold]
    fn count_dropped(&mut self, drop_one: impl FnOnce(&mut Draft)) {
        if let Some(block) = &mut self.block {
            drop_one(block.open().0);
        }
    }

    /// Runs a change on the open span, in a larger block when it asks for one. `None` where there is nothing to change.
    #[track_caller]
    fn write<R>(
        &mut self,
        write: impl FnMut(&mut Draft, &mut [u8], &SpanLimits) -> Result<R, Full>,
    ) -> Option<Result<R, Full>> {
        self.block.as_mut().map(|block| change(block, write))
    }

    /// The engine of a span that records.
    pub(super) fn lanes(&self) -> Option<Arc<SpanLanes>> {
        self.block.as_ref().and_then(|block| block.lanes().hold())
    }

    /// Finishes a note in its block; the block and the length of the note.
    pub(super) fn into_note(mut self) -> Option<(SpanBlock, usize)> {
        let mut block = self.block.take()?;
        let (draft, image, _) = block.open();
        let len = draft.seal(image);
        draft.finish_in_place(Finish { trace: (0, 0), span: 0, end: Stamp::EPOCH }, image);
        Some((block, len))
    }

    /// Takes over the change of a note.
    pub(super) fn absorb(&mut self, note: &[u8]) {
        if let Some(Err(Full { .. })) = self.write(|draft, image, limits| draft.absorb(image, limits, note)) {
            let is_cut = self.write(|draft, image, _| Ok(draft.drop_note(image, note)));
            if is_cut == Some(Ok(true)) {
                self.misused(Misuse::TextCut);
            }
        }
    }

    /// Ends the span: its bytes go to a lane, its block goes home, and one counter says what became of it.
    #[inline(never)]
    pub(super) fn finish(&mut self, end: Stamp) {
        let Some(block) = self.block.take() else {
            return;
        };
        if block.lanes().generation() != self.generation {
            // Begun before a fork: written off when the child settled, and the parent's own copy lives on there.
            return give_back(block);
        }
        let (generation, context) = (self.generation, &self.context);
        thread_state::with(|state| match state {
            Some(state) => match deliver(block, generation, context, end, &state.lane) {
                Ok(block) => state.lane.put_own(block),
                Err(block) => deliver_slowly(block, context, end, &mut state.lane),
            },
            // In a signal handler that interrupted this thread in here: the way that needs no state of its own.
            None => spill(block, context, end, None),
        });
    }
}

/// Runs a change on an open span's block, and on a larger one when it asks for that.
fn change<R>(
    block: &mut SpanBlock,
    mut write: impl FnMut(&mut Draft, &mut [u8], &SpanLimits) -> Result<R, Full>,
) -> Result<R, Full> {
    loop {
        let (draft, image, owner) = block.open();
        let full = match write(draft, image, &owner.limits) {
            Err(full) => full,
            done => return done,
        };
        let image_len = draft.image_len();
        let Some(larger) = block.grown(image_len, full.need.saturating_add(RESERVE)) else {
            return Err(full);
        };
        give_back(mem::replace(block, larger));
    }
}

/// Moves a finished span into the thread's own ring and counts it. The block comes back, as an error if it still has
/// the span.
#[inline(always)]
fn deliver(
    mut block: SpanBlock,
    generation: u32,
    context: &SpanContext,
    end: Stamp,
    share: &Share<Shared, Draft>,
) -> Result<SpanBlock, SpanBlock> {
    let (draft, image, _) = block.open();
    let len = draft.seal(image);
    let Some(home) = share.at_home(block.lanes()) else {
        return Err(block);
    };
    let Some(claim) = home.ring().enter(generation).ok().and_then(|lease| lease.claim_at_once(len)) else {
        return Err(block);
    };
    claim.publish(|record| {
        block.scratch().finish(block.image(), context.finish(end), record);
        // Counted before the record is published: a reader of the record finds it counted.
        home.seat().count(Tally::Queued);
    });
    Ok(block)
}

/// Delivers a span that did not get into the thread's own ring, or is of another engine than the one that the thread
/// turned to last.
#[cold]
#[inline(never)]
fn deliver_slowly(mut block: SpanBlock, context: &SpanContext, end: Stamp, share: &mut Share<Shared, Draft>) {
    let (draft, image, _) = block.open();
    let len = draft.seal(image);
    let lanes = block.lanes();
    let teller = share.teller(lanes);
    let offer = share.offer(lanes, len, |record| {
        block.scratch().finish(block.image(), context.finish(end), record);
        // As in `deliver`.
        teller.count(Tally::Queued);
    });
    match offer {
        Offer::Queued { tries: 1 } => {}
        Offer::Queued { .. } => teller.count(Tally::Sibling),
        Offer::Full => teller.count(Tally::LaneFull),
        Offer::Closed => {
            teller.count(Tally::EndedClosed);
            lanes.owner().tell_closed();
        }
        Offer::Busy => return spill(block, context, end, Some(share)),
    }
    share.put(block);
}

/// Sends a span off with its block, because no ring could be entered.
#[cold]
#[inline(never)]
fn spill(mut block: SpanBlock, context: &SpanContext, end: Stamp, share: Option<&Share<Shared, Draft>>) {
    let (draft, image, _) = block.open();
    let len = draft.seal(image);
    draft.finish_in_place(context.finish(end), image);
    // The reader may free the block, and with it the engine, before the span is counted.
    let Some(lanes) = block.lanes().hold() else {
        return;
    };
    let tally = match lanes.spill(block, len) {
        Ok(()) => Tally::Spilled,
        Err(SpillRefusal::Full) => Tally::SpillFull,
        Err(SpillRefusal::Closed) => {
            lanes.owner().tell_closed();
            Tally::EndedClosed
        }
    };
    let teller = share.map_or_else(|| lanes.seats().shared(), |share| share.teller(&lanes));
    teller.count(tally);
    lanes.let_go();
}

/// Takes a block home to the thread's magazine, or to the pool.
fn give_back(block: SpanBlock) {
    thread_state::with(|state| match state {
        Some(state) => state.lane.put(block),
        None => drop(block),
    });
}

impl Drop for Span {
    #[inline(always)]
    fn drop(&mut self) {
        if self.block.is_some() {
            self.end_open();
        }
    }
}

/// What an empty name is recorded as, which strict receivers would refuse (PB-03).
const UNNAMED: &str = "unnamed";
