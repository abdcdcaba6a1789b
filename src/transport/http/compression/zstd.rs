//! zstd of request bodies, with a state that is made once.

use std::{fmt, io::Cursor};

use zstd::{
    bulk,
    zstd_safe::{compress_bound, find_frame_compressed_size},
};

/// A compressor whose state, 0.6 MiB for bodies of a MiB, is made once and used again.
pub(super) struct Zstd {
    state: bulk::Compressor<'static>,
}

impl Zstd {
    /// A compressor of level 1: the exporter's thread takes its time from the service around it.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { state: bulk::Compressor::new(LEVEL).expect("every build of zstd has this level") }
    }

    /// Appends `body` as one frame, which says how long the content is.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) {
        out.reserve(compress_bound(body.len()));
        let mut end = Cursor::new(out);
        end.set_position(end.get_ref().len() as u64);
        self.state.compress_to_buffer(body, &mut end).expect("there is room for any body");
    }
}

impl Default for Zstd {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

/// The content of one frame, which ends where `bytes` end; `None` if it is invalid, or longer than `len_max`.
#[must_use]
pub(super) fn decompress(bytes: &[u8], len_max: usize) -> Option<Vec<u8>> {
    if find_frame_compressed_size(bytes) != Ok(bytes.len()) {
        return None;
    }
    // Memory may be larger than what was asked for.
    bulk::decompress(bytes, len_max).ok().filter(|content| content.len() <= len_max)
}

/// The cheapest of the regular ones.
const LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zstd::stream::decode_all;

    use super::*;

    fn compressed(body: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        Zstd::new().compress(body, &mut out);
        out
    }

    /// HTTP-03.
    #[test]
    fn http_03_used_state_compresses_like_a_fresh_one() {
        let mut zstd = Zstd::new();
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
            zstd.compress(&body, &mut out);
            assert_eq!(&out[..4], b"head");
            assert_eq!(out[4..], compressed(&body));
            assert!(decode_all(&out[4..]).unwrap() == body);
        }
    }

    #[test]
    fn content_past_the_limit_is_refused() {
        let bomb = compressed(&vec![0; 4 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(decompress(&bomb, 64 << 10), None);
        let body = vec![7; 1000];
        assert_eq!(decompress(&compressed(&body), 1000), Some(body.clone()));
        assert_eq!(decompress(&compressed(&body), 999), None);
    }

    #[test]
    fn what_is_not_one_whole_frame_is_refused() {
        let whole = compressed(b"spans and spans and spans");
        for end in 0..whole.len() {
            assert_eq!(decompress(&whole[..end], 100), None);
        }
        assert_eq!(decompress(&[whole.as_slice(), b"x"].concat(), 100), None);
        assert_eq!(decompress(&whole.repeat(2), 100), None);
        assert_eq!(decompress(b"no zstd at all, but some text", 100), None);
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(body in prop::collection::vec(0..4u8, 0..5000)) {
            let bytes = compressed(&body);
            prop_assert_eq!(decode_all(bytes.as_slice()).unwrap(), body.clone());
            prop_assert_eq!(decompress(&bytes, body.len()), Some(body));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            prop_assert!(decompress(&bytes, 1000).is_none_or(|content| content.len() <= 1000));
        }

        #[test]
        fn any_damage_is_answered(body in prop::collection::vec(0..4u8, 0..1000), at: prop::sample::Index, byte: u8) {
            let mut bytes = compressed(&body);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert!(decompress(&bytes, 1000).is_none_or(|content| content.len() <= 1000));
        }
    }
}
