//! What a program that loses spans is told though no worker is left to tell it, once, on the standard error. Each case
//! runs in a process of its own, whose standard error is read.

use std::{
    env,
    process::{self, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use spanring::{Config, DiagnosticSink, Engine, Export, Tracer};

const CASE: &str = "SPANRING_TEST_SILENCE";

/// What the test of this name, started again for itself, writes to the standard error; `None` in that process, which
/// has run `case`.
fn told(test: &str, variables: &[(&str, &str)], case: impl FnOnce()) -> Option<String> {
    if env::var_os(CASE).is_some() {
        case();
        return None;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("silence::{test}"), "--nocapture"]).stdout(Stdio::null());
    let output = command.envs(variables.iter().copied()).env(CASE, "1").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    Some(text)
}

fn record(tracer: &Tracer, spans: usize) {
    (0..spans).for_each(|_| tracer.span("work").start().end());
}

fn quiet() -> Config {
    let export = Export { diagnostics: Some(DiagnosticSink::new(|_| ())), ..Export::to("http://127.0.0.1:9") };
    Config { export: Some(export), ..Config::default() }
}

/// Marks a place in what is told.
#[expect(clippy::print_stderr, reason = "the standard error is what is looked at")]
fn raw(text: &str) {
    eprintln!("{text}");
}

const UNREAD: &str = "spanring: a ring is half full, and no span was taken out yet";
const CLOSED: &str = "spanring: a span was started or ended after its engine was shut down or dropped";

/// The engine is gone at the end of the statement.
#[test]
fn tracer_of_a_dropped_engine_says_once_that_its_spans_are_lost() {
    let told = told("tracer_of_a_dropped_engine_says_once_that_its_spans_are_lost", &[], || {
        for config in [Config::default(), quiet()] {
            let tracer = Engine::start(config).unwrap().tracer("test");
            record(&tracer, 1000);
        }
    });
    if let Some(told) = told {
        assert_eq!(told.matches(CLOSED).count(), 2, "once for each engine: {told}");
        assert!(told.contains("Keep the `Engine`"), "{told}");
    }
}

#[test]
fn spans_after_a_shutdown_are_told_once() {
    let told = told("spans_after_a_shutdown_are_told_once", &[], || {
        for config in [Config::default(), quiet()] {
            let engine = Engine::start(config).unwrap();
            let tracer = engine.tracer("test");
            let open = tracer.span("work").start();
            let _ = engine.shutdown(Duration::ZERO);
            // It began in time, and ends too late.
            open.end();
            record(&tracer, 1000);
        }
    });
    if let Some(told) = told {
        assert_eq!(told.matches(CLOSED).count(), 2, "once for each engine: {told}");
    }
}

/// A ring that is half full is early enough to do something.
#[test]
fn program_that_never_drains_is_told_before_it_loses_a_span() {
    let told = told("program_that_never_drains_is_told_before_it_loses_a_span", &[], || {
        let engine = Engine::start(Config { lanes: Some(1), ..Config::default() }).unwrap();
        let tracer = engine.tracer("test");
        while engine.memory().rings_waiting < engine.memory().rings * 3 / 4 {
            record(&tracer, 100);
        }
        assert_eq!(engine.ledger().lost.total(), 0);
        raw("so far");
        while engine.ledger().lost.lane_full < 1000 {
            record(&tracer, 1000);
        }
    });
    if let Some(told) = told {
        let (early, late) = told.split_once("so far").unwrap();
        assert_eq!((early.matches(UNREAD).count(), late.matches("spanring: ").count()), (1, 0), "{told}");
        assert!(early.contains("Config::from_env") && early.contains("Engine::drain"), "{told}");
    }
}

/// A first program, with a few spans. Tests start many engines: once for the process is enough.
#[test]
fn first_engine_that_is_dropped_with_spans_that_nobody_drained_says_so() {
    let told = told("first_engine_that_is_dropped_with_spans_that_nobody_drained_says_so", &[], || {
        drop(Engine::start(Config::default()).unwrap());
        for _ in 0..3 {
            let engine = Engine::start(Config::default()).unwrap();
            record(&engine.tracer("test"), 7);
        }
    });
    if let Some(told) = told {
        assert_eq!(told.matches("spanring: ").count(), 1, "{told}");
        assert!(told.contains("dropped with 7 spans") && told.contains("Config::from_env"), "{told}");
    }
}

#[test]
fn exporter_none_is_told_at_start_and_a_disabled_engine_tells_nothing() {
    let case = || {
        let engine = Engine::start(Config { lanes: Some(1), ..Config::from_env() }).unwrap();
        raw("so far");
        record(&engine.tracer("test"), 200_000);
    };
    let test = "exporter_none_is_told_at_start_and_a_disabled_engine_tells_nothing";
    let Some(none) = told(test, &[("OTEL_TRACES_EXPORTER", "none")], case) else { return };
    let (early, late) = none.split_once("so far").unwrap();
    assert!(early.contains("nothing is recorded, because OTEL_TRACES_EXPORTER is none"), "{none}");
    assert!(!late.contains("spanring: "), "{none}");
    let disabled = told(test, &[("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")], case).unwrap();
    assert!(!disabled.contains("spanring: "), "{disabled}");
}

/// Nobody drops what is in a static.
#[test]
fn exit_of_a_process_whose_engine_is_in_a_static_tells_how_many_spans_it_loses() {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let test = "exit_of_a_process_whose_engine_is_in_a_static_tells_how_many_spans_it_loses";
    let case = || {
        drop(Engine::start(quiet()).unwrap());
        let engine = ENGINE.get_or_init(|| Engine::start(quiet()).unwrap());
        record(&engine.tracer("test"), 80);
        if env::var_os("SHUT_DOWN").is_some() {
            let _ = engine.shutdown(Duration::ZERO);
        }
        process::exit(0);
    };
    let Some(exited) = told(test, &[], case) else { return };
    assert_eq!(exited.matches("spanring: ").count(), 1, "{exited}");
    assert!(exited.contains("spanring: the process exits, and 80 spans that wait are lost"), "{exited}");
    assert!(exited.contains("shut_down_at_exit"), "{exited}");
    let shut_down = told(test, &[("SHUT_DOWN", "1")], case).unwrap();
    assert!(!shut_down.contains("spanring: "), "{shut_down}");
}

/// An ordinary end, and the engine as the last thing that is dropped.
#[test]
fn program_that_keeps_its_engine_is_told_nothing() {
    let told = told("program_that_keeps_its_engine_is_told_nothing", &[], || {
        let engine = Engine::start(Config { lanes: Some(1), ..Config::default() }).unwrap();
        let tracer = engine.tracer("test");
        // In all more than a ring holds.
        for _ in 0..200 {
            record(&tracer, 1000);
            assert_eq!(engine.drain(|_, _| ()), 1000);
        }
        let _ = engine.shutdown(Duration::ZERO);
        let engine = Engine::start(quiet()).unwrap();
        drop(tracer);
        drop(engine);
    });
    if let Some(told) = told {
        assert!(!told.contains("spanring: "), "{told}");
    }
}
