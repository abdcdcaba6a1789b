//! Plays a fault: a collector that follows the script of a [`Row`].

use std::{
    io,
    net::{Ipv4Addr, Shutdown},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::SockRef;

use super::{
    Collector, Connection, Ending, Mode, OK, Place, Port, Request,
    fault::{FLOOD_BYTES_MAX, Fault, Plan, Row, Step},
    on_free_port,
    rows::{ROWS, answer},
    serve, serve_one,
};

/// A collector with a fault.
pub struct Stand {
    /// The collector itself.
    pub collector: Collector,
    met: Arc<AtomicU64>,
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> &'static Self {
        ROWS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row is named {name}"))
    }

    /// A collector with this fault on a free port.
    pub fn start(&self, plan: Plan, mode: Mode) -> io::Result<Stand> {
        on_free_port(|| self.start_on(Arc::new(Port::claim((Ipv4Addr::LOCALHOST, 0).into())?), plan, mode))
    }

    /// A collector with this fault on this place.
    #[doc(hidden)]
    pub fn start_on(&self, place: Arc<dyn Place>, plan: Plan, mode: Mode) -> io::Result<Stand> {
        let met = Arc::new(AtomicU64::new(0));
        let script = Script { fault: self.fault, plan, seen: AtomicU64::new(0), met: Arc::clone(&met) };
        let mut collector = Collector::start_with(place, mode, Arc::new(move |connection| script.serve(connection)))?;
        if let Fault::ClosedPort = self.fault {
            collector.stop();
        }
        Ok(Stand { collector, met })
    }
}

impl Stand {
    /// How many scripts have begun.
    pub fn met(&self) -> u64 {
        // ORDERING: Relaxed. A count alone; what a script did is seen through the tally's lock.
        self.met.load(Relaxed)
    }

    /// Different spans that the collector took; from [`Mode::Ids`] on.
    pub fn delivered(&self) -> u64 {
        let tally = self.collector.tally();
        tally.spans - tally.ids_seen_twice
    }
}

/// A fault on the stage.
struct Script {
    fault: Fault,
    plan: Plan,
    /// Requests that have begun, or connections for a fault at accept.
    seen: AtomicU64,
    met: Arc<AtomicU64>,
}

impl Script {
    fn serve(&self, connection: &mut Connection) -> io::Result<()> {
        if let Fault::AtAccept(steps) = self.fault
            && self.is_due()
        {
            return match self.play(steps, connection)? {
                ControlFlow::Continue(()) => serve(connection),
                ControlFlow::Break(()) => Ok(()),
            };
        }
        let Fault::AtRequest(steps) = self.fault else { return serve(connection) };
        while connection.wait()? {
            let goes_on = if self.is_due() {
                self.play(steps, connection)?.is_continue()
            } else {
                serve_one(connection)? == Ending::KeepAlive
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        // ORDERING: Relaxed. Counts alone: each request gets a number of its own, and nothing else is handed over by
        // it.
        let seen = self.seen.fetch_add(1, Relaxed);
        let is_due = seen >= self.plan.after && seen - self.plan.after < self.plan.times;
        self.met.fetch_add(u64::from(is_due), Relaxed);
        is_due
    }

    fn play(&self, steps: &[Step], connection: &mut Connection) -> io::Result<ControlFlow<()>> {
        let mut request = None;
        for step in steps {
            match *step {
                Step::Read => match connection.read_request()? {
                    Ok(read) => request = Some(read),
                    Err(refusal) => {
                        connection.refuse(refusal)?;
                        return Ok(ControlFlow::Break(()));
                    }
                },
                Step::ReadBytes(bytes) => connection.read_exact(bytes)?,
                Step::AwaitNext => {
                    connection.wait()?;
                }
                Step::Take => connection.take(read(&mut request)),
                Step::TakeAllBut(spans) => connection.take_all_but(read(&mut request), spans),
                Step::TakeUpTo { body_bytes } => {
                    if let Some(small) = request.take_if(|request| request.body_bytes <= body_bytes) {
                        connection.take(small);
                        connection.write(OK)?;
                        break;
                    }
                }
                Step::Answer(status, headers) => connection.write(&answer(status, headers))?,
                Step::Say(bytes) => connection.write(&bytes())?,
                Step::SayInBytes(bytes, gap) => {
                    for byte in bytes() {
                        connection.write(&[byte])?;
                        connection.rest(gap)?;
                    }
                }
                Step::SayInTwo(bytes) => {
                    let bytes = bytes();
                    // The script that is played has been counted, so the first cut is after the first byte.
                    let cuts = bytes.len() as u64 - 1;
                    // ORDERING: Relaxed. This thread's own increment is among those it reads.
                    let cut = (self.met.load(Relaxed) - 1) % cuts + 1;
                    let (first, second) = bytes.split_at(usize::try_from(cut).expect("it is below a length"));
                    connection.write(first)?;
                    connection.rest(BETWEEN_TWO)?;
                    connection.write(second)?;
                }
                Step::SayForever(bytes) => {
                    let bytes = bytes();
                    for _ in 0..FLOOD_BYTES_MAX / bytes.len() {
                        connection.write(&bytes)?;
                    }
                }
                Step::ShrinkWindow => {
                    if let Some(socket) = connection.socket().tcp() {
                        SockRef::from(socket).set_recv_buffer_size(1)?;
                    }
                }
                Step::EndReplies => connection.socket().end(Shutdown::Write)?,
                Step::Hold => loop {
                    connection.rest(Duration::from_secs(3600))?;
                },
                Step::Close => return Ok(ControlFlow::Break(())),
                Step::Reset => {
                    if let Some(socket) = connection.socket().tcp() {
                        SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
                    }
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Long enough for a client that waits to read the first piece alone.
const BETWEEN_TWO: Duration = Duration::from_millis(2);

fn read(request: &mut Option<Request>) -> Request {
    request.take().expect("a script reads a request before it takes it, and takes it once")
}
