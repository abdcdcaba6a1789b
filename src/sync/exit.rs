//! Calls at the end of the process, as by `exit` or a return from `main`.

use std::io;

/// Makes `call` run when the process exits, before those that were asked for earlier.
///
/// # Errors
///
/// When the system takes no more such calls, or has none.
pub(crate) fn at_exit(call: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    imp::at_exit(Box::new(call))
}

#[cfg(all(unix, not(loom)))]
mod imp {
    use std::{
        io,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use crate::sync::once::SetOnce;

    type Call = Box<dyn Fn() + Send + Sync>;

    /// A call, and the one that was asked for after it. They are few, and stay.
    struct Node {
        call: Call,
        next: SetOnce<Self>,
    }

    static FIRST: SetOnce<Node> = SetOnce::new();

    pub(super) fn at_exit(call: Call) -> io::Result<()> {
        let mut mine = Node { call, next: SetOnce::new() };
        let mut place = &FIRST;
        // SAFETY: the function may be called by any thread that exits, and lives as long as the program.
        if place.get().is_none() && unsafe { libc::atexit(run) } != 0 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        while let Err(refused) = place.set(mine) {
            mine = refused;
            place = &place.get().expect("it refused, so it is set").next;
        }
        Ok(())
    }

    /// It may be registered twice, by threads that were first at the same time: what the calls do twice is theirs to
    /// bear.
    extern "C" fn run() {
        let mut calls = vec![];
        let mut place = &FIRST;
        while let Some(node) = place.get() {
            calls.push(&node.call);
            place = &node.next;
        }
        for call in calls.into_iter().rev() {
            // A panic has said what it has to say, and must not keep the process from its end.
            let _ = catch_unwind(AssertUnwindSafe(call));
        }
    }
}

#[cfg(not(all(unix, not(loom))))]
mod imp {
    use std::io;

    pub(super) fn at_exit(_: Box<dyn Fn() + Send + Sync>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
