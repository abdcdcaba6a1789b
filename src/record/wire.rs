//! Protobuf and nothing about traces: varints, tags and length-delimited fields in a bounded buffer.

/// The buffer has no room for the field; nothing of it was kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full {
    /// Bytes that a buffer must have before another try makes sense. It may still be too small.
    pub need: usize,
}

/// Appends to a buffer of fixed size. What was written before a [`Full`] is given up by not using `len`.
#[derive(Debug)]
pub(super) struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Out<'a> {
    /// Appends after the first `len` bytes.
    pub(super) fn after(bytes: &'a mut [u8], len: usize) -> Self {
        Self { bytes, len }
    }

    /// How many bytes are written, with those that were there.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The whole buffer and the length of what is written, for a writer with rules of its own.
    pub(super) fn parts(&mut self) -> (&mut [u8], &mut usize) {
        (self.bytes, &mut self.len)
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len + bytes.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(Full { need: end })?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) -> Result<(), Full> {
        self.put(&[byte])
    }

    #[inline]
    pub(super) fn varint(&mut self, value: u64) -> Result<(), Full> {
        if value < 0x80 {
            return self.byte(low_seven(value));
        }
        let end = self.len + varint_len(value);
        let room = self.bytes.get_mut(self.len..end).ok_or(Full { need: end })?;
        write_varint(value, room);
        self.len = end;
        Ok(())
    }

    /// A length-delimited field.
    #[inline]
    pub(super) fn bytes_field(&mut self, tag: u8, bytes: &[u8]) -> Result<(), Full> {
        self.byte(tag)?;
        self.varint(bytes.len() as u64)?;
        self.put(bytes)
    }

    /// A count, unless it is zero.
    pub(super) fn count_field(&mut self, tag: u8, count: u32) -> Result<(), Full> {
        if count == 0 {
            return Ok(());
        }
        self.byte(tag)?;
        self.varint(u64::from(count))
    }

    /// A length-delimited field whose content `body` writes.
    ///
    /// One byte is kept for the length; a longer content moves up afterwards. Lengths stay canonical, and a value is
    /// walked once however deep it nests.
    pub(super) fn nested(&mut self, tag: u8, body: impl FnOnce(&mut Self) -> Result<(), Full>) -> Result<(), Full> {
        self.byte(tag)?;
        let length_at = self.len;
        self.byte(0)?;
        body(self)?;
        let length = self.len - length_at - 1;
        let extra = varint_len(length as u64) - 1;
        if extra > 0 {
            let end = self.len + extra;
            if self.bytes.len() < end {
                return Err(Full { need: end });
            }
            self.bytes.copy_within(length_at + 1..self.len, length_at + 1 + extra);
        }
        let end = self.len + extra;
        self.len = length_at;
        self.varint(length as u64)?;
        self.len = end;
        Ok(())
    }

    /// Takes the bytes `range` out and closes the gap.
    pub(super) fn remove(&mut self, range: std::ops::Range<usize>) {
        self.bytes.copy_within(range.end..self.len, range.start);
        self.len -= range.len();
    }

    /// Moves the last `count` bytes over the equally long bytes at `at`.
    pub(super) fn replace_with_last(&mut self, at: usize, count: usize) {
        let from = self.len - count;
        self.bytes.copy_within(from..self.len, at);
        self.len = from;
    }
}

#[inline]
pub(super) fn low_seven(value: u64) -> u8 {
    (value & 0x7F) as u8
}

/// Bytes of `value` as a varint.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    // Seven bits a byte: ceil(bits / 7), and one byte for zero. Nine sixty-fourths are as good as a seventh up to 64
    // bits.
    (((value | 1).ilog2() * 9 + 73) / 64) as usize
}

/// Writes `value` into exactly `bytes`, which are as many as [`varint_len`] says.
#[inline(never)]
pub(super) fn write_varint(mut value: u64, bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len(), varint_len(value));
    let Some((last, places)) = bytes.split_last_mut() else {
        return;
    };
    for place in places {
        *place = low_seven(value) | 0x80;
        value >>= 7;
    }
    *last = low_seven(value);
}

/// Bytes of a length-delimited field whose content has `len` bytes.
#[must_use]
pub(crate) fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Appends the tag and the length of a field; its content of `len` bytes follows.
pub(crate) fn begin_field(tag: u8, len: usize, out: &mut Vec<u8>) {
    out.push(tag);
    let start = out.len();
    out.resize(start + varint_len(len as u64), 0);
    write_varint(len as u64, &mut out[start..]);
}

/// Reads a varint; `None` when it is cut off or longer than ten bytes.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// One length-delimited field of a run: its tag and where its content lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Field {
    /// The tag: number and wire type in one byte.
    pub tag: u8,
    /// The whole field, tag and length included.
    pub whole: std::ops::Range<usize>,
    /// The content alone.
    pub content: std::ops::Range<usize>,
}

