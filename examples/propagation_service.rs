//! The service that the public test harness of W3C Trace Context wants: `POST /test` takes a JSON array of
//! `{"url": U, "arguments": […]}`, and posts each `arguments` to its `U`, as a part of the caller's trace. Baggage
//! goes on, too.
//!
//! ```text
//! cargo run --example propagation_service -- 5000
//! STRICT_LEVEL=2 python3 test/test.py http://127.0.0.1:5000/test     # in a clone of w3c/trace-context
//! ```
//!
//! Prints `listening on http://127.0.0.1:5000/test`. With `OTEL_EXPORTER_OTLP_ENDPOINT` set it exports its spans.

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::{
    env,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE},
    routing::post,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use spanring::{Config, Context, Engine, Kind, TraceFuture, Tracer, current_span};
use tokio::net::TcpListener;

struct Service {
    engine: Engine,
    tracer: Tracer,
    client: Client<HttpConnector, Body>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).map_or(Ok(5000), |port| port.parse())?;
    let is_exported = env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    let engine = Engine::start(if is_exported { Config::from_env() } else { Config::default() })?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let service = Arc::new(Service { tracer: engine.tracer("propagation"), engine, client });
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    println!("listening on http://{}/test", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/test", post(test)).with_state(service)).await?;
    Ok(())
}

/// A `HeaderMap` keeps the lines of a header apart, as the standard wants it: two `traceparent` are none.
async fn test(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Result<(), StatusCode> {
    let caller = service.engine.propagators().extract(&headers).into_context();
    let span = service.tracer.span("POST /test").kind(Kind::Server).parent(&caller).start();
    // A future in a span goes on with the baggage of the context that it is made in.
    let result = caller.run(|| service.call_all(&body).in_span(span)).await;
    // Nobody exports what has ended: make room.
    service.engine.drain(|_, _| {});
    result
}

impl Service {
    /// Makes the calls, one after the other.
    async fn call_all(&self, body: &[u8]) -> Result<(), StatusCode> {
        let Ok(Value::Array(calls)) = serde_json::from_slice(body) else {
            current_span().fail_with("the body is no JSON array");
            return Err(StatusCode::BAD_REQUEST);
        };
        for call in &calls {
            let url = call["url"].as_str().unwrap_or_default();
            let span = self.tracer.span("POST").kind(Kind::Client).start();
            self.call(url, &call["arguments"]).in_span(span).await;
        }
        Ok(())
    }

    /// One call, in a span of its own. Its failure is not the caller's.
    async fn call(&self, url: &str, arguments: &Value) {
        current_span().set("url.full", url);
        match self.post(url, arguments).await {
            Ok(status) => current_span().set("http.response.status_code", status.as_u16()),
            Err(error) => current_span().fail(&*error),
        }
    }

    async fn post(&self, url: &str, arguments: &Value) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let request = Request::post(url).header(CONTENT_TYPE, "application/json");
        let mut request = request.body(Body::from(arguments.to_string()))?;
        self.engine.propagators().inject(&Context::current(), request.headers_mut());
        Ok(self.client.request(request).await?.status())
    }
}
