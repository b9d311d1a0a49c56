//! The mass-change breaker: how many environments lose something, or miss something, within a minute, and what of it goes on
//! without a person's word. Data only, time is passed in; it must never hold anything back itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use crate::api::hold::HoldReason;
use crate::plan::hold::{Absence, Impact};
use crate::store::Revision;

/// How far back it looks.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// So many environments may lose something within a minute by hangar's own judgement, and so many may miss something.
const OWN_MAX: usize = 5;
/// Of the fleet, one in so many may lose something within a minute by order, where that is more than [`OWN_MAX`].
const SHARE: usize = 5;
/// Names that a message has.
const NAMES_MAX: usize = 3;

/// What a pass is about to do, and what it saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// What its call does to what is there.
    pub(crate) impact: Impact,
    /// Whether something is missing.
    pub(crate) absence: Absence,
    /// Whether its environment was deleted, so that a person ordered the loss.
    pub(crate) ordered: bool,
    /// Whether it waits for the end of a hold.
    pub(crate) held: bool,
    /// Whether all is as it should be.
    pub(crate) settled: bool,
}

/// Whether a pass may do what it is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Go,
    /// Not before it is looked at once more.
    Wait(String),
    /// Not before a person says so: a hold is to be raised.
    Hold(HoldReason, String),
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    at: Duration,
    ordered: bool,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Duration,
    believed: bool,
}

/// The breaker. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Breaker<K> {
    fleet: usize,
    /// Environments that lost something within the window.
    losses: BTreeMap<K, Loss>,
    /// Environments that miss something.
    missing: BTreeMap<K, Missing>,
    /// Environments that are held back.
    waiting: BTreeSet<K>,
    /// Environments that a person let through.
    granted: BTreeSet<K>,
    /// Holds of the breaker's that there are, as far as is known: since when, and at which revision of the store.
    tripped: BTreeMap<&'static str, (Duration, Revision)>,
}

impl<K: Clone + Ord + Display> Breaker<K> {
    pub(crate) fn new() -> Self {
        Self {
            fleet: 0,
            losses: BTreeMap::new(),
            missing: BTreeMap::new(),
            waiting: BTreeSet::new(),
            granted: BTreeSet::new(),
            tripped: BTreeMap::new(),
        }
    }

    /// There are so many environments.
    pub(crate) fn fleet(&mut self, count: usize) {
        self.fleet = count;
    }

