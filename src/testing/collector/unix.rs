//! A collector on a unix socket.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
};

use super::{Listener, Place, Socket};

/// The path of a unix socket, which is removed in the end.
#[derive(Debug)]
pub struct Path(pub PathBuf);

impl Path {
    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // A path that is left over does no harm: the next one is different.
        let _ = self.remove();
    }
}

impl Place for Path {
    fn listen(&self) -> io::Result<Box<dyn Listener>> {
        self.remove()?;
        Ok(Box::new(UnixListener::bind(&self.0)?))
    }

    fn knock(&self) {
        // Refused means that the listener is gone already.
        let _ = UnixStream::connect(&self.0);
    }

    fn url(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }
}

impl Listener for UnixListener {
    fn accept(&self) -> io::Result<Box<dyn Socket>> {
        let (socket, _) = Self::accept(self)?;
        Ok(Box::new(socket))
    }
}

impl Socket for UnixStream {
    fn twin(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self, directions: Shutdown) -> io::Result<()> {
        self.shutdown(directions)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}
