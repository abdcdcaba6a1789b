//! The load: what one thread records, how much of it, and when.

use std::{
    iter::Sum,
    thread,
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use spanring::{Key, Kind, Status, Tracer};

use super::options::{Options, Workload};

const METHOD: Key<'static> = Key::new("http.request.method");
const STATUS_CODE: Key<'static> = Key::new("http.response.status_code");
const ORDER: Key<'static> = Key::new("order.id");
const CACHED: Key<'static> = Key::new("cache.hit");
const SHARE: Key<'static> = Key::new("load.share");
const ROWS: Key<'static> = Key::new("db.response.returned_rows");

/// What one thread has to do.
#[derive(Clone, Debug)]
pub struct Load {
    workload: Workload,
    pace: Pace,
    lasts: Duration,
    /// Sixteen bytes that are not known when the program is built.
    order: String,
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    FlatOut,
    /// So many spans in each second.
    Steady(u64),
}

/// What a thread did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub spans: u64,
    /// Processor time of the requests, without the waits between: more than that of the spans. At a low rate a few of
    /// them follow each other, in cold caches, and the reading of this time weighs in.
    pub cpu: Duration,
}

impl Sum for Done {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, done| Self { spans: sum.spans + done.spans, cpu: sum.cpu + done.cpu })
    }
}

/// How finely the spans of a second are spread. A thread that works a millisecond behind a timer needs no spinning, and
/// no ring is so small that it would notice.
const GRAIN: Duration = Duration::from_millis(1);
/// Spans between two looks at the clock: about half a millisecond flat out.
const BURST_SPANS_MAX: u64 = 4096;
/// A machine that cannot keep the rate gets so much longer for it, and the report then shows the rate that it kept.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Load {
    /// The part of thread `number`; together the threads record the whole rate.
    pub fn share(options: &Options, number: u64) -> Self {
        let pace = match options.rate {
            0 => Pace::FlatOut,
            rate => Pace::Steady(rate / options.threads + u64::from(number < rate % options.threads)),
        };
        let lasts = Duration::from_secs(options.seconds);
        Self { workload: options.workload, pace, lasts, order: format!("order-{number:010}") }
    }

    /// Records until all is done, or the time is over.
    pub fn run(&self, tracer: &Tracer) -> Done {
        let begun = Instant::now();
        let mut done = Done::default();
        let late_max = match self.pace {
            Pace::FlatOut => Duration::ZERO,
            Pace::Steady(_) => LATE_MAX,
        };
        loop {
            let elapsed = begun.elapsed();
            let due = self.due(elapsed);
            let is_all = elapsed >= self.lasts && done.spans >= due;
            if is_all || elapsed >= self.lasts + late_max {
                return done;
            }
            if done.spans >= due {
                let into_grain = Duration::from_nanos(u64::from(elapsed.subsec_nanos()) % 1_000_000);
                thread::park_timeout(GRAIN - into_grain);
                continue;
            }
            let target = due.min(done.spans + BURST_SPANS_MAX);
            let before = ThreadTime::now();
            while done.spans < target {
                done.spans += self.request(tracer, done.spans);
            }
            done.cpu += before.elapsed();
        }
    }

    /// Spans that are to be recorded after so much time.
    fn due(&self, elapsed: Duration) -> u64 {
        match self.pace {
            Pace::FlatOut => u64::MAX,
            Pace::Steady(rate) => {
                let due = elapsed.min(self.lasts).as_nanos() * u128::from(rate) / 1_000_000_000;
                u64::try_from(due).unwrap_or(u64::MAX)
            }
        }
    }

    /// One request of the workload; how many spans it had.
    fn request(&self, tracer: &Tracer, number: u64) -> u64 {
        match self.workload {
            Workload::Shop => shop(tracer, &self.order, number),
            Workload::W1 => w1(tracer, &self.order),
        }
    }
}

/// A root with attributes, two children with events, and now and then an error.
fn shop(tracer: &Tracer, order: &str, number: u64) -> u64 {
    let mut root = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    root.set(METHOD, "GET");
    root.set(ORDER, order);
    root.set(CACHED, !number.is_multiple_of(2));
    for name in ["load", "render"] {
        let mut child = tracer.span(name).parent(root.context()).start();
        child.set(ROWS, 12);
        child.event_with("cache.miss", [("cache.key", order)]);
        child.end();
    }
    if number.is_multiple_of(100) {
        root.status(Status::Error("out of stock"));
    }
    root.end();
    3
}

/// The unit in which the project states its figures: a static string, a dynamic one of 16 bytes, an integer, a bool, a
/// float.
fn w1(tracer: &Tracer, order: &str) -> u64 {
    let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    span.set(METHOD, "GET");
    span.set(ORDER, order);
    span.set(STATUS_CODE, 200);
    span.set(CACHED, true);
    span.set(SHARE, 0.25);
    span.end();
    1
}
