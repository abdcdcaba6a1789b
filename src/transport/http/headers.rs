//! Headers that a user adds to every request: checked before they are kept, and never shown.

use std::fmt;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// Names and values that can go into a request as they are.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// These headers. Of equal names, which do not differ by case, the last wins.
    ///
    /// # Errors
    ///
    /// When a name or value could not be sent, or is the exporter's own; see [`HeaderFault`].
    pub fn new(pairs: &[(String, String)]) -> Result<Self, HeaderError> {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(name, value).map_err(|fault| HeaderError::new(name, fault))?;
        }
        Ok(headers)
    }

    /// The headers of `OTEL_EXPORTER_OTLP_HEADERS`: `name=value,name=value`, with percent-encoded values and without
    /// the metadata that a baggage may have after a semicolon (CFG-24). With it, why members were left out: one may be
    /// mistyped, and the others are credentials without which nothing would be taken.
    #[must_use]
    pub fn from_env_text(text: &str) -> (Self, Vec<HeaderError>) {
        let members = text.split(',').map(|member| member.trim_matches(WHITE)).filter(|member| !member.is_empty());
        let mut headers = Self::default();
        let errors = members.enumerate().filter_map(|(index, member)| {
            let fault = headers.add_member(member).err()?;
            Some(HeaderError::of_member(index, member, fault))
        });
        let errors = errors.collect();
        (headers, errors)
    }

    /// Names, lower-case, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn add_member(&mut self, member: &str) -> Result<(), HeaderFault> {
        let (name, value) = member.split_once('=').ok_or(HeaderFault::NoValue)?;
        let (name, value) = (name.trim_matches(WHITE), value.trim_matches(WHITE));
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(HeaderFault::Name);
        }
        if value.contains(';') {
            return Err(HeaderFault::Metadata);
        }
        let value = percent_decode_str(value).decode_utf8().map_err(|_| HeaderFault::Value)?;
        self.add(name, &value)
    }

    /// Adds a header, in place of one of the same name.
    fn add(&mut self, name: &str, value: &str) -> Result<(), HeaderFault> {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderFault::Name)?;
        if OWN.contains(&header.as_str()) {
            return Err(HeaderFault::Own);
        }
        if header.as_str() == "proxy-authorization" {
            return Err(HeaderFault::Proxy);
        }
        // Nothing that ends a line, and nothing but ASCII: servers differ in how they read other bytes.
        let value = Some(value.trim_matches(WHITE)).filter(|value| value.is_ascii());
        let value = value.and_then(|value| HeaderValue::from_str(value).ok()).ok_or(HeaderFault::Value)?;
        let others = self.0.iter().filter(|(known, _)| *known != header);
        let others_bytes: usize = others.clone().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let bytes = others_bytes + header.as_str().len() + value.len();
        if others.count() == HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            return Err(HeaderFault::TooMany);
        }
        self.0.retain(|(known, _)| *known != header);
        self.0.push((header, value));
        Ok(())
    }
}

impl fmt::Debug for Headers {
    /// The names alone: values are credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Headers")?;
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a header is refused. It names the header, and never shows its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderError {
    what: String,
    fault: HeaderFault,
}

impl HeaderError {
    pub(super) fn new(name: &str, fault: HeaderFault) -> Self {
        let printable = name.chars().map(|character| if character.is_ascii_graphic() { character } else { ' ' });
        Self { what: format!("header `{}`", printable.take(SHOWN_CHARS_MAX).collect::<String>()), fault }
    }

    /// Of a member of a list. It may be a secret as a whole, or up to the padding of its base64; so only what is
    /// plainly a name is shown.
    fn of_member(index: usize, member: &str, fault: HeaderFault) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let name = member.split_once('=').map(|(name, _)| name.trim_matches(WHITE));
        let name = name.filter(|name| (1..=SHOWN_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_plain));
        match name {
            Some(name) => Self::new(name, fault),
            None => Self { what: format!("member {}", index + 1), fault },
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> HeaderFault {
        self.fault
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.fault)
    }
}

impl std::error::Error for HeaderError {}

/// What is wrong with a header. The text of each says what to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The name is empty or has characters that no name may have.
    Name,
    /// The value has characters other than visible ASCII, space and tab.
    Value,
    /// There is no `=`.
    NoValue,
    /// A semicolon and metadata.
    Metadata,
    /// The exporter writes this header itself.
    Own,
    /// The header belongs to the proxy's address.
    Proxy,
    /// There are more than 64, or they have more than 16 KiB.
    TooMany,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "has no valid name: use letters, digits and `-`",
            Self::Value => "has a value that cannot be sent: use visible ASCII, and base64 for anything else",
            Self::NoValue => "has no `=`: write name=value, and %2C for a comma in a value",
            Self::Metadata => "has a `;`: metadata is not supported, and in a value a semicolon is written %3B",
            Self::Own => "is set by the exporter itself: remove it",
            Self::Proxy => "belongs to the proxy: put the credentials in the proxy's URL",
            Self::TooMany => "is one too many: 64 headers with 16 KiB in all are the limit",
        })
    }
}

