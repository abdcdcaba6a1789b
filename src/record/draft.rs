//! The open span: writes wire bytes into the block that it is given, and finishes them into a record.

use std::ops::Range;

use super::{
    Kind, SpanId, Stamp, Status, TraceId,
    attributes::{Attributes, Landed, Place, Short},
    flags,
    limits::SpanLimits,
    value::{Key, Value},
    view::{EVENTS, FAILED, ROOT, TRIMMED},
    wire::{Full, Out, copy_short, field_at, read_varint, varint_len},
};

/// What an open span knows besides the bytes in its block. All methods leave it unchanged when they report [`Full`].
///
/// The block holds a record's image. Its head and its fixed line stay empty until the end: they are written from here
/// straight into the ring, because bytes written one by one and read back at once by a wide copy stall the copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draft {
    /// Bytes of the image that are in use.
    len: usize,
    attributes: Attributes,
    start: Stamp,
    parent: SpanId,
    /// The wire's `flags` without the bits that depend on nothing but the parent's place.
    flags: u32,
    scope: u16,
    kind: Kind,
    status: Said,
    /// The record's flags so far, and [`TAIL`].
    marks: u8,
    events: u32,
    events_dropped: u32,
    links: u32,
    links_dropped: u32,
}

/// The two ids of a span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// Of its trace.
    pub trace: TraceId,
    /// Its own.
    pub span: SpanId,
}

/// What is known only when a span ends.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// The trace id in two halves. The ids live outside the draft because they outlive it.
    pub trace: (u64, u64),
    /// The span id as a number.
    pub span: u64,
    /// The end time.
    pub end: Stamp,
    /// The draft's [`Draft::record_len`].
    pub len: usize,
}

/// What was said of a span's outcome so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Said {
    #[default]
    Nothing,
    /// It failed; the end writes the code.
    Error,
    /// It failed; code and text are among the bytes.
    ErrorText,
    /// It went well, for good.
    Ok,
}

/// The other end of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkTarget<'a> {
    /// The linked span.
    pub ids: Ids,
    /// Its trace state; empty is none.
    pub trace_state: &'a str,
    /// Its trace flags.
    pub trace_flags: u8,
    /// Whether it lives in another process.
    pub is_remote: bool,
}

impl LinkTarget<'_> {
    fn wire_flags(&self) -> u32 {
        wire_flags(self.trace_flags, self.is_remote)
    }
}

/// The wire's `flags`: the trace flags, and where the other span lives (PB-04).
#[inline]
#[must_use]
pub fn wire_flags(trace_flags: u8, is_remote: bool) -> u32 {
    let remote = if is_remote { flags::IS_REMOTE } else { 0 };
    u32::from(trace_flags) | flags::HAS_IS_REMOTE | remote
}

/// Bytes of a record's head: scope, flags, length.
pub(super) const HEAD_LEN: usize = 8;
/// Bytes of the fixed line: one cache line that holds every field of a span whose size is known.
pub(super) const LINE_LEN: usize = 64;
/// Bytes of a record before its name.
const FIXED_LEN: usize = HEAD_LEN + LINE_LEN;
/// Bytes kept free for what is known at the end: three counts (a tag of one or two bytes and five bytes each), and a status
/// without a text.
pub const RESERVE: usize = 24;
/// Longest name of a span or an event, and longest text of a status; more is cut off at a character.
pub const TEXT_LEN_MAX: usize = 4096;

impl Draft {
    /// A span without a name, whose record has `scope`. As it is, it serves as a note: changes that wait to be absorbed.
    #[must_use]
    pub fn new(scope: u16, kind: Kind, start: Stamp) -> Self {
        let mut draft = Self::default();
        draft.begin_anew(scope, kind, start, SpanId::NONE, 0);
        draft
    }

    /// Makes a used draft as good as [`Draft::new`], field by field: a draft that is put together elsewhere and moved here
    /// would be read back wide right after it was written narrow. A root has no `parent`; `flags` are those of the wire.
    #[inline]
    pub fn begin_anew(&mut self, scope: u16, kind: Kind, start: Stamp, parent: SpanId, flags: u32) {
        self.len = FIXED_LEN;
        self.attributes.clear();
        self.start = start;
        self.parent = parent;
        self.flags = flags;
        self.scope = scope;
        self.kind = kind;
        self.status = Said::Nothing;
        self.marks = if parent.is_valid() { 0 } else { ROOT };
        self.events = 0;
        self.events_dropped = 0;
        self.links = 0;
        self.links_dropped = 0;
    }

