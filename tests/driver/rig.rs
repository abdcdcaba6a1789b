//! A driver, and the peers that its claims need: threads with real sockets.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use spanring::internals::driver::{
    Address, Completion, Conn, Driver, DriverChoice, Event, Moment,
    sim::{Network, Peer, Replies, Sim},
};

/// Bytes of a receive.
pub const CHUNK: usize = 16 << 10;
/// Long enough for a busy machine; a claim that waits so long fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a peer does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// Sends back what comes.
    Echo,
    /// Accepts and neither reads nor writes.
    Silent,
    /// Says three bytes and ends.
    Farewell,
    /// Resets when it hears something.
    Reset,
    /// Without a listener.
    Refuse,
    /// Without an answer: the listener's queue is full, so that the system drops new connections.
    Blackhole,
}

pub struct World {
    pub driver: Driver,
    sim: Option<Sim>,
    /// Came while something else was waited for.
    early: VecDeque<Completion>,
}

pub fn on_poll(claim: fn(World)) {
    claim(World::new(Driver::open(DriverChoice::Poll, Duration::MAX).unwrap().0, None));
}

/// Nothing, where this system has no io_uring.
pub fn on_uring(claim: fn(World)) {
    if let Some(world) = uring_world() {
        claim(world);
    }
}

/// As on kernels before 6.15, which cannot be told that a wait is idle.
pub fn on_older_uring(claim: fn(World)) {
    if let Some(mut world) = uring_world() {
        world.driver.sleep_outside().unwrap();
        claim(world);
    }
}

/// With several seeds, and with bytes in pieces.
pub fn on_sim(claim: fn(World)) {
    for seed in 0..20 {
        let sim = Sim::new(Network { short_per_mille: if seed % 2 == 0 { 0 } else { 100 }, ..Network::calm(seed) });
        claim(World::new(Driver::sim(&sim), Some(sim)));
    }
}

#[expect(clippy::print_stderr, reason = "a test that cannot look has to say so")]
pub fn uring_world() -> Option<World> {
    loop {
        let (driver, report) = Driver::open(DriverChoice::Uring, Duration::MAX).unwrap();
        if report.name == "uring" {
            return Some(World::new(driver, None));
        }
        // On a busy machine the self-test may run out of its time.
        if !report.reason.contains("timed out") {
            eprintln!("driver: {report}");
            return None;
        }
    }
}

impl World {
    pub fn new(driver: Driver, sim: Option<Sim>) -> Self {
        Self { driver, sim, early: VecDeque::new() }
    }

