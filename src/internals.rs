//! Names for the benches, the fuzz targets and the loom models of this repository. Not stable, not for users.

pub use crate::{
    lane::{
        Block, Claim, Class, Combined, Hold, Lanes, Lease, Left, Local, Marks, Offer, Pool, Reader, Ring, SeatId,
        Seats, Shape, Shut, Spill, SpillRefusal, Stack, Tally, UNIT, Visit,
    },
    record::{Draft, Finish, Full, Ids, LinkTarget, Record, Stamp, Timeline},
    sync::{AtomicU32, AtomicU64, Counter, cell::UnsafeCell, cpu, fork::ForkWord, ticks},
    transport::{driver, tls},
};

/// The ring of `engine` that a thread comes to first when its hint is `hint`: to park a thread in it.
#[must_use]
pub fn ring(engine: &crate::Engine, hint: usize) -> &Ring {
    engine.core().ring(hint)
}
