//! The last spans of a process that is asked to end, panics, or exits: they are delivered first, within a deadline.

use std::{
    io, panic,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use super::{Engine, Side, exporting::Exporting};
use crate::{
    notice::{self, Leftover},
    report::Health,
    sync::{
        deadline::Deadline,
        exit,
        signal::{self, Handler, Signal},
    },
    trace::SpanLanes,
};

/// Flushes the engine at the first of these signals, and goes on recording. **This is the one for servers**, which end
/// by themselves: they stop accepting, finish the requests in flight, and call [`Engine::shutdown`] last.
///
/// A handler that the program has set for the signal runs at once, at this signal and at every later one; the flush
/// goes on meanwhile, on a thread of its own, `spanring-signal`. It has `deadline`, and delivers what had ended before
/// the signal, should the server be killed before it is done. A signal for which the program has no handler ends the
/// process after the flush, with a line on standard error if spans are lost by that, and a second one at once. Later
/// signals flush nothing: they reach the program's handler, and the shutdown delivers the rest.
///
/// A signal that was ignored when this was called, as by `nohup`, stays ignored. Child processes are not affected:
/// there a signal does what it did before.
///
/// # In Kubernetes
///
/// * `terminationGracePeriodSeconds` is at least the time that the server takes to finish its requests, plus the
///   deadline of the shutdown, plus a second: then comes `SIGKILL`, and what is left is lost without a line. The time
///   of a `preStop` hook counts too: the signal is sent after it.
/// * A process with the number 1, which the program is in most containers, is not ended by a signal that it does not
///   handle. A server handles `SIGTERM`; for a program that does not, run an init (`tini`, `docker run --init`, or
///   `shareProcessNamespace`).
/// * A shell as process 1 passes no signal on: start the program by `exec`.
///
/// The watch does not keep the engine alive. Call it once; a handler that the program sets later takes the signal away
/// from it, unless that handler calls the one before, as those of `signal-hook` and tokio do.
///
/// # Errors
///
/// `AlreadyExists` when there is a watch in this process, also one by [`shut_down_on_signals`]; `Unsupported` where
/// there are no signals; and the system's own when it refuses a thread or a pipe.
///
/// ```
/// # #[cfg(not(unix))]
/// # fn main() {}
/// # #[cfg(unix)]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::atomic::{AtomicBool, Ordering::Relaxed}, time::Duration};
/// use spanring::{Config, Engine, Signal};
///
/// static IS_ENDING: AtomicBool = AtomicBool::new(false);
///
/// extern "C" fn end(_: libc::c_int) {
///     IS_ENDING.store(true, Relaxed);
/// }
///
/// let engine = Engine::start(Config::default())?;
/// // The server's own handler first, here by libc; signal-hook or tokio do as well.
/// unsafe { libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t) };
/// spanring::flush_on_signals(&engine, &[Signal::Terminate], Duration::from_secs(2))?;
/// while !IS_ENDING.load(Relaxed) {
///     // Accept a request and serve it.
/// #   unsafe { libc::raise(libc::SIGTERM) };
/// }
/// // Finish the requests in flight, and then:
/// let receipt = engine.shutdown(Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
pub fn flush_on_signals(engine: &Engine, signals: &[Signal], deadline: Duration) -> io::Result<()> {
    let distant = Distant::from(engine);
    signal::at_first(signals, Handler::Meanwhile, move || distant.flush(deadline), tell_at_signal)
}

/// Shuts the engine down at the first of these signals, so that what has ended is delivered, and then lets the signal
/// do what it would have done without this: end the process, or run the handler that the program had set before.
///
/// For programs that have no end of their own, such as batch jobs. Recording stops at the signal: a server that
/// finishes its requests afterwards loses their spans (`closed`), and needs [`flush_on_signals`].
///
/// The signal's handler only wakes a thread, `spanring-signal`, which shuts down within `deadline`. Meanwhile the
/// program goes on, but records nothing more. A second signal ends the process at once. A signal that was ignored when
/// this was called, as by `nohup`, stays ignored. Child processes are not affected: there a signal does what it did
/// before.
///
/// A process with the number 1, as in a container, is not ended by a signal that it does not handle, and with this it
/// is not either: set a handler of your own before, or run an init.
///
/// The watch does not keep the engine alive. Call it once; a handler that the program sets later takes the signal away
/// from it.
///
/// # Errors
///
/// As for [`flush_on_signals`].
pub fn shut_down_on_signals(engine: &Engine, signals: &[Signal], deadline: Duration) -> io::Result<()> {
    let distant = Distant::from(engine);
    signal::at_first(signals, Handler::Afterwards, move || distant.shut_down(deadline), tell_at_signal)
}

/// Shuts the engine down when the process exits: by [`std::process::exit`], by C's `exit`, or when `main` returns. For
/// an engine in a static, which is never dropped.
///
/// The exit waits for it, `deadline` at most. It does not run when the process is ended by a signal, by `abort` or by
/// `_exit`. A child process shuts its own side of the engine down, if it has recorded anything. The hook does not keep
/// the engine alive.
///
/// # Errors
///
/// When the system takes no more such calls; `Unsupported` where there are none.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::OnceLock, time::Duration};
/// use spanring::{Config, Engine};
///
/// static ENGINE: OnceLock<Engine> = OnceLock::new();
///
/// let engine = Engine::start(Config::default())?;
/// # #[cfg(unix)]
/// spanring::shut_down_at_exit(&engine, Duration::from_secs(2))?;
/// let engine = ENGINE.get_or_init(|| engine);
/// # Ok(())
/// # }
/// ```
pub fn shut_down_at_exit(engine: &Engine, deadline: Duration) -> io::Result<()> {
    let distant = Distant::from(engine);
    exit::at_exit(move || distant.shut_down(deadline))
}

/// Engines that export, for the last look at the exit of the process. Those that are gone leave it at the next start.
static EXPORTING: Mutex<Vec<Distant>> = Mutex::new(Vec::new());

/// Has an exit of the process say how many spans of this engine it loses. It delivers none: an exit that waits for a
/// collector is the program's choice.
pub(super) fn tell_at_exit(engine: &Engine) {
    // Never waited for: in a child process a thread of the parent may seem to hold it. A line less is no loss.
    let Ok(mut engines) = EXPORTING.try_lock() else {
        return;
    };
    engines.retain(|engine| engine.lanes.strong_count() > 0);
    // The list has no room before the first engine, and keeps it after the last.
    if engines.capacity() > 0 || exit::at_exit(tell_waiting).is_ok() {
        engines.push(Distant::from(engine));
    }
}

fn tell_waiting() {
    // Spans that are open at an exit are as usual.
    let left = Leftover { open: 0, ..left().spans };
    if left != Leftover::default() {
        notice::at_exit(left);
    }
}

/// A signal is about to end the process.
fn tell_at_signal() {
    let Left { spans, why } = left();
    if spans != Leftover::default() {
        notice::at_signal(spans, why.as_deref());
    }
}

/// What the engines that are not shut down have left.
#[derive(Default)]
struct Left {
    spans: Leftover,
    /// Why it was not delivered, as far as that is known.
    why: Option<String>,
}

fn left() -> Left {
    let mut left = Left::default();
    let Ok(engines) = EXPORTING.try_lock() else {
        return left;
    };
    let reached = engines.iter().filter_map(Distant::reach);
    for (lanes, exporting) in reached.filter(|(lanes, _)| !lanes.owner().is_closed()) {
        let ledger = exporting.ledger(&lanes);
        let waiting = ledger.queued + ledger.in_flight;
        left.spans.waiting += waiting - ledger.unanswered;
        left.spans.unanswered += ledger.unanswered;
        left.spans.open += ledger.live;
        if let Health::Degraded(why) | Health::Down(why) = exporting.health(&lanes)
            && waiting > 0
        {
            left.why.get_or_insert(why);
        }
    }
    left
}

/// Flushes the engine at every panic, after the hook that was there before, so that what led to the panic is delivered
/// even if the process ends of it.
///
/// It flushes and does not shut down, because a panic that is caught must not end tracing. The thread that panics waits
/// for it, `deadline` at most; the longest that a panic may cost is the reason to keep it short. Spans that are open
/// end later, when the stack unwinds: an engine that is dropped at the end of `main` delivers those.
///
/// The hook does not keep the engine alive.
///
/// # Panics
///
/// In a thread that is panicking, where hooks cannot be set.
pub fn flush_on_panic(engine: &Engine, deadline: Duration) {
    let distant = Distant::from(engine);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        distant.flush(deadline);
    }));
}

