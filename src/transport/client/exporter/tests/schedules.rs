//! Random schedules: requests of any size at any time, a network, a resolver and a collector that do anything, flushes,
//! shutdowns. What must hold is written in `rig.rs` and `witness.rs`, and checked after every step of every schedule.
//!
//! A million of them, or ten simulated hours, whichever are given:
//!
//! ```sh
//! SPANRING_SEEDS=1000000 cargo test --release --lib any_schedule -- --nocapture
//! SPANRING_SIM_HOURS=10 cargo test --release --lib any_schedule -- --nocapture
//! ```
//!
//! `SPANRING_SEED=N` runs one alone, and shows the least of its events and of its weather with which it fails: a row
//! for `kept`.

use std::{
    env,
    io::ErrorKind,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

#[cfg(feature = "zstd")]
use super::super::Coder;
use super::{
    collector::Do,
    rig::{Names, PLACE, Rig, place},
};
use crate::transport::driver::{Moment, sim::Network};
#[cfg(feature = "zstd")]
use crate::transport::http::compression::Compression;

/// All that happens to an exporter and its collector.
#[derive(Clone, Debug)]
struct Schedule {
    network: Network,
    connections_max: usize,
    route: Path,
    /// What the collector does with the requests that come, in turn.
    weather: Vec<Do>,
    events: Vec<(Duration, Act)>,
    /// Whether the days get better in the end, and all must be over then.
    ends_well: bool,
}

/// How the collector is found.
#[derive(Clone, Debug)]
enum Path {
    /// By this address.
    Literal,
    /// By the loopback's name, of whose two addresses the first answers nothing, or refuses.
    Loopback { is_first_silent: bool },
    /// By a name. How long each lookup takes, and what comes of it.
    Name(Vec<(Duration, Result<Vec<&'static str>, &'static str>)>),
}

/// What happens, before some time passes.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A request of so many bytes, if there is room.
    Submit(usize),
    /// All connections are reset.
    Reset,
    /// Nothing listens any more.
    Down,
    /// The same, and all connections are reset.
    Crash,
    /// The collector listens again.
    Up,
    /// The collector listens at its other address alone.
    Move,
    /// The next wait fails.
    FailWait,
    /// This many operations later one fails.
    FailOperation(u64),
    /// The thread is stopped in its next wait, for this time.
    Stop(Duration),
    Hurry,
    /// A flush waits: until then, or nobody knows until when.
    Flush(Option<Duration>),
    /// Nobody waits any more.
    Forsake,
    /// The end comes after this time.
    ShutDown(Duration),
}

const LOOPBACK: &str = "127.0.0.1:4318";
const OTHER: &str = "10.0.0.2:4318";
const NAME: &str = "collector.example:4318";

struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn size(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).expect("it is small")
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.size(choice.len() as u64)].clone()
    }
}

/// Something that can go wrong, by chance. Not an answer too many: where it comes late, in a piece of its own, no
/// client can tell it from the answer to the next request.
fn weather(dice: &mut Dice) -> Do {
    let rest = dice.millis(3_000);
    match dice.below(40) {
        0 => Do::TakeAndClose(""),
        1 => Do::TakeAndClose("connection: close\r\n"),
        2 => Do::TakeSlowly(rest),
        3 => Do::SayEarly(dice.of(&[200, 400, 408, 413, 503, 504])),
        4 => Do::TakeAndReset,
        5 => Do::Say(dice.of(&[429, 502, 503, 504]), ""),
        6 | 7 => Do::Say(dice.of(&[429, 503]), dice.of(&PAUSES)),
        8 => Do::Say(dice.of(&[400, 408]), dice.of(&WORDS)),
        9 | 10 => Do::Say(413, ""),
        11 => Do::Garble,
        12 => Do::Hold,
        13 => Do::Stop,
        14 => Do::Close,
        15 => Do::Reset,
        16 => Do::Take(Duration::from_secs(60)),
        17 => Do::Take(rest * 3),
        18 => Do::TakeAfterInterim(rest),
        19 => Do::TakeAfterInterims(dice.size(9), rest / 4),
        20 => Do::TakeAfterInterims(dice.size(40), dice.millis(2) * 1_500),
        21 | 22 => Do::TakeAndSayRaw(dice.of(&BROKEN_OFF), dice.one_in(2)),
        23 => Do::SayRaw(dice.of(&REFUSED_AND_BROKEN_OFF).into(), dice.one_in(2)),
        24 => Do::SayEarlyAndClose(dice.of(&[200, 400, 408, 503])),
        25 => Do::TakeAndDoze(rest * 3),
        26 => Do::TakeAndSay(dice.of(&[502, 504])),
        27 if dice.one_in(4) => Do::TakeAndSwell(64 << 10),
        _ => Do::Take(rest / 20),
    }
}

