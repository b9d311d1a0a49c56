//! What a bay's app, secrets, volume and machine need next, up to a machine that exists with the right configuration.
//! It must never decide about sleep or about being ready.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BaySpec, BayStatus, EnvironmentRef, FullRegion, MissingWhat, VolumeStatus},
    environment::{OperatingMode, Reason},
    kind::Kind,
    meta::{Metadata, Resource as _},
    rollout::EnvironmentRevision,
    template::Template,
};
use crate::plan::{
    Binding, Health, Step,
    action::Action,
    machine,
    observe::{LATE_EFFECT, is_absent, is_claimed, is_gone, is_listed, second_look},
    restored, retire, stock, transit,
    world::{SeenApp, SeenMachine, Sight, World},
};

/// How often something on its way is looked at.
pub(crate) const LOOK: SignedDuration = SignedDuration::from_secs(1);
/// How long a volume's deletion may take to be seen before it is ordered again.
const DISCARD_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The bay that the world's fresh name makes; its uid is set by whoever stores it.
#[must_use]
pub fn made(world: &World) -> Bay {
    let environment = &world.environment;
    let volume = world.template.as_ref().is_some_and(|it| it.spec.volume.is_some());
    let mut bay = fresh(&world.settings.instance, &world.fresh_name, volume);
    bay.metadata.namespace.clone_from(&environment.metadata.namespace);
    bay.metadata.owner_references = vec![environment.owner_reference()];
    bay.spec.environment_ref = Some(EnvironmentRef::of(environment));
    bay.spec.missed_pool = world.missed_pool().map(|(uid, _)| uid.clone());
    // Epochs go on where those of a bay end whose place it takes.
    bay.status.epoch = world.bay.as_ref().map_or(0, |it| it.status.epoch);
    bay.status.template = world.revision.as_ref().map(EnvironmentRevision::to_ref);
    bay
}

/// A bay of this name in no namespace and bound to nothing.
pub(crate) fn fresh(instance: &str, fresh_name: &str, volume: bool) -> Bay {
    let info = Kind::Bay.info();
    let app = format!("hgr-{fresh_name}");
    Bay {
        api_version: info.api_version(),
        kind: info.kind_name.to_owned(),
        metadata: Metadata { name: format!("bay-{fresh_name}"), ..Metadata::default() },
        spec: BaySpec {
            instance: instance.to_owned(),
            environment_ref: None,
            claimed_at: None,
            stock: None,
            missed_pool: None,
            network: network_name(&app, instance),
            app,
            volume,
        },
        status: BayStatus::default(),
    }
}

fn act(action: Action, reason: Reason, why: &str) -> Step {
    Step::Act { action, reason, why: why.to_owned(), fault: false }
}

pub(crate) fn repair(action: Action, reason: Reason, why: String) -> Step {
    Step::Act { action, reason, why, fault: true }
}

pub(crate) fn wait(reason: Reason, why: impl Into<String>, until: Timestamp) -> Step {
    Step::Wait { reason, why: why.into(), until: Some(until), health: Health::Fine }
}

pub(crate) fn stalled(reason: Reason, why: impl Into<String>, now: Timestamp) -> Step {
    let until = Some(now + SignedDuration::from_mins(1));
    Step::Wait { reason, why: why.into(), until, health: Health::Stalled }
}

