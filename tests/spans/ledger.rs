//! The ledger closes to the span under a load that does everything to it, and a thread that is stopped in a lane stops
//! no other.

use std::{
    net::TcpListener,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use spanring::{
    Config, DiagnosticSink, Engine, Export, Ledger,
    internals::{Class, Lanes, Offer, Ring, Shape, Shut, enter},
};

use crate::stress::{self, Outcome, Plan};

const SEEDS: u64 = 4;
const THREADS: usize = 8;
const SPANS: u64 = 8 * 10_000;

#[test]
fn ledger_closes_to_the_span_and_every_cause_occurs() {
    let outcomes: Vec<Outcome> = (0..SEEDS)
        .map(|seed| {
            let memory_budget = [1 << 20, 2 << 20, 4 << 20][usize::try_from(seed).unwrap() % 3];
            stress::run(&Plan { seed, threads: THREADS, spans: SPANS, memory_budget }).unwrap()
        })
        .collect();
    let all = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
    // A cause that did not occur was not tested.
    assert!(all(|outcome| outcome.ledger.drained) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.not_sampled) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.live) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.lost.lane_full) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.lost.spill_full) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.lost.live_limit) > 0, "{outcomes:?}");
    assert!(all(|outcome| outcome.ledger.lost.closed) > 0, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome.has_spilled), "{outcomes:?}");
}

/// The generation of a ring's process.
const HERE: u32 = 1;
/// Threads that come by while another one is parked with a lease.
const VISITORS: usize = 4;
const RECORDS: usize = 1_000;
const RECORD_LEN: usize = 24;
/// Blocks that a small spill stack takes, and one that takes everything.
const SPILL_SMALL: usize = 1_000;
const SPILL_LARGE: usize = VISITORS * RECORDS;
/// What a half-written record shows.
const HALF: u8 = 0xAA;

#[test]
fn parked_lease_holder_stops_no_other_thread() {
    // With one ring everyone else goes to the spill stack; with more, to a sibling, unless that is held too.
    for (count, spill) in [(1, SPILL_SMALL), (2, SPILL_LARGE), (4, SPILL_LARGE)] {
        let lanes = &Lanes::<(), ()>::new(shape(count, spill), ()).unwrap();
        let (parked, is_parked) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let holder = scope.spawn(move || {
                lanes.offer(0, RECORD_LEN, |record| {
                    record[..RECORD_LEN / 2].fill(HALF);
                    parked.send(()).unwrap();
                    // An error means that the test has failed, and lets the scope end.
                    let _ = may_go.recv();
                    record.fill(HALF);
                })
            });
            is_parked.recv().unwrap();
            let go = go;
            let visitors: Vec<_> = (0..VISITORS).map(|_| scope.spawn(|| visit(lanes))).collect();
            let visits: Vec<Visits> = visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect();
            let sum = |part: fn(&Visits) -> usize| visits.iter().map(part).sum::<usize>();
            let (queued, spilled, refused) = (sum(|v| v.queued), sum(|v| v.spilled), sum(|v| v.refused));
            // All are through while the holder is still parked, and the reader finds all that they left, and no half
            // record.
            assert_eq!(queued + spilled + refused, VISITORS * RECORDS);
            let mut reader = lanes.reader().unwrap();
            assert_eq!(reader.read(None, |record| assert_eq!(record[0], 0)), queued + spilled);
            match count {
                1 => assert_eq!((queued, spilled), (0, spill)),
                _ => assert!(queued > 0 && refused == 0, "{queued} queued, {refused} refused"),
            }
            go.send(()).unwrap();
            assert_eq!(holder.join().unwrap(), Offer::Queued { tries: 1 });
            assert_eq!(reader.read(None, |record| assert_eq!(record, [HALF; RECORD_LEN])), 1);
        });
    }
}

#[test]
fn spans_end_at_once_while_the_only_ring_is_held() {
    const SPANS: u64 = 2_000;
    let engine = Engine::start(Config { memory_budget: 1 << 20, lanes: Some(1), ..Config::default() }).unwrap();
    let lease = enter(&engine, 0).unwrap();
    thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| (0..SPANS).for_each(|_| engine.tracer("test").span("visitor").start().end()));
        }
    });
    let before = engine.ledger();
    assert!(before.is_closed(), "{before:?}");
    assert_eq!(before.started, VISITORS as u64 * SPANS);
    assert_eq!(before.started, before.queued + before.lost.spill_full, "{before:?}");
    assert!(before.queued > 0 && before.lost.spill_full > 0, "{before:?}");
    assert_eq!(engine.drain(|_, _| ()) as u64, before.queued, "the reader asks for no lease");
    drop(lease);
    engine.tracer("test").span("after").start().end();
    assert_eq!(engine.memory().spill_waiting, 0, "the ring is open again");
    assert_eq!(engine.drain(|_, _| ()), 1);
    assert!(engine.ledger().is_closed());
}

