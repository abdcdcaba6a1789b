//! Looks up names on a thread of its own: the system's lookup may block for long, so the worker does not wait for it.
//!
//! That thread holds nothing but its slot and a waker. A lookup that hangs keeps neither a flush nor the end of the
//! process.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::waker::Waker;

/// Addresses in the order in which they are to be tried, or a sentence why there are none.
pub type Answer = Result<Vec<SocketAddr>, String>;

/// Looks up one name at a time. An answer to the question that was put last counts, however long it takes.
pub struct Resolver {
    desk: Arc<Desk>,
    waker: Waker,
    lookup: Lookup,
    spawn: Spawn,
    has_thread: bool,
}

/// Starts a thread of this name.
pub(super) type Spawn = fn(&'static str, Box<dyn FnOnce() + Send>) -> io::Result<()>;

type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Where question and answer lie. The mutex is held for a few moves, never during a lookup.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What was asked last and is not answered yet: a host and a port. It stays here during the lookup, so that an
    /// answer is known to belong to it, and another question takes its place.
    question: Option<(String, u16)>,
    answer: Option<Answer>,
    is_closed: bool,
}

/// More than anyone tries before the deadline.
const ADDRESSES_MAX: usize = 16;
/// Addresses of one answer that are looked at: more than a name with a purpose has.
const FOUND_MAX: usize = 256;
/// RFC 1035, 2.3.4: a name has 255 octets on the wire, 253 characters and a last dot in text.
const HOST_BYTES_MAX: usize = 254;
const REMEDY: &str = "check the name, and this machine's DNS";

impl Resolver {
    /// A resolver that wakes this driver with each answer. The thread starts with the first name that needs it.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self::with(waker, |host, port| Ok((host, port).to_socket_addrs()?.take(FOUND_MAX).collect()))
    }

    /// The same, with a thread of the caller's making: std's cannot be relied on in a child process.
    #[must_use]
    pub fn on(mut self, spawn: Spawn) -> Self {
        self.spawn = spawn;
        self
    }

    fn with(waker: Waker, lookup: Lookup) -> Self {
        let spawn: Spawn = |name, work| thread::Builder::new().name(name.to_owned()).spawn(work).map(drop);
        Self { desk: Arc::default(), waker, lookup, spawn, has_thread: false }
    }

    /// Asks for a host's addresses, in the place of what was asked before. To put the same question again changes
    /// nothing while it is looked up. Never blocks.
    pub fn ask(&mut self, host: &str, port: u16) {
        let known = known(host, port);
        if known.is_none() && !self.has_thread {
            self.has_thread = self.start().is_ok();
        }
        let mut state = self.desk.state();
        (state.question, state.answer) = match known {
            Some(answer) => (None, Some(answer)),
            None if self.has_thread => (Some((host.to_owned(), port)), None),
            None => (None, Some(Err(format!("{host}: no thread to look the name up")))),
        };
        let is_answered = state.answer.is_some();
        drop(state);
        self.desk.changed.notify_one();
        if is_answered {
            self.waker.wake();
        }
    }

    /// The answer to the last question, once.
    pub fn answer(&mut self) -> Option<Answer> {
        self.desk.state().answer.take()
    }

    /// Answers the open question in the place of a thread: for tests whose time is not the machine's.
    #[cfg(test)]
    pub(in crate::transport) fn settle(&self, answer: Answer) {
        let mut state = self.desk.state();
        assert!(state.question.take().is_some(), "nobody asks");
        state.answer = Some(answer);
        drop(state);
        self.waker.wake();
    }

    /// Whether a question is out: for the same tests.
    #[cfg(test)]
    pub(in crate::transport) fn is_asked(&self) -> bool {
        self.desk.state().question.is_some()
    }

    fn start(&self) -> io::Result<()> {
        let (desk, waker, lookup) = (Arc::clone(&self.desk), self.waker.clone(), self.lookup);
        // With the stack of any thread: the system's resolver runs plug-ins, which are other people's code.
        (self.spawn)("spanring-dns", Box::new(move || serve(&desk, &waker, lookup)))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("has_thread", &self.has_thread).finish_non_exhaustive()
    }
}

