//! What a fault is: what the collector does, what a plain client sees of it, and what an exporter has to make of it.

use std::time::Duration;

/// One fault, and everything that is to be known about it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, by which [`Row::named`] finds it.
    pub name: &'static str,
    /// The rules of the specification that it puts to the test.
    pub rules: &'static [&'static str],
    /// What the collector does.
    #[doc(hidden)]
    pub fault: Fault,
    /// What a plain client sees of it.
    #[doc(hidden)]
    pub shows: Shows,
    /// What an exporter has to make of it.
    #[doc(hidden)]
    pub expect: Expect,
}

/// When a script begins.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Refuses connections until the test restarts the collector.
    ClosedPort,
    /// As soon as the connection is there.
    AtAccept(&'static [Step]),
    /// With the first byte of a request.
    AtRequest(&'static [Step]),
}

/// One thing that a collector does. Where a script ends the connection goes on.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Reads a whole request, without answering yet.
    Read,
    /// Reads so many bytes of the request, and then no more.
    ReadBytes(usize),
    /// Waits for the first byte of the next request.
    AwaitNext,
    /// Answers for the request's spans.
    Take,
    /// Answers for all but so many of the request's spans.
    TakeAllBut(u64),
    /// Goes on only if the body has more bytes than this; else takes the request and says so.
    TakeUpTo {
        /// The largest body that is taken.
        body_bytes: usize,
    },
    /// Sends a whole reply: status, more headers, and for an error the `Status` message that OTLP wants.
    Answer(&'static str, &'static str),
    /// Sends these bytes.
    Say(fn() -> Vec<u8>),
    /// Sends these bytes one at a time, with a rest between them.
    SayInBytes(fn() -> Vec<u8>, Duration),
    /// Sends these bytes in two pieces, cut one byte later each time.
    SayInTwo(fn() -> Vec<u8>),
    /// Sends these bytes over and over, up to [`FLOOD_BYTES_MAX`].
    SayForever(fn() -> Vec<u8>),
    /// Makes the buffer of the receiver as small as the system allows.
    ShrinkWindow,
    /// Ends the stream of replies and goes on reading.
    EndReplies,
    /// Does nothing more until the collector stops.
    Hold,
    /// Ends the connection in order.
    Close,
    /// Ends the connection by a reset. Over a unix socket that is a close.
    Reset,
}

/// What a plain client sees after its request.
#[derive(Clone, Copy, Debug)]
pub struct Shows {
    /// How the reply begins.
    pub begin: &'static [u8],
    /// How it goes on.
    pub end: End,
}

/// How it goes on after what the reply begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The connection is refused.
    Refused,
    /// The connection serves another request.
    Kept,
    /// The stream of replies ends.
    Closed,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, and nothing ends.
    Silent,
    /// Byte after byte comes, each after a long while.
    Slow,
    /// Nothing comes, and a large request is not taken off the client's hands.
    Stuck,
    /// Bytes come without end.
    Endless,
}

/// What an exporter has to make of the batch that meets the fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expect {
    /// How much of the batch arrives.
    pub delivered: Delivered,
    /// The only causes under which spans of this batch may be lost.
    pub lost: &'static [&'static str],
    /// Whether its spans may be unconfirmed: the collector may have the whole request, and never answers, not in full,
    /// not in HTTP, or not through the gateway that it is behind.
    pub is_doubtful: bool,
    /// Whether the batch may come twice.
    pub resend: Resend,
    /// After so many scripts the collector is healthy; `None`: when the test restarts it.
    pub heals_after: Option<u64>,
}

/// How much of the batch the collector has in the end, if it heals in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivered {
    /// The whole batch.
    All,
    /// All but so many, or nothing of a batch that has fewer.
    AllBut(u64),
    /// No span of it.
    Nothing,
    /// All if the exporter sent it again, which is its choice; else nothing.
    AllIfSentAgain,
}

/// Whether the same bytes may be sent a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resend {
    /// No: the collector has answered for them.
    Forbidden,
    /// Yes, but nothing is wrong with giving up.
    Allowed,
    /// Yes, and it is the only way to deliver them.
    Required,
}

/// What a test counted for one batch.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Spans that the exporter was given.
    pub accepted: u64,
    /// Spans that it still has.
    pub queued: u64,
    /// Spans that it counts as delivered.
    pub exported: u64,
    /// Spans that it counts as unconfirmed.
    pub unconfirmed: u64,
    /// Spans that it lost, by cause.
    pub lost: &'a [(&'a str, u64)],
    /// Different spans that the collector took: [`Stand::delivered`](super::Stand::delivered).
    pub delivered: u64,
    /// Requests that came a second time: [`Tally::resends`](super::Tally::resends).
    pub resends: u64,
}

