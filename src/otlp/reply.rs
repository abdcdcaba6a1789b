//! Reads what a collector answers: partial success in a 2xx body, a status in an error body. Any bytes may come.

use serde_json::{Map, Value};

use crate::record::read_varint;

/// What the collector says in the body of a 2xx reply (HTTP-11). Neither a number nor a text is a full success; a text
/// alone is a warning. Neither is a reason to send the request again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    /// Spans that it did not take. It is the peer's number, and may be larger than the request's: the caller takes the
    /// smaller of the two.
    pub rejected: u64,
    /// Why, or a warning; printable, at most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
}

/// The body is no `ExportTraceServiceResponse`, in protobuf or in JSON. The status said success, so the spans count as
/// delivered, with a warning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Bytes of a peer's text that are kept: enough for a sentence in a log, too few to flood it.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Characters that are kept of a page in HTML, which no collector sends: enough to recognise the server.
const PAGE_CHARS_MAX: usize = 120;

/// Reads the body of a 2xx reply. Unknown fields are skipped (PB-10, JSON-01).
///
/// JSON is known by its brace, not by `Content-Type`: gateways answer a request in protobuf with `{}` under any type.
///
/// collector/trace/v1/trace_service.proto: `ExportTraceServiceResponse` { partial_success 1 },
/// `ExportTracePartialSuccess` { rejected_spans 1, error_message 2 }.
///
/// # Errors
///
/// When the body is no such message: a page, text, or cut off.
pub fn accepted(body: &[u8]) -> Result<Accepted, Malformed> {
    if let Some(response) = json_object(body)? {
        return accepted_in_json(&response);
    }
    let mut accepted = Accepted::default();
    for field in fields(body) {
        let Field { number, content } = field?;
        if number != 1 {
            continue;
        }
        // A message that comes in pieces is the sum of them.
        for field in fields(content.bytes()?) {
            let Field { number, content } = field?;
            match number {
                // int64, on the wire in two's complement; a negative count rejects nothing.
                1 => accepted.rejected = u64::try_from(content.number()?.cast_signed()).unwrap_or(0),
                2 => accepted.message = printable(content.bytes()?),
                _ => {}
            }
        }
    }
    Ok(accepted)
}

/// As [`accepted`], in JSON (JSON-01).
fn accepted_in_json(response: &Map<String, Value>) -> Result<Accepted, Malformed> {
    let Some(partial) = member(response, ["partialSuccess", "partial_success"]) else {
        return Ok(Accepted::default());
    };
    let partial = partial.as_object().ok_or(Malformed)?;
    let rejected = member(partial, ["rejectedSpans", "rejected_spans"]).map_or(Some(0), int64).ok_or(Malformed)?;
    let message = match member(partial, ["errorMessage", "error_message"]) {
        None => String::new(),
        Some(message) => printable(message.as_str().ok_or(Malformed)?.as_bytes()),
    };
    Ok(Accepted { rejected: u64::try_from(rejected).unwrap_or(0), message })
}

/// A field by its name in JSON, or by its original name, which a writer may use instead. A null is no field.
fn member<'a>(object: &'a Map<String, Value>, names: [&str; 2]) -> Option<&'a Value> {
    names.iter().filter_map(|&name| object.get(name)).find(|value| !value.is_null())
}

/// A number of 64 bits: a text, because JSON's numbers are doubles to many, or a number all the same.
fn int64(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        // A double without a fraction is shown as an integer, and no other can be read as one.
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64()?.to_string().parse().ok()),
        _ => None,
    }
}

/// The body as an object of JSON, if it begins as one. Its size is bounded by that of a reply, its depth by the parser:
/// 128.
///
/// No message in protobuf is mistaken for one. A brace would begin a group with number 15, which no message here has. A
/// line break and a brace may begin a field of 123 bytes; but then a tag follows, which no JSON has there.
fn json_object(body: &[u8]) -> Result<Option<Map<String, Value>>, Malformed> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    match serde_json::from_slice(body) {
        Ok(object) => Ok(Some(object)),
        Err(_) if body.starts_with(b"{") => Err(Malformed),
        Err(_) => Ok(None),
    }
}

