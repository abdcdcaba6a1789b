//! Faults that come together: a collector whose connections each do something else, at loads of more than one batch.
//!
//! Each schedule runs by each driver, compressed and not. In the end every span is compared with the ledger: see
//! `schedule/oracle.rs`. What a seed does once and shall not do again is kept as a row.

#![cfg(unix)]

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use spanring::testing::collector::{Act, Asked, Close, Ids, Leave, Note, Pause, Taken, Turn};

use super::schedule::{PATIENCE, Plan, Run, Sight, Way};

/// Schedules that are under way at a time. They mostly wait.
const AT_A_TIME: usize = 16;

const TAKE: Turn = Turn::of(Act::Take);
const REFUSE: Turn = Turn::of(Act::Refuse);
const BUT_THREE: Turn = Turn::of(Act::TakeAllBut(3));
/// Its client ends the connection with it.
const TOO_LARGE: Turn = Turn::of(Act::CallTooLarge);
const HOLD: Turn = Turn::of(Act::Leave(Leave::Hold, Taken::Yes));
const HALF_A_HEAD: Turn = Turn::of(Act::Leave(Leave::CloseInHead, Taken::Yes));
const CLOSE: Turn = Turn::of(Act::Leave(Leave::Close, Taken::Yes));
const LATER: Turn = Turn::of(Act::PutOff("503 Service Unavailable", Pause::Unsaid));
/// An upstream has taken it.
const BAD_GATEWAY: Turn = Turn::of(Act::TakeAndPutOff("502 Bad Gateway"));

const fn throttle(pause: Pause) -> Turn {
    Turn::of(Act::PutOff("429 Too Many Requests", pause))
}

const fn slowly(milliseconds: u64) -> Turn {
    Turn { rest: Duration::from_millis(milliseconds), ..TAKE }
}

/// Schedules that are worth keeping.
fn rows() -> Vec<(String, Plan)> {
    let four = Plan::calm(4, 10, &[100, 100]);
    let (ten, date) = (throttle(Pause::Seconds(10)), throttle(Pause::Date(Duration::from_secs(2))));
    let in_body = |turn| Turn { close: Close::InBody, ..turn };
    let announced = |turn| Turn { close: Close::Announced, ..turn };
    let rows = [
        // Each success ended the pause that another answer had asked for: 15 came in a quarter of a second.
        (
            "a pause that some connections ask for, while others take",
            Plan { connections: vec![vec![slowly(5); 40], vec![ten; 3], vec![ten; 3], vec![ten; 3]], ..four.clone() },
        ),
        (
            "pauses in real seconds, in both forms",
            Plan {
                retry_after_max: Duration::from_secs(30),
                connections: vec![vec![throttle(Pause::Seconds(1))], vec![TAKE, date], vec![slowly(30); 4]],
                ..four.clone()
            },
        ),
        // It was sent again and again, and everything came twice.
        (
            "a collector that needs most of the time",
            Plan {
                timeout: Duration::from_secs(8),
                connections: vec![vec![slowly(2_400)]; 4],
                ..Plan::calm(4, 10, &[40])
            },
        ),
        (
            "some connections put off, some dead, some well",
            Plan {
                connections: vec![vec![TAKE, ten, ten], vec![HOLD], vec![HALF_A_HEAD], vec![slowly(20); 9]],
                ..four.clone()
            },
        ),
        // Nothing went on until the time of the one that hung was over.
        (
            "the first request after a failure meets a dead connection",
            Plan { connections: vec![vec![TAKE, LATER], vec![HOLD]], ..four.clone() },
        ),
        (
            "every kind of answer over one connection",
            Plan {
                connections: vec![
                    vec![TAKE, BUT_THREE, REFUSE, throttle(Pause::Seconds(0)), ten, TAKE, TOO_LARGE],
                    vec![announced(TAKE)],
                ],
                ..Plan::calm(1, 10, &[100])
            },
        ),
        (
            "too large down to the single span",
            Plan { connections: vec![vec![TOO_LARGE]; 6], ..Plan::calm(1, 8, &[24]) },
        ),
        (
            "answers whose bodies break off",
            Plan {
                connections: [TAKE, REFUSE, TOO_LARGE, LATER, ten].map(|turn| vec![in_body(turn)]).into(),
                ..four.clone()
            },
        ),
        (
            "answers to what may be there already, and to halves of it",
            Plan {
                connections: vec![
                    vec![CLOSE],
                    vec![CLOSE],
                    vec![TOO_LARGE],
                    vec![REFUSE, BUT_THREE, LATER],
                    vec![CLOSE],
                    vec![REFUSE],
                ],
                ..Plan::calm(1, 10, &[100])
            },
        ),
        // They were lost by the ledger, and at the collector.
        (
            "gateways that lose their upstream's answer, and what is said after that",
            Plan {
                connections: vec![
                    vec![BAD_GATEWAY],
                    vec![REFUSE, BAD_GATEWAY],
                    vec![TOO_LARGE],
                    vec![BAD_GATEWAY],
                    vec![BUT_THREE, BAD_GATEWAY],
                ],
                ..Plan::calm(1, 10, &[100])
            },
        ),
        (
            "dead connections, while time is short",
            Plan {
                sight: Sight::Partial,
                timeout: Duration::from_millis(500),
                connections: vec![vec![HOLD], vec![HOLD], vec![TAKE, HOLD], vec![LATER], vec![HOLD]],
                ..four.clone()
            },
        ),
        (
            "a collector that is away for a while",
            Plan {
                sight: Sight::Partial,
                has_outage: true,
                connections: vec![vec![slowly(20); 9], vec![ten; 2], vec![TAKE, CLOSE], vec![slowly(5); 9]],
                ..four.clone()
            },
        ),
        (
            "a shutdown in the middle of all",
            Plan {
                sight: Sight::Partial,
                deadline: Some(Duration::from_millis(50)),
                connections: vec![
                    vec![TAKE, HOLD],
                    vec![LATER],
                    vec![slowly(40); 9],
                    vec![CLOSE],
                    vec![LATER],
                    vec![HALF_A_HEAD],
                ],
                ..four
            },
        ),
    ];
    rows.map(|(name, plan)| (name.to_owned(), plan)).into()
}

