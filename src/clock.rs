//! Time: cheap raw readings on the request path, turned into Unix time by the drain, with the kernel as referee.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    record::{Reading, Stamp, Timeline},
    sync::{AtomicU32, AtomicU64, Counter, Ordering::Relaxed, ticks},
};

/// Where the engine reads the time. Shared by all its threads.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
struct Source {
    /// [`COUNTER`], [`MONOTONIC`] or [`FAKE`]. Written at start and by [`Clock::distrust`]; read at every start and end.
    mode: AtomicU32,
    /// How often the wall clock was seen to step. Written by the drain's anchors, read by the ledger.
    steps: Counter,
    fake: Option<FakeClock>,
}

const COUNTER: u32 = 0;
const MONOTONIC: u32 = 1;
const FAKE: u32 = 2;

impl Clock {
    /// The machine's clock: the core's counter while the kernel trusts it, else the kernel's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        let mode = if ticks::counter_is_trusted() { COUNTER } else { MONOTONIC };
        Self { source: Arc::new(Source { mode: AtomicU32::new(mode), steps: Counter::new(), fake: None }) }
    }

    /// The kernel's monotonic clock, whatever the counter is worth.
    #[must_use]
    pub fn monotonic() -> Self {
        Self { source: Arc::new(Source { mode: AtomicU32::new(MONOTONIC), steps: Counter::new(), fake: None }) }
    }

    /// A clock that stands still until it is told otherwise.
    #[must_use]
    pub fn fake(clock: &FakeClock) -> Self {
        Self {
            source: Arc::new(Source { mode: AtomicU32::new(FAKE), steps: Counter::new(), fake: Some(clock.clone()) }),
        }
    }

    /// The time now, as it is put into a record.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Stamp {
        // ORDERING: Relaxed. Each stamp says which clock it is from, so a thread that learns late of a change does no harm.
        if self.source.mode.load(Relaxed) == COUNTER { Stamp::counter(ticks::counter()) } else { self.now_slow() }
    }

    #[cold]
    fn now_slow(&self) -> Stamp {
        match &self.source.fake {
            Some(fake) => Stamp::monotonic(fake.monotonic_nanos()),
            None => Stamp::monotonic(ticks::monotonic_nanos()),
        }
    }

    /// Leaves the counter for good, because the kernel no longer trusts it.
    fn distrust(&self) {
        // ORDERING: Relaxed. As in `now`.
        let _ = self.source.mode.compare_exchange(COUNTER, MONOTONIC, Relaxed, Relaxed);
    }

    /// Whether times come from the core's counter.
    #[must_use]
    pub fn uses_counter(&self) -> bool {
        // ORDERING: Relaxed. A figure to report.
        self.source.mode.load(Relaxed) == COUNTER
    }

    /// How often the wall clock was seen to step.
    #[must_use]
    pub fn wall_steps(&self) -> u64 {
        self.source.steps.load()
    }

    /// One reading of all clocks at the same moment, as well as can be had.
    fn sight(&self) -> Sight {
        if let Some(fake) = &self.source.fake {
            let monotonic = fake.monotonic_nanos();
            return Sight { counter: monotonic, monotonic, wall: fake.wall_nanos(), width: 0 };
        }
        // Of a few tries the one that was least interrupted.
        let tries = (0..5).map(|_| {
            let before = ticks::counter();
            let monotonic = ticks::monotonic_nanos();
            let wall = ticks::wall_nanos();
            let width = ticks::counter().saturating_sub(before);
            Sight { counter: before + width / 2, monotonic, wall, width }
        });
        tries.min_by_key(|sight| sight.width).expect("there are five tries")
    }
}

/// What all clocks showed at one moment.
#[derive(Clone, Copy, Debug)]
struct Sight {
    counter: u64,
    monotonic: u64,
    wall: u64,
    /// Ticks between the first and the last reading: how far apart they may be.
    width: u64,
}

/// A clock for tests: time passes when [`FakeClock::advance`] says so, and the wall clock steps when told.
#[derive(Clone, Debug)]
pub struct FakeClock {
    cells: Arc<FakeCells>,
}

#[derive(Debug)]
struct FakeCells {
    /// Written by `advance`, read by everyone.
    monotonic: AtomicU64,
    /// Wall time minus monotonic time, wrapping. Written by `step_wall`, read by everyone.
    offset: AtomicU64,
}

