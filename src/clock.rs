//! LEAF. The only reader of wall-clock and monotonic time. It must never know what the time is used for.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use jiff::Timestamp;

/// A source of time, taken as `Arc<dyn Clock>` by everything that needs to know how late it is.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Wall-clock time; may jump.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start; never goes backwards.
    fn monotonic(&self) -> Duration;
}

/// The computer's own clock.
#[derive(Debug)]
pub struct System {
    start: std::time::Instant,
}

impl System {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The same, as everybody takes it.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The runtime's clock, which jumps to whatever is waited for next when the runtime's time is paused.
#[derive(Debug)]
pub struct Paused {
    start: tokio::time::Instant,
    start_at: Timestamp,
}

impl Paused {
    /// A clock that shows `start_at` now.
    #[must_use]
    pub fn at(start_at: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), start_at }
    }
}

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        self.start_at.saturating_add(self.start.elapsed()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct Manual {
    now: Mutex<(Timestamp, Duration)>,
}

impl Manual {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 = now.0.saturating_add(by).unwrap_or(Timestamp::MAX);
        now.1 += by;
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
