//! A ledger that reads ends before starts finds no end without its start, however the two counts travel.

use std::sync::Arc;

use spanring::internals::Counter;

/// One thread counts a start and then an end; another reads the end first. Seeing the end, it must see the start.
#[test]
fn end_is_never_seen_without_its_start() {
    loom::model(|| {
        let counts = Arc::new((Counter::new(), Counter::new()));
        let counting = Arc::clone(&counts);
        let thread = loom::thread::spawn(move || {
            counting.0.add_owned(1);
            counting.1.add_owned(1);
        });
        let ended = counts.1.load();
        let started = counts.0.load();
        assert!(ended <= started, "an end without its start");
        thread.join().expect("the counting thread does not panic");
    });
}
