//! Descriptors of attempts to connect that fail or lose their race: none is left behind, however many there are.
//!
//! A test of its own process, because it counts what the whole process has.

#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use spanring::{
    Export,
    testing::collector::{Mode, Place, Plan, Port, Row, Stand, on_free_port},
};

use crate::{
    own_process,
    route::{DRIVERS, PATIENCE, SPANS, Service},
};

/// Attempts of each kind: more than are open for any other reason, such as three for each engine in mid-attempt.
const ATTEMPTS: u64 = 16;
/// Engines that make them at the same time: one would take its time between two.
const ENGINES: usize = 4;
/// On loopback, no answer comes after this time.
const UNANSWERED: Duration = Duration::from_millis(500);

#[test]
fn attempts_that_fail_or_lose_leave_no_descriptor() {
    own_process::run("descriptors::attempts_that_fail_or_lose_leave_no_descriptor", || {
        for driver in DRIVERS {
            let (stand, first) = closer().unwrap();
            let endpoint = format!("http://localhost:{}", stand.collector.address().unwrap().port());
            // Without a limit of time, because nothing is ever delivered.
            let start = || Service::start(driver, Export { timeout: Duration::ZERO, ..Export::to(&endpoint) });
            let services: [_; ENGINES] = std::array::from_fn(|_| start());
            services.iter().for_each(Service::record);
            attempt(1, &services, &stand);
            let before = open_descriptors();
            attempt(ATTEMPTS, &services, &stand);
            settles_at(before);
            if let Some(first) = first {
                let _queue = nobody_answers(first).unwrap();
                let before = open_descriptors();
                attempt(ATTEMPTS, &services, &stand);
                settles_at(before);
            } else {
                say("no IPv6 on this system: nobody races");
            }
            each(&services, |service| {
                // Each attempt was read, and none was answered.
                let ledger = service.ends(SPANS);
                assert_eq!(ledger.unconfirmed + ledger.lost.shutdown_deadline, SPANS, "{ledger:?}");
                assert!(ledger.unconfirmed > 0, "{ledger:?}");
            });
        }
    });
}

/// A collector on the second address of `localhost` that closes before it answers, and the first address, which
/// refuses.
fn closer() -> io::Result<(Stand, Option<SocketAddr>)> {
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    on_free_port(|| {
        let first = Port::claim((v6, 0).into()).ok().and_then(|port| port.address());
        let second = Port::claim((v4, first.map_or(0, |first| first.port())).into())?;
        let row = Row::named("close_before_answering");
        Ok((row.start_on(Arc::new(second), Plan::forever(), Mode::Count)?, first))
    })
}

/// Waits for so many more attempts, each of which came through to the second address.
fn attempt(attempts: u64, services: &[Service], stand: &Stand) {
    let (enough, late) = (stand.met() + attempts, Instant::now() + PATIENCE);
    while stand.met() < enough {
        each(services, |service| {
            // It cuts the wait between two attempts short.
            let receipt = service.engine.flush(Duration::from_millis(150));
            assert!(!receipt.is_complete() && Instant::now() < late, "{} of {enough}: {receipt:?}", stand.met());
        });
    }
}

fn each(services: &[Service], run: impl Fn(&Service) + Sync) {
    thread::scope(|scope| services.iter().for_each(|service| _ = scope.spawn(|| run(service))));
}

/// A listener whose queue is full, so that connecting there takes for ever.
fn nobody_answers(address: SocketAddr) -> io::Result<(Socket, Vec<TcpStream>)> {
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&address.into())?;
    listener.listen(0)?;
    let mut queue = vec![];
    loop {
        match TcpStream::connect_timeout(&address, UNANSWERED) {
            Ok(stream) => queue.push(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok((listener, queue)),
            Err(error) => return Err(error),
        }
    }
}

fn settles_at(before: usize) {
    let late = Instant::now() + PATIENCE;
    while open_descriptors() > before {
        assert!(Instant::now() < late, "{} descriptors, {before} before", open_descriptors());
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[expect(clippy::print_stderr, reason = "a test that cannot look has to say so")]
fn say(text: &str) {
    eprintln!("descriptors: {text}");
}
