//! Does a span cost more when other threads record too, when nobody drains, or when a thread is stopped inside a ring?
//!
//! `lane/threads_N` is the CPU time of the recording threads for one W1 span: wall time would count the drain's core as
//! well. They record in bursts that the rings can hold, and let the drain catch up in between, untimed: on two cores it
//! gets too little of them to follow two threads that never pause, and a dropped span costs something else.
//! `lane/threads_2_apart` gives each of two threads an engine of its own: what it takes more than one thread, the
//! machine takes. `lane/end_p999*` is the 99.9th percentile of `end()` alone, in wall time.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use spanring::{
    Config, Engine,
    internals::{enter, ticks},
};

#[path = "../tests/workload/mod.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod workload;
use workload::{Drained, order, w1};

fn lane(c: &mut Criterion) {
    let mut group = c.benchmark_group("lane");
    group.sample_size(20);
    for threads in [1, 2, 4, 8, 64] {
        let mut drained = Drained::start();
        threads_record(&mut group, &format!("threads_{threads}"), threads, &[&drained.engine]);
        drained.report(&format!("threads_{threads}"));
    }
    let undrained = Arc::new(Engine::start(Config::default()).expect("the configuration is good"));
    threads_record(&mut group, "threads_2_undrained", 2, &[&undrained]);
    {
        let mut apart = [Drained::start(), Drained::start()];
        threads_record(&mut group, "threads_2_apart", 2, &[&apart[0].engine, &apart[1].engine]);
        apart.iter_mut().for_each(|drained| drained.report("threads_2_apart"));
    }
    let mut drained = Drained::start();
    percentile(&mut group, "end_p999", &drained.engine);
    {
        // Every first choice of this machine's cores is taken: the worst that stopped threads can do on as many cores.
        let _parked: Vec<_> =
            (0..2).map(|hint| enter(&drained.engine, hint).expect("nobody else records now")).collect();
        percentile(&mut group, "end_p999_parked", &drained.engine);
    }
    drained.report("end");
    group.finish();
}

/// Spans of one burst: two MiB of the 32 that the rings have.
const BURST: u64 = 10_000;
/// Bytes that may still wait when the next burst begins.
const WAITING_MAX: u64 = 1 << 20;

/// Threads record into `engines`, one after the other in turn.
fn threads_record(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, threads: usize, engines: &[&Arc<Engine>]) {
    let is_drained = !name.ends_with("undrained");
    group.bench_function(name, |b| {
        b.iter_custom(|spans| {
            let each = spans.div_ceil(threads as u64);
            let barrier = Arc::new(Barrier::new(threads));
            let workers: Vec<_> = (0..threads)
                .map(|number| {
                    let (engine, barrier) = (Arc::clone(engines[number % engines.len()]), Arc::clone(&barrier));
                    thread::spawn(move || {
                        let (tracer, order) = (engine.tracer("bench"), order());
                        (0..100).for_each(|_| w1(&tracer, &order));
                        let mut time = Duration::ZERO;
                        let mut left = each;
                        barrier.wait();
                        while left > 0 {
                            let burst = left.min(BURST);
                            let start = thread_cpu_time();
                            (0..burst).for_each(|_| w1(&tracer, &order));
                            time += thread_cpu_time() - start;
                            left -= burst;
                            while is_drained && engine.memory().rings_waiting > WAITING_MAX {
                                thread::park_timeout(Duration::from_micros(50));
                            }
                        }
                        time
                    })
                })
                .collect();
            let total: Duration = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
            total.mul_f64(spans as f64 / (each * threads as u64) as f64)
        });
    });
}

/// Reports the 99.9th percentile in place of the mean: criterion is told that each call took that long.
fn percentile(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, engine: &Engine) {
    let tracer = engine.tracer("bench");
    group.bench_function(name, |b| {
        b.iter_custom(|spans| {
            let count = spans.clamp(10_000, 1_000_000);
            let (wall, first) = (ticks::monotonic_nanos(), ticks::counter());
            let mut each: Vec<u64> = (0..count)
                .map(|_| {
                    let span = tracer.span("step").start();
                    let start = ticks::counter();
                    span.end();
                    ticks::counter() - start
                })
                .collect();
            let nanos = (ticks::monotonic_nanos() - wall) as f64 / (ticks::counter() - first) as f64;
            each.sort_unstable();
            let percentile = each[each.len() * 999 / 1000];
            Duration::from_secs_f64(percentile as f64 * nanos * 1e-9 * spans as f64)
        });
    });
}

fn thread_cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

criterion_group!(benches, lane);
criterion_main!(benches);