    /// Writes a name of ordinary length; false leaves a longer one to [`Draft::rename`].
    #[inline]
    #[must_use]
    pub fn name_short(&mut self, image: &mut [u8], name: &str) -> bool {
        // trace/v1/trace.proto: Span.name = 5
        short_name(room(image), self.len, name).map(|len| self.len = len).is_some()
    }

    /// Writes the trace state. trace/v1/trace.proto: Span.trace_state = 3
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    pub fn trace_state(&mut self, image: &mut [u8], state: &str) -> Result<(), Full> {
        self.replace(image, TRACE_STATE, |out| out.bytes_field(TRACE_STATE, state.as_bytes()))
    }

    /// Sets one attribute. trace/v1/trace.proto: Span.attributes = 9
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    #[inline]
    pub fn attribute(
        &mut self,
        image: &mut [u8],
        limits: &SpanLimits,
        key: Key<'_>,
        value: Value<'_>,
    ) -> Result<Landed, Full> {
        let place = Self::attribute_place(limits);
        let landed = self.attributes.set(room(image), &mut self.len, place, limits, key, value)?;
        self.trim(landed == Landed::Dropped);
        Ok(landed)
    }

    /// Sets an attribute that is certainly new and short; false leaves every other case to [`Draft::attribute`].
    #[inline(always)]
    pub fn short_attribute(&mut self, image: &mut [u8], limits: &SpanLimits, key: Key<'_>, value: impl Short) -> bool {
        let place = Self::attribute_place(limits);
        self.attributes.add_short(room(image), &mut self.len, place, limits, key, value)
    }

    /// Counts an attribute that no block is large enough for.
    pub fn drop_attribute(&mut self) {
        self.attributes.dropped = self.attributes.dropped.saturating_add(1);
        self.trim(true);
    }

