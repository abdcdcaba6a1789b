//! What does the engine's thread cost at ordinary rates? Records spans of five attributes at steady rates, delivers
//! them over loopback to a receiver in a process of its own, and prints that thread's processor time and wake-ups.
//!
//! ```text
//! cargo run --release -p spanring-benches --bin rates -- [SECONDS [RATE …]]
//! ```
//!
//! A rate of 0 is as fast as one thread records; what the rings have no room for is lost then. The last column is what
//! cannot be had for less: a thread that has the same bytes ready, and only sends as many requests, as large and as
//! often, and reads the answers. Linux only: the figures are those of `/proc`.
//! Two commits are compared by two builds of this file, run in turn: it needs the public API alone.

#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use spanring::{Config, Engine, Export, Kind, Tracer};

const RATES: &[u64] = &[1_000, 10_000, 50_000, 100_000, 200_000, 0];
const SECONDS: u64 = 5;
/// Spans are recorded in bursts, one in each of these.
const TICK: Duration = Duration::from_millis(1);
/// Until the visits have found their pace.
const WARM_UP: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("receive") {
        return receive();
    }
    let seconds = first.map_or(SECONDS, |text| text.parse().expect("seconds"));
    let rates: Vec<u64> = arguments.map(|text| text.parse().expect("a rate")).collect();
    println!(
        "{:>9} {:>10} {:>12} {:>8} {:>12} {:>6} {:>12}",
        "spans/s", "exported/s", "cpu s/1e6", "core %", "wake-ups/s", "lost", "socket alone"
    );
    for &rate in if rates.is_empty() { RATES } else { &rates } {
        println!("{}", row(rate, Duration::from_secs(seconds)));
    }
}

fn row(rate: u64, time: Duration) -> String {
    let (mut receiver, port) = start_receiver();
    let export = Export::to(&format!("http://127.0.0.1:{port}"));
    let engine = Engine::start(Config { export: Some(export), memory_budget: 64 << 20, ..Config::default() });
    let engine = engine.expect("an engine");
    let tracer = engine.tracer("rates");
    // The engine's thread begins with the first span.
    pace(&tracer, rate, WARM_UP);
    let thread = engine_thread();
    let (before, began, earlier) = (usage(&thread), Instant::now(), engine.stats());
    pace(&tracer, rate, time);
    let (after, passed, stats) = (usage(&thread), began.elapsed().as_secs_f64(), engine.stats());
    let spans = (stats.ledger.exported - earlier.ledger.exported) as f64;
    let requests = stats.requests - earlier.requests;
    let len = (stats.body_bytes - earlier.body_bytes).checked_div(requests).unwrap_or_default();
    let cpu = (after.cpu_ns - before.cpu_ns) as f64 / 1e9;
    let wake_ups = (after.wake_ups - before.wake_ups) as f64 / passed;
    let _receipt = engine.shutdown(Duration::from_secs(10));
    let lost = engine.ledger().lost.total();
    drop(engine);
    let socket = socket_alone(port, usize::try_from(len).expect("a request"), requests, time);
    receiver.kill().expect("the receiver is ours");
    receiver.wait().expect("the receiver is ours");
    format!(
        "{rate:>9} {:>10.0} {:>12.4} {:>8.3} {wake_ups:>12.1} {lost:>6} {:>12.4}",
        spans / passed,
        cpu / (spans / 1e6),
        cpu / passed * 100.0,
        socket / (spans / 1e6)
    )
}

/// Processor time of a thread that sends so many requests of this length, spread over the time, and does nothing else.
fn socket_alone(port: u16, len: usize, requests: u64, time: Duration) -> f64 {
    let mut request =
        format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n").into_bytes();
    request.resize(request.len() + len, 7);
    let sender = thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the receiver listens");
        stream.set_nodelay(true).expect("a socket");
        let (before, began) = (usage("/proc/thread-self"), Instant::now());
        let mut answer = [0; 1024];
        for number in 0..u32::try_from(requests).expect("a few seconds") {
            let due = time * number / u32::try_from(requests).expect("as above");
            thread::sleep(due.saturating_sub(began.elapsed()));
            stream.write_all(&request).expect("the receiver reads");
            let read = stream.read(&mut answer).expect("the receiver answers");
            assert!(answer[..read].ends_with(b"\r\n\r\n"), "an answer comes in one piece");
        }
        (usage("/proc/thread-self").cpu_ns - before.cpu_ns) as f64 / 1e9
    });
    sender.join().expect("it has sent all")
}

fn pace(tracer: &Tracer, rate: u64, time: Duration) {
    let began = Instant::now();
    let mut done = 0;
    while began.elapsed() < time {
        let due = if rate == 0 {
            done + 1_000
        } else {
            rate * u64::try_from(began.elapsed().as_micros()).expect("a few minutes") / 1_000_000
        };
        while done < due {
            record(tracer, done);
            done += 1;
        }
        if rate > 0 {
            thread::sleep(TICK);
        }
    }
}

fn record(tracer: &Tracer, number: u64) {
    let mut span = tracer.span("GET /orders/{id}").kind(Kind::Server).start();
    span.set("http.request.method", "GET");
    span.set("order.id", "order-0123456789");
    span.set("http.response.status_code", 200);
    span.set("cache.hit", true);
    span.set("order.number", number as i64);
    span.end();
}

/// The engine's thread, as `/proc` names it: the program's main thread has the program's name.
fn engine_thread() -> String {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let mut tasks = tasks.map(|task| task.path().display().to_string());
    tasks
        .find(|task| fs::read_to_string(format!("{task}/comm")).is_ok_and(|name| name.trim() == "spanring"))
        .expect("an engine's thread")
}

struct Usage {
    cpu_ns: u64,
    wake_ups: u64,
}

fn usage(task: &str) -> Usage {
    let number = |text: &str| text.trim().parse().expect("a number");
    let schedule = fs::read_to_string(format!("{task}/schedstat")).expect("schedstat");
    let status = fs::read_to_string(format!("{task}/status")).expect("status");
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    Usage { cpu_ns: number(schedule.split(' ').next().unwrap_or_default()), wake_ups: number(switches) }
}

fn start_receiver() -> (Child, u16) {
    let program = env::current_exe().expect("a program");
    let mut child = Command::new(program).arg("receive").stdout(Stdio::piped()).spawn().expect("a process");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    (child, port.trim().parse().expect("a port"))
}

/// Answers each request at once, and keeps nothing.
fn receive() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("bound").port());
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone().ok()?);
    loop {
        let mut len = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = text.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(len), &mut std::io::sink()).ok()?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}
