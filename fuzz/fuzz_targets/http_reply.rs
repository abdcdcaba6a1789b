//! Any bytes as a reply, in any pieces: never a panic, the same result as in one piece, no more kept than is allowed,
//! and what is read is what ureq-proto reads, where it reads it at all.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spanring::internals::transport::{
    BODY_BYTES_KEPT, BODY_BYTES_MAX, Reply, ReplyError, ReplyReader, RetryAfter, Verdict, classify,
};
use ureq_proto::{
    client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult},
    http::Request,
};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    is_connect: bool,
    /// Lengths of the pieces, over and over.
    cuts: Vec<u8>,
    /// What stands in front of the rest: without it, few inputs get past the status line.
    opening: Opening,
    rest: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Opening {
    Nothing,
    Status,
    Sized,
    Chunked,
    Interim,
    Busy,
}

impl Opening {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"",
            Self::Status => b"HTTP/1.1 200 OK\r\n",
            Self::Sized => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n",
            Self::Chunked => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            Self::Interim => b"HTTP/1.1 100 Continue\r\n\r\n",
            Self::Busy => b"HTTP/1.1 503 Busy\r\nretry-after: ",
        }
    }
}

/// What a stream comes to: a reply and what was used of the stream, or an error.
type Outcome = Result<(Reply, usize), ReplyError>;

fn read<'a>(is_connect: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = if is_connect { ReplyReader::for_connect() } else { ReplyReader::new() };
    let mut used = 0;
    for piece in pieces {
        let fed = reader.feed(piece)?;
        used += fed.used;
        assert!(reader.has_begun());
        if let Some(reply) = fed.reply {
            assert_eq!(reader.feed(b"x"), Err(ReplyError::Over));
            return Ok((reply, used));
        }
        assert_eq!(fed.used, piece.len(), "all is taken while more is wanted");
    }
    reader.end().map(|reply| (reply, used))
}

fn pieces<'a>(mut bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    cuts.iter().chain(&[u8::MAX]).cycle().map_while(move |&cut| {
        let (piece, rest) = bytes.split_at(usize::from(cut.max(1)).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Status, body, and whether the connection may be used again, as ureq-proto sees them; `None` where it reads no reply.
fn other_reader(mut input: &[u8]) -> Option<(u16, Vec<u8>, bool)> {
    let request = Request::post("http://h/").header("content-length", "0").body(()).ok()?;
    let mut call = Call::new(request).ok()?.proceed();
    call.write(&mut [0; 1024]).ok()?;
    let mut call = match call.proceed().ok()?? {
        SendRequestResult::RecvResponse(call) => call,
        SendRequestResult::SendBody(mut call) => {
            call.write(&[], &mut [0; 64]).ok()?;
            call.proceed()?
        }
        SendRequestResult::Await100(_) => return None,
    };
    let status = loop {
        let (used, response) = call.try_response(input, false).ok()?;
        input = &input[used..];
        match response {
            Some(response) => break response.status().as_u16(),
            None if used == 0 => return None,
            None => {}
        }
    };
    let mut body = Vec::new();
    let end = match call.proceed()? {
        RecvResponseResult::RecvBody(mut call) => {
            let mut space = [0; 512];
            loop {
                let (used, len) = call.read(input, &mut space).ok()?;
                input = &input[used..];
                body.extend_from_slice(&space[..len]);
                if used == 0 && len == 0 {
                    break;
                }
            }
            call.proceed()?
        }
        RecvResponseResult::Redirect(call) => return Some((status, body, !call.must_close_connection())),
        RecvResponseResult::Cleanup(call) => return Some((status, body, !call.must_close_connection())),
    };
    let closes = match end {
        RecvBodyResult::Redirect(call) => call.must_close_connection(),
        RecvBodyResult::Cleanup(call) => call.must_close_connection(),
    };
    Some((status, body, !closes))
}

fn check_by_other_reader(reply: &Reply, bytes: &[u8]) {
    let Some((status, body, keeps_alive)) = other_reader(bytes) else {
        return;
    };
    assert_eq!((reply.status, reply.keeps_alive), (status, keeps_alive));
    assert_eq!(reply.body_len, body.len());
    // A compressed body is not kept.
    let kept = if reply.body.is_empty() { &[] } else { &body[..body.len().min(BODY_BYTES_KEPT)] };
    assert_eq!(reply.body, kept);
}

fuzz_target!(|case: Case<'_>| {
    let bytes = [case.opening.bytes(), case.rest].concat();
    let whole = Some(bytes.as_slice()).filter(|bytes| !bytes.is_empty());
    let outcome = read(case.is_connect, whole.into_iter());
    assert_eq!(read(case.is_connect, pieces(&bytes, &case.cuts)), outcome, "the cuts do not matter");
    match outcome {
        Ok((reply, used)) => {
            assert!(used <= bytes.len());
            if !case.is_connect {
                check_by_other_reader(&reply, &bytes);
            }
            assert!((200..=999).contains(&reply.status));
            assert!(reply.body.len() <= reply.body_len.min(BODY_BYTES_KEPT));
            assert!(reply.body_len <= BODY_BYTES_MAX.min(bytes.len()));
            let is_retried = matches!(classify(&reply), Verdict::Retry { .. });
            assert_eq!(is_retried, matches!(reply.status, 429 | 502 | 503 | 504));
            if let Some(RetryAfter::At(seconds)) = reply.retry_after {
                assert!(seconds < 253_402_300_800, "the year 9999 is the last that a date can say");
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
