//! Names and values that go with a context from process to process.

use std::{fmt, sync::Arc};

use smallvec::SmallVec;

/// Names and values that the program sends with each request, for those after it to read: W3C Baggage.
///
/// It never changes: each change makes a new one. A clone shares its memory, and an empty one has none. One word wide,
/// because every context carries one. Others see it: what is secret has no place here.
///
/// It holds up to 64 members and 8,192 bytes of text, the least that W3C Baggage asks everybody to pass on.
///
/// ```
/// use spanring::Baggage;
///
/// let baggage = Baggage::default().with("tenant", "blue")?.with("région", "été")?;
/// assert_eq!(baggage.get("tenant"), Some("blue"));
/// assert_eq!(baggage.without("tenant").get("tenant"), None);
/// # Ok::<(), spanring::InvalidBaggage>(())
/// ```
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Baggage(Option<Arc<BaggageMembers>>);

/// Why a member has no place in a [`Baggage`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidBaggage {
    /// The name is empty. Any other text is a name.
    NoName,
    /// There are 64 members already. Take one out, or put several values into one.
    TooMany,
    /// The text of all members together would pass 8,192 bytes. Send a key to what is large instead.
    TooLarge,
}

impl Baggage {
    /// The same with this member, as the last. One of the same name goes, with its metadata.
    ///
    /// # Errors
    ///
    /// When the name is empty, or there is no room.
    pub fn with(&self, name: &str, value: &str) -> Result<Self, InvalidBaggage> {
        self.with_metadata(name, value, "")
    }

    /// As [`Baggage::with`], with metadata, which is text that means nothing here. On the wire it is a list of
    /// properties, `key` or `key=value`, separated by semicolons.
    ///
    /// # Errors
    ///
    /// When the name is empty, or there is no room.
    pub fn with_metadata(&self, name: &str, value: &str, metadata: &str) -> Result<Self, InvalidBaggage> {
        let mut members = self.0.as_deref().cloned().unwrap_or_default();
        members.set(name, value, metadata)?;
        Ok(members.into_baggage())
    }

    /// The same without this name.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() {
            return self.clone();
        }
        let mut members = self.0.as_deref().cloned().unwrap_or_default();
        members.remove(name);
        members.into_baggage()
    }

    /// Collects the members of headers.
    pub(crate) fn collector() -> BaggageMembers {
        BaggageMembers::default()
    }

    /// The value of this name. Case counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, ..)| *found == name).map(|(_, value, _)| value)
    }

    /// All members: name, value and metadata, which is empty if there is none; in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().flat_map(|members| members.iter())
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |members| members.ends.len())
    }

    /// Whether there are no members.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for InvalidBaggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("the name is empty"),
            Self::TooMany => write!(f, "there are {MEMBERS_MAX} members already"),
            Self::TooLarge => write!(f, "all members together would have more than {BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for InvalidBaggage {}

/// Most members (W3C Baggage, 3.3.2).
const MEMBERS_MAX: usize = 64;
/// Most bytes of the members' text. A header of the 8,192 bytes that W3C Baggage, 3.3.2 names has no more of it.
pub(crate) const BYTES_MAX: usize = 8192;
/// Members that need no memory of their own: more than most baggage has.
const MEMBERS_INLINE: usize = 8;

/// The members, while they are collected and after. All text is in one place: a member costs no allocation.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct BaggageMembers {
    text: String,
    ends: SmallVec<[Ends; MEMBERS_INLINE]>,
}

/// Where in the text a member's parts end. The first begins where the member before it ends, the others follow.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Ends {
    name: u16,
    value: u16,
    metadata: u16,
}

const _: () = assert!(BYTES_MAX <= u16::MAX as usize, "an end must fit in its type");

impl BaggageMembers {
    /// Appends a member, and removes one of the same name. Without room nothing changes.
    pub(crate) fn set(&mut self, name: &str, value: &str, metadata: &str) -> Result<(), InvalidBaggage> {
        if name.is_empty() {
            return Err(InvalidBaggage::NoName);
        }
        let old = self.position(name);
        let old_len = old.map_or(0, |at| self.range(at).len());
        if old.is_none() && self.ends.len() == MEMBERS_MAX {
            return Err(InvalidBaggage::TooMany);
        }
        let added = [name, value, metadata].map(str::len).into_iter().fold(0, usize::saturating_add);
        if added > BYTES_MAX - (self.text.len() - old_len) {
            return Err(InvalidBaggage::TooLarge);
        }
        self.remove(name);
        let [name, value, metadata] = [name, value, metadata].map(|part| {
            self.text.push_str(part);
            end(self.text.len())
        });
        self.ends.push(Ends { name, value, metadata });
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        let Some(at) = self.position(name) else { return };
        let range = self.range(at);
        let removed = end(range.len());
        self.text.drain(range);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            let Ends { name, value, metadata } = later;
            [name, value, metadata].into_iter().for_each(|end| *end -= removed);
        }
    }

    /// Makes room for so much text at once.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes.min(BYTES_MAX - self.text.len()));
    }

    pub(crate) fn into_baggage(self) -> Baggage {
        Baggage((!self.ends.is_empty()).then(|| Arc::new(self)))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.iter().position(|(found, ..)| found == name)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        (0..self.ends.len()).map(|at| {
            let [name, value, metadata] =
                [self.ends[at].name, self.ends[at].value, self.ends[at].metadata].map(usize::from);
            (&self.text[self.range(at).start..name], &self.text[name..value], &self.text[value..metadata])
        })
    }

    /// The text of a member.
    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].metadata);
        usize::from(start)..usize::from(self.ends[at].metadata)
    }
}

