//! What would any recorder of 256-byte spans have to pay on this machine? Two clock readings, one copy, one
//! publication.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Release},
};

use criterion::{Criterion, criterion_group, criterion_main};
use spanring::internals::ticks;

const RING: usize = 1 << 20;
const SPAN: usize = 256;

fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let source = vec![7u8; SPAN];
    let mut ring = vec![0u8; RING];
    let tail = AtomicU64::new(0);
    let mut at = 0;
    group.bench_function("ticks", |b| b.iter(|| (ticks::counter(), ticks::counter())));
    group.bench_function("copy256", |b| {
        b.iter(|| copy(&mut ring, &mut at, &source));
    });
    group.bench_function("publish", |b| b.iter(|| tail.store(black_box(at) as u64, Release)));
    group.bench_function("all", |b| {
        b.iter(|| {
            let start = ticks::counter();
            copy(&mut ring, &mut at, &source);
            tail.store(at as u64, Release);
            (start, ticks::counter())
        });
    });
    group.finish();
}

#[inline]
fn copy(ring: &mut [u8], at: &mut usize, source: &[u8]) {
    ring[*at..*at + SPAN].copy_from_slice(black_box(&source[..SPAN]));
    black_box(&mut *ring);
    *at = (*at + SPAN) & (RING - 1);
}

criterion_group!(benches, floor);
criterion_main!(benches);
