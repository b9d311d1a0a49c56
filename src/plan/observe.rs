//! What was seen of a bay, written into its record: facts only, and what it takes to believe that something is gone. It must
//! never decide what is done about it.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayPhase, BayStatus, Missing, MissingWhat, ReadySeen},
};
use crate::plan::{
    action::saw_machine,
    machine::MachineSpec,
    restored::doubt_secrets,
    transit::DESTROY_AGAIN,
    world::{CheckState, MachineState, SeenMachine, Sight, World},
};

/// What is missing is looked for a second time not before this: Fly's reads come from a gossip database.
pub const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(2);

/// Writes into the record what was seen. Facts only: no call follows from this alone.
pub(crate) fn observe(status: &mut BayStatus, world: &World, now: Timestamp) {
    let Some(bay) = &world.bay else { return };
    doubt_secrets(status, world);
    match &world.seen.app {
        Sight::Present(app) if app.ours && matches_network(app.network.as_deref(), bay) => {
            status.app_created = true;
            status.app_contested = false;
            found(status, MissingWhat::App);
        }
        Sight::Absent => missing(status, MissingWhat::App, now),
        Sight::Present(_) | Sight::Unasked | Sight::Unclear(_) => {}
    }
    match &world.seen.volume {
        Sight::Present(volume) if !volume.going => {
            found(status, MissingWhat::Volume);
            let region = status.region.clone().unwrap_or_default();
            let record = status.volume.get_or_insert_default();
            if record.id.is_empty() {
                status.volume_intended_at = None;
                record.id.clone_from(&volume.id);
                record.region =
                    if volume.region.is_empty() { region } else { volume.region.clone() };
            }
            if record.id == volume.id {
                record.size_gib = volume.size_gib;
            }
        }
        Sight::Present(_) | Sight::Absent if status.volume.is_some() => {
            missing(status, MissingWhat::Volume, now);
        }
        Sight::Present(_) | Sight::Absent | Sight::Unasked | Sight::Unclear(_) => {}
    }
    let machine_known = status.machine.as_ref().is_some_and(|it| it.id.is_some());
    match &world.seen.machine {
        Sight::Present(machine) if machine.state != MachineState::Destroyed => {
            found(status, MissingWhat::Machine);
            observe_machine(status, bay, machine, now);
        }
        Sight::Present(_) | Sight::Absent if machine_known => {
            missing(status, MissingWhat::Machine, now);
        }
        Sight::Present(_) | Sight::Absent | Sight::Unasked | Sight::Unclear(_) => {}
    }
    let complete = status.app_created
        && (!bay.spec.volume || status.volume.is_some())
        && status.machine.as_ref().is_some_and(|it| it.id.is_some());
    status.phase = if complete { BayPhase::Provisioned } else { BayPhase::Provisioning };
}

fn matches_network(network: Option<&str>, bay: &Bay) -> bool {
    // Fly has not always told an app's network; an app that tells another one is not the one that was asked for.
    network.is_none_or(|it| it == bay.spec.network)
}

fn missing(status: &mut BayStatus, what: MissingWhat, now: Timestamp) {
    // What is in something missing is missing with it, and must not start its clock anew.
    let covers = |old: &Missing| weight(old.what) >= weight(what);
    if !status.missing.as_ref().is_some_and(covers) {
        status.missing = Some(Missing { what, since: now });
    }
}

fn weight(what: MissingWhat) -> u8 {
    match what {
        MissingWhat::App => 2,
        MissingWhat::Volume => 1,
        MissingWhat::Machine => 0,
    }
}

fn found(status: &mut BayStatus, what: MissingWhat) {
    if status.missing.as_ref().is_some_and(|it| it.what == what) {
        status.missing = None;
    }
}

/// Whether this look says that it is not there. A read that failed says nothing.
pub(crate) fn is_absent(world: &World, what: MissingWhat) -> bool {
    match what {
        MissingWhat::App => world.seen.app == Sight::Absent,
        MissingWhat::Volume => match &world.seen.volume {
            Sight::Absent => true,
            Sight::Present(volume) => volume.going,
            Sight::Unasked | Sight::Unclear(_) => false,
        },
        // What the list has is not gone, though a read by id does not find it.
        MissingWhat::Machine if is_listed(world) => false,
        MissingWhat::Machine => match &world.seen.machine {
            Sight::Absent => true,
            Sight::Present(machine) => machine.state == MachineState::Destroyed,
            Sight::Unasked | Sight::Unclear(_) => false,
        },
    }
}

pub(crate) fn is_listed(world: &World) -> bool {
    let id = world.bay.as_ref().and_then(|it| it.status.machine.as_ref()?.id.as_ref());
    let gone =
        |it: &SeenMachine| matches!(it.state, MachineState::Destroying | MachineState::Destroyed);
    world.seen.others.iter().any(|it| Some(&it.id) == id && !gone(it))
}

/// Whether what is missing was looked for twice, apart in time, with a complete list in between.
pub(crate) fn is_gone(
    status: &BayStatus,
    world: &World,
    what: MissingWhat,
    now: Timestamp,
) -> bool {
    status.missing.as_ref().is_some_and(|missing| {
        missing.what == what
            && is_absent(world, what)
            && now >= missing.since + SECOND_LOOK
            && world.seen.complete_list_at.is_some_and(|at| at >= missing.since)
    })
}

fn observe_machine(status: &mut BayStatus, bay: &Bay, seen: &SeenMachine, now: Timestamp) {
    let epoch = status.epoch;
    let Some(record) = &mut status.machine else { return };
    let marked =
        seen.mark.as_ref().is_none_or(|it| it.bay == bay.metadata.uid && it.epoch == epoch);
    if !marked || record.id.as_ref().is_some_and(|id| *id != seen.id) {
        return;
    }
    let is_new = record.version.is_none();
    let config = seen.config.as_ref().map(MachineSpec::digest);
    // A version that hangar did not write but that says the same (a lost answer, a migration) is as good as its own.
    let same = config.is_some() && config == record.config;
    let version = if is_new || same {
        seen.version.clone()
    } else {
        record.version.clone().unwrap_or_default()
    };
    saw_machine(status, &seen.id, &version, seen.state.word(), now);
    forgive(status, seen, now);
    if let Some(record) = &mut status.machine
        && seen.check == CheckState::Passing
        && seen.state == MachineState::Started
        && record.version.as_ref() == Some(&seen.version)
        && record.ready.as_ref().is_none_or(|it| it.version != seen.version)
    {
        record.ready = Some(ReadySeen { version: seen.version.clone(), at: now });
    }
}

/// A machine that got where it should be by itself, long after its destruction was ordered, is kept.
fn forgive(status: &mut BayStatus, seen: &SeenMachine, now: Timestamp) {
    let Some(record) = status.machine.as_mut().filter(|it| it.destroying) else { return };
    let settled = matches!(
        seen.state,
        MachineState::Started | MachineState::Stopped | MachineState::Suspended
    );
    if settled && record.order.as_ref().is_none_or(|it| now >= it.at + DESTROY_AGAIN) {
        record.destroying = false;
        record.order = None;
    }
}
