//! A network that is not there, for tests: time is virtual, peers are code, and one seed decides every delay and every
//! fault.
//!
//! `wait` runs what is on the agenda and jumps to the next entry, so that a test of minutes takes none, and the same
//! seed gives the same run. The rules of the seam hold as for the others; `contract.rs` panics where a caller breaks
//! them.

mod link;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, ErrorKind},
    mem,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::{
    completion::{Address, Completion, Conn, Event, cancelled},
    moment::Moment,
    waker::{Bell, Waker},
};
use link::{Link, Step};

/// How the network behaves. Chances are out of a thousand.
#[derive(Clone, Debug)]
pub struct Network {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The shortest delay.
    pub delay_min: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// Sends and receives that move fewer bytes than they could, often a single one.
    pub short_per_mille: u64,
    /// Connects that are refused, though a peer listens.
    pub refused_per_mille: u64,
    /// Connects that are never answered.
    pub unanswered_per_mille: u64,
    /// Sends, receives and replies that meet a reset.
    pub reset_per_mille: u64,
    /// Replies that are cut off by the end of the stream.
    pub cut_per_mille: u64,
    /// What the network holds for a peer that does not read.
    pub window_bytes: usize,
}

impl Network {
    /// One that does nothing wrong.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            delay_min: Duration::from_micros(20),
            delay_max: Duration::from_millis(2),
            short_per_mille: 0,
            refused_per_mille: 0,
            unanswered_per_mille: 0,
            reset_per_mille: 0,
            cut_per_mille: 0,
            window_bytes: 256 << 10,
        }
    }

    /// One on which everything goes wrong now and then.
    #[must_use]
    pub fn rough(seed: u64) -> Self {
        Self {
            short_per_mille: 300,
            refused_per_mille: 50,
            unanswered_per_mille: 20,
            reset_per_mille: 20,
            cut_per_mille: 10,
            ..Self::calm(seed)
        }
    }
}

/// What listens at an address, one value for each connection. It runs inside the network, so it may not call [`Sim`].
pub trait Peer: Send {
    /// A connection was opened.
    fn accepted(&mut self, now: Moment, replies: &mut Replies) {
        let _ = (now, replies);
    }

    /// Bytes came, in any pieces.
    fn received(&mut self, bytes: &[u8], now: Moment, replies: &mut Replies);

    /// The other side closed.
    fn closed(&mut self, now: Moment) {
        let _ = now;
    }
}

/// What a peer does, in order.
#[derive(Debug, Default)]
pub struct Replies {
    pause: Duration,
    actions: Vec<(Duration, Action)>,
}

#[derive(Debug)]
enum Action {
    Send(Vec<u8>),
    End,
    Reset,
    StopReading,
    ReadOn,
}

impl Replies {
    /// Lets time pass before what follows.
    pub fn pause(&mut self, time: Duration) {
        self.pause += time;
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        self.actions.push((self.pause, Action::Send(bytes.into())));
    }

    /// Says that it sends no more. It still reads.
    pub fn end(&mut self) {
        self.actions.push((self.pause, Action::End));
    }

    /// Throws the connection away, with all that is under way in both directions.
    pub fn reset(&mut self) {
        self.actions.push((self.pause, Action::Reset));
    }

    /// Leaves what comes to the network, until that holds no more.
    pub fn stop_reading(&mut self) {
        self.actions.push((self.pause, Action::StopReading));
    }

    /// Takes what comes again.
    pub fn read_on(&mut self) {
        self.actions.push((self.pause, Action::ReadOn));
    }
}

/// The network, as the test holds it. Clones are the same one.
#[derive(Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
}

struct World {
    network: Network,
    random: Xoshiro256PlusPlus,
    now: Moment,
    listeners: HashMap<Address, Listener>,
    links: Vec<Option<Link>>,
    /// By time, then by chance, then by age, which makes the key unique.
    agenda: BTreeMap<(Moment, u64, u64), (Conn, Step)>,
    agenda_len_ever: u64,
    ready: Vec<Completion>,
    operations: u64,
    operation_to_fail: Option<(u64, ErrorKind)>,
    waits: u64,
    wait_to_fail: Option<u64>,
    /// How long the thread is stopped in its next wait.
    stop: Option<Duration>,
    /// What the driver was told to do, where somebody keeps an account.
    calls: Option<Vec<Call>>,
}

