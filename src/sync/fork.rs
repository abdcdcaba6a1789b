//! The fork word: a number that reads zero in a child process until the child has made itself at home.

use super::{AtomicU32, Ordering};

/// A generation of this process, kept on a page that the kernel wipes in a child (`MADV_WIPEONFORK`).
///
/// Unlike a `pthread_atfork` handler this also sees a bare `clone`. Where the kernel cannot wipe, an atfork handler
/// does it.
#[derive(Clone, Copy, Debug)]
pub struct ForkWord {
    /// Written by [`ForkWord::settle`] and, in a child, by the kernel; read by every start and end.
    word: &'static AtomicU32,
    /// The youngest generation of this process's line. Memory that a child inherits, so its own are new to it and all
    /// its ancestors. Written and read by [`ForkWord::settle`].
    youngest: &'static AtomicU32,
}

impl ForkWord {
    /// The word of this process; every caller gets the same one.
    #[must_use]
    pub fn of_process() -> Self {
        process()
    }

    fn new() -> Self {
        Self { word: imp::word(), youngest: Box::leak(Box::new(AtomicU32::new(FIRST))) }
    }

    /// Does what the kernel does to a child process. The models have no other way to fork.
    #[cfg(loom)]
    pub fn wipe(&self) {
        // ORDERING: Relaxed. The child has one thread.
        self.word.store(0, Ordering::Relaxed);
    }

    /// The generation of this process; zero in a child that has not been settled.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> u32 {
        // ORDERING: Relaxed. Who finds the generation that it remembers has seen that generation's lanes already; who
        // finds another goes to `Lanes::settle`, which has orderings of its own.
        self.word.load(Ordering::Relaxed)
    }

    /// The generation of this process, made if this is a child that has none yet.
    #[must_use]
    pub fn settle(&self) -> u32 {
        let found = self.raw();
        if found != 0 {
            return found;
        }
        // ORDERING: Relaxed. The number is all that is shared.
        let before = self.youngest.fetch_add(1, Ordering::Relaxed);
        assert!(before < GENERATION_MAX, "so many processes are not forked one off the other");
        let mine = before + 1;
        // ORDERING: Relaxed. The number is all that is shared; a thread that comes second takes the first one's.
        match self.word.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => mine,
            Err(theirs) => theirs,
        }
    }
}

/// The word that was made first. One that another thread makes at the same time is not used.
#[cfg(not(loom))]
fn process() -> ForkWord {
    match PROCESS.get() {
        Some(word) => *word,
        None => {
            let _ = PROCESS.set(ForkWord::new());
            *PROCESS.get().expect("it was set above, or before")
        }
    }
}

/// Not one of std's cells: a child that was forked while a thread of its parent fills one would wait for that thread.
#[cfg(not(loom))]
static PROCESS: super::once::SetOnce<ForkWord> = super::once::SetOnce::new();

#[cfg(loom)]
fn process() -> ForkWord {
    // Each execution of a model is a process of its own.
    loom::lazy_static! { static ref PROCESS: ForkWord = ForkWord::new(); }
    *PROCESS
}

/// The generation of a process that never forked. Zero is what the kernel leaves.
const FIRST: u32 = 1;

/// The last generation: the bits above it are flags where generations are kept, and one that ran into them would take
/// another's ring for its own. A child has one more than its parent, however many there are, so that this is the length
/// of a line of descent. At 10,000 forks a second, each by the child of the one before, it takes 29 hours.
pub(crate) const GENERATION_MAX: u32 = (1 << 30) - 1;

#[cfg(all(unix, not(miri), not(loom)))]
mod imp {
    use super::{AtomicU32, FIRST, PROCESS};

    pub(super) fn word() -> &'static AtomicU32 {
        let memory = super::super::memory::Memory::map(4096).map(Box::new).map(Box::leak);
        let word = match memory {
            // SAFETY: the mapping lives for ever, is zeroed, aligned to a page and larger than the word.
            Ok(memory) => unsafe { memory.start().cast::<AtomicU32>().as_ref() },
            Err(_) => Box::leak(Box::new(AtomicU32::new(0))),
        };
        // ORDERING: Relaxed. The cell publishes the word to the other threads.
        word.store(FIRST, super::Ordering::Relaxed);
        if !wiped_by_kernel(word) {
            // SAFETY: the handler is async-signal-safe (a load and a store) and lives as long as the program.
            unsafe { libc::pthread_atfork(None, None, Some(wipe)) };
        }
        word
    }

    fn wiped_by_kernel(word: &'static AtomicU32) -> bool {
        #[cfg(target_os = "linux")]
        {
            let page = std::ptr::from_ref(word).cast_mut().cast();
            // SAFETY: the word heads a private anonymous page of its own; the advice changes nothing in this process.
            unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) == 0 }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = word;
            false
        }
    }

    extern "C" fn wipe() {
        if let Some(process) = PROCESS.get() {
            // ORDERING: Relaxed. The child has one thread.
            process.word.store(0, super::Ordering::Relaxed);
        }
    }
}

#[cfg(not(all(unix, not(miri), not(loom))))]
mod imp {
    use super::{AtomicU32, FIRST};

    /// No process forks here: the word is a constant.
    pub(super) fn word() -> &'static AtomicU32 {
        Box::leak(Box::new(AtomicU32::new(FIRST)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn child_of(youngest: u32) -> ForkWord {
        let leaked = |number| &*Box::leak(Box::new(AtomicU32::new(number)));
        ForkWord { word: leaked(0), youngest: leaked(youngest) }
    }

    #[test]
    fn child_has_one_generation_more_than_its_parent() {
        let child = child_of(FIRST);
        assert_eq!((child.raw(), child.settle(), child.settle(), child.raw()), (0, FIRST + 1, FIRST + 1, FIRST + 1));
        assert_eq!(child_of(GENERATION_MAX - 1).settle(), GENERATION_MAX);
    }

    #[test]
    #[should_panic(expected = "one off the other")]
    fn generation_never_runs_into_the_flags() {
        let _ = child_of(GENERATION_MAX).settle();
    }
}
