//! The one place for what a process exports with: its supervisor, and by that the desk, the thread, the worker and its
//! TLS; or the lock of its drain. A child process can use nothing of its parent's that a thread may have held when it
//! was forked.
//!
//! What does not hang in here is never locked: the plan is read only, the lanes are put in order by `Lanes::settle`.
//! The rule `what_a_child_process_inherits_is_known` of tests/tidy holds new locks and statics against that.

use crate::sync::once::SetOnce;

/// A value for the process that made this, and one for each process that is forked off it.
///
/// It never waits, so a child can make its own whatever its parent was doing when it was forked.
#[derive(Debug)]
pub struct PerProcess<T> {
    generation: u32,
    value: T,
    child: SetOnce<Self>,
}

impl<T> PerProcess<T> {
    /// The value of this process, whose generation it is.
    pub fn new(generation: u32, value: T) -> Self {
        Self { generation, value, child: SetOnce::new() }
    }

    /// The value of this generation, if it has one.
    pub fn get(&self, generation: u32) -> Option<&T> {
        let mut here = self;
        while here.generation != generation {
            here = here.child.get()?;
        }
        Some(&here.value)
    }

    /// The value of this generation, which is this process's; made now if it has none. Of several threads the first
    /// one's.
    pub fn get_or(&self, generation: u32, make: impl FnOnce() -> T) -> &T {
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
