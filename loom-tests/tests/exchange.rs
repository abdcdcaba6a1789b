//! [sampler]: whoever looks finds what was there before an exchange, or what came with it whole; nothing follows a
//! shutdown.

use std::sync::Arc;

use spanring::internals::{Exchange, NotExchanged};
use spanring_loom::{Cells, model};

const CLOSED: u32 = 1;

/// A sampler that loom watches.
fn sampler(number: u32) -> Cells<u32> {
    let cells = Cells::new(1, &0);
    cells.change(0, |place| *place = number);
    cells
}

fn look(exchange: &Exchange<Cells<u32>>) -> u32 {
    match exchange.get() {
        Ok(number) => number,
        Err(value) => value.expect("a value is in its place before it is named").look(0),
    }
}

/// Two threads exchange while a third looks twice. It finds the number of the beginning, or one of the values whole,
/// and goes back to none that was followed.
#[test]
fn readers_find_the_old_or_the_new() {
    let run = model(|run| {
        let exchange = Arc::new(Exchange::new(0, 2));
        let (ten, twenty) = (sampler(10), sampler(20));
        let (first, second, seen) = run.three(
            &exchange,
            move |exchange: &Arc<Exchange<_>>| exchange.set(Err(ten), CLOSED),
            move |exchange: &Arc<Exchange<_>>| exchange.set(Err(twenty), CLOSED),
            |exchange: &Arc<Exchange<_>>| [look(exchange), look(exchange)],
        );
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert!(matches!(seen, [0, _] | [10 | 20, 10 | 20]), "{seen:?}");
        assert_eq!(exchange.set(Err(sampler(30)), CLOSED), Err(NotExchanged::Spent));
        run.note(format!("{seen:?} {}", look(&exchange)));
    });
    run.expect(["[0, 0] 10", "[0, 10] 10", "[10, 20] 20", "[20, 10] 10", "[20, 20] 20"]);
}

/// One thread exchanges, another shuts down: then nothing is exchanged any more.
#[test]
fn nothing_follows_a_shutdown() {
    let run = model(|run| {
        let exchange = Arc::new(Exchange::new(0, 1));
        let ten = sampler(10);
        let (set, ()) = run.two(
            &exchange,
            move |exchange: &Arc<Exchange<_>>| exchange.set(Err(ten), CLOSED),
            |exchange: &Arc<Exchange<_>>| exchange.close(CLOSED),
        );
        assert_eq!(look(&exchange), CLOSED);
        assert_eq!(exchange.set(Ok(0), CLOSED), Err(NotExchanged::ShutDown));
        run.note(set.is_ok());
    });
    run.expect([true, false]);
}
