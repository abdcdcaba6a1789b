//! A ledger that reads ends before starts finds no end without its start, however the two counts travel.

use std::sync::Arc;

use spanring::internals::Counter;
use spanring_loom::model;

/// One thread counts a start and then an end; another reads the end first. Seeing the end, it must see the start.
#[test]
fn end_is_never_seen_without_its_start() {
    model(|run| {
        let counts = Arc::new((Counter::new(), Counter::new()));
        run.two(
            &counts,
            |counts| {
                counts.0.add_owned(1);
                counts.1.add_owned(1);
            },
            |counts| {
                let ended = counts.1.load();
                let started = counts.0.load();
                assert!(ended <= started, "an end without its start");
            },
        );
    });
}
