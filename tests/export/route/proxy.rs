//! An HTTP proxy that leads to one collector, whatever it is asked for: it looks at the first head of each connection,
//! and then carries bytes both ways.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use spanring::testing::collector::{Place, Port, Socket};

/// What it does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Forwards,
    /// Wants this value of `Proxy-Authorization`.
    Asks(&'static str),
    /// Answers with this status, and ends the connection.
    Refuses(&'static str),
    /// Reads, and says nothing.
    Hangs,
    /// Makes a tunnel in which no answer comes.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only `https.rs` asks for it"))]
    LeadsNowhere,
}

pub struct Proxy {
    place: Arc<dyn Place>,
    heads: Heads,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

type Heads = Arc<Mutex<Vec<String>>>;

const TUNNEL: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

impl Proxy {
    /// On a free port. Each connection has the next of the manners, the last ones all have the last.
    pub fn start(collector: SocketAddr, manners: &'static [Manner]) -> Self {
        let place = Arc::new(Port::claim((Ipv4Addr::LOCALHOST, 0).into()).unwrap());
        Self::start_on(place, collector, manners)
    }

    pub fn start_on(place: Arc<dyn Place>, collector: SocketAddr, manners: &'static [Manner]) -> Self {
        let listener = place.listen().unwrap();
        let (heads, is_stopping) = (Heads::default(), Arc::new(AtomicBool::new(false)));
        let (seen, must_stop) = (Arc::clone(&heads), Arc::clone(&is_stopping));
        let acceptor = thread::spawn(move || {
            let mut manners = manners.iter().chain(manners.last().into_iter().cycle());
            while let Ok(client) = listener.accept() {
                let manner = *manners.next().expect("the last one stays");
                if must_stop.load(Relaxed) {
                    break;
                }
                let seen = Arc::clone(&seen);
                // It ends when the client closes, or the collector. An error is the end of this connection.
                thread::spawn(move || serve(client, collector, manner, &seen));
            }
        });
        Self { place, heads, is_stopping, acceptor: Some(acceptor) }
    }

    /// Its URL, with these credentials if there are some: `user:password@`.
    pub fn url(&self, credentials: &str) -> String {
        self.place.url().replace("http://", &format!("http://{credentials}"))
    }

    /// The first head of each connection.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_stopping.store(true, Relaxed);
        self.place.knock();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(mut client: Box<dyn Socket>, collector: SocketAddr, manner: Manner, heads: &Heads) -> io::Result<()> {
    let head = read_head(&mut client)?;
    heads.lock().unwrap().push(head.clone());
    let is_let_in = |value: &str| head.lines().any(|line| line == format!("proxy-authorization: {value}"));
    let refusal = match manner {
        Manner::Forwards => None,
        Manner::Asks(value) => (!is_let_in(value)).then_some("407 Proxy Authentication Required"),
        Manner::Refuses(status) => Some(status),
        Manner::Hangs => return read_on(client),
        Manner::LeadsNowhere => {
            client.write_all(TUNNEL)?;
            return read_on(client);
        }
    };
    if let Some(status) = refusal {
        write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        client.end(Shutdown::Write)?;
        return read_on(client);
    }
    let mut collector = TcpStream::connect(collector)?;
    if head.starts_with("CONNECT ") {
        client.write_all(TUNNEL)?;
    } else {
        collector.write_all(head.as_bytes())?;
    }
    let (mut from_client, mut to_collector) = (client.twin()?, collector.try_clone()?);
    let upwards = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_collector);
        to_collector.shutdown(Shutdown::Write)
    });
    let _ = io::copy(&mut collector, &mut client);
    client.end(Shutdown::Both)?;
    let _ = upwards.join();
    Ok(())
}

/// Byte by byte, so that nothing after it is taken.
fn read_head(client: &mut Box<dyn Socket>) -> io::Result<String> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Until the client closes: what it has not read yet would be lost to a reset.
fn read_on(mut client: Box<dyn Socket>) -> io::Result<()> {
    io::copy(&mut client, &mut io::sink()).map(drop)
}