impl Drop for Resolver {
    /// The thread ends after its lookup, and is not waited for.
    fn drop(&mut self) {
        self.desk.state().is_closed = true;
        self.desk.changed.notify_one();
    }
}

fn serve(desk: &Desk, waker: &Waker, lookup: Lookup) {
    while let Some((host, port)) = desk.next() {
        let answer = answer_of(&host, port, lookup(&host, port));
        let mut state = desk.state();
        if state.question.as_ref().is_some_and(|(asked, at)| *asked == host && *at == port) && !state.is_closed {
            state.question = None;
            state.answer = Some(answer);
            drop(state);
            waker.wake();
        }
    }
}

impl Desk {
    /// The next question, or the end.
    fn next(&self) -> Option<(String, u16)> {
        let is_idle = |state: &mut State| state.question.is_none() && !state.is_closed;
        let waited = self.changed.wait_while(self.state(), is_idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.question.clone().filter(|_| !state.is_closed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is half done where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What needs no lookup: addresses in letters, `localhost` and the names below it, and what is no name.
fn known(host: &str, port: u16) -> Option<Answer> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Some(Ok(vec![SocketAddr::new(address, port)]));
    }
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Some(Err(format!("a host's name has 1 to {HOST_BYTES_MAX} bytes, this one {}", host.len())));
    }
    if host.trim_end_matches('.').rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost")) {
        // RFC 6761, 6.3: the loopback, whatever a server says. A collector may listen at one of the two only.
        let both = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
        return Some(Ok(both.map(|address| SocketAddr::new(address, port)).to_vec()));
    }
    None
}

/// What to make of what was found: where a collector can be, or why there is no such place.
fn answer_of(host: &str, port: u16, found: io::Result<Vec<SocketAddr>>) -> Answer {
    let mut found = found.map_err(|error| format!("{host}: {error}: {REMEDY}"))?;
    let Some(first) = found.first().map(SocketAddr::ip) else {
        return Err(format!("{host} has no address: {REMEDY}"));
    };
    // A filter on the way answers with an unspecified address, which would lead to this machine.
    found.retain(|address| can_be_a_host(address.ip()));
    // The port is the endpoint's, whatever a resolver makes of it.
    found.iter_mut().for_each(|address| address.set_port(port));
    match found.is_empty() {
        true => Err(format!("{host} is said to be at {first}, where no collector can be: {REMEDY}")),
        false => Ok(interleaved(found)),
    }
}

