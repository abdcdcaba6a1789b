//! Time: cheap raw readings on the request path, turned into Unix time when they are taken out.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    record::{Reading, Stamp, Timeline},
    sync::{AtomicU32, AtomicU64, Counter, Ordering::Relaxed, ticks},
};

/// The clock that an engine reads. Shared by all threads.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
struct Source {
    /// [`COUNTER`], [`MONOTONIC`] or [`FAKE`]. Written at start and by [`Clock::distrust`]; read at every start and
    /// end.
    mode: AtomicU32,
    /// How often the wall clock was seen to step. Written by the drain's anchors, read by the ledger.
    steps: Counter,
    fake: Option<FakeClock>,
}

const COUNTER: u32 = 0;
const MONOTONIC: u32 = 1;
const FAKE: u32 = 2;

impl Clock {
    /// The machine's clock: the core's cycle counter as long as the kernel trusts it, else the kernel's monotonic
    /// clock.
    #[must_use]
    pub fn system() -> Self {
        let mode = if ticks::counter_is_trusted() { COUNTER } else { MONOTONIC };
        Self { source: Arc::new(Source { mode: AtomicU32::new(mode), steps: Counter::new(), fake: None }) }
    }

    /// The kernel's monotonic clock, even if the counter can be trusted.
    #[must_use]
    pub fn monotonic() -> Self {
        Self { source: Arc::new(Source { mode: AtomicU32::new(MONOTONIC), steps: Counter::new(), fake: None }) }
    }

    /// A clock that moves only when a test moves it.
    #[must_use]
    pub fn fake(clock: &FakeClock) -> Self {
        Self {
            source: Arc::new(Source { mode: AtomicU32::new(FAKE), steps: Counter::new(), fake: Some(clock.clone()) }),
        }
    }

