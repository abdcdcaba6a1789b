//! gzip of request bodies, with a state that is made once.

use std::fmt;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// A compressor whose state, about a quarter of a MiB, is made once and used again.
pub(super) struct Gzip {
    state: Compress,
}

impl Gzip {
    /// A compressor of level 1, the cheapest: the exporter's thread takes its time from the service around it.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { state: Compress::new_gzip(flate2::Compression::fast(), WINDOW_BITS) }
    }

    /// Appends `body` as one gzip member.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) {
        self.state.reset();
        let mut rest = body;
        loop {
            // A guess: the loop goes on where the body does not shrink to a quarter.
            out.reserve(rest.len() / 4 + STEP_BYTES);
            let (before, len_before) = (self.state.total_in(), out.len());
            let status = self.state.compress_vec(rest, out, FlushCompress::Finish);
            if status.expect("a state that was reset takes any bytes") == Status::StreamEnd {
                return;
            }
            let taken = usize::try_from(self.state.total_in() - before).unwrap_or(rest.len());
            assert!(taken > 0 || out.len() > len_before, "there is room, so every step gets on");
            rest = &rest[taken..];
        }
    }
}

impl Default for Gzip {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gzip")
    }
}

/// The content of one gzip member, which ends where `bytes` end; `None` if it is invalid, or longer than `len_max`.
///
/// For a request of ours that has to be split. Memory grows with the content, up to that length.
#[must_use]
pub(super) fn decompress(bytes: &[u8], len_max: usize) -> Option<Vec<u8>> {
    let mut state = Decompress::new_gzip(WINDOW_BITS);
    let mut out = Vec::new();
    let mut rest = bytes;
    loop {
        out.reserve(rest.len().min(len_max) + STEP_BYTES);
        let (taken_before, len_before) = (state.total_in(), out.len());
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::None).ok()?;
        let taken = usize::try_from(state.total_in() - taken_before).ok()?;
        rest = &rest[taken..];
        if out.len() > len_max {
            return None;
        }
        if status == Status::StreamEnd {
            return rest.is_empty().then_some(out);
        }
        // There was room, so the member is cut off.
        if taken == 0 && out.len() == len_before {
            return None;
        }
    }
}

/// zlib's largest window, 32 KiB: any gzip reader has it.
const WINDOW_BITS: u8 = 15;
/// Room for a step: header, trailer and a block.
const STEP_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    /// flate2's own reader, which checks the trailer.
    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut content = vec![];
        GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
        content
    }

    fn compressed(body: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        Gzip::new().compress(body, &mut out);
        out
    }

    /// HTTP-03.
    #[test]
    fn http_03_used_state_compresses_like_a_fresh_one() {
        let mut gzip = Gzip::new();
        let mut noise = 1u64;
        for len in [0usize, 1, 1000, 100_000, 400_000] {
            let mut body = vec![];
            while body.len() < len {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                let word = if len == 100_000 { *b"span and" } else { noise.to_le_bytes() };
                body.extend_from_slice(&word);
            }
            let mut out = b"head".to_vec();
            gzip.compress(&body, &mut out);
            assert_eq!(&out[..4], b"head");
            assert_eq!(out[4..], compressed(&body));
            assert!(inflated(&out[4..]) == body);
        }
    }

    #[test]
    fn content_past_the_limit_is_refused_with_bounded_memory() {
        let bomb = compressed(&vec![0; 4 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(decompress(&bomb, 64 << 10), None);
        let body = vec![7; 1000];
        assert_eq!(decompress(&compressed(&body), 1000), Some(body.clone()));
        assert_eq!(decompress(&compressed(&body), 999), None);
    }

    #[test]
    fn what_is_not_one_whole_member_is_refused() {
        let whole = compressed(b"spans and spans and spans");
        for end in 0..whole.len() {
            assert_eq!(decompress(&whole[..end], 100), None);
        }
        assert_eq!(decompress(&[whole.as_slice(), b"x"].concat(), 100), None);
        assert_eq!(decompress(b"no gzip at all, but some text", 100), None);
        let mut wrong = whole.clone();
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert_eq!(decompress(&wrong, 100), None);
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(body in prop::collection::vec(0..4u8, 0..5000)) {
            let bytes = compressed(&body);
            prop_assert_eq!(inflated(&bytes), body.clone());
            prop_assert_eq!(decompress(&bytes, body.len()), Some(body));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            prop_assert!(decompress(&bytes, 1000).is_none_or(|content| content.len() <= 1000));
        }
    }
}
