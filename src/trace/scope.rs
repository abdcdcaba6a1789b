//! Instrumentation scopes, each once in a table, so that a record carries a number of two bytes.

use crate::sync::once::SetOnce;

/// The instrumentation scope of a tracer: the library or component that records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Scope {
    /// Its name; may be empty.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// The schema of its telemetry; may be empty.
    pub schema_url: String,
    /// Its attributes; their values are text.
    pub attributes: Vec<(String, String)>,
}

impl Scope {
    /// A scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

/// All scopes of an engine, by number. Equal scopes have one number (CRE-07).
///
/// Scopes are only ever appended, and no thread waits for another, so a child process that was forked in the middle of
/// an addition can still read and add.
#[derive(Debug, Default)]
pub(crate) struct ScopeTable {
    first: SetOnce<Node>,
}

#[derive(Debug)]
struct Node {
    scope: Scope,
    next: SetOnce<Self>,
}

impl ScopeTable {
    /// The number of `scope`. A program with more than 65,536 scopes has the later ones recorded as the first.
    #[must_use]
    pub(crate) fn number(&self, scope: Scope) -> u16 {
        let mut mine = Some(Node { scope, next: SetOnce::new() });
        let mut place = &self.first;
        for number in 0..=u16::MAX {
            if place.get().is_none()
                && let Some(node) = mine.take()
            {
                match place.set(node) {
                    Ok(()) => return number,
                    Err(refused) => mine = Some(refused), // another scope came first
                }
            }
            let (Some(there), Some(wanted)) = (place.get(), &mine) else {
                break;
            };
            if there.scope == wanted.scope {
                return number;
            }
            place = &there.next;
        }
        0
    }

    /// The scope of this number.
    #[must_use]
    pub(crate) fn get(&self, number: u16) -> Option<Scope> {
        let mut place = &self.first;
        for _ in 0..number {
            place = &place.get()?.next;
        }
        place.get().map(|node| node.scope.clone())
    }
}

impl Drop for ScopeTable {
    /// One node after the other: a chain of 65,536 that drops by itself would overflow the stack.
    fn drop(&mut self) {
        let mut rest = self.first.take();
        while let Some(mut node) = rest {
            rest = node.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scopes_have_one_number() {
        let table = ScopeTable::default();
        let numbers: Vec<u16> = (0..40).map(|index| table.number(Scope::named(&format!("scope {index}")))).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
        assert_eq!(table.number(Scope::named("scope 33")), 33);
        assert_eq!(table.get(33), Some(Scope::named("scope 33")));
        assert_eq!(table.get(40), None);
        assert_eq!(table.get(u16::MAX), None);
    }
}
