//! A machine that is there and not where it should stay: on its way between two states, superseded, being destroyed, out of
//! reach. It must never decide about a machine that has settled.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayStatus, MachineStatus, MissingWhat, OrderKind},
    environment::Reason,
    pod,
};
use crate::plan::{
    Health, Step,
    action::Action,
    bay::{LOOK, is_marked, repair, stalled, wait},
    observe::SECOND_LOOK,
    world::{MachineState, SeenMachine, Sight, World},
};

/// How long a machine may be on its way between two states (Fly's own number for suspecting that it is stuck).
pub const MOVING_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The same while its configuration is replaced.
pub const UPDATING_MAX: SignedDuration = SignedDuration::from_mins(10);
/// How long a host may not answer before a machine without a volume is made on another one.
pub const HOST_MAX: SignedDuration = SignedDuration::from_mins(15);
/// How long an order to destroy a machine may take to be seen before it is given up.
pub(crate) const DESTROY_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What is left over beside a machine that serves or sleeps, and can go.
pub(crate) fn tidy(world: &World, status: &BayStatus, now: Timestamp) -> Option<Step> {
    let bay = world.bay.as_ref()?;
    superseded(world, bay, status).or_else(|| stray(bay, status, now))
}

/// Machines of the bay in the app that are not the one: superseded ones, and copies of its epoch, go by their ids. Those of a
/// later epoch, and those without the bay's marks, are left alone.
fn superseded(world: &World, bay: &Bay, status: &BayStatus) -> Option<Step> {
    let own = status.machine.as_ref()?.id.as_ref()?;
    let old = live(world, bay).find(|(other, epoch)| *epoch <= status.epoch && other.id != *own)?;
    Some(destroy(bay, old.0, "is not the one that serves"))
}

/// A superseded machine that has the volume, so that its successor cannot be made.
pub(crate) fn in_the_way(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    now: Timestamp,
) -> Option<Step> {
    let Sight::Present(volume) = &world.seen.volume else { return None };
    let holder = volume.attached_to.as_ref()?;
    let intended = status.epoch + u64::from(status.machine.is_none());
    let going = |it: &&SeenMachine| it.id == *holder && it.state == MachineState::Destroying;
    if let Some(old) = world.seen.others.iter().find(going) {
        let why = format!("machine {}, which has the volume, is being destroyed", old.id);
        return Some(wait(Reason::MachineLost, why, now + LOOK));
    }
    let stranger = |it: &&SeenMachine| it.id == *holder && !is_marked(it, bay);
    if let Some(other) = world.seen.others.iter().find(stranger) {
        let why = format!(
            "machine {} has the volume and not this bay's marks: it is not hangar's to destroy; do that by hand",
            other.id
        );
        return Some(stalled(Reason::MachineLost, why, now));
    }
    let old = live(world, bay).find(|(other, epoch)| other.id == *holder && *epoch < intended)?;
    Some(destroy(bay, old.0, "has the volume, and is superseded"))
}

/// Other machines in the app that carry the bay's marks, and their epochs; not those in a state that hangar does not know.
fn live<'a>(world: &'a World, bay: &Bay) -> impl Iterator<Item = (&'a SeenMachine, u64)> {
    world.seen.others.iter().filter_map(move |other| {
        let known = !matches!(
            other.state,
            MachineState::Destroying | MachineState::Destroyed | MachineState::Other(_)
        );
        let epoch = other.mark.as_ref().map(|it| it.epoch);
        epoch.filter(|_| known && is_marked(other, bay)).map(|epoch| (other, epoch))
    })
}

fn destroy(bay: &Bay, machine: &SeenMachine, why: &str) -> Step {
    let action = Action::DestroyMachine { app: bay.spec.app.clone(), id: machine.id.clone() };
    repair(action, Reason::MachineLost, format!("machine {} {why}", machine.id))
}

/// The machine that a person wants anew.
pub(crate) fn reset(bay: &Bay, machine: &SeenMachine) -> Step {
    Step::Act {
        action: Action::DestroyMachine { app: bay.spec.app.clone(), id: machine.id.clone() },
        reason: Reason::Reset,
        why: format!("machine {} is made anew, as ordered", machine.id),
        fault: false,
    }
}

