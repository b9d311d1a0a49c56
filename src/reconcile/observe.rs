//! Store and Fly into a `World`: reads only what hangs on something. Fly's wire types stop here. It must never decide what
//! follows from what was seen.

use std::collections::BTreeMap;

use crate::api::{
    bay::{Bay, BayStatus, MachineStatus, OrderKind},
    meta::Resource as _,
};
use crate::clock::Timestamp;
use crate::fly::{Machines, Reason};
use crate::plan::{
    bay::volume_name,
    environment::HEALTH_LOOK,
    machine, restored,
    world::{
        MachineState, SecretFact, Seen, SeenApp, SeenMachine, SeenVolume, Settings, Sight, World,
    },
};
use crate::reconcile::{
    execute::SecretValues,
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
    /// When the machine was last read by itself, and what the list then said of its last change.
    pub(crate) read: Option<(Timestamp, Option<Timestamp>)>,
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
    memo: &mut Memo,
    fresh_name: String,
    now: Timestamp,
) -> Box<World> {
    let environment = &objects.environment.value;
    let bay = objects.bay.as_ref().map(|it| it.value.clone());
    let mut seen = match &bay {
        Some(bay) => {
            let seen = look(Look { sources, objects, bay, memo, now }).await;
            memo.read = read_at(sources, bay, &seen, memo.read, now);
            seen
        }
        None => Seen::default(),
    };
    seen.complete_list_at = sources.informer.complete_at();
    if let Some(bay) = &bay {
        let unlisted = |id: &String| sources.informer.unlisted_since(&bay.spec.app, id);
        let machine = bay.status.machine.as_ref().and_then(|it| it.id.as_ref());
        let volume = bay.status.volume.as_ref().map(|it| &it.id);
        seen.machine_unlisted_since = machine.and_then(unlisted);
        seen.volume_unlisted_since = volume.and_then(unlisted);
    }
    if let Sight::Present(SeenMachine { launch_error: Some(error), .. }) = &mut seen.machine {
        // It may repeat what the program was to be given.
        *error = SecretValues::gather(objects, None).hidden_in(error);
    }
    let no_destroying =
        objects.held.destroying.clone().or_else(|| no_destroying(sources.informer, now));
    Box::new(World {
        settings: sources.settings.clone(),
        environment: environment.clone(),
        template: objects.template.clone(),
        revision: objects.revision.clone(),
        secrets: secret_facts(objects),
        bay,
        vacancy: None,
        empty_pool: None,
        no_bay: None,
        orphan: objects.orphan.clone(),
        seen,
        last_request_at: objects.last_request_at,
        connections: memo.connections,
        fresh_name,
        full_regions: Vec::new(),
        unheard_since: sources.informer.unheard_since(now),
        clock_was_set: None,
        no_destroying,
        no_replacing: objects.held.replacing.clone(),
        no_creating: objects.held.creating.clone(),
    })
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
    let app = async || match app_sight(sources.fly, &bay.spec.app).await {
        Sight::Present(app) if !app.ours => foreign_sight(sources, &bay.spec.app).await,
        sight => sight,
    };
    if objects.environment.value.is_deleting() {
        seen.app = app().await;
        if seen.app == Sight::Absent {
            let rows = sources.informer.machines(&bay.spec.app);
            seen.others = rows.iter().map(|(id, row)| translate::seen_row(id, row)).collect();
            let rows = sources.informer.volumes(&bay.spec.app);
            seen.other_volumes = rows.iter().map(|(id, row)| row.seen(id)).collect();
            sources.informer.want_sweep();
        }
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
    seen.volume = volume_sight(sources, bay, memo.doubted).await;
    let volume_gone = match &seen.volume {
        Sight::Absent => status.volume.is_some(),
        Sight::Present(volume) => volume.going,
        Sight::Unasked | Sight::Unclear(_) => false,
    };
    seen.machine = machine_sight(look, &rows, volume_gone).await;
    if volume_gone {
        seen.moved_volume = moved_volume(sources, bay, &seen.machine).await;
    }
    seen.other_volumes = other_volumes(sources, bay).await;
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
    // What is looked for in an app that is gone is not found, nor told to be absent.
    let lost = is_looked_for(status)
        && (matches!(seen.machine, Sight::Unclear(_)) || matches!(seen.volume, Sight::Unclear(_)));
    if destroyed || lost || seen.volume == Sight::Absent || status.missing.is_some() {
        seen.app = app().await;
        sources.informer.want_sweep();
    }
    seen
}

/// Whether something may have been made that is not recorded.
fn is_looked_for(status: &BayStatus) -> bool {
    let machine = status.machine.as_ref();
    status.volume_intended_at.is_some()
        || machine.is_some_and(|it| it.id.is_none() && it.intended_at.is_some())
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

/// An app that may not be read: another organisation's, unless ours lists it.
async fn foreign_sight(sources: Sources<'_>, app: &str) -> Sight<SeenApp> {
    match sources.fly.list_apps(sources.informer.org()).await {
        Ok(apps) if apps.iter().any(|it| it.name == app) => {
            Sight::Unclear("the app is the organisation's, and reading it is refused".to_owned())
        }
        Ok(_) => Sight::Present(SeenApp { network: None, ours: false }),
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}

/// The volume that the machine mounts, where the recorded one is gone.
async fn moved_volume(
    sources: Sources<'_>,
    bay: &Bay,
    machine: &Sight<SeenMachine>,
) -> Option<SeenVolume> {
    let Sight::Present(machine) = machine else { return None };
    let (mounted, _) = machine.config.as_ref()?.volume.as_ref()?;
    if bay.status.volume.as_ref().is_none_or(|it| it.id == *mounted) {
        return None;
    }
    match read_volume(sources.fly, sources.informer, &bay.spec.app, mounted).await {
        Sight::Present(volume) => Some(volume),
        Sight::Absent | Sight::Unasked | Sight::Unclear(_) => None,
    }
}

/// Volumes that a create may have made whose answer was lost, when the bay has another one by now. One that is about to be
/// deleted is read by itself.
async fn other_volumes(sources: Sources<'_>, bay: &Bay) -> Vec<SeenVolume> {
    let status = &bay.status;
    let Some(own) = status.volume.as_ref().filter(|_| !status.volume_doubts.is_empty()) else {
        return Vec::new();
    };
    let name = volume_name(bay);
    let mut found = Vec::new();
    for (id, row) in sources.informer.volumes(&bay.spec.app) {
        if id == own.id || row.name != name || row.going {
            continue;
        }
        let listed = row.seen(&id);
        if status.stray.as_ref().is_none_or(|it| it.id != id) {
            found.push(listed);
            continue;
        }
        match read_volume(sources.fly, sources.informer, &bay.spec.app, &id).await {
            Sight::Present(volume) => found.push(volume),
            // It is there no longer, or it cannot be told: then it is not touched.
            Sight::Absent | Sight::Unasked | Sight::Unclear(_) => {}
        }
    }
    found
}

/// When the machine was last read by itself, after this look.
fn read_at(
    sources: Sources<'_>,
    bay: &Bay,
    seen: &Seen,
    before: Option<(Timestamp, Option<Timestamp>)>,
    now: Timestamp,
) -> Option<(Timestamp, Option<Timestamp>)> {
    let Sight::Present(machine) = &seen.machine else { return None };
    let rows = sources.informer.machines(&bay.spec.app);
    let updated_at = rows.get(&machine.id).and_then(|row| row.updated_at);
    match before.filter(|_| machine.config.is_none()) {
        // A change that was ordered, or a request's: nothing need be read for it.
        Some((read_at, _)) if slept(bay.status.machine.as_ref()) => Some((read_at, updated_at)),
        Some(before) => Some(before),
        // After a restart what the list says is taken for known: it served when it was last looked at.
        None => Some((now, updated_at)),
    }
}

fn slept(record: Option<&MachineStatus>) -> bool {
    let order = record.and_then(|it| it.order.as_ref());
    order.is_some_and(|it| it.kind == OrderKind::Sleep)
}

async fn machine_sight(
    look: Look<'_>,
    rows: &BTreeMap<String, MachineRow>,
    volume_gone: bool,
) -> Sight<SeenMachine> {
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
        let changed = changed_by_itself(look, record, row) || may_have_lost_its_file(look, row);
        let asked = memo.doubted || volume_gone || changed;
        listed_since && known && checked && there && !failed && !asked
    });
    if let Some(row) = settled {
        return Sight::Present(translate::seen_row(id, row));
    }
    read_machine(sources.fly, sources.informer, &bay.spec.app, id).await
}

/// Whether the list tells of a change that hangar did not order, or has not told for long, of a machine that Fly checks: its
/// program may have ended, or hang, and the list has no checks.
fn changed_by_itself(look: Look<'_>, record: &MachineStatus, row: &MachineRow) -> bool {
    let Look { objects, memo, now, .. } = look;
    let readiness = objects.template.as_ref().and_then(|it| it.spec.readiness.as_ref());
    let is_checked = readiness.is_some_and(|it| it.http.is_some() || it.tcp.is_some());
    let served = record.ready.as_ref().is_some_and(|it| it.version == row.version);
    if record.unhealthy_since.is_some() || record.unreachable_since.is_some() {
        return true;
    }
    if !is_checked || !served || !matches!(row.state.as_str(), "started" | "stopped") {
        return false;
    }
    let Some((read_at, updated_at)) = memo.read else { return false };
    let started = row.state == "started";
    (!slept(Some(record)) && row.updated_at != updated_at)
        || (started && now >= read_at + HEALTH_LOOK)
}

/// Whether a machine that has what its environment adds on its root file system may have been started since that was written: the list
/// says that something happened, and the machine's events say what.
fn may_have_lost_its_file(look: Look<'_>, row: &MachineRow) -> bool {
    let Look { bay, memo, .. } = look;
    let as_stock = bay.status.machine.as_ref().is_some_and(|it| it.as_stock);
    let written = bay.status.personalized.as_ref();
    let Some(written_at) =
        written.filter(|_| as_stock && !bay.spec.volume).and_then(|it| it.tried_at)
    else {
        return false;
    };
    let is_news =
        memo.read.is_none_or(|(read_at, at)| read_at < written_at || at != row.updated_at);
    row.state == "started" && is_news && row.updated_at.is_none_or(|at| at > written_at)
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
        // Only the list takes it off the list: a read that says so while that has it may be wrong.
        Err(error) if error.is_gone() => Sight::Absent,
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
        Some(name) => match found.into_iter().find(|it| it.name == name) {
            Some(found) => Some(found),
            // An app's list has been empty by mistake; what the organisation's list has is read by its id.
            None => return listed_machine(sources, bay, name).await,
        },
        None => found.filter(|it| epoch(it) >= Some(bay.status.epoch)).max_by_key(epoch),
    };
    found.map_or(Sight::Absent, Sight::Present)
}

