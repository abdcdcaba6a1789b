//! What is attached in a thread: contexts, and the spans that are entered with them, one on top of the other.

use std::{
    cell::{Cell, RefCell},
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{misuse::Misuse, shared::SharedSpan, span::Span};
use crate::{
    context::{Context, SpanContext},
    sync::{
        once::SetOnce,
        statics::{Ordering::SeqCst, compiler_fence},
    },
};

/// What is attached in this thread.
#[derive(Debug)]
struct Stack {
    /// How many frames there are: all that a start looks at where there are none.
    depth: Cell<usize>,
    /// Not dropped with the thread, so that the destructors of others find it: [`AtExit`] empties it.
    frames: RefCell<ManuallyDrop<Vec<Frame>>>,
    /// The serial number of the last frame.
    serial: Cell<u64>,
}

/// A context that is attached, and the span that is entered with it.
#[derive(Debug)]
struct Frame {
    serial: u64,
    context: Context,
    held: Held,
    /// Its guard is gone, while others on top of it are still there.
    is_left: bool,
}

/// The span of a frame.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// The context has an identity alone.
    #[default]
    Nothing,
    Own(Span),
    /// A change of the span is being made, by code that may ask for it.
    Lent,
    Shared(SharedSpan),
}

/// Where a frame is. Its number finds it again when frames below it have gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: usize,
    serial: u64,
}

/// Most frames of a thread: guards that are leaked in a loop end here.
const DEPTH_MAX: usize = 4096;
/// Frames that a thread makes room for at first.
const DEPTH_USUAL: usize = 16;

thread_local! {
    static STACK: Stack = const {
        Stack { depth: Cell::new(0), frames: RefCell::new(ManuallyDrop::new(Vec::new())), serial: Cell::new(0) }
    };
    static AT_EXIT: AtExit = const { AtExit };
}

/// Ends what is still attached when the thread ends.
struct AtExit;

/// Called after each attach and detach, with what is current then.
static SWITCHED: SetOnce<fn(&Context)> = SetOnce::new();

impl Stack {
    /// Gives `work` the frames; `None` in the middle of their use (a signal handler, an allocator that traces). No code
    /// of the program runs in `work`.
    fn frames<R>(&self, work: impl FnOnce(&mut Vec<Frame>) -> R) -> Option<R> {
        let mut frames = self.frames.try_borrow_mut().ok()?;
        // ORDERING: SeqCst, for the compiler alone: a signal handler on this thread must find the cell borrowed for as
        // long as its content is being changed. No other thread ever looks at it.
        compiler_fence(SeqCst);
        let result = work(&mut frames);
        self.depth.set(frames.len());
        // ORDERING: SeqCst, for the compiler alone, as above.
        compiler_fence(SeqCst);
        Some(result)
    }

    /// Puts a frame on top; hands its parts back where there is no place for it.
    fn push(&self, context: Context, held: Held) -> Result<Place, (Context, Held)> {
        let mut parts = Some((context, held));
        let mut is_full = false;
        let place = self.frames(|frames| {
            is_full = frames.len() >= DEPTH_MAX;
            if is_full {
                return None;
            }
            if frames.capacity() == 0 {
                // A thread that has emptied it takes no more.
                AT_EXIT.try_with(|_| ()).ok()?;
                frames.reserve(DEPTH_USUAL);
            }
            let (context, held) = parts.take()?;
            let place = Place { at: frames.len(), serial: self.serial.get() + 1 };
            self.serial.set(place.serial);
            frames.push(Frame { serial: place.serial, context, held, is_left: false });
            Some(place)
        });
        if let Some(place) = place.flatten() {
            return Ok(place);
        }
        if is_full {
            Misuse::TooManyAttached.happened();
        }
        Err(parts.unwrap_or_default())
    }

    /// Takes the frame off, and with it those on top whose guards are gone already. What it held is for the caller.
    #[track_caller]
    fn leave(&self, place: Place) -> Held {
        let left = self.frames(|frames| {
            let at = find(frames, place)?;
            if at + 1 == frames.len() {
                return frames.pop().map(|frame| (frame.held, Some(frame.context), None));
            }
            let frame = &mut frames[at];
            frame.is_left = true;
            let held = mem::replace(&mut frame.held, Held::Nothing);
            let is_child_open = frames[at + 1..].iter().any(|frame| matches!(frame.held, Held::Own(_) | Held::Lent));
            let is_parent = !matches!(held, Held::Nothing | Held::Shared(_));
            Some((held, None, Some(is_parent && is_child_open)))
        });
        // Contexts have values of the program, which may do as they like when they are dropped: so nothing is borrowed.
        let Some((held, _context, out_of_order)) = left.flatten() else {
            return Held::Nothing;
        };
        match out_of_order {
            None => while self.frames(|frames| frames.pop_if(|frame| frame.is_left)).flatten().is_some() {},
            Some(true) => Misuse::ParentEndedFirst.happened(),
            Some(false) => Misuse::DetachedOutOfOrder.happened(),
        }
        held
    }
}

fn find(frames: &[Frame], place: Place) -> Option<usize> {
    if frames.get(place.at).is_some_and(|frame| frame.serial == place.serial) {
        return Some(place.at);
    }
    frames.iter().position(|frame| frame.serial == place.serial)
}

