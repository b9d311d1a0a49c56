//! The shell around the plan: what changed goes into a queue, each key due gets a pass, what a pass learned is written. The
//! store is its only way to the rest of hangar; it must never be named by the router or the server.

mod act;
mod ailing;
mod backoff;
mod bind;
mod breaker;
pub mod calls;
mod events;
mod execute;
mod expire;
mod feed;
mod fleet;
mod hear;
pub mod holds;
mod index;
mod informer;
mod ledger;
mod objects;
mod observe;
mod orders;
mod pass;
mod personal;
mod pool;
mod queue;
mod quota;
mod regions;
mod rollout;
mod steady;
mod stock;
mod translate;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{sync::mpsc, task::JoinSet};

use crate::api::{
    bay::Bay,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
    restored::{self, Restored},
    rollout::RevisionRef,
};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::fly::Machines;
use crate::plan::world::Settings;
use crate::reconcile::{
    ailing::Ailing,
    backoff::Series,
    breaker::Breaker,
    calls::Calls,
    feed::News,
    fleet::Fleet,
    index::Index,
    informer::Informer,
    ledger::Ledger,
    pass::{Next, Remembered, Shared},
    queue::Urgency,
    regions::Regions,
    stock::StockRoom,
    turns::Turns,
};
use crate::store::{
    Key,
    handle::{Store, Stored},
};
use crate::tasks::Shutdown;
use crate::telemetry::{journal::Journal, metrics::Metrics};

/// So long after a bay changed its pool counts, and after an environment changed its template does.
const COUNT_AFTER: Duration = Duration::from_millis(50);
/// How much news is taken in before passes begin because of it.
const NEWS_MAX: usize = 64;
/// How long passes under way may take to end at shutdown: an answer that is not waited for costs a look-up next time.
const DRAIN: Duration = Duration::from_secs(5);

/// Where environments answer.
#[derive(Debug, Clone)]
pub struct Address {
    /// `http` or `https`.
    pub scheme: String,
    /// Domain.
    pub domain: String,
    /// Port, where it is not the scheme's own.
    pub port: Option<u16>,
}

/// What the controller works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// Fly.
    pub fly: Arc<dyn Machines>,
    /// Fly for what nobody waits for: its calls give way to those of `fly`.
    pub spare_fly: Arc<dyn Machines>,
    /// Organisation at Fly.
    pub org: String,
    /// Where environments answer.
    pub address: Address,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names, keys and jitter.
    pub chance: Arc<dyn Chance>,
    /// The reconciliation log.
    pub journal: Journal,
    /// Metrics.
    pub metrics: Metrics,
    /// What the client of Fly was given to write its calls down.
    pub calls: Calls,
}

/// This installation's id, which everything it makes at Fly carries; made at the first start.
///
/// # Errors
/// The store's.
pub async fn instance(store: &Store, chance: &dyn Chance) -> Result<String, crate::store::Error> {
    objects::instance(store, chance).await
}

