//! The last batch of a process that is told to end, or that panics: delivered before the end, by a deadline.

use std::{io, panic, sync::Arc, time::Duration};

use super::Engine;
use crate::sync::signal::{self, Signal};

/// Shuts the engine down at the first of these signals, so that what has ended is delivered, and then lets the signal do what
/// it would have done without this: end the process, or run the handler that the program had set before.
///
/// The signal's handler only wakes a thread, `spanring-signal`, which shuts down within `deadline`. Meanwhile the program goes
/// on, but records nothing more. A second signal ends the process at once. A signal that is ignored at this call, as by
/// `nohup`, stays ignored. Child processes have nothing of this: there a signal does what it did before.
///
/// A process with the number 1, as in a container, is not ended by a signal that it does not handle, and with this it is not
/// either: set a handler of your own before.
///
/// The watch does not keep the engine alive. Call it once; a handler that the program sets later takes the signal away from it.
///
/// # Errors
///
/// `AlreadyExists` when there is a watch in this process, `Unsupported` where there are no signals, and the system's own when
/// it refuses a thread or a pipe.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use spanring::{Config, Engine, Signal};
///
/// let engine = Arc::new(Engine::start(Config::default())?);
/// # #[cfg(unix)]
/// spanring::shut_down_on_signals(&engine, &[Signal::Terminate, Signal::Interrupt], Duration::from_secs(2))?;
/// # Ok(())
/// # }
/// ```
pub fn shut_down_on_signals(engine: &Arc<Engine>, signals: &[Signal], deadline: Duration) -> io::Result<()> {
    let engine = Arc::downgrade(engine);
    signal::at_first(signals, move || {
        if let Some(engine) = engine.upgrade() {
            // Nobody is left to read the receipt; the diagnostics tell of losses.
            let _ = engine.shutdown(deadline);
        }
    })
}

/// Flushes the engine at every panic, after the hook that was there before, so that what led to the panic is delivered even
/// if the process ends of it.
///
/// It flushes and does not shut down, because a panic that is caught must not end tracing. The thread that panics waits for
/// it, `deadline` at most; the longest that a panic may cost is the reason to keep it short. Spans that are open end later,
/// when the stack unwinds: an engine that is dropped at the end of `main` delivers those.
///
/// The hook does not keep the engine alive.
///
/// # Panics
///
/// In a thread that is panicking, where hooks cannot be set.
pub fn flush_on_panic(engine: &Arc<Engine>, deadline: Duration) {
    let engine = Arc::downgrade(engine);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some(engine) = engine.upgrade() {
            let _ = engine.flush(deadline);
        }
    }));
}