    pub fn address(&mut self, behaviour: Behaviour) -> Address {
        if let Some(sim) = &self.sim {
            let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1 + behaviour as u16)));
            match behaviour {
                Behaviour::Refuse => {}
                Behaviour::Blackhole => sim.ignore(address.clone()),
                _ => sim.listen(address.clone(), move || Simulated(behaviour)),
            }
            return address;
        }
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Address::Tcp(match behaviour {
            Behaviour::Refuse => listener().local_addr().unwrap(),
            Behaviour::Blackhole => full_listener(),
            _ => {
                let listener = listener();
                let address = listener.local_addr().unwrap();
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        thread::spawn(move || serve(behaviour, stream));
                    }
                });
                address
            }
        })
    }

    /// An echo on a socket in the file system, where the system has those.
    pub fn unix_address(&mut self) -> Option<Address> {
        match &self.sim {
            Some(sim) => {
                let address = Address::Unix("/run/echo.sock".into());
                sim.listen(address.clone(), || Simulated(Behaviour::Echo));
                Some(address)
            }
            None => unix_echo(),
        }
    }
    /// A socket in the file system whose listener's queue is full.
    pub fn full_unix_address(&mut self) -> Option<Address> {
        match &self.sim {
            Some(_) => Some(self.address(Behaviour::Blackhole)),
            None => full_unix(),
        }
    }

    pub fn connect(&mut self, behaviour: Behaviour) -> Conn {
        let address = self.address(behaviour);
        let conn = self.driver.connect(&address);
        connected(self.next(conn)).unwrap();
        conn
    }

    /// Sends all of it, and receives as much.
    pub fn exchange(&mut self, conn: Conn, bytes: &[u8]) -> Vec<u8> {
        self.driver.recv(conn, vec![0; CHUNK]);
        self.driver.send(conn, bytes.to_vec(), 0..bytes.len());
        self.rest_of_exchange(conn, bytes.to_vec(), CHUNK)
    }

    /// As `exchange`, with both operations in flight.
    pub fn rest_of_exchange(&mut self, conn: Conn, bytes: Vec<u8>, chunk: usize) -> Vec<u8> {
        let (mut sent, mut got) = (0, vec![]);
        while got.len() < bytes.len() || sent < bytes.len() {
            match self.next(conn) {
                Event::Sent { buffer, result } => {
                    assert!(buffer == bytes);
                    sent += result.unwrap();
                    if sent < bytes.len() {
                        self.driver.send(conn, buffer, sent..bytes.len());
                    }
                }
                Event::Received { buffer, result } => {
                    assert_eq!(buffer.len(), chunk);
                    let len = result.unwrap();
                    assert!(len > 0, "the stream ended");
                    got.extend(&buffer[..len]);
                    if got.len() < bytes.len() {
                        self.driver.recv(conn, buffer);
                    }
                }
                event => panic!("{event:?}"),
            }
        }
        got
    }

    /// Sends to a peer that does not read, until a send stays in flight: short ones fill what the system holds for it.
    pub fn clog(&mut self, conn: Conn, mut buffer: Vec<u8>) {
        let is_sent =
            |completion: &Completion| completion.conn == conn && matches!(completion.event, Event::Sent { .. });
        loop {
            let len = buffer.len();
            self.driver.send(conn, buffer, 0..len);
            let Some(Event::Sent { buffer: back, result }) = self.find(is_sent, Duration::from_millis(100)) else {
                return;
            };
            assert!(result.unwrap() < len, "the peer does not read");
            buffer = back;
        }
    }

    /// Sends in a wait, at most for so long; the buffer, and what the wait came to: what was sent, or nothing, and then
    /// the send is cancelled.
    pub fn wait_for_a_send(
        &mut self,
        conn: Conn,
        buffer: Vec<u8>,
        time: Duration,
        meanwhile: impl FnOnce(&Self),
    ) -> (Vec<u8>, Option<usize>) {
        let len = buffer.len();
        self.driver.send(conn, buffer, 0..len);
        meanwhile(self);
        let until = self.driver.now().after(time);
        let mut completions = vec![];
        self.driver.wait(Some(until), &mut completions).unwrap();
        assert!(time < PATIENCE || self.driver.now() < until, "nothing ended the wait");
        let is_sent = !completions.is_empty();
        self.early.extend(completions);
        if !is_sent {
            self.driver.cancel(conn);
        }
        let (back, result) = self.sent(conn);
        (back, is_sent.then(|| result.unwrap()))
    }

    /// The next completion of this connection.
    pub fn next(&mut self, conn: Conn) -> Event {
        self.find(|completion| completion.conn == conn, PATIENCE).unwrap_or_else(|| panic!("no completion of {conn:?}"))
    }

    pub fn sent(&mut self, conn: Conn) -> (Vec<u8>, io::Result<usize>) {
        let is_sent =
            |completion: &Completion| completion.conn == conn && matches!(completion.event, Event::Sent { .. });
        let Some(Event::Sent { buffer, result }) = self.find(is_sent, PATIENCE) else {
            panic!("no completion of the send on {conn:?}")
        };
        (buffer, result)
    }

    pub fn received(&mut self, conn: Conn) -> (Vec<u8>, io::Result<usize>) {
        let is_received =
            |completion: &Completion| completion.conn == conn && matches!(completion.event, Event::Received { .. });
        let Some(Event::Received { buffer, result }) = self.find(is_received, PATIENCE) else {
            panic!("no completion of the receive on {conn:?}")
        };
        (buffer, result)
    }

    fn find(&mut self, is_meant: impl Fn(&Completion) -> bool, time: Duration) -> Option<Event> {
        let until = self.driver.now().after(time);
        loop {
            if let Some(at) = self.early.iter().position(&is_meant) {
                return self.early.remove(at).map(|completion| completion.event);
            }
            if self.driver.now() >= until {
                return None;
            }
            let mut completions = vec![];
            self.driver.wait(Some(until), &mut completions).unwrap();
            self.early.extend(completions);
            // What is found only because the time was up had not ended the wait.
            assert!(time < PATIENCE || self.driver.now() < until, "nothing ended the wait");
        }
    }

    /// Lets the driver begin what it was given.
    pub fn look(&mut self) {
        let mut completions = vec![];
        self.driver.wait(Some(Moment::START), &mut completions).unwrap();
        self.early.extend(completions);
    }

    /// Waits once; what ends it is no completion.
    pub fn wait_without_completion(&mut self, time: Duration) {
        let until = self.driver.now().after(time);
        let mut completions = vec![];
        self.driver.wait(Some(until), &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        assert!(time < PATIENCE || self.driver.now() < until, "nothing ended the wait");
    }

    pub fn shut_down(self, until: Moment) -> usize {
        self.driver.shut_down(until).operations
    }
}

