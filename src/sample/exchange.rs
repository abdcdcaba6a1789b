//! What is exchanged while others look at it: readers neither wait nor write, and what was replaced stays.

use std::{error::Error, fmt};

use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    once::SetOnce,
};

/// A number below [`Exchange::FIRST`], or a value: the one that was set last. One word says which, so a look finds the
/// one or the other, never a mixture.
#[derive(Debug)]
pub struct Exchange<T> {
    /// A number, or `FIRST` and the index of a value. Written by `set` and `close`, read by every look.
    word: AtomicU32,
    /// The values, in the order in which they were set. They stay until the end: a reader may still have them.
    values: Box<[SetOnce<T>]>,
}

impl<T> Exchange<T> {
    /// Numbers are below this.
    pub const FIRST: u32 = 16;

    /// An exchange that begins with a number, and has room for so many values.
    #[must_use]
    pub fn new(number: u32, values_max: usize) -> Self {
        debug_assert!(number < Self::FIRST, "a number stays below the values");
        let values = (0..values_max).map(|_| SetOnce::new()).collect();
        Self { word: AtomicU32::new(number), values }
    }

    /// Makes a number or a value the last one, unless `closed` is: then nothing follows.
    ///
    /// # Errors
    ///
    /// When `closed` is set, or there is no room for a value.
    pub fn set(&self, next: Result<u32, T>, closed: u32) -> Result<(), NotExchanged> {
        let next = match next {
            Ok(number) => number,
            Err(value) => self.place(value).ok_or(NotExchanged::Spent)?,
        };
        // ORDERING: Relaxed. Only a guess, which the exchange confirms.
        let mut seen = self.word.load(Relaxed);
        while seen != closed {
            // ORDERING: [sampler] Release. Who sees the index finds the value in its place.
            match self.word.compare_exchange(seen, next, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => seen = newer,
            }
        }
        Err(NotExchanged::ShutDown)
    }

    /// Makes a number the last one, for ever.
    pub fn close(&self, closed: u32) {
        // ORDERING: Relaxed. A number says nothing of other memory.
        self.word.swap(closed, Relaxed);
    }

    /// The number, or something else above all numbers, in one plain look.
    #[inline(always)]
    #[must_use]
    pub fn number(&self) -> u32 {
        // ORDERING: Relaxed. As in `close`.
        self.word.load(Relaxed)
    }

    /// The number or the value. The latter is in its place before the word says so.
    pub fn get(&self) -> Result<u32, Option<&T>> {
        // ORDERING: [sampler] Acquire. The value is found in its place.
        let word = self.word.load(Acquire);
        match word.checked_sub(Self::FIRST) {
            None => Ok(word),
            Some(index) => Err(self.values.get(index as usize).and_then(SetOnce::get)),
        }
    }

    /// Puts a value into the first free place; the word for it.
    fn place(&self, mut value: T) -> Option<u32> {
        for (word, place) in (Self::FIRST..).zip(&self.values) {
            match place.set(value) {
                Ok(()) => return Some(word),
                Err(back) => value = back,
            }
        }
        None
    }
}

/// Why a sampler was not exchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NotExchanged {
    /// An engine takes 64 samplers of the program, all of which stay until its end. Give one that can be adjusted.
    Spent,
    /// The engine has shut down.
    ShutDown,
}

impl fmt::Display for NotExchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spent => {
                "this engine has had 64 samplers, and keeps them all: give it one whose settings can be changed"
            }
            Self::ShutDown => "the engine has shut down, and starts no more spans",
        })
    }
}

impl Error for NotExchanged {}
