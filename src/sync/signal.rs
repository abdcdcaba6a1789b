//! Signals that end a process: the handler wakes a thread, which does its work before the signal has its way, or
//! meanwhile.

use std::io;

/// A signal by which a process is asked to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGTERM`: what service managers and containers send.
    Terminate,
    /// `SIGINT`: control and C.
    Interrupt,
    /// `SIGHUP`: the terminal is gone.
    Hangup,
}

/// When the program's own handler of the signal runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Handler {
    /// When the work is done. A second signal before that ends the process at once.
    Afterwards,
    /// At once, and at every signal. Where there is none, the signal does what it does by default when the work is
    /// done.
    Meanwhile,
}

/// Does `work` at the first of these signals, on a thread of its own; the signal keeps the disposition that it had
/// before. A signal that is ignored stays so. `last_words` are said after the work if the signal then ends the process.
///
/// # Errors
///
/// When there is such a watch in this process already, the system refuses a thread or a pipe, or has no signals.
pub(crate) fn at_first(
    signals: &[Signal],
    handler: Handler,
    work: impl FnOnce() + Send + 'static,
    last_words: fn(),
) -> io::Result<()> {
    imp::at_first(signals, handler, work, last_words)
}

#[cfg(all(unix, not(loom)))]
mod imp {
    use std::{
        io::{self, PipeReader, PipeWriter, Read},
        os::fd::AsRawFd,
        panic::{AssertUnwindSafe, catch_unwind},
        ptr,
    };

    use libc::c_int;

    use super::{Handler, Signal};
    use crate::sync::{
        fork::ForkWord,
        latest::Latest,
        spawn,
        statics::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    };

    /// What the handler needs. It is never freed: a handler may look at it at any time.
    struct Watch {
        /// The signals that are watched, and what they did before.
        before: Vec<(c_int, libc::sigaction)>,
        handler: Handler,
        /// Whose process this is. A child process has the handler too, but not the thread.
        word: ForkWord,
        generation: u32,
        bell: PipeWriter,
        /// What the thread listens to. Here, so that a bell without a thread rings into something.
        rope: PipeReader,
        /// The first signal that has come; zero before, and [`TAKEN`] once somebody sees to it. Written by the handler
        /// and by whoever takes it.
        rung: AtomicU64,
        /// Whether the signals are as before: the work is done, or there is no thread to do it. Written by the thread,
        /// or by the one that could not start it, and read by the handler.
        is_over: AtomicBool,
    }

    /// No number of a signal.
    const TAKEN: u64 = u64::MAX;

    static WATCH: Latest<Watch> = Latest::new();
    /// The generation in which a thread sets up a watch; zero while none does. In a child process that of the parent
    /// counts for nothing: its thread is not there.
    static SETTING_UP: AtomicU64 = AtomicU64::new(0);

    pub(super) fn at_first(
        signals: &[Signal],
        handler: Handler,
        work: impl FnOnce() + Send + 'static,
        last_words: fn(),
    ) -> io::Result<()> {
        let generation = ForkWord::of_process().settle();
        // ORDERING: Relaxed. The number alone is shared; the watch has an ordering of its own.
        if SETTING_UP.swap(generation.into(), Relaxed) == u64::from(generation) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result =
            set_up(signals, handler, work, last_words, |stand_by| spawn::start("spanring-signal", stand_by).map(drop));
        // ORDERING: Relaxed. As above.
        SETTING_UP.store(0, Relaxed);
        result
    }

