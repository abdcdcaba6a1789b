//! From a host's name to its addresses.

use std::net::{SocketAddr, ToSocketAddrs};

use super::Waker;

/// Looks names up, one at a time.
#[derive(Debug)]
pub struct Resolver {
    waker: Waker,
    answer: Option<Result<Vec<SocketAddr>, String>>,
}

impl Resolver {
    /// A resolver that calls `waker` when it has an answer.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { waker, answer: None }
    }

    /// Asks for the addresses of a host.
    pub fn ask(&mut self, host: &str, port: u16) {
        let answer = (host, port).to_socket_addrs().map(Iterator::collect);
        self.answer = Some(answer.map_err(|error| format!("the name {host} leads nowhere: {error}")));
        self.waker.wake();
    }

    /// The answer, once.
    pub fn answer(&mut self) -> Option<Result<Vec<SocketAddr>, String>> {
        self.answer.take()
    }
}
