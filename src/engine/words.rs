//! How the worker words what it finds.

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
