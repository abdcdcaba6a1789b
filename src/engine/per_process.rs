//! Things of which each process has one: a child process can use nothing of its parent's that a thread may have held.

use crate::sync::once::SetOnce;

/// A value for the process that made this, and one for each process that is forked off it.
///
/// Nobody waits for anybody, so a child that was forked in the middle of anything can make its own.
#[derive(Debug)]
pub(super) struct PerProcess<T> {
    generation: u32,
    value: T,
    child: SetOnce<Self>,
}

impl<T> PerProcess<T> {
    pub(super) fn new(generation: u32, value: T) -> Self {
        Self { generation, value, child: SetOnce::new() }
    }

    /// The value of this generation, if it has one.
    pub(super) fn get(&self, generation: u32) -> Option<&T> {
        let mut here = self;
        while here.generation != generation {
            here = here.child.get()?;
        }
        Some(&here.value)
    }

    /// The value of this generation, which is this process's; made now if it has none. Of several threads the first one's.
    pub(super) fn get_or(&self, generation: u32, make: impl FnOnce() -> T) -> &T {
        let mut make = Some(make);
        let mut here = self;
        while here.generation != generation {
            if here.child.get().is_none()
                && let Some(make) = make.take()
            {
                let _ = here.child.set(Self::new(generation, make()));
            }
            here = here.child.get().expect("it was set above, or before");
        }
        &here.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_its_own_value_and_only_one() {
        let values = PerProcess::new(1, "parent");
        assert_eq!(values.get(1), Some(&"parent"));
        assert_eq!(values.get(2), None);
        assert_eq!(values.get_or(2, || "child"), &"child");
        assert_eq!(values.get_or(2, || panic!("there is one")), &"child");
        assert_eq!(values.get_or(3, || "grandchild"), &"grandchild");
        assert_eq!(values.get(1), Some(&"parent"));
    }
}
