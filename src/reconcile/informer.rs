//! What Fly has of the whole organisation, kept by one list that is asked for changes only: its cost follows what changed.
//! It tells which apps changed and must never decide what that means.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::{Clock, Timestamp};
use crate::fly::{
    Error, Machines, OrgQuery,
    wire::{OrgMachine, Volume},
};
use crate::plan::{
    ledger::{ListedMachine, ListedVolume, Listing},
    machine,
    price::Size,
    world::SeenVolume,
};
use crate::reconcile::translate;
use crate::retry;
use crate::tasks::Shutdown;

/// Time between two asks for changes; Fly allows one such call a second.
const TICK: Duration = Duration::from_secs(1);
/// Time between two complete lists when nobody asks for one.
const SWEEP: Duration = Duration::from_secs(60);
/// The same while all fits on a page, so that a complete list costs no more than an ask for changes. Changes do not tell
/// of everything: what a deleted app took with it is only missing.
const SWEEP_SMALL: Duration = Duration::from_secs(10);
/// Time between two complete lists at least.
const SWEEP_LEAST: Duration = Duration::from_secs(2);
/// How far a question for changes reaches back: they arrive late.
const OVERLAP: SignedDuration = SignedDuration::from_secs(15);
/// How long it is remembered when a list first lacked something. What is looked for is looked for far more often.
const DROPPED_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// For how long lists may fail until it is said of every environment.
const UNHEARD_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Fly's page limit.
const PAGE: u32 = 1_000;

/// A machine, as the list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineRow {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) version: String,
    pub(crate) region: String,
    /// Where the host told it.
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    /// Where the host told it.
    size: Option<Size>,
    created_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
}

/// A volume, as the list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    pub(crate) app: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) size_gib: u32,
    pub(crate) attached_to: Option<String>,
    pub(crate) going: bool,
    created_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct View {
    /// By app, then by id.
    machines: HashMap<String, BTreeMap<String, MachineRow>>,
    volumes: HashMap<String, BTreeMap<String, VolumeRow>>,
    /// When the last list that was complete began.
    machines_complete_at: Option<Timestamp>,
    volumes_complete_at: Option<Timestamp>,
    /// When the first complete lists began.
    first_at: Option<Timestamp>,
    /// Machines and volumes that lists had and have no more, by id: when the first one began that lacked them.
    dropped: HashMap<String, Timestamp>,
    /// Apps that changed by a list of machines whose volumes could not be listed yet.
    untold: BTreeSet<String>,
    /// The newest change told so far, by Fly's clock, and when it was told, by ours.
    newest: Option<(Timestamp, Duration)>,
}

/// The view of the organisation.
#[derive(Debug)]
pub(crate) struct Informer {
    fly: Arc<dyn Machines>,
    clock: Arc<dyn Clock>,
    org: String,
    view: RwLock<View>,
    wanted: Notify,
    swept: watch::Sender<Option<Timestamp>>,
    /// When a list was last read, and whether that is so long ago that it must be said.
    heard: watch::Sender<(Option<Timestamp>, bool)>,
}

impl Informer {
    pub(crate) fn new(fly: Arc<dyn Machines>, clock: Arc<dyn Clock>, org: String) -> Self {
        let (swept, _) = watch::channel(None);
        let (heard, _) = watch::channel((None, false));
        Self { fly, clock, org, view: RwLock::default(), wanted: Notify::new(), swept, heard }
    }

    /// The organisation that it looks at.
    pub(crate) fn org(&self) -> &str {
        &self.org
    }

    /// Machines of an app.
    pub(crate) fn machines(&self, app: &str) -> BTreeMap<String, MachineRow> {
        self.read(|view| view.machines.get(app).cloned().unwrap_or_default())
    }

    /// How many machines each installation of hangar has, by its id.
    pub(crate) fn installations(&self) -> BTreeMap<String, usize> {
        self.read(|view| {
            let mut counts = BTreeMap::new();
            let rows = view.machines.values().flat_map(BTreeMap::values);
            for id in rows.filter_map(|row| row.metadata.as_ref()?.get(machine::INSTANCE)) {
                *counts.entry(id.clone()).or_default() += 1;
            }
            counts
        })
    }

    /// A volume, or that a complete list did not have it (`Err(true)`), or that nothing is known (`Err(false)`).
    pub(crate) fn volume(&self, app: &str, id: &str) -> Result<VolumeRow, bool> {
        self.read(|view| {
            let row = view.volumes.get(app).and_then(|it| it.get(id));
            row.cloned().ok_or_else(|| view.volumes_complete_at.is_some())
        })
    }

    /// Volumes of an app.
    pub(crate) fn volumes(&self, app: &str) -> BTreeMap<String, VolumeRow> {
        self.read(|view| view.volumes.get(app).cloned().unwrap_or_default())
    }

