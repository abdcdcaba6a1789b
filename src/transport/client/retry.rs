//! What a reply means for the request: done, once more, smaller, or never again; and how long to wait in between.

use std::time::{Duration, SystemTime};

use super::super::http::http1::Reply;

/// What becomes of a request after its reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The collector has it. The body says whether it took all of it.
    Taken,
    /// The collector has it. Whether it took all of it is not known: it compressed what it says though nobody asked for that,
    /// or said more than is kept. A success, with a warning.
    TakenUnread,
    /// Send it again, after back-off, and not before the peer wants it.
    Retry {
        /// When that is, if it says so.
        after: Option<RetryAfter>,
    },
    /// Too large for the collector: split it, and send smaller ones from now on. These bytes are never sent again.
    TooLarge,
    /// The collector will not have it; the same bytes would be refused again. Count it as lost.
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
        401 | 403 => "the collector wants other credentials: check the headers, and OTEL_EXPORTER_OTLP_HEADERS",
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

/// What a user can do where a proxy answers with this status instead of making a tunnel.
#[must_use]
pub fn tunnel_remedy(status: u16) -> &'static str {
    match status {
        407 => PROXY_CREDENTIALS,
        401 | 403 | 405 => "have it allow CONNECT to the host and port of the endpoint",
        502..=504 => "it does not reach the endpoint: check the endpoint's host and port, and the proxy's log",
        _ => "check that an HTTP proxy listens there and allows CONNECT, and its log",
    }
}

/// When the peer wants to hear from us again (HTTP-07). RFC 9110, section 10.2.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryAfter {
    /// So many seconds after the reply.
    Seconds(u64),
    /// At this time, in seconds since 1970.
    At(u64),
}

impl RetryAfter {
    /// Reads the header's value: seconds, or a date in one of the three forms of HTTP. `None` for anything else, a negative
    /// number too: the back-off alone decides then.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More seconds than a number holds are as absurd as what it can hold.
            return Some(Self::Seconds(text.parse().unwrap_or(u64::MAX)));
        }
        let time = httpdate::parse_http_date(text).ok()?;
        Some(Self::At(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()))
    }

    /// How long to wait from now, a time since 1970: nothing for a time that is over, and no more than [`DELAY_MAX`].
    /// A little is added to it, as jitter; where it is nothing, the back-off alone decides.
    #[must_use]
    pub fn delay(self, now_unix: Duration) -> Duration {
        let delay = match self {
            Self::Seconds(seconds) => Duration::from_secs(seconds),
            Self::At(seconds) => Duration::from_secs(seconds).saturating_sub(now_unix),
        };
        delay.min(DELAY_MAX)
    }
}

/// Waits between attempts: exponential, with full jitter (HTTP-08), so that the clients of a collector that comes back do
/// not come back in step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Before the first failure.
    #[must_use]
    pub fn new() -> Self {
        Self { ceiling: DELAY_FIRST_MAX }
    }

    /// The next wait: from nothing up to a ceiling, as evenly as `random` is, and the ceiling rises.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 8 / 5).min(PAUSE_MAX);
        let nanos = (ceiling.as_nanos() * u128::from(random)) >> u64::BITS;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

const PROXY_CREDENTIALS: &str =
    "the proxy wants credentials, or others: put user:password@ in front of the host in the proxy's URL";
/// The longest wait. A peer that names a longer one, by mistake or with intent, does not silence the exporter for it.
pub const DELAY_MAX: Duration = Duration::from_secs(30);
/// The longest wait of our own choice: what the memory has to hold of an outage lasts so much longer.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Half a second, times 1.6 a step, is at the longest wait after five failures.
const DELAY_FIRST_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn success_whose_text_is_not_known_is_told_from_one_that_is() {
        assert_eq!(verdict(200), Verdict::Taken);
        assert_eq!(verdict(202), Verdict::Taken);
        assert_eq!(classify(&Reply { status: 200, body_len: 5, ..Reply::default() }), Verdict::TakenUnread);
    }

    /// HTTP-07: 1994-11-06 08:49:37 in the three forms of RFC 9110, section 5.6.7.
    #[test]
    fn http_07_retry_after_is_seconds_or_a_date() {
        let dates = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
        for date in dates {
            assert_eq!(RetryAfter::parse(date), Some(RetryAfter::At(784_111_777)), "{date}");
        }
        assert_eq!(RetryAfter::parse(" 120\t"), Some(RetryAfter::Seconds(120)));
        assert_eq!(RetryAfter::parse("0"), Some(RetryAfter::Seconds(0)));
        assert_eq!(RetryAfter::parse("99999999999999999999999"), Some(RetryAfter::Seconds(u64::MAX)));
        for text in
            ["", "-5", "+5", "1.5", "soon", "1, 2", "Sun, 06 Nov 1994 08:49:37 CET", "Mon, 31 Feb 2030 00:00:00 GMT"]
        {
            assert_eq!(RetryAfter::parse(text), None, "{text}");
        }
    }

    #[test]
    fn http_07_past_dates_wait_nothing_and_absurd_ones_no_longer_than_the_maximum() {
        let now = Duration::from_secs(784_111_777);
        let delay = |text: &str| RetryAfter::parse(text).unwrap().delay(now);
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:47 GMT"), Duration::from_secs(10));
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:27 GMT"), Duration::ZERO);
        assert_eq!(delay("Sat, 06 Nov 2094 08:49:27 GMT"), DELAY_MAX);
        assert_eq!(delay("7"), Duration::from_secs(7));
        assert_eq!(delay("99999999999999999999999"), DELAY_MAX);
    }

    #[test]
    fn http_08_waits_grow_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<_> = (0..12).map(|_| backoff.next(u64::MAX).as_millis() + 1).collect();
        assert_eq!(ceilings, [500, 800, 1280, 2048, 3277, 5000, 5000, 5000, 5000, 5000, 5000, 5000]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(1 << 63), PAUSE_MAX / 2);
        backoff.reset();
        assert_eq!(backoff, Backoff::new());
    }

    proptest! {
        #[test]
        fn any_text_is_answered_within_the_maximum(text: String, now: u32) {
            if let Some(after) = RetryAfter::parse(&text) {
                prop_assert!(after.delay(Duration::from_secs(now.into())) <= DELAY_MAX);
            }
        }

        #[test]
        fn waits_are_below_their_ceiling(randoms in prop::collection::vec(any::<u64>(), 0..30)) {
            let mut backoff = Backoff::new();
            for random in randoms {
                let ceiling = backoff.ceiling;
                prop_assert!(backoff.next(random) < ceiling);
            }
        }
    }
}
