//! One byte ring: a lease that nobody waits for in front of a single-writer, single-reader ring.
//!
//! A writer leases the ring, fills the bytes of one record, publishes them by moving the tail, and gives the lease
//! back. A writer that is stopped in between leaves no hole: the reader sees whole records up to the tail, and the
//! other threads go to another ring. The reader never takes the lease.
//!
//! # Closing
//!
//! The lease word holds the generation of the process, and two flags. Entering is an exchange from the bare generation,
//! so a closed ring, a held one and one that was not made fit for this process all refuse without a check of their own.
//! Releasing takes the held flag off by a load and a store, which are one plain instruction where a locked one would
//! cost as much as the exchange, and keeps a closed flag that was set meanwhile. `close` sets that flag, whoever is
//! inside:
//!
//! * It returns true when nobody was inside. Then no release is under way that could take the flag off, so nobody
//!   enters ever again, and the tail is final.
//! * It returns false while a thread is inside. That thread may publish one more record. It leaves a closed ring
//!   behind, unless the flag was set between its load and its store: then the ring is open until the next `close`.
//!
//! So a shutdown that gives up with a thread still inside cannot know what comes. It need not: `Reader::give_up` is the
//! last to take spans out, and what is accepted after it is lost as closed, by whatever way it got in
//! (`Lanes::is_given_up`).
//!
//! # Orderings
//!
//! Every ordering of the crate's protocols that carries data has a label, every label two sides and a model:
//!
//! | label | Release side | Acquire side | carries | model |
//! |---|---|---|---|---|
//! | [lease] | `Lease::drop` | `Ring::enter`, `Ring::close` | the writer's own cells, from one holder to the next; the last tail | `lease.rs` |
//! | [publish] | `Claim::publish` | `Ring::read` | the record's bytes, and the tally made with it | `publish.rs` |
//! | [reclaim] | `Ring::read`, `Ring::skip` | `Ring::extend` | the room of what was read | `reclaim.rs` |
//! | [spill] | `Spill::push` | `Spill::take_all` | a whole block | `spill.rs` |
//! | [free] | `Stack::push` | `Stack::pop` | a block or a seat, with nobody left in it | `handover.rs` |
//! | [reader] | `Reader::drop`, `Reader::give_up` | `Lanes::reader`, `Lanes::is_given_up` | the read positions, from one reader to the next; the last count | `reader.rs` |
//! | [settle] | `Lanes::settle` | `Lanes::settle` | the lanes as a child process reset them | `settle.rs` |
//! | [count] | `Counter::add_owned` | `Counter::load` | what the thread had counted before | `counts.rs` |
//! | [note] | `Combined::leave` | `Hold::release` | a change that waits for the holder of a span | `combine.rs` |
//! | [alarm] | `Alarm::ring` | `Alarm::sleep` | that a ring is filled | `alarm.rs` |
//! | [hold] | `Hold::release` | `Combined::leave` | the span, from one holder to the next | `combine.rs` |
//!
//! The models offer records as a span's end does: by `Lease::claim_at_once`, and where that does not do, by
//! `Lease::claim`. What a thread keeps for itself has no ordering; that it stays with the ring that took its span is
//! modelled in `share.rs`.
//! | [sampler] | `Exchange::set` | `Exchange::get` | that a sampler is in its place | `exchange.rs` |
//! | [once] | `SetOnce::set` | `SetOnce::get` | a value that is set once | `once.rs` |
//! | [last] | `Combined::close` | `Hold::release` | what the last change of a shared span is | `combine.rs` |

#![allow(rustdoc::broken_intra_doc_links, reason = "the labels in brackets are no links")]

use std::io;

use crossbeam_utils::CachePadded;

use crate::sync::{
    AtomicU32, AtomicU64, Counter,
    Ordering::{Acquire, Relaxed, Release},
    fork::GENERATION_MAX,
    region::Region,
    store_among_exchanges,
};

