//! Connecting: tries the addresses of a name a quarter of a second apart, until one answers (RFC 8305).

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Duration,
};

use super::super::driver::{Address, Conn, Driver, Moment, is_cancelled, is_out_of_files};

/// What a connection needs to act: the driver, the connections that are closing, and the time.
pub(super) struct Net<'a> {
    /// The I/O driver.
    pub driver: &'a mut Driver,
    /// Connections that are given up.
    pub leaving: &'a mut Leaving,
    /// The time.
    pub now: Moment,
}

/// Connections that were given up, and are closed once their last operation has completed.
#[derive(Debug, Default)]
pub(super) struct Leaving(Vec<(Conn, usize)>);

impl Leaving {
    /// Counts a completion of such a connection; false if it belongs to another.
    pub(super) fn complete(&mut self, driver: &mut Driver, conn: Conn) -> bool {
        let Some(at) = self.0.iter().position(|(leaving, _)| *leaving == conn) else {
            return false;
        };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
            driver.close(conn);
        }
        true
    }
}

impl Net<'_> {
    /// Gives up a connection that has this many operations in flight.
    pub(super) fn leave(&mut self, conn: Conn, operations: usize) {
        if operations == 0 {
            return self.driver.close(conn);
        }
        self.driver.cancel(conn);
        self.leaving.0.push((conn, operations));
    }
}

/// A race of connections to one peer.
#[derive(Debug)]
pub(super) struct Dial {
    untried: VecDeque<Address>,
    tries: Vec<Try>,
    /// When the next address is tried, if no try has ended by then.
    next_at: Moment,
    /// Why the tries that have ended did.
    failures: Vec<String>,
    /// Whether all that have ended were refused on this machine.
    is_refused_here: bool,
}

#[derive(Debug)]
struct Try {
    conn: Conn,
    address: Address,
    until: Moment,
}

/// The state of a race.
#[derive(Debug)]
pub(super) enum Dialled {
    /// Undecided.
    Pending,
    /// This connection is open, to this address; the others are given up.
    Up(Conn, Address),
    /// No address answers.
    Failed(NoConnection),
}

/// Why no connection came about.
#[derive(Debug)]
pub(super) struct NoConnection {
    /// What went wrong, address by address, and what to do.
    pub(super) why: String,
    /// Whether all addresses are on this machine, and nothing listens at any of them.
    pub(super) is_refused_here: bool,
}

impl From<String> for NoConnection {
    fn from(why: String) -> Self {
        Self { why, is_refused_here: false }
    }
}

/// What to do about an address that cannot be reached.
fn remedy(address: &Address, error: &io::Error) -> &'static str {
    if is_out_of_files(error) {
        return "this process, or the system, has too many open files: raise the limit (`ulimit -n`), or look for files and sockets that are never closed";
    }
    match (address, error.kind()) {
        (Address::Unix(_), ErrorKind::PermissionDenied) => {
            "the user of this process may not write to the socket, or not enter its directory: check their modes and owners"
        }
        _ => "check that the collector is listening there and that no firewall blocks it",
    }
}

/// How long one address is tried alone: the default of RFC 8305, section 8.
const STAGGER: Duration = Duration::from_millis(250);
/// How long one address may take. A SYN that is lost twice is sent again after one and after three seconds.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Most addresses that are tried for one name.
pub(super) const ADDRESSES_MAX: usize = 16;

impl Dial {
    /// Begins to connect to `addresses`, in turn.
    pub(super) fn begin(net: &mut Net<'_>, addresses: &[Address]) -> Self {
        let untried = addresses.iter().take(ADDRESSES_MAX).cloned().collect();
        let mut dial = Self { untried, tries: vec![], next_at: net.now, failures: vec![], is_refused_here: true };
        dial.try_next(net);
        dial
    }

    /// Tries the next address when it is due, and ends tries that take too long.
    pub(super) fn tick(&mut self, net: &mut Net<'_>) {
        if net.now >= self.next_at {
            self.try_next(net);
        }
        for late in self.tries.iter_mut().filter(|attempt| net.now >= attempt.until) {
            // It completes as cancelled; once is enough.
            net.driver.cancel(late.conn);
            late.until = Moment::START.after(Duration::MAX);
        }
    }

    /// Takes the completion of a try.
    pub(super) fn connected(&mut self, net: &mut Net<'_>, conn: Conn, result: io::Result<()>) -> Dialled {
        let Some(at) = self.tries.iter().position(|attempt| attempt.conn == conn) else {
            return Dialled::Pending;
        };
        let attempt = self.tries.swap_remove(at);
        match result {
            Ok(()) => {
                self.tries.drain(..).for_each(|loser| net.leave(loser.conn, 1));
                Dialled::Up(conn, attempt.address)
            }
            Err(error) => {
                net.driver.close(conn);
                // A socket in the file system may be missing altogether.
                let is_refused = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
                self.is_refused_here &= is_refused && attempt.address.is_local();
                let why = match is_cancelled(&error) {
                    true => format!("no answer within {} s", CONNECT_MAX.as_secs()),
                    false => error.to_string(),
                };
                let remedy = remedy(&attempt.address, &error);
                self.failures.push(format!("{}: {why}", attempt.address));
                self.try_next(net);
                if self.tries.is_empty() {
                    let why = format!("{}: {remedy}", self.failures.join("; "));
                    return Dialled::Failed(NoConnection { why, is_refused_here: self.is_refused_here });
                }
                Dialled::Pending
            }
        }
    }

    /// Whether this connection is part of the race.
    pub(super) fn has(&self, conn: Conn) -> bool {
        self.tries.iter().any(|attempt| attempt.conn == conn)
    }

    /// Ends the race without a winner.
    pub(super) fn give_up(self, net: &mut Net<'_>) {
        self.tries.into_iter().for_each(|attempt| net.leave(attempt.conn, 1));
    }

    /// When [`Dial::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Moment> {
        let next = (!self.untried.is_empty()).then_some(self.next_at);
        self.tries.iter().map(|attempt| attempt.until).chain(next).min()
    }

    fn try_next(&mut self, net: &mut Net<'_>) {
        // The time that it is, not the time until which is known what has come: that may be long ago.
        let now = net.driver.now();
        self.next_at = now.after(STAGGER);
        if let Some(address) = self.untried.pop_front() {
            let conn = net.driver.connect(&address);
            self.tries.push(Try { conn, address, until: now.after(CONNECT_MAX) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedy_for_a_socket_without_permission_is_about_its_mode() {
        let [denied, refused] = [ErrorKind::PermissionDenied, ErrorKind::ConnectionRefused].map(io::Error::from);
        let socket = Address::Unix("/run/otel.sock".into());
        let port = Address::Tcp(([127, 0, 0, 1], 4318).into());
        assert!(remedy(&socket, &denied).contains("check their modes and owners"));
        for (address, error) in [(&socket, &refused), (&port, &denied), (&port, &refused)] {
            assert!(remedy(address, error).contains("check that the collector is listening there"));
        }
    }

    /// EMFILE has this number on every unix.
    #[cfg(unix)]
    #[test]
    fn remedy_for_a_process_that_may_open_no_more_files_is_not_about_the_network() {
        let error = io::Error::from_raw_os_error(24);
        for address in [Address::Unix("/run/otel.sock".into()), Address::Tcp(([127, 0, 0, 1], 4318).into())] {
            let remedy = remedy(&address, &error);
            assert!(remedy.contains("too many open files") && !remedy.contains("firewall"), "{remedy}");
        }
    }
}
