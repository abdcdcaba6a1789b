//! What the ledger has to say, by what the collector has seen of each span.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use spanring::testing::collector::{Act, Close, Ids, Note};

use super::{Seen, Sight, plan::GATEWAY_FAILURES};

// The columns of the ledger that a span may end in.
const EXPORTED: u8 = 1;
const UNCONFIRMED: u8 = 2;
const REJECTED: u8 = 4;
const PARTIALLY_REJECTED: u8 = 8;
const OVERSIZE: u8 = 16;
/// Of three causes, which only the exporter can tell apart.
const GIVEN_UP: u8 = 32;
const COLUMNS: usize = 6;

/// What is wrong with a run, if something is.
pub fn judge(seen: &Seen<'_>) -> Result<(), String> {
    let known: HashSet<_> = seen.recorded.iter().collect();
    let stranger = seen.notes.iter().flat_map(|note| &note.ids).find(|ids| !known.contains(ids));
    ensure(stranger.is_none(), || format!("nobody recorded {stranger:?}"))?;
    let histories = histories(seen)?;
    columns(seen, &histories)?;
    copies(seen, &histories)?;
    pauses(seen)?;
    connections(seen)?;
    in_hand(seen)
}

fn ensure(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// What became of one span, as far as the collector knows.
#[derive(Clone, Copy, Debug)]
struct History {
    /// The column that the answers put it in.
    column: u8,
    /// Whether an attempt was sent whole and not answered, or only by a gateway.
    is_doubtful: bool,
    /// How often it came again after such an attempt.
    copies: u64,
    last: Option<usize>,
}

/// Follows each span through its attempts. Nothing is sent again after an answer that forbids it, nor while an answer
/// may come.
fn histories(seen: &Seen<'_>) -> Result<HashMap<Ids, History>, String> {
    let unsent = History { column: GIVEN_UP, is_doubtful: false, copies: 0, last: None };
    let mut histories: HashMap<_, _> = seen.recorded.iter().map(|&ids| (ids, unsent)).collect();
    for (at, note) in seen.notes.iter().enumerate() {
        for (place, ids) in note.ids.iter().enumerate() {
            let History { column, is_doubtful, copies, last } = histories[ids];
            if let Some(last) = last.map(|last| &seen.notes[last]) {
                let is_part =
                    last.turn.act != Act::CallTooLarge || last.answered.is_none() || note.ids.len() < last.ids.len();
                ensure(column == GIVEN_UP && is_part, || format!("sent again after {:?}: request {at}", last.turn))?;
                let is_over = last.answering.is_some_and(|answering| answering < note.began);
                let may_come = seen.plan.sight == Sight::Full && !is_over;
                ensure(!may_come, || format!("request {at} is sent again while an answer may come"))?;
            }
            let is_last = note.ids.len() - place;
            // What ends the collector, or its client, may end an answer.
            let is_answered = note.turn.is_answer() && note.answered.is_some();
            let column = match note.turn.act {
                _ if !is_answered => GIVEN_UP,
                Act::TakeAllBut(rejected) if note.turn.close != Close::InBody && is_last as u64 <= rejected => {
                    PARTIALLY_REJECTED
                }
                Act::Take | Act::TakeAllBut(_) => EXPORTED,
                Act::Refuse => REJECTED,
                Act::CallTooLarge if note.ids.len() == 1 => OVERSIZE,
                Act::CallTooLarge | Act::PutOff(..) | Act::TakeAndPutOff(_) | Act::Leave(..) => GIVEN_UP,
            };
            let copies = copies + u64::from(is_doubtful);
            // A gateway that fails does not know whether its upstream took the request.
            let is_hearsay = note.turn.status_of_delay().is_some_and(|status| GATEWAY_FAILURES.contains(&status));
            let is_doubtful = is_doubtful || !is_answered || is_hearsay;
            histories.insert(*ids, History { column, is_doubtful, copies, last: Some(at) });
        }
    }
    Ok(histories)
}

impl History {
    /// The columns that it may be in.
    fn columns(&self, sight: Sight) -> u8 {
        let column = if self.is_doubtful && self.column != EXPORTED { UNCONFIRMED } else { self.column };
        match sight {
            Sight::Full => column,
            // The answer may have come a moment too late, or not all of the request before its time was over.
            Sight::Partial => column | UNCONFIRMED,
        }
    }
}

/// Each span is in a column that it may be in: what may only be in some of the columns is not more than is there, for
/// any choice of columns.
fn columns(seen: &Seen<'_>, histories: &HashMap<Ids, History>) -> Result<(), String> {
    let ledger = &seen.ledger;
    let given_up = ledger.lost.retry_expired + ledger.lost.quarantined + ledger.lost.shutdown_deadline;
    let amounts: [u64; COLUMNS] = [
        ledger.exported,
        ledger.unconfirmed,
        ledger.lost.rejected,
        ledger.lost.partially_rejected,
        ledger.lost.oversize,
        given_up,
    ];
    let is_whole = ledger.is_closed() && amounts.iter().sum::<u64>() == seen.recorded.len() as u64;
    ensure(is_whole, || "not all spans are in these columns".into())?;
    for chosen in 0..1_u8 << COLUMNS {
        let there: u64 = (0..COLUMNS).filter(|column| chosen >> column & 1 == 1).map(|column| amounts[column]).sum();
        let spans = histories.values().filter(|history| history.columns(seen.plan.sight) & !chosen == 0).count() as u64;
        ensure(spans <= there, || {
            let columns = ["exported", "unconfirmed", "rejected", "partially rejected", "oversize", "given up"];
            let names: Vec<_> = (0..COLUMNS).filter(|at| chosen >> at & 1 == 1).map(|at| columns[at]).collect();
            format!("{spans} spans are {}, and the ledger has {there}", names.join(" or "))
        })?;
    }
    Ok(())
}

/// What came more than once is explained, by requests and by spans.
fn copies(seen: &Seen<'_>, histories: &HashMap<Ids, History>) -> Result<(), String> {
    let (ledger, tally) = (&seen.ledger, &seen.tally);
    let copies: u64 = histories.values().map(|history| history.copies).sum();
    let duplicates_max = ledger.duplicates_max;
    // An attempt whose time is over may not have come whole.
    let is_exact = seen.plan.sight == Sight::Full;
    let is_counted = if is_exact { duplicates_max == copies } else { duplicates_max >= copies };
    ensure(is_counted, || format!("{copies} spans came again in doubt, and the ledger has {duplicates_max}"))?;
    let is_explained = tally.ids_seen_twice <= duplicates_max;
    ensure(is_explained, || format!("{} spans were taken twice, of {duplicates_max}", tally.ids_seen_twice))?;
    let most = ledger.exported + ledger.unconfirmed + duplicates_max;
    ensure((ledger.exported..=most).contains(&tally.spans), || format!("{} spans were taken", tally.spans))?;
    let repeats = seen.repeats;
    let is_counted = if is_exact { repeats == tally.resends } else { repeats >= tally.resends };
    ensure(is_counted, || format!("{} requests came again, and {repeats} are counted", tally.resends))
}

/// Nothing leaves before the time that was asked for, but for what is under way when the client hears of it: one
/// request on each other connection, and another one if the answer and its end are two things to hear of.
fn pauses(seen: &Seen<'_>) -> Result<(), String> {
    for (at, note) in seen.notes.iter().enumerate() {
        let (Some(answering), Some(answered), Some(until)) = (note.answering, note.answered, note.pause_until) else {
            continue;
        };
        let until = until.min(answering + seen.plan.retry_after_max);
        let early: Vec<_> = (seen.notes.iter()).filter(|other| other.began > answered && other.began < until).collect();
        let waited: Vec<Duration> = early.iter().map(|other| other.began - answered).collect();
        let is_heard = early.iter().all(|other| other.connection != note.connection);
        let rounds = if note.turn.close == Close::InBody { 2 } else { 1 };
        ensure(is_heard && early.len() <= rounds * (seen.plan.connections_max - 1), || {
            format!("request {at} asks for a pause of {:?}, and others come after {waited:?}", until - answering)
        })?;
    }
    Ok(())
}

/// A connection is left after a 502, 503 or 504: another one may lead to a server that is well.
fn connections(seen: &Seen<'_>) -> Result<(), String> {
    for (at, note) in seen.notes.iter().enumerate() {
        let is_left = note.turn.status_of_delay().is_some_and(|status| !status.starts_with("429"));
        let next = seen.notes[at + 1..].iter().find(|next| next.connection == note.connection);
        ensure(!is_left || next.is_none(), || format!("request {at} is put off, and its connection used again"))?;
    }
    Ok(())
}

/// Never more requests are in hand than there may be connections.
fn in_hand(seen: &Seen<'_>) -> Result<(), String> {
    if seen.plan.sight == Sight::Partial {
        return Ok(());
    }
    let is_under_way =
        |note: &Note, when: Instant| note.began <= when && note.answering.is_none_or(|answering| when < answering);
    for note in seen.notes {
        let requests = seen.notes.iter().filter(|other| is_under_way(other, note.began)).count();
        ensure(requests <= seen.plan.connections_max, || format!("{requests} requests are in hand"))?;
    }
    Ok(())
}
