//! What each thread has for itself: its share of the lanes, and its random ids.

use std::{cell::RefCell, mem::ManuallyDrop, sync::Arc};

use super::{
    ids::RandomIds,
    lanes::{Core, Recorder},
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
pub(super) struct Local {
    pub(super) lane: lane::Local<Recorder, Draft>,
    /// Unseeded in a new thread, and again in a child process.
    pub(super) random: RandomIds,
    /// The process that this state belongs to.
    pub(super) generation: u32,
}

thread_local! {
    // Never dropped by Rust, whose registration of destructors allocates: `release` runs at the thread's end instead. So
    // the state can also be used by the destructors of others, and by an allocator that traces.
    static LOCAL: RefCell<ManuallyDrop<Local>> =
        const { RefCell::new(ManuallyDrop::new(Local { lane: lane::Local::new(), random: RandomIds::unseeded(), generation: 0 })) };
}

/// Gives `work` the thread's state, ready for `core`. `None` when the thread is in the middle of using it already (a signal
/// handler, an allocator that traces), or when another thread is settling a child process: then there is none to use.
pub(super) fn ready<R>(core: &Arc<Core>, work: impl FnOnce(&mut Local) -> R) -> Option<R> {
    with(|local| {
        let local = local?;
        let is_ready = local.generation == core.generation() && local.lane.serves(core);
        if is_ready || local.turn_to(core) { Some(work(local)) } else { None }
    })
}

/// Gives `work` the thread's state where it is ready for `core` already, with a seat of its own: the common case of [`ready`].
#[inline(always)]
pub(super) fn at_home<R>(core: &Core, work: impl FnOnce(&mut Local) -> Option<R>) -> Option<R> {
    with(|local| {
        let local = local?;
        let is_home = local.generation == core.generation() && local.lane.at_home(core).is_some();
        if is_home { work(local) } else { None }
    })
}

/// Gives `work` the thread's state as it is, for whatever engine; `None` when the thread is in the middle of using it.
#[inline(always)]
pub(super) fn with<R>(work: impl FnOnce(Option<&mut Local>) -> R) -> R {
    LOCAL.with(|local| {
        let mut local = local.try_borrow_mut().ok();
        // ORDERING: SeqCst, for the compiler alone: a signal handler on this thread must find the cell borrowed for as long
        // as its content is being changed. No other thread ever looks at it.
        compiler_fence(SeqCst);
        let result = work(local.as_mut().map(|local| &mut ***local));
        // ORDERING: SeqCst, for the compiler alone, as above.
        compiler_fence(SeqCst);
        result
    })
}

impl Local {
    /// Turns to another engine, or to a new process; false while another thread settles it.
    #[cold]
    fn turn_to(&mut self, core: &Arc<Core>) -> bool {
        if !core.settle() {
            return false;
        }
        let here = core.generation();
        if self.generation != here {
            self.random = RandomIds::unseeded();
        }
        if !self.lane.serves(core) {
            self.lane.bind(core);
            thread::at_exit(release);
        }
        self.generation = here;
        true
    }
}

/// Gives back what the ending thread has.
fn release() {
    with(|local| local.map(|local| local.lane.release()));
}
