//! Follows a source of objects and keeps the table true to it. It must never empty the table because the source is gone,
//! nor call it ready before everything was read once.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};

use crate::{
    retry,
    router::{
        activity::Seen,
        fact,
        index::{Index, Slots},
        packed::Label,
        saved::Shelf,
        table::Table,
    },
    tasks::{self, Shutdown},
};

/// A kind of object that routes follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Environments.
    Environments,
    /// Hostnames.
    Hostnames,
    /// Secrets; those that are no bay's key are passed over.
    Secrets,
}

impl Part {
    /// In the order in which they are best listed: then hardly anything has to wait for what it belongs to.
    pub const ALL: [Self; 3] = [Self::Hostnames, Self::Environments, Self::Secrets];
}

/// What a source tells of one part: `Init`, `Apply` for each object there is, `InitDone`, then `Apply` and `Delete`; and
/// from `Init` again after a gap. Objects are JSON as stored.
#[derive(Debug, Clone)]
pub enum Fed {
    /// A list begins. A list that was begun before is void.
    Init(Part),
    /// An object as it is now.
    Apply(Part, Bytes),
    /// An object that is gone, as it last was.
    Delete(Part, Bytes),
    /// The list is complete.
    InitDone(Part),
}

/// Where objects come from. The parts are told independently of each other.
pub trait Source: Send {
    /// Tells for ever. A source that loses what is behind it keeps quiet and starts again with `Init`; its end ends the
    /// feed.
    fn stream(self: Box<Self>) -> BoxStream<'static, Fed>;
}

/// Keeps a table true to a source.
#[derive(Debug)]
pub struct Feed {
    index: Arc<Mutex<Index>>,
    table: Arc<Table>,
    seen: Arc<Seen>,
    environments: Progress<Slots>,
    hostnames: Progress<HashSet<Label>>,
    secrets: Progress<Slots>,
}

/// How far a part is, and what its list under way has named.
#[derive(Debug, Default)]
struct Progress<T> {
    listing: Option<T>,
    done: bool,
}

impl<T> Progress<T> {
    fn end(&mut self) -> Option<T> {
        self.done = true;
        self.listing.take()
    }
}

/// Lists the parts one after the other, in the order given, then tells what changes in any of them. Ends when all have.
pub(super) fn in_order(
    parts: impl IntoIterator<Item = BoxStream<'static, Fed>>,
) -> BoxStream<'static, Fed> {
    let order = InOrder { listing: parts.into_iter().collect(), live: SelectAll::new() };
    stream::unfold(order, |mut order| async move {
        let fed = order.next().await?;
        Some((fed, order))
    })
    .boxed()
}

struct InOrder {
    listing: VecDeque<BoxStream<'static, Fed>>,
    live: SelectAll<BoxStream<'static, Fed>>,
}

impl InOrder {
    async fn next(&mut self) -> Option<Fed> {
        let Some(first) = self.listing.front_mut() else { return self.live.next().await };
        let fed = first.next().await;
        if matches!(fed, Some(Fed::InitDone(_)) | None)
            && let Some(listed) = self.listing.pop_front()
        {
            self.live.push(listed);
        }
        fed
    }
}

/// Changes written to the shelf at a time, and how far apart.
const SHELF_BATCH: usize = 20_000;
const SHELF_EVERY: Duration = Duration::from_secs(1);

impl Feed {
    /// A feed of an empty table.
    #[must_use]
    pub fn new(seen: Arc<Seen>) -> Self {
        let table = Arc::new(Table::new());
        let index = Index::new(Arc::clone(&table), Arc::clone(&seen));
        Self {
            index: Arc::new(Mutex::new(index)),
            table,
            seen,
            environments: Progress::default(),
            hostnames: Progress::default(),
            secrets: Progress::default(),
        }
    }

    /// The table that is fed.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// Where its environments are marked when they are asked for.
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// The join behind it, which names environments.
    #[must_use]
    pub fn index(&self) -> Arc<Mutex<Index>> {
        Arc::clone(&self.index)
    }

