//! What each process has one of: of several threads of a child that want it at once, all get the first one's.

use std::sync::Arc;

use spanring::internals::PerProcess;
use spanring_loom::model;

const PARENT: u32 = 1;
const CHILD: u32 = 2;
const GRANDCHILD: u32 = 3;

/// Two threads of a child ask for its value at once, a third looks. The two get the same one, made by one of them; the
/// third finds it whole, or none. What the parent has is never theirs.
#[test]
fn threads_of_a_child_get_one_value_and_it_is_not_the_parents() {
    let run = model(|run| {
        let values = Arc::new(PerProcess::new(PARENT, "parent"));
        let (first, second, third) = run.three(
            &values,
            |values| *values.get_or(CHILD, || "first"),
            |values| *values.get_or(CHILD, || "second"),
            |values| values.get(CHILD).copied(),
        );
        assert_eq!(first, second, "each process has one");
        assert_ne!(first, "parent");
        assert!(third.is_none_or(|third| third == first), "{third:?}");
        assert_eq!(values.get_or(CHILD, || panic!("there is one")), &first);
        assert_eq!(values.get(PARENT), Some(&"parent"));
        run.note(format!("{first}, {}", if third.is_some() { "seen" } else { "not seen" }));
    });
    run.expect(["first, seen", "first, not seen", "second, seen", "second, not seen"]);
}

/// A child of a child, whose own parent may have made a value before it was forked, or none.
#[test]
fn threads_of_a_grandchild_get_neither_their_parents_value_nor_its_parents() {
    for has_made in [false, true] {
        model(move |run| {
            let values = Arc::new(PerProcess::new(PARENT, "parent"));
            if has_made {
                let _ = values.get_or(CHILD, || "child");
            }
            let (first, second) = run.two(
                &values,
                |values| *values.get_or(GRANDCHILD, || "first"),
                |values| *values.get_or(GRANDCHILD, || "second"),
            );
            assert_eq!(first, second, "each process has one");
            assert!(["first", "second"].contains(&first), "{first}");
            assert_eq!(values.get(CHILD), has_made.then_some(&"child"));
        });
    }
}
