//! PURE CORE. What to do about one environment, from what is wanted and what is seen. Values in, values out: no async, clock,
//! randomness or IO, here or below.
//!
//! A pass plans at most one call. What is recorded before it, what it came back with and the next pass's plan are all
//! functions here, so that the whole course of an environment can be computed without doing any of it ([`preview`]).

pub mod action;
pub mod autoscale;
pub mod bay;
pub mod environment;
pub mod hold;
pub mod ledger;
pub mod lifetime;
pub mod machine;
pub mod observe;
pub mod orphan;
pub mod pool;
pub mod preview;
pub mod price;
pub mod restored;
pub(crate) mod retire;
pub mod rollout;
pub mod sleep;
pub mod status;
pub mod stock;
pub mod transit;
pub mod world;

use crate::api::{
    Timestamp,
    bay::{BayPhase, BayStatus},
    environment::{EnvironmentStatus, Reason, SleepSignal},
    meta::Resource as _,
};
use crate::plan::{
    action::Action,
    hold::{Absence, Impact},
    lifetime::Lifetime,
    world::World,
};

/// What one pass does about one environment.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the environment's status becomes.
    pub status: EnvironmentStatus,
    /// What the bay's record becomes before the call, its intent included.
    pub bay: Option<BayStatus>,
    /// It gets a bay.
    pub bind: Option<Binding>,
    /// The one call.
    pub action: Option<Action>,
    /// What that does to what is there.
    pub impact: Impact,
    /// Whether something is missing that nobody ordered to go.
    pub absence: Absence,
    /// Its lifetime is over, so its deletion is asked for.
    pub expire: bool,
    /// Nothing is left at Fly: the bay, its key and the finalizer go, the hostnames are freed.
    pub release: bool,
    /// Why this and not something else.
    pub note: Note,
    /// When to look again if nothing happens before; `None` is never.
    pub wake_at: Option<Timestamp>,
}

/// Which bay an environment gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// One with the world's fresh name is made and bound.
    New,
    /// One of a pool's.
    Claim(stock::Vacancy),
    /// The one that it has is given up, never to be had again, and the next pass gets it another.
    GiveUp,
}

/// Why a plan is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// How much it is worth: what people should see in `describe`.
    pub level: Level,
}

/// What a note is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing new.
    Quiet,
    /// As it should be.
    Normal,
    /// Not as it should be.
    Warning,
}

/// What a pass comes down to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Bind it to a bay; a new one takes the place of one of which nothing was made yet.
    Bind {
        /// Which.
        to: Binding,
        /// Why.
        reason: Reason,
        /// Why, for people.
        why: String,
    },
    /// Make one call.
    Act {
        /// The call.
        action: Action,
        /// Why.
        reason: Reason,
        /// Why, for people.
        why: String,
        /// Whether that reason is a fault.
        fault: bool,
    },
    /// Wait.
    Wait {
        /// For what.
        reason: Reason,
        /// For what, for people.
        why: String,
        /// Look again then, at the latest.
        until: Option<Timestamp>,
        /// How bad it is.
        health: Health,
    },
    /// It serves.
    Awake {
        /// What keeps it awake.
        signal: SleepSignal,
        /// Since when.
        since: Option<Timestamp>,
        /// When it will sleep.
        sleeps_at: Option<Timestamp>,
        /// A change waits for that.
        pending: bool,
        /// Look again then, at the latest.
        look_at: Option<Timestamp>,
    },
    /// It sleeps.
    Asleep {
        /// What put it to sleep.
        signal: SleepSignal,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// Nothing is left of it.
    Release,
}

/// How bad it is to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// On its way.
    Fine,
    /// It should serve and does not; hangar goes on trying.
    Degraded,
    /// A person is needed.
    Stalled,
}

/// Plans one pass. Total: it never fails and never panics.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    match lifetime::look(world, now) {
        Lifetime::Over(at) => lifetime::end(world, at, now),
        lifetime => living(world, &lifetime, now),
    }
}

