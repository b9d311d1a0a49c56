//! The twin of the sled backend for tests and simulations: the same meaning, nothing on disk. It must never block.

use std::sync::Arc;

use futures::future::{self, BoxFuture, FutureExt};

use crate::store::{
    Backend, Entry, Error, Events, Key, Revision, Txn, WatchError,
    state::{self, Draft, State},
    watch::Shared,
};

/// A store that lasts as long as the process.
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Shared::new(State::empty()) }
    }

    /// An empty store with a short history.
    #[cfg(test)]
    pub(super) fn with_history(commits_max: usize) -> Self {
        Self { shared: Shared::new(State::empty().with_history(commits_max)) }
    }

    /// Ends it while others still hold it.
    #[cfg(test)]
    pub(super) fn close(&self) {
        self.shared.close();
    }

    fn commit_now(&self, txn: Txn) -> Result<Revision, Error> {
        state::validate(&txn)?;
        self.shared.open()?;
        let revision = {
            let mut state = self.shared.write();
            let mut draft = Draft::on(&state);
            let revision = draft.add(&state, txn)?;
            drop(state.publish(draft));
            revision
        };
        self.shared.wake();
        Ok(revision)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Backend for Memory {
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
        async move { self.commit_now(txn) }.boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.shared.watch(prefix, after)
    }
}
