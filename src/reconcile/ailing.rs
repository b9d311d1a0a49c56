//! Environments whose passes are slow and come to nothing, as when a host's API does not answer. Which host is behind it Fly does not
//! tell. Data only; it must never wait.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// A pass that takes longer waits for something that does not answer.
const SLOW: Duration = Duration::from_secs(5);
/// So many of them in a row make an environment ailing.
const STREAK: u32 = 2;

/// Which ones.
#[derive(Debug)]
pub(crate) struct Ailing<K> {
    /// Slow passes in a row that came to nothing.
    streaks: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash> Ailing<K> {
    pub(crate) fn new() -> Self {
        Self { streaks: HashMap::new() }
    }

    /// Whether it is one of them.
    pub(crate) fn is_ailing(&self, key: &K) -> bool {
        self.streaks.get(key).is_some_and(|it| *it >= STREAK)
    }

    /// A pass ended, of whichever environment.
    pub(crate) fn ended(&mut self, key: &K, took: Duration, came_to_nothing: bool) {
        if came_to_nothing && took >= SLOW {
            *self.streaks.entry(key.clone()).or_default() += 1;
        } else {
            self.streaks.remove(key);
        }
    }

    /// It is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.streaks.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_passes_in_a_row_make_it_ailing_and_one_that_does_something_ends_it() {
        let mut ailing = Ailing::new();
        ailing.ended(&"a", SLOW, true);
        assert!(!ailing.is_ailing(&"a"), "once is nothing");
        ailing.ended(&"a", SLOW, true);
        assert!(ailing.is_ailing(&"a") && !ailing.is_ailing(&"b"));
        ailing.ended(&"a", SLOW, false);
        assert!(!ailing.is_ailing(&"a"));
        for _ in 0..9 {
            ailing.ended(&"b", Duration::from_millis(200), true);
        }
        assert!(!ailing.is_ailing(&"b"), "what fails at once keeps nobody waiting");
    }
}
