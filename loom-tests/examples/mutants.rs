//! Breaks the library in one place at a time, and requires that the model of that place fails.
//!
//! A model that passes proves something only if it fails where it should. Each row of [`MUTANTS`] is a mistake that
//! somebody could make; the row names the model that must find it. The mutants are made in a copy of the repository.
//! `cargo run --release --example mutants lease` tries those of one model.
//!
//! Not in the list, because loom cannot find them, or because they are none:
//!
//! * `Ring::tail` with Relaxed. Only the number is used; the reader loads the tail itself, with Acquire, before it
//!   reads.
//! * `Stack::pop`'s exchange with Relaxed on success. The head that it confirms was loaded with Acquire, and never
//!   recurs.
//! * `Spill::close` with Relaxed. A read-modify-write continues the release sequence of the pushes before it.
//! * `Spill::put_back` with Relaxed. Its exchange continues the release of whoever pushed the block, and the link is
//!   for the next reader, which comes by [reader].
//! * `Ring::give_back` looking with Relaxed: every writer's last bytes come with the tail that the reader went to.
//! * `Lanes::settle` finding the lanes settled with Relaxed: what it guards are counts, which bring their own Acquire.
//! * The exchange of `Lanes::settle` with Relaxed on success. loom never moves a later access before an earlier one,
//!   and the load before the exchange has the Acquire already.
//! * `Goal::heed` that lets a later flush take the place of one under way: both are answered, the first one later.
//! * An exchange with a weak failure ordering where the failed value is only the next guess: loom's failed exchange
//!   always finds the newest value.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use spanring_loom::FIRST_PANIC_ENDS;

/// One mistake.
struct Mutant {
    /// What is wrong.
    name: &'static str,
    /// The model that must fail.
    model: &'static str,
    /// The test of it that finds the mistake soonest, where others take long; else empty.
    test: &'static str,
    /// The file in `src/`.
    file: &'static str,
    /// Which occurrence of `from` is meant, from one; `ONLY` when there must be one.
    nth: usize,
    /// What to replace. Spaces and line ends do not count.
    from: &'static str,
    to: &'static str,
}

const ONLY: usize = 0;

