//! What the models share: how far loom looks, records that show a tear, and cells that show a second owner.

use std::{
    collections::BTreeSet,
    env, panic, process,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use loom::{
    cell::UnsafeCell,
    model::Builder,
    thread::{self, JoinHandle},
};
use spanring::internals::{AtomicU32, Block, Class, Lanes, Offer, Ring, Shape, Shut, Visit};

/// Bytes of a ring that a model wraps in a few steps: a record has at most one word, so none can tear.
pub const RING_BYTES: usize = 64;
/// Bytes of a ring whose records have two words.
pub const WIDE_RING_BYTES: usize = 128;

/// The generation of a model's process, for rings without lanes.
pub const HERE: u32 = 1;

/// How often a running thread may be stopped for another: two find most bugs, and all models take seconds; with three
/// they take a minute and more, which is for the night. `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS_MAX: usize = 2;
/// Steps of one execution. loom's own bound of 1000 is less than what making an engine's lanes takes.
const BRANCHES_MAX: usize = 20_000;
/// In the environment of a mutant: its first panic ends the process, and nobody waits for the models that find nothing.
pub const FIRST_PANIC_ENDS: &str = "SPANRING_FIRST_PANIC_ENDS";

/// Runs `check` in every order that loom tells apart, and returns what was noted in at least one of them: a model that
/// never comes to the interesting place proves nothing, so each says which places it came to.
///
/// loom's partial-order reduction remembers only the last access to an atomic, so a load can hide an earlier one from
/// it, and with that load the orders that matter. Which are hidden depends on who runs first; hence every order of
/// birth of the threads is a run of its own.
pub fn model(check: impl Fn(&Run) + Send + Sync + 'static) -> Run {
    static HOOK: Once = Once::new();
    HOOK.call_once(end_at_first_panic_if_wanted);
    let mut run = Run::default();
    let check = Arc::new(check);
    while run.order == 0 || run.order < run.orders.load(SeqCst) {
        let mut builder = Builder::new();
        builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
        builder.max_branches = builder.max_branches.max(BRANCHES_MAX);
        let (check, this) = (Arc::clone(&check), run.clone());
        builder.check(move || {
            this.executions.fetch_add(1, SeqCst);
            check(&this);
        });
        run.order += 1;
    }
    println!("{} executions", run.executions.load(SeqCst));
    run
}

fn end_at_first_panic_if_wanted() {
    if env::var_os(FIRST_PANIC_ENDS).is_some() {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            tell(panic);
            process::exit(101);
        }));
    }
}

/// One run of a model: the order in which its threads are born, and what happened. The latter is outside of the model:
/// noting something orders nothing.
#[derive(Clone, Debug, Default)]
pub struct Run {
    order: usize,
    /// How many orders there are. Known once threads were started.
    orders: Arc<AtomicUsize>,
    executions: Arc<AtomicUsize>,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Run {
    /// Runs `first` and `second` in threads of their own, and waits for both.
    pub fn two<S, A, B>(&self, shared: &S, first: impl Role<S, A>, second: impl Role<S, B>) -> (A, B)
    where
        S: Clone + Send + Sync + 'static,
        A: 'static,
        B: 'static,
    {
        self.orders.store(2, SeqCst);
        if self.order == 0 {
            let (first, second) = (start(shared, first), start(shared, second));
            (end(first), end(second))
        } else {
            let (second, first) = (start(shared, second), start(shared, first));
            (end(first), end(second))
        }
    }

    /// Runs three roles in threads of their own, and waits for all.
    pub fn three<S, A, B, C>(
        &self,
        shared: &S,
        first: impl Role<S, A>,
        second: impl Role<S, B>,
        third: impl Role<S, C>,
    ) -> (A, B, C)
    where
        S: Clone + Send + Sync + 'static,
        A: 'static,
        B: 'static,
        C: 'static,
    {
        const ORDERS: [[u8; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]];
        self.orders.store(ORDERS.len(), SeqCst);
        let (mut first, mut second, mut third) = (Some(first), Some(second), Some(third));
        let (mut a, mut b, mut c) = (None, None, None);
        for role in ORDERS[self.order] {
            match role {
                0 => a = first.take().map(|role| start(shared, role)),
                1 => b = second.take().map(|role| start(shared, role)),
                _ => c = third.take().map(|role| start(shared, role)),
            }
        }
        let started = "each order has every role";
        (end(a.expect(started)), end(b.expect(started)), end(c.expect(started)))
    }

    /// Notes that an execution came here.
    pub fn note(&self, what: impl ToString) {
        self.seen.lock().expect("loom runs one thread at a time").insert(what.to_string());
    }

    /// Fails unless all of these were noted.
    pub fn expect<T: ToString>(&self, expected: impl IntoIterator<Item = T>) {
        let seen = self.seen.lock().expect("loom runs one thread at a time");
        for what in expected {
            assert!(seen.contains(&what.to_string()), "no execution came to {:?}, only to {seen:?}", what.to_string());
        }
    }
}

/// What a thread of a model does with what is shared.
pub trait Role<S, R>: FnOnce(&S) -> R + 'static {}

impl<S, R, F: FnOnce(&S) -> R + 'static> Role<S, R> for F {}

fn start<S: Clone + Send + Sync + 'static, R: 'static>(shared: &S, role: impl Role<S, R>) -> JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || role(&shared))
}

fn end<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("a panic ends the model before it comes here")
}

/// Values of which each is touched by one thread at a time. loom fails the model when two threads are in one of them,
/// or when the second has not seen what the first did.
#[derive(Debug)]
pub struct Cells<T>(Vec<UnsafeCell<T>>);

