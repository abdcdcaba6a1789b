//! How request bodies are compressed: what a user may choose, and how each body is coded.

mod gzip;

use std::{fmt, str::FromStr};

use self::gzip::Gzip;

/// Whether request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip to other machines, nothing on this one and nothing below 1 KiB. It trades time of the exporter's thread
    /// for bytes on the network.
    #[default]
    Auto,
    /// Never.
    None,
    /// Always gzip.
    Gzip,
}

/// How a body is coded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
}

impl Compression {
    /// How a body is coded that `auto` would have coded so.
    #[must_use]
    pub fn coding(self, auto: Coding) -> Coding {
        match self {
            Self::Auto => auto,
            Self::None => Coding::Identity,
            Self::Gzip => Coding::Gzip,
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// `auto`, `none` or `gzip`, in any case (CFG-06).
    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        let known = [("auto", Self::Auto), ("none", Self::None), ("gzip", Self::Gzip)];
        let found = known.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        found.map(|(_, compression)| compression).ok_or(UnknownCompression)
    }
}

/// The text does not name a compression that is known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownCompression;

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a known compression: use auto, none or gzip")
    }
}

impl std::error::Error for UnknownCompression {}

impl Coding {
    /// Its name in the header `content-encoding`. RFC 9110, section 8.4.1.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
        }
    }
}

/// The states of the compressors, which are made once and used again.
#[derive(Debug, Default)]
pub struct Compressor {
    gzip: Gzip,
}

impl Compressor {
    /// Appends `body`, coded so.
    pub fn compress(&mut self, coding: Coding, body: &[u8], out: &mut Vec<u8>) {
        match coding {
            Coding::Identity => out.extend_from_slice(body),
            Coding::Gzip => self.gzip.compress(body, out),
        }
    }
}

/// What was coded so; `None` if that is invalid or cut off, if more follows, or if it is longer than `len_max`.
///
/// For a request of ours that has to be split. Memory grows with the content, up to that length.
#[must_use]
pub fn decompress(coding: Coding, bytes: &[u8], len_max: usize) -> Option<Vec<u8>> {
    match coding {
        Coding::Identity => (bytes.len() <= len_max).then(|| bytes.to_vec()),
        Coding::Gzip => gzip::decompress(bytes, len_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cfg_06_compression_is_read_in_any_case() {
        assert_eq!("GZip".parse(), Ok(Compression::Gzip));
        assert_eq!("none".parse(), Ok(Compression::None));
        assert_eq!("AUTO".parse(), Ok(Compression::Auto));
        for text in ["", "zstd", " gzip"] {
            assert_eq!(text.parse::<Compression>(), Err(UnknownCompression));
        }
    }
}
