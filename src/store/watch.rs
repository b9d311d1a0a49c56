//! What both backends share in front of a [`State`]: reads under a short lock, and watches that follow its history.
//! A watch must never hold up a writer: it is only told that something happened, and reads at its own pace.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::store::{
    Entry, Error, Event, Events, Key, Revision, WatchError,
    state::{Commit, Draft, State},
};

/// A state that many read, one writes and some watch.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<State>,
    /// Tells watches that the state moved, or, by `true`, that it will never move again.
    closed: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: RwLock::new(state), closed: watch::Sender::new(false) })
    }

    /// The state, for reading. Hold it for microseconds.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a writer that must both decide and publish under one lock.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a durable draft visible, and returns what fell out of the history.
    pub(super) fn publish(&self, draft: Draft) -> Vec<Commit> {
        let fallen = self.write().publish(draft);
        self.wake();
        fallen
    }

    /// Tells watches to look again.
    pub(super) fn wake(&self) {
        self.closed.send_modify(|_| {});
    }

    /// Ends every read from now on, and every watch once it has told what there is.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.open()?;
        Ok(self.read().get(key))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), Error> {
        self.open()?;
        let state = self.read();
        Ok((state.list(prefix), state.revision()))
    }

    pub(super) fn count(&self, directory: &str) -> Result<u64, Error> {
        self.open()?;
        Ok(self.read().count(directory))
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        after: Revision,
    ) -> Result<Events, WatchError> {
        // Receive before the first look, so that no publication between the two is missed.
        let moved = self.closed.subscribe();
        self.open().map_err(|_closed| WatchError::Closed)?;
        let watch = Watch {
            shared: Arc::clone(self),
            prefix: prefix.into(),
            after,
            told: after,
            waiting: VecDeque::new(),
            moved,
        };
        self.read().look(prefix, after)?;
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }

    /// Refuses when it was closed.
    pub(super) fn open(&self) -> Result<(), Error> {
        if *self.closed.borrow() { Err(Error::Closed) } else { Ok(()) }
    }
}

/// One reader of the history.
struct Watch {
    shared: Arc<Shared>,
    prefix: Box<str>,
    /// Everything up to here was looked at.
    after: Revision,
    /// What the reader knows it is at.
    told: Revision,
    /// Looked at, not yet delivered.
    waiting: VecDeque<Event>,
    moved: watch::Receiver<bool>,
}

impl Watch {
    async fn next(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            // Seen before the look: what moves after it wakes the wait below.
            let closed = *self.moved.borrow_and_update();
            let look = self.shared.read().look(&self.prefix, self.after)?;
            self.after = look.upto;
            if let Some(change) = look.commits.last().and_then(|commit| commit.first()) {
                self.told = change.revision;
            }
            self.waiting.extend(look.commits.into_iter().map(Event::Changes));
            if look.upto < look.head {
                continue;
            }
            if self.told < look.head {
                self.told = look.head;
                self.waiting.push_back(Event::Progress(look.head));
            } else if self.waiting.is_empty() {
                // A sender that is gone cannot be: `shared` holds it.
                if closed || self.moved.changed().await.is_err() {
                    return Err(WatchError::Closed);
                }
            }
        }
    }
}
