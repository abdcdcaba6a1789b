//! The exporter on a simulated network: seeded schedules against a witness, every operation made to fail, and single
//! claims.

mod collector;
#[cfg(feature = "tls")]
mod encrypted;
mod names;
mod put_off;
mod rig;
mod schedules;
mod ways;
mod witness;
#[cfg(feature = "zstd")]
mod zstd;

use std::{collections::BTreeSet, io::ErrorKind, time::Duration};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use self::{
    collector::Do,
    rig::{PLACE, Rig, SOON, SPANS, TIMEOUT, calm, place},
};
use super::{Condition, IDLE_MAX, RequestEnd};
use crate::transport::{
    client::{
        backoff::Backoff,
        exchange::STALE_MAX,
        retry_gate::{HURRY_AFTER, JITTER_MAX},
    },
    driver::{
        Moment,
        sim::{Network, Sim},
    },
};

/// Some requests on two connections, one of them split, one sent again, with an operation or a wait that fails.
fn torture(prepare: impl Fn(&Sim)) -> Rig {
    let mut rig = Rig::new(Network { window_bytes: 3_000, ..Network::calm(1) }, 2);
    prepare(&rig.sim);
    rig.collector.will([Do::Take(SOON), Do::Say(413, ""), Do::Take(SOON), Do::Say(503, ""), Do::TakeAndClose("")]);
    for _ in 0..6 {
        rig.until(Duration::from_secs(60), |rig| rig.exporter.has_room());
        rig.submit(10_000);
        rig.pass(SOON / 4);
    }
    rig.until_all_end(Duration::from_secs(120));
    let names: BTreeSet<u64> = rig.ends.iter().map(|(name, _)| *name).collect();
    // Where one met the wrong answer it went in two halves.
    assert!(names.len() == 6 && rig.taken() == rig.ends.len() && rig.taken() <= 7, "{:?}", rig.ends);
    rig
}

#[test]
fn any_operation_may_fail_and_nothing_is_lost() {
    let mut n = 0;
    loop {
        let rig = torture(|sim| sim.fail_nth(n, ErrorKind::OutOfMemory));
        let is_over = rig.sim.operations() <= n;
        rig.finish();
        if is_over {
            break;
        }
        n += 1;
    }
    assert!(n > 30, "there is more to fail than {n}");
}

#[test]
fn any_wait_may_fail_and_nothing_is_lost() {
    let mut n = 0;
    loop {
        let rig = torture(|sim| sim.fail_nth_wait(n));
        let is_over = rig.sim.waits() <= n;
        rig.finish();
        if is_over {
            break;
        }
        n += 1;
    }
    assert!(n > 30, "there is more to fail than {n}");
}

// ---- Single claims.

#[test]
fn what_waits_behind_a_slow_answer_takes_no_turns() {
    let mut rig = calm();
    rig.collector.will([
        Do::Take(Duration::from_secs(4)),
        Do::Say(503, "retry-after: 3\r\n"),
        Do::Take(Duration::from_secs(4)),
    ]);
    rig.submit(100);
    rig.submit(100);
    let waits = rig.sim.waits();
    rig.until_all_end(Duration::from_secs(30));
    assert_eq!(rig.taken(), 2);
    assert!(rig.sim.waits() - waits < 30, "{} waits", rig.sim.waits() - waits);
    rig.finish();
}

/// HTTP-07: not before the time, and not much later; a year is shortened to the maximum.
#[test]
fn http_07_wait_that_the_collector_names_is_kept_with_a_little_jitter() {
    let cases = [
        ("retry-after: 7\r\n", 7),
        ("retry-after: Sun, 06 Nov 1994 08:49:42 GMT\r\n", 5),
        ("retry-after: 31536000\r\n", 30),
        ("retry-after: Mon, 06 Nov 1995 08:49:37 GMT\r\n", 30),
    ];
    for (header, seconds) in cases {
        let mut rig = calm();
        rig.collector.will([Do::Say(503, header)]);
        rig.submit(100);
        rig.until(SOON, |rig| matches!(rig.exporter.condition(), Condition::Troubled(_)));
        let said = rig.driver.now();
        rig.submit(100);
        rig.exporter.hurry();
        rig.until(Duration::from_secs(40), |rig| rig.taken() > 0);
        let (_, second) = rig.arrivals()[1];
        let waited = second.since(said);
        let asked = Duration::from_secs(seconds);
        assert!(waited >= asked, "{header}: {waited:?}");
        assert!(waited <= asked + JITTER_MAX + SOON, "{header}: {waited:?}");
        rig.finish();
    }
}

