//! Reads the variables of the environment. What cannot be read is a warning (an endpoint is an error at start), and so
//! is what is known and not supported: nobody should wonder why a variable has no effect.

use std::{ffi::OsString, mem, ops::RangeInclusive, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    export::{BATCH_SPANS_MAX, Export},
    origins::{Instead, Origins},
    settings::{COUNT_MAX, Config},
};
use crate::{
    propagate::{Propagator, Propagators},
    report::QUEUE_SPAN_BYTES,
    sample::{ParentBased, Sampling, TraceIdRatio},
    transport::{
        client::endpoint::Endpoint,
        http::headers::{HeaderError, Headers},
    },
};

/// Variables that say the same thing, of which the first that can be read counts.
pub(super) struct Row {
    pub(super) names: &'static [&'static str],
    /// The setting that they give, as [`Config::explain`] calls it; empty if there is none.
    pub(super) setting: &'static str,
    /// What happens where they are ignored; empty if the setting stays what it is.
    pub(super) instead: &'static str,
    pub(super) read: fn(&mut Environment<'_>, &Self),
}

impl Row {
    fn instead(&self) -> Instead {
        if self.instead.is_empty() { Instead::Stays(self.setting) } else { Instead::Is(self.instead) }
    }
}

/// Gives a variable's text by its name, or its bytes where it is not UTF-8.
pub(super) type Read<'a> = dyn Fn(&str) -> Option<Result<String, OsString>> + 'a;

