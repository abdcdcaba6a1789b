//! Workers that fail one after the other leave nothing open. One test, because it looks at the whole process.

#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

use spanring::{Config, DiagnosticSink, DriverChoice, Engine, Export, internals};

use crate::own_process;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn replaced_workers_leave_no_descriptor_behind() {
    own_process::run("replacement::replaced_workers_leave_no_descriptor_behind", || {
        for driver in [DriverChoice::Uring, DriverChoice::Poll] {
            // There is nothing to send, so no collector is needed.
            let export = Export { driver, diagnostics: Some(DiagnosticSink::new(|_| ())), ..Export::default() };
            let engine = Engine::start(Config { export: Some(export), ..Config::default() }).unwrap();
            let descriptors_behind_a_failure = || {
                internals::fail_worker(&engine);
                // The worker that fails does not hear of it: the next one does.
                assert!(engine.flush(PATIENCE).is_complete());
                fs::read_dir("/proc/self/fd").unwrap().count()
            };
            let first = descriptors_behind_a_failure();
            let later = [(); 3].map(|()| descriptors_behind_a_failure());
            assert_eq!(later, [first; 3], "{driver:?}");
        }
    });
}
