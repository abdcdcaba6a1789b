//! Encrypts the connections of https endpoints: bytes in, bytes out, and no I/O but for the files of its configuration.
//!
//! No way leads plain text out of here, whatever the server does. What fails says which check it was and what would do,
//! and no text shows a key. Whom the system trusts is read once, at start; the files that the user names are looked at
//! before each session, so that certificates of a short life may be replaced while the process runs.

#[cfg(feature = "tls")]
mod failure;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
pub use session::{Session, Tls};

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(not(feature = "tls"))]
pub use absent::{Session, Tls};

#[cfg(all(test, feature = "tls"))]
mod certificates;
#[cfg(all(test, feature = "tls"))]
pub(super) mod fixture;

use std::{fmt, path::Path};

/// What the user configured. Each is a file in PEM.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsFiles<'a> {
    /// Whom to trust, instead of whom the system trusts.
    pub certificate: Option<&'a Path>,
    /// Who we are, for servers that ask: our certificate, and those between it and its root. Needs the key.
    pub client_certificate: Option<&'a Path>,
    /// The key of the client certificate.
    pub client_key: Option<&'a Path>,
}

/// One of the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsFile {
    /// Whom to trust.
    Certificate,
    /// Who we are.
    ClientCertificate,
    /// Its key.
    ClientKey,
}

impl fmt::Display for TlsFile {
    /// The name of the setting, as the user may have written it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "`certificate` (OTEL_EXPORTER_OTLP_CERTIFICATE)",
            Self::ClientCertificate => "`client_certificate` (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE)",
            Self::ClientKey => "`client_key` (OTEL_EXPORTER_OTLP_CLIENT_KEY)",
        })
    }
}

/// What is wrong with the configuration, and what would do: text for the one who wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsError {
    file: Option<TlsFile>,
    text: String,
}

impl TlsError {
    fn new(file: Option<TlsFile>, text: String) -> Self {
        Self { file, text }
    }

    /// The file that is to blame, or that would help.
    #[must_use]
    pub fn file(&self) -> Option<TlsFile> {
        self.file
    }

    /// What is wrong and what would do, without the file's setting.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => write!(f, "{file}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for TlsError {}
