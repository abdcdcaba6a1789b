//! One connection's encryption over rustls, and what all sessions with one server share.

use std::{
    fmt,
    io::{BufRead, Write},
    sync::Arc,
};

use arrayvec::ArrayVec;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, client::Resumption, compress::CompressionCache,
    pki_types::ServerName,
};

use super::{
    Certificates, TlsError, Trust,
    failure::{Paths, Server, meaning},
    pem::client_config,
};

/// The server that sessions are with: it has to prove that it has this name.
#[derive(Clone, Debug)]
pub struct TlsHost {
    host: String,
    name: ServerName<'static>,
}

impl TlsHost {
    /// The host is a DNS name or an IP address.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn new(host: &str) -> Result<Self, TlsError> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let remedy = "name a host like collector.example or 192.0.2.1 in the endpoint";
            let host = host.escape_debug();
            TlsError::new(
                None,
                format!(
                    "`{host}` is neither a DNS name nor an IP address, so no certificate can be issued for it: {remedy}"
                ),
            )
        })?;
        Ok(Self { host: host.to_owned(), name })
    }

    /// Sessions with this server, with these certificates.
    ///
    /// # Errors
    ///
    /// When a certificate or key will not do.
    pub fn tls(&self, certificates: &Certificates) -> Result<Tls, TlsError> {
        let config = Arc::new(client_config(certificates)?);
        let certificate = match &certificates.trust {
            Trust::File(file) => Some(file.path.clone()),
            Trust::System(_) => None,
        };
        let client_certificate = certificates.identity.as_ref().map(|identity| identity.certificate.path.clone());
        let paths = Paths { certificate, client_certificate };
        Ok(Tls { server: Arc::new((self.clone(), paths)), config })
    }
}

/// Sessions with one server. Those of a clone share its cache, by which a later session resumes an earlier one.
#[derive(Clone)]
pub struct Tls {
    server: Arc<(TlsHost, Paths)>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// The same certificates, with a cache of its own: in a child process the parent's may be locked for ever.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::default();
        config.cert_compression_cache = Arc::new(CompressionCache::default());
        Self { server: Arc::clone(&self.server), config: Arc::new(config) }
    }

    /// Begins a session. Its first bytes are ready in [`Session::output`].
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn session(&self) -> Result<Session, String> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.server.0.name.clone());
        let mut connection = connection.map_err(|error| meaning(&error, &self.server(&[])))?;
        // The caller has bounded what it writes: a limit here would take a part of a request and leave the rest.
        connection.set_buffer_limit(None);
        Ok(Session { connection, tls: self.clone(), opening: ArrayVec::new(), has_ended: false, is_refused: false })
    }

    /// The certificate that servers see, in DER.
    #[cfg(test)]
    pub(crate) fn client_certificate(&self) -> Option<Vec<u8>> {
        let shown = self.config.client_auth_cert_resolver.resolve(&[], &[])?;
        shown.cert.first().map(|certificate| certificate.to_vec())
    }

    fn server<'a>(&'a self, opening: &'a [u8]) -> Server<'a> {
        let (host, paths) = &*self.server;
        Server { host: &host.host, paths, opening }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, paths) = &*self.server;
        f.debug_struct("Tls").field("host", &host.host).field("paths", paths).finish_non_exhaustive()
    }
}

/// Whether a server says by this alert that it refuses the handshake, and not that something failed later.
fn refuses(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::IllegalParameter
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::ProtocolVersion
            | Alert::InsufficientSecurity
            | Alert::MissingExtension
            | Alert::CertificateUnobtainable
            | Alert::UnrecognisedName
            | Alert::BadCertificateStatusResponse
            | Alert::BadCertificateHashValue
            | Alert::CertificateRequired
            | Alert::NoApplicationProtocol
    )
}

/// One connection's encryption.
pub struct Session {
    connection: ClientConnection,
    tls: Tls,
    /// The first bytes of the server, as many as the head of a record: they show a server without TLS.
    opening: ArrayVec<u8, 5>,
    has_ended: bool,
    is_refused: bool,
}

