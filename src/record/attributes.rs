//! One collection of attributes, written as wire bytes at once: last value wins, count and length limits apply at the call.

use super::{
    limits::SpanLimits,
    value::{self, Key, Value, key_value},
    wire::{Full, Out, copy_short, field_at, varint_len},
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
        let (word, bit) = key.filter();
        let is_new = self.filter[word] & bit == 0;
        if is_new && self.count < place.count_max {
            let written = match append_short(&mut bytes[*len..], place.tag, key.name(), value, limits) {
                Some(written) => *len + written,
                None if key.name().is_empty() => return Ok(Landed::EmptyKey),
                None => append(bytes, *len, place.tag, key.name(), &value, limits)?,
            };
            *len = written;
            self.filter[word] |= bit;
            self.count += 1;
            return Ok(Landed::Added);
        }
        self.set_known(bytes, len, place, limits, key, value)
    }

    /// Appends or replaces an attribute that is a written `KeyValue` already, truncated and all.
    pub(super) fn absorb(
        &mut self,
        bytes: &mut [u8],
        len: &mut usize,
        place: Place,
        key_value: &[u8],
    ) -> Result<(), Full> {
        let Some(name) = field_at(key_value, 0).and_then(|field| str::from_utf8(&key_value[field.content]).ok()) else {
            debug_assert!(false, "a written attribute begins with its key");
            return Ok(());
        };
        self.set_written(bytes, len, place, Key::new(name), |bytes, len| {
            let mut out = Out::after(bytes, len);
            out.bytes_field(place.tag, key_value)?;
            Ok(out.len())
        })?;
        Ok(())
    }

    /// The rare half of [`Attributes::set`]: the key may be there already, or the collection is at its limit.
    #[cold]
    fn set_known(
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

/// Writes the common case in one go: a scalar or a short text, every length one byte. `None` leaves it to [`append`].
#[inline]
fn append_short(room: &mut [u8], tag: u8, key: &str, value: Value<'_>, limits: &SpanLimits) -> Option<usize> {
    let value_len = match value {
        Value::Bool(_) => 2,
        Value::Int(value) => 1 + varint_len(value.cast_unsigned()),
        Value::Double(_) => 9,
        Value::Str(text) if text.len() <= limits.value_len_max() => 2 + text.len(),
        _ => return None,
    };
    let content = 4 + key.len() + value_len;
    if content > SHORT || key.is_empty() {
        return None;
    }
    let room = room.get_mut(..2 + content)?;
    let (head, rest) = room.split_first_chunk_mut::<4>()?;
    *head = [tag, byte(content), value::KEY, byte(key.len())];
    let (target, rest) = rest.split_at_mut_checked(key.len())?;
    copy_short(target, key.as_bytes());
    let (head, rest) = rest.split_first_chunk_mut::<2>()?;
    *head = [value::VALUE, byte(value_len)];
    match value {
        Value::Bool(value) => *rest.first_chunk_mut::<2>()? = [value::BOOL, u8::from(value)],
        Value::Int(value) => {
            rest[0] = value::INT;
            let mut left = value.cast_unsigned();
            for place in &mut rest[1..] {
                *place = byte((left & 0x7F) as usize) | 0x80;
                left >>= 7;
            }
            *rest.last_mut()? &= 0x7F;
        }
        Value::Double(value) => {
            rest[0] = value::DOUBLE;
            *rest.last_chunk_mut::<8>()? = value.to_le_bytes();
        }
        Value::Str(text) => {
            let (head, target) = rest.split_first_chunk_mut::<2>()?;
            *head = [value::STRING, byte(text.len())];
            copy_short(target, text.as_bytes());
        }
        _ => return None,
    }
    Some(2 + content)
}

/// Contents up to here have lengths of one byte.
const SHORT: usize = 127;

#[expect(clippy::cast_possible_truncation, reason = "callers pass what fits seven bits")]
#[inline]
fn byte(value: usize) -> u8 {
    debug_assert!(value <= SHORT);
    value as u8
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
