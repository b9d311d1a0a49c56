//! A machine that is there and not where it should stay: on its way between two states, superseded, being destroyed, out of
//! reach. It must never decide about a machine that has settled.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayStatus, MachineStatus, OrderKind},
    environment::Reason,
};
use crate::plan::{
    Health, Step,
    action::Action,
    bay::{LOOK, repair, stalled, wait},
    world::{MachineState, SeenMachine, World},
};

/// How long a machine may be on its way between two states (Fly's own number for suspecting that it is stuck).
pub const MOVING_MAX: SignedDuration = SignedDuration::from_mins(5);
/// How long an order to destroy a machine may take to be seen before it is given up.
pub(crate) const DESTROY_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// Machines in the app that are not the one: superseded ones go, others are left alone.
pub(crate) fn superseded(world: &World, bay: &Bay, status: &BayStatus) -> Option<Step> {
    if world.no_destroying.is_some() {
        return None;
    }
    let old = world.seen.others.iter().find(|other| {
        !matches!(other.state, MachineState::Destroying | MachineState::Destroyed)
            && other.mark.as_ref().is_some_and(|mark| {
                mark.instance == bay.spec.instance
                    && mark.bay == bay.metadata.uid
                    && mark.epoch < status.epoch
            })
    })?;
    let action = Action::DestroyMachine { app: bay.spec.app.clone(), id: old.id.clone() };
    let why = format!("machine {} is of an earlier epoch", old.id);
    Some(repair(action, Reason::MachineLost, why))
}

/// A machine on its way between two states, or in one that nothing can be done with; `None` for the settled ones.
pub(crate) fn transit(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    seen: &SeenMachine,
    now: Timestamp,
) -> Option<Step> {
    let since = status.machine.as_ref().and_then(|it| it.state_since).unwrap_or(now);
    let word = seen.state.word();
    let degraded = |reason, why| {
        let until = Some(now + SignedDuration::from_secs(30));
        Some(Step::Wait { reason, why, until, health: Health::Degraded })
    };
    if let Some(step) = destruction(status.machine.as_ref(), seen, now) {
        return Some(step);
    }
    match &seen.state {
        MachineState::Created
        | MachineState::Started
        | MachineState::Stopped
        | MachineState::Suspended
        | MachineState::Failed
        | MachineState::Moving(_)
            if !seen.host_answers =>
        {
            let why = "the machine's host does not answer; nothing is done until it does";
            degraded(Reason::HostUnreachable, why.to_owned())
        }
        MachineState::Started
        | MachineState::Stopped
        | MachineState::Suspended
        | MachineState::Failed => None,
        MachineState::Created | MachineState::Moving(_) if now >= since + MOVING_MAX => {
            if let Some(why) = &world.no_destroying {
                return Some(stalled(
                    Reason::DeadlineExceeded,
                    format!("the machine is stuck in {word}, and {why}"),
                    now,
                ));
            }
            let action = Action::DestroyMachine { app: bay.spec.app.clone(), id: seen.id.clone() };
            let why = format!("the machine was {word} for more than 5 minutes and is replaced");
            Some(repair(action, Reason::DeadlineExceeded, why))
        }
        MachineState::Destroying if now >= since + MOVING_MAX => {
            let why = "the machine has been destroying for more than 5 minutes";
            degraded(Reason::DeadlineExceeded, why.to_owned())
        }
        MachineState::Created | MachineState::Moving(_) | MachineState::Destroying => {
            let reason = match word {
                "updating" | "replacing" => Reason::Updating,
                "stopping" | "suspending" => Reason::Idle,
                "destroying" => Reason::MachineLost,
                _ => Reason::Starting,
            };
            Some(wait(reason, format!("the machine is {word}"), now + LOOK))
        }
        MachineState::Destroyed => {
            Some(wait(Reason::MachineLost, "the machine is destroyed", now + LOOK))
        }
        MachineState::Other(_) => {
            let why = format!("the machine is {word}, a state that hangar does not know");
            degraded(Reason::Unknown, why)
        }
    }
}

/// A machine whose destruction was ordered not long ago and cannot be seen yet.
fn destruction(record: Option<&MachineStatus>, seen: &SeenMachine, now: Timestamp) -> Option<Step> {
    let destroying = record.filter(|it| it.destroying)?;
    let order = destroying.order.as_ref().filter(|it| it.kind == OrderKind::Destroy)?;
    let seen_yet = matches!(seen.state, MachineState::Destroying | MachineState::Destroyed);
    let why = "the machine's destruction was ordered; it is looked for";
    (!seen_yet && now < order.at + DESTROY_AGAIN)
        .then(|| wait(Reason::DeadlineExceeded, why, now + LOOK))
}
