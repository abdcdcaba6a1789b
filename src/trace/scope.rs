//! Instrumentation scopes, each once in a table, so that a record carries a number of two bytes.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::sync::{AtomicU32, Ordering::Relaxed, once::SetOnce};

/// The instrumentation scope of a tracer: the library or component that records.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
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
/// Scopes are only ever added, and no thread waits for another, so a child process that was forked in the middle of an
/// addition can still read and add. A scope is kept under a number first, and can be found by others then. If two
/// threads add the same one at once, the number of the second stays without use.
#[derive(Debug, Default)]
pub(crate) struct ScopeTable {
    /// The scopes by number, in chunks of 1, 1, 2, 4, … 32,768.
    chunks: [SetOnce<Chunk>; CHUNKS],
    /// Numbers that were given out. Written and read by every addition.
    given: AtomicU32,
    /// The numbers by the hash of their scopes.
    root: SetOnce<Node>,
}

type Chunk = Box<[SetOnce<Scope>]>;

/// A number in a tree that branches by the digits of the hash. It is not deep: 65,536 scopes have four levels if they
/// spread evenly, and a few more where hashes begin alike.
#[derive(Debug)]
struct Node {
    number: u16,
    below: [SetOnce<Self>; 1 << DIGIT_BITS],
}

const DIGIT_BITS: u32 = 4;
/// One for each count of bits that a number may have.
const CHUNKS: usize = u16::BITS as usize + 1;

impl ScopeTable {
    /// The number of `scope`. A program with more than 65,536 scopes has the later ones recorded as the first.
    #[must_use]
    pub(crate) fn number(&self, scope: Scope) -> u16 {
        let mut trail = self.trail(&scope);
        if let Some(number) = trail.find(|&number| self.get(number) == Some(&scope)) {
            return number;
        }
        let Some(number) = self.keep(scope) else {
            return 0;
        };
        while trail.place.set(Node { number, below: Default::default() }).is_err() {
            // Another thread filled the place. If with the same scope, its number is the one.
            if let Some(known) = trail.find(|&known| self.get(known) == self.get(number)) {
                return known;
            }
        }
        number
    }

    /// The scope of this number.
    #[must_use]
    pub(crate) fn get(&self, number: u16) -> Option<&Scope> {
        let (chunk, at) = chunk_of(number);
        self.chunks[chunk].get()?[at].get()
    }

    /// Keeps a scope under a number of its own; `None` when all are given out.
    fn keep(&self, scope: Scope) -> Option<u16> {
        // ORDERING: Relaxed. It gives each number out once; the scope is published by its place, and its number by the
        // node.
        let given = self.given.fetch_update(Relaxed, Relaxed, |given| (given <= u16::MAX.into()).then_some(given + 1));
        let number = u16::try_from(given.ok()?).ok()?;
        let (chunk, at) = chunk_of(number);
        let chunk = &self.chunks[chunk];
        if chunk.get().is_none() {
            let len = 1 << number.checked_ilog2().unwrap_or(0);
            // Refused, if another thread was here first: then that one's chunk is the one.
            drop(chunk.set((0..len).map(|_| SetOnce::new()).collect()));
        }
        chunk.get()?[at].set(scope).ok().map(|()| number)
    }

    /// The numbers among which that of `scope` is, if it is known.
    fn trail(&self, scope: &Scope) -> Trail<'_> {
        // The same keys in every run: only scopes whose whole hashes are equal would make the tree deep.
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        Trail { place: &self.root, digits: hasher.finish() }
    }
}

/// Which chunk a number is in, and where: a chunk has all numbers of as many bits.
fn chunk_of(number: u16) -> (usize, usize) {
    match number.checked_ilog2() {
        None => (0, 0),
        Some(log) => (log as usize + 1, usize::from(number) - (1 << log)),
    }
}

/// The way of a look-up down the tree. At its end, `place` is a free one.
struct Trail<'a> {
    place: &'a SetOnce<Node>,
    digits: u64,
}

impl Iterator for Trail<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let node = self.place.get()?;
        let digit = self.digits % (1 << DIGIT_BITS);
        self.digits >>= DIGIT_BITS;
        self.place = &node.below[digit as usize];
        Some(node.number)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, thread};

    use super::*;

    const SCOPES: u16 = if cfg!(miri) { 32 } else { 20_000 };
    /// Twice the levels of 20,000 scopes that spread evenly, and two more.
    const STEPS_MAX: usize = 10;

    #[test]
    fn equal_scopes_have_one_number() {
        let table = ScopeTable::default();
        let numbers: Vec<u16> = (0..40).map(|index| table.number(Scope::named(&format!("scope {index}")))).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
        assert_eq!(table.number(Scope::named("scope 33")), 33);
        assert_eq!(table.get(33), Some(&Scope::named("scope 33")));
        assert_eq!(table.get(40), None);
        assert_eq!(table.get(u16::MAX), None);
    }

    /// All steps of a look-up are there to be counted: by number there is one.
    #[test]
    fn lookup_takes_few_steps_however_many_scopes_there_are() {
        let table = ScopeTable::default();
        let scope = |index: u16| Scope { version: format!("1.{index}"), ..Scope::named(&format!("scope {index}")) };
        for index in 0..SCOPES {
            assert_eq!(table.number(scope(index)), index);
        }
        let steps = (0..SCOPES).map(|index| table.trail(&scope(index)).count()).max();
        assert!(steps <= Some(STEPS_MAX), "{steps:?} steps");
        for index in (0..SCOPES).rev() {
            assert_eq!(table.get(index), Some(&scope(index)));
            assert_eq!(table.number(scope(index)), index);
        }
    }

    #[test]
    fn scopes_past_the_last_number_are_recorded_as_the_first() {
        let table = ScopeTable::default();
        assert_eq!(table.number(Scope::named("first")), 0);
        table.given.store(u16::MAX.into(), Relaxed);
        assert_eq!(table.number(Scope::named("last")), u16::MAX);
        for _ in 0..3 {
            assert_eq!(table.number(Scope::named("too many")), 0);
        }
        assert_eq!(table.number(Scope::named("last")), u16::MAX);
        assert_eq!(table.get(u16::MAX), Some(&Scope::named("last")));
    }

    #[test]
    fn numbers_fill_their_chunks() {
        const BITS: usize = if cfg!(miri) { 6 } else { CHUNKS - 1 };
        let places: BTreeSet<_> = (0..=u16::MAX >> (CHUNKS - 1 - BITS)).map(chunk_of).collect();
        assert_eq!(places.len(), 1 << BITS);
        assert_eq!(places.last(), Some(&(BITS, (1 << (BITS - 1)) - 1)));
    }

    #[test]
    fn threads_that_add_at_once_agree() {
        let table = ScopeTable::default();
        let add = || (0..SCOPES / 8).map(|index| table.number(Scope::named(&format!("scope {index}")))).collect();
        let numbers: Vec<Vec<u16>> = thread::scope(|threads| {
            let adding: Vec<_> = (0..4).map(|_| threads.spawn(add)).collect();
            adding.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(numbers.iter().all(|given| *given == numbers[0]));
        for (index, &number) in numbers[0].iter().enumerate() {
            assert_eq!(table.get(number), Some(&Scope::named(&format!("scope {index}"))));
        }
    }
}
