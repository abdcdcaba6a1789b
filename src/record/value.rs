//! Keys and values of attributes, borrowed from the caller, and how a value is written.

use std::{borrow::Cow, fmt};

use super::{
    limits::SpanLimits,
    text::{Text, first_chars},
    wire::{Full, Out},
};

/// The key of an attribute, with a hash that makes it quick to find again.
///
/// In a `const` the hash is computed at compile time: `const METHOD: Key = Key::new("http.method");`. A `&str` is
/// hashed in a few instructions at each call.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    name: &'a str,
    hash: u32,
}

impl<'a> Key<'a> {
    /// The key of this name.
    #[inline]
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self { name, hash: hash(name.as_bytes()) }
    }

    /// The name.
    #[inline]
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The name and its hash, which travel in registers where the key does not.
    #[inline]
    pub(crate) fn parts(self) -> (&'a str, u32) {
        (self.name, self.hash)
    }

    /// The key of these parts.
    #[inline]
    pub(crate) fn from_parts(name: &'a str, hash: u32) -> Self {
        Self { name, hash }
    }

    /// The word and the bit of a draft's filter that belong to this key.
    #[inline]
    pub(super) fn filter(self) -> (usize, u64) {
        ((self.hash >> 30) as usize, 1 << ((self.hash >> 24) & 63))
    }
}

impl<'a> From<&'a str> for Key<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        Self::new(name)
    }
}

/// No attributes, for an event or a link that has none.
pub(crate) const NO_ATTRIBUTES: [(Key<'static>, Value<'static>); 0] = [];

impl<'a> From<&&'a str> for Key<'a> {
    #[inline]
    fn from(name: &&'a str) -> Self {
        Self::new(name)
    }
}

impl<'a> From<&'a String> for Key<'a> {
    fn from(name: &'a String) -> Self {
        Self::from(name.as_str())
    }
}

impl<'a> From<&Self> for Key<'a> {
    fn from(key: &Self) -> Self {
        *key
    }
}

/// Mixes the length and both ends of the name. Keys that differ only in between share a filter bit, which costs a look
/// at the attributes that are there, never a wrong answer.
#[inline]
const fn hash(name: &[u8]) -> u32 {
    let len = name.len();
    let (head, tail) = match len {
        0 => (0, 0),
        1..=3 => (name[0] as u64 | (name[len / 2] as u64) << 8, name[len - 1] as u64),
        4..=7 => (four(name, 0), four(name, len - 4)),
        _ => (four(name, 0) | four(name, 4) << 32, four(name, len - 8) | four(name, len - 4) << 32),
    };
    // Odd constants with well-spread bits: the fractional part of the golden ratio, and of the square root of two.
    let mixed = (head ^ (len as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ tail.wrapping_mul(0x6A09_E667_F3BC_C909).rotate_left(29);
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

#[inline]
const fn four(name: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]) as u64
}

/// The value of an attribute, borrowed for the length of the call: see [`AttributeValue`](super::AttributeValue) for
/// what need not be made one first.
///
/// Empty strings, zeros and empty arrays are ordinary values. A number above `i64::MAX` is written as text, in decimal,
/// because OTLP integers are signed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value<'a> {
    /// No value: the key alone.
    Empty,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number, NaN and infinities included.
    Double(f64),
    /// Text.
    Str(&'a str),
    /// Opaque bytes.
    Bytes(&'a [u8]),
    /// An array of booleans.
    Bools(&'a [bool]),
    /// An array of integers.
    Ints(&'a [i64]),
    /// An array of floating-point numbers.
    Doubles(&'a [f64]),
    /// An array of texts.
    Strs(&'a [&'a str]),
    /// An array of anything.
    Array(&'a [Self]),
    /// An array of what else can be a value.
    List(List<'a>),
    /// A map; the last of equal keys wins. A map of more than 1,024 entries is dropped and counted.
    Map(&'a [(&'a str, Self)]),
    /// Text that is formatted as it is written: see [`Value::display`].
    Text(Text<'a>),
}

/// An array whose elements become values one after the other.
#[derive(Clone, Copy)]
pub struct List<'a>(&'a dyn Elements);

impl<'a> List<'a> {
    pub(super) fn new(elements: &'a dyn Elements) -> Self {
        Self(elements)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[..]")
    }
}

/// The elements of a [`List`].
pub(super) trait Elements {
    /// Writes the content of an `ArrayValue`, whose elements are at this depth.
    fn write(&self, out: &mut Out<'_>, limits: &SpanLimits, depth: u32) -> Result<(), Full>;
}

/// A value in an array.
pub(super) struct Element<'a>(pub(super) Value<'a>);

impl Element<'_> {
    pub(super) fn write(&self, out: &mut Out<'_>, limits: &SpanLimits, depth: u32) -> Result<(), Full> {
        out.nested(ARRAY_VALUES, |out| self.0.write(out, limits, depth)) // common.proto: ArrayValue.values = 1
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident as $as:ty),+ $(,)?) => {
        $(impl From<$from> for Value<'_> {
            #[inline]
            fn from(value: $from) -> Self {
                Self::$variant(<$as>::from(value))
            }
        })+
    };
}

value_from!(bool => Bool as bool, i8 => Int as i64, i16 => Int as i64, i32 => Int as i64, i64 => Int as i64,
    u8 => Int as i64, u16 => Int as i64, u32 => Int as i64, u64 => Uint as u64, f32 => Double as f64,
    f64 => Double as f64);

macro_rules! value_from_reference {
    ($($from:ty),+ $(,)?) => {
        $(impl From<&$from> for Value<'_> {
            #[inline]
            fn from(value: &$from) -> Self {
                Self::from(*value)
            }
        })+
    };
}

