//! The addresses of the peer: known from the start, or looked up by name, and again once they are old.

use std::time::Duration;

use super::{
    super::driver::{Address, Moment, Resolver},
    route::Route,
};

/// Where the peer is.
#[derive(Debug)]
pub(super) struct Addresses {
    known: Vec<Address>,
    /// When they were looked up; `None` for those that need no looking up.
    looked_up: Option<Moment>,
    /// `None` where the route names an address: that never goes to the resolver.
    pub(super) resolver: Option<Resolver>,
    /// When the resolver was asked for what it has not answered yet.
    asked: Option<Moment>,
}

/// Addresses that are older are looked up again before the next connection: a service may have moved.
pub(super) const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(60);
/// How long a name may take to look up. The system's own patience is longer, and one that hangs must not be waited for.
pub(super) const LOOK_UP_MAX: Duration = Duration::from_secs(10);

impl Addresses {
    /// Of the peer of this route. A name is looked up with `resolver`.
    pub(super) fn new(route: &Route, resolver: Resolver) -> Self {
        let (known, resolver) = match route.literal() {
            Some(known) => (known, None),
            None => (vec![], Some(resolver)),
        };
        Self { known, looked_up: None, resolver, asked: None }
    }

    /// The addresses to connect to; `None` if the resolver has to answer first, which it is asked to.
    pub(super) fn ask(&mut self, route: &Route, now: Moment) -> Option<&[Address]> {
        let is_old = self.looked_up.is_some_and(|at| now.since(at) > ADDRESSES_AGE_MAX);
        if let Some(resolver) = &mut self.resolver
            && (is_old || self.known.is_empty())
        {
            let (host, port) = route.peer();
            resolver.ask(host, port);
            self.asked = Some(now);
            return None;
        }
        Some(&self.known)
    }

    /// Takes the resolver's answer, if there is one by now.
    ///
    /// # Errors
    ///
    /// When the name leads nowhere, or the answer takes too long.
    pub(super) fn take_answer(&mut self, route: &Route, now: Moment) -> Result<(), String> {
        let Some(answer) = self.resolver.as_mut().and_then(Resolver::answer) else {
            if self.due().is_none_or(|due| now < due) {
                return Ok(());
            }
            self.asked = None;
            let (host, seconds) = (route.peer().0, LOOK_UP_MAX.as_secs());
            return Err(format!("no name server says where {host} is within {seconds} s: check this machine's DNS"));
        };
        self.asked = None;
        match answer {
            Ok(addresses) => {
                self.known = addresses.into_iter().map(Address::Tcp).collect();
                self.looked_up = Some(now);
            }
            // Better old addresses than none: those that lead nowhere any more are forgotten once that is seen.
            Err(_) if !self.known.is_empty() => self.looked_up = Some(now),
            Err(why) => return Err(why),
        }
        Ok(())
    }

    /// Forgets what was looked up: the name may lead elsewhere by now.
    pub(super) fn forget(&mut self) {
        if self.resolver.is_some() {
            self.known.clear();
        }
    }

    /// Whether the resolver has been asked, and has not answered yet.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// When the resolver must have answered.
    pub(super) fn due(&self) -> Option<Moment> {
        self.asked.map(|asked| asked.after(LOOK_UP_MAX))
    }
}