/// A ring of `2^k` bytes. Each group of fields has a line pair of its own, so that the reader's polling of the tail
/// never slows the lease, and the writers never touch the line that the reader writes.
#[repr(align(512))] // In one page, which the exchange of the lease has touched before anything happens under it.
#[derive(Debug)]
pub struct Ring {
    lease: CachePadded<LeaseWord>,
    /// End of the published bytes, counted from the ring's birth: it never wraps in a life of a process. Written by the
    /// lease holder, read by the reader.
    tail: CachePadded<AtomicU64>,
    reader: CachePadded<ReaderCells>,
    region: Region,
}

#[derive(Debug)]
struct LeaseWord {
    /// The generation of the process that the ring is fit for, with [`HELD`] and [`CLOSED`]. Written by whoever wants
    /// the lease, by its holder, by `close` and by `abandon`.
    word: AtomicU32,
    /// The holder's copy of the tail; it spares a look at a line that the reader shares. Lease holders only.
    end: Counter,
    /// Up to here a holder may write without a look at anything else: there the memory ends, or the room that was free
    /// when a holder last looked at the reader's line. Behind `end` it has run out. Lease holders only.
    limit: Counter,
}

#[derive(Debug)]
struct ReaderCells {
    /// End of the bytes that may be written over. Written by the reader, read by lease holders that run out of room.
    head: AtomicU64,
    /// Most bytes that ever waited when the reader came by. Written by the reader, read by the ledger.
    high_water: Counter,
}

/// Beside the generation in the lease word: a thread is in the ring.
const HELD: u32 = 1 << 30;
/// Beside the generation in the lease word: nobody enters any more.
const CLOSED: u32 = 1 << 31;
const _: () = assert!(GENERATION_MAX & (HELD | CLOSED) == 0, "generations stay below the flags");

/// Bytes in front of each record: its length in the ring, and what it is.
pub(crate) const FRAME_LEN: usize = 8;
/// Records begin at multiples of this.
const ALIGN: usize = 8;
const RECORD: u32 = 1;
const PADDING: u32 = 2;

/// How far ahead of the tail lines are asked for, from the cache of the core that read them last: a few records.
/// Without this a store that misses holds back every later one; see ARCHITECTURE.md.
const PREFETCH_AHEAD: u64 = 1024;

/// Why a ring was not entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shut {
    /// Another thread is in it now, or the ring has not been made fit for this process.
    Held,
    /// The engine has shut down.
    Closed,
}

/// What a reader wants after a record. The record itself is taken in any case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visit {
    /// The next one.
    Next,
    /// No more for now: there is no room to put it.
    Enough,
    /// Nothing, ever: the lanes were abandoned during the visit, which went on in a child process.
    Gone,
}

impl Ring {
    /// An empty ring of `len` bytes, a power of two, for the process of this generation.
    ///
    /// # Errors
    ///
    /// When the system has no memory to give.
    pub fn new(len: usize, generation: u32) -> io::Result<Self> {
        debug_assert!(generation <= GENERATION_MAX);
        assert!(len.is_power_of_two() && len >= 4 * ALIGN, "a ring has a power of two of bytes");
        Ok(Self {
            lease: CachePadded::new(LeaseWord {
                word: AtomicU32::new(generation),
                end: Counter::new(),
                limit: Counter::new(),
            }),
            tail: CachePadded::new(AtomicU64::new(0)),
            reader: CachePadded::new(ReaderCells { head: AtomicU64::new(0), high_water: Counter::new() }),
            region: Region::new(len)?,
        })
    }

