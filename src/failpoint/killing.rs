//! `kill -9` of this process by itself at a boundary that the environment names. It must never run a destructor or flush
//! anything on the way.
//!
//! `HANGAR_BOUNDARIES` is a file that gets a line for each boundary crossed. `HANGAR_DIE_AT` is the one at which to die, such as
//! `CallUnsent:POST:3` or `CommitUnsynced:environments+bays:0`: counted from 0 among those of the same method, or the same kinds of
//! keys, since what several tasks do comes in an order that changes.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use rustix::process::{Signal, getpid, kill_process};

use crate::failpoint::{self, Boundary};
use crate::fly::transport::{Failed, Transport};
use crate::store::{Backend, Entry, Error, Events, Key, Revision, Txn, WatchError};

/// The failpoints of this process.
#[derive(Debug)]
pub(super) struct Points {
    die_at: Option<String>,
    crossed: Mutex<Crossed>,
}

#[derive(Debug)]
struct Crossed {
    log: File,
    counts: BTreeMap<String, u64>,
}

/// The process's failpoints, if its environment asks for them.
pub(super) fn asked_for() -> Option<Arc<Points>> {
    static POINTS: LazyLock<Option<Arc<Points>>> = LazyLock::new(|| {
        let log = File::options().create(true).append(true).open(env::var_os("HANGAR_BOUNDARIES")?);
        let log = log.inspect_err(|error| tracing::error!(%error, "HANGAR_BOUNDARIES")).ok()?;
        let crossed = Mutex::new(Crossed { log, counts: BTreeMap::new() });
        Some(Arc::new(Points { die_at: env::var("HANGAR_DIE_AT").ok(), crossed }))
    });
    POINTS.clone()
}

impl Points {
    /// Crosses a boundary, or dies at it.
    fn cross(&self, boundary: Boundary, what: &str) {
        // Held while it dies, so that nobody crosses anything after the last line.
        let mut crossed = self.crossed.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = format!("{boundary:?}:{}", sort(what));
        let count = crossed.counts.entry(kind.clone()).or_default();
        let here = format!("{kind}:{count}");
        *count += 1;
        let line = format!("{here} {what}\n");
        if let Err(error) = crossed.log.write_all(line.as_bytes()) {
            tracing::error!(%error, "a boundary was crossed unwritten");
        }
        if self.die_at.as_ref() == Some(&here) {
            let _dead = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }
}

/// The method of a call; the kinds of keys of a commit.
fn sort(what: &str) -> String {
    let words = what.split(' ').filter_map(|it| it.split('/').next()).filter(|it| !it.is_empty());
    words.collect::<Vec<_>>().join("+")
}

/// A store that may be the end of its process.
#[derive(Debug)]
pub(super) struct Commits {
    pub(super) store: Arc<dyn Backend>,
    pub(super) points: Arc<Points>,
}

impl Backend for Commits {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        self.store.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>> {
        self.store.list(prefix)
    }

    fn count<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<u64, Error>> {
        self.store.count(directory)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(async move {
            let what = failpoint::commit(&txn);
            self.points.cross(Boundary::CommitUnsynced, &what);
            let result = self.store.commit(txn).await;
            self.points.cross(Boundary::CommitUnanswered, &what);
            result
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.store.watch(prefix, after)
    }
}

/// A way to Fly that may be the end of its process.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) points: Arc<Points>,
}

impl Transport for Calls {
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Failed>> {
        if !failpoint::changes(&request) {
            return self.transport.send(request, timeout);
        }
        Box::pin(async move {
            let what = failpoint::call(&request);
            self.points.cross(Boundary::CallUnsent, &what);
            let result = self.transport.send(request, timeout).await;
            self.points.cross(Boundary::CallUnanswered, &what);
            result
        })
    }
}
