//! W3C Baggage: the header `baggage`.

use std::borrow::Cow;

use arrayvec::{ArrayString, ArrayVec};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Dropped, Extractor, Injector};
use crate::context::{BAGGAGE_BYTES_MAX, Baggage, BaggageMembers, InvalidBaggage};

/// The header that [`inject`] sets, and [`extract`] reads.
pub const FIELDS: [&str; 1] = [BAGGAGE];

const BAGGAGE: &str = "baggage";

/// The members of all headers `baggage` together, and how many were left out: those that are malformed, and those past
/// 64 members or 8,192 bytes of header. Of equal names the last counts.
#[must_use]
pub fn extract(carrier: &(impl Extractor + ?Sized)) -> (Baggage, Dropped) {
    let mut reader = Reader { members: Baggage::collector(), header_bytes: 0, dropped: Dropped::default() };
    carrier.values(BAGGAGE, &mut |header| reader.read(header));
    (reader.members.into_baggage(), reader.dropped)
}

/// Sends this baggage on, and says how many members it had to leave out: names that W3C Baggage cannot carry (any with
/// a space, a delimiter or a letter outside of ASCII), and members that would take the header past 8,192 bytes. Without
/// any the header stays as it is.
pub fn inject(baggage: &Baggage, carrier: &mut (impl Injector + ?Sized)) -> Dropped {
    if baggage.is_empty() {
        return Dropped::default();
    }
    let (mut header, mut dropped) = (Header::new(), Dropped::default());
    for (name, value, metadata) in baggage.iter() {
        let end = header.len();
        if !is_token(name) {
            dropped.malformed_members += 1;
        } else if write(&mut header, name, value, metadata).is_none() {
            header.truncate(end);
            dropped.excess_members += 1;
        }
    }
    if !header.is_empty() {
        dropped.fields += u32::from(carrier.set(BAGGAGE, &header).is_err());
    }
    dropped
}

/// The properties of a member's metadata: keys as they are, values decoded.
pub fn properties(metadata: &str) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
    let properties = metadata.split(';').map(trim).filter(|property| !property.is_empty());
    properties.map(|property| match property.split_once('=') {
        Some((key, value)) => (trim(key), Some(percent_decode_str(trim(value)).decode_utf8_lossy())),
        None => (property, None),
    })
}

/// What goes into a header. On the stack, so that to write one allocates nothing.
type Header = ArrayString<BAGGAGE_BYTES_MAX>;

/// Reads headers as one (BAG-06).
struct Reader {
    members: BaggageMembers,
    /// Bytes of the members that were read, as they were in the headers, with the commas between them.
    header_bytes: usize,
    dropped: Dropped,
}

impl Reader {
    fn read(&mut self, header: &[u8]) {
        self.members.reserve(header.len());
        for member in header.split(|&byte| byte == b',') {
            let comma = usize::from(self.header_bytes > 0);
            let header_bytes = self.header_bytes.saturating_add(member.len() + comma);
            if member.iter().all(|byte| WHITE_BYTES.contains(byte)) {
                continue;
            }
            // What has no room is not looked at: a header of a megabyte costs no more than to find its commas.
            if header_bytes > BAGGAGE_BYTES_MAX {
                self.dropped.excess_members += 1;
                continue;
            }
            self.header_bytes = header_bytes;
            match self.member(member) {
                Ok(()) => {}
                Err(Unread::Malformed) => self.dropped.malformed_members += 1,
                Err(Unread::Excess) => self.dropped.excess_members += 1,
            }
        }
    }

    /// `key OWS "=" OWS value *(OWS ";" OWS property)`.
    fn member(&mut self, member: &[u8]) -> Result<(), Unread> {
        let member = str::from_utf8(member).map_err(|_| Unread::Malformed)?;
        let (pair, metadata) = member.split_once(';').unwrap_or((member, ""));
        let (name, value) = pair.split_once('=').ok_or(Unread::Malformed)?;
        let (name, value, metadata) = (trim(name), trim(value), trim(metadata));
        if !is_token(name) || !is_value(value) || !metadata.split(';').all(is_property) {
            return Err(Unread::Malformed);
        }
        let set = if value.contains('%') {
            self.members.set(name, &decode(value), metadata)
        } else {
            self.members.set(name, value, metadata)
        };
        set.map_err(|error| match error {
            InvalidBaggage::NoName => Unread::Malformed,
            InvalidBaggage::TooMany | InvalidBaggage::TooLarge => Unread::Excess,
        })
    }
}

