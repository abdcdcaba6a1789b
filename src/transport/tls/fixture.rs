//! What the tests of TLS share besides certificates: clients that have some, and a server in memory.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection};

use super::{Certificates, Identity, Pem, Session, Tls, TlsHost, Trust};

pub(crate) use super::certificates::{Authority, Folder, Leaf, VERSIONS, authority, server};

pub(crate) const HOST: &str = "collector.example";

/// A client's side that trusts this authority alone, and has no certificate of its own.
pub(crate) fn tls(trusted: &Authority, host: &str) -> Tls {
    made(host, trusted, None)
}

/// The same with a certificate of its own.
pub(crate) fn tls_of_client(trusted: &Authority, client: &Leaf) -> Tls {
    made(HOST, trusted, Some(identity(&client.certificate.pem(), &client.key.serialize_pem())))
}

fn made(host: &str, trusted: &Authority, identity: Option<Identity>) -> Tls {
    let trust = Trust::File(pem("ca.pem", trusted.pem()));
    TlsHost::new(host).and_then(|host| host.tls(&Certificates { trust, identity })).expect("good certificates")
}

pub(crate) fn identity(chain: &str, key: &str) -> Identity {
    Identity { certificate: pem("client.pem", chain), key: pem("client.key", key) }
}

pub(crate) fn pem(name: &str, text: impl AsRef<[u8]>) -> Pem {
    Pem { path: PathBuf::from("/etc").join(name), text: text.as_ref().to_vec() }
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

/// Carries bytes both ways until neither side has more to say; the client gets them in pieces of these lengths, in
/// turn.
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