    /// Sets up a watch, with a thread that `start` starts.
    fn set_up(
        signals: &[Signal],
        handler: Handler,
        work: impl FnOnce() + Send + 'static,
        last_words: fn(),
        start: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> io::Result<()> {
        let word = ForkWord::of_process();
        let generation = word.settle();
        if WATCH.get().is_some_and(|watch| watch.is_of(generation) && !watch.is_over()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let before = before(signals)?;
        let (rope, bell) = io::pipe()?;
        let (rung, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        WATCH.set(Watch { before, handler, word, generation, bell, rope, rung, is_over });
        let watch = WATCH.get().expect("it was set above, and is never unset");
        watch.take_over()?;
        let stand_by = move || {
            let signal = watch.hear();
            // A panic has said what it has to say, and must not keep the process from its end.
            let _ = catch_unwind(AssertUnwindSafe(work));
            if signal.is_some_and(|number| watch.is_fatal(number)) {
                let _ = catch_unwind(last_words);
            }
            watch.give_back(signal);
        };
        start(Box::new(stand_by)).inspect_err(|_| watch.give_back(None))
    }

    impl Watch {
        /// Sets the handler.
        fn take_over(&self) -> io::Result<()> {
            for (number, before) in &self.before {
                // SAFETY: an action is plain data, of which all zeros is a value: the default, without flags.
                let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
                action.sa_sigaction = OURS as usize;
                // Calls of the program that wait go on, and a thread with a stack for handlers uses it.
                action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
                // What the program's handler runs without, it also runs without when it is called from ours.
                action.sa_mask = before.sa_mask;
                if let Err(error) = set(*number, &action) {
                    self.give_back(None);
                    return Err(error);
                }
            }
            Ok(())
        }

        /// In the handler: nothing here but loads, stores and calls that are safe in a handler. None of those fails, so
        /// `errno` stays as it was.
        fn heed(&self, number: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            if !self.is_of(self.word.raw()) {
                // A child process, which shares the pipe: the parent must not hear of this. The child ends as it would.
                // Unless it has a handler of its own by now, which called this one.
                if self.put_back(number) {
                    again(number);
                } else {
                    self.pass_on(number, info, context);
                }
                return;
            }
            if self.ring(number) {
                let byte = [0_u8];
                // SAFETY: the byte is valid for reads, and the pipe is open for ever. It is empty, so this does not
                // wait.
                unsafe { libc::write(self.bell.as_raw_fd(), byte.as_ptr().cast(), byte.len()) };
                // Nobody hears it if the signals were given back since. Then it comes again, to what was there before.
                if self.is_over() && self.is_back(number) && !self.passes_on(number) && self.take().is_some() {
                    again(number);
                }
            } else if !self.is_over() && !self.passes_on(number) && now(number).is_ok_and(|action| is_ours(&action)) {
                // The user is out of patience. A handler that was set later, and called this one, knows what to do
                // itself.
                // SAFETY: an action is plain data, of which all zeros is a value: the default, without flags.
                let _ = set(number, &unsafe { std::mem::zeroed() });
                again(number);
            }
            self.pass_on(number, info, context);
        }

        /// Whether the program had a handler of this signal, which is called from ours.
        fn passes_on(&self, number: c_int) -> bool {
            self.handler == Handler::Meanwhile && self.before_of(number).is_some_and(has_handler)
        }

        /// Calls the program's handler, if it is not to wait for the work.
        fn pass_on(&self, number: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            if let Some(before) = self.before_of(number)
                && self.passes_on(number)
            {
                // SAFETY: the action is that of a handler, which is called as the system would call it.
                unsafe { call(before, number, info, context) };
            }
        }

        fn before_of(&self, number: c_int) -> Option<&libc::sigaction> {
            self.before.iter().find(|(known, _)| *known == number).map(|(_, before)| before)
        }

        /// Notes the signal, if it is the first.
        fn ring(&self, number: c_int) -> bool {
            let number = u64::try_from(number).expect("numbers of signals are positive");
            // ORDERING: SeqCst, and so are the flag `is_over` and `take`. Here the number comes before a look at the
            // flag, and in `give_back` the flag before a look at the number: one of the two sees the other.
            self.rung.compare_exchange(0, number, SeqCst, Relaxed).is_ok()
        }

        /// The signal that has come, for the one that asks first.
        fn take(&self) -> Option<c_int> {
            // ORDERING: SeqCst. As in `ring`.
            let found = self.rung.load(SeqCst);
            let number = c_int::try_from(found).ok().filter(|number| *number > 0)?;
            // ORDERING: SeqCst. As in `ring`; of several one succeeds.
            self.rung.compare_exchange(found, TAKEN, SeqCst, Relaxed).ok().map(|_| number)
        }

        /// Waits for the handler; `None` if it can ring no more.
        fn hear(&self) -> Option<c_int> {
            (&self.rope).read_exact(&mut [0]).ok()?;
            self.take()
        }

        /// Makes the signals do what they did before, and sends the one that came once more: that which was heard, or
        /// has come since.
        fn give_back(&self, heard: Option<c_int>) {
            let is_ours = self.before.iter().filter(|(number, _)| self.put_back(*number));
            let is_ours: Vec<_> = is_ours.map(|(number, _)| *number).collect();
            // ORDERING: SeqCst. As in `ring`. A later signal's handler that does not see it yet ends the process, as it
            // was asked to.
            self.is_over.store(true, SeqCst);
            let signal = heard.or_else(|| self.take());
            // A handler that was set later, and called ours, has had the signal already.
            let Some(number) = signal.filter(|number| is_ours.contains(number) && !self.passes_on(*number)) else {
                return;
            };
            if !self.before_of(number).is_some_and(has_handler) {
                // No code of the program runs on this thread, and the others may all have blocked it since.
                unblock(number);
            }
            // SAFETY: the call takes nothing.
            let process = unsafe { libc::getpid() };
            // SAFETY: the call takes two numbers. The whole process gets the signal, as it did the first time.
            unsafe { libc::kill(process, number) };
        }

        /// Restores one disposition; false where the program has set another since.
        fn put_back(&self, number: c_int) -> bool {
            let is_ours = now(number).is_ok_and(|action| is_ours(&action));
            is_ours && self.before_of(number).is_some_and(|before| set(number, before).is_ok())
        }

        /// Whether the signal does what it did before.
        fn is_back(&self, number: c_int) -> bool {
            let before = self.before_of(number).map(|before| before.sa_sigaction);
            now(number).is_ok_and(|action| Some(action.sa_sigaction) == before)
        }

        /// Whether the signal ends the process once it is given back: the program handles it neither before nor since.
        fn is_fatal(&self, number: c_int) -> bool {
            now(number).is_ok_and(|action| is_ours(&action))
                && self.before_of(number).is_some_and(|before| !has_handler(before))
        }

        fn is_of(&self, generation: u32) -> bool {
            self.generation == generation
        }

        fn is_over(&self) -> bool {
            // ORDERING: SeqCst. As in `ring`.
            self.is_over.load(SeqCst)
        }
    }

    extern "C" fn note(number: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        if let Some(watch) = WATCH.get() {
            watch.heed(number, info, context);
        }
    }

    const OURS: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = note;

    /// Whether this is a handler. What is ignored is not watched.
    fn has_handler(action: &libc::sigaction) -> bool {
        action.sa_sigaction != libc::SIG_DFL
    }

    /// # Safety
    ///
    /// * `action` is that of a handler, and the rest is what the system passed to ours.
    unsafe fn call(action: &libc::sigaction, number: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        debug_assert!(has_handler(action));
        let address = action.sa_sigaction;
        if action.sa_flags & libc::SA_SIGINFO == 0 {
            // SAFETY: without the flag the handler takes the number alone.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(address) };
            handler(number);
        } else {
            type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: with the flag the handler takes all three.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(address) };
            handler(number, info, context);
        }
    }

    /// What the signals do now, of those that are not ignored.
    fn before(signals: &[Signal]) -> io::Result<Vec<(c_int, libc::sigaction)>> {
        let mut all: Vec<(c_int, libc::sigaction)> = vec![];
        for signal in signals {
            let number = match signal {
                Signal::Terminate => libc::SIGTERM,
                Signal::Interrupt => libc::SIGINT,
                Signal::Hangup => libc::SIGHUP,
            };
            let mut action = now(number)?;
            if is_ours(&action)
                && let Some(inherited) =
                    WATCH.get().and_then(|watch| watch.before.iter().find(|(known, _)| *known == number))
            {
                // A child process, with the handler of its parent.
                action = inherited.1;
            }
            if action.sa_sigaction != libc::SIG_IGN && !all.iter().any(|(known, _)| *known == number) {
                all.push((number, action));
            }
        }
        Ok(all)
    }

    fn is_ours(action: &libc::sigaction) -> bool {
        action.sa_sigaction == OURS as usize
    }

    fn now(number: c_int) -> io::Result<libc::sigaction> {
        // SAFETY: an action is plain data, of which all zeros is a value; the next call fills it.
        let mut action = unsafe { std::mem::zeroed() };
        // SAFETY: nothing is set, and the action is a valid place.
        match unsafe { libc::sigaction(number, ptr::null(), &raw mut action) } {
            0 => Ok(action),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn set(number: c_int, action: &libc::sigaction) -> io::Result<()> {
        // SAFETY: the action is one that was there before, the default, or `note`, which is safe in a handler.
        match unsafe { libc::sigaction(number, action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends the signal to this thread once more. In its handler it is blocked, and comes when that returns.
    fn again(number: c_int) {
        // SAFETY: the call takes a number.
        unsafe { libc::raise(number) };
    }

    fn unblock(number: c_int) {
        // SAFETY: a set of signals is plain bits, and is emptied by the next call.
        let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
        // SAFETY: the set is a valid place.
        unsafe { libc::sigemptyset(&raw mut set) };
        // SAFETY: the set is a valid place, and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, number) };
        // SAFETY: the set is filled, and the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
    }

    #[cfg(all(test, not(miri)))]
    mod tests {
        use super::*;

        static COUNT: AtomicU64 = AtomicU64::new(0);

        extern "C" fn count(_: c_int) {
            COUNT.fetch_add(1, Relaxed);
        }

        /// The program has a handler, or the process would end. Whether it runs before the work or after it, it runs
        /// once.
        #[test]
        fn signal_that_comes_while_the_thread_is_refused_is_not_lost() {
            // SAFETY: an action is plain data, of which all zeros is a value: the default, without flags.
            let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
            action.sa_sigaction = count as extern "C" fn(c_int) as usize;
            set(libc::SIGHUP, &action).unwrap();
            for (round, handler) in [(1, Handler::Afterwards), (2, Handler::Meanwhile)] {
                let refuse = |_: Box<dyn FnOnce() + Send>| {
                    again(libc::SIGHUP);
                    Err(io::ErrorKind::WouldBlock.into())
                };
                let (work, last_words) = (|| panic!("no thread does it"), || panic!("nor says anything"));
                let result = set_up(&[Signal::Hangup], handler, work, last_words, refuse);
                assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
                assert_eq!(now(libc::SIGHUP).unwrap().sa_sigaction, action.sa_sigaction);
                // It is sent to the process, of which any thread may take it.
                let late = std::time::Instant::now() + std::time::Duration::from_secs(20);
                while COUNT.load(Relaxed) < round && std::time::Instant::now() < late {
                    std::thread::yield_now();
                }
                assert_eq!(COUNT.load(Relaxed), round, "{handler:?}");
            }
        }
    }
}

#[cfg(not(all(unix, not(loom))))]
mod imp {
    use std::io;

    use super::{Handler, Signal};

    pub(super) fn at_first(_: &[Signal], _: Handler, _: impl FnOnce() + Send + 'static, _: fn()) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
