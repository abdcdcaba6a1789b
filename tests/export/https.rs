//! https end to end and on every driver: over real sockets to the stand-in collector behind rustls, straight and
//! through the tunnel of a proxy. What fails is named by the check that failed, and what was recorded waits.

#![cfg(unix)]

use std::{
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use rustls::ServerConfig;
use spanring::{
    Export, Health, ProxyChoice,
    internals::tls::certificates::{Authority, Folder, Leaf, VERSIONS, authority, server},
    testing::collector::{
        Collector, Connection, Fault, Mode, Plan, Port, Row, Serve, Stand, Step, on_free_port, serve, tls::TlsPort,
    },
};

use crate::route::{
    DRIVERS, PATIENCE, SPANS, Service, assert_names, on_each_driver,
    proxy::{Manner, Proxy},
    record,
};

/// One for all tests: keys take long to make.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| authority("the CA"));
/// The name that only a proxy knows, and the one of this machine.
const NAMES: [&str; 2] = ["collector.invalid", "localhost"];

// ---- The certificates.

#[test]
fn server_of_the_given_authority_takes_everything() {
    for version in VERSIONS {
        let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), version, None));
        on_each_driver(|driver| {
            let (collector, folder) = (collector(&config, Mode::Record), Folder::new());
            let service = Service::start(driver, trusting(&folder, &collector.url()));
            for _ in 0..3 {
                service.record();
                assert!(service.engine.flush(PATIENCE).is_complete());
            }
            service.delivers(&collector, 3 * SPANS);
            assert_eq!((collector.received().len(), collector.tally().connections), (3, 1));
        });
    }
}

/// The file is read again when it changes: the program need not be restarted.
#[test]
fn server_of_another_authority_is_named_and_spans_wait_for_the_right_file() {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), VERSIONS[1], None));
    on_each_driver(|driver| {
        let (collector, folder) = (collector(&config, Mode::Ids), Folder::new());
        let wrong = folder.write("ca.pem", authority("another CA").pem(), 0);
        let service = Service::start(driver, Export { certificate: Some(wrong), ..Export::to(&collector.url()) });
        service.record();
        let why = ["certificate of localhost", "signed by no issuer that is trusted", "ca.pem", "put the CA"];
        assert_names(&service.is_down(), &why);
        service.says(&[&collector.url(), "cannot be reached", "spans wait", why[1]]);
        folder.write("ca.pem", AUTHORITY.pem(), 1);
        service.delivers(&collector, SPANS);
    });
}

#[test]
fn server_of_another_name_is_named_and_the_end_counts_what_waited() {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &["other.example"]), VERSIONS[1], None));
    on_each_driver(|driver| {
        let (collector, folder) = (collector(&config, Mode::Ids), Folder::new());
        let service = Service::start(driver, trusting(&folder, &collector.url()));
        service.record();
        let why = service.is_down();
        assert_names(&why, &["certificate of localhost", "for another name (other.example)", "subjectAltName"]);
        service.gives_up(SPANS);
        assert_eq!(collector.tally().requests, 0);
    });
}

#[test]
fn client_shows_who_it_is_where_the_server_asks() {
    for version in VERSIONS {
        let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), version, Some(&AUTHORITY)));
        on_each_driver(|driver| {
            let (collector, folder) = (collector(&config, Mode::Ids), Folder::new());
            let client = Leaf::of_client(&AUTHORITY);
            let export = Export {
                client_certificate: Some(folder.write("client.pem", client.certificate.pem(), 0)),
                client_key: Some(folder.write("client.key", client.key.serialize_pem(), 0)),
                ..trusting(&folder, &collector.url())
            };
            let service = Service::start(driver, export);
            service.record();
            service.delivers(&collector, SPANS);
        });
    }
}

/// In TLS 1.3 the refusal comes after our side of the handshake, with the first request on its way. Its time does not
/// run.
#[test]
fn client_without_a_certificate_is_told_which_to_give_and_spans_wait() {
    for version in VERSIONS {
        let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), version, Some(&AUTHORITY)));
        on_each_driver(|driver| {
            let (collector, folder) = (collector(&config, Mode::Ids), Folder::new());
            let service = Service::start(driver, trusting(&folder, &collector.url()));
            service.record();
            let why = service.is_down();
            assert_names(&why, &["localhost", "asks for a client certificate", "`client_certificate`", "`client_key`"]);
            // The last attempt may have been cut off before the refusal came.
            let ledger = service.ends(SPANS);
            assert_eq!(ledger.lost.shutdown_deadline + ledger.unconfirmed, SPANS, "{ledger:?}");
            assert_eq!(collector.tally().requests, 0);
        });
    }
}

