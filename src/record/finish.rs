//! The end of a span: from a draft and its image to a finished record, in the ring or in place.

use super::{
    Stamp,
    draft::{Draft, Said},
    layout::{
        ATTRIBUTES_DROPPED, END, END_TAG, EVENTS_DROPPED, FIXED_LEN, HEAD_LEN, KIND_AND_FLAGS, LINKS_DROPPED, PARENT,
        PARENT_TAG, SPAN, SPAN_TAG, START, START_TAG, STATUS, STATUS_ERROR, STATUS_OK, TAIL, TRACE, TRACE_TAG,
        WIRE_LEN, mark,
    },
    wire::{Full, Out, copy_ends, copy_last},
};

/// What is known only when a span ends.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// The trace id in two halves. The ids live outside the draft because they outlive it.
    pub trace: (u64, u64),
    /// The span id as a number.
    pub span: u64,
    /// The end time.
    pub end: Stamp,
}

impl Draft {
    /// Completes the image but for its fixed bytes, from the reserve that is kept for this; the length of the record.
    #[inline(always)]
    pub fn seal(&mut self, image: &mut [u8]) -> usize {
        if self.head & mark(TAIL) != 0 {
            self.write_tail(image);
        }
        self.len
    }

    /// Writes the finished record into `record`, which has [`Draft::seal`] bytes, rounded up to a multiple of eight.
    ///
    /// # Panics
    ///
    /// When `record` is shorter.
    #[inline(always)]
    pub fn finish(&self, image: &[u8], finish: Finish, record: &mut [u8]) {
        // The fixed bytes come last: the copy may cover some of them.
        copy_behind_fixed(record, &image[..record.len()]);
        let fixed = record.first_chunk_mut::<FIXED_LEN>().expect("a record has at least its fixed bytes");
        self.write_fixed(finish, fixed);
    }

    /// Finishes a sealed record in place, for a block that leaves as it is.
    ///
    /// # Panics
    ///
    /// When `image` is not the block of this draft: it would be too short.
    pub fn finish_in_place(&self, finish: Finish, image: &mut [u8]) {
        let fixed = image.first_chunk_mut::<FIXED_LEN>().expect("an image has at least its fixed bytes");
        self.write_fixed(finish, fixed);
    }

    #[inline(always)]
    fn write_fixed(&self, finish: Finish, fixed: &mut [u8; FIXED_LEN]) {
        debug_assert!(self.head & mark(TAIL) == 0, "the draft is sealed");
        let wire_len = (self.len - HEAD_LEN) as u64;
        put(fixed, 0, (self.head | wire_len << (8 * WIRE_LEN)).to_le_bytes());
        put(fixed, PARENT - PARENT_TAG.len(), PARENT_TAG);
        put(fixed, PARENT, self.parent.0);
        put(fixed, TRACE - TRACE_TAG.len(), TRACE_TAG);
        put(fixed, TRACE, finish.trace.0.to_ne_bytes());
        put(fixed, TRACE + 8, finish.trace.1.to_ne_bytes());
        put(fixed, SPAN - SPAN_TAG.len(), SPAN_TAG);
        put(fixed, SPAN, finish.span.to_ne_bytes());
        put(fixed, KIND_AND_FLAGS, self.kind_and_flags.to_le_bytes());
        put(fixed, START - START_TAG.len(), START_TAG);
        put(fixed, START, self.start.to_wire());
        put(fixed, END - END_TAG.len(), END_TAG);
        put(fixed, END, finish.end.to_wire());
    }

    #[cold]
    #[inline(never)]
    fn write_tail(&mut self, image: &mut [u8]) {
        let mut out = Out::after(image, self.len);
        let written = self.put_tail(&mut out);
        debug_assert_eq!(written, Ok(()), "the reserve holds three counts and a bare status");
        self.len = out.len();
        self.head &= !mark(TAIL);
    }

    fn put_tail(&self, out: &mut Out<'_>) -> Result<(), Full> {
        if let Some(code) = self.status_alone() {
            out.put(&[STATUS, 2, 0x18, code])?; // trace.proto: Status.code = 3
        }
        out.count_field(ATTRIBUTES_DROPPED, self.attributes.dropped)?;
        out.count_field(EVENTS_DROPPED, self.events_dropped)?;
        out.count_field(LINKS_DROPPED, self.links_dropped)
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
}

/// Copies `source` over the equally long `target`, but for the fixed bytes: for the lengths of most records in a few
/// moves, without a loop, which the compiler would make a call. Where little follows the fixed bytes, some of those are
/// copied too.
#[inline(always)]
fn copy_behind_fixed(target: &mut [u8], source: &[u8]) {
    debug_assert_eq!(target.len(), source.len());
    match target.len() - FIXED_LEN {
        0..=32 => copy_last::<32>(target, source),
        33..=64 => copy_last::<64>(target, source),
        65..=128 => copy_ends::<64>(&mut target[FIXED_LEN..], &source[FIXED_LEN..]),
        129..=256 => copy_ends::<128>(&mut target[FIXED_LEN..], &source[FIXED_LEN..]),
        _ => target[FIXED_LEN..].copy_from_slice(&source[FIXED_LEN..]),
    }
}

#[inline]
fn put<const N: usize>(fixed: &mut [u8; FIXED_LEN], at: usize, bytes: [u8; N]) {
    fixed[at..at + N].copy_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Kind, Status, layout::RESERVE};

    #[test]
    fn reserve_takes_all_that_an_end_can_add() {
        let mut image = [0; 512];
        let mut draft = Draft::new(0, Kind::Internal, Stamp::wall(1));
        draft.status(&mut image, Status::Ok).unwrap();
        draft.drop_attribute();
        draft.drop_event();
        draft.drop_link();
        draft.attributes.dropped = u32::MAX;
        draft.events_dropped = u32::MAX;
        draft.links_dropped = u32::MAX;
        draft.len = image.len() - RESERVE;
        let len = draft.seal(&mut image);
        assert_eq!(len, image.len() - RESERVE + 22);
        assert_eq!(draft.seal(&mut image), len, "sealed is sealed");
        let mut record = [0; 512];
        draft.finish(&image, Finish { trace: (1, 2), span: 3, end: Stamp::wall(2) }, &mut record);
        assert_eq!(record[FIXED_LEN..len], image[FIXED_LEN..len]);
    }

    #[test]
    fn record_of_every_length_has_the_bytes_of_its_image() {
        let image: Vec<u8> = (0..640).map(|index| (index % 251) as u8).collect();
        let finish = Finish { trace: (1, 2), span: 3, end: Stamp::wall(2) };
        for len in (FIXED_LEN..=image.len()).step_by(8) {
            let mut draft = Draft::new(0, Kind::Internal, Stamp::wall(1));
            draft.len = len;
            let mut in_place = image.clone();
            draft.finish_in_place(finish, &mut in_place);
            let mut record = vec![0; len];
            draft.finish(&image, finish, &mut record);
            assert_eq!(record, in_place[..len], "{len}");
        }
    }
}
