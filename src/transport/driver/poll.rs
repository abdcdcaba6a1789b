//! The driver for everywhere: it tries first, waits for readiness where it must, tries again, and reports what was
//! done.
//!
//! Readiness comes as edges, so what the system has said once is kept in [`Link`] until a call finds that it no longer
//! holds.

use std::{io, mem, ops::Range, sync::Arc, time::Duration};

use mio::{Events, Registry, Token, event::Event as Readiness};

use super::{
    completion::{Address, Completion, Conn, Event, cancelled},
    moment::{Moment, Timer},
    platform::Stream,
    waker::Waker,
};

pub(super) struct Poll {
    poll: mio::Poll,
    events: Events,
    waker: Waker,
    timer: Timer,
    /// By slot; empty where a connection is closed, or has no socket because the system refused one.
    links: Vec<Option<Link>>,
    /// What is done and not yet reported.
    ready: Vec<Completion>,
}

struct Link {
    conn: Conn,
    stream: Stream,
    is_connecting: bool,
    send: Option<(Vec<u8>, Range<usize>)>,
    recv: Option<Vec<u8>>,
    /// No read has found the stream empty since the system last said that it was not.
    may_read: bool,
    /// No write has found the stream full since the system last said that it was not.
    may_write: bool,
}

/// Registers what wakes the driver.
pub(super) type Ringer = Box<dyn FnOnce(&Registry, Token) -> io::Result<Waker>>;

/// Never a slot: those are numbers of 32 bits, and there are fewer.
const BELL: Token = Token(usize::MAX);
/// Readiness that one look takes; what is left waits for the next.
const EVENTS_MAX: usize = 64;

impl Poll {
    pub(super) fn open(timer: Timer) -> io::Result<Self> {
        let ringer = |registry: &Registry, token| Ok(Waker::new(Arc::new(mio::Waker::new(registry, token)?)));
        Self::open_with(timer, Box::new(ringer))
    }

