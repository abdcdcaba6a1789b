//! What the tests of TLS share besides certificates: clients of their files, and a server in memory.

use std::{
    io::{BufRead, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection};

use super::{Session, Tls, TlsFiles};

pub(crate) use super::certificates::{Authority, Folder, Leaf, VERSIONS, authority, server};

pub(crate) const HOST: &str = "collector.example";

/// A client's side that trusts this authority alone, and has no certificate of its own.
pub(crate) fn tls(folder: &Folder, trusted: &Authority, host: &str) -> Tls {
    let certificate = folder.write("ca.pem", trusted.pem(), 0);
    Tls::new(host, TlsFiles { certificate: Some(&certificate), ..TlsFiles::default() }).expect("good files")
}

/// The same with a certificate of its own.
pub(crate) fn tls_of_client(folder: &Folder, trusted: &Authority, client: &Leaf) -> Tls {
    let (certificate, client_certificate, client_key) =
        (folder.write("ca.pem", trusted.pem(), 0), write_chain(folder, client, 0), write_key(folder, client, 0));
    let paths: [Option<&Path>; 3] = [Some(&certificate), Some(&client_certificate), Some(&client_key)];
    let files = TlsFiles { certificate: paths[0], client_certificate: paths[1], client_key: paths[2] };
    Tls::new(HOST, files).expect("good files")
}

pub(crate) fn write_chain(folder: &Folder, client: &Leaf, second: u64) -> PathBuf {
    folder.write("client.pem", client.certificate.pem(), second)
}

pub(crate) fn write_key(folder: &Folder, client: &Leaf, second: u64) -> PathBuf {
    folder.write("client.key", client.key.serialize_pem(), second)
}

/// The server's side of one connection.
pub(crate) struct Peer {
    pub(crate) connection: ServerConnection,
    /// What the client said.
    pub(crate) heard: Vec<u8>,
    pub(crate) failure: Option<rustls::Error>,
}

impl Peer {
    pub(crate) fn new(config: impl Into<Arc<ServerConfig>>) -> Self {
        let mut connection = ServerConnection::new(config.into()).expect("random numbers");
        connection.set_buffer_limit(None);
        Self { connection, heard: vec![], failure: None }
    }

    pub(crate) fn say(&mut self, text: &[u8]) {
        self.connection.writer().write_all(text).expect("no limit");
    }

    pub(crate) fn received(&mut self, mut bytes: &[u8]) {
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

    pub(crate) fn output(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).expect("a vector takes all");
        }
        bytes
    }
}

/// Carries bytes both ways until nobody has more to say; the client gets them in pieces of these lengths, in turn.
pub(crate) fn talk(session: &mut Session, peer: &mut Peer, pieces: &[usize]) -> Result<Vec<u8>, String> {
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
pub(crate) fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains('\n'), "more than one line: {text}");
}
