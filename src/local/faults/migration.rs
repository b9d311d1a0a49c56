//! A machine's move to another host: the same id, and everything else anew. It must never lose what is on its volume.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    Backend,
    disk::copy_tree,
    hosts,
    lifecycle::Who,
    machine::{Event, State},
    machines::address,
    refusal::Refusal,
    state::{Key, Version, Volume, World, later},
    view,
};

/// How long a volume is kept that a migration left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A machine that does not stop is not moved.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

impl Backend {
    pub(super) async fn migrate(self: &Arc<Self>, id: &str) -> Result<(), Refusal> {
        let before = self.state_of(id)?;
        if before != State::Stopped {
            self.begin(id, Event::Stop, Who::Host, wire::Stop::default()).await?;
            let stopped = tokio::time::timeout(PATIENCE, self.until_stopped(id)).await;
            stopped.map_err(|_| Refusal::Deadline("the machine did not stop"))??;
        }
        let old = self.lock().machines.get(id).and_then(|it| it.volume()).map(str::to_owned);
        let new = old.as_ref().map(|_| self.ids.volume());
        if let (Some(old), Some(new)) = (&old, &new) {
            let (from, to) = (self.disk.volume(old), self.disk.volume(new));
            self.disk.work(move |_| copy_tree(&from, &to)).await?;
        }
        self.edit(|world, now| self.relocate(world, now, id, new)).await?;
        if before == State::Started {
            self.until_settled(id).await;
            self.begin(id, Event::Start, Who::Host, wire::Stop::default()).await?;
        }
        Ok(())
    }

    fn state_of(&self, id: &str) -> Result<State, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        Ok(machine.state_at(self.now()))
    }

    async fn until_stopped(&self, id: &str) -> Result<(), Refusal> {
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            match self.state_of(id)? {
                State::Stopped | State::Draining => return Ok(()),
                State::Stopping => rung.await,
                other => return Err(Refusal::Unable { verb: "migrate", state: other.word() }),
            }
        }
    }

    /// Until the host has reaped the last run.
    async fn until_settled(&self, id: &str) {
        let until = self.lock().machines.get(id).map(|it| it.settles_at);
        let left = until.map(|it| it.duration_since(self.now()));
        let left = left.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
        tokio::time::sleep(left).await;
    }

    fn relocate(
        &self,
        world: &mut World,
        now: Timestamp,
        id: &str,
        new: Option<String>,
    ) -> Result<(), Refusal> {
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        let order = hosts::order(&machine.region, id);
        let host = order.into_iter().find(|it| *it != machine.host).ok_or(Refusal::NoHost)?;
        let mut config =
            machine.current().map(|it| it.config.clone()).ok_or(Refusal::NotFound("version"))?;
        let network = world.app(&machine.app)?.network.clone();
        let old = machine.volume().and_then(|it| world.volumes.get(it)).cloned();
        if let (Some(old), Some(new), Some(mount)) = (old, new, config.mounts.first_mut()) {
            mount.volume.clone_from(&new);
            let at = later(now, LEFT_BEHIND);
            world.edit_volume(&old.id, now, |it| it.destroy_at = Some(at));
            world.changed.push(Key::Volume(old.app.clone(), new.clone()));
            let updated_at = world.next_update(now);
            let host = host.clone();
            let moved = Volume { id: new, host, snapshots: Vec::new(), updated_at, ..old };
            world.insert_volume(moved);
        }
        let (version, private_ip) = (self.ids.ulid(), address(&network, &self.ids.machine()));
        let payload = Some(json!({"migrated": true}));
        let event = view::event(self.ids.ulid(), now, ("launch", "created", "flyd"), payload);
        world.edit_machine(id, now, |it| {
            it.host = host;
            it.private_ip = private_ip;
            it.push_version(Version { version, config });
            it.push_event(event);
        });
        Ok(())
    }
}
