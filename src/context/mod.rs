//! The identity of a span, which others may know: ids, flags, trace state, and links by them; baggage.

mod ambient;
mod baggage;

use std::{fmt, sync::Arc};

pub(crate) use self::baggage::{BYTES_MAX as BAGGAGE_BYTES_MAX, BaggageMembers};
pub use self::{
    ambient::{AsParent, Context},
    baggage::{Baggage, InvalidBaggage},
};
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
    is_undecided: bool,
    trace_state: TraceState,
}

impl SpanContext {
    /// The context of a span in another process, as received in headers.
    #[must_use]
    pub fn remote(trace_id: TraceId, span_id: SpanId, trace_flags: u8, trace_state: TraceState) -> Self {
        let (trace_high, trace_low) = trace_id.halves();
        Self {
            trace_high,
            trace_low,
            span_id: span_id.number(),
            trace_flags,
            is_remote: true,
            is_undecided: false,
            trace_state,
        }
    }

    #[inline]
    pub(crate) fn local(ids: (u64, u64, u64), trace_flags: u8, trace_state: TraceState) -> Self {
        let (trace_high, trace_low, span_id) = ids;
        Self { trace_high, trace_low, span_id, trace_flags, is_remote: false, is_undecided: false, trace_state }
    }

    /// What a record gets at the span's end.
    #[inline(always)]
    pub(crate) fn finish(&self, end: Stamp) -> Finish {
        Finish { trace: (self.trace_high, self.trace_low), span: self.span_id, end }
    }

    /// The halves of the trace id, and the span id.
    pub(crate) fn ids(&self) -> (u64, u64, u64) {
        (self.trace_high, self.trace_low, self.span_id)
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

    /// The same, whatever its flag says, with sampling left to be decided here: as for a span that begins a trace.
    #[must_use]
    pub fn undecided(self) -> Self {
        Self { is_undecided: true, ..self }
    }

    /// Whether sampling is to be decided here: the caller has left it to us, or is [not to be
    /// asked](Self::undecided).
    #[inline]
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// Whether a child of it is sampled by a sampler that goes by parents, and samples roots or not.
    #[inline]
    pub(crate) fn leads_to_sampling(&self, are_roots: bool) -> bool {
        if self.is_undecided { are_roots } else { self.is_sampled() }
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
            .field("is_undecided", &self.is_undecided)
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

/// The text is not a `tracestate` as in W3C Trace Context Level 2: up to 32 `key=value` members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidTraceState;

impl fmt::Display for InvalidTraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a tracestate: expected up to 32 `key=value` members, separated by commas")
    }
}

impl std::error::Error for InvalidTraceState {}

/// Most members of a list (W3C Trace Context, 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Most bytes of a key, and of a value.
const PART_BYTES_MAX: usize = 256;
/// Most bytes of a list, with an equals sign and a comma for each member.
const BYTES_MAX: usize = MEMBERS_MAX * (2 * PART_BYTES_MAX + 2);

impl TraceState {
    /// Reads a trace state from header text. Empty members, and white space around members, are left out; of equal keys
    /// the first stays, which is the newest.
    ///
    /// # Errors
    ///
    /// When a member is malformed, or there are more than 32.
    pub fn new(header: &str) -> Result<Self, InvalidTraceState> {
        Ok(Self::reader().read(header)?.finish())
    }

    /// Reads a trace state from the texts of several headers.
    pub(crate) fn reader() -> TraceStateReader {
        TraceStateReader { kept: String::new(), members: 0 }
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

    /// The members, key and value, the newest first.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_str().split(',').filter_map(|member| member.split_once('='))
    }

    /// The value of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// The same with this member, as the newest. One of the same key goes, and so does the oldest of 32 others.
    ///
    /// # Errors
    ///
    /// When the key or the value is malformed.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, InvalidTraceState> {
        if !is_key(key) || !is_value(value) || value.ends_with(' ') {
            return Err(InvalidTraceState);
        }
        let others = self.members().filter(|(found, _)| *found != key).take(MEMBERS_MAX - 1);
        Ok(Self::of([(key, value)].into_iter().chain(others)))
    }

