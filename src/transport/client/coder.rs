//! How bodies are coded for one collector: as the user wants, until the collector declines that.

use super::{
    super::http::compression::{Coding, Compression, Compressor},
    route::Route,
};

/// Codes bodies, and knows what the collector does not take.
#[derive(Debug)]
pub(super) struct Coder {
    compression: Compression,
    compressor: Compressor,
    /// The coding that the collector has declined.
    declined: Option<Coding>,
    /// The same, until it is told.
    news: Option<Coding>,
}

impl Coder {
    /// A coder whose collector takes everything, as far as is known.
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, compressor: Compressor::default(), declined: None, news: None }
    }

    /// Appends `body`, coded so.
    pub(super) fn code(&mut self, coding: Coding, body: &[u8], out: &mut Vec<u8>) {
        self.compressor.compress(coding, body, out);
    }

    /// Notes that the collector does not take this coding; false if there is no other to take its place.
    pub(super) fn decline(&mut self, coding: Coding) -> bool {
        let has_substitute = coding.substitute().is_some();
        if has_substitute && self.declined != Some(coding) {
            self.declined = Some(coding);
            self.news = self.declined;
            // A state that is of no more use is not kept.
            self.compressor = Compressor::default();
        }
        has_substitute
    }

    /// The coding that was declined, once.
    pub(super) fn take_declined(&mut self) -> Option<Coding> {
        self.news.take()
    }

    /// How a body of this length is coded on this route.
    pub(super) fn coding(&self, route: &Route, body_len: usize) -> Coding {
        let wanted = route.coding(self.compression, body_len);
        self.instead_of(wanted).unwrap_or(wanted)
    }

    /// What takes the place of this coding, if the collector has declined it.
    pub(super) fn instead_of(&self, coding: Coding) -> Option<Coding> {
        self.declined.filter(|declined| *declined == coding)?.substitute()
    }
}
