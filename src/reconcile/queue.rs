//! Which object is looked at when: a delay queue in which each key stands once, the earliest time wins, and no key is given
//! out twice at once. Data only, time is passed in; it must never wait.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    hash::Hash,
    time::Duration,
};

/// How soon a due key's turn comes, the soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Urgency {
    /// Someone uses it, or a call for it was just made: it goes before what was never begun.
    Begun,
    /// An environment without a bay: its pass binds it to one, and calls nobody.
    Unbound,
    /// An environment whose bay nothing was done about yet. Thousands of these may wait for one rate limit.
    Fresh,
    /// An environment that is being deleted. All deletions of apps wait for one rate limit.
    Going,
    /// A bay that no environment has.
    Stock,
    /// The same, and nothing was done about it yet.
    FreshStock,
    /// A bay that no environment has and that is being removed.
    GoingStock,
    /// Its passes are slow and come to nothing.
    Ailing,
}

impl Urgency {
    /// All of them, the soonest first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Begun,
        Self::Unbound,
        Self::Fresh,
        Self::Going,
        Self::Stock,
        Self::FreshStock,
        Self::GoingStock,
        Self::Ailing,
    ];

    /// Whether it is being deleted.
    pub(crate) fn is_going(self) -> bool {
        matches!(self, Self::Going | Self::GoingStock)
    }
}

/// Candidates for a turn, by time and then in the order in which they were asked for.
type Heap<K> = BinaryHeap<Reverse<(Duration, u64, K)>>;

