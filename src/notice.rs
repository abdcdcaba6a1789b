//! The lines that anyone may say, once, where no worker is left to say them: straight to the standard error.

use crate::sync::{
    statics::{AtomicBool, Ordering::Relaxed},
    stderr,
};

/// Spans start or end, and nothing takes them any more.
pub(crate) const CLOSED: &str = "spanring: a span was started or ended after its engine was shut down or dropped; such \
    spans are lost, and counted as `closed`. Keep the `Engine` for as long as its tracers, and shut it down last.\n";

/// Spans come, and nothing takes them out.
pub(crate) const UNREAD: &str = "spanring: a ring is half full, and no span was taken out yet; once the memory is full \
    spans are lost, and counted as `lane_full`. Set `Config::export`, as `Config::from_env` does, or call \
    `Engine::drain`.\n";

/// Says that the process exits and loses spans.
pub(crate) fn at_exit(waiting: u64) {
    stderr::write_line(&format!(
        "spanring: the process exits, and {waiting} spans that wait are lost: drop the engine or call `Engine::shutdown` \
         before, or let `shut_down_at_exit` do it"
    ));
}

/// Says, once in a process, that an engine was dropped with spans that nobody took.
pub(crate) fn undrained(waiting: u64) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    // ORDERING: Relaxed. The flag alone is shared; of several threads one says it.
    if !IS_SAID.swap(true, Relaxed) {
        stderr::write_line(&format!(
            "spanring: an engine that exports nothing was dropped with {waiting} spans, and none was ever drained: set \
             `Config::export`, as `Config::from_env` does, or call `Engine::drain`"
        ));
    }
}

/// One line, which is said once.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    /// Set by the first thread that says it.
    is_said: AtomicBool,
}

impl Notice {
    /// Says it, unless it was said. It takes one system call, and neither allocates, locks nor waits for a thread of
    /// ours: threads that record come here, also in signal handlers.
    #[cold]
    pub(crate) fn say(&self, line: &'static str) {
        // ORDERING: Relaxed. The flag alone is shared; of several threads one says it.
        if !self.is_said.swap(true, Relaxed) {
            stderr::write(line.as_bytes());
        }
    }
}