/// What is needed before there is a machine to look at; `None` when there is one.
pub(crate) fn provision(
    world: &World,
    bay: &Bay,
    status: &mut BayStatus,
    template: &Template,
    now: Timestamp,
) -> Option<Step> {
    let destroyed = status.machine.as_ref().is_some_and(|it| it.destroying);
    let reset = transit::is_reset(world, status.machine.as_ref());
    let given_up = transit::given_up(world, bay, status, now);
    if given_up.is_some() {
        status.machine = None;
        status.missing = None;
    }
    if let Some(step) = losses(world, bay, status, now) {
        return Some(step);
    }
    if !status.app_created {
        return Some(app(world, bay, status, now));
    }
    if let Some(step) = secrets(world, bay, status).filter(|_| !runs_as_stock(world, status)) {
        return Some(step);
    }
    if let Some(step) = volume(world, bay, status, template, now) {
        return Some(step);
    }
    let step = new_machine(world, bay, status, template, now)?;
    let why = given_up.or_else(|| destroyed.then(|| "the machine is replaced".to_owned()));
    Some(match (step, why) {
        (Step::Act { action, reason: Reason::MachineLost, .. }, Some(_)) if reset => {
            act(action, Reason::Reset, "the machine is made anew, as ordered")
        }
        (Step::Act { action, reason: Reason::MachineLost, fault, .. }, Some(why)) => {
            Step::Act { action, reason: Reason::DeadlineExceeded, why, fault }
        }
        (step, _) => step,
    })
}

/// Things that were there and are not.
fn losses(world: &World, bay: &Bay, status: &mut BayStatus, now: Timestamp) -> Option<Step> {
    let missing = status.missing.clone()?;
    let again = wait(
        transit::loss(world, status, missing.what),
        format!("the {} was not found; it is looked for again", word(missing.what)),
        now.max(second_look(status, world, &missing)),
    );
    if missing.what == MissingWhat::App && !status.app_created {
        return None;
    }
    if !is_gone(status, world, missing.what, now) {
        return Some(if now >= second_look(status, world, &missing) {
            let why = if is_listed(world, missing.what) {
                "Fly's list has it"
            } else if is_claimed(status, world, &missing, now) {
                "its volume says that it has it"
            } else if is_absent(world, missing.what) {
                "Fly's list is not complete"
            } else {
                "it cannot be looked for again"
            };
            let why = format!("the {} was not found, but {why}", word(missing.what));
            wait(Reason::ViewIncomplete, why, now + LOOK)
        } else {
            again
        });
    }
    if let Some(why) = &world.no_replacing {
        // Whatever follows from its being gone would take it off the router's table, at least.
        return Some(Step::Wait {
            reason: Reason::Held,
            why: format!("the {} was not found twice: {why}", word(missing.what)),
            until: Some(now + SignedDuration::from_secs(10)),
            health: Health::Degraded,
        });
    }
    match (missing.what, &status.volume) {
        (MissingWhat::App, Some(volume)) => Some(stalled(
            Reason::VolumeMissing,
            format!(
                "app {} is gone, and volume {} with it: an empty volume is never put in its place; restore a snapshot of it \
                 by hand, or delete this environment and make it again",
                bay.spec.app, volume.id
            ),
            now,
        )),
        (MissingWhat::Volume, volume) => Some(stalled(
            Reason::VolumeMissing,
            format!(
                "volume {} is gone: an empty one is never put in its place; restore a snapshot of it by hand, or delete this \
                 environment and make it again",
                volume.as_ref().map_or("", |it| it.id.as_str())
            ),
            now,
        )),
        (MissingWhat::App, None) => {
            // Nothing of the user's was kept in it: all of it can be made again.
            status.app_created = false;
            status.secrets = None;
            status.machine = None;
            status.missing = None;
            Some(app_again(bay))
        }
        (MissingWhat::Machine, _) => {
            status.machine = None;
            status.missing = None;
            None
        }
    }
}

fn word(what: MissingWhat) -> &'static str {
    match what {
        MissingWhat::App => "app",
        MissingWhat::Volume => "volume",
        MissingWhat::Machine => "machine",
    }
}

fn create_app(bay: &Bay) -> Action {
    Action::CreateApp { app: bay.spec.app.clone(), network: bay.spec.network.clone() }
}

fn app_again(bay: &Bay) -> Step {
    let why = format!(
        "app {} was deleted by something other than hangar and is made again",
        bay.spec.app
    );
    repair(create_app(bay), Reason::AppLost, why)
}

