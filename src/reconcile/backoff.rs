//! How long to leave an object alone after a failure: the `backoff` crate's delays, one series per object, reset by success.
//! It must never wait itself.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

use crate::chance::{self, Chance};
use crate::retry::Retry;

/// A series of growing delays. Its start time, which the crate reads, is never used: there is no last try.
#[derive(Debug)]
pub(crate) struct Series(ExponentialBackoff);

impl Series {
    pub(crate) fn new() -> Self {
        Self(ExponentialBackoff {
            initial_interval: Duration::from_millis(500),
            current_interval: Duration::from_millis(500),
            // Jitter is drawn below, from a source that a seed can repeat.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: Duration::from_secs(60),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// How long to wait after one more failure. What cannot help by itself is left alone for the longest time, since what
    /// it hangs on may change without a word.
    pub(crate) fn after(&mut self, retry: Retry, chance: &dyn Chance) -> Duration {
        let grown = self.0.next_backoff().unwrap_or(self.0.max_interval);
        let percent = u32::try_from(80 + chance::below(chance, 41)).unwrap_or(100);
        let grown = grown * percent / 100;
        match retry {
            Retry::Never => grown.max(Duration::from_secs(5)),
            Retry::Backoff => grown,
            Retry::After(least) => grown.max(least).max(Duration::from_millis(250)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_never_are_shorter_than_an_answer_says() {
        let (mut series, chance) = (Series::new(), chance::System);
        let delays: Vec<_> = (0..12).map(|_| series.after(Retry::Backoff, &chance)).collect();
        assert!(delays[0] >= Duration::from_millis(400) && delays[0] <= Duration::from_millis(600));
        assert!(delays[11] >= Duration::from_secs(48) && delays[11] <= Duration::from_secs(72));
        let mut asked = |least| series.after(Retry::After(Duration::from_secs(least)), &chance);
        assert_eq!(asked(100), Duration::from_secs(100));
        assert!(
            asked(7) >= Duration::from_secs(48),
            "refused again and again, it grows all the same"
        );
        let mut fresh = Series::new();
        let first = fresh.after(Retry::After(Duration::from_secs(7)), &chance);
        assert_eq!(first, Duration::from_secs(7));
    }
}
