//! Revisioned objects as bytes: the trait every backend implements, its words and its errors. It must never know a kind.
//!
//! The meaning is etcd's, so that etcd fits behind the same trait: a commit compares, then writes all or nothing at one
//! new revision; a watch starts after any revision that was not compacted away.

use std::{borrow::Borrow, fmt, sync::Arc};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

use crate::retry::Retry;

pub mod backup;
#[cfg(test)]
mod conformance;
pub mod crypt;
pub mod export;
mod files;
mod follow;
pub mod handle;
pub mod memory;
mod rows;
pub mod sled;
mod state;
mod waker;
mod watch;
pub mod whole;

pub use self::follow::Follow;

/// A number that rises with every commit, over all keys. The empty store is at revision 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A path such as `environments/default/alice`. Ordered by bytes. Cheap to clone. A commit takes keys of 1 to
/// [`KEY_BYTES_MAX`] bytes without NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Arc<str>);

impl Key {
    /// A key from its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stored value and the revision of the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub key: Key,
    /// What it is; at most [`VALUE_BYTES_MAX`].
    pub value: Bytes,
    /// Its own last change.
    pub revision: Revision,
}

/// What must be true of a key for a commit to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// No value.
    Absent,
    /// A value last written at exactly this revision.
    At(Revision),
    /// Nothing need be true.
    Any,
}

/// What a commit does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write this value. Writing the value that is already there is no change: the key keeps its revision.
    Put(Bytes),
    /// Remove the value. Removing nothing is no change and makes no event.
    Delete,
    /// Only check the precondition.
    Check,
}

/// All of it or nothing. A key stands in it at most once; there are at most [`TXN_STEPS_MAX`] steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// Key, what must be true of it, what to do to it.
    pub steps: Vec<(Key, Precondition, Op)>,
}

impl Txn {
    /// A transaction with one step.
    #[must_use]
    pub fn one(key: Key, precondition: Precondition, op: Op) -> Self {
        Self { steps: vec![(key, precondition, op)] }
    }

    /// Adds a step.
    #[must_use]
    pub fn and(mut self, key: Key, precondition: Precondition, op: Op) -> Self {
        self.steps.push((key, precondition, op));
        self
    }
}

/// One key's change, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// The new value; `None` when it was deleted.
    pub value: Option<Bytes>,
    /// The value before. Always there for a deletion; for a write it is `None` when the key was new or when the change
    /// was read back from disk.
    pub before: Option<Bytes>,
    /// The revision of the commit.
    pub revision: Revision,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All changes of one commit under the prefix, in key order. A change whose key was written again before the watch
    /// read it may be left out; the later one is delivered.
    Changes(Arc<[Change]>),
    /// Nothing under the prefix changed up to this revision: a watch may resume from here.
    Progress(Revision),
}

/// The end of a watch that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The history after the asked revision is not whole: it is gone, the watcher was too slow, or the store was put
    /// back to an older state. List again.
    #[error("the history after revision {asked} is not whole: it is kept from {oldest} on")]
    Compacted {
        /// Where the watch wanted to start or was.
        asked: Revision,
        /// The earliest revision a watch can start after.
        oldest: Revision,
    },
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

/// Changes after a revision, in order, none twice; the first error ends it.
pub type Events = BoxStream<'static, Result<Event, WatchError>>;

/// Values stay small: everything is also held in memory, and a watch carries whole values.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The longest key. With longer ones an index page of sled 0.34 could outgrow what it keeps in its synced file.
pub const KEY_BYTES_MAX: usize = 384;

/// The most steps in one transaction.
pub const TXN_STEPS_MAX: usize = 1024;

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A precondition did not hold; nothing was written. Read again and decide again.
    #[error("`{key}` was changed by someone else")]
    Conflict {
        /// The first key whose precondition failed.
        key: Key,
        /// What it is at now; `None` when it has no value.
        current: Option<Revision>,
    },
    /// A value is over [`VALUE_BYTES_MAX`].
    #[error("`{key}` would have {bytes} bytes, more than {VALUE_BYTES_MAX}")]
    TooLarge {
        /// Which key.
        key: Key,
        /// How large it would have been.
        bytes: usize,
    },
    /// The transaction makes no sense, whatever the store holds: a mistake of the caller.
    #[error("`{key}` cannot be written: {why}")]
    Invalid {
        /// Which key.
        key: Key,
        /// What is wrong.
        why: String,
    },
    /// A value could not be read back as what it was written as.
    #[error("`{key}` does not hold what it should: {why}")]
    Corrupt {
        /// Which key.
        key: String,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// The files could not be opened, read or written. The process must not go on as if they had been.
    #[error("cannot {doing} the store")]
    Io {
        /// open, write, sync …
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The store is closing or has failed before.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later. A conflict needs a new read first, so it is never.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::Corrupt { .. }
            | Self::Io { .. }
            | Self::Closed => Retry::Never,
        }
    }
}

/// Keeps entries. `Arc<dyn Backend>` is what everybody holds.
///
/// Reads see only what is durable. A commit that returned `Ok` survives `kill -9` and a power cut.
pub trait Backend: fmt::Debug + Send + Sync {
    /// One entry.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>>;
    /// Every entry whose key starts with the prefix, in key order, and the revision at which that is true.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>>;
    /// How many entries there are right under a directory: `environments/default` has `environments/default/alice`. Counted
    /// as they come and go, so that asking costs no list.
    fn count<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<u64, Error>>;
    /// Checks every precondition, then does every step at one new revision, which it returns. A transaction that
    /// changes nothing returns the current revision. Dropping the future does not take the transaction back.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>>;
    /// Changes under the prefix after this revision. A reader that falls too far behind gets `Compacted`; it never
    /// holds up a writer.
    ///
    /// # Errors
    /// `Compacted` when the history after this revision is not whole.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError>;
}
