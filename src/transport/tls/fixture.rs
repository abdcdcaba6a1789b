//! Certificates good and bad, files to hold them, and a server in memory: what the tests of TLS share.

use std::{
    env, fs,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::{Session, Tls, TlsFiles};

pub(super) const HOST: &str = "collector.example";
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate and its key.
pub(super) struct Leaf {
    pub(super) certificate: Certificate,
    pub(super) key: KeyPair,
}

impl Leaf {
    pub(super) fn new(authority: &Authority, names: &[&str]) -> Self {
        Self::with(authority, names, |_| {})
    }

    pub(super) fn with(authority: &Authority, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        Self { certificate, key }
    }

    pub(super) fn of_client(authority: &Authority) -> Self {
        Self::with(authority, &[], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }
}

/// Files of one test, removed after it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: Mutex<u32> = Mutex::new(0);
        let mut count = COUNT.lock().expect("no test panics here");
        *count += 1;
        let place = env::temp_dir().join(format!("spanring-tls-{}-{count}", process::id()));
        fs::create_dir_all(&place).expect("a folder");
        Self(place)
    }

    /// Writes the file, as of so many seconds from some moment: the test need not wait for the clock of the file system.
    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>, second: u64) -> PathBuf {
        let path = self.0.join(name);
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

/// A client's side that trusts this authority alone, and has no certificate of its own.
pub(super) fn tls(folder: &Folder, trusted: &Authority, host: &str) -> Tls {
    let certificate = folder.write("ca.pem", trusted.pem(), 0);
    Tls::new(host, TlsFiles { certificate: Some(&certificate), ..TlsFiles::default() }).expect("good files")
}

/// The same with a certificate of its own.
pub(super) fn tls_of_client(folder: &Folder, trusted: &Authority, client: &Leaf) -> Tls {
    let (certificate, client_certificate, client_key) =
        (folder.write("ca.pem", trusted.pem(), 0), write_chain(folder, client, 0), write_key(folder, client, 0));
    let paths: [Option<&Path>; 3] = [Some(&certificate), Some(&client_certificate), Some(&client_key)];
    let files = TlsFiles { certificate: paths[0], client_certificate: paths[1], client_key: paths[2] };
    Tls::new(HOST, files).expect("good files")
}

pub(super) fn write_chain(folder: &Folder, client: &Leaf, second: u64) -> PathBuf {
    folder.write("client.pem", client.certificate.pem(), second)
}

pub(super) fn write_key(folder: &Folder, client: &Leaf, second: u64) -> PathBuf {
    folder.write("client.key", client.key.serialize_pem(), second)
}

pub(super) fn server(
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
    clients: Option<&Authority>,
) -> ServerConfig {
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

/// The server's side of one connection.
pub(super) struct Peer {
    pub(super) connection: ServerConnection,
    /// What the client said.
    pub(super) heard: Vec<u8>,
    pub(super) failure: Option<rustls::Error>,
}

impl Peer {
    pub(super) fn new(config: impl Into<Arc<ServerConfig>>) -> Self {
        let mut connection = ServerConnection::new(config.into()).expect("random numbers");
        connection.set_buffer_limit(None);
        Self { connection, heard: vec![], failure: None }
    }

    pub(super) fn say(&mut self, text: &[u8]) {
        self.connection.writer().write_all(text).expect("no limit");
    }

    pub(super) fn received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failure.is_none() {
            self.connection.read_tls(&mut bytes).expect("room in the buffer");
            self.failure = self.connection.process_new_packets().err();
            let mut reader = self.connection.reader();
            while let Ok(piece @ [_, ..]) = reader.fill_buf() {
                self.heard.extend_from_slice(piece);
                let len = piece.len();
                reader.consume(len);
            }
        }
    }

    pub(super) fn output(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).expect("a vector takes all");
        }
        bytes
    }
}

/// Carries bytes both ways until nobody has more to say; the client gets them in pieces of these lengths, in turn.
pub(super) fn talk(session: &mut Session, peer: &mut Peer, pieces: &[usize]) -> Result<Vec<u8>, String> {
    let mut pieces = pieces.iter().cycle();
    let mut plain = vec![];
    loop {
        let ours = session.output();
        peer.received(ours.as_deref().unwrap_or_default());
        let theirs = peer.output();
        if ours.is_none() && theirs.is_empty() {
            return Ok(plain);
        }
        let mut rest = theirs.as_slice();
        while !rest.is_empty() {
            let len = pieces.next().map_or(rest.len(), |len| rest.len().min(*len));
            let (piece, after) = rest.split_at(len);
            rest = after;
            if let Err(error) = session.received(piece, &mut plain) {
                peer.received(&session.output().unwrap_or_default());
                return Err(error);
            }
        }
    }
}

/// A failure's text names each of these.
pub(super) fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains('\n'), "more than one line: {text}");
}
