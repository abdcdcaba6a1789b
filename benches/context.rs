//! What does it cost to know where one is? As multiples of the floor, which is measured in the same run.

use std::{
    future::{Future, pending},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Release},
    task::{self, Waker},
};

use criterion::{Criterion, criterion_group, criterion_main};
use spanring::{
    Baggage, Context, TraceFuture as _, current_ids,
    internals::ticks,
    propagate::{baggage, trace_context},
};

#[path = "../tests/workload/mod.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod workload;
use workload::{Drained, Headers, sampled_parent};

fn context(c: &mut Criterion) {
    let mut drained = Drained::start();
    let tracer = drained.engine.tracer("bench");
    let mut group = c.benchmark_group("context");
    // The least that a recorder has to do, as in floor.rs.
    let (source, tail) = ([7_u8; 256], AtomicU64::new(0));
    let mut slot = [0_u8; 256];
    group.bench_function("floor", |b| {
        b.iter(|| {
            let start = ticks::counter();
            slot.copy_from_slice(black_box(&source));
            black_box(&mut slot);
            tail.store(1, Release);
            (start, ticks::counter())
        });
    });
    group.bench_function("span", |b| b.iter(|| tracer.span("step").start().end()));
    group.bench_function("span_entered", |b| b.iter(|| drop(tracer.span("step").start().enter())));
    group.bench_function("in_span", |b| b.iter(|| tracer.in_span("step", |_| ())));
    let parent = Context::of(sampled_parent());
    let attached = parent.clone().attach();
    group.bench_function("capture_attach_detach", |b| b.iter(|| drop(Context::current().attach())));
    group.bench_function("current_ids", |b| b.iter(current_ids));
    group.bench_function("child_of_current", |b| b.iter(|| tracer.span("step").start().end()));
    group.bench_function("child_of_given", |b| b.iter(|| tracer.span("step").parent(&parent).start().end()));
    let mut task = task::Context::from_waker(Waker::noop());
    let mut plain = Box::pin(pending::<()>());
    group.bench_function("poll", |b| b.iter(|| black_box(&mut plain).as_mut().poll(&mut task).is_pending()));
    let mut in_context = Box::pin(pending::<()>().in_context(parent.clone()));
    group.bench_function("poll_in_context", |b| {
        b.iter(|| black_box(&mut in_context).as_mut().poll(&mut task).is_pending());
    });
    let mut in_span = Box::pin(pending::<()>().in_span(tracer.span("task").start()));
    group.bench_function("poll_in_span", |b| {
        b.iter(|| black_box(&mut in_span).as_mut().poll(&mut task).is_pending());
    });
    drop((in_span, attached));
    let mut headers = Headers::default();
    group.bench_function("traceparent_write", |b| {
        b.iter(|| trace_context::inject(parent.span_context(), black_box(&mut headers)));
    });
    group.bench_function("traceparent_parse", |b| b.iter(|| trace_context::extract(black_box(&headers))));
    let members = [("tenant", "blue"), ("user.id", "0123456789"), ("region", "été 1")];
    let members = members.iter().try_fold(Baggage::default(), |all, (name, value)| all.with(name, value));
    let members = members.expect("three members have room");
    group.bench_function("baggage_write", |b| b.iter(|| baggage::inject(&members, black_box(&mut headers))));
    group.bench_function("baggage_parse", |b| b.iter(|| baggage::extract(black_box(&headers))));
    group.finish();
    drained.report("context");
}

criterion_group!(benches, context);
criterion_main!(benches);
