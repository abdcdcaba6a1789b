//! One collection of attributes, written as wire bytes at each call: the last value of a key wins, and limits apply at
//! once.

use super::{
    limits::{ShortLimits, SpanLimits},
    value::{self, Key, Value, key_value},
    wire::{COPY_MAX, Full, Out, SHORT, byte, copy_short, field_at, low_seven, varint_len, write_varint},
};

/// The outcome of setting an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Landed {
    /// It is a new key.
    Added,
    /// The key was there; the new value took its place.
    Replaced,
    /// The collection has as many keys as it may: the attribute was dropped and counted.
    Dropped,
    /// The key is empty, so the attribute was ignored.
    EmptyKey,
}

/// The state of a collection, apart from its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    /// One bit a key, by hash: a clear bit proves that a key is new. 256 bits in words of the width they are stored
    /// with, because a wide compare right after narrow stores would stall on every attribute.
    filter: [u64; 4],
    /// Distinct keys.
    pub(super) count: u32,
    /// Attributes that the count limit, or the size of the block, turned away.
    pub(super) dropped: u32,
}

/// Where a collection lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Tag of its `KeyValue` fields: 9 in a span, 3 in an event, 4 in a link.
    pub(super) tag: u8,
    /// First byte that may belong to it. Other length-delimited fields may lie between its own.
    pub(super) start: usize,
    /// Distinct keys that it may hold.
    pub(super) count_max: u32,
}

impl Attributes {
    /// Makes the collection empty.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.filter = [0; 4];
        self.count = 0;
        self.dropped = 0;
    }

    /// Appends or replaces one attribute; `len` is the length of what `bytes` holds, and is moved along.
    ///
    /// # Errors
    ///
    /// When the bytes have no room: nothing has changed, and the caller may try again in a larger place.
    #[inline]
    pub(super) fn set(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        limits: &SpanLimits,
        key: Key<'_>,
        value: Value<'_>,
    ) -> Result<Landed, Full> {
        let short = ShortLimits { count: place.count_max, ..ShortLimits::of(limits) };
        let is_added = match value {
            Value::Str(text) => self.add_fast(bytes, len, place.tag, short, key, text),
            Value::Int(number) => self.add_fast(bytes, len, place.tag, short, key, number),
            Value::Bool(truth) => self.add_fast(bytes, len, place.tag, short, key, truth),
            Value::Double(number) => self.add_fast(bytes, len, place.tag, short, key, number),
            _ => false,
        };
        if is_added { Ok(Landed::Added) } else { self.set_slowly(bytes, len, place, limits, key, value) }
    }

    /// Appends an attribute that is certainly new and short, in one go; false leaves every other case to
    /// [`Attributes::set`], with nothing changed.
    #[inline(always)]
    pub(super) fn add_fast(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        tag: u8,
        limits: ShortLimits,
        key: Key<'_>,
        value: impl Short,
    ) -> bool {
        let (word, bit) = key.filter();
        let may_be_known = self.filter[word] & bit != 0;
        if may_be_known || self.count >= limits.count {
            return false;
        }
        let Some(written) = append_short(bytes, *len, tag, key.name(), value, limits) else {
            return false;
        };
        *len = written;
        self.filter[word] |= bit;
        self.count += 1;
        true
    }

    /// Appends or replaces an attribute that is a written `KeyValue` already, truncated and all.
    pub(super) fn absorb(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        key_value: &[u8],
    ) -> Result<Landed, Full> {
        let Some(name) = field_at(key_value, 0).and_then(|field| str::from_utf8(&key_value[field.content]).ok()) else {
            debug_assert!(false, "a written attribute begins with its key");
            return Ok(Landed::EmptyKey);
        };
        self.set_written(bytes, len, place, Key::from(name), |bytes, len| {
            let mut out = Out::after(bytes, len);
            out.bytes_field(place.tag, key_value)?;
            Ok(out.len())
        })
    }

    /// The general half of [`Attributes::set`]: any value, a key that may be there already, a collection at its limit.
    fn set_slowly(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        limits: &SpanLimits,
        key: Key<'_>,
        value: Value<'_>,
    ) -> Result<Landed, Full> {
        if key.name().is_empty() {
            return Ok(Landed::EmptyKey);
        }
        self.set_written(bytes, len, place, key, |bytes, len| append(bytes, len, place.tag, key.name(), &value, limits))
    }

    fn set_written(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        key: Key<'_>,
        append: impl FnOnce(&mut [u8], usize) -> Result<usize, Full>,
    ) -> Result<Landed, Full> {
        let (word, bit) = key.filter();
        let may_be_known = self.filter[word] & bit != 0;
        let old = if may_be_known { find(&bytes[..*len], place, key.name().as_bytes()) } else { None };
        if old.is_none() && self.count >= place.count_max {
            self.dropped = self.dropped.saturating_add(1);
            return Ok(Landed::Dropped);
        }
        let end = append(bytes, *len)?;
        let Some(old) = old else {
            self.filter[word] |= bit;
            self.count += 1;
            *len = end;
            return Ok(Landed::Added);
        };
        let mut out = Out::after(bytes, end);
        if end - *len == old.len() {
            out.replace_with_last(old.start, old.len());
        } else {
            out.remove(old);
        }
        *len = out.len();
        Ok(Landed::Replaced)
    }
}

