//! Several formats at once, in an order, and how far the caller is trusted.

use std::fmt;

use arrayvec::ArrayVec;

use super::{Dropped, Extractor, Injector, b3, baggage, trace_context};
use crate::context::{Baggage, Context, SpanContext};

/// A format that contexts travel in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Propagator {
    /// W3C Trace Context: [`trace_context`].
    TraceContext,
    /// W3C Baggage: [`baggage`](mod@baggage).
    Baggage,
    /// [`b3`], which is written as a single header. Both forms are read.
    B3,
    /// [`b3`], which is written as a header for each part. Both forms are read.
    B3Multi,
}

impl Propagator {
    pub(crate) const ALL: [Self; 4] = [Self::TraceContext, Self::Baggage, Self::B3, Self::B3Multi];

    /// As `OTEL_PROPAGATORS` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TraceContext => "tracecontext",
            Self::Baggage => "baggage",
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
        }
    }

    /// The fields that it sets.
    #[must_use]
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::TraceContext => &trace_context::FIELDS,
            Self::Baggage => &baggage::FIELDS,
            Self::B3 => &b3::FIELDS,
            Self::B3Multi => &b3::MULTI_FIELDS,
        }
    }
}

/// Formats in an order, each once: W3C Trace Context and W3C Baggage, unless the program or `OTEL_PROPAGATORS` says
/// otherwise.
///
/// ```
/// use std::collections::HashMap;
///
/// use spanring::propagate::{Propagator, Propagators, Trust};
///
/// let mut request: HashMap<String, String> = HashMap::new();
/// request.insert("b3".into(), "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1".into());
/// request.insert("baggage".into(), "tenant=blue".into());
///
/// let propagators = Propagators::new([Propagator::TraceContext, Propagator::B3, Propagator::Baggage]);
/// let caller = propagators.extract(&request).with_trust(Trust::Continue).into_context();
///
/// let mut outgoing: HashMap<String, String> = HashMap::new();
/// propagators.inject(&caller, &mut outgoing);
/// assert_eq!(outgoing["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert_eq!(outgoing["baggage"], "tenant=blue");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Propagators(ArrayVec<Propagator, { Propagator::ALL.len() }>);

impl Propagators {
    /// These, in this order. One that comes again counts once; none at all reads and writes nothing.
    #[must_use]
    pub fn new(propagators: impl IntoIterator<Item = Propagator>) -> Self {
        let mut each = ArrayVec::new();
        for propagator in propagators {
            if !each.contains(&propagator) {
                each.push(propagator);
            }
        }
        Self(each)
    }

    /// What the carrier has. Where several formats name a span, the last good one counts; one that is malformed is as
    /// if it were not there.
    #[must_use]
    pub fn extract(&self, carrier: &(impl Extractor + ?Sized)) -> Extracted {
        let mut extracted = Extracted::default();
        for propagator in &self.0 {
            let span_context = match propagator {
                Propagator::TraceContext => trace_context::extract(carrier),
                Propagator::B3 | Propagator::B3Multi => b3::extract(carrier),
                Propagator::Baggage => {
                    let (baggage, dropped) = baggage::extract(carrier);
                    extracted.baggage = baggage;
                    extracted.dropped += dropped;
                    None
                }
            };
            extracted.span_context = span_context.or(extracted.span_context);
        }
        extracted
    }

    /// Sends a context on, its span as the caller's, and says what was left out.
    pub fn inject(&self, context: &Context, carrier: &mut (impl Injector + ?Sized)) -> Dropped {
        let (context, baggage) = (context.span_context(), context.baggage());
        let mut dropped = Dropped::default();
        for propagator in &self.0 {
            dropped += match propagator {
                Propagator::TraceContext => trace_context::inject(context, carrier),
                Propagator::Baggage => baggage::inject(baggage, carrier),
                Propagator::B3 => b3::inject(context, carrier),
                Propagator::B3Multi => b3::inject_multi(context, carrier),
            };
        }
        dropped
    }

    /// The fields that are set, for a carrier that is used again and has to be cleared before.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().flat_map(|propagator| propagator.fields()).copied()
    }
}

impl Default for Propagators {
    fn default() -> Self {
        Self::new([Propagator::TraceContext, Propagator::Baggage])
    }
}

impl fmt::Display for Propagators {
    /// As the value of `OTEL_PROPAGATORS`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: ArrayVec<&str, { Propagator::ALL.len() }> = self.0.iter().map(|each| each.name()).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// What a carrier had.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Extracted {
    /// The caller's span, to be the parent of a span here.
    pub span_context: Option<SpanContext>,
    /// The caller's span where it is not to be the parent, but may be linked to: see [`Trust::Restart`].
    pub origin: Option<SpanContext>,
    /// The caller's baggage.
    pub baggage: Baggage,
    /// What of it was left out.
    pub dropped: Dropped,
}

impl Extracted {
    /// The caller's context, to be attached, or to be the parent of a span.
    #[must_use]
    pub fn into_context(self) -> Context {
        Context::of(self.span_context.unwrap_or_default()).with_baggage(self.baggage)
    }

    /// What this much trust leaves of it.
    #[must_use]
    pub fn with_trust(self, trust: Trust) -> Self {
        match trust {
            Trust::Continue => self,
            Trust::IgnoreSampled => Self { span_context: self.span_context.map(SpanContext::undecided), ..self },
            Trust::Restart => Self {
                span_context: None,
                origin: self.span_context.or(self.origin),
                baggage: Baggage::default(),
                dropped: self.dropped,
            },
        }
    }
}

