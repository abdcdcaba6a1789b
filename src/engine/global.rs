//! An engine of the process, for programs that want one.

use std::{
    ops::Deref,
    sync::{Arc, Weak},
};

use super::{Engine, Side, StartError, exporting::Exporting};
use crate::{
    config::Config,
    notice::{self, Notice},
    sample::Sampling,
    sync::once::SetForEver,
    trace::{Scope, SpanLanes, Tracer},
};

/// What global tracers are made of. It outlives the engine.
#[derive(Debug)]
struct Source {
    lanes: Arc<SpanLanes>,
    exporting: Option<Weak<Exporting>>,
}

static GLOBAL: SetForEver<Source> = SetForEver::new();
static EARLY: SetForEver<Engine> = SetForEver::new();
static TOLD: Notice = Notice::new();

/// Starts the engine of the process, as the environment says ([`Config::from_env`]). Keep the guard until the end of
/// `main`: its drop shuts the engine down, and delivers what has ended.
///
/// A library takes a [`Tracer`] from its caller instead, and a test has an engine of its own.
///
/// ```no_run
/// fn main() -> Result<(), spanring::StartError> {
///     let _engine = spanring::init()?;
///     let tracer = spanring::tracer("shop"); // anywhere in the program
///     tracer.in_span("work", |span| span.set("items", 3));
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// As [`Engine::start`], and when there is such an engine already: a process has one, even after its shutdown.
pub fn init() -> Result<Global, StartError> {
    init_with(Config::from_env())
}

/// As [`init`], with a configuration.
///
/// # Errors
///
/// As [`init`].
pub fn init_with(config: Config) -> Result<Global, StartError> {
    if GLOBAL.get().is_some() {
        return Err(StartError::AlreadyInitialised);
    }
    let engine = Engine::start(config)?;
    let exporting = match &engine.side {
        Side::Manual(_) => None,
        Side::Exporting(exporting) => Some(Arc::downgrade(exporting)),
    };
    if GLOBAL.set(Box::leak(Box::new(Source { lanes: Arc::clone(&engine.lanes), exporting }))) {
        Ok(Global(engine))
    } else {
        Err(StartError::AlreadyInitialised)
    }
}

/// A tracer of the engine that [`init`] started, from anywhere in the process.
///
/// Before `init`, and after the shutdown, its spans do not record, which is told once on standard error: those of
/// before are counted in [`early_spans`], those of after in the engine's ledger. A tracer that was taken before `init`
/// stays as it is: take it again.
#[must_use]
pub fn tracer(scope: impl Into<Scope>) -> Tracer {
    let Some(source) = GLOBAL.get() else {
        return early().tracer(scope);
    };
    if let Some(exporting) = source.exporting.as_ref().and_then(Weak::upgrade) {
        // As in `Engine::tracer`.
        let _ = exporting.supervisor(&source.lanes);
    }
    Tracer::new(&source.lanes, source.lanes.owner().scopes().number(scope.into()))
}

/// How many spans were begun by global tracers that had been taken before [`init`].
#[must_use]
pub fn early_spans() -> u64 {
    EARLY.get().map_or(0, |engine| engine.ledger().started)
}

/// An engine that records nothing, for those who come early; says that somebody did.
#[cold]
fn early() -> &'static Engine {
    TOLD.say(notice::EARLY);
    if EARLY.get().is_none() {
        let config = Config { sampling: Sampling::AlwaysOff, ..Config::default() };
        // It takes the least memory there is, and a program without that ends at its next allocation anyway.
        let engine = Engine::start(config).expect("the system refused 1 MiB");
        EARLY.set(Box::leak(Box::new(engine)));
    }
    EARLY.get().expect("it was set")
}

/// Keeps the engine of the process; its drop shuts it down. See [`init`].
#[derive(Debug)]
#[must_use = "dropping this shuts the engine down: bind it, as in `let _engine = spanring::init()?`"]
pub struct Global(Engine);

impl Deref for Global {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}
