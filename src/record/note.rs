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
