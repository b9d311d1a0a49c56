//! Wakes a commit that sled left waiting. It must never touch what is written.
//!
//! sled 0.34 writes a batch in two pieces, on two threads. When the first piece fails after the second one is on disk, it
//! takes note of the error and wakes nobody, and `flush` waits for ever. Another `flush` finds the error and wakes all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often it looks whether a commit waits.
const LOOK: Duration = Duration::from_secs(1);
/// From then on it says that one waits.
const LONG_LOOKS: u64 = 8;

/// Watches over the commits of one database, until it is dropped.
#[derive(Debug)]
pub(super) struct Waker {
    /// Odd while a commit is under way; never twice the same number.
    commit: Arc<AtomicU64>,
    /// `None` only while dropping.
    end: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Waker {
    /// Starts to watch.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub(super) fn new(db: sled::Db) -> io::Result<Self> {
        let commit = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let number = Arc::clone(&commit);
        let watch = move || {
            let (mut last, mut looks) = (0, 0_u64);
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let now = number.load(Ordering::Relaxed);
                looks = if now % 2 == 1 && now == last { looks + 1 } else { 0 };
                last = now;
                // Ever more seldom, because each try waits too as long as the disk is only slow.
                if looks.is_power_of_two() {
                    wake(&db, looks);
                }
            }
        };
        let watch = thread::Builder::new().name("store-waker".to_owned()).spawn(watch)?;
        Ok(Self { commit, end: Some(end), watch: Some(watch) })
    }

    /// Does a commit's work under the watch.
    pub(super) fn watched<T>(&self, work: impl FnOnce() -> T) -> T {
        self.commit.fetch_add(1, Ordering::Relaxed);
        let done = work();
        self.commit.fetch_add(1, Ordering::Relaxed);
        done
    }
}

fn wake(db: &sled::Db, looks: u64) {
    if looks >= LONG_LOOKS {
        tracing::warn!(seconds = looks, "a commit waits for the disk");
    }
    let db = db.clone();
    // What it finds, the commit itself is told as well.
    let flush = move || drop(db.flush());
    if let Err(error) = thread::Builder::new().name("store-wakes".to_owned()).spawn(flush) {
        tracing::warn!(%error, "no thread to wake a commit that waits");
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.end = None;
        if let Some(watch) = self.watch.take()
            && watch.join().is_err()
        {
            tracing::error!("the store's waker panicked");
        }
    }
}