/// The configuration while the variables are read, and what there is to say of them.
pub(super) struct Environment<'a> {
    pub(super) config: Config,
    /// Of the configuration, if anything is exported.
    pub(super) export: Export,
    exports: bool,
    /// Spans of the queue, and the variable that says so.
    queue: Option<(usize, &'static str)>,
    /// The variable that asks for a share of all traces, and whether children are as their parents.
    shared: Option<(bool, &'static str)>,
    /// The variable by which nothing is recorded, because nobody would have it.
    unrecorded: Option<&'static str>,
    read: &'a Read<'a>,
    /// What is ignored and why, and what happens instead.
    ignored: Vec<(String, Instead)>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(read: &'a Read<'a>) -> Self {
        let config = Config { origins: Origins::of_environment(), ..Config::default() };
        let export = Export::default();
        Self { config, export, exports: true, queue: None, shared: None, unrecorded: None, read, ignored: vec![] }
    }

    /// The configuration that was read.
    pub(super) fn finish(self) -> Config {
        let mut config = Config { export: self.exports.then_some(self.export), ..self.config };
        if let Some(name) = self.unrecorded {
            config = Config { sampling: Sampling::AlwaysOff, export: None, ..config };
            for setting in ["sampling", "export"] {
                config.origins.note(setting, name);
            }
        }
        config.remember(self.ignored);
        config
    }

    // ---- One for each kind of row.

    /// Sets a field to what the variables say.
    pub(super) fn set<T>(
        &mut self,
        row: &Row,
        field: impl FnOnce(&mut Self) -> &mut T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        if let Some((value, name)) = self.first(row, parse) {
            *field(self) = value;
            self.config.origins.note(row.setting, name);
        }
    }

    /// Reads what has one value only.
    pub(super) fn expect(&mut self, row: &Row, value: &str) {
        let _ = self.first(row, |text| word(text, &[(value, ())]));
    }

    /// Says that the variable is not supported, unless it asks for what happens anyway.
    pub(super) fn refuse(&mut self, row: &Row, met: &str, why: &str) {
        for name in row.names {
            if self.text(name, row.instead()).is_some_and(|text| !text.eq_ignore_ascii_case(met)) {
                self.ignore(name, why, row.instead());
            }
        }
    }

    /// CFG-03: what is not true is false.
    pub(super) fn disabled(&mut self, row: &Row) {
        let disabled = self.first(row, |text| word(text, &[("true", true), ("false", false)]));
        self.unrecorded = disabled.filter(|&(is_disabled, _)| is_disabled).map(|(_, name)| name);
    }

    /// Attributes of the resource; later ones win (RES-06).
    pub(super) fn resource(&mut self, row: &Row, parse: impl Fn(&str) -> Result<Vec<(String, String)>, String>) {
        let (pairs, name) = self.first(row, parse).unwrap_or_default();
        for (key, value) in pairs {
            self.config.origins.note(&format!("resource.{key}"), name);
            self.config.resource = mem::take(&mut self.config.resource).with(&key, value.as_str());
            self.config.origins.resource.push((key, value));
        }
    }

    /// The formats that are known, in their order.
    pub(super) fn propagators(&mut self, row: &Row) {
        let named = Propagator::ALL.map(|propagator| (propagator.name(), Some(propagator)));
        let propagators = self.words(row, &[&named[..], &[("none", None)]].concat());
        if !propagators.is_empty() {
            self.config.propagators = Propagators::new(propagators.into_iter().flatten());
            self.config.origins.note(row.setting, row.names[0]);
        }
    }

    /// CFG-12: the sampler. One that samples a share has it in the next variable.
    pub(super) fn sampler(&mut self, row: &Row) {
        #[derive(Clone, Copy)]
        enum Known {
            ParentBased,
            ParentOnly,
            AlwaysOn,
            AlwaysOff,
            Ratio { by_parent: bool },
        }
        let known = [
            ("parentbased_always_on", Known::ParentBased),
            ("parentbased_always_off", Known::ParentOnly),
            ("parentbased_traceidratio", Known::Ratio { by_parent: true }),
            ("always_on", Known::AlwaysOn),
            ("always_off", Known::AlwaysOff),
            ("traceidratio", Known::Ratio { by_parent: false }),
        ];
        let why = |why| format!("{why}; every trace that begins here is recorded and sent");
        let Some((sampler, name)) = self.first(row, |text| word(text, &known).map_err(why)) else {
            return;
        };
        self.config.sampling = match sampler {
            Known::ParentBased => Sampling::ParentBased,
            Known::ParentOnly => Sampling::ParentOnly,
            Known::AlwaysOn => Sampling::AlwaysOn,
            Known::AlwaysOff => Sampling::AlwaysOff,
            Known::Ratio { by_parent } => {
                self.shared = Some((by_parent, name));
                share(by_parent, TraceIdRatio::all())
            }
        };
        self.config.origins.note(row.setting, name);
    }

    /// The share of traces that are sampled, where the sampler takes one: all without it, and where it is none.
    pub(super) fn sampler_argument(&mut self, row: &Row) {
        let Some((by_parent, sampler)) = self.shared else {
            return self.refuse(row, "", "the sampler takes no argument");
        };
        let ratio = |text: &str| {
            let ratio = text.parse().ok().and_then(|ratio| TraceIdRatio::new(ratio).ok());
            ratio.ok_or_else(|| format!("{} is not a number from 0 to 1", shown(text)))
        };
        if let Some((ratio, _)) = self.first(row, ratio) {
            self.config.sampling = share(by_parent, ratio);
            self.config.origins.note("sampling", sampler);
        }
    }

    /// Whether spans are exported. Of several exporters those that are known count.
    pub(super) fn exporters(&mut self, row: &Row) {
        let name = row.names[0];
        let exporters = self.words(row, &[("otlp", true), ("none", false)]);
        if !exporters.is_empty() {
            let exports = exporters.contains(&true);
            self.exports = exports;
            self.config.origins.note("export", name);
            if !exports {
                // A disabled engine stays one.
                self.unrecorded = self.unrecorded.or(Some(name));
            }
        }
    }

    pub(super) fn queue(&mut self, row: &Row) {
        let queue = self.first(row, |text| {
            let spans = number(text, 1..=usize::MAX)?;
            Ok((spans, queue_budget(spans).ok_or_else(|| format!("{spans} spans need more memory than 16 GiB"))?))
        });
        if let Some(((spans, budget), name)) = queue {
            self.queue = Some((spans, name));
            self.config.memory_budget = budget;
            self.config.origins.note(row.setting, name);
        }
    }

    pub(super) fn memory_budget(&mut self, row: &Row) {
        let exports = self.exports;
        self.set(
            row,
            |to| &mut to.config.memory_budget,
            |text| {
                let memory_budget = number_of("bytes", text, 1..=usize::MAX)?;
                let config = Config { memory_budget, export: exports.then(Export::default), ..Config::default() };
                let shape = config.shape().map(|_| memory_budget);
                shape.map_err(|error| format!("{memory_budget} bytes cannot work: {}", error.remedy()))
            },
        );
    }

    /// No batch is larger than the queue.
    pub(super) fn batch(&mut self, row: &Row) {
        let most = self.queue.map_or(BATCH_SPANS_MAX, |(spans, _)| spans.min(BATCH_SPANS_MAX));
        self.set(row, |to| &mut to.export.batch_spans_max, |text| number(text, 1..=most));
        if let Some((_, name)) = self.queue.filter(|_| self.export.batch_spans_max > most) {
            self.export.batch_spans_max = most;
            self.config.origins.note(row.setting, name);
        }
    }

    /// Two clocks for one thing, the end of all attempts: the one that rings first counts. An unset one never rings
    /// first, because the default of the batch's (30 s) is longer than that of the exporter (10 s).
    pub(super) fn shorter_timeout(&mut self, row: &Row) {
        let bound = |timeout: Duration| if timeout.is_zero() { Duration::MAX } else { timeout };
        if let Some((timeout, name)) = self.first(row, millis)
            && bound(timeout) < bound(self.export.timeout)
        {
            self.export.timeout = timeout;
            self.config.origins.note(row.setting, name);
        }
    }

    /// CFG-21: the one for traces as it is. CFG-22: a base. One that cannot work is kept as well, so that the start
    /// fails: in its place the default would take the spans, and the secrets in their headers, somewhere else.
    pub(super) fn endpoint(&mut self, row: &Row, urls: [fn(&str) -> String; 2]) {
        let given = row.names.iter().zip(urls).find_map(|(&name, url)| {
            let text = (self.read)(name)?.unwrap_or_else(|garbled| garbled.to_string_lossy().into_owned());
            let text = text.trim();
            (!text.is_empty()).then(|| (url(text), name))
        });
        if let Some((url, name)) = given {
            self.export.endpoint = url;
            self.config.origins.note(row.setting, name);
        }
    }

    /// The headers that can be sent, if there are any. The others are told by their names, or by their places.
    pub(super) fn headers(&mut self, row: &Row) {
        let read = self.first(row, |text| {
            let (headers, errors) = Headers::from_env_text(text);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
            if headers.is_empty() && !errors.is_empty() { Err(listed(&errors)) } else { Ok((headers, errors)) }
        });
        if let Some(((headers, errors), name)) = read {
            self.export.headers = headers;
            self.config.origins.note(row.setting, name);
            if !errors.is_empty() {
                self.ignored.push((format!("{name} is ignored in part: {}", listed(&errors)), row.instead()));
            }
        }
    }

    /// Says where a variable contradicts the scheme of the endpoint. It is for endpoints of gRPC, which may have none.
    pub(super) fn insecure(&mut self, row: &Row) {
        let given = self.first(row, |text| word(text, &[("true", true), ("false", false)]));
        let is_tls = Endpoint::parse(&self.export.endpoint).is_ok_and(|endpoint| endpoint.is_tls());
        if let Some((is_insecure, name)) = given
            && is_insecure == is_tls
            && self.exports
        {
            self.ignore(name, "it is for endpoints of gRPC that have no scheme", row.instead());
        }
    }

    /// Says which of these names are almost one of `rows`. Others with such a prefix may be anybody's: a service that
    /// is called spanring has `SPANRING_SERVICE_HOST` and more from Kubernetes, and OpenTelemetry has other signals.
    pub(super) fn mistyped(&mut self, names: impl Iterator<Item = String>, rows: &[Row]) {
        let known = || rows.iter().flat_map(|row| row.names.iter().map(move |&name| (name, row)));
        let is_ours = |name: &String| ["OTEL_", "SPANRING_"].iter().any(|prefix| name.starts_with(prefix));
        let is_other = |name: &String| OTHERS.iter().any(|prefix| name.starts_with(prefix));
        for name in names.filter(|name| is_ours(name) && !is_other(name)) {
            let closest = known().map(|(own, row)| (distance(own, &name), own, row)).min_by_key(|&(far, ..)| far);
            if let Some((1..=TYPOS_MAX, own, row)) = closest {
                let name = name.escape_debug().to_string();
                self.ignore(&name, &format!("no such variable is read, but {own} is"), row.instead());
            }
        }
    }

    // ---- What they have in common.

    /// What the first of these variables says that can be read, and its name.
    fn first<T>(&mut self, row: &Row, parse: impl Fn(&str) -> Result<T, String>) -> Option<(T, &'static str)> {
        row.names.iter().find_map(|&name| match parse(&self.text(name, row.instead())?) {
            Ok(value) => Some((value, name)),
            Err(why) => {
                self.ignore(name, &why, row.instead());
                None
            }
        })
    }

    /// The words of a list that are known. The others are ignored, each with a warning.
    fn words<T: Copy>(&mut self, row: &Row, known: &[(&str, T)]) -> Vec<T> {
        let name = row.names[0];
        let text = self.text(name, row.instead()).unwrap_or_default();
        let mut words = vec![];
        for each in text.split(',').map(str::trim).filter(|each| !each.is_empty()) {
            match word(each, known) {
                Ok(value) => words.push(value),
                Err(why) => self.ignore(name, &why, row.instead()),
            }
        }
        words
    }

    /// The text of a variable. An empty one is as good as none (CFG-02).
    fn text(&mut self, name: &str, instead: Instead) -> Option<String> {
        let Ok(text) = (self.read)(name)? else {
            self.ignore(name, "it is not UTF-8", instead);
            return None;
        };
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            self.ignore(name, &format!("it has more than {TEXT_BYTES_MAX} bytes"), instead);
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn ignore(&mut self, name: &str, why: &str, instead: Instead) {
        self.ignored.push((format!("{name} is ignored: {why}"), instead));
    }
}

/// Letters in which a name may differ from one of ours and be taken for it: two that change places are two.
const TYPOS_MAX: usize = 2;
/// Of OpenTelemetry, and close to ours: `OTEL_BLRP_SCHEDULE_DELAY` is for log records what `OTEL_BSP_SCHEDULE_DELAY` is
/// for spans.
const OTHERS: [&str; 1] = ["OTEL_BLRP_"];
/// Most bytes of a value. The resource is a part of every request, and headers have this limit of their own.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Most of a bad value that a warning shows.
const SHOWN_CHARS_MAX: usize = 64;
/// Most headers that a warning names: a line of a few hundred bytes.
const ERRORS_SHOWN_MAX: usize = 4;
/// Longest time that is believed, which is the largest number that OpenTelemetry demands: 24 days.
const MILLIS_MAX: u32 = i32::MAX as u32;
/// Least memory for a queue: enough for an engine of any number of lanes, as for [`size`](crate::size).
const QUEUE_BUDGET_MIN: usize = 4 << 20;

/// One of these words, in any case (CFG-06).
pub(super) fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|&(name, _)| name).collect();
        format!("{} is not supported, only {}", shown(text), names.join(", "))
    })
}

