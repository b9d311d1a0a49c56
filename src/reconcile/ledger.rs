//! The leak ledger's keeper: after each complete list it compares Fly with the store and writes what does not match as Orphan
//! objects, and it sees to what was ordered about one. It must never decide what is an orphan or what may be done about it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;

use crate::api::{
    bay::Bay,
    kind::Kind,
    meta::Metadata,
    orphan::{MadeBy, Order, Orphan, OrphanPhase, OrphanStatus, OrphanWhat, Side},
};
use crate::chance;
use crate::clock::Timestamp;
use crate::plan::{
    ledger::{Entries, ListedApp, fold, survey},
    world::{MachineState, Sight},
};
use crate::reconcile::{
    feed::News,
    holds,
    objects::key,
    observe::{app_sight, read_machine, read_volume},
    pass::Shared,
};
use crate::retry;
use crate::store::{
    self, Follow, Precondition,
    handle::{Stored, decode, decode_bytes},
};
use crate::tasks::Shutdown;
use crate::telemetry::journal;

/// Time between two lists of all apps, which has no pages and no way to ask for changes.
const APPS_EVERY: Duration = Duration::from_secs(600);
/// The same while the organisation is small.
const APPS_EVERY_SMALL: Duration = Duration::from_secs(60);
/// Things lost that are looked for by id after one list.
const READS_MAX: usize = 5;

/// The keeper.
pub(crate) struct Ledger {
    pub(super) shared: Arc<Shared>,
    /// Where an environment that got a bay is told of.
    pub(super) news: mpsc::UnboundedSender<News>,
    /// The entries, as stored.
    pub(super) entries: BTreeMap<String, Stored<Orphan>>,
    suspects: BTreeMap<String, Timestamp>,
    apps: Option<(Timestamp, Vec<ListedApp>)>,
    apps_due: Duration,
    surveyed_at: Option<Timestamp>,
    /// When orders are seen to next.
    pub(super) due: Option<Duration>,
}

impl Ledger {
    pub(crate) fn new(shared: Arc<Shared>, news: mpsc::UnboundedSender<News>) -> Self {
        Self {
            shared,
            news,
            entries: BTreeMap::new(),
            suspects: BTreeMap::new(),
            apps: None,
            apps_due: Duration::ZERO,
            surveyed_at: None,
            due: None,
        }
    }

