//! The current span and context of a thread: guards, handles, and closures that carry a context elsewhere.

use std::{
    error::Error,
    fmt::{self, Display},
    marker::PhantomData,
    mem,
    ops::Deref,
    time::SystemTime,
};

use super::{
    annotate::changed_through,
    misuse::Misuse,
    shared::SharedSpan,
    span::Span,
    stack::{self, Held, Place},
};
use crate::{
    context::{AsParent, Context, SpanContext},
    record::{AttributeList, AttributeValue, Key, SpanId, Status, TraceId},
};

impl Context {
    /// What is current in this thread: empty where nothing is attached and no span is entered.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        stack::current()
    }

    /// As [`Context::current`], where something should be current: it is counted as [`Misuse::NothingToCapture`] if
    /// there is not.
    #[must_use]
    #[track_caller]
    pub fn capture() -> Self {
        let context = Self::current();
        if context.is_empty() {
            Misuse::NothingToCapture.happened();
        }
        context
    }

    /// Makes this context the current one of this thread, until the guard is dropped.
    #[inline]
    #[track_caller]
    pub fn attach(self) -> Attached {
        if self.span_context().is_remote()
            && stack::look(|current| current.is_valid() && !current.is_remote()) == Some(true)
        {
            Misuse::RemoteOverCurrent.happened();
        }
        Attached { place: stack::attach(self, Held::Nothing).ok(), here: PhantomData }
    }

    /// Calls `work` with this context as the current one. What `work` leaves attached goes when it returns.
    #[track_caller]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        let _within = Within(self.attach());
        work()
    }

    /// Makes a closure that calls `work` with this context as the current one, wherever it is called: in another
    /// thread, in a pool.
    ///
    /// ```
    /// # use spanring::{Config, Context, Engine, current_ids};
    /// # let engine = Engine::start(Config::default())?;
    /// # let tracer = engine.tracer("shop");
    /// tracer.in_span("order", |span| {
    ///     let here = span.context().trace_id();
    ///     let there = std::thread::spawn(Context::current().wrap(|| current_ids().unwrap().trace_id));
    ///     assert_eq!(there.join().unwrap(), here);
    /// });
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    pub fn wrap<R>(self, work: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.run(work)
    }

    /// As [`Context::wrap`] for a closure that is called for each of many items, as those of a parallel iterator are.
    pub fn wrap_each<T, R>(self, work: impl Fn(T) -> R) -> impl Fn(T) -> R {
        move |item| self.clone().run(|| work(item))
    }

    /// Has `hook` called after each attach and detach in any thread, with what is current then; for bridges to other
    /// libraries. There is one hook in a process; false when another was there first.
    ///
    /// It runs on the request path, at each poll of a future that is [in a span](crate::TraceFuture::in_span), too.
    pub fn on_switch(hook: fn(&Self)) -> bool {
        stack::set_hook(hook)
    }
}

/// Keeps a [`Context`], or a [`SharedSpan`], the current one of the thread until it is dropped.
///
/// Guards may be dropped in any order: what is on top stays current, and what is below becomes so afterwards. It is
/// counted as [`Misuse::DetachedOutOfOrder`] all the same. A guard that is leaked keeps its context attached until the
/// thread ends, or the closure or the future does that it was made in.
#[derive(Debug)]
#[must_use = "the context is the current one until the guard is dropped: bind it, as in `let guard = …`"]
pub struct Attached {
    place: Option<Place>,
    /// It belongs to the thread.
    here: PhantomData<*const ()>,
}

/// The context of a closure: what the closure leaves attached goes first, whether it returns or panics.
struct Within(Attached);

impl Drop for Within {
    #[inline]
    #[track_caller]
    fn drop(&mut self) {
        if let Some(place) = self.0.place {
            stack::end_above(place);
        }
    }
}

impl Drop for Attached {
    #[track_caller]
    fn drop(&mut self) {
        if let Some(place) = self.place {
            stack::detach(place);
        }
    }
}

/// A span that is entered: the current one of this thread until the guard is dropped, which ends the span.
#[derive(Debug)]
#[must_use = "the span ends when the guard is dropped: bind it, as in `let span = …`"]
pub struct Entered {
    current: CurrentSpan,
    /// The span, where the thread had no place for it.
    aside: Option<Span>,
}

impl Entered {
    /// Takes off what is attached on top, whose guards were leaked: they were made in what ends now.
    #[track_caller]
    pub(super) fn end_what_is_left(&self) {
        if let Some(place) = self.current.place {
            stack::end_above(place);
        }
    }

    /// Leaves the span without an end.
    #[track_caller]
    pub fn exit(mut self) -> Span {
        self.take()
    }

    #[track_caller]
    fn take(&mut self) -> Span {
        let left = self.current.place.take().and_then(stack::leave).and_then(|(context, held)| whole(context, held));
        // Where there is none, a change of the span is being made, and has left it: who makes the change ends it.
        left.or(self.aside.take()).unwrap_or_else(|| Span::new(None, 0, self.current.context.clone()))
    }
}

impl Deref for Entered {
    type Target = CurrentSpan;

    fn deref(&self) -> &CurrentSpan {
        &self.current
    }
}