/// Why a member is left out.
enum Unread {
    Malformed,
    Excess,
}

/// The text of a value of a header. What is not UTF-8 becomes U+FFFD, which is no longer than `%FF` (BAG-05).
fn decode(value: &str) -> Header {
    let bytes: ArrayVec<u8, BAGGAGE_BYTES_MAX> = percent_decode_str(value).collect();
    let mut text = Header::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// Appends a member; `None` if there is no room for all of it.
fn write(header: &mut Header, name: &str, value: &str, metadata: &str) -> Option<()> {
    if !header.is_empty() {
        header.try_push(',').ok()?;
    }
    let mut push = |text: &str| header.try_push_str(text).ok();
    push(name)?;
    push("=")?;
    utf8_percent_encode(value, VALUE).try_for_each(&mut push)?;
    for property in metadata.split(';').map(trim).filter(|property| !property.is_empty()) {
        let (key, value) = property.split_once('=').map_or((property, None), |(key, value)| (key, Some(value)));
        push(";")?;
        utf8_percent_encode(trim(key), PROPERTY_KEY).try_for_each(&mut push)?;
        if let Some(value) = value {
            push("=")?;
            utf8_percent_encode(trim(value), PROPERTY_VALUE).try_for_each(&mut push)?;
        }
    }
    Some(())
}

/// Bytes of a value that are written as they are: 0x21, 0x23-2B, 0x2D-3A, 0x3C-5B, 0x5D-7E without `%` (W3C Baggage,
/// `baggage-octet`).
const VALUE: &AsciiSet = &PROPERTY_VALUE.add(b'%');
/// As [`VALUE`], of text that is percent-encoded where it has to be already: metadata is passed on as it came.
const PROPERTY_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\');
/// All but the letters of a token, of which `%` is one.
const PROPERTY_KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'%')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `token` of RFC 7230, 3.2.6.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `*baggage-octet`, which has `%`.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| (0x21..=0x7E).contains(&byte) && !b"\",;\\".contains(&byte))
}

/// `key OWS [ "=" OWS value ]`. Nothing at all, as after a last semicolon, is no fault.
fn is_property(text: &str) -> bool {
    let text = trim(text);
    let is_pair = text.split_once('=').map(|(key, value)| is_token(trim(key)) && is_value(trim(value)));
    text.is_empty() || is_pair.unwrap_or_else(|| is_token(text))
}

fn trim(text: &str) -> &str {
    text.trim_matches(WHITE)
}

