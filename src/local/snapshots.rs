//! Snapshots of volumes: copies of their directories, on demand and daily. It must never change a volume's content.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;

use crate::clock::Timestamp;
use crate::local::{
    Backend,
    disk::{copy_tree, remove_tree},
    faults::Kind,
    refusal::Refusal,
    respond::Reply,
    state::{Snapshot, Volume, later, whole_seconds},
    view, volumes,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Backend {
    /// Those of a deleted volume too.
    pub(super) fn list_snapshots(&self, app: &str, id: &str) -> Result<Reply, Refusal> {
        let world = self.lock();
        let snapshots = world.volume(app, id)?.snapshots.iter().rev();
        Reply::json(&snapshots.map(view::snapshot).collect::<Vec<_>>())
    }

    pub(super) async fn create_snapshot(
        self: &Arc<Self>,
        app: &str,
        id: &str,
    ) -> Result<Reply, Refusal> {
        volumes::live(&self.lock(), app, id)?;
        let snapshot = self.begin_snapshot(id, false).await?;
        Reply::json(&json!({"Msg": {"backup": {"id": snapshot, "volume_id": id}}}))
    }

    async fn begin_snapshot(
        self: &Arc<Self>,
        id: &str,
        scheduled: bool,
    ) -> Result<String, Refusal> {
        let snapshot = self.ids.snapshot();
        self.edit(|world, now| {
            let volume = world.volumes.get(id).ok_or(Refusal::NotFound("volume"))?;
            if let Some(running) = volume.snapshots.iter().find(|it| !it.done) {
                return Err(Refusal::SnapshotScheduled(whole_seconds(running.created_at)));
            }
            let taken = Snapshot {
                id: snapshot.clone(),
                done: false,
                scheduled,
                size: 0,
                volume_gb: volume.size_gb,
                retention_days: volume.snapshot_retention,
                created_at: now,
            };
            world.edit_volume(id, now, |it| it.snapshots.push(taken));
            Ok(())
        })
        .await?;
        self.take_snapshot(id.to_owned(), snapshot.clone());
        Ok(snapshot)
    }

    fn take_snapshot(self: &Arc<Self>, volume: String, snapshot: String) {
        let backend = Arc::clone(self);
        self.background(async move {
            let fails = backend.volume_fault(&volume, Kind::SnapshotFails).is_some();
            if let Some(takes) = backend.volume_fault(&volume, Kind::SnapshotStuck) {
                tokio::time::sleep(takes).await;
            }
            let (from, to) = (backend.disk.volume(&volume), backend.disk.snapshot(&snapshot));
            let copied = if fails {
                Err(Refusal::Internal("failed on purpose".to_owned()))
            } else {
                backend.disk.work(move |_| copy_tree(&from, &to)).await
            };
            if let Err(refusal) = &copied {
                tracing::error!(volume, %refusal, "a snapshot failed");
            }
            let size = copied.ok();
            let recorded = backend
                .edit(|world, now| {
                    world.edit_volume(&volume, now, |it| match size {
                        Some(size) => finish(it, &snapshot, size),
                        None => it.snapshots.retain(|it| it.id != snapshot),
                    });
                    Ok(())
                })
                .await;
            if let Err(refusal) = recorded {
                tracing::error!(volume, %refusal, "a snapshot was not recorded");
            }
        });
    }

    /// Goes on with snapshots that a restart cut short.
    pub(super) fn finish_snapshots(self: &Arc<Self>) {
        let unfinished: Vec<_> = {
            let world = self.lock();
            let volumes = world.volumes.values();
            volumes
                .flat_map(|it| it.snapshots.iter().map(|snapshot| (it.id.clone(), snapshot)))
                .filter(|(_, it)| !it.done)
                .map(|(volume, it)| (volume, it.id.clone()))
                .collect()
        };
        for (volume, snapshot) in unfinished {
            self.take_snapshot(volume, snapshot);
        }
    }

    /// Takes the daily ones and drops those whose retention is over.
    pub(super) async fn snapshot_what_is_due(self: &Arc<Self>, now: Timestamp) {
        let every = self.config.timings.snapshot_every;
        let (due, over): (Vec<String>, Vec<String>) = {
            let world = self.lock();
            let volumes = || world.volumes.values();
            let due = volumes().filter(|it| is_due(it, every, now)).map(|it| it.id.clone());
            let over = volumes().filter(|it| it.snapshots.iter().any(|it| is_over(it, now)));
            (due.collect(), over.map(|it| it.id.clone()).collect())
        };
        for id in due {
            if let Err(refusal) = self.begin_snapshot(&id, true).await {
                tracing::warn!(volume = id, %refusal, "no scheduled snapshot");
            }
        }
        for id in over {
            if let Err(refusal) = self.drop_snapshots(&id, now).await {
                tracing::warn!(volume = id, %refusal, "old snapshots were not dropped");
            }
        }
    }

    async fn drop_snapshots(&self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        let dropped: Vec<PathBuf> = self
            .edit(|world, at| {
                let dropped = world.edit_volume(id, at, |it| {
                    let over = it.snapshots.iter().filter(|it| is_over(it, now));
                    let paths = over.map(|it| self.disk.snapshot(&it.id)).collect();
                    it.snapshots.retain(|it| !is_over(it, now));
                    paths
                });
                Ok(dropped.unwrap_or_default())
            })
            .await?;
        self.disk.work(move |_| dropped.iter().try_for_each(|it| remove_tree(it))).await
    }
}

fn finish(volume: &mut Volume, id: &str, size: u64) {
    if let Some(snapshot) = volume.snapshots.iter_mut().find(|it| it.id == id) {
        snapshot.done = true;
        snapshot.size = size;
    }
}

fn is_due(volume: &Volume, every: Duration, now: Timestamp) -> bool {
    let last = volume.snapshots.iter().rev().find(|it| it.scheduled);
    let since = last.map_or(volume.created_at, |it| it.created_at);
    volume.auto_backup_enabled && volume.destroy_at.is_none() && later(since, every) <= now
}

fn is_over(snapshot: &Snapshot, now: Timestamp) -> bool {
    snapshot.done && later(snapshot.created_at, DAY * snapshot.retention_days) <= now
}
