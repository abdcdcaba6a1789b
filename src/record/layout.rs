//! Where each byte of a record lies: its head, its fixed line, its flags, and the tags of the fields after the line.
//!
//! ```text
//! head:  scope u16 | flags u8 | 0 | wire_len u32
//! line:  22 08 parent[8]  0A 10 trace[16]  12 08 span[8]  30 kind  85 01 flags[4]  39 start[8]  41 end[8]
//! ```
//!
//! The order of fields is free in protobuf. The parent comes first because a root has none: a root is framed without
//! it.

/// Bytes of a record's head: scope, flags, length.
pub(super) const HEAD_LEN: usize = 8;
/// Bytes of the fixed line: one cache line that holds every field of a span whose size is known.
pub(super) const LINE_LEN: usize = 64;
/// Bytes of a record before its name.
pub(super) const FIXED_LEN: usize = HEAD_LEN + LINE_LEN;
/// Bytes kept free for what is known at the end: three counts (a tag of one byte and five bytes each), and a status
/// without a text.
pub(crate) const RESERVE: usize = 24;

// The values of the line, each as its place in the record; in front of it the field's tag, and a length where it has
// one.

/// trace/v1/trace.proto: `Span.parent_span_id` = 4
pub(super) const PARENT: usize = HEAD_LEN + PARENT_TAG.len();
pub(super) const PARENT_TAG: [u8; 2] = [0x22, 8];
/// trace.proto: `Span.trace_id` = 1
pub(super) const TRACE: usize = PARENT + 8 + TRACE_TAG.len();
pub(super) const TRACE_TAG: [u8; 2] = [0x0A, 16];
/// trace.proto: `Span.span_id` = 2
pub(super) const SPAN: usize = TRACE + 16 + SPAN_TAG.len();
pub(super) const SPAN_TAG: [u8; 2] = [0x12, 8];
/// trace.proto: `Span.kind` = 6, a varint of one byte, and `Span.flags` = 16, a fixed32: eight bytes with both tags.
pub(super) const KIND_AND_FLAGS: usize = SPAN + 8;
/// Both tags where they lie in these eight bytes, little-endian.
pub(super) const KIND_AND_FLAGS_TAGS: u64 = 0x30 | 0x0185 << 16;
/// Which of these eight bytes is the kind, and at which the flags begin.
pub(super) const KIND_IN_WORD: usize = 1;
pub(super) const FLAGS_IN_WORD: usize = 4;
/// trace.proto: `Span.start_time_unix_nano` = 7
pub(super) const START: usize = KIND_AND_FLAGS + 8 + START_TAG.len();
pub(super) const START_TAG: [u8; 1] = [0x39];
/// trace.proto: `Span.end_time_unix_nano` = 8
pub(super) const END: usize = START + 8 + END_TAG.len();
pub(super) const END_TAG: [u8; 1] = [0x41];

/// Bytes of the parent's field, tag and length included: what a root leaves out.
pub(super) const PARENT_LEN: usize = TRACE - TRACE_TAG.len() - HEAD_LEN;

const _: () = assert!(END + 8 == FIXED_LEN, "the end time closes the line");
const _: () = assert!(RESERVE >= 3 * (1 + 5) + 4, "the reserve holds three counts and a bare status");

// The head as one little-endian number: scope, flags, length.

pub(super) const SCOPE: usize = 0;
pub(super) const FLAGS: usize = SCOPE + 2;
pub(super) const WIRE_LEN: usize = FLAGS + 2;

const _: () = assert!(SCOPE == 0 && WIRE_LEN + 4 == HEAD_LEN, "a draft keeps the scope in the lowest bits");

/// Where a flag of the record lies in its head.
#[inline]
pub(super) const fn mark(flag: u8) -> u64 {
    (flag as u64) << (8 * FLAGS)
}

/// The span has no parent.
pub(super) const ROOT: u8 = 1;
/// The record has events, whose times are still stamps.
pub(super) const EVENTS: u8 = 2;
/// Not a flag of a finished record: the draft has something to write at the end.
pub(super) const TAIL: u8 = 0x80;

// Tags, `field number << 3 | wire type`, of the fields that follow the line. trace/v1/trace.proto.
pub(super) const TRACE_STATE: u8 = 0x1A; // Span.trace_state = 3
pub(super) const NAME: u8 = 0x2A; // Span.name = 5
pub(super) const ATTRIBUTES: u8 = 0x4A; // Span.attributes = 9
pub(super) const EVENT_LIST: u8 = 0x5A; // Span.events = 11
pub(super) const LINK_LIST: u8 = 0x6A; // Span.links = 13
pub(super) const STATUS: u8 = 0x7A; // Span.status = 15

pub(super) const ATTRIBUTES_DROPPED: u8 = 0x50; // Span.dropped_attributes_count = 10
pub(super) const EVENTS_DROPPED: u8 = 0x60; // Span.dropped_events_count = 12
pub(super) const LINKS_DROPPED: u8 = 0x70; // Span.dropped_links_count = 14

pub(super) const STATUS_OK: u8 = 1; // STATUS_CODE_OK
pub(super) const STATUS_ERROR: u8 = 2; // STATUS_CODE_ERROR
