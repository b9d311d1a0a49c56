//! What was seen of a bay, written into its record: facts only, and what it takes to believe that something is gone. It must
//! never decide what is done about it.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayPhase, BayStatus, Missing, MissingWhat, ReadySeen, Stray, VolumeStatus},
};
use crate::plan::{
    action::saw_machine,
    bay::volume_name,
    machine::MachineSpec,
    restored::{doubt_secrets, doubt_volumes},
    transit::DESTROY_AGAIN,
    world::{CheckState, MachineState, Mark, SeenMachine, SeenVolume, Sight, World},
};

/// What is missing is looked for a second time not before this: Fly's reads come from a gossip database.
pub const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(2);
/// What a create may have made whose answer was lost is looked for so long after the first look in vain: effects were seen to
/// show seconds late.
pub const LATE_EFFECT: SignedDuration = SignedDuration::from_secs(10);
/// How late after its order an unanswered create may have its effect at most.
const CREATE_LATEST: SignedDuration = SignedDuration::from_mins(10);
/// How long a volume's word that a machine has it counts for more than that the machine is found nowhere.
const CLAIM_MAX: SignedDuration = SignedDuration::from_mins(1);
/// How far Fly's clock may be behind ours.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(30);

/// Writes into the record what was seen. Facts only: no call follows from this alone.
pub(crate) fn observe(status: &mut BayStatus, world: &World, now: Timestamp) {
    let Some(bay) = &world.bay else { return };
    if world.revision.as_ref().is_some_and(|it| !it.looked) {
        // Calls that failed were another revision's, and so was what was not taken over where something was before.
        status.failure = None;
        if let Some(written) = status.personalized.as_mut().filter(|it| it.fails_again()) {
            written.failures = 0;
        }
    }
    doubt_secrets(status, world);
    doubt_volumes(status, world);
    observe_app(status, bay, world, now);
    observe_volume(status, bay, world, now);
    observe_strays(status, bay, world, now);
    let machine_known = status.machine.as_ref().is_some_and(|it| it.id.is_some());
    match &world.seen.machine {
        Sight::Present(machine) if machine.state != MachineState::Destroyed => {
            found(status, MissingWhat::Machine);
            observe_machine(status, bay, machine, now);
        }
        Sight::Present(_) | Sight::Absent if machine_known => {
            missing(status, MissingWhat::Machine, world, now);
        }
        Sight::Absent => {
            if let Some(machine) = status.machine.as_mut().filter(|it| it.intended_at.is_some()) {
                machine.absent_since.get_or_insert(now);
            }
        }
        Sight::Present(_) | Sight::Unasked | Sight::Unclear(_) => {}
    }
    let complete = status.app_created
        && (!bay.spec.volume || status.volume.is_some())
        && status.machine.as_ref().is_some_and(|it| it.id.is_some());
    status.phase = if complete { BayPhase::Provisioned } else { BayPhase::Provisioning };
}

fn observe_app(status: &mut BayStatus, bay: &Bay, world: &World, now: Timestamp) {
    match &world.seen.app {
        Sight::Present(app) if app.ours => {
            status.app_foreign_since = None;
            if matches_network(app.network.as_deref(), bay) {
                status.app_created = true;
                status.app_contested = false;
                found(status, MissingWhat::App);
            }
        }
        Sight::Present(_) => {
            status.app_foreign_since.get_or_insert(now);
        }
        Sight::Absent => {
            status.app_foreign_since = None;
            missing(status, MissingWhat::App, world, now);
        }
        Sight::Unasked | Sight::Unclear(_) => {}
    }
}

fn observe_volume(status: &mut BayStatus, bay: &Bay, world: &World, now: Timestamp) {
    let gone = match &world.seen.volume {
        Sight::Present(volume) => volume.going,
        Sight::Absent => true,
        Sight::Unasked | Sight::Unclear(_) => return,
    };
    if let (Some(moved), true) = (moved_volume(bay, world), gone) {
        // Fly moved the machine to another host, and its volume with it: the content is the same, the id is not.
        if let Some(record) = &mut status.volume {
            record.id.clone_from(&moved.id);
            record.size_gib = moved.size_gib;
            found(status, MissingWhat::Volume);
        }
        return;
    }
    match (&world.seen.volume, &mut status.volume) {
        (Sight::Present(volume), None) if !gone => {
            let intended = status.volume_intended_at.take().is_some();
            let fresh = intended && volume.attached_to.is_none();
            status.volume_absent_since = None;
            let region = status.region.clone().unwrap_or_default();
            status.volume = Some(VolumeStatus {
                id: volume.id.clone(),
                region: if volume.region.is_empty() { region } else { volume.region.clone() },
                size_gib: volume.size_gib,
                discarded_at: None,
                mounts: fresh.then_some(0),
            });
        }
        (Sight::Present(volume), Some(record)) if !gone => {
            if record.id == volume.id {
                record.size_gib = volume.size_gib;
            }
            found(status, MissingWhat::Volume);
        }
        (_, Some(record)) if record.discarded_at.is_some() => {
            // No machine ever had it, and hangar deleted it to make it elsewhere.
            status.volume = None;
            found(status, MissingWhat::Volume);
        }
        (_, Some(_)) => missing(status, MissingWhat::Volume, world, now),
        (Sight::Absent, None) => {
            status.volume_absent_since.get_or_insert(now);
        }
        (_, None) => {}
    }
}

