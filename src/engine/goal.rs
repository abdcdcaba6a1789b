//! The worker's side of a flush: what it has to reach, how far that is, and whom it answers. The models run this code.

use super::handoff::{Asked, Handoff};

/// The flush that a worker is at. Those that are asked for meanwhile are served together by the next.
#[derive(Debug)]
pub struct Goal<Marks> {
    /// The last flush that was asked for. Its caller may wait for the end of another, and hurries what that waits for.
    heard: u64,
    flush: Option<Flush<Marks>>,
}

#[derive(Debug)]
struct Flush<Marks> {
    /// Flushes up to this one are done with it.
    number: u64,
    stage: Stage<Marks>,
}

#[derive(Debug)]
enum Stage<Marks> {
    /// What ended before these marks is not all in requests.
    Gathering(Marks),
    /// It is in requests up to this one.
    Sending(u64),
}

impl<Marks> Goal<Marks> {
    /// Takes up a flush that is asked for, unless one is under way; `marks` says what it has to reach. Whether this is
    /// the first that is heard of the last caller.
    pub fn heed(&mut self, asked: Asked, marks: impl FnOnce() -> Marks) -> bool {
        if !asked.wants_flush {
            return false;
        }
        if self.flush.is_none() {
            self.flush = Some(Flush { number: asked.flush, stage: Stage::Gathering(marks()) });
        }
        let is_news = asked.flush > self.heard;
        self.heard = asked.flush;
        is_news
    }

    /// Whether a flush is under way.
    pub fn is_set(&self) -> bool {
        self.flush.is_some()
    }

    /// What is still to be gathered, if anything.
    pub fn marks(&self) -> Option<&Marks> {
        match &self.flush {
            Some(Flush { stage: Stage::Gathering(marks), .. }) => Some(marks),
            _ => None,
        }
    }

    /// Says that all below the marks is in requests up to this one.
    pub fn gathered(&mut self, last: u64) {
        if let Some(Flush { stage: stage @ Stage::Gathering(_), .. }) = &mut self.flush {
            *stage = Stage::Sending(last);
        }
    }

    /// Answers the flush that is under way once its last request has ended; whether it did. `oldest` is the oldest
    /// request that has not.
    pub fn reach(&mut self, handoff: &Handoff, oldest: Option<u64>) -> bool {
        if let Some(Flush { number, stage: Stage::Sending(last) }) = self.flush
            && oldest.is_none_or(|oldest| oldest > last)
        {
            self.flush = None;
            handoff.flushed(number);
            return true;
        }
        false
    }
}

impl<Marks> Default for Goal<Marks> {
    fn default() -> Self {
        Self { heard: 0, flush: None }
    }
}
