//! The certificates of an `https` endpoint: read from their files at start, and again when the files change.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::Export;
use crate::{
    sync::{
        file::{Stamp, open_regular, stamp},
        trust::system_trust,
    },
    transport::tls::{Certificates, Identity, Pem, SystemTrust, Tls, TlsError, TlsFile, TlsHost, TlsSource, Trust},
};

/// TLS with the certificates in the user's files, as they are now. A worker owns one: no lock guards it while a file is
/// read, and no other process has a part in it.
#[derive(Debug)]
pub(crate) struct WatchedTls {
    host: TlsHost,
    files: Files,
    /// The files as they were when they were last read.
    stamps: Stamps,
    tls: Tls,
    /// Why the newest files are not in use.
    failure: Option<String>,
}

/// The files that the user named.
#[derive(Clone, Debug)]
struct Files {
    certificate: Option<PathBuf>,
    /// The client's certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// What tells each file from another one in its place.
type Stamps = [Option<Stamp>; 3];

impl WatchedTls {
    /// Reads the files, or the certificates that the system trusts.
    ///
    /// # Errors
    ///
    /// When a file, or the host, will not do.
    pub(crate) fn open(host: &str, export: &Export) -> Result<Self, TlsError> {
        let host = TlsHost::new(host)?;
        let files = Files::new(export)?;
        // Before the files are read: a change in the meantime is seen as a change later.
        let stamps = files.stamps();
        let tls = host.tls(&files.read()?)?;
        Ok(Self { host, files, stamps, tls, failure: None })
    }

    /// For a worker: what was read at start, and nothing shared. The files may be out of its reach, in a child that has
    /// given up its rights.
    pub(crate) fn for_worker(&self) -> Self {
        let (host, files, tls) = (self.host.clone(), self.files.clone(), self.tls.renewed());
        Self { host, files, stamps: self.stamps, tls, failure: None }
    }
}

impl TlsSource for WatchedTls {
    /// Three looks at a file are little compared with a handshake, so they need no clock.
    fn tls(&mut self) -> &Tls {
        let stamps = self.files.stamps();
        if stamps != self.stamps {
            // Kept in both cases, so that a bad file is read once and not again before each session.
            self.stamps = stamps;
            match self.files.read().and_then(|certificates| self.host.tls(&certificates)) {
                Ok(tls) => (self.tls, self.failure) = (tls, None),
                Err(failure) => self.failure = Some(failure.to_string()),
            }
        }
        &self.tls
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Files {
    fn new(export: &Export) -> Result<Self, TlsError> {
        let lone = |here, missing| {
            Err(TlsError::new(Some(here), format!("it comes without {missing}: give both, or neither of the two")))
        };
        let identity = match (&export.client_certificate, &export.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) => return lone(TlsFile::ClientCertificate, TlsFile::ClientKey),
            (None, Some(_)) => return lone(TlsFile::ClientKey, TlsFile::ClientCertificate),
        };
        Ok(Self { certificate: export.certificate.clone(), identity })
    }

    fn stamps(&self) -> Stamps {
        let (client, key) = self.identity.as_ref().map_or((None, None), |(client, key)| (stamp(client), stamp(key)));
        [self.certificate.as_ref().and_then(|path| stamp(path)), client, key]
    }

    fn read(&self) -> Result<Certificates, TlsError> {
        let trust = match &self.certificate {
            Some(path) => Trust::File(read(TlsFile::Certificate, path)?),
            None => {
                let (certificates, failure) = system_trust();
                Trust::System(SystemTrust { certificates, failure })
            }
        };
        let identity = match &self.identity {
            Some((certificate, key)) => Some(Identity {
                certificate: read(TlsFile::ClientCertificate, certificate)?,
                key: read(TlsFile::ClientKey, key)?,
            }),
            None => None,
        };
        Ok(Certificates { trust, identity })
    }
}

fn read(file: TlsFile, path: &Path) -> Result<Pem, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = vec![];
        open_regular(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let remedy = "name a file in PEM that this process may read";
    let text = read().map_err(|error| TlsError::unusable(file, path, &format!("cannot be read ({error})"), remedy))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::unusable(file, path, &format!("is longer than {FILE_BYTES_MAX} bytes"), remedy));
    }
    Ok(Pem { path: path.to_owned(), text })
}

