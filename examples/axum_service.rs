//! A shop as a service: two handlers and one that they call, work at once, in the background, in a thread, in a queue.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example axum_service
//! curl -X POST http://ADDRESS/orders/7
//! ```
//!
//! The trace of the order: `/orders/{id}` with the children `audit`, `GET /stock`, `receipt` and `mail`; the request
//! that `GET /stock` makes is its child. 60 lines of code, 15 of them for the trace. It ends by
//! Ctrl-C; `graceful_shutdown` shows what a cluster needs.

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::{error::Error, pin::Pin, time::Duration};

use axum::extract::{MatchedPath, Path, Request, State};
use axum::{Router, body::Body, http::StatusCode, middleware, middleware::Next, routing::get};
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use spanring::{Config, Context, Engine, Kind, TraceFuture, Tracer, current_span, propagate::trace_context};
use tokio::{join, net::TcpListener, select, signal, sync::mpsc, task, time::sleep};

type Job = Pin<Box<dyn Future<Output = u32> + Send>>;

#[derive(Clone)]
struct Shop {
    tracer: Tracer,
    client: Client<HttpConnector, Body>,
    stock: String,
    later: mpsc::Sender<Job>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::from_env())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stock = format!("http://{}/stock", listener.local_addr()?);
    println!("listening on {stock}");
    let (later, mut jobs) = mpsc::channel::<Job>(16);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let shop = Shop { tracer: engine.tracer("shop"), client, stock, later };
    let traced = |State(shop): State<Shop>, path: MatchedPath, request: Request, next: Next| {
        let caller = trace_context::extract(request.headers());
        next.run(request).in_span(shop.tracer.root(path.as_str()).kind(Kind::Server).parent(&caller).start())
    };
    let app = Router::new().route("/orders/{id}", get(show).post(place)).route("/stock", get(async || "plenty"));
    let app = app.layer(middleware::from_fn_with_state(shop.clone(), traced)).with_state(shop);
    let worker = tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            job.await;
        }
    });
    axum::serve(listener, app).with_graceful_shutdown(async { signal::ctrl_c().await.unwrap_or(()) }).await?;
    Ok(worker.await?)
}

async fn show(State(shop): State<Shop>, Path(id): Path<u32>) -> String {
    let both = join!(shop.tracer.in_span_async("size", ask(id)), shop.tracer.in_span_async("price", ask(id)));
    format!("size and price of {id}: {both:?}\n")
}

async fn place(State(shop): State<Shop>, Path(id): Path<u32>) -> Result<String, StatusCode> {
    let audit = tokio::spawn(ask(id).in_span(shop.tracer.span("audit").start()));
    let stock = select! {
        stock = call(&shop).in_span(shop.tracer.span("GET /stock").kind(Kind::Client).start()) => stock,
        () = sleep(Duration::from_secs(5)) => return Err(StatusCode::GATEWAY_TIMEOUT),
    };
    let _ = join!(audit, shop.later.send(Box::pin(ask(id).in_span(shop.tracer.span("mail").start()))));
    let receipt = Context::current().wrap(move || shop.tracer.in_span("receipt", |_| format!("{id}: {stock:?}\n")));
    task::spawn_blocking(receipt).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn call(shop: &Shop) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
    let mut request = Request::get(&shop.stock).body(Body::empty())?;
    trace_context::inject(current_span().context(), request.headers_mut());
    Ok(shop.client.request(request).await?.status())
}

async fn ask(id: u32) -> u32 {
    id * 3
}