    /// The same without this key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        Self::of(self.members().filter(|(found, _)| *found != key))
    }

    fn of<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (key, value) in members {
            append(&mut text, key, value);
        }
        Self((!text.is_empty()).then(|| Arc::new(text)))
    }
}

/// A trace state that is being read.
pub(crate) struct TraceStateReader {
    kept: String,
    /// Members that were met, kept or not.
    members: usize,
}

impl TraceStateReader {
    /// Takes the members of one more header.
    pub(crate) fn read(mut self, header: &str) -> Result<Self, InvalidTraceState> {
        self.kept.reserve(header.len().min(BYTES_MAX.saturating_sub(self.kept.len())));
        for member in header.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=').ok_or(InvalidTraceState)?;
            self.members += 1;
            if !is_key(key) || !is_value(value) || self.members > MEMBERS_MAX {
                return Err(InvalidTraceState);
            }
            let is_new = self.kept.split(',').all(|kept| kept.split_once('=').is_none_or(|(found, _)| found != key));
            if is_new {
                append(&mut self.kept, key, value);
            }
        }
        Ok(self)
    }

    pub(crate) fn finish(self) -> TraceState {
        TraceState((!self.kept.is_empty()).then(|| Arc::new(self.kept)))
    }
}

fn append(text: &mut String, key: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.extend([key, "=", value]);
}

/// W3C Trace Context Level 2: `[a-z0-9][a-z0-9_\-*/@]{0,255}`.
fn is_key(key: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= PART_BYTES_MAX
        && key.as_bytes().first().is_some_and(letter)
        && key.bytes().all(|byte| letter(&byte) || b"_-*/@".contains(&byte))
}

/// W3C Trace Context: 1 to 256 printable characters but `,` and `=`. A member is trimmed before, so the last is no
/// space.
fn is_value(value: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&value.len())
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
        for text in ["a", "=1", "A=1", "@a=1", "a=", "a=b=c", "a=ü", &long, &long_key, &many.join(",")] {
            assert_eq!(TraceState::new(text), Err(InvalidTraceState), "{text}");
        }
    }

    /// API-16, TST-07: each change is a new object; what is new goes first, the others keep their order, and the oldest
    /// of too many goes.
    #[test]
    fn tst_07_new_members_go_first_and_the_oldest_of_too_many_goes() {
        let state = TraceState::new("a=1,b=2,c=3").unwrap();
        assert_eq!((state.get("b"), state.get("d")), (Some("2"), None));
        assert_eq!(state.with("d", "4").unwrap().as_str(), "d=4,a=1,b=2,c=3");
        assert_eq!(state.with("b", "x y").unwrap().as_str(), "b=x y,a=1,c=3");
        assert_eq!(state.without("b").as_str(), "a=1,c=3");
        assert_eq!(state.without("d"), state);
        assert!(TraceState::new("a=1").unwrap().without("a").is_empty());
        for (key, value) in [("", "1"), ("A", "1"), ("a", ""), ("a", "1,2"), ("a", "1=2"), ("a", "1 "), ("a", "ä")] {
            assert_eq!(state.with(key, value), Err(InvalidTraceState), "{key}={value}");
        }
        let most: Vec<String> = (0..32).map(|index| format!("k{index}=v")).collect();
        let full = TraceState::new(&most.join(",")).unwrap();
        let more = full.with("new", "1").unwrap();
        assert_eq!(more.as_str(), format!("new=1,{}", most[..31].join(",")));
        assert_eq!(full.with("k31", "w").unwrap().members().count(), 32);
        assert_eq!(state.as_str(), "a=1,b=2,c=3", "it never changes");
    }

    #[test]
    fn trace_state_may_be_as_long_as_the_specification_says() {
        let longest = format!("{}={}", "a".repeat(256), "x".repeat(256));
        let most: Vec<String> = (0..32).map(|index| format!("k{index}=v")).collect();
        for text in [longest, most.join(",")] {
            assert_eq!(TraceState::new(&text).unwrap().as_str(), text);
        }
    }

    /// Commas and white space alone may be as long as a header can be.
    #[test]
    fn trace_state_keeps_no_room_for_what_it_leaves_out() {
        let state = TraceState::new(&format!("a=1{}", ", ".repeat(1 << 19))).unwrap();
        assert!(state.0.is_some_and(|text| text.capacity() <= BYTES_MAX));
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