/// Plans one pass for what is not over.
fn living(world: &World, lifetime: &Lifetime, now: Timestamp) -> Plan {
    let mut bay = world.bay.as_ref().map(|bay| bay.status.clone()).unwrap_or_default();
    let deleting = world.environment.is_deleting();
    let adopted = if deleting { None } else { restored::adopt(&mut bay, world, now) };
    if world.bay.is_some() && adopted.is_none() {
        observe::observe(&mut bay, world, now);
    }
    let absence = hold::absence(world, &bay, now);
    let mut step = decide(world, &mut bay, adopted, now);
    let settled = matches!(step, Step::Awake { .. } | Step::Asleep { .. });
    let mut status = status::of(world, &bay, &step, now);
    if let Some(tidy) = transit::tidy(world, &bay, now).filter(|_| settled)
        && hold::gate(world, &tidy, now).is_none()
    {
        // What the environment is does not change by that.
        step = tidy;
    } else if settled {
        // Whatever failed on the way here is over.
        bay.failure = None;
    }
    let impact = hold::impact(&step);
    let (action, note, wake_at) = match &step {
        Step::Act { action, reason, why, fault } => {
            let note = acting(*reason, why, *fault, &bay);
            action::intend(&mut bay, action, world.environment.metadata.generation, now);
            (Some(action.clone()), note, Some(now))
        }
        Step::Wait { reason, why, until, health } => {
            let level = match health {
                Health::Fine => Level::Quiet,
                Health::Degraded | Health::Stalled => Level::Warning,
            };
            (None, Note { reason: *reason, message: why.clone(), level }, *until)
        }
        Step::Bind { reason, why, .. } => {
            let level = match reason {
                Reason::BayPending => Level::Quiet,
                Reason::PoolEmpty | Reason::PoolUnfit => Level::Normal,
                _ => Level::Warning,
            };
            (None, Note { reason: *reason, message: why.clone(), level }, Some(now))
        }
        Step::Awake { sleeps_at, look_at, .. } => {
            let wake_at = [*sleeps_at, *look_at].into_iter().flatten().min();
            (None, quiet(Reason::Serving, &status::serves(world)), wake_at)
        }
        Step::Asleep { .. } => (None, quiet(Reason::Idle, "it sleeps"), None),
        Step::Release => (None, quiet(Reason::Deleting, "nothing is left of it"), None),
    };
    // What is to be discarded is looked at a second time, whatever else there is to wait for.
    let stray_at = bay.stray.as_ref().map(|it| it.since + observe::SECOND_LOOK);
    let stray_at = stray_at.filter(|at| *at > now);
    let wake_at = [wake_at, stray_at, lifetime.wake_at(now)].into_iter().flatten().min();
    lifetime.tell(world, &mut status, now);
    status.observed_generation = world.environment.metadata.generation;
    Plan {
        status,
        bay: world.bay.as_ref().map(|_| bay),
        bind: match &step {
            Step::Bind { to, .. } => Some(to.clone()),
            _ => None,
        },
        action,
        impact,
        absence,
        expire: false,
        release: matches!(step, Step::Release),
        note,
        wake_at,
    }
}

fn acting(reason: Reason, why: &str, fault: bool, bay: &BayStatus) -> Note {
    if fault || !status::keeps_failing(bay) {
        let level = if fault { Level::Warning } else { Level::Normal };
        return Note { reason, message: why.to_owned(), level };
    }
    // Without the count, so that it is the same event each time.
    let message = format!("{why}, and calls for that failed several times");
    Note { reason: Reason::CallFailed, message, level: Level::Warning }
}

/// What the pass comes down to, holds considered.
fn decide(world: &World, bay: &mut BayStatus, adopted: Option<String>, now: Timestamp) -> Step {
    let deleting = world.environment.is_deleting();
    if deleting {
        bay.phase = BayPhase::Retiring;
    }
    let seen = bay.clone();
    let step = if deleting {
        retire::retire(world, bay, now)
    } else if let Some(id) = adopted {
        environment::adopted(&id, now)
    } else {
        environment::step(world, bay, now)
    };
    let Some(wait) = hold::gate(world, &step, now) else { return step };
    // What would have been forgotten on the way to the call is not.
    *bay = seen;
    wait
}

fn quiet(reason: Reason, message: &str) -> Note {
    Note { reason, message: message.to_owned(), level: Level::Quiet }
}

#[cfg(test)]
pub(crate) mod tests;
