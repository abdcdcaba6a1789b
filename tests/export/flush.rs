//! A flush is linearizable: whatever had ended when it was called is at the collector when it returns, whoever ended
//! it, while others record, flush and shut down.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use spanring::{
    Config, DiagnosticSink, DriverChoice, Engine, Export, Topic, Tracer, WorkerChoice,
    testing::collector::{Collector, Connection, Mode, OK, Port},
};

/// Flushes in all: `SPANRING_FLUSHES=100000` is the long run, for a release build.
fn flushes() -> u64 {
    std::env::var("SPANRING_FLUSHES").ok().and_then(|flushes| flushes.parse().ok()).unwrap_or(2_000)
}

const FLUSHERS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(collector: &Collector, driver: DriverChoice, worker: WorkerChoice) -> Arc<Engine> {
    let export = Export { driver, batch_spans_max: 512, ..Export::to(&collector.url()) };
    Arc::new(Engine::start(Config { export: Some(export), worker, ..Config::default() }).unwrap())
}

/// PRC-10: on all cores, whatever else they record.
#[test]
fn flush_delivers_whatever_had_ended_when_it_was_called() {
    for driver in [DriverChoice::Uring, DriverChoice::Poll] {
        let collector = Arc::new(Collector::start(Mode::Count).unwrap());
        let engine = engine(&collector, driver, WorkerChoice::OwnThread);
        let ended = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..FLUSHERS)
            .map(|_| {
                let (engine, collector, ended) = (Arc::clone(&engine), Arc::clone(&collector), Arc::clone(&ended));
                thread::spawn(move || {
                    let tracer = engine.tracer("flush");
                    for round in 0..flushes() / FLUSHERS {
                        for _ in 0..round % 3 {
                            tracer.span("work").start().end();
                            // Behind the end, so that what is counted has ended.
                            ended.fetch_add(1, SeqCst);
                        }
                        let before = ended.load(SeqCst);
                        let receipt = engine.flush(PATIENCE);
                        assert!(receipt.is_complete(), "{receipt:?}");
                        assert!(receipt.ledger.exported >= before, "{before} had ended: {receipt:?}");
                        let there = collector.tally().spans;
                        assert!(there >= before, "{before} had ended, {there} are there");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let receipt = engine.shutdown(PATIENCE);
        assert_eq!((receipt.ledger.exported, receipt.lost.total()), (ended.load(SeqCst), 0));
    }
}

#[test]
fn flush_during_a_shutdown_ends_and_loses_nothing() {
    for _ in 0..20 {
        let collector = Collector::start(Mode::Count).unwrap();
        let engine = engine(&collector, DriverChoice::Auto, WorkerChoice::OwnThread);
        let tracer = engine.tracer("flush");
        (0..1000).for_each(|_| tracer.span("work").start().end());
        let flusher = thread::spawn({
            let engine = Arc::clone(&engine);
            move || engine.flush(PATIENCE)
        });
        let receipt = engine.shutdown(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        let receipt = flusher.join().unwrap();
        assert!(receipt.is_complete(), "{receipt:?}");
        assert_eq!((engine.ledger().exported, collector.tally().spans), (1000, 1000));
        // Both are of no effect now, and say so at once.
        assert!(engine.flush(PATIENCE).is_complete() && engine.shutdown(PATIENCE).is_complete());
        tracer.span("late").start().end();
        assert_eq!(engine.ledger().lost.closed, 1);
    }
}

#[test]
fn flush_in_a_diagnostic_sink_does_not_wait() {
    // There is no listener: the first failure is told to the sink, which flushes.
    let collector = Collector::start(Mode::Count).unwrap();
    let url = collector.url();
    drop(collector);
    let (sender, receiver) = mpsc::channel();
    let place: Arc<OnceLock<std::sync::Weak<Engine>>> = Arc::default();
    let sink = DiagnosticSink::new({
        let place = Arc::clone(&place);
        move |_| {
            if let Some(engine) = place.get().and_then(std::sync::Weak::upgrade) {
                let _ = sender.send(engine.flush(PATIENCE));
            }
        }
    });
    let export = Export { diagnostics: Some(sink), shutdown_timeout: Duration::ZERO, ..Export::to(&url) };
    let engine = Arc::new(Engine::start(Config { export: Some(export), ..Config::default() }).unwrap());
    place.set(Arc::downgrade(&engine)).unwrap();
    engine.tracer("flush").span("work").start().end();
    let _ = engine.flush(Duration::from_millis(100));
    let receipt = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(!receipt.is_complete() && receipt.elapsed < PATIENCE / 2, "{receipt:?}");
}

#[test]
fn host_that_polls_needs_no_thread_of_ours() {
    let collector = Collector::start(Mode::Count).unwrap();
    let engine = engine(&collector, DriverChoice::Auto, WorkerChoice::Polled);
    let tracer = engine.tracer("poll");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..5000).for_each(|_| tracer.span("work").start().end());
            // From another thread than the one that polls.
            assert!(engine.flush(PATIENCE).is_complete());
            stop.store(true, SeqCst);
        });
        while !stop.load(SeqCst) {
            if !engine.poll_once(Duration::from_millis(1)) {
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    });
    assert_eq!((engine.ledger().exported, collector.tally().spans), (5000, 5000));
    tracer.span("last").start().end();
    // And with no thread that polls: the shutdown does the work itself.
    let receipt = engine.shutdown(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!(collector.tally().spans, 5001);
}

/// What the documentation of `WorkerChoice::Polled` says of a host that forgets to poll.
#[test]
fn spans_that_nobody_polls_wait_until_the_lanes_are_full() {
    let collector = Collector::start(Mode::Count).unwrap();
    let export = Export::to(&collector.url());
    let worker = WorkerChoice::Polled;
    let engine =
        Engine::start(Config { memory_budget: 4 << 20, export: Some(export), worker, ..Config::default() }).unwrap();
    let tracer = engine.tracer("poll");
    let mut spans = 0;
    while engine.ledger().lost.lane_full == 0 && spans < 1_000_000 {
        (0..1000).for_each(|_| tracer.span("work").start().end());
        spans += 1000;
    }
    let ledger = engine.ledger();
    assert!(ledger.lost.lane_full > 0 && ledger.queued + ledger.lost.lane_full == spans, "{ledger:?}");
    assert_eq!(collector.tally().spans, 0);
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.ledger.exported, ledger.queued, "the flush does the work itself");
    assert_eq!(collector.tally().spans, ledger.queued);
}

/// A flush that is asked for while another is on its way begins when that one is done, not when the worker would have
/// looked by itself.
#[test]
fn second_flush_begins_where_the_first_ends() {
    let collector = Collector::start(Mode::Count).unwrap();
    let engine = engine(&collector, DriverChoice::Auto, WorkerChoice::OwnThread);
    let tracer = engine.tracer("flush");
    for _ in 0..20 {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    tracer.span("work").start().end();
                    assert!(engine.flush(PATIENCE).is_complete());
                });
            }
        });
    }
    // Sixty flushes, each of which could have waited for a second.
    assert_eq!(engine.shutdown(PATIENCE).ledger.exported, 60);
}