/// HTTP-07: nothing comes before the pause is over, whoever is answered meanwhile, and however many wait.
#[test]
fn http_07_pause_that_the_collector_asks_for_outlasts_a_success() {
    for header in ["retry-after: 10\r\n", "retry-after: Sun, 06 Nov 1994 08:49:47 GMT\r\n"] {
        let mut rig = Rig::new(Network::calm(3), 4);
        rig.collector.will([Do::Take(Duration::from_secs(1)), Do::Say(429, header)]);
        rig.submit(100);
        rig.pass(SOON / 10);
        rig.submit(100);
        rig.until(Duration::from_secs(2), |rig| rig.taken() == 1);
        let said = rig.arrivals()[1].1;
        while rig.exporter.has_room() {
            rig.submit(100);
        }
        rig.exporter.hurry();
        rig.until_all_end(Duration::from_secs(12));
        let later: Vec<_> = rig.arrivals().split_off(2).into_iter().map(|(_, moment)| moment.since(said)).collect();
        assert!(later.len() == 5 && later.iter().all(|&waited| waited >= Duration::from_secs(10)), "{later:?}");
        rig.finish();
    }
}

/// RFC 9110, section 15.5.14: a 413 may be one for a while.
#[test]
fn http_07_pause_that_comes_with_a_413_holds_for_the_halves() {
    let mut rig = calm();
    rig.collector.will([Do::Say(413, "retry-after: 7\r\n")]);
    rig.submit(100);
    let waited = rig.until_all_end(Duration::from_secs(8));
    assert!(waited >= Duration::from_secs(7), "{waited:?}");
    assert_eq!((rig.taken(), rig.arrivals().len(), rig.exporter.condition()), (2, 3, &Condition::Fine));
    rig.finish();
}

/// A pause beyond the time for all attempts costs nothing: what waits for the collector waits as for one that is away.
#[test]
fn pause_longer_than_the_timeout_costs_no_span() {
    let mut rig = calm();
    rig.collector.will([Do::Say(503, "retry-after: 25\r\n")]);
    rig.submit(100);
    let waited = rig.until_all_end(Duration::from_secs(27));
    assert!(waited >= Duration::from_secs(25) && rig.taken() == 1, "{waited:?}: {:?}", rig.ends);
    rig.finish();
}

#[test]
fn longer_pause_than_is_granted_is_told_once() {
    let mut rig = calm();
    rig.collector.will([Do::Say(503, "retry-after: 3600\r\n")]);
    rig.submit(100);
    rig.until_all_end(Duration::from_secs(32));
    let told = [rig.exporter.take_shortened(), rig.exporter.take_shortened()];
    assert_eq!((told, rig.taken()), ([Some(Duration::from_secs(3600)), None], 1));
    rig.finish();
}

/// A success that began before the last failure says nothing of the collector as it is now; a later one does.
#[test]
fn success_that_began_before_the_last_failure_changes_nothing() {
    let mut rig = Rig::new(Network::calm(3), 2);
    rig.collector.will([Do::Take(Duration::from_secs(1)), Do::Say(503, ""), Do::Say(503, ""), Do::Say(503, "")]);
    rig.submit(100);
    rig.pass(SOON / 10);
    rig.submit(100);
    rig.until(Duration::from_secs(2), |rig| rig.taken() == 1);
    assert!(matches!(rig.exporter.condition(), Condition::Troubled(_)), "{:?}", rig.exporter.condition());
    assert_ne!(rig.exporter.retry_gate.backoff, Backoff::new());
    rig.until_all_end(Duration::from_secs(8));
    assert_eq!((rig.exporter.condition(), &rig.exporter.retry_gate.backoff), (&Condition::Fine, &Backoff::new()));
    rig.collector.will([Do::Say(503, "")]);
    rig.submit(100);
    rig.until(SOON, |rig| rig.exporter.retry_gate.since.is_some());
    rig.exporter.hurry();
    let waited = rig.until_all_end(Duration::from_secs(1));
    assert!(waited < Duration::from_millis(200), "{waited:?}");
    rig.finish();
}

/// The last attempt: whenever the collector comes up in the last half of a shutdown, what waits is delivered, unless
/// too little time was left for an attempt.
#[test]
fn last_attempt_fits_before_the_deadline_of_a_shutdown() {
    const RUNS: u64 = 1_000;
    let mut delivered = 0;
    for seed in 0..RUNS {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let time = Duration::from_millis(500 + random.next_u64() % 9_500);
        let back = time - (time / 2).mul_f64((random.next_u64() % 1_000) as f64 / 1_000.0);
        let mut rig = Rig::new(Network::calm(seed), 1);
        rig.sim.unlisten(&place(PLACE));
        rig.submit(100);
        // An outage that has lasted: the back-off is at its longest.
        rig.pass(Duration::from_secs(60));
        let start = rig.driver.now();
        let deadline = start.after(time);
        rig.exporter.begin_closing();
        let mut is_back = false;
        while rig.driver.now() < deadline && !rig.ends.iter().any(|(_, end)| matches!(end, RequestEnd::Taken(_))) {
            if !is_back && rig.driver.now().since(start) >= back {
                rig.listen();
                is_back = true;
            }
            rig.exporter.awaited(false, Some(deadline), rig.driver.now());
            rig.pass(Duration::from_millis(10));
        }
        let left = time - back;
        delivered += rig.taken();
        // An attempt begins at least every tenth of a second near the end, or after a quarter of what is left.
        assert!(rig.taken() == 1 || left < HURRY_AFTER * 2, "seed {seed}: {left:?} of {time:?} were left");
        rig.finish();
    }
    assert!(delivered > 900, "{delivered} of {RUNS}");
}

