//! Envelopes around spans: a request with one resource, its scopes and their runs of spans. It is written once, and
//! can be split.
//!
//! collector/trace/v1/trace_service.proto and trace/v1/trace.proto, PB-01:
//!
//! ```text
//! ExportTraceServiceRequest { resource_spans 1: ResourceSpans {
//!     resource 1, scope_spans 2: ScopeSpans { scope 1, spans 2 …, schema_url 3 } …, schema_url 3
//! } }
//! ```

use super::reply::{fields, printable};
use crate::record::{Key, Value, begin_field, field_at, field_len, write_attributes};

/// What all spans of a process share: its resource, encoded, and the resource's schema.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resource {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Resource {
    /// Encodes the resource. Of equal keys the last wins (PB-05); an empty `schema_url` is none (PB-11).
    #[must_use]
    pub fn new(attributes: &[(Key<'_>, Value<'_>)], schema_url: &str) -> Self {
        let mut content = Vec::new();
        write_attributes(RESOURCE_ATTRIBUTES, attributes, &mut content);
        Self { head: optional_field(FIRST, &content), tail: optional_field(SCHEMA_URL, schema_url.as_bytes()) }
    }

    /// Most bytes that the envelopes of a request take, without those of its scopes, in a request below 256 MiB.
    #[must_use]
    pub fn envelope_len_max(&self) -> usize {
        self.head.len() + self.tail.len() + FIELD_HEAD_LEN_MAX
    }
}

/// A tag, and a length below 2²⁸.
const FIELD_HEAD_LEN_MAX: usize = 1 + 4;

/// An instrumentation scope, encoded, and the schema of its telemetry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScopeHead {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl ScopeHead {
    /// Encodes the scope. Of equal keys the last wins (PB-05); an empty `schema_url` is none (PB-11).
    #[must_use]
    pub fn new(name: &str, version: &str, attributes: &[(String, String)], schema_url: &str) -> Self {
        let mut content = optional_field(SCOPE_NAME, name.as_bytes());
        content.extend(optional_field(SCOPE_VERSION, version.as_bytes()));
        let pairs: Vec<_> = attributes.iter().map(|(key, value)| (Key::from(key), Value::Str(value))).collect();
        write_attributes(SCOPE_ATTRIBUTES, &pairs, &mut content);
        Self { head: optional_field(FIRST, &content), tail: optional_field(SCHEMA_URL, schema_url.as_bytes()) }
    }

    /// Most bytes that the envelope of the scope's spans takes in a request below 256 MiB.
    #[must_use]
    pub fn envelope_len_max(&self) -> usize {
        self.head.len() + self.tail.len() + FIELD_HEAD_LEN_MAX
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope { head: &self.head, tail: &self.tail }
    }
}

/// Spans of one scope, each a whole element of `ScopeSpans.spans`, as `Record::emit` writes them.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The scope that recorded them. Give the spans of a scope in one run: runs are not joined.
    pub scope: &'a ScopeHead,
    /// The elements, one after the other.
    pub spans: &'a [u8],
}

/// Makes a request of the spans of one scope, which stay where they are: from `spans_at` to the end of `bytes`. What a
/// request has before them is written into the room before them, which must have the bytes of both envelopes; other
/// scopes' runs are appended. Returns where the request begins. A run without spans leaves no envelope (PB-09); the
/// first must have some.
pub fn enclose<'a>(
    resource: &Resource,
    scope: &ScopeHead,
    bytes: &mut Vec<u8>,
    spans_at: usize,
    others: impl Iterator<Item = Run<'a>> + Clone,
) -> usize {
    debug_assert!(spans_at < bytes.len(), "PB-09");
    let scope_spans = scope.head.len() + (bytes.len() - spans_at) + scope.tail.len();
    let others = others.map(Piece::from);
    let resource_spans =
        resource.head.len() + field_len(scope_spans) + pieces_len(others.clone()) + resource.tail.len();
    let mut before = Vec::with_capacity(resource.envelope_len_max() + scope.envelope_len_max());
    begin_field(RESOURCE_SPANS, resource_spans, &mut before);
    before.extend_from_slice(&resource.head);
    begin_field(SCOPE_SPANS, scope_spans, &mut before);
    before.extend_from_slice(&scope.head);
    let start = spans_at - before.len();
    bytes[start..spans_at].copy_from_slice(&before);

    bytes.reserve_exact(scope.tail.len() + pieces_len(others.clone()) + resource.tail.len());
    bytes.extend_from_slice(&scope.tail);
    write_pieces(others, bytes);
    bytes.extend_from_slice(&resource.tail);
    start
}

