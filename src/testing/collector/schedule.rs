//! A collector that follows a schedule over its connections, and notes of each request when it came and what was done.

use std::{
    io,
    net::{Ipv4Addr, Shutdown},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use socket2::SockRef;

use super::{
    Collector, Connection, Ids, Mode, Port, on_free_port,
    rows::{answer, http_date, partial},
};

/// What a collector does with a request that has arrived whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn {
    /// How long it thinks about it first.
    pub rest: Duration,
    /// What it makes of it.
    pub act: Act,
    /// What becomes of the connection, if the request is answered.
    pub close: Close,
}

/// What a collector makes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Takes it.
    Take,
    /// Takes it but for so many spans, the last ones: a partial success.
    TakeAllBut(u64),
    /// Refuses it for good: 400.
    Refuse,
    /// Calls it too large: 413.
    CallTooLarge,
    /// Puts it off with this status.
    PutOff(&'static str, Pause),
    /// Takes it and puts it off all the same: a gateway with this status, which has lost its upstream's answer.
    TakeAndPutOff(&'static str),
    /// Gives no answer, or none that can be read. It may take the request all the same.
    Leave(Leave, Taken),
}

/// The pause that a collector asks for by `Retry-After`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// None.
    Unsaid,
    /// So many seconds.
    Seconds(u64),
    /// Until a date, which is this far away, and cut to whole seconds.
    Date(Duration),
}

/// How a collector leaves a request without an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leave {
    /// Ends the connection in order.
    Close,
    /// Resets it.
    Reset,
    /// Ends it in the middle of an answer's head.
    CloseInHead,
    /// Stops in the middle of an answer's head, and keeps the connection open.
    StopInHead,
    /// Says nothing, and keeps the connection open.
    Hold,
}

/// Whether a collector takes what it does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Close {
    /// It goes on.
    No,
    /// It ends, as the answer says.
    Announced,
    /// It ends, and the answer does not say so.
    Unannounced,
    /// It ends in the middle of the answer's body.
    InBody,
}

/// Which request it is.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its number among all, from zero, in the order in which they were read.
    pub number: u64,
    /// The number of its connection, from zero.
    pub connection: u64,
    /// Its number on its connection, from zero.
    pub of_connection: u64,
    /// Its spans.
    pub ids: &'a [Ids],
}

/// What was seen of a request, and done with it.
#[derive(Clone, Debug)]
pub struct Note {
    /// The number of its connection, from zero.
    pub connection: u64,
    /// When its first byte was seen.
    pub began: Instant,
    /// Its spans.
    pub ids: Vec<Ids>,
    /// What was done with it.
    pub turn: Turn,
    /// Just before the first byte of the answer, or the end of the connection. Its client knows nothing of it before.
    pub answering: Option<Instant>,
    /// Just after the last byte, or the end that comes instead: from now on the client's system has the answer.
    pub answered: Option<Instant>,
    /// Until when the answer wants to be left alone.
    pub pause_until: Option<Instant>,
}

