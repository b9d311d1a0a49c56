//! The rules there are, how often each came into question, how often it came true. Time and chance are passed in. It must
//! never know what a fault does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use crate::chance::{self, Chance};
use crate::local::faults::{kind::Kind, rule::Rule, subject::Subject};

/// A rule with what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Its number; numbers are not given twice.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How often something was there that it could befall.
    pub matched: u64,
    /// How often it came true.
    pub fired: u64,
}

/// A rule in the book.
#[derive(Debug)]
struct Entry {
    id: u64,
    rule: Arc<Rule>,
    made: Duration,
    matched: u64,
    fired: u64,
    /// Names of apps that are somebody else's by it.
    taken: BTreeSet<String>,
}

impl Entry {
    fn since(&self) -> Duration {
        self.made.saturating_add(self.rule.from.unwrap_or_default())
    }

    fn in_force(&self, now: Duration) -> bool {
        let since = self.since();
        now >= since && self.rule.lasts.is_none_or(|it| now < since.saturating_add(it))
    }

    /// Counts a match, and says whether the rule comes true this time.
    fn comes_true(&mut self, chance: &dyn Chance) -> bool {
        let rule = &self.rule;
        self.matched += 1;
        let nth = self.matched.saturating_sub(rule.skip.unwrap_or(0));
        if nth == 0 || rule.times.is_some_and(|it| self.fired >= it) {
            return false;
        }
        // The first of each two.
        if rule.kind == Kind::FlappingNotFound && nth.is_multiple_of(2) {
            return false;
        }
        rule.per_mille.is_none_or(|it| chance::below(chance, 1_000) < u64::from(it))
    }
}

/// All rules.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
    last_id: u64,
    /// By kind, of removed rules too.
    fired: BTreeMap<Kind, u64>,
}

