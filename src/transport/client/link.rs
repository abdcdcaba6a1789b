//! One connection that stands: greeting, then one exchange at a time, and every way in which that can end.

use std::{io, mem, ops::Range, time::Duration};

use super::{
    super::{
        driver::{Conn, Event, Moment},
        http::http1::{Progress, Reply, ReplyError, ReplyReader},
        tls::Session,
    },
    dial::Net,
    request::Request,
    verdict::tunnel_remedy,
};

/// What comes between a connection and the first request.
#[derive(Debug, Default)]
pub struct Greeting {
    /// What a proxy must hear first, to make a tunnel.
    pub tunnel: Option<Vec<u8>>,
    /// The encryption, where the endpoint wants it.
    pub session: Option<Session>,
}

/// A socket that stands.
#[derive(Debug)]
pub struct Link {
    conn: Conn,
    session: Option<Session>,
    stage: Stage,
    /// Whether a receive is in flight. One always is while the link is in use, so that a peer that goes away is seen before
    /// the next request is sent after it.
    receives: bool,
    sending: Option<Sending>,
    /// Exchanges that this connection has served. A peer may close a used connection at any time, and so under a request.
    served: u32,
    /// Whether its operations were cancelled. What was sent is unknown then, and nobody listens any more.
    is_spent: bool,
}

#[derive(Debug)]
enum Stage {
    /// The proxy makes a tunnel, until then at most. Nothing else is sent before it has.
    Tunnel(Box<ReplyReader>, Moment),
    /// The handshake is under way, until then at most.
    Handshake(Moment),
    Idle(Moment),
    Busy(Box<Exchange>),
}

/// A request and its reply.
#[derive(Debug)]
struct Exchange {
    request: Request,
    reply: ReplyReader,
    unsent: Range<usize>,
    /// When it must be over: when its time is, or the patience after the last byte of the request.
    until: Moment,
    /// How long the peer may leave it half-way.
    stall_max: Duration,
    /// When the peer must have taken or sent another byte.
    progress_by: Option<Moment>,
    /// Why the rest of the request could not be sent. The answer may be on its way all the same: a server that will not read
    /// on says so and closes.
    refusal: Option<String>,
    /// How it ended, while the driver still has the request's bytes.
    ending: Option<Ending>,
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
pub enum News {
    /// The connection stands and is idle.
    Up,
    /// No connection came about; why not.
    Unreachable(String),
    /// An exchange is over.
    Ended(Request, Ending),
}

/// How an exchange ended.
#[derive(Debug)]
pub enum Ending {
    /// The collector answered.
    Replied(Reply),
    /// What came was no answer of HTTP/1.1; what it was, and what to do.
    Garbled(String),
    /// The connection broke before an answer came.
    Broken {
        /// How.
        why: String,
        /// Whether it had been used before, and not a byte came: the peer has most likely closed it at the same moment.
        is_stale: bool,
    },
    /// The server would not have us, as comes out only with the first request: in TLS 1.3 our side of the handshake is done
    /// before the server has looked at our certificate.
    Unwelcome(String),
    /// The time was up.
    Late(String),
}

impl Ending {
    fn of(error: ReplyError) -> Self {
        let why = error.to_string();
        if error.is_disconnect() { Self::Broken { why, is_stale: false } } else { Self::Garbled(why) }
    }
}

/// What a receive takes in at once. An answer of a collector has some hundred bytes.
const INBOX_LEN: usize = 16 << 10;
/// What a peer may mean that hangs up, by the stage.
const UNGREETED: &str =
    "the peer closed the connection before the first request: see that its port takes https, or the proxy's log";
const UNANSWERED: &str = "the peer closed the connection without an answer: see that its port takes OTLP over HTTP, usually 4318, and its log";
/// How long a handshake may take.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// How long a peer may leave a request or a reply half-way, at most. Before the first byte of the reply it is the request's
/// patience that counts: a collector may well think for some seconds.
const STALL_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take that was sent before the peer stopped reading: it is in the socket already, or lost.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// What a link wants next.
pub enum Step {
    Stay,
    Say(News),
    /// It is good for nothing any more.
    Leave(Option<News>),
}

impl Link {
    /// Begins on a connection that has just been made.
    pub fn begin(net: &mut Net<'_>, conn: Conn, greeting: Greeting) -> Self {
        let Greeting { tunnel, session } = greeting;
        let until = net.now.after(GREETING_MAX);
        let stage = match (&tunnel, &session) {
            (Some(_), _) => Stage::Tunnel(Box::new(ReplyReader::for_connect()), until),
            (None, Some(_)) => Stage::Handshake(until),
            (None, None) => Stage::Idle(net.now),
        };
        let mut link = Self { conn, session, stage, receives: false, sending: None, served: 0, is_spent: false };
        link.receive(net, vec![0; INBOX_LEN]);
        match tunnel {
            Some(head) => link.send_other(net, head),
            None => link.push(net),
        }
        link
    }