fn can_be_a_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The families by turns, beginning with the system's favourite (RFC 8305, 4): where one is broken, the second try is
/// good.
fn interleaved(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut rest: Vec<SocketAddr> = vec![];
    for address in found {
        if !rest.contains(&address) {
            rest.push(address);
        }
    }
    let mut order: Vec<SocketAddr> = vec![];
    while !rest.is_empty() && order.len() < ADDRESSES_MAX {
        let other = |address: &SocketAddr| order.last().is_none_or(|last| last.is_ipv4() != address.is_ipv4());
        let at = rest.iter().position(other).unwrap_or(0);
        order.push(rest.remove(at));
    }
    order
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicU32, Ordering},
            mpsc::{self, Receiver, Sender},
        },
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::transport::driver::waker::Bell;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Chime(Sender<()>);

    impl Bell for Chime {
        fn ring(&self) {
            let _ = self.0.send(());
        }
    }

    fn resolver(lookup: Lookup) -> (Resolver, Receiver<()>) {
        let (sender, rings) = mpsc::channel();
        (Resolver::with(Waker::new(Arc::new(Chime(sender))), lookup), rings)
    }

    fn unasked(host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        panic!("{host} needs no lookup")
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn literals_and_localhost_need_no_thread() {
        let (mut resolver, rings) = resolver(unasked);
        for (host, expected) in [
            ("192.0.2.7", vec![at("192.0.2.7:4318")]),
            ("2001:db8::7", vec![at("[2001:db8::7]:4318")]),
            ("[::1]", vec![at("[::1]:4318")]),
            ("localhost", vec![at("[::1]:4318"), at("127.0.0.1:4318")]),
            ("LocalHost.", vec![at("[::1]:4318"), at("127.0.0.1:4318")]),
            ("otel.localhost", vec![at("[::1]:4318"), at("127.0.0.1:4318")]),
            ("a.b.LOCALHOST.", vec![at("[::1]:4318"), at("127.0.0.1:4318")]),
        ] {
            resolver.ask(host, 4318);
            assert_eq!(resolver.answer(), Some(Ok(expected)), "{host}");
            assert_eq!(resolver.answer(), None, "{host}");
            rings.recv_timeout(PATIENCE).expect("an answer wakes the driver");
        }
        assert!(!resolver.has_thread);
    }

    #[test]
    fn what_is_no_name_is_refused_at_once() {
        let (mut resolver, _rings) = resolver(unasked);
        for host in ["", &"x".repeat(255)] {
            resolver.ask(host, 1);
            assert!(matches!(resolver.answer(), Some(Err(_))));
        }
    }

    #[test]
    fn answer_wakes_the_driver() {
        let (mut resolver, rings) = resolver(|host, port| {
            assert_eq!(thread::current().name(), Some("spanring-dns"));
            match host {
                "one" => Ok(vec![SocketAddr::new([192, 0, 2, 1].into(), port)]),
                "none" => Ok(vec![]),
                _ => Err(io::Error::other("no such host")),
            }
        });
        for (host, expected) in [
            ("one", Ok(vec![at("192.0.2.1:80")])),
            ("none", Err(format!("none has no address: {REMEDY}"))),
            ("two", Err(format!("two: no such host: {REMEDY}"))),
        ] {
            resolver.ask(host, 80);
            rings.recv_timeout(PATIENCE).expect("an answer wakes the driver");
            assert_eq!(resolver.answer(), Some(expected));
        }
    }

    #[test]
    fn newest_question_is_the_one_that_is_answered() {
        let (mut resolver, rings) = resolver(|_, port| Ok(vec![SocketAddr::new([192, 0, 2, 1].into(), port)]));
        for port in 1..=500 {
            resolver.ask("collector", port);
        }
        loop {
            rings.recv_timeout(PATIENCE).expect("the last is answered");
            if let Some(answer) = resolver.answer() {
                assert_eq!(answer, Ok(vec![at("192.0.2.1:500")]));
                break;
            }
        }
    }

    /// Ends a lookup of the next test; there is one lookup for each.
    static GATE: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    static LOOKUPS: AtomicU32 = AtomicU32::new(0);

    /// However slow the resolver is, and however often the question is put meanwhile.
    #[test]
    fn answer_to_the_same_question_counts_whatever_its_age() {
        let (mut resolver, rings) = resolver(|_, port| {
            LOOKUPS.fetch_add(1, Ordering::Relaxed);
            let mut open = GATE.1.wait_while(GATE.0.lock().unwrap(), |open| *open == 0).unwrap();
            *open -= 1;
            Ok(vec![SocketAddr::new([192, 0, 2, 1].into(), port)])
        });
        resolver.ask("collector", 80);
        while LOOKUPS.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        (0..100).for_each(|_| resolver.ask("collector", 80));
        *GATE.0.lock().unwrap() += 1;
        GATE.1.notify_all();
        rings.recv_timeout(PATIENCE).expect("an answer wakes the driver");
        assert_eq!(resolver.answer(), Some(Ok(vec![at("192.0.2.1:80")])));
        assert_eq!(LOOKUPS.load(Ordering::Relaxed), 1, "one question is looked up once");
    }

    #[test]
    fn answers_that_no_collector_can_have_are_left_out() {
        let found = |addresses: &[&str]| addresses.iter().map(|text| at(text)).collect::<Vec<_>>();
        let good = ["192.0.2.1:80", "[2001:db8::1]:80"];
        let bad =
            ["0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "[::]:80", "[ff02::1]:80", "[::ffff:0.0.0.0]:80"];
        let mixed = found(&[&bad[..3], &good[..], &bad[3..]].concat());
        assert_eq!(answer_of("h", 80, Ok(mixed)), Ok(found(&good)));
        let why = answer_of("h", 80, Ok(found(&bad))).unwrap_err();
        assert_eq!(why, format!("h is said to be at 0.0.0.0, where no collector can be: {REMEDY}"));
        let whatever_port = found(&["192.0.2.1:0", "192.0.2.1:9", "192.0.2.1:80"]);
        assert_eq!(answer_of("h", 80, Ok(whatever_port)), Ok(found(&["192.0.2.1:80"])), "the port is the endpoint's");
        // All of one family first: the other has its half.
        let thousands = (0..5_000_u16).map(|n| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 80)));
        let many = thousands.take(100).chain([at("192.0.2.1:80")]).collect();
        let order = answer_of("h", 80, Ok(many)).unwrap();
        assert_eq!((order.len(), order[1]), (ADDRESSES_MAX, at("192.0.2.1:80")));
    }

    #[test]
    fn lookup_that_hangs_keeps_nobody() {
        let (mut resolver, rings) = resolver(|_, _| {
            loop {
                thread::park();
            }
        });
        resolver.ask("collector", 1);
        resolver.ask("localhost", 2);
        assert!(matches!(resolver.answer(), Some(Ok(_))), "what needs no lookup does not wait for one");
        resolver.ask("collector", 3);
        assert_eq!(resolver.answer(), None);
        drop(resolver);
        assert_eq!(rings.try_iter().count(), 1);
    }

    #[test]
    fn system_looks_names_up() {
        let (waker, _) = mpsc::channel();
        let resolver = Resolver::new(Waker::new(Arc::new(Chime(waker))));
        let found = (resolver.lookup)("localhost", 7).expect("every system knows it");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{found:?}");
    }

    proptest! {
        #[test]
        fn families_take_turns_and_keep_their_order(kinds in prop::collection::vec((any::<bool>(), 0..20_u8), 0..40)) {
            let address = |(is_v4, n): (bool, u8)| match is_v4 {
                true => SocketAddr::from(([192, 0, 2, n], 1)),
                false => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()], 1)),
            };
            let found: Vec<SocketAddr> = kinds.into_iter().map(address).collect();
            let order = interleaved(found.clone());
            prop_assert!(order.len() <= ADDRESSES_MAX);
            prop_assert_eq!(order.first(), found.first());
            let mut unique: Vec<SocketAddr> = vec![];
            found.into_iter().for_each(|address| if !unique.contains(&address) { unique.push(address) });
            prop_assert_eq!(order.len(), unique.len().min(ADDRESSES_MAX));
            for is_v4 in [false, true] {
                let family = |list: &[SocketAddr]| -> Vec<SocketAddr> {
                    list.iter().copied().filter(|address| address.is_ipv4() == is_v4).collect()
                };
                let (tried, had) = (family(&order), family(&unique));
                prop_assert!(tried.len() >= had.len().min(ADDRESSES_MAX / 2), "a family is crowded out");
                prop_assert!(had.starts_with(&tried));
            }
            let turns = order.windows(2).take_while(|pair| pair[0].is_ipv4() != pair[1].is_ipv4()).count();
            let rest: Vec<bool> = order.iter().skip(turns + 1).map(SocketAddr::is_ipv4).collect();
            prop_assert!(rest.windows(2).all(|pair| pair[0] == pair[1]), "one family is left at the end: {:?}", order);
        }
    }
}
