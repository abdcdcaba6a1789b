//! The wiring: one engine owns the lanes, hands out tracers, and keeps the ledger.

mod config;
mod ledger;
mod sizing;

use std::{
    cell::Cell,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use config::{Config, ConfigError};
pub use ledger::{Ledger, Lost, Memory};
pub use sizing::{Load, Sizing, size};

use crate::{
    clock::{Anchors, Clock},
    lane::{Lanes, Reader},
    record::{Draft, Record},
    sync::once::SetOnce,
    trace::{Core, Recorder, Scope, Tracer},
};

/// A running span pipeline. Dropping it closes the lanes; spans that are still open then are counted as lost, not leaked.
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    drains: Drains,
    memory_budget: usize,
}

/// The reading half: who takes spans out, and the clock that dates them.
#[derive(Debug)]
struct Drain {
    reader: Option<Reader<Recorder, Draft>>,
    anchors: Anchors,
}

thread_local! {
    /// Whether this thread is draining now, and so may be in a sink.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// The end of a drain, also by a panic of its sink.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        IN_SINK.set(false);
    }
}

/// The drain of this process, and of the child processes that come from it.
///
/// A child cannot use its parent's drain: a thread of the parent may have held the lock when the child was made, and will
/// never give it back there.
#[derive(Debug)]
struct Drains {
    generation: u32,
    drain: Mutex<Drain>,
    child: SetOnce<Self>,
}

impl Drains {
    fn new(generation: u32, drain: Drain) -> Self {
        Self { generation, drain: Mutex::new(drain), child: SetOnce::new() }
    }
}

/// Why an engine did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A field of the configuration cannot work; the text names it, its value, and what would do.
    Config(ConfigError),
    /// The system refused the memory.
    Memory {
        /// Bytes that were asked for.
        budget: usize,
        /// The system's reason.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Memory { budget, source } => {
                write!(
                    f,
                    "the system refused the lanes' memory (memory_budget = {budget} bytes): {source}; lower memory_budget, or raise the process's limit"
                )
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Memory { source, .. } => Some(source),
        }
    }
}

impl Engine {
    /// Starts an engine: checks the configuration and takes all memory that recording will ever use.
    ///
    /// # Errors
    ///
    /// When a field of the configuration cannot work, or the system refuses the memory.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let shape = config.shape().map_err(StartError::Config)?;
        let memory_budget = config.memory_budget;
        let clock = config.clock.unwrap_or_else(Clock::system);
        let anchors = Anchors::new(&clock);
        let recorder = Recorder::new(clock, config.limits, config.sampling, config.ids);
        let core =
            Lanes::new(shape, recorder).map_err(|source| StartError::Memory { budget: memory_budget, source })?;
        let drains = Drains::new(core.generation(), Drain { reader: core.reader(), anchors });
        Ok(Self { core, drains, memory_budget })
    }

    /// A tracer for an instrumentation scope: a name, or a [`Scope`] with version, schema and attributes.
    ///
    /// Make one for each component at start, not one a request: scopes are looked for one by one, are never freed, and from
    /// the 65,537th on are recorded as the first.
    #[must_use]
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        Tracer::new(&self.core, self.core.owner().scopes().number(scope.into()))
    }

    /// What became of every span so far. Sums plain counters; call it from any thread, as often as you like.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        // A child process has a ledger of its own, also when it has not recorded yet.
        let _ = self.core.settle();
        Ledger::of(&self.core)
    }

    /// How much of the memory budget is in use.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory::of(&self.core, self.memory_budget)
    }

    /// How often the wall clock was seen to step. Durations are not affected.
    #[must_use]
    pub fn wall_clock_steps(&self) -> u64 {
        self.core.owner().clock().wall_steps()
    }

    /// Whether times come from the core's counter, or from the kernel's monotonic clock.
    #[must_use]
    pub fn uses_counter(&self) -> bool {
        self.core.owner().clock().uses_counter()
    }

    /// Stops recording: later starts give spans that do not record, later ends are counted as lost. What has ended before
    /// can still be drained. True when no thread was inside a lane; else call it again to close the rest.
    pub fn close(&self) -> bool {
        // In a child process a thread of the parent may seem to be in a ring.
        let _ = self.core.settle();
        self.core.owner().close();
        self.core.close()
    }

    /// Takes out every span that has ended before this call, as OTLP bytes: one `ScopeSpans.spans` element each, with Unix
    /// times. Returns how many there were. One drain runs at a time: another thread's waits, and one that the sink starts
    /// finds nothing.
    pub fn drain(&self, mut sink: impl FnMut(&Scope, &[u8])) -> usize {
        if IN_SINK.replace(true) {
            return 0;
        }
        let _leave = Leave;
        let marks = self.core.marks();
        let mut drain = self.reading();
        let Drain { reader, anchors } = &mut *drain;
        anchors.refresh();
        if reader.as_ref().is_none_or(|reader| !reader.is_fit()) {
            // A child process takes its own reader; the parent's is not fit here.
            *reader = self.core.settle().then(|| self.core.reader()).flatten();
        }
        let Some(reader) = reader else {
            return 0;
        };
        let mut scopes: Vec<Option<Scope>> = Vec::new();
        let mut bytes = Vec::new();
        reader.read(Some(&marks), |record| {
            let Some(record) = Record::parse(record) else {
                return debug_assert!(false, "lanes hold records");
            };
            let number = usize::from(record.scope());
            if scopes.len() <= number {
                scopes.resize(number + 1, None);
            }
            let scope = scopes[number]
                .get_or_insert_with(|| self.core.owner().scopes().get(record.scope()).unwrap_or_default());
            bytes.clear();
            record.emit(anchors, &mut bytes);
            sink(scope, &bytes);
        })
    }

    /// The lanes, for the benches.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn reading(&self) -> MutexGuard<'_, Drain> {
        let _ = self.core.settle();
        let here = self.core.generation();
        let mut drains = &self.drains;
        while drains.generation != here {
            if drains.child.get().is_none() {
                let anchors = Anchors::new(self.core.owner().clock());
                // Another thread of the child may be first; then its drain is the one.
                let _ = drains.child.set(Drains::new(here, Drain { reader: None, anchors }));
            }
            drains = drains.child.get().expect("it was set above");
        }
        // A sink may have panicked: the reader has released what it read, so it goes on from there.
        drains.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
        // What nobody drained must not keep the lanes alive through the blocks that hold it.
        let mut drain = self.reading();
        if drain.reader.as_ref().is_none_or(|reader| !reader.is_fit()) {
            drain.reader = self.core.reader();
        }
        if let Some(reader) = &mut drain.reader {
            reader.read(None, |_| ());
        }
    }
}
