//! The bar for forks: children of a parent under load, whose first span is often one of a signal handler, in the middle
//! of an allocation. None hangs, every ledger closes, and every span arrives once, by https where that is built in.
//!
//! The long run, some minutes: `SPANRING_FORKS=10000 cargo test --release --features tls,__certificates
//! --test process fork_bar`

#![cfg(unix)]

use std::{
    hint::black_box,
    io::{self, Read, Write},
    mem, ptr,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, DiagnosticSink, Engine, Export, SharedSpan, Tracer, testing::collector::Collector};

use crate::alone;

/// Children in all, and at a time, as a server that forks its workers has them.
fn forks() -> usize {
    std::env::var("SPANRING_FORKS").ok().and_then(|forks| forks.parse().ok()).unwrap_or(200)
}
const AT_A_TIME: usize = 20;
const SPANS: u64 = 20;
/// Spans of the handler that a child waits for. It may have more.
const HANDLED_MIN: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

static TRACER: OnceLock<Tracer> = OnceLock::new();
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn record_in_handler(_: libc::c_int) {
    if let Some(tracer) = TRACER.get() {
        tracer.span("handler").start().end();
        HANDLED.fetch_add(1, SeqCst);
    }
}

#[test]
fn every_child_of_a_parent_under_load_exports_its_own_spans() {
    let _alone = alone();
    let stand = Stand::start();
    let export = Export { diagnostics: Some(DiagnosticSink::new(|_| ())), ..stand.export() };
    let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
    assert!(TRACER.set(engine.tracer("handler")).is_ok(), "only this test sets it");
    handle(libc::SIGALRM);
    let shared = engine.tracer("parent").span("shared").start().share();
    let is_over = AtomicBool::new(false);
    let (mut exported, mut hung) = (0, 0);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (engine, is_over, shared) = (&engine, &is_over, shared.clone());
            scope.spawn(move || load(engine, &shared, is_over));
        }
        let _over = Over(&is_over);
        let mut left = forks();
        while left > 0 {
            let count = left.min(AT_A_TIME);
            let children: Vec<_> = (0..count).map(|_| Child::start(&engine, &shared)).collect();
            for child in children {
                match child.end() {
                    Some(spans) => exported += spans,
                    None => hung += 1,
                }
            }
            left -= count;
        }
    });
    shared.end();
    drop(shared);
    let receipt = engine.shutdown(PATIENCE);
    assert_eq!(hung, 0, "children hung, of {}", forks());
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!(receipt.ledger.lost.total(), 0, "{receipt:?}");
    let tally = stand.collector.tally();
    assert_eq!((tally.spans, tally.ids_seen_twice), (receipt.ledger.exported + exported, 0));
}

