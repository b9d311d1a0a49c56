//! What becomes of a template's change: revisions to record and to forget, which environment is changed to the newest one next,
//! and when that goes no further. It must never plan what is done to an environment.
//!
//! An environment's own pass knows one revision only, the one that it is kept at, so that nothing of another can reach it. Only
//! what is planned here takes it from one revision to another.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{
    Timestamp,
    environment::Phase,
    rollout::{self, EnvironmentRevision, Recorded, Resumed, RevisionRef, Stopped, TemplateStatus},
    template::{Template, TemplateSpec, Update, UpdateStrategy},
};
use crate::plan::{machine, stock};

mod fact;
mod outlook;
mod say;

pub use fact::FleetFact;
pub use outlook::{Outlook, outlook};

/// So many environments that do not serve at a new revision stop it, or as many as may be changed at a time if that is less.
const FAILURES_MAX: usize = 3;

/// What one pass for a template decides from.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutWorld {
    /// The template.
    pub template: Template,
    /// Its environments.
    pub fleet: Vec<FleetFact>,
    /// Revisions that unbound bays were made from.
    pub stock: BTreeSet<u64>,
}

/// What a pass for a template does.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutPlan {
    /// What the template's status becomes.
    pub status: TemplateStatus,
    /// Whether its newest revision is to be recorded as it is now.
    pub record: bool,
    /// Revisions that are to be forgotten.
    pub forget: Vec<u64>,
    /// Environments that are from now on kept at another revision.
    pub moves: Vec<Move>,
    /// When to look again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// An environment that is from now on kept at another revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its name.
    pub name: String,
    /// Which it is kept at as this is planned; whoever finds another one leaves it.
    pub from: EnvironmentRevision,
    /// Which it is kept at then.
    pub to: EnvironmentRevision,
    /// What it comes to.
    pub why: Why,
}

/// What a move comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The revision has another number and says the same.
    Same,
    /// It was told to.
    Told,
    /// It sleeps, so that nobody notices.
    Asleep,
    /// It has no machine yet.
    Unmade,
    /// It is its turn.
    Turn,
    /// The revision fails, and nothing of it was started here.
    Back,
}

/// A template as it was at a revision: the rules that are hangar's to keep, and no machine's, are those of now.
#[must_use]
pub fn at_revision(mut template: Template, then: &TemplateSpec) -> Template {
    let (sleep, update) = (template.spec.sleep.take(), template.spec.update.take());
    let now = TemplateSpec { sleep, update, ..then.clone() };
    let same = machine::autostop(&now) == machine::autostop(then);
    template.spec = if same { now } else { TemplateSpec { sleep: then.sleep.clone(), ..now } };
    template
}

/// Plans one pass for a template. Total: it never fails and never panics.
pub fn plan(world: &RolloutWorld, now: Timestamp) -> RolloutPlan {
    let (mut rollout, record) = begin(world, now);
    let moves = rollout.moves();
    let forget = rollout.forget();
    rollout.count(&moves, now);
    let wake_at = rollout.window(now).map(|(_, changes_at)| changes_at);
    RolloutPlan { status: rollout.status, record, forget, moves, wake_at }
}

/// How it stands before anything is moved, and whether the newest revision is to be recorded.
fn begin(world: &RolloutWorld, now: Timestamp) -> (Rollout<'_>, bool) {
    let mut status = world.template.status.clone();
    status.observed_generation = world.template.metadata.generation;
    let hash = stock::made_from(&world.template.spec);
    let record = status.hash != hash || status.recorded(status.revision).is_none();
    if record {
        let last = status.history.iter().map(|it| it.revision).max().unwrap_or(0);
        status.revision = last.max(status.revision) + 1;
        status.hash = hash;
        let RevisionRef { revision, hash } = status.newest();
        status.history.push(Recorded { revision, hash, at: now });
        status.stopped = None;
    }
    let update = world.template.spec.update.clone();
    let update = update.unwrap_or_else(|| Update::by(UpdateStrategy::WhenAsleep));
    let total = number(world.fleet.len());
    let limit = update.limit(total);
    let mut rollout = Rollout { world, limit, is_open: false, update, status };
    rollout.is_open = rollout.window(now).is_some_and(|(is_open, _)| is_open);
    rollout.resume();
    rollout.stop(now);
    (rollout, record)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn rests(fact: &FleetFact) -> bool {
    fact.phase == Phase::Asleep
}

struct Rollout<'a> {
    world: &'a RolloutWorld,
    update: Update,
    /// How many environments may be changed at a time.
    limit: u32,
    /// Whether these are the hours in which those that serve do not wait for their sleep.
    is_open: bool,
    /// The new status, as far as it is known.
    status: TemplateStatus,
}

