//! One collection of attributes, written as wire bytes at once: last value wins, count and length limits apply at the call.

use super::{
    limits::SpanLimits,
    value::{self, Key, Value, key_value},
    wire::{Full, Out, SHORT, byte, copy_short, field_at, varint_len},
};

/// What became of an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Landed {
    /// It is a new key.
    Added,
    /// The key was there; the new value took its place.
    Replaced,
    /// The collection has as many keys as it may: the attribute was dropped and counted.
    Dropped,
    /// The key is empty: there is nothing to file the value under.
    EmptyKey,
}

/// What is known of a collection besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    /// One bit a key, by hash: a clear bit proves that a key is new. 256 bits in words of the width they are stored with,
    /// because a wide compare right after narrow stores would stall on every attribute.
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
        let is_added = match value {
            Value::Str(text) => self.add_short(bytes, len, place, limits, key, text),
            Value::Int(number) => self.add_short(bytes, len, place, limits, key, number),
            Value::Bool(truth) => self.add_short(bytes, len, place, limits, key, truth),
            Value::Double(number) => self.add_short(bytes, len, place, limits, key, number),
            _ => false,
        };
        if is_added { Ok(Landed::Added) } else { self.set_any(bytes, len, place, limits, key, value) }
    }

    /// Appends an attribute that is certainly new and short, in one go; false leaves every other case to
    /// [`Attributes::set`], with nothing changed.
    #[inline(always)]
    pub(super) fn add_short(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        limits: &SpanLimits,
        key: Key<'_>,
        value: impl Short,
    ) -> bool {
        let (word, bit) = key.filter();
        let may_be_known = self.filter[word] & bit != 0;
        if may_be_known || self.count >= place.count_max {
            return false;
        }
        let Some(written) = append_short(bytes, *len, place.tag, key, value, limits) else {
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
    fn set_any(
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
        let old = find(&bytes[..*len], place, key.name().as_bytes());
        if old.is_none() && self.count >= place.count_max {
            self.dropped = self.dropped.saturating_add(1);
            return Ok(Landed::Dropped);
        }
        let end = append(bytes, *len)?;
        let Some(old) = old else {
            let (word, bit) = key.filter();
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
    /// Bytes of the `AnyValue`, or more than [`SHORT`] where the limits have a say.
    fn len(self, limits: &SpanLimits) -> usize;

    /// Writes the `AnyValue` into exactly those bytes.
    fn write(self, value: &mut [u8]);
}

impl Short for &str {
    #[inline(always)]
    fn len(self, limits: &SpanLimits) -> usize {
        let len = str::len(self);
        if len <= limits.value_len_max() { 2 + len } else { SHORT + 1 }
    }

    #[inline(always)]
    fn write(self, value: &mut [u8]) {
        let Some((head, target)) = value.split_first_chunk_mut::<2>() else {
            return;
        };
        *head = [value::STRING, byte(str::len(self))];
        copy_short(target, self.as_bytes());
    }
}

impl Short for i64 {
    #[inline(always)]
    fn len(self, _: &SpanLimits) -> usize {
        1 + varint_len(self.cast_unsigned())
    }

    #[inline(always)]
    fn write(self, value: &mut [u8]) {
        let Some((tag, mut places)) = value.split_first_mut() else {
            return;
        };
        *tag = value::INT;
        let mut left = self.cast_unsigned();
        while let Some((place, rest)) = places.split_first_mut() {
            let more = if rest.is_empty() { 0 } else { 0x80 };
            *place = byte((left & 0x7F) as usize) | more;
            left >>= 7;
            places = rest;
        }
    }
}

impl Short for bool {
    #[inline(always)]
    fn len(self, _: &SpanLimits) -> usize {
        2
    }

    #[inline(always)]
    fn write(self, value: &mut [u8]) {
        if let Some(value) = value.first_chunk_mut() {
            *value = [value::BOOL, u8::from(self)];
        }
    }
}

impl Short for f64 {
    #[inline(always)]
    fn len(self, _: &SpanLimits) -> usize {
        9
    }

    #[inline(always)]
    fn write(self, value: &mut [u8]) {
        if let Some((tag, number)) = value.split_first_mut()
            && let Some(number) = number.first_chunk_mut()
        {
            *tag = value::DOUBLE;
            *number = self.to_le_bytes();
        }
    }
}

/// Writes an attribute whose lengths all take one byte; `None` when it is not one, or has no room.
#[inline(always)]
fn append_short(
    bytes: &mut [u8],
    len: usize,
    tag: u8,
    key: Key<'_>,
    value: impl Short,
    limits: &SpanLimits,
) -> Option<usize> {
    let value_len = value.len(limits);
    let key_len = key.name().len();
    let content = (4 + key_len).saturating_add(value_len);
    if content > SHORT || key_len == 0 {
        return None;
    }
    let end = len + 2 + content;
    let field = bytes.get_mut(len..end)?;
    let (head, rest) = field.split_first_chunk_mut::<4>()?;
    *head = [tag, byte(content), value::KEY, byte(key_len)];
    let (target, rest) = rest.split_at_mut_checked(key_len)?;
    copy_short(target, key.name().as_bytes());
    let (head, rest) = rest.split_first_chunk_mut::<2>()?;
    *head = [value::VALUE, byte(value_len)];
    value.write(rest);
    Some(end)
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