    /// Adds an event; false when the limit turned it away. trace/v1/trace.proto: Span.events = 11
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    pub fn event<'k, K, V>(
        &mut self,
        image: &mut [u8],
        limits: &SpanLimits,
        at: Stamp,
        name: &str,
        attributes: impl Iterator<Item = (K, V)>,
    ) -> Result<bool, Full>
    where
        K: Into<Key<'k>>,
        V: Into<Value<'k>>,
    {
        if self.events >= limits.event_count {
            self.drop_event();
            return Ok(false);
        }
        let mut out = Out::after(room(image), self.len);
        out.nested(EVENT_LIST, |out| {
            out.byte(0x09)?; // trace.proto: Event.time_unix_nano = 1
            out.put(&at.to_wire())?;
            out.bytes_field(0x12, cut(name).as_bytes())?; // trace.proto: Event.name = 2
            let count_max = limits.attribute_per_event_count;
            let dropped = nested_attributes(out, 0x1A, count_max, limits, attributes)?; // trace.proto: Event.attributes = 3
            count_field(out, 0x20, dropped) // trace.proto: Event.dropped_attributes_count = 4
        })?;
        self.len = out.len();
        self.events += 1;
        self.marks |= EVENTS;
        Ok(true)
    }

    /// Counts an event that no block is large enough for.
    pub fn drop_event(&mut self) {
        self.events_dropped = self.events_dropped.saturating_add(1);
        self.trim(true);
    }

    /// Adds a link; false when the limit turned it away. trace/v1/trace.proto: Span.links = 13
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    pub fn link<'k, K, V>(
        &mut self,
        image: &mut [u8],
        limits: &SpanLimits,
        target: LinkTarget<'_>,
        attributes: impl Iterator<Item = (K, V)>,
    ) -> Result<bool, Full>
    where
        K: Into<Key<'k>>,
        V: Into<Value<'k>>,
    {
        if self.links >= limits.link_count {
            self.drop_link();
            return Ok(false);
        }
        let mut out = Out::after(room(image), self.len);
        out.nested(LINK_LIST, |out| {
            if target.ids.trace.is_valid() {
                out.bytes_field(0x0A, &target.ids.trace.0)?; // trace.proto: Link.trace_id = 1
            }
            if target.ids.span.is_valid() {
                out.bytes_field(0x12, &target.ids.span.0)?; // trace.proto: Link.span_id = 2
            }
            if !target.trace_state.is_empty() {
                out.bytes_field(0x1A, target.trace_state.as_bytes())?; // trace.proto: Link.trace_state = 3
            }
            let count_max = limits.attribute_per_link_count;
            let dropped = nested_attributes(out, 0x22, count_max, limits, attributes)?; // trace.proto: Link.attributes = 4
            count_field(out, 0x28, dropped)?; // trace.proto: Link.dropped_attributes_count = 5
            out.byte(0x35)?; // trace.proto: Link.flags = 6
            out.put(&target.wire_flags().to_le_bytes())
        })?;
        self.len = out.len();
        self.links += 1;
        Ok(true)
    }

    /// Counts a link that no block is large enough for.
    pub fn drop_link(&mut self) {
        self.links_dropped = self.links_dropped.saturating_add(1);
        self.trim(true);
    }

    /// Sets the status where the order Ok > Error > Unset allows it. trace/v1/trace.proto: Span.status = 15
    ///
    /// # Errors
    ///
    /// When `image` cannot hold the text; a status without text always finds room.
    pub fn status(&mut self, image: &mut [u8], status: Status<'_>) -> Result<(), Full> {
        if status == Status::Unset || self.status == Said::Ok {
            return Ok(()); // SPN-10: Unset changes nothing, and nothing changes Ok
        }
        match status {
            Status::Error(text) if !text.is_empty() => {
                self.replace(image, STATUS, |out| {
                    out.nested(STATUS, |out| {
                        out.bytes_field(0x12, cut(text).as_bytes())?; // trace.proto: Status.message = 2
                        out.put(&[0x18, STATUS_ERROR]) // trace.proto: Status.code = 3
                    })
                })?;
                self.said(Said::ErrorText);
            }
            _ => {
                // SPN-09: only an error has a text, and an empty one is none. The end writes the code, from the reserve.
                self.replace(image, STATUS, |_| Ok(()))?;
                self.said(if status == Status::Ok { Said::Ok } else { Said::Error });
            }
        }
        Ok(())
    }

    /// Replaces the name.
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    pub fn rename(&mut self, image: &mut [u8], name: &str) -> Result<(), Full> {
        self.replace(image, NAME, |out| out.bytes_field(NAME, cut(name).as_bytes()))
    }

    /// Takes over the changes of a note: what a finished note holds after its fixed bytes.
    ///
    /// # Errors
    ///
    /// When `image` cannot hold them. Changes that were taken over before stay, and are taken over again by another try,
    /// so a note holds one change.
    pub fn absorb(&mut self, image: &mut [u8], limits: &SpanLimits, note: &[u8]) -> Result<(), Full> {
        let mut at = FIXED_LEN;
        while let Some(field) = field_at(note, at) {
            at = field.whole.end;
            let whole = &note[field.whole];
            match field.tag {
                ATTRIBUTES => {
                    let place = Self::attribute_place(limits);
                    let landed = self.attributes.absorb(room(image), &mut self.len, place, &note[field.content])?;
                    self.trim(landed == Landed::Dropped);
                }
                NAME => self.replace(image, NAME, |out| out.put(whole))?,
                STATUS => self.absorb_status(image, whole, &note[field.content])?,
                EVENT_LIST if self.events >= limits.event_count => self.drop_event(),
                EVENT_LIST => {
                    self.append(image, whole)?;
                    self.events += 1;
                    self.marks |= EVENTS;
                }
                LINK_LIST if self.links >= limits.link_count => self.drop_link(),
                LINK_LIST => {
                    self.append(image, whole)?;
                    self.links += 1;
                }
                _ => debug_assert!(false, "a note holds no other field"),
            }
        }
        // Last come the counts of what the note itself had to turn away.
        while let Some((tag, count, next)) = count_at(note, at) {
            at = next;
            match tag {
                ATTRIBUTES_DROPPED => self.attributes.dropped = self.attributes.dropped.saturating_add(count),
                EVENTS_DROPPED => self.events_dropped = self.events_dropped.saturating_add(count),
                _ => self.links_dropped = self.links_dropped.saturating_add(count),
            }
            self.trim(true);
        }
        Ok(())
    }

    fn absorb_status(&mut self, image: &mut [u8], whole: &[u8], content: &[u8]) -> Result<(), Full> {
        if self.status == Said::Ok {
            return Ok(());
        }
        // The code closes the message; a text before it belongs to an error.
        let is_ok = content.last() == Some(&STATUS_OK);
        if content.len() > 2 {
            self.replace(image, STATUS, |out| out.put(whole))?;
            self.said(Said::ErrorText);
            return Ok(());
        }
        self.status(image, if is_ok { Status::Ok } else { Status::Error("") })
    }

    fn append(&mut self, image: &mut [u8], field: &[u8]) -> Result<(), Full> {
        let mut out = Out::after(room(image), self.len);
        out.put(field)?;
        self.len = out.len();
        Ok(())
    }

    fn attribute_place(limits: &SpanLimits) -> Place {
        Place { tag: ATTRIBUTES, start: FIXED_LEN, count_max: limits.attribute_count }
    }

    /// Replaces the start time.
    pub fn set_start(&mut self, start: Stamp) {
        self.start = start;
    }

    /// When the span began.
    #[inline]
    #[must_use]
    pub fn start(&self) -> Stamp {
        self.start
    }

    /// Bytes of the image that a larger block must take over: all that is written.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.len
    }

    /// Length of the finished record.
    #[inline]
    #[must_use]
    pub fn record_len(&self) -> usize {
        if self.has_tail() { self.len + self.tail_len() } else { self.len }
    }

    #[cold]
    fn tail_len(&self) -> usize {
        let status = if self.status_alone().is_some() { STATUS_ALONE_LEN } else { 0 };
        status + self.counts().iter().map(|&(_, count)| count_len(count)).sum::<usize>()
    }

    /// Writes the finished record into `record`, which has [`Draft::record_len`] bytes, rounded up to a multiple of eight.
    ///
    /// # Panics
    ///
    /// When `record` is shorter.
    #[inline(always)]
    pub fn finish(&self, image: &[u8], finish: Finish, record: &mut [u8]) {
        let (fixed, rest) = record.split_first_chunk_mut::<FIXED_LEN>().expect("a record has at least its fixed bytes");
        self.write_fixed(finish, fixed);
        // Whole words: the room is rounded up to them, and what lies behind the image's used bytes is written over below, or
        // is padding.
        copy_words(rest, &image[FIXED_LEN..FIXED_LEN + rest.len()]);
        if self.has_tail() {
            self.write_tail(&mut rest[self.len - FIXED_LEN..]);
        }
    }

    /// Finishes the record in place, for a block that leaves as it is.
    ///
    /// # Panics
    ///
    /// When `image` is not the block of this draft: it would be too short.
    pub fn finish_in_place(&self, finish: Finish, image: &mut [u8]) {
        let (fixed, rest) = image.split_first_chunk_mut::<FIXED_LEN>().expect("an image has at least its fixed bytes");
        self.write_fixed(finish, fixed);
        self.write_tail(&mut rest[self.len - FIXED_LEN..]);
    }

    #[inline(always)]
    fn write_fixed(&self, finish: Finish, fixed: &mut [u8; FIXED_LEN]) {
        let wire_len = u32::try_from(finish.len - HEAD_LEN).unwrap_or(u32::MAX);
        put(fixed, 0, self.scope.to_le_bytes());
        put(fixed, 2, [self.marks & !TAIL, 0]);
        put(fixed, 4, wire_len.to_le_bytes());
        // The order of fields is free in protobuf: the one that a root lacks comes first, and is skipped for it.
        put(fixed, 8, [0x22, 8]); // trace.proto: Span.parent_span_id = 4
        put(fixed, 10, self.parent.0);
        put(fixed, 18, [0x0A, 16]); // trace.proto: Span.trace_id = 1
        put(fixed, 20, finish.trace.0.to_ne_bytes());
        put(fixed, 28, finish.trace.1.to_ne_bytes());
        put(fixed, 36, [0x12, 8]); // trace.proto: Span.span_id = 2
        put(fixed, 38, finish.span.to_ne_bytes());
        put(fixed, 46, [0x30, self.kind as u8]); // trace.proto: Span.kind = 6
        put(fixed, 48, [0x85, 0x01]); // trace.proto: Span.flags = 16
        put(fixed, 50, self.flags.to_le_bytes());
        put(fixed, 54, [0x39]); // trace.proto: Span.start_time_unix_nano = 7
        put(fixed, 55, self.start.to_wire());
        put(fixed, 63, [0x41]); // trace.proto: Span.end_time_unix_nano = 8
        put(fixed, 64, finish.end.to_wire());
    }

    #[cold]
    fn write_tail(&self, tail: &mut [u8]) {
        let mut at = 0;
        if let Some(code) = self.status_alone() {
            // trace.proto: Status.code = 3
            tail[..STATUS_ALONE_LEN].copy_from_slice(&[STATUS, 2, 0x18, code]);
            at = STATUS_ALONE_LEN;
        }
        if self.marks & TRIMMED != 0 {
            let mut out = Out::after(tail, at);
            for (tag, count) in self.counts() {
                let written = count_field(&mut out, tag, count);
                debug_assert_eq!(written, Ok(()), "the reserve holds three counts");
            }
        }
    }

    /// The status code to write at the end: a status with a text is among the bytes already.
    #[inline]
    fn status_alone(&self) -> Option<u8> {
        match self.status {
            Said::Nothing | Said::ErrorText => None,
            Said::Error => Some(STATUS_ERROR),
            Said::Ok => Some(STATUS_OK),
        }
    }

    /// Whether the end writes more than the fixed bytes.
    #[inline]
    fn has_tail(&self) -> bool {
        self.marks & TAIL != 0
    }

    /// Notes that a limit turned something away.
    #[inline]
    fn trim(&mut self, is_trimmed: bool) {
        if is_trimmed {
            self.marks |= TRIMMED | TAIL;
        }
    }

    fn said(&mut self, status: Said) {
        self.status = status;
        self.marks &= !FAILED;
        self.marks |= match status {
            Said::Nothing => 0,
            Said::Error => FAILED | TAIL,
            Said::ErrorText => FAILED,
            Said::Ok => TAIL,
        };
    }

    fn counts(&self) -> [(u8, u32); 3] {
        [
            (ATTRIBUTES_DROPPED, self.attributes.dropped),
            (EVENTS_DROPPED, self.events_dropped),
            (LINKS_DROPPED, self.links_dropped),
        ]
    }

    /// Writes a field that a span has once, in place of the one that is there.
    fn replace(
        &mut self,
        image: &mut [u8],
        tag: u8,
        write: impl FnOnce(&mut Out<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let old = single(&image[..self.len], tag);
        let mut out = Out::after(room(image), self.len);
        write(&mut out)?;
        if let Some(old) = old {
            out.remove(old);
        }
        self.len = out.len();
        Ok(())
    }
}

