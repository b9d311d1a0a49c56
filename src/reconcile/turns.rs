//! Whose pass comes next, and how many passes of each sort run at once, so that what waits for one of Fly's limits, or is done for
//! nobody, never keeps waiting what somebody waits for. Data only, time is passed in; it must never wait.

use std::{collections::HashMap, hash::Hash, time::Duration};

use crate::reconcile::queue::{
    Queue,
    Urgency::{self, Ailing, Fresh, FreshStock, Going, GoingStock, Stock, Unbound},
};

/// How many passes of these sorts together run at once, at most. Each mostly waits for Fly, whose limits are per app; the first line
/// bounds memory and sockets, the second leaves room for what is in use, and the others for environments without a bay. Creations of apps
/// all wait for one limit, and so do deletions, so that few at a time lose nothing.
const BOUNDS: [(&[Urgency], usize); 8] = [
    (&Urgency::ALL, 128),
    (&[Unbound, Fresh, Going, Stock, FreshStock, GoingStock, Ailing], 120),
    (&[Fresh], 48),
    (&[Going], 16),
    (&[GoingStock], 8),
    (&[FreshStock], 8),
    (&[Stock, FreshStock], 32),
    (&[Ailing], 24),
];

/// A count for each of [`Urgency::ALL`], in its order.
type Taken = [usize; Urgency::ALL.len()];

/// Keys that wait for a pass, and those that have one.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    queue: Queue<K>,
    /// As what each was taken.
    running: HashMap<K, Urgency>,
    /// How many have one of each sort: nobody counts the running ones over for each key.
    taken: Taken,
}

impl<K: Clone + Eq + Hash + Ord> Turns<K> {
    pub(crate) fn new() -> Self {
        Self { queue: Queue::new(), running: HashMap::new(), taken: Taken::default() }
    }

    /// Asks for a pass; see [`Queue::add`].
    pub(crate) fn add(&mut self, key: K, due: Duration, urgency: Urgency) {
        self.queue.add(key, due, urgency);
    }

    /// The next key that is due and has room; it must be given back with [`Turns::done`].
    pub(crate) fn take(&mut self, now: Duration) -> Option<K> {
        let (urgency, key) = Urgency::ALL
            .into_iter()
            .filter(|it| has_room(&self.taken, *it))
            .find_map(|it| Some((it, self.queue.take(now, it)?)))?;
        self.running.insert(key.clone(), urgency);
        self.taken[urgency as usize] += 1;
        Some(key)
    }

    /// A pass ended; see [`Queue::done`].
    pub(crate) fn done(&mut self, key: &K, again: Option<Duration>, urgency: Urgency) {
        if let Some(as_what) = self.running.remove(key) {
            self.taken[as_what as usize] -= 1;
        }
        self.queue.done(key, again, urgency);
    }

    /// When the next key that has room is due.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        let mut of = Urgency::ALL.to_vec();
        of.retain(|it| has_room(&self.taken, *it));
        self.queue.next_due(&of)
    }

    /// How many keys wait or have a pass.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

fn has_room(taken: &Taken, urgency: Urgency) -> bool {
    BOUNDS.iter().filter(|(of, _)| of.contains(&urgency)).all(|(of, most)| {
        let taken: usize = of.iter().map(|it| taken[*it as usize]).sum();
        taken < *most
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::queue::Urgency::Begun;

    const NOW: Duration = Duration::ZERO;

    /// One of many of a sort.
    type Key = (Urgency, usize);

    /// Keys that have a pass when so many of these sorts wait, in the order in which they were asked for.
    fn taken(waiting: &[(Urgency, usize)]) -> (Turns<Key>, Vec<Key>) {
        let mut turns = Turns::new();
        for (urgency, count) in waiting {
            (0..*count).for_each(|it| turns.add((*urgency, it), NOW, *urgency));
        }
        let taken = std::iter::from_fn(|| turns.take(NOW)).collect();
        (turns, taken)
    }

    fn count(taken: &[Key], urgency: Urgency) -> usize {
        taken.iter().filter(|it| it.0 == urgency).count()
    }

    #[test]
    fn unbound_bays_leave_room_however_many_there_are() {
        let (mut turns, had) = taken(&[(FreshStock, 300), (Stock, 300)]);
        assert_eq!((count(&had, Stock), count(&had, FreshStock), had.len()), (32, 0, 32));
        // A claim and a wake come at once, and before whatever of the stock is due.
        turns.add((Unbound, 0), NOW, Unbound);
        turns.add((Begun, 0), NOW, Begun);
        assert_eq!(turns.take(NOW), Some((Begun, 0)));
        assert_eq!(turns.take(NOW), Some((Unbound, 0)));
        assert_eq!((turns.take(NOW), turns.next_due()), (None, None), "nothing else has room");
        turns.done(&(Stock, 0), None, Stock);
        assert_eq!(turns.take(NOW), Some((Stock, 32)));
    }

    #[test]
    fn bays_that_wait_for_an_app_leave_room_for_those_that_have_one() {
        let (mut turns, had) = taken(&[(FreshStock, 300)]);
        assert_eq!(had.len(), 8);
        turns.add((Stock, 0), NOW, Stock);
        assert_eq!(turns.take(NOW), Some((Stock, 0)));
    }

    #[test]
    fn a_claim_does_not_wait_behind_environments_whose_bays_are_being_made() {
        let (mut turns, had) = taken(&[(Fresh, 500), (Stock, 500), (Ailing, 500)]);
        assert_eq!((count(&had, Fresh), count(&had, Stock), count(&had, Ailing)), (48, 32, 24));
        turns.add((Unbound, 0), NOW, Unbound);
        assert_eq!(turns.take(NOW), Some((Unbound, 0)));
    }

    #[test]
    fn many_deletions_keep_neither_a_claim_nor_what_is_in_use_waiting() {
        let (mut turns, had) = taken(&[(GoingStock, 500)]);
        assert_eq!(had.len(), 8);
        (0..500).for_each(|it| turns.add((Going, it), NOW, Going));
        assert_eq!(std::iter::from_fn(|| turns.take(NOW)).count(), 16);
        for urgency in [Begun, Unbound, Fresh, Stock, FreshStock] {
            turns.add((urgency, 0), NOW, urgency);
            assert_eq!(turns.take(NOW), Some((urgency, 0)));
        }
    }

    #[test]
    fn what_is_deleted_waits_as_such_whatever_it_was_to_be_looked_at_for() {
        let mut turns = Turns::new();
        for it in 0..500 {
            turns.add((Begun, it), Duration::from_secs(300), Begun);
            turns.add((Begun, it), NOW, Going);
            turns.add((Begun, it), NOW, Begun);
        }
        assert_eq!(std::iter::from_fn(|| turns.take(NOW)).count(), 16);
    }

    #[test]
    fn whatever_waits_there_is_room_for_what_is_in_use() {
        let all = Urgency::ALL.map(|it| (it, 500));
        let (mut turns, had) = taken(&all[1..]);
        assert_eq!(had.len(), 120);
        for it in 0..8 {
            turns.add((Begun, it), NOW, Begun);
            assert_eq!(turns.take(NOW), Some((Begun, it)));
        }
        turns.add((Begun, 8), NOW, Begun);
        assert_eq!(turns.take(NOW), None, "that is all that run at once");
        turns.done(&had[0], None, had[0].0);
        assert_eq!(turns.take(NOW), Some((Begun, 8)), "what is in use goes first");
        assert_eq!(taken(&all).1.len(), 128);
    }
}