#[cfg(target_os = "linux")]
mod forked {
    use std::{fs, io, path::Path};

    use spanring::DriverChoice;

    use super::*;

    /// The parent's worker is in the middle of a file: nothing that it holds meanwhile reaches a child.
    #[test]
    fn child_that_is_forked_while_a_certificate_is_read_delivers_its_spans() {
        // By its address: in a child of so many threads the system's resolver may be locked.
        let config = Arc::new(server(&Leaf::new(&AUTHORITY, &["127.0.0.1"]), VERSIONS[1], None));
        // As long as a file may be, so that its reading is met.
        let mut long = AUTHORITY.pem().into_bytes();
        long.resize(4 << 20, b'#');
        for driver in DRIVERS {
            let late = Instant::now() + PATIENCE;
            while !is_delivered_by_a_child_that_meets_the_reading(driver, &config, &long) {
                assert!(Instant::now() < late, "no fork met it");
            }
        }
    }

    /// False if the file was no longer open in the child, which has then done nothing.
    fn is_delivered_by_a_child_that_meets_the_reading(
        driver: DriverChoice,
        config: &Arc<ServerConfig>,
        long: &[u8],
    ) -> bool {
        let (collector, folder) = (collector(config, Mode::Ids), Folder::new());
        let url = collector.url().replace("localhost", "127.0.0.1");
        let service = Service::start(driver, trusting(&folder, &url));
        let file = fs::canonicalize(folder.write("ca.pem", long, 1)).unwrap();
        service.record();
        let (receipt, meets) = thread::scope(|scope| {
            let flush = scope.spawn(|| service.engine.flush(PATIENCE));
            while !is_open(&file) && !flush.is_finished() {}
            let meets = fork_and_wait(|| {
                is_open(&file).then(|| {
                    record(&service.engine);
                    let receipt = service.engine.shutdown(PATIENCE / 4);
                    receipt.is_complete() && receipt.ledger.is_closed() && receipt.ledger.exported == SPANS
                })
            });
            (flush.join().unwrap(), meets)
        });
        assert!(receipt.is_complete(), "{receipt:?}, {:?}", service.lines());
        let spans = if meets { 2 * SPANS } else { SPANS };
        assert_eq!((collector.tally().spans, service.engine.ledger().exported), (spans, SPANS));
        meets
    }

    /// Whether this process has the file open.
    fn is_open(file: &Path) -> bool {
        let mut open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|path| path == file))
    }

    /// Does this in a child, and waits until it has ended well: false if it had nothing to do.
    fn fork_and_wait(child: impl FnOnce() -> Option<bool>) -> bool {
        const WELL: i32 = 0;
        const BADLY: i32 = 1;
        const NOTHING: i32 = 2;
        // SAFETY: the child uses the engine, whose promise this is, and ends without coming back.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            let code = child().map_or(NOTHING, |is_right| if is_right { WELL } else { BADLY });
            // SAFETY: ends the child at once, without the destructors of its parent's threads.
            unsafe { libc::_exit(code) }
        }
        let mut status = 0;
        // SAFETY: the child is ours, and the place is valid.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) != BADLY, "the child failed: {status}");
        libc::WEXITSTATUS(status) == WELL
    }
}

/// What the session has taken may be there.
#[test]
fn request_that_is_read_and_never_answered_is_unconfirmed() {
    for version in VERSIONS {
        let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), version, None));
        on_each_driver(|driver| {
            let silent = |connection: &mut Connection| {
                if let Ok(request) = connection.read_request()? {
                    connection.take(request);
                }
                connection.rest(PATIENCE)
            };
            let (collector, folder) = (collector_that(&config, Mode::Ids, Arc::new(silent)), Folder::new());
            let service = Service::start(driver, trusting(&folder, &collector.url()));
            service.record();
            assert!(collector.wait_for(Instant::now() + PATIENCE, |tally| tally.spans > 0));
            let ledger = service.ends(SPANS);
            assert!(ledger.unconfirmed >= collector.tally().spans, "{ledger:?}");
            assert_eq!(ledger.unconfirmed + ledger.lost.shutdown_deadline, SPANS, "{ledger:?}");
        });
    }
}