/// Reconciles until shutdown. `synced` is called once the store and Fly were read completely for the first time.
///
/// # Errors
/// When the store fails; nothing can be decided without it.
pub async fn run(
    parts: Parts,
    synced: impl FnOnce() + Send,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Parts { store, fly, spare_fly, org, address, clock, chance, journal, metrics, calls } =
        parts;
    let instance = objects::instance(&store, &*chance).await?;
    let informer = Arc::new(Informer::new(Arc::clone(&fly), Arc::clone(&clock), org.clone()));
    let (bays, _) = store.list::<Bay>(&format!("{}/", Kind::Bay.info().plural)).await?;
    let restored = store.get::<Restored>(&Key::new(restored::KEY)).await?;
    let Address { scheme, domain, port } = address;
    let restored_at = restored.map(|it| it.value.at);
    let settings = Settings { instance, scheme, domain, port, restored_at };
    let shared = Shared {
        store,
        fly,
        spare_fly,
        org,
        settings,
        informer: Arc::clone(&informer),
        clock,
        chance,
        journal,
        metrics,
        index: Arc::clone(&calls.index),
        breaker: Mutex::new(Breaker::new()),
        regions: Mutex::new(full_regions(&bays)),
        stock: Mutex::new(StockRoom::new(restored_at)),
        quota_turn: tokio::sync::Mutex::new(()),
        steady: Mutex::default(),
        fleet: Mutex::new(Fleet::default()),
    };
    let shared = Arc::new(shared);
    let (news, heard) = mpsc::unbounded_channel();
    let (changed, apps) = mpsc::unbounded_channel();
    let ledger = Ledger::new(Arc::clone(&shared), news.clone()).run(shutdown.clone());
    let feed = feed::run(shared.store.clone(), news, shutdown.clone());
    let list = informer.run(changed, shutdown.clone());
    let looped = Loop {
        shared,
        index: calls.index,
        turns: Turns::new(),
        remembered: HashMap::new(),
        failures: HashMap::new(),
        running: JoinSet::new(),
        ailing: Ailing::new(),
        told: HashSet::new(),
        generations: HashMap::new(),
        templates: BTreeMap::new(),
        synced: false,
    };
    let looped = looped.run(heard, apps, synced, shutdown).map(Ok);
    // Without the store nothing can be decided: the first that fails by it ends all.
    tokio::try_join!(looped, feed, list.map(Ok), ledger)?;
    Ok(())
}

/// What bays remember of regions without room, for all.
fn full_regions(bays: &[Stored<Bay>]) -> Regions<ObjectRef> {
    let mut regions = Regions::new();
    for full in bays.iter().flat_map(|it| &it.value.status.full_regions) {
        if let Some(size) = &full.size {
            regions.refused(&full.region, size, full.retry_at);
        }
    }
    regions
}

struct Loop {
    shared: Arc<Shared>,
    index: Arc<RwLock<Index>>,
    turns: Turns<ObjectRef>,
    remembered: HashMap<ObjectRef, Remembered>,
    failures: HashMap<ObjectRef, Series>,
    running: JoinSet<(ObjectRef, Next, Remembered, Duration)>,
    ailing: Ailing<ObjectRef>,
    /// Kinds of which all objects were told.
    told: HashSet<Kind>,
    /// What was last heard of bays and pools: generation, and whether a bay is to go.
    generations: HashMap<ObjectRef, u64>,
    /// What was last heard of templates: uid, generation, and what new environments are made from.
    templates: BTreeMap<ObjectRef, (String, u64, RevisionRef)>,
    synced: bool,
}

