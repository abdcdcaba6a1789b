//! How large the queues must be: the documented formula, as a function.

use std::time::Duration;

/// What a service does at its peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests a second.
    pub peak_rps: f64,
    /// Spans of one request.
    pub spans_per_request: f64,
    /// Bytes of one span on the wire; [`Load::RECORD_BYTES`] is a server span with five attributes.
    pub record_bytes: u32,
    /// The longest time between two visits of the drain: one second by the engine's own worker. (It is not
    /// [`Export::schedule_delay`](crate::Export::schedule_delay), the longest that a batch waits to be filled.)
    pub drain_interval: Duration,
    /// How long the collector may be away without loss, and how long it is then until it is tried again: attempts are
    /// up to 5 s apart, or what the collector asks for, at most 30 s. Add that.
    pub outage: Duration,
    /// Spans of the peak that are open at the same time.
    pub live_spans: u32,
}

impl Load {
    /// The usual case: server spans with five attributes, drained by the engine's own worker, of requests that take a
    /// tenth of a second, and no outage. For others: `Load { outage, ..Load::new(peak_rps, spans_per_request) }`.
    #[must_use]
    pub fn new(peak_rps: f64, spans_per_request: f64) -> Self {
        let open = whole(peak_rps * spans_per_request / 10.0);
        Self {
            peak_rps,
            spans_per_request,
            record_bytes: Self::RECORD_BYTES,
            drain_interval: Duration::from_secs(1),
            outage: Duration::ZERO,
            live_spans: u32::try_from(open).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of a server span with five short attributes (W1 of the benches), rounded up.
    pub const RECORD_BYTES: u32 = 280;
}

/// What the load asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizing {
    /// Spans that the queues must hold.
    pub spans: u64,
    /// Bytes that the rings must have together.
    pub ring_bytes: u64,
    /// The `memory_budget` to set. Above 16 GiB no engine starts: sample, or let a collector on the same host bear the
    /// outage.
    pub memory_budget: usize,
}

/// Spare room above the mean: arrivals come in bursts, and the drain may be late.
const HEADROOM: f64 = 1.5;
/// What a record takes in a ring in addition to its bytes on the wire: frame, head, a root's empty parent, and
/// rounding. Measured: 13 to 20 bytes for a child, 23 to 31 for a root.
const FRAME_BYTES: u32 = 32;
/// Enough for an engine of any number of lanes.
const BUDGET_MIN: u64 = 4 << 20;
/// From here on what requests take is in proportion to the budget; below, it may be more.
const TIGHT_BUDGET_MIN: u64 = 16 << 20;
/// Bytes of a block for an open span.
const BLOCK_BYTES: u64 = 640;

/// Sizes the queues: `spans = peak_rps × spans_per_request × drain_interval × 1.5`, plus `rate × outage`.
///
/// One thread reaches eight rings: where more lanes than that serve a load that few threads make, set `lanes` to eight.
///
/// Bytes are spans times record bytes. The budget is eight fifths of the rings, which are a power of two (up to half of
/// them may stay unused), or more where so many spans are open, or where it is small.
///
/// ```
/// use std::time::Duration;
/// use spanring::{Load, size};
///
/// // 1,000 requests/s × 5 spans × 5 s = 25,000, × 1.5 = 37,500 spans, for a program that drains every five seconds:
/// let load = Load { drain_interval: Duration::from_secs(5), ..Load::new(1_000.0, 5.0) };
/// let sizing = size(&load);
/// assert_eq!(sizing.spans, 37_500);
/// assert_eq!(sizing.ring_bytes, 37_500 * (280 + 32)); // 11.2 MiB, in rings of 16 MiB together
/// assert_eq!(sizing.memory_budget.div_ceil(1 << 20), 26); // MiB
///
/// // The engine's own worker comes every second: 7,500 spans, and 8 MiB.
/// let sizing = size(&Load::new(1_000.0, 5.0));
/// assert_eq!((sizing.spans, sizing.memory_budget), (7_500, 8 << 20));
/// ```
#[must_use]
pub fn size(load: &Load) -> Sizing {
    let rate = (load.peak_rps * load.spans_per_request).max(0.0);
    let waiting = rate * load.drain_interval.as_secs_f64() * HEADROOM + rate * load.outage.as_secs_f64();
    let spans = whole(waiting);
    let ring_bytes = spans.saturating_mul(u64::from(load.record_bytes.saturating_add(FRAME_BYTES)));
    let rings = ring_bytes.checked_next_power_of_two().unwrap_or(u64::MAX / 4);
    let live = u64::from(load.live_spans).saturating_mul(BLOCK_BYTES);
    let memory_budget = budget(rings, live);
    Sizing { spans, ring_bytes, memory_budget: usize::try_from(memory_budget).unwrap_or(usize::MAX) }
}

/// The least budget that gives rings of these bytes, and room for open spans of these.
fn budget(rings: u64, live: u64) -> u64 {
    // Rings have at most five eighths of a budget, and open spans then a sixth at least.
    let tight = rings.saturating_mul(8).div_ceil(40) * 8;
    if tight >= TIGHT_BUDGET_MIN && live.saturating_mul(8) <= tight {
        return tight;
    }
    let roomy = rings.saturating_mul(2).max(live.saturating_mul(4)).max(BUDGET_MIN);
    // Where the rings would take more than half, there is too little left for the open spans.
    let most = 1u64.checked_shl((roomy / 8 * 5).max(1).ilog2()).unwrap_or(0);
    roomy.max(most.saturating_mul(2))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates, which is meant")]
fn whole(value: f64) -> u64 {
    value.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Export};

    #[test]
    fn formula_is_the_documented_one() {
        let load = Load {
            peak_rps: 1000.0,
            spans_per_request: 8.0,
            record_bytes: 280,
            drain_interval: Duration::from_millis(500),
            outage: Duration::from_secs(2),
            live_spans: 100,
        };
        let sizing = size(&load);
        assert_eq!(sizing.spans, 8000 / 2 * 3 / 2 + 16_000);
        assert_eq!(sizing.ring_bytes, 22_000 * 312);
        assert_eq!(sizing.memory_budget, 16 << 20);
    }

    /// 281 MB of spans took 1 GiB.
    #[test]
    fn budget_is_eight_fifths_of_the_rings() {
        let sizing = size(&Load { outage: Duration::from_secs(60), ..Load::new(3_000.0, 4.88) });
        assert_eq!(sizing.ring_bytes / 1_000_000, 280);
        assert_eq!(sizing.memory_budget.div_ceil(1 << 20), 820);
    }

    /// Up to four rings of the largest size, an engine of that budget has the rings, and four blocks for three open
    /// spans.
    #[test]
    fn budget_has_the_rings_and_the_open_spans() {
        for rings in (12..=32).map(|log| 1_u64 << log) {
            for live in (0..34).map(|log| 3_u64 << log) {
                let memory_budget = usize::try_from(budget(rings, live)).unwrap();
                for export in [None, Some(Export { connections_max: 16, ..Export::default() })] {
                    let config = Config { memory_budget, lanes: Some(4), export, ..Config::default() };
                    let Ok(shape) = config.shape() else {
                        assert!(!(8 << 20..=16 << 30).contains(&memory_budget), "{memory_budget}");
                        continue;
                    };
                    let of_rings = (shape.ring_bytes * shape.lanes) as u64;
                    assert!(of_rings >= rings, "{of_rings} of {rings} bytes, {live}");
                    let is_small = memory_budget < 16 << 20;
                    assert!(is_small || shape.arena_bytes as u64 >= live / 3 * 4, "{shape:?} for {rings} and {live}");
                }
            }
        }
    }

    #[test]
    fn absurd_loads_saturate() {
        let load = Load {
            peak_rps: f64::INFINITY,
            spans_per_request: 1e300,
            record_bytes: u32::MAX,
            drain_interval: Duration::MAX,
            outage: Duration::MAX,
            live_spans: u32::MAX,
        };
        assert_eq!(size(&load).spans, u64::MAX);
        assert_eq!(size(&Load { peak_rps: f64::NAN, ..load }).memory_budget, u32::MAX as usize * 640 * 4);
    }
}
