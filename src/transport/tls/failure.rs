//! Explains a failed session to whoever configured it: which check failed, and what would help.

use std::{ops::RangeInclusive, path::PathBuf};

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, pki_types::UnixTime};

use super::pem::{CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY};

/// The server of the session, and our files.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) paths: &'a Paths,
    /// The first bytes that came, at most five.
    pub(super) opening: &'a [u8],
}

/// Where certificates were read, for messages.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
}

/// One line for people.
pub(super) fn meaning(error: &Error, server: &Server<'_>) -> String {
    let host = server.host;
    match error {
        Error::InvalidCertificate(cause) => {
            let (what, remedy) = of_certificate(cause, server);
            format!("the certificate of {host} {what}: {remedy}")
        }
        Error::AlertReceived(alert) => of_alert(*alert, server),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => old(host),
        Error::PeerIncompatible(why) => nothing_in_common(host, &format!("{why:?}")),
        Error::DecryptError => {
            format!(
                "a record of {host} was changed on its way, or something between cuts into TLS: look at proxies there"
            )
        }
        Error::FailedToGetRandomBytes => "the system gave no random numbers for TLS: try again later".to_owned(),
        _ if server.opening.starts_with(b"HTTP/") => {
            format!("the server at {host} speaks plain HTTP: use http://… for it, or its port for https")
        }
        _ if server.opening.first().is_some_and(|kind| !RECORD_KINDS.contains(kind)) => {
            format!(
                "the server at {host} does not speak TLS: use its port for https, or http://… if it is meant to be plain"
            )
        }
        _ => {
            let error = clean(&error.to_string());
            format!(
                "the server at {host} breaks the TLS protocol ({error}): look at what answers there, and its version"
            )
        }
    }
}

/// What is wrong with it, and what would help.
fn of_certificate(cause: &CertificateError, server: &Server<'_>) -> (String, String) {
    let host = server.host;
    let renew = "renew it on the server, or set the clock of this machine";
    match cause {
        CertificateError::Expired => ("has expired".into(), renew.into()),
        CertificateError::ExpiredContext { time, not_after } => {
            (format!("has expired, {} ago by the clock here", distance(*time, *not_after)), renew.into())
        }
        CertificateError::NotValidYet => ("is not valid yet".into(), renew.into()),
        CertificateError::NotValidYetContext { time, not_before } => {
            (format!("is not valid yet, for {} by the clock here", distance(*time, *not_before)), renew.into())
        }
        CertificateError::NotValidForName => ("is for another name".into(), rename(host)),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            ("names no host".into(), format!("issue one whose subjectAltName has {host}"))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            (format!("is for another name ({})", clean(&names.join(", "))), rename(host))
        }
        CertificateError::UnknownIssuer => untrusted("is signed by no issuer that is trusted", server),
        CertificateError::BadSignature => untrusted("is signed with another key than its issuer's", server),
        CertificateError::Revoked => ("has been revoked".into(), "replace it on the server".into()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("is not meant for servers".into(), "issue one with the extendedKeyUsage serverAuth".into())
        }
        // webpki's own, which rustls hands on without a name.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            ("is that of a CA".into(), "issue one for the server itself, with basicConstraints CA:FALSE".into())
        }
        other => {
            let what = format!("will not do ({})", clean(&other.to_string()));
            (what, "issue one of X.509 version 3, with an ECDSA P-256 or RSA 2048 key and SHA-256".into())
        }
    }
}

fn rename(host: &str) -> String {
    format!("name one of those in the endpoint, or issue one whose subjectAltName has {host}")
}

fn untrusted(what: &str, server: &Server<'_>) -> (String, String) {
    match &server.paths.certificate {
        Some(path) => {
            let what = format!("{what} in {}", path.display());
            (what, format!("put the CA that signed it there, as {CERTIFICATE}, or let the server send its whole chain"))
        }
        None => {
            let what = format!("{what} by this system");
            (what, format!("give the CA that signed it as {CERTIFICATE}, or let the server send its whole chain"))
        }
    }
}