/// The field that starts at `at`; `None` at the end, or where the bytes are not a length-delimited field.
#[inline]
pub(crate) fn field_at(bytes: &[u8], at: usize) -> Option<Field> {
    let tag = *bytes.get(at)?;
    if tag & 7 != LEN {
        return None;
    }
    let (length, width) = read_varint(bytes.get(at + 1..)?)?;
    let start = at + 1 + width;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(Field { tag, whole: at..end, content: start..end })
}

/// Wire type of length-delimited fields.
const LEN: u8 = 2;

/// Contents up to here have lengths of one byte.
pub(super) const SHORT: usize = 127;

#[expect(clippy::cast_possible_truncation, reason = "callers pass what fits seven bits")]
#[inline]
pub(super) fn byte(value: usize) -> u8 {
    debug_assert!(value <= SHORT);
    value as u8
}

/// Longest source of [`copy_short`].
pub(super) const COPY_MAX: usize = 64;

/// Copies `source`, of at most [`COPY_MAX`] bytes, over the equally long `target`: a few moves, and never a call,
/// before which the caller would have to put its registers away.
#[inline(always)]
pub(super) fn copy_short(target: &mut [u8], source: &[u8]) {
    let len = source.len();
    debug_assert!(len <= COPY_MAX, "the middle would be left out");
    debug_assert_eq!(target.len(), len);
    if len >= 8 {
        if len <= 16 {
            copy_ends::<8>(target, source);
        } else if len <= 32 {
            copy_ends::<16>(target, source);
        } else {
            copy_ends::<32>(target, source);
        }
    } else if len >= 4 {
        copy_ends::<4>(target, source);
    } else if len > 0 {
        // Three at most, so the one in the middle is all that may be left.
        target[len / 2] = source[len / 2];
        copy_ends::<1>(target, source);
    }
}

/// Copies the first and the last `N` bytes, which overlap where the length is below twice `N`.
#[inline(always)]
pub(super) fn copy_ends<const N: usize>(target: &mut [u8], source: &[u8]) {
    if let (Some(from), Some(to)) = (source.first_chunk::<N>(), target.first_chunk_mut::<N>()) {
        *to = *from;
    }
    copy_last::<N>(target, source);
}

/// Copies the last `N` bytes.
#[inline(always)]
pub(super) fn copy_last<const N: usize>(target: &mut [u8], source: &[u8]) {
    if let (Some(from), Some(to)) = (source.last_chunk::<N>(), target.last_chunk_mut::<N>()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_length_that_is_announced() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1u64 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = [0; 16];
                let mut out = Out::after(&mut bytes, 0);
                out.varint(value).unwrap();
                let len = out.len();
                assert_eq!(len, varint_len(value), "{value}");
                assert_eq!(read_varint(&bytes[..len]), Some((value, len)));
            }
        }
    }

    #[test]
    fn field_has_the_length_that_is_announced() {
        // Miri writes byte by byte.
        const LONGEST: usize = if cfg!(miri) { 16_385 } else { 1 << 21 };
        for len in [0usize, 1, 127, 128, 16_383, 16_384, LONGEST] {
            let mut bytes = vec![];
            begin_field(0x4A, len, &mut bytes);
            bytes.resize(bytes.len() + len, 7);
            assert_eq!(bytes.len(), field_len(len));
            let field = field_at(&bytes, 0).unwrap();
            assert_eq!((field.tag, field.content.len(), field.whole), (0x4A, len, 0..bytes.len()));
        }
    }

    #[test]
    fn cut_off_or_endless_varints_are_refused() {
        assert_eq!(read_varint(&[0x80]), None);
        assert_eq!(read_varint(&[0x80; 11]), None);
        assert_eq!(read_varint(&[]), None);
    }

    #[test]
    fn nested_content_moves_up_for_a_longer_length() {
        for len in [0usize, 1, 127, 128, 300, 16_383, 16_384] {
            let mut bytes = vec![0; len + 8];
            let mut out = Out::after(&mut bytes, 0);
            out.nested(0x4A, |out| out.put(&vec![7; len])).unwrap();
            let end = out.len();
            let field = field_at(&bytes[..end], 0).unwrap();
            assert_eq!((field.tag, field.content.len(), field.whole), (0x4A, len, 0..end));
            assert!(bytes[field.content].iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn nested_reports_full_when_only_the_longer_length_does_not_fit() {
        let mut bytes = vec![0; 130];
        let mut out = Out::after(&mut bytes, 0);
        assert_eq!(out.nested(0x4A, |out| out.put(&[7; 128])), Err(Full { need: 131 }));
    }

    #[test]
    fn short_copies_equal_the_plain_copy() {
        let source: Vec<u8> = (1..=64).collect();
        assert_eq!(source.len(), COPY_MAX);
        for len in 0..=source.len() {
            let mut target = vec![0; len];
            copy_short(&mut target, &source[..len]);
            assert_eq!(target, source[..len]);
        }
    }
}