/// How far a caller is trusted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Trust {
    /// Its trace goes on here, and so does its baggage: for callers of one's own.
    #[default]
    Continue,
    /// Its trace goes on here, and whether it is sampled is decided here, as for a trace that begins: for those who
    /// would have everything sampled, or nothing.
    IgnoreSampled,
    /// A new trace begins here, with a link to the caller's span if the program makes one of
    /// [`Extracted::origin`]. Its baggage is left out: for the edge to the outside.
    Restart,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACES: [&str; 3] =
        ["11111111111111111111111111111111", "22222222222222222222222222222222", "33333333333333333333333333333333"];
    const SPAN: &str = "b7ad6b7169203331";

    type Pairs = Vec<(String, String)>;

    /// A carrier in which each format names another trace.
    fn all() -> Pairs {
        let [trace_context, single, multi] = TRACES;
        let pairs = [
            ("traceparent", format!("00-{trace_context}-{SPAN}-01")),
            ("tracestate", "a=1".to_owned()),
            ("b3", format!("{single}-{SPAN}-1")),
            ("x-b3-traceid", multi.to_owned()),
            ("x-b3-spanid", SPAN.to_owned()),
            ("x-b3-sampled", "0".to_owned()),
            ("baggage", "a=1,bad".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn trace(extracted: &Extracted) -> Option<String> {
        extracted.span_context.as_ref().map(|context| context.trace_id().to_string())
    }

    /// PRP-04: a composite asks each in its order; what a later one finds replaces what an earlier one did.
    #[test]
    fn prp_04_propagators_are_asked_in_their_order() {
        let of = |each: &[Propagator]| Propagators::new(each.iter().copied()).extract(&all());
        assert_eq!(trace(&of(&[Propagator::TraceContext])).as_deref(), Some(TRACES[0]));
        assert_eq!(trace(&of(&[Propagator::TraceContext, Propagator::B3])).as_deref(), Some(TRACES[1]));
        assert_eq!(trace(&of(&[Propagator::B3Multi, Propagator::TraceContext])).as_deref(), Some(TRACES[0]));
        assert_eq!(of(&[]), Extracted::default());
        let both = of(&[Propagator::Baggage, Propagator::TraceContext]);
        assert_eq!((both.baggage.get("a"), both.dropped.malformed_members), (Some("1"), 1));
        assert_eq!(both.span_context.unwrap().trace_state().as_str(), "a=1");
        assert!(of(&[Propagator::TraceContext]).baggage.is_empty());
    }

    /// PRP-02: what does not parse leaves what was there.
    #[test]
    fn prp_02_malformed_fields_leave_what_another_found() {
        let mut carrier = all();
        carrier.iter_mut().filter(|(name, _)| name.contains("b3")).for_each(|(_, value)| value.push('x'));
        let propagators = Propagators::new([Propagator::TraceContext, Propagator::B3]);
        assert_eq!(trace(&propagators.extract(&carrier)).as_deref(), Some(TRACES[0]));
        assert_eq!(propagators.extract(&Pairs::new()), Extracted::default());
    }

    /// PRP-01, PRP-05: every format writes its fields, and those alone.
    #[test]
    fn prp_05_every_format_writes_its_fields() {
        let extracted = Propagators::default().extract(&all());
        let context = extracted.into_context();
        for each in Propagator::ALL {
            let mut carrier = Pairs::new();
            let propagators = Propagators::new([each]);
            assert_eq!(propagators.inject(&context, &mut carrier), Dropped::default());
            let names: Vec<&str> = carrier.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, propagators.fields().collect::<Vec<_>>());
            assert_eq!(names, each.fields());
            assert!(carrier.iter().all(|(name, value)| name.is_ascii() && value.is_ascii()));
            let back = propagators.extract(&carrier);
            assert_eq!(trace(&back).is_none(), each == Propagator::Baggage);
            assert_eq!(back.baggage.is_empty(), each != Propagator::Baggage);
        }
        let every = Propagators::new(Propagator::ALL);
        let mut carrier = Pairs::new();
        every.inject(&context, &mut carrier);
        assert_eq!(carrier.len(), 7);
    }

    #[test]
    fn propagators_count_once_and_are_shown_as_the_variable_has_them() {
        let twice = [Propagator::B3, Propagator::Baggage, Propagator::B3, Propagator::B3Multi];
        assert_eq!(Propagators::new(twice).to_string(), "b3,baggage,b3multi");
        assert_eq!(Propagators::default().to_string(), "tracecontext,baggage");
        assert_eq!(Propagators::new([]).to_string(), "none");
    }

    #[test]
    fn trust_decides_what_is_left_of_the_caller() {
        let received = || Propagators::default().extract(&all());
        let caller = received().span_context;
        assert_eq!(received().with_trust(Trust::default()), received());

        let restarted = received().with_trust(Trust::Restart);
        assert_eq!((&restarted.span_context, &restarted.origin), (&None, &caller));
        assert!(restarted.baggage.is_empty());
        assert_eq!(restarted.dropped, received().dropped, "it was left out all the same");
        assert_eq!(restarted.clone().with_trust(Trust::Restart), restarted);

        let undecided = received().with_trust(Trust::IgnoreSampled);
        let context = undecided.span_context.unwrap();
        assert!(context.is_undecided() && !caller.clone().unwrap().is_undecided());
        assert_eq!(
            (context.trace_id(), context.span_id()),
            caller.map(|caller| (caller.trace_id(), caller.span_id())).unwrap()
        );
        assert_eq!((undecided.baggage, undecided.origin), (received().baggage, None));
    }
}