    /// An environment is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.missing.remove(key);
        self.waiting.remove(key);
        self.granted.remove(key);
    }

    /// Takes in what a pass saw, and says whether it may do what it is about to do.
    pub(crate) fn ask(&mut self, key: &K, pass: Pass, now: Duration) -> Verdict {
        self.losses.retain(|_, it| now < it.at + WINDOW);
        self.note(key, pass, now);
        let concludes = pass.absence == Absence::Believed;
        if (pass.impact == Impact::None && !concludes) || self.granted.contains(key) {
            return Verdict::Go;
        }
        let recent = |it: &&Missing| now < it.since + WINDOW;
        let missing = self.missing.values().filter(recent);
        let (suspected, believed) = missing.fold((0, 0), |(suspected, believed), it| {
            (suspected + 1, believed + usize::from(it.believed))
        });
        if believed > OWN_MAX {
            self.waiting.insert(key.clone());
            let names = self.names(self.missing.keys());
            let why = format!(
                "{believed} environments miss something at Fly since the same minute ({names}): what Fly shows may be wrong"
            );
            return Verdict::Hold(HoldReason::MassAbsence, why);
        }
        if suspected > OWN_MAX && (pass.impact == Impact::Replaces || concludes) {
            return Verdict::Wait(format!(
                "{suspected} environments miss something at the same time; they are looked at once more"
            ));
        }
        match pass.impact {
            Impact::None | Impact::Creates | Impact::Discards => Verdict::Go,
            Impact::Replaces | Impact::Destroys => self.lose(key, pass.ordered, now),
        }
    }

    fn note(&mut self, key: &K, pass: Pass, now: Duration) {
        match pass.absence {
            Absence::None => {
                self.missing.remove(key);
            }
            Absence::Suspected | Absence::Believed => {
                let new = Missing { since: now, believed: false };
                let missing = self.missing.entry(key.clone()).or_insert(new);
                missing.believed = pass.absence == Absence::Believed;
            }
        }
        if pass.held {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
        if pass.settled {
            self.granted.remove(key);
        }
    }

    /// One more environment loses something, if it may.
    fn lose(&mut self, key: &K, ordered: bool, now: Duration) -> Verdict {
        let others = || self.losses.iter().filter(|(it, _)| *it != key).map(|(_, it)| it);
        let (all, own) = (others().count() + 1, others().filter(|it| !it.ordered).count() + 1);
        let most = OWN_MAX.max(self.fleet / SHARE);
        if all > most || (!ordered && own > OWN_MAX) {
            self.waiting.insert(key.clone());
            let (count, most) = if ordered || all > most { (all, most) } else { (own, OWN_MAX) };
            let names = self.names(self.losses.keys());
            let why = format!(
                "{count} of {} environments would lose something at Fly within a minute ({names}), and {most} may without a \
                 person's word",
                self.fleet
            );
            return Verdict::Hold(HoldReason::MassChange, why);
        }
        let ordered = ordered && self.losses.get(key).is_none_or(|it| it.ordered);
        self.losses.insert(key.clone(), Loss { at: now, ordered });
        Verdict::Go
    }

    fn names<'a>(&self, keys: impl Iterator<Item = &'a K>) -> String
    where
        K: 'a,
    {
        let all: Vec<_> = keys.map(ToString::to_string).collect();
        let more = if all.len() > NAMES_MAX { " and others" } else { "" };
        format!("{}{more}", all.get(..NAMES_MAX.min(all.len())).unwrap_or_default().join(", "))
    }

    /// A hold of the breaker's was written at this revision.
    pub(crate) fn raised(&mut self, reason: HoldReason, at: Revision, now: Duration) {
        self.tripped.entry(reason.name()).or_insert((now, at));
    }

    /// Which of the breaker's holds there were at this revision. One that was there and is not any more was lifted by a person:
    /// what waited, and what misses something, goes on.
    pub(crate) fn holds(&mut self, there: &[HoldReason], at: Revision, now: Duration) {
        let names: Vec<_> = there.iter().map(|it| it.name()).collect();
        let before = self.tripped.len();
        self.tripped.retain(|name, (_, raised_at)| names.contains(name) || at <= *raised_at);
        if self.tripped.len() < before {
            self.losses.clear();
            self.granted.append(&mut self.waiting);
            self.granted.extend(std::mem::take(&mut self.missing).into_keys());
        }
        for name in names {
            self.tripped.entry(name).or_insert((now, at));
        }
    }

    /// Whether what was missing when [`HoldReason::MassAbsence`] was raised is there again. Asked after a complete list; who
    /// lifts the hold then lets nobody through.
    pub(crate) fn refuted(&mut self, now: Duration) -> bool {
        let name = HoldReason::MassAbsence.name();
        let Some((since, _)) = self.tripped.get(name) else { return false };
        if now < *since + WINDOW || self.missing.len() > OWN_MAX {
            return false;
        }
        self.tripped.remove(name);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Pass = Pass {
        impact: Impact::None,
        absence: Absence::None,
        ordered: false,
        held: false,
        settled: true,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn losing(impact: Impact, ordered: bool) -> Pass {
        Pass { impact, ordered, settled: false, ..QUIET }
    }

    fn missing(believed: bool) -> Pass {
        let absence = if believed { Absence::Believed } else { Absence::Suspected };
        let impact = if believed { Impact::Replaces } else { Impact::None };
        Pass { impact, absence, settled: false, ..QUIET }
    }

    /// A breaker over a fleet, and how many of the first `count` may lose something at once.
    fn through(fleet: usize, count: usize, ordered: bool) -> (Breaker<usize>, usize) {
        let mut breaker = Breaker::new();
        breaker.fleet(fleet);
        let pass = losing(Impact::Destroys, ordered);
        let may = (0..count).filter(|key| breaker.ask(key, pass, at(1)) == Verdict::Go).count();
        (breaker, may)
    }

    #[test]
    fn five_lose_something_within_a_minute_or_a_fifth_by_order() {
        for (fleet, ordered, expected) in
            [(3, false, 3), (20, false, 5), (1_000, false, 5), (20, true, 5), (100, true, 20)]
        {
            assert_eq!(through(fleet, fleet, ordered).1, expected, "{ordered} of {fleet}");
        }
    }

    #[test]
    fn what_loses_several_things_counts_once_and_a_minute_later_no_more() {
        let (mut breaker, _) = through(20, 5, false);
        let pass = losing(Impact::Replaces, false);
        assert_eq!(breaker.ask(&4, pass, at(30)), Verdict::Go, "its second step");
        assert!(matches!(breaker.ask(&5, pass, at(30)), Verdict::Hold(..)));
        assert_eq!(breaker.ask(&5, pass, at(62)), Verdict::Go, "four are a minute past");
    }

    #[test]
    fn what_is_new_is_made_all_the_while() {
        let (mut breaker, _) = through(20, 20, false);
        assert_eq!(breaker.ask(&99, losing(Impact::Creates, false), at(1)), Verdict::Go);
    }

    #[test]
    fn a_person_lets_those_through_that_waited_and_no_others() {
        let (mut breaker, _) = through(20, 12, true);
        breaker.raised(HoldReason::MassChange, Revision(10), at(1));
        let pass = losing(Impact::Destroys, true);
        breaker.holds(&[], Revision(9), at(2));
        assert!(matches!(breaker.ask(&7, pass, at(3)), Verdict::Hold(..)), "an older view");
        breaker.holds(&[HoldReason::MassChange], Revision(11), at(4));
        breaker.holds(&[], Revision(12), at(5));
        let may = |breaker: &mut Breaker<usize>, keys: std::ops::Range<usize>| {
            keys.filter(|key| breaker.ask(key, pass, at(6)) == Verdict::Go).count()
        };
        assert_eq!(may(&mut breaker, 5..12), 7);
        assert_eq!(may(&mut breaker, 12..20), 5, "new ones are counted anew");
        breaker.ask(&7, QUIET, at(7));
        assert!(matches!(breaker.ask(&7, pass, at(8)), Verdict::Hold(..)), "once is not for ever");
    }

    #[test]
    fn a_hold_from_before_a_restart_is_lifted_like_any_other() {
        let mut breaker = Breaker::new();
        breaker.fleet(20);
        breaker.holds(&[HoldReason::MassChange], Revision(5), at(1));
        for key in 0..9 {
            let _held = breaker.ask(&key, Pass { held: true, settled: false, ..QUIET }, at(2));
        }
        breaker.holds(&[], Revision(6), at(3));
        let pass = losing(Impact::Destroys, true);
        assert!((0..9).all(|key| breaker.ask(&key, pass, at(4)) == Verdict::Go));
    }

    #[test]
    fn while_many_miss_something_nothing_is_made_until_it_is_seen_again() {
        let mut breaker = Breaker::new();
        breaker.fleet(100);
        for key in 0..9 {
            assert_eq!(
                breaker.ask(&key, missing(false), at(1)),
                Verdict::Go,
                "nothing is done yet"
            );
        }
        let first = breaker.ask(&0, missing(true), at(3));
        assert!(matches!(first, Verdict::Wait(_)), "the others are looked at first: {first:?}");
        let verdicts: Vec<_> = (0..9).map(|key| breaker.ask(&key, missing(true), at(4))).collect();
        assert!(!verdicts.contains(&Verdict::Go), "{verdicts:?}");
        assert!(matches!(verdicts[8], Verdict::Hold(HoldReason::MassAbsence, _)));
        let new = breaker.ask(&50, losing(Impact::Creates, false), at(5));
        assert!(matches!(new, Verdict::Hold(HoldReason::MassAbsence, _)), "not even what is new");
        breaker.raised(HoldReason::MassAbsence, Revision(1), at(5));
        assert!(!breaker.refuted(at(70)), "they still miss it");
        for key in 0..9 {
            breaker.ask(&key, QUIET, at(71));
        }
        assert!(breaker.refuted(at(72)) && !breaker.refuted(at(73)), "once");
        assert_eq!(breaker.ask(&50, losing(Impact::Creates, false), at(74)), Verdict::Go);
    }

    #[test]
    fn losses_that_are_old_are_no_mass_absence() {
        let mut breaker = Breaker::new();
        breaker.fleet(100);
        for key in 0..9 {
            breaker.ask(&key, missing(false), at(20 * u64::try_from(key).unwrap()));
            assert_eq!(
                breaker.ask(&key, missing(true), at(20 * u64::try_from(key).unwrap() + 3)),
                Verdict::Go
            );
        }
    }

    #[test]
    fn a_person_lets_what_is_truly_missing_be_replaced() {
        let mut breaker = Breaker::new();
        breaker.fleet(100);
        for key in 0..9 {
            breaker.ask(&key, missing(false), at(1));
        }
        for key in 0..9 {
            breaker.ask(&key, missing(true), at(4));
        }
        breaker.raised(HoldReason::MassAbsence, Revision(1), at(4));
        breaker.holds(&[], Revision(2), at(10));
        assert!((0..9).all(|key| breaker.ask(&key, missing(true), at(11)) == Verdict::Go));
    }
}