/// Answers of a collector that is at its limit, on several connections at the same time: yes to one, later to another.
fn crowd(dice: &mut Dice) -> Do {
    match dice.below(4) {
        0 => Do::Say(dice.of(&[429, 503]), dice.of(&PAUSES)),
        1 => weather(dice),
        _ => Do::Take(dice.millis(2_000)),
    }
}

/// Headers besides the status.
const WORDS: [&str; 4] = ["", "connection: close\r\n", "retry-after: 9\r\n", "connection: close\r\nretry-after: 9\r\n"];

/// As seconds and as dates: soon, later, past, a year, absurd, no sense.
const PAUSES: [&str; 10] = [
    "retry-after: 1\r\n",
    "retry-after: 1\r\n",
    "retry-after: 4\r\n",
    "retry-after: 12\r\n",
    "retry-after: 99999999999\r\n",
    "retry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n",
    "retry-after: Sunday, 06-Nov-94 08:49:45 GMT\r\n",
    "retry-after: Sun Nov  6 08:49:30 1994\r\n",
    "retry-after: Mon, 06 Nov 1995 08:49:37 GMT\r\n",
    "retry-after: soon\r\n",
];

/// A request is taken, and this is all that is heard of it.
const BROKEN_OFF: [&str; 9] = [
    "",
    "HT",
    "HTTP/1.1 2",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1",
    "HTTP/1.1 102 Processing\r\n\r\nstray\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfo",
    "HTTP/1.1 202 Accepted\r\n\r\nno end but that of the connection",
];

/// A request is not taken, and this is all that is heard of it.
const REFUSED_AND_BROKEN_OFF: [&str; 5] = [
    "HTTP/1.1 503 Unavailable\r\nretry-after: 2\r\ncontent-length: 9\r\n\r\nfour",
    "HTTP/1.1 429 Too Many\r\nretry-after: Sun, 06 Nov 1994 08:49:40 GMT\r\n\r\nno end",
    "HTTP/1.1 400 Bad\r\ncontent-length: 9\r\n\r\nfour",
    "HTTP/1.1 413 Too Large\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 503 Unavailable\r\nretry-af",
];

fn lookup(dice: &mut Dice) -> (Duration, Result<Vec<&'static str>, &'static str>) {
    let time = match dice.below(6) {
        0 | 1 => Duration::ZERO,
        2 => dice.millis(1_000),
        3 => dice.millis(12_000),
        4 => Duration::from_secs(20),
        _ => Duration::from_secs(60),
    };
    let answer = match dice.below(8) {
        0 => Err("no such host"),
        1 => Ok(vec![OTHER]),
        2 => Ok(vec![OTHER, PLACE]),
        3 => Ok(vec!["[2001:db8::1]:4318", PLACE, OTHER]),
        _ => Ok(vec![PLACE]),
    };
    (time, answer)
}

fn act(dice: &mut Dice) -> Act {
    match dice.below(40) {
        0 | 1 => Act::Reset,
        2 => Act::Down,
        3 | 4 => Act::Up,
        5 => Act::Move,
        6 => Act::FailWait,
        7 => Act::FailOperation(dice.below(12)),
        8 => Act::Hurry,
        9 => Act::Flush(None),
        10 => Act::Flush(Some(dice.millis(8_000))),
        11 | 12 => Act::Forsake,
        13 => Act::Crash,
        14 => Act::Up,
        15 => Act::Stop(dice.millis(15_000)),
        _ => Act::Submit(8 + dice.size(9_000)),
    }
}

