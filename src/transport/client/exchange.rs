//! One request and its reply over HTTP/1.1, and every way in which that can end. Its connection tells it what was sent
//! and received; it moves no bytes itself.

use std::{io, ops::Range, time::Duration};

use super::{
    super::{
        driver::{Moment, is_unheard},
        http::http1::{Progress, Reply, ReplyError, ReplyReader},
    },
    request::Request,
    verdict::is_hearsay,
};

/// A request on its way, and as much of its reply as has come.
#[derive(Debug)]
pub(super) struct Exchange {
    request: Request,
    reply: ReplyReader,
    unsent: Range<usize>,
    /// Bytes of the request that the driver, or a session, has taken.
    taken: usize,
    /// When it must be over. While the connection lives an answer may come until then: nothing is sent again before.
    until: Moment,
    /// When the peer must have taken or sent another byte.
    progress_by: Option<Moment>,
    /// Until when a break may be that of an idle connection; `None` on a fresh one.
    stale_until: Option<Moment>,
    /// Why the rest of the request could not be sent, and since when. The answer may be on its way all the same: a
    /// server that will not read on says so and closes.
    refusal: Option<(String, Moment)>,
    /// How it ended, while the driver still has the request's bytes.
    end: Option<ExchangeEnd>,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum ExchangeEnd {
    /// The collector answered.
    Replied(Reply),
    /// What came was no answer of HTTP/1.1.
    Garbled {
        /// What it was, and what to do.
        why: String,
        /// Whether the peer speaks another protocol, and has never spoken HTTP on the connection. Otherwise it may have
        /// taken the request all the same.
        is_foreign: bool,
    },
    /// The connection broke before an answer came.
    Broken {
        /// How.
        why: String,
        /// Whether it had been used before, broke soon, and not a byte came: the peer has most likely closed it at the
        /// same moment.
        is_stale: bool,
    },
    /// On a used connection the peer no longer waited for a request when this one came: it has not read it. It says so
    /// by a 408 with which it leaves, and names no time at which to come again.
    Unread(String),
    /// The server refused the handshake by an alert. That comes out only with the first request: in TLS 1.3 our side of
    /// the handshake is done before the server has looked at our certificate.
    Unwelcome(String),
    /// The time was up.
    Late(String),
}

/// How long an answer may take that was sent before the peer stopped reading: it is in the socket already, or lost.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);
/// How long after a request began to leave its connection may be found closed as an idle one. The peer closed it before
/// the first byte came, and what says so is here a round trip after that byte; this leaves room for a far peer, or for
/// a packet that is lost and sent again. Who closes later may have taken the request.
pub(super) const STALE_MAX: Duration = Duration::from_secs(1);
/// What it may mean that a peer hangs up without an answer.
const UNANSWERED: &str = "the peer closed the connection without an answer: check that its port takes OTLP over HTTP (usually 4318), and check its log";

impl Exchange {
    /// Begins it, on a connection that was used before, or not. It must be over in the time that the request has left.
    pub(super) fn begin(mut request: Request, is_used: bool, now: Moment) -> Self {
        request.attempts += 1;
        request.first_sent.get_or_insert(now);
        request.since = now;
        request.is_out = false;
        Self {
            reply: ReplyReader::new(),
            unsent: request.buffer.range(),
            taken: 0,
            until: now.after(request.left),
            progress_by: Some(now.after(request.stall_timeout)),
            stale_until: is_used.then(|| now.after(STALE_MAX)),
            refusal: None,
            end: None,
            request,
        }
    }

    /// The whole request, for a session that encrypts it into bytes of its own.
    pub(super) fn plain(&mut self) -> &[u8] {
        self.unsent = 0..0;
        let whole = self.request.buffer.whole();
        self.taken = whole.len();
        self.request.is_out = true;
        whole
    }

    /// The request's buffer and what of it is to be sent, for the driver; `None` if all is sent.
    pub(super) fn take_unsent(&mut self) -> Option<(Vec<u8>, Range<usize>)> {
        if self.unsent.is_empty() {
            return None;
        }
        // The driver may send it all before we hear of it, even after we have given up.
        self.request.is_out = true;
        Some((self.request.buffer.lend(), self.unsent.clone()))
    }

    /// Takes the buffer back from the driver, and what became of it.
    pub(super) fn put_back(&mut self, buffer: Vec<u8>, sent: &io::Result<usize>) {
        self.request.buffer.put_back(buffer);
        let len = *sent.as_ref().unwrap_or(&0);
        self.unsent.start += len;
        self.taken += len;
        // Where the driver failed before it heard, the kernel may have sent it all.
        self.request.is_out = self.unsent.is_empty() || sent.as_ref().is_err_and(is_unheard);
    }

    /// The peer has taken bytes, or all of them.
    pub(super) fn progressed(&mut self, flow: Flow, now: Moment) {
        if self.reply.awaits_head() {
            self.expect_progress(flow, now);
        }
    }

    /// The peer must go on, unless the next word is the collector's, which may take its time to think.
    fn expect_progress(&mut self, flow: Flow, now: Moment) {
        let may_think = self.is_sent(flow) && self.reply.awaits_head();
        self.progress_by = (!may_think).then(|| now.after(self.request.stall_timeout));
    }