/// How many spans a request of [`enclose`] has.
#[must_use]
pub fn span_count(request: &[u8]) -> usize {
    let Some(parts) = Parts::of(request) else {
        return 0;
    };
    parts.pieces.iter().map(|piece| spans(piece.spans).count()).sum()
}

/// Two requests with about half of the spans' bytes each, in order and in the same envelopes; `None` for a request of
/// one span, or for bytes that [`enclose`] did not leave.
///
/// This is what to do when a collector finds a request too large: it is rare, so the request is read again
/// and its seams are not kept.
#[must_use]
pub fn split(request: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let parts = Parts::of(request)?;
    let total: usize = parts.pieces.iter().map(|piece| piece.spans.len()).sum();
    // Where each span ends, counted over all runs, and the end that makes the larger half smallest. The last span's end
    // is the request's, and no seam.
    let mut ends = Vec::new();
    let mut before = 0;
    for piece in &parts.pieces {
        ends.extend(spans(piece.spans).map(|span| before + span.end));
        before += piece.spans.len();
    }
    ends.pop();
    let seam = ends.into_iter().min_by_key(|&end| end.max(total - end))?;

    let mut first = Vec::new();
    let mut second = Vec::new();
    let mut left = seam;
    for piece in parts.pieces {
        let (early, late) = piece.spans.split_at(left.min(piece.spans.len()));
        left -= early.len();
        first.push(Piece { spans: early, ..piece });
        second.push(Piece { spans: late, ..piece });
    }
    Some((written(parts.resource, first.into_iter()), written(parts.resource, second.into_iter())))
}

/// The names of the first span of a request and of its scope, fit for a line: what tells one request from others.
#[must_use]
pub(crate) fn first_span(request: &[u8]) -> Option<(String, String)> {
    let resource_spans = message(request, 1)?;
    let scope_spans = message(resource_spans, 2)?;
    let scope = message(scope_spans, 1).and_then(|scope| message(scope, 1)).unwrap_or_default();
    let name = message(message(scope_spans, 2)?, 5).unwrap_or_default();
    Some((printable(scope), printable(name)))
}

/// The first field of this number that has bytes.
fn message(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let field = fields(bytes).map_while(Result::ok).find(|field| field.number == number)?;
    field.content.bytes().ok()
}

/// Whole fields before and after the elements of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Envelope<'a> {
    head: &'a [u8],
    tail: &'a [u8],
}

impl Envelope<'_> {
    fn len(self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// A run with its scope as bytes.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    scope: Envelope<'a>,
    spans: &'a [u8],
}

impl<'a> From<Run<'a>> for Piece<'a> {
    fn from(run: Run<'a>) -> Self {
        Self { scope: run.scope.envelope(), spans: run.spans }
    }
}

impl Piece<'_> {
    /// Bytes of the `ScopeSpans` message; zero without spans.
    fn len(&self) -> usize {
        if self.spans.is_empty() { 0 } else { self.scope.len() + self.spans.len() }
    }
}

/// A request of these, some of which have spans.
fn written<'a>(resource: Envelope<'_>, pieces: impl Iterator<Item = Piece<'a>> + Clone) -> Vec<u8> {
    let len = resource.head.len() + pieces_len(pieces.clone()) + resource.tail.len();
    let mut out = Vec::with_capacity(field_len(len));
    begin_field(RESOURCE_SPANS, len, &mut out);
    out.extend_from_slice(resource.head);
    write_pieces(pieces, &mut out);
    out.extend_from_slice(resource.tail);
    out
}

