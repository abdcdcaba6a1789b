//! Reads the PEM files, and whom the system trusts, into what rustls needs for a session.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::{TlsError, TlsFile, TlsFiles};

/// The files of one configuration.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) certificate: Option<PathBuf>,
    pub(super) identity: Option<Identity>,
}

/// Where it is written who we are.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    key: PathBuf,
}

/// When each file was written and its length in bytes, to see that it is another.
pub(super) type Stamps = [Option<(SystemTime, u64)>; 3];

impl Files {
    pub(super) fn new(files: TlsFiles<'_>) -> Result<Self, TlsError> {
        let lone = |here, missing| {
            Err(TlsError::new(Some(here), format!("it comes without {missing}: give both, or neither of the two")))
        };
        let identity = match (files.client_certificate, files.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity { certificate: certificate.into(), key: key.into() }),
            (Some(_), None) => return lone(CLIENT_CERTIFICATE, CLIENT_KEY),
            (None, Some(_)) => return lone(CLIENT_KEY, CLIENT_CERTIFICATE),
        };
        Ok(Self { certificate: files.certificate.map(Path::to_owned), identity })
    }

    pub(super) fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| {
            let data = fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        let identity = self.identity.as_ref();
        [
            self.certificate.as_ref().and_then(stamp),
            identity.and_then(|identity| stamp(&identity.certificate)),
            identity.and_then(|identity| stamp(&identity.key)),
        ]
    }

    pub(super) fn load(&self) -> Result<ClientConfig, TlsError> {
        let trust = match &self.certificate {
            Some(path) => trust_of_file(path)?,
            None => trust_of_system(load_native_certs())?,
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
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = (identity.chain()?, identity.key()?);
                config.with_client_auth_cert(chain, key).map_err(|error| identity.mismatch(&error))?
            }
        };
        // RFC 7301, section 3.2: a server that speaks none of these refuses, instead of answering in another protocol.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Identity {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(CLIENT_CERTIFICATE, &self.certificate)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let file = (CLIENT_KEY, self.key.as_path());
        let text = contents(file)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            // As PKCS #8 says it in the name of the section, and as OpenSSL did before, in a line `Proc-Type`.
            _ if contains(&text, b"ENCRYPTED") => {
                unusable(file, "holds a key under a password", "give it without, as `openssl pkey` writes it")
            }
            pem::Error::NoItemsFound => {
                unusable(file, "holds no private key in PEM", "give a file with a section `BEGIN PRIVATE KEY`")
            }
            // The cause may quote the file, and this file is secret.
            _ => unusable(file, "is not whole, or not PEM", "copy it anew"),
        })
    }

    fn mismatch(&self, error: &Error) -> TlsError {
        let key = (CLIENT_KEY, self.key.as_path());
        match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let what = format!("is not the key of the first certificate in {}", self.certificate.display());
                unusable(key, &what, "give the two that were made together")
            }
            Error::InvalidCertificate(_) => {
                let what = "begins with what is no X.509 certificate of version 3";
                unusable(
                    (CLIENT_CERTIFICATE, &self.certificate),
                    what,
                    "put the client's own first, made with extensions",
                )
            }
            _ => {
                let remedy = "give an ECDSA key (P-256 or P-384), Ed25519, or RSA of 2048 to 4096 bits";
                unusable(key, "holds a key of a kind that is not supported, or a broken one", remedy)
            }
        }
    }
}

fn trust_of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut trust = RootCertStore::empty();
    for (at, certificate) in certificates(CERTIFICATE, path)?.into_iter().enumerate() {
        trust.add(certificate).map_err(|_| {
            let what = format!("holds, as number {}, what is no X.509 certificate", at + 1);
            unusable((CERTIFICATE, path), &what, "mend or remove that section")
        })?;
    }
    Ok(trust)
}