/// Writes a `KeyValue` of any kind and size after the first `len` bytes; the new length.
fn append(
    bytes: &mut [u8],
    len: usize,
    tag: u8,
    key: &str,
    value: &Value<'_>,
    limits: &SpanLimits,
) -> Result<usize, Full> {
    let mut out = Out::after(bytes, len);
    out.nested(tag, |out| key_value(out, key, value, limits, 1))?;
    Ok(out.len())
}

/// A value of a few bytes, whose kind the compiler knows: the common case, without a look at what kind it is.
pub trait Short: Copy {
    /// Whether the value is certainly short, and within the limits.
    fn fits(self, limits: ShortLimits) -> bool;

    /// Bytes of the `AnyValue`.
    fn len(self) -> usize;

    /// Writes the `AnyValue` into the first `len` bytes of `value`, which has room for it.
    fn write(self, value: &mut [u8], len: usize);
}

impl Short for &str {
    #[inline(always)]
    fn fits(self, limits: ShortLimits) -> bool {
        str::len(self) <= usize::from(limits.text_len)
    }

    #[inline(always)]
    fn len(self) -> usize {
        2 + str::len(self)
    }

    #[inline(always)]
    fn write(self, value: &mut [u8], _: usize) {
        let len = str::len(self);
        value[..2].copy_from_slice(&[value::STRING, byte(len)]);
        copy_short(&mut value[2..2 + len], self.as_bytes());
    }
}

impl Short for i64 {
    #[inline(always)]
    fn fits(self, _: ShortLimits) -> bool {
        true
    }

    #[inline(always)]
    fn len(self) -> usize {
        1 + varint_len(self.cast_unsigned())
    }

    #[inline(always)]
    fn write(self, value: &mut [u8], len: usize) {
        value[0] = value::INT;
        let number = self.cast_unsigned();
        match len {
            2 => value[1] = low_seven(number),
            3 => value[1..3].copy_from_slice(&[low_seven(number) | 0x80, low_seven(number >> 7)]),
            _ => write_varint(number, &mut value[1..len]),
        }
    }
}

impl Short for bool {
    #[inline(always)]
    fn fits(self, _: ShortLimits) -> bool {
        true
    }

    #[inline(always)]
    fn len(self) -> usize {
        2
    }

    #[inline(always)]
    fn write(self, value: &mut [u8], _: usize) {
        value[..2].copy_from_slice(&[value::BOOL, u8::from(self)]);
    }
}

impl Short for f64 {
    #[inline(always)]
    fn fits(self, _: ShortLimits) -> bool {
        true
    }

    #[inline(always)]
    fn len(self) -> usize {
        9
    }

    #[inline(always)]
    fn write(self, value: &mut [u8], _: usize) {
        value[0] = value::DOUBLE;
        value[1..9].copy_from_slice(&self.to_le_bytes());
    }
}

/// Writes an attribute whose lengths all take one byte; `None` when it is not one, or has no room.
#[inline(always)]
fn append_short(
    bytes: &mut [u8],
    len: usize,
    tag: u8,
    key: &str,
    value: impl Short,
    limits: ShortLimits,
) -> Option<usize> {
    let key = key.as_bytes();
    // Zero wraps around, and is no length of a key.
    if key.len().wrapping_sub(1) >= COPY_MAX || !value.fits(limits) {
        return None;
    }
    let value_len = value.len();
    let content = 4 + key.len() + value_len;
    if content > SHORT {
        return None;
    }
    let field = bytes.get_mut(len..len + 2 + content)?;
    field[..4].copy_from_slice(&[tag, byte(content), value::KEY, byte(key.len())]);
    copy_short(&mut field[4..4 + key.len()], key);
    let value_at = 4 + key.len();
    field[value_at..value_at + 2].copy_from_slice(&[value::VALUE, byte(value_len)]);
    value.write(&mut field[value_at + 2..], value_len);
    Some(len + 2 + content)
}

/// The whole field of the attribute `key`, if the collection has it.
fn find(bytes: &[u8], place: Place, key: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = place.start;
    while let Some(field) = field_at(bytes, at) {
        if field.tag == place.tag {
            let name = field_at(&bytes[..field.content.end], field.content.start)?;
            if &bytes[name.content] == key {
                return Some(field.whole);
            }
        }
        at = field.whole.end;
    }
    None
}
