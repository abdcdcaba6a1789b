//! The lines that anyone may say, once, where no worker is left to say them: straight to standard error, if that has
//! room for them.

use crate::sync::{
    statics::{AtomicBool, Ordering::Relaxed},
    stderr,
};

/// Spans start or end, and nothing takes them any more.
pub(crate) const CLOSED: &str = "spanring: a span was started or ended after its engine was shut down or dropped; such \
    spans are lost, and counted as `closed`. Keep the `Engine` for as long as its tracers, and shut it down last.\n";

/// A global tracer was taken before there was an engine.
pub(crate) const EARLY: &str = "spanring: `spanring::tracer` was called before `spanring::init`; the spans of that tracer \
    are not recorded, and counted in `spanring::early_spans`. Call `init` first, and take tracers after it.\n";

/// Spans come, and nothing takes them out.
pub(crate) const UNREAD: &str = "spanring: a ring is half full, and no span was taken out yet; once the memory is full \
    spans are lost, and counted as `lane_full`. Set `Config::export`, as `Config::from_env` does, or call \
    `Engine::drain`.\n";

/// A sampler of the program does not do its work.
pub(crate) const SAMPLER: &str = "spanring: a sampler has panicked, or has started a span itself; such spans are sampled \
    as their parents are, and counted as misuse.\n";

/// Spans that a process leaves when it ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Leftover {
    /// They have ended, and the collector does not have them.
    pub waiting: u64,
    /// They were sent without an answer yet.
    pub unanswered: u64,
    /// They have not ended.
    pub open: u64,
}

impl Leftover {
    /// What becomes of them: `2 spans that wait are lost and 1 span is unconfirmed`.
    fn fate(self) -> String {
        let Self { waiting, unanswered, open } = self;
        let verb = if waiting + open == 1 { "is" } else { "are" };
        let waiting = (waiting > 0).then(|| counted(waiting, "span that waits", "spans that wait"));
        let open = (open > 0).then(|| counted(open, "span that is open", "spans that are open"));
        let lost = waiting.into_iter().chain(open).collect::<Vec<_>>().join(" and ");
        let lost = (!lost.is_empty()).then(|| format!("{lost} {verb} lost"));
        let unanswered = (unanswered > 0).then(|| counted(unanswered, "span is unconfirmed", "spans are unconfirmed"));
        lost.into_iter().chain(unanswered).collect::<Vec<_>>().join(" and ")
    }
}

/// Says that the process exits and leaves spans.
pub(crate) fn at_exit(left: Leftover) {
    let _ = stderr::try_write_line(&format!(
        "spanring: the process exits, and {}: drop the engine or call `Engine::shutdown` before, or let \
         `shut_down_at_exit` do it",
        left.fate()
    ));
}

/// Says that a signal ends the process, which leaves these spans, and why they were not delivered, if that is known.
pub(crate) fn at_signal(left: Leftover, why: Option<&str>) {
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    let _ = stderr::try_write_line(&format!(
        "spanring: a signal ends the process, and {}{why}: give the signal's flush more time, or handle the signal, end \
         all spans and call `Engine::shutdown`",
        left.fate()
    ));
}

/// A number, and the words for one or for several.
pub(crate) fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// Says, once in a process, that an engine was dropped with spans that nobody took.
pub(crate) fn undrained(waiting: u64) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    // ORDERING: Relaxed. The flag alone is shared; of several threads one says it.
    if !IS_SAID.swap(true, Relaxed) {
        let _ = stderr::try_write_line(&format!(
            "spanring: an engine that exports nothing was dropped with {}, and none was ever drained: set \
             `Config::export`, as `Config::from_env` does, or call `Engine::drain`",
            counted(waiting, "span", "spans")
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
    pub(crate) const fn new() -> Self {
        Self { is_said: AtomicBool::new(false) }
    }

    /// Says it, unless it was said. It takes one system call, and neither allocates, locks nor waits for a thread of
    /// ours: threads that record come here, also in signal handlers.
    #[cold]
    pub(crate) fn say(&self, line: &'static str) {
        // ORDERING: Relaxed. The flag alone is shared; of several threads one says it.
        if !self.is_said.swap(true, Relaxed) {
            let _ = stderr::try_write(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftover_spans_are_lost_or_unconfirmed_in_one_clause() {
        for (waiting, unanswered, open, fate) in [
            (1, 0, 0, "1 span that waits is lost"),
            (2, 0, 1, "2 spans that wait and 1 span that is open are lost"),
            (0, 1, 0, "1 span is unconfirmed"),
            (2, 3, 0, "2 spans that wait are lost and 3 spans are unconfirmed"),
            (0, 3, 2, "2 spans that are open are lost and 3 spans are unconfirmed"),
        ] {
            assert_eq!(Leftover { waiting, unanswered, open }.fate(), fate);
        }
    }
}
