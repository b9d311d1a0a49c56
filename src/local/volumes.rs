//! Volumes: directories with Fly's rules around them. It must never delete content before its day has passed.

use std::sync::Arc;

use crate::fly::wire;
use crate::local::{
    Backend,
    call::{VolumeCall, VolumeUpdate},
    disk::{self, copy_tree, remove_tree},
    faults::{Look, View},
    machine::State,
    platform,
    refusal::Refusal,
    respond::Reply,
    state::{Key, Origin, Volume, World, later},
    view,
};

const SIZE_DEFAULT_GB: u32 = 3;
const SIZE_MAX_GB: u32 = 500;
const NAME_MAX: usize = 30;
const RETENTION_DEFAULT_DAYS: u32 = 5;

impl Backend {
    pub(super) async fn volume_call(
        self: &Arc<Self>,
        app: &str,
        id: &str,
        call: VolumeCall,
        look: &Look,
    ) -> Result<Reply, Refusal> {
        match call {
            VolumeCall::Get => {
                let view = self.view(look);
                let volume = view.volume(app, id)?;
                Reply::json(&view.outlook.volume(view::volume(&view, volume), volume))
            }
            VolumeCall::Update(update) => self.update_volume(app, id, update).await,
            VolumeCall::Extend(to) => self.extend_volume(app, id, to.size_gb).await,
            VolumeCall::Destroy => self.destroy_volume(app, id).await,
            VolumeCall::ListSnapshots => self.list_snapshots(app, id),
            VolumeCall::CreateSnapshot => self.create_snapshot(app, id).await,
        }
    }

    pub(super) async fn create_volume(
        self: &Arc<Self>,
        app: &str,
        input: wire::CreateVolume,
    ) -> Result<Reply, Refusal> {
        check(&input)?;
        let regions = platform::candidates(&input.region, &self.config.regions)?;
        let id = self.ids.volume();
        let outlook = self.outlook();
        let placed = outlook.place(&outlook.roomy(app, &regions), &id);
        // Other words than for machines.
        let (region, host) = placed.map_err(|_| Refusal::Invalid("no capacity".to_owned()))?;
        drop(outlook);
        // The directory is there before anybody can know of it.
        let of = id.clone();
        self.disk.work(move |disk| disk.make_volume(&of)).await?;
        let made = self
            .edit(|world, now| {
                world.app(app)?;
                let (origin, least_gb) = origin(world, app, &input)?;
                let size_gb = input.size_gb.unwrap_or_else(|| SIZE_DEFAULT_GB.max(least_gb));
                if size_gb < least_gb {
                    return Err(Refusal::Invalid(format!(
                        "invalid_argument: volume size must be at least {least_gb} GB"
                    )));
                }
                let volume = Volume {
                    id: id.clone(),
                    app: app.to_owned(),
                    name: input.name.clone(),
                    host,
                    region,
                    size_gb,
                    encrypted: input.encrypted.unwrap_or(true),
                    snapshot_retention: input.snapshot_retention.unwrap_or(RETENTION_DEFAULT_DAYS),
                    auto_backup_enabled: input.auto_backup_enabled.unwrap_or(true),
                    created_at: now,
                    updated_at: world.next_update(now),
                    destroy_at: None,
                    filling_from: origin,
                    snapshots: Vec::new(),
                };
                let filling = volume.filling_from.is_some();
                let shown = view::volume(world, &volume);
                world.changed.push(Key::Volume(app.to_owned(), id.clone()));
                world.insert_volume(volume);
                Ok((filling, shown))
            })
            .await;
        let (filling, shown) = match made {
            Ok(made) => made,
            Err(refusal) => {
                // It was made a moment ago and nothing is in it.
                let _leftover = self.disk.work(move |disk| remove_tree(&disk.volume(&id))).await;
                return Err(refusal);
            }
        };
        if filling {
            self.fill(id);
        }
        Reply::json(&shown)
    }

    /// Copies a new volume's first content into it. Also called for copies that a restart cut short.
    pub(super) fn fill(self: &Arc<Self>, id: String) {
        let backend = Arc::clone(self);
        self.background(async move {
            let Some(origin) =
                backend.lock().volumes.get(&id).and_then(|it| it.filling_from.clone())
            else {
                return;
            };
            let from = match &origin {
                Origin::Snapshot(snapshot) => backend.disk.snapshot(snapshot),
                Origin::Volume(volume) => backend.disk.volume(volume),
            };
            let to = backend.disk.volume(&id);
            if let Err(refusal) = backend.disk.work(move |_| copy_tree(&from, &to)).await {
                return tracing::error!(volume = id, %refusal, "a volume stays unfilled");
            }
            let filled = backend
                .edit(|world, now| {
                    world.edit_volume(&id, now, |it| it.filling_from = None);
                    Ok(())
                })
                .await;
            if let Err(refusal) = filled {
                tracing::error!(volume = id, %refusal, "a filled volume was not recorded");
            }
        });
    }

