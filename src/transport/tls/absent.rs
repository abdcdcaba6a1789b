//! Stands in where TLS is not compiled in: an https endpoint is refused at start, and never becomes a plain one.

use super::{Certificates, TlsError};

/// Cannot be made in this build.
#[derive(Clone, Debug)]
pub enum TlsHost {}

impl TlsHost {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn new(host: &str) -> Result<Self, TlsError> {
        let host = host.escape_debug();
        let remedy = "build with `features = [\"tls\"]`, or name an http endpoint";
        Err(TlsError::new(
            None,
            format!("an endpoint with https needs the cargo feature `tls` of spanring, for {host}: {remedy}"),
        ))
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn tls(&self, _: &Certificates) -> Result<Tls, TlsError> {
        match *self {}
    }
}

/// Cannot be made in this build.
#[derive(Clone, Debug)]
pub enum Tls {}

impl Tls {
    /// Is never called.
    #[must_use]
    pub fn renewed(&self) -> Self {
        match *self {}
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn session(&self) -> Result<Session, String> {
        match *self {}
    }
}

/// Cannot be made in this build.
#[derive(Debug)]
pub enum Session {}

impl Session {
    /// Is never called.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn received(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), String> {
        match *self {}
    }

    /// Is never called.
    pub fn write(&mut self, _: &[u8]) {
        match *self {}
    }

    /// Is never called.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        match *self {}
    }

    /// Is never called.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match *self {}
    }

    /// Is never called.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match *self {}
    }

    /// Is never called.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_without_the_feature_is_refused_at_start() {
        let error = TlsHost::new("collector.example").expect_err("there is no TLS in this build");
        let text = error.to_string();
        for part in ["https", "cargo feature `tls`", "collector.example", "http endpoint"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
