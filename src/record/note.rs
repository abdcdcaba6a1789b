//! Changes that were written elsewhere, as a small record of their own, and are taken over into a span's draft.

use super::{
    Status,
    attributes::Landed,
    draft::{Draft, Said, room},
    layout::{
        ATTRIBUTES, ATTRIBUTES_DROPPED, EVENT_LIST, EVENTS, EVENTS_DROPPED, FIXED_LEN, LINK_LIST, LINKS_DROPPED, NAME,
        STATUS, STATUS_OK, mark,
    },
    limits::SpanLimits,
    wire::{Full, Out, field_at, read_varint},
};

impl Draft {
    /// Takes over the changes of a note: what a finished note holds after its fixed bytes.
    ///
    /// # Errors
    ///
    /// When `image` cannot hold them. Changes that were taken over before stay, and are taken over again by another
    /// try, so a note holds one change.
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
                    self.head |= mark(EVENTS);
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

    /// Counts the change of a note that no block is large enough for, and keeps the code of a status, which the end has
    /// room for. True when a name or a text was given up, for which a span has no count.
    pub fn drop_note(&mut self, image: &mut [u8], note: &[u8]) -> bool {
        let mut is_cut = false;
        let mut at = FIXED_LEN;
        while let Some(field) = field_at(note, at) {
            at = field.whole.end;
            match field.tag {
                ATTRIBUTES => self.drop_attribute(),
                EVENT_LIST => self.drop_event(),
                LINK_LIST => self.drop_link(),
                STATUS => {
                    is_cut = true;
                    // A status without a text always finds room.
                    let _ = self.status(image, Status::Error(""));
                }
                _ => is_cut = true,
            }
        }
        is_cut
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
}

/// The count that starts at `at`: its tag, itself, and where the next one starts.
fn count_at(bytes: &[u8], at: usize) -> Option<(u8, u32, usize)> {
    let tag = *bytes.get(at)?;
    let (count, width) = read_varint(bytes.get(at + 1..)?)?;
    matches!(tag, ATTRIBUTES_DROPPED | EVENTS_DROPPED | LINKS_DROPPED)
        .then(|| (tag, u32::try_from(count).unwrap_or(u32::MAX), at + 1 + width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ids, Key, Kind, LinkTarget, SpanId, Stamp, TraceId, Value};

    const TARGET: LinkTarget<'_> = LinkTarget {
        ids: Ids { trace: TraceId([1; 16]), span: SpanId([2; 8]) },
        trace_state: "",
        trace_flags: 0,
        is_remote: false,
    };

    /// The bytes of a note in which `write` makes a change, for a span with these limits.
    fn note(write: impl FnOnce(&mut Draft, &mut [u8])) -> Vec<u8> {
        let mut draft = Draft::new(0, Kind::Internal, Stamp::EPOCH);
        let mut image = vec![0; 1024];
        write(&mut draft, &mut image);
        let len = draft.seal(&mut image);
        image.truncate(len);
        image
    }

    /// A span that took over these notes, its image, and how often it was full.
    fn absorbed(limits: &SpanLimits, image_len: usize, notes: &[&[u8]]) -> (Draft, Vec<u8>, usize) {
        let mut draft = Draft::new(0, Kind::Internal, Stamp::wall(1));
        let mut image = vec![0; image_len];
        let full = notes.iter().filter(|note| draft.absorb(&mut image, limits, note).is_err()).count();
        (draft, image, full)
    }

    fn event(limits: &SpanLimits, name: &str) -> Vec<u8> {
        let none: [(Key<'_>, Value<'_>); 0] = [];
        note(|draft, image| assert_eq!(draft.event(image, limits, Stamp::wall(1), name, none), Ok(true)))
    }

    fn link(limits: &SpanLimits) -> Vec<u8> {
        let none: [(Key<'_>, Value<'_>); 0] = [];
        note(|draft, image| assert_eq!(draft.link(image, limits, TARGET, none), Ok(true)))
    }

    #[test]
    fn limits_of_the_span_apply_to_what_notes_bring() {
        let limits = SpanLimits { event_count: 2, link_count: 1, attribute_count: 1, ..SpanLimits::default() };
        let (event, link) = (event(&limits, "e"), link(&limits));
        let attribute = |key: &'static str| {
            note(|draft, image| {
                draft.attribute(image, &limits, Key::new(key), Value::Int(1)).expect("it has room");
            })
        };
        let [first, second] = ["a", "b"].map(attribute);
        let notes: [&[u8]; 8] = [&event, &event, &event, &link, &link, &first, &first, &second];
        let (draft, _, full) = absorbed(&limits, 1024, &notes);
        assert_eq!(full, 0);
        assert_eq!((draft.events, draft.events_dropped), (2, 1));
        assert_eq!((draft.links, draft.links_dropped), (1, 1));
        assert_eq!((draft.attributes.count, draft.attributes.dropped), (1, 1));
    }