/// Shorthand for one row of the table.
const fn mutant(
    model: &'static str,
    name: &'static str,
    file: &'static str,
    nth: usize,
    [from, to]: [&'static str; 2],
) -> Mutant {
    Mutant { name, model, test: "", file, nth, from, to }
}

impl Mutant {
    /// Must fail in this test; the rest of the model is not run.
    const fn in_test(self, test: &'static str) -> Self {
        Self { test, ..self }
    }
}

const ALARM: &str = "lane/alarm.rs";
const RING: &str = "lane/ring.rs";
const SPILL: &str = "lane/spill.rs";
const STACK: &str = "lane/stack.rs";
const BLOCK: &str = "lane/block.rs";
const POOL: &str = "lane/pool.rs";
const COMBINED: &str = "lane/combined.rs";
const LANES: &str = "lane/mod.rs";
const SHARE: &str = "lane/share.rs";
const READER: &str = "lane/reader.rs";
const SETTLE: &str = "lane/settle.rs";
const ONCE: &str = "sync/once.rs";
const LATEST: &str = "sync/latest.rs";
const EXCHANGE: &str = "sample/exchange.rs";
const SYNC: &str = "sync/mod.rs";
const CURRENT: &str = "sync/current.rs";
const GOAL: &str = "engine/goal.rs";
const PER_PROCESS: &str = "engine/per_process.rs";
const HANDOFF: &str = "engine/handoff.rs";

#[rustfmt::skip] // One row, two lines: what is wrong, and how.
const MUTANTS: &[Mutant] = &[
    mutant("lease", "release of the lease is Relaxed", RING, ONLY,
        ["(word, held & !HELD, Release)", "(word, held & !HELD, Relaxed)"]),
    mutant("lease", "taking of the lease is Relaxed", RING, ONLY,
        ["wrapping_add(HELD), Acquire, Relaxed)", "wrapping_add(HELD), Relaxed, Relaxed)"]),
    mutant("lease", "held ring is entered", RING, ONLY,
        ["Err(_) => Err(Shut::Held)", "Err(_) => Ok(Lease { ring: self })"]),
    mutant("lease", "holder does not note where it stopped", RING, ONLY,
        ["ring.lease.end.set(end);", ""]),
    mutant("lease", "close throws the holder out", RING, ONLY,
        ["fetch_or(CLOSED, Acquire) & HELD == 0", "fetch_and(!HELD, Acquire) & HELD == 0"]),
    mutant("lease", "release opens a ring that was closed meanwhile", RING, ONLY,
        ["held & !HELD, Release", "held & !HELD & !CLOSED, Release"]),
    mutant("close", "close is Relaxed", RING, ONLY,
        ["fetch_or(CLOSED, Acquire)", "fetch_or(CLOSED, Relaxed)"]),
    mutant("close", "close does not wait for the holder", RING, ONLY,
        ["fetch_or(CLOSED, Acquire) & HELD == 0", "fetch_or(CLOSED, Acquire) & HELD < u32::MAX"]),
    mutant("close", "closed spill stack takes blocks", SPILL, ONLY,
        ["if head & CLOSED != 0", "if false"]),
    mutant("close", "close drops what is spilled", SPILL, ONLY,
        ["head.fetch_or(CLOSED, Relaxed)", "head.swap(CLOSED, Release)"]),
    mutant("close", "memory goes back under a writer", RING, ONLY,
        ["word & (HELD | CLOSED) == CLOSED", "word & CLOSED == CLOSED"]),
    mutant("publish", "store of the tail is Relaxed", RING, ONLY,
        ["ring.tail.store(end, Release)", "ring.tail.store(end, Relaxed)"]),
    mutant("publish", "reader's load of the tail is Relaxed", RING, ONLY,
        ["let tail = self.tail.load(Acquire)", "let tail = self.tail.load(Relaxed)"]),
    mutant("publish", "tail moves before the record is filled", RING, ONLY,
        ["let ring = lease.ring;", "let ring = lease.ring; ring.tail.store(at + need, Release);"]),
    mutant("reclaim", "store of the head is Relaxed", RING, ONLY,
        ["head.store(self.at, Release)", "head.store(self.at, Relaxed)"]),
    mutant("reclaim", "writer's load of the head is Relaxed", RING, ONLY,
        ["reader.head.load(Acquire)", "reader.head.load(Relaxed)"]),
    mutant("reclaim", "skip is Relaxed", RING, ONLY,
        ["self.reader.head.store(tail, Release)", "self.reader.head.store(tail, Relaxed)"]),
    mutant("reclaim", "room is released before it is read", RING, ONLY,
        ["let mut count = 0;", "let mut count = 0; self.reader.head.store(tail, Release);"]),
    mutant("reclaim", "room is not checked", RING, ONLY,
        ["end + padding + need > free_to", "false"]),
    mutant("reclaim", "room is checked eight bytes short", RING, ONLY,
        ["end + padding + need > free_to", "end + padding + need > free_to + 8"]),
    mutant("reclaim", "room for padding is not counted", RING, ONLY,
        ["end + padding + need > free_to", "end + need > free_to"]),
    mutant("reclaim", "limit is behind what is not read", RING, ONLY,
        ["round_end.min(next_look)", "round_end"]),
    mutant("reclaim", "padding is not stepped over", RING, ONLY,
        ["Some(start)", "Some(end)"]),
    mutant("reclaim", "record runs over the end", RING, ONLY,
        ["if need > rest { rest } else { 0 }", "0"]),
    mutant("exchange", "sampler is named Relaxed", EXCHANGE, ONLY,
        ["(seen, next, Release, Relaxed)", "(seen, next, Relaxed, Relaxed)"]),
    mutant("exchange", "sampler is looked for Relaxed", EXCHANGE, ONLY,
        ["self.word.load(Acquire)", "self.word.load(Relaxed)"]),
    mutant("exchange", "exchange does not look for a shutdown", EXCHANGE, ONLY,
        ["while seen != closed", "while seen != u32::MAX"]),
    mutant("alarm", "going to sleep is Relaxed", ALARM, ONLY,
        ["self.asleep.swap(true, AcqRel)", "self.asleep.swap(true, Relaxed)"]),
    mutant("alarm", "ringing is Relaxed", ALARM, ONLY,
        ["if self.asleep.swap(false, AcqRel)", "if self.asleep.swap(false, Relaxed)"]),
    mutant("alarm", "reader sleeps without a look", ALARM, ONLY,
        ["if is_filled()", "if is_filled() && false"]),
    mutant("alarm", "writer passes the mark without a look", RING, ONLY,
        ["round_end.min(next_look)", "round_end.min(free_to)"]),
    mutant("alarm", "sleep of the parent's reader is not forgotten", ALARM, ONLY,
        ["self.asleep.store(false, Relaxed);", ""]),
    mutant("alarm", "sleep of the child's reader is forgotten", SETTLE, ONLY,
        ["self.home.store(here, Release);", "self.home.store(here, Release); self.alarm.settle();"]),
    mutant("alarm", "nobody calls for a reader in a child", ALARM, ONLY,
        ["self.is_unread.store(true, Relaxed);", ""]),
    mutant("alarm", "each thread of a child calls for a reader", ALARM, ONLY,
        ["self.is_unread.swap(false, Relaxed)", "self.is_unread.load(Relaxed)"]),
    mutant("flush", "flush reads past its marks", RING, ONLY,
        ["tail.min(mark)", "tail.max(mark.min(0))"]),
    mutant("flush", "flush leaves the spill stack", READER, ONLY,
        ["let (spilled, answer) = lanes.spill.take_all(", "let (spilled, answer) = super::Spill::new(0).take_all("]),
    mutant("spill", "push is Relaxed", SPILL, ONLY,
        ["(head, block + 1, Release, Relaxed)", "(head, block + 1, Relaxed, Relaxed)"]),
    mutant("spill", "push does not compare", SPILL, ONLY,
        ["self.head.compare_exchange(head, block + 1, Release, Relaxed)", "Ok::<_, u32>(self.head.swap(block + 1, Release))"]),
    mutant("spill", "taking is Relaxed", SPILL, ONLY,
        ["fetch_and(CLOSED, Acquire)", "fetch_and(CLOSED, Relaxed)"]),
    mutant("spill", "taking does not empty the stack", SPILL, ONLY,
        ["self.head.fetch_and(CLOSED, Acquire)", "self.head.load(Acquire)"]),
    mutant("spill", "budget is not checked", SPILL, ONLY,
        ["> self.bytes_max", "> u64::MAX"]),
    mutant("spill", "refused bytes stay counted", SPILL, 1,
        ["self.bytes.sub_shared(block_bytes);", ""]),
    mutant("spill", "taken bytes stay counted", SPILL, ONLY,
        ["self.bytes.sub_shared(size(block));", ""]),
    mutant("spill", "block that comes back opens the stack", SPILL, ONLY,
        ["(head & CLOSED) | (block + 1)", "block + 1"]),
    mutant("spill", "block that comes back hides those below", SPILL, ONLY,
        ["links[block as usize].store(head & !CLOSED, Relaxed)", "links[block as usize].store(0, Relaxed)"]),
    mutant("spill", "rest does not come back", SPILL, ONLY,
        ["self.spill.put_back(self.links, block);", "let _ = block;"]),
    mutant("once", "value is set Relaxed", ONCE, ONLY,
        ["(ptr::null_mut(), mine, Release, Relaxed)", "(ptr::null_mut(), mine, Relaxed, Relaxed)"]),
    mutant("once", "value is looked at Relaxed", ONCE, ONLY,
        ["self.value.load(Acquire)", "self.value.load(Relaxed)"]),
    mutant("once", "later value takes the place of the first", ONCE, ONLY,
        ["self.value.compare_exchange(ptr::null_mut(), mine, Release, Relaxed)", "Ok::<*mut T, *mut T>(self.value.swap(mine, Release))"]),
    mutant("once", "value that came second is dropped", LATEST, ONLY,
        ["Err(back) => mine = back,", "Err(_) => return,"]),
    mutant("once", "first value counts", LATEST, ONLY,
        ["version = next;", "let _ = next; break;"]),
    mutant("handover", "push is Relaxed", STACK, ONLY,
        ["(head, next, Release, Relaxed)", "(head, next, Relaxed, Relaxed)"]),
    mutant("handover", "pop's first look is Relaxed", STACK, ONLY,
        ["let mut head = self.head.load(Acquire)", "let mut head = self.head.load(Relaxed)"]),
    mutant("handover", "pop's second look is Relaxed", STACK, ONLY,
        ["u64::from(next), Acquire, Acquire)", "u64::from(next), Acquire, Relaxed)"]),
    mutant("handover", "pop does not count", STACK, ONLY,
        ["(head >> INDEX_BITS).wrapping_add(1)", "(head >> INDEX_BITS)"]),
    mutant("handover", "push forgets the count", STACK, ONLY,
        ["(head & !INDEX_MASK) | u64::from(first + 1)", "u64::from(first + 1)"]),
    mutant("handover", "chain is not linked", STACK, ONLY,
        ["links[last as usize].store(top(head), Relaxed);", ""]),
    mutant("handover", "new blocks are cut without an exchange", POOL, ONLY,
        ["self.carved.fetch_update(Relaxed, Relaxed, |carved| Some(carved + need).filter(|&end| end <= units))",
         "{ let old = self.carved.load(Relaxed); if old + need > units { return None } self.carved.store(old + need, Relaxed); Ok::<u64, u64>(old) }"]),
    mutant("handover", "block does not hold the lanes", BLOCK, ONLY,
        ["unsafe { Arc::increment_strong_count(lanes.as_ptr()) };", ""]),
    mutant("handover", "given block holds the lanes for ever", BLOCK, ONLY,
        ["Lanes::let_go(unsafe { Arc::from_raw(lanes.as_ptr()) });", ""]),
    mutant("handover", "given group holds the lanes for ever", BLOCK, ONLY,
        ["unsafe { Arc::decrement_strong_count(self.itself.as_ptr()) };", ""]),
    mutant("reader", "taking of the reader is Relaxed", READER, ONLY,
        ["compare_exchange(NOBODY, READER, Acquire, Relaxed)", "compare_exchange(NOBODY, READER, Relaxed, Relaxed)"]),
    mutant("reader", "return of the reader is Relaxed", READER, ONLY,
        ["reading.store(NOBODY, Release)", "reading.store(NOBODY, Relaxed)"]),
    mutant("reader", "reader is taken without an exchange", READER, ONLY,
        ["self.reading.compare_exchange(NOBODY, READER, Acquire, Relaxed).ok()?",
         "(self.reading.load(Acquire) == NOBODY).then(|| self.reading.store(READER, Relaxed))?"]),
    mutant("reader", "giving up is Relaxed", READER, ONLY,
        ["reading.store(GIVEN_UP, Release)", "reading.store(GIVEN_UP, Relaxed)"]),
    mutant("reader", "look whether the reader has given up is Relaxed", READER, ONLY,
        ["reading.load(Acquire) == GIVEN_UP", "reading.load(Relaxed) == GIVEN_UP"]),
    mutant("reader", "reader that gave up can be had again", READER, ONLY,
        ["lanes.reading.store(GIVEN_UP, Release);", ""]),
    mutant("settle", "end of settling is Relaxed", SETTLE, ONLY,
        ["self.home.store(here, Release)", "self.home.store(here, Relaxed)"]),
    mutant("settle", "settling starts without an exchange", SETTLE, ONLY,
        ["self.home.compare_exchange(home, moving, Acquire, Relaxed).is_err()", "{ self.home.store(moving, Relaxed); false }"]),
    mutant("settle", "settling is over when it starts", SETTLE, ONLY,
        ["self.home.compare_exchange(home, moving,", "self.home.compare_exchange(home, here,"]),
    mutant("settle", "lease of the parent's thread stays", RING, ONLY,
        ["self.lease.word.store(generation | found & CLOSED, Relaxed)", "self.lease.word.store(generation | found & (CLOSED | HELD), Relaxed)"]),
    mutant("combine", "holder has not seen the last one", COMBINED, 1,
        ["AcqRel, Relaxed)", "Release, Relaxed)"]),
    mutant("combine", "note is left Relaxed", COMBINED, 1,
        ["AcqRel, Relaxed)", "Acquire, Relaxed)"]),
    mutant("combine", "who closes has not seen the last holder", COMBINED, 2,
        ["AcqRel, Relaxed)", "Release, Relaxed)"]),
    mutant("combine", "word of who closes is not published", COMBINED, 2,
        ["AcqRel, Relaxed)", "Acquire, Relaxed)"]),
    mutant("combine", "holder without a note has not seen the last one", COMBINED, ONLY,
        ["(word & !TOP) | HELD, Acquire, Relaxed)", "(word & !TOP) | HELD, Relaxed, Relaxed)"]),
    mutant("combine", "release of the value is Relaxed", COMBINED, ONLY,
        ["(word & !HELD) - applied * ONE_NOTE, Release, Acquire)", "(word & !HELD) - applied * ONE_NOTE, Relaxed, Acquire)"]),
    mutant("combine", "notes are taken Relaxed", COMBINED, ONLY,
        ["fetch_and(!TOP, Acquire)", "fetch_and(!TOP, Relaxed)"]),
    mutant("combine", "value is released over late notes", COMBINED, ONLY,
        ["self.of.word.compare_exchange(word, (word & !HELD) - applied * ONE_NOTE, Release, Acquire)",
         "Ok::<u64, u64>(self.of.word.swap((word & !HELD) - applied * ONE_NOTE, Release))"]),
    mutant("combine", "note hides the notes below", COMBINED, ONLY,
        ["store(top(word), Relaxed)", "store(0, Relaxed)"]),
    mutant("combine", "rest is handed over without the notes on the stack", COMBINED, ONLY,
        ["(word & !HELD) - applied * ONE_NOTE", "(word & !HELD & !TOP) - applied * ONE_NOTE"]),
    mutant("combine", "new notes replace those that wait", COMBINED, ONLY,
        ["Some(newest) if top != 0 => links[newest as usize].store(oldest, Relaxed)", "Some(_) if top != 0 => self.oldest = oldest"]),
    mutant("combine", "closed value takes notes", COMBINED, ONLY,
        ["if word & CLOSED != 0 { return Left::Closed", "if false { return Left::Closed"]),
    mutant("combine", "close is seen Relaxed at first", COMBINED, ONLY,
        ["self.of.word.load(Acquire)", "self.of.word.load(Relaxed)"]),
    mutant("combine", "close is seen Relaxed at the release", COMBINED, ONLY,
        ["ONE_NOTE, Release, Acquire)", "ONE_NOTE, Release, Relaxed)"]),
    mutant("combine", "close waits until somebody comes", COMBINED, ONLY,
        ["while (is_closed || applied < enough)", "while (applied < enough)"]),
    mutant("combine", "value is closed twice", COMBINED, ONLY,
        ["if self.last.compare_exchange(OPEN, last, Relaxed, Relaxed).is_err() {", "if self.last.swap(last, Relaxed) != OPEN && false {"]),
    mutant("counts", "count is stored Relaxed", SYNC, ONLY,
        ["self.0.store(old.wrapping_add(n), Ordering::Release)", "self.0.store(old.wrapping_add(n), Ordering::Relaxed)"]),
    mutant("counts", "count is read Relaxed", SYNC, ONLY,
        ["self.0.load(Ordering::Acquire)", "self.0.load(Ordering::Relaxed)"]),
    mutant("lanes", "one ring is tried", LANES, ONLY,
        ["const HELD_MAX: usize = 3", "const HELD_MAX: usize = 1"]),
    mutant("lanes", "full rings are called busy", LANES, ONLY,
        ["if held > 0 { Offer::Busy } else { Offer::Full }", "Offer::Busy"]),
    mutant("lanes", "ring that is held is called full", LANES, ONLY,
        ["if held > 0 { Offer::Busy } else { Offer::Full }", "if full > 0 { Offer::Full } else { Offer::Busy }"]),
    mutant("lanes", "held ring keeps the others open", LANES, ONLY,
        ["is_closed &= ring.close();", "if is_closed { is_closed = ring.close(); }"]),
    mutant("share", "thread goes back to the ring that it met another in", SHARE, ONLY,
        ["lanes.ring(hint + tries - 1)", "lanes.ring(hint)"]),
    mutant("share", "ring that took a span is forgotten", SHARE, ONLY,
        ["self.ring_uses.set(RING_USES);", ""]),
    mutant("control", "flush is asked for in silence", HANDOFF, ONLY,
        ["self.wake(); asked", "asked"]).in_test("flush_is_answered_by_a_worker_that_goes_to_sleep"),
    mutant("control", "worker is woken before it is asked", HANDOFF, ONLY,
        ["let asked = self.change(ask);", "let asked = { self.wake(); self.change(ask) }; if true { return asked; }"]).in_test("flush_is_answered_by_a_worker_that_goes_to_sleep"),
    mutant("control", "request wakes the worker, not those who wait", HANDOFF, ONLY,
        ["let asked = self.change(ask);", "let asked = ask(&mut self.state());"]).in_test("shutdown_without_a_worker_is_answered"),
    mutant("control", "change is told to one of those who wait", HANDOFF, ONLY,
        ["self.changed.notify_all()", "self.changed.notify_one()"]).in_test("shutdown_without_a_worker_is_answered"),
    mutant("control", "flush is numbered outside of the lock", HANDOFF, ONLY,
        ["self.ask(|state| { state.flushes += 1; state.flushes })",
         "{ let number = self.state().flushes + 1; self.ask(|state| state.flushes = number); number }"]).in_test("flush_beside_flushes_that_nobody_waits_for_is_answered"),
    mutant("control", "flush is done in silence", HANDOFF, ONLY,
        ["self.change(|state| state.flushed = number)", "self.state().flushed = number"]).in_test("flush_is_answered_by_a_worker_that_goes_to_sleep"),
    mutant("control", "flush does those that nobody heard of", HANDOFF, ONLY,
        ["state.flushed = number", "state.flushed = number.max(state.flushes)"]).in_test("flush_beside_flushes_that_nobody_waits_for_is_answered"),
    mutant("control", "any change ends a wait", HANDOFF, ONLY,
        ["while !state.has(awaited) {", "if !state.has(awaited) {"]).in_test("flush_beside_flushes_that_nobody_waits_for_is_answered"),
    mutant("control", "change between the look and the wait is missed", HANDOFF, ONLY,
        ["let left = deadline.left();", "drop(state); let left = deadline.left(); state = self.state();"]).in_test("flush_is_answered_by_a_worker_that_goes_to_sleep"),
    mutant("control", "end answers no flush", HANDOFF, ONLY,
        ["self.flushed >= number || self.is_over", "self.flushed >= number"]).in_test("shutdown_without_a_worker_is_answered"),
    mutant("control", "end comes in silence", HANDOFF, ONLY,
        ["self.change(|state| state.is_over = true)", "self.state().is_over = true"]).in_test("shutdown_without_a_worker_is_answered"),
    mutant("control", "latest of several deadlines counts", HANDOFF, ONLY,
        ["earlier.min(deadline)", "earlier.max(deadline)"]).in_test("earliest_of_two_shutdowns_counts"),
    mutant("control", "last of several deadlines counts", HANDOFF, ONLY,
        ["let earliest = state.shutdown.map_or(deadline, |earlier| earlier.min(deadline));", "let earliest = deadline;"]).in_test("earliest_of_two_shutdowns_counts"),
    mutant("control", "flush that came later is answered as well", GOAL, ONLY,
        ["handoff.flushed(number);", "handoff.flushed(self.heard);"]).in_test("flush_beside_one_that_is_under_way_is_answered"),
    mutant("control", "flush is answered while its last request is pending", GOAL, ONLY,
        ["oldest > last", "oldest >= last"]).in_test("flush_beside_one_that_is_under_way_is_answered"),
    mutant("control", "flush is answered without a word", GOAL, ONLY,
        ["handoff.flushed(number);", ""]).in_test("flush_is_answered_by_a_worker_that_goes_to_sleep"),
    mutant("control", "first waker stays", CURRENT, ONLY,
        ["self.newest.store(u32::try_from(new).unwrap_or(0), Relaxed);",
         "if old == 0 { self.newest.store(u32::try_from(new).unwrap_or(0), Relaxed); }"]).in_test("flush_is_answered_by_a_worker_that_was_replaced"),
    mutant("per_process", "value is made although there is one", PER_PROCESS, ONLY,
        ["if here.child.get().is_none() && let Some(make) = make.take()", "if let Some(make) = make.take()"]),
    mutant("per_process", "next process's value is taken for one's own", PER_PROCESS, 2,
        ["while here.generation != generation {", "if here.generation != generation {"]),
];

fn main() -> ExitCode {
    let wanted = env::args().nth(1);
    let copy = Copy::new();
    // What fails without a mutant says nothing about one. Before it tries all mutants, `run` has seen all models pass.
    if let Some(model) = &wanted {
        let output = copy.test(model, "");
        assert!(output.status.success(), "the model `{model}` fails as it is:\n{}", text(&output));
    }
    let (mut count, mut survivors) = (0, 0);
    println!("{:<50} | {:<8} | killed", "mutant", "model");
    for mutant in MUTANTS.iter().filter(|mutant| wanted.as_deref().is_none_or(|wanted| wanted == mutant.model)) {
        let verdict = copy.verdict(mutant);
        count += 1;
        survivors += usize::from(verdict.is_none());
        let verdict = verdict.unwrap_or_else(|| "NO: it survives".into());
        println!("{:<50} | {:<8} | {verdict}", mutant.name, mutant.model);
    }
    println!("{count} mutants, {survivors} survive");
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A copy of the repository, whose library is broken and mended again.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Copies what has changed since the last time, so that the rest needs no compiling.
    fn new() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = package.join("target");
        let root = target.join("mutants");
        let source = package.parent().expect("the package lies in the repository");
        copy(source, &root).unwrap_or_else(|error| panic!("copy to {}: {error}", root.display()));
        Self { root, target }
    }

    /// What the model says of the mutant: the panic that ended it, or `None` when it noticed nothing.
    fn verdict(&self, mutant: &Mutant) -> Option<String> {
        let path = self.root.join("src").join(mutant.file);
        let original = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let broken =
            replace(&original, mutant).unwrap_or_else(|error| panic!("{}: {}: {error}", mutant.file, mutant.name));
        fs::write(&path, broken).expect("the copy is ours");
        let output = self.test(mutant.model, mutant.test);
        fs::write(&path, original).expect("the copy is ours");
        let text = text(&output);
        assert!(!text.contains("could not compile"), "{}: what does not compile is no mutant:\n{text}", mutant.name);
        // Without a panic it was not the model that ended it.
        let panic = text.lines().skip_while(|line| !line.contains(" panicked at ")).nth(1);
        panic.filter(|_| !output.status.success()).map(|line| line.trim().chars().take(80).collect())
    }

    fn test(&self, model: &str, test: &str) -> Output {
        // The flags come from `.cargo/config.toml` above: the copy lies inside of this package.
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--release"]);
        // Quick to compile. And cargo tells packages apart by their paths in the workspace, which are the same here and
        // in the original: without a profile of its own, what was built of one would be taken for the other.
        command.args(["--config", "profile.release.package.spanring.opt-level=0"]);
        // Not captured: what a test that crashes has said before would be lost.
        command.args(["--quiet", "--test", model, "--", test, "--nocapture"]);
        // Mistakes in the model itself, which it finds whatever the library does.
        command.args(["--skip", "mistakes::"]);
        command.current_dir(self.root.join("loom-tests"));
        // The same target folder, so that loom and the like are compiled once.
        command.env("CARGO_TARGET_DIR", &self.target).env("RUST_BACKTRACE", "0");
        command.env(FIRST_PANIC_ENDS, "1");
        command.output().unwrap_or_else(|error| panic!("cargo: {error}"))
    }
}

