//! Tasks of tokio: a span for a whole future, a context that a task goes on with, and what becomes of losers.
//!
//! Prints:
//!
//! ```text
//! request
//!   audit
//!   cache
//!   database (cancelled)
//!   pages
//!     page 1
//!     page 2
//!   render
//!   thumbnail (failed: no such picture)
//! ```

mod shown;

use std::{error::Error, future::pending, time::Duration};

use spanring::{Config, Engine, TraceFuture, Tracer};
use tokio::{join, select, time::timeout};

/// In place of `tokio::task`: what is written here hides an item of the glob. Where this is imported, the calls of
/// `task::spawn` and `task::spawn_blocking` stay as they are, and their tasks go on with what is current.
mod task {
    use spanring::{Context, TraceFuture};
    pub use tokio::task::*;

    pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::task::spawn(task.in_current_context())
    }

    pub fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        tokio::task::spawn_blocking(Context::current().wrap(work))
    }
}

async fn request(tracer: Tracer) -> Result<(), Box<dyn Error>> {
    // The span covers the future, wherever and however often it is polled.
    let (audit, render) = (tracer.clone(), tracer.clone());
    let audit = task::spawn(async move { audit.in_span_async("audit", task::yield_now()).await });
    let render = task::spawn_blocking(move || render.in_span("render", |_| "<html>"));
    audit.await?;
    render.await?;

    // Who loses is dropped before its end, and its span says so.
    select! {
        () = tracer.in_span_async("database", pending()) => {}
        () = tracer.in_span_async("cache", task::yield_now()) => {}
    }

    let page = |name| tracer.in_span_async(name, task::yield_now());
    let pages = async { join!(page("page 1"), page("page 2")) };
    timeout(Duration::from_secs(60), pages.in_span(tracer.span("pages").start())).await?;

    // An error fails the span, and is the caller's to handle.
    let thumbnail = async { Err::<(), _>("no such picture") };
    let _ = tracer.try_in_span_async("thumbnail", thumbnail).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("tasks");
    request(tracer.clone()).in_span(tracer.root("request").start()).await?;
    shown::print(&engine);
    Ok(())
}
