//! Any text as an endpoint, a proxy and headers: what is accepted means the same when printed, and breaks no line of a
//! head.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spanring::internals::transport::{Coding, Endpoint, Headers, Proxy, Route, UserAgent};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    opening: Opening,
    url: &'a str,
    proxy: &'a str,
    excluded: &'a str,
    environment: &'a str,
    headers: Vec<(String, String)>,
    product: &'a str,
    is_coded: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Opening {
    Nothing,
    Http,
    Https,
    Unix,
}

/// What a reader that knows nothing of ours makes of a head: the first line, and the headers.
fn lines(head: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(head).expect("a head is ASCII");
    let text = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line");
    let lines: Vec<_> = text.split("\r\n").map(str::to_owned).collect();
    for line in &lines {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t'), "{line:?}");
    }
    assert_eq!(lines[0].split(' ').count(), 3, "{:?}", lines[0]);
    assert!(lines[1..].iter().all(|line| line.contains(": ")), "{lines:?}");
    lines
}

fn check_endpoint(url: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::parse(url).map_err(|error| assert!(!error.to_string().contains('\n'))).ok()?;
    let printed = endpoint.to_string();
    let again = Endpoint::parse(&printed).expect("what is printed is an endpoint");
    assert_eq!(again.to_string(), printed);
    let place = |endpoint: &Endpoint| {
        (endpoint.is_tls(), endpoint.host().to_owned(), endpoint.port(), endpoint.unix_path().map(str::to_owned))
    };
    assert_eq!(place(&again), place(&endpoint));
    if !endpoint.path().contains('?') {
        assert_eq!(again, endpoint);
    }
    assert!(endpoint.path().starts_with('/'));
    let traces = Endpoint::traces_url(url).expect("an endpoint may be a base");
    let Ok(base) = Endpoint::parse(&traces) else {
        // The base had just room for itself.
        assert!(traces.len() > 4096, "{traces}");
        return Some(endpoint);
    };
    assert_eq!(place(&base), place(&endpoint));
    assert!(base.path().split('?').next().is_some_and(|path| path.ends_with("/v1/traces")));
    Some(endpoint)
}

fuzz_target!(|case: Case<'_>| {
    let opening = match case.opening {
        Opening::Nothing => "",
        Opening::Http => "http://",
        Opening::Https => "https://",
        Opening::Unix => "unix:///",
    };
    let Some(endpoint) = check_endpoint(&format!("{opening}{}", case.url)) else {
        return;
    };
    let proxy = Proxy::choose(&endpoint, |name| match name {
        "all_proxy" => Some(case.proxy.to_owned()),
        "no_proxy" => Some(case.excluded.to_owned()),
        _ => None,
    });
    let proxy = proxy.ok().flatten();
    assert!(proxy.is_none() || !endpoint.is_local());
    let route = Route { endpoint, proxy };
    let agent = UserAgent::of(case.product).unwrap_or_default();
    let coding = if case.is_coded { Coding::Gzip } else { Coding::Identity };
    for headers in [Headers::new(&case.headers).unwrap_or_default(), Headers::from_env_text(case.environment).0] {
        let mut head = Vec::new();
        route.request_head(&headers, &agent).write(7, coding, &mut head);
        let lines = lines(&head);
        let is_credential = |line: &&String| line.starts_with("proxy-authorization: ");
        let is_sent = lines.iter().filter(is_credential).count();
        let is_plain = route.proxy.as_ref().filter(|_| !route.endpoint.is_tls());
        assert_eq!(is_sent, is_plain.and_then(Proxy::authorization).iter().count());
        // The first line, host, type, length; the agent may be among the headers.
        let has_agent = headers.iter().any(|(name, _)| name == "user-agent");
        let own = 4 + usize::from(!has_agent) + usize::from(case.is_coded) + is_sent;
        assert_eq!(lines.len(), own + headers.iter().count());
        for name in ["host", "content-length", "content-type"] {
            let opening = format!("{name}: ");
            assert_eq!(lines.iter().filter(|line| line.starts_with(&opening)).count(), 1);
        }
    }
    if let Some(head) = route.tunnel(&agent) {
        let _ = lines(&head);
    }
});