/// The bytes that a growing record may use: all but the reserve for its end. A [`Full`] that comes from here therefore asks
/// for [`RESERVE`] bytes less than the block must have.
#[inline]
fn room(image: &mut [u8]) -> &mut [u8] {
    let end = image.len().saturating_sub(RESERVE);
    &mut image[..end]
}

/// Where the field `tag` of the span lies.
fn single(image: &[u8], tag: u8) -> Option<Range<usize>> {
    let mut at = FIXED_LEN;
    while let Some(field) = field_at(image, at) {
        if field.tag == tag {
            return Some(field.whole);
        }
        at = field.whole.end;
    }
    None
}

/// Writes a collection inside an event or a link; how many attributes it had to turn away.
fn nested_attributes<'k, K, V>(
    out: &mut Out<'_>,
    tag: u8,
    count_max: u32,
    limits: &SpanLimits,
    attributes: impl Iterator<Item = (K, V)>,
) -> Result<u32, Full>
where
    K: Into<Key<'k>>,
    V: Into<Value<'k>>,
{
    let mut collection = Attributes::default();
    let place = Place { tag, start: out.len(), count_max };
    for (key, value) in attributes {
        let (bytes, len) = out.parts();
        let landed = collection.set(bytes, len, place, limits, key.into(), value.into())?;
        if landed == Landed::EmptyKey {
            collection.dropped = collection.dropped.saturating_add(1);
        }
    }
    Ok(collection.dropped)
}