// SAFETY: loom checks every access, and fails before a second thread has the value.
unsafe impl<T: Send> Sync for Cells<T> {}

impl<T: Clone> Cells<T> {
    /// `count` cells with `value` in each.
    #[must_use]
    pub fn new(count: usize, value: &T) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(value.clone())).collect())
    }

    /// Changes what is in cell `index`, as its only owner.
    pub fn change<R>(&self, index: usize, change: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: loom has checked that nobody else has the place.
        self.0[index].with_mut(|value| change(unsafe { &mut *value }))
    }
}

impl<T: Clone> Cells<T> {
    /// What is in cell `index`. Several threads may look at the same time.
    #[must_use]
    pub fn look(&self, index: usize) -> T {
        // SAFETY: loom has checked that nobody changes it.
        self.0[index].with(|value| unsafe { (*value).clone() })
    }
}

/// Who wrote a record, and which of theirs it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Stamp {
    /// The writer.
    pub writer: u32,
    /// The writer's own count of offers.
    pub number: u32,
}

impl Stamp {
    /// The `number`th record of `writer`.
    #[must_use]
    pub fn new(writer: u32, number: u32) -> Self {
        Self { writer, number }
    }

    /// Fills `bytes` with words that each tell the whole stamp, and which word they are.
    pub fn fill(self, bytes: &mut [u8]) {
        for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.word(index).to_ne_bytes());
        }
    }

    /// The stamp that `bytes` were filled with. Panics when the words are not of one stamp.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let words: Vec<u64> =
            bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))).collect();
        let first = words.first().copied().expect("a record has a word");
        let (writer, number) = (first >> 32, first & 0xFFFF_FFFF);
        let stamp = Self::new(writer.try_into().expect("32 bits"), number.try_into().expect("32 bits"));
        for (index, word) in words.iter().enumerate() {
            assert_eq!(*word, stamp.word(index), "word {index} of {words:x?} is another record's");
        }
        stamp
    }

    fn word(self, index: usize) -> u64 {
        let plain = u64::from(self.writer) << 32 | u64::from(self.number);
        if index.is_multiple_of(2) { plain } else { !plain }
    }
}

/// What became of a record that was offered to one ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is in the ring.
    Accepted,
    /// The ring was full.
    Full,
    /// The ring was not entered.
    Shut(Shut),
}

/// Offers a record of `len` bytes to `ring`, as a span's end does: at once where the last look at the ring left room,
/// else by the way that looks.
pub fn offer(ring: &Ring, stamp: Stamp, len: usize) -> Answer {
    let fill = |bytes: &mut [u8]| stamp.fill(&mut bytes[..len]);
    if let Some(claim) = ring.enter(HERE).ok().and_then(|lease| lease.claim_at_once(len)) {
        claim.publish(fill);
        return Answer::Accepted;
    }
    match ring.enter(HERE) {
        Ok(lease) => match lease.claim(len) {
            Some(claim) => {
                claim.publish(fill);
                Answer::Accepted
            }
            None => Answer::Full,
        },
        Err(shut) => Answer::Shut(shut),
    }
}

/// Reads what is published in `ring` now. Only one thread of a model reads a ring at a time.
pub fn read(ring: &Ring) -> Vec<Stamp> {
    let mut stamps = vec![];
    let mut visit = |bytes: &[u8]| {
        stamps.push(Stamp::read(bytes));
        Visit::Next
    };
    // SAFETY: the models keep to one reader at a time, and loom's cells would show the second.
    let (count, _) = unsafe { ring.read(u64::MAX, &mut visit) };
    assert_eq!(count, stamps.len());
    stamps
}

/// Fails unless `stamps` holds each writer's records in the order in which they were offered, and none twice.
pub fn check_order(stamps: &[Stamp]) {
    for (at, later) in stamps.iter().enumerate() {
        for earlier in stamps[..at].iter().filter(|earlier| earlier.writer == later.writer) {
            assert!(earlier.number < later.number, "{later:?} came after {earlier:?}");
        }
    }
}

/// A table of links for `count` items of a stack.
#[must_use]
pub fn links(count: usize) -> Arc<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// Lanes with as many rings, and as many blocks, all of which may be spilled.
#[must_use]
pub fn lanes(rings: usize, ring_bytes: usize, blocks: usize) -> Arc<Lanes<()>> {
    let arena_bytes = blocks * Class::First.bytes();
    let shape = Shape { lanes: rings, ring_bytes, arena_bytes, spill_bytes: arena_bytes, seats: 1 };
    Lanes::new(shape, ()).expect("there is memory for a few blocks")
}

/// Offers a record of `len` bytes to the rings of `lanes`, as a span's end does: to the first at once, else to all of
/// them by the way that looks.
pub fn offer_to(lanes: &Lanes<()>, hint: usize, stamp: Stamp, len: usize) -> Offer {
    let fill = |bytes: &mut [u8]| stamp.fill(&mut bytes[..len]);
    if let Some(claim) = lanes.ring(hint).enter(lanes.generation()).ok().and_then(|lease| lease.claim_at_once(len)) {
        claim.publish(fill);
        return Offer::Queued { tries: 1 };
    }
    lanes.offer(hint, len, fill)
}

/// Writes `stamp` into the image of `block`, as a record of `len` bytes.
pub fn fill<Owner>(block: &mut Block<Owner>, stamp: Stamp, len: usize) {
    let (_, image, _) = block.open();
    stamp.fill(&mut image[..len]);
}
