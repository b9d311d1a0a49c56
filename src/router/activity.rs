//! When each environment was last asked for, and which could not be reached: marked per request by two stores into memory,
//! told in batches. It must never write anything because of one request.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    router::index::{Index, Owner},
    tasks::Shutdown,
};

const CHUNK: usize = 1 << 16;
const CHUNKS: usize = 1 << 10;
const BITS: usize = 64;

/// Batches of activity are this far apart.
pub const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Nudges about one environment are at least this far apart.
pub const NUDGE_GAP: Duration = Duration::from_secs(10);
/// Environments in one batch.
pub const BATCH_MAX: usize = 1_000;

/// One tenth of a second since the start of the process: 13 years fit.
const TICK_MS: u32 = 100;

#[derive(Debug)]
struct Chunk {
    last: Box<[AtomicU32]>,
    moved: Box<[AtomicU64]>,
    failed: Box<[AtomicU64]>,
}

impl Chunk {
    fn new() -> Self {
        let words = || (0..CHUNK / BITS).map(|_| AtomicU64::new(0)).collect();
        let last = (0..CHUNK).map(|_| AtomicU32::new(0)).collect();
        Self { last, moved: words(), failed: words() }
    }
}

/// Marks by environment number. Marking takes no lock.
#[derive(Debug)]
pub struct Seen {
    clock: Arc<dyn Clock>,
    chunks: Box<[OnceLock<Chunk>]>,
    nudged: Notify,
}

impl Seen {
    /// No marks.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            nudged: Notify::new(),
        }
    }

    /// Makes room for a number.
    pub(super) fn reserve(&self, slot: u32) {
        if let Some(chunk) = self.chunks.get(slot as usize / CHUNK) {
            chunk.get_or_init(Chunk::new);
        }
    }

    /// Clears what a number was marked with.
    pub(super) fn forget(&self, slot: u32) {
        let Some((chunk, index)) = self.at(slot) else { return };
        chunk.last[index].store(0, Ordering::Relaxed);
        let clear = !(1 << (index % BITS));
        chunk.moved[index / BITS].fetch_and(clear, Ordering::Relaxed);
        chunk.failed[index / BITS].fetch_and(clear, Ordering::Relaxed);
    }

    /// Marks that the environment was asked for now.
    pub fn touch(&self, slot: u32) {
        let Some((chunk, index)) = self.at(slot) else { return };
        let now = self.clock.monotonic();
        // In 64 bits: this is done for every request, and `as_millis` makes a division of 128.
        let tick =
            now.as_secs() * u64::from(1_000 / TICK_MS) + u64::from(now.subsec_millis() / TICK_MS);
        chunk.last[index].store(u32::try_from(tick).unwrap_or(u32::MAX), Ordering::Relaxed);
        set(&chunk.moved, index);
    }

    /// Marks that a request to the environment came back.
    pub fn fail(&self, slot: u32) {
        let Some((chunk, index)) = self.at(slot) else { return };
        set(&chunk.failed, index);
        self.nudged.notify_one();
    }

    /// Numbers marked since the last call.
    #[cfg(test)]
    pub(super) fn marked(&self) -> Vec<u32> {
        self.take(|chunk| &chunk.moved).into_iter().map(|(slot, _)| slot).collect()
    }

    fn at(&self, slot: u32) -> Option<(&Chunk, usize)> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.get()?;
        Some((chunk, slot as usize % CHUNK))
    }

    /// Numbers marked since the last call, with the tick of their last request.
    fn take(&self, which: impl Fn(&Chunk) -> &[AtomicU64]) -> Vec<(u32, u32)> {
        let mut taken = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let Some(chunk) = chunk.get() else { break };
            for (word, bits) in which(chunk).iter().enumerate() {
                if bits.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                // Cleared before the time is read: a request in between is told in the next batch.
                let mut bits = bits.swap(0, Ordering::Acquire);
                while bits != 0 {
                    let index = word * BITS + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let last = chunk.last[index].load(Ordering::Relaxed);
                    taken.push((u32::try_from(number * CHUNK + index).unwrap_or(u32::MAX), last));
                }
            }
        }
        taken
    }
}

