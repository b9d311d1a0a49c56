//! When a program that ended is started again: the restart policy, with time passed in. It must never start anything.

use std::{collections::VecDeque, time::Duration};

use crate::local::driver::Restart;

/// Retries are counted within this time, as Fly does.
const WINDOW: Duration = Duration::from_mins(5);
/// The first pause before a restart; it doubles with every restart inside the window.
const DELAY_FIRST: Duration = Duration::from_millis(50);
/// The longest pause before a restart: a crashing program may not keep a processor busy.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// A policy and what it has to remember.
#[derive(Debug)]
pub(super) struct Policy {
    rule: Restart,
    recent: VecDeque<Duration>,
}

impl Policy {
    pub(super) fn new(rule: Restart) -> Self {
        Self { rule, recent: VecDeque::new() }
    }

    /// How long to wait before the program is started again, or `None` if it stays down.
    pub(super) fn after_end(&mut self, failed: bool, now: Duration) -> Option<Duration> {
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let again = match self.rule {
            Restart::No => false,
            Restart::Always => true,
            Restart::OnFailure { max_retries } => {
                failed && self.recent.len() < usize::try_from(max_retries).unwrap_or(usize::MAX)
            }
        };
        if !again {
            return None;
        }
        let doublings = u32::try_from(self.recent.len().min(16)).unwrap_or(16);
        self.recent.push_back(now);
        Some(DELAY_FIRST.saturating_mul(2_u32.pow(doublings)).min(DELAY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn no_means_never() {
        assert_eq!(Policy::new(Restart::No).after_end(true, NOW), None);
    }

    #[test]
    fn always_means_after_a_success_too_with_a_pause_that_grows_to_its_limit() {
        let mut policy = Policy::new(Restart::Always);
        let pauses: Vec<_> =
            (0..8).map(|_| policy.after_end(false, NOW).unwrap().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn a_success_is_not_retried() {
        let mut policy = Policy::new(Restart::OnFailure { max_retries: 3 });
        assert_eq!(policy.after_end(false, NOW), None);
    }

    #[test]
    fn retries_run_out_and_come_back_after_five_minutes() {
        let mut policy = Policy::new(Restart::OnFailure { max_retries: 2 });
        assert!(policy.after_end(true, NOW).is_some());
        assert!(policy.after_end(true, NOW).is_some());
        assert_eq!(policy.after_end(true, NOW + Duration::from_secs(299)), None);
        assert_eq!(policy.after_end(true, NOW + WINDOW), Some(DELAY_FIRST));
    }
}
