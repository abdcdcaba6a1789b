//! The header `Retry-After`: how long to wait before the next request.

use std::time::{Duration, SystemTime};

/// When the peer wants the next request (HTTP-07). RFC 9110, section 10.2.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryAfter {
    /// So many seconds after the reply.
    Seconds(u64),
    /// At this time, in seconds since 1970.
    At(u64),
}

impl RetryAfter {
    /// Reads the header's value: seconds, or a date in one of the three forms of HTTP. `None` for anything else, a
    /// negative number too: the back-off alone decides then.
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

    /// How long to wait from now, a time since 1970: nothing for a time that is over.
    #[must_use]
    pub fn delay(self, now_unix: Duration) -> Duration {
        match self {
            Self::Seconds(seconds) => Duration::from_secs(seconds),
            Self::At(seconds) => Duration::from_secs(seconds).saturating_sub(now_unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn http_07_past_dates_wait_nothing_and_absurd_ones_do_not_wrap() {
        let now = Duration::from_secs(784_111_777);
        let delay = |text: &str| RetryAfter::parse(text).unwrap().delay(now);
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:47 GMT"), Duration::from_secs(10));
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:27 GMT"), Duration::ZERO);
        assert_eq!(delay("Mon, 06 Nov 1995 08:49:37 GMT"), Duration::from_secs(365 * 24 * 3600));
        assert_eq!(delay("7"), Duration::from_secs(7));
        assert_eq!(delay("99999999999999999999999"), Duration::from_secs(u64::MAX));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String, now: u32) {
            if let Some(after) = RetryAfter::parse(&text) {
                let _ = after.delay(Duration::from_secs(now.into()));
            }
        }
    }
}