impl Drop for Entered {
    #[track_caller]
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl AsParent for Entered {
    fn as_parent(&self) -> Option<&SpanContext> {
        Some(self.current.context())
    }
}

impl AsParent for Span {
    #[inline]
    fn as_parent(&self) -> Option<&SpanContext> {
        Some(self.context())
    }
}

impl Span {
    /// Makes this span the current one of this thread until the guard is dropped, which ends the span.
    ///
    /// ```
    /// # use spanring::{Config, Engine, current_span};
    /// # let engine = Engine::start(Config::default())?;
    /// # let tracer = engine.tracer("shop");
    /// let order = tracer.span("order").start().enter();
    /// order.set("order.items", 3);
    /// let payment = tracer.span("payment").start(); // a child of `order`
    /// # assert_eq!(payment.context().trace_id(), order.context().trace_id());
    /// current_span().event("paid"); // of `order`, from code that has no handle
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    #[track_caller]
    pub fn enter(self) -> Entered {
        let (body, identity) = self.part();
        let context = Context::current().with_span_context(identity.clone());
        let (place, aside) = match stack::attach(context, Held::Own(body)) {
            Ok(place) => (Some(place), None),
            Err((context, held)) => (None, whole(context, held)),
        };
        Entered { current: CurrentSpan { context: identity, place, here: PhantomData }, aside }
    }
}

/// The span that a frame held.
fn whole(context: Context, held: Held) -> Option<Span> {
    match held {
        Held::Own(body) => Some(Span::whole(body, context.part().0)),
        _ => None,
    }
}

impl SharedSpan {
    /// Makes this span the current one of this thread, until the guard is dropped, which does not end the span.
    #[track_caller]
    pub fn enter(&self) -> Attached {
        let context = Context::current().with_span_context(self.context().clone());
        Attached { place: stack::attach(context, Held::Shared(self.clone())).ok(), here: PhantomData }
    }
}

/// The span that was current when this handle was made, for changes from code that was not given it.
///
/// Each call looks for the span: while it is not in this thread, or once it has ended, a change is ignored and counted,
/// as [`Misuse::ChangedAfterEnd`]. Where the current context only has a span's identity, because the span is somewhere
/// else, it is [`Misuse::ChangedElsewhere`]: [share](Span::share) the span, and [enter](SharedSpan::enter) it there.
#[derive(Debug)]
pub struct CurrentSpan {
    context: SpanContext,
    /// `None` where nothing is current.
    place: Option<Place>,
    /// It belongs to the thread.
    here: PhantomData<*const ()>,
}

/// The span that is current in this thread; one that does not record, if there is none.
#[must_use]
pub fn current_span() -> CurrentSpan {
    let (context, place) = match stack::top() {
        Some((context, place)) => (context, Some(place)),
        None => (SpanContext::default(), None),
    };
    CurrentSpan { context, place, here: PhantomData }
}

/// What [`current_ids`] gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CurrentIds {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether it is sampled: only then the ids lead to something.
    pub is_sampled: bool,
}

impl Display for CurrentIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(f, "trace_id={trace_id} span_id={span_id} trace_flags={:02x}", u8::from(*is_sampled))
    }
}

/// The ids of the span that is current in this thread, for a line of a log or an exemplar.
#[inline]
#[must_use]
pub fn current_ids() -> Option<CurrentIds> {
    let ids = |span: &SpanContext| CurrentIds {
        trace_id: span.trace_id(),
        span_id: span.span_id(),
        is_sampled: span.is_sampled(),
    };
    stack::look(|span| span.is_valid().then(|| ids(span))).flatten()
}

/// A span that is out of its frame while a change is made. It goes back, or ends if its frame has gone.
struct Loan<'a> {
    place: Place,
    identity: &'a SpanContext,
    /// Without its identity, which no change looks at.
    span: Span,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let (body, _) = mem::replace(&mut self.span, Span::new(None, 0, SpanContext::default())).part();
        if let Some(body) = stack::give_back(self.place, body) {
            drop(Span::whole(body, self.identity.clone()));
        }
    }
}

impl CurrentSpan {
    /// As [`Span::context`].
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// As [`Span::is_recording`].
    #[must_use]
    pub fn is_recording(&self) -> bool {
        let again = || stack::is_recording(stack::place_of_span(&self.context)?);
        self.place.and_then(|place| stack::is_recording(place).or_else(again)).unwrap_or(false)
    }

    /// Makes a change on the span, if it is still here. The span is out of its frame meanwhile: the program's code that
    /// a change may run finds it lent.
    #[track_caller]
    pub(super) fn change_by(&self, change: impl FnOnce(&mut Span)) {
        let Some(mut place) = self.place else {
            if self.context.is_sampled() {
                Misuse::ChangedElsewhere.happened();
            }
            return;
        };
        let mut held = stack::borrow(place);
        if held.is_none()
            && let Some(other) = stack::place_of_span(&self.context)
        {
            place = other;
            held = stack::borrow(place);
        }
        match held {
            Some(Held::Own(body)) => {
                let span = Span::whole(body, SpanContext::default());
                change(&mut Loan { place, identity: &self.context, span }.span);
            }
            Some(Held::Shared(span)) => span.change_by(change),
            Some(Held::Lent) => Misuse::ChangedInItself.happened(),
            Some(Held::Nothing) if self.context.is_sampled() => Misuse::ChangedElsewhere.happened(),
            Some(Held::Nothing) => {}
            None => Misuse::ChangedAfterEnd.happened(),
        }
    }
}

changed_through!(CurrentSpan);
