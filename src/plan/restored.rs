//! Bays that are older than the last restore of the store: Fly may have more of them than is recorded, since what was done
//! after the export was made is not. It is looked for before anything is made, and taken over by its marks. It must never
//! let a record go backwards.

use crate::api::{
    Timestamp,
    bay::{BayStatus, MachineStatus},
    restored,
};
use crate::plan::{
    machine::SECRETS,
    world::{MachineState, SeenMachine, Settings, Sight, World},
};

/// When the store was restored, if that was after something was made.
#[must_use]
pub fn behind(settings: &Settings, made_at: Option<Timestamp>) -> Option<Timestamp> {
    settings.restored_at.filter(|at| made_at.is_none_or(|made| made <= *at))
}

pub(crate) fn bay_behind(world: &World) -> Option<Timestamp> {
    let bay = world.bay.as_ref()?;
    behind(&world.settings, bay.metadata.creation_timestamp)
}

/// The epoch of the next machine: above any that a lost store can have given.
pub(crate) fn next_epoch(world: &World, status: &BayStatus) -> u64 {
    let floor = world.settings.restored_at.map_or(0, restored::floor);
    status.epoch.max(floor) + 1
}

/// Takes over the machine of the highest epoch, where that is a later one than is recorded; its id. What it is like is not
/// known from this look.
pub(crate) fn adopt(status: &mut BayStatus, world: &World, now: Timestamp) -> Option<String> {
    let bay = world.bay.as_ref()?;
    bay_behind(world)?;
    let own = match &world.seen.machine {
        Sight::Present(machine) => Some(machine),
        Sight::Unasked | Sight::Absent | Sight::Unclear(_) => None,
    };
    let known = status.machine.as_ref().is_some_and(|it| it.id.is_some());
    let mut found: Option<(&SeenMachine, u64)> = None;
    for machine in world.seen.others.iter().chain(own) {
        let Some(mark) = &machine.mark else { continue };
        let ours = mark.instance == bay.spec.instance && mark.bay == bay.metadata.uid;
        let going = matches!(machine.state, MachineState::Destroying | MachineState::Destroyed);
        let later = mark.epoch > status.epoch || (mark.epoch == status.epoch && !known);
        if ours && !going && later && found.is_none_or(|(_, epoch)| epoch < mark.epoch) {
            found = Some((machine, mark.epoch));
        }
    }
    let (machine, epoch) = found?;
    status.epoch = epoch;
    status.missing = None;
    status.machine = Some(MachineStatus {
        name: machine.name.clone(),
        id: Some(machine.id.clone()),
        // None that hangar knows: the configuration is read, and compared with what is declared.
        version: Some(String::new()),
        state: machine.state.word().to_owned(),
        state_since: Some(now),
        ..MachineStatus::default()
    });
    Some(machine.id.clone())
}

/// Forgets which secrets the app has, where the machine was given later ones than are recorded: they are written again.
pub(crate) fn doubt_secrets(status: &mut BayStatus, world: &World) {
    let Sight::Present(machine) = &world.seen.machine else { return };
    if bay_behind(world).is_none() {
        return;
    }
    let given = machine.metadata.as_ref().and_then(|it| it.get(SECRETS)?.parse::<u64>().ok());
    if let (Some(given), Some(secrets)) = (given, &mut status.secrets)
        && given > secrets.version
    {
        secrets.sources.clear();
    }
}

/// Forgets what would allow a volume to be deleted: a machine may have had it since the export.
pub(crate) fn doubt_volumes(status: &mut BayStatus, world: &World) {
    if bay_behind(world).is_none() {
        return;
    }
    if let Some(volume) = &mut status.volume {
        (volume.mounts, volume.discarded_at) = (None, None);
    }
    status.volume_doubts.clear();
    status.stray = None;
}

/// Whether it was looked for a machine that nobody remembers, and there is none.
pub(crate) fn looked(world: &World) -> bool {
    let unknown = world.bay.as_ref().is_some_and(|it| it.status.machine.is_none());
    bay_behind(world).is_none() || (unknown && world.seen.machine == Sight::Absent)
}