    /// The peer takes no more bytes.
    pub(super) fn refused(&mut self, why: String, now: Moment) {
        self.unsent.start = self.unsent.end;
        self.refusal = Some((why, now));
        self.progress_by = Some(now.after(LAST_WORD_MAX));
    }

    /// Takes bytes of the reply; how the exchange ends, if it does.
    pub(super) fn heard(&mut self, bytes: &[u8], flow: Flow, now: Moment) -> Option<ExchangeEnd> {
        let is_sent = self.is_sent(flow);
        let progress = self.reply.feed(bytes);
        self.expect_progress(flow, now);
        match progress {
            Ok(Progress { reply: None, .. }) => None,
            Ok(Progress { reply: Some(mut reply), used }) => {
                // What follows the reply answers no question of ours.
                reply.keeps_alive &= used == bytes.len();
                Some(ExchangeEnd::by(reply, is_sent))
            }
            Err(error) => Some(self.headed(flow).unwrap_or_else(|| ExchangeEnd::of(error))),
        }
    }

    /// How the exchange ends by the head of the reply alone, of which no more is to be had.
    fn headed(&mut self, flow: Flow) -> Option<ExchangeEnd> {
        let is_sent = self.is_sent(flow);
        let reply = self.reply.cut_off()?;
        (is_sent || !(200..300).contains(&reply.status)).then_some(ExchangeEnd::Replied(reply))
    }

    /// How the exchange ends when the peer sends no more.
    pub(super) fn closed(&mut self, flow: Flow, now: Moment) -> ExchangeEnd {
        if self.reply.has_begun() {
            let is_sent = self.is_sent(flow);
            return match self.reply.end() {
                Ok(reply) => ExchangeEnd::by(Reply { keeps_alive: false, ..reply }, is_sent),
                Err(error) => self.headed(flow).unwrap_or_else(|| ExchangeEnd::of(error)),
            };
        }
        let (why, since) = self.refusal.take().unwrap_or_else(|| (UNANSWERED.into(), now));
        self.broken(why, flow, since)
    }

    /// How the exchange ends when the connection breaks.
    pub(super) fn broken(&mut self, why: String, flow: Flow, now: Moment) -> ExchangeEnd {
        let is_stale = self.stale_until.is_some_and(|until| now <= until) && !self.reply.has_begun();
        self.headed(flow).unwrap_or(ExchangeEnd::Broken { why, is_stale })
    }

    /// How the exchange ends by the time alone, if it does.
    pub(super) fn tick(&mut self, now: Moment, flow: Flow) -> Option<ExchangeEnd> {
        let is_late = now >= self.until;
        if self.end.is_some() || !is_late && self.progress_by.is_none_or(|by| now < by) {
            return None;
        }
        if let Some((why, since)) = self.refusal.take() {
            return Some(self.broken(why, flow, since));
        }
        if let Some(end) = self.headed(flow) {
            return Some(end);
        }
        let why = match is_late {
            true => "no answer in time: check why the collector is slow, or raise `timeout`",
            false => "the peer stalled half-way",
        };
        Some(ExchangeEnd::Late(why.into()))
    }

    /// When [`Exchange::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Moment> {
        self.end.is_none().then(|| self.progress_by.unwrap_or(self.until).min(self.until))
    }

    /// Keeps the end until the driver has given the request's bytes back; false if there is one already.
    pub(super) fn hold_end(&mut self, end: ExchangeEnd) -> bool {
        let is_first = self.end.is_none();
        self.end.get_or_insert(end);
        is_first
    }

    /// The end that was kept.
    pub(super) fn take_end(&mut self) -> Option<ExchangeEnd> {
        self.end.take()
    }

    /// Whether it has ended, while the driver still has the request's bytes.
    pub(super) fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    /// Whether not a byte of the request has left: what comes now is no answer to it.
    pub(super) fn is_unasked(&self) -> bool {
        self.taken == 0 && self.refusal.is_none()
    }

    /// Whether a byte of the reply has come.
    pub(super) fn has_begun(&self) -> bool {
        self.reply.has_begun()
    }

    /// Whether the peer has the whole request.
    pub(super) fn is_sent(&self, flow: Flow) -> bool {
        self.unsent.is_empty() && self.refusal.is_none() && flow == Flow::Idle
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn into_request(self) -> Request {
        self.request
    }
}

/// Whether the driver is sending something on the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flow {
    /// Nothing.
    Idle,
    /// Something.
    Sending,
}

impl ExchangeEnd {
    /// Whether the collector may have taken a request that was sent whole: there is no answer, or none that could be
    /// read, or only that of a gateway, which does not know what became of a request that it has passed on.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Late(_) => true,
            Self::Garbled { is_foreign, .. } => !is_foreign,
            Self::Replied(reply) => is_hearsay(reply),
            Self::Unread(_) | Self::Unwelcome(_) => false,
        }
    }

    /// A refusal may come early, but what was not sent cannot have been taken.
    fn by(reply: Reply, is_sent: bool) -> Self {
        if is_sent || !(200..300).contains(&reply.status) {
            return Self::Replied(reply);
        }
        Self::Broken { why: "the peer said yes before it had the request".into(), is_stale: false }
    }

    fn of(error: ReplyError) -> Self {
        let why = error.to_string();
        match error.is_disconnect() {
            true => Self::Broken { why, is_stale: false },
            false => Self::Garbled { why, is_foreign: error.is_foreign() },
        }
    }
}
