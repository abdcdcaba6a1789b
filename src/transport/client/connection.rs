//! One open connection: the tunnel and the handshake, then one exchange at a time.

use std::{io, mem, time::Duration};

use super::{
    super::{
        driver::{Conn, Event, Moment},
        http::http1::{Progress, Reply, ReplyReader},
        tls::Session,
    },
    dial::{Net, NoConnection},
    exchange::{Exchange, ExchangeEnd, Flow},
    request::Request,
    verdict::{may_fare_better_elsewhere, tunnel_remedy},
};

/// What comes between the connect and the first request.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    /// Asks a proxy for a tunnel.
    pub(super) tunnel: Option<Vec<u8>>,
    /// The encryption, for an `https` endpoint.
    pub(super) session: Option<Session>,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    conn: Conn,
    session: Option<Session>,
    stage: Stage,
    /// Whether a receive is in flight. One always is while the connection is in use, so that a peer that goes away is
    /// seen before the next request is sent after it.
    receives: bool,
    sending: Option<Sending>,
    /// Exchanges that this connection has served. A peer may close a used connection at any time, and so under a
    /// request.
    served: u32,
    /// Whether its operations were cancelled. How much was sent is unknown then, and nothing receives any more.
    is_spent: bool,
}

/// ARCHITECTURE.md draws how they follow each other.
#[derive(Debug)]
enum Stage {
    /// The proxy makes a tunnel, until then at most. Nothing else is sent before it has.
    Tunnel(Box<ReplyReader>, Moment),
    /// The handshake is under way, until then at most.
    Handshake(Moment),
    Idle(Moment),
    Busy(Box<Exchange>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    /// The request itself.
    Request,
    /// Bytes of the greeting or of the session, from here to there.
    Other(usize, usize),
}

/// What the exporter has to know.
#[derive(Debug)]
pub(super) enum Change {
    /// The connection is open and idle.
    Up,
    /// No connection came about.
    Unreachable(NoConnection),
    /// An exchange is over.
    Ended(Box<Request>, ExchangeEnd),
}

/// What to do with a connection next.
#[derive(Debug)]
pub(super) enum Step {
    Stay,
    Say(Change),
    /// It is of no use any more.
    Close(Option<Change>),
}

/// What a receive takes in at once. An answer of a collector has some hundred bytes.
const INBOX_LEN: usize = 16 << 10;
/// What it may mean that a peer hangs up before the first request.
const UNGREETED: &str = "the peer closed the connection before the first request: check that its port takes https, or check the proxy's log";
/// How long a handshake may take.
const GREETING_MAX: Duration = Duration::from_secs(5);

impl Connection {
    /// Begins on a socket that has just been connected.
    pub(super) fn begin(net: &mut Net<'_>, conn: Conn, greeting: Greeting) -> Self {
        let Greeting { tunnel, session } = greeting;
        let until = net.now.after(GREETING_MAX);
        let stage = match (&tunnel, &session) {
            (Some(_), _) => Stage::Tunnel(Box::new(ReplyReader::for_connect()), until),
            (None, Some(_)) => Stage::Handshake(until),
            (None, None) => Stage::Idle(net.now),
        };
        let mut connection = Self { conn, session, stage, receives: false, sending: None, served: 0, is_spent: false };
        connection.receive(net, vec![0; INBOX_LEN]);
        match tunnel {
            Some(head) => connection.send_other(net, head),
            None => connection.push(net),
        }
        connection
    }

    /// Sends a request. It must be over in the time that it has left.
    pub(super) fn send(&mut self, net: &mut Net<'_>, request: Request) {
        debug_assert!(matches!(self.stage, Stage::Idle(_)));
        let mut exchange = Exchange::begin(request, self.served > 0, net.now);
        if let Some(session) = &mut self.session {
            session.write(exchange.plain());
        }
        self.stage = Stage::Busy(Box::new(exchange));
        self.push(net);
    }

    /// Takes a completion of the driver.
    pub(super) fn complete(&mut self, net: &mut Net<'_>, event: Event) -> Step {
        match event {
            Event::Connected(_) => Step::Stay,
            Event::Sent { buffer, result } => self.sent(net, buffer, result),
            Event::Received { buffer, result } => {
                self.receives = false;
                match result {
                    _ if self.is_ending() => Step::Stay,
                    Ok(0) => self.closed(net),
                    Ok(len) => {
                        let step = self.received(net, &buffer[..len]);
                        if !matches!(step, Step::Close(_)) {
                            self.receive(net, buffer);
                            self.push(net);
                        }
                        step
                    }
                    Err(error) => self.broken(net, format!("the connection broke: {error}")),
                }
            }
        }
    }

    /// Does what is due now.
    pub(super) fn tick(&mut self, net: &mut Net<'_>) -> Step {
        let flow = self.flow();
        match &mut self.stage {
            Stage::Tunnel(_, until) if net.now >= *until => {
                let seconds = GREETING_MAX.as_secs();
                let why = format!("the proxy accepts the connection, and makes no tunnel within {seconds} s");
                Step::Close(Some(Change::Unreachable(why.into())))
            }
            Stage::Handshake(until) if net.now >= *until => {
                let seconds = GREETING_MAX.as_secs();
                let why = format!("the connection is open, and the TLS handshake is not done within {seconds} s");
                Step::Close(Some(Change::Unreachable(why.into())))
            }
            Stage::Busy(exchange) => match exchange.tick(net.now, flow) {
                Some(end) => self.end(net, end),
                None => Step::Stay,
            },
            _ => Step::Stay,
        }
    }