// ---- Certificates that are replaced while spans come. `timeout` is over in no time, and does not run meanwhile.

const NO_TIME: Duration = Duration::from_millis(100);

#[test]
fn spans_wait_until_the_file_has_the_new_authority_of_the_server() {
    let next = authority("the next CA");
    let configs =
        [&*AUTHORITY, &next].map(|authority| Arc::new(server(&Leaf::new(authority, &NAMES), VERSIONS[1], None)));
    on_each_driver(|driver| {
        let (mut old, folder) = (collector(&configs[0], Mode::Ids), Folder::new());
        let service = Service::start(driver, Export { timeout: NO_TIME, ..trusting(&folder, &old.url()) });
        delivers_more(&service);
        let new = successor(&mut old, &configs[1]);
        service.record();
        waits(&service, &["signed by no issuer that is trusted", "ca.pem"]);
        folder.write("ca.pem", next.pem(), 1);
        delivers_more(&service);
        has_all(&service, [&old, &new]);
        assert_lines(&service, &["cannot be reached; spans wait", "takes spans again"]);
    });
}

#[test]
fn spans_wait_until_the_files_have_the_new_identity_of_the_client() {
    let (leaf, next) = (Leaf::new(&AUTHORITY, &NAMES), authority("the next CA"));
    for version in VERSIONS {
        let configs = [&*AUTHORITY, &next].map(|clients| Arc::new(server(&leaf, version, Some(clients))));
        on_each_driver(|driver| {
            let (mut old, folder) = (collector(&configs[0], Mode::Ids), Folder::new());
            let clients = [Leaf::of_client(&AUTHORITY), Leaf::of_client(&next)];
            let certificate = |of: usize| folder.write("client.pem", clients[of].certificate.pem(), of as u64);
            let key = |of: usize| folder.write("client.key", clients[of].key.serialize_pem(), of as u64);
            let export = Export {
                timeout: NO_TIME,
                client_certificate: Some(certificate(0)),
                client_key: Some(key(0)),
                ..trusting(&folder, &old.url())
            };
            let service = Service::start(driver, export);
            delivers_more(&service);
            let new = successor(&mut old, &configs[1]);
            service.record();
            waits(&service, &["refuses the client certificate in", "client.pem"]);
            // One file after the other: in between they are no pair.
            certificate(1);
            waits(&service, &["the new certificates cannot be used", "is not the key of", "client.key"]);
            key(1);
            delivers_more(&service);
            has_all(&service, [&old, &new]);
            let lines = ["cannot be reached; spans wait", "the new certificates cannot be used", "takes spans again"];
            assert_lines(&service, &lines);
        });
    }
}

#[test]
fn certificates_of_before_are_used_while_their_file_holds_garbage() {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), VERSIONS[1], None));
    on_each_driver(|driver| {
        let (mut collector, folder) = (collector(&config, Mode::Ids), Folder::new());
        let service = Service::start(driver, Export { timeout: NO_TIME, ..trusting(&folder, &collector.url()) });
        delivers_more(&service);
        for (second, garbage) in [(1, &b"garbage"[..]), (2, b""), (3, &[0xFF; 5 << 20])] {
            folder.write("ca.pem", garbage, second);
            collector.restart().unwrap();
            delivers_more(&service);
            let Health::Degraded(why) = service.engine.health() else { panic!("{:?}", service.engine.health()) };
            assert_names(&why, &["the new certificates cannot be used", "stay in use until they expire", "ca.pem"]);
        }
        folder.write("ca.pem", AUTHORITY.pem(), 4);
        collector.restart().unwrap();
        delivers_more(&service);
        assert_eq!(service.engine.health(), Health::Healthy);
        has_all(&service, [&collector]);
        // The next line on certificates comes when the limit on how often allows it.
        assert_lines(&service, &["the new certificates cannot be used"]);
    });
}