impl Session {
    /// Takes bytes of the server, and appends what they say in plain text. There may then be something to send, also
    /// after an error: the alert that tells the server.
    ///
    /// # Errors
    ///
    /// When the server is not the one it should be, refuses us, or breaks the protocol. The session is then at its end.
    pub fn received(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        let first = self.opening.remaining_capacity().min(bytes.len());
        self.opening.extend(bytes[..first].iter().copied());
        while !bytes.is_empty() {
            let taken = self.connection.read_tls(&mut bytes).map_err(|error| {
                let host = &self.tls.server.0.host;
                format!(
                    "the server at {host} sends what no TLS message is long enough for ({error}): look at its version"
                )
            })?;
            if taken == 0 {
                break; // What follows the server's farewell may come from anybody.
            }
            let state = self.connection.process_new_packets();
            // Also after a failure: what came before it was good. At the end of the text the reader says `WouldBlock`.
            let mut reader = self.connection.reader();
            while let Ok(piece @ [_, ..]) = reader.fill_buf() {
                plain.extend_from_slice(piece);
                let len = piece.len();
                reader.consume(len);
            }
            self.is_refused |= matches!(state, Err(Error::AlertReceived(alert)) if refuses(alert));
            let state = state.map_err(|error| meaning(&error, &self.tls.server(&self.opening)))?;
            self.has_ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Queues plain text. It leaves when the handshake is done, so queue it early or late; the caller bounds how much.
    pub fn write(&mut self, plain: &[u8]) {
        // Without a limit all of it is taken. A session that has used up its keys says farewell to the server instead,
        // who then closes the connection.
        let _ = self.connection.writer().write_all(plain);
    }

    /// What is to be sent now, if anything: the handshake, text in records, an alert.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![];
        // A vector takes all that it is given, so that each turn makes the queue shorter.
        while self.connection.wants_write() && self.connection.write_tls(&mut bytes).is_ok() {}
        (!bytes.is_empty()).then_some(bytes)
    }

    /// The handshake is done. A server that asks for a client certificate may still refuse ours.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The server has said that no more will come. A connection that ends without it may have been cut short.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The server has refused the handshake by an alert, so that it has not taken what it was sent. After another alert
    /// it may have.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Session");
        fields.field("host", &self.tls.server.0.host).field("is_up", &self.is_up()).field("has_ended", &self.has_ended);
        fields.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
    use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};

    use super::{
        super::SystemTrust,
        super::fixture::{
            Authority, HOST, Leaf, Peer, VERSIONS, assert_names, authority, pem, server, talk, tls, tls_of_client,
        },
        *,
    };

    const WHOLE: &[usize] = &[];

    /// One authority, a server of it in each version, and a client that trusts it: keys take long to make.
    struct Stage {
        authority: Authority,
        servers: [Arc<ServerConfig>; 2],
        tls: Tls,
    }

    static STAGE: LazyLock<Stage> = LazyLock::new(|| {
        let authority = authority("the CA");
        let leaf = Leaf::new(&authority, &[HOST]);
        let servers = VERSIONS.map(|version| Arc::new(server(&leaf, version, None)));
        Stage { servers, tls: tls(&authority, HOST), authority }
    });

    fn stage(version: usize) -> (Session, Peer) {
        let session = STAGE.tls.session().expect("random numbers");
        (session, Peer::new(Arc::clone(&STAGE.servers[version])))
    }

    fn up(version: usize) -> (Session, Peer) {
        let (mut session, mut peer) = stage(version);
        talk(&mut session, &mut peer, WHOLE).expect("a handshake");
        assert!(session.is_up());
        (session, peer)
    }

    /// What a client says that trusts the stage's authority, to a server with this certificate.
    fn refusal(host: &str, leaf: &Leaf) -> String {
        let tls = tls(&STAGE.authority, host);
        let refusals = VERSIONS.map(|version| {
            let mut peer = Peer::new(server(leaf, version, None));
            let mut session = tls.session().expect("random numbers");
            session.write(b"secret");
            let error = talk(&mut session, &mut peer, WHOLE).expect_err("a bad certificate");
            assert!(!session.is_up());
            assert_eq!(peer.heard, b"", "nothing is said to the wrong server");
            assert!(matches!(peer.failure, Some(Error::AlertReceived(_))), "{:?}", peer.failure);
            error
        });
        // The clock may move on between the two.
        assert_eq!(refusals[0].split(':').next_back(), refusals[1].split(':').next_back());
        refusals.into_iter().next_back().expect("two of them")
    }

