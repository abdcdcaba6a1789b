//! The end of a server in a cluster: SIGTERM, requests in flight finish, and their spans are delivered.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example graceful_shutdown
//! curl --data-binary @large.bin http://ADDRESS/uploads & kill -TERM PID
//! ```
//!
//! Prints where it listens, `finishing` at SIGTERM, and at the end the receipt: `1 delivered, 0 lost, 0 waiting; …`.

#![cfg_attr(unix, expect(clippy::print_stdout, reason = "an example says what it does"))]

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::Duration;

    use axum::{Router, body::to_bytes, extract::Request, routing::post};
    use spanring::{Config, Engine, Kind, Signal, TraceFuture, current_span};
    use tokio::{
        net::TcpListener,
        signal::unix::{SignalKind, signal},
    };

    let engine = Engine::start(Config::from_env())?;
    // The server's own handler first: after it has run, spanring delivers what has ended so far, and goes on recording.
    let mut terminated = signal(SignalKind::terminate())?;
    spanring::flush_on_signals(&engine, &[Signal::Terminate], Duration::from_secs(2))?;

    let tracer = engine.tracer("uploads");
    let upload = move |request: Request| {
        let span = tracer.root("POST /uploads").kind(Kind::Server).start();
        let receive = async {
            let body = to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            current_span().set("http.request.body.size", body.len());
            format!("{} bytes\n", body.len())
        };
        receive.in_span(span)
    };
    let app = Router::new().route("/uploads", post(upload));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}/uploads", listener.local_addr()?);
    let end = async move {
        terminated.recv().await;
        println!("finishing");
    };
    // Returns once no request is left: nothing ends after it, so this is the time for the last batch.
    axum::serve(listener, app).with_graceful_shutdown(end).await?;
    println!("{}", engine.shutdown(Duration::from_secs(2)));
    Ok(())
}

#[cfg(not(unix))]
fn main() {}
