//! The examples that run by themselves print what their first lines promise.

use std::{fs, path::Path};

use crate::program::Program;

/// The text below `//! Prints:`.
fn promised(name: &str) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let source = fs::read_to_string(source).unwrap();
    let (_, rest) =
        source.split_once("//! Prints:\n//!\n//! ```text\n").unwrap_or_else(|| panic!("{name}: no promise"));
    let (promise, _) = rest.split_once("//! ```\n").unwrap();
    promise
        .lines()
        .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default().to_owned())
        .collect()
}

/// A promise may leave out the end of a line: `…`.
fn is_kept(promise: &str, line: &str) -> bool {
    promise.strip_suffix('…').map_or(promise == line, |start| line.starts_with(start) && line != start)
}

#[track_caller]
fn check(name: &str) {
    let (promise, said) = (promised(name), Program::start(name, &[], &[]).finish());
    let lines: Vec<&str> = said.lines().collect();
    let is_kept =
        promise.len() == lines.len() && promise.iter().zip(&lines).all(|(promise, line)| is_kept(promise, line));
    assert!(!promise.is_empty() && is_kept, "{name} promises\n{}\nand prints\n{said}", promise.join("\n"));
}

macro_rules! examples {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        const CHECKED: &[&str] = &[$(stringify!($name)),*];
    };
}

examples! { custom_sampler fan_out late_worker message_headers thread_pool threads tokio_tasks two_processes }

/// Services, which have tests of their own.
const SERVICES: [&str; 3] = ["axum_service", "graceful_shutdown", "propagation_service"];

#[test]
fn every_example_has_a_test() {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    for entry in folder {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".rs") {
            assert!(CHECKED.contains(&name) || SERVICES.contains(&name), "{name}");
        }
    }
}
