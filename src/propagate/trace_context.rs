//! W3C Trace Context, Level 2: the headers `traceparent` and `tracestate`.

use super::{Dropped, Extractor, Injector};
use crate::{
    context::{SpanContext, TraceState},
    record::{SpanId, TraceId, flags, from_lower_hex},
};

/// The headers that [`inject`] sets, and [`extract`] reads.
pub const FIELDS: [&str; 2] = [TRACEPARENT, TRACESTATE];

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// `version-trace_id-span_id-flags`, in hex.
const TRACEPARENT_LEN: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// The caller's span; `None` without exactly one good `traceparent`. A `tracestate` that is malformed is left out, and
/// is of no weight for the rest.
#[must_use]
pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Option<SpanContext> {
    let (mut parent, mut count) = (None, 0);
    carrier.values(TRACEPARENT, &mut |value| {
        count += 1;
        parent = parse(value);
    });
    // TPA-02: of two nobody knows which is meant.
    let (trace_id, span_id, trace_flags) = parent.filter(|_| count == 1)?;
    Some(SpanContext::remote(trace_id, span_id, trace_flags, trace_state(carrier)))
}

/// Names this span as the caller's. An invalid context changes nothing; an empty trace state takes out one that was
/// there, because it belonged to another span. Says how many fields the carrier refused.
pub fn inject(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) -> Dropped {
    if !context.is_valid() {
        return Dropped::default();
    }
    let header = write(context);
    let parent = carrier.set(TRACEPARENT, str::from_utf8(&header).expect("hex digits and dashes"));
    // Nobody reads a trace state that comes alone (TPA-07).
    let state = match context.trace_state() {
        state if state.is_empty() => {
            carrier.unset(TRACESTATE);
            Ok(())
        }
        state => parent.and_then(|()| carrier.set(TRACESTATE, state.as_str())),
    };
    Dropped { fields: u32::from(parent.is_err()) + u32::from(state.is_err()), ..Dropped::default() }
}

/// All headers `tracestate`, joined in their order (TST-04).
fn trace_state(carrier: &(impl Extractor + ?Sized)) -> TraceState {
    let mut members = Some(TraceState::reader());
    carrier.values(TRACESTATE, &mut |value| {
        let text = str::from_utf8(value).ok();
        members = members.take().zip(text).and_then(|(members, text)| members.read(text).ok());
    });
    members.map(|members| members.finish()).unwrap_or_default()
}

/// The trace, the span and the flags of a `traceparent`.
fn parse(header: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (fixed, rest) = trim(header).split_first_chunk::<TRACEPARENT_LEN>()?;
    let [version] = from_lower_hex(&fixed[..2])?;
    // A later version may append fields to those of ours (TPA-04).
    let is_end_known = match version {
        0x00 => rest.is_empty(),
        0xFF => false,
        _ => rest.first().is_none_or(|&byte| byte == b'-'),
    };
    let is_parted = [2, 35, 52].into_iter().all(|at| fixed[at] == b'-');
    let (trace, span, [flags]) = (
        TraceId(from_lower_hex(&fixed[3..35])?),
        SpanId(from_lower_hex(&fixed[36..52])?),
        from_lower_hex(&fixed[53..])?,
    );
    (is_end_known && is_parted && trace.is_valid() && span.is_valid()).then_some((trace, span, flags & KNOWN_FLAGS))
}

/// Of version 00, whatever version it came in.
fn write(context: &SpanContext) -> [u8; TRACEPARENT_LEN] {
    let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
    put_hex(&context.trace_id().0, &mut header[3..35]);
    put_hex(&context.span_id().0, &mut header[36..52]);
    put_hex(&[context.trace_flags() & KNOWN_FLAGS], &mut header[53..]);
    header
}

/// Others are not for us to pass on (TPA-05).
const KNOWN_FLAGS: u8 = flags::SAMPLED | flags::RANDOM;

/// Without white space around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

