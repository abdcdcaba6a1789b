//! The ids of traces and spans, as bytes, numbers and text.

use std::{fmt, str::FromStr};

/// The sixteen bytes that all spans of one trace share. All zero is "none".
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TraceId(pub [u8; 16]);

/// The eight bytes that name one span. All zero is "none".
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// No trace.
    pub const NONE: Self = Self([0; 16]);

    /// Whether the id names a trace: any byte but zero.
    #[inline]
    #[must_use]
    pub fn is_valid(self) -> bool {
        u128::from_ne_bytes(self.0) != 0
    }

    /// The bytes as two numbers, for registers. Their order in memory is that of the bytes.
    #[inline]
    pub(crate) fn halves(self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p]))
    }

    /// The id of these halves.
    #[inline]
    pub(crate) fn from_halves(high: u64, low: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_ne_bytes());
        id[8..].copy_from_slice(&low.to_ne_bytes());
        Self(id)
    }
}

impl SpanId {
    /// No span.
    pub const NONE: Self = Self([0; 8]);

    /// Whether the id names a span: any byte but zero.
    #[inline]
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.number() != 0
    }

    /// The bytes as a number, for registers.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        u64::from_ne_bytes(self.0)
    }

    /// The id of this number.
    #[inline]
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number.to_ne_bytes())
    }
}

/// Reads lower- or upper-case hex digits, all of them.
fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidId> {
    if text.len() != 2 * N {
        return Err(InvalidId);
    }
    let mut digits = [0; 32];
    let digits = &mut digits[..text.len()];
    digits.copy_from_slice(text.as_bytes());
    digits.make_ascii_lowercase();
    from_lower_hex(digits).ok_or(InvalidId)
}

/// Bytes from lower-case hex digits, twice as many; `None` if there is another character (TPA-03).
pub(crate) fn from_lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    debug_assert_eq!(digits.len(), 2 * N);
    let mut bytes = [0; N];
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low & 0xF;
    }
    (wrong & WRONG == 0).then_some(bytes)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// In [`NIBBLES`]: the character is no digit.
const WRONG: u8 = 0x80;
/// The value of each lower-case digit.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [WRONG; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below sixteen")]
        {
            nibbles[DIGITS[value] as usize] = value as u8;
        }
        value += 1;
    }
    nibbles
};

/// The text is no id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: a trace id has 32 hex digits, a span id 16")
    }
}

impl std::error::Error for InvalidId {}

/// Writes lower-case hex digits, as a text: width and alignment apply.
fn hex<const N: usize>(bytes: [u8; N], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [[0; 2]; N];
    for (pair, byte) in text.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]];
    }
    f.pad(str::from_utf8(text.as_flattened()).unwrap_or_default())
}

/// What both ids can do as bytes and as text.
macro_rules! bytes_and_text {
    ($id:ident, $bytes:literal, $digits:literal) => {
        impl $id {
            /// The id of these bytes, in the order in which they go over the wire.
            #[inline]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id, in the order in which they go over the wire.
            #[inline]
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }
        }

        impl From<[u8; $bytes]> for $id {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl From<$id> for [u8; $bytes] {
            fn from(id: $id) -> Self {
                id.0
            }
        }

        impl FromStr for $id {
            type Err = InvalidId;

            #[doc = concat!($digits, " hex digits of either case. All zero is an id, too, which is not valid.")]
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                from_hex(text).map(Self)
            }
        }

        impl fmt::Display for $id {
            #[doc = concat!($digits, " lower-case hex digits.")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(self.0, f)
            }
        }

        impl fmt::Debug for $id {
            #[doc = concat!($digits, " lower-case hex digits.")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(self.0, f)
            }
        }

        impl fmt::LowerHex for $id {
            #[doc = concat!($digits, " digits, after `0x` where `#` asks for it.")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.alternate() {
                    f.write_str("0x")?;
                }
                hex(self.0, f)
            }
        }
    };
}

bytes_and_text!(TraceId, 16, "Thirty-two");
bytes_and_text!(SpanId, 8, "Sixteen");

#[cfg(test)]
mod tests {
    use super::*;

    /// API-14: lower-case hex of a fixed length; text of either case is read.
    #[test]
    fn api_14_ids_are_hex_of_a_fixed_length() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for (trace, span) in [(trace.to_owned(), span.to_owned()), (trace.to_uppercase(), span.to_uppercase())] {
            let (read_trace, read_span): (TraceId, SpanId) = (trace.parse().unwrap(), span.parse().unwrap());
            assert_eq!((read_trace.0[0], read_trace.0[15], read_span.0[0], read_span.0[7]), (0x0A, 0x9C, 0xB7, 0x31));
            assert_eq!((read_trace.to_string(), read_span.to_string()), (trace.to_lowercase(), span.to_lowercase()));
        }
        assert_eq!("0".repeat(32).parse(), Ok(TraceId::NONE));
        for text in ["", "0", &trace[1..], &format!("{trace}0"), &trace.replace('f', "g"), &trace.replace("f7", "ä")] {
            assert_eq!(text.parse::<TraceId>(), Err(InvalidId), "{text}");
        }
        for text in [trace, &span[1..], "+7ad6b7169203331"] {
            assert_eq!(text.parse::<SpanId>(), Err(InvalidId), "{text}");
        }
    }
    #[test]
    fn ids_are_bytes_and_text_without_a_loss() {
        let (bytes, text) = (*b"\x01\x23\x45\x67\x89\xAB\xCD\xEF", "0123456789abcdef");
        let id = SpanId::from_bytes(bytes);
        assert_eq!((id.to_bytes(), SpanId::from(bytes), <[u8; 8]>::from(id)), (bytes, id, bytes));
        assert_eq!((format!("{id}"), format!("{id:?}"), format!("{id:x}")), (text.into(), text.into(), text.into()));
        assert_eq!((format!("{id:#x}"), format!("{id:>18}|")), (format!("0x{text}"), format!("  {text}|")));
        let trace = TraceId::from_bytes([0xF0; 16]);
        assert_eq!((trace.to_bytes(), TraceId::from([0xF0; 16])), ([0xF0; 16], trace));
        assert_eq!((format!("{trace:x}"), format!("{trace:#x}")), ("f0".repeat(16), format!("0x{}", "f0".repeat(16))));
        assert_eq!(trace.to_string().parse(), Ok(trace));
    }
}
