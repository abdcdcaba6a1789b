//! The part of the library that the models run, made of the library's own files. Each mutant compiles it again, and the
//! whole library takes ten times as long.

#![allow(dead_code, unused_imports, missing_docs, reason = "the rest of the library uses the rest of it")]

#[path = "../../src/sync/mod.rs"]
mod sync;

#[path = "../../src/lane/mod.rs"]
mod lane;

#[path = "../../src/transport"]
mod transport {
    pub mod driver {
        mod waker;

        pub use waker::{Bell, Waker};
    }
}

#[path = "../../src/engine"]
mod engine {
    pub mod goal;
    pub mod handoff;
    pub mod per_process;
}

#[path = "../../src/sample"]
mod sample {
    pub mod exchange;
}

pub use sync::deadline::Deadline;

/// As in `src/internals.rs`.
pub mod internals {
    pub use crate::{
        engine::{
            goal::Goal,
            handoff::{Asked, Awaited, Handoff},
            per_process::PerProcess,
        },
        lane::{
            Block, Change, Class, Combined, Hold, Lanes, Left, Marks, Offer, Pool, Ring, SeatId, Seats, Shape, Share,
            Shut, Spill, SpillRefusal, Stack, Tally, UNIT, Visit,
        },
        sample::exchange::{Exchange, NotExchanged},
        sync::{AtomicU32, Counter, cpu, fork::ForkWord, latest::Latest, once::SetOnce},
        transport::driver,
    };
}
