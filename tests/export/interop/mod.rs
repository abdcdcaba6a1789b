//! A real OpenTelemetry Collector as a child process: it receives what we send, and its file says what it understood.
//!
//! The program is `tests/export/interop/collector`, built by `.ci/collector` where Go is. It is killed when its
//! [`Collector`] is dropped, and ends by itself when the test's process is gone.

#![allow(dead_code, reason = "each test that includes this uses its part")]

pub mod compare;
pub mod json;
pub mod record;

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use compare::PlacedSpan;

/// A Collector that listens on a port of its own and appends what it receives to a file of its own.
#[derive(Debug)]
pub struct Collector {
    program: PathBuf,
    files: PathBuf,
    port: Port,
    /// The codings of requests that it takes.
    codings: &'static [&'static str],
    /// `None` between [`Collector::stop`] or [`Collector::kill`] and [`Collector::restart`].
    child: Option<Child>,
}

impl Collector {
    /// Starts a Collector with its files in `folder`. `None`, and one line on stderr, where none can be built.
    ///
    /// # Panics
    ///
    /// When the program is there but does not start.
    pub fn start(folder: &Path) -> Option<Self> {
        Self::start_taking(folder, &["", "gzip", "zstd"])
    }

    /// The same, with requests that are coded in one of these ways alone; the empty name is for those that are not.
    ///
    /// # Panics
    ///
    /// When the program is there but does not start.
    pub fn start_taking(folder: &Path, codings: &'static [&'static str]) -> Option<Self> {
        let program = program()?.to_owned();
        // A port is free when we look and may be taken when the child binds it: then another one.
        for _ in 0..3 {
            let (program, files, port) = (program.clone(), folder.to_owned(), Port::free());
            let mut collector = Self { program, files, port, codings, child: None };
            if collector.launch() {
                return Some(collector);
            }
        }
        panic!("the Collector does not start:\n{}", fs::read_to_string(folder.join(LOG)).unwrap_or_default());
    }

    /// Starts it again: the same port, the same file, to which it appends.
    ///
    /// # Panics
    ///
    /// When it runs, or does not start.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "stop or kill it first");
        assert!(self.launch(), "the Collector does not start again:\n{}", self.log());
    }

    /// Ends it as an operator does, with SIGTERM: it answers what it has received.
    ///
    /// # Panics
    ///
    /// When it does not run, fails, or takes longer than [`PATIENCE`].
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().try_into().expect("the id of a process is positive");
        // SAFETY: no memory is involved. The child is ours and was not waited for, so the id is still its own.
        let sent = unsafe { libc::kill(id, libc::SIGTERM) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
        let ended = until(|| child.try_wait().expect("the child is ours"));
        let Some(status) = ended else {
            end(&mut child);
            panic!("the Collector does not stop:\n{}", self.log());
        };
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// Ends it as a crash does, with SIGKILL. A line that this tears is removed: it was never acknowledged.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self) {
        end(&mut self.child.take().expect("it runs"));
        let whole = self.lines().len() as u64;
        let file =
            fs::File::options().write(true).open(self.files.join(LINES)).expect("the Collector has made its file");
        file.set_len(whole).expect("the file is ours");
    }

    /// Leaves requests that it has written to its file without an answer from now on.
    ///
    /// # Panics
    ///
    /// When the folder is not ours.
    pub fn hold_answers(&self) {
        fs::write(self.files.join(HOLD), "").expect("the folder is ours");
    }

    /// Answers again.
    ///
    /// # Panics
    ///
    /// When it was not held.
    pub fn give_answers(&self) {
        fs::remove_file(self.files.join(HOLD)).expect("it was held");
    }

    /// Where it takes OTLP over HTTP, without the path of a signal: what `OTEL_EXPORTER_OTLP_ENDPOINT` would be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The address of [`Collector::url`].
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Everything that it has received so far, in the order in which it came.
    ///
    /// # Panics
    ///
    /// When the file is not OTLP/JSON.
    pub fn spans(&self) -> Vec<PlacedSpan> {
        self.requests().into_iter().flatten().collect()
    }

    /// The same, request by request: it writes a line for each.
    ///
    /// # Panics
    ///
    /// When the file is not OTLP/JSON.
    pub fn requests(&self) -> Vec<Vec<PlacedSpan>> {
        let read = |line| json::traces(line).unwrap_or_else(|wrong| panic!("{wrong}: {line}"));
        self.lines().lines().map(|line| read(line).into_iter().flat_map(PlacedSpan::of).collect()).collect()
    }

    /// How many requests it has received.
    pub fn request_count(&self) -> usize {
        self.lines().lines().count()
    }

    /// Starts the process and waits until it listens. False when it ends, as it does when its port is taken.
    fn launch(&mut self) -> bool {
        let log = fs::File::options().create(true).append(true).open(self.files.join(LOG)).expect("the folder is ours");
        let mut command = Command::new(&self.program);
        command.arg(configuration(self.address(), &self.files, self.codings));
        // Its end of the standard input is how it learns that this process is gone.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(command.spawn().expect("the program can be run"));
        let address = self.port.address();
        let ready = until(|| match child.try_wait().expect("the child is ours") {
            Some(status) => Some(Err(status)),
            None => TcpStream::connect_timeout(&address, PATIENCE).ok().map(Ok),
        });
        match ready {
            Some(Ok(_)) => true,
            Some(Err(_)) => {
                self.child = None;
                false
            }
            None => panic!("the Collector does not listen:\n{}", self.log()),
        }
    }

    /// The lines that are written to their end; there may be the beginning of one more.
    fn lines(&self) -> String {
        let mut lines = fs::read(self.files.join(LINES)).expect("the Collector has made its file");
        let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        lines.truncate(whole);
        String::from_utf8(lines).expect("JSON is UTF-8")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.join(LOG)).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// A folder for one test, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder of its own.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("spanring-interop-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a failure here: a second panic would hide the first.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loopback port that no other test of ours, in this process or another, takes while this lives.