    /// Sends a request. It must be over in the time that it has left.
    pub fn send(&mut self, net: &mut Net<'_>, mut request: Request) {
        debug_assert!(matches!(self.stage, Stage::Idle(_)));
        let mut unsent = request.range();
        if let Some(session) = &mut self.session {
            session.write(&request.buffer[unsent.clone()]);
            unsent = unsent.end..unsent.end;
        }
        request.attempts += 1;
        request.first_sent.get_or_insert(net.now);
        request.since = net.now;
        let until = net.now.after(request.left);
        let stall_max = request.patience.min(STALL_MAX);
        self.stage = Stage::Busy(Box::new(Exchange {
            request,
            reply: ReplyReader::new(),
            unsent,
            until,
            stall_max,
            progress_by: Some(net.now.after(stall_max)),
            refusal: None,
            ending: None,
        }));
        self.push(net);
    }

    /// When [`Link::tick`] has something to do.
    pub fn due(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Tunnel(_, until) | Stage::Handshake(until) => Some(*until),
            Stage::Idle(_) => None,
            Stage::Busy(exchange) if exchange.ending.is_some() => None,
            Stage::Busy(exchange) => Some(exchange.progress_by.unwrap_or(exchange.until).min(exchange.until)),
        }
    }

    /// Since when it has had nothing to do; `None` if it has.
    pub fn idle_since(&self) -> Option<Moment> {
        match self.stage {
            Stage::Idle(since) => Some(since),
            _ => None,
        }
    }

