//! The embedded backend: sled 0.34 behind one writer thread that commits in groups. It must never acknowledge, show or
//! tell a change that is not on disk.
//!
//! sled's `flush` does not sync on Linux, so the writer syncs the database file through a handle of its own. Reads never
//! touch sled: everything is in memory. Of sled this uses `open`, `iter`, `apply_batch` and `flush` only; `flush_async`
//! deadlocks and `watch_prefix` blocks writers.

use std::{
    any::Any,
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use futures::future::{self, BoxFuture, FutureExt};
use tokio::sync::{mpsc, oneshot};

use crate::store::{
    Backend, Entry, Error, Events, Key, Revision, Txn, WatchError,
    files::{self, Acknowledged, LOCK_PAUSE, LOCK_TRIES},
    rows::{self, Decoder, Loaded, LogRows},
    state::{self, Draft},
    waker::Waker,
    watch::Shared,
};

/// How many transactions may wait for the writer before `commit` itself waits.
const QUEUE_MAX: usize = 1024;

/// How many transactions share one sync.
const GROUP_MAX: usize = 256;

/// sled's own cache, of which it takes what the data needs. Reads come from memory, but to write a row sled needs its
/// whole page: when pages must be read back first, a write costs three times as much.
const CACHE_BYTES: u64 = 512 * 1024 * 1024;

/// How often the writer lets others run when fewer ask than the last time. Whoever was just answered is about to ask
/// again; without this the first of them gets a sync for itself. A lone writer never waits.
const GATHER_TRIES: u32 = 16;

/// Makes everything that was flushed survive a power cut.
pub(super) type Sync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// What was found when the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: no commit was ever made here. Whoever destroys what the store does not know must not do so now.
    Fresh,
    /// A store with at least one commit.
    Existing,
}

/// An open store. Dropping it waits for the commits in progress and closes the files.
#[derive(Debug)]
pub struct Sled {
    shared: Arc<Shared>,
    opened: Opened,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Sled {
    /// Opens the store in this directory, which is created if need be, and reads all of it into memory.
    ///
    /// # Errors
    /// `Io` when the directory cannot be used or another process has it open; `Corrupt` when its content cannot be
    /// what was written.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_with(dir.into(), state::HISTORY_COMMITS_MAX, file_sync).await
    }

    /// The same with another history and another way to sync, for tests.
    pub(super) async fn open_with(
        dir: PathBuf,
        history: usize,
        sync: impl FnOnce(&Path) -> io::Result<Sync> + Send + 'static,
    ) -> Result<Self, Error> {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let (opened, open) = oneshot::channel();
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || match Writer::open_or_give_up(&dir, history, sync) {
                Ok((writer, found)) => {
                    let shared = Arc::clone(&writer.shared);
                    // Nobody waits for it any more: then the queue is closed as well and `run` ends at once.
                    let _gone = opened.send(Ok((shared, found)));
                    writer.run(requests);
                }
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|source| Error::Io { doing: "start the writer of", source })?;
        match open.await {
            Ok(Ok((shared, opened))) => {
                Ok(Self { shared, opened, queue: Some(queue), writer: Some(writer) })
            }
            Ok(Err(error)) => Err(error),
            Err(_ended) => Err(Error::Closed),
        }
    }

