//! A shutdown returns by its deadline, whatever the collector does and whoever calls, and its receipt accounts for every span.
//!
//! The promise is the deadline and 50 ms. A busy machine may stop this process for longer, so the tests allow more, and say
//! how long it took, beside the longest time that the machine kept a thread that only sleeps: run them with `--nocapture`.
//! An exit and a child process are in `ending.rs`. For the full proof, an hour and a half a test:
//!
//! `SPANRING_SHUTDOWN_ROUNDS=1000 SPANRING_SHUTDOWN_MILLIS=2000 cargo test --release --test shutdown -- --nocapture`

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "how long it took is what there is to see")]

use std::{
    cell::RefCell,
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    panic::{self, catch_unwind},
    str::FromStr,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use spanring::{Config, DiagnosticSink, DriverChoice, Engine, Export, Receipt, WorkerChoice};

/// More than a batch: some are in a request, some are not.
const SPANS: u64 = 700;
/// What is promised beyond the deadline.
const GRACE: Duration = Duration::from_millis(50);
/// What the machine may add: it was seen to stand still for 2.7 s.
const NOISE: Duration = Duration::from_secs(20);
/// Time for a request, so long that a shutdown that waits for one is found out.
const TIMEOUT: Duration = Duration::from_secs(60);

// ---- Collectors that are none.

/// Keeps its address as long as it lives.
#[derive(Debug)]
struct Hole {
    name: &'static str,
    address: SocketAddr,
    _listener: Arc<TcpListener>,
    _connections: Vec<TcpStream>,
}

fn holes() -> [Hole; 3] {
    [silent(), unattended(), full()]
}

/// Accepts, and never answers.
fn silent() -> Hole {
    let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let own = Arc::clone(&listener);
    // It ends with the process: nobody waits for it.
    thread::spawn(move || own.incoming().collect::<Vec<_>>());
    Hole { name: "silent", address: listener.local_addr().unwrap(), _listener: listener, _connections: vec![] }
}

/// Never accepts: the kernel does.
fn unattended() -> Hole {
    let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    Hole { name: "unattended", address: listener.local_addr().unwrap(), _listener: listener, _connections: vec![] }
}

/// Never accepts, and its queue is full: connecting takes for ever.
fn full() -> Hole {
    const TRIES: usize = 16;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = Arc::new(TcpListener::from(socket));
    let address = listener.local_addr().unwrap();
    let tries = (0..TRIES).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok());
    Hole { name: "full", address, _connections: tries.collect(), _listener: listener }
}

// ---- Rounds.

/// One shutdown.
#[derive(Debug)]
struct Round {
    receipt: Receipt,
    elapsed: Duration,
}

fn number<N: FromStr>(name: &str, default: N) -> N {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn deadline() -> Duration {
    Duration::from_millis(number("SPANRING_SHUTDOWN_MILLIS", 60))
}

/// An engine with spans for this hole, some of them on their way.
fn engine(hole: &Hole, round: usize, worker: WorkerChoice) -> Engine {
    let driver = if round.is_multiple_of(2) { DriverChoice::Auto } else { DriverChoice::Poll };
    let quiet = Some(DiagnosticSink::new(|_| ()));
    let url = format!("http://{}", hole.address);
    let export = Export { timeout: TIMEOUT, driver, diagnostics: quiet, ..Export::to(&url) };
    let config = Config { memory_budget: 4 << 20, lanes: Some(4), export: Some(export), worker, ..Config::default() };
    let engine = Engine::start(config).unwrap();
    let tracer = engine.tracer("test");
    (0..SPANS).for_each(|_| tracer.span("work").start().end());
    if round % 4 >= 2 {
        // A request is out when the shutdown begins, in every other pair of rounds.
        let flushed = engine.flush(Duration::from_millis(10));
        assert!(!flushed.is_complete && flushed.exported == 0, "{flushed:?}");
    }
    engine
}

fn shut_down(engine: &Engine) -> Round {
    let begun = Instant::now();
    let receipt = engine.shutdown(deadline());
    Round { receipt, elapsed: begun.elapsed() }
}

/// A thread that does nothing but wait for a millisecond: what it misses is the machine's doing, not the engine's.
struct Stalls {
    is_over: Arc<AtomicBool>,
    watcher: JoinHandle<Duration>,
}

impl Stalls {
    fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let watcher = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !end.load(Relaxed) {
                let begun = Instant::now();
                thread::park_timeout(Duration::from_millis(1));
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        Self { is_over, watcher }
    }

    fn longest(self) -> Duration {
        self.is_over.store(true, Relaxed);
        self.watcher.join().unwrap()
    }
}

/// Runs `call` against each hole, again and again, and looks at every receipt.
fn check(place: &str, worker: WorkerChoice, call: impl Fn(Arc<Engine>) -> Round) {
    let rounds = number("SPANRING_SHUTDOWN_ROUNDS", 8);
    for hole in holes() {
        let stalls = Stalls::watch();
        let mut longest = Duration::ZERO;
        let mut broken = 0;
        let mut unfinished = 0;
        for number in 0..rounds {
            let engine = Arc::new(engine(&hole, number, worker));
            let Round { receipt, elapsed } = call(Arc::clone(&engine));
            assert!(elapsed < deadline() + GRACE + NOISE, "{place}, {}: {elapsed:?}", hole.name);
            longest = longest.max(elapsed);
            broken += usize::from(elapsed > deadline() + GRACE);
            unfinished += usize::from(!receipt.is_complete);
            assert!(receipt.ledger.is_closed(), "{receipt:?}");
            assert_eq!(receipt.ledger.exported, 0, "{receipt:?}");
            assert_eq!(receipt.lost.shutdown_deadline + receipt.waiting, SPANS, "{receipt:?}");
            if receipt.is_complete {
                assert_eq!((receipt.lost.shutdown_deadline, receipt.waiting), (SPANS, 0), "{receipt:?}");
            }
            // A worker that was kept from its last word by the machine has it later.
            let last = engine.shutdown(NOISE);
            assert!(last.is_complete && last.ledger.is_closed(), "{last:?}");
            assert_eq!((last.ledger.lost.shutdown_deadline, last.ledger.lost.total()), (SPANS, SPANS), "{last:?}");
        }
        println!(
            "{place}, {}: {rounds} rounds, longest {longest:?} of {:?}, {broken} beyond it and {GRACE:?}, {unfinished} without a last word; the machine stood still for {:?} at most",
            hole.name,
            deadline(),
            stalls.longest()
        );
        assert!(unfinished * 2 < rounds, "{place}, {}: {unfinished} of {rounds} receipts are incomplete", hole.name);
    }
}

// ---- Places.

#[test]
fn shutdown_on_a_plain_thread_keeps_its_deadline() {
    check("thread", WorkerChoice::OwnThread, |engine| thread::spawn(move || shut_down(&engine)).join().unwrap());
}

#[test]
fn shutdown_of_a_polled_engine_keeps_its_deadline() {
    check("polled", WorkerChoice::Polled, |engine| shut_down(&engine));
}

#[test]
fn shutdown_in_a_task_of_a_current_thread_runtime_keeps_its_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    check("tokio, one thread", WorkerChoice::OwnThread, |engine| {
        let task = runtime.spawn(async move { shut_down(&engine) });
        runtime.block_on(task).unwrap()
    });
}

