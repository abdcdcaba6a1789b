//! One simulated connection: what is under way in both directions, and what each entry of the agenda does to it.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    mem,
    ops::Range,
    time::Duration,
};

use super::{Action, Address, Conn, Event, Moment, Peer, Replies, World, cancelled};

pub(super) struct Link {
    pub(super) conn: Conn,
    /// From the moment that the connection opens until it is closed.
    pub(super) peer: Option<Box<dyn Peer>>,
    is_connecting: bool,
    send: Option<(Vec<u8>, Range<usize>)>,
    recv: Option<Vec<u8>>,
    /// Has an entry on the agenda; there is no need of a second one.
    is_send_planned: bool,
    is_recv_planned: bool,
    /// From the peer, and here.
    inbound: VecDeque<u8>,
    has_ended: bool,
    is_reset: bool,
    /// For the peer, and not read: taken off the window.
    unread: Vec<u8>,
    /// For the peer, and on its way.
    outbound_bytes: usize,
    peer_reads: bool,
    /// Bytes arrive in the order in which they left: nothing overtakes these.
    last_outbound: Moment,
    last_inbound: Moment,
}

/// An entry of the agenda.
pub(super) enum Step {
    /// The connect reaches its address.
    Connect(Address),
    /// The connect fails.
    Fail(ErrorKind),
    /// The send finds out how much goes.
    Send,
    /// The receive finds out how much came.
    Recv,
    /// Bytes reach the peer.
    Deliver(Vec<u8>),
    /// What the peer did reaches us.
    Reply(Action),
}

impl Link {
    pub(super) fn new(conn: Conn, now: Moment) -> Self {
        Self {
            conn,
            peer: None,
            is_connecting: true,
            send: None,
            recv: None,
            is_send_planned: false,
            is_recv_planned: false,
            inbound: VecDeque::new(),
            has_ended: false,
            is_reset: false,
            unread: vec![],
            outbound_bytes: 0,
            peer_reads: true,
            last_outbound: now,
            last_inbound: now,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.is_connecting) + usize::from(self.send.is_some()) + usize::from(self.recv.is_some())
    }

    /// Has the peer read what is being sent, unless something is on its way before it.
    pub(super) fn send_unheard(&mut self, now: Moment) {
        let has_all = self.outbound_bytes == 0 && self.unread.is_empty();
        if let (Some(peer), Some((buffer, range)), true) = (&mut self.peer, &self.send, has_all) {
            peer.received(&buffer[range.clone()], now, &mut Replies::default());
        }
    }

    /// Ends what is in flight with an error.
    pub(super) fn give_up(&mut self, reason: impl Fn() -> io::Error) -> Vec<Event> {
        let connect = mem::take(&mut self.is_connecting).then(|| Event::Connected(Err(reason())));
        let send = self.send.take().map(|(buffer, _)| Event::Sent { buffer, result: Err(reason()) });
        let recv = self.recv.take().map(|buffer| Event::Received { buffer, result: Err(reason()) });
        [connect, send, recv].into_iter().flatten().collect()
    }

    fn room(&self, window_bytes: usize) -> usize {
        window_bytes.saturating_sub(self.unread.len() + self.outbound_bytes)
    }

    fn has_news(&self) -> bool {
        !self.inbound.is_empty() || self.has_ended || self.is_reset
    }
}

impl World {
    fn link(&mut self, conn: Conn) -> Option<&mut Link> {
        self.links.get_mut(conn.index())?.as_mut().filter(|link| link.conn == conn)
    }

    pub(super) fn send(&mut self, conn: Conn, buffer: Vec<u8>, range: Range<usize>) {
        let error = self.count();
        match self.link(conn).filter(|link| link.peer.is_some()) {
            Some(link) if error.is_none() => link.send = Some((buffer, range)),
            _ => {
                let result = Err(error.unwrap_or_else(|| ErrorKind::NotConnected.into()));
                self.done(conn, Event::Sent { buffer, result });
            }
        }
        self.stir(conn);
    }

    pub(super) fn recv(&mut self, conn: Conn, buffer: Vec<u8>) {
        let error = self.count();
        match self.link(conn).filter(|link| link.peer.is_some()) {
            Some(link) if error.is_none() => link.recv = Some(buffer),
            _ => {
                let result = Err(error.unwrap_or_else(|| ErrorKind::NotConnected.into()));
                self.done(conn, Event::Received { buffer, result });
            }
        }
        self.stir(conn);
    }

    /// Puts on the agenda what can go on.
    fn stir(&mut self, conn: Conn) {
        let window_bytes = self.network.window_bytes;
        let Some(link) = self.link(conn) else {
            return;
        };
        let sends = link.send.is_some() && (link.is_reset || link.room(window_bytes) > 0);
        let recvs = link.recv.is_some() && link.has_news();
        if sends && !mem::replace(&mut link.is_send_planned, true) {
            self.plan_soon(conn, Step::Send);
        }
        let Some(link) = self.link(conn) else {
            return;
        };
        if recvs && !mem::replace(&mut link.is_recv_planned, true) {
            self.plan_soon(conn, Step::Recv);
        }
    }

    /// A race, as in the kernel: what could complete does so one time in four, the rest is cancelled.
    pub(super) fn cancel(&mut self, conn: Conn) {
        if self.chance(250) {
            self.run_send(conn);
        }
        if self.chance(250) && self.link(conn).is_some_and(|link| link.has_news()) {
            self.run_recv(conn);
        }
        if let Some(link) = self.link(conn) {
            let events = link.give_up(cancelled);
            events.into_iter().for_each(|event| self.done(conn, event));
        }
    }

