//! The typed handle over a backend: JSON in and out, and encryption of what lies under the sealed prefixes. It must never
//! know a kind, nor cache anything.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use serde::{Serialize, de::DeserializeOwned};

use crate::clock::Clock;
use crate::store::{
    Backend, Change, Entry, Error, Event, Events, Key, Op, Precondition, Revision, Txn, WatchError,
    crypt::{self, Cipher},
    follow::{self, Follow},
};

/// A decoded value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// Where it is.
    pub key: Key,
    /// What it is.
    pub value: T,
    /// Its own last change.
    pub revision: Revision,
}

/// What is told how long each commit took, from the call to its answer.
pub type Observer = Arc<dyn Fn(Duration) + Send + Sync>;

/// The store, as everybody holds it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    cipher: Cipher,
    sealed: Vec<Box<str>>,
    observer: Option<(Arc<dyn Clock>, Observer)>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("backend", &self.backend)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A handle that encrypts the values whose keys start with one of the `sealed` prefixes.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, cipher: Cipher, sealed: &[&str]) -> Self {
        let sealed = sealed.iter().map(|&prefix| prefix.into()).collect();
        Self(Arc::new(Inner { backend, cipher, sealed, observer: None }))
    }

    /// The same handle, which tells the observer about each commit.
    #[must_use]
    pub fn observed(&self, clock: Arc<dyn Clock>, observer: Observer) -> Self {
        Self(Arc::new(Inner {
            backend: Arc::clone(&self.0.backend),
            cipher: self.0.cipher.clone(),
            sealed: self.0.sealed.clone(),
            observer: Some((clock, observer)),
        }))
    }

    /// Opens every sealed value once, so that a wrong secret key is found at the start and not at the first use.
    ///
    /// # Errors
    /// `Corrupt` with the first key that does not open.
    pub async fn verify(&self) -> Result<(), Error> {
        for prefix in &self.0.sealed {
            self.list_bytes(prefix).await?;
        }
        Ok(())
    }

    /// One value.
    ///
    /// # Errors
    /// `Corrupt` when it is not a `T`; `Closed`.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Stored<T>>, Error> {
        self.get_bytes(key).await?.map(decode).transpose()
    }

    /// One value as it was written, decrypted.
    ///
    /// # Errors
    /// `Corrupt` when it does not decrypt; `Closed`.
    pub async fn get_bytes(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.0.backend.get(key).await?.map(|entry| self.0.open_entry(entry)).transpose()
    }

    /// Every value under a prefix in key order, and the revision at which that is true.
    ///
    /// # Errors
    /// `Corrupt` when one of them is not a `T`; `Closed`.
    pub async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<(Vec<Stored<T>>, Revision), Error> {
        let (entries, revision) = self.list_bytes(prefix).await?;
        Ok((entries.into_iter().map(decode).collect::<Result<_, _>>()?, revision))
    }

    /// Every value under a prefix as it was written, decrypted.
    ///
    /// # Errors
    /// `Corrupt` when one of them does not decrypt; `Closed`.
    pub async fn list_bytes(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), Error> {
        let (entries, revision) = self.0.backend.list(prefix).await?;
        let entries = entries.into_iter().map(|entry| self.0.open_entry(entry));
        Ok((entries.collect::<Result<_, _>>()?, revision))
    }

    /// How many values there are right under a directory: `environments/default` has `environments/default/alice`. It costs
    /// the same whatever the number.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn count(&self, directory: &str) -> Result<u64, Error> {
        self.0.backend.count(directory).await
    }

    /// An empty transaction.
    pub fn txn(&self) -> Write {
        Write { store: self.clone(), txn: Txn::default(), failed: None }
    }

    /// Changes under the prefix after a revision, decrypted; [`decode_bytes`] makes values of them. A change that does
    /// not decrypt ends the watch with `Compacted`; the list that follows names it.
    ///
    /// # Errors
    /// `Compacted` when the history after this revision is not whole; `Closed`.
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        let events = self.0.backend.watch(prefix, after)?;
        if !self.0.may_seal(prefix) {
            return Ok(events);
        }
        let inner = Arc::clone(&self.0);
        Ok(events.map(move |event| inner.open_event(event?)).boxed())
    }

    /// Everything under the prefix, then its changes, for ever: see [`Follow`]. It lists again by itself when it fell
    /// too far behind, and ends when the store is closed. A value that does not decrypt is an error in its place, and
    /// the stream goes on.
    #[must_use]
    pub fn follow(&self, prefix: &str) -> BoxStream<'static, Result<Follow, Error>> {
        follow::follow(self.clone(), prefix)
    }

    /// Encrypted as they are, for [`follow`], which opens one by one.
    pub(super) async fn list_sealed(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), Error> {
        self.0.backend.list(prefix).await
    }

    pub(super) fn watch_sealed(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.0.backend.watch(prefix, after)
    }

    pub(super) fn open_entry(&self, entry: Entry) -> Result<Entry, Error> {
        self.0.open_entry(entry)
    }

    pub(super) fn open_change(&self, change: &Change) -> Result<Change, Error> {
        self.0.open_change(change)
    }
}

impl Inner {
    fn seals(&self, key: &Key) -> bool {
        self.sealed.iter().any(|prefix| key.as_str().starts_with(&**prefix))
    }

