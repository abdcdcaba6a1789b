//! A non-blocking stream as unix has it: TCP or a socket in the file system, registered by its descriptor.

use std::{
    io::{self, Read},
    net::Shutdown,
    os::fd::AsRawFd,
    time::Duration,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use socket2::{SockAddr, Socket};

use super::{SEND_FLAGS, completion::Address, socket};

/// What the system says where no more files may be opened.
pub(super) const OUT_OF_FILES: &[i32] = &[libc::EMFILE, libc::ENFILE];

#[derive(Debug)]
pub(super) struct Stream(Socket);

impl Stream {
    /// A stream on its way to `address`, or there already.
    pub(super) fn connect(address: &Address, unacknowledged_max: Duration) -> io::Result<Self> {
        let (socket, target) = socket::open(address, unacknowledged_max)?;
        socket.set_nonblocking(true)?;
        if let Address::Unix(_) = address {
            return connect_unix(&socket, &target).map(|()| Self(socket));
        }
        match socket.connect(&target) {
            // An interrupted connect goes on by itself, and another call would be refused.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Err(error),
            _ => Ok(Self(socket)),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.0.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.0.as_raw_fd()))
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, SEND_FLAGS)
    }

    /// Ends the connection, for whoever else has a copy of the descriptor too.
    pub(super) fn shut_down(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Whether the connection is open: `None` if it is still being made.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        socket::outcome(&self.0)
    }
}

/// Connects a non-blocking socket to one in the file system, which happens at once or not at all.
pub(super) fn connect_unix(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the listener's queue is full"))
        }
        result => result,
    }
}