#[derive(Debug)]
struct Port {
    number: u16,
    /// TCP and UDP ports are apart, so holding one of this number keeps the others out and the Collector in.
    _lease: UdpSocket,
}

impl Port {
    /// Ports below those that systems give to outgoing connections (from 32,768 on Linux): one of those could be taken
    /// while the Collector is down, and a connection to it from itself would even look like a listener.
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 10_000;

    fn free() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Processes begin at different places, so they rarely get in each other's way.
        let begin = process::id().wrapping_mul(97);
        (0..Self::COUNT)
            .find_map(|_| {
                let turn = begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % Self::COUNT;
                let number = Self::FIRST + u16::try_from(turn).ok()?;
                let lease = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                Some(Self { number, _lease: lease })
            })
            .expect("one port of ten thousand is free")
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// How long a process may take to start or to end. Far more than it needs: it is reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The names of its files: what it received, what it had to say, and what keeps it from answering while it is there.
pub const LINES: &str = "traces.jsonl";
pub const LOG: &str = "collector.log";
const HOLD: &str = "hold";

/// YAML is a superset of JSON, and JSON needs no line breaks. gRPC stays off as long as it is not named here. No
/// metrics of its own: they would bind port 8888.
fn configuration(address: SocketAddr, files: &Path, codings: &[&str]) -> String {
    let http = serde_json::json!({"endpoint": address.to_string(), "compression_algorithms": codings});
    let configuration = serde_json::json!({
        "receivers": {"otlp": {"protocols": {"http": http}}},
        "exporters": {"lines": {"path": files.join(LINES), "hold": files.join(HOLD)}},
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["lines"]}},
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
        },
    });
    format!("yaml:{configuration}")
}

/// The Collector's program, brought up to date once a process. `None` where that is not possible.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/collector");
    // A package from a registry has no such script.
    let output = match Command::new(&script).output() {
        Ok(output) => output,
        Err(error) => return no_collector(&format!("{}: {error}", script.display())),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}\n{errors}", script.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    if line.starts_with("skipped: ") { no_collector(line) } else { Some(PathBuf::from(line)) }
}

/// Says why, past the capture of the test's output: a test that proves nothing should not look like one that does.
fn no_collector(reason: &str) -> Option<PathBuf> {
    let _ = writeln!(io::stderr(), "no Collector, so nothing is checked against one: {reason}");
    None
}

/// Asks until there is an answer, but not for ever.
pub fn until<T>(mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    const STEP: Duration = Duration::from_millis(10);
    let start = Instant::now();
    loop {
        let found = answer();
        if found.is_some() || start.elapsed() > PATIENCE {
            return found;
        }
        thread::park_timeout(STEP);
    }
}

/// Kills a child and waits for its end, so that it is gone when this returns.
fn end(child: &mut Child) {
    // Both fail only where it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}
