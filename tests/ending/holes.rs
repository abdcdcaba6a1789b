//! What a shutdown is measured against: collectors that are none, its deadline, and what the machine itself takes.

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// What is promised beyond the deadline.
pub const GRACE: Duration = Duration::from_millis(50);
/// What the machine may add: a pause of 2.7 s was seen.
pub const NOISE: Duration = Duration::from_secs(20);

pub fn rounds() -> usize {
    number("SPANRING_SHUTDOWN_ROUNDS", 8)
}

pub fn deadline() -> Duration {
    Duration::from_millis(number("SPANRING_SHUTDOWN_MILLIS", 60))
}

fn number<N: FromStr>(name: &str, default: N) -> N {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Keeps its address as long as it lives.
#[derive(Debug)]
pub struct Hole {
    pub name: &'static str,
    pub address: SocketAddr,
    _listener: Arc<TcpListener>,
    _connections: Vec<TcpStream>,
}

pub fn holes() -> [Hole; 3] {
    [silent(), unattended(), full()]
}

impl Hole {
    fn of(name: &'static str, listener: &Arc<TcpListener>) -> Self {
        let address = listener.local_addr().expect("it is bound");
        Self { name, address, _listener: Arc::clone(listener), _connections: vec![] }
    }
}

fn listener() -> Arc<TcpListener> {
    Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"))
}

/// Reads all, and never answers.
pub fn silent() -> Hole {
    let listener = listener();
    let hole = Hole::of("silent", &listener);
    // They end with their clients, or with the process, and are not joined.
    let hear_out = |mut stream| thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(hear_out(stream))));
    hole
}

/// Never accepts: the kernel does.
fn unattended() -> Hole {
    Hole::of("unattended", &listener())
}

/// Never accepts, and its queue is full: connecting takes for ever.
fn full() -> Hole {
    const TRIES: usize = 16;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
    socket.listen(0).expect("it is bound");
    let hole = Hole::of("full", &Arc::new(TcpListener::from(socket)));
    let tries = (0..TRIES).map_while(|_| TcpStream::connect_timeout(&hole.address, Duration::from_millis(100)).ok());
    Hole { _connections: tries.collect(), ..hole }
}

/// Shutdowns against one hole, and how long they took.
pub struct Times {
    place: String,
    stalls: Stalls,
    rounds: usize,
    longest: Duration,
    broken: usize,
    unfinished: usize,
}

impl Times {
    pub fn of(place: String) -> Self {
        Self { place, stalls: Stalls::watch(), rounds: 0, longest: Duration::ZERO, broken: 0, unfinished: 0 }
    }

    /// One more shutdown, with the last word of its receipt or without.
    pub fn note(&mut self, elapsed: Duration, is_complete: bool) {
        assert!(elapsed < deadline() + GRACE + NOISE, "{}: {elapsed:?}", self.place);
        self.rounds += 1;
        self.longest = self.longest.max(elapsed);
        self.broken += usize::from(elapsed > deadline() + GRACE);
        self.unfinished += usize::from(!is_complete);
    }

    /// Says how long they took; how many had no last word.
    pub fn tell(self) -> usize {
        let Self { place, stalls, rounds, longest, broken, unfinished } = self;
        println!(
            "{place}: {rounds} rounds, longest {longest:?} of {:?}, {broken} beyond it and {GRACE:?}, {unfinished} without a last word; the machine stood still for {:?} at most",
            deadline(),
            stalls.longest()
        );
        unfinished
    }
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
        self.watcher.join().expect("it only waits")
    }
}
