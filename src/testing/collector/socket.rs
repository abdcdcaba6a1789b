//! The sockets that a collector listens on: TCP here; others implement the same traits.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// Where a collector listens, again and again.
pub trait Place: Send + Sync {
    /// Starts to listen.
    fn listen(&self) -> io::Result<Box<dyn Listener>>;
    /// Connects and hangs up, to wake a listener that waits.
    fn knock(&self);
    /// The endpoint without a path, as an exporter is told it.
    fn url(&self) -> String;
    /// Host and port, if it has them.
    fn address(&self) -> Option<SocketAddr>;
}

/// Hands out connections.
pub trait Listener: Send {
    /// Waits for the next one.
    fn accept(&self) -> io::Result<Box<dyn Socket>>;
}

/// One connection.
pub trait Socket: Read + Write + Send {
    /// A second handle, by which another thread can end the connection.
    fn twin(&self) -> io::Result<Box<dyn Socket>>;
    /// Ends one direction or both; what waits in them returns.
    fn end(&self, directions: Shutdown) -> io::Result<()>;
    /// The TCP socket, if it is one.
    fn tcp(&self) -> Option<&TcpStream>;
}

/// A TCP port that stays reserved while it has no listener.
///
/// A port between two listeners could be taken: by another process, or by a client that is given it as its own port and
/// so connects to itself. A connection of the port with ourselves keeps the system from handing it out.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _claim: (TcpStream, TcpStream),
}

/// Enough for loopback however busy the machine is.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a port that is in use is tried again.
const IN_USE_TRIES: usize = 20;
const IN_USE_PAUSE: Duration = Duration::from_millis(10);

impl Port {
    /// Claims a port; port 0 is any that is free.
    pub fn claim(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let near = TcpStream::connect_timeout(&reachable(address), CONNECT_MAX)?;
        loop {
            // Another client that connects this early is closed, and may try again.
            let (far, peer) = listener.accept()?;
            if peer == near.local_addr()? {
                return Ok(Self { address, _claim: (near, far) });
            }
        }
    }
}

/// The address by which this machine reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

impl Place for Port {
    fn listen(&self) -> io::Result<Box<dyn Listener>> {
        // `std` sets SO_REUSEADDR where it means that connections of an earlier listener are not in the way.
        let mut bound = TcpListener::bind(self.address);
        for _ in 0..IN_USE_TRIES {
            match bound {
                // Another process was given the port as a free one, and mostly keeps it for a moment only.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::park_timeout(IN_USE_PAUSE),
                done => return Ok(Box::new(done?)),
            }
            bound = TcpListener::bind(self.address);
        }
        Ok(Box::new(bound?))
    }

    fn knock(&self) {
        // Refused means that the listener is gone already.
        let _ = TcpStream::connect_timeout(&reachable(self.address), CONNECT_MAX);
    }

    fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(reachable(self.address))
    }
}

impl Listener for TcpListener {
    fn accept(&self) -> io::Result<Box<dyn Socket>> {
        let (socket, _) = Self::accept(self)?;
        // A reply is one write, and should not wait for an acknowledgement.
        socket.set_nodelay(true)?;
        Ok(Box::new(socket))
    }
}

impl Socket for TcpStream {
    fn twin(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self, directions: Shutdown) -> io::Result<()> {
        self.shutdown(directions)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}