    /// Whether nothing comes before the next request any more.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Idle(_) | Stage::Busy(_))
    }

    /// The request that is under way.
    pub fn request(&self) -> Option<&Request> {
        match &self.stage {
            Stage::Busy(exchange) => Some(&exchange.request),
            _ => None,
        }
    }

    /// The connection.
    pub fn conn(&self) -> Conn {
        self.conn
    }

    /// Takes what the driver says of the connection.
    pub fn complete(&mut self, net: &mut Net<'_>, event: Event) -> Step {
        match event {
            Event::Connected(_) => Step::Stay,
            Event::Sent { buffer, result } => self.sent(net, buffer, result),
            Event::Received { buffer, result } => {
                self.receives = false;
                match result {
                    _ if self.is_ending() => Step::Stay,
                    Ok(0) => self.ended(net),
                    Ok(len) => {
                        let step = self.received(net, &buffer[..len]);
                        if !matches!(step, Step::Leave(_)) {
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
            && !exchange.unsent.is_empty()
        {
            self.sending = Some(Sending::Request);
            net.driver.send(self.conn, mem::take(&mut exchange.request.buffer), exchange.unsent.clone());
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
                exchange.request.buffer = buffer;
                exchange.unsent.start += len;
                if let Some(ending) = exchange.ending.take() {
                    // The end was known before the driver gave the bytes back.
                    return self.end(net, ending);
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
                if let Stage::Busy(exchange) = &mut self.stage
                    && !exchange.reply.has_begun()
                {
                    let is_sent = exchange.unsent.is_empty() && self.sending.is_none();
                    exchange.progress_by = (!is_sent).then(|| net.now.after(exchange.stall_max));
                    if is_sent {
                        // The next word is the collector's, who may think.
                        exchange.until = exchange.until.min(net.now.after(exchange.request.patience));
                    }
                }
                Step::Stay
            }
            result => {
                let why = result.map_or_else(|error| error.to_string(), |_| "it took no more bytes".into());
                let why = format!("the connection broke: {why}");
                match &mut self.stage {
                    Stage::Busy(exchange) if self.receives => {
                        exchange.unsent.start = exchange.unsent.end;
                        exchange.refusal = Some(why);
                        exchange.progress_by = Some(net.now.after(LAST_WORD_MAX));
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
                    return Step::Leave(Some(News::Unreachable(why)));
                }
                Err(error) => return Step::Leave(Some(News::Unreachable(format!("the proxy: {error}")))),
            },
            _ => bytes,
        };
        let Some(session) = &mut self.session else {
            return self.heard(net, bytes);
        };
        let mut plain = Vec::new();
        let result = session.received(bytes, &mut plain);
        if matches!(self.stage, Stage::Handshake(_)) && session.is_up() && result.is_ok() {
            self.stage = Stage::Idle(net.now);
            return Step::Say(News::Up);
        }
        let is_over = result.is_err() || session.has_ended();
        // What came before the end counts: an answer and the farewell behind it come in one piece.
        let step = if plain.is_empty() { Step::Stay } else { self.heard(net, &plain) };
        match (step, result) {
            (step, _) if !is_over => step,
            (Step::Stay, Ok(())) => self.ended(net),
            (Step::Stay, Err(why)) => self.dismissed(net, why),
            (Step::Say(news), _) => Step::Leave(Some(news)),
            (Step::Leave(news), _) => Step::Leave(news),
        }
    }

    /// Takes bytes of the reply.
    fn heard(&mut self, net: &mut Net<'_>, bytes: &[u8]) -> Step {
        let Stage::Busy(exchange) = &mut self.stage else {
            // Nobody was asked: a server that times its idle connections out may say so, and closes.
            return Step::Leave(None);
        };
        if exchange.unsent.start == exchange.request.start {
            // The last exchange left it behind. Read as the answer to this request it would be a lie.
            // So does a gRPC port, whose first word is always the same.
            let what = ReplyReader::new().feed(bytes).err().map_or(String::new(), |what| format!(": {what}"));
            return self.broken(net, format!("the peer spoke before it was asked{what}"));
        }
        exchange.progress_by = Some(net.now.after(exchange.stall_max));
        let is_sent = exchange.unsent.is_empty() && self.sending.is_none() && exchange.refusal.is_none();
        let ending = match exchange.reply.feed(bytes) {
            Ok(Progress { reply: None, .. }) => return Step::Stay,
            Ok(Progress { reply: Some(reply), .. }) if !is_sent && (200..300).contains(&reply.status) => {
                // A refusal may come early, but nobody can have taken what was not sent.
                Ending::Broken { why: "the peer said yes before it had the request".into(), is_stale: false }
            }
            Ok(Progress { reply: Some(mut reply), used }) => {
                // What follows the reply answers no question of ours.
                reply.keeps_alive &= used == bytes.len();
                Ending::Replied(reply)
            }
            Err(error) => Ending::of(error),
        };
        self.end(net, ending)
    }

    /// The peer sends no more.
    fn ended(&mut self, net: &mut Net<'_>) -> Step {
        let Stage::Busy(exchange) = &mut self.stage else {
            return self.broken(net, UNGREETED.into());
        };
        if exchange.reply.has_begun() {
            let ending = match exchange.reply.end() {
                Ok(reply) => Ending::Replied(Reply { keeps_alive: false, ..reply }),
                Err(error) => Ending::of(error),
            };
            return self.end(net, ending);
        }
        let why = exchange.refusal.take();
        self.broken(net, why.unwrap_or_else(|| UNANSWERED.into()))
    }

    /// The session has failed.
    fn dismissed(&mut self, net: &mut Net<'_>, why: String) -> Step {
        match &self.stage {
            Stage::Busy(exchange) if self.served == 0 && !exchange.reply.has_begun() => {
                self.end(net, Ending::Unwelcome(why))
            }
            _ => self.broken(net, why),
        }
    }

    fn broken(&mut self, net: &mut Net<'_>, why: String) -> Step {
        let is_used = self.served > 0;
        match &self.stage {
            Stage::Tunnel(..) | Stage::Handshake(_) => Step::Leave(Some(News::Unreachable(why))),
            Stage::Idle(_) => Step::Leave(None),
            Stage::Busy(exchange) => {
                let is_stale = is_used && !exchange.reply.has_begun();
                self.end(net, Ending::Broken { why, is_stale })
            }
        }
    }

    /// Does what the time demands.
    pub fn tick(&mut self, net: &mut Net<'_>) -> Step {
        match &mut self.stage {
            Stage::Tunnel(_, until) if net.now >= *until => {
                let seconds = GREETING_MAX.as_secs();
                let why = format!("the proxy accepts the connection, and makes no tunnel within {seconds} s");
                Step::Leave(Some(News::Unreachable(why)))
            }
            Stage::Handshake(until) if net.now >= *until => {
                let seconds = GREETING_MAX.as_secs();
                let why = format!("the connection stands, and the TLS handshake is not done within {seconds} s");
                Step::Leave(Some(News::Unreachable(why)))
            }
            Stage::Busy(exchange) if exchange.ending.is_none() => {
                let is_late = net.now >= exchange.until;
                if !is_late && exchange.progress_by.is_none_or(|by| net.now < by) {
                    return Step::Stay;
                }
                if let Some(why) = exchange.refusal.take() {
                    return self.broken(net, why);
                }
                let why = if is_late {
                    "no answer in time: see why the collector is slow, or raise the timeout"
                } else {
                    "the peer stalled half-way"
                };
                self.end(net, Ending::Late(why.into()))
            }
            _ => Step::Stay,
        }
    }

    /// Ends the exchange; later, if the driver still has the request's bytes.
    fn end(&mut self, net: &mut Net<'_>, ending: Ending) -> Step {
        let Stage::Busy(exchange) = &mut self.stage else {
            return Step::Leave(None);
        };
        if self.sending == Some(Sending::Request) {
            if exchange.ending.is_none() {
                exchange.ending = Some(ending);
                self.is_spent = true;
                net.driver.cancel(self.conn);
            }
            return Step::Stay;
        }
        let is_sent = exchange.unsent.is_empty() && self.sending.is_none() && exchange.refusal.is_none();
        let goes_on = is_sent && !self.is_spent && matches!(&ending, Ending::Replied(reply) if reply.keeps_alive);
        let Stage::Busy(exchange) = mem::replace(&mut self.stage, Stage::Idle(net.now)) else {
            unreachable!("it was busy above");
        };
        self.served += 1;
        let news = News::Ended(exchange.request, ending);
        if goes_on { Step::Say(news) } else { Step::Leave(Some(news)) }
    }

    fn is_ending(&self) -> bool {
        matches!(&self.stage, Stage::Busy(exchange) if exchange.ending.is_some())
    }

    /// Gives the connection up; the request that was under way, if its bytes are here.
    pub fn leave(self, net: &mut Net<'_>) -> Option<Request> {
        net.leave(self.conn, usize::from(self.receives) + usize::from(self.sending.is_some()));
        match self.stage {
            Stage::Busy(exchange) => Some(exchange.request),
            _ => None,
        }
    }
}
