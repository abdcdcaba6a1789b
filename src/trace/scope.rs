//! Instrumentation scopes: who records, named once in a table, so that a record carries two bytes.

use std::sync::OnceLock;

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
    /// Its attributes, of text values.
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
/// Scopes are only ever added, each at the first free place, and nothing is locked: a child process that was forked in the
/// middle of an addition can read and add.
#[derive(Debug, Default)]
pub struct ScopeTable {
    first: Chunk,
}

#[derive(Debug, Default)]
struct Chunk {
    scopes: [OnceLock<Scope>; CHUNK_LEN],
    next: OnceLock<Box<Self>>,
}

const CHUNK_LEN: usize = 16;

impl ScopeTable {
    /// The number of `scope`. A program with more than 65,536 scopes has the later ones recorded as the first.
    #[must_use]
    pub fn number(&self, mut scope: Scope) -> u16 {
        let mut chunk = &self.first;
        for number in 0..=u16::MAX {
            let place = usize::from(number) % CHUNK_LEN;
            if place == 0 && number > 0 {
                chunk = chunk.next.get_or_init(Box::default);
            }
            // Whoever comes second to a free place finds the first one's scope there, and goes on.
            let cell = &chunk.scopes[place];
            if cell.get().is_none() {
                match cell.set(scope) {
                    Ok(()) => return number,
                    Err(mine) => scope = mine,
                }
            }
            if cell.get() == Some(&scope) {
                return number;
            }
        }
        0
    }

    /// The scope of this number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<Scope> {
        let mut chunk = &self.first;
        for _ in 0..usize::from(number) / CHUNK_LEN {
            chunk = chunk.next.get()?;
        }
        chunk.scopes[usize::from(number) % CHUNK_LEN].get().cloned()
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