/// Writes a count, unless it is zero.
fn count_field(out: &mut Out<'_>, tag: u8, count: u32) -> Result<(), Full> {
    if count == 0 {
        return Ok(());
    }
    out.byte(tag)?;
    out.varint(u64::from(count))
}

/// The count that starts at `at`: its tag, itself, and where the next one starts.
fn count_at(bytes: &[u8], at: usize) -> Option<(u8, u32, usize)> {
    let tag = *bytes.get(at)?;
    let (count, width) = read_varint(bytes.get(at + 1..)?)?;
    matches!(tag, ATTRIBUTES_DROPPED | EVENTS_DROPPED | LINKS_DROPPED)
        .then(|| (tag, u32::try_from(count).unwrap_or(u32::MAX), at + 1 + width))
}

fn count_len(count: u32) -> usize {
    if count == 0 { 0 } else { 1 + varint_len(u64::from(count)) }
}

/// Writes a name with a length of one byte; `None` leaves it to the general case.
#[inline]
fn short_name(room: &mut [u8], len: usize, name: &str) -> Option<usize> {
    let length = u8::try_from(name.len()).ok().filter(|&length| length < 0x80)?;
    let (head, target) = room.get_mut(len..len + 2 + name.len())?.split_first_chunk_mut::<2>()?;
    *head = [NAME, length];
    copy_short(target, name.as_bytes());
    Some(len + 2 + name.len())
}

