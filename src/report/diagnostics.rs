//! What the engine reports about itself: its health, and one line for each change of it, to a sink that the program
//! chooses.

use std::{fmt, sync::Arc, time::Duration};

use crate::{notice::counted, sync::ticks};

/// State of the export.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Health {
    /// Nothing was sent yet.
    #[default]
    Starting,
    /// The collector took what it was sent last.
    Healthy,
    /// The collector answers, but not as it should, or the worker was restarted, so that spans may be lost; or the
    /// newest files with certificates cannot be used, so that spans will be once the old ones expire. Says why.
    Degraded(String),
    /// Nothing can be delivered now: the collector cannot be reached, or the engine has shut down. Says why.
    Down(String),
}

/// One thing that the engine has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What it is about.
    pub topic: Topic,
    /// One line, without secrets.
    pub text: String,
}

/// What a diagnostic is about. Each topic is limited in rate on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Topic {
    /// Spans were lost, or given up without knowing whether the collector has them.
    Loss,
    /// The collector cannot be reached, or does not take what it is sent.
    Failure,
    /// The collector takes spans again.
    Recovery,
    /// The collector took a request, and had something to say about it.
    Warning,
    /// Which driver moves the bytes, and why.
    Driver,
    /// The worker failed and was restarted.
    Worker,
    /// The configuration asks for something that cannot be done, or probably not meant.
    Configuration,
    /// The API was used wrongly: each kind of [`Misuse`](crate::Misuse) once, with its first place where that is known.
    Misuse,
    /// The files with certificates were changed to something that cannot be used, or can be used again.
    Certificates,
}

const TOPICS: usize = 9;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spanring: {}", self.text)
    }
}

/// Where diagnostics go. A thread that lives no longer than there are lines, `spanring-lines`, calls it with one after
/// the other: the export never waits for a sink, however long it takes. Lines wait for it, 64 at most; of more the
/// oldest are dropped, and the next line says how many those were. A flush and a shutdown wait until the last line has
/// been taken, for a second at most and not past their deadline. Where the system refuses the thread, lines wait until
/// the next one.
///
/// Warnings at start are told by the thread that calls [`Engine::start`](crate::Engine::start): a sink must not wait
/// for a lock that is held around that call. Calls of [`Engine::flush`](crate::Engine::flush) and
/// [`Engine::shutdown`](crate::Engine::shutdown) in a sink do not wait.
///
/// A few lines go to standard error instead, each once, because no thread of ours is left that may call a sink:
/// that nobody drains, that spans come after the engine is gone, and that the process exits, or is ended by a signal,
/// with spans waiting. Those are left out where standard error has no room for them.
#[derive(Clone)]
pub struct DiagnosticSink(Arc<dyn Fn(&Diagnostic) + Send + Sync>);

impl DiagnosticSink {
    /// Calls `tell` for each diagnostic.
    pub fn new(tell: impl Fn(&Diagnostic) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self, diagnostic: &Diagnostic) {
        (self.0)(diagnostic);
    }
}

impl fmt::Debug for DiagnosticSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiagnosticSink")
    }
}

/// Makes diagnostics of what there is to say, at most one for each topic in [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    topics: [Said; TOPICS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// When the last one went out, in nanoseconds; zero before the first.
    at: u64,
    /// How many were held back since.
    held_back: u64,
}

/// Long enough that a collector that comes and goes does not fill a disk.
const PAUSE: Duration = Duration::from_secs(10);

impl Reporter {
    /// The line to pass on, unless something of this topic was said a moment ago.
    pub(crate) fn say(&mut self, topic: Topic, text: impl Into<String>) -> Option<Diagnostic> {
        if self.may_say(topic) {
            return Some(self.insist(topic, text));
        }
        self.topics[topic as usize].held_back += 1;
        None
    }

    /// Whether a line of this topic would be said now; for a line that is to be said as soon as the limit allows.
    pub(crate) fn may_say(&self, topic: Topic) -> bool {
        let at = self.topics[topic as usize].at;
        at == 0 || u128::from(ticks::monotonic_nanos() - at) >= PAUSE.as_nanos()
    }

    /// The line to pass on in any case.
    pub(crate) fn insist(&mut self, topic: Topic, text: impl Into<String>) -> Diagnostic {
        let said = &mut self.topics[topic as usize];
        let now = ticks::monotonic_nanos();
        let mut text = text.into();
        if said.held_back > 0 {
            let lines = counted(said.held_back, "more line of this kind was", "more lines of this kind were");
            let time = match (now - said.at) / 1_000_000_000 {
                0 => String::new(),
                seconds => format!(" in the last {seconds} s"),
            };
            text += &format!(" ({lines} held back{time})");
        }
        *said = Said { at: now, held_back: 0 };
        Diagnostic { topic, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_limited_one_by_one() {
        let mut reporter = Reporter::default();
        let mut lines: Vec<_> =
            (0..100).map(|number| reporter.say(Topic::Failure, format!("failure {number}"))).collect();
        lines.push(reporter.say(Topic::Recovery, "recovery"));
        reporter.topics[Topic::Failure as usize].at -= 11_000_000_000;
        lines.push(reporter.say(Topic::Failure, "again"));
        lines.push(reporter.say(Topic::Failure, "held back"));
        lines.push(Some(reporter.insist(Topic::Failure, "last")));
        let mut texts: Vec<_> = lines.into_iter().flatten().map(|line| line.text).collect();
        let last = texts.pop().unwrap();
        assert!(last.starts_with("last (1 more line of this kind was held back") && !last.contains(" 0 s"), "{last}");
        assert_eq!(
            texts,
            ["failure 0", "recovery", "again (99 more lines of this kind were held back in the last 11 s)",]
        );
    }
}
