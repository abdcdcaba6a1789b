//! Any headers as baggage: read as a plain reading of W3C Baggage has it, and written back so that they are read the
//! same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanring::propagate::{Dropped, baggage};

type Headers<'a> = Vec<(&'a str, &'a [u8])>;
/// Name, value, metadata.
type Member = (String, String, String);

/// Most of a header, and most members.
const BYTES_MAX: usize = 8192;
const MEMBERS_MAX: usize = 64;

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(letter))
}

fn is_value(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_graphic() && !"\",;\\".contains(letter))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `%41` as `A`; what is no such thing stays.
fn decode(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let byte = if *first == b'%' { digit(0).zip(digit(1)) } else { None };
        match byte.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A member by the grammar.
fn member(text: &str) -> Option<Member> {
    let mut parts = text.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (trim(name), trim(value));
    let is_property = |property: &str| match property.split_once('=') {
        Some((key, value)) => is_token(trim(key)) && is_value(trim(value)),
        None => trim(property).is_empty() || is_token(trim(property)),
    };
    let metadata = text.split_once(';').map_or("", |(_, metadata)| trim(metadata));
    (is_token(name) && is_value(value) && parts.all(is_property))
        .then(|| (name.to_owned(), decode(value), metadata.to_owned()))
}

fn members(headers: &Headers<'_>) -> (Vec<Member>, Dropped) {
    let (mut members, mut dropped, mut bytes) = (Vec::<Member>::new(), Dropped::default(), 0);
    let values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("baggage")).map(|(_, value)| value);
    for text in values.flat_map(|value| value.split(|&byte| byte == b',')) {
        if text.iter().all(|byte| b" \t".contains(byte)) {
            continue;
        }
        let with_it = bytes + text.len() + usize::from(bytes > 0);
        if with_it > BYTES_MAX {
            dropped.excess_members += 1;
            continue;
        }
        bytes = with_it;
        match str::from_utf8(text).ok().and_then(member) {
            None => dropped.malformed_members += 1,
            Some(new) => {
                let old = members.iter().position(|(name, ..)| *name == new.0);
                if old.is_none() && members.len() == MEMBERS_MAX {
                    dropped.excess_members += 1;
                    continue;
                }
                old.map(|at| members.remove(at));
                members.push(new);
            }
        }
    }
    (members, dropped)
}

fuzz_target!(|headers: Headers<'_>| {
    let (found, dropped) = baggage::extract(&headers[..]);
    let owned = |(name, value, metadata): (&str, &str, &str)| (name.into(), value.into(), metadata.into());
    let read: Vec<Member> = found.iter().map(owned).collect();
    assert_eq!((&read, dropped), (&members(&headers).0, members(&headers).1));

    let mut written: Vec<(String, String)> = vec![];
    let dropped = baggage::inject(&found, &mut written);
    assert!(dropped.fields == 0 && dropped.malformed_members == 0, "what was read can be written");
    let (again, lost) = baggage::extract(&written);
    assert_eq!(lost, Dropped::default(), "what is written can be read");
    assert_eq!(again.len() + usize::try_from(dropped.excess_members).unwrap(), found.len());
    for (name, value, metadata) in again.iter() {
        assert_eq!(found.get(name), Some(value));
        // White space in metadata may go, and nothing else.
        let before = read.iter().find(|(read, ..)| read == name).map(|(.., metadata)| metadata);
        let properties = |metadata: &str| -> Vec<(String, Option<String>)> {
            let each = baggage::properties(metadata);
            each.map(|(key, value)| (key.to_owned(), value.map(|value| value.into_owned()))).collect()
        };
        assert_eq!(before.map(|before| properties(before)), Some(properties(metadata)));
    }
});
