//! What the worker knows of scopes.

use crate::{
    otlp::ScopeHead,
    trace::{Scope, SpanLanes},
};

/// The encoded heads of the scopes that were met, by number.
#[derive(Debug, Default)]
pub(super) struct Scopes(Vec<Option<ScopeHead>>);

impl Scopes {
    /// The head of this scope, encoded at its first use.
    pub(super) fn head(&mut self, core: &SpanLanes, number: u16) -> &ScopeHead {
        let at = usize::from(number);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_with(|| {
            let nameless = Scope::default();
            let scope = core.owner().scopes().get(number).unwrap_or(&nameless);
            ScopeHead::new(&scope.name, &scope.version, &scope.attributes, &scope.schema_url)
        })
    }

    /// The head of a scope that [`Scopes::head`] was asked for.
    pub(super) fn known(&self, number: u16) -> &ScopeHead {
        self.0[usize::from(number)].as_ref().expect("the batch asked for each of its scopes")
    }
}