    /// When [`Connection::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Tunnel(_, until) | Stage::Handshake(until) => Some(*until),
            Stage::Idle(_) => None,
            Stage::Busy(exchange) => exchange.due(),
        }
    }

    /// Gives up the connection; returns the request that was under way, if its bytes are here.
    pub(super) fn close(self, net: &mut Net<'_>) -> Option<Request> {
        net.leave(self.conn, usize::from(self.receives) + usize::from(self.sending.is_some()));
        match self.stage {
            Stage::Busy(exchange) => Some(exchange.into_request()),
            _ => None,
        }
    }

    /// Since when it has been idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        match self.stage {
            Stage::Idle(since) => Some(since),
            _ => None,
        }
    }

    /// Whether it has no tunnel and no handshake before it any more.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Idle(_) | Stage::Busy(_))
    }

    /// What comes before the first request, and is not done.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        match &self.stage {
            Stage::Tunnel(..) => Some("the proxy accepts it, and has made no tunnel: check the proxy's log"),
            Stage::Handshake(_) => {
                Some("the port accepts it, and the TLS handshake is not done: check that the port takes https")
            }
            Stage::Idle(_) | Stage::Busy(_) => None,
        }
    }

    /// The request that is under way.
    pub(super) fn request(&self) -> Option<&Request> {
        match &self.stage {
            Stage::Busy(exchange) => Some(exchange.request()),
            _ => None,
        }
    }

    /// Its number with the driver.
    pub(super) fn conn(&self) -> Conn {
        self.conn
    }

    fn is_ending(&self) -> bool {
        matches!(&self.stage, Stage::Busy(exchange) if exchange.is_ending())
    }

    fn flow(&self) -> Flow {
        if self.sending.is_some() { Flow::Sending } else { Flow::Idle }
    }

    fn receive(&mut self, net: &mut Net<'_>, buffer: Vec<u8>) {
        self.receives = true;
        net.driver.recv(self.conn, buffer);
    }

    /// Sends what there is to send, if nothing is being sent.
    fn push(&mut self, net: &mut Net<'_>) {
        if self.sending.is_some() {
            return;
        }
        if let Some(session) = &mut self.session {
            if !matches!(self.stage, Stage::Tunnel(..))
                && let Some(records) = session.output()
            {
                self.send_other(net, records);
            }
        } else if let Stage::Busy(exchange) = &mut self.stage
            && let Some((buffer, unsent)) = exchange.take_unsent()
        {
            self.sending = Some(Sending::Request);
            net.driver.send(self.conn, buffer, unsent);
        }
    }

    fn send_other(&mut self, net: &mut Net<'_>, bytes: Vec<u8>) {
        let end = bytes.len();
        self.sending = Some(Sending::Other(0, end));
        net.driver.send(self.conn, bytes, 0..end);
    }

    fn sent(&mut self, net: &mut Net<'_>, buffer: Vec<u8>, result: io::Result<usize>) -> Step {
        let sending = self.sending.take();
        let len = *result.as_ref().unwrap_or(&0);
        match (sending, &mut self.stage) {
            (Some(Sending::Request), Stage::Busy(exchange)) => {
                exchange.put_back(buffer, &result);
                if let Some(end) = exchange.take_end() {
                    // The end was known before the driver gave the bytes back.
                    return self.end(net, end);
                }
            }
            (Some(Sending::Other(at, end)), _) if len > 0 && at + len < end => {
                self.sending = Some(Sending::Other(at + len, end));
                net.driver.send(self.conn, buffer, at + len..end);
            }
            _ => {}
        }
        match result {
            Ok(len) if len > 0 => {
                self.push(net);
                let flow = self.flow();
                if let Stage::Busy(exchange) = &mut self.stage {
                    exchange.progressed(flow, net.now);
                }
                Step::Stay
            }
            result => {
                let why = result.map_or_else(|error| error.to_string(), |_| "it took no more bytes".into());
                let why = format!("the connection broke: {why}");
                match &mut self.stage {
                    Stage::Busy(exchange) if self.receives => {
                        exchange.refused(why, net.now);
                        Step::Stay
                    }
                    _ => self.broken(net, why),
                }
            }
        }
    }

    fn received(&mut self, net: &mut Net<'_>, bytes: &[u8]) -> Step {
        let bytes = match &mut self.stage {
            Stage::Tunnel(reader, until) => match reader.feed(bytes) {
                Ok(Progress { reply: None, .. }) => return Step::Stay,
                Ok(Progress { reply: Some(reply), used }) if (200..300).contains(&reply.status) => {
                    self.stage = Stage::Handshake(*until);
                    &bytes[used..]
                }
                Ok(Progress { reply: Some(reply), .. }) => {
                    let (status, remedy) = (reply.status, tunnel_remedy(reply.status));
                    let why = format!("the proxy makes no tunnel: it answers with status {status}: {remedy}");
                    return Step::Close(Some(Change::Unreachable(why.into())));
                }
                Err(error) => return Step::Close(Some(Change::Unreachable(format!("the proxy: {error}").into()))),
            },
            _ => bytes,
        };
        let Some(session) = &mut self.session else {
            return self.heard(net, bytes);
        };
        let mut plain = Vec::new();
        let result = session.received(bytes, &mut plain);
        let is_over = result.is_err() || session.has_ended();
        if matches!(self.stage, Stage::Handshake(_)) && session.is_up() && plain.is_empty() && !is_over {
            self.stage = Stage::Idle(net.now);
            return Step::Say(Change::Up);
        }
        // What came before the end counts: an answer and the farewell that follows it come in one piece.
        let step = if plain.is_empty() { Step::Stay } else { self.heard(net, &plain) };
        match (step, result) {
            (step, _) if !is_over => step,
            (Step::Stay, Ok(())) => self.closed(net),
            (Step::Stay, Err(why)) => self.dismissed(net, why),
            (Step::Say(change), _) => Step::Close(Some(change)),
            (Step::Close(change), _) => Step::Close(change),
        }
    }

    /// Takes bytes of the reply.
    fn heard(&mut self, net: &mut Net<'_>, bytes: &[u8]) -> Step {
        let flow = self.flow();
        match &mut self.stage {
            Stage::Busy(exchange) if !exchange.is_unasked() => match exchange.heard(bytes, flow, net.now) {
                Some(end) => self.end(net, end),
                None => Step::Stay,
            },
            // A server that times its idle connections out may say so, and closes.
            Stage::Idle(_) => Step::Close(None),
            // Left over from the last exchange, or the first word of a gRPC port, which is always the same. Read as the
            // answer to a request it would be wrong.
            _ => {
                let what = ReplyReader::new().feed(bytes).err().map_or(String::new(), |what| format!(": {what}"));
                self.broken(net, format!("the peer spoke before it was asked{what}"))
            }
        }
    }

    /// The peer sends no more.
    fn closed(&mut self, net: &mut Net<'_>) -> Step {
        let flow = self.flow();
        match &mut self.stage {
            Stage::Busy(exchange) => {
                let end = exchange.closed(flow, net.now);
                self.end(net, end)
            }
            _ => self.broken(net, UNGREETED.into()),
        }
    }

    /// The session has failed. Only an alert of the handshake says that the server has refused us: otherwise it may
    /// have the request.
    fn dismissed(&mut self, net: &mut Net<'_>, why: String) -> Step {
        let is_refused = self.session.as_ref().is_some_and(Session::is_refused);
        match &self.stage {
            Stage::Busy(exchange) if is_refused && self.served == 0 && !exchange.has_begun() => {
                self.end(net, ExchangeEnd::Unwelcome(why))
            }
            _ => self.broken(net, why),
        }
    }

    fn broken(&mut self, net: &mut Net<'_>, why: String) -> Step {
        let flow = self.flow();
        match &mut self.stage {
            Stage::Tunnel(..) | Stage::Handshake(_) => Step::Close(Some(Change::Unreachable(why.into()))),
            Stage::Idle(_) => Step::Close(None),
            Stage::Busy(exchange) => {
                let end = exchange.broken(why, flow, net.now);
                self.end(net, end)
            }
        }
    }

    /// Ends the exchange; later, if the driver still has the request's bytes.
    fn end(&mut self, net: &mut Net<'_>, end: ExchangeEnd) -> Step {
        let flow = self.flow();
        let Stage::Busy(exchange) = &mut self.stage else {
            return Step::Close(None);
        };
        let end = match end {
            ExchangeEnd::Replied(Reply { status: 408, retry_after: None, keeps_alive: false, .. })
                if self.served > 0 =>
            {
                ExchangeEnd::Unread("the peer no longer waited for a request (status 408)".into())
            }
            // Who has answered a request speaks no other protocol.
            ExchangeEnd::Garbled { why, is_foreign } => {
                ExchangeEnd::Garbled { why, is_foreign: is_foreign && self.served == 0 }
            }
            end => end,
        };
        if self.sending == Some(Sending::Request) {
            if exchange.hold_end(end) {
                self.is_spent = true;
                net.driver.cancel(self.conn);
            }
            return Step::Stay;
        }
        let is_of_use = match &end {
            // Who finds a request too large may not read it, nor what comes after it.
            ExchangeEnd::Replied(reply) => {
                reply.keeps_alive && reply.status != 413 && !may_fare_better_elsewhere(reply)
            }
            _ => false,
        };
        let goes_on = exchange.is_sent(flow) && !self.is_spent && is_of_use;
        let Stage::Busy(exchange) = mem::replace(&mut self.stage, Stage::Idle(net.now)) else {
            unreachable!("it was busy above");
        };
        self.served += 1;
        let change = Change::Ended(Box::new(exchange.into_request()), end);
        if goes_on { Step::Say(change) } else { Step::Close(Some(change)) }
    }
}