/// Ten times what a distribution ships as all its roots.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[cfg(all(test, feature = "tls"))]
mod tests {
    use std::{
        fs::{self, File},
        process::Command,
    };

    use super::*;
    use crate::transport::tls::fixture::{Folder, HOST, Leaf, assert_names, authority};

    fn export(certificate: Option<&Path>, identity: [Option<&Path>; 2]) -> Export {
        let [client_certificate, client_key] = identity.map(|path| path.map(Path::to_owned));
        let certificate = certificate.map(Path::to_owned);
        Export { certificate, client_certificate, client_key, ..Export::to("https://collector.example") }
    }

    const REGULAR: &str = "cannot be read (it is not a regular file)";

    fn refusal(certificate: Option<&Path>, identity: [Option<&Path>; 2]) -> String {
        WatchedTls::open(HOST, &export(certificate, identity)).expect_err("a file that will not do").to_string()
    }

    #[test]
    fn file_that_cannot_be_read_is_named() {
        let folder = Folder::new();
        let long = folder.write("long.pem", vec![b'\n'; (4 << 20) + 1], 0);
        let none = [None, None];
        let parts = ["`certificate` (OTEL_EXPORTER_OTLP_CERTIFICATE)", "name a file in PEM"];
        assert_names(&refusal(Some(&long), none), &[parts[0], parts[1], "longer than 4194304 bytes", "long.pem"]);
        let absent = Path::new("/no/such/ca.pem");
        assert_names(&refusal(Some(absent), none), &[parts[0], parts[1], "/no/such/ca.pem cannot be read"]);
        let ca = folder.write("ca.pem", authority("the CA").pem(), 0);
        assert_names(&refusal(Some(&ca), [Some(&ca), Some(absent)]), &["`client_key`", "cannot be read"]);
    }

    #[test]
    fn identity_needs_both_its_files() {
        let path = Path::new("/etc/client.pem");
        for identity in [[Some(path), None], [None, Some(path)]] {
            let refusal = refusal(None, identity);
            assert_names(&refusal, &["`client_certificate`", "`client_key`", "without", "give both, or neither"]);
        }
    }

    #[test]
    fn replaced_files_serve_the_next_session_once_they_are_whole() {
        let (folder, authority) = (Folder::new(), authority("the CA"));
        let (old, new) = (Leaf::of_client(&authority), Leaf::of_client(&authority));
        let ca = folder.write("ca.pem", authority.pem(), 0);
        let chain = folder.write("client.pem", old.certificate.pem(), 0);
        let key = folder.write("client.key", old.key.serialize_pem(), 0);
        let opened = WatchedTls::open(HOST, &export(Some(&ca), [Some(&chain), Some(&key)])).expect("good files");
        let mut watched = opened.for_worker();
        let shown = |watched: &mut WatchedTls| watched.tls().client_certificate().expect("there is one");
        assert_eq!(shown(&mut watched), old.certificate.der().to_vec());

        // Half replaced: the key is still the old one.
        folder.write("client.pem", new.certificate.pem(), 1);
        assert_eq!(shown(&mut watched), old.certificate.der().to_vec());
        assert_names(watched.failure().expect("no pair"), &["`client_key`", "client.key", "is not the key of"]);
        folder.write("client.key", new.key.serialize_pem(), 1);
        assert_eq!(shown(&mut watched), new.certificate.der().to_vec());
        assert_eq!(watched.failure(), None);

        // Gone: what was read goes on, and a new worker begins with what was read at start.
        folder.write("client.pem", "", 2);
        assert_eq!(shown(&mut watched), new.certificate.der().to_vec());
        assert!(watched.failure().is_some());
        let mut another = opened.for_worker();
        assert_eq!(shown(&mut another), old.certificate.der().to_vec());
        assert!(another.failure().is_some());
    }

