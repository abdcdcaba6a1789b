//! Consistent probability: thresholds, randomness, and the entry `ot` of the trace state that carries both.

use std::{array, fmt};

use super::InvalidRatio;
use crate::{context::TraceState, record::TraceId};

/// What the randomness of a trace must reach to be sampled: 56 bits. Zero samples every trace. Two services that differ
/// in it agree on all traces of the one that samples fewer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Threshold(u64);

/// Bits of randomness and thresholds.
const BITS: u32 = 56;
/// Hexadecimal digits of them.
const DIGITS: u32 = 14;
/// Digits that are written after the leading ones that say nothing: what the specification recommends.
const PRECISION: u32 = 4;
/// Most characters of the entry `ot`.
const ENTRY_LEN_MAX: usize = 256;

impl Threshold {
    /// Samples every trace.
    pub const ALWAYS: Self = Self(0);

    /// The least ratio that a threshold can say.
    pub const RATIO_MIN: f64 = 1.0 / (1_u64 << BITS) as f64;

    /// The threshold that samples this share, to four digits after the leading `f`s (SMP-15).
    ///
    /// # Errors
    ///
    /// When `ratio` is not from [`Threshold::RATIO_MIN`] to 1.
    #[expect(clippy::cast_possible_truncation, reason = "a share of 56 bits is within them")]
    pub fn of(ratio: f64) -> Result<Self, InvalidRatio> {
        if !(Self::RATIO_MIN..=1.0).contains(&ratio) {
            return Err(InvalidRatio(ratio));
        }
        if ratio == 1.0 {
            return Ok(Self::ALWAYS);
        }
        let all = 1_u64 << BITS;
        let exact = all - (ratio * all as f64).round() as u64;
        // Digits that are all f, or all 0, say little: more are kept after them.
        let digits = PRECISION + zero_digits(ratio).max(zero_digits(1.0 - ratio));
        let cut = 4 * DIGITS.saturating_sub(digits);
        let half = (1_u64 << cut) >> 1;
        Ok(Self((((exact + half) >> cut) << cut).min(all - 1)))
    }

    /// Reads `th` of the trace state: 1 to 14 lower-case hexadecimal digits, without their trailing zeros (SMP-15).
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let digits = u32::try_from(text.len()).ok().filter(|digits| (1..=DIGITS).contains(digits))?;
        let number = hex(text)?;
        Some(Self(number << (4 * (DIGITS - digits))))
    }

    /// The share of traces that are sampled.
    #[must_use]
    pub fn ratio(self) -> f64 {
        ((1_u64 << BITS) - self.0) as f64 / (1_u64 << BITS) as f64
    }

    /// Whether a trace of this randomness is sampled.
    #[must_use]
    pub fn keeps(self, randomness: u64) -> bool {
        randomness >= self.0
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = (self.0.trailing_zeros() / 4).min(DIGITS - 1);
        write!(f, "{:0width$x}", self.0 >> (4 * zeros), width = (DIGITS - zeros) as usize)
    }
}

/// Hexadecimal digits after the point of a number up to 1 that are zero for sure, by its exponent as `frexp` has it.
fn zero_digits(number: f64) -> u32 {
    let exponent = (number.to_bits() >> 52) & 0x7FF;
    u32::try_from(1022_u64.saturating_sub(exponent) / 4).unwrap_or(DIGITS)
}

/// Lower-case hexadecimal digits alone.
fn hex(text: &str) -> Option<u64> {
    let is_lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_lower { u64::from_str_radix(text, 16).ok() } else { None }
}

/// The low 56 bits of the trace id, which are presumed random (SMP-12).
fn randomness(trace_id: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g] = trace_id.0;
    u64::from_be_bytes([0, a, b, c, d, e, f, g])
}

/// Trace states that have a threshold and nothing else, as most roots need one: made before, and several of them, so
/// that few threads meet at the count of one.
#[derive(Debug)]
pub(super) struct Prepared {
    threshold: Threshold,
    states: [TraceState; 8],
}

impl Prepared {
    pub(super) fn new(threshold: Threshold) -> Self {
        let state = || TraceState::default().with(KEY, &format!("th:{threshold}")).unwrap_or_default();
        Self { threshold, states: array::from_fn(|_| state()) }
    }

    pub(super) fn threshold(&self) -> Threshold {
        self.threshold
    }

