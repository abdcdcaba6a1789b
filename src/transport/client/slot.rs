//! A slot for one connection to the collector: filled when it is needed, and emptied when it is of no use.

use std::mem;

use super::{
    super::driver::{Address, Conn, Event, Moment},
    connection::{Change, Connection, Greeting, Step},
    dial::{Dial, Dialled, Net},
    request::Request,
};

/// A connection, one being made, or none.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: State,
    /// Where the last connection leads, or led.
    peer: Option<Address>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    /// Boxed, as the connection is: a slot is rarely being dialled, and moved with the others.
    Dialling(Box<Dialling>),
    Open(Box<Connection>),
}

#[derive(Debug)]
struct Dialling {
    race: Dial,
    greeting: Greeting,
}

/// The first whose connection is idle.
pub(super) fn idle(slots: &[Slot]) -> Option<usize> {
    slots.iter().position(|slot| slot.idle_since().is_some())
}

/// When an exchange has been without an answer for so long that idle connections are not kept: a peer that serves one
/// connection at a time may wait for an idle one to go before it answers on another.
pub(super) fn hangs_from(slots: &[Slot]) -> Option<Moment> {
    slots.iter().filter_map(Slot::request).map(Request::hangs_from).min()
}

impl Slot {
    /// Begins to connect.
    pub(super) fn dial(&mut self, net: &mut Net<'_>, addresses: &[Address], greeting: Greeting) {
        debug_assert!(self.is_empty());
        self.peer = None;
        self.state = State::Dialling(Box::new(Dialling { race: Dial::begin(net, addresses), greeting }));
    }

    /// Sends a request, on an idle connection.
    pub(super) fn send(&mut self, net: &mut Net<'_>, request: Request) {
        let State::Open(connection) = &mut self.state else {
            unreachable!("requests are given to idle connections");
        };
        connection.send(net, request);
    }

    /// Takes a completion of the driver for one of this slot's connections.
    pub(super) fn complete(&mut self, net: &mut Net<'_>, conn: Conn, event: Event) -> Option<Change> {
        match (&mut self.state, event) {
            (State::Dialling(dialling), Event::Connected(result)) => match dialling.race.connected(net, conn, result) {
                Dialled::Pending => None,
                Dialled::Failed(why) => {
                    self.state = State::Empty;
                    Some(Change::Unreachable(why))
                }
                Dialled::Up(conn, peer) => {
                    self.peer = Some(peer);
                    let connection = Connection::begin(net, conn, mem::take(&mut dialling.greeting));
                    let is_ready = connection.is_up();
                    self.state = State::Open(Box::new(connection));
                    is_ready.then_some(Change::Up)
                }
            },
            (State::Open(connection), event) => {
                let step = connection.complete(net, event);
                self.follow(net, step)
            }
            (_, _) => None,
        }
    }

    /// Does what is due now.
    pub(super) fn tick(&mut self, net: &mut Net<'_>) -> Option<Change> {
        let step = match &mut self.state {
            State::Empty => return None,
            State::Dialling(dialling) => {
                dialling.race.tick(net);
                return None;
            }
            State::Open(connection) => connection.tick(net),
        };
        self.follow(net, step)
    }

    /// When [`Slot::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Moment> {
        match &self.state {
            State::Empty => None,
            State::Dialling(dialling) => dialling.race.due(),
            State::Open(connection) => connection.due(),
        }
    }

    /// Gives up the connection, whatever it is doing; returns the request that was under way, if its bytes are here.
    pub(super) fn close(&mut self, net: &mut Net<'_>) -> Option<Request> {
        match mem::take(&mut self.state) {
            State::Empty => None,
            State::Dialling(dialling) => {
                dialling.race.give_up(net);
                None
            }
            State::Open(connection) => connection.close(net),
        }
    }

    /// Whether this connection is one of the slot's.
    pub(super) fn owns(&self, conn: Conn) -> bool {
        match &self.state {
            State::Empty => false,
            State::Dialling(dialling) => dialling.race.has(conn),
            State::Open(connection) => connection.conn() == conn,
        }
    }

    /// Whether there is neither a connection nor one to come.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.state, State::Empty)
    }

    /// The address of the connection that is open, or of the last one; `None` if none came about.
    pub(super) fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Since when the connection has been idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        self.connection()?.idle_since()
    }

    /// Whether the connection is open.
    pub(super) fn is_up(&self) -> bool {
        self.connection().is_some_and(Connection::is_up)
    }

    /// What it waits for before it can take a request.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        match &self.state {
            State::Empty => None,
            State::Dialling(_) => Some("the connect is not answered: check that no firewall blocks it"),
            State::Open(connection) => connection.obstacle(),
        }
    }

    /// The request that is under way.
    pub(super) fn request(&self) -> Option<&Request> {
        self.connection()?.request()
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Open(connection) => Some(connection),
            _ => None,
        }
    }

    fn follow(&mut self, net: &mut Net<'_>, step: Step) -> Option<Change> {
        match step {
            Step::Stay => None,
            Step::Say(change) => Some(change),
            Step::Close(change) => {
                if let State::Open(connection) = mem::take(&mut self.state) {
                    let request = connection.close(net);
                    debug_assert!(request.is_none(), "a request that ends is taken out first");
                }
                change
            }
        }
    }
}