impl Drop for AtExit {
    fn drop(&mut self) {
        let frames = STACK.with(|stack| stack.frames(mem::take)).unwrap_or_default();
        if frames.iter().any(|frame| !frame.is_left) {
            let _ = Misuse::LeftAttached.count_one();
        }
        // From the top: children end before their parents. A value of the program that panics here would end the
        // process.
        for frame in frames.into_iter().rev() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(frame)));
        }
    }
}

/// Has `hook` called after each switch; false when there is one already.
pub(super) fn set_hook(hook: fn(&Context)) -> bool {
    SWITCHED.set(hook).is_ok()
}

/// Tells the program's hook what is current now.
#[inline]
fn switched() {
    if let Some(hook) = SWITCHED.get() {
        hook(&current());
    }
}

/// Ends all that is on top of the frame.
#[track_caller]
pub(super) fn end_above(place: Place) {
    for frame in Stash::above(place).0.into_iter().rev() {
        if !frame.is_left {
            Misuse::DetachedOutOfOrder.happened();
        }
    }
}

/// What a future leaves attached from one poll to the next: guards that are held while it waits.
#[derive(Debug, Default)]
pub(super) struct Stash(Vec<Frame>);

impl Stash {
    /// Takes what is on top of the frame; without an allocation if that is nothing.
    pub(super) fn above(place: Place) -> Self {
        let above = |frames: &mut Vec<Frame>| {
            let at = find(frames, place)? + 1;
            (at < frames.len()).then(|| frames.split_off(at))
        };
        Self(STACK.with(|stack| stack.frames(above)).flatten().unwrap_or_default())
    }

    /// Attaches it again, on top of what is there. Its guards find it.
    pub(super) fn put_back(&mut self) {
        if !self.0.is_empty() {
            STACK.with(|stack| stack.frames(|frames| frames.append(&mut self.0)));
        }
    }
}

/// Attaches, for as long as the guard lives.
#[track_caller]
pub(super) fn attach(context: Context, held: Held) -> Result<Place, (Context, Held)> {
    let place = STACK.with(|stack| stack.push(context, held))?;
    switched();
    Ok(place)
}

#[track_caller]
pub(super) fn leave(place: Place) -> Held {
    let held = STACK.with(|stack| stack.leave(place));
    switched();
    held
}

/// Whether anything is current: all that a start looks at where nothing is.
#[inline(always)]
pub(super) fn is_something() -> bool {
    STACK.with(|stack| stack.depth.get() > 0)
}

/// The identity of the span that is current, if there is one. A copy, so that the code of the program that runs during
/// a start may attach as well.
pub(super) fn parent() -> Option<SpanContext> {
    let top = |frames: &mut Vec<Frame>| frames.last().map(|frame| frame.context.span_context().clone());
    STACK.with(|stack| stack.frames(top)).flatten().filter(SpanContext::is_valid)
}

/// The context on top; an empty one where there is none.
pub(super) fn current() -> Context {
    STACK
        .with(|stack| stack.frames(|frames| frames.last().map(|frame| frame.context.clone())))
        .flatten()
        .unwrap_or_default()
}

/// The identity of the span on top, and its place.
pub(super) fn top() -> Option<(SpanContext, Place)> {
    let top = |frames: &mut Vec<Frame>| {
        let frame = frames.last()?;
        Some((frame.context.span_context().clone(), Place { at: frames.len() - 1, serial: frame.serial }))
    };
    STACK.with(|stack| stack.frames(top)).flatten()
}

/// Looks at the identity of the span on top. No code of the program runs in `look`.
#[inline]
pub(super) fn look<R>(look: impl FnOnce(&SpanContext) -> R) -> Option<R> {
    let top = |frames: &mut Vec<Frame>| frames.last().map(|frame| look(frame.context.span_context()));
    if is_something() { STACK.with(|stack| stack.frames(top)).flatten() } else { None }
}

/// Whether the span of the frame records.
pub(super) fn is_recording(place: Place) -> bool {
    let is_recording = |frames: &mut Vec<Frame>| match &frames[find(frames, place)?].held {
        Held::Nothing => Some(false),
        Held::Own(span) => Some(span.is_recording()),
        Held::Lent => Some(true),
        Held::Shared(span) => Some(span.is_recording()),
    };
    STACK.with(|stack| stack.frames(is_recording)).flatten().unwrap_or(false)
}

/// What a frame lends for a change: its span, which is out of it until the loan is over; a handle, if it is shared.
/// `None` where there is no such frame any more.
pub(super) fn borrow(place: Place) -> Option<Held> {
    let borrow = |frames: &mut Vec<Frame>| {
        let at = find(frames, place)?;
        let held = &mut frames[at].held;
        Some(match held {
            Held::Own(_) => mem::replace(held, Held::Lent),
            Held::Shared(span) => Held::Shared(span.clone()),
            Held::Lent => Held::Lent,
            Held::Nothing => Held::Nothing,
        })
    };
    // In the middle of a use of the frames, as in the middle of a change.
    STACK.with(|stack| stack.frames(borrow)).unwrap_or(Some(Held::Lent))
}

/// Gives back the span that a frame has lent, and hands it over where the frame has gone meanwhile.
pub(super) fn give_back(place: Place, span: Span) -> Option<Span> {
    let mut span = Some(span);
    STACK.with(|stack| {
        stack.frames(|frames| {
            let frame = find(frames, place).map(|at| &mut frames[at]);
            if let Some(frame) = frame.filter(|frame| matches!(frame.held, Held::Lent)) {
                frame.held = span.take().map_or(Held::Nothing, Held::Own);
            }
        })
    });
    span
}
