//! zstd over real sockets, on every driver: to a collector that takes it, and to ones that do not.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use spanring::{
    Compression, Config, DiagnosticSink, DriverChoice, Engine, Export,
    testing::collector::{Collector, Connection, Encoding, Mode, OK, Port, answer},
};

use crate::interop::{self, Folder};

const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [DriverChoice; 2] = [DriverChoice::Uring, DriverChoice::Poll];

/// An engine that compresses by zstd, and what it says.
fn engine(url: &str, driver: DriverChoice) -> (Engine, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&lines);
    let export = Export {
        driver,
        compression: Compression::Zstd,
        batch_spans_max: 512,
        // So that no second one is on its way when the first is declined.
        connections_max: 1,
        diagnostics: Some(DiagnosticSink::new(move |said| told.lock().unwrap().push(said.text.clone()))),
        ..Export::to(url)
    };
    (Engine::start(Config { export: Some(export), ..Config::default() }).unwrap(), lines)
}

/// Records twice as much as a request holds, twice, and ends.
fn export(engine: &Engine) {
    let tracer = engine.tracer("test");
    for _ in 0..2 {
        (0..1000).for_each(|_| tracer.span("GET /orders/{id}").start().end());
        assert!(engine.flush(PATIENCE).is_complete());
    }
    let receipt = engine.shutdown(PATIENCE);
    assert!(receipt.is_complete() && receipt.ledger.is_closed(), "{receipt:?}");
    assert_eq!((receipt.ledger.exported, receipt.ledger.lost.total()), (2000, 0), "{receipt:?}");
}

fn encodings(collector: &Collector) -> Vec<Encoding> {
    collector.received().into_iter().map(|request| request.head.encoding).collect()
}

fn declined(lines: &Mutex<Vec<String>>) -> usize {
    lines.lock().unwrap().iter().filter(|line| line.contains("does not take zstd")).count()
}

#[test]
fn http_03_zstd_arrives_whole_where_it_is_taken() {
    for driver in DRIVERS {
        let collector = Collector::start(Mode::Record).unwrap();
        let (engine, lines) = engine(&collector.url(), driver);
        export(&engine);
        let received = collector.received();
        assert!(received.iter().all(|request| request.head.encoding == Encoding::Zstd), "{driver:?}");
        assert!(received.iter().all(|request| request.head.body_bytes < request.body.len()), "{driver:?}");
        assert_eq!((collector.tally().spans, declined(&lines)), (2000, 0), "{driver:?}");
    }
}

#[test]
fn http_03_collector_that_declines_zstd_loses_nothing_and_gets_gzip() {
    for driver in DRIVERS {
        let requests = Arc::new(AtomicU64::new(0));
        let serve = move |connection: &mut Connection| {
            while connection.wait()? {
                match connection.read_request()? {
                    Ok(_) if requests.fetch_add(1, Relaxed) == 0 => {
                        connection.write(&answer("415 Unsupported Media Type", ""))?;
                    }
                    Ok(request) => {
                        connection.take(request);
                        connection.write(OK)?;
                    }
                    Err(refusal) => {
                        connection.refuse(refusal)?;
                        break;
                    }
                }
            }
            Ok(())
        };
        let port = Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let collector = Collector::start_with(Arc::new(port), Mode::Record, Arc::new(serve)).unwrap();
        let (engine, lines) = engine(&collector.url(), driver);
        export(&engine);
        let encodings = encodings(&collector);
        assert_eq!(encodings[0], Encoding::Zstd, "{driver:?}");
        assert!(encodings.len() > 4 && encodings[1..].iter().all(|encoding| *encoding == Encoding::Gzip), "{driver:?}");
        assert_eq!((collector.tally().spans, declined(&lines)), (2000, 1), "{driver:?}");
    }
}

/// One that does not take zstd answers with 400, and names the header.
#[test]
fn real_collector_loses_nothing_with_zstd_and_without() {
    let codings: [(&[&str], usize); 2] = [(&["", "gzip", "zstd"], 0), (&["", "gzip"], 1)];
    for (codings, told) in codings {
        let folder = Folder::new();
        let Some(collector) = interop::Collector::start_taking(folder.path(), codings) else {
            return;
        };
        let (engine, lines) = engine(&collector.url(), DriverChoice::Auto);
        export(&engine);
        assert_eq!((collector.spans().len(), declined(&lines)), (2000, told), "{codings:?}");
    }
}
