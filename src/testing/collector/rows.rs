//! The table of faults, and the bytes that they send.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;

use super::fault::{
    Delivered::{All, AllBut, AllIfSentAgain, Nothing},
    End::{Closed, Endless, Kept, Refused, Reset, Silent, Slow, Stuck},
    Expect,
    Fault::{AtAccept, AtRequest, ClosedPort},
    OVERSIZE, PARTIALLY_REJECTED, REJECTED, RETRY_EXPIRED, Resend, Row, SHUTDOWN_DEADLINE, Shows,
    Step::{
        self, Answer, AwaitNext, Close, EndReplies, Hold, Read, ReadBytes, Say, SayForever, SayInBytes, SayInTwo,
        ShrinkWindow, Take, TakeAllBut, TakeUpTo,
    },
};

/// The batch has arrived, and nothing is sent again.
const TAKEN: Expect =
    Expect { delivered: All, lost: &[], is_doubtful: false, resend: Resend::Forbidden, heals_after: Some(1) };
/// The batch arrives in the end, by another attempt with the same bytes.
const RETRIED: Expect = Expect { resend: Resend::Required, ..TAKEN };
/// The batch is lost at the first answer; the next batch arrives.
const FINAL: Expect = Expect { delivered: Nothing, lost: &[REJECTED], ..TAKEN };
/// The batch has arrived, but the news of it may be lost with the connection.
const UNSEEN: Expect = Expect { resend: Resend::Allowed, ..TAKEN };
/// What came is no HTTP reply, so no rule says whether to try again, and nobody whether the batch was taken. Either is
/// right, if it is counted.
const UNCLEAR: Expect = Expect {
    delivered: AllIfSentAgain,
    lost: &[REJECTED],
    is_doubtful: true,
    resend: Resend::Allowed,
    heals_after: Some(1),
};
/// The collector asks for a wait that is beyond any that it gets: the batch waits, until the shutdown's deadline.
const TOO_LATE: Expect = Expect { lost: &[SHUTDOWN_DEADLINE], is_doubtful: false, ..UNCLEAR };
/// The collector may have the batch and never answers: nobody can know, and nothing is sent again while the connection
/// lives. The next batch arrives.
const UNANSWERED: Expect =
    Expect { delivered: Nothing, lost: &[RETRY_EXPIRED, SHUTDOWN_DEADLINE], is_doubtful: true, ..TAKEN };

/// A collector's limit on the bytes of a body in the row that has one.
const BODY_BYTES_MAX: usize = 16 << 10;
/// One byte more than a client may take in (HTTP-05).
const REPLY_BYTES: usize = (4 << 20) + 1;

const OK_LINE: &str = "HTTP/1.1 200 OK\r\n";
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

macro_rules! rows {
    ($($name:ident [$($rule:literal)*] $fault:expr, $begin:literal $end:ident => $expect:expr;)*) => {
        &[$(Row {
            name: stringify!($name),
            rules: &[$($rule),*],
            fault: $fault,
            shows: Shows { begin: $begin, end: $end },
            expect: $expect,
        }),*]
    };
}