/// One request that the collector cannot take holds up none of the others, even over one connection, and is told apart
/// in the end.
#[test]
fn poison_request_holds_up_nobody_and_is_quarantined() {
    for connections_max in [1, 4] {
        let mut rig = Rig::new(Network::calm(3), connections_max);
        let poison = rig.submit(100);
        rig.collector.refuse(poison);
        let start = rig.driver.now();
        let mut others = 0;
        while rig.ends.iter().all(|(name, _)| *name != poison) {
            assert!(rig.driver.now().since(start) < TIMEOUT + SOON, "the poison's time is over");
            if rig.exporter.has_room() {
                rig.submit(100);
                others += 1;
            }
            rig.pass(Duration::from_millis(50));
        }
        let slow = rig.ends.iter().filter(|(_, end)| !matches!(end, RequestEnd::Taken(_))).count();
        assert_eq!((slow, rig.exporter.condition()), (1, &Condition::Fine));
        // One back-off at most passes before another request shows that the collector is well.
        assert!(others >= 150, "{others} others in ten seconds");
        let end = rig.ends.iter().find(|(name, _)| *name == poison);
        assert!(matches!(end, Some((_, RequestEnd::Quarantined { why, .. })) if why.contains("503")), "{end:?}");
        let attempts = rig.arrivals().iter().filter(|(name, _)| *name == poison).count();
        assert!((4..30).contains(&attempts), "{attempts} attempts");
        rig.finish();
    }
}

/// A connection shows that the collector can be reached, whosesoever the failure is that comes after it.
#[test]
fn request_that_fails_by_itself_after_an_outage_has_its_time_and_no_more() {
    let mut rig = calm();
    rig.collector.will([Do::Say(503, "")]);
    let poison = rig.submit(100);
    rig.submit(100);
    rig.until(Duration::from_secs(1), |rig| rig.taken() == 1);
    rig.collector.will([Do::Hold]);
    rig.sim.unlisten(&place(PLACE));
    rig.sim.reset_all();
    rig.until(Duration::from_secs(1), |rig| matches!(rig.exporter.condition(), Condition::Unreachable(_)));
    rig.listen();
    rig.until_all_end(TIMEOUT + Duration::from_secs(1));
    let attempts = rig.arrivals().iter().filter(|(name, _)| *name == poison).count();
    assert_eq!((attempts, rig.unconfirmed()), (2, SPANS));
    rig.finish();
}

/// HTTP-08: those who were told the same at the same time do not come back at the same time.
#[test]
fn http_08_wait_that_the_collector_names_has_jitter() {
    let waits = (0..10).map(|seed| {
        let mut rig = Rig::new(Network::calm(seed), 1);
        rig.collector.will([Do::Say(429, "retry-after: 2\r\n")]);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(4))
    });
    let mut waits: Vec<_> = waits.collect();
    waits.sort_unstable();
    assert!(waits[9] - waits[0] > JITTER_MAX / 4, "{waits:?}");
}

/// HTTP-08: the times at which exporters with neighbouring seeds try again. No two are in step, and the waits grow.
#[test]
fn http_08_exporters_do_not_come_back_in_step_and_wait_longer_each_time() {
    let tries = |seed| {
        let mut rig = Rig::new(Network { delay_max: Duration::from_micros(20), ..Network::calm(seed) }, 1);
        rig.sim.unlisten(&place(PLACE));
        rig.submit(100);
        let mut tries: Vec<Moment> = vec![];
        while tries.len() < 12 {
            let trouble = rig.exporter.retry_gate.since;
            rig.until(Duration::from_secs(60), |rig| rig.exporter.retry_gate.since != trouble);
            tries.extend(rig.exporter.retry_gate.since);
        }
        rig.finish();
        tries
    };
    let all: Vec<_> = (0..20).map(tries).collect();
    for at in 1..12 {
        let mut moments: Vec<_> = all.iter().map(|tries| tries[at]).collect();
        moments.sort_unstable();
        moments.dedup_by(|late, early| late.since(*early) < Duration::from_micros(100));
        assert!(moments.len() >= 18, "try {at} of 20 exporters comes at {moments:?}");
    }
    let wait =
        |at: usize| -> Duration { all.iter().map(|tries| tries[at + 1].since(tries[at])).sum::<Duration>() / 20 };
    assert!(wait(0) < Duration::from_millis(450), "{:?}", wait(0));
    assert!(wait(10) > Duration::from_millis(1_500), "{:?}", wait(10));
}

