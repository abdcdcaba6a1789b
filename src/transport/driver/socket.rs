//! Makes a socket for an address and tunes it, before it connects.

use std::{io, time::Duration};

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::{completion::Address, limit_unacknowledged};

/// The least time that a peer gets to acknowledge anything, a connect included: a segment that is lost twice is sent
/// again after one and after three seconds.
const UNACKNOWLEDGED_MIN: Duration = Duration::from_secs(4);
/// Probes on an idle connection: often enough to keep a NAT's entry, which lasts some minutes.
const PROBE_AFTER: Duration = Duration::from_secs(45);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// A blocking socket, closed on exec, and the address in the form of the system. A peer that acknowledges nothing for
/// `unacknowledged_max` is taken to be dead.
pub(super) fn open(address: &Address, unacknowledged_max: Duration) -> io::Result<(Socket, SockAddr)> {
    match address {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            tune(&socket, unacknowledged_max);
            Ok((socket, (*address).into()))
        }
        Address::Unix(path) => {
            let address = SockAddr::unix(path)?;
            Ok((Socket::new(Domain::UNIX, Type::STREAM, None)?, address))
        }
    }
}

/// A system that refuses to tune still delivers, so nothing here is an error.
fn tune(socket: &Socket, unacknowledged_max: Duration) {
    // A request ends with its last byte: nothing follows that would be worth a wait.
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    let _ = socket.set_tcp_keepalive(&keepalive);
    limit_unacknowledged(socket, unacknowledged_max.max(UNACKNOWLEDGED_MIN));
}

/// Whether the connection is open: `None` if it is still being made.
pub(super) fn outcome(socket: &Socket) -> Option<io::Result<()>> {
    match (socket.take_error(), socket.peer_addr()) {
        (Ok(Some(error)) | Err(error), _) => Some(Err(error)),
        (_, Err(error)) if error.kind() == io::ErrorKind::NotConnected => None,
        (_, Err(error)) => Some(Err(error)),
        (_, Ok(target)) if is_itself(socket, &target) => Some(Err(io::ErrorKind::ConnectionRefused.into())),
        _ => Some(Ok(())),
    }
}

/// TCP connects a socket to itself if nothing listens and it was given the very port that it asks for.
fn is_itself(socket: &Socket, target: &SockAddr) -> bool {
    target.as_socket().is_some() && socket.local_addr().is_ok_and(|source| source == *target)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use super::*;

    fn free() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[test]
    fn sockets_are_tuned_before_they_connect() {
        let (socket, address) = open(&Address::Tcp(free()), UNACKNOWLEDGED_MIN).expect("there are descriptors");
        assert_eq!(address.as_socket(), Some(free()));
        assert!(socket.tcp_nodelay().expect("the system knows it"));
        assert!(socket.keepalive().expect("the system knows it"));
    }

    #[test]
    fn connection_on_its_way_has_no_outcome() {
        let (socket, _) = open(&Address::Tcp(free()), UNACKNOWLEDGED_MIN).expect("there are descriptors");
        assert!(outcome(&socket).is_none());
    }

    #[test]
    fn connection_that_stands_is_good() {
        let listener = TcpListener::bind(free()).expect("a port is free");
        let (socket, _) = open(&Address::Tcp(free()), UNACKNOWLEDGED_MIN).expect("there are descriptors");
        let address = listener.local_addr().expect("it is bound");
        socket.connect(&address.into()).expect("somebody listens");
        assert!(matches!(outcome(&socket), Some(Ok(()))));
    }

    #[test]
    fn socket_that_met_itself_is_refused() {
        let (socket, _) = open(&Address::Tcp(free()), UNACKNOWLEDGED_MIN).expect("there are descriptors");
        socket.bind(&free().into()).expect("a port is free");
        let own = socket.local_addr().expect("it is bound");
        // Not every system lets a socket do that.
        if socket.connect(&own).is_ok() {
            let error = outcome(&socket).expect("it is done").expect_err("that is no peer");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
