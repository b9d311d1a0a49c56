//! Which machines have requests: the count that autostop goes by. It must never stop a machine itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Requests per machine. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<Mutex<HashMap<String, Use>>>);

#[derive(Debug, Default)]
struct Use {
    in_flight: usize,
    /// Whether a request came since the last round.
    touched: bool,
    /// Whether the machine is being put to sleep right now.
    retiring: bool,
}

impl Activity {
    /// Counts a request until the guard goes; `None` while the machine is being put to sleep.
    pub(super) fn enter(&self, id: &str) -> Option<Busy> {
        let mut uses = self.lock();
        let entry = uses.entry(id.to_owned()).or_default();
        if entry.retiring {
            return None;
        }
        entry.in_flight += 1;
        entry.touched = true;
        Some(Busy { activity: self.clone(), id: id.to_owned() })
    }

    /// Requests in flight.
    pub(super) fn load(&self, id: &str) -> usize {
        self.lock().get(id).map_or(0, |entry| entry.in_flight)
    }

    /// Keeps requests off an idle machine until the guard goes; `None` if it is not idle (any more).
    pub(super) fn retire(&self, id: &str) -> Option<Retiring> {
        let mut uses = self.lock();
        let entry = uses.entry(id.to_owned()).or_default();
        if !entry.is_idle() {
            return None;
        }
        entry.retiring = true;
        Some(Retiring { activity: self.clone(), id: id.to_owned() })
    }

    /// Starts a new round: forgets past requests, keeps those in flight.
    pub(super) fn next_round(&self) {
        self.lock().retain(|_, entry| {
            entry.touched = false;
            entry.in_flight > 0 || entry.retiring
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.touched && !self.retiring
    }
}

/// A request that keeps a machine busy.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Activity,
    id: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(entry) = self.activity.lock().get_mut(&self.id) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
            // Being busy until now is as good as a request now.
            entry.touched = true;
        }
    }
}

/// A machine that is being put to sleep.
#[derive(Debug)]
pub(super) struct Retiring {
    activity: Activity,
    id: String,
}

impl Drop for Retiring {
    fn drop(&mut self) {
        if let Some(entry) = self.activity.lock().get_mut(&self.id) {
            entry.retiring = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_idle_one_round_after_its_last_request_ended() {
        let activity = Activity::default();
        let busy = activity.enter("m");
        activity.next_round();
        assert!(activity.retire("m").is_none());
        drop(busy);
        assert!(activity.retire("m").is_none());
        activity.next_round();
        assert!(activity.lock().is_empty());
        assert!(activity.retire("m").is_some());
    }

    #[test]
    fn no_request_enters_a_machine_that_is_put_to_sleep() {
        let activity = Activity::default();
        let retiring = activity.retire("m").unwrap();
        assert!(activity.enter("m").is_none());
        assert!(activity.retire("m").is_none());
        drop(retiring);
        let busy = activity.enter("m").unwrap();
        assert!(activity.retire("m").is_none());
        drop(busy);
    }
}