/// How often a collector shows its fault.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// So many requests are served first; for [`Fault::AtAccept`], so many connections.
    pub after: u64,
    /// So many scripts are played; then it is healthy.
    pub times: u64,
}

/// What is sent of something endless: more than any limit of a client, and bounded.
pub const FLOOD_BYTES_MAX: usize = 64 << 20;
/// The cause of a refusal that is final.
pub const REJECTED: &str = "rejected";
/// The cause of a refusal of some spans.
pub const PARTIALLY_REJECTED: &str = "partially_rejected";
/// The cause of retries that took too long.
pub const RETRY_EXPIRED: &str = "retry_expired";
/// The cause of a span that no request can hold.
pub const OVERSIZE: &str = "oversize";
/// The cause of a shutdown that did not wait longer.
pub const SHUTDOWN_DEADLINE: &str = "shutdown_deadline";

impl Row {
    /// The plan after which the row's expectation holds: the fault comes first, and as often as it says.
    pub fn plan(&self) -> Plan {
        Plan { after: 0, times: self.expect.heals_after.unwrap_or(u64::MAX) }
    }

    /// What an exporter has to make of a batch when the fault lasts longer than the exporter's patience.
    #[doc(hidden)]
    pub fn expect_without_healing(&self) -> Expect {
        let takes = self.does(|step| matches!(step, Step::Take | Step::TakeAllBut(_)));
        let (delivered, lost): (_, &[&str]) = match self.expect.resend {
            // It has the spans, and does not say so.
            Resend::Required if takes => (Delivered::All, &[]),
            Resend::Required => (Delivered::Nothing, &[RETRY_EXPIRED, SHUTDOWN_DEADLINE]),
            Resend::Allowed if !takes => (Delivered::Nothing, &[REJECTED, RETRY_EXPIRED, SHUTDOWN_DEADLINE]),
            Resend::Allowed | Resend::Forbidden => (self.expect.delivered, self.expect.lost),
        };
        let shows = |status: &str| self.shows.begin.starts_with(format!("HTTP/1.1 {status}").as_bytes());
        // A gateway that fails does not know whether its upstream took the request.
        let is_refused = (shows("4") || shows("5")) && !shows("502") && !shows("504");
        // Also a request that the script does not read: its client hands it to the system, and hears no more of it.
        let is_sent = !matches!(self.fault, Fault::ClosedPort);
        let is_unanswered = is_sent && !is_refused && self.expect.resend != Resend::Forbidden;
        let is_doubtful = self.expect.is_doubtful || is_unanswered;
        Expect { delivered, lost, is_doubtful, resend: self.expect.resend, heals_after: None }
    }

    fn does(&self, is_it: impl Fn(&Step) -> bool) -> bool {
        match self.fault {
            Fault::ClosedPort => false,
            Fault::AtAccept(steps) | Fault::AtRequest(steps) => steps.iter().any(is_it),
        }
    }
}

impl Expect {
    /// Says what is wrong with what came of one batch, if something is.
    pub fn verdict(&self, outcome: &Outcome<'_>) -> Result<(), String> {
        let &Outcome { accepted, queued, exported, unconfirmed, lost, delivered, resends } = outcome;
        let total: u64 = lost.iter().map(|(_, spans)| spans).sum();
        let spans = match self.delivered {
            Delivered::All => accepted,
            Delivered::AllBut(rejected) => accepted.saturating_sub(rejected),
            Delivered::Nothing => 0,
            Delivered::AllIfSentAgain if delivered > 0 => accepted,
            Delivered::AllIfSentAgain => 0,
        };
        let strange = lost.iter().find(|(cause, spans)| *spans > 0 && !self.lost.contains(cause));
        let claims = [
            (
                accepted == exported + unconfirmed + total + queued,
                "accepted = exported + unconfirmed + lost + queued".to_owned(),
            ),
            (
                (exported..=exported + unconfirmed).contains(&delivered),
                "what is exported is there, and what is there is exported or unconfirmed".to_owned(),
            ),
            (unconfirmed == 0 || self.is_doubtful, "each attempt has an answer, so none is unconfirmed".to_owned()),
            (queued == 0, "nothing stays queued".to_owned()),
            (delivered == spans, format!("{spans} spans are delivered")),
            (strange.is_none(), format!("spans are lost only by {:?}", self.lost)),
            (self.resend != Resend::Forbidden || resends == 0, "nothing is sent twice".to_owned()),
        ];
        match claims.into_iter().find(|(holds, _)| !holds) {
            Some((_, claim)) => Err(format!("not so: {claim}; {outcome:?}")),
            None => Ok(()),
        }
    }
}

impl Plan {
    /// The fault comes first and stays.
    pub fn forever() -> Self {
        Self { after: 0, times: u64::MAX }
    }
}
