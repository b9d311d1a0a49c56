//! What a change of a template comes to for each environment, and when: what `hangar plan` shows. It must never be used to
//! decide what is really done.

use std::{collections::BTreeMap, fmt};

use crate::api::{
    Timestamp,
    environment::Phase,
    template::{UpdateStrategy, UpdateWindow},
};
use crate::plan::rollout::{FleetFact, RolloutWorld, Why, begin, rests};

/// When an environment is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// Never: the machine stays as it is.
    Same,
    /// At once, in its sleep.
    Asleep,
    /// At once: it has no machine yet.
    Unmade,
    /// At once, as one of the first.
    Now(u32),
    /// When its turn comes.
    ByTurns(u32),
    /// When it next sleeps, or in the window.
    NextSleep(Option<UpdateWindow>),
    /// Not before the template is resumed.
    Paused,
    /// Not before a person says so.
    Order,
    /// Not before a person says so, since the revision fails.
    Stopped,
}

/// As `hangar plan` says it.
impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => write!(f, "the template's change makes no difference to it"),
            Self::Asleep => write!(f, "changed now, in its sleep"),
            Self::Unmade => write!(f, "made from it: it has no machine yet"),
            Self::Now(most) => write!(f, "changed now, as one of the first; {most} at a time"),
            Self::ByTurns(most) => write!(f, "changed when its turn comes, {most} at a time"),
            Self::NextSleep(None) => write!(f, "changed when it next sleeps"),
            Self::NextSleep(Some(window)) => {
                write!(f, "changed when it next sleeps, or by turns {window}")
            }
            Self::Paused => write!(f, "not changed before `hangar rollout resume`: it is paused"),
            Self::Order => write!(f, "not changed before `hangar rollout resume`: it is Manual"),
            Self::Stopped => write!(f, "not changed before `hangar rollout resume`: it fails"),
        }
    }
}

impl Outlook {
    /// Whether a person has to say so first.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        matches!(self, Self::Paused | Self::Order | Self::Stopped)
    }
}

/// What becomes of each environment.
#[must_use]
pub fn outlook(world: &RolloutWorld, now: Timestamp) -> BTreeMap<String, Outlook> {
    let (rollout, _) = begin(world, now);
    let moves = rollout.moves();
    let when_asleep = rollout.update.strategy == UpdateStrategy::WhenAsleep && !rollout.is_open;
    let sleeps = world.template.spec.sleep.is_some();
    let of = |fact: &FleetFact| {
        let Some(at) = &fact.kept_at else { return Outlook::Same };
        let moved = moves.iter().find(|it| it.name == fact.name).map(|it| it.why);
        match moved {
            Some(Why::Asleep) => Outlook::Asleep,
            Some(Why::Unmade) => Outlook::Unmade,
            Some(Why::Told | Why::Turn) if rests(fact) => Outlook::Asleep,
            Some(Why::Told | Why::Turn) => Outlook::Now(rollout.limit),
            Some(Why::Same | Why::Back) => Outlook::Same,
            None if at.hash == rollout.status.hash => Outlook::Same,
            None if rollout.status.is_stopped() => Outlook::Stopped,
            None if rollout.update.paused => Outlook::Paused,
            None if !rollout.flows() => Outlook::Order,
            None if when_asleep && sleeps && !fact.always_awake && serves(fact.phase) => {
                Outlook::NextSleep(rollout.update.window.clone())
            }
            None => Outlook::ByTurns(rollout.limit),
        }
    };
    world.fleet.iter().map(|it| (it.name.clone(), of(it))).collect()
}

fn serves(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Starting)
}