    pub(super) fn run(&mut self, conn: Conn, step: Step) {
        let Some(link) = self.link(conn) else {
            return;
        };
        match step {
            Step::Connect(address) => self.run_connect(conn, &address),
            Step::Fail(error) => {
                if mem::take(&mut link.is_connecting) {
                    self.done(conn, Event::Connected(Err(error.into())));
                }
            }
            Step::Send => {
                link.is_send_planned = false;
                if self.chance(self.network.reset_per_mille) {
                    self.reset(conn);
                }
                self.run_send(conn);
            }
            Step::Recv => {
                link.is_recv_planned = false;
                if self.chance(self.network.reset_per_mille) {
                    self.reset(conn);
                }
                self.run_recv(conn);
            }
            Step::Deliver(bytes) => {
                link.outbound_bytes -= bytes.len();
                link.unread.extend(bytes);
                self.read(conn);
            }
            Step::Reply(action) => self.run_reply(conn, action),
        }
        self.stir(conn);
    }

    fn run_connect(&mut self, conn: Conn, address: &Address) {
        if !self.link(conn).is_some_and(|link| link.is_connecting) {
            return;
        }
        let peer = self.accept(address);
        let now = self.now;
        let Some(link) = self.link(conn) else {
            return;
        };
        link.is_connecting = false;
        link.peer = peer;
        let mut replies = Replies::default();
        let result = match &mut link.peer {
            Some(peer) => {
                peer.accepted(now, &mut replies);
                Ok(())
            }
            None => Err(ErrorKind::ConnectionRefused.into()),
        };
        self.reply(conn, replies);
        self.done(conn, Event::Connected(result));
    }

    /// Moves what the window has room for.
    fn run_send(&mut self, conn: Conn) {
        let window_bytes = self.network.window_bytes;
        let Some(link) = self.link(conn) else {
            return;
        };
        let room = link.room(window_bytes);
        let (is_reset, last) = (link.is_reset, link.last_outbound);
        let Some((buffer, range)) = link.send.take_if(|_| is_reset || room > 0) else {
            return;
        };
        if is_reset {
            return self.done(conn, Event::Sent { buffer, result: Err(ErrorKind::ConnectionReset.into()) });
        }
        let len = self.portion(range.len().min(room));
        let bytes = buffer[range.start..range.start + len].to_vec();
        let at = self.now.after(self.delay()).max(last.after(Duration::from_nanos(1)));
        if let Some(link) = self.link(conn) {
            link.outbound_bytes += len;
            link.last_outbound = at;
        }
        self.plan(at, conn, Step::Deliver(bytes));
        self.done(conn, Event::Sent { buffer, result: Ok(len) });
    }

    /// Hands over what came.
    fn run_recv(&mut self, conn: Conn) {
        let Some(link) = self.link(conn) else {
            return;
        };
        let is_reset = link.is_reset;
        let here = link.inbound.len();
        let Some(mut buffer) = link.recv.take() else {
            return;
        };
        if is_reset {
            return self.done(conn, Event::Received { buffer, result: Err(ErrorKind::ConnectionReset.into()) });
        }
        let len = self.portion(here.min(buffer.len()));
        if let Some(link) = self.link(conn) {
            let bytes = link.inbound.drain(..len);
            buffer.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        }
        self.done(conn, Event::Received { buffer, result: Ok(len) });
    }

    /// Lets the peer read what the network holds for it.
    fn read(&mut self, conn: Conn) {
        let now = self.now;
        let mut replies = Replies::default();
        if let Some(link) = self.link(conn)
            && link.peer_reads
            && !link.is_reset
            && !link.unread.is_empty()
            && let Some(peer) = &mut link.peer
        {
            peer.received(&mem::take(&mut link.unread), now, &mut replies);
        }
        self.reply(conn, replies);
    }

    /// Puts on the agenda what a peer did, in its order.
    fn reply(&mut self, conn: Conn, replies: Replies) {
        for (pause, action) in replies.actions {
            // What it does to itself takes no way; what it says does.
            let way = if let Action::StopReading | Action::ReadOn = action { Duration::ZERO } else { self.delay() };
            let at = self.now.after(pause).after(way);
            let Some(link) = self.link(conn) else {
                return;
            };
            link.last_inbound = at.max(link.last_inbound.after(Duration::from_nanos(1)));
            let at = link.last_inbound;
            self.plan(at, conn, Step::Reply(action));
        }
    }

    fn run_reply(&mut self, conn: Conn, action: Action) {
        if let Action::Send(_) = action {
            if self.chance(self.network.reset_per_mille) {
                return self.reset(conn);
            }
            let is_cut = self.chance(self.network.cut_per_mille);
            if let Some(link) = self.link(conn) {
                link.has_ended |= is_cut;
            }
        }
        let Some(link) = self.link(conn) else {
            return;
        };
        match action {
            Action::Send(bytes) if !link.has_ended => link.inbound.extend(bytes),
            Action::Send(_) => {}
            Action::End => link.has_ended = true,
            Action::Reset => self.reset(conn),
            Action::StopReading => link.peer_reads = false,
            Action::ReadOn => {
                link.peer_reads = true;
                self.read(conn);
            }
        }
    }

    /// Throws away what is under way; operations hear of it.
    pub(super) fn reset(&mut self, conn: Conn) {
        if let Some(link) = self.link(conn)
            && link.peer.is_some()
        {
            link.is_reset = true;
            link.inbound.clear();
            link.unread.clear();
        }
        self.stir(conn);
    }
}
