//! Which object is looked at when: a delay queue in which each key stands once, the earliest time wins, and no key is given
//! out twice at once. Data only, time is passed in; it must never wait.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
    time::Duration,
};

/// The queue. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    /// What is wanted of each key that is known here.
    entries: HashMap<K, Entry>,
    /// Candidates, some of them outdated; an entry's `due` says which one counts.
    heap: BinaryHeap<Reverse<(Duration, u64, K)>>,
    order: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    due: Option<Duration>,
    running: bool,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(crate) fn new() -> Self {
        Self { entries: HashMap::new(), heap: BinaryHeap::new(), order: 0 }
    }

    /// Asks for a look at the key at this time; an earlier one that was asked for stays.
    pub(crate) fn add(&mut self, key: K, due: Duration) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.due.is_some_and(|it| it <= due) {
            return;
        }
        entry.due = Some(due);
        if !entry.running {
            self.push(key, due);
        }
    }

    /// The next key that is due and not being looked at; it must be given back with [`Queue::done`].
    pub(crate) fn take(&mut self, now: Duration) -> Option<K> {
        while let Some(Reverse((due, _, key))) = self.heap.peek() {
            if *due > now {
                return None;
            }
            let (due, key) = (*due, key.clone());
            self.heap.pop();
            if let Some(entry) = self.entries.get_mut(&key)
                && entry.due == Some(due)
                && !entry.running
            {
                entry.due = None;
                entry.running = true;
                return Some(key);
            }
        }
        None
    }

    /// Gives a key back; what was asked for meanwhile, or is asked for now, is queued.
    pub(crate) fn done(&mut self, key: &K, again: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        entry.due = match (entry.due, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match entry.due {
            Some(due) => self.push(key.clone(), due),
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// When the next key is due.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        while let Some(Reverse((due, _, key))) = self.heap.peek() {
            let entry = self.entries.get(key);
            if entry.is_some_and(|it| it.due == Some(*due) && !it.running) {
                return Some(*due);
            }
            self.heap.pop();
        }
        None
    }

    /// How many keys are queued or being looked at.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, key: K, due: Duration) {
        self.order += 1;
        self.heap.push(Reverse((due, self.order, key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_earliest_time_asked_for_wins() {
        let mut queue = Queue::new();
        queue.add("a", at(10));
        queue.add("a", at(5));
        queue.add("a", at(20));
        assert_eq!(queue.take(at(4)), None);
        assert_eq!(queue.next_due(), Some(at(5)));
        assert_eq!(queue.take(at(5)), Some("a"));
        queue.done(&"a", None);
        assert_eq!((queue.take(at(99)), queue.len()), (None, 0));
    }

    #[test]
    fn a_key_is_never_given_out_twice_at_once() {
        let mut queue = Queue::new();
        queue.add("a", at(0));
        assert_eq!(queue.take(at(0)), Some("a"));
        for _ in 0..64 {
            queue.add("a", at(0));
        }
        assert_eq!((queue.take(at(9)), queue.next_due()), (None, None));
        queue.done(&"a", Some(at(30)));
        assert_eq!(queue.take(at(9)), Some("a"));
        queue.done(&"a", None);
        assert_eq!(queue.take(at(99)), None);
    }

    #[test]
    fn keys_due_at_once_come_in_the_order_in_which_they_were_asked_for() {
        let mut queue = Queue::new();
        for key in ["c", "a", "b"] {
            queue.add(key, at(1));
        }
        assert_eq!(
            [queue.take(at(1)), queue.take(at(1)), queue.take(at(1))],
            [Some("c"), Some("a"), Some("b")]
        );
    }
}
