//! What the bytes of a span mean: the vocabulary, the open span's draft, and the view of a finished record. Pure.

mod attribute_value;
mod attributes;
mod draft;
mod fields;
mod finish;
mod ids;
mod layout;
mod limits;
mod list;
mod note;
mod text;
mod value;
mod view;
mod wire;

pub use attribute_value::{AttributeValue, Lazy};
pub(crate) use attributes::{Landed, Short};
pub use draft::{Draft, Ids, LinkTarget};
pub(crate) use draft::{TEXT_LEN_MAX, wire_flags};
pub(crate) use fields::write_attributes;
pub use finish::Finish;
pub(crate) use ids::from_lower_hex;
pub use ids::{InvalidId, SpanId, TraceId};
pub(crate) use layout::RESERVE;
pub(crate) use limits::ShortLimits;
pub use limits::SpanLimits;
pub use list::AttributeList;
pub use text::Text;
pub(crate) use value::NO_ATTRIBUTES;
pub use value::{Key, List, Value};
pub use view::{Record, Timeline};
pub use wire::Full;
pub(crate) use wire::{Field, begin_field, field_at, field_len, read_varint};

/// The role of the program in the operation that a span describes. trace/v1/trace.proto: `SpanKind`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// Work within the program.
    #[default]
    Internal = 1,
    /// Handling a request from a remote client.
    Server = 2,
    /// Calling a remote service.
    Client = 3,
    /// Sending a message to a broker.
    Producer = 4,
    /// Processing a message from a broker.
    Consumer = 5,
}

/// How the work of a span ended. trace/v1/trace.proto: `Status.StatusCode`. Ok beats Error beats Unset.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status<'a> {
    /// No status was set.
    #[default]
    Unset,
    /// The operation failed. The text says why; it may be empty.
    Error(&'a str),
    /// The application says that the operation succeeded. No later call changes this.
    Ok,
}

/// A point in time that says which clock it was read from.
///
/// Bit 63 marks a raw reading, which the drain turns into Unix time; bit 62 tells the two raw clocks apart. Without bit
/// 63 the value is Unix nanoseconds, good until the year 2262. So each time in a record explains itself, and one record
/// may mix times given by the program, times of the counter, and times taken after the engine left an untrusted
/// counter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stamp(u64);

/// A [`Stamp`], taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Unix nanoseconds, given by the program.
    Wall(u64),
    /// Ticks of the core's counter.
    Counter(u64),
    /// Nanoseconds of the monotonic clock.
    Monotonic(u64),
}

impl Stamp {
    const RAW: u64 = 1 << 63;
    const MONOTONIC: u64 = 1 << 62;
    const VALUE: u64 = Self::MONOTONIC - 1;

    /// The first moment of 1970, which no span ends at.
    pub const EPOCH: Self = Self(0);

    /// Unix nanoseconds; times after the year 2262 become its last.
    #[must_use]
    pub fn wall(unix_nanos: u64) -> Self {
        Self(unix_nanos.min(Self::RAW - 1))
    }

    /// Ticks of the core's counter.
    #[inline]
    #[must_use]
    pub fn counter(ticks: u64) -> Self {
        debug_assert!(ticks <= Self::VALUE, "a counter of three gigahertz takes 48 years to get here");
        Self(ticks | Self::RAW)
    }

    /// Nanoseconds of the monotonic clock.
    #[inline]
    #[must_use]
    pub fn monotonic(nanos: u64) -> Self {
        debug_assert!(nanos <= Self::VALUE, "an uptime of 146 years");
        Self(nanos | Self::RAW | Self::MONOTONIC)
    }

    /// The clock and its value.
    #[must_use]
    pub fn reading(self) -> Reading {
        let value = self.0 & Self::VALUE;
        if self.0 & Self::RAW == 0 {
            Reading::Wall(self.0)
        } else if self.0 & Self::MONOTONIC == 0 {
            Reading::Counter(value)
        } else {
            Reading::Monotonic(value)
        }
    }

    /// The clock and its value in one number; zero for [`Stamp::EPOCH`] alone.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The stamp of [`Stamp::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    fn to_wire(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn from_wire(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }
}

/// Bits of a span's and a link's `flags`. trace/v1/trace.proto: `SpanFlags`.
pub(crate) mod flags {
    /// W3C: the trace is sampled.
    pub(crate) const SAMPLED: u8 = 0x01;
    /// W3C level 2: the low seven bytes of the trace id are random.
    pub(crate) const RANDOM: u8 = 0x02;
    /// The next bit is meant: PB-04.
    pub(crate) const HAS_IS_REMOTE: u32 = 0x100;
    /// The parent (of a link: the target) lives in another process.
    pub(crate) const IS_REMOTE: u32 = 0x200;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_keep_their_clock_and_value() {
        assert_eq!(Stamp::wall(7).reading(), Reading::Wall(7));
        assert_eq!(Stamp::counter(7).reading(), Reading::Counter(7));
        assert_eq!(Stamp::monotonic(7).reading(), Reading::Monotonic(7));
        assert_eq!(Stamp::wall(u64::MAX).reading(), Reading::Wall(u64::MAX >> 1));
    }

    #[test]
    fn ids_print_as_lower_case_hex() {
        assert_eq!(SpanId([0xAB, 0, 0, 0, 0, 0, 0, 1]).to_string(), "ab00000000000001");
        assert_eq!(TraceId([0x0F; 16]).to_string(), "0f".repeat(16));
    }

    #[test]
    fn status_order_is_ok_error_unset() {
        assert!(Status::Ok > Status::Error("boom"));
        assert!(Status::Error("") > Status::Unset);
    }
}