    #[test]
    fn handshake_in_single_bytes_carries_text_both_ways() {
        for version in [0, 1] {
            let (mut session, mut peer) = stage(version);
            assert!(!session.is_up());
            session.write(b"early ");
            talk(&mut session, &mut peer, &[1]).expect("a handshake");
            assert!(session.is_up());
            session.write(b"late");
            peer.say(b"answer");
            assert_eq!(talk(&mut session, &mut peer, &[1]), Ok(b"answer".to_vec()));
            assert_eq!(peer.heard, b"early late");
            assert!(!session.has_ended());
            assert_eq!(session.output(), None);
        }
    }

    #[test]
    fn large_writes_arrive_whole_whether_early_or_late() {
        let text: Vec<u8> = (0..251).cycle().take(3 << 20).collect();
        for version in [0, 1] {
            let (mut session, mut peer) = stage(version);
            session.write(&text);
            talk(&mut session, &mut peer, WHOLE).expect("a handshake");
            session.write(&text);
            peer.say(&text);
            assert!(talk(&mut session, &mut peer, WHOLE) == Ok(text.clone()), "the answer differs");
            assert!(peer.heard == [text.as_slice(), &text].concat(), "what the server heard differs");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_chunking_gives_the_same_text(
            pieces in prop::collection::vec(1..3000_usize, 1..8),
            texts in prop::collection::vec(0..40_000_usize, 1..4),
            version in 0..2_usize,
        ) {
            let (mut session, mut peer) = stage(version);
            let mut plain = talk(&mut session, &mut peer, &pieces).expect("a handshake");
            let mut all = vec![];
            for (at, len) in texts.into_iter().enumerate() {
                let text: Vec<u8> = (0..=u8::MAX).cycle().skip(at).take(len).collect();
                peer.say(&text);
                all.extend(text);
                plain.extend(talk(&mut session, &mut peer, &pieces).expect("good records"));
            }
            prop_assert!(plain == all);
        }

        /// Whatever a server answers in place of a handshake, what was written stays here.
        #[test]
        fn garbage_ends_the_session_and_no_text_leaves(
            head in prop::sample::select(vec![&b""[..], b"HTTP/1.1 ", b"\x16\x03\x03", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", b"\x15\x03\x03\x00\x02"]),
            rest in prop::collection::vec(any::<u8>(), 64..200),
            piece in 1..64_usize,
        ) {
            let (mut session, _) = stage(1);
            session.write(b"secret text");
            let mut sent = session.output().expect("a client hello");
            let (mut plain, mut is_refused) = (vec![], false);
            for bytes in [head, &rest].concat().chunks(piece) {
                is_refused |= session.received(bytes, &mut plain).is_err();
                sent.extend(session.output().unwrap_or_default());
            }
            prop_assert!(!session.is_up());
            prop_assert!(plain.is_empty());
            prop_assert!(!sent.windows(6).any(|window| window == b"secret"));
            // A record may be as long as 16 KiB, so that 200 bytes may be the start of one.
            prop_assert!(is_refused || (20..24).contains(&[head, &rest].concat()[0]));
        }
    }

    #[test]
    fn server_of_another_authority_is_refused() {
        let other = authority("another CA");
        let text = refusal(HOST, &Leaf::new(&other, &[HOST]));
        assert_names(&text, &[HOST, "no issuer that is trusted", "ca.pem", "`certificate`", "put the CA"]);
        // A CA that was made again under its old name.
        let namesake = refusal(HOST, &Leaf::new(&authority("the CA"), &[HOST]));
        assert_names(&namesake, &[HOST, "ca.pem", "OTEL_EXPORTER_OTLP_CERTIFICATE", "put the CA"]);
    }

    #[test]
    fn system_does_not_trust_a_stranger() {
        let found = SystemTrust { certificates: vec![authority("another CA").der().to_vec()], failure: None };
        let certificates = Certificates { trust: Trust::System(found), identity: None };
        let tls = TlsHost::new(HOST).and_then(|host| host.tls(&certificates)).expect("a good certificate");
        let mut session = tls.session().expect("random numbers");
        let mut peer = Peer::new(Arc::clone(&STAGE.servers[1]));
        let error = talk(&mut session, &mut peer, WHOLE).expect_err("a stranger");
        assert_names(&error, &[HOST, "by this system", "`certificate`", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
    }

    #[test]
    fn certificate_out_of_its_time_is_refused() {
        let expired = Leaf::with(&STAGE.authority, &[HOST], |params| params.not_after = date_time_ymd(2020, 1, 1));
        assert_names(&refusal(HOST, &expired), &[HOST, "has expired", "days ago", "renew it", "clock"]);
        let early = Leaf::with(&STAGE.authority, &[HOST], |params| params.not_before = date_time_ymd(3000, 1, 1));
        assert_names(&refusal(HOST, &early), &[HOST, "is not valid yet", "days", "clock"]);
    }

    #[test]
    fn certificate_for_another_name_is_refused() {
        let other = Leaf::new(&STAGE.authority, &["other.example", "*.another.example"]);
        let parts = [HOST, "another name", "other.example", "*.another.example", "in the endpoint", "subjectAltName"];
        assert_names(&refusal(HOST, &other), &parts);
        let nameless =
            Leaf::with(&STAGE.authority, &[], |params| params.distinguished_name.push(DnType::CommonName, HOST));
        assert_names(&refusal(HOST, &nameless), &["names no host", "issue one", HOST]);
    }

    #[test]
    fn certificate_for_another_use_is_refused() {
        let client = Leaf::with(&STAGE.authority, &[HOST], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert_names(&refusal(HOST, &client), &[HOST, "not meant for servers", "serverAuth"]);
        let ca =
            Leaf::with(&STAGE.authority, &[HOST], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert_names(&refusal(HOST, &ca), &[HOST, "that of a CA", "CA:FALSE"]);
    }

    #[test]
    fn addresses_are_names_too() {
        let leaf = Leaf::new(&STAGE.authority, &["192.0.2.7", "2001:db8::7"]);
        for host in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"] {
            let mut session = tls(&STAGE.authority, host).session().expect("random numbers");
            let mut peer = Peer::new(server(&leaf, VERSIONS[1], None));
            assert_eq!(talk(&mut session, &mut peer, WHOLE), Ok(vec![]), "{host}");
            assert!(session.is_up());
        }
        assert_names(&refusal("192.0.2.8", &leaf), &["192.0.2.8", "another name", "192.0.2.7"]);
        for host in ["", "two words", "a\nb", "fe80::1%eth0", "[::1"] {
            let error = TlsHost::new(host).expect_err("no name").to_string();
            assert_names(&error, &["neither a DNS name nor an IP address", "endpoint"]);
        }
    }

    #[test]
    fn self_signed_server_is_trusted_by_its_own_certificate() {
        let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).expect("a name");
        params.is_ca = IsCa::NoCa;
        let key = KeyPair::generate().expect("a key");
        let leaf = Leaf { certificate: params.self_signed(&key).expect("a certificate"), key };
        let trust = Trust::File(pem("own.pem", leaf.certificate.pem()));
        let certificates = Certificates { trust, identity: None };
        let tls = TlsHost::new(HOST).and_then(|host| host.tls(&certificates)).expect("a good certificate");
        let mut session = tls.session().expect("random numbers");
        assert_eq!(talk(&mut session, &mut Peer::new(server(&leaf, VERSIONS[1], None)), WHOLE), Ok(vec![]));
    }

    /// What becomes of a session with a server that asks for a client certificate of the stage's authority.
    fn asked(tls: &Tls, version: &'static SupportedProtocolVersion) -> (Result<Vec<u8>, String>, Vec<u8>) {
        let leaf = Leaf::new(&STAGE.authority, &[HOST]);
        let mut peer = Peer::new(server(&leaf, version, Some(&STAGE.authority)));
        let mut session = tls.session().expect("random numbers");
        session.write(b"hello");
        (talk(&mut session, &mut peer, WHOLE), peer.heard)
    }

    #[test]
    fn client_certificate_is_shown_to_servers_that_ask() {
        let client = Leaf::of_client(&STAGE.authority);
        let tls = tls_of_client(&STAGE.authority, &client);
        for version in VERSIONS {
            assert_eq!(asked(&tls, version), (Ok(vec![]), b"hello".to_vec()));
        }
    }

    #[test]
    fn missing_and_foreign_client_certificates_are_told_apart() {
        let foreign = tls_of_client(&STAGE.authority, &Leaf::of_client(&authority("a foreign CA")));
        for version in VERSIONS {
            let (missing, heard) = asked(&STAGE.tls, version);
            assert_eq!(heard, b"");
            let fields = ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
            let parts = [HOST, "asks for a client certificate", fields[0], fields[1]];
            assert_names(&missing.expect_err("no certificate"), &parts);
            let (foreign, heard) = asked(&foreign, version);
            assert_eq!(heard, b"");
            let parts =
                [HOST, "refuses the client certificate", "client.pem", "UnknownCA", "CA that the server trusts"];
            assert_names(&foreign.expect_err("a foreign certificate"), &parts);
        }
    }

    #[test]
    fn later_sessions_resume_the_first() {
        for version in [0, 1] {
            let config = Arc::new(ServerConfig::clone(&STAGE.servers[version]));
            let tls = tls(&STAGE.authority, HOST);
            let kinds = [&tls, &tls, &tls.renewed()].map(|tls| {
                let mut session = tls.session().expect("random numbers");
                let mut peer = Peer::new(Arc::clone(&config));
                talk(&mut session, &mut peer, WHOLE).expect("a handshake");
                peer.connection.handshake_kind()
            });
            let [full, resumed] = [HandshakeKind::Full, HandshakeKind::Resumed].map(Some);
            assert_eq!(kinds, [full, resumed, full], "a cache is not shared with what was renewed");
        }
    }

    #[test]
    fn server_must_speak_http_1_if_it_says_what_it_speaks() {
        let tls = tls(&STAGE.authority, HOST);
        let spoken = |protocols: &[&[u8]]| {
            let mut config = ServerConfig::clone(&STAGE.servers[1]);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            let mut peer = Peer::new(config);
            let result = talk(&mut tls.session().expect("random numbers"), &mut peer, WHOLE);
            result.map(|_| peer.connection.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(spoken(&[b"h2", b"http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
        let refusal = spoken(&[b"h2"]).expect_err("gRPC alone");
        assert_names(&refusal, &[HOST, "does not speak HTTP/1.1", "4318"]);
    }

    #[test]
    fn server_without_tls_is_named_as_such() {
        let answers: [(&[u8], &[&str]); 4] = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", &["speaks plain HTTP", "http://"]),
            (b"HTTP/1.0 400 Bad Request\r\n\r\n", &["speaks plain HTTP", "http://"]),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", &["does not speak TLS", "http://"]),
            (b"SSH-2.0-server\r\n", &["does not speak TLS", "port"]),
        ];
        for (answer, parts) in answers {
            for piece in [1, answer.len()] {
                let (mut session, _) = stage(1);
                session.write(b"POST");
                let mut plain = vec![];
                let errors = answer.chunks(piece).filter_map(|bytes| session.received(bytes, &mut plain).err());
                assert_names(&errors.last().expect("no TLS"), parts);
                assert_eq!(plain, b"");
            }
        }
    }

    #[test]
    fn every_alert_in_place_of_a_handshake_ends_the_session() {
        for code in 1..=u8::MAX {
            let (mut session, _) = stage(1);
            // RFC 8446, section 6: a fatal alert, in the clear because there are no keys yet.
            let error = session.received(&[21, 3, 3, 0, 2, 2, code], &mut vec![]).expect_err("an alert");
            assert_names(&error, &[HOST, ": "]);
            // RFC 8446, section 6.2, and RFC 5246, section 7.2.2: those that say no to a handshake.
            let refusals = [40..=49, 51..=51, 70..=71, 109..=109, 111..=114, 116..=116, 120..=120];
            let is_refusal = refusals.iter().any(|codes| codes.contains(&code));
            assert_eq!((session.is_up(), session.is_refused()), (false, is_refusal), "{code}");
        }
        // A farewell before there are keys may come from anybody, and means nothing.
        let (mut session, _) = stage(1);
        assert_eq!(session.received(&[21, 3, 3, 0, 2, 1, 0], &mut vec![]), Ok(()));
        assert!(!session.has_ended() && !session.is_refused());
        assert!(!session.is_up());
    }

    #[test]
    fn farewell_is_told_from_a_cut() {
        for version in [0, 1] {
            let (mut session, mut peer) = up(version);
            peer.say(b"all of it");
            assert_eq!(talk(&mut session, &mut peer, &[3]), Ok(b"all of it".to_vec()));
            assert!(!session.has_ended(), "a connection that ends here may have been cut");
            peer.say(b" and more");
            peer.connection.send_close_notify();
            let mut bytes = peer.output();
            bytes.extend(b"what somebody else puts after it");
            let mut plain = vec![];
            assert_eq!(session.received(&bytes, &mut plain), Ok(()));
            assert!(session.has_ended());
            assert_eq!(session.received(b"and again", &mut plain), Ok(()));
            assert_eq!(plain, b" and more");
        }
    }

    #[test]
    fn text_before_a_failure_is_kept() {
        for piece in [1, 7, usize::MAX] {
            let (mut session, mut peer) = up(1);
            peer.say(b"answer");
            // A record that no key opens: the server refuses it, and says so after its answer.
            peer.received(&[&b"\x17\x03\x03\x00\x20"[..], &[7; 32]].concat());
            let bytes = peer.output();
            let mut plain = vec![];
            let mut pieces = bytes.chunks(piece.min(bytes.len()));
            let error = pieces.find_map(|piece| session.received(piece, &mut plain).err());
            assert_names(&error.expect("an alert"), &[HOST, "alert BadRecordMac", "log"]);
            assert!(!session.is_refused(), "it may have read what came before");
            assert_eq!(plain, b"answer");
        }
    }

    #[test]
    fn record_changed_on_its_way_is_refused() {
        for version in [0, 1] {
            let (mut session, mut peer) = up(version);
            peer.say(b"answer");
            let mut bytes = peer.output();
            *bytes.last_mut().expect("a record") ^= 1;
            let mut plain = vec![];
            let error = session.received(&bytes, &mut plain).expect_err("a changed record");
            assert_names(&error, &[HOST, "changed on its way", "prox"]);
            assert_eq!(plain, b"");
            assert!(!session.is_refused(), "the server said nothing of the kind");
            assert!(session.output().is_some(), "the server is told");
            assert!(session.received(b"more", &mut plain).is_err(), "there is no way back");
        }
    }

    #[test]
    fn keys_may_change_on_the_way() {
        let (mut session, mut peer) = up(1);
        for turn in 0..3_u8 {
            peer.connection.refresh_traffic_keys().expect("TLS 1.3");
            peer.say(&[turn]);
            session.write(&[turn]);
            assert_eq!(talk(&mut session, &mut peer, &[2]), Ok(vec![turn]));
        }
        assert_eq!(peer.heard, [0, 1, 2]);
    }

    #[test]
    fn nobody_sees_a_key() {
        let client = Leaf::of_client(&STAGE.authority);
        let tls = tls_of_client(&STAGE.authority, &client);
        let session = tls.session().expect("random numbers");
        let shown = format!("{tls:?} {tls:#?} {session:?} {session:#?}");
        assert!(shown.contains(HOST));
        let pem = client.key.serialize_pem();
        assert!(pem.lines().all(|line| !shown.contains(line)));
        let der = format!("{:?}", &client.key.serialized_der()[8..]);
        assert!(!shown.contains(der.trim_matches(['[', ']'])));
    }

    #[test]
    fn sessions_may_move_between_threads() {
        fn check<T: Send>() {}
        fn check_shared<T: Clone + Send + Sync>() {}
        check::<Session>();
        check_shared::<Tls>();
    }
}