    /// Keeps the ledger until shutdown.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown) -> anyhow::Result<()> {
        let mut feed = self.shared.store.follow("orphans/");
        if !self.init(&mut feed, &mut shutdown).await? {
            return Ok(());
        }
        let mut swept = self.shared.informer.swept();
        swept.mark_changed();
        loop {
            let now = self.shared.clock.monotonic();
            let due = self.due.map_or(Duration::MAX, |it| it.saturating_sub(now));
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                change = feed.next() => match change {
                    Some(change) => self.hear(change?)?,
                    None => return Err(anyhow::Error::new(store::Error::Closed)),
                },
                Ok(()) = swept.changed() => {
                    swept.borrow_and_update();
                    self.survey().await?;
                }
                () = tokio::time::sleep(due) => Box::pin(self.orders()).await?,
            }
        }
    }

    /// Reads the entries that there are; false at shutdown.
    async fn init(
        &mut self,
        feed: &mut BoxStream<'static, Result<Follow, store::Error>>,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<bool> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(false),
                change = feed.next() => match change {
                    Some(Ok(Follow::InitDone(_))) => return Ok(true),
                    Some(change) => self.hear(change?)?,
                    None => return Err(anyhow::Error::new(store::Error::Closed)),
                },
            }
        }
    }

    fn hear(&mut self, change: Follow) -> Result<(), store::Error> {
        match change {
            Follow::Init => self.entries.clear(),
            Follow::InitApply(entry) | Follow::Apply(entry) => {
                let orphan: Stored<Orphan> = decode(entry)?;
                let name = orphan.value.metadata.name.clone();
                // What this task wrote itself comes back and says nothing new.
                if self.entries.get(&name).is_none_or(|it| it.revision < orphan.revision) {
                    if orphan.value.status.order.as_ref().is_some_and(Order::is_open) {
                        self.due = Some(Duration::ZERO);
                    }
                    self.entries.insert(name, orphan);
                }
            }
            Follow::Delete(change) => {
                let before = change.before.as_ref().map(|it| decode_bytes(&change.key, it));
                if let Some(before) = before.transpose()? {
                    let before: Orphan = before;
                    self.entries.remove(&before.metadata.name);
                }
            }
            Follow::InitDone(_) => {}
        }
        Ok(())
    }

    /// Compares the complete lists with the store, if there are newer ones than those compared last.
    async fn survey(&mut self) -> Result<(), store::Error> {
        let shared = Arc::clone(&self.shared);
        let Some(mut listing) = shared.informer.listing() else { return Ok(()) };
        if self.surveyed_at == Some(listing.at) {
            return Ok(());
        }
        self.surveyed_at = Some(listing.at);
        self.list_apps().await;
        if let Some((at, apps)) = &self.apps {
            (listing.apps_at, listing.apps) = (*at, Some(apps.clone()));
        }
        // After the lists: whatever they show had its bay before that, unless it is gone by now.
        let (bays, _) = shared.store.list::<Bay>(&format!("{}/", Kind::Bay.info().plural)).await?;
        let bays: Vec<_> = bays.into_iter().map(|it| it.value).collect();
        let found = survey(&listing, &bays, &shared.settings.instance);
        let before: Entries =
            self.entries.iter().map(|(name, it)| (name.clone(), it.value.status.clone())).collect();
        let changes = fold(&before, &mut self.suspects, found, shared.clock.now());
        for (name, status) in changes.put {
            self.put(&name, status).await?;
        }
        for name in changes.remove {
            self.remove(&name).await?;
        }
        for name in changes.confirm.iter().take(READS_MAX) {
            self.confirm(name).await?;
        }
        self.measure();
        if shared.breaker().refuted(shared.clock.monotonic()) {
            holds::lift_mass_absence(&shared.store).await?;
        }
        Ok(())
    }

    async fn list_apps(&mut self) {
        let (now, at) = (self.shared.clock.monotonic(), self.shared.clock.now());
        if now < self.apps_due {
            return;
        }
        let small = self.shared.informer.is_small();
        self.apps_due = now + if small { APPS_EVERY_SMALL } else { APPS_EVERY };
        match self.shared.fly.list_apps(&self.shared.org).await {
            Ok(apps) => {
                let apps = apps.into_iter();
                let apps = apps.map(|it| ListedApp { name: it.name, network: it.network });
                self.apps = Some((at, apps.collect()));
            }
            Err(error) => {
                tracing::debug!(error = retry::chain(&error), "Fly's apps cannot be listed");
            }
        }
    }

    /// Looks for something lost by its id: what is read is not lost, whatever the lists say.
    async fn confirm(&mut self, name: &str) -> Result<(), store::Error> {
        let Some(entry) = self.entries.get(name) else { return Ok(()) };
        let mut status = entry.value.status.clone();
        let (fly, informer) = (&*self.shared.fly, &*self.shared.informer);
        let is_gone = match status.what {
            OrphanWhat::App => gone(&app_sight(fly, &status.app).await, |_| false),
            OrphanWhat::Machine => {
                let read = read_machine(fly, informer, &status.app, &status.id).await;
                gone(&read, |it| it.state == MachineState::Destroyed)
            }
            OrphanWhat::Volume => {
                let read = read_volume(fly, informer, &status.app, &status.id).await;
                gone(&read, |it| it.going)
            }
        };
        match is_gone {
            Some(true) => {
                status.phase = OrphanPhase::Confirmed;
                self.put(name, status).await
            }
            Some(false) => self.remove(name).await,
            None => Ok(()),
        }
    }

    /// Writes an entry, on top of what is known of it.
    pub(super) async fn put(
        &mut self,
        name: &str,
        status: OrphanStatus,
    ) -> Result<(), store::Error> {
        let shared = &self.shared;
        let key = key(Kind::Orphan, "", name);
        let info = Kind::Orphan.info();
        let (orphan, precondition) = match self.entries.get(name) {
            Some(old) => (Orphan { status, ..old.value.clone() }, Precondition::At(old.revision)),
            None => {
                let metadata = Metadata {
                    name: name.to_owned(),
                    uid: chance::uuid(&*shared.chance).to_string(),
                    creation_timestamp: Some(shared.clock.now()),
                    generation: 1,
                    ..Metadata::default()
                };
                let (api_version, kind) = (info.api_version(), info.kind_name.to_owned());
                self.log(name, journal::Outcome::Ok, &status.evidence.message);
                (Orphan { api_version, kind, metadata, status }, Precondition::Absent)
            }
        };
        match shared.store.txn().put(&key, precondition, &orphan).commit().await {
            Ok(revision) => {
                self.entries.insert(name.to_owned(), Stored { key, value: orphan, revision });
                Ok(())
            }
            // An order came in between; the next look takes it into account.
            Err(store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes an entry.
    pub(super) async fn remove(&mut self, name: &str) -> Result<(), store::Error> {
        let Some(old) = self.entries.get(name) else { return Ok(()) };
        let txn = self.shared.store.txn().delete(&old.key, Precondition::At(old.revision));
        match txn.commit().await {
            Ok(_) => {
                self.entries.remove(name);
                self.log(name, journal::Outcome::Ok, "it is no orphan any more");
                Ok(())
            }
            Err(store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn log(&self, name: &str, outcome: journal::Outcome, message: &str) {
        self.shared.journal.record(journal::Line {
            at: self.shared.clock.now(),
            object: format!("orphan/{name}"),
            action: "ledger".to_owned(),
            outcome,
            duration_ms: None,
            message: message.to_owned(),
            request_id: None,
        });
    }

    fn measure(&self) {
        let ours = || {
            self.entries
                .values()
                .map(|it| &it.value.status)
                .filter(|it| it.made_by != MadeBy::Another)
        };
        for side in [Side::Unaccounted, Side::Lost] {
            for what in [OrphanWhat::App, OrphanWhat::Machine, OrphanWhat::Volume] {
                let count = ours().filter(|it| it.side == side && it.what == what).count();
                let side = match side {
                    Side::Unaccounted => "Unaccounted",
                    Side::Lost => "Lost",
                };
                let what = match what {
                    OrphanWhat::App => "App",
                    OrphanWhat::Machine => "Machine",
                    OrphanWhat::Volume => "Volume",
                };
                self.shared.metrics.orphans(side, what, count);
            }
        }
        self.shared.metrics.orphans_cost(ours().map(|it| it.monthly_cost_microdollars).sum());
    }
}

/// Whether a read says that it is not there, or only remembered; `None` when it says nothing.
fn gone<T>(sight: &Sight<T>, is_memory: impl Fn(&T) -> bool) -> Option<bool> {
    match sight {
        Sight::Absent => Some(true),
        Sight::Present(it) => Some(is_memory(it)),
        Sight::Unasked | Sight::Unclear(_) => None,
    }
}
