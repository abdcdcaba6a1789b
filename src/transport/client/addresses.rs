//! The addresses of the peer: known from the start, or looked up by name, and again once they are old or lead nowhere.

use std::{mem, time::Duration};

use super::{
    super::driver::{Address, Moment, Resolver},
    connection::Change,
    dial::NoConnection,
    exchange::ExchangeEnd,
    route::Route,
    verdict::may_fare_better_elsewhere,
};

/// Where the peer is.
#[derive(Debug)]
pub(super) struct Addresses {
    /// In the order in which they are to be tried. They stay until there is a better answer.
    known: Vec<Address>,
    /// The one that took a request last. It goes first, also when the name is looked up again.
    favourite: Option<Address>,
    /// When they were looked up; `None` if that is to be done before the next connection.
    looked_up: Option<Moment>,
    /// Why the last lookup brought nothing, where older addresses are used.
    doubt: Option<String>,
    /// `None` where the route names an address: that never goes to the resolver.
    pub(super) resolver: Option<Resolver>,
    /// Whether the resolver has a question that it has not answered. It is asked nothing else before it has.
    is_out: bool,
    /// Since when a connection waits for the answer. One that comes too late for it is taken as well.
    waits_since: Option<Moment>,
    /// How long it waits if there are older addresses.
    fall_back_after: Duration,
}

/// Addresses that are older are looked up again before the next connection: a service may have moved.
pub(super) const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(60);
/// How long the first lookup may take before it is called a failure. The system's own patience is often longer.
pub(super) const LOOK_UP_MAX: Duration = Duration::from_secs(10);
/// How long a connection waits for an answer if there are older addresses, and nobody waits for the connection: longer
/// than nearly every lookup takes.
pub(super) const FALL_BACK_AFTER: Duration = Duration::from_secs(1);

impl Addresses {
    /// Of the peer of this route. A name is looked up with `resolver`.
    pub(super) fn new(route: &Route, resolver: Resolver) -> Self {
        let (known, resolver) = match route.literal() {
            Some(known) => (known, None),
            None => (vec![], Some(resolver)),
        };
        Self {
            known,
            favourite: None,
            looked_up: None,
            doubt: None,
            resolver,
            is_out: false,
            waits_since: None,
            fall_back_after: FALL_BACK_AFTER,
        }
    }

    /// The addresses to connect to; `None` if the resolver has to answer first, which it is asked to.
    pub(super) fn ask(&mut self, route: &Route, now: Moment) -> Option<&[Address]> {
        let is_fresh = self.looked_up.is_some_and(|at| now.since(at) <= ADDRESSES_AGE_MAX);
        if let Some(resolver) = self.resolver.as_mut().filter(|_| !is_fresh && !self.is_out) {
            let (host, port) = route.peer();
            resolver.ask(host, port);
            self.is_out = true;
            self.waits_since = Some(now);
        }
        (!self.is_asking()).then_some(&self.known)
    }

    /// Takes the resolver's answer, if there is one by now; whether that has addresses that were not known.
    ///
    /// # Errors
    ///
    /// When no address is known, and the name leads nowhere, or the answer takes too long.
    pub(super) fn take_answer(&mut self, route: &Route, now: Moment) -> Result<bool, String> {
        let why = match self.resolver.as_mut().and_then(Resolver::answer) {
            None if self.due().is_none_or(|due| now < due) => return Ok(false),
            None => {
                let host = route.peer().0;
                let within = match self.known.is_empty() {
                    true => format!(" within {} s", LOOK_UP_MAX.as_secs()),
                    false => String::new(),
                };
                format!("no name server says where {host} is{within}: check this machine's DNS")
            }
            Some(answer) => {
                self.is_out = false;
                self.looked_up = Some(now);
                match answer {
                    Ok(addresses) => {
                        let addresses = addresses.into_iter().map(Address::Tcp).collect();
                        let before = mem::replace(&mut self.known, addresses);
                        self.favour();
                        (self.waits_since, self.doubt) = (None, None);
                        return Ok(self.known.iter().any(|address| !before.contains(address)));
                    }
                    Err(why) => why,
                }
            }
        };
        self.waits_since = None;
        if self.known.is_empty() {
            self.looked_up = None;
            return Err(why);
        }
        // Better old addresses than none.
        self.doubt = Some(why);
        Ok(false)
    }

    /// Learns from what became of a connection to this address.
    pub(super) fn learn(&mut self, address: &Address, change: &Change) {
        match change {
            // A connection that was no longer wanted says nothing of its address.
            Change::Up | Change::Ended(_, ExchangeEnd::Broken { is_stale: true, .. } | ExchangeEnd::Unread(_)) => {}
            Change::Ended(_, ExchangeEnd::Replied(reply)) => match reply.status {
                200..=299 => self.prefer(address),
                _ if may_fare_better_elsewhere(reply) => self.defer(address),
                // What is said of the request, or of this client, is not said of the address.
                _ => {}
            },
            Change::Unreachable(_) | Change::Ended(..) => self.defer(address),
        }
    }

    /// Notes that the peer at this address took a request.
    fn prefer(&mut self, address: &Address) {
        if self.favourite.as_ref() != Some(address) {
            self.favourite = Some(address.clone());
            self.favour();
        }
    }

    /// Notes that an attempt at this address failed after the connect, or was put off: the others go first.
    fn defer(&mut self, address: &Address) {
        self.favourite.take_if(|favourite| favourite == address);
        if let Some(at) = self.known.iter().position(|known| known == address) {
            self.known[at..].rotate_left(1);
        }
    }

    /// Notes that no connection came about: the name may lead elsewhere by now, and is looked up before the next one.
    /// Adds to the reason why what is known may be wrong.
    pub(super) fn doubt(&mut self, failure: &mut NoConnection) {
        self.looked_up = None;
        if let Some(doubt) = &self.doubt {
            failure.why = format!("{}; these addresses are old: {doubt}", mem::take(&mut failure.why));
        }
    }

    /// Falls back on older addresses sooner while somebody waits for a connection, so that it comes in time.
    pub(super) fn shorten(&mut self, pause_max: Option<Duration>) {
        self.fall_back_after = pause_max.map_or(FALL_BACK_AFTER, |max| max.min(FALL_BACK_AFTER));
    }

    /// Whether a connection waits for the resolver.
    pub(super) fn is_asking(&self) -> bool {
        self.is_out && (self.waits_since.is_some() || self.known.is_empty())
    }

    /// When the resolver must have answered.
    pub(super) fn due(&self) -> Option<Moment> {
        self.waits_since.map(|since| since.after(self.patience()))
    }

    fn patience(&self) -> Duration {
        if self.known.is_empty() { LOOK_UP_MAX } else { self.fall_back_after }
    }

    fn favour(&mut self) {
        let is_favourite = |known: &Address| self.favourite.as_ref() == Some(known);
        if let Some(at) = self.known.iter().position(is_favourite) {
            self.known[..=at].rotate_right(1);
        }
    }
}
