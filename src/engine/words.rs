//! How the worker words what it finds.

use std::time::Duration;

use crate::{
    notice::counted,
    report::{Drops, Health},
    transport::client::condition::Condition,
};

/// What these drops come of, and what helps.
pub(super) fn dropped(Drops { starts, ends }: Drops) -> String {
    let ends = (ends > 0).then(|| {
        let spans = counted(ends, "span was", "spans were");
        format!(
            "{spans} dropped because the memory for them is full: raise memory_budget, sample, or check why the \
             collector does not keep up"
        )
    });
    let starts = (starts > 0).then(|| {
        let spans = counted(starts, "span was", "spans were");
        format!(
            "{spans} not recorded because the memory for open spans is full: they are open for long, or too many are \
             open at once; end them sooner, or raise memory_budget"
        )
    });
    ends.into_iter().chain(starts).collect::<Vec<_>>().join("; ")
}

/// What a collector's limit means for the next requests.
pub(super) fn too_large(refused_bytes: usize, learnt: usize) -> String {
    let why = if learnt < refused_bytes { "" } else { ", the least that is tried" };
    format!("the collector takes no request of {refused_bytes} bytes; the next have at most {learnt}{why}")
}

/// What a collector gets that asks for this pause.
pub(super) fn shortened(asked: Duration, max: Duration) -> String {
    let [asked, max] = [asked, max].map(lasting);
    format!("the collector asks for a pause of {asked}, and gets {max}, which is `retry_after_max`")
}

/// A time as people say it: `250 ms`, `1.6 s`, `90 s`, `45 min`, `30 h`, `365 days`, and no number for what is absurd.
pub(super) fn lasting(time: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..=120 => format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0),
        seconds if seconds <= 2 * HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds <= 2 * DAY => format!("{} h", seconds / HOUR),
        seconds if seconds <= 2 * 365 * DAY => format!("{} days", seconds / DAY),
        _ => "years".into(),
    }
}

/// What a failed reload of the certificates means.
pub(super) fn stale(why: &str) -> String {
    format!("the new certificates cannot be used, those of before stay in use until they expire: {why}")
}

/// What the collector's condition, and further complaints, come to.
pub(super) fn health<'a>(condition: &'a Condition, complaints: impl Iterator<Item = &'a str>) -> Health {
    let with = |why: Option<&'a String>| {
        let all: Vec<&str> = why.map(String::as_str).into_iter().chain(complaints).collect();
        all.join("; ")
    };
    match condition {
        Condition::Unknown => Health::Starting,
        Condition::Fine => Some(with(None)).filter(|why| !why.is_empty()).map_or(Health::Healthy, Health::Degraded),
        Condition::Troubled(why) | Condition::Refusing(why) => Health::Degraded(with(Some(why))),
        Condition::Unreachable(why) => Health::Down(with(Some(why))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let said = [
            (0, "0 ms"),
            (250, "250 ms"),
            (1_600, "1.6 s"),
            (30_000, "30 s"),
            (90_999, "91 s"),
            (3_600_000, "60 min"),
            (30 * 3_600_000, "30 h"),
            (365 * 86_400_000, "365 days"),
            (2_275_044_136_632, "years"),
            (u64::MAX, "years"),
        ];
        for (millis, text) in said {
            assert_eq!(lasting(Duration::from_millis(millis)), text);
        }
        let text = "the collector asks for a pause of 60 min, and gets 30 s, which is `retry_after_max`";
        assert_eq!(shortened(Duration::from_secs(3_600), Duration::from_secs(30)), text);
    }
}
