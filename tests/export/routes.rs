//! The ways to a collector besides a plain address, end to end and on every driver: a unix socket, a proxy, a name.
//!
//! On each way a peer is missing at first, or refuses: what was recorded waits, and nothing is lost
//! before the end, which counts it.

#![cfg(unix)]

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use spanring::{
    Config, Engine, Export, ProxyChoice,
    testing::collector::{Collector, Mode, Path, Place, Port, on_free_port, serve},
};

use crate::route::{
    PATIENCE, SPANS, Service, assert_names, on_each_driver,
    proxy::{Manner, Proxy},
    record,
};

// ---- A unix socket.

/// A path for a socket that was never used.
fn socket() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Relaxed);
    env::temp_dir().join(format!("spanring-routes-{}-{number}.sock", process::id()))
}

#[test]
fn unix_socket_may_come_late_and_go_and_come_back() {
    on_each_driver(|driver| {
        let path = socket();
        let service = Service::start(driver, Export::to(&format!("unix://{}", path.display())));
        service.record();
        assert_names(&service.is_down(), &[&path.display().to_string(), "No such file"]);
        service.says(&["unix://", "cannot be reached", "spans wait"]);
        let mut collector = Collector::start_with(Arc::new(Path(path)), Mode::Record, Arc::new(serve)).unwrap();
        assert!(service.engine.flush(PATIENCE).is_complete());
        assert_eq!(collector.tally().spans, SPANS);
        collector.stop();
        service.record();
        assert_names(&service.is_down(), &["refused"]);
        collector.restart().unwrap();
        service.delivers(&collector, 2 * SPANS);
        assert!(collector.received().iter().all(|request| request.head.path == "/v1/traces"));
    });
}

/// A thread's user for files, which its threads inherit: root alone may open everything, and the tests may run as root.
#[cfg(target_os = "linux")]
#[test]
fn unix_socket_without_permission_is_named_and_spans_wait_for_it() {
    use std::{
        fs::{Permissions, set_permissions},
        os::unix::fs::PermissionsExt,
        thread,
    };

    const NOBODY: libc::uid_t = 65_534;
    on_each_driver(|driver| {
        let path = socket();
        let place = Arc::new(Path(path.clone()));
        let collector = Collector::start_with(place, Mode::Ids, Arc::new(serve)).unwrap();
        set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let export = Export::to(&format!("unix://{}", path.display()));
        let start = move || {
            // SAFETY: it takes a number, and changes nothing but this thread's own rights.
            unsafe { libc::setfsuid(NOBODY) };
            Service::start(driver, export)
        };
        let service = thread::spawn(start).join().unwrap();
        service.record();
        assert_names(&service.is_down(), &[&path.display().to_string(), "Permission denied"]);
        service.says(&["unix://", "cannot be reached", "Permission denied"]);
        set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        service.delivers(&collector, SPANS);
    });
}

// ---- A proxy, to a collector whose name only the proxy knows.

const COLLECTOR: &str = "http://collector.invalid:4318";
/// RFC 7617: `user:p@ss`.
const CREDENTIALS: &str = "Basic dXNlcjpwQHNz";

fn through(proxy: &Proxy, credentials: &str) -> Export {
    Export { proxy: ProxyChoice::Url(proxy.url(credentials)), ..Export::to(COLLECTOR) }
}

#[test]
fn proxy_gets_the_whole_url_and_its_credentials_with_every_request() {
    on_each_driver(|driver| {
        let collector = Collector::start(Mode::Record).unwrap();
        let proxy = Proxy::start(collector.address().unwrap(), &[Manner::Asks(CREDENTIALS)]);
        let service = Service::start(driver, through(&proxy, "user:p%40ss@"));
        for _ in 0..3 {
            service.record();
            assert!(service.engine.flush(PATIENCE).is_complete());
        }
        service.delivers(&collector, 3 * SPANS);
        let received = collector.received();
        assert_eq!(received.len(), 3);
        for head in received.into_iter().map(|request| request.head) {
            assert_eq!(head.path, format!("{COLLECTOR}/v1/traces"));
            let value = |name| head.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
            assert_eq!(value("host"), Some("collector.invalid:4318"));
            assert_eq!(value("proxy-authorization"), Some(CREDENTIALS));
        }
        let told = format!("{:?} {:?}", service.lines(), service.engine.stats());
        assert!(!told.contains("p%40ss") && !told.contains("p@ss") && !told.contains(CREDENTIALS), "{told}");
    });
}

/// HTTP-12: a 407 is final, as every status that is not on the list. Which makes it the more important to say what to
/// do.
#[test]
fn http_12_proxy_that_wants_other_credentials_is_final_and_says_where_to_put_them() {
    for credentials in ["", "user:wrong@"] {
        on_each_driver(|driver| {
            let collector = Collector::start(Mode::Ids).unwrap();
            let proxy = Proxy::start(collector.address().unwrap(), &[Manner::Asks(CREDENTIALS)]);
            let service = Service::start(driver, through(&proxy, credentials));
            service.record();
            let receipt = service.engine.flush(PATIENCE);
            assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
            assert_eq!((receipt.lost.rejected, receipt.lost.total(), collector.tally().spans), (SPANS, SPANS, 0));
            let address = proxy.url("").replace("http://", "");
            service.says(&["407", &format!("through the proxy {address}"), "user:password@", "the proxy's URL"]);
        });
    }
}