/// Why what is missing is.
pub(crate) fn loss(world: &World, status: &BayStatus, missing: MissingWhat) -> Reason {
    match missing {
        MissingWhat::App => Reason::AppLost,
        MissingWhat::Volume => Reason::VolumeMissing,
        MissingWhat::Machine if is_reset(world, status.machine.as_ref()) => Reason::Reset,
        MissingWhat::Machine => Reason::MachineLost,
    }
}

/// Whether a machine goes because a person wants it anew.
pub(crate) fn is_reset(world: &World, machine: Option<&MachineStatus>) -> bool {
    let going = machine.filter(|it| it.destroying).and_then(|it| it.id.as_deref());
    pod::ordered_reset(&world.environment).is_some_and(|(id, _)| going == Some(id))
}

/// A volume that showed late, when another one was the bay's already; nothing was ever on it.
fn stray(bay: &Bay, status: &BayStatus, now: Timestamp) -> Option<Step> {
    let stray = status.stray.as_ref().filter(|it| now >= it.since + SECOND_LOOK)?;
    let (app, id) = (bay.spec.app.clone(), stray.id.clone());
    let why = format!(
        "volume {id} was made by a call whose answer was lost, and another one is in use since"
    );
    Some(repair(Action::DeleteVolume { app, id }, Reason::CreatingVolume, why))
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
    if let Some(step) = destruction(world, status, seen, now) {
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
        MachineState::Created | MachineState::Moving(_) if now >= since + longest(word) => {
            if let Some(why) = &world.no_destroying {
                return Some(stalled(
                    Reason::DeadlineExceeded,
                    format!("the machine is stuck in {word}, and {why}"),
                    now,
                ));
            }
            let action = Action::DestroyMachine { app: bay.spec.app.clone(), id: seen.id.clone() };
            let minutes = longest(word).as_mins();
            let why =
                format!("the machine was {word} for more than {minutes} minutes and is replaced");
            Some(repair(action, Reason::DeadlineExceeded, why))
        }
        MachineState::Destroying if now >= since + MOVING_MAX => {
            let why = "the machine has been destroying for more than 5 minutes, and its volume is on the same host: if that \
                       does not come back, restore a snapshot by hand";
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

fn longest(word: &str) -> SignedDuration {
    if matches!(word, "updating" | "replacing") { UPDATING_MAX } else { MOVING_MAX }
}

/// Why a machine is not waited for any longer: nothing was kept on it, so that a new one can take its place on another host. It
/// may come back; then it is superseded, and goes.
pub(crate) fn given_up(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    now: Timestamp,
) -> Option<String> {
    let record = status.machine.as_ref().filter(|_| !bay.spec.volume)?;
    let Sight::Present(seen) = &world.seen.machine else { return None };
    if record.id.as_ref() != Some(&seen.id) || world.no_replacing.is_some() {
        return None;
    }
    let since = record.state_since.unwrap_or(now);
    if seen.state == MachineState::Destroying && now >= since + MOVING_MAX {
        let why = "the machine has been destroying for more than 5 minutes and is replaced";
        return Some(why.to_owned());
    }
    let unreachable = record.unreachable_since.filter(|_| !seen.host_answers)?;
    (now >= unreachable + HOST_MAX)
        .then(|| "the machine's host has not answered for 15 minutes; it is replaced".to_owned())
}

/// A machine whose destruction was ordered not long ago and cannot be seen yet.
fn destruction(
    world: &World,
    status: &BayStatus,
    seen: &SeenMachine,
    now: Timestamp,
) -> Option<Step> {
    let destroying = status.machine.as_ref().filter(|it| it.destroying)?;
    let reset = is_reset(world, Some(destroying));
    let reason = if reset { Reason::Reset } else { Reason::DeadlineExceeded };
    let order = destroying.order.as_ref().filter(|it| it.kind == OrderKind::Destroy)?;
    let seen_yet = matches!(seen.state, MachineState::Destroying | MachineState::Destroyed);
    let why = "the machine's destruction was ordered; it is looked for";
    (!seen_yet && now < order.at + DESTROY_AGAIN).then(|| wait(reason, why, now + LOOK))
}