#[test]
fn attempts_that_fail_together_count_as_one_failure() {
    let mut rig = Rig::new(Network::calm(3), 4);
    rig.collector.will((0..4).map(|_| Do::Hold));
    for _ in 0..4 {
        rig.submit(100);
        rig.pass(SOON);
    }
    assert_eq!(rig.exporter.connections(), 4);
    rig.sim.reset_all();
    rig.until(SOON, |rig| rig.exporter.waiting.len() == 4);
    assert_eq!(rig.exporter.retry_gate.backoff, {
        let mut once = Backoff::new();
        once.next(0);
        once
    });
    // One probe, and the rest once it is answered.
    rig.collector.will([Do::Take(Duration::from_secs(1))]);
    let reset = rig.driver.now();
    rig.pass(Duration::from_millis(900));
    let arrivals = rig.arrivals();
    assert_eq!(arrivals.len(), 5);
    assert!(arrivals[4].1.since(reset) < Duration::from_millis(600), "{arrivals:?}, {reset:?}");
    rig.until_all_end(Duration::from_secs(2));
    assert_eq!((rig.taken(), rig.exporter.repeats()), (4, 4));
    rig.finish();
}

/// A thread that is stopped for long finds the time over, and the answer there: what has come in time is not late.
#[test]
fn peer_is_not_late_while_nobody_looks() {
    let mut rig = calm();
    rig.warm_up();
    rig.submit(100);
    let now = rig.driver.now();
    for later in [Duration::ZERO, TIMEOUT] {
        rig.exporter.turn(&mut rig.driver, now.after(later), &mut vec![]);
    }
    rig.until_all_end(SOON);
    assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.connections()), (2, 0, 1));
    rig.finish();
}

/// As above, where the stop begins in a wait, and the signal that ends it ends the wait as well, without a look.
#[test]
fn answer_that_came_while_a_wait_was_stopped_is_taken() {
    for answer_after in [SOON, TIMEOUT - SOON] {
        let mut rig = calm();
        rig.warm_up();
        rig.collector.will([Do::Take(answer_after)]);
        rig.submit(100);
        rig.until(SOON, |rig| rig.arrivals().len() == 2);
        rig.sim.stop_in_wait(TIMEOUT + SOON);
        rig.until_all_end(TIMEOUT + SOON * 2);
        assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.connections()), (2, 0, 1), "{:?}", rig.ends);
        rig.finish();
    }
}

/// An address that is tried after a stop has all of its time from then on.
#[test]
fn try_that_begins_after_a_stop_is_not_late() {
    let mut rig = Rig::at("localhost:4318", "127.0.0.1:4318", Network::calm(5), 1);
    rig.sim.ignore(place("[::1]:4318"));
    rig.submit(100);
    // The wait ends as the second address is due, and the thread is stopped there.
    rig.pass(Duration::from_millis(250));
    rig.sim.stop(Duration::from_secs(4));
    let waited = rig.until_all_end(Duration::from_secs(1));
    assert!(waited < SOON && rig.exporter.retry_gate.since.is_none(), "{waited:?}: {:?}", rig.exporter);
    assert_eq!((rig.taken(), rig.collector.seen().connections), (1, 1));
    rig.finish();
}

/// Idle connections go while an answer hangs, but not those that a request waits for.
#[test]
fn answer_that_hangs_holds_up_no_other_request() {
    let mut rig = Rig::new(Network::calm(3), 2);
    rig.collector.will([Do::Hold]);
    rig.submit(100);
    rig.pass(Duration::from_secs(6));
    for others in 1..=3 {
        rig.submit(100);
        rig.until(SOON, |rig| rig.taken() == others);
    }
    assert!(rig.collector.seen().connections <= 4, "{} connections", rig.collector.seen().connections);
    rig.until_all_end(TIMEOUT);
    rig.finish();
}

/// What is to show that a collector is back may meet a connection that is dead, while others work.
#[test]
fn probe_that_hangs_holds_up_the_others_no_longer_than_a_stall() {
    let mut rig = Rig::new(Network::calm(3), 2);
    rig.collector.will([Do::Say(503, ""), Do::Hold]);
    rig.submit(100);
    rig.until(SOON, |rig| matches!(rig.exporter.condition(), Condition::Troubled(_)));
    rig.submit(100);
    rig.submit(100);
    rig.until(Duration::from_secs(6), |rig| rig.taken() == 2);
    assert_eq!((rig.exporter.pending(), rig.exporter.condition()), (1, &Condition::Fine));
    rig.until_all_end(TIMEOUT);
    rig.finish();
}