fn set(words: &[AtomicU64], index: usize) {
    let bit = 1 << (index % BITS);
    // Most requests find it set, and a shared cache line is cheaper to read than to write.
    if words[index / BITS].load(Ordering::Relaxed) & bit == 0 {
        words[index / BITS].fetch_or(bit, Ordering::Release);
    }
}

/// That an environment was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Which.
    pub owner: Owner,
    /// When last, in milliseconds since 1970, to a tenth of a second.
    pub at_unix_ms: i64,
}

/// Why a batch was not taken.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Who is told.
pub trait ActivitySink: Send + Sync {
    /// Takes environments that were asked for, at most [`BATCH_MAX`]. A batch that was not taken is told again.
    fn record(&self, batch: Vec<Activity>) -> BoxFuture<'_, Result<(), SinkError>>;
    /// Takes environments that a request came back from, each at most once in [`NUDGE_GAP`].
    fn nudge(&self, environments: Vec<Owner>) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// Tells a sink what was marked.
pub struct Flusher {
    seen: Arc<Seen>,
    index: Arc<Mutex<Index>>,
    sink: Arc<dyn ActivitySink>,
    nudged: HashMap<Owner, Duration>,
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}

impl Flusher {
    /// A flusher of these marks, named by this index.
    #[must_use]
    pub fn new(seen: Arc<Seen>, index: Arc<Mutex<Index>>, sink: Arc<dyn ActivitySink>) -> Self {
        Self { seen, index, sink, nudged: HashMap::new() }
    }

    /// Flushes every [`FLUSH_EVERY`], and nudges at once, until shutdown; then once more.
    ///
    /// # Errors
    /// Never: a sink that fails is tried again with the next batch.
    pub async fn run(mut self, mut shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(FLUSH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let seen = Arc::clone(&self.seen);
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                () = seen.nudged.notified() => self.flush_nudges().await,
                _ = ticks.tick() => {
                    self.flush().await;
                    self.flush_nudges().await;
                }
            }
        }
        self.flush().await;
        Ok(())
    }

    /// Tells what moved since the last call.
    pub async fn flush(&mut self) {
        let moved = self.seen.take(|chunk| &chunk.moved);
        let now = self.seen.clock.now();
        let monotonic = self.seen.clock.monotonic();
        for slots in moved.chunks(BATCH_MAX) {
            let batch: Vec<_> = {
                let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
                let activity = |&(slot, tick): &(u32, u32)| {
                    let owner = index.owner(slot)?;
                    Some(Activity { owner, at_unix_ms: unix_ms(tick, now, monotonic) })
                };
                slots.iter().filter_map(activity).collect()
            };
            if batch.is_empty() {
                continue;
            }
            if let Err(error) = self.sink.record(batch).await {
                tracing::warn!(error = %error, "activity was not recorded and is kept for the next batch");
                for &(slot, _) in slots {
                    if let Some((chunk, index)) = self.seen.at(slot) {
                        set(&chunk.moved, index);
                    }
                }
            }
        }
    }

    async fn flush_nudges(&mut self) {
        let failed = self.seen.take(|chunk| &chunk.failed);
        if failed.is_empty() {
            return;
        }
        let now = self.seen.clock.monotonic();
        self.nudged.retain(|_, at| now.saturating_sub(*at) < NUDGE_GAP);
        let mut owners: Vec<Owner> = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            failed.iter().filter_map(|&(slot, _)| index.owner(slot)).collect()
        };
        owners.retain(|owner| !self.nudged.contains_key(owner));
        for batch in owners.chunks(BATCH_MAX) {
            self.nudged.extend(batch.iter().map(|owner| (owner.clone(), now)));
            if let Err(error) = self.sink.nudge(batch.to_vec()).await {
                // The next request that comes back nudges again.
                tracing::warn!(error = %error, "a nudge was not taken");
            }
        }
    }
}

