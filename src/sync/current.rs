//! A value that is set anew now and then, and looked at by threads that must not wait: not even for the one that sets it.

use std::sync::{PoisonError, TryLockError};

use super::RwLock;

/// Nothing at first, then the value that was set last. The one before is dropped as soon as nobody looks at it.
#[derive(Debug)]
pub struct Current<T>(RwLock<Option<T>>);

impl<T> Current<T> {
    /// Sets the value. Waits for those who look at the one before.
    pub fn set(&self, value: T) {
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(value);
        // Nobody has to wait for this.
        drop(before);
    }

    /// Shows the value to `look`, and never waits: while it is being set there is none. It locks nobody out, so a signal
    /// handler may look at what the thread below it is looking at.
    pub fn look(&self, look: impl FnOnce(&T)) {
        let value = match self.0.try_read() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(value) = &*value {
            look(value);
        }
    }
}

impl<T> Default for Current<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn last_value_counts_and_is_the_only_one_kept() {
        let place = Current::default();
        place.look(|_: &Arc<str>| panic!("nothing was set"));
        let [first, second]: [Arc<str>; 2] = ["first", "second"].map(Arc::from);
        place.set(Arc::clone(&first));
        place.look(|value| place.look(|same| assert!(Arc::ptr_eq(value, same) && Arc::ptr_eq(value, &first))));
        place.set(Arc::clone(&second));
        let mut seen = None;
        place.look(|value| seen = Some(Arc::clone(value)));
        assert_eq!((seen, Arc::strong_count(&first)), (Some(second), 1));
        let _setting = place.0.write().unwrap();
        place.look(|_| panic!("it is being set"));
    }
}
