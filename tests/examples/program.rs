//! An example as a process.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// An example that runs; it is killed when this is dropped before its end.
pub struct Program {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Program {
    /// With no variable that would configure an export, but for these.
    pub fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(built(name));
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(variable);
            }
        }
        command.args(arguments).envs(variables.iter().copied()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The address in its next line, `listening on http://ADDRESS…`.
    pub fn address(&mut self) -> String {
        let line = self.line();
        let url = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("not where it listens: {line}"));
        url.split('/').next().unwrap_or_default().to_owned()
    }

    /// Sends the signal, once the program has a handler for it: a server may serve before.
    #[cfg(target_os = "linux")]
    pub fn signal(&mut self, signal: libc::c_int) {
        let is_handled = |status: &str| {
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
        };
        while !is_handled(&fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap()) {
            assert!(self.process.try_wait().unwrap().is_none(), "it has ended");
            std::thread::yield_now();
        }
        let id = self.process.id().try_into().unwrap();
        // SAFETY: It is our own child, and nobody has waited for it.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// What it prints until its end, which is a success.
    pub fn finish(mut self) -> String {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where cargo puts it: beside the folder of the test programs.
fn built(name: &str) -> PathBuf {
    let program = env::current_exe().unwrap();
    let folder = program.parent().and_then(Path::parent).unwrap().join("examples");
    let built = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let is_built = changed(&built).is_some_and(|built| Some(built) >= changed(&source));
    assert!(is_built, "{} is missing or old: `cargo build --examples` first, or `cargo test`", built.display());
    built
}
