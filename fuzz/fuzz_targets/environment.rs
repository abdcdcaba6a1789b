//! Any environment: it is read without a panic, told on single lines without the headers' values, and an engine starts
//! with it or says which field cannot work.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use spanring::{Config, Engine, Export, ProxyChoice, StartError, WorkerChoice, internals::VARIABLES};

/// Memory that a run may use; an engine takes half of its budget at start.
const MEMORY_MAX: usize = 4 << 20;

fuzz_target!(|pairs: Vec<(u8, &str)>| {
    let read = |name: &str| {
        let is_it = |number: u8| VARIABLES.get(usize::from(number)) == Some(&name);
        pairs.iter().find(|(number, _)| is_it(*number)).map(|(_, text)| (*text).to_owned())
    };
    let config = Config::from_vars(read);
    for warning in config.warnings() {
        assert!(VARIABLES.iter().any(|name| warning.starts_with(name)), "{warning:?}");
        assert!(!warning.contains(char::is_control), "{warning:?}");
    }
    let explained = config.explain();
    for line in explained.lines() {
        assert!(line.contains(" = ") && line.ends_with(')'), "{line:?}");
        assert!(!line.ends_with(" (code)"), "the program has set nothing: {line:?}");
        if let Some(headers) = line.strip_prefix("export.headers = ").and_then(|line| line.rsplit_once(" (")) {
            assert!(headers.0 == "none" || headers.0.split(", ").all(|header| header.ends_with("=***")), "{line:?}");
        }
    }

    // Nothing of this machine's environment, and no thread.
    let export =
        config.export.map(|export| Export { proxy: ProxyChoice::Direct, shutdown_timeout: Duration::ZERO, ..export });
    let memory_budget = config.memory_budget.min(MEMORY_MAX);
    let config = Config { memory_budget, export, worker: WorkerChoice::Polled, ..config };
    match Engine::start(config) {
        Ok(engine) => drop(engine.tracer("fuzz").span("any").start()),
        Err(StartError::Config(error)) => assert!(!error.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
});