/// HTTP-09, HTTP-15: while its connection lives, an attempt may use all the time, and nothing is sent again.
#[test]
fn http_15_answer_may_take_all_the_time_and_nothing_is_sent_twice() {
    let mut rig = calm();
    rig.collector.will([Do::Take(TIMEOUT - SOON)]);
    rig.submit(5_000);
    rig.until_all_end(TIMEOUT);
    assert_eq!((rig.taken(), rig.exporter.repeats(), rig.arrivals().len()), (1, 0, 1));
    rig.finish();
    for hung in [Do::Hold, Do::TakeSlowly(Duration::from_secs(3))] {
        let mut rig = calm();
        rig.collector.will([hung.clone()]);
        rig.submit(5_000);
        let waited = rig.until_all_end(TIMEOUT + SOON);
        assert!(waited >= TIMEOUT && matches!(rig.ends[..], [(1, RequestEnd::Expired(_))]), "{hung:?}: {:?}", rig.ends);
        assert_eq!((rig.exporter.repeats(), rig.arrivals().len()), (0, 1), "{hung:?}");
        rig.finish();
    }
}

/// HTTP-15: a peer that leaves a request or a reply half-way is left after five seconds, also where an answer may take
/// longer.
#[test]
fn http_15_peer_that_stalls_half_way_is_left_before_one_that_thinks() {
    let stall = Duration::from_secs(5);
    for hung in [Do::Stop, Do::TakeSlowly(Duration::from_secs(6))] {
        let mut rig = Rig::new(Network { window_bytes: 2_000, ..Network::calm(5) }, 1);
        rig.exporter.settings.timeout = Duration::from_secs(60);
        rig.collector.will([hung.clone()]);
        rig.submit(5_000);
        let waited = rig.until_all_end(Duration::from_secs(60));
        assert!(waited >= stall && waited < stall + Duration::from_secs(1), "{hung:?}: {waited:?}");
        assert_eq!((rig.taken(), rig.exporter.repeats()), (1, 1), "{hung:?}");
        rig.finish();
    }
    // A reply that takes half a minute, but not five seconds without a byte; and one after an interim reply.
    for (slow, waited_min) in [(Do::TakeSlowly(Duration::from_secs(4)), 20), (Do::TakeAfterInterim(TIMEOUT), 10)] {
        let mut rig = calm();
        rig.exporter.settings.timeout = Duration::from_secs(120);
        rig.collector.will([slow]);
        rig.submit(100);
        let waited = rig.until_all_end(Duration::from_secs(60));
        assert!(waited >= Duration::from_secs(waited_min), "{waited:?}");
        assert_eq!((rig.taken(), rig.exporter.repeats()), (1, 0));
        rig.finish();
    }
}

/// What the head of a reply says holds, though the body breaks off, stalls or is no body: nothing is sent again.
#[test]
fn head_of_a_reply_says_what_became_of_the_request() {
    let bodies = [
        ("content-length: 9\r\n\r\nfour", true),
        ("content-length: 9\r\n\r\nfour", false),
        ("transfer-encoding: chunked\r\n\r\nzz\r\n", true),
    ];
    for (status, (body, ends)) in [200, 400].into_iter().flat_map(|status| bodies.map(|body| (status, body))) {
        let mut rig = calm();
        rig.collector.will([Do::SayRaw(format!("HTTP/1.1 {status} Said\r\n{body}"), ends)]);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(6));
        let [(1, end)] = &rig.ends[..] else { panic!("{:?}", rig.ends) };
        match end {
            RequestEnd::Taken(reply) => assert!(status == 200 && !reply.is_whole(), "{reply:?}"),
            RequestEnd::Refused { status: Some(400), .. } => assert_eq!(status, 400),
            other => panic!("{status} {body:?}: {other:?}"),
        }
        assert_eq!(rig.arrivals().len(), 1, "{status} {body:?}");
        rig.finish();
    }
}

/// HTTP-15: all attempts together, however many they are.
#[test]
fn http_15_all_attempts_together_take_no_longer_than_the_timeout() {
    let mut rig = calm();
    rig.collector.will((0..1000).map(|_| Do::Say(503, "")));
    rig.submit(100);
    let waited = rig.until_all_end(TIMEOUT + SOON);
    assert!(waited >= TIMEOUT && rig.exporter.repeats() > 3, "{waited:?}, {}", rig.exporter.repeats());
    assert!(matches!(&rig.ends[..], [(1, RequestEnd::Expired(why))] if why.contains("503")), "{:?}", rig.ends);
    rig.finish();
}

#[test]
fn nothing_is_given_up_while_the_collector_cannot_be_reached() {
    let mut rig = calm();
    rig.collector.will([Do::Say(503, "")]);
    rig.submit(100);
    rig.until(SOON, |rig| rig.exporter.retry_gate.since.is_some());
    rig.sim.unlisten(&place(PLACE));
    rig.sim.reset_all();
    rig.pass(Duration::from_secs(3600));
    assert_eq!((rig.exporter.pending(), rig.ends.len()), (1, 0));
    assert!(matches!(rig.exporter.condition(), Condition::Unreachable(_)));
    rig.finish();
}

