//! The open span: writes wire bytes into the block that it is given, and finishes them into a record.

use std::ops::Range;

use super::{
    Kind, SpanId, Stamp, Status, TraceId,
    attribute_value::AttributeValue,
    attributes::{Attributes, Landed, Place, Short},
    flags,
    layout::{
        ATTRIBUTES, EVENT_LIST, EVENTS, FIXED_LEN, FLAGS_IN_WORD, KIND_AND_FLAGS_TAGS, KIND_IN_WORD, LINK_LIST, NAME,
        RESERVE, ROOT, STATUS, STATUS_ERROR, TAIL, TRACE_STATE, mark,
    },
    limits::{ShortLimits, SpanLimits},
    list::AttributeList,
    value::{Key, Value},
    wire::{COPY_MAX, Full, Out, byte, copy_short, field_at},
};

/// The state of an open span, apart from the bytes in its block. A method that reports [`Full`] has changed nothing.
///
/// The block holds a record's image. Its head and its fixed line stay empty until the end: they are written from here
/// straight into the ring, because bytes written one by one and read back at once by a wide copy stall the copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draft {
    /// Bytes of the image that are in use.
    pub(super) len: usize,
    pub(super) attributes: Attributes,
    pub(super) start: Stamp,
    pub(super) parent: SpanId,
    /// The record's head but for its length: scope, flags so far, and [`TAIL`]. In the form of the record, as the next
    /// field is: written once, stored once.
    pub(super) head: u64,
    /// Kind and flags on the wire, with their tags.
    pub(super) kind_and_flags: u64,
    pub(super) status: Said,
    pub(super) events: u32,
    pub(super) events_dropped: u32,
    pub(super) links: u32,
    pub(super) links_dropped: u32,
}

/// The two ids of a span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// The id of its trace.
    pub trace: TraceId,
    /// Its own id.
    pub span: SpanId,
}

/// The status of a span so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Said {
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
pub(crate) fn wire_flags(trace_flags: u8, is_remote: bool) -> u32 {
    let remote = if is_remote { flags::IS_REMOTE } else { 0 };
    u32::from(trace_flags) | flags::HAS_IS_REMOTE | remote
}

/// Longest name of a span or an event, and longest text of a status; more is cut off at a character.
pub(crate) const TEXT_LEN_MAX: usize = 4096;

impl Draft {
    /// A span without a name, whose record has `scope`. As it is, it serves as a note: changes that wait to be
    /// absorbed.
    #[must_use]
    pub fn new(scope: u16, kind: Kind, start: Stamp) -> Self {
        let mut draft = Self::default();
        draft.begin_anew(scope, kind, start, SpanId::NONE, 0);
        draft
    }

    /// Makes a used draft as good as [`Draft::new`], field by field: a draft that is put together elsewhere and moved
    /// here would be read back wide right after it was written narrow. A root has no `parent`; `flags` are those of the
    /// wire.
    #[inline]
    pub fn begin_anew(&mut self, scope: u16, kind: Kind, start: Stamp, parent: SpanId, flags: u32) {
        self.len = FIXED_LEN;
        self.attributes.clear();
        self.start = start;
        self.parent = parent;
        let root = if parent.is_valid() { 0 } else { ROOT };
        self.head = u64::from(scope) | mark(root);
        self.kind_and_flags =
            KIND_AND_FLAGS_TAGS | (kind as u64) << (8 * KIND_IN_WORD) | u64::from(flags) << (8 * FLAGS_IN_WORD);
        self.status = Said::Nothing;
        self.events = 0;
        self.events_dropped = 0;
        self.links = 0;
        self.links_dropped = 0;
    }