const WHITE: [char; 2] = [' ', '\t'];
const WHITE_BYTES: [u8; 2] = [b' ', b'\t'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Members = Vec<(String, String, String)>;

    fn read(headers: &[&str]) -> (Members, Dropped) {
        let pairs: Vec<(&str, &str)> = headers.iter().map(|header| ("Baggage", *header)).collect();
        let (baggage, dropped) = extract(&pairs);
        (members(&baggage), dropped)
    }

    /// The members of headers that are good.
    fn good(headers: &[&str]) -> Members {
        let (members, dropped) = read(headers);
        assert_eq!(dropped, Dropped::default(), "{headers:?}");
        members
    }

    fn members(baggage: &Baggage) -> Members {
        baggage.iter().map(|(name, value, metadata)| (name.into(), value.into(), metadata.into())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Members {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned(), String::new())).collect()
    }

    fn with(pairs: &[(&str, &str)]) -> Baggage {
        pairs.iter().fold(Baggage::default(), |baggage, (name, value)| baggage.with(name, value).unwrap())
    }

    /// The header of this baggage, and what it does not have.
    fn written(baggage: &Baggage) -> (Option<String>, Dropped) {
        let mut carrier: Vec<(String, String)> = vec![];
        let dropped = inject(baggage, &mut carrier);
        assert!(carrier.iter().all(|(name, _)| name == BAGGAGE) && carrier.len() < 2);
        (carrier.pop().map(|(_, header)| header), dropped)
    }

    fn malformed(count: u32) -> Dropped {
        Dropped { malformed_members: count, ..Dropped::default() }
    }

    fn excess(count: u32) -> Dropped {
        Dropped { excess_members: count, ..Dropped::default() }
    }

    #[test]
    fn bag_04_headers_are_read_by_the_grammar() {
        assert_eq!(good(&["a=1,b=2"]), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(good(&[" a \t=\t 1 ,\tb =2 "]), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(good(&["a=b=c=="]), pairs(&[("a", "b=c==")]), "further `=` belong to the value");
        assert_eq!(good(&["a=", "A=x"]), pairs(&[("a", ""), ("A", "x")]));
        assert_eq!(good(&["!#$%&'*+-.^_`|~09azAZ=!#$&'()*+-./09:<=>?@AZ[]^_`az{|}~"]).len(), 1);
        assert_eq!(good(&["", ",, ,", "a=1,"]), pairs(&[("a", "1")]));
        for bad in
            ["a", "=1", " =1", "a b=1", "a=1 2", "a=\"1\"", "a=1\\", "ä=1", "a=ä", "a(=1", "a=1\n", "a=\0", "a;b=1"]
        {
            assert_eq!(read(&[bad]), (vec![], malformed(1)), "{bad:?}");
        }
        let (baggage, dropped) = extract(&[(BAGGAGE, &b"a=\xFF,b=2"[..])][..]);
        assert_eq!((members(&baggage), dropped), (pairs(&[("b", "2")]), malformed(1)));
    }

    /// BAG-07: the bad member goes, the others are sent on, in their order.
    #[test]
    fn bag_07_what_was_received_is_sent_on_without_the_bad_members() {
        let received = [(BAGGAGE, "b=2;p, bad ,a=%41"), (BAGGAGE, "c=x%20y;k=v;q")];
        let (baggage, dropped) = extract(&received[..]);
        assert_eq!(dropped, malformed(1));
        assert_eq!(written(&baggage), (Some("b=2;p,a=A,c=x%20y;k=v;q".into()), Dropped::default()));
        assert_eq!(written(&Baggage::default()), (None, Dropped::default()));
    }

    /// BAG-01: of equal names the last counts, also in two headers.
    #[test]
    fn bag_01_the_last_of_equal_names_counts() {
        assert_eq!(good(&["a=1;p,b=2,a=3", "b=4,A=5"]), pairs(&[("a", "3"), ("b", "4"), ("A", "5")]));
    }

    /// BAG-03: metadata is passed on as it came; white space between its parts is not.
    #[test]
    fn bag_03_metadata_goes_with_its_member() {
        let members = good(&["a=1 ; k = v%2C ;flag;;x=;"]);
        assert_eq!(members, [("a".into(), "1".into(), "k = v%2C ;flag;;x=;".into())]);
        let baggage = Baggage::default().with_metadata("a", "1", &members[0].2).unwrap();
        assert_eq!(written(&baggage).0.unwrap(), "a=1;k=v%2C;flag;x=");
        for bad in ["a=1;=", "a=1;ä", "a=1;p q", "a=1;p=\"", "a=1;p/=1"] {
            assert_eq!(read(&[bad]), (vec![], malformed(1)), "{bad}");
        }
        let baggage = Baggage::default().with_metadata("a", "1", "ké y=ü,\"\\;/").unwrap();
        let header = written(&baggage).0.unwrap();
        assert_eq!(header, "a=1;k%C3%A9%20y=%C3%BC%2C%22%5C;%2F");
        assert_eq!(good(&[&header])[0].2, &header[4..]);
    }

    #[test]
    fn bag_05_values_are_percent_encoded_and_decoded() {
        let text = "é \",;\\%\n\0\u{7F}=!~";
        let header = "a=%C3%A9%20%22%2C%3B%5C%25%0A%00%7F=!~";
        assert_eq!(written(&with(&[("a", text)])).0.as_deref(), Some(header));
        assert_eq!(good(&[header]), pairs(&[("a", text)]));
        let every: String = (0..=0x7F).map(char::from).collect();
        let header = written(&with(&[("a", &every)])).0.unwrap();
        assert!(
            header["a=".len()..]
                .bytes()
                .all(|byte| matches!(byte, 0x21 | 0x23..=0x2B | 0x2D..=0x3A | 0x3C..=0x5B | 0x5D..=0x7E))
        );
        assert_eq!(good(&[&header]), pairs(&[("a", &every)]));
        assert_eq!(
            good(&["a=%41%c3%a9,b=%FFx%C3,c=100%,d=%4,e=%zz"]),
            pairs(&[("a", "Aé"), ("b", "\u{FFFD}x\u{FFFD}"), ("c", "100%"), ("d", "%4"), ("e", "%zz"),])
        );
        let found: Vec<_> = properties("k%41 = v%41%FF ; flag;;x=").collect();
        let expected = [("k%41", Some("vA\u{FFFD}".into())), ("flag", None), ("x", Some("".into()))];
        assert_eq!(found, expected, "keys are not decoded");
    }

    /// BAG-06: 64 members and 8,192 bytes pass, over all headers together; more is left out by whole members.
    #[test]
    fn bag_06_what_is_past_the_limits_is_left_out_and_counted() {
        let many: Vec<String> = (0..66).map(|number| format!("k{number}=v")).collect();
        assert_eq!(good(&[&many[..32].join(","), &many[32..64].join(",")]).len(), 64);
        let (members, dropped) = read(&[&many.join(","), "k0=new"]);
        assert_eq!((members.len(), dropped), (64, excess(2)));
        assert!(members.contains(&("k0".into(), "new".into(), String::new())));

        let long = "v".repeat(8000);
        let headers = [&*format!("a={long}"), &*format!("b={}", "v".repeat(187))];
        assert_eq!(good(&headers).len(), 2, "8002 + 1 + 189 bytes");
        assert_eq!(read(&[headers[0], &format!("{}v", headers[1]), "c=1"]).1, excess(1));
        assert_eq!(read(&[&format!("a={long}{long}"), "c=1"]), (pairs(&[("c", "1")]), excess(1)));

        let mebibyte = "a=%41,".repeat((1 << 20) / 6);
        let (members, dropped) = read(&[&mebibyte]);
        assert_eq!((members.len(), dropped), (1, excess(174_762 - 1365)));

        // What is 8,000 bytes here is three times as much there.
        let baggage = with(&[("a", &" ".repeat(2728)), ("b", "1"), ("c", "2")]);
        let (header, dropped) = written(&baggage);
        assert_eq!((header.map(|header| header.len()), dropped), (Some(8190), excess(1)));
        let fits = with(&[("a", &" ".repeat(2728)), ("b", "1")]);
        assert_eq!(written(&fits).1, Dropped::default());
        assert_eq!(written(&with(&[("a", &" ".repeat(8000))])), (None, excess(1)));
    }

    /// BAG-02: the program may use any name; those that W3C Baggage cannot carry stay here.
    #[test]
    fn bag_02_names_that_are_no_tokens_are_not_sent() {
        let baggage = with(&[("a b", "1"), ("ä", "2"), ("c", "3"), ("d,", "4")]);
        assert_eq!(written(&baggage), (Some("c=3".into()), malformed(3)));
        assert_eq!(written(&with(&[("=", "1")])), (None, malformed(1)));
    }

    proptest! {
        /// What leaves comes back.
        #[test]
        fn injected_baggage_is_extracted_as_it_was(
            members in prop::collection::vec(("[a-z!-~&&[^()/:;<=>?@\\[\\\\\\]{}\",]]{1,3}", any::<String>()), 0..20),
        ) {
            let members = members.iter().fold(Baggage::default(), |baggage, (name, value)| {
                baggage.with(name, value).unwrap_or(baggage)
            });
            let mut carrier: Vec<(String, String)> = vec![];
            prop_assert_eq!(inject(&members, &mut carrier), Dropped::default());
            prop_assert_eq!(extract(&carrier), (members, Dropped::default()));
        }
    }
}
