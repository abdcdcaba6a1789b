//! What is attached in a thread: contexts, and the spans that are entered with them, one on top of the other.

use std::{
    cell::{Cell, RefCell},
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    misuse::Misuse,
    shared::SharedSpan,
    span::{Body, Span},
};
use crate::{
    context::{Context, SpanContext},
    sync::{
        once::SetForEver,
        statics::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            compiler_fence,
        },
    },
};

/// What is attached in this thread.
#[derive(Debug)]
struct Stack {
    /// How many frames there are: all that a start looks at where there are none.
    depth: Cell<usize>,
    /// Not dropped with the thread, so that the destructors of others find it: [`AtExit`] empties it.
    frames: RefCell<ManuallyDrop<Vec<Frame>>>,
    /// The serial number of the last frame. Zero in a thread that has had none.
    serial: Cell<u64>,
    /// The program's hook is being called.
    is_telling: Cell<bool>,
}

/// A context that is attached, and the span that is entered with it.
#[derive(Debug)]
pub(super) struct Frame {
    context: Context,
    held: Held,
    serial: u64,
    /// Its guard is gone, while others on top of it are still there.
    is_left: bool,
}

/// The span of a frame. Its identity is that of the context.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// The context has an identity alone.
    #[default]
    Nothing,
    Own(Body),
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

/// What the numbers of a thread's frames begin after: a future takes frames to other threads, where they are to be
/// found by their numbers, too.
static NUMBERS: AtomicU64 = AtomicU64::new(0);
/// Numbers of a thread: at ten nanoseconds each they last for three hours, and then run into those of another thread.
/// That is one of 2^24, and has to have left frames in a future that came here, and of the very same number.
const NUMBERS_OF_A_THREAD: u64 = 1 << 40;

thread_local! {
    static STACK: Stack = const {
        Stack {
            depth: Cell::new(0),
            frames: RefCell::new(ManuallyDrop::new(Vec::new())),
            serial: Cell::new(0),
            is_telling: Cell::new(false),
        }
    };
    static AT_EXIT: AtExit = const { AtExit };
}

/// Ends what is still attached when the thread ends.
struct AtExit;

/// Called after each attach and detach, with what is current then.
static SWITCHED: SetForEver<fn(&Context)> = SetForEver::new();

/// Gives `work` the frames; `None` in the middle of their use (a signal handler, an allocator that traces). No code of
/// the program runs in `work`.
#[inline(always)]
fn frames<R>(work: impl FnOnce(&Stack, &mut Vec<Frame>) -> R) -> Option<R> {
    STACK.with(|stack| {
        let mut frames = stack.frames.try_borrow_mut().ok()?;
        // ORDERING: SeqCst, for the compiler alone: a signal handler on this thread must find the cell borrowed for as
        // long as its content is being changed. No other thread ever looks at it.
        compiler_fence(SeqCst);
        let result = work(stack, &mut frames);
        stack.depth.set(frames.len());
        // ORDERING: SeqCst, for the compiler alone, as above.
        compiler_fence(SeqCst);
        Some(result)
    })
}

/// Attaches a context. Hands it back, with what is to be held, where the thread has no place for it.
#[inline]
#[track_caller]
pub(super) fn attach(context: Context, held: Held) -> Result<Place, (Context, Held)> {
    STACK.with(|stack| {
        // As `frames` does; apart, because here the context is either moved in or handed back.
        let Ok(mut frames) = stack.frames.try_borrow_mut() else {
            return Err((context, held));
        };
        if frames.len() == frames.capacity() {
            drop(frames);
            return attach_slowly(context, held);
        }
        // ORDERING: SeqCst, for the compiler alone, as in `frames`.
        compiler_fence(SeqCst);
        let place = Place { at: frames.len(), serial: stack.serial.get() + 1 };
        stack.serial.set(place.serial);
        frames.push(Frame { context, held, serial: place.serial, is_left: false });
        stack.depth.set(place.at + 1);
        // ORDERING: SeqCst, for the compiler alone, as in `frames`.
        compiler_fence(SeqCst);
        drop(frames);
        switched();
        Ok(place)
    })
}

/// Makes room for more frames first.
#[cold]
#[inline(never)]
#[track_caller]
fn attach_slowly(context: Context, held: Held) -> Result<Place, (Context, Held)> {
    let is_full = frames(|_, frames| frames.len() >= DEPTH_MAX).unwrap_or(true);
    if is_full {
        return Err(report(Misuse::TooManyAttached, context, held));
    }
    let is_ready = frames(|stack, frames| {
        // A thread that has emptied its stack at its end takes no more. The first look allocates: an allocator that
        // traces has to find the frames borrowed, because a second look meanwhile would end the process.
        let is_living = AT_EXIT.try_with(|_| ()).is_ok();
        if is_living {
            frames.reserve(DEPTH_USUAL);
        }
        if stack.serial.get() == 0 {
            // ORDERING: Relaxed. Each thread gets its own, in any order.
            stack.serial.set(NUMBERS.fetch_add(NUMBERS_OF_A_THREAD, Relaxed));
        }
        is_living
    });
    if is_ready == Some(true) { attach(context, held) } else { Err((context, held)) }
}

