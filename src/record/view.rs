//! Reads a finished record in place: what the drain needs to know, and the bytes that it frames.

use super::{
    Ids, SpanId, Stamp, TraceId,
    layout::{
        END, EVENT_LIST, EVENTS, FIXED_LEN, FLAGS, HEAD_LEN, PARENT_LEN, ROOT, SCOPE, SPAN, START, TRACE, WIRE_LEN,
    },
    wire::{begin_field, field_at, field_len},
};

/// One finished span, as it lies in a ring or a block.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The head and the fixed line.
    fixed: &'a [u8; FIXED_LEN],
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
        let wire_len = bytes.get(WIRE_LEN..)?.first_chunk::<4>()?;
        let wire_len = usize::try_from(u32::from_le_bytes(*wire_len)).ok()?;
        let (fixed, rest) = bytes.get(..HEAD_LEN.checked_add(wire_len)?)?.split_first_chunk::<FIXED_LEN>()?;
        Some(Self { fixed, rest })
    }

    /// The scope's number in the engine's table.
    #[must_use]
    pub fn scope(&self) -> u16 {
        u16::from_le_bytes(self.bytes(SCOPE))
    }

    /// Whether the span has no parent.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.fixed[FLAGS] & ROOT != 0
    }

    /// The ids.
    #[must_use]
    pub fn ids(&self) -> Ids {
        Ids { trace: TraceId(self.bytes(TRACE)), span: SpanId(self.bytes(SPAN)) }
    }

    /// Start and end, as they were taken.
    #[must_use]
    pub fn times(&self) -> (Stamp, Stamp) {
        (Stamp::from_wire(self.bytes(START)), Stamp::from_wire(self.bytes(END)))
    }

    /// Bytes of the span's message on the wire.
    #[must_use]
    pub fn message_len(&self) -> usize {
        FIXED_LEN - self.skipped() + self.rest.len()
    }

    /// Bytes that [`Record::emit`] appends: the message with its tag and length.
    #[must_use]
    pub fn framed_len(&self) -> usize {
        field_len(self.message_len())
    }

    /// Appends the span as one element of `ScopeSpans.spans`, with Unix times. trace/v1/trace.proto: ScopeSpans.spans =
    /// 2
    pub fn emit(&self, times: &impl Timeline, out: &mut Vec<u8>) {
        begin_field(0x12, self.message_len(), out);
        let skipped = self.skipped();
        let line = out.len();
        out.extend_from_slice(&self.fixed[skipped..]);
        let (start, end) = self.times();
        let (start, end) = times.span(start, end);
        out[line + START - skipped..][..8].copy_from_slice(&start.to_le_bytes());
        out[line + END - skipped..][..8].copy_from_slice(&end.to_le_bytes());
        let rest = out.len();
        out.extend_from_slice(self.rest);
        if self.fixed[FLAGS] & EVENTS != 0 {
            patch_events(&mut out[rest..], times);
        }
    }

    /// How many of the fixed bytes are not part of the message: the head, and a root's parent.
    fn skipped(&self) -> usize {
        HEAD_LEN + if self.is_root() { PARENT_LEN } else { 0 }
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.fixed[at..at + N]);
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
