//! The seam to the network: completion-shaped, with owned buffers, and the same for every driver.
//!
//! A caller gives a buffer away with an operation and gets it back with the [`Completion`]. There is exactly one
//! completion for each operation, cancelled ones included, and results may be short. `contract.rs` checks this for
//! every driver.

mod choice;
mod completion;
mod contract;
mod moment;
mod poll;
mod resolve;
mod socket;
mod waker;

#[cfg(any(test, feature = "testing"))]
pub mod sim;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as platform;

// The ring's bindings are made for these processors; Cargo.toml has the same list.
#[cfg_attr(
    not(all(
        feature = "uring",
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "loongarch64",
            target_arch = "powerpc64"
        )
    )),
    path = "absent.rs"
)]
mod uring;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as platform;

use std::{fmt, io, ops::Range, time::Duration};

use socket2::Socket;

use completion::{Operation, cancelled, unheard};
use contract::Contract;
use moment::Timer;
use poll::Poll;
use uring::Uring;

pub use choice::{DriverChoice, DriverReport, UnknownDriver};
pub use completion::{Address, Completion, Conn, Event, is_cancelled, is_unheard};
pub use moment::Moment;
pub use resolve::{Answer, Resolver};
pub use waker::{Bell, Waker};

/// Moves bytes for one thread: the one that opened it, because the kernel gives a ring's completions to no other.
///
/// After a fork the child must forget the driver it has inherited, not use or drop it: the ring's memory is not there.
pub struct Driver {
    contract: Contract,
    machine: Machine,
    /// Completions of operations that never reached the machine, or that it lost.
    strays: Vec<Completion>,
    /// How long a peer may acknowledge nothing before the kernel gives its connection up.
    unacknowledged_max: Duration,
    /// Whether a machine has failed before.
    has_fallen: bool,
    /// When the last wait began that did not fail.
    looked: Moment,
}

/// The machines that do the I/O. All have the same methods; `machine!` calls them.
enum Machine {
    Uring(Box<Uring>),
    Poll(Poll),
    #[cfg(any(test, feature = "testing"))]
    Sim(sim::Machine),
}

macro_rules! machine {
    ($machine:expr, $name:ident => $call:expr) => {
        match $machine {
            Machine::Uring($name) => $call,
            Machine::Poll($name) => $call,
            #[cfg(any(test, feature = "testing"))]
            Machine::Sim($name) => $call,
        }
    };
}

impl Driver {
    /// Opens the driver of this choice, on the thread that will use it. Whatever keeps io_uring from working, a service
    /// must start: poll runs then, and the report says why. A peer that acknowledges nothing for `unacknowledged_max`
    /// is taken to be dead, where the system has such a limit.
    ///
    /// # Errors
    ///
    /// When not even poll can be set up, for want of descriptors.
    pub fn open(choice: DriverChoice, unacknowledged_max: Duration) -> io::Result<(Self, DriverReport)> {
        let timer = Timer::start();
        let reason = match choice {
            DriverChoice::Poll => "as configured".into(),
            DriverChoice::Auto | DriverChoice::Uring => match Uring::open(timer) {
                Ok((uring, reason)) => {
                    let report = DriverReport { name: "uring", reason };
                    return Ok((Self::with(Machine::Uring(Box::new(uring)), unacknowledged_max), report));
                }
                Err(refusal) => refusal,
            },
        };
        let poll = Poll::open(timer)?;
        Ok((Self::with(Machine::Poll(poll), unacknowledged_max), DriverReport { name: "poll", reason }))
    }