fn app(world: &World, bay: &Bay, status: &BayStatus, now: Timestamp) -> Step {
    if !status.app_contested {
        return act(
            create_app(bay),
            Reason::CreatingApp,
            "the environment needs an app of its own",
        );
    }
    match &world.seen.app {
        Sight::Absent => {
            act(create_app(bay), Reason::CreatingApp, "the app's name is free after all")
        }
        Sight::Present(seen) => taken(world, bay, status, (seen, now)),
        Sight::Unasked | Sight::Unclear(_) => wait(
            Reason::CreatingApp,
            "the app's name is taken; it is looked whose it is",
            now + LOOK,
        ),
    }
}

/// The app's name is another's, who was first. Nothing of this bay was ever made, so that another one takes its place.
fn taken(world: &World, bay: &Bay, status: &BayStatus, (seen, now): (&SeenApp, Timestamp)) -> Step {
    let whose = if seen.ours { "on another network" } else { "by someone else" };
    let why = format!("the app name {} is used {whose}", bay.spec.app);
    if restored::bay_behind(world).is_some() {
        let why = format!(
            "{why}, and what was made since the store's export may be in an app of another name: `hangar orphans` lists it"
        );
        return stalled(Reason::NameTaken, why, now);
    }
    if seen.ours || retire::is_anothers(world, status, now) {
        let why = format!("{why}: another one is taken");
        return Step::Bind { to: Binding::New, reason: Reason::NameTaken, why };
    }
    let again = now + SignedDuration::from_secs(10);
    wait(Reason::NameTaken, format!("{why}; it is looked at again"), again)
}

/// Name, uid and generation of each secret that the app should have.
fn wanted_secrets(world: &World, bay: &Bay) -> (Vec<String>, Vec<String>) {
    let mut sources = vec![format!("bay/{}", bay.metadata.uid)];
    let mut names = vec![machine::BAY_KEY.to_owned()];
    for (name, fact) in &world.secrets {
        let Some(fact) = fact else { continue };
        sources.push(format!("{name}/{}/{}", fact.uid, fact.generation));
        names.extend(fact.keys.iter().cloned());
    }
    names.sort();
    names.dedup();
    (sources, names)
}

/// Whether the machine is as a pool made it and may not be restarted: what the environment adds is written into a file in it,
/// and becomes part of the app when it sleeps, or before it is changed to another revision.
fn runs_as_stock(world: &World, status: &BayStatus) -> bool {
    let Some(machine) = status.machine.as_ref().filter(|it| it.as_stock) else { return false };
    if world.other_revision(status.template.as_ref()).is_some() {
        return false;
    }
    let stock = world.bay.as_ref().and_then(|it| it.spec.stock.as_ref());
    if stock.is_some_and(|it| !stock::fits(&world.environment, &it.made_from)) {
        return false;
    }
    let plain = stock.is_some_and(|it| it.made_from.personalize.is_none());
    let written = plain || status.personalized.as_ref().is_some_and(|it| it.digest.is_some());
    let rests = matches!(machine.state.as_str(), "stopped" | "suspended");
    let ordered = world.environment.spec.operating_mode() == OperatingMode::Asleep;
    let unbound = world.bay.as_ref().is_some_and(|it| it.spec.environment_ref.is_none());
    !unbound && !(rests && (written || ordered))
}

fn secrets(world: &World, bay: &Bay, status: &BayStatus) -> Option<Step> {
    let (sources, names) = wanted_secrets(world, bay);
    if status.secrets.as_ref().is_some_and(|it| it.sources == sources) {
        return None;
    }
    let unset = status
        .secrets
        .iter()
        .flat_map(|it| &it.names)
        .filter(|it| !names.contains(it))
        .cloned()
        .collect();
    let action = Action::WriteSecrets { app: bay.spec.app.clone(), sources, unset, names };
    Some(act(action, Reason::WritingSecrets, "the app's secrets are not as declared"))
}

fn regions<'a>(world: &'a World, template: &'a Template) -> impl Iterator<Item = &'a str> {
    world
        .environment
        .spec
        .region
        .as_deref()
        .into_iter()
        .chain(template.spec.regions.iter().map(String::as_str))
}