/// An engine from afar. It never has a count of the engine itself: then the engine's drop would come here, on a thread
/// for which the program does not wait, when the program drops its own meanwhile.
struct Distant {
    lanes: Weak<SpanLanes>,
    exporting: Option<Weak<Exporting>>,
}

impl From<&Engine> for Distant {
    fn from(engine: &Engine) -> Self {
        let exporting = match &engine.side {
            Side::Manual(_) => None,
            Side::Exporting(exporting) => Some(Arc::downgrade(exporting)),
        };
        Self { lanes: Arc::downgrade(&engine.lanes), exporting }
    }
}

impl Distant {
    /// The receipt is not read, here or after a shutdown; the diagnostics tell of losses.
    fn flush(&self, deadline: Duration) {
        if let Some((lanes, exporting)) = self.reach() {
            exporting.supervisor(&lanes).flush(Deadline::after(deadline));
        }
    }

    fn shut_down(&self, deadline: Duration) {
        if let Some((lanes, exporting)) = self.reach() {
            exporting.supervisor(&lanes).shut_down(Deadline::after(deadline));
        } else if let (Some(lanes), None) = (self.lanes.upgrade(), &self.exporting) {
            lanes.owner().close();
        }
    }

    /// The export, unless the engine is gone, or this is a child process that has nothing to do with it.
    fn reach(&self) -> Option<(Arc<SpanLanes>, Arc<Exporting>)> {
        let lanes = self.lanes.upgrade().filter(|lanes| !lanes.needs_settling())?;
        Some((lanes, self.exporting.as_ref()?.upgrade()?))
    }
}
