//! Any runs of spans: prost reads what was given, in order, also after the request was split down to single spans.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ScopeSpans, Span},
};
use prost::Message;
use spanring::{
    Key, Value,
    internals::otlp::{Resource, Run, ScopeHead, enclose, span_count, split},
};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    attributes: Vec<(&'a str, &'a str)>,
    schema_url: &'a str,
    scopes: Vec<Scope<'a>>,
    /// A byte of the request to change, and what to.
    change: Option<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Scope<'a> {
    name: &'a str,
    version: &'a str,
    attributes: Vec<(String, String)>,
    schema_url: &'a str,
    /// Lengths of the spans' names.
    spans: Vec<u8>,
}

/// Whom a span belongs to, and its name: all that tells two spans apart here.
type Seen = Vec<([String; 3], String)>;

/// Decodes by prost and lists the spans; every envelope on the way has spans, and the attributes of a map.
fn read(case: &Case<'_>, request: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let message = ExportTraceServiceRequest::decode(request).expect("it is a request");
    for resource in message.resource_spans {
        assert_eq!(resource.schema_url, case.schema_url);
        assert!(!resource.scope_spans.is_empty());
        let mut keys: Vec<_> = case.attributes.iter().map(|(key, _)| *key).filter(|key| !key.is_empty()).collect();
        keys.sort_unstable();
        keys.dedup();
        let attributes = resource.resource.unwrap_or_default().attributes;
        assert_eq!(attributes.len(), keys.len(), "each key once");
        for run in resource.scope_spans {
            assert!(!run.spans.is_empty());
            let scope = run.scope.unwrap_or_default();
            let whose = [scope.name, scope.version, run.schema_url];
            seen.extend(run.spans.into_iter().map(|span| (whose.clone(), span.name)));
        }
    }
    seen
}

fn split_to_the_end(case: &Case<'_>, request: &[u8], seen: &mut Seen) {
    match split(request) {
        Some((first, second)) => {
            assert_eq!(span_count(&first) + span_count(&second), span_count(request));
            split_to_the_end(case, &first, seen);
            split_to_the_end(case, &second, seen);
        }
        None => {
            assert!(span_count(request) <= 1);
            seen.extend(read(case, request));
        }
    }
}

fuzz_target!(|case: Case<'_>| {
    let attributes: Vec<_> = case.attributes.iter().map(|(key, value)| (Key::new(key), Value::Str(value))).collect();
    let resource = Resource::new(&attributes, case.schema_url);
    let mut expected = Seen::new();
    let mut scopes = Vec::new();
    for scope in &case.scopes {
        let mut spans = Vec::new();
        for len in &scope.spans {
            let name = format!("{} {}", expected.len(), "x".repeat(usize::from(*len)));
            let span = Span { name: name.clone(), ..Span::default() };
            spans.extend(ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec());
            expected.push(([scope.name, scope.version, scope.schema_url].map(str::to_owned), name));
        }
        scopes.push((ScopeHead::new(scope.name, scope.version, &scope.attributes, scope.schema_url), spans));
    }
    let mut scopes = scopes.iter().skip_while(|(_, spans)| spans.is_empty());
    let Some((first, spans)) = scopes.next() else {
        return;
    };
    let room = resource.envelope_len_max() + first.envelope_len_max();
    let mut request = vec![0; room];
    request.extend_from_slice(spans);
    let start = enclose(&resource, first, &mut request, room, scopes.map(|(scope, spans)| Run { scope, spans }));
    request.drain(..start);
    assert_eq!(span_count(&request), expected.len());
    assert_eq!(read(&case, &request), expected);
    let mut seen = Seen::new();
    split_to_the_end(&case, &request, &mut seen);
    assert_eq!(seen, expected);

    if let (Some((at, byte)), false) = (case.change, request.is_empty()) {
        let at = usize::from(at) % request.len();
        request[at] = byte;
        if let Some((first, second)) = split(&request) {
            assert_eq!(span_count(&first) + span_count(&second), span_count(&request));
        }
    }
});