/// What a driver was told to do, for a test that keeps an account of its own.
#[derive(Debug)]
pub enum Call {
    /// To connect.
    Connect(Conn),
    /// To send these bytes.
    Send(Conn, Vec<u8>),
    /// To end what is in flight.
    Cancel(Conn),
    /// To close.
    Close(Conn),
}

enum Listener {
    Accepts(Box<dyn FnMut() -> Box<dyn Peer> + Send>),
    Ignores,
}

/// An unanswered connect fails after this long: six doublings of a second, as Linux repeats it by default.
const CONNECT_TIME: Duration = Duration::from_secs(127);

impl Sim {
    /// A network without anybody on it.
    #[must_use]
    pub fn new(network: Network) -> Self {
        let world = World {
            random: Xoshiro256PlusPlus::seed_from_u64(network.seed),
            network,
            now: Moment::START,
            listeners: HashMap::new(),
            links: vec![],
            agenda: BTreeMap::new(),
            agenda_len_ever: 0,
            ready: vec![],
            operations: 0,
            operation_to_fail: None,
            waits: 0,
            wait_to_fail: None,
            stop: None,
            calls: None,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Listens at an address, with a new peer for each connection; replaces what listened there before.
    pub fn listen<P: Peer + 'static>(&self, address: Address, mut accept: impl FnMut() -> P + Send + 'static) {
        let accept = move || Box::new(accept()) as Box<dyn Peer>;
        self.world().listeners.insert(address, Listener::Accepts(Box::new(accept)));
    }

    /// Lets connects to this address go unanswered.
    pub fn ignore(&self, address: Address) {
        self.world().listeners.insert(address, Listener::Ignores);
    }

    /// Listens there no longer. Open connections stay.
    pub fn unlisten(&self, address: &Address) {
        self.world().listeners.remove(address);
    }

    /// Resets every connection, as a peer's machine does when it restarts.
    pub fn reset_all(&self) {
        let mut world = self.world();
        let conns: Vec<Conn> = world.links.iter().flatten().map(|link| link.conn).collect();
        conns.into_iter().for_each(|conn| world.reset(conn));
    }

    /// Changes the weather. The seed stays what it was.
    pub fn change(&self, network: Network) {
        self.world().network = network;
    }

    /// Lets time pass in which nobody looks, as when the thread is stopped.
    pub fn stop(&self, time: Duration) {
        let mut world = self.world();
        world.now = world.now.after(time);
    }

    /// Lets the thread be stopped as it sleeps in its next wait, for this time. The network goes on. The wait then ends
    /// as one that a signal interrupts: without a look at what came.
    pub fn stop_in_wait(&self, time: Duration) {
        self.world().stop = Some(time);
    }

    /// Lets operation `n` fail with this error, whatever it is; the first is 0.
    pub fn fail_nth(&self, n: u64, error: ErrorKind) {
        self.world().operation_to_fail = Some((n, error));
    }

    /// Lets wait `n` fail, as that of a driver does whose ring is broken, unless it has something to report; the first
    /// is 0.
    pub fn fail_nth_wait(&self, n: u64) {
        self.world().wait_to_fail = Some(n);
    }

    /// What the driver was told to do since this was last asked, in order; from the first time on.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        self.world().calls.replace(vec![]).unwrap_or_default()
    }

    /// Connects, sends and receives so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// Waits so far.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.world().waits
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.world().now
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A test that panicked elsewhere says so itself.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

impl World {
    fn note(&mut self, call: impl FnOnce() -> Call) {
        if let Some(calls) = &mut self.calls {
            calls.push(call());
        }
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.random.next_u64() % 1_000 < per_mille
    }

    fn delay(&mut self) -> Duration {
        let Network { delay_min, delay_max, .. } = self.network;
        let span = u64::try_from(delay_max.saturating_sub(delay_min).as_nanos()).unwrap_or(u64::MAX - 1);
        delay_min + Duration::from_nanos(self.random.next_u64() % (span + 1))
    }

