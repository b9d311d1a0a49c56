//! Fly's published rate limits as token buckets, with the time passed in. It must never read a clock.

use std::{collections::HashMap, time::Duration};

/// Above this many buckets, full ones are forgotten.
const BUCKETS_MAX: usize = 16_384;

/// Calls per second and at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
}

/// One action on one machine or app.
pub(super) const ACTION: Rate = Rate { per_second: 1.0, burst: 3.0 };
/// `GET` of one machine.
pub(super) const GET_MACHINE: Rate = Rate { per_second: 5.0, burst: 10.0 };
/// Deletions of apps: 100 a minute.
pub(super) const DELETE_APP: Rate = Rate { per_second: 100.0 / 60.0, burst: 100.0 };

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
    rate: Rate,
}

impl Bucket {
    fn level(&self, now: Duration) -> f64 {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.rate.per_second;
        (self.tokens + earned).min(self.rate.burst)
    }
}

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct Limits {
    buckets: HashMap<(&'static str, String), Bucket>,
}

impl Limits {
    /// Takes a token for an action on something, if there is one.
    pub(super) fn take(
        &mut self,
        action: &'static str,
        on: &str,
        rate: Rate,
        now: Duration,
    ) -> bool {
        if self.buckets.len() > BUCKETS_MAX {
            self.buckets.retain(|_, it| it.level(now) < it.rate.burst);
        }
        let bucket = self.buckets.entry((action, on.to_owned())).or_insert(Bucket {
            tokens: rate.burst,
            at: now,
            rate,
        });
        let level = bucket.level(now);
        bucket.at = now;
        let allowed = level >= 1.0;
        bucket.tokens = if allowed { level - 1.0 } else { level };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_three_is_followed_by_one_a_second() {
        let mut limits = Limits::default();
        let mut take = |ms| limits.take("start", "m1", ACTION, Duration::from_millis(ms));
        assert_eq!([0, 1, 2, 3].map(&mut take), [true, true, true, false]);
        assert!(!take(900));
        assert!(take(1_100));
        assert!(!take(1_200));
    }

    #[test]
    fn actions_and_machines_have_buckets_of_their_own() {
        let mut limits = Limits::default();
        for _ in 0..3 {
            assert!(limits.take("start", "m1", ACTION, Duration::ZERO));
        }
        assert!(!limits.take("start", "m1", ACTION, Duration::ZERO));
        assert!(limits.take("stop", "m1", ACTION, Duration::ZERO));
        assert!(limits.take("start", "m2", ACTION, Duration::ZERO));
    }
}
