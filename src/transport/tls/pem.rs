//! Reads PEM, and the certificates of the system, into what rustls needs for a session.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use super::{Certificates, Identity, Pem, SystemTrust, TlsError, TlsFile, Trust};

/// The configuration of sessions with these certificates.
pub(super) fn client_config(certificates: &Certificates) -> Result<ClientConfig, TlsError> {
    let trust = match &certificates.trust {
        Trust::File(file) => trust_of_file(file)?,
        Trust::System(found) => trust_of_system(found)?,
    };
    // The application's choice goes first: it may have to be a certified one.
    let installed = CryptoProvider::get_default().cloned();
    let provider = installed.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| {
        let remedy = "install one with cipher suites for TLS 1.2 or 1.3, or none";
        TlsError::new(
            None,
            format!("the rustls provider that the application installed will not do: {error}: {remedy}"),
        )
    })?;
    let config = config.with_root_certificates(trust);
    let mut config = match &certificates.identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates_in(CLIENT_CERTIFICATE, &identity.certificate)?;
            let key = private_key(&identity.key)?;
            config.with_client_auth_cert(chain, key).map_err(|error| mismatch(identity, &error))?
        }
    };
    // RFC 7301, section 3.2: a server that speaks none of these refuses, instead of answering in another protocol.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn private_key(file: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = &file.text;
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        // As PKCS #8 says it in the name of the section, and as OpenSSL did before, in a line `Proc-Type`.
        _ if contains(text, b"ENCRYPTED") => {
            let remedy = "give it without, as `openssl pkey` writes it";
            TlsError::unusable(CLIENT_KEY, &file.path, "holds a key under a password", remedy)
        }
        pem::Error::NoItemsFound => {
            let remedy = "give a file with a section `BEGIN PRIVATE KEY`";
            TlsError::unusable(CLIENT_KEY, &file.path, "holds no private key in PEM", remedy)
        }
        // The cause may quote the file, and this file is secret.
        _ => broken(CLIENT_KEY, file),
    })
}

fn mismatch(identity: &Identity, error: &Error) -> TlsError {
    let (certificate, key) = (&identity.certificate.path, &identity.key.path);
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let what = format!("is not the key of the first certificate in {}", certificate.display());
            TlsError::unusable(CLIENT_KEY, key, &what, "give the two that were made together")
        }
        Error::InvalidCertificate(_) => {
            let what = "does not begin with an X.509 certificate of version 3";
            let remedy = "put the client's own first, made with extensions";
            TlsError::unusable(CLIENT_CERTIFICATE, certificate, what, remedy)
        }
        _ => {
            let what = "holds a key of a kind that is not supported, or a broken one";
            let remedy = "give an ECDSA key (P-256 or P-384), Ed25519, or RSA of 2048 to 4096 bits";
            TlsError::unusable(CLIENT_KEY, key, what, remedy)
        }
    }
}

fn trust_of_file(file: &Pem) -> Result<RootCertStore, TlsError> {
    let mut trust = RootCertStore::empty();
    for (at, certificate) in certificates_in(CERTIFICATE, file)?.into_iter().enumerate() {
        trust.add(certificate).map_err(|_| {
            let what = format!("holds, as number {}, something that is not an X.509 certificate", at + 1);
            TlsError::unusable(CERTIFICATE, &file.path, &what, "mend or remove that section")
        })?;
    }
    Ok(trust)
}

/// Leaves out what is broken, unlike the user's own file: the user cannot mend what came with the system. Windows
/// fetches some of its roots when it first needs them; those are not among the found.
fn trust_of_system(found: &SystemTrust) -> Result<RootCertStore, TlsError> {
    let mut trust = RootCertStore::empty();
    trust.add_parsable_certificates(found.certificates.iter().map(|der| der.as_slice().into()));
    if trust.is_empty() {
        let cause = found.failure.as_ref().map(|failure| format!(" ({failure})")).unwrap_or_default();
        let remedy = "install the package ca-certificates, or name a file with the server's CA";
        let text = format!("this system trusts no certificates at all{cause}: {remedy}");
        return Err(TlsError::new(Some(CERTIFICATE), text));
    }
    Ok(trust)
}

fn certificates_in(setting: TlsFile, file: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.text).collect();
    let found = found.map_err(|_| broken(setting, file))?;
    if found.is_empty() {
        let remedy = "give a file with a section `BEGIN CERTIFICATE`";
        return Err(TlsError::unusable(setting, &file.path, "holds no certificate in PEM", remedy));
    }
    Ok(found)
}

