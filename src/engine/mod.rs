//! The wiring: one engine owns the lanes, hands out tracers, takes the spans out, and keeps the ledger.

mod desk;
mod exporting;
mod global;
mod goal;
mod handoff;
mod hooks;
mod limit;
mod lines;
mod manual;
mod per_process;
mod plan;
mod scopes;
mod status;
mod supervisor;
mod words;
mod work;
mod worker;

use std::{fmt, io, sync::Arc, time::Duration};

pub use global::{Global, early_spans, init, init_with, tracer};
pub use goal::Goal;
pub use handoff::{Asked, Awaited, Handoff};
pub use hooks::{flush_on_panic, flush_on_signals, shut_down_at_exit, shut_down_on_signals};
pub use per_process::PerProcess;

use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    lane::Lanes,
    propagate::Propagators,
    report::{Health, Ledger, Memory, Receipt, Reporter, Stats, Topic},
    sample::{NotExchanged, Sampling},
    sync::deadline::Deadline,
    trace::{Misuse, Scope, Shared, SpanLanes, Tracer},
};
use exporting::Exporting;
use lines::Lines;
use manual::Manual;
use plan::Plan;
use supervisor::Supervisor;

/// A running span pipeline. Dropping it shuts it down, and waits for that no longer than `export.shutdown_timeout`, nor
/// past the deadline of a shutdown before.
/// Spans that are still open then will be lost: a line says how many, and each counts as `closed` when it ends.
///
/// Tracers do not keep it alive: hold it until the program ends, and shut it down last. Spans that start or end later
/// are lost as `closed`, which is reported once on standard error.
///
/// ```
/// use spanring::{Config, Engine, Tracer};
///
/// /// Returns the engine too: dropped at the end of this function, it would take no span.
/// fn init() -> Result<(Engine, Tracer), spanring::StartError> {
///     let engine = Engine::start(Config::default())?;
///     let tracer = engine.tracer("shop.checkout");
///     Ok((engine, tracer))
/// }
///
/// let (_engine, tracer) = init()?; // `_` alone would drop it here
/// tracer.span("work").start().end();
/// # Ok::<(), spanring::StartError>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping the engine shuts it down: keep it for as long as its tracers"]
pub struct Engine {
    lanes: Arc<SpanLanes>,
    side: Side,
    memory_budget: usize,
    propagators: Propagators,
}

/// Where the spans go.
#[derive(Debug)]
enum Side {
    /// The program takes them out.
    Manual(Manual),
    /// They are exported.
    Exporting(Arc<Exporting>),
}

/// Why an engine did not start. Its `Debug` is the text of its `Display`, because that is what `?` in `main` prints.
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
    /// The process has its [global engine](init) already.
    AlreadyInitialised,
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
            Self::AlreadyInitialised => f.write_str(
                "the process has its global engine already: call `init` once, at the start of `main`, and keep what it \
                 returns; `Engine::start` makes further engines",
            ),
            Self::Thread(source) => {
                write!(
                    f,
                    "the system refused a thread for the export: {source}; raise the process's limit, or set worker to Polled"
                )
            }
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) | Self::AlreadyInitialised => None,
            Self::Memory { source, .. } | Self::Thread(source) => Some(source),
        }
    }
}