fn share(by_parent: bool, ratio: TraceIdRatio) -> Sampling {
    if by_parent { ParentBased::new(ratio).into() } else { ratio.into() }
}

/// A whole number; a sign has no meaning of its own (CFG-04).
fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{} is not a whole number from {} to {}", shown(text), range.start(), range.end()))
}

/// As [`number`], for a value after which a unit might be written: the number alone has this one.
fn number_of<N>(unit: &str, text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    number(text, range).map_err(|why| format!("{why} ({unit}, without a unit)"))
}

/// How many of a thing a span may have.
pub(super) fn count(text: &str) -> Result<u32, String> {
    number(text, 0..=COUNT_MAX)
}

/// How long a value may be.
pub(super) fn length(text: &str) -> Result<Option<u32>, String> {
    number(text, 0..=u32::MAX).map(Some)
}

/// A time in whole milliseconds (CFG-05).
pub(super) fn millis(text: &str) -> Result<Duration, String> {
    number_of("milliseconds", text, 0..=MILLIS_MAX).map(|millis| Duration::from_millis(u64::from(millis)))
}

/// The memory with rings for so many spans; `None` if no engine has so much.
fn queue_budget(spans: usize) -> Option<usize> {
    // Rings have sizes that are powers of two, and half of the budget.
    let rings = spans.checked_mul(usize::try_from(QUEUE_SPAN_BYTES).ok()?)?.checked_next_power_of_two()?;
    let memory_budget = rings.checked_mul(2)?.max(QUEUE_BUDGET_MIN);
    Config { memory_budget, ..Config::default() }.shape().ok().map(|_| memory_budget)
}

