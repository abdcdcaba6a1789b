//! Rules: which part of a sampler is asked for which spans.

use std::borrow::Cow;

use super::{Composable, Intent, SpanStart, attributes::Constant};
use crate::record::Kind;

/// Asks the part of the first rule that applies. Where none does, the span is not sampled (SMP-19).
#[derive(Debug, Default)]
pub struct RuleBased {
    rules: Vec<(Rule, Box<dyn Composable>)>,
}

impl RuleBased {
    /// Without a rule.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more rule, which is tried after the others.
    #[must_use]
    pub fn rule(mut self, rule: Rule, part: impl Composable + 'static) -> Self {
        self.rules.push((rule, Box::new(part)));
        self
    }
}

impl Composable for RuleBased {
    fn intent<'a>(&'a self, start: &SpanStart<'a>) -> Intent<'a> {
        let found = self.rules.iter().find(|(rule, _)| rule.applies(start));
        found.map_or_else(Intent::never, |(_, part)| part.intent(start))
    }

    fn description(&self) -> Cow<'_, str> {
        let parts: Vec<_> = self.rules.iter().map(|(_, part)| part.description()).collect();
        format!("ComposableRuleBased{{{}}}", parts.join(",")).into()
    }
}

/// Which spans a part is asked for: those that meet all conditions. Without one it applies to every span.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    name: Option<Cow<'static, str>>,
    kind: Option<Kind>,
    /// A key, and the value where it matters.
    attributes: Vec<(Cow<'static, str>, Option<Constant>)>,
    links: Links,
}

#[derive(Clone, Copy, Debug, Default)]
enum Links {
    #[default]
    Any,
    Some,
    Sampled,
}

impl Rule {
    /// A rule without a condition.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The name is this. A `*` stands for any text, also none.
    #[must_use]
    pub fn name(self, pattern: impl Into<Cow<'static, str>>) -> Self {
        Self { name: Some(pattern.into()), ..self }
    }

    /// The kind is this.
    #[must_use]
    pub fn kind(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// The builder has this attribute, with this value.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Constant>) -> Self {
        self.attributes.push((key.into(), Some(value.into())));
        self
    }

    /// The builder has an attribute of this key.
    #[must_use]
    pub fn has_attribute(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.attributes.push((key.into(), None));
        self
    }

    /// The builder has a link.
    #[must_use]
    pub fn linked(self) -> Self {
        Self { links: Links::Some, ..self }
    }

    /// The builder has a link to a span that is sampled.
    #[must_use]
    pub fn linked_to_sampled(self) -> Self {
        Self { links: Links::Sampled, ..self }
    }

    fn applies(&self, start: &SpanStart<'_>) -> bool {
        let is_linked = match self.links {
            Links::Any => true,
            Links::Some => start.links().next().is_some(),
            Links::Sampled => start.links().any(|link| link.target.is_sampled()),
        };
        is_linked
            && self.kind.is_none_or(|kind| kind == start.kind())
            && self.name.as_ref().is_none_or(|pattern| is_like(start.name(), pattern))
            && self.attributes.iter().all(|(key, value)| has(start, key, value.as_ref()))
    }
}

/// Whether the builder has the attribute. Of equal keys the last counts.
fn has(start: &SpanStart<'_>, key: &str, value: Option<&Constant>) -> bool {
    let found = start.attributes().iter().rev().find(|(found, _)| found.name() == key);
    found.is_some_and(|(_, found)| value.is_none_or(|value| value.is(*found)))
}

/// Whether a text is as a pattern, in which `*` stands for any text: the first part begins it, the last ends it, and
/// those between come in their order, each at its first place.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let (between, last) = rest.rsplit_once('*').map_or((None, rest), |(between, last)| (Some(between), last));
    let Some(text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else {
        return false;
    };
    let mut left = Some(text);
    for part in between.into_iter().flat_map(|between| between.split('*')) {
        left = left.and_then(|text| text.split_once(part)).map(|(_, after)| after);
    }
    left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_any_text() {
        for (text, pattern, expected) in [
            ("GET /health", "GET /health", true),
            ("GET /healthz", "GET /health", false),
            ("GET /healthz", "GET /health*", true),
            ("GET /health", "GET /health*", true),
            ("GET /cart/items", "*/items", true),
            ("GET /cart/items", "GET */items", true),
            ("GET /cart/items", "GET*cart*items", true),
            ("GET /cart/items", "GET*items*cart", false),
            ("aba", "ab*ba", false),
            ("", "*", true),
            ("", "", true),
            ("x", "", false),
            ("a-b-c", "a*b*b*c", false),
            ("a-b-b-c", "a*b*b*c", true),
            ("ä-ö", "ä**ö", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text:?} like {pattern:?}");
        }
    }
}
