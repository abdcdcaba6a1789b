//! A non-blocking stream as Windows has it: TCP, through mio, which must see every call to know when to look again.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::SockRef;

use super::{completion::Address, socket};

/// What the system says where no more sockets may be opened: `WSAEMFILE`.
pub(super) const OUT_OF_FILES: &[i32] = &[10_024];

#[derive(Debug)]
pub(super) struct Stream(TcpStream);

impl Stream {
    /// A stream on its way to `address`, or there already.
    pub(super) fn connect(address: &Address, unacknowledged_max: Duration) -> io::Result<Self> {
        if let Address::Unix(_) = address {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "unix sockets are not supported on Windows"));
        }
        let (socket, address) = socket::open(address, unacknowledged_max)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(Self(TcpStream::from_std(socket.into()))),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.0, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.0)
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Ends the connection, for whoever else has a copy of the descriptor too.
    pub(super) fn shut_down(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Whether the connection is open: `None` if it is still being made.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        socket::outcome(&SockRef::from(&self.0))
    }
}