/// Leaves out what is broken, unlike the user's own file: nobody here can mend what came with the system. Windows fetches
/// some of its roots when it first needs them; those are not among the found.
fn trust_of_system(found: CertificateResult) -> Result<RootCertStore, TlsError> {
    let mut trust = RootCertStore::empty();
    trust.add_parsable_certificates(found.certs);
    if trust.is_empty() {
        let cause = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let remedy = "install the package ca-certificates, or name a file with the server's CA";
        let text = format!("this system trusts no certificates at all{cause}: {remedy}");
        return Err(TlsError::new(Some(CERTIFICATE), text));
    }
    Ok(trust)
}

fn certificates(setting: TlsFile, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = (setting, path);
    let text = contents(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| unusable(file, "is not whole, or not PEM", "copy it anew"))?;
    if found.is_empty() {
        let remedy = "give a file with a section `BEGIN CERTIFICATE`";
        return Err(unusable(file, "holds no certificate in PEM", remedy));
    }
    Ok(found)
}

fn contents(file: (TlsFile, &Path)) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = vec![];
        File::open(file.1)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let remedy = "name a file in PEM that this process may read";
    let text = read().map_err(|error| unusable(file, &format!("cannot be read ({error})"), remedy))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(file, &format!("is longer than {FILE_BYTES_MAX} bytes"), remedy));
    }
    Ok(text)
}