    /// At most `len`, at least one: what a call moves.
    fn portion(&mut self, len: usize) -> usize {
        if len < 2 || !self.chance(self.network.short_per_mille) {
            return len;
        }
        let below = u64::try_from(len).unwrap_or(u64::MAX);
        let portion = if self.chance(500) { 1 } else { 1 + self.random.next_u64() % (below - 1) };
        usize::try_from(portion).unwrap_or(len)
    }

    fn plan(&mut self, at: Moment, conn: Conn, step: Step) {
        self.agenda_len_ever += 1;
        self.agenda.insert((at, self.random.next_u64(), self.agenda_len_ever), (conn, step));
    }

    fn plan_soon(&mut self, conn: Conn, step: Step) {
        let at = self.now.after(self.delay());
        self.plan(at, conn, step);
    }

    /// Counts an operation; the error if this is the one that was to fail.
    fn count(&mut self) -> Option<io::Error> {
        let n = self.operations;
        self.operations += 1;
        self.operation_to_fail.filter(|(failing, _)| *failing == n).map(|(_, error)| error.into())
    }

    fn done(&mut self, conn: Conn, event: Event) {
        self.ready.push(Completion { conn, event });
    }

    fn connect(&mut self, conn: Conn, address: &Address) {
        let at = conn.index();
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        if let Some(error) = self.count() {
            return self.done(conn, Event::Connected(Err(error)));
        }
        self.links[at] = Some(Link::new(conn, self.now));
        let is_ignored = matches!(self.listeners.get(address), Some(Listener::Ignores));
        if is_ignored || self.chance(self.network.unanswered_per_mille) {
            let late = self.now.after(CONNECT_TIME);
            self.plan(late, conn, Step::Fail(ErrorKind::TimedOut));
        } else if self.chance(self.network.refused_per_mille) {
            self.plan_soon(conn, Step::Fail(ErrorKind::ConnectionRefused));
        } else {
            self.plan_soon(conn, Step::Connect(address.clone()));
        }
    }

    fn accept(&mut self, address: &Address) -> Option<Box<dyn Peer>> {
        match self.listeners.get_mut(address) {
            Some(Listener::Accepts(accept)) => Some(accept()),
            _ => None,
        }
    }

    /// Lets time pass until then.
    fn run_until(&mut self, until: Moment) {
        while self.step(Some(until)) {}
        self.now = self.now.max(until);
    }