impl FakeClock {
    /// A clock whose wall shows `wall`.
    #[must_use]
    pub fn at(wall: SystemTime) -> Self {
        let wall = unix_nanos(wall);
        let monotonic = 1_000_000_000;
        let cells =
            FakeCells { monotonic: AtomicU64::new(monotonic), offset: AtomicU64::new(wall.wrapping_sub(monotonic)) };
        Self { cells: Arc::new(cells) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        // ORDERING: Relaxed. A number that says nothing of other memory.
        self.cells.monotonic.fetch_add(nanos(by), Relaxed);
    }

    /// Sets the wall clock to another time, as an administrator or a time server does.
    pub fn step_wall(&self, to: SystemTime) {
        // ORDERING: Relaxed. As in `advance`.
        self.cells.offset.store(unix_nanos(to).wrapping_sub(self.monotonic_nanos()), Relaxed);
    }

    fn monotonic_nanos(&self) -> u64 {
        // ORDERING: Relaxed. As in `advance`.
        self.cells.monotonic.load(Relaxed)
    }

    fn wall_nanos(&self) -> u64 {
        // ORDERING: Relaxed. As in `advance`.
        self.monotonic_nanos().wrapping_add(self.cells.offset.load(Relaxed))
    }
}

/// Turns stamps into Unix time, by sights taken once a second. Owned by the drain.
#[derive(Debug)]
pub struct Anchors {
    clock: Clock,
    /// Oldest first. Never empty.
    sights: VecDeque<Sight>,
    /// Nanoseconds in 2^32 ticks after the last sight, as the stretch before it showed.
    rate: u64,
    /// When the kernel was last asked about the counter.
    checked: u64,
    /// When the last sight was taken, kept or not.
    looked: u64,
}

/// Sights that are kept: at one a second, spans that began up to 17 minutes ago are dated by the clocks of that time.
const SIGHTS_MAX: usize = 1024;
/// How often a new sight is taken.
const SIGHT_EVERY: u64 = 1_000_000_000;
/// How soon after one sight another is worth its ten clock readings.
const LOOK_EVERY: u64 = 20_000_000;
/// How often the kernel is asked whether it still trusts the counter.
const CHECK_EVERY: u64 = 10_000_000_000;
/// A change of wall minus monotonic time above this is a step. Time servers slew both clocks alike; readings that are taken
/// one after the other differ by well under a microsecond, unless the thread was interrupted, which `sight` avoids.
const STEP_MIN: u128 = 100_000;

impl Anchors {
    /// Takes the first sight.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        let sight = clock.sight();
        Self { clock: clock.clone(), sights: VecDeque::from([sight]), rate: 0, checked: sight.monotonic, looked: 0 }
    }

    /// Takes a sight if the last is a second old, and asks the kernel about the counter now and then.
    pub fn refresh(&mut self) {
        let is_real = self.clock.source.fake.is_none();
        // In the first second the rate gets better with each sight.
        if is_real && self.sights.len() > 1 && ticks::monotonic_nanos().saturating_sub(self.looked) < LOOK_EVERY {
            return;
        }
        let sight = self.clock.sight();
        self.looked = sight.monotonic;
        let last = *self.last();
        if sight.monotonic.saturating_sub(self.checked) >= CHECK_EVERY {
            self.checked = sight.monotonic;
            if self.clock.uses_counter() && !ticks::counter_is_trusted() {
                self.clock.distrust();
            }
        }
        let stepped = sight.offset().abs_diff(last.offset()) > STEP_MIN;
        let is_due = sight.monotonic.saturating_sub(last.monotonic) >= SIGHT_EVERY;
        if self.sights.len() == 1 || is_due {
            // In the first second the rate is measured anew each time, over a stretch that grows.
            self.rate = rate(&last, &sight);
        }
        if stepped || is_due {
            self.clock.source.steps.add_owned(u64::from(stepped));
            if self.sights.len() == SIGHTS_MAX {
                self.sights.pop_front();
            }
            self.sights.push_back(sight);
        }
    }

    fn last(&self) -> &Sight {
        self.sights.back().expect("there is always a sight")
    }

    /// Monotonic time of a raw reading; `None` for a time that the program gave.
    #[inline]
    fn monotonic(&self, at: Stamp) -> Option<u64> {
        match at.reading() {
            Reading::Wall(_) => None,
            Reading::Monotonic(nanos) => Some(nanos),
            Reading::Counter(ticks) => {
                let last = self.last();
                match ticks.checked_sub(last.counter) {
                    Some(passed) => Some(last.monotonic.saturating_add(scale(passed, self.rate))),
                    None => Some(self.earlier(ticks)),
                }
            }
        }
    }

    /// Monotonic time of ticks before the last sight, by the rate between the two sights around them.
    #[cold]
    fn earlier(&self, counter: u64) -> u64 {
        let after = self.sights.partition_point(|sight| sight.counter <= counter);
        let Some(before) = after.checked_sub(1) else {
            // Older than all sights: back from the first, by the rate that follows it.
            let first = self.sights[0];
            let rate = self.sights.get(1).map_or(self.rate, |second| rate(&first, second));
            return first.monotonic.saturating_sub(scale(first.counter - counter, rate));
        };
        let (from, to) = (self.sights[before], self.sights[after]);
        from.monotonic.saturating_add(scale(counter - from.counter, rate(&from, &to)))
    }