impl Book {
    pub(super) fn add(&mut self, rule: Arc<Rule>, now: Duration) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.entries.push(Entry {
            id,
            rule,
            made: now,
            matched: 0,
            fired: 0,
            taken: BTreeSet::new(),
        });
        id
    }

    /// Whether there was such a rule.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|it| it.id != id);
        self.entries.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = |it: &Entry| Listed {
            id: it.id,
            rule: Rule::clone(&it.rule),
            matched: it.matched,
            fired: it.fired,
        };
        self.entries.iter().map(listed).collect()
    }

    /// Whether a rule of such a kind is there, in force or not.
    pub(super) fn has(&self, of: impl Fn(Kind) -> bool) -> bool {
        self.entries.iter().any(|it| of(it.rule.kind))
    }

    pub(super) fn fired(&self) -> &BTreeMap<Kind, u64> {
        &self.fired
    }

    /// The first rule that comes true among those of some kinds. Later ones are then not asked.
    pub(super) fn first(
        &mut self,
        of: impl Fn(Kind) -> bool,
        subject: &Subject,
        at: (Duration, &dyn Chance),
    ) -> Option<Arc<Rule>> {
        self.true_ones(of, subject, at).next()
    }

    /// All rules that come true among those of some kinds.
    pub(super) fn all(
        &mut self,
        of: impl Fn(Kind) -> bool,
        subject: &Subject,
        at: (Duration, &dyn Chance),
    ) -> Vec<Arc<Rule>> {
        self.true_ones(of, subject, at).collect()
    }

    /// Whether a rule comes true for something that it is to strike.
    pub(super) fn strikes(
        &mut self,
        id: u64,
        subject: &Subject,
        (now, chance): (Duration, &dyn Chance),
    ) -> Option<Arc<Rule>> {
        let found = self.entries.iter_mut().find(|it| it.id == id)?;
        if !found.in_force(now) || !subject.is_of(&found.rule) || !found.comes_true(chance) {
            return None;
        }
        let rule = Arc::clone(&found.rule);
        self.count(&rule);
        Some(rule)
    }

    pub(super) fn is_in_force(&self, id: u64, now: Duration) -> bool {
        self.entries.iter().any(|it| it.id == id && it.in_force(now))
    }

    /// Rules of such kinds that are in force, and since when.
    pub(super) fn in_force(
        &self,
        of: impl Fn(Kind) -> bool,
        now: Duration,
    ) -> Vec<(Duration, Arc<Rule>)> {
        let entries = self.entries.iter().filter(|it| of(it.rule.kind) && it.in_force(now));
        entries.map(|it| (it.since(), Arc::clone(&it.rule))).collect()
    }

    /// Counts a rule that came true without being asked here.
    pub(super) fn count(&mut self, rule: &Arc<Rule>) {
        if let Some(entry) = self.entry(rule) {
            entry.fired += 1;
        }
        *self.fired.entry(rule.kind).or_default() += 1;
    }

    /// Makes an app's name somebody else's for as long as the rule is in force.
    pub(super) fn take_name(&mut self, rule: &Arc<Rule>, app: &str) {
        if let Some(entry) = self.entry(rule) {
            entry.taken.insert(app.to_owned());
        }
    }

    pub(super) fn is_taken(&self, app: &str, now: Duration) -> bool {
        self.entries.iter().any(|it| it.taken.contains(app) && it.in_force(now))
    }

    fn entry(&mut self, rule: &Arc<Rule>) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|it| Arc::ptr_eq(&it.rule, rule))
    }

    fn true_ones<'a>(
        &'a mut self,
        of: impl Fn(Kind) -> bool + 'a,
        subject: &'a Subject,
        (now, chance): (Duration, &'a dyn Chance),
    ) -> impl Iterator<Item = Arc<Rule>> + 'a {
        let Self { entries, fired, .. } = self;
        entries.iter_mut().filter_map(move |it| {
            let possible = of(it.rule.kind) && it.in_force(now) && subject.is_of(&it.rule);
            (possible && it.comes_true(chance)).then(|| {
                it.fired += 1;
                *fired.entry(it.rule.kind).or_default() += 1;
                Arc::clone(&it.rule)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Seeded;

    /// Which of so many calls a rule befalls, one call a second.
    fn befallen(rule: Rule, calls: u64) -> Vec<u64> {
        let (mut book, chance) = (Book::default(), Seeded::new(1, "book"));
        book.add(Arc::new(rule), Duration::ZERO);
        let mut fires = |at| {
            let at = (Duration::from_secs(at), &chance as &dyn Chance);
            book.first(|_| true, &Subject::default(), at).is_some()
        };
        (0..calls).filter(|it| fires(*it)).collect()
    }

    fn rule() -> Rule {
        Rule::new(Kind::Answer500Done)
    }

    #[test]
    fn a_rule_is_limited_in_number_and_in_time() {
        assert_eq!(befallen(rule(), 3), [0, 1, 2]);
        assert_eq!(befallen(Rule { skip: Some(2), times: Some(1), ..rule() }, 9), [2]);
        let span = |it| Some(Duration::from_secs(it));
        assert_eq!(befallen(Rule { from: span(3), lasts: span(2), ..rule() }, 9), [3, 4]);
        let matched_in_force_only = Rule { from: span(3), skip: Some(1), ..rule() };
        assert_eq!(befallen(matched_in_force_only, 6), [4, 5]);
        assert_eq!(befallen(Rule::new(Kind::FlappingNotFound), 5), [0, 2, 4]);
    }

    #[test]
    fn chance_decides_as_often_as_the_rule_says() {
        let befallen = befallen(Rule { per_mille: Some(250), ..rule() }, 4_000);
        assert!((900..1_100).contains(&befallen.len()), "{}", befallen.len());
        assert!(self::befallen(Rule { per_mille: Some(0), ..rule() }, 100).is_empty());
    }

    #[test]
    fn the_first_rule_that_comes_true_leaves_the_later_ones_alone() {
        let (mut book, chance) = (Book::default(), Seeded::new(1, "book"));
        book.add(Arc::new(rule().times(1)), Duration::ZERO);
        book.add(Arc::new(Rule::new(Kind::ResetAfter).times(1)), Duration::ZERO);
        let mut next = || {
            let at = (Duration::ZERO, &chance as &dyn Chance);
            book.first(|_| true, &Subject::default(), at).map(|it| it.kind)
        };
        assert_eq!(
            [next(), next(), next()],
            [Some(Kind::Answer500Done), Some(Kind::ResetAfter), None]
        );
        let counted: Vec<_> = book.list().iter().map(|it| (it.id, it.matched, it.fired)).collect();
        assert_eq!(counted, [(1, 3, 1), (2, 2, 1)]);
        book.clear();
        assert_eq!(book.fired().values().sum::<u64>(), 2);
    }
}