/// HTTP-10: a peer may close a connection at the moment at which it is used again; the first time that costs nothing.
#[test]
fn http_10_request_that_met_a_stale_connection_is_sent_again_at_once_and_once() {
    let mut rig = calm();
    rig.warm_up();
    rig.collector.will([Do::Reset]);
    rig.submit(100);
    let waited = rig.until_all_end(SOON);
    assert!(waited < SOON, "{waited:?}");
    assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.condition()), (2, 1, &Condition::Fine));
    // The fresh connection is no excuse a second time.
    rig.collector.will([Do::Reset, Do::Reset]);
    rig.submit(100);
    rig.until(SOON, |rig| matches!(rig.exporter.condition(), Condition::Troubled(_)));
    rig.until_all_end(Duration::from_secs(1));
    assert_eq!(rig.taken(), 3);
    rig.finish();
}

/// HTTP-10: a peer that closes long after the request came has not closed an idle connection: it may have taken it.
#[test]
fn http_10_connection_that_breaks_after_a_while_is_no_stale_one() {
    for (silence, is_stale) in [(STALE_MAX - SOON, true), (STALE_MAX + SOON, false)] {
        let mut rig = calm();
        rig.warm_up();
        rig.collector.will([Do::Hold]);
        rig.submit(100);
        rig.pass(silence);
        rig.sim.reset_all();
        rig.until(SOON, |rig| rig.exporter.connections() == 0);
        assert_eq!(rig.exporter.retry_gate.since.is_none(), is_stale, "{silence:?}");
        assert_eq!(rig.exporter.condition() == &Condition::Fine, is_stale, "{silence:?}");
        rig.until_all_end(Duration::from_secs(1));
        assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.duplicates_max()), (2, 1, SPANS as u64));
        rig.finish();
    }
}

/// HTTP-10: a server that no longer waits for a request may say so (408) at the moment at which one comes.
#[test]
fn http_10_request_that_met_a_stale_408_is_sent_again_at_once_and_once() {
    for len in [100, 100_000] {
        let mut rig = calm();
        rig.warm_up();
        rig.collector.will([if len == 100 {
            Do::Say(408, "connection: close\r\n")
        } else {
            Do::SayEarlyAndClose(408)
        }]);
        rig.submit(len);
        let waited = rig.until_all_end(SOON);
        assert!(waited < SOON, "{waited:?}");
        assert_eq!((rig.taken(), rig.exporter.repeats(), rig.exporter.condition()), (2, 1, &Condition::Fine));
        assert_eq!(rig.exporter.duplicates_max(), 0, "a 408 is an answer: the request was not read");
        // On a fresh connection the words are meant for this request.
        rig.collector.will([Do::Say(408, "connection: close\r\n"), Do::Say(408, "connection: close\r\n")]);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert!(matches!(rig.ends.last(), Some((_, RequestEnd::Refused { status: Some(408), .. }))), "{:?}", rig.ends);
        assert_eq!(rig.exporter.repeats(), 2);
        rig.finish();
    }
}

/// A 408 that keeps the connection alive, or names a time, is about this request: it is not sent again, whoever took
/// it.
#[test]
fn http_10_408_that_is_no_farewell_is_a_refusal() {
    let cases =
        [Do::Say(408, ""), Do::Say(408, "retry-after: 9\r\n"), Do::Say(408, "connection: close\r\nretry-after: 9\r\n")];
    for answer in cases {
        let mut rig = calm();
        rig.warm_up();
        rig.collector.will([answer.clone()]);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert!(matches!(rig.ends.last(), Some((_, RequestEnd::Refused { status: Some(408), .. }))), "{:?}", rig.ends);
        assert_eq!((rig.exporter.repeats(), rig.arrivals().len()), (0, 2), "{answer:?}");
        rig.finish();
    }
}

/// HTTP-14.
#[test]
fn http_14_connections_grow_while_all_are_busy_and_go_when_idle() {
    let mut rig = Rig::new(Network::calm(5), 4);
    rig.warm_up();
    rig.collector.will((0..8).map(|_| Do::Take(Duration::from_secs(2))));
    for _ in 0..5 {
        assert!(rig.exporter.has_room());
        rig.submit(100);
    }
    rig.pass(SOON);
    assert!(!rig.exporter.has_room());
    assert_eq!((rig.exporter.connections(), rig.exporter.pending()), (4, 5));
    rig.until_all_end(Duration::from_secs(5));
    assert_eq!((rig.exporter.connections(), rig.collector.seen().connections), (4, 4));
    rig.pass(IDLE_MAX * 3);
    assert_eq!(rig.exporter.connections(), 1);
    rig.finish();
}