/// The volume that the bay's machine mounts, where it is another one than is recorded and has the name that hangar gives, in
/// the same region: another host is all that Fly chooses.
fn moved_volume<'a>(bay: &Bay, world: &'a World) -> Option<&'a SeenVolume> {
    let moved = world.seen.moved_volume.as_ref()?;
    let Sight::Present(machine) = &world.seen.machine else { return None };
    let own = bay.status.machine.as_ref().and_then(|it| it.id.as_ref()) == Some(&machine.id);
    let mounts = machine.config.as_ref().and_then(|it| it.volume.as_ref());
    let mounted = mounts.is_some_and(|(id, _)| *id == moved.id);
    let same = moved.name == volume_name(bay)
        && bay.status.volume.as_ref().is_some_and(|it| it.region == moved.region);
    (own && mounted && same && !moved.going).then_some(moved)
}

/// A volume that a create made whose answer was lost, when another one is the bay's already: it was made at that time, has the
/// bay's name and no machine.
fn observe_strays(status: &mut BayStatus, bay: &Bay, world: &World, now: Timestamp) {
    let Some(record) = &status.volume else { return };
    let made_then = |at: Timestamp| {
        status
            .volume_doubts
            .iter()
            .any(|doubt| at >= *doubt - CLOCK_SLACK && at <= *doubt + CREATE_LATEST)
    };
    let stray = world.seen.other_volumes.iter().find(|it| {
        it.id != record.id
            && it.name == volume_name(bay)
            && !it.going
            && it.attached_to.is_none()
            && it.created_at.is_some_and(made_then)
    });
    match (stray, &status.stray) {
        (Some(seen), Some(known)) if seen.id == known.id => {}
        (Some(seen), _) => status.stray = Some(Stray { id: seen.id.clone(), since: now }),
        (None, _) => status.stray = None,
    }
}

fn matches_network(network: Option<&str>, bay: &Bay) -> bool {
    // Fly has not always told an app's network; an app that tells another one is not the one that was asked for.
    network.is_none_or(|it| it == bay.spec.network)
}

fn missing(status: &mut BayStatus, what: MissingWhat, world: &World, now: Timestamp) {
    // What is in something missing is missing with it, and must not start its clock anew.
    let covers = |old: &Missing| weight(old.what) >= weight(what);
    // What a list has had since, also one that no pass came to see, is looked for from the beginning.
    let unlisted = |old: &Missing| unlisted_since(world, old.what).is_none_or(|at| old.since >= at);
    if !status.missing.as_ref().is_some_and(|old| covers(old) && unlisted(old)) {
        status.missing = Some(Missing { what, since: now });
    }
}

/// Since when lists lack what is missing, where the last one does.
fn unlisted_since(world: &World, what: MissingWhat) -> Option<Timestamp> {
    let (machine, volume) = (world.seen.machine_unlisted_since, world.seen.volume_unlisted_since);
    match what {
        MissingWhat::App => machine.max(volume),
        MissingWhat::Volume => volume,
        MissingWhat::Machine => machine,
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
        // What the list has, or has something in, is not gone, though a read by id does not find it.
        _ if is_listed(world, what) => false,
        MissingWhat::App => world.seen.app == Sight::Absent,
        MissingWhat::Volume => match &world.seen.volume {
            Sight::Absent => true,
            Sight::Present(volume) => volume.going,
            Sight::Unasked | Sight::Unclear(_) => false,
        },
        MissingWhat::Machine => match &world.seen.machine {
            Sight::Absent => true,
            Sight::Present(machine) => machine.state == MachineState::Destroyed,
            Sight::Unasked | Sight::Unclear(_) => false,
        },
    }
}