/// Whether a region is known to have no room, from this bay's own asking or another's.
fn full<'a>(
    world: &'a World,
    status: &'a BayStatus,
    region: &str,
    now: Timestamp,
) -> Option<&'a FullRegion> {
    let known = status.full_regions.iter().chain(&world.full_regions);
    known.filter(|it| it.region == region && it.retry_at > now).max_by_key(|it| it.retry_at)
}

/// The first region that is not known to be full.
fn region(
    world: &World,
    status: &BayStatus,
    template: &Template,
    now: Timestamp,
) -> Result<String, Box<Step>> {
    let full = |region: &str| full(world, status, region, now);
    if let Some(region) = regions(world, template).find(|it| full(it).is_none()) {
        return Ok(region.to_owned());
    }
    let tried: Vec<_> = regions(world, template).collect();
    let retry_at = tried.iter().filter_map(|it| full(it)).map(|it| it.retry_at).min();
    let why = format!("none of the regions has room: {}", tried.join(", "));
    Err(Box::new(no_room(why, retry_at)))
}

fn no_room(why: String, until: Option<Timestamp>) -> Step {
    Step::Wait { reason: Reason::NoCapacity, why, until, health: Health::Degraded }
}

/// The network of an app. An app itself carries no mark, so its network's name says which installation made it.
#[must_use]
pub fn network_name(app: &str, instance: &str) -> String {
    let mark: String = instance.chars().take(12).collect();
    format!("{app}-{mark}")
}

/// Whether a machine carries the bay's marks, whatever its epoch.
pub(crate) fn is_marked(machine: &SeenMachine, bay: &Bay) -> bool {
    machine
        .mark
        .as_ref()
        .is_some_and(|it| it.instance == bay.spec.instance && it.bay == bay.metadata.uid)
}

/// Whether what may be there was looked for in vain twice, as far apart as effects were seen to be late.
fn looked_twice<T: PartialEq>(
    absent_since: Option<Timestamp>,
    sight: &Sight<T>,
    now: Timestamp,
) -> bool {
    *sight == Sight::Absent && absent_since.is_some_and(|at| now >= at + LATE_EFFECT)
}

/// Volume names allow letters, digits and underscores only.
#[must_use]
pub fn volume_name(bay: &Bay) -> String {
    bay.metadata.name.replace('-', "_")
}

fn volume(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    template: &Template,
    now: Timestamp,
) -> Option<Step> {
    let wanted = template.spec.volume.as_ref().filter(|_| bay.spec.volume)?;
    let size_gib = u32::try_from(wanted.size.gib()).unwrap_or(u32::MAX);
    if let Some(volume) = &status.volume {
        if let Some(step) = discarded(bay, volume, now) {
            return Some(step);
        }
        if volume.size_gib >= size_gib {
            return None;
        }
        let (app, id) = (bay.spec.app.clone(), volume.id.clone());
        let action = Action::ExtendVolume { app, id, size_gib };
        return Some(act(action, Reason::CreatingVolume, "the volume is smaller than declared"));
    }
    // Before a restore one may have been made that nobody remembers: an empty one must not take its place.
    let may_be = status.volume_intended_at.is_some() || restored::bay_behind(world).is_some();
    if may_be && !looked_twice(status.volume_absent_since, &world.seen.volume, now) {
        let why = "a volume may have been made; it is looked for";
        return Some(wait(Reason::CreatingVolume, why, now + LOOK));
    }
    let region = match region(world, status, template, now) {
        Ok(region) => region,
        Err(step) => return Some(*step),
    };
    let days = machine::millis(wanted.snapshot_retention.as_ref(), 5 * 86_400_000) / 86_400_000;
    let spec = machine::desired(&world.environment, template, bay, status, status.epoch + 1);
    let action = Action::CreateVolume {
        app: bay.spec.app.clone(),
        name: volume_name(bay),
        region,
        size_gib,
        retention_days: u32::try_from(days).unwrap_or(5),
        spec: Box::new(spec),
    };
    Some(act(action, Reason::CreatingVolume, "the environment needs a volume"))
}

