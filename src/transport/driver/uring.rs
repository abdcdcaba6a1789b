//! The driver for Linux where it may: one system call submits what there is, waits with a deadline, and hears the bell.
//!
//! The kernel reads and writes the buffers of an operation until it completes; closing the ring does not end that at
//! once. So a buffer has one of two ends: its completion gives it back, or it is never freed.

#![expect(unsafe_code, reason = "memory that the kernel reads and writes while we do something else")]

mod event_fd;
mod kernel;
mod trial;

use std::{
    collections::VecDeque,
    io::{self, Read},
    mem::{self, ManuallyDrop},
    net::Shutdown,
    ops::Range,
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use io_uring::{
    EnterFlags, IoUring, Probe, cqueue, opcode, squeue,
    types::{Fd, SubmitArgs, Timespec},
};
use mio::{Interest, Registry, Token, unix::SourceFd};
use socket2::{SockAddr, Socket};

use self::event_fd::{EventFd, poll};
use super::{
    completion::{Address, Completion, Conn, Event, Operation, cancelled},
    moment::{Moment, Timer},
    poll::Ringer,
    socket, unix,
    waker::{Bell, Waker},
};

pub(super) struct Uring {
    /// Dropped only when the kernel holds nothing of ours.
    ring: ManuallyDrop<IoUring>,
    idle: Idle,
    timer: Timer,
    bell: Arc<EventFd>,
    /// Where the bell's count is read into. A `Vec`, because its bytes stay where they are, whoever holds it.
    bell_count: Vec<u8>,
    is_listening: bool,
    /// By slot.
    links: Vec<Option<Link>>,
    /// What the submission queue had no room for, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Entries that were pushed and have not completed: operations, cancels, and the read of the bell.
    pending: usize,
    /// What is done and not yet reported.
    ready: Vec<Completion>,
    /// Sends that were asked for since the last call.
    sends: u32,
    /// Whether the next call waits for all answers to these, for a while.
    gathers: bool,
    /// Times in a row that the kernel was too busy to listen.
    refusals: u32,
    /// When a drop has to stop waiting, if that was set.
    leave: Option<Moment>,
}

/// A connection, and the memory that the kernel may use.
struct Link {
    conn: Conn,
    socket: Socket,
    connect: Option<Box<SockAddr>>,
    send: Option<(Vec<u8>, Range<usize>)>,
    recv: Option<Vec<u8>>,
    is_cancelled: bool,
}

/// How to sleep in an idle ring without showing as a busy disk: the kernel counts a wait for completions as one for
/// I/O.
enum Idle {
    /// The kernel can be told, since 6.15.
    Inside,
    /// It cannot: sleep until this descriptor, or the bell, is readable. The ring's own descriptor would not do: with
    /// its work deferred to us, it says nothing as long as we sleep (6.18: 0 of 200 wakes came through).
    Outside(EventFd),
}

/// Up to eight connections with a send, a receive and their cancels, and the bell. More are possible, and wait their
/// turn.
const SUBMISSIONS: u32 = 64;
/// Room for all that can complete between two looks. With the queues above it fits the smallest memlock limits, 64 KiB.
const COMPLETIONS: u32 = 256;
/// What a drop may take to get the buffers back from the kernel; cancelled operations complete in microseconds.
const DRAIN_TIME: Duration = Duration::from_millis(50);
/// Looks that a drop takes even without time: the first submits the cancels, the next find what they did.
const DRAIN_LOOKS: u32 = 4;
/// At a pause of 1 ms each, a second in which the kernel takes nothing and completes nothing.
const REFUSALS_MAX: u32 = 1_000;
/// How long a send that the peer does not take at once may keep us from what else completes, in the call that submits
/// it.
const SEND_TIME: Duration = Duration::from_millis(5);
/// How long an answer may keep us from others, and from the bell.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// One request is never longer; a send may be short anyway.
const SEND_BYTES_MAX: u32 = 1 << 30;

/// The first byte of a tag: which operation, by its number, or one of these.
const BELL: u8 = 3;
const CANCEL: u8 = 4;
/// The bell belongs to no connection.
const NOBODY: Conn = Conn { slot: 0, generation: 0 };

impl Uring {
    /// A ring that has shown that it works, and a clause about it; or why not.
    pub(super) fn open(timer: Timer) -> Result<(Self, String), String> {
        if let Some(objection) = kernel::objection() {
            return Err(format!("io_uring not tried: {objection}"));
        }
        let mut uring = Self::set_up(timer).map_err(|error| trial::refusal(&error))?;
        trial::run(&mut uring).map_err(|error| format!("io_uring failed its self-test: {error}"))?;
        Ok((uring, format!("io_uring of kernel {} passed its self-test", kernel::release())))
    }

    /// As it would be on a kernel before 6.15.
    pub(super) fn sleep_outside(&mut self) -> io::Result<()> {
        let alarm = EventFd::new(libc::EFD_NONBLOCK)?;
        self.ring.submitter().register_eventfd(alarm.0.as_raw_fd())?;
        self.idle = Idle::Outside(alarm);
        Ok(())
    }

    fn set_up(timer: Timer) -> io::Result<Self> {
        let bell = Arc::new(EventFd::new(0)?);
        let mut builder = IoUring::builder();
        builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(COMPLETIONS);
        let ring: IoUring = builder.build(SUBMISSIONS)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            opcode::Connect::CODE,
            opcode::Send::CODE,
            opcode::Recv::CODE,
            opcode::Read::CODE,
            opcode::AsyncCancel::CODE,
        ];
        let has_all = needed.into_iter().all(|code| probe.is_supported(code));
        if !has_all || !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "an operation or a feature is missing"));
        }
        let can_be_told = ring.params().is_feature_no_iowait();
        let mut uring = Self {
            ring: ManuallyDrop::new(ring),
            idle: Idle::Inside,
            timer,
            bell,
            bell_count: vec![0; 8],
            is_listening: false,
            links: vec![],
            backlog: VecDeque::new(),
            pending: 0,
            ready: vec![],
            sends: 0,
            gathers: false,
            refusals: 0,
            leave: None,
        };
        if !can_be_told {
            uring.sleep_outside()?;
        }
        Ok(uring)
    }

    pub(super) fn connect(&mut self, conn: Conn, address: &Address, unacknowledged_max: Duration) {
        let (socket, target) = match socket::open(address, unacknowledged_max) {
            Ok(opened) => opened,
            Err(error) => return self.ready.push(Completion { conn, event: Event::Connected(Err(error)) }),
        };
        if let Address::Unix(_) = address {
            let result = connect_unix(&socket, &target);
            self.insert(conn, socket);
            return self.ready.push(Completion { conn, event: Event::Connected(result) });
        }
        let link = self.insert(conn, socket);
        let target = link.connect.insert(Box::new(target));
        let entry = opcode::Connect::new(Fd(link.socket.as_raw_fd()), target.as_ptr().cast(), target.len());
        let entry = entry.build().user_data(tag(Operation::Connect as u8, conn));
        // SAFETY: the address is boxed in the link until `complete` or `leak` takes it.
        unsafe { self.push(entry) };
    }

    fn insert(&mut self, conn: Conn, socket: Socket) -> &mut Link {
        let at = conn.index();
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        let link = Link { conn, socket, connect: None, send: None, recv: None, is_cancelled: false };
        assert!(self.links[at].is_none(), "the kernel may still use the buffers of the connection before");
        self.links[at].insert(link)
    }

    pub(super) fn send(&mut self, conn: Conn, buffer: Vec<u8>, range: Range<usize>) {
        let Some(link) = self.link(conn) else {
            let event = Event::Sent { buffer, result: Err(io::ErrorKind::NotConnected.into()) };
            return self.ready.push(Completion { conn, event });
        };
        let (buffer, range) = link.send.insert((buffer, range));
        let bytes = &buffer[range.clone()];
        let len = u32::try_from(bytes.len()).unwrap_or(SEND_BYTES_MAX).min(SEND_BYTES_MAX);
        // Without MSG_WAITALL: the sender has to see that a slow peer takes bytes, and that an answer is one to the
        // beginning.
        let entry = opcode::Send::new(Fd(link.socket.as_raw_fd()), bytes.as_ptr(), len);
        let entry = entry.build().user_data(tag(Operation::Send as u8, conn));
        self.sends += 1;
        // SAFETY: the bytes lie on the heap, owned by the link until `complete` or `leak` takes them, and nothing
        // writes there.
        unsafe { self.push(entry) };
    }

    pub(super) fn recv(&mut self, conn: Conn, buffer: Vec<u8>) {
        let Some(link) = self.link(conn) else {
            let event = Event::Received { buffer, result: Err(io::ErrorKind::NotConnected.into()) };
            return self.ready.push(Completion { conn, event });
        };
        let buffer = link.recv.insert(buffer);
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(link.socket.as_raw_fd()), buffer.as_mut_ptr(), len);
        let entry = entry.build().user_data(tag(Operation::Recv as u8, conn));
        // SAFETY: the bytes lie on the heap, owned by the link until `complete` or `leak` takes them, and nothing reads
        // there.
        unsafe { self.push(entry) };
    }

    /// The connection, unless the system refused it a socket.
    fn link(&mut self, conn: Conn) -> Option<&mut Link> {
        self.links.get_mut(conn.index())?.as_mut().filter(|link| link.conn == conn)
    }

    /// Asks for the end of each operation. Which of the two wins is not known before both have completed.
    pub(super) fn cancel(&mut self, conn: Conn) {
        let Some(link) = self.link(conn) else {
            return;
        };
        link.is_cancelled = true;
        let in_flight = link.in_flight().into_iter().flatten();
        let targets: Vec<u64> = in_flight.map(|operation| tag(operation as u8, conn)).collect();
        targets.into_iter().for_each(|target| self.push_cancel(target));
    }

    fn push_cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel::new(target).build().user_data(tag(CANCEL, NOBODY));
        // SAFETY: a cancel points at no memory.
        unsafe { self.push(entry) };
    }

    /// Closes the socket, by the drop of the link: nothing is in flight there.
    pub(super) fn close(&mut self, conn: Conn) {
        if let Some(place) = self.links.get_mut(conn.index()) {
            // Before the link is taken out: a panic must not free what the kernel uses.
            let is_idle = place.as_ref().is_none_or(|link| link.in_flight() == [None; 3]);
            assert!(is_idle, "the kernel still uses the buffers");
            *place = None;
        }
    }

    pub(super) fn wait(&mut self, until: Option<Moment>, completions: &mut Vec<Completion>) -> io::Result<()> {
        loop {
            self.listen();
            let timeout = match self.ready.is_empty() {
                true => until.map(|moment| self.timer.until(moment)),
                false => Some(Duration::ZERO),
            };
            self.enter(timeout)?;
            let is_woken = self.reap()?;
            let is_late = until.is_some_and(|moment| self.timer.now() >= moment);
            if is_woken || is_late || !self.ready.is_empty() {
                completions.append(&mut self.ready);
                return Ok(());
            }
        }
    }

    /// Has the next wait let the answers to all sends come in together.
    pub(super) fn gather(&mut self) {
        self.gathers = true;
    }

    /// Keeps a read of the bell in the ring.
    fn listen(&mut self) {
        if mem::replace(&mut self.is_listening, true) {
            return;
        }
        let entry = opcode::Read::new(Fd(self.bell.0.as_raw_fd()), self.bell_count.as_mut_ptr(), 8);
        let entry = entry.build().user_data(tag(BELL, NOBODY));
        // SAFETY: the count lies on the heap, owned by the driver until a drop that has seen the completion, or `leak`.
        unsafe { self.push(entry) };
    }

    /// # Safety
    ///
    /// What the entry points at stays where it is, and nothing else uses it in conflict with the kernel, until the
    /// entry has completed.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        self.pending += 1;
        self.backlog.push_back(entry);
        self.flush();
    }

    /// Moves what there is room for into the submission queue.
    fn flush(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: the entry came through `Self::push`, whose contract is this one's.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits, and waits for a completion, at most this long; zero only looks.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.flush();
        // A send completes as it is submitted, mostly. That is not what we wait for: its answer is.
        let sent = mem::take(&mut self.sends);
        let gathers = mem::take(&mut self.gathers);
        // What is left in the backlog needs another round at once.
        if timeout == Some(Duration::ZERO) || !self.backlog.is_empty() {
            return self.call(0, None, SEND_TIME);
        }
        if let Idle::Inside = self.idle {
            return match gathers && sent > 1 {
                true => self.call(2 * sent, timeout, GATHER_TIME),
                false => self.call(sent + 1, timeout, SEND_TIME),
            };
        }
        self.call(0, None, SEND_TIME)?;
        // What the kernel refused is in the queue still, and nobody would wake us for it.
        if self.ring.submission().is_empty() && self.ring.completion().is_empty() {
            self.sleep(timeout)?;
            self.call(0, None, SEND_TIME)?;
        }
        Ok(())
    }

    /// Submits, and waits for so many completions; after `patience`, or `timeout`, for no more than one.
    fn call(&mut self, completions_min: u32, timeout: Option<Duration>, patience: Duration) -> io::Result<()> {
        let submissions = u32::try_from(self.ring.submission().len()).unwrap_or(SUBMISSIONS);
        let time = timeout.map(Timespec::from);
        let arguments = SubmitArgs::new();
        let arguments = time.as_ref().map_or(arguments, |time| arguments.timespec(time));
        let arguments = match completions_min {
            0 | 1 => arguments,
            // The kernel lets this time pass also where the other is shorter.
            _ => arguments.min_wait_usec(timeout.map_or(patience, |time| time.min(patience)).subsec_micros()),
        };
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        flags.set(EnterFlags::NO_IOWAIT, matches!(self.idle, Idle::Inside));
        // SAFETY: the flags say that the argument is of this type, and it and its time live until the call returns.
        match unsafe { self.ring.submitter().enter(submissions, completions_min, flags.bits(), Some(&arguments)) } {
            Ok(_) => self.refusals = 0,
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR) => {}
                Some(libc::EAGAIN | libc::EBUSY) if self.refusals < REFUSALS_MAX => {
                    // No memory for a request, or no room for completions: those that are there are taken next.
                    self.refusals += 1;
                    poll(&mut [], Some(Duration::from_millis(1)))?;
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Waits until there is work in the ring, or the bell rings, at most this long.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        let Idle::Outside(alarm) = &self.idle else {
            return Ok(());
        };
        let mut watched =
            [alarm, &*self.bell].map(|file| libc::pollfd { fd: file.0.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        poll(&mut watched, timeout)?;
        if watched[0].revents != 0 {
            // What it counts is not of interest; the bell's count is read in the ring.
            let _ = (&alarm.0).read(&mut [0; 8]);
        }
        Ok(())
    }

    /// Takes every completion that there is; true if the bell rang.
    fn reap(&mut self) -> io::Result<bool> {
        let mut is_woken = false;
        // One at a time: what is done with one may push more.
        while let Some(entry) = take(&mut self.ring) {
            self.pending = self.pending.saturating_sub(1);
            let [s0, s1, s2, s3, g0, g1, g2, kind] = entry.user_data().to_le_bytes();
            let slot = u32::from_le_bytes([s0, s1, s2, s3]);
            let conn = Conn { slot, generation: u32::from_le_bytes([g0, g1, g2, 0]) };
            match kind {
                BELL => is_woken |= self.hear(entry.result())?,
                CANCEL => {}
                _ => self.complete(kind, conn, entry.result())?,
            }
        }
        Ok(is_woken)
    }

    fn hear(&mut self, result: i32) -> io::Result<bool> {
        self.is_listening = false;
        match -result {
            ..=0 => Ok(true),
            // Asked again at the next wait.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => Ok(false),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn complete(&mut self, kind: u8, conn: Conn, result: i32) -> io::Result<()> {
        let unasked = || io::Error::other("the kernel completed what was not asked for");
        let link = self.link(conn).ok_or_else(unasked)?;
        // A kernel's worker that was cancelled at work says so, and so may a signal; only the first is the end.
        let again = result == -libc::EINTR && !link.is_cancelled;
        let moved = match usize::try_from(result) {
            Ok(len) => Ok(len),
            Err(_) if link.is_cancelled && matches!(-result, libc::ECANCELED | libc::EINTR) => Err(cancelled()),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let event = if kind == Operation::Connect as u8 {
            link.connect.take().ok_or_else(unasked)?;
            let late = || io::ErrorKind::NotConnected.into();
            Event::Connected(moved.and_then(|_| socket::outcome(&link.socket).unwrap_or_else(|| Err(late()))))
        } else if kind == Operation::Send as u8 {
            let (buffer, range) = link.send.take().ok_or_else(unasked)?;
            if again {
                self.send(conn, buffer, range);
                return Ok(());
            }
            Event::Sent { buffer, result: moved }
        } else {
            let buffer = link.recv.take().ok_or_else(unasked)?;
            if again {
                self.recv(conn, buffer);
                return Ok(());
            }
            Event::Received { buffer, result: moved }
        };
        self.ready.push(Completion { conn, event });
        Ok(())
    }

    /// Cancels everything and takes what completes; true if the kernel holds nothing of ours any more.
    fn drain(&mut self, until: Moment) -> bool {
        let conns: Vec<Conn> = self.links.iter().flatten().map(|link| link.conn).collect();
        conns.into_iter().for_each(|conn| self.cancel(conn));
        if self.is_listening {
            self.push_cancel(tag(BELL, NOBODY));
        }
        let mut looks = 0;
        while self.pending > 0 {
            let time = self.timer.until(until);
            if looks >= DRAIN_LOOKS && time.is_zero() {
                return false;
            }
            if self.enter(Some(time)).is_err() || self.reap().is_err() {
                return false;
            }
            looks += 1;
        }
        true
    }

    /// Ends every operation. What the kernel does not give back is left to it, and a copy goes to the caller: it only
    /// reads what is sent, and what it still receives is of no use.
    pub(super) fn abandon(&mut self, completions: &mut Vec<Completion>, reason: impl Fn() -> io::Error) {
        let is_drained = self.drain(self.timer.now().after(DRAIN_TIME));
        completions.append(&mut self.ready);
        if is_drained {
            return;
        }
        self.leave = Some(Moment::START);
        for link in self.links.iter().flatten() {
            let connect = link.connect.as_ref().map(|_| Event::Connected(Err(reason())));
            let send =
                link.send.as_ref().map(|(buffer, _)| Event::Sent { buffer: buffer.clone(), result: Err(reason()) });
            let recv = link
                .recv
                .as_ref()
                .map(|buffer| Event::Received { buffer: vec![0; buffer.len()], result: Err(reason()) });
            let events = [connect, send, recv].into_iter().flatten();
            completions.extend(events.map(|event| Completion { conn: link.conn, event }));
        }
    }

    /// How long a drop may wait for the kernel.
    pub(super) fn leave_by(&mut self, moment: Moment) {
        self.leave = Some(moment);
    }

    /// Leaves to the kernel for ever what it may still use.
    fn leak(&mut self) {
        for mut link in self.links.drain(..).flatten() {
            mem::forget((link.connect.take(), link.send.take(), link.recv.take()));
        }
        mem::forget(mem::take(&mut self.bell_count));
    }

    /// What wakes this driver, for the one that replaces it.
    pub(super) fn ringer(&self) -> Ringer {
        let bell = Arc::clone(&self.bell);
        Box::new(move |registry: &Registry, token: Token| {
            registry.register(&mut SourceFd(&bell.0.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Waker::new(bell))
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.bell) as Arc<dyn Bell>)
    }

    pub(super) fn timer(&self) -> Timer {
        self.timer
    }

    pub(super) fn now(&self) -> Moment {
        self.timer.now()
    }

    pub(super) fn in_flight(&self) -> usize {
        let operations = self.links.iter().flatten().flat_map(Link::in_flight).flatten();
        self.ready.len() + operations.count()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let until = self.leave.unwrap_or_else(|| self.timer.now().after(DRAIN_TIME));
        if !self.drain(until) {
            return self.leak();
        }
        // SAFETY: dropped here only, and nothing uses the ring after the drop of its owner.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
    }
}

impl Drop for Link {
    /// The peer need not wait for a child process that has a copy of the descriptor, nor for the kernel, which has a
    /// hold of its own on the socket while an operation is in flight.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Link {
    fn in_flight(&self) -> [Option<Operation>; 3] {
        [
            self.connect.is_some().then_some(Operation::Connect),
            self.send.is_some().then_some(Operation::Send),
            self.recv.is_some().then_some(Operation::Recv),
        ]
    }
}

/// Beside the ring, which would give it to a kernel's worker where the listener's queue is full: one thread more in the
/// host's process, and it did not hear the cancel (6.18).
fn connect_unix(socket: &Socket, target: &SockAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    unix::connect_unix(socket, target)?;
    // The ring waits only for sockets that block.
    socket.set_nonblocking(false)
}

fn take(ring: &mut IoUring) -> Option<cqueue::Entry> {
    ring.completion().next()
}

/// The word that comes back with a completion: kind (8 bits), generation (24), slot (32).
fn tag(kind: u8, conn: Conn) -> u64 {
    u64::from(kind) << 56 | u64::from(conn.generation) << 32 | u64::from(conn.slot)
}
