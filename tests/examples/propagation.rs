//! W3C Trace Context over real requests, as the public harness asks for it: the service gets headers, each of them a
//! line of its own, and what its own calls carry is read as it comes.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::program::Program;

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// A request as it came: the lines of its headers, and its body.
struct Received {
    headers: Vec<(String, String)>,
    body: String,
}

/// The `traceparent` of a call, its `tracestate`, and its `baggage`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Call {
    trace: String,
    span: String,
    flags: String,
    state: Vec<String>,
    baggage: Vec<String>,
}

struct Harness {
    _service: Program,
    address: String,
    listener: TcpListener,
}

impl Harness {
    fn start() -> Self {
        let mut service = Program::start("propagation_service", &["0"], &[]);
        let address = service.address();
        Self { _service: service, address, listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// Has the service make this many calls, and gives what they carried.
    fn calls(&self, headers: &[(&str, &str)], count: usize) -> Vec<Call> {
        let url = format!("http://{}/back", self.listener.local_addr().unwrap());
        let entry = format!(r#"{{"url": "{url}", "arguments": ["a", {{"b": 1}}]}}"#);
        let mut request = self.send(headers, &format!("[{}]", vec![entry; count].join(", ")));
        let mut calls = vec![];
        for _ in 0..count {
            let (connection, _) = self.listener.accept().unwrap();
            let mut connection = BufReader::new(connection);
            let received = Received::read(&mut connection);
            assert_eq!(received.body, r#"["a",{"b":1}]"#);
            calls.push(Call::of(&received.headers));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.get_mut().write_all(answer).unwrap();
        }
        let mut answer = String::new();
        request.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        calls
    }

    fn send(&self, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut request = TcpStream::connect(&self.address).unwrap();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("POST /test HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{lines}", self.address);
        write!(request, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        request
    }

    fn call(&self, headers: &[(&str, &str)]) -> Call {
        self.calls(headers, 1).remove(0)
    }

    /// The call goes on with the caller's trace.
    #[track_caller]
    fn continues(&self, headers: &[(&str, &str)]) -> Call {
        let call = self.call(headers);
        assert_eq!(call.trace, TRACE, "{headers:?}");
        assert_ne!(call.span, SPAN, "{headers:?}");
        call
    }

    /// The call has a new trace, and nothing of the caller's.
    #[track_caller]
    fn restarts(&self, headers: &[(&str, &str)]) {
        let call = self.call(headers);
        assert!(!headers.iter().any(|(_, value)| value.contains(&call.trace)), "{headers:?}");
        assert_eq!(call.state, [""; 0], "{headers:?}");
    }

    /// The trace state of a call whose caller had these.
    #[track_caller]
    fn state(&self, states: &[&str]) -> String {
        let parent = good();
        let states = states.iter().map(|state| ("tracestate", *state));
        let headers: Vec<_> = [("traceparent", parent.as_str())].into_iter().chain(states).collect();
        self.continues(&headers).state.join(",")
    }
}

impl Received {
    fn read(connection: &mut BufReader<TcpStream>) -> Self {
        let mut lines = connection.lines().map(Result::unwrap);
        assert!(lines.next().unwrap().starts_with("POST /back HTTP/1.1"));
        let headers: Vec<_> = lines
            .map_while(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
            .collect();
        let len = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut body = vec![0; len.map_or(0, |(_, len)| len.parse().unwrap())];
        connection.read_exact(&mut body).unwrap();
        Self { headers, body: String::from_utf8(body).unwrap() }
    }
}

impl Call {
    /// TPA-01, TPA-03, TPA-05: exactly one good header of version 00, in lower case, with no flag that is not known.
    #[track_caller]
    fn of(headers: &[(String, String)]) -> Self {
        let all = |name: &str| -> Vec<String> {
            let found = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            found
                .map(|(found, value)| {
                    assert_eq!(found, name, "in lower case");
                    value.clone()
                })
                .collect()
        };
        let parents = all("traceparent");
        assert_eq!(parents.len(), 1, "{parents:?}");
        let parts: Vec<_> = parents[0].split('-').collect();
        let [version, trace, span, flags] = parts[..] else { panic!("{parents:?}") };
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
        assert_eq!((version, trace.len(), span.len(), flags.len()), ("00", 32, 16, 2), "{parents:?}");
        assert!(is_hex(trace) && is_hex(span) && is_set(trace) && is_set(span), "{parents:?}");
        assert!(["00", "01", "02", "03"].contains(&flags), "{parents:?}");
        let (trace, span, flags) = (trace.to_owned(), span.to_owned(), flags.to_owned());
        Self { trace, span, flags, state: all("tracestate"), baggage: all("baggage") }
    }
}

fn good() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

#[test]
fn tpa_01_tpa_02_traceparent_is_found_by_its_name_and_only_one_counts() {
    let harness = Harness::start();
    let good = good();
    harness.restarts(&[]);
    for name in ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        harness.continues(&[(name, &good)]);
    }
    for name in ["trace-parent", "trace.parent", "trace_parent"] {
        harness.restarts(&[(name, &good)]);
    }
    let other = good.replace("123", "456");
    harness.restarts(&[("traceparent", &good), ("traceparent", &other)]);
    harness.restarts(&[("traceparent", &good), ("TraceParent", &good)]);
    harness.restarts(&[("traceparent", &format!("{good},{other}"))]);
    for text in [format!(" {good}"), format!("\t{good}"), format!("{good} \t"), format!(" \t {good}\t \t")] {
        harness.continues(&[("traceparent", &text)]);
    }
}

#[test]
fn tpa_03_tpa_04_versions_and_fields_are_read_to_the_letter() {
    let harness = Harness::start();
    let rest = format!("{TRACE}-{SPAN}-01");
    for good in [format!("cc-{rest}"), format!("cc-{rest}-what-the-future-will-be-like"), format!("fe-{rest}-")] {
        harness.continues(&[("traceparent", &good)]);
    }
    let (trace, span) = ("0".repeat(32), "0".repeat(16));
    let bad = [
        format!("00-{rest}."),
        format!("00-{rest}-what-the-future-will-be-like"),
        format!("00-{rest}-"),
        format!("cc-{rest}.what-the-future-will-not-be-like"),
        format!("cc-{rest}1"),
        format!("ff-{rest}"),
        format!(".0-{rest}"),
        format!("0.-{rest}"),
        format!("000-{rest}"),
        format!("0-{rest}"),
        rest.clone(),
        format!("00-{trace}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", TRACE.replace("12", ".2")),
        format!("00-{}-{SPAN}-01", TRACE.replace("12", "AB")),
        format!("00-{TRACE}0-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}-{span}-01"),
        format!("00-{TRACE}-{}-01", SPAN.replace("12", "x2")),
        format!("00-{TRACE}-{}-01", SPAN.replace("12", "CD")),
        format!("00-{TRACE}-{SPAN}0-01"),
        format!("00-{TRACE}-{}-01", &SPAN[1..]),
        format!("00-{TRACE}-{SPAN}-.0"),
        format!("00-{TRACE}-{SPAN}-0."),
        format!("00-{TRACE}-{SPAN}-001"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-0A"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00_{TRACE}_{SPAN}_01"),
        String::new(),
    ];
    for bad in &bad {
        harness.restarts(&[("traceparent", bad), ("tracestate", "foo=1")]);
    }
}

/// TPA-05, TPA-06: unknown flags do not go on; sampled and random go on as they came, set or not.
#[test]
fn tpa_06_known_flags_go_on_as_they_came() {
    let harness = Harness::start();
    for (came, goes) in
        [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("04", "00"), ("05", "01"), ("fe", "02"), ("ff", "03")]
    {
        let call = harness.continues(&[("traceparent", &format!("00-{TRACE}-{SPAN}-{came}"))]);
        assert_eq!(call.flags, goes, "{came}");
    }
    assert_eq!(harness.call(&[]).flags, "03", "a new trace is random");
}

#[test]
fn tpa_07_state_and_parent_do_not_harm_each_other() {
    let harness = Harness::start();
    let good = good();
    harness.restarts(&[("tracestate", "foo=1")]);
    harness.restarts(&[("traceparent", "bad"), ("tracestate", "foo=1,bar=2")]);
    harness.restarts(&[("traceparent", &good), ("traceparent", &good), ("tracestate", "foo=1")]);
    assert_eq!(harness.continues(&[("tracestate", "foo=1"), ("traceparent", &good)]).state, ["foo=1"]);
    assert_eq!(harness.continues(&[("traceparent", &good), ("TraceState", "foo=1")]).state, ["foo=1"]);
    for name in ["trace-state", "trace.state", "trace_state"] {
        assert_eq!(harness.continues(&[("traceparent", &good), (name, "foo=1")]).state, [""; 0]);
    }
}

/// Each call has a span of its own, in the caller's trace, or in one new trace.
#[test]
fn tpa_08_every_call_has_an_id_of_its_own() {
    let harness = Harness::start();
    let good = good();
    let mut seen = HashSet::from([SPAN.to_owned()]);
    let mut traces = HashSet::new();
    for headers in [&[("traceparent", good.as_str())][..], &[], &[("traceparent", "bad")], &[("traceparent", &good)]] {
        let calls = harness.calls(headers, 3);
        assert!(calls.iter().all(|call| call.trace == calls[0].trace), "{calls:?}");
        assert!(calls.iter().all(|call| seen.insert(call.span.clone())), "{calls:?}");
        traces.insert(calls[0].trace.clone());
    }
    assert_eq!(traces.len(), 3, "the caller's, and two new ones");
}

/// TST-01, TST-02: keys and values at their limits go on, and others take the whole list with them.
#[test]
fn tst_01_members_are_read_to_the_letter() {
    let harness = Harness::start();
    let values: String = (0x20..=0x7E_u8).map(char::from).filter(|c| !",=".contains(*c)).collect();
    let good = [
        "foo=1".to_owned(),
        "foo=1,bar=2".into(),
        "abcdefghijklmnopqrstuvwxyz0123456789_-*/=1".into(),
        "abcdefghijklmnopqrstuvwxyz0123456789_-*/@a-z0-9_-*/=1".into(),
        "0foo=1,foo@=2,foo@@bar=3,foo@bar@baz=4".into(),
        format!("foo={values}"),
        format!("{}=1", "z".repeat(256)),
        format!("{}@{}=1", "t".repeat(241), "v".repeat(14)),
        format!("foo={}", "x".repeat(256)),
    ];
    for good in &good {
        assert_eq!(harness.state(&[good]), *good);
    }
    let bad = [
        "foo".to_owned(),
        "foo =1".into(),
        "FOO=1".into(),
        "foo.bar=1".into(),
        "@foo=1,bar=2".into(),
        "foo\u{e9}=1".into(),
        "foo=bar=baz".into(),
        "foo=,bar=3".into(),
        "=1".into(),
        "foo=1,bar".into(),
        format!("{}=1", "z".repeat(257)),
        format!("foo={}", "x".repeat(257)),
    ];
    for bad in &bad {
        assert_eq!(harness.state(&[bad]), "", "{bad}");
    }
}

/// TST-03, TST-04: white space and empty members do not count; several headers are one list, in their order.
#[test]
fn tst_04_repeated_headers_are_one_list() {
    let harness = Harness::start();
    for (states, list) in [
        (&["foo=1 \t , \t bar=2, \t baz=3"][..], "foo=1,bar=2,baz=3"),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        (&[" foo=1", "\t", "bar=2\t"], "foo=1,bar=2"),
        (&["foo=1,", ",,bar=2"], "foo=1,bar=2"),
        (&["foo=1", ""], "foo=1"),
        (&["", "foo=1"], "foo=1"),
        (&[""], ""),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        (&["foo= 1"], "foo= 1"),
    ] {
        assert_eq!(harness.state(states), list, "{states:?}");
    }
}

/// TST-05, TST-08: 32 members go on, however long in all; one more, or one bad, and none does.
#[test]
fn tst_05_lists_go_on_whole_or_not_at_all() {
    let harness = Harness::start();
    let members = |count: usize| (0..count).map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>();
    assert_eq!(harness.state(&[&members(32).join(",")]), members(32).join(","));
    assert_eq!(harness.state(&[&members(33).join(",")]), "");
    let (first, rest) = (members(20).join(","), members(33)[20..].join(","));
    assert_eq!(harness.state(&[&first, &rest]), "");
    assert_eq!(harness.state(&[&members(20).join(","), "no member"]), "");
    assert_eq!(harness.state(&["foo=1", &format!("{}=1", "z".repeat(256))]), format!("foo=1,{}=1", "z".repeat(256)));
    assert_eq!(harness.state(&["foo=1", &format!("{}=1", "z".repeat(257))]), "");
    let long = format!("foo={},bar={}", "f".repeat(256), "b".repeat(256));
    assert_eq!(harness.state(&[&long]), long, "512 characters and more");
}

#[test]
fn tst_06_of_equal_keys_one_is_left() {
    let harness = Harness::start();
    for states in [&["foo=1,foo=1"][..], &["foo=1,foo=2"], &["foo=1", "foo=1"], &["foo=1", "foo=2"]] {
        assert_eq!(harness.state(states), "foo=1", "{states:?}");
    }
}

/// BAG-07: whether or not there is a trace that goes on.
#[test]
fn bag_07_baggage_goes_on() {
    let harness = Harness::start();
    let good = good();
    let baggage = [("baggage", "tenant=blue,user=ad%20a;kind=person"), ("baggage", "tier=1")];
    let headers: Vec<_> = [("traceparent", good.as_str())].into_iter().chain(baggage).collect();
    for call in [harness.continues(&headers), harness.call(&baggage)] {
        assert_eq!(call.baggage, ["tenant=blue,user=ad%20a;kind=person,tier=1"]);
    }
    assert_eq!(harness.call(&[]).baggage, [""; 0]);
}

/// What the caller may send besides: a service answers, and goes on.
#[test]
fn bodies_that_are_no_list_of_calls_are_refused() {
    let harness = Harness::start();
    for body in ["", "{}", "[", "null"] {
        let mut answer = String::new();
        harness.send(&[], body).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{body}: {answer}");
    }
    for body in ["[]", "[1]", r#"[{"url": "no url"}]"#] {
        let mut answer = String::new();
        harness.send(&[], body).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{body}: {answer}");
    }
    harness.continues(&[("traceparent", &good())]);
}