impl Engine {
    /// Starts an engine: checks the configuration, takes all memory that recording will ever use, and starts the
    /// export.
    ///
    /// Most of its time goes into the rings, half of `memory_budget` or more, which the kernel clears and maps now so
    /// that no span waits for that later: about a millisecond for each MiB, so some 15 ms at the default. A smaller
    /// budget starts sooner.
    ///
    /// # Errors
    ///
    /// When a field of the configuration cannot work, including one from a variable (an endpoint that is not a valid
    /// URL, a certificate file that cannot be read), or the system refuses the memory or the thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let blame = |error: ConfigError| {
            let variable = config.variable(error.field());
            StartError::Config(error.read_from(variable))
        };
        let shape = config.shape().map_err(blame)?;
        let plan = config.export.as_ref().map(|export| Plan::new(export, &config)).transpose().map_err(blame)?;
        let idle = config.idle();
        let Config { memory_budget, worker, propagators, origins, .. } = config;
        let clock = config.clock.unwrap_or_else(Clock::system);
        let shared = Shared::new(clock, config.limits, config.sampling, config.ids);
        let lanes = Lanes::new(shape, shared).map_err(|source| StartError::Memory { budget: memory_budget, source })?;
        let side = match plan {
            None => {
                let (mut reporter, lines) = (Reporter::default(), Lines::new(None));
                let warnings = origins.warnings().iter().chain(&idle);
                warnings.for_each(|warning| lines.pass(reporter.insist(Topic::Configuration, warning)));
                Side::Manual(Manual::new(&lanes, idle.is_none()))
            }
            Some(plan) => Side::Exporting(Exporting::start(&lanes, plan, worker).map_err(StartError::Thread)?),
        };
        let engine = Self { lanes, side, memory_budget, propagators };
        if let Side::Exporting(_) = engine.side {
            hooks::tell_at_exit(&engine);
        }
        Ok(engine)
    }

    /// A tracer for an instrumentation scope: a name, or a [`Scope`] with version, schema and attributes.
    ///
    /// Make one for each component at start, not one a request: scope lookup is linear, scopes are never freed, and
    /// from the 65,537th on are recorded as the first.
    #[must_use]
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        if let Side::Exporting(exporting) = &self.side {
            // A child process that makes a tracer is going to record.
            let _ = exporting.supervisor(&self.lanes);
        }
        Tracer::new(&self.lanes, self.lanes.owner().scopes().number(scope.into()))
    }

    /// The formats in which contexts go into requests and come out of them, as configured. To use them, this engine
    /// need not run: they work after a shutdown, and where nothing is recorded.
    #[must_use]
    pub fn propagators(&self) -> &Propagators {
        &self.propagators
    }

    /// Samples like this from now on. Spans that start at the same time are sampled the old way or the new one; those
    /// that have started stay as they are. Starts neither wait nor write for it.
    ///
    /// A sampler that is replaced stays until the engine ends, because a start may still ask it: an engine takes 64 of
    /// them, besides the four other kinds of [`Sampling`], which cost nothing. One that changes all the time is better
    /// a sampler with atomics of its own.
    ///
    /// An engine that was started without an export and with [`Sampling::AlwaysOff`] has the least memory there is, and
    /// keeps it.
    ///
    /// # Errors
    ///
    /// When the engine has had 64 samplers, or has shut down; it samples as before then.
    pub fn set_sampler(&self, sampler: impl Into<Sampling>) -> Result<(), NotExchanged> {
        self.lanes.owner().set_sampling(sampler.into())
    }

    /// What became of every span so far. Sums plain counters; call it from any thread, as often as
    /// you like, but not from a signal handler.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        // A child process has a ledger of its own, also when it has not recorded yet.
        let _ = self.lanes.settle();
        match &self.side {
            Side::Manual(_) => Ledger::of(&self.lanes, None),
            Side::Exporting(exporting) => exporting.ledger(&self.lanes),
        }
    }

    /// State of the export. An engine that exports nothing is always healthy.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.side {
            Side::Manual(_) => Health::Healthy,
            Side::Exporting(exporting) => exporting.health(&self.lanes),
        }
    }

    /// Figures for an operator. Call it from any thread, but not from a signal handler.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let ledger = self.ledger();
        let stats = Stats::new(ledger, self.memory(), self.wall_clock_steps(), self.lanes.owner().misuses());
        match &self.side {
            Side::Manual(_) => stats,
            Side::Exporting(exporting) => exporting.complete(stats, &self.lanes),
        }
    }

    /// Waits until everything that ended before this call is delivered, or counted as lost or unconfirmed, or until the
    /// deadline. Spans that end meanwhile may go along.
    ///
    /// Call it from any thread, but not from a signal handler. In a diagnostic sink it does not wait.
    pub fn flush(&self, deadline: impl Into<Deadline>) -> Receipt {
        self.receipt(|supervisor| supervisor.flush(deadline.into()))
    }

    /// Ends recording, delivers what has ended, and waits for it until the deadline; what is left then is counted as
    /// lost, or as unconfirmed where the collector may have it, for which the call may take 25 ms more. It gives up
    /// earlier if the collector is on this machine and nothing has listened there for a second, at two attempts at
    /// least: one that restarts in that time gets its spans. Later starts give spans that do not record. A second call
    /// only reports the current state.
    ///
    /// Dropping the engine does not wait again for what was late here.
    ///
    /// Call it from any thread, but not from a signal handler. In a diagnostic sink it does not wait.
    pub fn shutdown(&self, deadline: impl Into<Deadline>) -> Receipt {
        if let Side::Manual(_) = &self.side {
            let _ = self.close();
        }
        self.receipt(|supervisor| {
            supervisor.shut_down(deadline.into());
            // Nothing ends after a shutdown, so it is complete when nothing waits.
            false
        })
    }

    /// Runs the export on this thread, for [`WorkerChoice::Polled`](crate::WorkerChoice::Polled), which has an
    /// example: until there is nothing to do but wait, or about `budget` is spent. The clock is read between steps, and
    /// a step (a batch that is gathered and framed, a round of the driver) is not interrupted. Says whether there is
    /// more to do now. Does nothing while another thread runs the export.
    pub fn poll_once(&self, budget: Duration) -> bool {
        match &self.side {
            Side::Manual(_) => false,
            Side::Exporting(exporting) => exporting.supervisor(&self.lanes).poll(Deadline::after(budget)),
        }
    }

    fn receipt(&self, run: impl FnOnce(&Supervisor) -> bool) -> Receipt {
        let begun = Deadline::after(Duration::ZERO);
        let before = self.ledger();
        let is_reached = match &self.side {
            // What the program has not taken out is not delivered.
            Side::Manual(_) => false,
            Side::Exporting(exporting) => run(exporting.supervisor(&self.lanes)),
        };
        Receipt::new(&before, self.ledger(), is_reached, begun.passed())
    }

    /// How often something was misused with this engine's spans; see [`Misuse`] for contexts.
    #[must_use]
    pub fn misuse_count(&self, kind: Misuse) -> u64 {
        self.lanes.owner().misuses().count(kind)
    }

    /// Makes misuse with this engine panic, for tests. Off by default; do not use it in a service.
    ///
    /// The panic names the line of the call, except for [`Span::set`](crate::Span::set), starts and shared spans, where
    /// passing it on would make every call slower. Set `RUST_BACKTRACE=1` to find those.
    ///
    /// ```should_panic
    /// use spanring::testing::TestEngine;
    ///
    /// let engine = TestEngine::start();
    /// engine.panic_on_misuse(true);
    /// let nameless = engine.tracer("shop").root("").start();
    /// ```
    pub fn panic_on_misuse(&self, on: bool) {
        self.lanes.owner().misuses().panic(on);
    }

    /// How much of the memory budget is in use.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory::of(&self.lanes, self.memory_budget)
    }

    /// How often the wall clock was seen to step. Durations are not affected.
    #[must_use]
    pub fn wall_clock_steps(&self) -> u64 {
        self.lanes.owner().clock().wall_steps()
    }

    /// Whether times come from the core's counter, or from the kernel's monotonic clock.
    #[must_use]
    pub fn uses_counter(&self) -> bool {
        self.lanes.owner().clock().uses_counter()
    }

    /// Stops recording: later starts give spans that do not record, later ends are counted as lost. What has ended
    /// before can still be drained. True when no thread was inside a lane; else call it again to close the rest.
    pub fn close(&self) -> bool {
        // In a child process a thread of the parent may seem to be in a ring.
        let _ = self.lanes.settle();
        self.lanes.owner().close();
        self.lanes.close()
    }

    /// Takes out every span that has ended before this call, as OTLP bytes: one `ScopeSpans.spans` element each, with
    /// Unix times. Returns how many there were. One drain runs at a time: another thread's waits, and one that the sink
    /// starts finds nothing. An engine that exports takes them out itself: then there are none.
    pub fn drain(&self, sink: impl FnMut(&Scope, &[u8])) -> usize {
        match &self.side {
            Side::Manual(manual) => manual.drain(&self.lanes, sink),
            Side::Exporting(_) => 0,
        }
    }

    /// Makes the worker fail at its next turn, for the test of what happens then.
    pub(crate) fn fail_worker(&self) {
        if let Side::Exporting(exporting) = &self.side {
            exporting.fail(&self.lanes);
        }
    }

    /// Runs `work` while this thread holds every lock of this process's export, for the test of what a child then does.
    pub(crate) fn with_locks_held<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.side {
            Side::Manual(_) => work(),
            Side::Exporting(exporting) => exporting.supervisor(&self.lanes).with_locks_held(work),
        }
    }

    /// The lanes, for the benches.
    pub(crate) fn lanes(&self) -> &Arc<SpanLanes> {
        &self.lanes
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match &self.side {
            Side::Manual(manual) => {
                self.close();
                // What nobody drained must not keep the lanes alive through the blocks that hold it.
                manual.discard(&self.lanes);
            }
            Side::Exporting(exporting) => exporting.end(&self.lanes),
        }
        self.lanes.give_back();
    }
}