    /// With a waker that there was before.
    pub(super) fn open_with(timer: Timer, ringer: Ringer) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = ringer(poll.registry(), BELL)?;
        let events = Events::with_capacity(EVENTS_MAX);
        Ok(Self { poll, events, waker, timer, links: vec![], ready: vec![] })
    }

    pub(super) fn connect(&mut self, conn: Conn, address: &Address, unacknowledged_max: Duration) {
        let at = conn.index();
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        let registered = Stream::connect(address, unacknowledged_max).and_then(|mut stream| {
            stream.register(self.poll.registry(), Token(at))?;
            Ok(stream)
        });
        match registered {
            // Where the connection is open already, the registration itself makes the first edge.
            Ok(stream) => self.links[at] = Some(Link::new(conn, stream)),
            Err(error) => self.ready.push(Completion { conn, event: Event::Connected(Err(error)) }),
        }
    }

    pub(super) fn send(&mut self, conn: Conn, buffer: Vec<u8>, range: Range<usize>) {
        let Some(link) = &mut self.links[conn.index()] else {
            let event = Event::Sent { buffer, result: Err(io::ErrorKind::NotConnected.into()) };
            return self.ready.push(Completion { conn, event });
        };
        link.send = Some((buffer, range));
        link.advance(&mut self.ready);
    }

    pub(super) fn recv(&mut self, conn: Conn, buffer: Vec<u8>) {
        let Some(link) = &mut self.links[conn.index()] else {
            let event = Event::Received { buffer, result: Err(io::ErrorKind::NotConnected.into()) };
            return self.ready.push(Completion { conn, event });
        };
        link.recv = Some(buffer);
        link.advance(&mut self.ready);
    }

    pub(super) fn cancel(&mut self, conn: Conn) {
        if let Some(link) = &mut self.links[conn.index()] {
            link.give_up(&mut self.ready, cancelled);
        }
    }

    pub(super) fn close(&mut self, conn: Conn) {
        if let Some(mut link) = self.links[conn.index()].take() {
            // An error means that the system forgot the descriptor before we did; dropping the link closes it.
            let _ = link.stream.deregister(self.poll.registry());
        }
    }

    pub(super) fn wait(&mut self, until: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        loop {
            // Also with something to report, the system is asked for more: a sender that never has to wait must not
            // keep the others from being heard.
            let timeout = match self.ready.is_empty() {
                true => until.map(|moment| self.timer.until(moment)),
                false => Some(Duration::ZERO),
            };
            match self.poll.poll(&mut self.events, timeout) {
                // It has not looked, and the time may be over, if the process was stopped.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let is_woken = self.take_readiness();
            let is_late = until.is_some_and(|moment| self.timer.now() >= moment);
            if is_woken || is_late || !self.ready.is_empty() {
                completions.append(&mut self.ready);
                return Ok(());
            }
        }
    }

    /// Moves what can be moved; true if the bell rang.
    fn take_readiness(&mut self) -> bool {
        let mut is_woken = false;
        for readiness in &self.events {
            if readiness.token() == BELL {
                is_woken = true;
            } else if let Some(Some(link)) = self.links.get_mut(readiness.token().0) {
                link.note(readiness);
                link.advance(&mut self.ready);
            }
        }
        is_woken
    }

    /// Ends every operation and gives the buffers back: only this machine has them.
    pub(super) fn abandon(&mut self, completions: &mut Vec<Completion>, reason: impl Fn() -> io::Error) {
        for link in self.links.drain(..).flatten() {
            let mut link = link;
            link.give_up(&mut self.ready, &reason);
            let _ = link.stream.deregister(self.poll.registry());
        }
        completions.append(&mut self.ready);
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn now(&self) -> Moment {
        self.timer.now()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.ready.len() + self.links.iter().flatten().map(Link::in_flight).sum::<usize>()
    }
}

impl Drop for Link {
    /// The peer need not wait for a child process that has a copy of the descriptor.
    fn drop(&mut self) {
        self.stream.shut_down();
    }
}

impl Link {
    fn new(conn: Conn, stream: Stream) -> Self {
        Self { conn, stream, is_connecting: true, send: None, recv: None, may_read: false, may_write: false }
    }

    fn note(&mut self, readiness: &Readiness) {
        // An error, or the end of a direction, is heard by the call that it will fail.
        self.may_read |= readiness.is_readable() || readiness.is_read_closed() || readiness.is_error();
        self.may_write |= readiness.is_writable() || readiness.is_write_closed() || readiness.is_error();
    }

    /// Does what was asked for, as far as the system lets it.
    fn advance(&mut self, ready: &mut Vec<Completion>) {
        let conn = self.conn;
        let mut done = |event| ready.push(Completion { conn, event });
        if self.is_connecting && self.may_write {
            match self.stream.outcome() {
                Some(result) => {
                    self.is_connecting = false;
                    done(Event::Connected(result));
                }
                None => self.may_write = false,
            }
        }
        if self.may_write
            && let Some((buffer, range)) = self.send.take()
        {
            match attempt(|| self.stream.write(&buffer[range.clone()])) {
                Some(result) => done(Event::Sent { buffer, result }),
                None => (self.may_write, self.send) = (false, Some((buffer, range))),
            }
        }
        if self.may_read
            && let Some(mut buffer) = self.recv.take()
        {
            match attempt(|| self.stream.read(&mut buffer)) {
                Some(result) => done(Event::Received { buffer, result }),
                None => (self.may_read, self.recv) = (false, Some(buffer)),
            }
        }
    }

    /// Ends what is in flight with an error.
    fn give_up(&mut self, ready: &mut Vec<Completion>, reason: impl Fn() -> io::Error) {
        let conn = self.conn;
        let connect = mem::take(&mut self.is_connecting).then(|| Event::Connected(Err(reason())));
        let send = self.send.take().map(|(buffer, _)| Event::Sent { buffer, result: Err(reason()) });
        let recv = self.recv.take().map(|buffer| Event::Received { buffer, result: Err(reason()) });
        ready.extend([connect, send, recv].into_iter().flatten().map(|event| Completion { conn, event }));
    }

    fn in_flight(&self) -> usize {
        usize::from(self.is_connecting) + usize::from(self.send.is_some()) + usize::from(self.recv.is_some())
    }
}

/// The result of a call, or `None` if it has to wait.
fn attempt(mut call: impl FnMut() -> io::Result<usize>) -> Option<io::Result<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            result => return Some(result),
        }
    }
}
