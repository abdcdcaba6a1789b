//! The identity of a span, which others may know: ids, flags, trace state, and links by them.

use std::{fmt, sync::Arc};

use crate::record::{Finish, Key, SpanId, Stamp, TraceId, Value, flags};

/// The identity of a span: its ids, trace flags and trace state. It never changes, not even when the span ends.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct SpanContext {
    /// The trace id in two halves, which stay in registers where sixteen bytes would pass through memory.
    trace_high: u64,
    trace_low: u64,
    span_id: u64,
    trace_flags: u8,
    is_remote: bool,
    trace_state: TraceState,
}

impl SpanContext {
    /// The context of a span in another process, as received in headers.
    #[must_use]
    pub fn remote(trace_id: TraceId, span_id: SpanId, trace_flags: u8, trace_state: TraceState) -> Self {
        let (trace_high, trace_low) = trace_id.halves();
        Self { trace_high, trace_low, span_id: span_id.number(), trace_flags, is_remote: true, trace_state }
    }

    #[inline]
    pub(crate) fn local(ids: (u64, u64, u64), trace_flags: u8, trace_state: TraceState) -> Self {
        let (trace_high, trace_low, span_id) = ids;
        Self { trace_high, trace_low, span_id, trace_flags, is_remote: false, trace_state }
    }

    /// What a record gets at the span's end.
    #[inline(always)]
    pub(crate) fn finish(&self, end: Stamp) -> Finish {
        Finish { trace: (self.trace_high, self.trace_low), span: self.span_id, end }
    }

    #[inline]
    pub(crate) fn trace_halves(&self) -> (u64, u64) {
        (self.trace_high, self.trace_low)
    }

    /// The id of the trace.
    #[inline]
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        TraceId::from_halves(self.trace_high, self.trace_low)
    }

    /// The id of the span.
    #[inline]
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        SpanId::from_number(self.span_id)
    }

    /// The W3C trace flags: sampled, random.
    #[inline]
    #[must_use]
    pub fn trace_flags(&self) -> u8 {
        self.trace_flags
    }

    /// Whether the trace is sampled.
    #[inline]
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.trace_flags & flags::SAMPLED != 0
    }

    /// Whether both ids are set.
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_high | self.trace_low != 0 && self.span_id != 0
    }

    /// Whether the span is in another process.
    #[inline]
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// The W3C trace state, empty in most traces.
    #[inline]
    #[must_use]
    pub fn trace_state(&self) -> &TraceState {
        &self.trace_state
    }
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanContext")
            .field("trace_id", &self.trace_id())
            .field("span_id", &self.span_id())
            .field("trace_flags", &self.trace_flags)
            .field("is_remote", &self.is_remote)
            .field("trace_state", &self.trace_state.as_str())
            .finish()
    }
}

/// A link from a span to another, with attributes that describe the relation.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The span that is linked to.
    pub target: &'a SpanContext,
    /// Attributes of the link.
    pub attributes: &'a [(Key<'a>, Value<'a>)],
}

/// A W3C `tracestate`: checked when it is made, and shared by all spans of a trace. One word wide, because every span
/// carries one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TraceState(Option<Arc<String>>);

/// The text is not a `tracestate` as in W3C Trace Context Level 2: up to 32 `key=value` members with different keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidTraceState;

impl fmt::Display for InvalidTraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a tracestate: expected up to 32 different `key=value` members, separated by commas")
    }
}

impl std::error::Error for InvalidTraceState {}

impl TraceState {
    /// Reads a trace state from header text. Empty members, and white space around members, are left out.
    ///
    /// # Errors
    ///
    /// When a member is malformed, a key occurs twice, or there are more than 32 members.
    pub fn new(header: &str) -> Result<Self, InvalidTraceState> {
        const MEMBERS_MAX: usize = 32; // W3C Trace Context: at most 32 list-members
        let members: Vec<&str> = header
            .split(',')
            .map(|member| member.trim_matches([' ', '\t']))
            .filter(|member| !member.is_empty())
            .collect();
        let mut keys = Vec::with_capacity(members.len());
        for member in &members {
            let (key, value) = member.split_once('=').ok_or(InvalidTraceState)?;
            if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MEMBERS_MAX {
                return Err(InvalidTraceState);
            }
            keys.push(key);
        }
        Ok(Self((!members.is_empty()).then(|| Arc::new(members.join(",")))))
    }

    /// The members in header form; empty if there are none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", String::as_str)
    }

    /// Whether there are no members.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// W3C Trace Context Level 2: `[a-z0-9][a-z0-9_\-*/@]{0,255}`.
fn is_key(key: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.as_bytes().first().is_some_and(letter)
        && key.bytes().all(|byte| letter(&byte) || b"_-*/@".contains(&byte))
}

/// W3C Trace Context: 1 to 256 printable characters but `,` and `=`. A member is trimmed before, so the last is no
/// space.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| (0x20..=0x7E).contains(&byte) && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_state_keeps_members_in_order() {
        let state = TraceState::new(" a=1 ,, b@c=x y\t").unwrap();
        assert_eq!(state.as_str(), "a=1,b@c=x y");
        assert!(TraceState::new("").unwrap().is_empty());
    }

    #[test]
    fn malformed_trace_state_is_refused_whole() {
        let long = format!("a={}", "x".repeat(257));
        let many: Vec<String> = (0..33).map(|index| format!("k{index}=v")).collect();
        let long_key = format!("{}=1", "a".repeat(257));
        for text in ["a", "=1", "A=1", "@a=1", "a=", "a=b=c", "a=1,a=2", "a=ü", &long, &long_key, &many.join(",")] {
            assert_eq!(TraceState::new(text), Err(InvalidTraceState), "{text}");
        }
    }

    #[test]
    fn trace_state_may_be_as_long_as_the_specification_says() {
        let longest = format!("{}={}", "a".repeat(256), "x".repeat(256));
        let most: Vec<String> = (0..32).map(|index| format!("k{index}=v")).collect();
        for text in [longest, most.join(",")] {
            assert_eq!(TraceState::new(&text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn valid_context_has_both_ids() {
        let context = |trace, span| SpanContext::remote(TraceId(trace), SpanId(span), 0, TraceState::default());
        let (mut high, mut low) = ([0; 16], [0; 16]);
        (high[0], low[15]) = (1, 1);
        assert!([high, low].into_iter().all(|trace| context(trace, [1; 8]).is_valid()));
        assert!(!context([0; 16], [1; 8]).is_valid() && !context(high, [0; 8]).is_valid());
    }
}