    /// A driver on a network that is not there.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn sim(sim: &sim::Sim) -> Self {
        Self::with(Machine::Sim(sim::Machine::new(sim)), Duration::MAX)
    }

    fn with(machine: Machine, unacknowledged_max: Duration) -> Self {
        let looked = Moment::START;
        Self { contract: Contract::default(), machine, strays: vec![], unacknowledged_max, has_fallen: false, looked }
    }

    /// Begins to connect. What goes wrong comes as the completion, also where there is no socket to be had.
    pub fn connect(&mut self, address: &Address) -> Conn {
        let conn = self.contract.open();
        self.contract.begin(conn, Operation::Connect);
        machine!(&mut self.machine, machine => machine.connect(conn, address, self.unacknowledged_max));
        conn
    }

    /// Sends `range` of the buffer, or as much of it as goes.
    ///
    /// # Panics
    ///
    /// If a send is in flight on this connection, if it is not yet connected, or if the range is empty or outside.
    pub fn send(&mut self, conn: Conn, buffer: Vec<u8>, range: Range<usize>) {
        assert!(range.start < range.end, "a send has at least one byte");
        assert!(range.end <= buffer.len(), "a send lies inside its buffer");
        if !self.contract.begin(conn, Operation::Send) {
            return self.strays.push(Completion { conn, event: Event::Sent { buffer, result: Err(cancelled()) } });
        }
        machine!(&mut self.machine, machine => machine.send(conn, buffer, range));
    }

    /// Receives into the buffer, as much as its length.
    ///
    /// # Panics
    ///
    /// If a receive is in flight on this connection, if it is not yet connected, or if the buffer is empty.
    pub fn recv(&mut self, conn: Conn, buffer: Vec<u8>) {
        assert!(!buffer.is_empty(), "a receive into nothing would look like the end of the stream");
        if !self.contract.begin(conn, Operation::Recv) {
            return self.strays.push(Completion { conn, event: Event::Received { buffer, result: Err(cancelled()) } });
        }
        machine!(&mut self.machine, machine => machine.recv(conn, buffer));
    }

    /// Ends what is in flight on the connection: each operation completes soon, as cancelled or with what it had done.
    /// What was sent of a cancelled send is unknown, so the connection is then good for nothing but [`Driver::close`].
    pub fn cancel(&mut self, conn: Conn) {
        if self.contract.is_live(conn) {
            machine!(&mut self.machine, machine => machine.cancel(conn));
        }
    }

    /// Closes the connection. Closing a stale handle does nothing.
    ///
    /// # Panics
    ///
    /// If an operation is in flight: cancel it, and wait for its completion.
    pub fn close(&mut self, conn: Conn) {
        if self.contract.close(conn) {
            machine!(&mut self.machine, machine => machine.close(conn));
        }
    }

    /// Waits until an operation completes, the waker is called, or `until` has come; a moment in the past only looks.
    /// Adds the completions.
    ///
    /// # Errors
    ///
    /// When the driver itself has failed: [`Driver::fall_back`] replaces it.
    pub fn wait(&mut self, until: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let until = if self.strays.is_empty() { until } else { Some(Moment::START) };
        completions.append(&mut self.strays);
        let first = completions.len();
        // Not when it ends: this thread may be stopped after the look that each wait begins with.
        let began = self.now();
        let result = machine!(&mut self.machine, machine => machine.wait(until, completions));
        if result.is_ok() {
            self.looked = began;
        }
        for Completion { conn, event } in &completions[first..] {
            self.contract.end(*conn, event.operation());
        }
        debug_assert_eq!(self.contract.in_flight(), self.machine.in_flight(), "two counts of the same operations");
        result
    }

    /// As [`Driver::wait`], but lets the answers to what was just sent come in together, for a millisecond at most: it
    /// is less work to wake up once for all of them. A driver that hears of readiness wakes up for each.
    ///
    /// # Errors
    ///
    /// As [`Driver::wait`].
    pub fn wait_together(&mut self, until: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        if let Machine::Uring(uring) = &mut self.machine {
            uring.gather();
        }
        self.wait(until, completions)
    }

    /// Gives up a driver whose wait has failed, and goes on with poll. Every handle becomes stale, and every operation
    /// that was in flight completes at the next wait, with its buffer; wakers and the clock stay good.
    ///
    /// # Errors
    ///
    /// When poll cannot be set up, or has failed itself; the driver is then as it was.
    pub fn fall_back(&mut self, cause: &io::Error) -> io::Result<DriverReport> {
        let successor = match &self.machine {
            Machine::Uring(uring) => Some(Poll::open_with(uring.timer(), uring.ringer())?),
            // There is nothing after poll. One that has failed will not recover: begin with a new one.
            Machine::Poll(_) if self.has_fallen => return Err(io::Error::new(cause.kind(), cause.to_string())),
            _ => None,
        };
        self.has_fallen = true;
        machine!(&mut self.machine, machine => machine.abandon(&mut self.strays, unheard));
        self.contract.close_all();
        if let Some(successor) = successor {
            self.machine = Machine::Poll(successor);
        }
        Ok(DriverReport { name: self.machine.name(), reason: format!("started again after a failure: {cause}") })
    }

    /// Cancels everything and waits for it, at most until then. What the kernel still holds after that is left to it
    /// for ever, because it may still write there.
    pub fn shut_down(mut self, until: Moment) -> Abandoned {
        self.contract.live().into_iter().for_each(|conn| self.cancel(conn));
        let mut completions = vec![];
        while self.in_flight() > 0 && self.now() < until {
            if self.wait(Some(until), &mut completions).is_err() {
                break;
            }
            completions.clear();
        }
        if let Machine::Uring(uring) = &mut self.machine {
            uring.leave_by(until);
        }
        Abandoned { operations: self.in_flight() }
    }

    /// Makes a ring sleep as it does on kernels before 6.15; the other drivers are as they were.
    ///
    /// # Errors
    ///
    /// When the kernel has no more descriptors.
    pub fn sleep_outside(&mut self) -> io::Result<()> {
        match &mut self.machine {
            Machine::Uring(uring) => uring.sleep_outside(),
            _ => Ok(()),
        }
    }

    /// What makes this driver's wait return.
    #[must_use]
    pub fn waker(&self) -> Waker {
        machine!(&self.machine, machine => machine.waker())
    }

    /// When the last wait began that did not fail: what had come by then has completed. What came as it slept may not
    /// have, if the process was stopped: one more wait, which need not sleep, finds it.
    #[must_use]
    pub fn looked(&self) -> Moment {
        self.looked
    }

    /// The time on this driver's clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        machine!(&self.machine, machine => machine.now())
    }

    /// Operations whose completion is still to come.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.contract.in_flight() + self.strays.len()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.machine.name();
        f.debug_struct("Driver").field("name", &name).field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl Machine {
    fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "uring",
            Self::Poll(_) => "poll",
            #[cfg(any(test, feature = "testing"))]
            Self::Sim(_) => "sim",
        }
    }

    fn in_flight(&self) -> usize {
        machine!(self, machine => machine.in_flight())
    }
}