    #[test]
    fn counts_of_what_a_note_turned_away_are_added_each_to_its_own() {
        let counts = note(|draft, _| {
            draft.drop_attribute();
            (0..2).for_each(|_| draft.drop_event());
            (0..3).for_each(|_| draft.drop_link());
        });
        let (draft, _, _) = absorbed(&SpanLimits::default(), 512, &[&counts, &counts]);
        assert_eq!((draft.attributes.dropped, draft.events_dropped, draft.links_dropped), (2, 4, 6));
    }

    #[test]
    fn status_of_a_note_keeps_the_order_of_statuses() {
        let status = |status| note(|draft, image| draft.status(image, status).expect("it has room"));
        let [ok, bare, text] = [Status::Ok, Status::Error(""), Status::Error("text")].map(status);
        let cases: [(&[&[u8]], Said); 7] = [
            (&[&ok], Said::Ok),
            (&[&bare], Said::Error),
            (&[&text], Said::ErrorText),
            (&[&text, &bare], Said::Error),
            (&[&bare, &text], Said::ErrorText),
            (&[&ok, &text], Said::Ok),
            (&[&text, &ok], Said::Ok),
        ];
        for (index, (notes, said)) in cases.into_iter().enumerate() {
            let (mut draft, mut image, _) = absorbed(&SpanLimits::default(), 512, notes);
            assert_eq!(draft.status, said, "{index}");
            let len = draft.seal(&mut image);
            let statuses = std::iter::successors(field_at(&image[..len], FIXED_LEN), |last| {
                field_at(&image[..len], last.whole.end)
            });
            assert_eq!(statuses.filter(|field| field.tag == STATUS).count(), 1, "{index}");
        }
    }

    #[test]
    fn note_that_finds_no_room_is_counted_or_told_as_cut() {
        let limits = SpanLimits::default();
        let long = "x".repeat(200);
        let text = note(|draft, image| draft.status(image, Status::Error(&long)).expect("it has room"));
        let name = note(|draft, image| draft.rename(image, &long).expect("it has room"));
        let attribute = note(|draft, image| {
            draft.attribute(image, &limits, Key::new("long"), Value::Str(&long)).expect("it has room");
        });
        let (event, link) = (event(&limits, &long), link(&limits));
        let notes: [&[u8]; 5] = [&text, &name, &attribute, &event, &link];
        let (mut draft, mut image, full) = absorbed(&limits, FIXED_LEN + crate::record::RESERVE + 8, &notes);
        assert_eq!(full, notes.len());
        let cut = notes.map(|note| draft.drop_note(&mut image, note));
        assert_eq!(cut, [true, true, false, false, false]);
        assert_eq!(draft.status, Said::Error, "the code is kept");
        assert_eq!((draft.attributes.dropped, draft.events_dropped, draft.links_dropped), (1, 1, 1));
    }
}
