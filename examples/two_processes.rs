//! A process that starts another: the context goes along as the variable `TRACEPARENT`.
//!
//! Prints:
//!
//! ```text
//! compress (child of another process)
//! backup
//!   start compress
//! ```

mod shown;

use std::{env, error::Error, process::Command};

use spanring::{Config, Context, Engine, Kind, propagate::Environment};

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("backup");
    if env::args().nth(1).as_deref() == Some("compress") {
        let caller = engine.propagators().extract(&Environment::of_process()).into_context();
        tracer.span("compress").parent(&caller).start().run(|_| ());
    } else {
        tracer.in_span("backup", |_| {
            tracer.span("start compress").kind(Kind::Client).start().try_run(|_| {
                let mut compress = Command::new(env::current_exe()?);
                engine.propagators().inject(&Context::current(), &mut compress);
                compress.arg("compress").status()
            })
        })?;
    }
    shown::print(&engine);
    Ok(())
}