    /// When the last complete lists began.
    pub(crate) fn complete_at(&self) -> Option<Timestamp> {
        self.read(|view| view.machines_complete_at.min(view.volumes_complete_at))
    }

    /// Since when lists lack this machine or volume; `None` while the last one has it, or there was none yet.
    pub(crate) fn unlisted_since(&self, app: &str, id: &str) -> Option<Timestamp> {
        self.read(|view| {
            let machine = view.machines.get(app).is_some_and(|it| it.contains_key(id));
            let volume = view.volumes.get(app).is_some_and(|it| it.contains_key(id));
            let since = || view.dropped.get(id).copied().or(view.first_at);
            (!machine && !volume).then(since).flatten()
        })
    }

    /// Everything that the last complete lists showed, with what was told since.
    pub(crate) fn listing(&self) -> Option<Listing> {
        self.read(|view| {
            let at = view.machines_complete_at?.min(view.volumes_complete_at?);
            let machines = view.machines.iter().flat_map(|(app, rows)| {
                rows.iter().filter(|(_, row)| row.state != "destroyed").map(move |(id, row)| {
                    ListedMachine {
                        app: app.clone(),
                        id: id.clone(),
                        name: row.name.clone(),
                        region: row.region.clone(),
                        state: row.state.clone(),
                        size: row.size,
                        created_at: row.created_at,
                        metadata: row.metadata.clone().unwrap_or_default(),
                    }
                })
            });
            let live = view.volumes.values().flatten().filter(|(_, row)| !row.going);
            let volumes = live.map(|(id, row)| ListedVolume {
                app: row.app.clone(),
                id: id.clone(),
                name: row.name.clone(),
                region: row.region.clone(),
                size_gib: row.size_gib,
                created_at: row.created_at,
            });
            let (machines, volumes) = (machines.collect(), volumes.collect());
            Some(Listing { machines, volumes, at, ..Listing::default() })
        })
    }

    /// Tells when the last complete lists began, now and whenever there are newer ones.
    pub(crate) fn swept(&self) -> watch::Receiver<Option<Timestamp>> {
        self.swept.subscribe()
    }