#[test]
fn proxy_that_nobody_runs_lets_spans_wait() {
    on_each_driver(|driver| {
        let collector = Collector::start(Mode::Ids).unwrap();
        let place = Arc::new(Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap());
        let proxy = ProxyChoice::Url(place.url());
        let service = Service::start(driver, Export { proxy, ..Export::to(COLLECTOR) });
        service.record();
        let address = place.address().unwrap().to_string();
        assert_names(&service.is_down(), &[&address, "refused"]);
        service.says(&[COLLECTOR, &format!("through the proxy {address}"), "cannot be reached"]);
        let _proxy = Proxy::start_on(place, collector.address().unwrap(), &[Manner::Forwards]);
        service.delivers(&collector, SPANS);
    });
}

#[test]
fn proxy_that_fails_leaves_time_for_another_attempt() {
    on_each_driver(|driver| {
        let collector = Collector::start(Mode::Ids).unwrap();
        let manners = &[Manner::Refuses("502 Bad Gateway"), Manner::Forwards];
        let proxy = Proxy::start(collector.address().unwrap(), manners);
        let service = Service::start(driver, through(&proxy, ""));
        service.record();
        service.delivers(&collector, SPANS);
        service.says(&["through the proxy", "status 502"]);
        assert_eq!((proxy.heads().len(), service.engine.stats().repeats), (2, 1));
    });
}

/// While its connection lives nothing is sent again, so it costs one request; the next goes by another connection.
#[test]
fn proxy_that_hangs_leaves_one_request_unconfirmed() {
    on_each_driver(|driver| {
        let collector = Collector::start(Mode::Ids).unwrap();
        let proxy = Proxy::start(collector.address().unwrap(), &[Manner::Hangs, Manner::Forwards]);
        let timeout = Duration::from_millis(700);
        let service = Service::start(driver, Export { timeout, ..through(&proxy, "") });
        service.record();
        let ledger = service.engine.flush(PATIENCE).ledger;
        assert_eq!((ledger.unconfirmed, ledger.lost.total()), (SPANS, 0), "{ledger:?}");
        service.record();
        service.delivers(&collector, SPANS);
        service.says(&["unconfirmed", "no answer in time"]);
        assert_eq!((proxy.heads().len(), service.engine.stats().repeats), (2, 0));
    });
}

/// The test starts itself again, because the environment is the whole process's.
#[test]
fn proxy_of_the_environment_is_used() {
    const CHILD: &str = "SPANRING_TEST_ROUTES";
    if env::var_os(CHILD).is_some() {
        return on_each_driver(|driver| {
            let mut config = Config::from_env();
            config.export.as_mut().unwrap().driver = driver;
            let told = config.explain();
            assert!(
                told.contains("export.proxy = by the environment: http://127.0.0.1:") && !told.contains("ss@"),
                "{told}"
            );
            let engine = Engine::start(config).unwrap();
            record(&engine);
            let receipt = engine.shutdown(PATIENCE);
            assert_eq!((receipt.is_complete(), receipt.ledger.exported), (true, SPANS), "{receipt:?}");
        });
    }
    let collector = Collector::start(Mode::Ids).unwrap();
    let proxy = Proxy::start(collector.address().unwrap(), &[Manner::Asks(CREDENTIALS)]);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "routes::proxy_of_the_environment_is_used", "--nocapture"]).env_clear().env(CHILD, "1");
    child.env("http_proxy", proxy.url("user:p%40ss@")).env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((collector.tally().spans, proxy.heads().len()), (2 * SPANS, 2));
}

// ---- A name.

#[test]
fn name_that_does_not_exist_is_said_with_a_remedy_and_spans_wait() {
    on_each_driver(|driver| {
        // RFC 6761, 6.4: there is no such name.
        let export = Export { proxy: ProxyChoice::Direct, ..Export::to("http://name.invalid:4318") };
        let service = Service::start(driver, export);
        service.record();
        assert_names(&service.is_down(), &["name.invalid", "check", "DNS"]);
        service.says(&["http://name.invalid:4318", "cannot be reached", "spans wait"]);
        service.gives_up(SPANS);
    });
}

#[test]
fn name_with_two_addresses_is_reached_by_the_one_that_listens() {
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    on_each_driver(|driver| {
        // The same port of both, so that no other process listens at the other.
        let claim = || match Port::claim((v6, 0).into()) {
            Ok(six) => Ok([Some(Port::claim((v4, six.address().unwrap().port()).into())?), Some(six)]),
            // A machine without IPv6, where the first address fails in its own way.
            Err(_) => Ok([Some(Port::claim((v4, 0).into())?), None]),
        };
        let places = on_free_port(claim).unwrap().map(|place| place.map(Arc::new));
        for place in places.iter().flatten() {
            let collector = Collector::start_with(place.clone(), Mode::Ids, Arc::new(serve)).unwrap();
            let port = place.address().unwrap().port();
            let service = Service::start(driver, Export::to(&format!("http://localhost:{port}")));
            service.record();
            service.delivers(&collector, SPANS);
            assert!(!service.lines().iter().any(|line| line.contains("cannot be reached")), "{:?}", service.lines());
        }
    });
}
