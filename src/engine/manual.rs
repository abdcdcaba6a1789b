//! The program's own drain: spans are taken out by [`Engine::drain`](super::Engine::drain), and nothing is exported.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
};

use super::per_process::PerProcess;
use crate::{
    clock::Anchors,
    lane::Reader,
    notice::{self, Notice},
    record::{Draft, Record},
    report::Ledger,
    trace::{Scope, Shared, SpanLanes},
};

/// What the program drains by.
#[derive(Debug)]
pub(super) struct Manual(PerProcess<Mutex<Drain>>);

/// The reading half: the reader of the lanes, and the clock that dates spans.
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

impl Manual {
    /// `is_told` says whether the program is to hear of spans that nobody drains: it may have forgotten to, or to
    /// export.
    pub(super) fn new(lanes: &Arc<SpanLanes>, is_told: bool) -> Self {
        let unread = Notice::default();
        if is_told {
            // Until the first drain the alarm is the program's.
            lanes.alarm().hang(Box::new(move || unread.say(notice::UNREAD)));
            lanes.alarm().sleep(|| false);
        }
        let drain = Drain { reader: lanes.reader(), anchors: Anchors::new(lanes.owner().clock()) };
        Self(PerProcess::new(lanes.generation(), Mutex::new(drain)))
    }

    /// Takes out what has ended before this call.
    pub(super) fn drain(&self, lanes: &Arc<SpanLanes>, mut sink: impl FnMut(&Scope, &[u8])) -> usize {
        if IN_SINK.replace(true) {
            return 0;
        }
        let _leave = Leave;
        lanes.alarm().wake_up();
        let marks = lanes.marks();
        self.with(lanes, |Drain { reader, anchors }| {
            anchors.refresh();
            let Some(reader) = reader else {
                return 0;
            };
            let (scopes, nameless) = (lanes.owner().scopes(), Scope::default());
            let mut bytes = Vec::new();
            reader.read(Some(&marks), |record| {
                let Some(record) = Record::parse(record) else {
                    return debug_assert!(false, "lanes hold records");
                };
                bytes.clear();
                record.emit(anchors, &mut bytes);
                sink(scopes.get(record.scope()).unwrap_or(&nameless), &bytes);
            })
        })
    }

    /// Takes everything out and drops it.
    pub(super) fn discard(&self, lanes: &Arc<SpanLanes>) {
        // Asleep until the end: no drain came, and no ring was half full.
        let was_asleep = !lanes.alarm().wake_up();
        let waiting = Ledger::of(lanes, None).queued;
        if was_asleep && waiting > 0 {
            notice::undrained(waiting);
        }
        self.with(lanes, |drain| drain.reader.take().map(|mut reader| reader.read(None, |_| ())));
    }

    fn with<R>(&self, lanes: &Arc<SpanLanes>, work: impl FnOnce(&mut Drain) -> R) -> R {
        let is_settled = lanes.settle();
        let empty = || Mutex::new(Drain { reader: None, anchors: Anchors::new(lanes.owner().clock()) });
        let drain = self.0.get_or(lanes.generation(), empty);
        // A sink may have panicked: the reader has released what it read, so it goes on from there.
        let mut drain = drain.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.reader.as_ref().is_none_or(|reader| !reader.is_fit()) {
            // A child process takes its own reader; the parent's is not fit here.
            drain.reader = is_settled.then(|| lanes.reader()).flatten();
        }
        work(&mut drain)
    }
}
