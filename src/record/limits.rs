//! How much a span may hold: the limits of the specification, applied when a call is made.

use super::wire::{COPY_MAX, byte};

/// Limits of one span, with the specification's defaults. Names as in its `SpanLimits`.
///
/// These limits keep a trace readable. The memory of a span has a bound of its own: 64 KiB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpanLimits {
    /// Attributes of a span; further keys are dropped and counted, known keys still overwrite. `LIM-01`
    pub attribute_count: u32,
    /// Longest string value in characters, longest byte value in bytes; `None` is no limit. `LIM-02`
    pub attribute_value_length: Option<u32>,
    /// Deepest nesting of arrays and maps, 1 to 128; a deeper value becomes an empty one. `LIM-03` Each level is two
    /// nested messages, and some receivers refuse a request with more than 100: stay below 45 if your values nest.
    pub attribute_value_depth: u32,
    /// Events of a span. `LIM-04`
    pub event_count: u32,
    /// Links of a span. `LIM-04`
    pub link_count: u32,
    /// Attributes of one event. `LIM-05`
    pub attribute_per_event_count: u32,
    /// Attributes of one link. `LIM-05`
    pub attribute_per_link_count: u32,
}

impl SpanLimits {
    /// Values nest through the stack of the calling thread, so their depth has a ceiling that no configuration lifts.
    pub const VALUE_DEPTH_MAX: u32 = 128;

    pub(super) fn value_len_max(&self) -> usize {
        self.attribute_value_length.map_or(usize::MAX, |len| len as usize)
    }
}

/// What a short attribute asks of the limits, looked up once.
#[derive(Clone, Copy, Debug)]
pub struct ShortLimits {
    /// Attributes of a span.
    pub(super) count: u32,
    /// Longest string in bytes that is certainly within the limit, and short enough to be copied in a few moves. One
    /// byte wide, so that the compiler knows that sums with it do not overflow.
    pub(super) text_len: u8,
}

impl ShortLimits {
    /// Those of these limits.
    #[inline]
    #[must_use]
    pub fn of(limits: &SpanLimits) -> Self {
        Self { count: limits.attribute_count, text_len: byte(limits.value_len_max().min(COPY_MAX)) }
    }
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self {
            attribute_count: 128,
            attribute_value_length: None,
            attribute_value_depth: 64,
            event_count: 128,
            link_count: 128,
            attribute_per_event_count: 128,
            attribute_per_link_count: 128,
        }
    }
}