/// A collector in the place of this one, which goes.
fn successor(old: &mut Collector, config: &Arc<ServerConfig>) -> Collector {
    old.stop();
    let port = Port::claim(old.address().unwrap()).unwrap();
    Collector::start_with(Arc::new(TlsPort { port, config: Arc::clone(config) }), Mode::Ids, Arc::new(serve)).unwrap()
}

fn delivers_more(service: &Service) {
    service.record();
    let receipt = service.engine.flush(PATIENCE);
    assert!(receipt.is_complete(), "{receipt:?}, {:?}", service.lines());
}

/// What was recorded last waits for this reason, and for longer than `timeout`.
fn waits(service: &Service, why: &[&str]) {
    let late = Instant::now() + PATIENCE;
    loop {
        let receipt = service.engine.flush(2 * NO_TIME);
        let ends = receipt.lost.total() + receipt.unconfirmed;
        assert_eq!((receipt.waiting, ends), (SPANS, 0), "{receipt:?}, {:?}", service.lines());
        if matches!(service.engine.health(), Health::Down(down) if why.iter().all(|part| down.contains(part))) {
            return;
        }
        assert!(Instant::now() < late, "{:?}, {:?}", service.engine.health(), service.lines());
    }
}

/// All that was recorded is there once, and the ledger says so.
fn has_all<const N: usize>(service: &Service, collectors: [&Collector; N]) {
    let receipt = service.engine.shutdown(PATIENCE);
    assert!(receipt.is_complete() && receipt.is_lossless() && receipt.ledger.is_closed(), "{receipt:?}");
    let taken: u64 = collectors.iter().map(|collector| collector.tally().spans).sum();
    let started = receipt.ledger.started;
    assert_eq!((receipt.ledger.exported, taken), (started, started), "{receipt:?}");
}

/// It has said one line for each of these, in this order. Where there is no io_uring it has said that, too.
fn assert_lines(service: &Service, parts: &[&str]) {
    let lines: Vec<_> = service.lines().into_iter().filter(|line| !line.starts_with("exporting to ")).collect();
    let are_those = lines.len() == parts.len() && lines.iter().zip(parts).all(|(line, part)| line.contains(part));
    assert!(are_those, "{lines:#?} are not {parts:?}");
}

// ---- Peers that speak something else, or nothing.

/// Side by side: each takes its five seconds.
#[test]
fn peer_that_says_nothing_before_the_first_request_is_given_up_in_time() {
    thread::scope(|scope| {
        scope.spawn(|| {
            on_each_driver(|driver| {
                let (stand, folder) = (plain(&[Step::Hold]), Folder::new());
                let service = Service::start(driver, trusting(&folder, &https(&stand.collector)));
                service.record();
                assert_names(&service.is_down(), &["TLS handshake", "within 5 s"]);
                service.gives_up(SPANS);
            });
        });
        let (hangs, leads_nowhere) = (&[Manner::Hangs, Manner::Forwards], &[Manner::LeadsNowhere, Manner::Forwards]);
        scope.spawn(|| delivers_after(hangs, &["the proxy accepts", "no tunnel within 5 s"]));
        scope.spawn(|| delivers_after(leads_nowhere, &["TLS handshake", "within 5 s"]));
    });
}

#[test]
fn plain_server_at_an_https_endpoint_is_told_as_such() {
    // As servers do that know HTTP only: the head of the first record is no request.
    const STEPS: &[Step] = &[Step::ReadBytes(5), Step::Answer("400 Bad Request", "Connection: close\r\n"), Step::Hold];
    on_each_driver(|driver| {
        let (stand, folder) = (plain(STEPS), Folder::new());
        let service = Service::start(driver, trusting(&folder, &https(&stand.collector)));
        service.record();
        assert_names(&service.is_down(), &["localhost speaks plain HTTP", "use http://"]);
        service.gives_up(SPANS);
    });
}

#[test]
fn https_server_at_a_plain_endpoint_is_told_as_such() {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), VERSIONS[1], None));
    on_each_driver(|driver| {
        let collector = collector(&config, Mode::Ids);
        let service = Service::start(driver, Export::to(&collector.url().replace("https://", "http://")));
        service.record();
        let receipt = service.engine.flush(PATIENCE);
        assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
        assert_eq!((receipt.lost.rejected, receipt.lost.total()), (SPANS, SPANS));
        service.says(&["the peer speaks TLS", "https://"]);
    });
}