/// Bytes of the `ScopeSpans` fields, where there are spans.
fn pieces_len<'a>(pieces: impl Iterator<Item = Piece<'a>>) -> usize {
    pieces.map(|piece| piece.len()).filter(|&len| len > 0).map(field_len).sum()
}

fn write_pieces<'a>(pieces: impl Iterator<Item = Piece<'a>>, out: &mut Vec<u8>) {
    for piece in pieces.filter(|piece| !piece.spans.is_empty()) {
        begin_field(SCOPE_SPANS, piece.len(), out);
        out.extend_from_slice(piece.scope.head);
        out.extend_from_slice(piece.spans);
        out.extend_from_slice(piece.scope.tail);
    }
}

/// A request of ours, read back.
#[derive(Debug, Default)]
struct Parts<'a> {
    resource: Envelope<'a>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Parts<'a> {
    /// `None` where the bytes are not as [`enclose`] leaves them.
    fn of(request: &'a [u8]) -> Option<Self> {
        let outer = field_at(request, 0).filter(|field| field.tag == RESOURCE_SPANS)?;
        if outer.whole.end != request.len() {
            return None;
        }
        let message = &request[outer.content];
        let mut parts = Self::default();
        let mut at = 0;
        while at < message.len() {
            let field = field_at(message, at)?;
            match field.tag {
                FIRST => parts.resource.head = &message[field.whole.clone()],
                SCHEMA_URL => parts.resource.tail = &message[field.whole.clone()],
                SCOPE_SPANS => parts.pieces.push(piece(&message[field.content])?),
                _ => return None,
            }
            at = field.whole.end;
        }
        Some(parts)
    }
}

/// A `ScopeSpans` message, read back.
fn piece(message: &[u8]) -> Option<Piece<'_>> {
    let head = field_at(message, 0).filter(|field| field.tag == FIRST).map_or(0, |field| field.whole.end);
    let mut end = head;
    while let Some(field) = field_at(message, end).filter(|field| field.tag == SPANS) {
        end = field.whole.end;
    }
    let rest = &message[end..];
    let is_tail = |field: &crate::record::Field| field.tag == SCHEMA_URL && field.whole.end == rest.len();
    if !rest.is_empty() && field_at(rest, 0).filter(is_tail).is_none() {
        return None;
    }
    Some(Piece { scope: Envelope { head: &message[..head], tail: rest }, spans: &message[head..end] })
}

/// Where each span of a run lies.
fn spans(run: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let field = field_at(run, at)?;
        at = field.whole.end;
        Some(field.whole)
    })
}

/// A length-delimited field, or nothing for an empty content: what a reader takes for a missing field.
fn optional_field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    if !content.is_empty() {
        begin_field(tag, content.len(), &mut field);
        field.extend_from_slice(content);
    }
    field
}

