//! A Fly-compatible backend that really runs machines on this computer. It must never know that hangar exists.
//!
//! An HTTP request becomes a closed `Call` (`route`, `call`), is applied to the `World` (`state`) under one short lock, is written to
//! disk (`disk`), and only then answered (`respond`). What takes time (starting, stopping, copying) goes on behind the
//! answer (`operate`) and reports back as events of the machine's state machine (`machine`).

mod apps;
mod body;
mod call;
pub mod census;
mod checks;
mod config;
mod delivered;
mod disk;
pub mod driver;
pub mod faults;
pub mod fleet;
pub mod front;
mod hosts;
mod ids;
mod image;
mod in_process;
mod inside;
mod leases;
mod lifecycle;
mod limits;
mod machine;
mod machines;
mod metadata;
mod metrics;
pub mod norun;
mod operate;
mod orgs;
mod platform;
pub mod process;
mod proxied;
mod reach;
mod refusal;
mod respond;
mod route;
mod secrets;
mod serve;
mod snapshots;
mod spec;
mod state;
mod supervise;
pub mod timed;
mod view;
mod volumes;
mod wait;

use std::{
    collections::BTreeSet,
    fmt,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
};

use tokio::sync::Notify;

use crate::chance::Chance;
use crate::clock::{Clock, Timestamp};
use crate::tasks::{self, Shutdown, Trigger};

pub use config::{Access, Config, Keep, Timings};
pub use delivered::Delivered;
pub use disk::Error;
pub use in_process::{Hooks, InProcess, NoHooks};
pub use serve::serve;

use driver::Driver;
use ids::Ids;
use refusal::Refusal;
use state::{Key, World};

/// Many waiters share one bell; a wrong ring costs a look.
const BELLS: usize = 256;
/// Writers of different records rarely meet on one of these.
const WRITERS: usize = 64;

/// The Machines API and the machines behind it.
pub struct Backend {
    /// Background work keeps the backend alive.
    me: Weak<Self>,
    config: Config,
    driver: Arc<dyn Driver>,
    clock: Arc<dyn Clock>,
    ids: Ids,
    disk: Arc<disk::Disk>,
    world: Mutex<World>,
    writers: Vec<tokio::sync::Mutex<()>>,
    bells: Vec<Notify>,
    /// The same in every process, so that a seed repeats a course.
    hasher: BuildHasherDefault<DefaultHasher>,
    limits: Mutex<limits::Limits>,
    faults: faults::Faults,
    metrics: metrics::Metrics,
    resumed: AtomicBool,
    /// Held shared by each start of a program, alone by whoever must know that none is under way.
    starts: Arc<tokio::sync::RwLock<()>>,
    closing: Trigger,
    closed: Shutdown,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Backend {
    /// Reads the data directory; starts nothing. [`Backend::run`] brings the machines back.
    ///
    /// # Errors
    /// If the directory cannot be read or a record in it is damaged.
    pub fn open(
        config: Config,
        driver: Arc<dyn Driver>,
        (clock, chance): (Arc<dyn Clock>, Arc<dyn Chance>),
    ) -> Result<Arc<Self>, Error> {
        let disk = disk::Disk::open(config.data_dir.clone(), config.keep)?;
        let world = disk.load()?;
        let (closing, closed) = tasks::shutdown();
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            config,
            driver,
            ids: Ids::new(Arc::clone(&clock), Arc::clone(&chance)),
            clock,
            disk: Arc::new(disk),
            world: Mutex::new(world),
            writers: (0..WRITERS).map(|_| tokio::sync::Mutex::new(())).collect(),
            bells: (0..BELLS).map(|_| Notify::new()).collect(),
            hasher: BuildHasherDefault::default(),
            limits: Mutex::new(limits::Limits::default()),
            faults: faults::Faults::new(chance),
            metrics: metrics::Metrics::new(),
            resumed: AtomicBool::new(false),
            starts: Arc::default(),
            closing,
            closed,
        }))
    }

    /// Ends all background work and refuses every later change; machines stay as they are, as after a crash.
    pub fn close(&self) {
        self.closing.shut_down();
        for bell in &self.bells {
            bell.notify_waiters();
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world. What was changed is on disk when this returns, and only then do waiters see it.
    async fn edit<T>(
        &self,
        change: impl FnOnce(&mut World, Timestamp) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (result, changed) = {
            let mut world = self.lock();
            let result = change(&mut world, self.now());
            let changed: BTreeSet<Key> = std::mem::take(&mut world.changed).into_iter().collect();
            world.unsaved.extend(changed.iter().cloned());
            self.faults.remember(&world, &changed, self.clock.monotonic());
            (result, changed)
        };
        for key in &changed {
            self.save(key).await?;
        }
        for key in &changed {
            match key {
                Key::App(name) => self.bell(name).notify_waiters(),
                Key::Machine(_, id) | Key::Volume(_, id) => self.bell(id).notify_waiters(),
            }
        }
        result
    }

    /// Writes a record as it is now, or removes it, unless the disk has it so already. Each writer takes what is newest, so
    /// their order does not matter.
    async fn save(&self, key: &Key) -> Result<(), Refusal> {
        let _turn = self.writer(key).lock().await;
        if self.closed.asked() {
            return Err(Refusal::Internal("shutting down".to_owned()));
        }
        let bytes = {
            let mut world = self.lock();
            if !world.unsaved.remove(key) {
                return Ok(());
            }
            let bytes = match key {
                Key::App(name) => world.apps.get(name).map(disk::encode),
                Key::Machine(_, id) => world.machines.get(id).map(disk::encode),
                Key::Volume(_, id) => world.volumes.get(id).map(disk::encode),
            };
            bytes.transpose().map_err(|error| Refusal::Internal(error.to_string()))?
        };
        let at = key.clone();
        let written = self.disk.work(move |disk| disk.write(&at, bytes.as_deref())).await;
        if let Err(refusal) = &written {
            tracing::error!(%refusal, "state was not written");
            self.lock().unsaved.insert(key.clone());
        }
        written
    }

    fn writer(&self, key: &Key) -> &tokio::sync::Mutex<()> {
        &self.writers[self.slot(key, WRITERS)]
    }

    /// Rings when the machine, volume or app with this id changes, and now and then for another.
    fn bell(&self, id: &str) -> &Notify {
        &self.bells[self.slot(id, BELLS)]
    }

    fn slot(&self, key: impl std::hash::Hash, of: usize) -> usize {
        usize::try_from(self.hasher.hash_one(key) % of as u64).unwrap_or(0)
    }

    /// Runs work to its end even if nobody waits for it any more: a caller who hangs up must not leave a change without what
    /// follows from it.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (done, result) = tokio::sync::oneshot::channel();
        tasks::detached(async move {
            // Sending fails if nobody waits, which is the point.
            let _unheard = done.send(work.await);
        });
        result.await.unwrap_or_else(|_| Err(Refusal::Internal("the call died".to_owned())))
    }

    /// Starts work that ends when the backend closes.
    fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut closed = self.closed.clone();
        tasks::detached(async move {
            tokio::select! {
                biased;
                () = closed.wait() => {}
                () = work => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
