//! What Linux says of this process: processor time by thread, and memory. Elsewhere nothing is known, and the report
//! says so.

use std::{fs, path::Path, process, time::Duration};

/// Resident memory of the process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

/// Processor time of the engine so far: its thread, and those that the kernel runs for its io_uring. On loopback the
/// sender's thread also does the receiver's half of TCP, so this is more than the engine would pay for a collector
/// elsewhere.
pub fn engine_cpu() -> Option<Duration> {
    let main = process::id().to_string();
    let mut found = None;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?;
        // The main thread is called as the program is.
        if thread.file_name().to_str() == Some(&main) || !is_engine(&thread.path()) {
            continue;
        }
        // A thread that ends meanwhile is none of the engine's.
        let time = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = time.split_whitespace().next()?.parse().ok()?;
        found = Some(found.unwrap_or(Duration::ZERO) + Duration::from_nanos(nanos));
    }
    found
}

fn is_engine(thread: &Path) -> bool {
    let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
    name.trim_end() == "spanring" || name.starts_with("iou-wrk-")
}

/// Resident memory, of the recording threads and of a collector inside this process too.
pub fn memory() -> Option<Memory> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { now: kib("VmRSS:")? << 10, peak: kib("VmHWM:")? << 10 })
}