pub(super) fn put_hex(bytes: &[u8], digits: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xF)];
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    type Pairs = Vec<(String, String)>;

    fn headers(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn of(traceparent: &str) -> Option<SpanContext> {
        extract(&headers(&[(TRACEPARENT, traceparent)]))
    }

    fn good() -> String {
        format!("00-{TRACE}-{SPAN}-01")
    }

    /// The trace state beside a good `traceparent`.
    fn state_of(tracestates: &[&str]) -> String {
        let mut pairs = headers(&[(TRACEPARENT, &good())]);
        pairs.extend(tracestates.iter().map(|value| (TRACESTATE.to_owned(), (*value).to_owned())));
        extract(&pairs).expect("a bad tracestate never affects the traceparent").trace_state().as_str().to_owned()
    }

    fn injected(context: &SpanContext) -> Pairs {
        let mut carrier = Pairs::new();
        inject(context, &mut carrier);
        carrier
    }

    #[test]
    fn tpa_03_version_00_is_read_to_the_letter() {
        let context = of(&good()).unwrap();
        assert_eq!((context.trace_id().to_string(), context.span_id().to_string()), (TRACE.into(), SPAN.into()));
        assert!(context.is_remote() && context.is_sampled() && context.trace_state().is_empty());
        assert!(!of(&format!("00-{TRACE}-{SPAN}-00")).unwrap().is_sampled());

        let zeros = "0".repeat(32);
        let bad = [
            String::new(),
            "00".into(),
            good()[..54].into(),
            format!("{}0", good()),
            format!("{}-", good()),
            format!("{}-more", good()),
            good().replace('-', "_"),
            good().replacen('-', ".", 1),
            good().to_uppercase(),
            good().replace('f', "F"),
            good().replace('c', "g"),
            good().replace('9', "ä"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}- 1"),
            format!("00-{SPAN}-{TRACE}-01"),
        ];
        for text in bad {
            assert_eq!(of(&text), None, "{text}");
        }
    }

    #[test]
    fn tpa_02_only_one_traceparent_counts_and_white_space_around_it_does_not() {
        assert_eq!(extract(&headers(&[(TRACEPARENT, &good()), (TRACEPARENT, &good())])), None);
        assert_eq!(extract(&headers(&[("TraceParent", &good()), (TRACEPARENT, "x")])), None);
        assert_eq!(extract(&headers(&[])), None);
        for text in [format!(" {}", good()), format!("{}\t ", good()), format!("\t {} \t", good())] {
            assert_eq!(of(&text), of(&good()), "{text:?}");
        }
        assert_eq!(of(&format!("{}\n", good())), None);
    }

    /// TPA-01, TPA-04: names in any case; a later version is read as far as it is known, and leaves as version 00.
    #[test]
    fn tpa_04_later_versions_are_read_by_their_known_fields() {
        for (text, is_good) in [
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"), true),
            (format!("cc-{TRACE}-{SPAN}-01.what"), false),
            (format!("cc-{TRACE}-{SPAN}-011"), false),
            (format!("fe-{TRACE}-{SPAN}-01"), true),
        ] {
            let context = extract(&headers(&[("TRACEPARENT", &text)]));
            assert_eq!(context.is_some(), is_good, "{text}");
            if let Some(context) = context {
                assert_eq!(injected(&context), headers(&[(TRACEPARENT, &good())]));
            }
        }
    }

    /// TPA-05, TPA-06: the two flags that are known go on as they came, the others do not.
    #[test]
    fn tpa_06_known_flags_are_copied_and_unknown_ones_dropped() {
        for byte in 0..=255_u8 {
            let context = of(&format!("00-{TRACE}-{SPAN}-{byte:02x}")).unwrap();
            assert_eq!(context.trace_flags(), byte & 0x03);
            assert_eq!(injected(&context)[0].1, format!("00-{TRACE}-{SPAN}-{:02x}", byte & 0x03));
        }
        let ours = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 0xFF, TraceState::default());
        assert!(injected(&ours)[0].1.ends_with("-03"));
    }

    #[test]
    fn tpa_07_trace_state_counts_only_beside_a_good_traceparent() {
        assert_eq!(extract(&headers(&[(TRACESTATE, "a=1")])), None);
        assert_eq!(extract(&headers(&[(TRACEPARENT, "bad"), (TRACESTATE, "a=1")])), None);
        assert_eq!(state_of(&["a=1"]), "a=1");
        for bad in ["a", "a=1,B=2", "a=1,=", "ä=1"] {
            assert_eq!(state_of(&[bad]), "", "{bad}");
        }
        let invalid = [(TRACEPARENT, good().into_bytes()), (TRACESTATE, vec![b'a', b'=', 0xFF])];
        assert!(extract(&invalid[..]).unwrap().trace_state().is_empty());
    }

    /// TST-03, TST-04, TST-05: several headers are one list; one malformed member, or a 33rd, drops all of it.
    #[test]
    fn tst_04_repeated_headers_are_joined_in_order() {
        assert_eq!(state_of(&["a=1,b=2", "c=3"]), "a=1,b=2,c=3");
        assert_eq!(state_of(&[" a=1\t,, ", "", "\t", " b= x"]), "a=1,b= x");
        assert_eq!(state_of(&["a=1", "b"]), "");
        assert_eq!(state_of(&["b", "a=1"]), "");
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        assert_eq!(state_of(&[&many[..16].join(","), &many[16..32].join(",")]), many[..32].join(","));
        assert_eq!(state_of(&[&many[..16].join(","), &many[16..].join(",")]), "");
    }

    /// TST-06: of equal keys the first stays, which is the newest.
    #[test]
    fn tst_06_first_of_equal_keys_stays() {
        assert_eq!(state_of(&["foo=1,foo=1"]), "foo=1");
        assert_eq!(state_of(&["foo=1,bar=2", "foo=3,baz=4"]), "foo=1,bar=2,baz=4");
    }

    /// PRP-06: a valid span is always named; a trace state only if it has members.
    #[test]
    fn prp_06_valid_contexts_are_injected() {
        let context = SpanContext::remote(TraceId([0xAB; 16]), SpanId([0xCD; 8]), 1, TraceState::new("a=1").unwrap());
        let parent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
        assert_eq!(injected(&context), headers(&[(TRACEPARENT, &parent), (TRACESTATE, "a=1")]));
        assert_eq!(injected(&SpanContext::default()), headers(&[]));
        let mut carrier = headers(&[("Traceparent", "old"), ("x", "y")]);
        inject(&context, &mut carrier);
        assert_eq!(carrier.len(), 3);
        let stateless = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default());
        inject(&stateless, &mut carrier);
        assert_eq!(carrier.len(), 2, "a trace state of another span does not stay");
        assert_eq!(FIELDS, ["traceparent", "tracestate"]);
    }

    proptest! {
        /// What leaves comes back.
        #[test]
        fn injected_contexts_are_extracted_as_they_were(
            trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in 0..4_u8, members in 0..32_usize,
        ) {
            let state: Vec<String> = (0..members).map(|number| format!("k{number}={number}")).collect();
            let state = TraceState::new(&state.join(",")).unwrap();
            let context = SpanContext::remote(TraceId(trace), SpanId(span), flags, state);
            let back = extract(&injected(&context));
            prop_assert_eq!(back, context.is_valid().then_some(context));
        }
    }
}
