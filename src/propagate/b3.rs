//! B3, the format of Zipkin: the header `b3`, or one `x-b3-…` for each part.
//!
//! The debug flag reads as sampled. It is not carried on: no span has a place for it. Ids without a decision leave
//! [sampling to be decided here](SpanContext::undecided). A decision without ids is no context.

use arrayvec::ArrayVec;

use super::{
    Dropped, Extractor, Injector,
    trace_context::{put_hex, trim},
};
use crate::{
    context::{SpanContext, TraceState},
    record::{SpanId, TraceId, flags, from_lower_hex},
};

/// The header that [`inject`] sets, and that [`extract`] reads first.
pub const FIELDS: [&str; 1] = [SINGLE];
/// The headers that [`inject_multi`] sets, and that [`extract`] reads without a good one of the other form.
pub const MULTI_FIELDS: [&str; 3] = [TRACE_ID, SPAN_ID, SAMPLED];

const SINGLE: &str = "b3";
const TRACE_ID: &str = "x-b3-traceid";
const SPAN_ID: &str = "x-b3-spanid";
const SAMPLED: &str = "x-b3-sampled";
/// Read only: `1` is debug.
const FLAGS: &str = "x-b3-flags";

/// The caller's span, from the single header if that is good, else from the others.
#[must_use]
pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Option<SpanContext> {
    let single = first(carrier, SINGLE, parse);
    let (trace_id, span_id, decision) = single.or_else(|| {
        let trace_id = first(carrier, TRACE_ID, trace_id)?;
        let span_id = first(carrier, SPAN_ID, span_id)?;
        let debug = first(carrier, FLAGS, |value| (value == b"1").then_some(true));
        Some((trace_id, span_id, debug.or_else(|| first(carrier, SAMPLED, is_sampled))))
    })?;
    let trace_flags = if decision == Some(true) { flags::SAMPLED } else { 0 };
    let context = SpanContext::remote(trace_id, span_id, trace_flags, TraceState::default());
    Some(if decision.is_none() { context.undecided() } else { context })
}

/// Names this span as the caller's, in the single header. An invalid context sets nothing.
pub fn inject(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) -> Dropped {
    if !context.is_valid() {
        return Dropped::default();
    }
    let (trace, span, sampled) = write(context);
    let ids = [&trace[..], b"-", &span];
    let decision = sampled.into_iter().flat_map(|sampled| [&b"-"[..], sampled.as_bytes()]);
    let header: ArrayVec<u8, SINGLE_LEN> = ids.into_iter().chain(decision).flatten().copied().collect();
    set(carrier, [(SINGLE, text(&header))])
}

/// As [`inject`], in a header for each part.
pub fn inject_multi(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) -> Dropped {
    if !context.is_valid() {
        return Dropped::default();
    }
    let (trace, span, sampled) = write(context);
    let ids = [(TRACE_ID, text(&trace)), (SPAN_ID, text(&span))];
    if sampled.is_none() {
        carrier.unset(SAMPLED);
    }
    set(carrier, ids.into_iter().chain(sampled.map(|sampled| (SAMPLED, sampled))))
}

/// `trace_id-span_id-sampled`.
const SINGLE_LEN: usize = 32 + 1 + 16 + 1 + 1;

/// What the first value of this name says, without white space around it.
fn first<T>(carrier: &(impl Extractor + ?Sized), name: &str, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut found = None;
    carrier.values(name, &mut |value| {
        found.get_or_insert_with(|| read(trim(value)));
    });
    found.flatten()
}

/// `trace_id-span_id[-sampled[-parent_span_id]]`. The caller's own parent is of no use here.
fn parse(header: &[u8]) -> Option<(TraceId, SpanId, Option<bool>)> {
    let mut parts = header.split(|&byte| byte == b'-');
    let (trace_id, span_id) = (trace_id(parts.next()?)?, span_id(parts.next()?)?);
    let decision = match parts.next() {
        None => None,
        Some(b"0") => Some(false),
        Some(b"1" | b"d") => Some(true),
        Some(_) => return None,
    };
    let is_parent = parts.next().is_none_or(|parent| hex::<8>(parent).is_some());
    (is_parent && parts.next().is_none()).then_some((trace_id, span_id, decision))
}

