//! Certificates good and bad, files to hold them, and a server's use of them: for the tests here and those over
//! sockets.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

/// The versions that we speak.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A CA with its key.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// A CA of this name.
#[must_use]
pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate and its key.
pub struct Leaf {
    /// The certificate, signed by its authority.
    pub certificate: Certificate,
    /// Its key.
    pub key: KeyPair,
}

impl Leaf {
    /// The certificate of a server with these names.
    #[must_use]
    pub fn new(authority: &Authority, names: &[&str]) -> Self {
        Self::with(authority, names, |_| {})
    }

    /// The same, with a change to what is signed.
    pub fn with(authority: &Authority, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        Self { certificate, key }
    }

    /// The certificate of a client.
    #[must_use]
    pub fn of_client(authority: &Authority) -> Self {
        Self::with(authority, &[], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }
}

/// Files of one test, removed after it.
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder below that for temporary files.
    #[expect(clippy::new_without_default, reason = "it makes a folder on the disk")]
    pub fn new() -> Self {
        static COUNT: Mutex<u32> = Mutex::new(0);
        let mut count = COUNT.lock().expect("no test panics here");
        *count += 1;
        let place = env::temp_dir().join(format!("spanring-tls-{}-{count}", process::id()));
        fs::create_dir_all(&place).expect("a folder");
        Self(place)
    }

    /// Where a file of this name is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the file, as of so many seconds from some moment: the test need not wait for the clock of the file
    /// system.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>, second: u64) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        let file = fs::File::options().write(true).open(&path).expect("the file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + second)).expect("its time");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that shows this certificate, speaks this version, and asks for the certificates of its clients if it is
/// given who signs them.
#[must_use]
pub fn server(leaf: &Leaf, version: &'static SupportedProtocolVersion, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[version]).expect("a version of ring's");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).expect("a CA");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
    builder.with_single_cert(vec![leaf.certificate.der().clone()], key).expect("a certificate and its key")
}
