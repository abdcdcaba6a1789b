//! What happens in a schedule, by a seed or by hand.

use std::{iter, time::Duration};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use spanring::testing::collector::{Act, Close, Leave, Pause, Taken, Turn};

use super::PATIENCE;

/// A load, the settings of the export, and what the collector does on each connection.
#[derive(Clone, Debug)]
pub struct Plan {
    pub sight: Sight,
    pub timeout: Duration,
    pub stall_timeout: Duration,
    pub retry_after_max: Duration,
    pub connections_max: usize,
    pub batch_spans_max: usize,
    /// Spans that are recorded at a time.
    pub waves: Vec<u64>,
    /// Bytes of an attribute of each.
    pub fill: usize,
    /// Whether the collector is away for a while, after the first of them.
    pub has_outage: bool,
    /// The deadline of the shutdown, if that comes in the middle of all.
    pub deadline: Option<Duration>,
    /// What each connection does with its requests. Then it takes what comes, as later connections do.
    pub connections: Vec<Vec<Turn>>,
}

/// Whether the collector sees all that its client does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// Each attempt arrives, and each answer. What the collector holds for ever waits for the shutdown.
    Full,
    /// Not always: the time of a request or the end of a connection may come first.
    Partial,
}

/// The statuses that ask for another try.
const LATER: [&str; 4] = ["429 Too Many Requests", "503 Service Unavailable", "502 Bad Gateway", "504 Gateway Timeout"];
/// Those of a gateway, whose upstream may have taken the request.
pub const GATEWAY_FAILURES: [&str; 2] = [LATER[2], LATER[3]];
/// For a connection that stops half-way: much longer than one that does not, short for a test.
const STALL_TIMEOUT: Duration = Duration::from_millis(600);
/// The longest pause that is granted, where the collector asks for one of any length.
const PAUSE_MAX: Duration = Duration::from_millis(300);

impl Plan {
    /// All is well.
    pub fn calm(connections_max: usize, batch_spans_max: usize, waves: &[u64]) -> Self {
        Self {
            sight: Sight::Full,
            timeout: 2 * PATIENCE,
            stall_timeout: STALL_TIMEOUT,
            retry_after_max: PAUSE_MAX,
            connections_max,
            batch_spans_max,
            waves: waves.into(),
            fill: 100,
            has_outage: false,
            deadline: None,
            connections: vec![],
        }
    }

    /// The plan of this seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
        let connections_max = dice.between(1, 4);
        let waves: Vec<_> = (0..dice.between(1, 3)).map(|_| dice.between(20, 120) as u64).collect();
        let mut plan =
            Self { fill: dice.between(0, 1_500), ..Self::calm(connections_max, dice.between(8, 40), &waves) };
        if dice.is_one_of(4) {
            (plan.sight, plan.timeout) = (Sight::Partial, Duration::from_millis(700));
            plan.has_outage = dice.is_one_of(2);
        }
        if dice.is_one_of(5) {
            plan.sight = Sight::Partial;
            plan.deadline = Some(Duration::from_millis(dice.between(0, 150) as u64));
        }
        // Real seconds, so few of them.
        let is_granted = dice.is_one_of(4);
        let mut pauses = if is_granted { 2 } else { usize::MAX };
        if is_granted {
            plan.retry_after_max = Duration::from_secs(30);
        }
        // One connection at least goes on.
        let mut holds = if plan.sight == Sight::Full { connections_max - 1 } else { 2 };
        for _ in 0..connections_max + dice.between(0, 4) {
            let mut turns = dice.connection();
            let is_seen = plan.sight == Sight::Full;
            for turn in &mut turns {
                if is_seen && turn.close == Close::Unannounced {
                    turn.close = Close::No;
                }
                match &mut turn.act {
                    Act::Leave(leave @ Leave::Hold, _) if holds == 0 => *leave = Leave::Close,
                    Act::Leave(Leave::Hold, _) => holds -= 1,
                    Act::PutOff(_, pause) if pauses == 0 => *pause = Pause::Unsaid,
                    Act::PutOff(_, pause @ (Pause::Seconds(1..) | Pause::Date(_))) => {
                        pauses -= 1;
                        if is_granted {
                            *pause = if dice.is_one_of(2) { Pause::Seconds(1) } else { Pause::Date(SOON) };
                        }
                    }
                    _ => {}
                }
            }
            plan.connections.push(turns);
        }
        plan
    }
}

/// At least one second, when it is cut to whole ones.
const SOON: Duration = Duration::from_secs(2);

struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn between(&mut self, least: usize, most: usize) -> usize {
        least + usize::try_from(self.0.next_u64() % (most - least + 1) as u64).unwrap()
    }

    fn is_one_of(&mut self, many: usize) -> bool {
        self.between(1, many) == 1
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() - 1)]
    }

    /// What one connection does.
    fn connection(&mut self) -> Vec<Turn> {
        let turns = self.between(1, 4);
        let healthy = iter::repeat_n(Turn::of(Act::Take), self.between(0, 3));
        match self.between(0, 7) {
            0 => vec![],
            1 => (0..turns).map(|_| Turn { rest: self.moment(), ..Turn::of(Act::Take) }).collect(),
            2 => healthy.chain([Turn::of(Act::Leave(Leave::Hold, self.taken()))]).collect(),
            3 => healthy.chain([Turn::of(self.leave())]).collect(),
            4 => (0..turns).map(|_| Turn::of(Act::PutOff(LATER[0], self.pause()))).collect(),
            5 => (0..turns).map(|_| Turn::of(Act::PutOff(self.pick(&LATER), self.pause()))).collect(),
            _ => (0..2 * turns).map(|_| self.turn()).collect(),
        }
    }

    fn turn(&mut self) -> Turn {
        let act = match self.between(0, 10) {
            0 => Act::TakeAllBut(self.between(0, 12) as u64),
            1 => Act::Refuse,
            2 => Act::CallTooLarge,
            3 => self.leave(),
            4..=6 => Act::PutOff(self.pick(&LATER), self.pause()),
            7 => Act::TakeAndPutOff(self.pick(&GATEWAY_FAILURES)),
            _ => Act::Take,
        };
        // Of an answer that breaks off nothing but the head counts.
        let is_partial = matches!(act, Act::TakeAllBut(_));
        let close = match self.between(0, 6) {
            0 => Close::Announced,
            1 => Close::Unannounced,
            2 if !is_partial => Close::InBody,
            _ => Close::No,
        };
        let rest = if self.is_one_of(3) { self.moment() } else { Duration::ZERO };
        Turn { rest, act, close }
    }

    fn leave(&mut self) -> Act {
        let leaves = [Leave::Close, Leave::Reset, Leave::CloseInHead, Leave::StopInHead, Leave::Hold];
        Act::Leave(self.pick(&leaves), self.taken())
    }

    fn taken(&mut self) -> Taken {
        self.pick(&[Taken::Yes, Taken::No])
    }

    fn pause(&mut self) -> Pause {
        let pauses = [Pause::Unsaid, Pause::Seconds(0), Pause::Seconds(1), Pause::Seconds(10), Pause::Date(SOON)];
        self.pick(&pauses)
    }

    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.between(1, 40) as u64)
    }
}