pub fn connected(event: Event) -> io::Result<()> {
    match event {
        Event::Connected(result) => result,
        event => panic!("{event:?}"),
    }
}

fn full_listener() -> SocketAddr {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..4 {
        let knocking = socket();
        knocking.set_nonblocking(true).unwrap();
        let _ = knocking.connect(&address);
        std::mem::forget(knocking);
    }
    std::mem::forget(listener);
    address.as_socket().unwrap()
}

fn serve(behaviour: Behaviour, mut stream: TcpStream) {
    match behaviour {
        Behaviour::Echo => echo(&mut stream.try_clone().unwrap(), &mut stream),
        Behaviour::Farewell => stream.write_all(b"bye").unwrap(),
        Behaviour::Reset => {
            let _ = stream.read(&mut [0]);
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        Behaviour::Silent => {
            // It stays open until the process ends.
            std::mem::forget(stream);
        }
        Behaviour::Refuse | Behaviour::Blackhole => unreachable!("nobody listens"),
    }
}

fn echo(source: &mut impl Read, target: &mut impl Write) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(len @ 1..) = source.read(&mut buffer) {
        if target.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

#[cfg(unix)]
fn unix_path() -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("spanring-driver-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    std::env::temp_dir().join(name)
}

#[cfg(unix)]
fn unix_echo() -> Option<Address> {
    let path = unix_path();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let file = path.clone();
    thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = std::fs::remove_file(file);
            echo(&mut stream.try_clone().unwrap(), &mut stream);
        }
    });
    Some(Address::Unix(path))
}

/// It stays until the process ends; whoever asked for it removes the file.
#[cfg(unix)]
fn full_unix() -> Option<Address> {
    let path = unix_path();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let listener = socket();
    let address = socket2::SockAddr::unix(&path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    for _ in 0..4 {
        let knocking = socket();
        knocking.set_nonblocking(true).unwrap();
        let _ = knocking.connect(&address);
        std::mem::forget(knocking);
    }
    std::mem::forget(listener);
    Some(Address::Unix(path))
}

#[cfg(not(unix))]
fn unix_echo() -> Option<Address> {
    None
}

#[cfg(not(unix))]
fn full_unix() -> Option<Address> {
    None
}

/// The same on the simulated network.
struct Simulated(Behaviour);

impl Peer for Simulated {
    fn accepted(&mut self, _: Moment, replies: &mut Replies) {
        match self.0 {
            Behaviour::Farewell => {
                replies.send(*b"bye");
                replies.end();
            }
            Behaviour::Silent => replies.stop_reading(),
            _ => {}
        }
    }

    fn received(&mut self, bytes: &[u8], _: Moment, replies: &mut Replies) {
        match self.0 {
            Behaviour::Echo => replies.send(bytes),
            Behaviour::Reset => replies.reset(),
            _ => {}
        }
    }
}
