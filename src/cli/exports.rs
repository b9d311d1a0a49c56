//! When the store of a running server is exported: every hour, and at the end. It must never end the process because an
//! export failed.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::SignedDuration;

use crate::{
    clock::{Clock, Timestamp},
    reconcile::holds,
    retry,
    store::{
        backup::{Backups, Error},
        handle::Store,
    },
    tasks::Shutdown,
    telemetry::metrics::Metrics,
};

/// Where exports are, below the data directory.
pub(super) const DIRECTORY: &str = "backups";
/// Time between two exports.
const EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How often it is looked whether one is due: a process that never lives an hour makes some too.
const LOOK: Duration = Duration::from_secs(60);

/// The exports of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Exports {
    pub(super) store: Store,
    pub(super) backups: Backups,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

/// The exports of a data directory.
pub(super) fn of(data_dir: &Path) -> Backups {
    Backups::in_dir(&data_dir.join(DIRECTORY))
}

impl Exports {
    /// Makes those that are due, until shutdown.
    pub(super) async fn run(self, mut shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(LOOK) => self.look().await,
            }
        }
    }

    /// Makes one if the last one is an hour old.
    async fn look(&self) {
        let now = self.clock.now();
        match self.backups.last() {
            // One from the future says nothing of how old the last one is.
            Ok(Some((last, _))) if last <= now && now < last + EVERY => {}
            Ok(_) => self.make().await,
            Err(error) => tracing::warn!(error = retry::chain(&error), "no export of the store"),
        }
    }

    /// Makes one, and removes the old ones. A failure is told and nothing more.
    pub(super) async fn make(&self) {
        match self.try_make(self.clock.now()).await {
            Ok(()) => self.metrics.store_export("ok"),
            Err(error) => {
                self.metrics.store_export("failed");
                tracing::warn!(error = retry::chain(&error), "no export of the store");
            }
        }
    }

    async fn try_make(&self, now: Timestamp) -> Result<(), Error> {
        let written = self.backups.write(&self.store, now).await?;
        tracing::info!(file = %written.file.display(), written.revision, "the store was exported");
        // What was exported before a store was lost is not thinned out while nobody has said that all is well.
        let holds = holds::all(&self.store).await.map_err(Error::Store)?;
        let held_since = holds.iter().filter_map(|it| it.metadata.creation_timestamp).min();
        self.backups.thin_out(held_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        hold::{Hold, HoldReason},
        meta::Resource as _,
    };
    use crate::clock::Manual;
    use crate::store::{Key, Precondition, crypt::Cipher, memory::Memory};

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn one_is_made_each_hour_and_none_from_before_a_hold_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Manual::at("2026-09-01T12:00:00Z".parse().unwrap()));
        let exports = Exports {
            store: Store::new(Arc::new(Memory::new()), Cipher::ephemeral().unwrap(), &[]),
            backups: Backups::in_dir(dir.path()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Metrics::new(),
        };
        exports.look().await;
        assert_eq!(count(dir.path()), 1, "the first is due at once");
        for (minutes, expected) in [(59, 1), (1, 2), (60, 3), (30, 3), (40, 4)] {
            clock.advance(Duration::from_secs(minutes * 60));
            exports.look().await;
            assert_eq!(count(dir.path()), expected);
        }
        clock.advance(Duration::from_secs(3600));
        let hold = Hold::because(HoldReason::Restored, "", String::new(), clock.now());
        let key = Key::new(&hold.object_ref().store_key());
        exports.store.txn().put(&key, Precondition::Any, &hold).commit().await.unwrap();
        for _ in 0..40 {
            exports.look().await;
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(count(dir.path()), 4 + 24);
        exports.store.txn().delete(&key, Precondition::Any).commit().await.unwrap();
        exports.look().await;
        assert_eq!(count(dir.path()), 24);
    }
}
