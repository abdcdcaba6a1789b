//! A value that is set once, by whoever is first, and that nobody ever waits for: not even in a child process that was
//! forked in the middle of a setting, where std's cell would wait for a thread that does not exist.

use std::{marker::PhantomData, ptr};

use super::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
    statics::AtomicPtr as StaticPtr,
};

/// An empty place, or the value that came there first.
#[derive(Debug)]
pub struct SetOnce<T> {
    /// Null, or a leaked box. Written by the first who sets.
    value: AtomicPtr<T>,
    /// A value is moved in by one thread and out by another: so it has to be `Send` for this to be `Sync`.
    owned: PhantomData<(Box<T>, std::sync::Mutex<T>)>,
}

impl<T> SetOnce<T> {
    /// An empty place.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()), owned: PhantomData }
    }

    /// An empty place of a model.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()), owned: PhantomData }
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        // ORDERING: [once] Acquire. Who sees the address sees what was written before it was set.
        let value = self.value.load(Acquire);
        // SAFETY: the address is null or that of a box that lives as long as the place, and is never written again.
        unsafe { value.as_ref() }
    }

    /// Sets the value; hands it back when another was there first.
    ///
    /// # Errors
    ///
    /// When the place is filled.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mine = Box::into_raw(Box::new(value));
        // ORDERING: [once] Release. Who sees the address sees the value. Relaxed on failure: nothing is looked at.
        match self.value.compare_exchange(ptr::null_mut(), mine, Release, Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => {
                // SAFETY: the address is the box made above, which nobody else has seen.
                Err(*unsafe { Box::from_raw(mine) })
            }
        }
    }
}

impl<T> SetOnce<T> {
    /// Empties the place.
    pub fn take(&mut self) -> Option<T> {
        // ORDERING: Relaxed. The borrow proves that no other thread is here any more.
        let value = self.value.swap(ptr::null_mut(), Relaxed);
        // SAFETY: the address is a leaked box or null, and the borrow proves that nobody looks at it.
        (!value.is_null()).then(|| *unsafe { Box::from_raw(value) })
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// As [`SetOnce`], for a static and a value that lives as long. In a model, too, whose own places cannot be static.
#[derive(Debug)]
pub(crate) struct SetForEver<T: 'static>(StaticPtr<T>);

impl<T: Send + Sync> SetForEver<T> {
    /// An empty place.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self(StaticPtr::new(ptr::null_mut()))
    }

    /// The value, if there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static T> {
        // ORDERING: [once] Acquire. As in `SetOnce::get`.
        let value = self.0.load(Acquire);
        // SAFETY: the address is null or that of a value that lives for ever and is shared.
        unsafe { value.as_ref() }
    }

    /// Sets the value; false when another was there first.
    pub(crate) fn set(&self, value: &'static T) -> bool {
        let value = ptr::from_ref(value).cast_mut();
        // ORDERING: [once] Release. As in `SetOnce::set`.
        self.0.compare_exchange(ptr::null_mut(), value, Release, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_stays() {
        let place = SetOnce::new();
        assert_eq!(place.get(), None);
        assert_eq!(place.set(String::from("first")), Ok(()));
        assert_eq!(place.set(String::from("second")), Err(String::from("second")));
        assert_eq!(place.get().map(String::as_str), Some("first"));
    }

    #[test]
    fn first_value_of_a_static_stays() {
        static PLACE: SetForEver<&str> = SetForEver::new();
        assert_eq!(PLACE.get(), None);
        assert!(PLACE.set(&"first") && !PLACE.set(&"second"));
        assert_eq!(PLACE.get(), Some(&"first"));
    }
}