    /// The time now, as a record keeps it.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Stamp {
        // ORDERING: Relaxed. Each stamp says which clock it is from, so a thread that learns late of a change does no
        // harm.
        if self.source.mode.load(Relaxed) == COUNTER { Stamp::counter(ticks::counter()) } else { self.now_slow() }
    }

    #[cold]
    fn now_slow(&self) -> Stamp {
        match &self.source.fake {
            Some(fake) => Stamp::monotonic(fake.monotonic_nanos()),
            None => Stamp::monotonic(ticks::monotonic_nanos()),
        }
    }

    /// Nanoseconds on a clock that never steps back, which begins anywhere.
    pub(crate) fn monotonic_nanos(&self) -> u64 {
        self.source.fake.as_ref().map_or_else(ticks::monotonic_nanos, FakeClock::monotonic_nanos)
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

    /// Whether stamps may be ticks of a counter that is trusted. A fake clock's counter is read by tests of this file
    /// alone.
    fn counts(&self) -> bool {
        // ORDERING: Relaxed. As in `now`.
        self.source.mode.load(Relaxed) != MONOTONIC
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
            return Sight { counter: fake.counter(), monotonic, wall: fake.wall_nanos(), width: 0 };
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

/// A clock for tests: time passes by [`FakeClock::advance`], and the wall clock steps by [`FakeClock::step_wall`].
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
    /// Ticks minus monotonic nanoseconds, wrapping. Written by tests alone, read by everyone.
    counter_offset: AtomicU64,
}

impl FakeClock {
    /// A clock that shows `wall` as the time of day.
    #[must_use]
    pub fn at(wall: SystemTime) -> Self {
        let wall = unix_nanos(wall);
        let monotonic = 1_000_000_000;
        let cells = FakeCells {
            monotonic: AtomicU64::new(monotonic),
            offset: AtomicU64::new(wall.wrapping_sub(monotonic)),
            counter_offset: AtomicU64::new(0),
        };
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

    /// A counter of one tick a nanosecond, which runs with the monotonic clock.
    fn counter(&self) -> u64 {
        // ORDERING: Relaxed. As in `advance`.
        self.monotonic_nanos().wrapping_add(self.cells.counter_offset.load(Relaxed))
    }

    fn wall_nanos(&self) -> u64 {
        // ORDERING: Relaxed. As in `advance`.
        self.monotonic_nanos().wrapping_add(self.cells.offset.load(Relaxed))
    }
}

/// Turns stamps into Unix time, by sights taken once a second. Owned by the drain.
#[derive(Debug)]
pub(crate) struct Anchors {
    clock: Clock,
    /// Oldest first, all from one run of the counter. Never empty.
    sights: VecDeque<Sight>,
    /// The last sight before the counter went back: times of that run may still come.
    before: Option<Sight>,
    /// The rate after the last sight, as the stretch before it showed.
    rate: Rate,
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
/// A change of wall minus monotonic time above this is a step. Time servers slew both clocks alike; readings that are
/// taken one after the other differ by well under a microsecond, unless the thread was interrupted, which `sight`
/// avoids.
const STEP_MIN: u128 = 100_000;
/// A counter whose rate changes by more than this did not run through: a suspend that it counted and the monotonic
/// clock did not, a reset, another machine. A time server may slew the monotonic clock from -500 to 500 ppm.
const RATE_CHANGE_MAX_PPM: u64 = 1000;
/// How well the rate from before such a break is trusted after it, until a new one is known as well.
const GUESS_PPM: u64 = 100;
/// A time this far ahead of the last sight is of the run before the counter went back.
const AHEAD_MAX: u64 = 60_000_000_000;

impl Anchors {
    /// Takes the first sight.
    #[must_use]
    pub(crate) fn new(clock: &Clock) -> Self {
        let sight = clock.sight();
        Self {
            clock: clock.clone(),
            sights: VecDeque::from([sight]),
            before: None,
            rate: Rate::UNKNOWN,
            checked: sight.monotonic,
            looked: 0,
        }
    }

    /// Takes a sight if the last is a second old, and asks the kernel about the counter now and then.
    pub(crate) fn refresh(&mut self) {
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
        self.clock.source.steps.add_owned(u64::from(stepped));
        let rate = Rate::between(&last, &sight);
        let has_run_through = sight.counter >= last.counter && rate.continues(self.rate);
        if self.clock.counts() && !has_run_through {
            return self.restart(last, sight);
        }
        let is_due = sight.monotonic.saturating_sub(last.monotonic) >= SIGHT_EVERY;
        // In the first second the stretch grows, and the rate gets better each time. Later it follows the clocks.
        if rate.error < self.rate.error || (is_due && rate.is_good()) {
            self.rate = rate;
        }
        if stepped || is_due {
            if self.sights.len() == SIGHTS_MAX {
                self.sights.pop_front();
            }
            self.sights.push_back(sight);
        }
    }

    /// Starts again with one sight, because the counter did not run through since the last. Spans from before are dated
    /// back from here: where the counter ran through a suspend, it knows their time of day better than the monotonic
    /// clock.
    #[cold]
    fn restart(&mut self, last: Sight, sight: Sight) {
        self.before = (sight.counter < last.counter).then_some(last);
        self.sights.clear();
        self.sights.push_back(sight);
        self.rate = self.rate.guess();
    }

    fn last(&self) -> &Sight {
        self.sights.back().expect("there is always a sight")
    }

    /// Monotonic time of a raw reading; `None` for a time that the program gave.
    #[inline]
    fn monotonic(&self, at: Stamp) -> Option<i64> {
        match at.reading() {
            Reading::Wall(_) => None,
            Reading::Monotonic(nanos) => Some(signed(nanos)),
            Reading::Counter(ticks) => {
                let last = self.last();
                if ticks < last.counter {
                    return Some(self.earlier(ticks));
                }
                let nanos = self.rate.nanos(ticks - last.counter);
                match &self.before {
                    Some(before) if nanos > AHEAD_MAX => Some(before.monotonic_at(ticks, self.rate)),
                    _ => Some(signed(last.monotonic.saturating_add(nanos))),
                }
            }
        }
    }

    /// Monotonic time of ticks before the last sight, by the rate between the two sights around them. What is older
    /// than all sights is dated back from the first, by the rate that follows it.
    #[cold]
    fn earlier(&self, ticks: u64) -> i64 {
        let after = self.sights.partition_point(|sight| sight.counter <= ticks);
        let from = self.sights[after.saturating_sub(1)];
        let rate = self.sights.get(after.max(1)).map_or(self.rate, |to| Rate::between(&from, to));
        from.monotonic_at(ticks, rate)
    }

    /// Unix time of a moment of the monotonic clock, by the wall clock as it stood then.
    #[inline]
    fn wall(&self, monotonic: i64) -> u64 {
        let last = self.last();
        if let Ok(passed) = u64::try_from(monotonic.saturating_sub(signed(last.monotonic))) {
            return last.wall.saturating_add(passed);
        }
        let sight = match self.sights.partition_point(|sight| signed(sight.monotonic) <= monotonic).checked_sub(1) {
            Some(index) => self.sights[index],
            None => self.before.unwrap_or(self.sights[0]),
        };
        u64::try_from(i128::from(monotonic) + sight.offset()).unwrap_or(0)
    }
}

impl Sight {
    /// Monotonic time of these ticks at this rate; below zero where the counter ran while the monotonic clock stood
    /// still.
    fn monotonic_at(&self, ticks: u64, rate: Rate) -> i64 {
        let here = signed(self.monotonic);
        match ticks.checked_sub(self.counter) {
            Some(passed) => here.saturating_add(signed(rate.nanos(passed))),
            None => here.saturating_sub(signed(rate.nanos(self.counter - ticks))),
        }
    }

    /// Wall time minus monotonic time.
    fn offset(&self) -> i128 {
        i128::from(self.wall) - i128::from(self.monotonic)
    }
}

/// How fast the counter runs, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds in 2^32 ticks.
    per_ticks: u64,
    /// How far off that may be.
    error: u64,
    /// Whether it is none that was measured since the anchors began, so that another contradicts nothing.
    is_guess: bool,
}

impl Rate {
    const UNKNOWN: Self = Self { per_ticks: 0, error: u64::MAX, is_guess: true };

    /// The rate that two sights show. Each is off by half its width at most, and by what the clocks round.
    fn between(from: &Sight, to: &Sight) -> Self {
        const ROUNDED: u64 = 100; // the coarsest monotonic clock, that of Windows
        let nanos = to.monotonic.saturating_sub(from.monotonic);
        let ticks = to.counter.saturating_sub(from.counter);
        let width = from.width.saturating_add(to.width).div_ceil(2);
        let rate =
            |nanos: u64, ticks: u64| u64::try_from((u128::from(nanos) << 32) / u128::from(ticks)).unwrap_or(u64::MAX);
        let per_ticks = rate(nanos, ticks.max(1));
        // More time in fewer ticks: the error the other way is smaller.
        let fastest = match ticks.saturating_sub(width) {
            0 => u64::MAX,
            fewest => rate(nanos.saturating_add(ROUNDED), fewest),
        };
        Self { per_ticks, error: fastest - per_ticks, is_guess: false }
    }

    /// Whether the stretch was long enough for its clocks.
    fn is_good(self) -> bool {
        self.error <= self.per_ticks / (1_000_000 / RATE_CHANGE_MAX_PPM)
    }

    /// Whether the counter may have run through, if it had the rate `old` before. Over a short stretch almost any may.
    fn continues(self, old: Self) -> bool {
        let change_max = old.per_ticks / (1_000_000 / RATE_CHANGE_MAX_PPM);
        let slack = change_max.saturating_add(old.error).saturating_add(self.error);
        old.is_guess || self.per_ticks.abs_diff(old.per_ticks) <= slack
    }

    /// This rate, for a counter that may have changed it.
    fn guess(self) -> Self {
        Self { error: self.per_ticks / (1_000_000 / GUESS_PPM), is_guess: true, ..self }
    }

    /// Nanoseconds of so many ticks.
    #[inline]
    fn nanos(self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.per_ticks)) >> 32).unwrap_or(u64::MAX)
    }
}

