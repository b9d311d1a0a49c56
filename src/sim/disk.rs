//! The store's twin with a disk that forgets: what was synced, and what is only on its way there. It must never show or
//! acknowledge what is not synced, unless that mistake is planted.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::Instant};

use crate::chance::{self, Chance};
use crate::failpoint;
use crate::sim::gate::{Boundary, Gate};
use crate::store::{Backend, Entry, Error, Events, Key, Revision, Txn, WatchError, memory::Memory};

/// How long a sync takes.
const SYNC: Duration = Duration::from_millis(2);

/// Is told of each commit that became durable.
pub(crate) type Watcher = Arc<dyn Fn(&Txn) + Send + Sync>;

/// A disk. It outlives the controllers that mount it.
pub(crate) struct Disk {
    /// What a power cut leaves.
    durable: Mutex<Arc<Memory>>,
    /// What it takes, oldest first.
    volatile: Mutex<VecDeque<Unsynced>>,
    chance: Arc<dyn Chance>,
    watcher: Watcher,
    /// How much of what was acknowledged last a power cut takes all the same; a planted mistake.
    unsynced: Option<Duration>,
    /// With that, all that was written, and when.
    written: Mutex<Vec<(Instant, Txn)>>,
}

struct Unsynced {
    txn: Txn,
    answer: oneshot::Sender<Result<Revision, Error>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Disk {
    pub(crate) fn new(
        chance: Arc<dyn Chance>,
        watcher: Watcher,
        unsynced: Option<Duration>,
    ) -> Arc<Self> {
        let (durable, volatile) = (Mutex::default(), Mutex::default());
        Arc::new(Self { durable, volatile, chance, watcher, unsynced, written: Mutex::default() })
    }

    /// Cuts the power: of what was on its way some first part arrived, and nobody was told.
    pub(crate) async fn cut(&self) {
        let unsynced: Vec<_> = self.volatile().drain(..).collect();
        let limit = u64::try_from(unsynced.len()).unwrap_or(0) + 1;
        let arrived = usize::try_from(chance::below(&*self.chance, limit)).unwrap_or(0);
        for Unsynced { txn, .. } in unsynced.into_iter().take(arrived) {
            // One that conflicts would have been refused; either way nobody is left to be told.
            let _untold = self.write(txn).await;
        }
        if let Some(unsynced) = self.unsynced {
            self.forget(unsynced).await;
        }
    }

    /// All that it holds.
    pub(crate) async fn all(&self) -> Vec<Entry> {
        // It fails only when it was closed.
        self.durable().list("").await.map(|(entries, _)| entries).unwrap_or_default()
    }

    /// Goes back to what was written before the last while.
    async fn forget(&self, unsynced: Duration) {
        let now = Instant::now();
        let left = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.retain(|(at, _)| now >= *at + unsynced);
            written.clone()
        };
        let durable = Arc::new(Memory::new());
        for (_, txn) in left {
            // Written again in the same order, each meets what it met before.
            let _revision = durable.commit(txn).await;
        }
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = durable;
    }

    fn durable(&self) -> Arc<Memory> {
        Arc::clone(&self.durable.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn volatile(&self) -> MutexGuard<'_, VecDeque<Unsynced>> {
        self.volatile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, txn: Txn) -> Result<Revision, Error> {
        let told = txn.clone();
        let revision = self.durable().commit(txn).await?;
        if self.unsynced.is_some() {
            let written = (Instant::now(), told.clone());
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(written);
        }
        (self.watcher)(&told);
        Ok(revision)
    }

    /// Syncs all that is on its way, in order.
    async fn sync(&self) {
        loop {
            let next = self.volatile().pop_front();
            let Some(Unsynced { txn, answer }) = next else { return };
            let result = self.write(txn).await;
            // Whoever asked may be gone.
            let _unheard = answer.send(result);
        }
    }
}

/// A disk as one life of the controller has it.
#[derive(Debug)]
pub(crate) struct Mounted {
    disk: Arc<Disk>,
    gate: Arc<Gate>,
}

impl Mounted {
    pub(crate) fn new(disk: Arc<Disk>, gate: Arc<Gate>) -> Self {
        Self { disk, gate }
    }

    async fn commit_here(&self, txn: Txn) -> Result<Revision, Error> {
        let what = failpoint::commit(&txn);
        self.gate.cross(Boundary::CommitUnsynced, &what).await;
        let (answer, answered) = oneshot::channel();
        self.disk.volatile().push_back(Unsynced { txn, answer });
        tokio::time::sleep(SYNC).await;
        self.gate.live().await;
        self.disk.sync().await;
        let result = answered.await.unwrap_or(Err(Error::Closed));
        self.gate.cross(Boundary::CommitUnanswered, &what).await;
        result
    }
}

impl Backend for Mounted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        let durable = self.disk.durable();
        Box::pin(async move { durable.get(key).await })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>> {
        let durable = self.disk.durable();
        Box::pin(async move { durable.list(prefix).await })
    }

    fn count<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<u64, Error>> {
        let durable = self.disk.durable();
        Box::pin(async move { durable.count(directory).await })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(self.commit_here(txn))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.disk.durable().watch(prefix, after)
    }
}