    /// Since when Fly could not be asked, where that is longer than a moment.
    pub(crate) fn unheard_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.heard.borrow().0.filter(|at| now > *at + UNHEARD_MAX)
    }

    /// Tells, besides, whenever that begins or ends.
    pub(crate) fn heard(&self) -> watch::Receiver<(Option<Timestamp>, bool)> {
        self.heard.subscribe()
    }

    /// Takes note of whether a list could be read.
    fn hear(&self, answered: bool) {
        let now = self.clock.now();
        let (at, was_unheard) = *self.heard.borrow();
        let at = if answered { Some(now) } else { at };
        let is_unheard = at.is_some_and(|at| now > at + UNHEARD_MAX);
        self.heard.send_if_modified(|it| {
            *it = (at, is_unheard);
            is_unheard != was_unheard
        });
    }

    /// Whether everything fits on a page, so that a complete list costs no more than a short one.
    pub(crate) fn is_small(&self) -> bool {
        self.read(View::is_small)
    }

    /// Asks for complete lists soon.
    pub(crate) fn want_sweep(&self) {
        self.wanted.notify_one();
    }

    /// Takes over what a read of one machine told, which is newer than the list.
    pub(crate) fn learn(&self, app: &str, id: &str, row: Option<MachineRow>) {
        self.write(|view| match row {
            Some(row) => {
                view.machines.entry(app.to_owned()).or_default().insert(id.to_owned(), row);
            }
            None => {
                if let Some(machines) = view.machines.get_mut(app) {
                    machines.remove(id);
                }
            }
        });
    }

    /// Takes over what a read of one volume told.
    pub(crate) fn learn_volume(&self, id: &str, row: VolumeRow) {
        self.write(|view| {
            view.volumes.entry(row.app.clone()).or_default().insert(id.to_owned(), row);
        });
    }

    /// Takes over that a volume was deleted.
    pub(crate) fn forget_volume(&self, app: &str, id: &str) {
        self.write(|view| {
            if let Some(volumes) = view.volumes.get_mut(app) {
                volumes.remove(id);
            }
        });
    }

    /// Keeps the view until shutdown; names of apps that changed go to `changed`.
    pub(crate) async fn run(
        &self,
        changed: mpsc::UnboundedSender<BTreeSet<String>>,
        mut shutdown: Shutdown,
    ) {
        let mut swept_at: Option<Duration> = None;
        let (mut wanted, mut failing) = (true, false);
        loop {
            let now = self.clock.monotonic();
            let since = swept_at.map(|at| now.saturating_sub(at));
            let every = if self.is_small() { SWEEP_SMALL } else { SWEEP };
            let due = since.is_none_or(|it| it >= every || (wanted && it >= SWEEP_LEAST));
            let told = if due {
                swept_at = Some(now);
                wanted = false;
                self.sweep().await
            } else {
                self.changes().await
            };
            self.hear(told.is_ok());
            match told {
                // A sweep is told even when it changed nothing: someone may wait for its being complete.
                Ok(apps) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("Fly's list can be read again");
                    }
                    if (due || !apps.is_empty()) && changed.send(apps).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // At the end of the process the Fly beside it may be gone a little earlier.
                    if !shutdown.asked() && !std::mem::replace(&mut failing, true) {
                        let error = retry::chain(&error);
                        tracing::warn!(
                            error,
                            "Fly's list cannot be read; it is tried again every second"
                        );
                    }
                    // What was missed meanwhile may be more than the overlap covers.
                    wanted = true;
                }
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(TICK) => {}
                () = self.wanted.notified() => {
                    wanted = true;
                    let since = self.clock.monotonic().saturating_sub(now);
                    tokio::time::sleep(TICK.saturating_sub(since)).await;
                }
            }
        }
    }

    async fn sweep(&self) -> Result<BTreeSet<String>, Error> {
        let (began_at, asked) = (self.clock.now(), self.clock.monotonic());
        let (machines, error_regions) = self.machine_pages(None, false).await?;
        // At once: what it shows counts for whoever looks while the volumes are asked for.
        self.write(|view| {
            let mut apps = std::mem::take(&mut view.untold);
            if error_regions.is_empty() {
                view.drop_unlisted(&machines, began_at, &mut apps);
                view.machines_complete_at = Some(began_at);
            }
            view.take_machines(machines, asked, &mut apps);
            view.untold = apps;
        });
        let volumes = self.volume_pages().await?;
        let apps = self.write(|view| {
            let mut apps = std::mem::take(&mut view.untold);
            view.replace_volumes(volumes, began_at, &mut apps);
            view.volumes_complete_at = Some(began_at);
            if view.machines_complete_at.is_some() {
                view.first_at.get_or_insert(began_at);
            }
            view.dropped.retain(|_, at| began_at < *at + DROPPED_KEPT);
            apps
        });
        self.swept.send_replace(self.complete_at());
        Ok(apps)
    }

    async fn changes(&self) -> Result<BTreeSet<String>, Error> {
        let asked = self.clock.monotonic();
        // Fly's clock has gone on since, at least as long as ours: what is older and not told yet is later than any overlap.
        let after = self.read(|view| view.newest).map(|(at, told)| {
            let since = SignedDuration::try_from(asked.saturating_sub(told));
            at + since.unwrap_or(SignedDuration::ZERO) - OVERLAP
        });
        let (machines, _) = self.machine_pages(after, true).await?;
        Ok(self.write(|view| {
            let mut apps = BTreeSet::new();
            view.take_machines(machines, asked, &mut apps);
            apps
        }))
    }

    async fn machine_pages(
        &self,
        updated_after: Option<Timestamp>,
        include_deleted: bool,
    ) -> Result<(Vec<OrgMachine>, Vec<String>), Error> {
        let mut query =
            OrgQuery { updated_after, include_deleted, limit: Some(PAGE), ..OrgQuery::default() };
        let (mut machines, mut error_regions) = (Vec::new(), Vec::new());
        loop {
            let page = self.fly.org_machines(&self.org, &query).await?;
            machines.extend(page.machines);
            error_regions.extend(page.error_regions);
            if page.next_cursor.is_empty() {
                return Ok((machines, error_regions));
            }
            query.cursor = Some(page.next_cursor);
        }
    }

    async fn volume_pages(&self) -> Result<Vec<Volume>, Error> {
        let mut query = OrgQuery { limit: Some(PAGE), ..OrgQuery::default() };
        let mut volumes = Vec::new();
        loop {
            let page = self.fly.org_volumes(&self.org, &query).await?;
            volumes.extend(page.volumes);
            if page.next_cursor.is_empty() {
                return Ok(volumes);
            }
            query.cursor = Some(page.next_cursor);
        }
    }

    fn read<T>(&self, with: impl FnOnce(&View) -> T) -> T {
        with(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, with: impl FnOnce(&mut View) -> T) -> T {
        with(&mut self.view.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl View {
    /// Whether everything fits on a page.
    fn is_small(&self) -> bool {
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let machines: usize = self.machines.values().map(BTreeMap::len).sum();
        let volumes: usize = self.volumes.values().map(BTreeMap::len).sum();
        machines < page && volumes < page
    }

    /// Takes out what a complete list that began then does not have.
    fn drop_unlisted(
        &mut self,
        machines: &[OrgMachine],
        began_at: Timestamp,
        apps: &mut BTreeSet<String>,
    ) {
        let listed: HashSet<_> =
            machines.iter().map(|it| (it.app_name.as_str(), it.id.as_str())).collect();
        let dropped = &mut self.dropped;
        for (app, rows) in &mut self.machines {
            rows.retain(|id, row| {
                let kept = listed.contains(&(app.as_str(), id.as_str()));
                if !kept {
                    apps.insert(app.clone());
                    // Of one that is told as destroyed it was told before.
                    if row.state != "destroyed" {
                        dropped.insert(id.clone(), began_at);
                    }
                }
                kept
            });
        }
        self.machines.retain(|_, rows| !rows.is_empty());
    }

    /// Takes machines that were asked for then, by our clock.
    fn take_machines(
        &mut self,
        machines: Vec<OrgMachine>,
        asked: Duration,
        apps: &mut BTreeSet<String>,
    ) {
        for machine in machines {
            let updated_at = machine.updated_at.parse::<Timestamp>().ok();
            if let Some(at) = updated_at
                && self.newest.is_none_or(|(newest, _)| at > newest)
            {
                self.newest = Some((at, asked));
            }
            let created_at = machine.created_at.parse().ok();
            let OrgMachine { id, app_name, name, state, region, version, config, .. } = machine;
            let size = config.as_ref().and_then(|it| it.guest.as_ref()).map(translate::size);
            let metadata = config.map(|it| translate::own(&it.metadata));
            let rows = self.machines.entry(app_name.clone()).or_default();
            if rows.get(&id).is_some_and(|old| old.updated_at > updated_at) {
                continue;
            }
            let row =
                MachineRow { name, state, version, region, metadata, size, created_at, updated_at };
            if rows.get(&id) != Some(&row) {
                apps.insert(app_name);
                rows.insert(id, row);
            }
        }
    }

    /// Takes the volumes of a complete list that began then.
    fn replace_volumes(
        &mut self,
        volumes: Vec<Volume>,
        began_at: Timestamp,
        apps: &mut BTreeSet<String>,
    ) {
        let mut before = std::mem::take(&mut self.volumes);
        for volume in volumes {
            let row = VolumeRow::of(volume.app_name.as_deref().unwrap_or_default(), &volume);
            let id = volume.id;
            let old = before.get_mut(&row.app).and_then(|it| it.remove(&id));
            if old.is_none_or(|old| !old.is_as(&row)) {
                apps.insert(row.app.clone());
            }
            self.volumes.entry(row.app.clone()).or_default().insert(id, row);
        }
        // What is left there is not in the list any more.
        for (app, rows) in before.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            self.dropped.extend(rows.into_keys().map(|id| (id, began_at)));
            apps.insert(app);
        }
    }
}

impl MachineRow {
    /// The row that a full read of a machine makes.
    pub(crate) fn of(machine: &crate::fly::wire::Machine) -> Self {
        let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
        Self {
            name: machine.name.clone(),
            state: machine.state.clone(),
            version: machine.instance_id.clone(),
            region: machine.region.clone(),
            metadata: config.map(|it| translate::own(&it.metadata)),
            size: config.and_then(|it| it.guest.as_ref()).map(translate::size),
            created_at: machine.created_at.parse().ok(),
            updated_at: machine.updated_at.parse().ok(),
        }
    }
}

impl VolumeRow {
    /// The volume in the plan's words.
    pub(crate) fn seen(&self, id: &str) -> SeenVolume {
        SeenVolume {
            id: id.to_owned(),
            region: self.region.clone(),
            name: self.name.clone(),
            size_gib: self.size_gib,
            attached_to: self.attached_to.clone(),
            going: self.going,
            created_at: self.created_at,
        }
    }

    /// Whether it says the same as far as a bay cares.
    fn is_as(&self, other: &Self) -> bool {
        (&self.app, &self.region, self.size_gib, self.going)
            == (&other.app, &other.region, other.size_gib, other.going)
    }

    /// The row of a volume that was just made.
    pub(crate) fn new(app: &str, name: &str, region: &str, size_gib: u32) -> Self {
        Self {
            app: app.to_owned(),
            name: name.to_owned(),
            region: region.to_owned(),
            size_gib,
            attached_to: None,
            going: false,
            created_at: None,
        }
    }

    /// The row that a full read of a volume makes.
    pub(crate) fn of(app: &str, volume: &Volume) -> Self {
        Self {
            app: app.to_owned(),
            name: volume.name.clone(),
            region: volume.region.clone(),
            size_gib: volume.size_gb,
            attached_to: volume.attached_machine_id.clone(),
            going: volume.is_going(),
            created_at: volume.created_at.parse().ok(),
        }
    }
}
