//! Reads a finished record in place: what the drain needs to know, and the bytes that it frames.

use super::{
    Ids, SpanId, Stamp, TraceId,
    draft::{EVENT_LIST, HEAD_LEN, LINE_LEN},
    wire::{field_at, varint_len},
};

/// Bits of a record's flags.
pub(super) const ROOT: u8 = 1;
/// The record has events, whose times want patching.
pub(super) const EVENTS: u8 = 2;
/// The status is an error.
pub(super) const FAILED: u8 = 4;
/// A limit turned attributes, events or links away.
pub(super) const TRIMMED: u8 = 8;

/// One finished span, as it lies in a ring or a block.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    head: &'a [u8; HEAD_LEN],
    line: &'a [u8; LINE_LEN],
    /// Everything after the fixed line.
    rest: &'a [u8],
}

/// Turns the times of a record into Unix nanoseconds.
pub trait Timeline {
    /// Start and end of a span; the end is never before the start.
    fn span(&self, start: Stamp, end: Stamp) -> (u64, u64);
    /// One point in time.
    fn instant(&self, at: Stamp) -> u64;
}

impl<'a> Record<'a> {
    /// The record that `bytes` begin with; `None` when they are none.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, wire) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let wire_len = usize::try_from(u32::from_le_bytes(*head.last_chunk::<4>()?)).ok()?;
        let (line, rest) = wire.get(..wire_len)?.split_first_chunk::<LINE_LEN>()?;
        Some(Self { head, line, rest })
    }

    /// The scope's number in the engine's table.
    #[must_use]
    pub fn scope(&self) -> u16 {
        u16::from_le_bytes([self.head[0], self.head[1]])
    }

    /// Whether the span has no parent.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.head[2] & ROOT != 0
    }

    /// Whether the status is an error.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.head[2] & FAILED != 0
    }

    /// Whether a limit turned something away.
    #[must_use]
    pub fn is_trimmed(&self) -> bool {
        self.head[2] & TRIMMED != 0
    }

    /// The ids.
    #[must_use]
    pub fn ids(&self) -> Ids {
        Ids { trace: TraceId(self.fixed(12)), span: SpanId(self.fixed(30)) }
    }

    /// Start and end, as they were taken.
    #[must_use]
    pub fn times(&self) -> (Stamp, Stamp) {
        (Stamp::from_wire(self.fixed(START)), Stamp::from_wire(self.fixed(END)))
    }

    /// Bytes of the span's message on the wire.
    #[must_use]
    pub fn message_len(&self) -> usize {
        self.line.len() - self.skipped() + self.rest.len()
    }

    /// Bytes that [`Record::emit`] appends: the message with its tag and length.
    #[must_use]
    pub fn framed_len(&self) -> usize {
        let message = self.message_len();
        1 + varint_len(message as u64) + message
    }

    /// Appends the span as one element of `ScopeSpans.spans`, with Unix times. trace/v1/trace.proto: ScopeSpans.spans = 2
    pub fn emit(&self, times: &impl Timeline, out: &mut Vec<u8>) {
        out.push(0x12);
        let mut length = self.message_len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7F).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap_or(0));
        // A root has no parent field, which heads the line for this reason.
        let skipped = self.skipped();
        let line = out.len();
        out.extend_from_slice(&self.line[skipped..]);
        let (start, end) = self.times();
        let (start, end) = times.span(start, end);
        out[line + START - skipped..][..8].copy_from_slice(&start.to_le_bytes());
        out[line + END - skipped..][..8].copy_from_slice(&end.to_le_bytes());
        let rest = out.len();
        out.extend_from_slice(self.rest);
        if self.head[2] & EVENTS != 0 {
            patch_events(&mut out[rest..], times);
        }
    }

    fn skipped(&self) -> usize {
        if self.is_root() { PARENT_LEN } else { 0 }
    }

    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.line[at..at + N]);
        bytes
    }
}

/// Turns the time of each event, which is the first thing in it.
fn patch_events(rest: &mut [u8], times: &impl Timeline) {
    let mut at = 0;
    while let Some(field) = field_at(rest, at) {
        at = field.whole.end;
        if field.tag != EVENT_LIST {
            continue;
        }
        if let Some((_tag, time)) = rest[field.content].split_first_mut()
            && let Some(time) = time.first_chunk_mut::<8>()
        {
            *time = times.instant(Stamp::from_wire(*time)).to_le_bytes();
        }
    }
}

/// Bytes of the parent's field, tag and length included.
const PARENT_LEN: usize = 10;
/// Where the line holds the start and the end.
const START: usize = 47;
const END: usize = 56;

const _: () = assert!(END + 8 == LINE_LEN, "the end time closes the line");