impl Timeline for Anchors {
    fn span(&self, start: Stamp, end: Stamp) -> (u64, u64) {
        let from = self.instant(start);
        let to = match (self.monotonic(start), self.monotonic(end)) {
            // Both were measured: the duration is, whatever the wall clock did meanwhile.
            (Some(start), Some(end)) => from.saturating_add_signed(end.saturating_sub(start).max(0)),
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
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos)
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;
    const DAY: Duration = Duration::from_secs(86_400);

    impl FakeClock {
        /// Moves the counter alone, forward or back: as a suspend that it runs through, or a reset.
        fn jump_counter(&self, ticks: i64) {
            // ORDERING: Relaxed. As in `advance`.
            self.cells.counter_offset.fetch_add(ticks.cast_unsigned(), Relaxed);
        }

        fn stamp(&self) -> Stamp {
            Stamp::counter(self.counter())
        }
    }

    /// Anchors that have run for some seconds.
    fn settled() -> (FakeClock, Anchors) {
        let (fake, _, mut anchors) = fake();
        fake.jump_counter(3_600 * SECOND);
        anchors = Anchors::new(&anchors.clock);
        for _ in 0..5 {
            fake.advance(Duration::from_secs(1));
            anchors.refresh();
        }
        (fake, anchors)
    }

    const SECOND: i64 = 1_000_000_000;
    const HALF: u64 = 500_000_000;

    /// What half a second comes to, in spans that follow each other and are dated as they end.
    fn halves(fake: &FakeClock, anchors: &mut Anchors, count: usize) -> Vec<u64> {
        let measure = |_| {
            let start = fake.stamp();
            fake.advance(Duration::from_nanos(HALF));
            let (from, to) = anchors.span(start, fake.stamp());
            anchors.refresh();
            to - from
        };
        (0..count).map(measure).collect()
    }

    #[test]
    fn half_a_second_is_one_after_the_counter_jumps() {
        let jumps = [
            ("a suspend of an hour that the counter runs through", 3_600 * SECOND),
            ("a suspend of a second that the counter runs through", SECOND),
            ("a counter that loses half a second", -SECOND / 2),
            ("a counter that stands for almost all of a second", -SECOND + 1_000),
            ("a counter that goes back a second", -2 * SECOND),
            ("a counter that begins again", -3_600 * SECOND),
        ];
        for (what, jump) in jumps {
            for wait in [20, 300, 1000] {
                let (fake, mut anchors) = settled();
                fake.advance(Duration::from_millis(wait));
                fake.jump_counter(jump);
                anchors.refresh();
                let halves = halves(&fake, &mut anchors, 5);
                assert!(halves.iter().all(|half| half.abs_diff(HALF) < 100), "{what}, {wait} ms: {halves:?}");
            }
        }
    }

    /// Spans of half a second each, one before the counter jumps and one across: what the drain makes of them
    /// afterwards.
    fn dated_across(jump: i64, asleep: u64) -> [(u64, u64); 2] {
        let (fake, mut anchors) = settled();
        let start = fake.stamp();
        fake.advance(Duration::from_nanos(HALF));
        let middle = fake.stamp();
        fake.jump_counter(jump);
        fake.step_wall(EPOCH + Duration::from_nanos(fake.wall_nanos() + asleep));
        fake.advance(Duration::from_nanos(HALF));
        let end = fake.stamp();
        anchors.refresh();
        let now = fake.wall_nanos();
        [anchors.span(start, middle), anchors.span(middle, end)].map(|(from, to)| (now - from, to - from))
    }

    #[test]
    fn spans_from_before_the_counter_begins_again_keep_their_times() {
        const ASLEEP: u64 = 3_600_000_000_000;
        let near = |a: u64, b: u64| a.abs_diff(b) < 1_000;
        // The counter began again, the monotonic clock stood still: what was asleep is in no duration.
        let [(age, length), (age_across, length_across)] = dated_across(-3_600 * SECOND, ASLEEP);
        assert!(near(age, ASLEEP + 2 * HALF) && near(length, HALF), "{age} {length}");
        assert!(near(age_across, ASLEEP + HALF) && near(length_across, HALF), "{age_across} {length_across}");
        // The counter ran through, and knows how long it was.
        let [(age, length), (age_across, length_across)] = dated_across(3_600 * SECOND, ASLEEP);
        assert!(near(age, ASLEEP + 2 * HALF) && near(length, HALF), "{age} {length}");
        assert!(near(age_across, ASLEEP + HALF) && near(length_across, ASLEEP + HALF), "{age_across} {length_across}");
    }

    #[test]
    fn counter_that_stands_still_leaves_the_rate_as_it_was() {
        let (fake, mut anchors) = settled();
        fake.advance(Duration::from_secs(2));
        fake.jump_counter(-2 * SECOND);
        anchors.refresh();
        assert_eq!(halves(&fake, &mut anchors, 3), [HALF; 3]);
    }

    /// Lets a second pass in which the counter gains so many ticks on the monotonic clock, with a look at each step.
    fn drift(fake: &FakeClock, anchors: &mut Anchors, ticks: i64, steps: u32) {
        for _ in 0..steps {
            fake.advance(Duration::from_secs(1) / steps);
            fake.jump_counter(ticks / i64::from(steps));
            anchors.refresh();
        }
    }

    #[test]
    fn slewed_clock_is_followed_and_a_faster_counter_is_learnt() {
        for (gain, restarts) in
            [(900_000, false), (-900_000, false), (1_200_000, true), (-1_200_000, true), (SECOND, true)]
        {
            for steps in [1, 50] {
                let (fake, mut anchors) = settled();
                let known = anchors.sights.len();
                drift(&fake, &mut anchors, gain, steps);
                assert_eq!(anchors.sights.len() < known, restarts, "{gain} {steps}");
                // At that rate from now on: once, and it is known.
                drift(&fake, &mut anchors, gain, 50);
                let known = anchors.sights.len();
                drift(&fake, &mut anchors, gain, 50);
                assert!(anchors.sights.len() >= known, "{gain} {steps}: restarted again");
                let expected = (1u128 << 32) * 1_000_000_000 / u128::from((SECOND + gain).cast_unsigned());
                let error_ppm = u128::from(anchors.rate.per_ticks).abs_diff(expected) * 1_000_000 / expected;
                assert!(error_ppm <= 10, "{gain} {steps}: {error_ppm} ppm off");
            }
        }
    }

    /// Readings that are off by up to half their width never look like a break, over stretches from microseconds to
    /// seconds; the first anchors, which have no rate to compare with, included.
    #[test]
    fn inexact_sights_are_no_break() {
        // xorshift: the same numbers at each run.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..1000 {
            let (mut true_time, mut rate, mut kept) = (1_000_000_000_u64, Rate::UNKNOWN, None);
            for _ in 0..40 {
                true_time += 1 << random(31);
                let width = 1 << random(18);
                // Three ticks a nanosecond, read somewhere in the width.
                let counter = 3 * true_time - width / 2 + random(width + 1);
                let sight = Sight { counter, monotonic: true_time, wall: true_time, width };
                let from: Sight = *kept.get_or_insert(sight);
                if from.monotonic == sight.monotonic {
                    continue;
                }
                let fresh = Rate::between(&from, &sight);
                assert!(fresh.continues(rate), "{round}: {from:?} {sight:?} {rate:?} {fresh:?}");
                let is_due = sight.monotonic - from.monotonic >= SIGHT_EVERY;
                if fresh.error < rate.error || (is_due && fresh.is_good()) {
                    rate = fresh;
                }
                if is_due {
                    kept = Some(sight);
                }
            }
        }
    }

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
