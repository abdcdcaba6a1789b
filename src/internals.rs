//! Names for the benches, the fuzz targets and the loom models of this repository. Not stable, not for users.

pub use crate::{
    lane::{
        Block, Claim, Class, Combined, Hold, Lanes, Lease, Local, Marks, Offer, Pool, Reader, Ring, SeatId, Seats,
        Shape, Shut, Spill, SpillRefusal, Stack, Tally, UNIT,
    },
    record::{Draft, Finish, Full, Ids, LinkTarget, Record, Stamp, Timeline},
    sync::{AtomicU32, AtomicU64, cell::UnsafeCell, cpu, fork::ForkWord, ticks},
};