fn of_alert(alert: AlertDescription, server: &Server<'_>) -> String {
    use AlertDescription as Alert;

    let (host, identity) = (server.host, server.paths.client_certificate.as_ref());
    let give = format!("give {CLIENT_CERTIFICATE} and {CLIENT_KEY}");
    match (alert, identity) {
        (Alert::ProtocolVersion, _) => old(host),
        (Alert::UnrecognisedName, _) => {
            format!("the server does not know the name {host}: name it in the endpoint as the server does")
        }
        (Alert::NoApplicationProtocol, _) => {
            format!("the server at {host} does not speak HTTP/1.1 there: use its port for OTLP over HTTP, often 4318")
        }
        (Alert::CertificateRequired, None) => format!("the server at {host} asks for a client certificate: {give}"),
        // What servers with TLS 1.2 say to a client that has none.
        (Alert::HandshakeFailure, None) => {
            nothing_in_common(host, "alert HandshakeFailure")
                + &format!("; if it asks for a client certificate, {give}")
        }
        (Alert::HandshakeFailure | Alert::InsufficientSecurity, _) => {
            nothing_in_common(host, &format!("alert {alert:?}"))
        }
        (
            Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate,
            identity,
        ) => match identity {
            Some(path) => {
                let path = path.display();
                let remedy = "give one that is valid now, for clients, from a CA that the server trusts";
                format!("the server at {host} refuses the client certificate in {path} (alert {alert:?}): {remedy}")
            }
            None => format!(
                "the server at {host} refuses us (alert {alert:?}): if it asks for a client certificate, {give}"
            ),
        },
        _ => format!("the server at {host} ended the session with the TLS alert {alert:?}: its log may say why"),
    }
}

fn old(host: &str) -> String {
    format!("the server at {host} speaks neither TLS 1.2 nor TLS 1.3: allow one of them there")
}

fn nothing_in_common(host: &str, why: &str) -> String {
    format!(
        "the server at {host} has no TLS settings in common with us ({why}): allow TLS 1.3 there, or ECDHE with AES-GCM"
    )
}

/// The time between the two, as people say it.
fn distance(one: UnixTime, other: UnixTime) -> String {
    let seconds = one.as_secs().abs_diff(other.as_secs());
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
    // Two of a unit at least, so that it is never one day.
    let (unit, len) = units.into_iter().find(|(_, len)| seconds >= 2 * len).unwrap_or(("seconds", 1));
    format!("{} {unit}", seconds / len)
}

/// The name in what webpki makes of it, which is `DnsName("other.example")`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

/// Text that the server had a hand in, fit for one line of a log.
fn clean(text: &str) -> String {
    let mut line = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == FOREIGN_CHARS_MAX {
            line.push('…');
            break;
        }
        line.extend(character.escape_debug());
    }
    line
}