#[test]
fn further_connection_that_cannot_be_had_is_no_trouble() {
    let mut rig = Rig::new(Network::calm(5), 4);
    rig.warm_up();
    rig.sim.unlisten(&place(PLACE));
    rig.collector.will((0..5).map(|_| Do::Take(Duration::from_secs(1))));
    for _ in 0..5 {
        rig.submit(100);
    }
    let waits = rig.sim.waits();
    rig.pass(Duration::from_millis(500));
    assert_eq!((rig.exporter.condition(), rig.collector.seen().arrivals.len()), (&Condition::Fine, 2));
    rig.until_all_end(Duration::from_secs(6));
    assert_eq!((rig.exporter.condition(), rig.taken(), rig.exporter.connections()), (&Condition::Fine, 6, 1));
    assert!(rig.sim.waits() - waits < 60);
    rig.finish();
}

#[test]
fn flush_cuts_the_back_off_short_but_cannot_hammer() {
    let mut rig = calm();
    rig.sim.unlisten(&place(PLACE));
    rig.submit(100);
    rig.pass(Duration::from_secs(120));
    let mut tries = BTreeSet::new();
    for _ in 0..1_000 {
        rig.exporter.hurry();
        rig.pass(Duration::from_millis(1));
        tries.extend(rig.exporter.retry_gate.since.map(Moment::nanos));
    }
    assert!((5..=11).contains(&tries.len()), "{} tries in a second", tries.len());
    rig.finish();
}

#[test]
fn parts_keep_the_number_of_the_whole_and_come_first() {
    let mut rig = calm();
    rig.collector.will([Do::Take(SOON), Do::Say(413, "")]);
    let first = rig.submit(100);
    let large = rig.submit(100);
    rig.until(Duration::from_secs(1), |rig| rig.exporter.oldest_pending() == Some(large));
    let later = rig.submit(100);
    rig.until(Duration::from_secs(1), |rig| rig.exporter.pending() == 3);
    assert_eq!(rig.exporter.spans(), SPANS * 2);
    assert_eq!((rig.exporter.oldest_pending(), rig.exporter.last_submitted()), (Some(large), later));
    rig.until_all_end(Duration::from_secs(1));
    let order: Vec<u64> = rig.arrivals().into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, [first, large, large, large, later]);
    rig.finish();
}

#[test]
fn address_that_nobody_answers_is_left_for_the_next_and_named_as_such() {
    let mut rig = Rig::at("localhost:4318", "127.0.0.1:4318", Network::calm(5), 1);
    rig.sim.ignore(place("[::1]:4318"));
    rig.submit(100);
    let waited = rig.until_all_end(Duration::from_secs(1));
    assert!(waited < Duration::from_millis(300), "{waited:?}");
    rig.finish();

    let mut rig = calm();
    rig.sim.ignore(place(PLACE));
    rig.submit(100);
    rig.until(Duration::from_secs(4), |rig| rig.exporter.retry_gate.since.is_some());
    let Condition::Unreachable(why) = rig.exporter.condition() else { panic!("{:?}", rig.exporter.condition()) };
    assert_eq!(
        why,
        "10.0.0.1:4318: no answer within 3 s: check that the collector is listening there and that no firewall blocks it"
    );
    rig.finish();

    let mut rig = Rig::at("localhost:4318", PLACE, Network::calm(5), 1);
    rig.sim.ignore(place("[::1]:4318"));
    rig.submit(100);
    let waited = rig.until(Duration::from_secs(4), |rig| rig.exporter.retry_gate.since.is_some());
    assert!(waited >= Duration::from_secs(3), "the first has its time, though the second is refused: {waited:?}");
    let Condition::Unreachable(why) = rig.exporter.condition() else { panic!("{:?}", rig.exporter.condition()) };
    assert!(why.starts_with("127.0.0.1:4318: ") && why.contains("; [::1]:4318: no answer within 3 s: check"), "{why}");
    rig.finish();
}

/// An early refusal counts, an early success is none. In both cases the connection has a rest of the request in it.
#[test]
fn early_answer_ends_the_exchange_and_the_connection() {
    for (status, repeats) in [(200, 1), (503, 1), (400, 0)] {
        let mut rig = Rig::new(Network { window_bytes: 2_000, ..Network::calm(5) }, 1);
        rig.warm_up();
        rig.collector.will([Do::SayEarly(status)]);
        rig.submit(9_000);
        rig.until_all_end(Duration::from_secs(1));
        let (taken, connections) = (rig.taken(), rig.collector.seen().connections);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert_eq!(rig.exporter.repeats(), repeats, "{status}");
        assert_eq!((taken, connections + 1 - taken), (1 + usize::try_from(repeats).unwrap_or(0), 1), "{status}");
        assert_eq!((rig.taken(), rig.collector.seen().connections), (taken + 1, 2), "{status}");
        rig.finish();
    }
}

