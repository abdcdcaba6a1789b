//! What does one span cost the thread that records it, with the drain running on another core?

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spanring::Value;

#[path = "../tests/workload/mod.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod workload;
use workload::{Drained, order, unsampled_child, unsampled_parent, w0, w1, w2};

fn record(c: &mut Criterion) {
    let mut drained = Drained::start();
    let tracer = drained.engine.tracer("bench");
    let order = order();
    let mut group = c.benchmark_group("record");
    group.bench_function("W0", |b| b.iter(|| w0(&tracer)));
    group.bench_function("W1", |b| b.iter(|| w1(&tracer, &order)));
    let mut round = 0;
    group.throughput(Throughput::Elements(5));
    group.bench_function("W2", |b| {
        // Criterion reports the time of one call: a fifth of a tree, because the figure is per span.
        b.iter_custom(|spans| {
            let trees = spans.div_ceil(5);
            let start = std::time::Instant::now();
            for _ in 0..trees {
                round += 1;
                w2(&tracer, &order, round);
            }
            start.elapsed().mul_f64(spans as f64 / (trees * 5) as f64)
        });
    });
    group.throughput(Throughput::Elements(1));
    let parent = unsampled_parent();
    group.bench_function("unsampled_child", |b| b.iter(|| unsampled_child(&tracer, &parent)));
    group.bench_function("late_attribute", |b| {
        b.iter(|| {
            let mut span = tracer.span("step").start();
            span.set("order.id", order.as_str());
            span.end();
        });
    });
    group.bench_function("overwrite", |b| {
        b.iter(|| {
            let mut span = tracer.span("step").start();
            span.set("order.id", order.as_str());
            span.set("order.id", "order-9876543210");
            span.end();
        });
    });
    let keys: Vec<String> = (0..32).map(|index| format!("attribute.{index:02}")).collect();
    group.bench_function("attributes_32", |b| {
        b.iter(|| {
            let mut span = tracer.span("step").start();
            keys.iter().for_each(|key| span.set(key.as_str(), Value::Str("a value of some bytes")));
            span.end();
        });
    });
    group.finish();
    drained.report("record");
}

criterion_group!(benches, record);
criterion_main!(benches);
