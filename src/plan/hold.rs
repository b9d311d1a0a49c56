//! What a pass does to what is there, and what of it is held back until a person says so. It must never decide when to hold:
//! that takes the view over all environments.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{BayStatus, MissingWhat},
    environment::Reason,
    meta::Resource as _,
};
use crate::plan::{
    Health, Step,
    action::Action,
    observe::{SECOND_LOOK, is_absent},
    world::World,
};

/// How often what is held back is looked at; the end of a hold wakes it before that.
const LOOK: SignedDuration = SignedDuration::from_secs(10);

/// What an action does to what an environment has at Fly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impact {
    /// Nothing is made or lost.
    None,
    /// Something is made that was not there before.
    Creates,
    /// Something is made in the place of what is believed gone.
    Replaces,
    /// Something is destroyed that was never in use.
    Discards,
    /// Something is destroyed.
    Destroys,
}

/// Whether something is missing of an environment that nobody ordered to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// All is there, or nobody looked.
    None,
    /// A first look did not find it.
    Suspected,
    /// Nor did a second one, apart in time.
    Believed,
}

/// What a step does.
pub(crate) fn impact(step: &Step) -> Impact {
    let Step::Act { action, reason, .. } = step else { return Impact::None };
    let lost = matches!(reason, Reason::MachineLost | Reason::AppLost | Reason::DeadlineExceeded);
    match action {
        Action::DeleteApp { .. } | Action::DestroyMachine { .. } => Impact::Destroys,
        // An environment's own volume goes with its app only.
        Action::DeleteVolume { .. } => Impact::Discards,
        Action::CreateApp { .. } | Action::CreateMachine { .. } if lost => Impact::Replaces,
        Action::CreateApp { .. } | Action::CreateVolume { .. } | Action::CreateMachine { .. } => {
            Impact::Creates
        }
        Action::WriteSecrets { .. }
        | Action::ExtendVolume { .. }
        | Action::UpdateMachine { .. }
        | Action::WriteMetadata { .. }
        | Action::StartMachine { .. }
        | Action::SleepMachine { .. }
        | Action::Probe { .. }
        | Action::Personalize { .. }
        | Action::CountConnections { .. } => Impact::None,
    }
}

/// Whether something is missing, by this look.
pub(crate) fn absence(world: &World, status: &BayStatus, now: Timestamp) -> Absence {
    let Some(missing) = &status.missing else { return Absence::None };
    let ordered = status.machine.as_ref().is_some_and(|it| it.destroying)
        && missing.what == MissingWhat::Machine;
    if ordered || world.environment.is_deleting() {
        Absence::None
    } else if is_absent(world, missing.what) && now >= missing.since + SECOND_LOOK {
        Absence::Believed
    } else {
        // A look that shows nothing clears no doubt either.
        Absence::Suspected
    }
}

/// The step that is taken instead while this one is held back.
pub(crate) fn gate(world: &World, step: &Step, now: Timestamp) -> Option<Step> {
    let why = match impact(step) {
        Impact::None => None,
        Impact::Creates => world.no_creating.as_ref(),
        Impact::Replaces => world.no_replacing.as_ref(),
        Impact::Discards | Impact::Destroys => world.no_destroying.as_ref(),
    }?;
    let Step::Act { action, why: what, .. } = step else { return None };
    Some(Step::Wait {
        reason: Reason::Held,
        why: format!("{what}; {} is held back: {why}", action.name()),
        until: Some(now + LOOK),
        health: Health::Degraded,
    })
}
