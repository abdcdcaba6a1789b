//! A cell for shared data that one owner at a time may touch: std's, or loom's, which checks that claim.

#[cfg(loom)]
pub use loom::cell::UnsafeCell;

/// std's cell with loom's way of asking for the content.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// A cell with `value` in it.
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands the place of the content to `touch`, which may write it if nobody else has it.
    #[inline]
    pub fn with_mut<R>(&self, touch: impl FnOnce(*mut T) -> R) -> R {
        touch(self.0.get())
    }
}