value_from_reference!(bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64);

impl<'a> From<&&'a str> for Value<'a> {
    #[inline]
    fn from(value: &&'a str) -> Self {
        Self::Str(value)
    }
}

impl<'a> From<&'a Cow<'_, str>> for Value<'a> {
    #[inline]
    fn from(value: &'a Cow<'_, str>) -> Self {
        Self::Str(value)
    }
}

impl<'a> From<&Self> for Value<'a> {
    #[inline]
    fn from(value: &Self) -> Self {
        *value
    }
}

impl From<usize> for Value<'_> {
    #[inline]
    fn from(value: usize) -> Self {
        Self::Uint(value as u64)
    }
}

impl From<isize> for Value<'_> {
    #[inline]
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}

macro_rules! value_from_borrowed {
    ($($from:ty => $variant:ident),+ $(,)?) => {
        $(impl<'a> From<&'a $from> for Value<'a> {
            #[inline]
            fn from(value: &'a $from) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

value_from_borrowed!(str => Str, String => Str, [u8] => Bytes, [bool] => Bools, [i64] => Ints, [f64] => Doubles,
    [&'a str] => Strs, [Value<'a>] => Array, [(&'a str, Value<'a>)] => Map);

macro_rules! value_from_array {
    ($($of:ty => $variant:ident),+ $(,)?) => {
        $(impl<'a, const N: usize> From<&'a [$of; N]> for Value<'a> {
            #[inline]
            fn from(value: &'a [$of; N]) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

value_from_array!(u8 => Bytes, bool => Bools, i64 => Ints, f64 => Doubles, &'a str => Strs, Value<'a> => Array,
    (&'a str, Value<'a>) => Map);

impl<'a> Value<'a> {
    /// Text, as `{}` formats it, written straight into the span without an allocation, and cut at the limit of lengths
    /// while it is written.
    ///
    /// It is formatted once for each try: again where the span turns out to need a larger block. A panic in it leaves
    /// the span as it was; before an error that it returns, what it wrote is kept.
    ///
    /// ```
    /// # use spanring::{Config, Engine, Value};
    /// # let engine = Engine::start(Config::default())?;
    /// # let mut span = engine.tracer("doc").span("work").start();
    /// span.set("url.path", Value::display(&format_args!("/carts/{}", 17)));
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    #[must_use]
    pub fn display(value: &'a dyn fmt::Display) -> Self {
        Self::Text(Text::display(value))
    }

    /// As [`Value::display`], formatted by `{:?}`.
    #[must_use]
    pub fn debug(value: &'a dyn fmt::Debug) -> Self {
        Self::Text(Text::debug(value))
    }

    /// A number outside of the integers that OTLP has: decimal text, which no limit cuts.
    pub(super) fn digits(number: &'a dyn fmt::Display) -> Self {
        Self::Text(Text::digits(number))
    }

    /// Writes the content of an `AnyValue` at nesting `depth` (the attribute's own value has depth 1).
    ///
    /// common/v1/common.proto, `AnyValue`: string 1, bool 2, int 3, double 4, array 5, kvlist 6, bytes 7. The members
    /// are a oneof, so zeros and empty texts are written too (PB-07); an empty value is the message without a member.
    pub(super) fn write(&self, out: &mut Out<'_>, limits: &SpanLimits, depth: u32) -> Result<(), Full> {
        if self.nests() && depth > limits.attribute_value_depth {
            return Ok(()); // LIM-03: an array or map that lies too deep becomes an empty value
        }
        match *self {
            Self::Empty => Ok(()),
            Self::Bool(value) => out.put(&[BOOL, u8::from(value)]),
            Self::Int(value) => int(out, value.cast_unsigned()),
            Self::Uint(value) => match i64::try_from(value) {
                Ok(_) => int(out, value),
                Err(_) => Value::digits(&value).write(out, limits, depth),
            },
            Self::Double(value) => {
                out.byte(DOUBLE)?;
                out.put(&value.to_le_bytes())
            }
            Self::Str(value) => out.bytes_field(STRING, first_chars(value, limits.value_len_max()).as_bytes()),
            Self::Text(text) => out.nested(STRING, |out| text.write(out, limits.value_len_max())),
            Self::Bytes(value) => out.bytes_field(BYTES, &value[..value.len().min(limits.value_len_max())]),
            Self::Bools(values) => array(out, values.iter().map(|&value| Value::Bool(value)), limits, depth),
            Self::Ints(values) => array(out, values.iter().map(|&value| Value::Int(value)), limits, depth),
            Self::Doubles(values) => array(out, values.iter().map(|&value| Value::Double(value)), limits, depth),
            Self::Strs(values) => array(out, values.iter().map(|&value| Value::Str(value)), limits, depth),
            Self::Array(values) => array(out, values.iter().copied(), limits, depth),
            Self::List(list) => out.nested(ARRAY, |out| list.0.write(out, limits, depth + 1)),
            Self::Map(entries) => out.nested(KVLIST, |out| map(out, entries, limits, depth)),
        }
    }

    /// Whether it is an array or a map.
    fn nests(&self) -> bool {
        match self {
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => false,
            Self::Str(_) | Self::Text(_) | Self::Bytes(_) => false,
            Self::Bools(_) | Self::Ints(_) | Self::Doubles(_) | Self::Strs(_) => true,
            Self::Array(_) | Self::List(_) | Self::Map(_) => true,
        }
    }
}

fn array<'a>(
    out: &mut Out<'_>,
    mut values: impl Iterator<Item = Value<'a>>,
    limits: &SpanLimits,
    depth: u32,
) -> Result<(), Full> {
    out.nested(ARRAY, |out| values.try_for_each(|value| Element(value).write(out, limits, depth + 1)))
}

fn int(out: &mut Out<'_>, value: u64) -> Result<(), Full> {
    out.byte(INT)?;
    out.varint(value)
}

/// Each key is looked for among the later ones: half a million comparisons at the most, whatever the program passes.
const MAP_LEN_MAX: usize = 1024;

/// Writes the entries whose key does not come again: the last of equal keys wins, as it does for attributes (PB-05).
fn map(out: &mut Out<'_>, entries: &[(&str, Value<'_>)], limits: &SpanLimits, depth: u32) -> Result<(), Full> {
    if entries.len() > MAP_LEN_MAX {
        return Err(Full { need: usize::MAX });
    }
    entries.iter().enumerate().try_for_each(|(index, (key, value))| {
        let comes_again = entries[index + 1..].iter().any(|(later, _)| later == key);
        if comes_again {
            return Ok(());
        }
        // common.proto: KeyValueList.values = 1
        out.nested(KVLIST_VALUES, |out| key_value(out, key, value, limits, depth + 1))
    })
}

/// Writes the content of a `KeyValue`. common/v1/common.proto: key = 1, value = 2.
pub(super) fn key_value(
    out: &mut Out<'_>,
    key: &str,
    value: &Value<'_>,
    limits: &SpanLimits,
    depth: u32,
) -> Result<(), Full> {
    out.bytes_field(KEY, key.as_bytes())?;
    out.nested(VALUE, |out| value.write(out, limits, depth))
}

// Tags, `field number << 3 | wire type`, of common/v1/common.proto.
pub(super) const KEY: u8 = 0x0A; // KeyValue.key = 1
pub(super) const VALUE: u8 = 0x12; // KeyValue.value = 2
pub(super) const STRING: u8 = 0x0A; // AnyValue.string_value = 1
pub(super) const BOOL: u8 = 0x10; // AnyValue.bool_value = 2
pub(super) const INT: u8 = 0x18; // AnyValue.int_value = 3
pub(super) const DOUBLE: u8 = 0x21; // AnyValue.double_value = 4
const ARRAY: u8 = 0x2A; // AnyValue.array_value = 5
const KVLIST: u8 = 0x32; // AnyValue.kvlist_value = 6
const BYTES: u8 = 0x3A; // AnyValue.bytes_value = 7
const ARRAY_VALUES: u8 = 0x0A; // ArrayValue.values = 1
const KVLIST_VALUES: u8 = 0x0A; // KeyValueList.values = 1

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn const_and_run_time_keys_have_the_same_hash() {
        const KEY: Key<'_> = Key::new("http.request.method");
        assert_eq!(KEY.hash, Key::from("http.request.method").hash);
    }

    #[test]
    fn filter_bits_spread_over_all_words() {
        let mut seen = [0u64; 4];
        for index in 0..2000 {
            let name = format!("attribute.number.{index}");
            let (word, bit) = Key::from(name.as_str()).filter();
            seen[word] |= bit;
        }
        assert!(seen.iter().all(|word| word.count_ones() > 48), "{seen:x?}");
    }

    #[test]
    fn map_has_as_many_entries_as_can_be_compared_and_no_more() {
        let keys: Vec<String> = (0..=MAP_LEN_MAX).map(|index| index.to_string()).collect();
        let entries: Vec<_> = keys.iter().map(|key| (key.as_str(), Value::Empty)).collect();
        let written = |entries: &[(&str, Value<'_>)]| {
            Value::Map(entries).write(&mut Out::after(&mut vec![0; 1 << 16], 0), &SpanLimits::default(), 1)
        };
        assert_eq!(written(&entries), Err(Full { need: usize::MAX }));
        // Half a million comparisons take Miri minutes.
        if cfg!(not(miri)) {
            assert_eq!(written(&entries[..MAP_LEN_MAX]), Ok(()));
        }
    }
}