/// Headers that the exporter owns: those that say where a message goes and ends, and `accept-encoding`, because a
/// reply that is compressed is never inflated.
const OWN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// RFC 9110, section 5.6.3: optional white space.
const WHITE: [char; 2] = [' ', '\t'];
/// What servers commonly take: nginx has 32 KiB for a head, Go 1 MiB, Apache 100 headers of 8 KiB.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(headers: &Headers) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn fault(name: &str, value: &str) -> HeaderFault {
        Headers::new(&pairs(&[(name, value)])).expect_err(name).fault()
    }

    /// The one fault of a text.
    fn env_fault(text: &str) -> HeaderError {
        let [error] = <[_; 1]>::try_from(Headers::from_env_text(text).1).unwrap();
        error
    }

    #[test]
    fn cfg_24_text_of_the_environment_is_read_as_baggage() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            ("", &[]),
            (" , ,", &[]),
            ("api-key=abc,tenant=7", &[("api-key", "abc"), ("tenant", "7")]),
            (" Api-Key = abc\t,\ttenant = 7 ", &[("api-key", "abc"), ("tenant", "7")]),
            ("authorization=Basic%20dTpw%3D%3D", &[("authorization", "Basic dTpw==")]),
            ("authorization=Basic dTpw==", &[("authorization", "Basic dTpw==")]),
            ("a=%2C%3B%25,b=", &[("a", ",;%"), ("b", "")]),
            ("a=1,A=2", &[("a", "2")]),
        ];
        for (text, expected) in cases {
            assert_eq!(listed(&Headers::from_env_text(text).0), pairs(expected), "{text}");
        }
    }

    #[test]
    fn cfg_24_metadata_is_refused_and_not_sent() {
        assert_eq!(env_fault("a=1;ttl=3").fault(), HeaderFault::Metadata);
    }

    #[test]
    fn encoded_line_ends_are_refused_after_decoding() {
        for text in ["a=x%0D%0AHost:%20evil", "a=%00", "a=%7F", "a=%0A", "a=%C3%A4", "a=%FF"] {
            assert_eq!(env_fault(text).fault(), HeaderFault::Value, "{text}");
        }
        for text in ["a b=x", "=x", "a:=x", "a\r=x"] {
            assert_eq!(env_fault(text).fault(), HeaderFault::Name, "{text}");
        }
        // Names are not decoded: one may have a percent sign.
        assert_eq!(listed(&Headers::from_env_text("a%0D=x").0), pairs(&[("a%0d", "x")]));
    }

    #[test]
    fn names_and_values_that_could_break_a_request_are_refused() {
        for name in ["", "a b", "a\r\nb", "a:", "ä", "a\0"] {
            assert_eq!(fault(name, "x"), HeaderFault::Name, "{name:?}");
        }
        for value in ["x\r\ny: z", "x\ny", "x\ry", "x\0", "\u{7F}", "ä", "\u{1b}[2J"] {
            assert_eq!(fault("a", value), HeaderFault::Value, "{value:?}");
        }
        assert_eq!(fault("proxy-authorization", "x"), HeaderFault::Proxy);
    }

    #[test]
    fn own_headers_are_refused_in_any_case() {
        for name in OWN {
            assert_eq!(fault(name, "x"), HeaderFault::Own);
            assert_eq!(fault(&name.to_ascii_uppercase(), "x"), HeaderFault::Own);
        }
    }

    #[test]
    fn number_and_size_are_bounded() {
        let many: Vec<_> = (0..65).map(|index| (format!("h{index}"), String::new())).collect();
        assert!(Headers::new(&many[..64]).is_ok());
        assert_eq!(Headers::new(&many).unwrap_err().fault(), HeaderFault::TooMany);
        assert_eq!(fault("a", &"x".repeat(16 << 10)), HeaderFault::TooMany);
    }

    /// What has no name of its own is not reported as if it had one.
    #[test]
    fn members_of_a_list_are_told_by_their_name_or_their_number() {
        let [long, longer] = ["a".repeat(64), "a".repeat(65)].map(|name| format!("{name}=;"));
        let named = format!("header `{}` has a `;`: ", "a".repeat(64));
        let cases = [
            ("a=1,secret", "member 2 has no `=`: "),
            ("a b=1", "member 1 has no valid name: "),
            ("a=1,host=h", "header `host` is set by the exporter itself: "),
            ("x-api-2=1;", "header `x-api-2` has a `;`: "),
            ("dG9rZW4=;x", "member 1 has a `;`: "),
            ("a=1,,dG9rZW4=%00", "member 2 has a value that cannot be sent: "),
            ("a=1,dG9rZW4=%FF", "member 2 has a value that cannot be sent: "),
            ("Host=h", "member 1 is set by the exporter itself: "),
            ("to_ken=;", "member 1 has a `;`: "),
            (&long, &named),
            (&longer, "member 1 has a `;`: "),
        ];
        for (text, beginning) in cases {
            let error = env_fault(text);
            assert!(error.to_string().starts_with(beginning), "{error}");
            assert!(!format!("{error} {error:?}").contains("dG9rZW4"), "{error:?}");
        }
    }

    #[test]
    fn values_are_never_shown() {
        let headers = Headers::new(&pairs(&[("api-key", "secret")])).unwrap();
        assert_eq!(format!("{headers:?}"), "Headers{\"api-key\"}");
        for text in ["api-key=secret\u{7}", "bearer secret", "api-key=secret;x", "Basic secret=="] {
            let error = env_fault(text);
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_has_no_line_end(text in "([a-c]|%0D|%0A|%00|[\\x00-\\x7f]|=|,){0,20}") {
            for (name, value) in Headers::from_env_text(&text).0.iter() {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t'));
            }
        }
    }
}