    pub(super) fn state(&self, chance: u64) -> TraceState {
        self.states[usize::from(chance.to_le_bytes()[0]) % self.states.len()].clone()
    }
}

/// The key of OpenTelemetry's own entry in a trace state.
const KEY: &str = "ot";

/// The entry `ot`: sub-keys and values, of which the thresholds and the randomness are understood (SMP-14).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry<'a> {
    /// The whole entry; empty where there is none, or one that is malformed.
    text: &'a str,
    pub(super) threshold: Option<Threshold>,
    /// Given by the root in place of the trace id (SMP-16).
    pub(super) explicit: Option<u64>,
}

impl<'a> Entry<'a> {
    pub(super) fn of(state: Option<&'a TraceState>) -> Self {
        let text = state.and_then(|state| state.get(KEY)).unwrap_or_default();
        if !is_entry(text) {
            return Self::default();
        }
        let explicit = find(text, "rv").filter(|text| text.len() == DIGITS as usize).and_then(hex);
        Self { text, threshold: find(text, "th").and_then(Threshold::read), explicit }
    }

    /// What thresholds are compared with.
    pub(super) fn randomness(&self, trace_id: TraceId) -> u64 {
        self.explicit.unwrap_or_else(|| randomness(trace_id))
    }

    /// The state with this threshold, or without one. Whatever else is in the entry stays as it is (SMP-13). `None`
    /// where nothing changes, `Err` where the entry would be too long.
    pub(super) fn with(
        &self,
        state: Option<&TraceState>,
        threshold: Option<Threshold>,
    ) -> Result<Option<TraceState>, TooLong> {
        let is_same = find(self.text, "th").is_some() == threshold.is_some() && self.threshold == threshold;
        if is_same {
            return Ok(None);
        }
        let mut text = threshold.map_or(String::new(), |threshold| format!("th:{threshold}"));
        for member in self.text.split(';').filter(|member| !member.is_empty() && !member.starts_with("th:")) {
            let separator = if text.is_empty() { "" } else { ";" };
            text.extend([separator, member]);
        }
        if text.len() > ENTRY_LEN_MAX {
            return Err(TooLong);
        }
        let none = TraceState::default();
        let state = state.unwrap_or(&none);
        Ok(Some(if text.is_empty() { state.without(KEY) } else { state.with(KEY, &text).unwrap_or_default() }))
    }
}

/// The entry has no room for a threshold.
pub(super) struct TooLong;