/// Runs each plan in every way.
fn run_all(plans: &[(String, Plan)]) {
    let jobs: Vec<_> = plans.iter().flat_map(|plan| Way::ALL.map(|way| (plan, way))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(((name, plan), way)) = jobs.get(next.fetch_add(1, Relaxed)) {
                    if let Err(why) = Run::whole(plan, *way) {
                        failures.lock().unwrap().push(format!("{name}, {way:?}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), jobs.len(), failures.join("\n"));
}

/// More seeds by `SPANRING_SCHEDULE_SEEDS`, one of them by `SPANRING_SCHEDULE_SEED`.
#[test]
fn any_schedule_over_several_connections_accounts_for_every_span() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("SPANRING_SCHEDULE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SPANRING_SCHEDULE_SEEDS").unwrap_or(6),
    };
    let plans: Vec<_> = seeds.map(|seed| (format!("SPANRING_SCHEDULE_SEED={seed}"), Plan::of(seed))).collect();
    run_all(&plans);
}

#[test]
fn every_schedule_that_is_kept_accounts_for_every_span() {
    run_all(&rows());
}

/// The collector fails at one span, whenever it comes: its request is given up, and told apart, while others pass.
#[test]
fn poison_request_is_quarantined_while_its_neighbours_pass() {
    thread::scope(|scope| {
        for (way, connections_max) in Way::ALL.into_iter().zip([1, 4, 4, 1]) {
            scope.spawn(move || {
                // A machine that does nothing else for seconds may leave too few attempts to tell.
                let is_told_apart = [2, 4, 8].into_iter().any(|seconds| poison(way, connections_max, seconds));
                assert!(is_told_apart, "{way:?}");
            });
        }
    });
}

/// Whether there were attempts enough to tell.
fn poison(way: Way, connections_max: usize, seconds: u64) -> bool {
    const BATCH: u64 = 10;
    let poison: Arc<Mutex<Option<Ids>>> = Arc::default();
    let is_poisoned = {
        let poison = Arc::clone(&poison);
        move |ids: &[Ids]| poison.lock().unwrap().is_some_and(|poison| ids.contains(&poison))
    };
    let decide = is_poisoned.clone();
    let timeout = Duration::from_secs(seconds);
    let plan = Plan { sight: Sight::Partial, timeout, ..Plan::calm(connections_max, 10, &[]) };
    let mut run = Run::start(&plan, way, move |asked: &Asked<'_>| if decide(asked.ids) { LATER } else { TAKE });
    run.record(BATCH);
    *poison.lock().unwrap() = run.recorded.last().copied();
    let late = Instant::now() + PATIENCE;
    while run.engine.ledger().lost.total() + run.engine.ledger().unconfirmed == 0 {
        assert!(Instant::now() < late, "{}", run.complain("it is never given up"));
        run.record(BATCH);
        let _ = run.engine.flush(Duration::from_millis(20));
    }
    let ledger = run.engine.ledger();
    let notes = run.stand.notes();
    let is_poison = |note: &&Note| is_poisoned(&note.ids);
    let first = notes.iter().find(is_poison).unwrap().began;
    let neighbours = notes.iter().filter(|note| !is_poison(note) && note.began > first).count();
    if notes.iter().filter(is_poison).count() < 3 || neighbours < 4 || ledger.unconfirmed > 0 {
        return false;
    }
    assert_eq!(ledger.lost.quarantined, BATCH, "{}", run.complain("it is not quarantined"));
    // What is said is out after a flush.
    let _ = run.engine.flush(PATIENCE);
    let is_told = run.says("its first span is `work` of scope `schedule`") && run.says("status 503");
    assert!(is_told, "{}", run.complain("it is not told"));
    run.end().unwrap();
    true
}
