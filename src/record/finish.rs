//! The end of a span: from a draft and its image to a finished record, in the ring or in place.

use super::{
    Stamp,
    draft::{
        ATTRIBUTES_DROPPED, Draft, EVENTS_DROPPED, FIXED_LEN, HEAD_LEN, LINKS_DROPPED, RESERVE, STATUS,
        STATUS_ALONE_LEN, STATUS_ERROR, STATUS_OK, Said, TAIL, mark,
    },
    view::TRIMMED,
    wire::{Full, Out, varint_len},
};

/// What is known only when a span ends.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// The trace id in two halves. The ids live outside the draft because they outlive it.
    pub trace: (u64, u64),
    /// The span id as a number.
    pub span: u64,
    /// The end time.
    pub end: Stamp,
    /// The draft's [`Draft::record_len`].
    pub len: usize,
}

impl Draft {
    /// Length of the finished record.
    #[inline]
    #[must_use]
    pub fn record_len(&self) -> usize {
        if self.has_tail() { self.len + self.tail_len() } else { self.len }
    }

    #[cold]
    fn tail_len(&self) -> usize {
        let status = if self.status_alone().is_some() { STATUS_ALONE_LEN } else { 0 };
        status + self.counts().iter().map(|&(_, count)| count_len(count)).sum::<usize>()
    }

    /// Writes the finished record into `record`, which has [`Draft::record_len`] bytes, rounded up to a multiple of eight.
    ///
    /// # Panics
    ///
    /// When `record` is shorter.
    #[inline(always)]
    pub fn finish(&self, image: &[u8], finish: Finish, record: &mut [u8]) {
        let (fixed, rest) = record.split_first_chunk_mut::<FIXED_LEN>().expect("a record has at least its fixed bytes");
        self.write_fixed(finish, fixed);
        // Whole words: the room is rounded up to them, and what lies behind the image's used bytes is written over below, or
        // is padding.
        copy_words(rest, &image[FIXED_LEN..FIXED_LEN + rest.len()]);
        if self.has_tail() {
            self.write_tail(&mut rest[self.len - FIXED_LEN..]);
        }
    }

    /// Finishes the record in place, for a block that leaves as it is.
    ///
    /// # Panics
    ///
    /// When `image` is not the block of this draft: it would be too short.
    pub fn finish_in_place(&self, finish: Finish, image: &mut [u8]) {
        let (fixed, rest) = image.split_first_chunk_mut::<FIXED_LEN>().expect("an image has at least its fixed bytes");
        self.write_fixed(finish, fixed);
        self.write_tail(&mut rest[self.len - FIXED_LEN..]);
    }

    #[inline(always)]
    fn write_fixed(&self, finish: Finish, fixed: &mut [u8; FIXED_LEN]) {
        let wire_len = (finish.len - HEAD_LEN) as u64;
        put(fixed, 0, (self.head & !mark(TAIL) | wire_len << 32).to_le_bytes());
        // The order of fields is free in protobuf: the one that a root lacks comes first, and is skipped for it.
        put(fixed, 8, [0x22, 8]); // trace.proto: Span.parent_span_id = 4
        put(fixed, 10, self.parent.0);
        put(fixed, 18, [0x0A, 16]); // trace.proto: Span.trace_id = 1
        put(fixed, 20, finish.trace.0.to_ne_bytes());
        put(fixed, 28, finish.trace.1.to_ne_bytes());
        put(fixed, 36, [0x12, 8]); // trace.proto: Span.span_id = 2
        put(fixed, 38, finish.span.to_ne_bytes());
        put(fixed, 46, self.kind_and_flags.to_le_bytes());
        put(fixed, 54, [0x39]); // trace.proto: Span.start_time_unix_nano = 7
        put(fixed, 55, self.start.to_wire());
        put(fixed, 63, [0x41]); // trace.proto: Span.end_time_unix_nano = 8
        put(fixed, 64, finish.end.to_wire());
    }

    #[cold]
    fn write_tail(&self, tail: &mut [u8]) {
        let mut at = 0;
        if let Some(code) = self.status_alone() {
            // trace.proto: Status.code = 3
            tail[..STATUS_ALONE_LEN].copy_from_slice(&[STATUS, 2, 0x18, code]);
            at = STATUS_ALONE_LEN;
        }
        if self.head & mark(TRIMMED) != 0 {
            let mut out = Out::after(tail, at);
            for (tag, count) in self.counts() {
                let written = count_field(&mut out, tag, count);
                debug_assert_eq!(written, Ok(()), "the reserve holds three counts");
            }
        }
    }

    /// The status code to write at the end: a status with a text is among the bytes already.
    #[inline]
    fn status_alone(&self) -> Option<u8> {
        match self.status {
            Said::Nothing | Said::ErrorText => None,
            Said::Error => Some(STATUS_ERROR),
            Said::Ok => Some(STATUS_OK),
        }
    }

    /// Whether the end writes more than the fixed bytes.
    #[inline]
    fn has_tail(&self) -> bool {
        self.head & mark(TAIL) != 0
    }
    fn counts(&self) -> [(u8, u32); 3] {
        [
            (ATTRIBUTES_DROPPED, self.attributes.dropped),
            (EVENTS_DROPPED, self.events_dropped),
            (LINKS_DROPPED, self.links_dropped),
        ]
    }
}

/// Writes a count, unless it is zero.
pub(super) fn count_field(out: &mut Out<'_>, tag: u8, count: u32) -> Result<(), Full> {
    if count == 0 {
        return Ok(());
    }
    out.byte(tag)?;
    out.varint(u64::from(count))
}
fn count_len(count: u32) -> usize {
    if count == 0 { 0 } else { 1 + varint_len(u64::from(count)) }
}
/// Copies whole words, thirty-two bytes at a time: for the lengths of records faster than a call.
#[inline(always)]
fn copy_words(target: &mut [u8], source: &[u8]) {
    debug_assert!(source.len().is_multiple_of(8) && target.len() == source.len());
    let mut targets = target.chunks_exact_mut(32);
    let mut sources = source.chunks_exact(32);
    for (target, source) in targets.by_ref().zip(sources.by_ref()) {
        target.copy_from_slice(source);
    }
    let words = targets.into_remainder().chunks_exact_mut(8).zip(sources.remainder().chunks_exact(8));
    for (target, source) in words {
        target.copy_from_slice(source);
    }
}
#[inline]
fn put<const N: usize>(fixed: &mut [u8; FIXED_LEN], at: usize, bytes: [u8; N]) {
    fixed[at..at + N].copy_from_slice(&bytes);
}

const _: () = assert!(RESERVE >= 3 * (1 + 5) + STATUS_ALONE_LEN, "the reserve holds three counts and a bare status");
