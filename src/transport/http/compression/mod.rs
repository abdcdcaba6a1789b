//! How request bodies are compressed: what a user may choose, and how each body is coded.

mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

use std::{fmt, str::FromStr};

use self::gzip::Gzip;
#[cfg(feature = "zstd")]
use self::zstd::Zstd;

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
    /// Always zstd, in 0.6 MiB of memory. Once the collector says that it does not take it, what it refused and all
    /// that follows is sent by gzip, and a line says so. Needs the feature `zstd`.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// How a body is coded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
    /// zstd.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    /// Those that the environment knows by name (CFG-06).
    pub(crate) const NAMED: &[(&str, Self)] = &[
        ("none", Self::None),
        ("gzip", Self::Gzip),
        #[cfg(feature = "zstd")]
        ("zstd", Self::Zstd),
    ];

    /// How a body is coded that `auto` would have coded so.
    #[must_use]
    pub fn coding(self, auto: Coding) -> Coding {
        match self {
            Self::Auto => auto,
            Self::None => Coding::Identity,
            Self::Gzip => Coding::Gzip,
            #[cfg(feature = "zstd")]
            Self::Zstd => Coding::Zstd,
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// `auto`, `none` or `gzip`, or, with the feature of that name, `zstd`; case does not matter (CFG-06).
    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        let mut known = [("auto", Self::Auto)].iter().chain(Self::NAMED);
        let found = known.find(|(name, _)| is(name)).map(|&(_, compression)| compression);
        found.ok_or_else(|| UnknownCompression { is_left_out: is("zstd") })
    }
}

/// The text does not name a compression that this build has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownCompression {
    /// Whether another build has it.
    pub(crate) is_left_out: bool,
}

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_left_out {
            return f.write_str("is not in this build: enable the feature `zstd`, or use gzip");
        }
        f.write_str("is not a known compression: use auto")?;
        Compression::NAMED.iter().try_for_each(|(name, _)| write!(f, ", {name}"))
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
            #[cfg(feature = "zstd")]
            Self::Zstd => Some("zstd"),
        }
    }

    /// What takes its place where a collector does not take it. gzip is the only one that OTLP names.
    #[must_use]
    pub fn substitute(self) -> Option<Self> {
        match self {
            Self::Identity | Self::Gzip => None,
            #[cfg(feature = "zstd")]
            Self::Zstd => Some(Self::Gzip),
        }
    }
}

/// The states of the compressors, which are made once and used again.
#[derive(Debug, Default)]
pub struct Compressor {
    gzip: Gzip,
    /// Not there before it is needed.
    #[cfg(feature = "zstd")]
    zstd: Option<Zstd>,
}

impl Compressor {
    /// Appends `body`, coded so.
    pub fn compress(&mut self, coding: Coding, body: &[u8], out: &mut Vec<u8>) {
        match coding {
            Coding::Identity => out.extend_from_slice(body),
            Coding::Gzip => self.gzip.compress(body, out),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.get_or_insert_default().compress(body, out),
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
        #[cfg(feature = "zstd")]
        Coding::Zstd => zstd::decompress(bytes, len_max),
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
        for text in ["", "deflate", " gzip"] {
            let error = text.parse::<Compression>().unwrap_err().to_string();
            assert!(error.starts_with("is not a known compression: use auto, none, gzip"), "{error}");
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_is_read_like_the_others() {
        assert_eq!("Zstd".parse(), Ok(Compression::Zstd));
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn zstd_without_the_feature_is_told_with_its_remedy() {
        let error = "ZSTD".parse::<Compression>().unwrap_err().to_string();
        assert_eq!(error, "is not in this build: enable the feature `zstd`, or use gzip");
    }

    /// A part of a request is made from what was sent.
    #[test]
    fn what_was_coded_comes_back() {
        let mut compressor = Compressor::default();
        let body = b"spans and spans and spans".repeat(20);
        let codings = Compression::NAMED.iter().map(|(_, compression)| compression.coding(Coding::Identity));
        for coding in codings {
            let mut out = vec![];
            compressor.compress(coding, &body, &mut out);
            assert_eq!(decompress(coding, &out, body.len()).as_ref(), Some(&body), "{coding:?}");
            assert_eq!(out.len() < body.len(), coding != Coding::Identity, "{coding:?}");
            assert!(decompress(coding, &out, body.len() - 1).is_none(), "{coding:?}");
        }
    }
}
