//! A value that is replaced now and then, and that threads look at which must not wait: not even for the one that sets
//! it.

use std::{
    array,
    sync::{PoisonError, TryLockError},
};

use super::{AtomicU32, Ordering::Relaxed, RwLock};

/// Nothing at first, then the value that was set last. The one before is dropped when the next is set, unless a thread
/// still looks at it.
#[derive(Debug)]
pub(crate) struct Current<T> {
    places: [RwLock<Option<T>>; PLACES],
    /// The place of the newest value. Written by [`Current::set`], read by [`Current::look`].
    newest: AtomicU32,
}

/// Values that are kept at most: a thread that is stopped while it looks keeps one place, and the next value needs
/// another.
const PLACES: usize = 4;

impl<T> Current<T> {
    /// Sets the value. One thread sets at a time. It does not wait for threads that look at the values before, unless
    /// they look at four of them.
    pub(crate) fn set(&self, value: T) {
        // ORDERING: Relaxed. Only the thread that sets writes it, and each of them was made by the one before.
        let old = self.newest.load(Relaxed) as usize;
        let mut others = (1..PLACES).map(|next| (old + next) % PLACES);
        let free = others.find_map(|at| self.places[at].try_write().ok().map(|place| (at, place)));
        let (new, mut place) =
            free.unwrap_or_else(|| (old, self.places[old].write().unwrap_or_else(PoisonError::into_inner)));
        let before = place.replace(value);
        drop(place);
        // ORDERING: Relaxed. The lock of the place carries the value; a thread that finds the older place looks there.
        self.newest.store(u32::try_from(new).unwrap_or(0), Relaxed);
        drop(before);
        if new != old
            && let Ok(mut place) = self.places[old].try_write()
        {
            *place = None;
        }
    }

    /// Shows the value to `look`, and never waits: while it is being set there may be none. It locks nobody out, so a
    /// signal handler may look at what the thread below it is looking at.
    pub(crate) fn look(&self, look: impl FnOnce(&T)) {
        // ORDERING: Relaxed. A thread that has seen anything that the setter did afterwards finds the newest value
        // here.
        let newest = self.newest.load(Relaxed) as usize;
        let value = match self.places[newest].try_read() {
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
        Self { places: array::from_fn(|_| RwLock::new(None)), newest: AtomicU32::new(0) }
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
    }

    /// A thread that is stopped while it looks: by a debugger, or because others have the processor.
    #[test]
    fn value_is_replaced_while_a_thread_looks_at_the_one_before() {
        let place = Current::default();
        place.set(1);
        place.look(|first| {
            place.set(2);
            place.look(|second| {
                (3..30).for_each(|value| place.set(value));
                place.look(|last| assert_eq!((*first, *second, *last), (1, 2, 29)));
            });
        });
    }

    #[test]
    fn look_does_not_wait_for_a_value_that_is_being_set() {
        let place = Current::default();
        place.set(1);
        let _setting: Vec<_> = place.places.iter().map(|place| place.try_write()).collect();
        place.look(|_| panic!("it is being set"));
    }
}