/// The first of these errors in one line, and how many more there are.
fn listed(errors: &[HeaderError]) -> String {
    let mut texts: Vec<_> = errors.iter().take(ERRORS_SHOWN_MAX).map(ToString::to_string).collect();
    if errors.len() > ERRORS_SHOWN_MAX {
        texts.push(format!("and {} more", errors.len() - ERRORS_SHOWN_MAX));
    }
    texts.join("; ")
}

/// The pairs of `key=value,key=value`, percent-decoded. One fault is the end of them all (RES-05).
pub(super) fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pairs = members.enumerate().map(|(index, member)| {
        let pair = member.split_once('=').and_then(|(key, value)| {
            let key = decoded(key.trim()).filter(|key| !key.is_empty())?;
            Some((key, decoded(value.trim())?))
        });
        pair.ok_or_else(|| {
            format!("member {} ({}) is not key=value, percent-encoded in UTF-8", index + 1, shown(member))
        })
    });
    pairs.collect()
}

fn decoded(text: &str) -> Option<String> {
    let is_hex =
        |digits: Option<&str>| digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let is_encoded = text.match_indices('%').all(|(at, _)| is_hex(text.get(at + 1..at + 3)));
    let decoded = is_encoded.then(|| percent_decode_str(text).decode_utf8().ok()).flatten();
    decoded.map(|text| text.into_owned())
}

/// A text for a warning: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{rest}")
}

/// How many letters have to be added, left out or changed to make one name of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut before = mem::replace(&mut row[0], at + 1);
        for (next, known) in other.bytes().enumerate() {
            let changed = before + usize::from(letter != known);
            before = row[next + 1];
            row[next + 1] = changed.min(before + 1).min(row[next] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        let cases =
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "ac", 1), ("ac", "abc", 1)];
        let more = [("abc", "axc", 1), ("abc", "acb", 2), ("kitten", "sitting", 3), ("abcd", "bcda", 2)];
        for (one, other, expected) in cases.into_iter().chain(more) {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