/// A collector that follows a schedule.
pub struct Scheduled {
    /// The collector itself.
    pub collector: Collector,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl Scheduled {
    /// Listens on a free port of loopback, and does with each request as `decide` says.
    pub fn start(decide: impl Fn(&Asked<'_>) -> Turn + Send + Sync + 'static) -> io::Result<Self> {
        let notes = Arc::default();
        let schedule = Schedule { decide, connections: AtomicU64::new(0), notes: Arc::clone(&notes) };
        let serve = Arc::new(move |connection: &mut Connection| schedule.serve(connection));
        let place = (Ipv4Addr::LOCALHOST, 0).into();
        let start = || Collector::start_with(Arc::new(Port::claim(place)?), Mode::Ids, serve.clone());
        Ok(Self { collector: on_free_port(start)?, notes })
    }

    /// What has happened so far, in the order in which the requests had arrived.
    pub fn notes(&self) -> Vec<Note> {
        lock(&self.notes).clone()
    }
}

impl Turn {
    /// Does this, at once, and keeps the connection.
    pub const fn of(act: Act) -> Self {
        Self { rest: Duration::ZERO, act, close: Close::No }
    }

    /// Whether its client gets an answer.
    pub fn is_answer(&self) -> bool {
        !matches!(self.act, Act::Leave(..))
    }

    /// The status with which it is put off, if it is.
    pub fn status_of_delay(&self) -> Option<&'static str> {
        match self.act {
            Act::PutOff(status, _) | Act::TakeAndPutOff(status) => Some(status),
            _ => None,
        }
    }
}

struct Schedule<D> {
    decide: D,
    /// Connections that have been served.
    connections: AtomicU64,
    notes: Arc<Mutex<Vec<Note>>>,
}

/// Breaks off before the head of an answer is whole.
const HALF_A_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Le";

impl<D: Fn(&Asked<'_>) -> Turn> Schedule<D> {
    fn serve(&self, connection: &mut Connection) -> io::Result<()> {
        // ORDERING: Relaxed. A count alone: each connection gets a number of its own.
        let number = self.connections.fetch_add(1, Relaxed);
        for of_connection in 0.. {
            if !connection.wait()? || !self.serve_one(connection, number, of_connection)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn serve_one(&self, connection: &mut Connection, number: u64, of_connection: u64) -> io::Result<bool> {
        let began = Instant::now();
        let request = match connection.read_request()? {
            Ok(request) => request,
            Err(refusal) => {
                connection.refuse(refusal)?;
                return Ok(false);
            }
        };
        let ids = request.ids().to_vec();
        let mut notes = lock(&self.notes);
        let at = notes.len();
        let turn = (self.decide)(&Asked { number: at as u64, connection: number, of_connection, ids: &ids });
        let (answering, answered, pause_until) = (None, None, None);
        notes.push(Note { connection: number, began, ids, turn, answering, answered, pause_until });
        drop(notes);
        if !turn.rest.is_zero() {
            connection.rest(turn.rest)?;
        }
        match turn.act {
            Act::Take | Act::TakeAndPutOff(_) | Act::Leave(_, Taken::Yes) => connection.take(request),
            Act::TakeAllBut(rejected) => connection.take_all_but(request, rejected),
            Act::Refuse | Act::CallTooLarge | Act::PutOff(..) | Act::Leave(_, Taken::No) => {}
        }
        let answering = Instant::now();
        let reply = turn.reply(answering);
        let note = |change: &dyn Fn(&mut Note)| change(&mut lock(&self.notes)[at]);
        if !matches!(turn.act, Act::Leave(Leave::Hold, _)) {
            note(&|note| (note.answering, note.pause_until) = (Some(answering), reply.pause_until));
        }
        if !reply.bytes.is_empty() {
            connection.write(&reply.bytes)?;
        }
        match turn.act {
            Act::Leave(Leave::Hold | Leave::StopInHead, _) => loop {
                connection.rest(Duration::from_secs(3600))?;
            },
            Act::Leave(Leave::Reset, _) => {
                if let Some(socket) = connection.socket().tcp() {
                    SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
                }
                return Ok(false);
            }
            Act::Leave(Leave::Close | Leave::CloseInHead, _) => return Ok(false),
            _ if turn.close == Close::InBody => connection.socket().end(Shutdown::Write)?,
            _ => {}
        }
        note(&|note| note.answered = Some(Instant::now()));
        Ok(turn.close == Close::No)
    }
}

struct Said {
    bytes: Vec<u8>,
    pause_until: Option<Instant>,
}

impl Turn {
    /// What it says at `now`.
    fn reply(&self, now: Instant) -> Said {
        let mut pause_until = None;
        let bytes = match self.act {
            Act::Take => answer("200 OK", ""),
            Act::TakeAllBut(rejected) => partial(i64::try_from(rejected).unwrap_or(i64::MAX), "too old"),
            Act::Refuse => answer("400 Bad Request", ""),
            Act::CallTooLarge => answer("413 Content Too Large", ""),
            Act::PutOff(status, Pause::Unsaid) | Act::TakeAndPutOff(status) => answer(status, ""),
            Act::PutOff(status, Pause::Seconds(seconds)) => {
                pause_until = Some(now + Duration::from_secs(seconds));
                answer(status, &format!("Retry-After: {seconds}\r\n"))
            }
            Act::PutOff(status, Pause::Date(time)) => {
                let date = SystemTime::now() + time;
                let cut = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
                pause_until = Some(now + time.saturating_sub(Duration::from_nanos(cut.into())));
                answer(status, &format!("Retry-After: {}\r\n", http_date(date)))
            }
            Act::Leave(Leave::CloseInHead | Leave::StopInHead, _) => HALF_A_HEAD.to_vec(),
            Act::Leave(Leave::Close | Leave::Reset | Leave::Hold, _) => vec![],
        };
        let bytes = match self.close {
            Close::InBody if self.is_answer() => cut_in_body(&bytes),
            Close::Announced if self.is_answer() => announcing(&bytes),
            _ => bytes,
        };
        Said { bytes, pause_until }
    }
}

/// The same answer, which says that the connection ends.
fn announcing(reply: &[u8]) -> Vec<u8> {
    let line = reply.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    [&reply[..line], b"Connection: close\r\n", &reply[line..]].concat()
}

/// The same answer, whose body is to be longer than what comes of it.
fn cut_in_body(reply: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(reply);
    let lines = text.lines().take_while(|line| !line.is_empty());
    let head: String =
        lines.filter(|line| !line.starts_with("Content-Length")).map(|line| format!("{line}\r\n")).collect();
    format!("{head}Content-Length: 64\r\n\r\nso far").into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