    /// Bytes that the ring can hold.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.region.len() as u64
    }

    /// Longest record that padding is written for: a quarter of the ring, so that padding never costs more than that.
    /// What is longer enters only where it happens to fit.
    #[inline]
    #[must_use]
    pub fn record_len_max(&self) -> usize {
        self.region.len() / 4 - FRAME_LEN
    }

    /// Takes the lease, in one try, for a thread of the process of this generation.
    ///
    /// # Errors
    ///
    /// When the ring is held or closed now.
    #[inline]
    pub fn enter(&self, generation: u32) -> Result<Lease<'_>, Shut> {
        // ORDERING: [lease] Acquire. The last holder's cells are ours to use; what it published, we write behind.
        // ORDERING: Relaxed on failure: a thread that is refused touches nothing of the ring.
        match self.lease.word.compare_exchange(generation, generation.wrapping_add(HELD), Acquire, Relaxed) {
            Ok(_) => Ok(Lease { ring: self }),
            Err(found) if found & CLOSED != 0 => Err(Shut::Closed),
            Err(_) => Err(Shut::Held),
        }
    }

    /// Closes the ring for writers. False while a thread is in it: then call again, for what that thread publishes may
    /// come yet, and its release may have undone this (see the head of this file).
    pub fn close(&self) -> bool {
        // ORDERING: [lease] Acquire. The tail that the closer reads afterwards is the last one: every holder gave the
        // lease back after its publish, and the closes in between continue that release.
        self.lease.word.fetch_or(CLOSED, Acquire) & HELD == 0
    }

    /// End of what is published now: the mark of a flush.
    #[must_use]
    pub fn tail(&self) -> u64 {
        // ORDERING: Relaxed. A number to compare with: the reader takes the tail again, with an Acquire of its own.
        // Whatever ended before the caller asked is below it by coherence.
        self.tail.load(Relaxed)
    }

    /// Bytes that are published and not read.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        // ORDERING: Relaxed. A figure to report; the head is read first, so that it is never ahead of the tail.
        let head = self.reader.head.load(Relaxed);
        // ORDERING: Relaxed. As above.
        self.tail.load(Relaxed).saturating_sub(head)
    }

    /// Whether more waits than the reader should sleep over.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.waiting() > self.mark()
    }

    /// Half of the ring: what comes until a reader that is woken there comes by must fit into the other half.
    fn mark(&self) -> u64 {
        self.capacity() / 2
    }

    /// Most bytes that ever waited when the reader came by.
    #[must_use]
    pub fn high_water(&self) -> u64 {
        self.reader.high_water.load()
    }

    /// Reads the records that are published now, oldest first and not past `mark`, and releases their room, for as long
    /// as `visit` wants more. Returns how many there were, and the last answer.
    ///
    /// # Safety
    ///
    /// * Only one thread reads this ring until the call returns.
    pub unsafe fn read(&self, mark: u64, visit: &mut impl FnMut(&[u8]) -> Visit) -> (usize, Visit) {
        // ORDERING: [publish] Acquire. The bytes below this tail are filled. A record that is published later is for
        // the next visit: never half of it is seen now.
        let tail = self.tail.load(Acquire);
        // ORDERING: Relaxed. Only the reader writes the head, and readers follow each other by [reader].
        let head = self.reader.head.load(Relaxed);
        if tail - head > self.reader.high_water.load() {
            self.reader.high_water.set(tail - head);
        }
        let mut pass = Pass { ring: self, at: head, released: head };
        let mut count = 0;
        let end = tail.min(mark);
        while pass.at < end {
            // SAFETY: `at` is a frame's place below the tail, so it is filled; no writer comes here before the release.
            let (len, kind) = unsafe { self.frame(pass.at) };
            assert!(len >= ALIGN as u64, "a frame has a length");
            assert!(pass.at + len <= tail, "a frame ends before the tail");
            let at = self.place(pass.at) + FRAME_LEN;
            // Before the visit: a record whose visitor panics has been taken, and must not come again.
            pass.at += len;
            if kind == RECORD {
                // SAFETY: the record lies below the tail and above the head, which moves after this call at the
                // earliest: filled, and kept from writers.
                let answer = unsafe { self.region.read(at, as_size(len) - FRAME_LEN, &mut *visit) };
                count += 1;
                if answer == Visit::Gone {
                    // Nothing is released any more: the ring belongs to another process's life now.
                    pass.at = pass.released;
                }
                if answer != Visit::Next {
                    return (count, answer);
                }
            }
            // A sixteenth at a time: often enough for writers that wait for room, seldom enough for the head's line.
            if pass.at - pass.released > self.capacity() / 16 {
                pass.release();
            }
        }
        (count, Visit::Next)
    }

    /// Steps over what is published, unread.
    ///
    /// # Safety
    ///
    /// * As for [`Ring::read`]: one reader at a time.
    pub unsafe fn skip(&self) {
        // ORDERING: Relaxed. No byte of what is stepped over is read, so none has to be there.
        let tail = self.tail.load(Relaxed);
        // ORDERING: [reclaim] Release. What this reader read before is below this head too, and writers may go on.
        self.reader.head.store(tail, Release);
    }

    /// Gives the ring's memory back to the system if it is of no use any more: closed, left by its last writer, and
    /// read to the end.
    ///
    /// # Safety
    ///
    /// * Nobody else reads the ring until the call returns.
    pub unsafe fn give_back(&self) {
        // ORDERING: [lease] Acquire. The last writer is out, and its tail is the last one.
        let word = self.lease.word.load(Acquire);
        if word & (HELD | CLOSED) == CLOSED && self.waiting() == 0 {
            // SAFETY: writers are kept out by the close, and readers by the caller. Nothing is left to read.
            unsafe { self.region.give_back() };
        }
    }

    /// Gives up what is published and makes the ring fit for the child process of this generation: the parent delivers
    /// its spans, whose bytes read as zeros here. Says whether a thread of the parent held the lease. A closed ring
    /// stays closed.
    ///
    /// # Safety
    ///
    /// * No other thread of this process uses the ring until the call returns.
    pub unsafe fn abandon(&self, generation: u32) -> bool {
        debug_assert!(generation <= GENERATION_MAX);
        // ORDERING: Relaxed throughout: the child has no other thread here; [settle] shows the result to later ones.
        let tail = self.tail.load(Relaxed);
        self.reader.head.store(tail, Relaxed);
        self.lease.end.set(tail);
        // No room is known of: the next claim looks at the head. The parent's limit may belong to a round of the memory
        // that its holder had begun with padding, and never published.
        self.lease.limit.set(tail);
        self.reader.high_water.set(0);
        // ORDERING: Relaxed, as above.
        let found = self.lease.word.load(Relaxed);
        // ORDERING: Relaxed, as above. A holder was a thread of the parent.
        self.lease.word.store(generation | found & CLOSED, Relaxed);
        found & HELD != 0
    }

    /// Makes room for `need` bytes after `end`, where the limit of the last look does not let them pass: where the
    /// room begins, or `None` when the ring is full, or too small. The one way of lease holders to the reader's head,
    /// and so seldom walked: when the room that was free at the last look is used up, and at the end of the memory.
    ///
    /// A record that does not fit before the end of the memory goes after it. The padding is written here: should the
    /// claim be given up, it stays, and the next one begins after it.
    #[cold]
    #[inline(never)]
    fn extend(&self, end: u64, need: u64) -> Option<u64> {
        let capacity = self.capacity();
        // ORDERING: [reclaim] Acquire. The reader is done with the bytes below this head. An older head shows less room
        // than there is: the span is refused, never a record written over.
        let head = self.reader.head.load(Acquire);
        let free_to = head + capacity;
        let rest = capacity - (end & (capacity - 1));
        let padding = if need > rest { rest } else { 0 };
        let is_padding_too_much = padding > 0 && need > capacity / 4;
        if is_padding_too_much || end + padding + need > free_to {
            return None;
        }
        let start = end + padding;
        if padding > 0 {
            // SAFETY: the padding lies between the tail and the head's next round (checked above), and the caller holds
            // the lease.
            unsafe { self.region.fill(self.place(end), FRAME_LEN, |bytes| write_frame(bytes, padding, PADDING)) };
            self.lease.end.set(start);
        }
        // The end of this round of the memory.
        let round_end = (start | (capacity - 1)) + 1;
        // A writer has to look whether the reader sleeps with the record that passes the mark. Past it a sixteenth of
        // the ring goes by between looks: the reader may have made a little room since, and have gone to sleep on a
        // ring that was half full again, but a look at each record would slow every burst down.
        let mark = head + self.mark();
        let past = start + need;
        let next_look = if past <= mark { mark } else { free_to.min(past + capacity / 16) };
        self.lease.limit.set(round_end.min(next_look));
        Some(start)
    }

    #[inline]
    fn place(&self, position: u64) -> usize {
        as_size(position & (self.capacity() - 1))
    }

    /// Length and kind of what lies at `position`.
    ///
    /// # Safety
    ///
    /// * `position` is the place of a frame between head and tail.
    unsafe fn frame(&self, position: u64) -> (u64, u32) {
        // SAFETY: a frame lies below the tail, so it is filled, and above the head, so no writer comes here.
        unsafe {
            self.region.read(self.place(position), FRAME_LEN, |frame| {
                let (len, kind) = frame.split_at(4);
                (u64::from(word(len)), word(kind))
            })
        }
    }
}

