//! The certificates that this system trusts.

/// Those certificates in DER, and why some could not be read. It reads files, or asks the system's store.
#[cfg(feature = "tls")]
pub(crate) fn system_trust() -> (Vec<Vec<u8>>, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let failure = found.errors.first().map(ToString::to_string);
    (found.certs.into_iter().map(|certificate| certificate.to_vec()).collect(), failure)
}

/// None: without TLS nobody asks.
#[cfg(not(feature = "tls"))]
pub(crate) fn system_trust() -> (Vec<Vec<u8>>, Option<String>) {
    (vec![], None)
}