/// Older tracers wrote it as a word.
fn is_sampled(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" => Some(true),
        word if word.eq_ignore_ascii_case(b"false") => Some(false),
        word if word.eq_ignore_ascii_case(b"true") => Some(true),
        _ => None,
    }
}

/// Of 16 bytes, or of the last 8 alone.
fn trace_id(digits: &[u8]) -> Option<TraceId> {
    let short = || hex(digits).map(|low| u128::from(u64::from_be_bytes(low)).to_be_bytes());
    hex(digits).or_else(short).map(TraceId).filter(|id| id.is_valid())
}

fn span_id(digits: &[u8]) -> Option<SpanId> {
    hex(digits).map(SpanId).filter(|id| id.is_valid())
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    (digits.len() == 2 * N).then(|| from_lower_hex(digits)).flatten()
}

/// Trace and span in hex, and the decision, if it is made.
fn write(context: &SpanContext) -> ([u8; 32], [u8; 16], Option<&'static str>) {
    let (mut trace, mut span) = ([0; 32], [0; 16]);
    put_hex(&context.trace_id().0, &mut trace);
    put_hex(&context.span_id().0, &mut span);
    let decision = if context.is_sampled() { "1" } else { "0" };
    (trace, span, (!context.is_undecided()).then_some(decision))
}

fn set<'a>(
    carrier: &mut (impl Injector + ?Sized),
    fields: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Dropped {
    let mut dropped = Dropped::default();
    for (name, value) in fields {
        dropped.fields += u32::from(carrier.set(name, value).is_err());
    }
    dropped
}

