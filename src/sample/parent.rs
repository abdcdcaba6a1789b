//! The sampler that keeps traces whole: children are as their parents.

use std::borrow::Cow;

use super::{Decision, Sampler, Sampling, SpanStart};

/// Asks one of five samplers, by the parent of the span (SMP-08).
///
/// ```
/// # use spanring::{Config, Engine, sample::{AlwaysOff, ParentBased, TraceIdRatio}};
/// // A tenth of the traces that begin here, whole; and none that others ask for.
/// let sampler = ParentBased::new(TraceIdRatio::new(0.1)?).remote_sampled(AlwaysOff);
/// let engine = Engine::start(Config { sampling: sampler.into(), ..Config::default() })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ParentBased {
    root: Sampling,
    remote_sampled: Sampling,
    remote_not_sampled: Sampling,
    local_sampled: Sampling,
    local_not_sampled: Sampling,
}

impl ParentBased {
    /// Asks `root` for spans without a parent. All others are as their parents.
    pub fn new(root: impl Into<Sampling>) -> Self {
        Self {
            root: root.into(),
            remote_sampled: Sampling::AlwaysOn,
            remote_not_sampled: Sampling::AlwaysOff,
            local_sampled: Sampling::AlwaysOn,
            local_not_sampled: Sampling::AlwaysOff,
        }
    }

    /// Whom to ask where the parent is in another process, and sampled.
    #[must_use]
    pub fn remote_sampled(self, sampler: impl Into<Sampling>) -> Self {
        Self { remote_sampled: sampler.into(), ..self }
    }

    /// Whom to ask where the parent is in another process, and not sampled.
    #[must_use]
    pub fn remote_not_sampled(self, sampler: impl Into<Sampling>) -> Self {
        Self { remote_not_sampled: sampler.into(), ..self }
    }

    /// Whom to ask where the parent is in this process, and sampled.
    #[must_use]
    pub fn local_sampled(self, sampler: impl Into<Sampling>) -> Self {
        Self { local_sampled: sampler.into(), ..self }
    }

    /// Whom to ask where the parent is in this process, and not sampled.
    #[must_use]
    pub fn local_not_sampled(self, sampler: impl Into<Sampling>) -> Self {
        Self { local_not_sampled: sampler.into(), ..self }
    }

    /// The one that starts know by heart, if it is one of these.
    pub(super) fn by_heart(&self) -> Option<Sampling> {
        let under_parents =
            [&self.remote_sampled, &self.remote_not_sampled, &self.local_sampled, &self.local_not_sampled];
        let as_parents = [Sampling::AlwaysOn, Sampling::AlwaysOff, Sampling::AlwaysOn, Sampling::AlwaysOff];
        match self.root {
            _ if under_parents.into_iter().ne(&as_parents) => None,
            Sampling::AlwaysOn => Some(Sampling::ParentBased),
            Sampling::AlwaysOff => Some(Sampling::ParentOnly),
            _ => None,
        }
    }
}

impl Sampler for ParentBased {
    fn sample<'a>(&'a self, start: &SpanStart<'a>) -> Decision<'a> {
        let decided = start.parent().filter(|parent| !parent.is_undecided());
        let asked = match decided.map(|parent| (parent.is_remote(), parent.is_sampled())) {
            None => &self.root,
            Some((true, true)) => &self.remote_sampled,
            Some((true, false)) => &self.remote_not_sampled,
            Some((false, true)) => &self.local_sampled,
            Some((false, false)) => &self.local_not_sampled,
        };
        asked.sample(start)
    }

    fn description(&self) -> Cow<'_, str> {
        format!(
            "ParentBased{{root:{},remoteParentSampled:{},remoteParentNotSampled:{},localParentSampled:{},\
             localParentNotSampled:{}}}",
            self.root.description(),
            self.remote_sampled.description(),
            self.remote_not_sampled.description(),
            self.local_sampled.description(),
            self.local_not_sampled.description(),
        )
        .into()
    }
}