fn unusable((file, path): (TlsFile, &Path), what: &str, remedy: &str) -> TlsError {
    TlsError::new(Some(file), format!("{} {what}: {remedy}", path.display()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

pub(super) const CERTIFICATE: TlsFile = TlsFile::Certificate;
pub(super) const CLIENT_CERTIFICATE: TlsFile = TlsFile::ClientCertificate;
pub(super) const CLIENT_KEY: TlsFile = TlsFile::ClientKey;

/// Ten times what a distribution ships as all its roots.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rustls_native_certs::load_certs_from_paths;

    use super::{
        super::fixture::{Folder, Leaf, assert_names, authority},
        *,
    };

    fn refusal(certificate: Option<&Path>, client_certificate: Option<&Path>, client_key: Option<&Path>) -> String {
        let files = Files::new(TlsFiles { certificate, client_certificate, client_key });
        files.and_then(|files| files.load()).expect_err("a file that will not do").to_string()
    }

    #[test]
    fn bad_trust_is_named() {
        let folder = Folder::new();
        let authority = authority("the CA");
        let broken = authority.pem().replace('M', "*");
        let cut = authority.pem()[..100].to_owned();
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: [(&str, Vec<u8>, &[&str]); 7] = [
            ("empty", vec![], &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("der", authority.der().to_vec(), &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("key", authority.key().serialize_pem().into(), &["holds no certificate in PEM", "BEGIN CERTIFICATE"]),
            ("broken", broken.into(), &["not whole, or not PEM", "copy it anew"]),
            ("cut", cut.into(), &["not whole, or not PEM", "copy it anew"]),
            ("other", (authority.pem() + other).into(), &["as number 2", "no X.509 certificate", "remove"]),
            ("long", vec![b'\n'; (4 << 20) + 1], &["longer than 4194304 bytes", "name a file in PEM"]),
        ];
        for (name, text, parts) in cases {
            let path = folder.write(name, text, 0);
            let refusal = refusal(Some(&path), None, None);
            assert_names(&refusal, parts);
            assert_names(&refusal, &["`certificate` (OTEL_EXPORTER_OTLP_CERTIFICATE)", &path.display().to_string()]);
        }
        let absent = refusal(Some(Path::new("/no/such/ca.pem")), None, None);
        assert_names(&absent, &["`certificate`", "/no/such/ca.pem cannot be read", "name a file in PEM"]);
    }

    #[test]
    fn bad_identity_is_named_and_keys_are_not_shown() {
        let folder = Folder::new();
        let authority = authority("the CA");
        let (one, other) = (Leaf::of_client(&authority), Leaf::of_client(&authority));
        let ca = folder.write("ca.pem", authority.pem(), 0);
        let chain = one.certificate.pem();
        let key = one.key.serialize_pem();
        let secret = key.lines().nth(1).expect("the key").to_owned();
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let small = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cut = key.replace("-----END", &format!("-----BEGIN {secret}\n-----END"));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: [(&str, &str, &[&str]); 10] = [
            (&chain, &other.key.serialize_pem(), &["`client_key`", "is not the key of", "a.pem", "made together"]),
            (&authority.pem(), &key, &["`client_key`", "is not the key of", "a.pem", "made together"]),
            (&chain, &chain, &["`client_key`", "holds no private key", "BEGIN PRIVATE KEY"]),
            (&chain, &locked, &["`client_key`", "under a password", "openssl pkey"]),
            (&chain, old, &["`client_key`", "under a password", "openssl pkey"]),
            (&chain, &cut, &["`client_key`", "not whole", "copy it anew"]),
            (&chain, small, &["`client_key`", "a kind that is not supported", "P-256"]),
            (&key, &key, &["`client_certificate`", "holds no certificate", "BEGIN CERTIFICATE"]),
            (junk, &key, &["`client_certificate`", "X.509", "first"]),
            ("", "", &["`client_certificate`", "holds no certificate"]),
        ];
        for (chain, key, parts) in cases {
            let (chain, key) = (folder.write("a.pem", chain, 0), folder.write("a.key", key, 0));
            let refusal = refusal(Some(&ca), Some(&chain), Some(&key));
            assert_names(&refusal, parts);
            assert!(!refusal.contains(&secret), "{refusal}");
        }
    }

    #[test]
    fn identity_needs_both_its_files() {
        let path = Path::new("/etc/client.pem");
        for (chain, key) in [(Some(path), None), (None, Some(path))] {
            let refusal = refusal(None, chain, key);
            assert_names(&refusal, &["`client_certificate`", "`client_key`", "without", "give both, or neither"]);
        }
    }

    #[test]
    fn keys_of_every_common_kind_are_taken() {
        let folder = Folder::new();
        let authority = authority("the CA");
        let ca = folder.write("ca.pem", authority.pem(), 0);
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(kind).expect("a key");
            let certificate = rcgen::CertificateParams::default().signed_by(&key, &authority).expect("a certificate");
            // The chain goes on to its root, and the key stands among other things.
            let chain = folder.write("a.pem", certificate.pem() + &authority.pem(), 0);
            let key = folder.write("a.key", format!("a note\n{}{}", certificate.pem(), key.serialize_pem()), 0);
            let files = TlsFiles { certificate: Some(&ca), client_certificate: Some(&chain), client_key: Some(&key) };
            let config = Files::new(files).and_then(|files| files.load()).expect("good files");
            assert!(config.client_auth_cert_resolver.has_certs());
            assert_eq!(config.alpn_protocols, [b"http/1.1"]);
            assert!(!config.enable_early_data, "what is sent early may be sent again by somebody else");
        }
    }

    #[test]
    fn system_without_trust_is_refused_at_start() {
        let absent = load_certs_from_paths(Some(Path::new("/no/such/roots.pem")), None);
        for found in [CertificateResult::default(), absent] {
            let is_read = found.errors.is_empty();
            let text = trust_of_system(found).expect_err("nothing there").to_string();
            assert_names(
                &text,
                &["trusts no certificates", "ca-certificates", "`certificate` (OTEL_EXPORTER_OTLP_CERT"],
            );
            assert_eq!(text.contains("/no/such/roots.pem"), !is_read);
        }
        let folder = Folder::new();
        let some = folder.write("roots.pem", authority("the CA").pem(), 0);
        let mut found = load_certs_from_paths(Some(&some), None);
        found.certs.push(vec![1, 2, 3].into());
        assert_eq!(trust_of_system(found).expect("one is good").len(), 1);
    }
}