#[test]
fn shutdown_in_a_task_of_a_multi_thread_runtime_keeps_its_deadline() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    check("tokio, two threads", WorkerChoice::OwnThread, |engine| {
        let task = runtime.spawn(async move { shut_down(&engine) });
        runtime.block_on(task).unwrap()
    });
}

thread_local! {
    /// What the hook shuts down if this thread panics.
    static ENDANGERED: RefCell<Option<Arc<Engine>>> = const { RefCell::new(None) };
}

static IN_HOOK: Mutex<Option<Round>> = Mutex::new(None);

#[test]
fn shutdown_in_a_panic_hook_keeps_its_deadline() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match ENDANGERED.take() {
            Some(engine) => *IN_HOOK.lock().unwrap() = Some(shut_down(&engine)),
            None => before(info),
        }));
    });
    check("panic hook", WorkerChoice::OwnThread, |engine| {
        ENDANGERED.set(Some(engine));
        assert!(catch_unwind(|| panic!("the program's own")).is_err());
        IN_HOOK.lock().unwrap().take().unwrap()
    });
}

#[test]
fn dropped_engine_keeps_the_deadline_of_its_configuration() {
    for hole in holes() {
        let export = Export {
            timeout: TIMEOUT,
            shutdown_timeout: deadline(),
            diagnostics: Some(DiagnosticSink::new(|_| ())),
            ..Export::to(&format!("http://{}", hole.address))
        };
        let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
        engine.tracer("test").span("work").start().end();
        let begun = Instant::now();
        drop(engine);
        let elapsed = begun.elapsed();
        assert!(elapsed < deadline() + GRACE + NOISE, "{}: {elapsed:?}", hole.name);
    }
}

/// The span that was one too many for a request waits outside of the lanes, and is in no request.
#[test]
fn span_that_waits_between_two_requests_is_counted_at_the_deadline() {
    const LARGE: u64 = 20;
    let hole = silent();
    let export = Export {
        timeout: TIMEOUT,
        connections_max: 1,
        request_bytes_max: 96 << 10,
        diagnostics: Some(DiagnosticSink::new(|_| ())),
        ..Export::to(&format!("http://{}", hole.address))
    };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    let tracer = engine.tracer("test");
    for _ in 0..LARGE {
        let mut span = tracer.span("work").start();
        span.set("fill", "x".repeat(40_000).as_str());
        span.end();
    }
    // One request is out and one is ready, with two spans each.
    let begun = Instant::now();
    while engine.flush(Duration::from_millis(10)).ledger.in_flight < 5 && begun.elapsed() < NOISE {}
    let _ = engine.shutdown(Duration::ZERO);
    let receipt = engine.shutdown(NOISE);
    assert!(receipt.is_complete && receipt.ledger.is_closed() && receipt.waiting == 0, "{receipt:?}");
    assert_eq!(receipt.ledger.lost.shutdown_deadline, LARGE, "{receipt:?}");
}