    /// Follows the source until shutdown, saving changes to the shelf if there is one.
    ///
    /// # Errors
    /// When the source ends before shutdown.
    pub async fn run(
        mut self,
        source: Box<dyn Source>,
        shelf: Option<Shelf>,
        mut shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let mut stream = source.stream();
        let mut saver = shelf.map(|shelf| Saver::start(shelf, Arc::clone(&self.index)));
        let mut ticks = tokio::time::interval(SHELF_EVERY);
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                _ = ticks.tick(), if saver.is_some() => {
                    if let Some(saver) = &mut saver { saver.poke(); }
                }
                fed = stream.next() => match fed {
                    Some(fed) => self.take(&fed),
                    None if shutdown.asked() => break,
                    None => anyhow::bail!("the source of routes ended"),
                },
            }
        }
        if let Some(saver) = saver {
            saver.finish().await;
        }
        Ok(())
    }

    /// Takes one message. This is all there is to the feed; [`Feed::run`] only calls it.
    pub fn take(&mut self, fed: &Fed) {
        match fed {
            Fed::Init(part) => self.begin(*part),
            Fed::InitDone(part) => self.end(*part),
            Fed::Apply(part, object) => {
                if let Err(error) = self.apply(*part, object) {
                    tracing::warn!(
                        ?part,
                        error = retry::chain(&error),
                        "an object was passed over"
                    );
                }
            }
            Fed::Delete(part, object) => {
                if let Err(error) = self.delete(*part, object) {
                    tracing::warn!(
                        ?part,
                        error = retry::chain(&error),
                        "a deletion was passed over"
                    );
                }
            }
        }
    }

    fn begin(&mut self, part: Part) {
        match part {
            Part::Environments => self.environments.listing = Some(Slots::default()),
            // There is nothing that a first list could fail to name.
            Part::Hostnames => {
                self.hostnames.listing = (!self.table.is_empty()).then(HashSet::new);
            }
            Part::Secrets => {
                self.secrets.listing = Some(Slots::default());
                locked(&self.index).forget_spare_keys();
            }
        }
    }

    fn end(&mut self, part: Part) {
        let mut index = locked(&self.index);
        match part {
            Part::Environments => {
                if let Some(listed) = self.environments.end() {
                    index.keep_environments(&listed);
                }
            }
            Part::Hostnames => {
                if let Some(listed) = self.hostnames.end() {
                    index.keep_hostnames(&listed);
                }
            }
            Part::Secrets => {
                if let Some(listed) = self.secrets.end() {
                    index.keep_keys(&listed);
                }
            }
        }
        index.shrink();
        drop(index);
        if self.environments.done
            && self.hostnames.done
            && self.secrets.done
            && !self.table.synced()
        {
            self.table.set_synced();
            tracing::info!(routes = self.table.len(), "the table is complete");
        }
    }

    fn apply(&mut self, part: Part, object: &[u8]) -> Result<(), fact::Error> {
        match part {
            Part::Environments => {
                let fact = fact::Environment::read(object)?;
                let mut index = locked(&self.index);
                let listed = self.environments.listing.is_some();
                let slot = index.apply_environment(&fact, listed);
                if let Some(listing) = &mut self.secrets.listing
                    && index.has_key(slot)
                {
                    listing.insert(slot);
                }
                if let Some(listing) = &mut self.environments.listing {
                    listing.insert(slot);
                }
            }
            Part::Hostnames => {
                let fact = fact::Hostname::read(object)?;
                locked(&self.index).apply_hostname(&fact);
                if let Some(listing) = &mut self.hostnames.listing {
                    listing.insert(fact.label);
                }
            }
            Part::Secrets => {
                let Some(fact) = fact::BayKey::read(object)? else { return Ok(()) };
                let slots = locked(&self.index).apply_key(&fact.namespace, &fact.bay, fact.key);
                if let Some(listing) = &mut self.secrets.listing {
                    slots.into_iter().for_each(|slot| listing.insert(slot));
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, part: Part, object: &[u8]) -> Result<(), fact::Error> {
        let mut index = locked(&self.index);
        match part {
            Part::Environments => {
                let fact = fact::Environment::read(object)?;
                index.delete_environment(fact.uid, &fact.name);
            }
            Part::Hostnames => index.delete_hostname(fact::Hostname::read(object)?.label),
            Part::Secrets => {
                if let Some(fact) = fact::BayKey::read(object)? {
                    index.apply_key(&fact.namespace, &fact.bay, None);
                }
            }
        }
        Ok(())
    }
}

fn locked(index: &Mutex<Index>) -> std::sync::MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes changes to the shelf, one batch at a time, off the feed.
struct Saver {
    shelf: Arc<Shelf>,
    index: Arc<Mutex<Index>>,
    busy: Arc<tokio::sync::Semaphore>,
}

impl Saver {
    fn start(shelf: Shelf, index: Arc<Mutex<Index>>) -> Self {
        locked(&index).remember_changes();
        Self { shelf: Arc::new(shelf), index, busy: Arc::new(tokio::sync::Semaphore::new(1)) }
    }

    /// Starts writing what has changed, unless it still writes.
    fn poke(&self) {
        let Ok(permit) = Arc::clone(&self.busy).try_acquire_owned() else { return };
        let (shelf, index) = (Arc::clone(&self.shelf), Arc::clone(&self.index));
        tasks::detached(async move {
            let written = tasks::blocking(move || save(&shelf, &index)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(
                    error = retry::chain(&error),
                    "the copy of the table was not written"
                );
            }
            drop(permit);
        });
    }

    async fn finish(self) {
        let Ok(_permit) = self.busy.acquire().await else { return };
        let (shelf, index) = (Arc::clone(&self.shelf), Arc::clone(&self.index));
        if let Ok(Err(error)) = tasks::blocking(move || save(&shelf, &index)).await {
            tracing::warn!(error = retry::chain(&error), "the copy of the table was not written");
        }
    }
}

fn save(shelf: &Shelf, index: &Mutex<Index>) -> Result<(), crate::router::saved::Error> {
    loop {
        let changes = locked(index).take_changes(SHELF_BATCH);
        if changes.is_empty() {
            return Ok(());
        }
        let labels: Vec<Label> = changes.iter().map(|(label, _)| *label).collect();
        if let Err(error) = shelf.write(changes) {
            locked(index).changed_again(&labels);
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests;