    async fn update_volume(
        &self,
        app: &str,
        id: &str,
        update: VolumeUpdate,
    ) -> Result<Reply, Refusal> {
        if let Some(days) = update.snapshot_retention {
            check_retention(days)?;
        }
        let shown = self.edit(|world, now| {
            live(world, app, id)?;
            world.edit_volume(id, now, |it| {
                if let Some(days) = update.snapshot_retention {
                    it.snapshot_retention = days;
                }
                if let Some(on) = update.auto_backup_enabled {
                    it.auto_backup_enabled = on;
                }
            });
            Ok(view::volume(world, world.volume(app, id)?))
        });
        Reply::json(&shown.await?)
    }

    async fn extend_volume(&self, app: &str, id: &str, to_gb: u32) -> Result<Reply, Refusal> {
        let extended = self.edit(|world, now| {
            let volume = live(world, app, id)?;
            if to_gb <= volume.size_gb || to_gb > SIZE_MAX_GB {
                return Err(Refusal::Invalid(format!(
                    "invalid_argument: size_gb must be greater than {} and at most {SIZE_MAX_GB}",
                    volume.size_gb
                )));
            }
            // A file system that is mounted grows at the next start.
            let needs_restart = world.holder(volume).is_some_and(|it| it.state == State::Started);
            world.edit_volume(id, now, |it| it.size_gb = to_gb);
            let volume = view::volume(world, world.volume(app, id)?);
            Ok(wire::ExtendedVolume { volume, needs_restart })
        });
        Reply::json(&extended.await?)
    }

    async fn destroy_volume(&self, app: &str, id: &str) -> Result<Reply, Refusal> {
        let shown = self.edit(|world, now| {
            let volume = world.volume(app, id)?;
            if let Some(holder) = world.holder(volume) {
                return Err(Refusal::VolumeBound(holder.id.clone()));
            }
            if volume.destroy_at.is_none() {
                let at = later(now, self.config.timings.volume_kept);
                world.edit_volume(id, now, |it| it.destroy_at = Some(at));
            }
            Ok(view::volume(world, world.volume(app, id)?))
        });
        Reply::json(&shown.await?)
    }

    /// Removes a volume, its content and its snapshots for good.
    pub(super) async fn erase_volume(&self, id: &str) -> Result<(), Refusal> {
        let snapshots = {
            let world = self.lock();
            let Some(volume) = world.volumes.get(id) else { return Ok(()) };
            volume.snapshots.iter().map(|it| self.disk.snapshot(&it.id)).collect::<Vec<_>>()
        };
        self.edit(|world, _| {
            world.remove_volume(id);
            Ok(())
        })
        .await?;
        // Content without a record is garbage; a record without content would be a lie.
        let content = self.disk.volume(id);
        let removed = move |_: &disk::Disk| {
            snapshots.iter().chain([&content]).try_for_each(|it| remove_tree(it))
        };
        self.disk.work(removed).await
    }
}

pub(super) fn list_volumes(view: &View<'_>, app: &str) -> Result<Reply, Refusal> {
    let volumes = view.app(app)?.volumes.iter().filter_map(|id| view.volumes.get(id));
    let shown = volumes.map(|it| view.outlook.volume(view::volume(view, it), it));
    Reply::json(&shown.collect::<Vec<_>>())
}

/// A volume that is not being destroyed.
pub(super) fn live<'a>(world: &'a World, app: &str, id: &str) -> Result<&'a Volume, Refusal> {
    let volume = world.volume(app, id)?;
    if volume.destroy_at.is_some() {
        return Err(Refusal::Precondition("volume is pending destroy".to_owned()));
    }
    Ok(volume)
}

fn check(input: &wire::CreateVolume) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if input.name.is_empty() || input.name.len() > NAME_MAX || !input.name.chars().all(allowed) {
        return Err(Refusal::Invalid(
            "Validation failed: Name must be at most 30 lowercase letters, numbers and underscores"
                .to_owned(),
        ));
    }
    if input.size_gb.is_some_and(|it| !(1..=SIZE_MAX_GB).contains(&it)) {
        return Err(Refusal::Invalid(format!(
            "invalid_argument: size_gb must be from 1 to {SIZE_MAX_GB}"
        )));
    }
    input.snapshot_retention.map_or(Ok(()), check_retention)
}

fn check_retention(days: u32) -> Result<(), Refusal> {
    if (1..=60).contains(&days) {
        Ok(())
    } else {
        Err(Refusal::Invalid(
            "invalid_argument: snapshot_retention must be from 1 to 60 days".to_owned(),
        ))
    }
}

/// Where the content comes from, and the least size that holds it. A snapshot of a deleted volume will do.
fn origin(
    world: &World,
    app: &str,
    input: &wire::CreateVolume,
) -> Result<(Option<Origin>, u32), Refusal> {
    let given = |it: &Option<String>| it.clone().filter(|it| !it.is_empty());
    if let Some(id) = given(&input.snapshot_id) {
        let volumes = world.app(app)?.volumes.iter().filter_map(|id| world.volumes.get(id));
        let snapshot = volumes
            .flat_map(|it| &it.snapshots)
            .find(|it| it.id == id && it.done)
            .ok_or_else(|| Refusal::Invalid("snapshot not found".to_owned()))?;
        return Ok((Some(Origin::Snapshot(id)), snapshot.volume_gb));
    }
    if let Some(id) = given(&input.source_volume_id) {
        let source = live(world, app, &id)?;
        return Ok((Some(Origin::Volume(id)), source.size_gb));
    }
    Ok((None, 1))
}