/// `list = member *(";" member)`, `member = key ":" value` with different keys, 256 characters at most.
fn is_entry(text: &str) -> bool {
    let is_key = |key: &str| {
        key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_value = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let is_member = |member: &str| member.split_once(':').is_some_and(|(key, value)| is_key(key) && is_value(value));
    let is_first = |(at, member): (usize, &str)| {
        let key = |member: &str| member.split_once(':').map(|(key, _)| key.len());
        let key = &member[..key(member).unwrap_or(0)];
        text.split(';').take(at).all(|other| other.split_once(':').is_none_or(|(known, _)| known != key))
    };
    text.len() <= ENTRY_LEN_MAX && text.split(';').all(is_member) && text.split(';').enumerate().all(is_first)
}

fn find<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(';').filter_map(|member| member.split_once(':')).find(|(found, _)| *found == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the specification, at four digits.
    #[test]
    fn smp_15_thresholds_are_those_of_the_specification() {
        for (ratio, text) in [
            (1.0, "0"),
            (1.0 / 2.0, "8"),
            (1.0 / 3.0, "aaab"),
            (1.0 / 4.0, "c"),
            (1.0 / 5.0, "cccd"),
            (1.0 / 8.0, "e"),
            (1.0 / 10.0, "e666"),
            (1.0 / 16.0, "f"),
            (1.0 / 100.0, "fd70a"),
            (1.0 / 1000.0, "ffbe77"),
            (1e-4, "fff9724"),
            (1e-5, "ffff583a"),
            (1e-6, "ffffef39"),
            (Threshold::RATIO_MIN, "ffffffffffffff"),
        ] {
            let threshold = Threshold::of(ratio).unwrap();
            assert_eq!(threshold.to_string(), text, "{ratio}");
            assert_eq!(Threshold::read(text), Some(threshold), "{ratio}");
            assert!((threshold.ratio() / ratio - 1.0).abs() < 1e-3, "{ratio}");
        }
        for ratio in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY, Threshold::RATIO_MIN / 2.0] {
            assert!(Threshold::of(ratio).is_err(), "{ratio}");
        }
    }

    #[test]
    fn smp_15_threshold_is_read_with_its_zeros() {
        assert_eq!(Threshold::read("8"), Threshold::read("80000000000000"));
        assert_eq!(Threshold::read("0"), Some(Threshold::ALWAYS));
        for text in ["", "8000000000000000", "800000000000000", "C", "g", "+8", " 8"] {
            assert_eq!(Threshold::read(text), None, "{text:?}");
        }
    }

    /// The example of the specification: kept at every ratio of 56.9 % and more.
    #[test]
    fn smp_12_explicit_randomness_wins_over_the_trace_id() {
        let state = TraceState::new("ot=rv:6e6d1a75832a2f").unwrap();
        let randomness = Entry::of(Some(&state)).randomness(TraceId([0xFF; 16]));
        for (ratio, is_kept) in [(1.0, true), (0.57, true), (0.569, true), (0.568, false), (0.5, false), (0.01, false)]
        {
            assert_eq!(Threshold::of(ratio).unwrap().keeps(randomness), is_kept, "{ratio}");
        }
        assert!(Threshold::read("6e6d1a75832a2f").unwrap().keeps(randomness));
        let of_id = Entry::default().randomness(TraceId([1, 1, 1, 1, 1, 1, 1, 1, 1, 0xFF, 2, 3, 4, 5, 6, 7]));
        assert_eq!(of_id, 0xFF_0203_0405_0607);
    }

    #[test]
    fn smp_14_and_smp_16_only_what_the_grammar_allows_is_read() {
        for (entry, threshold, explicit) in [
            ("th:8", Some("8"), None),
            ("rv:0123456789abcd;th:c", Some("c"), Some(0x01_2345_6789_abcd)),
            ("x1:A.b_c-d;th:8", Some("8"), None),
            ("x:;th:8", Some("8"), None),
            ("th:8;rv:0123456789abc", Some("8"), None),
            ("th:8;rv:0123456789ABCD", Some("8"), None),
            ("th:80G", None, None),
            ("th:8;th:c", None, None),
            ("th:8;", None, None),
            ("th:8;X:1", None, None),
            ("th:8;1x:1", None, None),
            ("th:8;x:a b", None, None),
            ("th", None, None),
        ] {
            let state = TraceState::new(&format!("ot={entry}")).unwrap();
            let found = Entry::of(Some(&state));
            assert_eq!(found.threshold.map(|found| found.to_string()).as_deref(), threshold, "{entry}");
            assert_eq!(found.explicit, explicit, "{entry}");
        }
    }

    #[test]
    fn smp_13_threshold_is_replaced_and_all_else_stays() {
        let changed = |state: &str, threshold: Option<&str>| {
            let state = TraceState::new(state).unwrap();
            let threshold = threshold.and_then(Threshold::read);
            let changed = Entry::of(Some(&state)).with(Some(&state), threshold).unwrap_or_else(|_| panic!("too long"));
            changed.map(|state| state.as_str().to_owned())
        };
        assert_eq!(changed("", Some("8")).as_deref(), Some("ot=th:8"));
        assert_eq!(changed("a=1,ot=th:8", Some("c")).as_deref(), Some("ot=th:c,a=1"));
        assert_eq!(
            changed("a=1,ot=x:1;th:8;rv:0123456789abcd", Some("c")).as_deref(),
            Some("ot=th:c;x:1;rv:0123456789abcd,a=1")
        );
        assert_eq!(changed("a=1,ot=th:8;rv:0123456789abcd", None).as_deref(), Some("ot=rv:0123456789abcd,a=1"));
        assert_eq!(changed("a=1,ot=th:8", None).as_deref(), Some("a=1"));
        assert_eq!(changed("ot=th:8", None).as_deref(), Some(""));
        assert_eq!(changed("a=1,ot=th:8", Some("8")), None);
        assert_eq!(changed("a=1", None), None);
        assert_eq!(changed("ot=th:XY", None).as_deref(), Some(""), "what cannot be read goes too");
        let full = TraceState::new(&format!("ot=x:{}", "y".repeat(252))).unwrap();
        assert!(Entry::of(Some(&full)).with(Some(&full), Threshold::read("8")).is_err());
    }
}
