//! Names for the benches, the fuzz targets and the loom models of this repository. Not stable, not for users.

pub use crate::{
    config::VARIABLES,
    engine::{Asked, Awaited, Goal, Handoff, PerProcess},
    lane::{
        Alarm, Block, Change, Claim, Class, Combined, Hold, Home, Lanes, Lease, Left, Marks, Offer, Pool, Reader, Ring,
        Seat, SeatId, Seats, Shape, Share, Shut, Spill, SpillRefusal, Stack, Tally, UNIT, Visit,
    },
    record::{Draft, Finish, Full, Ids, LinkTarget, Record, Stamp, Timeline},
    sample::{Exchange, NotExchanged},
    sync::{
        AtomicU32, AtomicU64, Counter, cell::UnsafeCell, cpu, fork::ForkWord, latest::Latest, once::SetOnce, ticks,
    },
    transport::{driver, tls},
};

/// Takes the lease of the ring of `engine` that a thread comes to first when its hint is `hint`: to park a thread in
/// it.
///
/// # Errors
///
/// When the ring is held or closed now.
pub fn enter(engine: &crate::Engine, hint: usize) -> Result<Lease<'_>, Shut> {
    let lanes = engine.lanes();
    lanes.ring(hint).enter(lanes.generation())
}

/// Requests and the collector's answers.
pub mod otlp {
    pub use crate::otlp::{
        Accepted, MESSAGE_BYTES_MAX, Malformed, Resource, Run, ScopeHead, accepted, enclose, span_count, split,
        status_message,
    };
}

/// Exchanges with a collector.
pub mod transport {
    pub use crate::transport::{
        client::{
            backoff::Backoff,
            endpoint::{Endpoint, EndpointError, EndpointFault},
            proxy::{self, Proxy, ProxyError},
            route::Route,
            verdict::{Verdict, classify},
        },
        http::{
            compression::{Coding, Compression, Compressor, UnknownCompression, decompress},
            head::{RequestHead, UserAgent},
            headers::{HeaderError, HeaderFault, Headers},
            http1::{BODY_BYTES_KEPT, BODY_BYTES_MAX, Progress, Reply, ReplyError, ReplyReader},
            retry_after::RetryAfter,
        },
    };
}

/// Makes the worker of `engine` panic at its next turn.
pub fn fail_worker(engine: &crate::Engine) {
    engine.fail_worker();
}

/// Runs `work` while this thread holds every lock of the export of `engine`.
pub fn with_locks_held<R>(engine: &crate::Engine, work: impl FnOnce() -> R) -> R {
    engine.with_locks_held(work)
}