/// The text with the mutant's mistake in it.
fn replace(text: &str, mutant: &Mutant) -> Result<String, String> {
    // Both without white space, and for each letter at its place in the text.
    let letters: Vec<(usize, char)> = text.char_indices().filter(|(_, letter)| !letter.is_whitespace()).collect();
    let from: Vec<char> = mutant.from.chars().filter(|letter| !letter.is_whitespace()).collect();
    let is_match = |window: &[(usize, char)]| window.iter().map(|(_, letter)| letter).eq(&from);
    let found: Vec<_> = letters.windows(from.len()).filter(|window| is_match(window)).collect();
    let window = match mutant.nth {
        ONLY if found.len() == 1 => found[0],
        ONLY => return Err(format!("`{}` is there {} times", mutant.from, found.len())),
        nth => found.get(nth - 1).ok_or_else(|| format!("`{}` is there {} times", mutant.from, found.len()))?,
    };
    let (start, (last, letter)) = (window[0].0, window[window.len() - 1]);
    Ok([&text[..start], mutant.to, &text[last + letter.len_utf8()..]].concat())
}

/// Copies files that differ, and removes those that are gone. Build outputs and hidden files are left alone.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mut names = vec![];
    for entry in fs::read_dir(source)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let place = target.join(&name);
        if path.is_dir() {
            copy(&path, &place)?;
        } else if fs::read(&place).ok() != Some(fs::read(&path)?) {
            fs::copy(&path, &place)?;
        }
        names.push(name);
    }
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            if entry.path().is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