/// A success that ends with the connection is none either, where the request had not been sent.
#[test]
fn early_success_that_ends_with_the_connection_is_not_believed() {
    for (status, repeats) in [(200, 1), (503, 1), (400, 0)] {
        let mut rig = Rig::new(Network { window_bytes: 2_000, ..Network::calm(5) }, 1);
        rig.collector.will([Do::SayEarlyAndClose(status)]);
        rig.submit(90_000);
        rig.until_all_end(Duration::from_secs(1));
        assert_eq!((rig.exporter.repeats(), rig.taken()), (repeats, usize::from(repeats > 0)), "{status}");
        rig.finish();
    }
}

/// What cannot be read as an answer leaves open whether the request was taken, unless the peer speaks another protocol.
#[test]
fn answer_that_cannot_be_read_leaves_doubt_and_another_protocol_none() {
    let unread = [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ];
    let interims = Do::TakeAfterInterims(9, Duration::from_millis(1));
    let doubtful = unread.map(|words| (Do::TakeAndSayRaw(words, false), SPANS)).into_iter().chain([(interims, SPANS)]);
    for (answer, unconfirmed) in doubtful.chain([(Do::Garble, 0)]) {
        let mut rig = calm();
        rig.collector.will([answer.clone()]);
        rig.submit(100);
        rig.until_all_end(Duration::from_secs(1));
        assert!(matches!(rig.ends[..], [(1, RequestEnd::Refused { status: None, .. })]), "{answer:?}: {:?}", rig.ends);
        assert_eq!((rig.unconfirmed(), rig.arrivals().len()), (unconfirmed, 1), "{answer:?}");
        rig.finish();
    }
}

/// Who has spoken HTTP on a connection speaks no other protocol, whatever comes then, and may have taken the request.
#[test]
fn foreign_bytes_after_words_of_http_leave_doubt() {
    let cases = [
        (true, "stray rest of a body\n"),
        (true, "\u{16}\u{3}\u{3}"),
        (false, "HTTP/1.1 102 Processing\r\n\r\nstray\n"),
        (false, "HTTP/1.1 102 Processing\r\n\r\n\u{16}\u{3}\u{3}"),
    ];
    for (is_used, words) in cases {
        let mut rig = calm();
        if is_used {
            rig.warm_up();
        }
        rig.collector.will([Do::TakeAndSayRaw(words, false)]);
        rig.submit(100);
        rig.until_all_end(SOON);
        assert!(matches!(rig.ends.last(), Some((_, RequestEnd::Refused { status: None, .. }))), "{:?}", rig.ends);
        assert_eq!((rig.unconfirmed(), rig.exporter.repeats()), (SPANS, 0), "{words:?}");
        rig.finish();
    }
}

/// A collector that hangs, or has gone, leaves all its connections behind: trying them one by one would take all the
/// time.
#[test]
fn idle_connections_of_a_peer_that_failed_are_not_tried_one_by_one() {
    for fault in [Do::Hold, Do::Reset] {
        let mut rig = Rig::new(Network::calm(5), 4);
        rig.collector.will((0..4).map(|_| Do::Take(SOON)));
        (0..4).for_each(|_| _ = rig.submit(100));
        rig.until_all_end(Duration::from_secs(1));
        assert_eq!(rig.exporter.connections(), 4);
        rig.collector.will([fault]);
        rig.submit(100);
        rig.until_all_end(TIMEOUT + SOON);
        rig.submit(100);
        let waited = rig.until_all_end(Duration::from_secs(1));
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        assert_eq!((rig.exporter.connections(), rig.collector.seen().connections), (1, 5));
        rig.finish();
    }
}

#[test]
fn connection_that_brought_too_much_is_not_used_again() {
    let mut rig = calm();
    rig.collector.will([Do::TakeAndBabble]);
    for connections in 1..=2 {
        rig.submit(100);
        rig.until_all_end(SOON);
        assert_eq!(rig.collector.seen().connections, connections);
    }
    rig.finish();
}

/// What comes before a byte of the request has left is not its answer, and must not cost its spans.
#[test]
fn answer_to_what_was_not_asked_is_not_believed() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", ""),
        // The SETTINGS of a gRPC port.
        (
            "\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0",
            ": the peer speaks HTTP/2, as a gRPC port does: use its port for OTLP over HTTP, usually 4318",
        ),
    ];
    for (words, what) in cases {
        let mut rig = Rig::new(Network { window_bytes: 0, ..Network::calm(5) }, 1);
        rig.collector.will([Do::Greet(words)]);
        rig.submit(100);
        rig.until(SOON, |rig| rig.exporter.retry_gate.since.is_some());
        let Condition::Troubled(why) = rig.exporter.condition() else { panic!("{:?}", rig.exporter.condition()) };
        assert_eq!(*why, format!("the peer spoke before it was asked{what}"));
        rig.sim.change(Network::calm(5));
        rig.until_all_end(Duration::from_secs(1));
        assert_eq!(rig.taken(), 1);
        rig.finish();
    }
}