/// What an error body says, for a log and nothing else (HTTP-13): the message of a `google.rpc.Status` in protobuf or
/// JSON, or a body of text as one line. `None` when it says nothing that can be read.
///
/// google/rpc/status.proto: `Status` { code 1, message 2, details 3 }.
#[must_use]
pub fn status_message(body: &[u8]) -> Option<String> {
    let mut message = match json_object(body) {
        Ok(Some(status)) => status.get("message").and_then(Value::as_str).map(|message| printable(message.as_bytes())),
        Ok(None) => message_in_protobuf(body),
        Err(Malformed) => None,
    };
    message = message.filter(|message| !message.is_empty());
    if message.is_none() && is_text(body) {
        let text = printable(body);
        message = Some(if text.starts_with('<') { cut(text) } else { text });
    }
    message.filter(|message| !message.is_empty())
}

fn message_in_protobuf(body: &[u8]) -> Option<String> {
    // As far as it can be read: a body may be cut off after the message. The tag of a message is a control character,
    // so text is not taken for one.
    let fields = fields(body).map_while(Result::ok);
    let messages = fields.filter(|field| field.number == 2).filter_map(|field| field.content.bytes().ok());
    messages.last().map(printable)
}

/// The beginning of a page.
fn cut(page: String) -> String {
    match page.char_indices().nth(PAGE_CHARS_MAX) {
        None => page,
        Some(_) => page.chars().take(PAGE_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

/// Whether the beginning is text, with no control characters but white space.
fn is_text(body: &[u8]) -> bool {
    let start = &body[..body.len().min(MESSAGE_BYTES_MAX)];
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        // A character cut in two is not a wrong one.
        Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    text.chars().all(|character| !character.is_control() || character.is_whitespace())
}

/// The text as one line for a log: white space of any length becomes one space, what is not printable a replacement
/// character, and a long text is cut.
pub(super) fn printable(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    let mut line = String::new();
    let text = String::from_utf8_lossy(start);
    let mut is_gap = false;
    for character in text.trim().chars() {
        if character.is_whitespace() {
            is_gap = true;
            continue;
        }
        let shown = if misleads(character) { char::REPLACEMENT_CHARACTER } else { character };
        // The replacement is longer than what it replaces, so the line may become longer than its source.
        if line.len() + shown.len_utf8() + usize::from(is_gap) > MESSAGE_BYTES_MAX {
            break;
        }
        if is_gap {
            line.push(' ');
        }
        is_gap = false;
        line.push(shown);
    }
    line
}

/// Whether a terminal would act on the character rather than show it, or show the line in another order.
fn misleads(character: char) -> bool {
    let reorders = matches!(character, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
    character.is_control() || reorders
}

/// One field of any message.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) content: Content<'a>,
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a type that no field here has.
    Other,
}

impl<'a> Content<'a> {
    fn number(&self) -> Result<u64, Malformed> {
        if let Self::Number(number) = *self { Ok(number) } else { Err(Malformed) }
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = *self { Ok(bytes) } else { Err(Malformed) }
    }
}

/// The fields of a message, up to and with the first invalid one.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// Takes one field off. A group is skipped whole, however deep: the depth is counted, not nested.
fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let (number, mut content) = flat_field(rest)?;
    let mut depth = u32::from(matches!(content, Flat::GroupStart));
    while depth > 0 {
        content = flat_field(rest)?.1;
        match content {
            Flat::GroupStart => depth += 1,
            Flat::GroupEnd => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(Field { number, content: Content::Other });
        }
    }
    match content {
        Flat::Number(value) => Ok(Field { number, content: Content::Number(value) }),
        Flat::Bytes(bytes) => Ok(Field { number, content: Content::Bytes(bytes) }),
        Flat::Fixed => Ok(Field { number, content: Content::Other }),
        Flat::GroupStart | Flat::GroupEnd => Err(Malformed),
    }
}

/// A field as the wire has it, where a group is two marks.
#[derive(Debug)]
enum Flat<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
    GroupStart,
    GroupEnd,
}

fn flat_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Flat<'a>), Malformed> {
    let tag = u32::try_from(varint(rest)?).map_err(|_| Malformed)?;
    if tag >> 3 == 0 {
        return Err(Malformed);
    }
    let content = match tag & 7 {
        0 => Flat::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Flat::Fixed)?,
        2 => {
            let len = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
            Flat::Bytes(take(rest, len)?)
        }
        3 => Flat::GroupStart,
        4 => Flat::GroupEnd,
        5 => take(rest, 4).map(|_| Flat::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok((tag >> 3, content))
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let (value, width) = read_varint(rest).ok_or(Malformed)?;
    *rest = &rest[width..];
    Ok(value)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn response(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: error_message.to_owned() };
        ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    /// A `google.rpc.Status`, as the collector's error bodies have it.
    #[derive(Clone, PartialEq, Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }

    fn status(message: &str) -> Vec<u8> {
        Status { code: 3, message: message.to_owned() }.encode_to_vec()
    }

    #[test]
    fn http_11_empty_body_or_empty_partial_success_is_full_success() {
        for body in [vec![], response(0, ""), ExportTraceServiceResponse::default().encode_to_vec()] {
            assert_eq!(accepted(&body), Ok(Accepted::default()));
        }
    }

    #[test]
    fn http_11_rejected_spans_and_their_reason_are_read() {
        let expected = Accepted { rejected: 3, message: "quota".to_owned() };
        assert_eq!(accepted(&response(3, "quota")), Ok(expected));
    }

    #[test]
    fn http_11_text_without_a_count_is_a_warning() {
        let expected = Accepted { rejected: 0, message: "slow down".to_owned() };
        assert_eq!(accepted(&response(0, "slow down")), Ok(expected));
    }

    #[test]
    fn negative_count_rejects_nothing() {
        assert_eq!(accepted(&response(-1, "")).unwrap().rejected, 0);
        assert_eq!(accepted(&response(i64::MIN, "")).unwrap().rejected, 0);
        assert_eq!(accepted(&response(i64::MAX, "")).unwrap().rejected, i64::MAX.unsigned_abs());
    }

    #[test]
    fn pb_10_unknown_fields_of_every_type_are_skipped() {
        let unknown: [&[u8]; 6] = [
            &[0x28, 0xFF, 0x01],                      // 5, varint
            &[0x29, 1, 2, 3, 4, 5, 6, 7, 8],          // 5, fixed64
            &[0x2A, 2, 9, 9],                         // 5, bytes
            &[0x2D, 1, 2, 3, 4],                      // 5, fixed32
            &[0x2B, 0x33, 0x08, 1, 0x34, 0x2C],       // 5, a group in a group
            &[0xFA, 0xFF, 0xFF, 0xFF, 0x0F, 1, b'x'], // the largest number, bytes
        ];
        for unknown in unknown {
            let inner = [unknown, &[0x08, 7], unknown].concat();
            let mut body = unknown.to_vec();
            body.extend([0x0A, u8::try_from(inner.len()).unwrap()]);
            body.extend(inner);
            body.extend(unknown);
            assert_eq!(accepted(&body).map(|accepted| accepted.rejected), Ok(7), "{unknown:x?}");
        }
    }

    #[test]
    fn body_that_is_neither_protobuf_nor_json_is_malformed() {
        let bodies: [&[u8]; 6] = [
            b"<html></html>",
            b"OK\n",
            &[0x1F, 0x8B, 8, 0], // gzip
            &[0x0A, 5, 1],       // cut off
            &[0x2B, 0x2B],       // groups without an end
            &[0x02, 0],          // field number zero
        ];
        for body in bodies {
            assert_eq!(accepted(body), Err(Malformed), "{body:x?}");
        }
    }

    #[test]
    fn json_01_answer_in_json_is_read_as_the_one_in_protobuf() {
        let said = |rejected, message: &str| Ok(Accepted { rejected, message: message.to_owned() });
        let cases = [
            ("{}", said(0, "")),
            (" \t\r\n{ }\n", said(0, "")),
            (r#"{"partialSuccess":{}}"#, said(0, "")),
            (r#"{"partialSuccess":null}"#, said(0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":null,"errorMessage":null}}"#, said(0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":"5","errorMessage":"too old"}}"#, said(5, "too old")),
            (r#"{"partialSuccess":{"rejectedSpans":5}}"#, said(5, "")),
            (r#"{"partialSuccess":{"rejectedSpans":-5}}"#, said(0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":"-5"}}"#, said(0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":"9223372036854775807"}}"#, said(i64::MAX.unsigned_abs(), "")),
            (r#"{"partialSuccess":{"errorMessage":"a\nb\u001b\u00e9"}}"#, said(0, "a b\u{FFFD}é")),
            (r#"{"x":[{}],"partialSuccess":{"y":1e9,"rejectedSpans":1},"z":null}"#, said(1, "")),
            (r#"{"partial_success":{"rejected_spans":3,"error_message":"x"}}"#, said(3, "x")),
            (r#"{"partialSuccess":{"rejected_spans":"3","errorMessage":"x"}}"#, said(3, "x")),
            (r#"{"partialSuccess":null,"partial_success":{"rejectedSpans":null,"rejected_spans":3}}"#, said(3, "")),
            (r#"{"partialSuccess":{"rejectedSpans":3.0}}"#, said(3, "")),
            (r#"{"partialSuccess":{"rejectedSpans":1.2e2}}"#, said(120, "")),
            (r#"{"partialSuccess":{"rejectedSpans":-0.0}}"#, said(0, "")),
        ];
        for (body, expected) in cases {
            assert_eq!(accepted(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn json_that_is_no_answer_is_malformed() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let bodies: [&[u8]; 16] = [
            b"[]",
            b"null",
            b"\"ok\"",
            b"{",
            b"{} {}",
            b"{\"partialSuccess\":[]}",
            b"{\"partialSuccess\":{\"rejectedSpans\":\"many\"}}",
            b"{\"partialSuccess\":{\"rejectedSpans\":true}}",
            b"{\"partialSuccess\":{\"rejectedSpans\":0.5}}",
            b"{\"partialSuccess\":{\"rejectedSpans\":9223372036854775808}}",
            b"{\"partialSuccess\":{\"rejectedSpans\":1e30}}",
            b"{\"partialSuccess\":{\"errorMessage\":7}}",
            b"{\"partial_success\":{\"error_message\":7}}",
            b"{\"x\":\"\xFF\"}",
            b"{\"x\":\"\\ud800\"}",
            deep.as_bytes(),
        ];
        for body in bodies {
            assert_eq!(accepted(body), Err(Malformed), "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
            assert!(status_message(body).is_none_or(|line| line.len() <= MESSAGE_BYTES_MAX));
        }
    }

    /// Its brace is the tag of a group, and a letter that of the group's end: the fuzzer found it.
    #[test]
    fn json_that_is_cut_off_is_not_read_as_protobuf() {
        let body = format!("{{\"c{},\"message\":\"no\"", "x".repeat(99));
        assert_eq!(accepted(&body.as_bytes()[..103]), Err(Malformed), "{}", &body[..103]);
        assert_eq!(status_message(body.as_bytes()), Some(body.clone()));
    }

    /// A message that begins with the bytes of a line break and a brace: its first field has 123 bytes.
    #[test]
    fn protobuf_that_looks_like_json_is_protobuf() {
        let body = response(5, &"x".repeat(119));
        assert_eq!(&body[..2], b"\n{");
        assert_eq!(accepted(&body).map(|accepted| accepted.rejected), Ok(5));
    }

    #[test]
    fn texts_of_the_peer_are_bounded_and_printable() {
        let hostile = format!("a\u{1b}[31m\r\nlevel=fatal\u{202E}\0{}", "é".repeat(4000));
        let message = accepted(&response(1, &hostile)).unwrap().message;
        assert!(message.starts_with("a\u{FFFD}[31m level=fatal\u{FFFD}\u{FFFD}éé"), "{message}");
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        assert!(message.chars().all(|character| !misleads(character)));
    }

    #[test]
    fn http_13_message_of_a_status_is_read_and_its_code_is_not() {
        assert_eq!(status_message(&status("bad span")), Some("bad span".to_owned()));
        assert_eq!(status_message(&status("")), None);
        assert_eq!(status_message(b""), None);
    }

    #[test]
    fn http_13_status_that_is_cut_off_behind_its_message_is_read() {
        let mut body = status("bad span");
        body.extend([0x1A, 0x7F, 1, 2]);
        assert_eq!(status_message(&body), Some("bad span".to_owned()));
    }

    #[test]
    fn http_13_text_and_json_become_one_line() {
        let cases: [(&[u8], Option<&str>); 10] = [
            (b"not found\r\n", Some("not found")),
            (b"{\n  \"code\": 3, \"message\": \"no\\n\\u001bway\"\n}", Some("no \u{FFFD}way")),
            (b"{\n  \"error\": \"no\"\n}", Some("{ \"error\": \"no\" }")),
            (b"{\"message\":\"\",\"details\":\"no quota\"}", Some("{\"message\":\"\",\"details\":\"no quota\"}")),
            (b"{\"message\": 7}", Some("{\"message\": 7}")),
            (b"{\"message\": \"n", Some("{\"message\": \"n")),
            (b"<html>\r\n<title>502 Bad Gateway</title>", Some("<html> <title>502 Bad Gateway</title>")),
            (b"a", Some("a")),
            (b"\x1F\x8B\x08\0\0\0", None),
            (b"\xFF\xFE", None),
        ];
        for (body, line) in cases {
            assert_eq!(status_message(body).as_deref(), line, "{body:x?}");
        }
        let long = "ä".repeat(2000);
        assert_eq!(status_message(long.as_bytes()).map(|line| line.len()), Some(MESSAGE_BYTES_MAX));
        let page = |chars: usize| format!("<p>{}", "ä".repeat(chars - 3));
        let line = |page: String| status_message(page.as_bytes()).unwrap();
        assert_eq!(line(page(PAGE_CHARS_MAX)), page(PAGE_CHARS_MAX));
        assert_eq!(line(page(PAGE_CHARS_MAX + 1)), format!("{}…", page(PAGE_CHARS_MAX - 1)));
        // Cut within a character.
        assert!(status_message(format!("a{long}").as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn what_prost_reads_is_read_alike(rejected: i64, text in "[a-zé]{0,20}") {
            let expected = Accepted { rejected: u64::try_from(rejected).unwrap_or(0), message: text.clone() };
            prop_assert_eq!(accepted(&response(rejected, &text)), Ok(expected));
            prop_assert_eq!(status_message(&status(&text)), Some(text).filter(|text| !text.is_empty()));
        }

        #[test]
        fn any_bytes_are_answered(body: Vec<u8>) {
            // A brace is the beginning of JSON here, and in protobuf that of a group.
            if let Ok(message) = ExportTraceServiceResponse::decode(body.as_slice()) && !body.starts_with(b"{") {
                let rejected = message.partial_success.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0));
                prop_assert_eq!(accepted(&body).map(|accepted| accepted.rejected), Ok(rejected));
            }
            prop_assert!(status_message(&body).is_none_or(|message| message.len() <= MESSAGE_BYTES_MAX));
        }
    }
}