/// Whether this error says that the process, or the whole system, may open no more files, sockets included.
#[must_use]
pub fn is_out_of_files(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| platform::OUT_OF_FILES.contains(&code))
}

/// What a shut-down had to leave to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abandoned {
    /// Operations that did not complete in time. Their buffers are never freed.
    pub operations: usize,
}

/// Not a problem of ours on these systems: socket2 sets the socket up so that it raises no signal.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: i32 = 0;
/// A closed connection is an error, not a signal that ends the process.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;

/// Ends a connection whose peer acknowledges nothing, or has no room for what was sent, for this long. A time that is
/// too long to be counted in 31 bits of milliseconds is refused, and means none.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_unacknowledged(socket: &Socket, time: Duration) {
    let _ = socket.set_tcp_user_timeout(Some(time));
}

/// These systems have no such limit; the deadlines of the exchange do it, later.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_unacknowledged(_: &Socket, _: Duration) {}

#[cfg(test)]
mod tests {
    #[test]
    fn processors_of_the_ring_are_those_of_the_manifest() {
        let listed = |text: &str| -> Vec<String> {
            let names = text.split("target_arch = \"").skip(1).filter_map(|rest| rest.split('"').next());
            names.map(str::to_owned).collect()
        };
        let manifest = include_str!("../../../Cargo.toml");
        let ring = manifest.lines().find(|line| line.starts_with("[target") && line.contains("target_arch"));
        let code = include_str!("mod.rs").split("mod uring;").next().unwrap_or_default();
        assert_eq!(listed(ring.unwrap_or_default()), listed(code));
        assert!(listed(code).contains(&"x86_64".to_owned()));
    }
}