fn end(at: usize) -> u16 {
    u16::try_from(at).expect("the text has at most BYTES_MAX bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(baggage: &Baggage) -> Vec<(&str, &str, &str)> {
        baggage.iter().collect()
    }

    /// Each change is a new object; a name has one value, the last that was set.
    #[test]
    fn bag_01_a_name_has_one_value_and_the_last_one_wins() {
        let one = Baggage::default().with_metadata("a", "1", "p=x;q").unwrap().with("b", "2").unwrap();
        let two = one.with("a", "3").unwrap();
        assert_eq!(members(&one), [("a", "1", "p=x;q"), ("b", "2", "")], "it never changes");
        assert_eq!(members(&two), [("b", "2", ""), ("a", "3", "")], "metadata belongs to the value");
        assert_eq!((two.get("a"), two.get("c"), two.len()), (Some("3"), None, 2));
        assert_eq!(members(&two.without("b")), [("a", "3", "")]);
        assert_eq!(two.without("c"), two);
        assert_eq!(two.without("a").without("b"), Baggage::default());
        assert_eq!((Baggage::default().is_empty(), Baggage::default().len(), one.is_empty()), (true, 0, false));
        assert_eq!(format!("{two:?}"), r#"[("b", "2", ""), ("a", "3", "")]"#);
    }

    #[test]
    fn bag_02_names_and_values_are_any_text_and_case_counts() {
        let baggage = Baggage::default().with("ключ key,=;\0", "\"välue\" \n%").unwrap().with("A", "").unwrap();
        assert_eq!(baggage.get("ключ key,=;\0"), Some("\"välue\" \n%"));
        assert_eq!((baggage.get("A"), baggage.get("a")), (Some(""), None));
        assert_eq!(baggage.with("", "1"), Err(InvalidBaggage::NoName));
    }

    /// BAG-06: 64 members and 8,192 bytes are kept, and what is more is refused.
    #[test]
    fn bag_06_baggage_is_bounded() {
        let full = (0..64).try_fold(Baggage::default(), |baggage, number| baggage.with(&format!("k{number}"), "v"));
        let full = full.unwrap();
        assert_eq!((full.len(), full.with("new", "")), (64, Err(InvalidBaggage::TooMany)));
        assert_eq!(full.with("k0", "w").unwrap().get("k0"), Some("w"));

        let large = Baggage::default().with("k", &"v".repeat(8190)).unwrap().with("l", "").unwrap();
        assert_eq!(large.with("m", ""), Err(InvalidBaggage::TooLarge));
        assert_eq!(large.with_metadata("l", "", "m"), Err(InvalidBaggage::TooLarge));
        assert_eq!(large.with("k", &"w".repeat(8191)), Err(InvalidBaggage::TooLarge));
        assert_eq!(large.with("k", &"w".repeat(8190)).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn baggage_is_a_list_of_pairs_without_the_cost(
            changes in prop::collection::vec(("[a-d]{0,2}", prop::option::of("[ä-ü]{0,3}"), "[p;]{0,2}"), 0..40),
        ) {
            let (mut baggage, mut expected) = (Baggage::default(), Vec::<(String, String, String)>::new());
            for (name, value, metadata) in changes {
                let changed = value.as_ref().map(|value| baggage.with_metadata(&name, value, &metadata));
                prop_assert_eq!(changed == Some(Err(InvalidBaggage::NoName)), value.is_some() && name.is_empty());
                baggage = changed.unwrap_or_else(|| Ok(baggage.without(&name))).unwrap_or(baggage);
                if !name.is_empty() {
                    expected.retain(|(found, ..)| *found != name);
                    expected.extend(value.map(|value| (name, value, metadata)));
                }
            }
            let found = baggage.iter().map(|(name, value, metadata)| (name.into(), value.into(), metadata.into()));
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}