impl<'a> Rollout<'a> {
    /// Whether its window is open, and when that changes.
    fn window(&self, now: Timestamp) -> Option<(bool, Timestamp)> {
        self.update.window.as_ref().map(|it| it.at(now))
    }

    /// Environments and what they are kept at.
    fn kept(&self) -> impl Iterator<Item = (&'a FleetFact, &'a EnvironmentRevision)> {
        self.world.fleet.iter().filter_map(|it| Some((it, it.kept_at.as_ref()?)))
    }

    /// Environments that have another revision than the newest.
    fn behind(&self) -> impl Iterator<Item = (&'a FleetFact, &'a EnvironmentRevision)> {
        let newest = self.status.hash.clone();
        self.kept().filter(move |(_, at)| at.hash != newest)
    }

    /// Environments that were changed to the newest revision and were not seen serving at it, those that sleep or are not made yet left
    /// out. One that was changed in its sleep counts when it is found not to serve, and one that waits serves as before.
    fn unproven(&self) -> Vec<&'a FleetFact> {
        let newest = &self.status.hash;
        let excused = self.status.resumed.as_ref().filter(|it| it.revision == self.status.revision);
        let changed = |(fact, at): &(&FleetFact, &EnvironmentRevision)| {
            let bad = matches!(fact.phase, Phase::Degraded | Phase::Stalled);
            at.hash == *newest
                && at.from.is_some()
                && at.ready_at.is_none()
                && !rests(fact)
                && !fact.unmade
                && (at.at_once || bad)
                && excused.is_none_or(|it| !it.excused.contains(&fact.name))
        };
        self.kept().filter(changed).map(|(fact, _)| fact).collect()
    }

    fn failing(&self) -> Vec<&'a FleetFact> {
        self.unproven().into_iter().filter(|it| it.trouble.is_some()).collect()
    }

    /// A person said that it may go on: what failed before that counts no more.
    fn resume(&mut self) {
        let Some(value) = self.world.template.metadata.annotations.get(rollout::RESUMED) else {
            return;
        };
        if self.status.resumed.as_ref().is_some_and(|it| it.value == *value) {
            return;
        }
        let revision = self.status.revision;
        let before = self.status.resumed.take().filter(|it| it.revision == revision);
        let mut excused = before.map(|it| it.excused).unwrap_or_default();
        excused.extend(self.failing().into_iter().map(|it| it.name.clone()));
        excused.sort_unstable();
        excused.dedup();
        self.status.stopped = None;
        self.status.resumed = Some(Resumed { value: value.clone(), revision, excused });
    }

    /// Stops a revision that fails.
    fn stop(&mut self, now: Timestamp) {
        let failing = self.failing();
        let most = FAILURES_MAX.min(usize::try_from(self.limit).unwrap_or(FAILURES_MAX));
        let Some(first) = failing.first().filter(|_| failing.len() >= most) else { return };
        if self.status.is_stopped() {
            return;
        }
        let trouble = first.trouble.as_deref().unwrap_or_default();
        let who = match failing.len() {
            1 => format!("{} does", first.name),
            all => format!("{} and {} more do", first.name, all - 1),
        };
        self.status.stopped = Some(Stopped {
            revision: self.status.revision,
            at: now,
            message: format!("{who} not serve at it: {trouble}"),
            instead: self.instead(),
        });
    }

    /// The revision that most environments have beside the newest, or else the one before it.
    fn instead(&self) -> Option<u64> {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, at) in self.behind().filter(|(_, at)| self.status.recorded(at.revision).is_some()) {
            *counts.entry(at.revision).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(revision, count)| (*count, *revision));
        let older = self.status.history.iter().filter(|it| it.hash != self.status.hash);
        most.map(|(revision, _)| revision).or_else(|| older.map(|it| it.revision).max())
    }

    /// Whether environments follow without being told one by one.
    fn flows(&self) -> bool {
        let resumed = self.status.resumed.as_ref();
        let ordered = resumed.is_some_and(|it| it.revision == self.status.revision);
        let manual = self.update.strategy == UpdateStrategy::Manual;
        !self.update.paused && !self.status.is_stopped() && (!manual || ordered)
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let newest = self.status.revision;
        for (fact, at) in self.kept() {
            if at.hash == self.status.hash {
                moves.extend((at.revision != newest).then(|| self.to(fact, at, Why::Same)));
            } else if fact.follow >= newest {
                moves.push(self.to(fact, at, Why::Told));
            } else if self.flows() && rests(fact) {
                moves.push(self.to(fact, at, Why::Asleep));
            } else if self.flows() && fact.unmade {
                moves.push(self.to(fact, at, Why::Unmade));
            }
        }
        if self.status.is_stopped() {
            moves.extend(self.kept().filter_map(|(fact, at)| self.back(fact, at)));
        }
        if self.flows() {
            let told = moves.iter().filter(|it| it.why == Why::Told).count();
            let taken = self.unproven().len() + told;
            let room = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_sub(taken);
            let mut turns = self.waiting();
            // Those that do not serve have nothing to lose.
            turns.sort_by_key(|(fact, _)| (fact.phase == Phase::Ready, &fact.name));
            let turns = turns.into_iter().take(room);
            moves.extend(turns.map(|(fact, at)| self.to(fact, at, Why::Turn)));
        }
        moves
    }

    /// Those that wait for a turn.
    fn waiting(&self) -> Vec<(&'a FleetFact, &'a EnvironmentRevision)> {
        let when_asleep = self.update.strategy == UpdateStrategy::WhenAsleep && !self.is_open;
        let sleeps = self.world.template.spec.sleep.is_some();
        let waits = |(fact, at): &(&FleetFact, &EnvironmentRevision)| {
            if rests(fact) || fact.unmade || fact.claims || fact.follow >= self.status.revision {
                return false;
            }
            let serves = matches!(fact.phase, Phase::Ready | Phase::Starting);
            let will_sleep = sleeps && !fact.always_awake && serves;
            // One that woke before it was changed in its sleep.
            let woke = at.hash == self.status.hash && fact.waits && !at.at_once;
            (at.hash != self.status.hash || woke) && !(when_asleep && will_sleep)
        };
        self.kept().filter(waits).collect()
    }

    fn to(&self, fact: &FleetFact, at: &EnvironmentRevision, why: Why) -> Move {
        let RevisionRef { revision, hash } = self.status.newest();
        let same = at.hash == hash;
        let to = EnvironmentRevision {
            revision,
            hash,
            from: if same { at.from } else { Some(at.revision) },
            at_once: match why {
                Why::Turn | Why::Told => true,
                Why::Same => at.at_once,
                Why::Asleep | Why::Unmade | Why::Back => false,
            },
            looked: at.looked && same,
            ready_at: at.ready_at.filter(|_| same),
        };
        Move { name: fact.name.clone(), from: at.clone(), to, why }
    }

    /// What was changed in its sleep, or before it was made, to a revision that fails since is changed back if it still is so.
    fn back(&self, fact: &FleetFact, at: &EnvironmentRevision) -> Option<Move> {
        let touched = !rests(fact) && !fact.unmade;
        let unseen = at.hash == self.status.hash && at.ready_at.is_none() && !touched;
        if !unseen || fact.follow >= self.status.revision {
            return None;
        }
        let RevisionRef { revision, hash } = self.status.recorded(at.from?)?;
        let to = EnvironmentRevision { revision, hash, ..EnvironmentRevision::default() };
        let other = to.hash != at.hash;
        other.then(|| Move { name: fact.name.clone(), from: at.clone(), to, why: Why::Back })
    }

    /// Forgets the oldest revisions that nothing is made from.
    fn forget(&mut self) -> Vec<u64> {
        let mut used = self.world.stock.clone();
        for (_, at) in self.kept() {
            used.insert(at.revision);
            used.extend(at.from);
        }
        used.extend(self.status.stopped.as_ref().and_then(|it| it.instead));
        let history = std::mem::take(&mut self.status.history);
        let old = history.len().saturating_sub(rollout::KEPT);
        let (mut kept, mut forgotten) = (Vec::new(), Vec::new());
        for (place, it) in history.into_iter().enumerate() {
            if place < old && !used.contains(&it.revision) {
                forgotten.push(it.revision);
            } else {
                kept.push(it);
            }
        }
        self.status.history = kept;
        forgotten
    }
}

#[cfg(test)]
mod tests;
