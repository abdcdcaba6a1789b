//! Raw clock readings: the counter of the core, the kernel's monotonic clock, and the wall clock.

/// Nanoseconds since the Unix epoch, by the wall clock. It can step in either direction.
#[must_use]
pub fn wall_nanos() -> u64 {
    since(libc_clock::REALTIME)
}

/// Nanoseconds of the kernel's monotonic clock, read without a system call where the kernel offers that.
#[inline]
#[must_use]
pub fn monotonic_nanos() -> u64 {
    since(libc_clock::MONOTONIC)
}

/// Whether the kernel itself keeps time by the core's counter now, which it checks for drift and agreement between
/// cores.
///
/// The CPU's own flag is not enough: it stays set on hosts whose counters disagree, and the kernel's watchdog notices.
#[must_use]
pub fn counter_is_trusted() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64", not(miri), not(loom)))
        && std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|name| name.trim() == "tsc")
}

/// The core's time-stamp counter. Meaningful only where [`counter_is_trusted`] says so.
#[inline]
#[must_use]
pub fn counter() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: the instruction exists on every x86-64 processor and touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        monotonic_nanos()
    }
}

#[cfg(unix)]
mod libc_clock {
    pub(super) const REALTIME: libc::clockid_t = libc::CLOCK_REALTIME;
    pub(super) const MONOTONIC: libc::clockid_t = libc::CLOCK_MONOTONIC;
}

#[cfg(unix)]
#[inline]
fn since(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for one timespec; both clock ids exist on every supported system.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(not(unix))]
mod libc_clock {
    pub(super) const REALTIME: bool = true;
    pub(super) const MONOTONIC: bool = false;
}

#[cfg(not(unix))]
fn since(wall: bool) -> u64 {
    use std::{
        sync::OnceLock,
        time::{Instant, SystemTime},
    };
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = if wall {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    } else {
        ORIGIN.get_or_init(Instant::now).elapsed()
    };
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_clock_never_runs_backwards() {
        let first = monotonic_nanos();
        let second = monotonic_nanos();
        assert!(second >= first);
    }

    #[test]
    fn wall_clock_is_after_the_year_2020() {
        assert!(wall_nanos() > 1_577_836_800_000_000_000);
    }
}