async fn listed_machine(sources: Sources<'_>, bay: &Bay, name: &str) -> Sight<SeenMachine> {
    let (app, uid) = (bay.spec.app.as_str(), &bay.metadata.uid);
    let marked =
        |row: &MachineRow| row.metadata.as_ref().and_then(|it| it.get(machine::BAY)) == Some(uid);
    let rows = sources.informer.machines(app);
    let its = |row: &MachineRow| row.name == name && row.state != "destroyed" && marked(row);
    match rows.iter().find(|(_, row)| its(row)) {
        Some((id, _)) => read_machine(sources.fly, sources.informer, app, id).await,
        None => Sight::Absent,
    }
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
    match sources.informer.volume(&bay.spec.app, &record.id) {
        Ok(row) if !row.going && !doubted && record.discarded_at.is_none() => {
            let seen = row.seen(&record.id);
            // The list may be older than an extension.
            let size_gib = seen.size_gib.max(record.size_gib);
            return Sight::Present(SeenVolume { size_gib, ..seen });
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
        Ok(volumes) => match volumes.iter().find(|it| it.name == name && !it.is_going()) {
            Some(volume) => Sight::Present(translate::seen_volume(volume)),
            None => listed_volume(sources, bay, &name).await,
        },
        Err(error) => Sight::Unclear(retry::chain(&error)),
    }
}

/// An app's list has been empty by mistake; what the organisation's list has is read by its id.
async fn listed_volume(sources: Sources<'_>, bay: &Bay, name: &str) -> Sight<SeenVolume> {
    let rows = sources.informer.volumes(&bay.spec.app);
    match rows.iter().find(|(_, row)| row.name == name && !row.going) {
        Some((id, _)) => read_volume(sources.fly, sources.informer, &bay.spec.app, id).await,
        None => Sight::Absent,
    }
}
