//! A pool of threads: it wraps each job where it takes it, and those who hand jobs in change nothing.
//!
//! Prints:
//!
//! ```text
//! request 1
//!   parse
//!   render
//! request 2
//!   parse
//!   render
//! ```

mod shown;

use std::{error::Error, sync::mpsc, thread};

use spanring::{Config, Context, Engine};

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    jobs: mpsc::Sender<Job>,
    worker: thread::JoinHandle<()>,
}

impl Pool {
    fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        Self { jobs, worker: thread::spawn(move || queue.into_iter().for_each(|job| job())) }
    }

    /// The one line of the pool that concerns tracing. For a pool that is not yours, it is a function of yours.
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        let job = Context::current().wrap(job);
        let _ = self.jobs.send(Box::new(job));
    }

    fn finish(self) {
        drop(self.jobs);
        let _ = self.worker.join();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(Config::default())?;
    let tracer = engine.tracer("pool");
    let pool = Pool::start();
    for request in ["request 1", "request 2"] {
        tracer.in_span(request, |_| {
            for step in ["parse", "render"] {
                let tracer = tracer.clone();
                pool.execute(move || tracer.in_span(step, |_| ()));
            }
        });
    }
    pool.finish();
    shown::print(&engine);
    Ok(())
}
