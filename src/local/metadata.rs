//! Metadata of machines: writes that make no version and restart nothing. It must never touch the rest of a configuration.

use serde_json::json;

use crate::clock::Timestamp;
use crate::local::{
    Backend, call::MetadataUpdate, refusal::Refusal, respond::Reply, state::World, view,
};

impl Backend {
    pub(super) fn metadata(&self, id: &str) -> Result<Reply, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        Reply::json(&view::metadata(machine))
    }

    pub(super) fn metadata_value(&self, id: &str, key: &str) -> Result<Reply, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        let value = machine.current().and_then(|it| it.config.metadata.get(key));
        Reply::json(&json!({"value": value.ok_or(Refusal::NotFound("metadata key"))?}))
    }

    /// `PUT` replaces everything, `PATCH` what it names; null or empty removes a key.
    pub(super) async fn write_metadata(
        &self,
        id: &str,
        update: MetadataUpdate,
        replace: bool,
    ) -> Result<Reply, Refusal> {
        self.edit(|world, now| {
            let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
            let given = update.machine_version.as_deref().filter(|it| !it.is_empty());
            if given.is_some_and(|it| it != machine.version()) {
                return Err(Refusal::Precondition("machine version is stale".to_owned()));
            }
            change(world, id, now, |metadata| {
                if replace {
                    metadata.clear();
                }
                for (key, value) in update.metadata {
                    set(metadata, key, value);
                }
            })
        })
        .await?;
        Ok(Reply::NoContent)
    }

    pub(super) async fn set_metadata(
        &self,
        id: &str,
        key: String,
        value: Option<String>,
    ) -> Result<Reply, Refusal> {
        self.edit(|world, now| change(world, id, now, |metadata| set(metadata, key, value)))
            .await?;
        Ok(Reply::NoContent)
    }
}

type Metadata = std::collections::BTreeMap<String, String>;

fn change(
    world: &mut World,
    id: &str,
    now: Timestamp,
    change: impl FnOnce(&mut Metadata),
) -> Result<(), Refusal> {
    if !world.machines.get(id).is_some_and(|it| it.is_live()) {
        return Err(Refusal::NotFound("machine"));
    }
    world.edit_machine(id, now, |machine| {
        if let Some(current) = machine.versions.last_mut() {
            change(&mut current.config.metadata);
        }
    });
    Ok(())
}

fn set(metadata: &mut Metadata, key: String, value: Option<String>) {
    match value.filter(|it| !it.is_empty()) {
        Some(value) => metadata.insert(key, value),
        None => metadata.remove(&key),
    };
}
