//! [once]: a value that is set is seen whole, by all the same, and stays.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use spanring::internals::{Latest, SetOnce};
use spanring_loom::{Cells, model};

/// A number that loom watches, and that counts its drops outside of the model.
struct Value {
    number: Cells<u32>,
    drops: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: u32, drops: &Arc<AtomicUsize>) -> Self {
        let value = Self { number: Cells::new(1, &0), drops: Arc::clone(drops) };
        value.number.change(0, |place| *place = number);
        value
    }

    fn number(&self) -> u32 {
        self.number.look(0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.drops.fetch_add(1, SeqCst);
    }
}

/// Two threads set a value while a third looks twice. One of them is first; the other has its value back; and whoever
/// looks sees nothing, or the first value whole, and then always that.
#[test]
fn first_value_stays_and_is_seen_whole() {
    let run = model(|run| {
        let drops = Arc::new(AtomicUsize::new(0));
        let place = Arc::new(SetOnce::new());
        let set = |number: u32| {
            let value = Value::new(number, &drops);
            move |place: &Arc<SetOnce<Value>>| match place.set(value) {
                Ok(()) => true,
                Err(back) => {
                    assert_eq!(back.number(), number);
                    false
                }
            }
        };
        let look = |place: &SetOnce<Value>| place.get().map(Value::number);
        let (first, second, seen) =
            run.three(&place, set(1), set(2), move |place: &Arc<SetOnce<Value>>| [look(place), look(place)]);
        assert!(first != second, "one of them is first");
        let winner = Some(if first { 1 } else { 2 });
        assert_eq!(look(&place), winner);
        assert!(seen.iter().all(|seen| seen.is_none() || *seen == winner));
        assert!(seen[0].is_none() || seen[1].is_some(), "a value goes away");
        run.note(format!("{seen:?}"));
        assert_eq!(drops.load(SeqCst), 1, "the value that came too late");
        drop(place);
        assert_eq!(drops.load(SeqCst), 2);
    });
    run.expect(["[None, None]", "[None, Some(1)]", "[Some(1), Some(1)]", "[Some(2), Some(2)]"]);
}

/// A thread sets two values, another sets one and looks. Each sees its own value or a later one; none is lost, and none
/// goes away while the place lasts.
#[test]
fn later_values_follow_and_none_is_lost() {
    let run = model(|run| {
        let drops = Arc::new(AtomicUsize::new(0));
        let place = Arc::new(Latest::new());
        let values = [1, 2].map(|number| Value::new(number, &drops));
        let third = Value::new(3, &drops);
        let look = |place: &Latest<Value>| place.get().map(Value::number);
        let (_, seen) = run.two(
            &place,
            move |place: &Arc<Latest<Value>>| values.into_iter().for_each(|value| place.set(value)),
            move |place: &Arc<Latest<Value>>| {
                let before = look(place);
                place.set(third);
                (before, look(place))
            },
        );
        let (before, after) = seen;
        let last = look(&place);
        assert!(matches!(after, Some(3)) || after > before, "{before:?}, then {after:?}");
        assert!(matches!(last, Some(2 | 3)), "the first was followed");
        run.note(format!("{before:?} {after:?}"));
        assert_eq!(drops.load(SeqCst), 0, "readers may still have the older ones");
        drop(place);
        assert_eq!(drops.load(SeqCst), 3);
    });
    run.expect(["None Some(3)", "Some(1) Some(3)", "Some(2) Some(3)", "None Some(2)", "Some(1) Some(2)"]);
}