    /// Runs the next entry of the agenda, if it is not after `until`.
    fn step(&mut self, until: Option<Moment>) -> bool {
        let Some(entry) = self.agenda.first_entry() else {
            return false;
        };
        let (at, ..) = *entry.key();
        if until.is_some_and(|until| at > until) {
            return false;
        }
        let (conn, step) = entry.remove();
        self.now = self.now.max(at);
        self.run(conn, step);
        true
    }
}

/// The driver's side of the network.
pub(super) struct Machine {
    sim: Sim,
    bell: Arc<Doorbell>,
}

impl Machine {
    pub(super) fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), bell: Arc::default() }
    }

    pub(super) fn connect(&mut self, conn: Conn, address: &Address, _: Duration) {
        let mut world = self.sim.world();
        world.note(|| Call::Connect(conn));
        world.connect(conn, address);
    }

    pub(super) fn send(&mut self, conn: Conn, buffer: Vec<u8>, range: Range<usize>) {
        let mut world = self.sim.world();
        world.note(|| Call::Send(conn, buffer[range.clone()].to_vec()));
        world.send(conn, buffer, range);
    }

    pub(super) fn recv(&mut self, conn: Conn, buffer: Vec<u8>) {
        self.sim.world().recv(conn, buffer);
    }

    pub(super) fn cancel(&mut self, conn: Conn) {
        let mut world = self.sim.world();
        world.note(|| Call::Cancel(conn));
        world.cancel(conn);
    }

    pub(super) fn close(&mut self, conn: Conn) {
        let mut world = self.sim.world();
        world.note(|| Call::Close(conn));
        let now = world.now;
        if let Some(Link { peer: Some(mut peer), .. }) = world.links[conn.index()].take() {
            peer.closed(now);
        }
    }

    /// Runs the agenda until something completes; with nothing on it, time jumps. Only a wait without end and with
    /// nothing to wait for is real: it takes a wake.
    pub(super) fn wait(&mut self, until: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut world = self.sim.world();
        world.waits += 1;
        if world.wait_to_fail == Some(world.waits - 1) && world.ready.is_empty() {
            return Err(io::Error::other("the simulated driver failed"));
        }
        let until = until.map(|until| until.max(world.now));
        loop {
            let (is_woken, now) = (self.bell.take(), world.now);
            world.run_until(now);
            if is_woken || !world.ready.is_empty() {
                completions.append(&mut world.ready);
                return Ok(());
            }
            if until != Some(now)
                && let Some(time) = world.stop.take()
            {
                world.run_until(now.after(time));
                return Ok(());
            }
            if world.step(until) {
                continue;
            }
            if let Some(until) = until {
                world.now = until;
                return Ok(());
            }
            drop(world);
            self.bell.hear();
            world = self.sim.world();
        }
    }

    pub(super) fn abandon(&mut self, completions: &mut Vec<Completion>, reason: impl Fn() -> io::Error) {
        let mut world = self.sim.world();
        for mut link in mem::take(&mut world.links).into_iter().flatten() {
            let conn = link.conn;
            // What io_uring did not complete in time the kernel may have sent all the same.
            link.send_unheard(world.now);
            completions.extend(link.give_up(&reason).into_iter().map(|event| Completion { conn, event }));
            if let Some(peer) = &mut link.peer {
                peer.closed(world.now);
            }
        }
        completions.append(&mut world.ready);
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.bell) as Arc<dyn Bell>)
    }

    pub(super) fn now(&self) -> Moment {
        self.sim.now()
    }

    pub(super) fn in_flight(&self) -> usize {
        let world = self.sim.world();
        world.ready.len() + world.links.iter().flatten().map(Link::in_flight).sum::<usize>()
    }
}

#[derive(Default)]
struct Doorbell {
    is_ringing: Mutex<bool>,
    changed: Condvar,
}

/// A test that hangs says nothing; one that panics says where.
const PATIENCE: Duration = Duration::from_secs(20);

