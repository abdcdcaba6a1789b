//! The engine's own work, on whichever thread it runs: what it does wrong ends nothing else, and a call on the engine
//! that comes from inside of it does not wait.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    /// Whether this thread is at the engine's work now, and so may be in the program's diagnostic sink.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at the engine's work now.
pub(super) fn is_at_work() -> bool {
    AT_WORK.get()
}

/// Does a piece of work; a panic becomes its text.
pub(super) fn at_work<R>(work: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    let was_at_work = AT_WORK.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    AT_WORK.set(was_at_work);
    result.unwrap_or_else(|panic| Err(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}
