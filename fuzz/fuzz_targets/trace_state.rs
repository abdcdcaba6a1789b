//! Any text as a trace state: accepted if and only if the grammar of W3C Trace Context Level 2 says so, and kept as it
//! is, but for members whose key came before.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use spanring::TraceState;

const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const KEY_LATER: &str = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@";

/// The members of a header, without the white space and the empty members that the grammar allows between them.
fn members(text: &str) -> Vec<&str> {
    text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()).collect()
}

/// `key = ( lcalpha / DIGIT ) 0*255 keychar`; `value = 0*255 chr nblk-chr`.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let mut characters = key.chars();
    let is_key = characters.next().is_some_and(|first| KEY.contains(first))
        && characters.all(|later| KEY_LATER.contains(later))
        && key.len() <= 256;
    let is_value = (1..=256).contains(&value.len())
        && value.chars().all(|character| (' '..='~').contains(&character) && !",=".contains(character))
        && !value.ends_with(' ');
    is_key && is_value
}

fn is_trace_state(text: &str) -> bool {
    let members = members(text);
    members.len() <= 32 && members.iter().all(|member| is_member(member))
}

/// The members without those whose key came before.
fn first_of_each_key(text: &str) -> Vec<&str> {
    let mut keys = BTreeSet::new();
    members(text).into_iter().filter(|member| keys.insert(member.split('=').next())).collect()
}

fuzz_target!(|text: &str| {
    let state = TraceState::new(text);
    assert_eq!(state.is_ok(), is_trace_state(text), "{text:?}");
    let Ok(state) = state else {
        return;
    };
    assert_eq!(state.as_str(), first_of_each_key(text).join(","));
    assert_eq!(state.is_empty(), members(text).is_empty());
    assert_eq!(TraceState::new(state.as_str()).as_ref(), Ok(&state), "what was accepted is accepted again, unchanged");
});