fn unix_ms(tick: u32, now: Timestamp, monotonic: Duration) -> i64 {
    let age = monotonic.as_millis().saturating_sub(u128::from(tick) * u128::from(TICK_MS));
    now.as_millisecond().saturating_sub(i64::try_from(age).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Manual,
        router::{fact, packed::Label, table::Table},
    };

    #[derive(Default)]
    struct Sink {
        told: Mutex<Vec<Activity>>,
        nudged: Mutex<Vec<Owner>>,
        refuse: std::sync::atomic::AtomicBool,
    }

    impl ActivitySink for Sink {
        fn record(&self, batch: Vec<Activity>) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async move {
                if self.refuse.load(Ordering::SeqCst) {
                    return Err("no".into());
                }
                self.told.lock().unwrap().extend(batch);
                Ok(())
            })
        }

        fn nudge(&self, owners: Vec<Owner>) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async move {
                self.nudged.lock().unwrap().extend(owners);
                Ok(())
            })
        }
    }

    struct Harness {
        clock: Arc<Manual>,
        seen: Arc<Seen>,
        sink: Arc<Sink>,
        flusher: Flusher,
        slots: Vec<u32>,
    }

    fn harness(environments: u128) -> Harness {
        let clock = Arc::new(Manual::at(Timestamp::from_second(1_000).unwrap()));
        let seen = Arc::new(Seen::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let mut index = Index::new(Arc::new(Table::new()), Arc::clone(&seen));
        let slots = (0..environments)
            .map(|number| {
                index.apply_environment(
                    &fact::Environment {
                        uid: uuid::Uuid::from_u128(number + 1),
                        namespace: "default".to_owned(),
                        name: format!("env-{number}"),
                        labels: vec![Label::of_name("a").unwrap()],
                        public: true,
                        asleep: false,
                        broken: false,
                        deleted: false,
                        bay: None,
                        place: None,
                        epoch: 0,
                    },
                    true,
                )
            })
            .collect();
        let sink = Arc::new(Sink::default());
        let flusher = Flusher::new(
            Arc::clone(&seen),
            Arc::new(Mutex::new(index)),
            Arc::clone(&sink) as Arc<dyn ActivitySink>,
        );
        Harness { clock, seen, sink, flusher, slots }
    }

    #[tokio::test]
    async fn many_requests_are_told_once_with_the_last_time() {
        let mut it = harness(3);
        for _ in 0..100 {
            it.seen.touch(it.slots[1]);
            it.clock.advance(Duration::from_millis(100));
        }
        it.flusher.flush().await;
        it.flusher.flush().await;
        let told = it.sink.told.lock().unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].owner.name.as_str(), told[0].at_unix_ms), ("env-1", 1_009_900));
    }

    #[tokio::test]
    async fn a_batch_that_was_not_taken_is_told_again() {
        let mut it = harness(3);
        it.sink.refuse.store(true, Ordering::SeqCst);
        it.seen.touch(it.slots[2]);
        it.flusher.flush().await;
        it.sink.refuse.store(false, Ordering::SeqCst);
        it.flusher.flush().await;
        assert_eq!(it.sink.told.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nudges_about_one_environment_keep_their_distance() {
        let mut it = harness(2);
        for _ in 0..2 {
            it.seen.fail(it.slots[0]);
            it.flusher.flush_nudges().await;
        }
        assert_eq!(it.sink.nudged.lock().unwrap().len(), 1);
        it.clock.advance(NUDGE_GAP);
        it.seen.fail(it.slots[0]);
        it.seen.fail(it.slots[1]);
        it.flusher.flush_nudges().await;
        assert_eq!(it.sink.nudged.lock().unwrap().len(), 3);
    }
}
