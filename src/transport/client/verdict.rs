//! What a reply means for the request: done, once more, smaller, or never again.

use super::super::http::{http1::Reply, retry_after::RetryAfter};

/// What to do with a request after its reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The collector has it. The body says whether it took all of it.
    Taken,
    /// The collector has it. Whether it took all of it is not known: its answer is compressed, which was not asked
    /// for, or longer than is kept. A success, with a warning.
    TakenUnread,
    /// Send it again, after back-off, and not before the peer allows it.
    Retry {
        /// When that is, if it says so.
        after: Option<RetryAfter>,
    },
    /// Too large for the collector: split it, and send smaller ones from now on. These bytes are never sent again.
    TooLarge,
    /// The collector refuses it, and would refuse the same bytes again. Count it as lost.
    Refused {
        /// What a user can do.
        remedy: &'static str,
    },
}

/// The verdict of the specification's table (HTTP-06, HTTP-12, HTTP-18): only 429, 502, 503 and 504 are tried again.
#[must_use]
pub fn classify(reply: &Reply) -> Verdict {
    let remedy = match reply.status {
        200..=299 => return if reply.is_whole() { Verdict::Taken } else { Verdict::TakenUnread },
        429 | 502 | 503 | 504 => return Verdict::Retry { after: reply.retry_after },
        413 => return Verdict::TooLarge,
        300..=399 => {
            "redirects are not followed, because they would take the headers along: set the endpoint to the final address"
        }
        400 => "the collector finds the request malformed: check that the endpoint takes OTLP over HTTP, and its log",
        401 | 403 => "the collector does not accept the credentials: check the headers, and OTEL_EXPORTER_OTLP_HEADERS",
        404 | 405 => "nothing takes traces at this path: check that the endpoint ends with /v1/traces, once",
        407 => PROXY_CREDENTIALS,
        408 => "the collector waited too long for the request: check the network in between",
        415 => "the collector does not take protobuf, or not gzip: check the endpoint, or set the compression to none",
        431 => "the headers are too large for the collector: send fewer or shorter ones",
        500 => "the collector failed: see its log",
        501 => "the collector does not know the request: check that the endpoint takes OTLP over HTTP",
        _ => "the collector refuses the request: see its log",
    };
    Verdict::Refused { remedy }
}

/// Whether this reply declines the body's content coding: 415, of RFC 9110, section 15.5.16. A Collector that was told
/// not to take zstd answers 400, and names the header.
#[must_use]
pub(crate) fn declines_coding(reply: &Reply) -> bool {
    const HEADER: &[u8] = b"content-encoding";
    let names_header = || reply.body.windows(HEADER.len()).any(|text| text.eq_ignore_ascii_case(HEADER));
    reply.status == 415 || reply.status == 400 && names_header()
}

/// Whether this is the word of a gateway that got no valid answer from its upstream, or none in time (502 and 504 of
/// RFC 9110, sections 15.6.3 and 15.6.5). The upstream may have taken the request all the same. A 503 is the word of a
/// server that is not ready to handle it (section 15.6.4), and a 429 of one that will not.
#[must_use]
pub(crate) fn is_hearsay(reply: &Reply) -> bool {
    matches!(reply.status, 502 | 504)
}

/// Whether another connection, or another address, may fare better: each may lead to a server of its own, of which this
/// one fails. Not after a 429: it is the service's own word on this client, any connection would bring the same, and a
/// fresh one costs a service that has too much to do already.
#[must_use]
pub(crate) fn may_fare_better_elsewhere(reply: &Reply) -> bool {
    matches!(reply.status, 502..=504)
}

/// What a user can do when a proxy answers with this status instead of making a tunnel.
#[must_use]
pub(crate) fn tunnel_remedy(status: u16) -> &'static str {
    match status {
        407 => PROXY_CREDENTIALS,
        401 | 403 | 405 => "have it allow CONNECT to the host and port of the endpoint",
        502..=504 => "it does not reach the endpoint: check the endpoint's host and port, and the proxy's log",
        _ => "check that an HTTP proxy listens there and allows CONNECT, and its log",
    }
}

const PROXY_CREDENTIALS: &str =
    "the proxy wants credentials, or other ones: put user:password@ in front of the host in the proxy's URL";

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16) -> Verdict {
        classify(&Reply { status, ..Reply::default() })
    }

    #[test]
    fn http_06_four_codes_are_tried_again_and_no_other() {
        for status in 200..=999 {
            let is_retried = matches!(verdict(status), Verdict::Retry { .. });
            assert_eq!(is_retried, [429, 502, 503, 504].contains(&status), "{status}");
        }
    }

    /// HTTP-12.
    #[test]
    fn http_12_other_failures_are_refused_with_a_remedy() {
        for status in (300..=999).filter(|status| ![413, 429, 502, 503, 504].contains(status)) {
            let Verdict::Refused { remedy } = verdict(status) else { panic!("{status}") };
            assert!(!remedy.is_empty() && !remedy.contains('\n'));
        }
        let remedies =
            [(401, "credentials"), (403, "credentials"), (404, "/v1/traces"), (415, "gzip"), (407, "user:password@")];
        for (status, word) in remedies {
            assert!(matches!(verdict(status), Verdict::Refused { remedy } if remedy.contains(word)), "{status}");
        }
    }

    #[test]
    fn http_18_redirect_is_no_success_and_is_not_followed() {
        for status in [300, 301, 302, 303, 304, 307, 308] {
            assert!(matches!(verdict(status), Verdict::Refused { remedy } if remedy.contains("final address")));
        }
    }

    #[test]
    fn too_large_is_split_and_said_by_its_code_alone() {
        assert_eq!(verdict(413), Verdict::TooLarge);
        let body = b"message too large".to_vec();
        let reply = Reply { status: 400, body_len: body.len(), body, ..Reply::default() };
        assert!(matches!(classify(&reply), Verdict::Refused { .. }));
    }

    #[test]
    fn coding_is_declined_by_its_code_or_by_the_name_of_the_header() {
        let reply = |status, text: &str| Reply { status, body: text.into(), body_len: text.len(), ..Reply::default() };
        assert!(declines_coding(&reply(415, "")));
        assert!(declines_coding(&reply(400, "\x08\x03\x12\x22unsupported Content-Encoding: zstd")));
        for other in [reply(400, ""), reply(400, "bad content"), reply(404, "content-encoding"), reply(200, "")] {
            assert!(!declines_coding(&other), "{other:?}");
        }
    }

    #[test]
    fn success_whose_text_is_not_known_is_told_from_one_that_is() {
        assert_eq!(verdict(200), Verdict::Taken);
        assert_eq!(verdict(202), Verdict::Taken);
        assert_eq!(classify(&Reply { status: 200, body_len: 5, ..Reply::default() }), Verdict::TakenUnread);
    }
}