    /// Whether a sealed key could be under this prefix.
    fn may_seal(&self, prefix: &str) -> bool {
        self.sealed.iter().any(|sealed| sealed.starts_with(prefix) || prefix.starts_with(&**sealed))
    }

    fn open(&self, key: &Key, value: Bytes) -> Result<Bytes, Error> {
        if !self.seals(key) {
            return Ok(value);
        }
        self.cipher.open(key, &value).map_err(|error| sealing(key, &error))
    }

    fn open_entry(&self, entry: Entry) -> Result<Entry, Error> {
        let value = self.open(&entry.key, entry.value)?;
        Ok(Entry { value, ..entry })
    }

    fn open_change(&self, change: &Change) -> Result<Change, Error> {
        let open = |value: &Option<Bytes>| {
            value.clone().map(|value| self.open(&change.key, value)).transpose()
        };
        Ok(Change {
            key: change.key.clone(),
            value: open(&change.value)?,
            before: open(&change.before)?,
            revision: change.revision,
        })
    }

    fn open_event(&self, event: Event) -> Result<Event, WatchError> {
        let Event::Changes(changes) = event else { return Ok(event) };
        let opened: Result<Arc<[Change]>, Error> =
            changes.iter().map(|change| self.open_change(change)).collect();
        opened.map(Event::Changes).map_err(|error| {
            let asked = changes.first().map_or(Revision(0), |change| change.revision);
            tracing::error!(%error, "a watch met a value that it cannot tell");
            WatchError::Compacted { asked, oldest: asked }
        })
    }

    /// What to write so that the value reads back. A sealed value that is there already is taken as it is: sealed
    /// anew it would be other bytes, and writing the same value again would be a change.
    async fn seal(&self, key: &Key, value: Bytes) -> Result<Bytes, Error> {
        if !self.seals(key) {
            return Ok(value);
        }
        if let Some(current) = self.backend.get(key).await?
            && self.cipher.open(key, &current.value).is_ok_and(|opened| opened == value)
        {
            return Ok(current.value);
        }
        self.cipher.seal(key, &value).map_err(|error| sealing(key, &error))
    }
}

fn sealing(key: &Key, error: &crypt::Error) -> Error {
    Error::Corrupt { key: key.as_str().to_owned(), why: error.to_string() }
}

/// Makes a value of an entry.
///
/// # Errors
/// `Corrupt` when it is not a `T`.
pub fn decode<T: DeserializeOwned>(entry: Entry) -> Result<Stored<T>, Error> {
    let value = decode_bytes(&entry.key, &entry.value)?;
    Ok(Stored { key: entry.key, value, revision: entry.revision })
}

/// Makes a value of the bytes under a key.
///
/// # Errors
/// `Corrupt` when they are not a `T`.
pub fn decode_bytes<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::Corrupt {
        key: key.as_str().to_owned(),
        // serde's own text may quote the value.
        why: format!("not what was expected, at line {} column {}", error.line(), error.column()),
    })
}

/// A transaction being put together. Nothing happens before [`Write::commit`].
#[derive(Debug)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Write {
    store: Store,
    txn: Txn,
    failed: Option<Error>,
}

impl Write {
    /// Writes a value.
    pub fn put<T: Serialize + ?Sized>(
        mut self,
        key: &Key,
        precondition: Precondition,
        value: &T,
    ) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.step(key, precondition, Op::Put(bytes.into())),
            Err(error) => {
                let why = format!("it has no JSON form: {error}");
                self.failed.get_or_insert_with(|| Error::Invalid { key: key.clone(), why });
                self
            }
        }
    }

    /// Writes a value that is JSON already.
    pub fn put_text(self, key: &Key, precondition: Precondition, text: Bytes) -> Self {
        self.step(key, precondition, Op::Put(text))
    }

    /// Removes a value.
    pub fn delete(self, key: &Key, precondition: Precondition) -> Self {
        self.step(key, precondition, Op::Delete)
    }

    /// Only checks a precondition.
    pub fn check(self, key: &Key, precondition: Precondition) -> Self {
        self.step(key, precondition, Op::Check)
    }

    fn step(mut self, key: &Key, precondition: Precondition, op: Op) -> Self {
        self.txn = self.txn.and(key.clone(), precondition, op);
        self
    }

    /// Does all of it at one new revision, which it returns, or nothing. What was written at `Ok` survives a crash. A
    /// transaction that changes nothing returns the store's current revision, and its keys keep theirs.
    ///
    /// # Errors
    /// `Conflict` when a precondition did not hold; `TooLarge` and `Invalid` for what can never be written; `Io` and
    /// `Closed` when the store has failed.
    pub async fn commit(self) -> Result<Revision, Error> {
        let Self { store, mut txn, failed } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        let inner = &store.0;
        let start = inner.observer.as_ref().map(|(clock, _)| clock.monotonic());
        for (key, _, op) in &mut txn.steps {
            if let Op::Put(value) = op {
                *value = inner.seal(key, std::mem::take(value)).await?;
            }
        }
        let result = inner.backend.commit(txn).await;
        if let (Some((clock, observer)), Some(start)) = (&inner.observer, start) {
            observer(clock.monotonic().saturating_sub(start));
        }
        result
    }
}

#[cfg(test)]
mod tests;