fn seeded(seed: u64) -> Schedule {
    let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
    let network = match seed % 4 {
        0 => Network { window_bytes: 2_000, ..Network::calm(seed) },
        1 => Network { reset_per_mille: 100, window_bytes: 5_000, ..Network::rough(seed) },
        2 => Network { delay_max: Duration::from_millis(400), ..Network::rough(seed) },
        _ => Network::rough(seed),
    };
    let connections_max = 1 + dice.size(5);
    let route = match dice.below(4) {
        0 => Path::Loopback { is_first_silent: dice.one_in(2) },
        1 => Path::Name((0..dice.below(8)).map(|_| lookup(&mut dice)).collect()),
        _ => Path::Literal,
    };
    let count = if dice.one_in(16) { 120 } else { 20 };
    let is_crowded = dice.one_in(4);
    let rest = if is_crowded { 400 } else { dice.of(&[50, 1_000, 1_000, 4_000]) };
    let weather = (0..count + 10).map(|_| if is_crowded { crowd(&mut dice) } else { weather(&mut dice) }).collect();
    let mut events: Vec<_> =
        (0..count).map(|_| (act(&mut dice), dice.millis(rest))).map(|(act, rest)| (rest, act)).collect();
    if dice.one_in(4) {
        events.push((Duration::ZERO, Act::ShutDown(dice.millis(10_000))));
    }
    let ends_well = !dice.one_in(5);
    Schedule { network, connections_max, route, weather, events, ends_well }
}

impl Schedule {
    fn rig(&self) -> Rig {
        let network = self.network.clone();
        match &self.route {
            Path::Literal => Rig::new(network, self.connections_max),
            Path::Loopback { is_first_silent } => {
                let rig = Rig::at("localhost:4318", LOOPBACK, network, self.connections_max);
                if *is_first_silent {
                    rig.sim.ignore(place("[::1]:4318"));
                }
                rig
            }
            Path::Name(lookups) => {
                let mut rig = Rig::at(NAME, PLACE, network, self.connections_max);
                let mut names = Names::new(PLACE);
                names.script.extend(lookups.iter().cloned());
                rig.names = Some(names);
                rig
            }
        }
    }

    fn listens(&self) -> &'static str {
        if let Path::Loopback { .. } = self.route { LOOPBACK } else { PLACE }
    }

    /// Runs it; how much time passes in it.
    fn run(&self) -> Duration {
        let mut rig = self.rig();
        self.run_on(&mut rig);
        let time = rig.sim.now().since(Moment::START);
        rig.finish();
        time
    }

    fn run_on(&self, rig: &mut Rig) {
        rig.collector.will(self.weather.iter().cloned());
        let mut is_closing = false;
        for (rest, act) in &self.events {
            self.act(rig, *act);
            is_closing |= matches!(act, Act::ShutDown(_));
            rig.pass(*rest);
        }
        if self.ends_well && !is_closing {
            rig.awaited = None;
            rig.sim.change(Network::calm(self.network.seed));
            rig.collector.will([]);
            rig.collector.listen(&rig.sim, self.listens());
            rig.names = rig.names.take().map(|names| Names::new(names.then));
            rig.until_all_end(Duration::from_secs(600));
            rig.warm_up_again();
        }
    }

    fn act(&self, rig: &mut Rig, act: Act) {
        let after = |rig: &Rig, time| rig.driver.now().after(time);
        match act {
            Act::Submit(len) => {
                if rig.exporter.has_room() {
                    rig.submit(len);
                }
            }
            Act::Reset => rig.sim.reset_all(),
            Act::Down | Act::Crash => {
                rig.sim.unlisten(&place(self.listens()));
                rig.sim.unlisten(&place(OTHER));
                if let Act::Crash = act {
                    rig.sim.reset_all();
                }
            }
            Act::Up => rig.collector.listen(&rig.sim, self.listens()),
            Act::Move => {
                rig.sim.unlisten(&place(self.listens()));
                rig.collector.listen(&rig.sim, OTHER);
            }
            Act::FailWait => rig.sim.fail_nth_wait(rig.sim.waits()),
            Act::FailOperation(n) => rig.sim.fail_nth(rig.sim.operations() + n, ErrorKind::OutOfMemory),
            Act::Stop(time) => rig.sim.stop_in_wait(time),
            Act::Hurry => rig.exporter.hurry(),
            Act::Flush(time) => rig.awaited = Some(time.map(|time| after(rig, time))),
            Act::Forsake => rig.awaited = None,
            Act::ShutDown(time) => {
                let deadline = after(rig, time);
                rig.exporter.begin_closing();
                rig.awaited = Some(Some(deadline));
                while !rig.open.is_empty() && !rig.exporter.is_hopeless() && rig.driver.now() < deadline {
                    rig.turn(deadline);
                }
            }
        }
    }

    /// Why it fails, if it does.
    fn failure(&self) -> Option<String> {
        let failure = panic::catch_unwind(AssertUnwindSafe(|| self.run())).err()?;
        let text = failure.downcast_ref::<String>().cloned();
        Some(text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    }

    /// The least with which it fails: without each event and each piece of weather that can be spared.
    fn least(mut self) -> Self {
        let mut is_less = true;
        while is_less {
            is_less = false;
            for at in (0..self.events.len()).rev() {
                is_less |= self.spare(|schedule| _ = schedule.events.remove(at));
            }
            for at in (0..self.weather.len()).rev() {
                is_less |= self.spare(|schedule| _ = schedule.weather.remove(at));
            }
        }
        self
    }

    fn spare(&mut self, leave_out: impl Fn(&mut Self)) -> bool {
        let mut less = self.clone();
        leave_out(&mut less);
        let fails = less.failure().is_some();
        if fails {
            *self = less;
        }
        fails
    }
}