#[test]
fn span_that_ends_after_a_missed_deadline_is_lost_as_closed() {
    let collector = Collector::start(Mode::Count).unwrap();
    let engine = engine(&collector, DriverChoice::Auto, WorkerChoice::OwnThread);
    let tracer = engine.tracer("flush");
    collector.pause();
    (0..10).for_each(|_| tracer.span("waiting").start().end());
    let open = tracer.span("open").start();
    let _ = engine.shutdown(Duration::from_millis(50));
    let receipt = engine.shutdown(PATIENCE);
    assert!(receipt.is_complete(), "{receipt:?}");
    open.end();
    let ledger = engine.ledger();
    assert!(ledger.is_closed() && ledger.queued + ledger.in_flight + ledger.live == 0, "{ledger:?}");
    assert_eq!((ledger.lost.shutdown_deadline + ledger.unconfirmed, ledger.lost.closed), (10, 1), "{ledger:?}");
    collector.resume();
}

/// Two connections, each of which brings more spans with every request than the request takes away: the lanes are never
/// empty, however fast the worker is, and a flush ends all the same.
#[test]
fn flush_ends_under_endless_load() {
    let tracer: Arc<OnceLock<Tracer>> = Arc::default();
    let load = Arc::clone(&tracer);
    let serve = move |connection: &mut Connection| {
        while connection.wait()? {
            let Ok(request) = connection.read_request()? else {
                break;
            };
            let tracer = load.get().expect("who sends has a tracer");
            (0..request.spans + 100).for_each(|_| tracer.span("load").start().end());
            connection.take(request);
            connection.write(OK)?;
        }
        Ok(())
    };
    let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let collector = Collector::start_with(Arc::new(port), Mode::Count, Arc::new(serve)).unwrap();
    let export = Export { connections_max: 2, batch_spans_max: 100, ..Export::to(&collector.url()) };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = tracer.get_or_init(|| engine.tracer("flush"));
    // More than may be on the way at a time.
    (0..1000).for_each(|_| tracer.span("work").start().end());
    let receipt = engine.flush(PATIENCE);
    assert!(receipt.is_complete() && receipt.exported >= 1000 && receipt.waiting > 0, "{receipt:?}");
    assert!(engine.shutdown(PATIENCE).ledger.is_closed());
}

/// The worker says its last words before it is over, here for as long as its sink likes: a receipt that is taken
/// meanwhile has nothing left to wait for, and says so.
#[test]
fn receipt_with_every_span_counted_is_complete() {
    let (reach, reached) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let sink = DiagnosticSink::new(move |diagnostic| {
        if diagnostic.topic == Topic::Loss {
            let _ = reach.send(());
            let _ = released.lock().unwrap().recv();
        }
    });
    let export = Export { diagnostics: Some(sink), ..Export::to("http://127.0.0.1:9") };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    (0..80).for_each(|_| tracer.span("work").start().end());
    let first = engine.shutdown(Duration::ZERO);
    assert_eq!(first.is_complete(), first.waiting == 0, "{first}");
    reached.recv().unwrap();
    let receipt = engine.shutdown(Duration::ZERO);
    assert_eq!((receipt.waiting, receipt.ledger.lost.shutdown_deadline), (0, 80), "{receipt:?}");
    assert!(receipt.is_complete() && !receipt.is_lossless(), "{receipt:?}");
    drop(release);
    drop(engine);
}