// ---- Through the tunnel of a proxy.

/// RFC 7617: `user:p@ss`.
const CREDENTIALS: &str = "Basic dXNlcjpwQHNz";
const COLLECTOR: &str = "https://collector.invalid:4318";

#[test]
fn tunnel_hides_everything_from_the_proxy_and_the_credentials_from_the_collector() {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), VERSIONS[1], None));
    on_each_driver(|driver| {
        let (collector, folder) = (collector(&config, Mode::Record), Folder::new());
        let proxy = Proxy::start(collector.address().unwrap(), &[Manner::Asks(CREDENTIALS)]);
        let headers = vec![("x-key".to_owned(), "secret".to_owned())];
        let export = Export { headers, ..through(&proxy, "user:p%40ss@", &folder) };
        let service = Service::start(driver, export);
        service.record();
        service.delivers(&collector, SPANS);
        let [said] = <[_; 1]>::try_from(proxy.heads()).unwrap();
        assert!(said.starts_with("CONNECT collector.invalid:4318 HTTP/1.1\r\n") && !said.contains("secret"), "{said}");
        let heard = collector.received().swap_remove(0).head;
        assert_eq!(heard.path, "/v1/traces");
        assert!(heard.headers.iter().all(|(name, _)| name != "proxy-authorization"), "{heard:?}");
        assert!(heard.headers.contains(&("x-key".into(), "secret".into())), "{heard:?}");
    });
}

#[test]
fn tunnel_that_is_refused_says_what_to_do_and_spans_wait() {
    for (manners, why) in [
        (&[Manner::Refuses("403 Forbidden"), Manner::Forwards], ["status 403", "allow CONNECT"]),
        (&[Manner::Refuses("407 Proxy Authentication Required"), Manner::Forwards], ["status 407", "user:password@"]),
        (&[Manner::Refuses("502 Bad Gateway"), Manner::Forwards], ["status 502", "does not reach the endpoint"]),
    ] {
        delivers_after(manners, &why);
    }
}

/// The proxy's first connection fails with these words, the second one delivers what waited.
fn delivers_after(manners: &'static [Manner], why: &[&str]) {
    let config = Arc::new(server(&Leaf::new(&AUTHORITY, &NAMES), VERSIONS[1], None));
    on_each_driver(|driver| {
        let (collector, folder) = (collector(&config, Mode::Ids), Folder::new());
        let proxy = Proxy::start(collector.address().unwrap(), manners);
        let service = Service::start(driver, through(&proxy, "", &folder));
        service.record();
        service.delivers(&collector, SPANS);
        service.says(&[&[COLLECTOR, "through the proxy", "cannot be reached", "spans wait"], why].concat());
        assert_eq!((proxy.heads().len(), service.engine.stats().repeats), (2, 0));
    });
}

// ---- The rig.

fn trusting(folder: &Folder, url: &str) -> Export {
    Export { certificate: Some(folder.write("ca.pem", AUTHORITY.pem(), 0)), ..Export::to(url) }
}

fn through(proxy: &Proxy, credentials: &str, folder: &Folder) -> Export {
    Export { proxy: ProxyChoice::Url(proxy.url(credentials)), ..trusting(folder, COLLECTOR) }
}

/// A collector that speaks TLS.
fn collector(config: &Arc<ServerConfig>, mode: Mode) -> Collector {
    collector_that(config, mode, Arc::new(serve))
}

/// A collector that speaks TLS and serves in this way.
fn collector_that(config: &Arc<ServerConfig>, mode: Mode, serve: Arc<Serve>) -> Collector {
    let start = || {
        let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into())?;
        Collector::start_with(Arc::new(TlsPort { port, config: Arc::clone(config) }), mode, Arc::clone(&serve))
    };
    on_free_port(start).unwrap()
}

/// A peer without TLS, which does this with each connection.
fn plain(steps: &'static [Step]) -> Stand {
    let row = Row { fault: Fault::AtAccept(steps), ..*Row::named("closed_port") };
    row.start(Plan::forever(), Mode::Count).unwrap()
}

fn https(collector: &Collector) -> String {
    format!("https://localhost:{}", collector.address().unwrap().port())
}
