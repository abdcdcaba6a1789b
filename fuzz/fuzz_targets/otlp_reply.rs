//! Any bytes as what a collector says: what prost reads is read alike, in JSON the same is read, and what is shown is
//! short and printable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::json;
use spanring::internals::otlp::{MESSAGE_BYTES_MAX, accepted, status_message};

/// google/rpc/status.proto, without the details, which are skipped.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Texts that come out as they are: no white space to gather, nothing to replace, short enough.
fn is_plain(text: &str) -> bool {
    text.len() <= MESSAGE_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_shown(text: &str) {
    assert!(text.len() <= MESSAGE_BYTES_MAX);
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(text.trim(), text);
}

/// The same answers in JSON, of any number and text, among fields that are not known, and cut off anywhere.
fn check_json(bytes: &[u8]) {
    let (number, text) = bytes.split_at(bytes.len().min(8));
    let rejected = number.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let text = String::from_utf8_lossy(text);
    for number in [json!(rejected), json!(rejected.to_string())] {
        let partial = json!({ "errorMessage": text, "rejectedSpans": number, "x": [text] });
        let body = json!({ "code": rejected, "message": text, "partialSuccess": partial }).to_string();
        let read = accepted(body.as_bytes()).expect("it is an answer");
        assert_eq!(read.rejected, u64::try_from(rejected).unwrap_or(0));
        check_shown(&read.message);
        // A status without a message that shows anything is shown as the text that it is.
        let shown = status_message(body.as_bytes()).expect("it says something");
        assert!(shown == read.message || read.message.is_empty() && shown.starts_with("{"), "{shown} of {body}");
        if is_plain(&text) {
            assert_eq!(read.message, text);
        }
        let cut = body.len() * usize::from(bytes.last().copied().unwrap_or_default()) / 256;
        assert!(accepted(&body.as_bytes()[..cut]).is_err() || cut == 0, "{cut} of {body}");
    }
}

fuzz_target!(|body: &[u8]| {
    check_json(body);
    let read = accepted(body);
    // A brace is the beginning of JSON here, and in protobuf that of a group.
    let is_json = body.starts_with(b"{");
    if let Ok(message) = ExportTraceServiceResponse::decode(body)
        && !is_json
    {
        let partial = message.partial_success.unwrap_or_default();
        let read = read.as_ref().expect("prost reads it");
        assert_eq!(read.rejected, u64::try_from(partial.rejected_spans).unwrap_or(0));
        if is_plain(&partial.error_message) {
            assert_eq!(read.message, partial.error_message);
        }
    }
    if let Ok(read) = read {
        check_shown(&read.message);
    }

    let message = status_message(body);
    if let Ok(status) = Status::decode(body)
        && !is_json
        && is_plain(&status.message)
        && !status.message.is_empty()
    {
        assert_eq!(message.as_ref(), Some(&status.message));
    }
    if let Some(message) = message {
        assert!(!message.is_empty());
        check_shown(&message);
    }
});
