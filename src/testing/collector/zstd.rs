//! zstd of requests, for a build that has it.

use std::io::Read;

use zstd::stream::read::Decoder;

/// Reads what is packed so; `None` if there is no memory for it.
pub(super) fn unzstd(packed: &[u8]) -> Option<impl Read> {
    Decoder::with_buffer(packed).ok()
}
