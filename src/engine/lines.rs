//! The lines on their way out of the engine: whoever takes them may be slow, or never take one, and stops nothing.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::work::{at_work, is_at_work};
use crate::{
    notice::counted,
    report::{Diagnostic, DiagnosticSink},
    sync::{deadline::Deadline, spawn, stderr},
};

/// A bounded queue, and a thread that empties it. There is a thread only while there are lines: an engine that has
/// nothing to say has none, and neither has one whose lines standard error takes at once.
#[derive(Debug)]
pub(super) struct Lines {
    /// Without one, lines go to standard error.
    sink: Option<DiagnosticSink>,
    queue: Mutex<Queue>,
    /// Signalled when the thread ends.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Diagnostic>,
    /// Lines that were dropped before the first one here.
    held_back: u64,
    /// Whether there is a thread that passes lines on.
    is_served: bool,
    /// Whether a wait for the thread has ended without it, and it has come no further since.
    is_stuck: bool,
}

/// Lines that wait at most. The limit on how often lets through one for each of eight topics in ten seconds, so these
/// are those of a minute at least.
const LINES_MAX: usize = 64;
/// How long a flush or a shutdown waits until its lines are out, within its deadline: long for a sink that works, short
/// for one that never returns.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Lines {
    pub(super) fn new(sink: Option<DiagnosticSink>) -> Arc<Self> {
        Arc::new(Self { sink, queue: Mutex::default(), emptied: Condvar::new() })
    }

    /// Passes a line on, and waits for nobody who takes it. Of too many the oldest are dropped: the newest say how
    /// things are now.
    pub(super) fn pass(self: &Arc<Self>, line: Diagnostic) {
        let mut queue = self.queue();
        let is_first = queue.lines.is_empty() && !queue.is_served;
        if self.sink.is_none() && is_first && stderr::try_write_line(&line.to_string()) {
            return;
        }
        if queue.lines.len() == LINES_MAX {
            queue.lines.pop_front();
            queue.held_back += 1;
        }
        queue.lines.push_back(line);
        if !queue.is_served {
            let lines = Arc::clone(self);
            // Without a thread the lines wait for the next one, which tries again.
            queue.is_served = spawn::start("spanring-lines", move || lines.serve()).is_ok();
        }
    }

    /// Passes a line on to the sink on this thread: at the start, where no worker can be stopped by it.
    pub(super) fn tell(self: &Arc<Self>, line: Diagnostic) {
        match &self.sink {
            Some(sink) => hand_over(sink, &line),
            None => self.pass(line),
        }
    }

    /// Waits until all lines are passed on, unless that takes too long, or a wait before took too long already, or they
    /// wait for a standard error that has no room.
    pub(super) fn wait(&self, deadline: Deadline) {
        let deadline = deadline.min(Deadline::after(WAIT_MAX));
        let can_get_on = || self.sink.is_some() || stderr::has_room();
        let mut queue = self.queue();
        // The sink itself cannot wait for its return.
        while queue.is_served && !queue.is_stuck && !is_at_work() && can_get_on() {
            let left = deadline.left();
            queue.is_stuck = left.is_zero();
            queue = self.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn with_lock_held<R>(&self, work: impl FnOnce() -> R) -> R {
        let Self { sink: _, queue: _, emptied: _ } = self;
        let _queue = self.queue();
        work()
    }

    /// Whether lines are on their way.
    #[cfg(test)]
    pub(super) fn is_served(&self) -> bool {
        self.queue().is_served
    }

    /// Passes lines on until there are no more.
    fn serve(&self) {
        while let Some(line) = self.next() {
            match &self.sink {
                Some(sink) => hand_over(sink, &line),
                None => stderr::write_line(&line.to_string()),
            }
        }
    }

    /// The next line; without one the thread is to end.
    fn next(&self) -> Option<Diagnostic> {
        let mut queue = self.queue();
        queue.is_stuck = false;
        let Some(mut line) = queue.lines.pop_front() else {
            queue.is_served = false;
            self.emptied.notify_all();
            return None;
        };
        let held_back = mem::take(&mut queue.held_back);
        if held_back > 0 {
            let lines = counted(held_back, "line before this one was", "lines before this one were");
            line.text += &format!(" ({lines} held back, because the earlier ones were not taken)");
        }
        Some(line)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls the sink. What it does wrong is its own.
fn hand_over(sink: &DiagnosticSink, line: &Diagnostic) {
    let _ = at_work(|| {
        sink.tell(line);
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::report::Topic;

    fn line(text: &str) -> Diagnostic {
        Diagnostic { topic: Topic::Failure, text: text.to_owned() }
    }

    /// A sink that takes a line when the test lets it, what it took, and the permissions.
    fn slow() -> (Arc<Lines>, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (permit, permits) = mpsc::channel();
        let (said, texts) = mpsc::channel();
        let permits = Mutex::new(permits);
        let sink = DiagnosticSink::new(move |line| {
            let _ = permits.lock().unwrap().recv();
            said.send(line.text.clone()).unwrap();
        });
        (Lines::new(Some(sink)), texts, permit)
    }

    #[test]
    fn lines_beyond_the_queue_are_counted_and_the_count_is_said() {
        let (lines, texts, permit) = slow();
        lines.pass(line("first"));
        // Until the thread has it, so that the queue is empty.
        while !lines.queue().lines.is_empty() {
            std::thread::yield_now();
        }
        (0..LINES_MAX + 3).for_each(|number| lines.pass(line(&number.to_string())));
        assert_eq!(lines.queue().lines.len(), LINES_MAX);
        drop(permit);
        drop(lines);
        let mut expected = vec!["first".to_owned()];
        expected.push("3 (3 lines before this one were held back, because the earlier ones were not taken)".to_owned());
        expected.extend((4..LINES_MAX + 3).map(|number| number.to_string()));
        // It ends when the thread has dropped the sink.
        assert_eq!(texts.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn thread_ends_with_the_last_line_and_the_next_line_has_another() {
        let (lines, texts, permit) = slow();
        for text in ["one", "two"] {
            lines.pass(line(text));
            permit.send(()).unwrap();
            assert_eq!(texts.recv().as_deref(), Ok(text));
            while lines.is_served() {
                std::thread::yield_now();
            }
            assert_eq!(Arc::strong_count(&lines), 1, "no thread has it");
        }
    }

    /// Neither a shutdown nor the drop after it.
    #[test]
    fn sink_that_did_not_return_in_time_is_not_waited_for_again() {
        let (lines, texts, permit) = slow();
        lines.pass(line("one"));
        lines.wait(Deadline::after(Duration::ZERO));
        assert!(lines.queue().is_stuck);
        let begun = Deadline::after(Duration::ZERO);
        let hour = Duration::from_secs(3600);
        lines.wait(Deadline::after(hour));
        assert!(lines.queue().is_stuck && begun.passed() < hour / 2);
        permit.send(()).unwrap();
        assert_eq!(texts.recv().as_deref(), Ok("one"));
        lines.wait(Deadline::after(hour));
        while lines.is_served() {
            std::thread::yield_now();
        }
        assert!(!lines.queue().is_stuck, "it has come further since");
    }

    /// The process is one of its own: its standard error is a socket that takes nothing.
    #[cfg(all(unix, not(miri)))]
    #[test]
    fn standard_error_without_room_is_not_waited_for() {
        use std::{
            env,
            io::Write,
            os::{fd::OwnedFd, unix::net::UnixStream},
            process::{Command, exit},
        };

        const CHILD: &str = "SPANRING_TEST_FULL";
        if env::var_os(CHILD).is_some() {
            let lines = Lines::new(None);
            lines.pass(line("one"));
            assert!(lines.is_served(), "it waits for room");
            lines.wait(Deadline::after(Duration::from_secs(3600)));
            exit(i32::from(lines.queue().is_stuck));
        }
        let (_peer, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        while (&socket).write(b"x").is_ok() {}
        socket.set_nonblocking(false).unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "engine::lines::tests::standard_error_without_room_is_not_waited_for"]);
        let status = child.env(CHILD, "1").stderr(OwnedFd::from(socket)).status().unwrap();
        assert_eq!(status.code(), Some(0), "it waited in vain");
    }

    #[test]
    fn sink_that_waits_for_its_own_lines_waits_for_nothing() {
        let place: Arc<Mutex<Option<Arc<Lines>>>> = Arc::default();
        let (said, texts) = mpsc::channel();
        let inside = Arc::clone(&place);
        let sink = DiagnosticSink::new(move |_| {
            let lines = inside.lock().unwrap().take().unwrap();
            lines.wait(Deadline::after(Duration::from_secs(3600)));
            assert!(!lines.queue().is_stuck);
            said.send(()).unwrap();
        });
        let lines = Lines::new(Some(sink));
        *place.lock().unwrap() = Some(Arc::clone(&lines));
        lines.pass(line("one"));
        assert_eq!(texts.recv(), Ok(()));
    }
}