/// Reports a misuse on the way to what a frame had. That may panic: the span has ended then.
#[cold]
#[track_caller]
fn report(kind: Misuse, context: Context, held: Held) -> (Context, Held) {
    if kind.count_one() {
        Frame { context, held, serial: 0, is_left: true }.end();
        kind.panic();
    }
    (context, held)
}

/// Takes off a frame of which nobody needs anything.
#[inline]
#[track_caller]
pub(super) fn detach(place: Place) {
    let is_off = frames(|_, frames| {
        let at = frames.len().wrapping_sub(1);
        let is_plain = |frame: &Frame| frame.serial == place.serial && matches!(frame.held, Held::Nothing);
        // Dropped where it is: that runs no code of the program.
        let is_off = frames.get(at).is_some_and(|frame| is_plain(frame) && frame.context.is_plain());
        if is_off {
            frames.truncate(at);
        }
        is_off && !frames.last().is_some_and(|frame| frame.is_left)
    });
    if is_off == Some(true) { switched() } else { detach_slowly(place) }
}

#[cold]
#[inline(never)]
#[track_caller]
fn detach_slowly(place: Place) {
    end_left();
    drop(leave(place));
}

/// Takes the frame off. What it held is for the caller.
#[inline]
#[track_caller]
pub(super) fn leave(place: Place) -> Option<(Context, Held)> {
    let top = frames(|_, frames| {
        let frame = frames.pop_if(|frame| frame.serial == place.serial)?;
        Some((frame, frames.last().is_some_and(|frame| frame.is_left)))
    });
    let left = match top.flatten() {
        Some((frame, is_left_below)) => {
            if is_left_below {
                end_left();
            }
            Some((frame.context, frame.held))
        }
        None => leave_from_below(place),
    };
    switched();
    left
}

/// Takes off the frames on top whose guards are gone already.
#[cold]
fn end_left() {
    // Contexts have values of the program, which may do as they like when they are dropped: so nothing is borrowed.
    while frames(|_, frames| frames.pop_if(|frame| frame.is_left)).flatten().is_some() {}
}

/// Leaves a frame that others are on top of: its context stays for as long as they do.
#[cold]
#[track_caller]
fn leave_from_below(place: Place) -> Option<(Context, Held)> {
    let left = frames(|_, frames| {
        let at = find(frames, place)?;
        let (frame, above) = frames[at..].split_first_mut()?;
        let held = mem::take(&mut frame.held);
        frame.is_left = true;
        let is_child_open = above.iter().any(|frame| matches!(frame.held, Held::Own(_) | Held::Lent));
        Some((frame.context.clone(), held, is_child_open))
    });
    let (context, held, is_child_open) = left.flatten()?;
    let kind = match held {
        Held::Own(_) | Held::Lent if is_child_open => Misuse::ParentEndedFirst,
        _ => Misuse::DetachedOutOfOrder,
    };
    Some(report(kind, context, held))
}

#[inline]
fn find(frames: &[Frame], place: Place) -> Option<usize> {
    if frames.get(place.at).is_some_and(|frame| frame.serial == place.serial) {
        return Some(place.at);
    }
    frames.iter().position(|frame| frame.serial == place.serial)
}

impl Frame {
    /// Ends the span, if it is entered here.
    fn end(self) {
        if let Held::Own(body) = self.held {
            drop(Span::whole(body, self.context.part().0));
        }
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        let frames = frames(|_, frames| mem::take(frames)).unwrap_or_default();
        if !frames.is_empty() {
            let _ = Misuse::LeftAttached.count_one();
        }
        // From the top: children end before their parents. A value of the program that panics here would end the
        // process.
        for frame in frames.into_iter().rev() {
            let _ = catch_unwind(AssertUnwindSafe(|| frame.end()));
        }
    }
}

/// Has `hook` called after each switch; false when there is one already.
pub(super) fn set_hook(hook: fn(&Context)) -> bool {
    SWITCHED.set(Box::leak(Box::new(hook)))
}

/// Tells the program's hook what is current now.
#[inline]
fn switched() {
    if let Some(hook) = SWITCHED.get() {
        tell(*hook);
    }
}

#[cold]
#[inline(never)]
fn tell(hook: fn(&Context)) {
    // The hook's own switches are not told: one that attaches would be called for ever.
    if STACK.with(|stack| stack.is_telling.replace(true)) {
        return;
    }
    // Its panic would come out of a drop, or between a frame and its guard.
    let told = catch_unwind(|| hook(&current()));
    STACK.with(|stack| stack.is_telling.set(false));
    if told.is_err() {
        let _ = Misuse::HookPanicked.count_one();
    }
}

/// Ends all that is on top of the frame.
#[inline]
#[track_caller]
pub(super) fn end_above(place: Place) {
    Stash::above(place).end();
}

