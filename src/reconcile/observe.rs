//! Store and Fly into a `World`: reads only what hangs on something. Fly's wire types stop here. It must never decide what
//! follows from what was seen.

use std::collections::BTreeMap;

use crate::api::{bay::Bay, meta::Resource as _};
use crate::clock::Timestamp;
use crate::fly::{Machines, Reason};
use crate::plan::{
    bay::volume_name,
    machine, restored,
    world::{
        MachineState, SecretFact, Seen, SeenApp, SeenMachine, SeenVolume, Settings, Sight, World,
    },
};
use crate::reconcile::{
    informer::{Informer, MachineRow, VolumeRow},
    objects::Objects,
    translate,
};
use crate::retry;

/// How long after a call the list may still show what was before it.
const LIST_LAG: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);
/// A list older than this is no ground for destroying anything.
const LIST_TOO_OLD: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// What is remembered of an environment between passes; nothing that a restart would miss.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memo {
    /// When hangar last made a call that changed something.
    pub(crate) acted_at: Option<Timestamp>,
    /// Open connections, when they were last counted.
    pub(crate) connections: Option<(Timestamp, u32)>,
    /// Whether someone has doubts, so that the machine is read by itself.
    pub(crate) doubted: bool,
}

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) fly: &'a dyn Machines,
    pub(crate) informer: &'a Informer,
    pub(crate) settings: &'a Settings,
}

/// A look at one bay.
#[derive(Clone, Copy)]
struct Look<'a> {
    sources: Sources<'a>,
    objects: &'a Objects,
    bay: &'a Bay,
    memo: &'a Memo,
    now: Timestamp,
}

pub(crate) async fn observe(
    sources: Sources<'_>,
    objects: &Objects,
    memo: &Memo,
    fresh_name: String,
    now: Timestamp,
) -> World {
    let environment = &objects.environment.value;
    let bay = objects.bay.as_ref().map(|it| it.value.clone());
    let mut seen = match &bay {
        Some(bay) => look(Look { sources, objects, bay, memo, now }).await,
        None => Seen::default(),
    };
    seen.complete_list_at = sources.informer.complete_at();
    let no_destroying =
        objects.held.destroying.clone().or_else(|| no_destroying(sources.informer, now));
    World {
        settings: sources.settings.clone(),
        environment: environment.clone(),
        template: objects.template.clone(),
        secrets: secret_facts(objects),
        bay,
        orphan: objects.orphan.clone(),
        seen,
        last_request_at: objects.last_request_at,
        connections: memo.connections,
        fresh_name,
        no_destroying,
        no_replacing: objects.held.replacing.clone(),
        no_creating: objects.held.creating.clone(),
    }
}

/// Why nothing may be destroyed now, if so.
pub(crate) fn no_destroying(informer: &Informer, now: Timestamp) -> Option<String> {
    match informer.complete_at() {
        Some(at) if now < at + LIST_TOO_OLD => None,
        Some(_) => Some("Fly's list was last complete more than 10 minutes ago".to_owned()),
        None => Some("Fly's list was not complete yet".to_owned()),
    }
}

fn secret_facts(objects: &Objects) -> BTreeMap<String, Option<SecretFact>> {
    let fact = |secret: &crate::api::core::Secret| SecretFact {
        uid: secret.metadata.uid.clone(),
        generation: secret.metadata.generation,
        keys: secret.data.keys().cloned().collect(),
    };
    objects.secrets.iter().map(|(name, it)| (name.clone(), it.as_ref().map(fact))).collect()
}

async fn look(look: Look<'_>) -> Seen {
    let Look { sources, objects, bay, memo, .. } = look;
    let mut seen = Seen::default();
    let app = async || app_sight(sources.fly, &bay.spec.app).await;
    if objects.environment.value.is_deleting() {
        seen.app = app().await;
        return seen;
    }
    let status = &bay.status;
    if status.app_contested || (!status.app_created && status.failure.is_some()) {
        seen.app = app().await;
    }
    if !status.app_created {
        return seen;
    }
    let rows = sources.informer.machines(&bay.spec.app);
    seen.machine = machine_sight(look, &rows).await;
    seen.volume = volume_sight(sources, bay, memo.doubted).await;
    let own = match &seen.machine {
        Sight::Present(machine) => Some(machine.id.clone()),
        Sight::Absent | Sight::Unasked | Sight::Unclear(_) => None,
    };
    seen.others = rows
        .iter()
        .filter(|(id, _)| Some(*id) != own.as_ref())
        .map(|(id, row)| translate::seen_row(id, row))
        .collect();
    let destroyed = match &seen.machine {
        Sight::Present(machine) => machine.state == MachineState::Destroyed,
        Sight::Absent => true,
        Sight::Unasked | Sight::Unclear(_) => false,
    };
    if destroyed || seen.volume == Sight::Absent || status.missing.is_some() {
        seen.app = app().await;
        sources.informer.want_sweep();
    }
    seen
}

