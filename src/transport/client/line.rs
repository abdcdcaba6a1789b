//! A place for a connection to the collector: it is dialled when it is wanted, and given up when it is of no use.

use std::mem;

use super::{
    super::driver::{Address, Conn, Event, Moment},
    dial::{Dial, Dialled, Net},
    link::{Greeting, Link, News, Step},
    request::Request,
};

/// A connection, or the place for one.
#[derive(Debug, Default)]
pub struct Line {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Down,
    /// Boxed, as the link is: a line is mostly neither being dialled nor moved.
    Dialling(Box<Dialling>),
    Up(Box<Link>),
}

#[derive(Debug)]
struct Dialling {
    race: Dial,
    greeting: Greeting,
}

impl Line {
    /// Begins to connect.
    pub fn dial(&mut self, net: &mut Net<'_>, addresses: &[Address], greeting: Greeting) {
        debug_assert!(self.is_down());
        self.state = State::Dialling(Box::new(Dialling { race: Dial::begin(net, addresses), greeting }));
    }

    /// Sends a request, on an idle line.
    pub fn send(&mut self, net: &mut Net<'_>, request: Request) {
        let State::Up(link) = &mut self.state else {
            unreachable!("requests are given to idle lines");
        };
        link.send(net, request);
    }

    /// Takes what the driver says of one of this line's connections.
    pub fn complete(&mut self, net: &mut Net<'_>, conn: Conn, event: Event) -> Option<News> {
        match (&mut self.state, event) {
            (State::Dialling(dialling), Event::Connected(result)) => match dialling.race.connected(net, conn, result) {
                Dialled::Pending => None,
                Dialled::Failed(why) => {
                    self.state = State::Down;
                    Some(News::Unreachable(why))
                }
                Dialled::Up(conn) => {
                    let link = Link::begin(net, conn, mem::take(&mut dialling.greeting));
                    let is_ready = link.is_up();
                    self.state = State::Up(Box::new(link));
                    is_ready.then_some(News::Up)
                }
            },
            (State::Up(link), event) => {
                let step = link.complete(net, event);
                self.follow(net, step)
            }
            (_, _) => None,
        }
    }

    /// Does what the time demands.
    pub fn tick(&mut self, net: &mut Net<'_>) -> Option<News> {
        let step = match &mut self.state {
            State::Down => return None,
            State::Dialling(dialling) => {
                dialling.race.tick(net);
                return None;
            }
            State::Up(link) => link.tick(net),
        };
        self.follow(net, step)
    }

    /// When [`Line::tick`] has something to do.
    pub fn due(&self) -> Option<Moment> {
        match &self.state {
            State::Down => None,
            State::Dialling(dialling) => dialling.race.due(),
            State::Up(link) => link.due(),
        }
    }

    /// Gives the connection up, whatever it does; the request that was under way, if its bytes are here.
    pub fn close(&mut self, net: &mut Net<'_>) -> Option<Request> {
        match mem::take(&mut self.state) {
            State::Down => None,
            State::Dialling(dialling) => {
                dialling.race.give_up(net);
                None
            }
            State::Up(link) => link.leave(net),
        }
    }

    /// Whether this connection is one of the line's.
    pub fn owns(&self, conn: Conn) -> bool {
        match &self.state {
            State::Down => false,
            State::Dialling(dialling) => dialling.race.has(conn),
            State::Up(link) => link.conn() == conn,
        }
    }

    /// Whether there is neither a connection nor one to come.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    /// Since when the line has had nothing to do; `None` if it has.
    pub fn idle_since(&self) -> Option<Moment> {
        self.link()?.idle_since()
    }

    /// Whether the line stands.
    pub fn is_up(&self) -> bool {
        self.link().is_some_and(Link::is_up)
    }

    /// The request that is under way.
    pub fn request(&self) -> Option<&Request> {
        self.link()?.request()
    }

    fn link(&self) -> Option<&Link> {
        match &self.state {
            State::Up(link) => Some(link),
            _ => None,
        }
    }

    fn follow(&mut self, net: &mut Net<'_>, step: Step) -> Option<News> {
        match step {
            Step::Stay => None,
            Step::Say(news) => Some(news),
            Step::Leave(news) => {
                if let State::Up(link) = mem::take(&mut self.state) {
                    let request = link.leave(net);
                    debug_assert!(request.is_none(), "a request that ends is taken out first");
                }
                news
            }
        }
    }
}
