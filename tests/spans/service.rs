//! A small service and its tests, as a user of the library writes them.

use std::{fmt, thread, time::Duration};

use spanring::{
    Context, Kind, Status, TraceFuture as _, Tracer, assert_tree, current_span,
    testing::{FakeClock, TestEngine},
};

/// A shop that answers requests. Its clock is the one that its spans are timed by.
struct Shop {
    tracer: Tracer,
    clock: FakeClock,
    stock: u64,
}

#[derive(Debug, PartialEq)]
struct SoldOut;

impl fmt::Display for SoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sold out")
    }
}

impl Shop {
    fn order(&self, items: u64) -> Result<u64, SoldOut> {
        let request = self.tracer.root("POST /orders").kind(Kind::Server).start();
        request.try_run(|span| {
            span.set("order.items", items);
            let price = self.price(items);
            self.take(items)?;
            Ok(price)
        })
    }

    /// Asks two other services at once.
    fn price(&self, items: u64) -> u64 {
        let ask = |service: &'static str, price: u64| {
            let tracer = self.tracer.clone();
            Context::current().wrap(move || {
                let span = tracer.span("ask").kind(Kind::Client).start();
                span.run(|span| span.set("peer.service", service));
                price
            })
        };
        thread::scope(|scope| {
            let asked = [scope.spawn(ask("prices", 10 * items)), scope.spawn(ask("taxes", 2 * items))];
            asked.into_iter().map(|answer| answer.join().unwrap()).sum()
        })
    }

    fn take(&self, items: u64) -> Result<(), SoldOut> {
        self.clock.advance(Duration::from_millis(5));
        self.tracer.try_in_span("take", |span| {
            span.event("stock.locked");
            if items > self.stock { Err(SoldOut) } else { Ok(()) }
        })
    }
}

fn shop() -> (TestEngine, Shop) {
    let engine = TestEngine::start();
    let shop = Shop { tracer: engine.tracer("shop"), clock: engine.clock().clone(), stock: 3 };
    (engine, shop)
}

#[test]
fn order_asks_for_prices_and_takes_from_the_stock() {
    let (engine, shop) = shop();
    assert_eq!(shop.order(2), Ok(24));
    assert_tree!(
        engine,
        r#"
        POST /orders | server | unset | order.items = 2
          ask | client | peer.service = "prices"
          ask | client | peer.service = "taxes"
          take | event stock.locked
        "#
    );
    assert_eq!(engine.span("POST /orders").duration(), Duration::from_millis(5));
    engine.assert_clean();
}

#[test]
fn order_that_is_too_large_fails_its_span() {
    let (engine, shop) = shop();
    assert_eq!(shop.order(4), Err(SoldOut));
    assert_eq!(engine.span("take").status, Status::Error("sold out"));
    let request = engine.span("POST /orders");
    assert_eq!((request.kind, request.status.as_status()), (Kind::Server, Status::Error("sold out")));
    assert_eq!(request["order.items"], 4);
    engine.assert_clean();
}

#[test]
fn each_order_is_a_trace_of_its_own() {
    let (engine, shop) = shop();
    let _ = (shop.order(1), engine.finished(), shop.order(1));
    let forest = engine.forest();
    assert_eq!(forest.traces().len(), 1, "the first was taken");
    assert_eq!(forest.findings(), []);
    let longest = forest.critical_path(forest.traces()[0].tops[0]);
    assert_eq!(longest.len(), 1, "nothing but the request itself took time:\n{forest}");
    engine.assert_clean();
}

#[test]
fn spans_of_tasks_are_below_those_that_spawned_them() {
    let engine = TestEngine::start();
    let tracer = engine.tracer("shop");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(tracer.in_span_async("mail", async {
        let tasks = ["ann", "bob"].map(|to| {
            let send = async move { current_span().set("mail.to", to) };
            tokio::spawn(send.in_span(tracer.span("send").kind(Kind::Producer).start()))
        });
        for task in tasks {
            task.await.unwrap();
        }
    }));
    assert_tree!(
        engine,
        r#"
        mail
          send | producer | mail.to = "bob"
          send | producer | mail.to = "ann"
        "#
    );
    engine.assert_clean();
}