/// An app, read by itself.
pub(crate) async fn app_sight(fly: &dyn Machines, app: &str) -> Sight<SeenApp> {
    match fly.get_app(app).await {
        Ok(app) => Sight::Present(SeenApp { network: app.network, ours: true }),
        Err(error) if error.reason == Reason::ForeignApp => {
            Sight::Present(SeenApp { network: None, ours: false })
        }
        Err(error) if error.reason == Reason::AppNotFound => Sight::Absent,
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}

async fn machine_sight(look: Look<'_>, rows: &BTreeMap<String, MachineRow>) -> Sight<SeenMachine> {
    let Look { sources, objects, bay, memo, now } = look;
    let Some(record) = &bay.status.machine else {
        return if is_behind(sources, bay) {
            find_machine(sources, bay, None).await
        } else {
            Sight::Unasked
        };
    };
    let Some(id) = &record.id else {
        return if record.intended_at.is_some() {
            find_machine(sources, bay, Some(&record.name)).await
        } else {
            Sight::Unasked
        };
    };
    let settled = rows.get(id).filter(|row| {
        let listed_since = memo.acted_at.is_none_or(|at| now >= at + LIST_LAG);
        let known = record.version.as_ref() == Some(&row.version);
        // The list has no checks, so a machine that has yet to pass its own is read by itself.
        let checked = row.state != "started"
            || record.ready.as_ref().is_some_and(|it| it.version == row.version)
            || objects.template.as_ref().is_none_or(|it| it.spec.readiness.is_none());
        let there = row.state != "destroyed" && bay.status.missing.is_none();
        // Nor has it the events, which tell why a launch failed.
        let failed = row.state == "failed";
        listed_since && known && checked && there && !failed && !memo.doubted
    });
    if let Some(row) = settled {
        return Sight::Present(translate::seen_row(id, row));
    }
    read_machine(sources.fly, sources.informer, &bay.spec.app, id).await
}

/// A machine, read by itself.
pub(crate) async fn read_machine(
    fly: &dyn Machines,
    informer: &Informer,
    app: &str,
    id: &str,
) -> Sight<SeenMachine> {
    match fly.get_machine(app, id).await {
        Ok(machine) => {
            informer.learn(app, id, Some(MachineRow::of(&machine)));
            Sight::Present(translate::seen(&machine))
        }
        Err(error) if error.is_gone() => {
            informer.learn(app, id, None);
            Sight::Absent
        }
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}

/// Whether Fly may have more of the bay than is recorded.
fn is_behind(sources: Sources<'_>, bay: &Bay) -> bool {
    restored::behind(sources.settings, bay.metadata.creation_timestamp).is_some()
}

/// A machine whose create was not answered, by its name; the bay's latest when even that is not known.
async fn find_machine(sources: Sources<'_>, bay: &Bay, name: Option<&str>) -> Sight<SeenMachine> {
    let mine = [(machine::BAY, bay.metadata.uid.as_str())];
    let machines = match sources.fly.list_machines(&bay.spec.app, &mine).await {
        Ok(machines) => machines,
        Err(error) => return Sight::Unclear(retry::chain(&error)),
    };
    let epoch = |it: &SeenMachine| it.mark.as_ref().map(|mark| mark.epoch);
    let found = machines.iter().filter(|it| it.state != "destroyed").map(translate::seen);
    let found = match name {
        Some(name) => found.into_iter().find(|it| it.name == name),
        None => found.filter(|it| epoch(it) >= Some(bay.status.epoch)).max_by_key(epoch),
    };
    found.map_or(Sight::Absent, Sight::Present)
}

async fn volume_sight(sources: Sources<'_>, bay: &Bay, doubted: bool) -> Sight<SeenVolume> {
    if !bay.spec.volume {
        return Sight::Unasked;
    }
    let Some(record) = &bay.status.volume else {
        return if bay.status.volume_intended_at.is_some() || is_behind(sources, bay) {
            find_volume(sources, bay).await
        } else {
            Sight::Unasked
        };
    };
    match sources.informer.volume(&record.id) {
        Ok(row) if !row.going && !doubted => {
            return Sight::Present(SeenVolume {
                id: record.id.clone(),
                region: row.region,
                name: row.name,
                attached_to: row.attached_to,
                // The list may be older than an extension.
                size_gib: row.size_gib.max(record.size_gib),
                going: false,
            });
        }
        // No complete list since the start: nothing is concluded.
        Err(false) => return Sight::Unasked,
        Ok(_) | Err(true) => {}
    }
    read_volume(sources.fly, sources.informer, &bay.spec.app, &record.id).await
}

/// A volume, read by itself.
pub(crate) async fn read_volume(
    fly: &dyn Machines,
    informer: &Informer,
    app: &str,
    id: &str,
) -> Sight<SeenVolume> {
    match fly.get_volume(app, id).await {
        Ok(volume) => {
            informer.learn_volume(id, VolumeRow::of(app, &volume));
            Sight::Present(translate::seen_volume(&volume))
        }
        Err(error) if error.is_gone() => Sight::Absent,
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}

/// A volume whose create was not answered.
async fn find_volume(sources: Sources<'_>, bay: &Bay) -> Sight<SeenVolume> {
    let name = volume_name(bay);
    match sources.fly.list_volumes(&bay.spec.app).await {
        Ok(volumes) => volumes
            .iter()
            .find(|it| it.name == name && !it.is_going())
            .map_or(Sight::Absent, |it| Sight::Present(translate::seen_volume(it))),
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}
