//! Fly's rate limits as token buckets: one per action and per object, so that a call waits here instead of being refused
//! there. It must never know what a call does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as Line;

use crate::clock::Clock;

/// One token per `interval`, at most `burst` saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one token grows.
    pub interval: Duration,
    /// Tokens of a full bucket.
    pub burst: u32,
}

impl Rate {
    /// Every action on every object: 1 a second, 3 at once.
    pub const USUAL: Self = Self { interval: Duration::from_secs(1), burst: 3 };
    /// Reading one machine: 5 a second, 10 at once.
    pub const MACHINE_GET: Self = Self { interval: Duration::from_millis(200), burst: 10 };
    /// Deleting apps: Fly allows 100 in a minute. 10 at once and 90 grown after them make 100 in any minute.
    pub const APP_DELETE: Self = Self { interval: Duration::from_micros(666_667), burst: 10 };
}

/// The answer to "may I?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Wait {
    /// Yes; a token was taken.
    None,
    /// Not before this much time has passed; nothing was taken.
    For(Duration),
}

/// A bucket of tokens. Time is passed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// When it will be full again, which says how many tokens it lacks now.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Duration::ZERO }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Duration) -> Wait {
        let full_at = self.full_at.max(now) + self.rate.interval;
        let earliest = full_at.saturating_sub(self.rate.interval * self.rate.burst);
        match earliest.checked_sub(now) {
            None | Some(Duration::ZERO) => {
                self.full_at = full_at;
                Wait::None
            }
            Some(wait) => Wait::For(wait),
        }
    }

    /// Takes a token if one is left in it after that.
    pub fn take_spare(&mut self, now: Duration) -> Wait {
        let before = *self;
        if let wait @ Wait::For(_) = self.take(now) {
            return wait;
        }
        let taken = *self;
        match self.take(now) {
            Wait::None => {
                *self = taken;
                Wait::None
            }
            wait @ Wait::For(_) => {
                *self = before;
                wait
            }
        }
    }

    /// Leaves it without a token until `until`; the first one is there then.
    pub fn pause(&mut self, until: Duration) {
        let lacking = self.rate.interval * self.rate.burst.saturating_sub(1);
        self.full_at = self.full_at.max(until + lacking);
    }

    /// Whether it holds all its tokens, so that forgetting it changes nothing.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

