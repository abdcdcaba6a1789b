//! Any headers as a trace context: read as a plain reading of W3C Trace Context Level 2 has it, and written back so
//! that they are read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanring::{SpanContext, TraceState, propagate::trace_context};

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// Trace, span and flags of a header, by its parts.
fn parent(header: &[u8]) -> Option<(String, String, u8)> {
    let text = str::from_utf8(header).ok()?.trim_matches([' ', '\t']);
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, span, flags, rest @ ..] = &parts[..] else {
        return None;
    };
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit))
    };
    let is_zero = |part: &str| part.chars().all(|digit| digit == '0');
    let is_good = is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && is_hex(flags, 2)
        && *version != "ff"
        && (*version != "00" || rest.is_empty())
        && !is_zero(trace)
        && !is_zero(span);
    let flags = u8::from_str_radix(flags, 16).ok()? & 0x03;
    is_good.then(|| ((*trace).to_owned(), (*span).to_owned(), flags))
}

/// The members of all headers, if every one is good.
fn state(headers: &Headers<'_>) -> TraceState {
    let values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("tracestate")).map(|(_, value)| value);
    let texts: Result<Vec<&str>, _> = values.map(|value| str::from_utf8(value)).collect();
    texts.ok().and_then(|texts| TraceState::new(&texts.join(",")).ok()).unwrap_or_default()
}

fuzz_target!(|headers: Headers<'_>| {
    let parents: Vec<_> = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("traceparent")).collect();
    let expected = match parents[..] {
        [(_, header)] => parent(header),
        _ => None,
    };
    let found = trace_context::extract(&headers[..]);
    let ids =
        |context: &SpanContext| (context.trace_id().to_string(), context.span_id().to_string(), context.trace_flags());
    assert_eq!(found.as_ref().map(ids), expected);
    let Some(context) = found else {
        return;
    };
    assert_eq!(context.trace_state(), &state(&headers));
    let mut written: Vec<(String, String)> = vec![];
    trace_context::inject(&context, &mut written);
    assert_eq!(trace_context::extract(&written), Some(context));
});
