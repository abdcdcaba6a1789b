//! The wiring: one engine owns the lanes, hands out tracers, takes the spans out, and keeps the ledger.

mod handoff;
mod hooks;
mod per_process;
mod plan;
mod status;
mod supervisor;
mod taker;
mod worker;

use std::{fmt, io, sync::Arc, time::Duration};

pub use handoff::{Awaited, Wish, Wishes};
pub use hooks::{flush_on_panic, shut_down_on_signals};

use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    lane::Lanes,
    report::{Health, Ledger, Memory, Receipt, Reporter, Stats, Topic},
    sync::deadline::Deadline,
    trace::{Scope, Shared, SpanLanes, Tracer},
};
use plan::Plan;
use taker::{Drains, Exports};

/// A running span pipeline. Dropping it shuts it down, and waits for that no longer than `export.shutdown_timeout`; spans that
/// are still open then are counted as lost, not leaked.
#[derive(Debug)]
pub struct Engine {
    core: Arc<SpanLanes>,
    taker: Taker,
    memory_budget: usize,
}

/// Who takes the spans out.
#[derive(Debug)]
enum Taker {
    /// The program.
    Program(Drains),
    /// The export.
    Export(Arc<Exports>),
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
    /// The system refused the thread of the export.
    Thread(io::Error),
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
            Self::Thread(source) => {
                write!(
                    f,
                    "the system refused a thread for the export: {source}; raise the process's limit, or set worker to Polled"
                )
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Memory { source, .. } | Self::Thread(source) => Some(source),
        }
    }
}

impl Engine {
    /// Starts an engine: checks the configuration, takes all memory that recording will ever use, and starts the export.
    ///
    /// # Errors
    ///
    /// When a field of the configuration cannot work, also one from a variable (an endpoint that is no URL), or the system
    /// refuses the memory or the thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let blame = |error: ConfigError| {
            let variable = config.variable(error.field());
            StartError::Config(error.read_from(variable))
        };
        let shape = config.shape().map_err(blame)?;
        let plan = config.export.as_ref().map(|export| Plan::new(export, &config)).transpose().map_err(blame)?;
        let Config { memory_budget, worker, origins, .. } = config;
        let clock = config.clock.unwrap_or_else(Clock::system);
        let shared = Shared::new(clock, config.limits, config.sampling, config.ids);
        let core = Lanes::new(shape, shared).map_err(|source| StartError::Memory { budget: memory_budget, source })?;
        let taker = match plan {
            None => {
                let mut reporter = Reporter::new(None);
                origins.warnings().iter().for_each(|warning| reporter.insist(Topic::Configuration, warning));
                Taker::Program(Drains::new(&core))
            }
            Some(plan) => Taker::Export(Exports::start(&core, plan, worker).map_err(StartError::Thread)?),
        };
        Ok(Self { core, taker, memory_budget })
    }

    /// A tracer for an instrumentation scope: a name, or a [`Scope`] with version, schema and attributes.
    ///
    /// Make one for each component at start, not one a request: scopes are looked for one by one, are never freed, and from
    /// the 65,537th on are recorded as the first.
    #[must_use]
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        if let Taker::Export(exports) = &self.taker {
            // A child process that makes a tracer is going to record.
            let _ = exports.post(&self.core);
        }
        Tracer::new(&self.core, self.core.owner().scopes().number(scope.into()))
    }

    /// What became of every span so far. Sums plain counters; call it from any thread, as often as you like.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        // A child process has a ledger of its own, also when it has not recorded yet.
        let _ = self.core.settle();
        match &self.taker {
            Taker::Program(_) => Ledger::of(&self.core, None),
            Taker::Export(exports) => exports.ledger(&self.core),
        }
    }

    /// How the export does; an engine that exports nothing is always healthy.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.taker {
            Taker::Program(_) => Health::Healthy,
            Taker::Export(exports) => exports.health(&self.core),
        }
    }

    /// Figures for an operator. Call it from any thread.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let ledger = self.ledger();
        let stats = Stats::new(ledger, self.memory(), self.wall_clock_steps());
        match &self.taker {
            Taker::Program(_) => stats,
            Taker::Export(exports) => exports.complete(stats, &self.core),
        }
    }

    /// Waits until everything that ended before this call is delivered, or counted as lost, or until the deadline. Spans that
    /// end meanwhile may go along.
    ///
    /// Call it from any thread, but not from a signal handler. In a diagnostic sink it does not wait.
    pub fn flush(&self, deadline: impl Into<Deadline>) -> Receipt {
        self.receipt(|exports| exports.flush(&self.core, deadline.into()))
    }

    /// Ends recording, delivers what has ended, and waits for it until the deadline; what is left then is counted as lost.
    /// Later starts give spans that do not record. A second call only says how things stand.
    ///
    /// Call it from any thread, but not from a signal handler. In a diagnostic sink it does not wait.
    pub fn shutdown(&self, deadline: impl Into<Deadline>) -> Receipt {
        if let Taker::Program(_) = &self.taker {
            let _ = self.close();
        }
        self.receipt(|exports| {
            exports.shut_down(&self.core, deadline.into());
            // Nothing ends after a shutdown, so it is complete when nothing waits.
            false
        })
    }

    /// Runs the export on this thread, for [`WorkerChoice::Polled`](crate::WorkerChoice::Polled), where an example stands: until there is nothing to do but
    /// wait, or about `budget` is spent: the clock is read between steps, and a step (a batch that is gathered and framed, a round
    /// of the driver) is not interrupted. Says whether there is more to do now. Does nothing while another thread does.
    pub fn poll_once(&self, budget: Duration) -> bool {
        match &self.taker {
            Taker::Program(_) => false,
            Taker::Export(exports) => exports.poll(&self.core, budget),
        }
    }

    fn receipt(&self, run: impl FnOnce(&Exports) -> bool) -> Receipt {
        let begun = Deadline::after(Duration::ZERO);
        let before = self.ledger();
        let is_reached = match &self.taker {
            // Nobody delivers what the program has not taken out.
            Taker::Program(_) => false,
            Taker::Export(exports) => run(exports),
        };
        Receipt::new(&before, self.ledger(), is_reached, begun.passed())
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
    /// finds nothing. An engine that exports takes them out itself: then there are none.
    pub fn drain(&self, sink: impl FnMut(&Scope, &[u8])) -> usize {
        match &self.taker {
            Taker::Program(drains) => drains.drain(&self.core, sink),
            Taker::Export(_) => 0,
        }
    }

    /// Makes the worker fail at its next turn, for the test of what happens then.
    pub(crate) fn fail_worker(&self) {
        if let Taker::Export(exports) = &self.taker {
            exports.fail(&self.core);
        }
    }

    /// The lanes, for the benches.
    pub(crate) fn core(&self) -> &Arc<SpanLanes> {
        &self.core
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match &self.taker {
            Taker::Program(drains) => {
                self.close();
                // What nobody drained must not keep the lanes alive through the blocks that hold it.
                drains.discard(&self.core);
            }
            Taker::Export(exports) => exports.end(&self.core),
        }
    }
}
