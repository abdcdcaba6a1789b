//! TLS for connections to an `https` endpoint. This build has none: such an endpoint is an error at start, never plain text.

use std::path::Path;

/// What the user configured. All are PEM files.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "nothing reads them without TLS")]
pub struct TlsFiles<'a> {
    /// The certificates that a server's is checked against.
    pub certificate: Option<&'a Path>,
    /// The certificate that shows who we are.
    pub client_certificate: Option<&'a Path>,
    /// Its key.
    pub client_key: Option<&'a Path>,
}

/// How sessions with one server are made.
#[derive(Clone, Debug)]
pub enum Tls {}

/// One connection's encryption.
#[derive(Debug)]
pub enum Session {}

impl Tls {
    /// Sessions with `host`.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn new(_host: &str, _files: TlsFiles<'_>) -> Result<Self, String> {
        Err("an https endpoint needs TLS, which this build has not".into())
    }

    /// A session for a new connection.
    ///
    /// # Errors
    ///
    /// When its files cannot be read any more.
    pub fn session(&self) -> Result<Session, String> {
        match *self {}
    }
}

impl Session {
    /// Takes bytes of the peer; appends what they say to `plain`.
    ///
    /// # Errors
    ///
    /// When they are not what they should be.
    pub fn received(&mut self, _bytes: &[u8], _plain: &mut Vec<u8>) -> Result<(), String> {
        match *self {}
    }

    /// Queues plain text.
    pub fn write(&mut self, _plain: &[u8]) {
        match *self {}
    }

    /// Bytes to send now.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        match *self {}
    }

    /// Whether the handshake is done.
    pub fn is_up(&self) -> bool {
        match *self {}
    }

    /// Whether the peer has said that it sends no more.
    pub fn has_ended(&self) -> bool {
        match *self {}
    }
}