fn broken(setting: TlsFile, file: &Pem) -> TlsError {
    TlsError::unusable(setting, &file.path, "is not whole, or not PEM", "copy it again")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

pub(super) const CERTIFICATE: TlsFile = TlsFile::Certificate;
pub(super) const CLIENT_CERTIFICATE: TlsFile = TlsFile::ClientCertificate;
pub(super) const CLIENT_KEY: TlsFile = TlsFile::ClientKey;

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::{
        super::fixture::{Leaf, assert_names, authority, identity, pem},
        *,
    };

    fn refusal(trust: Pem, identity: Option<Identity>) -> String {
        let certificates = Certificates { trust: Trust::File(trust), identity };
        client_config(&certificates).expect_err("a file that will not do").to_string()
    }

    #[test]
    fn bad_trust_is_named() {
        let authority = authority("the CA");
        let broken = authority.pem().replace('M', "*");
        let cut = authority.pem()[..100].to_owned();
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: [(&str, Vec<u8>, &[&str]); 6] = [
            ("empty", vec![], &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("der", authority.der().to_vec(), &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("key", authority.key().serialize_pem().into(), &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("broken", broken.into(), &["not whole, or not PEM", "copy it again"]),
            ("cut", cut.into(), &["not whole, or not PEM", "copy it again"]),
            ("other", (authority.pem() + other).into(), &["as number 2", "not an X.509 certificate", "remove"]),
        ];
        for (name, text, parts) in cases {
            let file = pem(name, text);
            let path = file.path.display().to_string();
            let refusal = refusal(file, None);
            assert_names(&refusal, parts);
            assert_names(&refusal, &["`certificate` (OTEL_EXPORTER_OTLP_CERTIFICATE)", &path]);
        }
    }

    #[test]
    fn bad_identity_is_named_and_keys_are_not_shown() {
        let authority = authority("the CA");
        let (one, other) = (Leaf::of_client(&authority), Leaf::of_client(&authority));
        let chain = one.certificate.pem();
        let key = one.key.serialize_pem();
        let secret = key.lines().nth(1).expect("the key").to_owned();
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let small = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cut = key.replace("-----END", &format!("-----BEGIN {secret}\n-----END"));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: [(&str, &str, &[&str]); 10] = [
            (&chain, &other.key.serialize_pem(), &["`client_key`", "is not the key of", "client.pem", "made together"]),
            (&authority.pem(), &key, &["`client_key`", "is not the key of", "client.pem", "made together"]),
            (&chain, &chain, &["`client_key`", "holds no private key", "BEGIN PRIVATE KEY"]),
            (&chain, &locked, &["`client_key`", "under a password", "openssl pkey"]),
            (&chain, old, &["`client_key`", "under a password", "openssl pkey"]),
            (&chain, &cut, &["`client_key`", "not whole", "copy it again"]),
            (&chain, small, &["`client_key`", "a kind that is not supported", "P-256"]),
            (&key, &key, &["`client_certificate`", "holds no certificate", "BEGIN CERTIFICATE"]),
            (junk, &key, &["`client_certificate`", "X.509", "first"]),
            ("", "", &["`client_certificate`", "holds no certificate"]),
        ];
        for (chain, key, parts) in cases {
            let refusal = refusal(pem("ca.pem", authority.pem()), Some(identity(chain, key)));
            assert_names(&refusal, parts);
            assert!(!refusal.contains(&secret), "{refusal}");
        }
    }

    #[test]
    fn keys_of_every_common_kind_are_taken() {
        let authority = authority("the CA");
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(kind).expect("a key");
            let certificate = rcgen::CertificateParams::default().signed_by(&key, &authority).expect("a certificate");
            // The chain goes on to its root, and there are other things in the key's file.
            let chain = certificate.pem() + &authority.pem();
            let key = format!("a note\n{}{}", certificate.pem(), key.serialize_pem());
            let trust = Trust::File(pem("ca.pem", authority.pem()));
            let certificates = Certificates { trust, identity: Some(identity(&chain, &key)) };
            let config = client_config(&certificates).expect("good files");
            assert!(config.client_auth_cert_resolver.has_certs());
            assert_eq!(config.alpn_protocols, [b"http/1.1"]);
            assert!(!config.enable_early_data, "what is sent early may be sent again by somebody else");
        }
    }

    #[test]
    fn system_without_trust_is_refused_at_start() {
        for failure in [None, Some("no access".to_owned())] {
            let found = SystemTrust { certificates: vec![], failure: failure.clone() };
            let text = trust_of_system(&found).expect_err("nothing there").to_string();
            let parts = ["trusts no certificates", "ca-certificates", "`certificate` (OTEL_EXPORTER_OTLP_CERT"];
            assert_names(&text, &parts);
            assert_eq!(text.contains("(no access)"), failure.is_some());
        }
        let certificates = vec![authority("the CA").der().to_vec(), vec![1, 2, 3]];
        let found = SystemTrust { certificates, failure: None };
        assert_eq!(trust_of_system(&found).expect("one is good").len(), 1);
    }
}