/// The queue. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    /// What is wanted of each key that is known here.
    entries: HashMap<K, Entry>,
    /// Candidates, some of them outdated; an entry's `due` says which one counts.
    heaps: BTreeMap<Urgency, Heap<K>>,
    order: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Option<Duration>,
    urgency: Urgency,
    running: bool,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(crate) fn new() -> Self {
        Self { entries: HashMap::new(), heaps: BTreeMap::new(), order: 0 }
    }

    /// Asks for a look at the key at this time; an earlier one that was asked for stays.
    pub(crate) fn add(&mut self, key: K, due: Duration, urgency: Urgency) {
        let known = Entry { due: None, urgency, running: false };
        let entry = self.entries.entry(key.clone()).or_insert(known);
        let urgency = match (entry.urgency.is_going(), urgency.is_going()) {
            // Whatever it was asked for before: nobody uses it any more.
            (_, true) => urgency,
            (true, false) => entry.urgency,
            (false, false) => entry.urgency.min(urgency),
        };
        if entry.due.is_some_and(|it| it <= due) && entry.urgency == urgency {
            return;
        }
        entry.due = Some(entry.due.map_or(due, |it| it.min(due)));
        entry.urgency = urgency;
        let (entry, running) = (*entry, entry.running);
        if !running {
            self.push(key, entry);
        }
    }

    /// The next key that is due and not being looked at; it must be given back with [`Queue::done`].
    pub(crate) fn take(&mut self, now: Duration, urgency: Urgency) -> Option<K> {
        let heap = self.heaps.get_mut(&urgency)?;
        while let Some(Reverse((due, _, key))) = heap.peek() {
            if *due > now {
                return None;
            }
            let (due, key) = (*due, key.clone());
            heap.pop();
            if let Some(entry) = self.entries.get_mut(&key)
                && entry.due == Some(due)
                && entry.urgency == urgency
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
    pub(crate) fn done(&mut self, key: &K, again: Option<Duration>, urgency: Urgency) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        entry.urgency = urgency;
        entry.due = match (entry.due, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let entry = *entry;
        if entry.due.is_some() {
            self.push(key.clone(), entry);
        } else {
            self.entries.remove(key);
        }
    }

    /// When the next key of one of these urgencies is due.
    pub(crate) fn next_due(&mut self, of: &[Urgency]) -> Option<Duration> {
        let entries = &self.entries;
        self.heaps
            .iter_mut()
            .filter(|(urgency, _)| of.contains(urgency))
            .filter_map(|(urgency, heap)| {
                while let Some(Reverse((due, _, key))) = heap.peek() {
                    let counts =
                        |it: &Entry| it.due == Some(*due) && it.urgency == *urgency && !it.running;
                    if entries.get(key).is_some_and(counts) {
                        return Some(*due);
                    }
                    heap.pop();
                }
                None
            })
            .min()
    }

    /// How many keys are queued or being looked at.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, key: K, entry: Entry) {
        let Some(due) = entry.due else { return };
        self.order += 1;
        let candidate = Reverse((due, self.order, key));
        self.heaps.entry(entry.urgency).or_default().push(candidate);
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
        queue.add("a", at(10), Urgency::Begun);
        queue.add("a", at(5), Urgency::Begun);
        queue.add("a", at(20), Urgency::Begun);
        assert_eq!(queue.take(at(4), Urgency::Begun), None);
        assert_eq!(queue.next_due(&[Urgency::Begun, Urgency::Fresh]), Some(at(5)));
        assert_eq!(queue.take(at(5), Urgency::Begun), Some("a"));
        queue.done(&"a", None, Urgency::Begun);
        assert_eq!((queue.take(at(99), Urgency::Begun), queue.len()), (None, 0));
    }

    #[test]
    fn a_key_is_never_given_out_twice_at_once() {
        let mut queue = Queue::new();
        queue.add("a", at(0), Urgency::Begun);
        assert_eq!(queue.take(at(0), Urgency::Begun), Some("a"));
        for _ in 0..64 {
            queue.add("a", at(0), Urgency::Begun);
        }
        assert_eq!(
            (queue.take(at(9), Urgency::Begun), queue.next_due(&[Urgency::Begun, Urgency::Fresh])),
            (None, None)
        );
        queue.done(&"a", Some(at(30)), Urgency::Begun);
        assert_eq!(queue.take(at(9), Urgency::Begun), Some("a"));
        queue.done(&"a", None, Urgency::Begun);
        assert_eq!(queue.take(at(99), Urgency::Begun), None);
    }

    #[test]
    fn keys_due_at_once_come_in_the_order_in_which_they_were_asked_for() {
        let mut queue = Queue::new();
        for key in ["c", "a", "b"] {
            queue.add(key, at(1), Urgency::Begun);
        }
        assert_eq!(
            [
                queue.take(at(1), Urgency::Begun),
                queue.take(at(1), Urgency::Begun),
                queue.take(at(1), Urgency::Begun)
            ],
            [Some("c"), Some("a"), Some("b")]
        );
    }

    #[test]
    fn what_ails_does_not_keep_others_waiting_and_is_not_forgotten() {
        let mut queue = Queue::new();
        queue.add("ails", at(1), Urgency::Ailing);
        queue.add("begun", at(2), Urgency::Begun);
        assert_eq!(queue.take(at(9), Urgency::Begun), Some("begun"));
        assert_eq!(queue.take(at(9), Urgency::Fresh), None);
        assert_eq!(queue.next_due(&[Urgency::Ailing]), Some(at(1)));
        assert_eq!(queue.take(at(9), Urgency::Ailing), Some("ails"));
        queue.done(&"ails", Some(at(20)), Urgency::Begun);
        assert_eq!(queue.take(at(20), Urgency::Begun), Some("ails"), "it recovered");
    }

    #[test]
    fn what_was_begun_does_not_wait_behind_what_was_not() {
        let mut queue = Queue::new();
        queue.add("fresh", at(1), Urgency::Fresh);
        queue.add("begun", at(2), Urgency::Begun);
        queue.add("both", at(3), Urgency::Fresh);
        queue.add("both", at(4), Urgency::Begun);
        assert_eq!(queue.take(at(9), Urgency::Begun), Some("begun"));
        assert_eq!(queue.take(at(9), Urgency::Begun), Some("both"));
        assert_eq!(queue.take(at(9), Urgency::Begun), None);
        assert_eq!(queue.next_due(&[Urgency::Begun, Urgency::Fresh]), Some(at(1)));
        assert_eq!(queue.take(at(9), Urgency::Fresh), Some("fresh"));
        queue.done(&"fresh", Some(at(5)), Urgency::Begun);
        assert_eq!(queue.take(at(9), Urgency::Begun), Some("fresh"));
        assert_eq!(queue.take(at(9), Urgency::Fresh), None);
    }
}