/// Spans, those that two threads change at once, and allocations, until all is over.
fn load(engine: &Engine, shared: &SharedSpan, is_over: &AtomicBool) {
    let tracer = engine.tracer("load");
    while !is_over.load(Relaxed) {
        for number in 0..10 {
            tracer.span("load").start().end();
            shared.set("number", number);
            let own = tracer.span("own").start().share();
            own.set("text", black_box("x".repeat(100)).as_str());
            own.end();
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A process, and the pipe by which it says how many spans it has delivered.
struct Child {
    pid: libc::pid_t,
    pipe: io::PipeReader,
    begun: Instant,
}

impl Child {
    fn start(engine: &Engine, shared: &SharedSpan) -> Self {
        let (reader, mut writer) = io::pipe().unwrap();
        // SAFETY: the child uses the engine, whose promise this is, and ends without coming back.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            let exported = work(engine, shared);
            let is_said = exported.is_some_and(|spans| writer.write_all(&spans.to_ne_bytes()).is_ok());
            // SAFETY: ends the child at once, without the destructors of its parent's threads.
            unsafe { libc::_exit(i32::from(!is_said)) }
        }
        Self { pid, pipe: reader, begun: Instant::now() }
    }

    /// What it has delivered; `None` if it hung, and was killed. Panics when it failed.
    fn end(mut self) -> Option<u64> {
        let mut status = 0;
        // SAFETY: the child is ours, and the place is valid.
        while unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == 0 {
            if self.begun.elapsed() > 2 * PATIENCE {
                // SAFETY: the child is ours, and was not waited for.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                // SAFETY: as above.
                unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
                return None;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        assert_eq!(status, 0, "a child failed");
        let mut spans = [0; 8];
        self.pipe.read_exact(&mut spans).unwrap();
        Some(u64::from_ne_bytes(spans))
    }
}

/// What a child does: it is interrupted while it allocates, records, changes a span of its parent's, and ends. How many
/// spans it has delivered, if its ledger is in order.
fn work(engine: &Engine, shared: &SharedSpan) -> Option<u64> {
    let tracer = TRACER.get()?;
    HANDLED.store(0, SeqCst);
    interrupt_every(Duration::from_micros(150));
    let mut size = 1;
    while HANDLED.load(SeqCst) < HANDLED_MIN {
        size = size % 3000 + 7;
        drop(black_box(vec![1_u8; size]));
    }
    for _ in 0..SPANS {
        let span = tracer.span("child").start().share();
        span.set("key", "value");
        span.end();
        shared.set("child", true);
    }
    interrupt_every(Duration::ZERO);
    let own = SPANS + HANDLED.load(SeqCst);
    let receipt = engine.shutdown(PATIENCE);
    let ledger = receipt.ledger;
    // A span of the handler that came while the child put itself in order is counted as forked, with those of the
    // parent.
    let is_right = receipt.is_complete()
        && ledger.is_closed()
        && ledger.exported >= SPANS
        && ledger.exported <= own
        && ledger.lost.total() == ledger.lost.forked;
    if !is_right {
        let _ = writeln!(io::stderr(), "child: {own} spans, {receipt:?}");
    }
    is_right.then_some(ledger.exported)
}

/// Sends this process an alarm at this interval, or none any more.
fn interrupt_every(time: Duration) {
    let time = libc::timeval { tv_sec: 0, tv_usec: time.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer is valid for the call to read, and nobody wants to know the old one.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) }, 0);
}

fn handle(signal: libc::c_int) {
    // SAFETY: an action is plain data, of which all zeros is a value.
    let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = record_in_handler as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does what this test is about.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
}

/// The collector.
struct Stand {
    collector: Collector,
    #[cfg(feature = "tls")]
    authority: std::path::PathBuf,
    #[cfg(feature = "tls")]
    _folder: spanring::internals::tls::certificates::Folder,
}

#[cfg(feature = "tls")]
impl Stand {
    fn start() -> Self {
        use std::{net::Ipv4Addr, sync::Arc};

        use spanring::{
            internals::tls::certificates::{Folder, Leaf, VERSIONS, authority, server},
            testing::collector::{Mode, Port, on_free_port, serve, tls::TlsPort},
        };

        let (authority, folder) = (authority("the CA"), Folder::new());
        let config = Arc::new(server(&Leaf::new(&authority, &["127.0.0.1"]), VERSIONS[1], None));
        let start = || {
            let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into())?;
            Collector::start_with(Arc::new(TlsPort { port, config: Arc::clone(&config) }), Mode::Ids, Arc::new(serve))
        };
        let collector = on_free_port(start).unwrap();
        let authority = folder.write("ca.pem", authority.pem(), 0);
        Self { collector, authority, _folder: folder }
    }

    /// By its address: in a child of so many threads the system's resolver may be locked.
    fn export(&self) -> Export {
        let url = self.collector.url().replace("localhost", "127.0.0.1");
        Export { certificate: Some(self.authority.clone()), ..Export::to(&url) }
    }
}

#[cfg(not(feature = "tls"))]
impl Stand {
    fn start() -> Self {
        Self { collector: Collector::start(spanring::testing::collector::Mode::Ids).unwrap() }
    }

    fn export(&self) -> Export {
        Export::to(&self.collector.url())
    }
}