/// A volume that no machine ever had, in a region that has no room for one, is deleted and made in the next region.
fn elsewhere(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    template: &Template,
    now: Timestamp,
) -> Option<Step> {
    let volume = status.volume.as_ref().filter(|it| it.mounts == Some(0))?;
    let Sight::Present(seen) = &world.seen.volume else { return None };
    let free = seen.id == volume.id && seen.attached_to.is_none() && world.seen.others.is_empty();
    let next = region(world, status, template, now).ok().filter(|_| free)?;
    let why = format!(
        "region {} has no room for a machine; the volume there, which no machine ever had, is deleted and made in {next}",
        volume.region
    );
    Some(repair(delete_volume(bay, &volume.id), Reason::NoCapacity, why))
}

/// A volume whose deletion was ordered: no machine gets it any more, whatever room there is.
fn discarded(bay: &Bay, volume: &VolumeStatus, now: Timestamp) -> Option<Step> {
    let why = "the volume is deleted, to be made in another region";
    if now < volume.discarded_at? + DISCARD_AGAIN {
        return Some(wait(Reason::NoCapacity, why, now + LOOK));
    }
    Some(repair(delete_volume(bay, &volume.id), Reason::NoCapacity, why.to_owned()))
}

fn delete_volume(bay: &Bay, id: &str) -> Action {
    Action::DeleteVolume { app: bay.spec.app.clone(), id: id.to_owned() }
}

fn new_machine(
    world: &World,
    bay: &Bay,
    status: &BayStatus,
    template: &Template,
    now: Timestamp,
) -> Option<Step> {
    let epoch = match &status.machine {
        Some(machine) if machine.id.is_some() => return None,
        Some(machine) => {
            let may_be = machine.intended_at.is_some();
            if may_be && !looked_twice(machine.absent_since, &world.seen.machine, now) {
                let why = "a machine may have been made; it is looked for";
                return Some(wait(Reason::CreatingMachine, why, now + LOOK));
            }
            status.epoch
        }
        None if !restored::looked(world) => {
            let why =
                "a machine may have been made before the store was restored; it is looked for";
            return Some(wait(Reason::CreatingMachine, why, now + LOOK));
        }
        None => restored::next_epoch(world, status),
    };
    let name = format!("{}-{epoch}", bay.metadata.name);
    if let Some(other) = world.seen.others.iter().find(|it| it.name == name && !is_marked(it, bay))
    {
        let why = format!(
            "machine {} in app {} has the name {name} and not this bay's marks: it is not hangar's to change; destroy it by hand",
            other.id, bay.spec.app
        );
        return Some(stalled(Reason::NameTaken, why, now));
    }
    let region = match &status.volume {
        Some(volume) if !volume.region.is_empty() => {
            if let Some(full) = full(world, status, &volume.region, now) {
                if let Some(step) = elsewhere(world, bay, status, template, now) {
                    return Some(step);
                }
                let why = format!("region {}, where the volume is, has no room", volume.region);
                return Some(no_room(why, Some(full.retry_at)));
            }
            volume.region.clone()
        }
        Some(_) | None => match region(world, status, template, now) {
            Ok(region) => region,
            Err(step) => return Some(*step),
        },
    };
    if let Some(step) = transit::in_the_way(world, bay, status, now) {
        return Some(step);
    }
    let spec = machine::desired(&world.environment, template, bay, status, epoch);
    let action = Action::CreateMachine {
        app: bay.spec.app.clone(),
        name,
        region,
        spec: Box::new(spec),
        secrets_version: status.secrets.as_ref().map_or(0, |it| it.version),
        epoch,
    };
    if status.machine.is_none() && epoch > 1 {
        let why =
            "the machine was destroyed by something other than hangar and is replaced".to_owned();
        return Some(repair(action, Reason::MachineLost, why));
    }
    Some(act(action, Reason::CreatingMachine, "the environment needs a machine"))
}
