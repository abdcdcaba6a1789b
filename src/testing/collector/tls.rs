//! A port that speaks TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection, Stream};

use super::{Listener, Place, Port, Socket};

/// A port that speaks TLS.
pub struct TlsPort {
    /// The port.
    pub port: Port,
    /// What the server shows, and asks for.
    pub config: Arc<ServerConfig>,
}

struct TlsListener {
    listener: Box<dyn Listener>,
    config: Arc<ServerConfig>,
}

/// The handshake is made with the first read, by the connection's own thread.
struct TlsSocket {
    connection: ServerConnection,
    socket: Box<dyn Socket>,
}

impl Place for TlsPort {
    fn listen(&self) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TlsListener { listener: self.port.listen()?, config: Arc::clone(&self.config) }))
    }

    fn knock(&self) {
        self.port.knock();
    }

    fn url(&self) -> String {
        self.port.url().replace("http://127.0.0.1", "https://localhost")
    }

    fn address(&self) -> Option<SocketAddr> {
        self.port.address()
    }
}

impl Listener for TlsListener {
    fn accept(&self) -> io::Result<Box<dyn Socket>> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Ok(Box::new(TlsSocket { connection, socket: self.listener.accept()? }))
    }
}

impl Read for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.socket).read(buffer)
    }
}

impl Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Stream::new(&mut self.connection, &mut self.socket).flush()
    }
}

impl Socket for TlsSocket {
    /// The encrypted one: by it another thread can do nothing but end it.
    fn twin(&self) -> io::Result<Box<dyn Socket>> {
        self.socket.twin()
    }

    fn end(&self, directions: Shutdown) -> io::Result<()> {
        self.socket.end(directions)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        self.socket.tcp()
    }
}