fn text(digits: &[u8]) -> &str {
    str::from_utf8(digits).expect("hex digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    const PARENT: &str = "00f067aa0ba902b7";

    type Pairs = Vec<(String, String)>;

    fn headers(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What the headers say: ids, and whether the trace is sampled.
    fn read(pairs: &[(&str, &str)]) -> Option<(String, String, Option<bool>)> {
        let context = extract(&headers(pairs))?;
        assert!(context.is_remote() && context.trace_state().is_empty());
        assert_eq!(context.trace_flags() & !flags::SAMPLED, 0);
        let decision = (!context.is_undecided()).then(|| context.is_sampled());
        Some((context.trace_id().to_string(), context.span_id().to_string(), decision))
    }

    fn found(decision: Option<bool>) -> Option<(String, String, Option<bool>)> {
        Some((TRACE.into(), SPAN.into(), decision))
    }

    fn context(is_sampled: bool) -> SpanContext {
        extract(&headers(&[("b3", &format!("{TRACE}-{SPAN}-{}", u8::from(is_sampled)))])).unwrap()
    }

    #[test]
    fn b3_01_single_header_is_read_to_the_letter() {
        for (rest, decision) in [("", None), ("-0", Some(false)), ("-1", Some(true)), ("-d", Some(true))] {
            for parent in ["", &format!("-{PARENT}")] {
                if rest.is_empty() && !parent.is_empty() {
                    continue;
                }
                let text = format!(" {TRACE}-{SPAN}{rest}{parent}\t");
                assert_eq!(read(&[("B3", &text)]), found(decision), "{text}");
            }
        }
        let short = read(&[("b3", &format!("{}-{SPAN}-1", &TRACE[16..]))]);
        assert_eq!(short, Some((format!("{}{}", "0".repeat(16), &TRACE[16..]), SPAN.into(), Some(true))));
        for bad in [
            "",
            "0",
            "1",
            "d",
            TRACE,
            &format!("{TRACE}-"),
            &format!("{TRACE}-{SPAN}-"),
            &format!("{TRACE}-{SPAN}-x"),
            &format!("{TRACE}-{SPAN}-10"),
            &format!("{TRACE}-{SPAN}-1-"),
            &format!("{TRACE}-{SPAN}-{PARENT}"),
            &format!("{TRACE}-{SPAN}-1-{PARENT}-"),
            &format!("{TRACE}-{SPAN}-1-{}", &PARENT[1..]),
            &format!("{TRACE}-{}-1", &SPAN[1..]),
            &format!("{}-{SPAN}-1", &TRACE[1..]),
            &format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            &format!("{}-{SPAN}-1", TRACE.replace('0', "g")),
            &format!("{}-{SPAN}-1", "0".repeat(32)),
            &format!("{}-{SPAN}-1", "0".repeat(16)),
            &format!("{TRACE}-{}-1", "0".repeat(16)),
            &format!("{TRACE}ä{SPAN}-1"),
        ] {
            assert_eq!(read(&[("b3", bad)]), None, "{bad}");
        }
    }

    /// The debug flag implies sampled; the caller's span id is that of the parent of ours, and its own parent nothing.
    #[test]
    fn b3_01_multi_headers_are_read_without_a_good_single_one() {
        let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN), ("X-B3-ParentSpanId", PARENT)];
        let with = |more: &[(&'static str, &'static str)]| read(&[&ids[..], more].concat());
        assert_eq!(with(&[]), found(None));
        let (yes, no) = (Some(true), Some(false));
        for (value, decision) in
            [("1", yes), ("0", no), ("true", yes), ("False", no), (" 1 ", yes), ("", None), ("2", None)]
        {
            assert_eq!(with(&[("X-B3-Sampled", value)]), found(decision), "{value}");
        }
        assert_eq!(with(&[("X-B3-Flags", "1")]), found(Some(true)));
        assert_eq!(with(&[("X-B3-Flags", "1"), ("X-B3-Sampled", "0")]), found(Some(true)));
        assert_eq!(with(&[("X-B3-Flags", "0"), ("X-B3-Sampled", "0")]), found(Some(false)));
        assert_eq!(with(&[("b3", "0")]), found(None), "a single header that is no context");
        let other = format!("{}-{PARENT}-0", "1".repeat(32));
        assert_eq!(
            with(&[("b3", &*other.leak()), ("X-B3-Flags", "1")]),
            Some(("1".repeat(32), PARENT.into(), Some(false)))
        );
        assert_eq!(read(&[("x-b3-traceid", &TRACE[16..]), ("x-b3-spanid", SPAN)]).unwrap().0[16..], TRACE[16..]);
        for bad in [&ids[..1], &ids[1..], &[("X-B3-Sampled", "1")], &[("X-B3-TraceId", TRACE), ("X-B3-SpanId", TRACE)]]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        // PRP-03: of several values the first counts.
        assert_eq!(with(&[("X-B3-TraceId", "x"), ("X-B3-Sampled", "1"), ("X-B3-Sampled", "0")]), found(Some(true)));
    }

    #[test]
    fn b3_02_single_is_one_header_and_multi_three_without_the_parent() {
        for (is_sampled, digit) in [(true, "1"), (false, "0")] {
            let context = context(is_sampled);
            let (mut single, mut multi) = (Pairs::new(), Pairs::new());
            assert_eq!(inject(&context, &mut single), Dropped::default());
            assert_eq!(inject_multi(&context, &mut multi), Dropped::default());
            assert_eq!(single, headers(&[("b3", &format!("{TRACE}-{SPAN}-{digit}"))]));
            let fields = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", digit)];
            assert_eq!(multi, headers(&fields));
            assert_eq!((extract(&single), extract(&multi)), (Some(context.clone()), Some(context)));
        }
        let undecided = context(true).undecided();
        let (mut single, mut multi) = (Pairs::new(), headers(&[("x-b3-sampled", "1")]));
        inject(&undecided, &mut single);
        inject_multi(&undecided, &mut multi);
        assert_eq!(single, headers(&[("b3", &format!("{TRACE}-{SPAN}"))]), "whoever comes next decides");
        assert_eq!(multi, headers(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)]));
        assert_eq!((FIELDS, MULTI_FIELDS), (["b3"], ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"]));
        let mut none = Pairs::new();
        assert_eq!(inject(&SpanContext::default(), &mut none), Dropped::default());
        assert_eq!(inject_multi(&SpanContext::default(), &mut none), Dropped::default());
        assert!(none.is_empty());
    }
}