/// An action and the object it is limited by.
type Key = (&'static str, Box<str>);

#[derive(Debug)]
struct Entry {
    bucket: Bucket,
    /// Callers stand in this line in order; the first one waits for the token.
    line: Arc<Line<()>>,
    /// Those who give way stand in this one; its first goes into the other only for as long as it takes to look.
    spare: Arc<Line<()>>,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// In the order of the calls.
    First,
    /// Only where nobody of the other lane waits, and while a token is left for whoever comes next.
    Spare,
}

#[derive(Debug, Default)]
struct Buckets {
    entries: HashMap<Key, Entry>,
    /// Full buckets are dropped when there are this many.
    sweep_at: usize,
}

/// Fewer buckets than this are not worth looking through.
const SWEEP_MIN: usize = 256;

/// The buckets, shared by every caller of one token.
#[derive(Debug)]
pub struct Limiter {
    clock: Arc<dyn Clock>,
    buckets: Mutex<Buckets>,
}

impl Limiter {
    /// Nothing taken yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Returns once a token was taken, in the order of the calls. Dropped before that, it takes none.
    pub async fn take(&self, lane: Lane, action: &'static str, object: &str, rate: Rate) {
        let key: Key = (action, object.into());
        let (line, spare) =
            self.with(&key, rate, |it| (Arc::clone(&it.line), Arc::clone(&it.spare)));
        if lane == Lane::Spare && rate.burst > 1 {
            return self.take_spare(&key, rate, (&line, &spare)).await;
        }
        let _first = line.lock().await;
        let mut now = self.clock.monotonic();
        while let Wait::For(wait) = self.with(&key, rate, |entry| entry.bucket.take(now)) {
            tokio::time::sleep(wait).await;
            now = self.clock.monotonic().max(now + wait);
        }
    }

    async fn take_spare(&self, key: &Key, rate: Rate, (line, spare): (&Line<()>, &Line<()>)) {
        let _first = spare.lock().await;
        loop {
            let looking = line.lock().await;
            let now = self.clock.monotonic();
            let Wait::For(wait) = self.with(key, rate, |it| it.bucket.take_spare(now)) else {
                return;
            };
            drop(looking);
            tokio::time::sleep(wait).await;
        }
    }

    /// Holds every caller of this bucket back for so long, those already in line too.
    pub fn pause(&self, action: &'static str, object: &str, rate: Rate, wait: Duration) {
        let until = self.clock.monotonic() + wait;
        self.with(&(action, object.into()), rate, |entry| entry.bucket.pause(until));
    }

    fn with<T>(&self, key: &Key, rate: Rate, look: impl FnOnce(&mut Entry) -> T) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.entries.len() >= buckets.sweep_at {
            let now = self.clock.monotonic();
            buckets.entries.retain(|_, entry| {
                let waited_for =
                    Arc::strong_count(&entry.line) > 1 || Arc::strong_count(&entry.spare) > 1;
                !entry.bucket.is_full(now) || waited_for
            });
            // Twice what is left, so that sweeping costs each call a constant share.
            buckets.sweep_at = (buckets.entries.len() * 2).max(SWEEP_MIN);
        }
        let fresh =
            || Entry { bucket: Bucket::new(rate), line: Arc::default(), spare: Arc::default() };
        look(buckets.entries.entry(key.clone()).or_insert_with(fresh))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;
    use crate::clock::{Manual, Timestamp};

    const SECOND: Duration = Duration::from_secs(1);

    /// tokio's own time, which stands still unless everybody waits.
    #[derive(Debug)]
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn paused() -> Limiter {
        Limiter::new(Arc::new(Paused(tokio::time::Instant::now())))
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_per_interval() {
        let mut bucket = Bucket::new(Rate::USUAL);
        let taken: Vec<_> = (0..4).map(|_| bucket.take(SECOND)).collect();
        assert_eq!(taken, [Wait::None, Wait::None, Wait::None, Wait::For(SECOND)]);
        assert_eq!(bucket.take(SECOND + SECOND / 2), Wait::For(SECOND / 2));
        assert_eq!(bucket.take(2 * SECOND), Wait::None);
        assert_eq!(bucket.take(2 * SECOND), Wait::For(SECOND));
        assert!(!bucket.is_full(4 * SECOND));
        assert!(bucket.is_full(5 * SECOND));
    }

    #[test]
    fn asking_in_vain_takes_nothing() {
        let mut bucket = Bucket::new(Rate::USUAL);
        while bucket.take(Duration::ZERO) == Wait::None {}
        let before = bucket;
        assert_eq!(bucket.take(Duration::ZERO), Wait::For(SECOND));
        assert_eq!(bucket, before);
    }

    #[test]
    fn no_minute_sees_more_than_a_hundred_app_deletions() {
        let mut bucket = Bucket::new(Rate::APP_DELETE);
        let taken: Vec<u32> = (0..180_000_u32)
            .step_by(10)
            .filter(|ms| bucket.take(Duration::from_millis((*ms).into())) == Wait::None)
            .collect();
        let in_minute =
            |start: &u32| taken.iter().filter(|at| (*start..start + 60_000).contains(at)).count();
        let worst = taken.iter().map(in_minute).max().unwrap();
        assert!((95..=100).contains(&worst), "{worst}");
    }

    #[test]
    fn a_paused_bucket_gives_one_token_at_the_end_of_the_pause_and_no_burst() {
        let mut bucket = Bucket::new(Rate::USUAL);
        bucket.pause(5 * SECOND);
        assert_eq!(bucket.take(SECOND), Wait::For(4 * SECOND));
        assert_eq!(bucket.take(5 * SECOND), Wait::None);
        assert_eq!(bucket.take(5 * SECOND), Wait::For(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn the_fourth_call_within_a_second_waits() {
        let limiter = paused();
        let start = tokio::time::Instant::now();
        for _ in 0..3 {
            limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        limiter.take(Lane::First, "start", "m2", Rate::USUAL).await;
        limiter.take(Lane::First, "stop", "m1", Rate::USUAL).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "other objects and actions have their own");
        limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_their_order() {
        let limiter = paused();
        let order = Mutex::new(Vec::new());
        let one = async |number: u32| {
            limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
            order.lock().unwrap().push(number);
        };
        futures::future::join_all((0..8).map(one)).await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_costs_no_token() {
        let limiter = paused();
        for _ in 0..3 {
            limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
        }
        let start = tokio::time::Instant::now();
        for _ in 0..100 {
            assert!(limiter.take(Lane::First, "start", "m1", Rate::USUAL).now_or_never().is_none());
        }
        limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_reaches_those_already_in_line() {
        let limiter = paused();
        let start = tokio::time::Instant::now();
        for _ in 0..3 {
            limiter.take(Lane::First, "start", "m1", Rate::USUAL).await;
        }
        let waiting = limiter.take(Lane::First, "start", "m1", Rate::USUAL);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        limiter.pause("start", "m1", Rate::USUAL, 10 * SECOND);
        waiting.await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn idle_buckets_are_forgotten() {
        let clock = Arc::new(Manual::at(Timestamp::UNIX_EPOCH));
        let limiter = Limiter::new(clock.clone());
        for machine in 0..100_000 {
            limiter.take(Lane::First, "get", &machine.to_string(), Rate::MACHINE_GET).await;
            clock.advance(Duration::from_millis(10));
        }
        assert!(limiter.buckets.lock().unwrap().entries.len() <= SWEEP_MIN);
    }

    #[test]
    fn whoever_gives_way_leaves_a_token() {
        let mut bucket = Bucket::new(Rate::USUAL);
        let taken: Vec<_> = (0..3).map(|_| bucket.take_spare(SECOND)).collect();
        assert_eq!(taken, [Wait::None, Wait::None, Wait::For(SECOND)]);
        assert_eq!(bucket.take(SECOND), Wait::None);
        assert_eq!(bucket.take_spare(2 * SECOND), Wait::For(SECOND));
        assert_eq!(bucket.take_spare(3 * SECOND), Wait::None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_those_who_give_way() {
        let limiter = paused();
        let start = tokio::time::Instant::now();
        let order = Mutex::new(Vec::new());
        let one = async |lane: Lane, number: u32| {
            limiter.take(lane, "create_app", "personal", Rate::USUAL).await;
            order.lock().unwrap().push((number, start.elapsed().as_secs()));
        };
        let refill = futures::future::join_all((0..6).map(|it| one(Lane::Spare, it)));
        let claims = async {
            tokio::time::sleep(SECOND / 2).await;
            futures::future::join_all((10..13).map(|it| one(Lane::First, it))).await;
        };
        futures::join!(refill, claims);
        let claims: Vec<_> =
            order.lock().unwrap().iter().filter(|(number, _)| *number >= 10).copied().collect();
        assert_eq!(
            claims,
            [(10, 0), (11, 1), (12, 2)],
            "one token was left, and then one a second"
        );
        assert_eq!(order.lock().unwrap().len(), 9);
    }
}