/// RFC 8446, section 5.1, ContentType: change_cipher_spec, alert, handshake, application_data.
const RECORD_KINDS: RangeInclusive<u8> = 20..=23;
/// Enough for a few names; a certificate may hold thousands.
const FOREIGN_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{InvalidMessage, OtherError, PeerMisbehaved};

    use super::{super::fixture::assert_names, *};

    fn text(error: Error, paths: &Paths, opening: &[u8]) -> String {
        meaning(&error, &Server { host: "here.example", paths, opening })
    }

    fn paths(client_certificate: Option<&str>) -> Paths {
        Paths { certificate: None, client_certificate: client_certificate.map(PathBuf::from) }
    }

    #[test]
    fn bad_certificates_are_told_apart() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let presented = vec!["DnsName(\"a\nb\")".to_owned(), "x".repeat(1000)];
        let expected = "here.example".try_into().expect("a name");
        let other = CertificateError::Other(OtherError(Arc::new(std::fmt::Error)));
        let cases: [(CertificateError, &[&str]); 13] = [
            (CertificateError::Expired, &["has expired", "renew", "clock"]),
            (CertificateError::ExpiredContext { time: time(200_000), not_after: time(0) }, &["2 days ago", "renew"]),
            (CertificateError::ExpiredContext { time: time(10_000), not_after: time(1) }, &["2 hours ago"]),
            (CertificateError::ExpiredContext { time: time(1), not_after: time(0) }, &["1 seconds ago"]),
            (CertificateError::NotValidYet, &["not valid yet", "clock"]),
            (CertificateError::NotValidYetContext { time: time(0), not_before: time(600) }, &["10 minutes", "clock"]),
            (CertificateError::UnknownIssuer, &["by this system", "`certificate`", "OTEL_EXPORTER_OTLP_CERTIFICATE"]),
            (CertificateError::BadSignature, &["another key", "by this system", "`certificate`"]),
            (CertificateError::NotValidForName, &["another name", "subjectAltName has here.example"]),
            (CertificateError::NotValidForNameContext { expected, presented }, &["(a\\nb, xxx", "x…)", "here.example"]),
            (CertificateError::Revoked, &["revoked", "replace"]),
            (CertificateError::InvalidPurpose, &["not meant for servers", "serverAuth"]),
            (other, &["will not do", "version 3"]),
        ];
        for (cause, parts) in cases {
            let text = text(Error::InvalidCertificate(cause), &paths(None), b"\x16");
            assert_names(&text, parts);
            assert_names(&text, &["the certificate of here.example"]);
            assert!(text.len() < 500, "{text}");
        }
    }

    #[test]
    fn every_alert_says_what_would_do() {
        for paths in [paths(None), paths(Some("/etc/client.pem"))] {
            for code in 0..=u8::MAX {
                let text = text(Error::AlertReceived(code.into()), &paths, b"\x15");
                assert_names(&text, &["here.example", ": "]);
            }
        }
    }

    #[test]
    fn alerts_are_read_by_what_we_showed() {
        use AlertDescription as Alert;

        let (none, some) = (&paths(None), &paths(Some("/etc/client.pem")));
        let cases: [(Alert, &Paths, &[&str]); 11] = [
            (Alert::ProtocolVersion, none, &["neither TLS 1.2 nor TLS 1.3"]),
            (Alert::UnrecognisedName, none, &["does not know the name here.example"]),
            (Alert::NoApplicationProtocol, some, &["HTTP/1.1", "4318"]),
            (Alert::CertificateRequired, none, &["asks for a client certificate", "`client_key`"]),
            (Alert::CertificateRequired, some, &["refuses the client certificate in /etc/client.pem"]),
            (Alert::HandshakeFailure, none, &["settings in common", "TLS 1.3", "`client_certificate`"]),
            (Alert::HandshakeFailure, some, &["TLS settings in common", "TLS 1.3"]),
            (Alert::BadCertificate, none, &["refuses us", "BadCertificate", "`client_certificate`"]),
            (Alert::CertificateExpired, some, &["/etc/client.pem", "CertificateExpired", "valid now"]),
            (Alert::AccessDenied, some, &["/etc/client.pem", "AccessDenied"]),
            (Alert::InternalError, some, &["InternalError", "its log"]),
        ];
        for (alert, files, parts) in cases {
            let text = text(Error::AlertReceived(alert), files, b"\x15");
            assert_names(&text, parts);
            assert!(!text.contains("client.key"), "{text}");
        }
    }

    #[test]
    fn broken_protocol_is_told_from_another() {
        let broken = || Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let cases: [(Error, &[u8], &str); 9] = [
            (broken(), b"HTTP/", "speaks plain HTTP"),
            (broken(), b"HTTPS", "does not speak TLS"),
            (broken(), b"\x00\x00\x12\x04\x00", "does not speak TLS"),
            (broken(), b"\x16\x03\x03\x00\x00", "breaks the TLS protocol"),
            (Error::PeerMisbehaved(PeerMisbehaved::MissingKeyShare), b"\x16", "MissingKeyShare"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), b"\x16", "settings in common"),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), b"\x16", "neither TLS 1.2"),
            (Error::DecryptError, b"\x16", "changed on its way"),
            (Error::FailedToGetRandomBytes, b"", "random numbers"),
        ];
        for (error, opening, part) in cases {
            assert_names(&text(error, &paths(None), opening), &[part, ": "]);
        }
    }
}