/// The right to write into a ring. Nothing that runs while it is held may panic, allocate, wait or call the program.
#[derive(Debug)]
pub struct Lease<'a> {
    ring: &'a Ring,
}

impl<'a> Lease<'a> {
    /// Claims room for a record of `len` bytes, if the last look at the ring left some; else ask [`Lease::claim`].
    #[inline(always)]
    #[must_use]
    pub fn claim_at_once(self, len: usize) -> Option<Claim<'a>> {
        let cells = &self.ring.lease;
        let (at, need) = (cells.end.load(), need(len));
        (at + need <= cells.limit.load()).then(|| Claim { lease: self, at, need })
    }

    /// Claims room for a record of `len` bytes; `None` when the ring is full, or too small for it.
    #[must_use]
    pub fn claim(self, len: usize) -> Option<Claim<'a>> {
        let cells = &self.ring.lease;
        let (end, need) = (cells.end.load(), need(len));
        let at = if end + need <= cells.limit.load() { end } else { self.ring.extend(end, need)? };
        Some(Claim { lease: self, at, need })
    }
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        let word = &self.ring.lease.word;
        // ORDERING: Relaxed. Besides its holder only `close` changes the word, and `abandon`, which runs without one.
        let held = word.load(Relaxed);
        // ORDERING: [lease] Release. The next holder sees our cells.
        store_among_exchanges(word, held & !HELD, Release);
    }
}

