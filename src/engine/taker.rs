//! The two ways in which spans are taken out: by the program, or by the export; in this process and in those forked off it.

use std::{
    cell::Cell,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{per_process::Generations, plan::Plan, status::Control, supervisor::Post};
use crate::{
    clock::Anchors,
    config::WorkerChoice,
    lane::{Call, Reader},
    record::{Draft, Record},
    report::{Health, Ledger, Stats, Topic},
    sync::deadline::Deadline,
    trace::{Scope, Shared, SpanLanes},
};

/// The program's drain.
///
/// A child process has its own: a thread of the parent may have held the lock when the child was made, and will never give it
/// back there.
#[derive(Debug)]
pub(super) struct Drains(Generations<Mutex<Drain>>);

/// The reading half: who takes spans out, and the clock that dates them.
#[derive(Debug)]
struct Drain {
    reader: Option<Reader<Shared, Draft>>,
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

impl Drains {
    pub(super) fn new(core: &Arc<SpanLanes>) -> Self {
        let drain = Drain { reader: core.reader(), anchors: Anchors::new(core.owner().clock()) };
        Self(Generations::new(core.generation(), Mutex::new(drain)))
    }

    /// Takes out what has ended before this call.
    pub(super) fn drain(&self, core: &Arc<SpanLanes>, mut sink: impl FnMut(&Scope, &[u8])) -> usize {
        if IN_SINK.replace(true) {
            return 0;
        }
        let _leave = Leave;
        let marks = core.marks();
        self.with(core, |Drain { reader, anchors }| {
            anchors.refresh();
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
                let scope =
                    scopes[number].get_or_insert_with(|| core.owner().scopes().get(record.scope()).unwrap_or_default());
                bytes.clear();
                record.emit(anchors, &mut bytes);
                sink(scope, &bytes);
            })
        })
    }

    /// Takes out everything, for nobody.
    pub(super) fn discard(&self, core: &Arc<SpanLanes>) {
        self.with(core, |drain| drain.reader.as_mut().map(|reader| reader.read(None, |_| ())));
    }

    fn with<R>(&self, core: &Arc<SpanLanes>, work: impl FnOnce(&mut Drain) -> R) -> R {
        let is_settled = core.settle();
        let empty = || Mutex::new(Drain { reader: None, anchors: Anchors::new(core.owner().clock()) });
        let drain = self.0.get_or(core.generation(), empty);
        // A sink may have panicked: the reader has released what it read, so it goes on from there.
        let mut drain = drain.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.reader.as_ref().is_none_or(|reader| !reader.is_fit()) {
            // A child process takes its own reader; the parent's is not fit here.
            drain.reader = is_settled.then(|| core.reader()).flatten();
        }
        work(&mut drain)
    }
}

/// The export.
#[derive(Debug)]
pub(super) struct Exports {
    plan: Arc<Plan>,
    worker: WorkerChoice,
    posts: Generations<Arc<Post>>,
}

impl Exports {
    pub(super) fn start(core: &Arc<SpanLanes>, plan: Plan, worker: WorkerChoice) -> io::Result<Arc<Self>> {
        let plan = Arc::new(plan);
        let post = Arc::new(Post::new(core, &plan, worker));
        // One line each, and before there is a worker, whose own words would drown them.
        plan.warnings.iter().for_each(|warning| post.insist(Topic::Configuration, warning));
        post.man()?;
        let exports = Arc::new(Self { posts: Generations::new(core.generation(), post), plan, worker });
        // Weak, or the lanes would keep themselves alive. An engine that is gone needs no waking.
        let (weak, lanes) = (Arc::downgrade(&exports), Arc::downgrade(core));
        core.alarm().hang(Box::new(move |call| {
            let (Some(exports), Some(core)) = (weak.upgrade(), lanes.upgrade()) else {
                return;
            };
            match call {
                Call::Filled => exports.control(&core).map_or((), |control| control.wishes.wake()),
                Call::Settled => drop(exports.post(&core)),
            }
        }));
        Ok(exports)
    }

    /// The post of this process; in a child process that has recorded nothing yet it is made now, and manned.
    pub(super) fn post(&self, core: &Arc<SpanLanes>) -> &Arc<Post> {
        let _ = core.settle();
        let post = self.posts.get_or(core.generation(), || Arc::new(Post::new(core, &self.plan, self.worker)));
        core.alarm().has_reader();
        if let Err(error) = post.man() {
            post.unmanned(&error);
        }
        post
    }

    pub(super) fn flush(&self, core: &Arc<SpanLanes>, deadline: Deadline) -> bool {
        self.post(core).flush(deadline)
    }

    pub(super) fn shut_down(&self, core: &Arc<SpanLanes>, deadline: Deadline) -> bool {
        self.post(core).shut_down(deadline)
    }

    pub(super) fn poll(&self, core: &Arc<SpanLanes>, budget: Duration) -> bool {
        self.post(core).poll(Deadline::after(budget))
    }

    /// The engine is being dropped.
    pub(super) fn end(&self, core: &Arc<SpanLanes>) {
        if core.needs_settling() {
            // A child process that has nothing to do with its parent's engine, but for dropping it.
            return core.owner().close();
        }
        self.post(core).end();
    }

    pub(super) fn fail(&self, core: &SpanLanes) {
        if let Some(control) = self.control(core) {
            control.wishes.ask_failure();
        }
    }

    pub(super) fn ledger(&self, core: &SpanLanes) -> Ledger {
        match self.control(core) {
            Some(control) => Ledger::of(core, Some(&control.counts)),
            None => Ledger::of(core, Some(&Control::default().counts)),
        }
    }

    pub(super) fn health(&self, core: &SpanLanes) -> Health {
        self.control(core).map(Control::health).unwrap_or_default()
    }

    /// Adds what only the export knows.
    pub(super) fn complete(&self, stats: Stats, core: &SpanLanes) -> Stats {
        let (host, port) = (self.plan.route.endpoint.host(), self.plan.route.endpoint.port());
        let stats = Stats { server: (host.to_owned(), port), health: Health::default(), ..stats };
        self.control(core).map_or_else(|| stats.clone(), |control| control.complete(stats.clone()))
    }

    fn control(&self, core: &SpanLanes) -> Option<&Control> {
        self.posts.get(core.generation()).map(|post| &post.control)
    }
}
