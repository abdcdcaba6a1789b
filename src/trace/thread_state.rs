//! What each thread has for itself: its share of the lanes, and its random ids.

use std::{cell::RefCell, mem::ManuallyDrop, panic::Location, sync::Arc};

use super::{
    ids::RandomIds,
    lanes::{Shared, SpanLanes},
    misuse::{self, Misuse},
};
use crate::{
    lane,
    record::Draft,
    sync::{
        statics::{Ordering::SeqCst, compiler_fence},
        thread,
    },
};

/// A thread's private state, for the engine that it recorded to last.
#[derive(Debug)]
pub(super) struct ThreadState {
    pub(super) lane: lane::Share<Shared, Draft>,
    /// Without a seed until the thread first turns to an engine; with another one in a child process.
    pub(super) random: RandomIds,
    /// The process that this state belongs to, with [`UNREAD`] until it has a reader.
    pub(super) generation: u32,
    /// Whether a sampler of the program runs: a span that it starts does not come to a sampler again.
    pub(super) is_sampling: bool,
}

thread_local! {
    // Never dropped by Rust, whose registration of destructors allocates: `release` runs at the thread's end instead.
    // So the state can also be used by the destructors of others, and by an allocator that traces.
    static STATE: RefCell<ManuallyDrop<ThreadState>> = const { RefCell::new(ManuallyDrop::new(ThreadState::new())) };
}

/// Gives `work` the thread's state, ready for `lanes`. `None` when the thread is in the middle of using it already (a
/// signal handler, an allocator that traces), or when another thread is settling a child process: then there is none to
/// use.
pub(super) fn ready<R>(lanes: &Arc<SpanLanes>, work: impl FnOnce(&mut ThreadState) -> R) -> Option<R> {
    with(|state| {
        let state = state?;
        let is_ready = state.generation == lanes.generation() && state.lane.serves(lanes);
        if is_ready || state.turn_to(lanes) { Some(work(state)) } else { None }
    })
}

/// Gives `work` the thread's state where it is ready for `lanes` already, with a seat of its own: the common case of
/// [`ready`].
#[inline(always)]
pub(super) fn at_home<R>(lanes: &SpanLanes, work: impl FnOnce(&mut ThreadState) -> Option<R>) -> Option<R> {
    with(|state| {
        let state = state?;
        let is_home = state.generation == lanes.generation() && state.lane.at_home(lanes).is_some();
        if is_home { work(state) } else { None }
    })
}

/// Gives `work` the thread's state as it is, for whatever engine; `None` when the thread is in the middle of using it.
#[inline(always)]
pub(super) fn with<R>(work: impl FnOnce(Option<&mut ThreadState>) -> R) -> R {
    STATE.with(|state| {
        let mut state = state.try_borrow_mut().ok();
        // ORDERING: SeqCst, for the compiler alone: a signal handler on this thread must find the cell borrowed for as
        // long as its content is being changed. No other thread ever looks at it.
        compiler_fence(SeqCst);
        let result = work(state.as_mut().map(|state| &mut ***state));
        // ORDERING: SeqCst, for the compiler alone, as above.
        compiler_fence(SeqCst);
        result
    })
}

impl Misuse {
    /// Counts a misuse that no engine is known for: for the one that the thread recorded to last.
    #[cold]
    #[track_caller]
    pub(super) fn happened(self) {
        if self.count_one() {
            self.panic();
        }
    }

    /// What [`Engine::panic_on_misuse`](crate::Engine::panic_on_misuse) asks for.
    #[cold]
    #[track_caller]
    pub(super) fn panic(self) -> ! {
        panic!("spanring misuse: {self:?}");
    }

    /// As [`Misuse::happened`] where nobody would catch a panic; whether it was to.
    #[cold]
    #[track_caller]
    pub(super) fn count_one(self) -> bool {
        let place = Location::caller();
        with(|state| {
            let lanes = state.and_then(|state| state.lane.served());
            misuse::count(self, lanes.map(|lanes| lanes.owner().misuses()), place)
        })
    }
}

/// Beside a generation: the process has no reader yet. Generations stay below it.
const UNREAD: u32 = 1 << 31;

impl ThreadState {
    const fn new() -> Self {
        Self { lane: lane::Share::new(), random: RandomIds::unseeded(), generation: 0, is_sampling: false }
    }

    /// Turns to another engine, or to a new process; false while another thread settles it.
    #[cold]
    fn turn_to(&mut self, lanes: &Arc<SpanLanes>) -> bool {
        if !lanes.settle() {
            return false;
        }
        let here = lanes.generation();
        if self.generation & !UNREAD != here {
            self.random = lanes.owner().seeds.generator(here);
        }
        if !self.lane.serves(lanes) {
            self.lane.bind(lanes);
            thread::at_exit(release);
        }
        // In a child process whose export cannot be started here, each start comes back until one can.
        self.generation = if lanes.alarm().call_reader() { here } else { here | UNREAD };
        true
    }
}

/// Gives back what the ending thread has.
fn release() {
    with(|state| state.map(|state| state.lane.release()));
}