    /// Writes a name of ordinary length; false leaves an empty or longer one to [`Draft::rename`].
    #[inline]
    #[must_use]
    pub fn name_short(&mut self, image: &mut [u8], name: &str) -> bool {
        // trace/v1/trace.proto: Span.name = 5
        short_name(image, self.len, name).map(|len| self.len = len).is_some()
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
    pub fn attribute_fast(&mut self, image: &mut [u8], limits: ShortLimits, key: Key<'_>, value: impl Short) -> bool {
        let Some((room, _)) = image.split_last_chunk_mut::<RESERVE>() else {
            return false;
        };
        self.attributes.add_fast(room, &mut self.len, ATTRIBUTES, limits, key, value)
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
    pub fn event<'k>(
        &mut self,
        image: &mut [u8],
        limits: &SpanLimits,
        at: Stamp,
        name: &str,
        attributes: impl AttributeList<'k>,
    ) -> Result<bool, Full> {
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
            // trace.proto: Event.attributes = 3
            let dropped = nested_attributes(out, 0x1A, count_max, limits, attributes)?;
            out.count_field(0x20, dropped) // trace.proto: Event.dropped_attributes_count = 4
        })?;
        self.len = out.len();
        self.events += 1;
        self.head |= mark(EVENTS);
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
    pub fn link<'k>(
        &mut self,
        image: &mut [u8],
        limits: &SpanLimits,
        target: LinkTarget<'_>,
        attributes: impl AttributeList<'k>,
    ) -> Result<bool, Full> {
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
            // trace.proto: Link.attributes = 4
            let dropped = nested_attributes(out, 0x22, count_max, limits, attributes)?;
            out.count_field(0x28, dropped)?; // trace.proto: Link.dropped_attributes_count = 5
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
                // SPN-09: only an error has a text, and an empty one is none. The end writes the code, from the
                // reserve.
                self.replace(image, STATUS, |_| Ok(()))?;
                self.said(if status == Status::Ok { Said::Ok } else { Said::Error });
            }
        }
        Ok(())
    }

    /// Whether a status was set.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.status != Said::Nothing
    }

    /// Replaces the name.
    ///
    /// # Errors
    ///
    /// When `image` cannot hold it.
    pub fn rename(&mut self, image: &mut [u8], name: &str) -> Result<(), Full> {
        self.replace(image, NAME, |out| out.bytes_field(NAME, cut(name).as_bytes()))
    }

    pub(super) fn attribute_place(limits: &SpanLimits) -> Place {
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

    /// Notes that a limit turned something away: the end has a count to write.
    #[inline]
    pub(super) fn trim(&mut self, is_trimmed: bool) {
        if is_trimmed {
            self.head |= mark(TAIL);
        }
    }

    pub(super) fn said(&mut self, status: Said) {
        self.status = status;
        // A text is among the bytes already, and its code with it.
        if status != Said::ErrorText {
            self.head |= mark(TAIL);
        }
    }

    /// Writes a field that a span has once, in place of the one that is there.
    pub(super) fn replace(
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

/// The bytes that a growing record may use: all but the reserve for its end. A [`Full`] that comes from here therefore
/// asks for [`RESERVE`] bytes less than the block must have.
#[inline]
pub(super) fn room(image: &mut [u8]) -> &mut [u8] {
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
fn nested_attributes<'k>(
    out: &mut Out<'_>,
    tag: u8,
    count_max: u32,
    limits: &SpanLimits,
    attributes: impl AttributeList<'k>,
) -> Result<u32, Full> {
    let mut collection = Attributes::default();
    let place = Place { tag, start: out.len(), count_max };
    for (key, value) in attributes.pairs() {
        let landed = value.with(|value| {
            let (bytes, len) = out.parts();
            collection.set(bytes, len, place, limits, key, value)
        });
        if landed.transpose()? == Some(Landed::EmptyKey) {
            collection.dropped = collection.dropped.saturating_add(1);
        }
    }
    Ok(collection.dropped)
}

/// Writes a name with a length of one byte, and leaves the reserve; `None` leaves it to the general case.
#[inline(always)]
fn short_name(image: &mut [u8], len: usize, name: &str) -> Option<usize> {
    // Zero wraps around, and is no length of a name.
    if name.len().wrapping_sub(1) >= COPY_MAX {
        return None;
    }
    let end = len + 2 + name.len();
    let (head, rest) = image.get_mut(len..end + RESERVE)?.split_first_chunk_mut::<2>()?;
    *head = [NAME, byte(name.len())];
    copy_short(&mut rest[..name.len()], name.as_bytes());
    Some(end)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_draft_begins_as_a_new_one() {
        let limits = SpanLimits { attribute_count: 1, event_count: 1, link_count: 1, ..SpanLimits::default() };
        let target = LinkTarget {
            ids: Ids { trace: TraceId([1; 16]), span: SpanId([2; 8]) },
            trace_state: "",
            trace_flags: 1,
            is_remote: true,
        };
        let none: [(Key<'_>, Value<'_>); 0] = [];
        let mut image = vec![0; 1024];
        let mut used = Draft::new(7, Kind::Client, Stamp::wall(1));
        for key in ["a", "b"] {
            used.attribute(&mut image, &limits, Key::new(key), Value::Int(1)).expect("it has room");
            used.event(&mut image, &limits, Stamp::wall(1), "e", none).expect("it has room");
            used.link(&mut image, &limits, target, none).expect("it has room");
        }
        used.status(&mut image, Status::Ok).expect("it has room");
        assert_eq!((used.attributes.dropped, used.events_dropped, used.links_dropped), (1, 1, 1));
        let mut new = Draft::default();
        for draft in [&mut used, &mut new] {
            draft.begin_anew(3, Kind::Server, Stamp::wall(2), SpanId([5; 8]), 1);
        }
        assert_eq!(format!("{used:?}"), format!("{new:?}"));
    }

    /// However the bytes of an image fit, its end has room: three counts as long as can be, and a status.
    #[test]
    fn full_image_has_room_for_the_end() {
        let limits = SpanLimits { attribute_count: u32::MAX, ..SpanLimits::default() };
        let none: [(Key<'_>, Value<'_>); 0] = [];
        for len in 100..164 {
            let text = "x".repeat(len);
            let (mut image, mut draft) = (vec![0; 1024], Draft::new(0, Kind::Internal, Stamp::wall(1)));
            for key in 0..20 {
                let _ = draft.attribute(&mut image, &limits, Key::new(&key.to_string()), Value::Str(&text));
            }
            // What is left is filled to the byte.
            for len in (0..text.len()).rev() {
                let _ = draft.event(&mut image, &limits, Stamp::wall(1), &text[..len], none);
            }
            for count in [&mut draft.attributes.dropped, &mut draft.events_dropped, &mut draft.links_dropped] {
                *count = u32::MAX - 1;
            }
            draft.drop_attribute();
            draft.drop_event();
            draft.drop_link();
            draft.status(&mut image, Status::Ok).expect("a status without a text finds room");
            assert_eq!(draft.seal(&mut image), draft.len);
            assert!(draft.len > image.len() - 20, "{len}: {} bytes", draft.len);
        }
    }

    /// A character of each length across the limit: what is kept is as long as can be, and whole.
    #[test]
    fn long_text_is_cut_at_the_last_character_that_fits() {
        for character in ["a", "ä", "€", "🦀"] {
            for before in 0..character.len() {
                let text = "x".repeat(before) + &character.repeat(TEXT_LEN_MAX);
                let kept = cut(&text);
                assert!(text.starts_with(kept));
                assert_eq!(kept.len(), TEXT_LEN_MAX - (TEXT_LEN_MAX - before) % character.len(), "{character}");
            }
        }
    }
}