/// Whether Fly's list has what is missing, or something in it.
pub(crate) fn is_listed(world: &World, what: MissingWhat) -> bool {
    let id = world.bay.as_ref().and_then(|it| it.status.machine.as_ref()?.id.as_ref());
    match what {
        MissingWhat::App => world.seen.others.iter().any(is_there) || has_anything(world),
        MissingWhat::Volume => false,
        MissingWhat::Machine => {
            world.seen.others.iter().any(|it| Some(&it.id) == id && is_there(it))
        }
    }
}

/// Whether the volume still says that the missing machine has it. Such a claim can outlive its machine, so that it is believed for a
/// while only.
pub(crate) fn is_claimed(
    status: &BayStatus,
    world: &World,
    missing: &Missing,
    now: Timestamp,
) -> bool {
    let id = status.machine.as_ref().and_then(|it| it.id.as_ref());
    let Sight::Present(volume) = &world.seen.volume else { return false };
    missing.what == MissingWhat::Machine
        && id.is_some()
        && volume.attached_to.as_ref() == id
        && now < missing.since + CLAIM_MAX
}

fn is_there(machine: &SeenMachine) -> bool {
    !matches!(machine.state, MachineState::Destroying | MachineState::Destroyed)
}

/// Whether the machine or the volume was found, in the list or by itself.
fn has_anything(world: &World) -> bool {
    matches!(&world.seen.machine, Sight::Present(machine) if is_there(machine))
        || matches!(&world.seen.volume, Sight::Present(volume) if !volume.going)
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
            && !is_claimed(status, world, missing, now)
            && now >= second_look(status, world, missing)
            // One that began later, and not the one that made us look.
            && world.seen.complete_list_at.is_some_and(|at| at > missing.since)
    })
}

/// When what is missing is looked for a second time. Where a machine was made, or seen to change, only just now, it is given
/// longer: a read may be from before that. One that is shown as destroyed is not from before.
pub(crate) fn second_look(status: &BayStatus, world: &World, missing: &Missing) -> Timestamp {
    let shown =
        matches!(world.seen.machine, Sight::Present(_)) && missing.what == MissingWhat::Machine;
    let machine = status.machine.as_ref().filter(|it| !it.destroying && !shown);
    let settled =
        machine.and_then(|it| it.state_since).map_or(missing.since, |at| at + LATE_EFFECT);
    settled.max(missing.since + SECOND_LOOK)
}

fn observe_machine(status: &mut BayStatus, bay: &Bay, seen: &SeenMachine, now: Timestamp) {
    let epoch = status.epoch;
    let Some(record) = &mut status.machine else { return };
    let marked = |it: &Mark| it.bay == bay.metadata.uid && it.epoch == epoch;
    let ours = match (&record.id, &seen.mark) {
        // What is found by its name is taken over by its marks only.
        (None, mark) => mark.as_ref().is_some_and(marked),
        (Some(id), mark) => *id == seen.id && mark.as_ref().is_none_or(marked),
    };
    if !ours {
        return;
    }
    let config = seen.config.as_ref().map(MachineSpec::digest);
    if record.version.is_none() {
        // It may have been made by an older order than the last one, and so have another configuration.
        record.version = Some(config.as_ref().map_or_else(String::new, |_| seen.version.clone()));
        record.config = config.clone().or_else(|| record.config.clone());
    }
    // A version that hangar did not write but that says the same (a lost answer, a migration) is as good as its own.
    let same = config.is_some() && config == record.config;
    let known = record.version.clone().unwrap_or_default();
    let version = if same { seen.version.clone() } else { known };
    if !seen.host_answers {
        record.unreachable_since.get_or_insert(now);
    } else if seen.config.is_some() {
        // The list does not tell of hosts.
        record.unreachable_since = None;
    }
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
    observe_health(status, seen, now);
}

/// Whether what once served still does. The list has no checks, so most looks say nothing of it.
fn observe_health(status: &mut BayStatus, seen: &SeenMachine, now: Timestamp) {
    // What never served has deadlines of its own.
    let Some(record) = status.machine.as_mut().filter(|it| it.ready.is_some()) else { return };
    let Some(config) = &seen.config else { return };
    if config.check.is_none() {
        // What Fly does not check may end and be started again as it likes.
        record.unhealthy_since = None;
        return;
    }
    match seen.check {
        CheckState::Passing => record.unhealthy_since = None,
        CheckState::Failing if seen.state == MachineState::Started => {
            record.unhealthy_since.get_or_insert(now);
        }
        CheckState::Crashing(_) if seen.state != MachineState::Suspended => {
            record.unhealthy_since.get_or_insert(now);
        }
        CheckState::Failing | CheckState::Crashing(_) | CheckState::None => {}
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
