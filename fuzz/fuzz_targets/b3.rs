//! Any headers as B3: read as a plain reading of it has it, and written back so that they are read the same, in both
//! forms.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanring::{SpanContext, propagate::b3};

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// Trace, span, and whether it is sampled, if that is decided.
type Caller = (String, String, Option<bool>);

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn id(text: &str, lens: &[usize]) -> Option<String> {
    let is_hex = text.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit));
    let is_good = lens.contains(&text.len()) && is_hex && text.chars().any(|digit| digit != '0');
    is_good.then(|| text.to_owned())
}

fn trace_id(text: &str) -> Option<String> {
    id(text, &[16, 32]).map(|id| format!("{id:0>32}"))
}

fn single(text: &str) -> Option<Caller> {
    let parts: Vec<&str> = trim(text).split('-').collect();
    let decision = match parts.get(2) {
        None => None,
        Some(&"0") => Some(false),
        Some(&"1" | &"d") => Some(true),
        Some(_) => return None,
    };
    // A parent of zeros is no fault: nobody reads it.
    let is_parent = |parent: &&str| id(parent, &[16]).is_some() || **parent == "0".repeat(16);
    (parts.len() <= 4 && parts.get(3).is_none_or(is_parent)).then_some(())?;
    Some((trace_id(parts[0])?, id(parts.get(1)?, &[16])?, decision))
}

fn caller(headers: &Headers<'_>) -> Option<Caller> {
    let first = |name: &str| {
        let (_, value) = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    };
    first("b3").and_then(single).or_else(|| {
        let decision = if first("x-b3-flags").map(trim) == Some("1") {
            Some(true)
        } else {
            match first("x-b3-sampled").map(trim).unwrap_or_default().to_ascii_lowercase().as_str() {
                "1" | "true" => Some(true),
                "0" | "false" => Some(false),
                _ => None,
            }
        };
        Some((trace_id(trim(first("x-b3-traceid")?))?, id(trim(first("x-b3-spanid")?), &[16])?, decision))
    })
}

fn plain(context: &SpanContext) -> Caller {
    let decision = (!context.is_undecided()).then(|| context.is_sampled());
    (context.trace_id().to_string(), context.span_id().to_string(), decision)
}

fuzz_target!(|headers: Headers<'_>| {
    let found = b3::extract(&headers[..]);
    assert_eq!(found.as_ref().map(plain), caller(&headers));
    let Some(context) = found else {
        return;
    };
    let (mut one, mut each) = (Vec::<(String, String)>::new(), Vec::<(String, String)>::new());
    b3::inject(&context, &mut one);
    b3::inject_multi(&context, &mut each);
    assert_eq!((one.len(), each.len()), (1, if context.is_undecided() { 2 } else { 3 }));
    assert_eq!((b3::extract(&one), b3::extract(&each)), (Some(context.clone()), Some(context)));
});