/// What a future leaves attached from one poll to the next: guards that are held while it waits.
#[derive(Debug, Default)]
pub(super) struct Stash(Vec<Frame>);

impl Stash {
    /// Takes what is on top of the frame; without an allocation if that is nothing.
    #[inline]
    pub(super) fn above(place: Place) -> Self {
        let is_top = frames(|_, frames| frames.last().is_none_or(|frame| frame.serial == place.serial));
        if is_top == Some(false) { Self::taken_above(place) } else { Self::default() }
    }

    #[cold]
    #[inline(never)]
    fn taken_above(place: Place) -> Self {
        let above = frames(|_, frames| Some(frames.split_off(find(frames, place)? + 1)));
        let stash = Self(above.flatten().unwrap_or_default());
        // The guard of the frame itself may have gone meanwhile: it was moved into the future.
        end_left();
        switched();
        stash
    }

    /// Attaches it again, on top of what is there. Its guards find it.
    #[inline]
    pub(super) fn put_back(&mut self) {
        if !self.0.is_empty() {
            frames(|_, frames| frames.append(&mut self.0));
            switched();
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends it: the guards were leaked.
    #[inline]
    #[track_caller]
    pub(super) fn end(mut self) {
        while let Some(frame) = self.0.pop() {
            let is_left = frame.is_left;
            frame.end();
            if !is_left {
                Misuse::DetachedOutOfOrder.happened();
            }
        }
    }
}

impl Drop for Stash {
    fn drop(&mut self) {
        while let Some(frame) = self.0.pop() {
            frame.end();
        }
    }
}

/// Whether anything is current: all that a start looks at where nothing is.
#[inline(always)]
pub(super) fn is_something() -> bool {
    STACK.with(|stack| stack.depth.get() > 0)
}

/// The context on top; an empty one where there is none.
#[inline]
pub(super) fn current() -> Context {
    frames(|_, frames| frames.last().map(|frame| frame.context.clone())).flatten().unwrap_or_default()
}

/// The place of the frame on top, if it has this context.
#[inline]
pub(super) fn place_of(context: &Context) -> Option<Place> {
    frames(|_, frames| {
        let frame = frames.last().filter(|frame| frame.context.is_same(context))?;
        Some(Place { at: frames.len() - 1, serial: frame.serial })
    })
    .flatten()
}

/// The identity of the span that is current, if there is one. A copy, so that the code of the program that runs during
/// a start may attach as well.
pub(super) fn parent() -> Option<SpanContext> {
    look(SpanContext::clone).filter(SpanContext::is_valid)
}

/// The identity of the span on top, and its place.
pub(super) fn top() -> Option<(SpanContext, Place)> {
    frames(|_, frames| {
        let frame = frames.last()?;
        Some((frame.context.span_context().clone(), Place { at: frames.len() - 1, serial: frame.serial }))
    })
    .flatten()
}

/// Looks at the identity of the span on top. No code of the program runs in `look`.
#[inline]
pub(super) fn look<R>(look: impl FnOnce(&SpanContext) -> R) -> Option<R> {
    if !is_something() {
        return None;
    }
    frames(|_, frames| frames.last().map(|frame| look(frame.context.span_context()))).flatten()
}

/// The place of a span that is in another one than before: a future takes its span off between its turns.
#[cold]
pub(super) fn place_of_span(span: &SpanContext) -> Option<Place> {
    frames(|_, frames| {
        let is_of_span = |frame: &Frame| frame.context.span_context().ids() == span.ids();
        let at = frames.iter().rposition(|frame| is_of_span(frame) && !matches!(frame.held, Held::Nothing))?;
        Some(Place { at, serial: frames[at].serial })
    })
    .flatten()
}

/// Whether the span of the frame records; `None` where there is no such frame any more.
pub(super) fn is_recording(place: Place) -> Option<bool> {
    let is_recording = |_: &Stack, frames: &mut Vec<Frame>| match &frames[find(frames, place)?].held {
        Held::Nothing => Some(false),
        Held::Own(body) => Some(body.is_recording()),
        Held::Lent => Some(true),
        Held::Shared(span) => Some(span.is_recording()),
    };
    frames(is_recording).flatten()
}

/// What a frame lends for a change: its span, which is out of it until it is given back; a handle, if it is shared.
/// `None` where there is no such frame any more.
#[inline]
pub(super) fn borrow(place: Place) -> Option<Held> {
    let borrow = |_: &Stack, frames: &mut Vec<Frame>| {
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
    frames(borrow).unwrap_or(Some(Held::Lent))
}

/// Gives back the span that a frame has lent, and hands it over where the frame has gone meanwhile.
#[inline]
pub(super) fn give_back(place: Place, body: Body) -> Option<Body> {
    let mut body = Some(body);
    frames(|_, frames| {
        let frame = find(frames, place).map(|at| &mut frames[at]);
        if let Some(frame) = frame.filter(|frame| matches!(frame.held, Held::Lent)) {
            frame.held = body.take().map_or(Held::Nothing, Held::Own);
        }
    });
    body
}
