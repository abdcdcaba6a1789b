//! A value that is set again now and then, and whose every version stays: for readers that may look at any time and
//! keep what was seen.

use super::once::SetOnce;

/// A value that may be set again now and then, and that is read without waiting. The older ones stay until the end:
/// readers may still have them, and they are few.
#[derive(Debug)]
pub struct Latest<T> {
    first: SetOnce<Version<T>>,
}

#[derive(Debug)]
struct Version<T> {
    value: T,
    next: SetOnce<Self>,
}

impl<T> Latest<T> {
    /// A place where nothing was set.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { first: SetOnce::new() }
    }

    /// A place of a model, where nothing was set.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { first: SetOnce::new() }
    }

    /// The value that was set last.
    pub fn get(&self) -> Option<&T> {
        let mut version = self.first.get()?;
        while let Some(next) = version.next.get() {
            version = next;
        }
        Some(&version.value)
    }

    /// Sets the value.
    pub fn set(&self, value: T) {
        let mut mine = Version { value, next: SetOnce::new() };
        let mut place = &self.first;
        loop {
            match place.get() {
                Some(version) => place = &version.next,
                None => match place.set(mine) {
                    Ok(()) => return,
                    Err(back) => mine = back, // another was first, and is behind us then
                },
            }
        }
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_counts() {
        let place = Latest::default();
        assert_eq!(place.get(), None);
        place.set(1);
        let first = place.get();
        place.set(2);
        assert_eq!((first, place.get()), (Some(&1), Some(&2)));
    }
}