// Tags, `field number << 3 | wire type`.
const RESOURCE_SPANS: u8 = 0x0A; // ExportTraceServiceRequest.resource_spans = 1
const FIRST: u8 = 0x0A; // ResourceSpans.resource = 1, ScopeSpans.scope = 1
const SCOPE_SPANS: u8 = 0x12; // ResourceSpans.scope_spans = 2
const SPANS: u8 = 0x12; // ScopeSpans.spans = 2
const SCHEMA_URL: u8 = 0x1A; // ResourceSpans.schema_url = 3, ScopeSpans.schema_url = 3
const RESOURCE_ATTRIBUTES: u8 = 0x0A; // resource/v1/resource.proto: Resource.attributes = 1
const SCOPE_NAME: u8 = 0x0A; // common/v1/common.proto: InstrumentationScope.name = 1
const SCOPE_VERSION: u8 = 0x12; // InstrumentationScope.version = 2
const SCOPE_ATTRIBUTES: u8 = 0x1A; // InstrumentationScope.attributes = 3

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ScopeSpans, Span},
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// Scopes and the sizes of their spans; the oracle's view of a request is a list of (scope name, span name).
    type Shape = Vec<Vec<usize>>;

    struct Case {
        resource: Resource,
        heads: Vec<ScopeHead>,
        spans: Vec<Vec<u8>>,
        expected: Vec<(String, String)>,
    }

    impl Case {
        fn new(shape: &Shape) -> Self {
            let mut case = Self {
                resource: Resource::new(&[(Key::new("service.name"), Value::Str("shop"))], "https://resource.schema"),
                heads: vec![],
                spans: vec![],
                expected: vec![],
            };
            for (scope, sizes) in shape.iter().enumerate() {
                let schema = if scope % 2 == 0 { "https://scope.schema" } else { "" };
                let attributes = [("team".to_owned(), "cart".to_owned())];
                let name = format!("scope {scope}");
                case.heads.push(ScopeHead::new(&name, "1.2", &attributes[..scope % 2], schema));
                let mut run = Vec::new();
                for (index, size) in sizes.iter().enumerate() {
                    let span = Span { name: format!("{index} {}", "x".repeat(*size)), ..Span::default() };
                    case.expected.push((name.clone(), span.name.clone()));
                    run.extend(element(span));
                }
                case.spans.push(run);
            }
            case
        }

        fn runs(&self) -> impl Iterator<Item = Run<'_>> + Clone {
            self.heads.iter().zip(&self.spans).map(|(scope, spans)| Run { scope, spans })
        }

        /// Empty without spans.
        fn request(&self) -> Vec<u8> {
            let runs: Vec<_> = self.runs().skip_while(|run| run.spans.is_empty()).collect();
            let Some((first, others)) = runs.split_first() else {
                return vec![];
            };
            enclosed(&self.resource, *first, others)
        }
    }

    /// The request, in a buffer with no more room before the spans than it must have.
    fn enclosed(resource: &Resource, first: Run<'_>, others: &[Run<'_>]) -> Vec<u8> {
        let room = resource.envelope_len_max() + first.scope.envelope_len_max();
        let mut bytes = vec![0xAA; room];
        bytes.extend_from_slice(first.spans);
        let start = enclose(resource, first.scope, &mut bytes, room, others.iter().copied());
        assert!(bytes[..start].iter().all(|&byte| byte == 0xAA), "what is before the request is the caller's");
        bytes.split_off(start)
    }

    /// One element of `ScopeSpans.spans` is a `ScopeSpans` message with one span.
    fn element(span: Span) -> Vec<u8> {
        ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec()
    }

    /// Decodes by prost, checks that every envelope is whole and none is empty, and lists the spans.
    fn read(request: &[u8]) -> Vec<(String, String)> {
        let message = ExportTraceServiceRequest::decode(request).unwrap();
        assert!(message.resource_spans.len() <= 1);
        let mut found = vec![];
        for resource in message.resource_spans {
            assert_eq!(resource.resource.unwrap().attributes[0].key, "service.name");
            assert_eq!(resource.schema_url, "https://resource.schema");
            assert!(!resource.scope_spans.is_empty(), "PB-09");
            for run in resource.scope_spans {
                assert!(!run.spans.is_empty(), "PB-09");
                let scope = run.scope.unwrap();
                let is_even = scope.name.ends_with(['0', '2', '4', '6', '8']);
                assert_eq!(scope.version, "1.2");
                assert_eq!(scope.attributes.len(), usize::from(!is_even));
                assert_eq!(run.schema_url, if is_even { "https://scope.schema" } else { "" });
                found.extend(run.spans.into_iter().map(|span| (scope.name.clone(), span.name)));
            }
        }
        found
    }

    fn split_to_the_end(request: &[u8], found: &mut Vec<(String, String)>) {
        let Some((first, second)) = split(request) else {
            assert_eq!(span_count(request), 1);
            found.extend(read(request));
            return;
        };
        assert_eq!(span_count(&first) + span_count(&second), span_count(request));
        split_to_the_end(&first, found);
        split_to_the_end(&second, found);
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let size = prop_oneof![4 => 0..40usize, 2 => 100..300usize, 1 => 16_000..17_000usize];
        prop::collection::vec(prop::collection::vec(size, 0..12), 0..5)
    }

    /// The bound is met exactly where every length takes four bytes.
    #[test]
    fn envelopes_take_no_more_than_their_bound_with_and_without_a_schema() {
        let attributes = [(Key::new("service.name"), Value::Str("shop"))];
        let span = |len: usize| {
            let mut span = vec![];
            begin_field(SPANS, len, &mut span);
            span.resize(span.len() + len, 0);
            span
        };
        for (schema, len) in [("", 3 << 20), ("https://a.schema/of/some/length", 3 << 20), ("https://a.schema", 1)] {
            let resource = Resource::new(&attributes, schema);
            let scope = ScopeHead::new("shop", "1", &[], schema);
            let spans = span(len);
            let bound = resource.envelope_len_max() + scope.envelope_len_max() + spans.len();
            let request = enclosed(&resource, Run { scope: &scope, spans: &spans }, &[]).len();
            assert!(request <= bound, "{request} > {bound}");
            assert!(request == bound || len == 1, "{request} < {bound}");
        }
    }

    proptest! {
        /// PB-01, PB-11: what another implementation reads is what was given, in order.
        #[test]
        fn pb_01_request_has_the_spans_of_its_runs_in_order(shape in shapes()) {
            let case = Case::new(&shape);
            let request = case.request();
            prop_assert_eq!(read(&request), case.expected.clone());
            prop_assert_eq!(span_count(&request), case.expected.len());
            prop_assert_eq!(request.is_empty(), case.expected.is_empty());
        }

        #[test]
        fn splitting_to_single_spans_loses_none_and_keeps_the_order(shape in shapes()) {
            let case = Case::new(&shape);
            let request = case.request();
            let mut found = vec![];
            if !request.is_empty() {
                split_to_the_end(&request, &mut found);
            }
            prop_assert_eq!(found, case.expected);
        }

        /// No byte that is not ours makes it panic, and no halves come out that have other spans than the whole.
        #[test]
        fn changed_requests_are_split_whole_or_not_at_all(shape in shapes(), at: prop::sample::Index, byte: u8) {
            let mut request = Case::new(&shape).request();
            if !request.is_empty() {
                let at = at.index(request.len());
                request[at] = byte;
            }
            if let Some((first, second)) = split(&request) {
                prop_assert_eq!(span_count(&first) + span_count(&second), span_count(&request));
                prop_assert!(span_count(&first) > 0);
                prop_assert!(span_count(&second) > 0);
            }
        }
    }

    #[test]
    fn pb_09_no_spans_make_no_request() {
        let case = Case::new(&vec![vec![], vec![]]);
        assert_eq!(case.request(), b"");
        assert_eq!((span_count(b""), split(b"")), (0, None));
    }

    #[test]
    fn pb_09_run_without_spans_leaves_no_envelope() {
        let case = Case::new(&vec![vec![], vec![3], vec![]]);
        let message = ExportTraceServiceRequest::decode(case.request().as_slice()).unwrap();
        assert_eq!(message.resource_spans[0].scope_spans.len(), 1);
    }

    #[test]
    fn halves_differ_by_no_more_than_a_span() {
        let case = Case::new(&vec![vec![100; 9], vec![100; 40], vec![100; 3]]);
        let (first, second) = split(&case.request()).unwrap();
        assert_eq!((span_count(&first), span_count(&second)), (26, 26));
        let uneven = Case::new(&vec![vec![10, 10_000]]);
        let (first, second) = split(&uneven.request()).unwrap();
        assert_eq!((span_count(&first), span_count(&second)), (1, 1));
    }

    #[test]
    fn nameless_scope_and_bare_resource_are_left_out() {
        let (resource, scope) = (Resource::new(&[], ""), ScopeHead::new("", "", &[], ""));
        let spans = element(Span::default());
        let request = enclosed(&resource, Run { scope: &scope, spans: &spans }, &[]);
        assert_eq!(request, [0x0A, 4, 0x12, 2, 0x12, 0]);
        assert_eq!(span_count(&request), 1);
    }

    #[test]
    fn attributes_without_a_key_are_left_out() {
        assert_eq!(Resource::new(&[(Key::new(""), Value::Int(1))], ""), Resource::new(&[], ""));
    }
}