/// Schedules that have failed once.
fn kept() -> Vec<Schedule> {
    let calm = |weather: &[Do], events: &[(u64, Act)]| Schedule {
        network: Network { window_bytes: 2_000, ..Network::calm(1) },
        connections_max: 4,
        route: Path::Literal,
        weather: weather.to_vec(),
        events: events.iter().map(|&(millis, act)| (Duration::from_millis(millis), act)).collect(),
        ends_well: true,
    };
    vec![
        // Interim replies without end: the collector had the request, which was counted as lost.
        calm(&[Do::TakeAfterInterims(33, Duration::ZERO)], &[(30, Act::Submit(2_242))]),
        // A success before the request was sent, which ended with the connection: it was believed.
        calm(&[Do::SayEarlyAndClose(200)], &[(100, Act::Submit(90_000))]),
    ]
}

#[test]
fn schedules_that_failed_once_fail_no_more() {
    for schedule in kept() {
        let failure = schedule.failure();
        assert!(failure.is_none(), "{failure:?}: {schedule:#?}");
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("it is a number"))
}

/// Runs seeds, on all processors, until so many are done or so much time has passed in them.
fn run_seeds(seeds_max: u64, time_max: Duration) {
    let [next, millis] = [AtomicU64::new(0), AtomicU64::new(0)];
    let is_over = || Duration::from_millis(millis.load(Ordering::Relaxed)) >= time_max;
    let work = || {
        while !is_over() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds_max {
                return;
            }
            let time = panic::catch_unwind(|| seeded(seed).run());
            let time = time.unwrap_or_else(|_| panic!("seed {seed} fails: SPANRING_SEED={seed} runs it alone"));
            millis.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, Into::into);
        (0..workers).for_each(|_| _ = scope.spawn(work));
    });
    let seeds = next.load(Ordering::Relaxed).min(seeds_max);
    eprintln!("{seeds} schedules, {} simulated hours", millis.load(Ordering::Relaxed) / 3_600_000);
}

/// By zstd, to a collector that may decline it at any time.
#[cfg(feature = "zstd")]
#[test]
fn any_schedule_by_zstd_accounts_for_every_request() {
    let mut declined = 0;
    for seed in 0..200 {
        let mut schedule = seeded(seed);
        for weather in &mut schedule.weather {
            if let Do::Say(status @ (400 | 413), _) = weather {
                *status = 415;
            }
        }
        let run = || {
            let mut rig = schedule.rig();
            rig.exporter.coder = Coder::new(Compression::Zstd);
            schedule.run_on(&mut rig);
            let declined = rig.declined.len();
            rig.finish();
            declined
        };
        declined += panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("seed {seed} fails"));
    }
    assert!(declined > 40, "{declined}");
}

/// Each request ends once or waits, no span is forgotten, buffers come home, no turn is in vain, and all ends well.
#[test]
fn any_schedule_accounts_for_every_request() {
    if let Some(seed) = number("SPANRING_SEED") {
        let schedule = seeded(seed);
        if let Some(why) = schedule.failure() {
            let least = schedule.least();
            panic!("seed {seed} fails: {why}\nso does the least of it, with {:?}:\n{least:#?}", least.failure());
        }
        return;
    }
    match (number("SPANRING_SEEDS"), number("SPANRING_SIM_HOURS")) {
        (seeds, None) => run_seeds(seeds.unwrap_or(600), Duration::MAX),
        (seeds, Some(hours)) => run_seeds(seeds.unwrap_or(u64::MAX), Duration::from_secs(hours * 3_600)),
    }
}