/// Room for one record, under the lease.
#[derive(Debug)]
pub struct Claim<'a> {
    lease: Lease<'a>,
    /// Where the room begins.
    at: u64,
    /// Bytes of frame and record, rounded up.
    need: u64,
}

impl Claim<'_> {
    /// Lets `fill` write the record, then shows it to the reader.
    ///
    /// `fill` is given the record's bytes, rounded up to a multiple of eight.
    #[inline(always)]
    pub fn publish(self, fill: impl FnOnce(&mut [u8])) {
        let Self { lease, at, need } = self;
        let ring = lease.ring;
        ring.region.prefetch(ring.place(at + need + PREFETCH_AHEAD), as_size(need));
        // SAFETY: `claim` found room for the record between the tail and the head's next round, and before the end of
        // the memory; we hold the lease.
        unsafe {
            ring.region.fill(ring.place(at), as_size(need), |bytes| {
                let (frame, record) = bytes.split_at_mut(FRAME_LEN);
                write_frame(frame, need, RECORD);
                fill(record);
            });
        }
        let end = at + need;
        // ORDERING: [publish] Release. The bytes were filled above; a reader that sees this tail sees them all. One
        // that sees the older tail finds a record fewer, never half a record.
        ring.tail.store(end, Release);
        ring.lease.end.set(end);
        drop(lease);
    }
}

/// Bytes of frame and record, rounded up.
#[inline(always)]
fn need(len: usize) -> u64 {
    ((FRAME_LEN + len + ALIGN - 1) & !(ALIGN - 1)) as u64
}

/// A visit of the reader: gives back what was read, also when the visitor panics.
struct Pass<'a> {
    ring: &'a Ring,
    at: u64,
    released: u64,
}