    /// Unix time of a moment of the monotonic clock, by the wall clock as it stood then.
    #[inline]
    fn wall(&self, monotonic: u64) -> u64 {
        let last = self.last();
        if monotonic >= last.monotonic {
            return last.wall.saturating_add(monotonic - last.monotonic);
        }
        let index = self.sights.partition_point(|sight| sight.monotonic <= monotonic).saturating_sub(1);
        u64::try_from(i128::from(monotonic) + self.sights[index].offset()).unwrap_or(0)
    }
}

impl Sight {
    /// Wall time minus monotonic time.
    fn offset(&self) -> i128 {
        i128::from(self.wall) - i128::from(self.monotonic)
    }
}

/// Nanoseconds in 2^32 ticks, between two sights.
fn rate(from: &Sight, to: &Sight) -> u64 {
    let nanos = u128::from(to.monotonic.saturating_sub(from.monotonic)) << 32;
    let ticks = u128::from(to.counter.saturating_sub(from.counter));
    nanos.checked_div(ticks).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
}

/// Nanoseconds of so many ticks.
#[inline]
fn scale(ticks: u64, rate: u64) -> u64 {
    u64::try_from((u128::from(ticks) * u128::from(rate)) >> 32).unwrap_or(u64::MAX)
}

impl Timeline for Anchors {
    fn span(&self, start: Stamp, end: Stamp) -> (u64, u64) {
        let from = self.instant(start);
        let to = match (self.monotonic(start), self.monotonic(end)) {
            // Both were measured: the duration is, whatever the wall clock did meanwhile.
            (Some(start), Some(end)) => from.saturating_add(end.saturating_sub(start)),
            _ => self.instant(end),
        };
        (from, to.max(from))
    }

    fn instant(&self, at: Stamp) -> u64 {
        match (at.reading(), self.monotonic(at)) {
            (Reading::Wall(nanos), _) => nanos,
            (_, Some(monotonic)) => self.wall(monotonic),
            (_, None) => 0,
        }
    }
}

/// Unix nanoseconds of `time`; zero before 1970, the last nanosecond of 2262 after it.
#[must_use]
pub fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;
    const DAY: Duration = Duration::from_secs(86_400);

    fn fake() -> (FakeClock, Clock, Anchors) {
        let fake = FakeClock::at(EPOCH + DAY);
        let clock = Clock::fake(&fake);
        let anchors = Anchors::new(&clock);
        (fake, clock, anchors)
    }

    #[test]
    fn duration_is_measured_when_the_wall_clock_steps_back() {
        let (fake, clock, mut anchors) = fake();
        let start = clock.now();
        fake.advance(Duration::from_millis(5));
        fake.step_wall(EPOCH + Duration::from_secs(10));
        let end = clock.now();
        anchors.refresh();
        assert_eq!(clock.wall_steps(), 1);
        let (from, to) = anchors.span(start, end);
        assert_eq!(from, nanos(DAY));
        assert_eq!(to - from, 5_000_000);
    }

    #[test]
    fn spans_after_a_step_show_the_new_wall_time() {
        let (fake, clock, mut anchors) = fake();
        fake.advance(Duration::from_secs(2));
        fake.step_wall(EPOCH + DAY * 2);
        anchors.refresh();
        let start = clock.now();
        assert_eq!(anchors.instant(start), nanos(DAY * 2));
    }

    #[test]
    fn end_before_start_is_clamped() {
        let (_, _, anchors) = fake();
        assert_eq!(anchors.span(Stamp::wall(50), Stamp::wall(20)), (50, 50));
        assert_eq!(
            anchors.span(Stamp::monotonic(50), Stamp::monotonic(20)).0,
            anchors.span(Stamp::monotonic(50), Stamp::monotonic(20)).1
        );
    }

    #[test]
    fn system_clock_agrees_with_the_kernel() {
        let clock = Clock::system();
        let mut anchors = Anchors::new(&clock);
        let before = ticks::wall_nanos();
        let start = clock.now();
        let end = clock.now();
        let after = ticks::wall_nanos();
        anchors.refresh();
        let (from, to) = anchors.span(start, end);
        // A rate from a baseline of microseconds is coarse; the bound is on gross errors of unit or anchor.
        let slack = 50_000_000;
        assert!(from + slack >= before, "{from} {before}");
        assert!(to <= after + slack, "{to} {after}");
        assert!(from <= to);
    }

    #[test]
    fn sights_are_bounded() {
        let (fake, clock, mut anchors) = fake();
        for _ in 0..2 * SIGHTS_MAX {
            fake.advance(Duration::from_secs(1));
            anchors.refresh();
        }
        assert_eq!(anchors.sights.len(), SIGHTS_MAX);
        assert_eq!(clock.wall_steps(), 0);
    }

    #[test]
    fn leaving_the_counter_keeps_every_stamp_readable() {
        let clock = Clock::system();
        let before = clock.now();
        clock.distrust();
        assert!(!clock.uses_counter() || cfg!(miri));
        let after = clock.now();
        let anchors = Anchors::new(&clock);
        let (from, to) = anchors.span(before, after);
        assert!(from <= to);
    }
}
