//! The export, in this process and in those that are forked off it.

use std::{io, sync::Arc};

use super::{desk::Desk, per_process::PerProcess, plan::Plan, supervisor::Supervisor};
use crate::{
    config::WorkerChoice,
    report::{Counts, Health, Ledger, Stats, Topic},
    trace::SpanLanes,
};

/// One plan, and for each process a supervisor with all that follows it.
#[derive(Debug)]
pub(super) struct Exporting {
    plan: Arc<Plan>,
    choice: WorkerChoice,
    supervisors: PerProcess<Supervisor>,
}

impl Exporting {
    pub(super) fn start(lanes: &Arc<SpanLanes>, plan: Plan, choice: WorkerChoice) -> io::Result<Arc<Self>> {
        let plan = Arc::new(plan);
        let supervisor = Supervisor::new(lanes, &plan, choice);
        // One line each, and before there is a worker, whose own words would drown them.
        plan.warnings.iter().for_each(|warning| supervisor.desk().tell_at_start(warning));
        supervisor.spawn()?;
        let supervisors = PerProcess::new(lanes.generation(), supervisor);
        let exporting = Arc::new(Self { plan, choice, supervisors });
        // Weak, or the lanes would keep themselves alive. An engine that is gone needs no waking.
        let bell = Self::with(&exporting, lanes, |exporting, lanes| {
            if let Some(desk) = exporting.desk(lanes) {
                desk.handoff.wake();
            }
        });
        let starter = Self::with(&exporting, lanes, |exporting, lanes| _ = exporting.supervisor(lanes));
        lanes.alarm().hang(bell);
        lanes.alarm().start_by(starter);
        Ok(exporting)
    }

    /// The supervisor of this process. A child process that has none yet gets it now, with a worker.
    pub(super) fn supervisor(&self, lanes: &Arc<SpanLanes>) -> &Supervisor {
        let _ = lanes.settle();
        let make = || Supervisor::new(lanes, &self.plan, self.choice);
        let supervisor = self.supervisors.get_or(lanes.generation(), make);
        lanes.alarm().has_reader();
        if let Err(error) = supervisor.spawn() {
            let text = format!(
                "the system refused a thread for the export; spans wait, and are dropped once the memory is full: {error}"
            );
            supervisor.desk().status.set_health(Health::Down(text.clone()));
            supervisor.desk().say(Topic::Worker, &text);
        }
        supervisor
    }

    /// The engine is being dropped.
    pub(super) fn end(&self, lanes: &Arc<SpanLanes>) {
        if lanes.needs_settling() {
            // A child process that has nothing to do with its parent's engine, but for dropping it.
            return lanes.owner().close();
        }
        self.supervisor(lanes).end();
    }

    /// Makes the worker fail at its next turn.
    pub(super) fn fail(&self, lanes: &SpanLanes) {
        if let Some(desk) = self.desk(lanes) {
            desk.handoff.ask_failure();
        }
    }

    pub(super) fn ledger(&self, lanes: &SpanLanes) -> Ledger {
        let none = || Ledger::of(lanes, Some(&Counts::default()));
        self.desk(lanes).map_or_else(none, |desk| desk.ledger())
    }

    pub(super) fn health(&self, lanes: &SpanLanes) -> Health {
        self.desk(lanes).map(|desk| desk.status.health()).unwrap_or_default()
    }

    /// Adds what only the export knows.
    pub(super) fn complete(&self, stats: Stats, lanes: &SpanLanes) -> Stats {
        let (host, port) = (self.plan.route.endpoint.host(), self.plan.route.endpoint.port());
        let stats = Stats { server: (host.to_owned(), port), health: Health::default(), ..stats };
        match self.desk(lanes) {
            Some(desk) => desk.status.complete(stats, &desk.counts),
            None => stats,
        }
    }

    /// A call that does nothing once the engine is gone.
    fn with(
        exporting: &Arc<Self>,
        lanes: &Arc<SpanLanes>,
        call: fn(&Self, &Arc<SpanLanes>),
    ) -> Box<dyn Fn() + Send + Sync> {
        let (exporting, lanes) = (Arc::downgrade(exporting), Arc::downgrade(lanes));
        Box::new(move || {
            if let (Some(exporting), Some(lanes)) = (exporting.upgrade(), lanes.upgrade()) {
                call(&exporting, &lanes);
            }
        })
    }

    /// The desk of this process, if it has one. Nothing is made: a writer comes here from a signal handler.
    fn desk(&self, lanes: &SpanLanes) -> Option<&Arc<Desk>> {
        self.supervisors.get(lanes.generation()).map(Supervisor::desk)
    }
}