impl Pass<'_> {
    fn release(&mut self) {
        // ORDERING: [reclaim] Release. The reader has no use for the bytes below any more; a writer that sees this head
        // may write over them.
        self.ring.reader.head.store(self.at, Release);
        self.released = self.at;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed. Only the reader writes the head: who finds another one there than its own last is a
        // visitor that forked and panicked in the child, whose own life has begun meanwhile (`Ring::abandon`).
        let is_ours = self.ring.reader.head.load(Relaxed) == self.released;
        if is_ours && self.at > self.released {
            self.release();
        }
    }
}

#[inline]
fn write_frame(frame: &mut [u8], len: u64, kind: u32) {
    debug_assert!(
        u32::try_from(len).is_ok(),
        "a record is at most a quarter of a ring of at most 4 GiB, or the rest of it"
    );
    // Two stores: to join them first takes two instructions more.
    frame[..4].copy_from_slice(&as_word(len).to_le_bytes());
    frame[4..FRAME_LEN].copy_from_slice(&kind.to_le_bytes());
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_le_bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "asserted by the only caller")]
#[inline]
fn as_word(value: u64) -> u32 {
    value as u32
}

#[expect(clippy::cast_possible_truncation, reason = "a ring's length is a usize, and positions are masked by it")]
#[inline]
fn as_size(value: u64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generation of the test's process.
    const HERE: u32 = 1;

    fn offer(ring: &Ring, record: &[u8]) -> bool {
        let lease = ring.enter(HERE).expect("nobody else is here");
        lease
            .claim(record.len())
            .map(|claim| claim.publish(|bytes| bytes[..record.len()].copy_from_slice(record)))
            .is_some()
    }

    fn drain(ring: &Ring, mark: u64) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        // SAFETY: the test has one thread.
        unsafe {
            ring.read(mark, &mut |record: &[u8]| {
                records.push(record.to_vec());
                Visit::Next
            })
        };
        records
    }

    #[test]
    fn records_leave_in_order_across_the_end_of_the_memory() {
        let ring = Ring::new(256, HERE).unwrap();
        for round in 0..200u8 {
            let record = vec![round; usize::from(round % 50)];
            assert!(offer(&ring, &record));
            let read = drain(&ring, u64::MAX);
            assert_eq!(read.len(), 1);
            assert_eq!(read[0][..record.len()], record);
        }
    }

    #[test]
    fn full_ring_refuses_until_read() {
        let ring = Ring::new(256, HERE).unwrap();
        let taken = (0..100).take_while(|_| offer(&ring, &[7; 24])).count();
        assert_eq!(taken, 8);
        assert_eq!(ring.waiting(), 256);
        assert_eq!(drain(&ring, u64::MAX).len(), 8);
        assert_eq!(ring.high_water(), 256);
        assert!(offer(&ring, &[7; 24]));
    }

    #[test]
    fn record_above_a_quarter_enters_only_where_it_fits() {
        let ring = Ring::new(256, HERE).unwrap();
        assert_eq!(ring.record_len_max(), 56);
        assert!(offer(&ring, &[0; 184]), "256 bytes are left in this round");
        assert_eq!(drain(&ring, u64::MAX).len(), 1);
        assert!(!offer(&ring, &[0; 57]), "64 bytes are left, and padding is not written for it");
        assert!(offer(&ring, &[0; 56]));
        assert!(offer(&ring, &[0; 57]), "a new round begins");
    }

    #[test]
    fn room_ends_where_the_head_was_until_the_next_look() {
        let ring = Ring::new(256, HERE).unwrap();
        (0..4).for_each(|_| assert!(offer(&ring, &[7; 56])));
        assert_eq!(drain(&ring, 128).len(), 2);
        assert!(offer(&ring, &[8; 56]));
        assert!(offer(&ring, &[8; 56]));
        assert!(!offer(&ring, &[8; 56]), "the other half waits");
        assert_eq!(drain(&ring, u64::MAX).len(), 4);
        assert!(offer(&ring, &[9; 56]));
    }

    #[test]
    fn claim_that_is_given_up_leaves_padding_at_most() {
        let ring = Ring::new(256, HERE).unwrap();
        (0..3).for_each(|_| assert!(offer(&ring, &[7; 56])));
        assert!(offer(&ring, &[7; 40]));
        assert_eq!(drain(&ring, u64::MAX).len(), 4);
        // Sixteen bytes are left before the end of the memory.
        drop(ring.enter(HERE).unwrap().claim(24).expect("there is room"));
        assert_eq!(drain(&ring, u64::MAX).len(), 0);
        assert!(offer(&ring, &[9; 24]));
        assert_eq!(drain(&ring, u64::MAX), [vec![9; 24]]);
    }

    #[test]
    fn abandoned_ring_forgets_a_round_that_was_only_begun() {
        let ring = Ring::new(256, HERE).unwrap();
        (0..3).for_each(|_| assert!(offer(&ring, &[7; 56])));
        assert!(offer(&ring, &[7; 40]));
        assert_eq!(drain(&ring, u64::MAX).len(), 4);
        std::mem::forget(ring.enter(HERE).unwrap().claim(24).expect("there is room"));
        // SAFETY: the test has one thread.
        assert!(unsafe { ring.abandon(HERE + 1) }, "a lease was held");
        assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Held, "the ring is another process's now");
        ring.enter(HERE + 1).unwrap().claim(24).expect("there is room").publish(|bytes| bytes.fill(9));
        assert_eq!(drain(&ring, u64::MAX), [vec![9; 24]]);
    }

    #[test]
    fn mark_bounds_a_read() {
        let ring = Ring::new(256, HERE).unwrap();
        assert!(offer(&ring, &[1; 8]));
        let mark = ring.tail();
        assert!(offer(&ring, &[2; 8]));
        assert_eq!(drain(&ring, mark), [vec![1; 8]]);
        assert_eq!(drain(&ring, u64::MAX), [vec![2; 8]]);
    }

    #[test]
    fn held_ring_is_refused_at_once_and_closed_ring_for_good() {
        let ring = Ring::new(256, HERE).unwrap();
        let lease = ring.enter(HERE).unwrap();
        assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Held);
        assert!(!ring.close());
        drop(lease);
        assert!(ring.close());
        assert!(ring.close());
        assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Closed);
    }

    #[test]
    fn close_outlives_the_holder_and_a_fork() {
        let ring = Ring::new(256, HERE).unwrap();
        let lease = ring.enter(HERE).unwrap();
        assert!(!ring.close());
        assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Closed);
        drop(lease);
        assert_eq!(ring.enter(HERE).unwrap_err(), Shut::Closed);
        // SAFETY: the test has one thread.
        assert!(!unsafe { ring.abandon(HERE + 1) }, "nobody was in it");
        assert_eq!(ring.enter(HERE + 1).unwrap_err(), Shut::Closed);
    }

    #[test]
    fn reader_that_has_enough_goes_on_later() {
        let ring = Ring::new(256, HERE).unwrap();
        (1..=3).for_each(|byte| assert!(offer(&ring, &[byte; 8])));
        // SAFETY: the test has one thread.
        let (count, answer) = unsafe { ring.read(u64::MAX, &mut |_: &[u8]| Visit::Enough) };
        assert_eq!((count, answer), (1, Visit::Enough));
        assert_eq!(ring.waiting(), 32);
        assert_eq!(drain(&ring, u64::MAX), [vec![2; 8], vec![3; 8]]);
    }

    #[test]
    fn panic_of_a_visitor_loses_no_record_and_repeats_none() {
        let ring = Ring::new(256, HERE).unwrap();
        (1..=3).for_each(|byte| assert!(offer(&ring, &[byte; 8])));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: the test has one thread.
            unsafe {
                ring.read(u64::MAX, &mut |record: &[u8]| {
                    assert!(record[0] != 2, "the second record");
                    Visit::Next
                })
            };
        }));
        assert!(caught.is_err());
        assert_eq!(drain(&ring, u64::MAX), [vec![3; 8]]);
    }
}
