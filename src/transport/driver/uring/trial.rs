//! Whether a ring does what it promises, and what to say when there is none.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use super::Uring;
use crate::transport::driver::completion::{Conn, Event};

/// It needs no peer: with opening the ring it took 0.2 to 0.3 ms (debug build, 6.18, two busy cores).
const TIME: Duration = Duration::from_millis(50);

/// Sends, receives and cancels on a pair of sockets: there are sandboxes that promise more than they do.
pub(super) fn run(uring: &mut Uring) -> io::Result<()> {
    let (source, target) = UnixStream::pair()?;
    let (source, target) = (adopt(uring, 0, source), adopt(uring, 1, target));
    let until = uring.timer.now().after(TIME);
    let text = b"spanring";
    uring.recv(target, vec![0; text.len()]);
    uring.send(source, text.to_vec(), 0..text.len());
    uring.recv(source, vec![0; 1]);
    let mut is_received = false;
    let mut completions = vec![];
    while uring.in_flight() > 0 {
        if uring.timer.now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        uring.wait(Some(until), &mut completions)?;
        for completion in completions.drain(..) {
            match completion.event {
                Event::Sent { result, .. } if result.as_ref().is_ok_and(|len| *len == text.len()) => {}
                Event::Received { buffer, .. } if completion.conn == target && buffer == text => {
                    is_received = true;
                    uring.cancel(source);
                }
                Event::Received { result, .. } if is_received && result.is_err() => {}
                event => return Err(io::Error::other(format!("unexpected {event:?}"))),
            }
        }
    }
    uring.links.clear();
    Ok(())
}

fn adopt(uring: &mut Uring, slot: u32, socket: UnixStream) -> Conn {
    let conn = Conn { slot, generation: 0 };
    uring.insert(conn, OwnedFd::from(socket).into());
    conn
}

/// A clause on an error of the set-up, with the usual cause.
pub(super) fn refusal(error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (seccomp, or kernel.io_uring_disabled)",
        Some(libc::ENOSYS) => " (not in this kernel, or hidden by a sandbox)",
        Some(libc::ENOMEM) => " (RLIMIT_MEMLOCK, or memory)",
        _ => "",
    };
    format!("io_uring refused: {error}{remedy}")
}