    /// Nothing in the place of a file makes the worker wait, or read without end.
    #[cfg(unix)]
    #[test]
    fn what_takes_the_place_of_a_file_is_named_and_the_certificates_stay_in_use() {
        use std::os::unix::{fs::symlink, net::UnixListener};

        type Put = fn(&Path);
        let rows: [(Put, &str); 8] = [
            (|_| (), "No such file"),
            (|path| assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success())), REGULAR),
            (|path| symlink("/dev/zero", path).unwrap(), REGULAR),
            (|path| fs::create_dir(path).unwrap(), REGULAR),
            (|path| drop(UnixListener::bind(path).unwrap()), "cannot be read"),
            (|path| symlink(path, path).unwrap(), "symbolic links"),
            (|path| File::create(path).and_then(|file| file.set_len(1 << 30)).unwrap(), "is longer than 4194304 bytes"),
            (|path| fs::write(path, [0xFF; 1000]).unwrap(), "no certificate"),
        ];
        let (folder, authority) = (Folder::new(), authority("the CA"));
        let client = Leaf::of_client(&authority);
        let key = folder.write("client.key", client.key.serialize_pem(), 0);
        for (put, why) in rows {
            let ca = folder.write("ca.pem", authority.pem(), 0);
            let chain = folder.write("client.pem", client.certificate.pem(), 0);
            let export = export(Some(&ca), [Some(&chain), Some(&key)]);
            let mut watched = WatchedTls::open(HOST, &export).expect("good files");
            fs::remove_file(&ca).unwrap();
            put(&ca);
            assert_eq!(watched.tls().client_certificate().unwrap(), client.certificate.der().to_vec());
            assert_names(watched.failure().unwrap_or_default(), &["`certificate`", "ca.pem", why]);
            assert_names(&refusal(Some(&ca), [None; 2]), &["`certificate`", "ca.pem", why]);
            let _ = fs::remove_file(&ca).or_else(|_| fs::remove_dir(&ca));
        }
    }

    /// In an image all files may have the same time: what is deployed next to the old file is found by a link, say.
    #[cfg(unix)]
    #[test]
    fn file_of_the_same_time_and_length_is_another() {
        use std::os::unix::fs::symlink;

        let (folder, authority) = (Folder::new(), authority("the CA"));
        let clients = [Leaf::of_client(&authority), Leaf::of_client(&authority)];
        let padded = |text: String| format!("{text:#<2000}");
        let [chain, key] = ["client.pem", "client.key"].map(|name| folder.path(name));
        let put = |of: usize| {
            for (name, text) in [(&chain, clients[of].certificate.pem()), (&key, clients[of].key.serialize_pem())] {
                let target = format!("{of}-{}", name.file_name().unwrap().display());
                let link = folder.path("link");
                symlink(folder.write(&target, padded(text), 0), &link).unwrap();
                fs::rename(link, name).unwrap();
            }
        };
        put(0);
        let ca = folder.write("ca.pem", authority.pem(), 0);
        let mut watched = WatchedTls::open(HOST, &export(Some(&ca), [Some(&chain), Some(&key)])).expect("good files");
        put(1);
        assert_eq!(watched.tls().client_certificate().unwrap(), clients[1].certificate.der().to_vec());
        assert_eq!(watched.failure(), None);
    }

    #[test]
    fn keys_are_not_shown() {
        let (folder, authority) = (Folder::new(), authority("the CA"));
        let client = Leaf::of_client(&authority);
        let ca = folder.write("ca.pem", authority.pem(), 0);
        let chain = folder.write("client.pem", client.certificate.pem(), 0);
        let key = folder.write("client.key", client.key.serialize_pem(), 0);
        let export = export(Some(&ca), [Some(&chain), Some(&key)]);
        let read = Files::new(&export).and_then(|files| files.read()).expect("good files");
        let shown = format!("{read:?} {:?}", WatchedTls::open(HOST, &export));
        assert!(shown.contains("client.key") && !shown.contains("PRIVATE"), "{shown}");
        let secret = &client.key.serialize_pem()[30..60];
        assert!(!shown.contains(secret) && !shown.contains(&format!("{:?}", secret.as_bytes())[1..80]), "{shown}");
    }
}