impl Doorbell {
    fn take(&self) -> bool {
        mem::take(&mut *self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it rings.
    fn hear(&self) {
        let is_ringing = self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_ringing, PATIENCE, |is_ringing| !*is_ringing);
        let (_guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "a wait without end: nothing is on its way, and nobody wakes");
    }
}

impl Bell for Doorbell {
    fn ring(&self) {
        *self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::transport::driver::Driver;

    struct Echo;

    impl Peer for Echo {
        fn received(&mut self, bytes: &[u8], _: Moment, replies: &mut Replies) {
            replies.send(bytes);
        }
    }

    fn place() -> Address {
        Address::Tcp(SocketAddr::from(([10, 0, 0, 1], 4318)))
    }

    /// Sends a text again and again and receives; what came back, and a line for each completion.
    fn conversation(sim: &Sim, time: Duration) -> (Vec<u8>, Vec<String>) {
        let text: Vec<u8> = (0..=255).cycle().take(2_000).collect();
        let (mut got, mut log) = (vec![], vec![]);
        let mut driver = Driver::sim(sim);
        let conn = driver.connect(&place());
        let until = driver.now().after(time);
        let mut completions = vec![];
        let mut sent = 0;
        while driver.in_flight() > 0 && driver.now() < until {
            driver.wait(Some(until), &mut completions).expect("no wait was to fail");
            for Completion { event, .. } in completions.drain(..) {
                log.push(format!("{} {:?}", driver.now().nanos(), event.operation()));
                match event {
                    Event::Connected(Ok(())) => {
                        driver.recv(conn, vec![0; 100]);
                        driver.send(conn, text.clone(), 0..text.len());
                    }
                    Event::Sent { buffer, result: Ok(len) } => {
                        sent += len;
                        if sent < text.len() {
                            driver.send(conn, buffer, sent..text.len());
                        }
                    }
                    Event::Received { buffer, result: Ok(len @ 1..) } => {
                        got.extend(&buffer[..len]);
                        if got.len() < text.len() {
                            driver.recv(conn, buffer);
                        }
                    }
                    event => log.push(format!("{event:?}")),
                }
            }
        }
        assert!(text.starts_with(&got), "bytes in another order, or other bytes");
        driver.cancel(conn);
        while driver.in_flight() > 0 {
            driver.wait(None, &mut completions).expect("no wait was to fail");
        }
        driver.close(conn);
        (got, log)
    }

    #[test]
    fn same_seed_gives_the_same_run() {
        let run = |seed| {
            let sim = Sim::new(Network::rough(seed));
            sim.listen(place(), || Echo);
            conversation(&sim, Duration::from_secs(600))
        };
        let runs: Vec<_> = (0..50).map(run).collect();
        assert!((0..50).zip(&runs).all(|(seed, first)| run(seed) == *first));
        assert!(runs.iter().any(|(got, _)| got.len() == 2_000), "nothing ever arrives");
        assert!(runs.iter().any(|(got, _)| got.is_empty()), "nothing ever fails early");
        assert!(runs.iter().any(|(got, _)| !got.is_empty() && got.len() < 2_000), "nothing ever fails late");
    }

    #[test]
    fn every_operation_can_be_made_to_fail() {
        let calm = Sim::new(Network::calm(1));
        calm.listen(place(), || Echo);
        conversation(&calm, Duration::from_secs(60));
        assert!(calm.operations() > 3);
        for n in 0..calm.operations() {
            let sim = Sim::new(Network::calm(1));
            sim.listen(place(), || Echo);
            sim.fail_nth(n, ErrorKind::OutOfMemory);
            let (got, log) = conversation(&sim, Duration::from_secs(60));
            assert!(got.len() < 2_000 || n == 1, "{n}");
            assert!(
                log.iter().any(|line| line.contains("OutOfMemory") || line.contains("out of memory")),
                "{n}: {log:?}"
            );
        }
    }

    #[test]
    fn wait_can_be_made_to_fail_and_the_driver_begins_anew() {
        let sim = Sim::new(Network::calm(1));
        sim.listen(place(), || Echo);
        sim.fail_nth_wait(1);
        let mut driver = Driver::sim(&sim);
        let mut completions = vec![];
        let conn = driver.connect(&place());
        driver.wait(None, &mut completions).expect("the first wait is good");
        driver.recv(conn, vec![0; 8]);
        let cause = driver.wait(None, &mut completions).expect_err("the second was to fail");
        completions.clear();
        driver.fall_back(&cause).expect("there is nothing to open");
        driver.wait(None, &mut completions).expect("the third is good again");
        assert!(matches!(&completions[..], [Completion { event: Event::Received { result: Err(_), .. }, .. }]));
        let conn = driver.connect(&place());
        completions.clear();
        driver.wait(None, &mut completions).expect("as before");
        assert!(matches!(&completions[..], [Completion { event: Event::Connected(Ok(())), .. }]));
        driver.close(conn);
    }

    #[test]
    fn unanswered_connect_ends_after_two_minutes_that_take_no_time() {
        let sim = Sim::new(Network::calm(1));
        sim.ignore(place());
        let (_, log) = conversation(&sim, Duration::from_secs(600));
        assert_eq!(sim.now(), Moment::START.after(CONNECT_TIME));
        assert_eq!(log.len(), 2, "{log:?}");
    }

    #[test]
    fn peer_that_resets_all_is_heard() {
        let sim = Sim::new(Network::calm(1));
        sim.listen(place(), || Echo);
        let mut driver = Driver::sim(&sim);
        let conn = driver.connect(&place());
        let mut completions = vec![];
        driver.wait(None, &mut completions).expect("no wait was to fail");
        driver.recv(conn, vec![0; 8]);
        sim.reset_all();
        completions.clear();
        driver.wait(None, &mut completions).expect("no wait was to fail");
        let [Completion { event: Event::Received { result: Err(error), .. }, .. }] = &completions[..] else {
            panic!("{completions:?}")
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    #[should_panic(expected = "cancel and wait before close")]
    fn close_with_operations_in_flight_is_found() {
        let mut driver = Driver::sim(&Sim::new(Network::calm(1)));
        let conn = driver.connect(&place());
        driver.close(conn);
    }
}
