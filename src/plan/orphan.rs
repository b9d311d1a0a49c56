//! What is done next about an orphan that a person ordered to be adopted or deleted: proof first, then one id at a time. It
//! must never act on anything that the ledger did not record, nor on what a bay accounts for.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BaySpec, BayStatus, EnvironmentRef, MachineStatus, VolumeStatus},
    environment::Environment,
    kind::Kind,
    meta::{Metadata, Resource as _},
    orphan::{Order, OrphanMachine, OrphanStatus, OrphanWhat, Verb},
    template::Template,
};
use crate::plan::{
    action::Action,
    bay::network_name,
    observe::SECOND_LOOK,
    world::{MachineState, SeenApp, SeenMachine, SeenVolume, Sight},
};

/// How long an app's deletion may take before it is ordered again.
const DELETE_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Everything that one pass for one orphan decides from.
#[derive(Debug, Clone, PartialEq)]
pub struct OrphanWorld {
    /// This installation.
    pub instance: String,
    /// The entry.
    pub status: OrphanStatus,
    /// What was ordered.
    pub order: Order,
    /// What accounts for it after all.
    pub accounted: Option<String>,
    /// Why nothing may be destroyed now, if so.
    pub no_destroying: Option<String>,
    /// When a complete list of the organisation was last begun.
    pub complete_list_at: Option<Timestamp>,
    /// Its app.
    pub app: Sight<SeenApp>,
    /// All machines of the app, from a list of its own.
    pub machines: Sight<Vec<SeenMachine>>,
    /// All volumes of the app, likewise.
    pub volumes: Sight<Vec<SeenVolume>>,
    /// Each recorded machine, read by id.
    pub machine_reads: Vec<(OrphanMachine, Sight<SeenMachine>)>,
    /// Each recorded volume's id and the volume, read by id.
    pub volume_reads: Vec<(String, Sight<SeenVolume>)>,
    /// `Adopt`: the environment, if there is one.
    pub target: Option<Environment>,
    /// Its template, if there is one.
    pub template: Option<Template>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum OrphanStep {
    /// The order is not carried out, or not further.
    Refuse(String),
    /// Something is waited for.
    Wait(String),
    /// Everything is as recorded, for the first time; it is read once more, a while later.
    Prove,
    /// One call.
    Act(Action),
    /// The bay is written and bound, in one commit.
    Adopt(Box<Bay>),
    /// Nothing is left of it.
    Done,
}

/// Plans one pass. Total.
#[must_use]
pub fn step(world: &OrphanWorld, now: Timestamp) -> OrphanStep {
    match check(world).and_then(|()| proven(world, now)) {
        Ok(()) => match world.order.verb {
            Verb::Delete => delete(world, now),
            Verb::Adopt => adopt(world, now),
        },
        Err(step) => step,
    }
}

fn refuse(why: impl Into<String>) -> OrphanStep {
    OrphanStep::Refuse(why.into())
}

fn wait(why: impl Into<String>) -> OrphanStep {
    OrphanStep::Wait(why.into())
}

/// Whether all of it is as recorded, and may be acted on.
fn check(world: &OrphanWorld) -> Result<(), OrphanStep> {
    let OrphanWorld { status, order, .. } = world;
    status.course(order.verb).map_err(OrphanStep::Refuse)?;
    if let Some(by) = &world.accounted {
        return Err(refuse(format!("it is accounted for: {by}")));
    }
    match order.verb {
        Verb::Delete => {
            if let Some(why) = &world.no_destroying {
                return Err(wait(format!("nothing is destroyed: {why}")));
            }
        }
        Verb::Adopt => {
            let target =
                world.target.as_ref().ok_or_else(|| refuse("there is no such environment"))?;
            status.fits(target).map_err(OrphanStep::Refuse)?;
        }
    }
    app(world)?;
    machines(world)?;
    volumes(world)
}

fn app(world: &OrphanWorld) -> Result<(), OrphanStep> {
    let name = &world.status.app;
    match &world.app {
        Sight::Present(app) if !app.ours => {
            Err(wait(format!("app {name} cannot be read: it may be another organisation's by now")))
        }
        Sight::Present(app) => {
            let ours = network_name(name, &world.instance);
            match app.network.as_ref().filter(|it| **it != ours && *it != name) {
                Some(other) => Err(refuse(format!(
                    "app {name} is on network {other}, which is not this installation's"
                ))),
                None => Ok(()),
            }
        }
        Sight::Absent if world.order.verb == Verb::Delete => Err(OrphanStep::Done),
        Sight::Absent => Err(refuse(format!("app {name} is gone"))),
        Sight::Unasked | Sight::Unclear(_) => Err(wait(format!("app {name} cannot be read"))),
    }
}

fn machines(world: &OrphanWorld) -> Result<(), OrphanStep> {
    for (recorded, sight) in &world.machine_reads {
        let id = &recorded.id;
        match sight {
            Sight::Present(seen) if seen.state == MachineState::Destroyed => {}
            Sight::Present(seen) => {
                let mark = seen.mark.as_ref().filter(|it| {
                    it.instance == world.instance && Some(&it.bay) == recorded.bay_uid.as_ref()
                });
                if mark.is_none() && seen.metadata.is_none() {
                    return Err(wait(format!(
                        "machine {id} does not show its marks: its host does not answer"
                    )));
                }
                if mark.is_none() {
                    return Err(refuse(format!(
                        "machine {id} does not carry the marks that were listed"
                    )));
                }
                if let MachineState::Other(word) = &seen.state {
                    return Err(wait(format!(
                        "machine {id} is {word}, a state that hangar does not know"
                    )));
                }
            }
            Sight::Absent => {}
            Sight::Unasked | Sight::Unclear(_) => {
                return Err(wait(format!("machine {id} cannot be read")));
            }
        }
    }
    let Sight::Present(listed) = &world.machines else {
        return Err(wait("the app's machines cannot be listed"));
    };
    let known = |it: &SeenMachine| world.machine_reads.iter().any(|(own, _)| own.id == it.id);
    let stranger = listed.iter().find(|it| !known(it) && it.state != MachineState::Destroyed);
    match stranger.filter(|_| world.status.what == OrphanWhat::App) {
        Some(it) => {
            Err(refuse(format!("machine {} is in the app and was not listed with it", it.id)))
        }
        None => Ok(()),
    }
}

fn volumes(world: &OrphanWorld) -> Result<(), OrphanStep> {
    let own = world.status.app.strip_prefix("hgr-").map(|it| format!("bay_{it}"));
    for (id, sight) in &world.volume_reads {
        match sight {
            Sight::Present(seen) if seen.id != *id || Some(&seen.name) != own.as_ref() => {
                return Err(refuse(format!(
                    "volume {id} does not have the name that hangar gives"
                )));
            }
            Sight::Present(_) | Sight::Absent => {}
            Sight::Unasked | Sight::Unclear(_) => {
                return Err(wait(format!("volume {id} cannot be read")));
            }
        }
    }
    let Sight::Present(listed) = &world.volumes else {
        return Err(wait("the app's volumes cannot be listed"));
    };
    let known = |it: &SeenVolume| world.volume_reads.iter().any(|(id, _)| *id == it.id);
    let stranger = listed.iter().find(|it| !known(it) && !it.going);
    match stranger.filter(|_| world.status.what == OrphanWhat::App) {
        Some(it) => {
            Err(refuse(format!("volume {} is in the app and was not listed with it", it.id)))
        }
        None => Ok(()),
    }
}

/// Whether it was so twice, apart in time, with a complete list since the order.
fn proven(world: &OrphanWorld, now: Timestamp) -> Result<(), OrphanStep> {
    let order = &world.order;
    let listed = world.complete_list_at.filter(|at| order.ordered_at.is_none_or(|it| *at >= it));
    if listed.is_none() {
        return Err(wait("Fly's complete list is asked for once more"));
    }
    match order.proven_at {
        None => Err(OrphanStep::Prove),
        Some(at) if now < at + SECOND_LOOK => Err(wait("all of it is read once more")),
        Some(_) => Ok(()),
    }
}

/// Machines go first, then volumes, then the app with nothing left in it.
fn delete(world: &OrphanWorld, now: Timestamp) -> OrphanStep {
    let app = world.status.app.clone();
    let recently = world.order.acted_at.is_some_and(|at| now < at + DELETE_AGAIN);
    for (recorded, sight) in &world.machine_reads {
        let Sight::Present(seen) = sight else { continue };
        match seen.state {
            MachineState::Destroyed => {}
            MachineState::Destroying => {
                return wait(format!("machine {} is being destroyed", recorded.id));
            }
            _ => return OrphanStep::Act(Action::DestroyMachine { app, id: recorded.id.clone() }),
        }
    }
    for (id, sight) in &world.volume_reads {
        let Sight::Present(seen) = sight else { continue };
        match &seen.attached_to {
            _ if seen.going => {}
            Some(machine) if world.status.what == OrphanWhat::Volume => {
                return refuse(format!("volume {id} is attached to machine {machine}"));
            }
            Some(machine) => {
                return wait(format!("volume {id} is still attached to machine {machine}"));
            }
            None => return OrphanStep::Act(Action::DeleteVolume { app, id: id.clone() }),
        }
    }
    match world.status.what {
        OrphanWhat::Machine | OrphanWhat::Volume => OrphanStep::Done,
        OrphanWhat::App if recently => wait(format!("app {app} is being deleted")),
        OrphanWhat::App => OrphanStep::Act(Action::DeleteApp { app }),
    }
}

/// The bay as it was, from the evidence.
fn adopt(world: &OrphanWorld, now: Timestamp) -> OrphanStep {
    let OrphanWorld { status, target, .. } = world;
    let (Some(target), Some(newest), Some(uid), Some(name)) =
        (target, status.newest(), &status.bay_uid, status.bay_name())
    else {
        return refuse("its marks do not say whose it was");
    };
    let read = world.machine_reads.iter().find(|(it, _)| it.id == newest.id).map(|(_, it)| it);
    let Some(Sight::Present(machine)) = read else {
        return refuse(format!("machine {} is gone", newest.id));
    };
    let epoch = newest.epoch.unwrap_or_default();
    if machine.name != format!("{name}-{epoch}") {
        let given = &machine.name;
        return refuse(format!(
            "machine {} has the name {given}, which hangar did not give it",
            newest.id
        ));
    }
    let Some(config) = &machine.config else {
        return wait(format!("machine {} does not show its configuration", newest.id));
    };
    let volume = match mounted(world, config.volume.as_ref().map(|(id, _)| id)) {
        Ok(volume) => volume,
        Err(step) => return step,
    };
    let wants = world.template.as_ref().map(|it| it.spec.volume.is_some());
    if volume.is_some() && wants != Some(true) {
        return refuse("it has a volume, and the environment's template has none or is missing");
    }
    let record = MachineStatus {
        name: machine.name.clone(),
        id: Some(machine.id.clone()),
        version: Some(machine.version.clone()),
        config: Some(config.digest()),
        state: machine.state.word().to_owned(),
        state_since: Some(now),
        ..MachineStatus::default()
    };
    let mut bay = named_as_it_was(world, target, name, uid);
    bay.spec.volume = volume.is_some();
    bay.status = BayStatus {
        app_created: true,
        region: Some(machine.region.clone()),
        epoch,
        volume,
        machine: Some(record),
        ..BayStatus::default()
    };
    OrphanStep::Adopt(Box::new(bay))
}

fn named_as_it_was(world: &OrphanWorld, target: &Environment, name: String, uid: &str) -> Bay {
    let app = &world.status.app;
    let network = match &world.app {
        Sight::Present(app) => app.network.clone(),
        Sight::Absent | Sight::Unasked | Sight::Unclear(_) => None,
    };
    let info = Kind::Bay.info();
    Bay {
        api_version: info.api_version(),
        kind: info.kind_name.to_owned(),
        metadata: Metadata {
            name,
            namespace: target.metadata.namespace.clone(),
            // Everything of it at Fly carries this uid.
            uid: uid.to_owned(),
            owner_references: vec![target.owner_reference()],
            ..Metadata::default()
        },
        spec: BaySpec {
            instance: world.instance.clone(),
            environment_ref: Some(EnvironmentRef::of(target)),
            claimed_at: None,
            stock: None,
            missed_pool: None,
            app: app.clone(),
            network: network.unwrap_or_else(|| network_name(app, &world.instance)),
            volume: false,
        },
        status: BayStatus::default(),
    }
}

/// The volume that the machine mounts; the app's other volumes, if any, stay orphans.
fn mounted(
    world: &OrphanWorld,
    mount: Option<&String>,
) -> Result<Option<VolumeStatus>, OrphanStep> {
    let Some(id) = mount else {
        return match world.volume_reads.first() {
            Some((id, _)) => {
                Err(refuse(format!("volume {id} is in the app and its machine does not mount it")))
            }
            None => Ok(None),
        };
    };
    let read = world.volume_reads.iter().find(|(it, _)| it == id).map(|(_, it)| it);
    match read {
        Some(Sight::Present(volume)) if !volume.going => Ok(Some(VolumeStatus {
            id: volume.id.clone(),
            region: volume.region.clone(),
            size_gib: volume.size_gib,
            ..VolumeStatus::default()
        })),
        _ => Err(refuse(format!(
            "its machine mounts volume {id}, which is gone or was not listed with it"
        ))),
    }
}

#[cfg(test)]
mod tests;