/// Name, rules, fault, what a plain client sees, and what an exporter has to make of it.
pub const ROWS: &[Row] = rows! {
    // ---- No listener, or one that says nothing.
    closed_port ["HTTP-09"] ClosedPort, b"" Refused => Expect { heals_after: None, ..RETRIED };
    reset_before_reading ["HTTP-09"] AtAccept(&[Step::Reset]), b"" Reset => RETRIED;
    half_close_before_reading ["HTTP-09"] AtAccept(&[EndReplies, Read, Close]), b"" Closed => RETRIED;
    reset_in_mid_request ["HTTP-09"] AtAccept(&[ReadBytes(40), Step::Reset]), b"" Reset => RETRIED;
    close_in_mid_request ["HTTP-09"] AtAccept(&[ReadBytes(40), Close]), b"" Reset => RETRIED;
    reset_before_answering ["HTTP-09"] AtRequest(&[Read, Step::Reset]), b"" Reset => RETRIED;
    reset_after_taking ["HTTP-09"] AtRequest(&[Read, Take, Step::Reset]), b"" Reset => RETRIED;
    close_before_answering ["HTTP-09"] AtRequest(&[Read, Close]), b"" Closed => RETRIED;
    half_close_before_answering ["HTTP-09"] AtRequest(&[Read, EndReplies]), b"" Closed => RETRIED;
    black_hole_that_reads_nothing ["HTTP-09" "HTTP-15"] AtAccept(&[ShrinkWindow, Hold]), b"" Stuck => UNANSWERED;
    black_hole_that_reads_all ["HTTP-09" "HTTP-15"] AtRequest(&[Read, Hold]), b"" Silent => UNANSWERED;

    // ---- The reply breaks off.
    reset_in_reply_head ["HTTP-09"] AtRequest(&[Read, Say(|| OK_LINE.into()), Step::Reset]),
        b"HTTP/1.1 200 OK\r\n" Reset => RETRIED;
    reset_after_reply_head ["HTTP-09"] AtRequest(&[Read, Take, Say(|| head("Content-Length: 64\r\n")), Step::Reset]),
        b"HTTP/1.1 200 OK\r\n" Reset => TAKEN;
    reset_in_reply_body ["HTTP-09"] AtRequest(&[Read, Take, Say(|| lengthy("64", WARNING)), Step::Reset]),
        b"HTTP/1.1 200 OK\r\n" Reset => TAKEN;
    close_in_reply_head ["HTTP-09"] AtRequest(&[Read, Say(|| OK_LINE.into()), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => RETRIED;
    content_length_too_long ["HTTP-09"] AtRequest(&[Read, Take, Say(|| lengthy("64", WARNING)), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => TAKEN;
    chunks_without_end ["HTTP-09"] AtRequest(&[Read, Take, Say(|| chunked(b"5\r\nhello\r\n")), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => TAKEN;
    slow_loris_head ["HTTP-15"] AtRequest(&[Read, SayInBytes(|| head("Content-Length: 0\r\n"), SLOWLY)]),
        b"H" Slow => UNANSWERED;
    slow_loris_body ["HTTP-15"]
        AtRequest(&[Read, Take, Say(|| head("Content-Length: 64\r\n")), SayInBytes(|| vec![b'x'; 64], SLOWLY)]),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 64\r\n\r\n" Slow => TAKEN;

    // ---- The connection between two requests.
    idle_close ["HTTP-10" "HTTP-09"] AtRequest(&[Read, Take, Answer("200 OK", ""), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => TAKEN;
    idle_reset ["HTTP-10" "HTTP-09"] AtRequest(&[Read, Take, Answer("200 OK", ""), Step::Reset]),
        b"HTTP/1.1 200 OK\r\n" Reset => UNSEEN;
    reset_on_reuse ["HTTP-10" "HTTP-09"]
        AtRequest(&[Read, Take, Answer("200 OK", ""), AwaitNext, Step::Reset]), b"HTTP/1.1 200 OK\r\n" Reset => TAKEN;
    connection_close ["HTTP-10"] AtRequest(&[Read, Take, Answer("200 OK", "Connection: close\r\n"), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => TAKEN;

    // ---- Replies that are right, each in its way.
    reply_in_single_bytes ["HTTP-11"] AtRequest(&[Read, Take, SayInBytes(warning, Duration::from_micros(100))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    reply_cut_at_every_place ["HTTP-11"] AtRequest(&[Read, Take, SayInTwo(warning)]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    reply_in_chunks ["HTTP-18"] AtRequest(&[Read, Take, Say(|| chunked(CHUNKS))]), b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    reply_until_close ["HTTP-18"] AtRequest(&[Read, Take, Say(|| with_body(head(""), WARNING)), Close]),
        b"HTTP/1.1 200 OK\r\n" Closed => TAKEN;
    reply_of_http_1_0 ["HTTP-18"]
        AtRequest(&[Read, Take, Say(|| b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".into()), Close]),
        b"HTTP/1.0 200 OK\r\n" Closed => TAKEN;
    body_is_not_protobuf ["HTTP-11"] AtRequest(&[Read, Take, Say(|| lengthy("9", b"<html>\xFF\0\x80"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    // gzip was not asked for, so it need not be unpacked; the status counts.
    gzip_bomb_unasked ["HTTP-03" "HTTP-05"] AtRequest(&[Read, Take, Say(bomb)]), b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    status_204 ["HTTP-18"] AtRequest(&[Read, Take, Answer("204 No Content", "")]), b"HTTP/1.1 204 " Kept => TAKEN;
    continue_unasked ["HTTP-18"] AtRequest(&[Read, Take, Answer("100 Continue", ""), Answer("200 OK", "")]),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" Kept => TAKEN;
    early_hints ["HTTP-18"]
        AtRequest(&[Read, Take, Answer("103 Early Hints", "Link: </a>\r\n"), Answer("200 OK", "")]),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" Kept => TAKEN;

    // ---- Bytes after the reply, which must not pass for the next one.
    content_length_too_short ["HTTP-18"] AtRequest(&[Read, Take, Say(|| lengthy("0", WARNING))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    forged_reply_behind_the_reply ["HTTP-18"]
        AtRequest(&[Read, Take, Say(|| with_body(answer("200 OK", ""), &answer("400 Bad Request", "")))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;

    // ---- Partial success.
    one_span_rejected ["HTTP-11"] AtRequest(&[Read, TakeAllBut(1), Say(|| partial(1, "too old"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => Expect { delivered: AllBut(1), lost: &[PARTIALLY_REJECTED], ..TAKEN };
    more_rejected_than_sent ["HTTP-11"] AtRequest(&[Read, TakeAllBut(1_000_000), Say(|| partial(1_000_000, "no"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => Expect { delivered: Nothing, lost: &[PARTIALLY_REJECTED], ..TAKEN };
    largest_number_rejected ["HTTP-11"] AtRequest(&[Read, TakeAllBut(u64::MAX), Say(|| partial(i64::MAX, "no"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => Expect { delivered: Nothing, lost: &[PARTIALLY_REJECTED], ..TAKEN };
    negative_number_rejected ["HTTP-11"] AtRequest(&[Read, Take, Say(|| partial(-5, "no"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    warning_only ["HTTP-11"] AtRequest(&[Read, Take, Say(warning)]), b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    empty_partial_success ["HTTP-11"] AtRequest(&[Read, Take, Say(|| partial(0, ""))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;

    // ---- Answers that are final.
    status_301 ["HTTP-18"] AtRequest(&[Read, Answer("301 Moved Permanently", "Location: /moved/v1/traces\r\n")]),
        b"HTTP/1.1 301 " Kept => FINAL;
    status_307 ["HTTP-18"] AtRequest(&[Read, Answer("307 Temporary Redirect", "Location: /moved/v1/traces\r\n")]),
        b"HTTP/1.1 307 " Kept => FINAL;
    status_400 ["HTTP-06" "HTTP-12" "HTTP-13"] AtRequest(&[Read, Answer("400 Bad Request", "")]),
        b"HTTP/1.1 400 " Kept => FINAL;
    status_401 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("401 Unauthorized", "WWW-Authenticate: Bearer\r\n")]),
        b"HTTP/1.1 401 " Kept => FINAL;
    status_403 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("403 Forbidden", "")]), b"HTTP/1.1 403 " Kept => FINAL;
    status_404 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("404 Not Found", "")]), b"HTTP/1.1 404 " Kept => FINAL;
    status_408 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("408 Request Timeout", "Connection: close\r\n"), Close]),
        b"HTTP/1.1 408 " Closed => FINAL;
    status_411 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("411 Length Required", "")]),
        b"HTTP/1.1 411 " Kept => FINAL;
    status_431 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("431 Request Header Fields Too Large", "")]),
        b"HTTP/1.1 431 " Kept => FINAL;
    status_500 ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("500 Internal Server Error", "Retry-After: 0\r\n")]),
        b"HTTP/1.1 500 " Kept => FINAL;

    // ---- Too large: smaller requests, never the same again. The first row takes what is below its limit.
    status_413_above_a_limit ["HTTP-06" "HTTP-12"]
        AtRequest(&[Read, TakeUpTo { body_bytes: BODY_BYTES_MAX }, Answer("413 Content Too Large", "")]),
        b"HTTP/1.1 413 " Kept => Expect { heals_after: None, ..TAKEN };
    status_413_always ["HTTP-06" "HTTP-12"] AtRequest(&[Read, Answer("413 Content Too Large", "")]),
        b"HTTP/1.1 413 " Kept => Expect { lost: &[OVERSIZE], heals_after: None, ..FINAL };

    // ---- Answers that ask for another try.
    status_429 ["HTTP-06" "HTTP-08"] AtRequest(&[Read, Answer("429 Too Many Requests", "")]),
        b"HTTP/1.1 429 " Kept => RETRIED;
    status_502 ["HTTP-06" "HTTP-08"] AtRequest(&[Read, Answer("502 Bad Gateway", "")]),
        b"HTTP/1.1 502 " Kept => RETRIED;
    status_503 ["HTTP-06" "HTTP-08"] AtRequest(&[Read, Answer("503 Service Unavailable", "")]),
        b"HTTP/1.1 503 " Kept => RETRIED;
    status_504 ["HTTP-06" "HTTP-08"] AtRequest(&[Read, Answer("504 Gateway Timeout", "")]),
        b"HTTP/1.1 504 " Kept => RETRIED;
    // A gateway whose upstream takes the request, and whose word for that is lost on the way back.
    upstream_takes_and_the_gateway_says_502 ["HTTP-06" "HTTP-08"] AtRequest(&[Read, Take, Answer("502 Bad Gateway", "")]),
        b"HTTP/1.1 502 " Kept => RETRIED;
    upstream_takes_and_the_gateway_says_504 ["HTTP-06" "HTTP-08"]
        AtRequest(&[Read, Take, Answer("504 Gateway Timeout", "")]), b"HTTP/1.1 504 " Kept => RETRIED;
    status_503_and_close ["HTTP-06" "HTTP-08"]
        AtRequest(&[Read, Answer("503 Service Unavailable", "Connection: close\r\n"), Close]),
        b"HTTP/1.1 503 " Closed => RETRIED;
    retry_after_one_second ["HTTP-06" "HTTP-07"] AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: 1\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" Kept => RETRIED;
    throttled_for_one_second ["HTTP-06" "HTTP-07"]
        AtRequest(&[Read, Answer("429 Too Many Requests", "Retry-After: 1\r\n")]),
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n" Kept => RETRIED;
    retry_after_now ["HTTP-06" "HTTP-07"] AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: 0\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n" Kept => RETRIED;
    retry_after_a_date ["HTTP-06" "HTTP-07"] AtRequest(&[Read, Say(|| retry_after(Duration::from_secs(1)))]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: " Kept => RETRIED;
    retry_after_a_date_that_is_past ["HTTP-06" "HTTP-07"]
        AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: Sun, " Kept => RETRIED;
    retry_after_a_year ["HTTP-06" "HTTP-07" "HTTP-15"]
        AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: 31536000\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 31536000\r\n" Kept => TOO_LATE;
    retry_after_a_date_next_year ["HTTP-06" "HTTP-07" "HTTP-15"]
        AtRequest(&[Read, Say(|| retry_after(Duration::from_secs(31_536_000)))]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: " Kept => TOO_LATE;
    retry_after_beyond_numbers ["HTTP-06" "HTTP-07" "HTTP-15"]
        AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: 99999999999999999999999999\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 99999999999999999999999999\r\n" Kept => TOO_LATE;
    retry_after_a_negative_number ["HTTP-06" "HTTP-07"] AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: -1\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: -1\r\n" Kept => RETRIED;
    retry_after_garbage ["HTTP-06" "HTTP-07"] AtRequest(&[Read, Answer(UNAVAILABLE, "Retry-After: soon\r\n")]),
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: soon\r\n" Kept => RETRIED;

    // ---- Bodies above the limit: an error that is final.
    body_announced_above_the_limit ["HTTP-05" "HTTP-12"] AtRequest(&[Read, Take, Say(large)]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    body_in_chunks_above_the_limit ["HTTP-05" "HTTP-12"] AtRequest(&[Read, Take, Say(large_in_chunks)]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    body_without_end ["HTTP-05" "HTTP-12"] AtRequest(&[Read, Take, Say(|| chunked(b"")), SayForever(chunk)]),
        b"HTTP/1.1 200 OK\r\n" Endless => TAKEN;
    body_until_a_close_that_never_comes ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Take, Say(|| head("")), SayForever(|| vec![b'x'; 64 << 10])]),
        b"HTTP/1.1 200 OK\r\n" Endless => TAKEN;

    // ---- What is no reply of HTTP/1.1.
    early_hints_without_end ["HTTP-18"] AtRequest(&[Read, SayForever(|| answer("103 Early Hints", "").repeat(1024))]),
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 " Endless => UNCLEAR;
    switch_of_protocols_unasked ["HTTP-18"]
        AtRequest(&[Read, Answer("101 Switching Protocols", "Upgrade: h2c\r\nConnection: Upgrade\r\n"), Hold]),
        b"HTTP/1.1 101 " Silent => UNCLEAR;
    head_of_64_kib ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Say(|| head(&format!("X-Fill: {}\r\nContent-Length: 0\r\n", "x".repeat(64 << 10))))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    header_line_without_end ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Say(|| b"HTTP/1.1 200 OK\r\nX-Fill: ".into()), SayForever(|| vec![b'x'; 64 << 10])]),
        b"HTTP/1.1 200 OK\r\nX-Fill: xxxx" Endless => UNCLEAR;
    headers_without_end ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Say(|| OK_LINE.into()), SayForever(|| b"X-Fill: x\r\n".repeat(1024))]),
        b"HTTP/1.1 200 OK\r\nX-Fill: x\r\n" Endless => UNCLEAR;
    one_hundred_headers ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Say(|| head(&("X-Fill: x\r\n".repeat(100) + "Content-Length: 0\r\n")))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    chunk_size_of_letters ["HTTP-12"] AtRequest(&[Read, Take, Say(|| chunked(b"zz\r\nhello\r\n0\r\n\r\n"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    chunk_size_beyond_numbers ["HTTP-12"] AtRequest(&[Read, Take, Say(|| chunked(b"fffffffffffffffffffff\r\nhello"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    content_length_twice ["HTTP-12"]
        AtRequest(&[Read, Say(|| head("Content-Length: 0\r\nContent-Length: 0\r\n"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    content_lengths_that_conflict ["HTTP-12"]
        AtRequest(&[Read, Say(|| head("Content-Length: 0\r\nContent-Length: 5\r\n"))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    content_length_beside_chunks ["HTTP-12"]
        AtRequest(&[
            Read,
            Take,
            Say(|| with_body(head("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), CHUNK_END)),
        ]),
        b"HTTP/1.1 200 OK\r\n" Kept => TAKEN;
    content_length_negative ["HTTP-12"] AtRequest(&[Read, Say(|| lengthy("-1", b""))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    content_length_of_letters ["HTTP-12"] AtRequest(&[Read, Say(|| lengthy("zero", b""))]),
        b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    content_length_beyond_numbers ["HTTP-05" "HTTP-12"]
        AtRequest(&[Read, Say(|| lengthy("99999999999999999999999999", b""))]), b"HTTP/1.1 200 OK\r\n" Kept => UNCLEAR;
    reply_of_http_0_9 ["HTTP-09" "HTTP-12"] AtRequest(&[Read, Say(|| b"<html>fine</html>\n".into()), Close]),
        b"<html>fine</html>\n" Closed => UNCLEAR;
    garbage ["HTTP-09" "HTTP-12"] AtRequest(&[Read, Say(|| vec![0xFF; 300]), Close]),
        b"\xFF\xFF\xFF\xFF" Closed => UNCLEAR;
    // A plaintext request at a TLS port: `unexpected_message`, fatal.
    tls_alert ["HTTP-09" "HTTP-12"] AtRequest(&[Read, Say(|| b"\x15\x03\x03\x00\x02\x02\x0A".into()), Close]),
        b"\x15\x03\x03\x00\x02\x02\x0A" Closed => UNCLEAR;
    // An HTTP/1.1 request at a gRPC port: empty SETTINGS, then GOAWAY with PROTOCOL_ERROR.
    http_2_settings ["HTTP-01" "HTTP-09" "HTTP-12"]
        AtAccept(&[Say(|| H2_SETTINGS.into()), Read, Say(|| H2_GOAWAY.into()), Close]),
        b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07" Closed => UNCLEAR;
};

/// Slower than any sensible deadline on progress.
const SLOWLY: Duration = Duration::from_secs(1);
const UNAVAILABLE: &str = "503 Service Unavailable";
/// `ExportTraceServiceResponse { partial_success: { error_message: "old" } }`.
const WARNING: &[u8] = b"\x0A\x05\x12\x03old";
/// The same in chunks, with an extension and a trailer.
const CHUNKS: &[u8] = b"3;part=1\r\n\x0A\x05\x12\r\n4\r\n\x03old\r\n0\r\nX-Trailer: x\r\n\r\n";
const H2_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const H2_GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

/// A whole reply. An error has a body: `google.rpc.Status { code: 13, message: "no" }`.
pub fn answer(status: &str, headers: &str) -> Vec<u8> {
    let body: &[u8] = match status.as_bytes()[0] {
        b'4' | b'5' => b"\x08\x0D\x12\x02no",
        _ => b"",
    };
    let length = match status.as_bytes()[0] {
        b'1' => String::new(),
        _ if status.starts_with("204") => String::new(),
        _ => format!("{PROTOBUF}Content-Length: {}\r\n", body.len()),
    };
    with_body(format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n").into(), body)
}

/// The head of a success with these headers.
fn head(headers: &str) -> Vec<u8> {
    format!("{OK_LINE}{PROTOBUF}{headers}\r\n").into()
}

fn with_body(mut reply: Vec<u8>, body: &[u8]) -> Vec<u8> {
    reply.extend_from_slice(body);
    reply
}

fn lengthy(length: &str, body: &[u8]) -> Vec<u8> {
    with_body(head(&format!("Content-Length: {length}\r\n")), body)
}

fn chunked(chunks: &[u8]) -> Vec<u8> {
    with_body(head("Transfer-Encoding: chunked\r\n"), chunks)
}

/// A success but for so many spans.
pub(super) fn partial(rejected_spans: i64, error_message: &str) -> Vec<u8> {
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.into() });
    let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    lengthy(&body.len().to_string(), &body)
}

fn warning() -> Vec<u8> {
    partial(0, "old")
}

fn bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&vec![0; 2 * REPLY_BYTES]).expect("a vector takes everything");
    let body = gzip.finish().expect("a vector takes everything");
    with_body(head(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", body.len())), &body)
}

fn large() -> Vec<u8> {
    lengthy(&REPLY_BYTES.to_string(), &vec![0; REPLY_BYTES])
}

fn large_in_chunks() -> Vec<u8> {
    chunked(&with_body(chunk().repeat(REPLY_BYTES / CHUNK_BYTES + 1), CHUNK_END))
}

const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_END: &[u8] = b"0\r\n\r\n";

fn chunk() -> Vec<u8> {
    with_body(format!("{CHUNK_BYTES:x}\r\n").into(), &with_body(vec![0; CHUNK_BYTES], b"\r\n"))
}

fn retry_after(wait: Duration) -> Vec<u8> {
    answer(UNAVAILABLE, &format!("Retry-After: {}\r\n", http_date(SystemTime::now() + wait)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, of RFC 9110, section 5.6.7.
pub fn http_date(time: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("it is past 1970").as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let weekday = WEEKDAYS[usize::try_from(days % 7).expect("it is below seven")];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1, MONTHS[month])
}