/// As much of a name or a text as a record keeps, cut at a character.
fn cut(text: &str) -> &str {
    if text.len() <= TEXT_LEN_MAX {
        return text;
    }
    // A character is at most four bytes long, so one of these is a boundary.
    let end = (TEXT_LEN_MAX - 3..=TEXT_LEN_MAX).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Copies whole words, thirty-two bytes at a time: for the lengths of records faster than a call.
#[inline(always)]
fn copy_words(target: &mut [u8], source: &[u8]) {
    debug_assert!(source.len().is_multiple_of(8) && target.len() == source.len());
    let mut targets = target.chunks_exact_mut(32);
    let mut sources = source.chunks_exact(32);
    for (target, source) in targets.by_ref().zip(sources.by_ref()) {
        target.copy_from_slice(source);
    }
    let words = targets.into_remainder().chunks_exact_mut(8).zip(sources.remainder().chunks_exact(8));
    for (target, source) in words {
        target.copy_from_slice(source);
    }
}

#[inline]
fn put<const N: usize>(fixed: &mut [u8; FIXED_LEN], at: usize, bytes: [u8; N]) {
    fixed[at..at + N].copy_from_slice(&bytes);
}

// Tags, `field number << 3 | wire type`, of trace/v1/trace.proto.
const TRACE_STATE: u8 = 0x1A; // Span.trace_state = 3
const NAME: u8 = 0x2A; // Span.name = 5
const ATTRIBUTES: u8 = 0x4A; // Span.attributes = 9
pub(super) const EVENT_LIST: u8 = 0x5A; // Span.events = 11
const LINK_LIST: u8 = 0x6A; // Span.links = 13
const STATUS: u8 = 0x7A; // Span.status = 15

const ATTRIBUTES_DROPPED: u8 = 0x50; // Span.dropped_attributes_count = 10
const EVENTS_DROPPED: u8 = 0x60; // Span.dropped_events_count = 12
const LINKS_DROPPED: u8 = 0x70; // Span.dropped_links_count = 14
/// Not a flag of the record: the draft has something to write at the end.
const TAIL: u8 = 0x80;
/// Bytes of a status without a text.
const STATUS_ALONE_LEN: usize = 4;
const STATUS_OK: u8 = 1; // STATUS_CODE_OK
const STATUS_ERROR: u8 = 2; // STATUS_CODE_ERROR

const _: () = assert!(RESERVE >= 3 * (1 + 5) + STATUS_ALONE_LEN, "the reserve holds three counts and a bare status");
