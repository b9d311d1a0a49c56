//! The store's twin with a disk that forgets: what was synced, and what is only on its way there. It must never show or
//! acknowledge what is not synced.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

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
    durable: Memory,
    /// What it takes, oldest first.
    volatile: Mutex<VecDeque<Unsynced>>,
    chance: Arc<dyn Chance>,
    watcher: Watcher,
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
    pub(crate) fn new(chance: Arc<dyn Chance>, watcher: Watcher) -> Arc<Self> {
        Arc::new(Self { durable: Memory::new(), volatile: Mutex::default(), chance, watcher })
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
    }

    fn volatile(&self) -> MutexGuard<'_, VecDeque<Unsynced>> {
        self.volatile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, txn: Txn) -> Result<Revision, Error> {
        let told = txn.clone();
        let revision = self.durable.commit(txn).await?;
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
        self.disk.durable.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>> {
        self.disk.durable.list(prefix)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(self.commit_here(txn))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.disk.durable.watch(prefix, after)
    }
}
