//! Encrypts the connections of https endpoints: bytes in, bytes out. It does no I/O: the files of its configuration
//! are read by the caller.
//!
//! No way leads plain text out of here, whatever the server does. What fails says which check it was and what would
//! help, and no text shows a key. Sessions made of one [`Tls`] share a cache, behind a lock of rustls: a process that
//! was forked makes its own with [`Tls::renewed`].

#[cfg(feature = "tls")]
mod failure;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
pub use session::{Session, Tls, TlsHost};

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(not(feature = "tls"))]
pub use absent::{Session, Tls, TlsHost};

#[cfg(all(feature = "__certificates", feature = "tls"))]
pub mod certificates;
#[cfg(all(test, feature = "tls"))]
pub(crate) mod fixture;
#[cfg(all(test, feature = "tls", not(feature = "__certificates")))]
compile_error!("the tests of TLS need certificates: add the feature `__certificates`");

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The TLS of the next connection: always the same, or as the certificates are by then.
pub trait TlsSource: fmt::Debug + Send {
    /// It may read files, on the exporter's thread.
    fn tls(&mut self) -> &Tls;

    /// Why the newest certificates are not in use, if they will not do.
    fn failure(&self) -> Option<&str>;
}

impl TlsSource for Tls {
    fn tls(&mut self) -> &Tls {
        self
    }

    fn failure(&self) -> Option<&str> {
        None
    }
}

/// What sessions are made with, in memory.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The issuers of servers that we trust.
    pub trust: Trust,
    /// Our own certificate, for servers that ask.
    pub identity: Option<Identity>,
}

/// The issuers of servers that we trust.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those in the user's file.
    File(Pem),
    /// Those of the system.
    System(SystemTrust),
}

/// The issuers that this system trusts.
#[derive(Clone, Default)]
pub struct SystemTrust {
    /// Certificates in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Why some could not be read.
    pub failure: Option<String>,
}

/// Our own certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those between it and its root.
    pub certificate: Pem,
    /// Its key.
    pub key: Pem,
}

/// The content of a file in PEM.
#[derive(Clone)]
pub struct Pem {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// What was read.
    pub text: Vec<u8>,
}

impl fmt::Debug for Pem {
    /// The path alone: the text may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.path.display())
    }
}

impl fmt::Debug for SystemTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemTrust({} certificates)", self.certificates.len())
    }
}

/// One of the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsFile {
    /// The issuers of servers that are trusted.
    Certificate,
    /// Our own certificate.
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

/// What is wrong with the configuration, and what would help, as text for the user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsError {
    file: Option<TlsFile>,
    text: String,
}

impl TlsError {
    /// This is wrong, and that file is to blame or would help.
    #[must_use]
    pub fn new(file: Option<TlsFile>, text: String) -> Self {
        Self { file, text }
    }

    /// The file at this path will not do: it `what`, and the remedy.
    #[must_use]
    pub fn unusable(file: TlsFile, path: &Path, what: &str, remedy: &str) -> Self {
        Self::new(Some(file), format!("{} {what}: {remedy}", path.display()))
    }

    /// The file that is to blame, or that would help.
    #[must_use]
    pub fn file(&self) -> Option<TlsFile> {
        self.file
    }

    /// What is wrong and what would help, without the file's setting.
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
