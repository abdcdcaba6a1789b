//! Tests that look at the whole process: each runs in one of its own, where nothing else opens descriptors or starts a
//! worker.

use std::{env, process::Command};

const ROLE: &str = "SPANRING_TEST_OWN_PROCESS";

/// Starts this binary again for `test` alone, which does its `work` there.
pub fn run(test: &str, work: impl FnOnce()) {
    if env::var_os(ROLE).is_some() {
        return work();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, "child");
    let output = command.output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("running 1 test"), "{out}\n{errors}");
}