impl Loop {
    async fn run(
        mut self,
        mut heard: mpsc::UnboundedReceiver<News>,
        mut apps: mpsc::UnboundedReceiver<BTreeSet<String>>,
        synced: impl FnOnce() + Send,
        mut shutdown: Shutdown,
    ) {
        let mut synced = Some(synced);
        let mut store_synced = false;
        let mut unheard = self.shared.informer.heard();
        let mut batch = Vec::new();
        loop {
            if !self.synced && store_synced && self.first_looked().await {
                self.synced = true;
                if let Some(synced) = synced.take() {
                    synced();
                }
            }
            self.start_due();
            let due = self.next_due();
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                1.. = heard.recv_many(&mut batch, NEWS_MAX) => {
                    batch.drain(..).for_each(|news| self.hear(news));
                    store_synced = self.told.len() == 4;
                    self.tell_size();
                }
                Some(changed) = apps.recv() => self.apps_changed(&changed),
                Ok(()) = unheard.changed() => self.look_at_all(),
                Some(Ok((key, next, remembered, took))) = self.running.join_next() => {
                    self.ended(&key, next, remembered, took);
                }
                () = tokio::time::sleep(due) => {}
            }
        }
        let drained = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!(
                "passes were cut at shutdown; what they did is found again at the next start"
            );
        }
    }

    /// Whether Fly was read completely, and what that says of a new installation was written down.
    async fn first_looked(&self) -> bool {
        let Shared { informer, store, settings, clock, chance, .. } = &*self.shared;
        if informer.complete_at().is_none() {
            return false;
        }
        let marked = informer.installations();
        match holds::first_list(store, &settings.instance, marked, (clock.now(), &**chance)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "what Fly has at the first start cannot be written down");
                false
            }
        }
    }

    /// Starts passes for keys that are due. None before both the store and Fly were read completely.
    fn start_due(&mut self) {
        let now = self.shared.clock.monotonic();
        while self.synced
            && let Some(key) = self.turns.take(now)
        {
            let remembered = self.remembered.remove(&key).unwrap_or_default();
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let began = shared.clock.monotonic();
                let (next, remembered) = shared.pass(&key, remembered).await;
                let took = shared.clock.monotonic().saturating_sub(began);
                (key, next, remembered, took)
            });
        }
        self.shared.metrics.queue_depth(self.turns.len());
    }

    fn next_due(&mut self) -> Duration {
        let idle = Duration::from_secs(60);
        if !self.synced {
            return idle;
        }
        let now = self.shared.clock.monotonic();
        self.turns.next_due().map_or(idle, |due| due.saturating_sub(now))
    }

    fn ended(&mut self, key: &ObjectRef, next: Next, mut remembered: Remembered, took: Duration) {
        self.ailing.ended(key, took, matches!(next, Next::In(_) | Next::Failed(_)));
        let now = self.shared.clock.monotonic();
        // Doubts that came while it ran are still doubts.
        remembered.memo.doubted |= self.remembered.remove(key).is_some_and(|it| it.memo.doubted);
        let known = match key.kind {
            Kind::Bay => self.shared.stock().knows(key),
            _ => self.index.read().unwrap_or_else(PoisonError::into_inner).knows(key),
        };
        if known {
            self.remembered.insert(key.clone(), remembered);
        }
        let again = match next {
            Next::Settled(delay) => delay,
            Next::GoOn => Some(Duration::ZERO),
            Next::In(delay) => Some(delay),
            Next::Failed(retry) => {
                let series = self.failures.entry(key.clone()).or_insert_with(Series::new);
                Some(series.after(retry, &*self.shared.chance))
            }
        };
        // A pass that only waits says nothing about what failed before it.
        if matches!(next, Next::GoOn | Next::Settled(_)) {
            self.failures.remove(key);
        }
        let urgency = match self.urgency(key) {
            urgency if urgency.is_going() => urgency,
            _ if next == Next::GoOn => begun(key),
            urgency => urgency,
        };
        self.turns.done(key, again.map(|delay| now + delay), urgency);
    }

    /// An environment that has a machine goes before one that has none yet, both before one that is being deleted, that before what no
    /// environment has, and that before what comes to nothing.
    fn urgency(&self, key: &ObjectRef) -> Urgency {
        if self.ailing.is_ailing(key) {
            return Urgency::Ailing;
        }
        match key.kind {
            Kind::Bay if self.shared.stock().is_going(key) => Urgency::GoingStock,
            Kind::Bay if self.shared.stock().is_begun(key) => Urgency::Stock,
            Kind::Bay => Urgency::FreshStock,
            Kind::Environment => {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                match (index.is_begun(key), index.is_bound(key)) {
                    _ if index.is_going(key) => Urgency::Going,
                    (true, _) => Urgency::Begun,
                    (false, true) => Urgency::Fresh,
                    (false, false) => Urgency::Unbound,
                }
            }
            _ => Urgency::Begun,
        }
    }

    fn forget(&mut self, key: &ObjectRef) {
        self.shared.breaker().forget(key);
        self.remembered.remove(key);
        self.failures.remove(key);
        self.ailing.forget(key);
    }

    /// Takes news in.
    fn hear(&mut self, news: News) {
        let now = self.shared.clock.monotonic();
        let mut due = now;
        let index = Arc::clone(&self.index);
        let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
        let keys = match news {
            News::Environment(environment, at) => {
                due += COUNT_AFTER;
                let fresh = index.put(&environment).then(|| environment.object_ref());
                let template = self.shared.fleet().put(&environment, at);
                [fresh, template].into_iter().flatten().collect()
            }
            News::Template(template) => self.hear_template(&template, &index),
            News::Bay(bay, at) => {
                // What happens to many bays at once is counted once.
                due += COUNT_AFTER;
                self.hear_bay(&bay, at, &mut index)
            }
            News::Pool(pool) => {
                self.shared.stock().put_pool(&pool);
                let key = pool.object_ref();
                let news = self.generations.insert(key.clone(), pool.metadata.generation);
                if news == Some(pool.metadata.generation) {
                    Vec::new()
                } else {
                    // How its bays wait may have changed.
                    let mut keys = self.shared.stock().unbound_of(&pool.metadata.uid);
                    keys.push(key);
                    keys
                }
            }
            News::Gone(key) => self.gone(&key, &mut index),
            News::Listed(kind, listed, at) => {
                let missing = match kind {
                    Kind::Template => {
                        let gone = self.templates.keys().filter(|it| !listed.contains(*it));
                        gone.cloned().collect()
                    }
                    Kind::Bay => self.shared.stock().bays_missing_from(&listed),
                    Kind::WarmPool => self.shared.stock().pools_missing_from(&listed),
                    _ => index.missing_from(&listed),
                };
                match kind {
                    Kind::Bay => self.shared.stock().listed(at),
                    Kind::Environment => self.shared.fleet().listed(at),
                    _ => {}
                }
                self.told.insert(kind);
                missing.iter().flat_map(|key| self.gone(key, &mut index)).collect()
            }
            News::Secret { namespace, name } => index.users("secret", &namespace, &name),
            News::Holds => [index.keys(), self.shared.stock().keys()].concat(),
            News::Doubt(key) => {
                self.remembered.entry(key.clone()).or_default().memo.doubted = true;
                vec![key]
            }
        };
        drop(index);
        for key in keys {
            let urgency = self.urgency(&key);
            let counts = matches!(key.kind, Kind::WarmPool | Kind::Template);
            let due = if counts { due } else { now };
            self.turns.add(key, due, urgency);
        }
    }

    /// Tells how many environments there are.
    fn tell_size(&self) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        for (phase, count) in index.phases() {
            self.shared.metrics.environments(phase, count);
        }
        self.shared.breaker().fleet(index.len());
    }

    /// Whether Fly can be asked changed, which every status says.
    fn look_at_all(&mut self) {
        let now = self.shared.clock.monotonic();
        let keys = self.index.read().unwrap_or_else(PoisonError::into_inner).keys();
        for key in keys {
            let urgency = self.urgency(&key);
            self.turns.add(key, now, urgency);
        }
    }

    fn apps_changed(&mut self, apps: &BTreeSet<String>) {
        let now = self.shared.clock.monotonic();
        let index = Arc::clone(&self.index);
        let index = index.read().unwrap_or_else(PoisonError::into_inner);
        for key in apps.iter().filter_map(|app| index.of_app(app)) {
            // Fly told of it, so it was begun.
            let ails = self.ailing.is_ailing(&key);
            let urgency = match ails {
                true => Urgency::Ailing,
                false if index.is_going(&key) => Urgency::Going,
                false => begun(&key),
            };
            self.turns.add(key, now, urgency);
        }
    }
}

/// How soon the turn of what was begun comes.
fn begun(key: &ObjectRef) -> Urgency {
    if key.kind == Kind::Bay { Urgency::Stock } else { Urgency::Begun }
}

#[cfg(test)]
mod tests;
