//! Instrumentation scopes: who records, named once in a table, so that a record carries two bytes.

use std::sync::Mutex;

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
#[derive(Debug, Default)]
pub struct ScopeTable {
    scopes: Mutex<Vec<Scope>>,
}

impl ScopeTable {
    /// The number of `scope`. A program with more than 65,536 scopes has the later ones recorded as the first.
    #[must_use]
    pub fn number(&self, scope: Scope) -> u16 {
        let mut scopes = self.lock();
        let found = scopes.iter().position(|known| *known == scope);
        let index = found.unwrap_or(scopes.len());
        let Ok(number) = u16::try_from(index) else {
            return 0;
        };
        if found.is_none() {
            scopes.push(scope);
        }
        number
    }

    /// The scope of this number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<Scope> {
        self.lock().get(usize::from(number)).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Scope>> {
        // A panic while it was held can only have come from an allocation, before the table was changed.
        self.scopes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