/// Unread, and yet to the span; and the blocks come home.
#[test]
fn shutdown_counts_what_waits_in_rings_and_on_the_spill_stack() {
    const SPANS: u64 = 2_000;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let export = Export {
        // Nothing is sent before the shutdown.
        schedule_delay: Duration::from_secs(3600),
        batch_spans_max: 100_000,
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        ..Export::to(&format!("http://{}", taken.local_addr().unwrap()))
    };
    let config = Config { memory_budget: 8 << 20, lanes: Some(1), export: Some(export), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let record = |spans| (0..spans).for_each(|_| engine.tracer("test").span("work").start().end());
    let lease = enter(&engine, 0).unwrap();
    record(SPANS);
    drop(lease);
    record(SPANS / 2);
    let before = engine.ledger();
    assert!(before.queued + before.in_flight > SPANS / 2, "{before:?}");
    let _ = engine.shutdown(Duration::ZERO);
    let receipt = engine.shutdown(Duration::from_secs(20));
    let Ledger { started, unconfirmed, lost, .. } = receipt.ledger;
    assert!(receipt.is_complete() && receipt.waiting == 0 && receipt.ledger.is_closed(), "{receipt:?}");
    // A request that the shutdown still sent, and that nobody answers, is unconfirmed.
    let unread = unconfirmed + lost.shutdown_deadline + lost.spill_full;
    assert_eq!((started, unread), (SPANS + SPANS / 2, started), "{receipt:?}");
    let memory = engine.memory();
    assert_eq!((memory.rings_waiting, memory.spill_waiting), (0, 0));
}

/// A thread that is stopped in the middle of an end holds the only ring over the whole shutdown.
#[test]
fn spans_that_end_after_a_shutdown_that_found_a_ring_held_are_lost_as_closed() {
    const SPANS: usize = 100;
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", refusing.local_addr().unwrap());
    drop(refusing);
    let export = Export { diagnostics: Some(DiagnosticSink::new(|_| ())), ..Export::to(&url) };
    let config = Config { memory_budget: 8 << 20, lanes: Some(1), export: Some(export), ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    let open: Vec<_> = (0..SPANS).map(|_| tracer.span("late").start()).collect();
    let lease = enter(&engine, 0).unwrap();
    let _ = engine.shutdown(Duration::ZERO);
    let receipt = engine.shutdown(Duration::from_secs(20));
    assert!(receipt.is_complete() && receipt.waiting == 0 && receipt.ledger.is_closed(), "{receipt:?}");
    drop(lease);
    drop(open);
    let ledger = engine.ledger();
    assert_eq!((ledger.lost.closed, ledger.queued, ledger.live), (SPANS as u64, 0, 0), "{ledger:?}");
    assert!(ledger.is_closed(), "{ledger:?}");
}

#[test]
fn close_says_that_a_ring_is_held_and_closes_the_others() {
    let lanes = &Lanes::<(), ()>::new(shape(2, SPILL_SMALL), ()).unwrap();
    let (parked, is_parked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let holder = scope.spawn(move || {
            lanes.offer(0, RECORD_LEN, |_| {
                parked.send(()).unwrap();
                let _ = may_go.recv();
            })
        });
        is_parked.recv().unwrap();
        let go = go;
        assert!(!lanes.close());
        assert_eq!(lanes.offer(1, RECORD_LEN, |_| ()), Offer::Closed);
        assert!(!lanes.close());
        go.send(()).unwrap();
        assert_eq!(holder.join().unwrap(), Offer::Queued { tries: 1 }, "it was in before the close");
    });
    assert!(lanes.close());
    assert_eq!(lanes.offer(0, RECORD_LEN, |_| ()), Offer::Closed);
    assert_eq!(lanes.reader().unwrap().read(None, |_| ()), 1);
}

#[test]
fn parked_lease_refuses_others_at_once() {
    let ring = &Ring::new(4096, HERE).unwrap();
    let (parked, is_parked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let lease = ring.enter(HERE).unwrap();
            parked.send(()).unwrap();
            let _ = may_go.recv();
            drop(lease);
        });
        is_parked.recv().unwrap();
        let go = go;
        (0..RECORDS).for_each(|_| assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Held));
        assert!(!ring.close());
        drop(go);
    });
    assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Closed, "for good, though it was held");
}

fn shape(lanes: usize, spill: usize) -> Shape {
    let block = Class::First.bytes();
    let arena_bytes = block * (spill + 100);
    Shape { lanes, ring_bytes: 1 << 20, arena_bytes, spill_bytes: block * spill, seats: 8 }
}

#[derive(Default)]
struct Visits {
    queued: usize,
    spilled: usize,
    refused: usize,
}

/// Does what the end of a span does, with records of zeros.
fn visit(lanes: &Arc<Lanes<(), ()>>) -> Visits {
    let mut visits = Visits::default();
    for _ in 0..RECORDS {
        match lanes.offer(0, RECORD_LEN, |record| record.fill(0)) {
            Offer::Queued { .. } => visits.queued += 1,
            Offer::Busy => {
                let spilled = lanes.take(Class::First).is_some_and(|block| lanes.spill(block, RECORD_LEN).is_ok());
                visits.spilled += usize::from(spilled);
                visits.refused += usize::from(!spilled);
            }
            other => panic!("{other:?}"),
        }
    }
    visits
}