    /// What was found when it was opened.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.opened
    }

    async fn commit_queued(&self, txn: Txn) -> Result<Revision, Error> {
        state::validate(&txn)?;
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(Request { txn, reply }).await.map_err(|_ended| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Backend for Sled {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        future::ready(self.shared.get(key)).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>> {
        future::ready(self.shared.list(prefix)).boxed()
    }

    fn count<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<u64, Error>> {
        future::ready(self.shared.count(directory)).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        self.commit_queued(txn).boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.shared.watch(prefix, after)
    }
}

#[derive(Debug)]
struct Request {
    txn: Txn,
    reply: oneshot::Sender<Result<Revision, Error>>,
}

/// The one thread that writes.
struct Writer {
    shared: Arc<Shared>,
    waker: Waker,
    db: ::sled::Db,
    sync: Sync,
    log: LogRows,
    acknowledged: Acknowledged,
}

impl Writer {
    /// Opens, and makes an error of a panic: sled 0.34 meets damage that it does not expect with one.
    fn open_or_give_up(
        dir: &Path,
        history: usize,
        sync: impl FnOnce(&Path) -> io::Result<Sync>,
    ) -> Result<(Self, Opened), Error> {
        // Nothing that a panic left half done is used afterwards: everything was made inside.
        panic::catch_unwind(AssertUnwindSafe(|| Self::open(dir, history, sync))).unwrap_or_else(
            |panic| {
                let why = format!("sled gave up while reading it: {}", said(&*panic));
                Err(Error::Corrupt { key: "the database".to_owned(), why })
            },
        )
    }

    fn open(
        dir: &Path,
        history: usize,
        sync: impl FnOnce(&Path) -> io::Result<Sync>,
    ) -> Result<(Self, Opened), Error> {
        let acknowledged = Acknowledged::lock(dir)?;
        files::remove_unfinished(dir).map_err(files::cannot_open)?;
        files::read_all(dir)?;
        let db = open_db(dir)?;
        let sync = sync(dir).map_err(files::cannot_open)?;
        let Loaded { state, log, fresh } = load(&db)?;
        acknowledged.check((!fresh).then(|| state.revision()))?;
        files::sync_dir(dir).map_err(files::cannot_open)?;
        // What was not acknowledged before a kill is shown to everybody from now on, which is as good.
        acknowledged.write(state.revision()).map_err(files::cannot_open)?;
        let waker = Waker::new(db.clone()).map_err(files::cannot_open)?;
        let state = state.with_history(history);
        let opened = if fresh { Opened::Fresh } else { Opened::Existing };
        Ok((Self { shared: Shared::new(state), waker, db, sync, log, acknowledged }, opened))
    }

    /// Serves until every sender is gone or a write failed.
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        // Also when this thread panics: a watch must not wait for a writer that is no more.
        let _close = CloseOnDrop(Arc::clone(&self.shared));
        let mut group = Vec::with_capacity(GROUP_MAX);
        let mut expected = 1;
        while let Some(first) = requests.blocking_recv() {
            group.push(first);
            gather(&mut group, &mut requests, expected);
            expected = group.len();
            if let Err(failed) = self.commit(&mut group) {
                tracing::error!(doing = failed.doing, error = %failed.source, "the store failed; nothing is written any more");
                return;
            }
        }
    }

    /// Decides, writes, syncs, shows and acknowledges a group, in that order.
    ///
    /// Refusals are answered at the end as well: they may rest on a commit of this group, and who is told of a conflict
    /// reads again at once and must then see it.
    fn commit(&mut self, group: &mut Vec<Request>) -> Result<(), Failed> {
        let mut draft = Draft::on(&self.shared.read());
        let mut answers = Vec::with_capacity(group.len());
        for Request { txn, reply } in group.drain(..) {
            let answer = draft.add(&self.shared.read(), txn);
            answers.push((reply, answer));
        }
        let mut result = Ok(());
        // Freed when everybody was answered.
        let mut _fallen = Vec::new();
        if !draft.commits().is_empty() {
            result = self.persist(&draft);
            match &result {
                Ok(()) => _fallen = self.shared.publish(draft),
                Err(_) => self.shared.close(),
            }
        }
        for (reply, answer) in answers {
            let answer = match &result {
                Ok(()) => answer,
                Err(failed) => Err(failed.into()),
            };
            // A caller that no longer waits has given up the answer, not the commit.
            let _gone = reply.send(answer);
        }
        result
    }

    fn persist(&mut self, draft: &Draft) -> Result<(), Failed> {
        let floor = self.shared.read().floor();
        let mut batch = ::sled::Batch::default();
        let mut row = |name: &[u8], bytes: Option<&[u8]>| match bytes {
            Some(bytes) => batch.insert(name, bytes),
            None => batch.remove(name),
        };
        rows::encode(draft, floor, &mut self.log, &mut row);
        let failed = |doing| move |error| Failed { doing, source: io_error(error) };
        self.waker.watched(|| {
            self.db.apply_batch(batch).map_err(failed("write"))?;
            self.db.flush().map_err(failed("flush"))
        })?;
        (self.sync)().map_err(|source| Failed { doing: "sync", source })?;
        self.acknowledged
            .write(draft.revision())
            .map_err(|source| Failed { doing: "write", source })
    }
}

/// The text of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}

/// Adds what is waiting, and what is still to come if there were more last time.
fn gather(group: &mut Vec<Request>, requests: &mut mpsc::Receiver<Request>, expected: usize) {
    let mut tries = 0;
    while group.len() < GROUP_MAX {
        if let Ok(next) = requests.try_recv() {
            group.push(next);
        } else if group.len() < expected && tries < GATHER_TRIES {
            tries += 1;
            thread::yield_now();
        } else {
            return;
        }
    }
}

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A write that failed, told to every caller of the group.
#[derive(Debug)]
struct Failed {
    doing: &'static str,
    source: io::Error,
}

impl From<&Failed> for Error {
    fn from(failed: &Failed) -> Self {
        let source = io::Error::new(failed.source.kind(), failed.source.to_string());
        Self::Io { doing: failed.doing, source }
    }
}

pub(super) fn io_error(error: ::sled::Error) -> io::Error {
    match error {
        ::sled::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

pub(super) fn open_db(dir: &Path) -> Result<::sled::Db, Error> {
    // Every commit is flushed and synced here, so that sled's own thread for it would only sync everything twice.
    let config = ::sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut tries = 0;
    loop {
        let error = match config.open() {
            Ok(db) => return Ok(db),
            Err(error) => error,
        };
        tries += 1;
        match error {
            ::sled::Error::Io(source) if is_locked(&source) => {
                // Its own threads may hold the lock a little longer than the handle that was dropped.
                if tries == LOCK_TRIES {
                    return Err(files::in_use(dir));
                }
                thread::sleep(LOCK_PAUSE);
            }
            ::sled::Error::Io(source) => return Err(files::cannot_open(source)),
            other => return Err(corrupt(&other)),
        }
    }
}

/// sled tells it by text only.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

fn corrupt(error: &::sled::Error) -> Error {
    Error::Corrupt { key: "the database".to_owned(), why: error.to_string() }
}

fn load(db: &::sled::Db) -> Result<Loaded, Error> {
    let damaged = |damage: rows::Damage| Error::Corrupt { key: damage.row, why: damage.why };
    let mut decoder = Decoder::default();
    for row in db.iter() {
        let (name, bytes) = row.map_err(|error| corrupt(&error))?;
        decoder.push(&name, &bytes).map_err(damaged)?;
    }
    decoder.finish().map_err(damaged)
}

pub(super) fn file_sync(dir: &Path) -> io::Result<Sync> {
    let file = File::open(dir.join("db"))?;
    // fdatasync also writes what is needed to find the data again: the file's size and where its blocks are. Only times
    // are left out, and those would cost a write of the journal at each commit.
    Ok(Box::new(move || file.sync_data()))
}
