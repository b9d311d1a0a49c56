//! What happened to an environment, as core Events: one object for each thing that happens, counted when it happens again.
//! It must never decide what is worth one.

use crate::api::{
    Timestamp,
    core::{Event, EventSource, EventType, InvolvedObject},
    environment::{Environment, Reason},
    kind::Kind,
    meta::{Metadata, Resource as _},
};
use crate::chance::{self, Chance};
use crate::plan::{Level, Note};
use crate::reconcile::objects::key;
use crate::store::{Error, Precondition, handle::Store};

/// Writes what happened. Losing a race against another writer of the same event costs one count.
pub(crate) async fn emit(
    store: &Store,
    environment: &Environment,
    note: &Note,
    (now, chance): (Timestamp, &dyn Chance),
) -> Result<(), Error> {
    let reason = reason_word(note.reason);
    let meta = &environment.metadata;
    let namespace = meta.namespace.clone().unwrap_or_default();
    let digest = blake3::hash(format!("{}\0{reason}\0{}", meta.uid, note.message).as_bytes());
    let suffix: String = digest.to_hex().chars().take(10).collect();
    let name = format!("{}.{suffix}", meta.name);
    let key = key(Kind::Event, &namespace, &name);
    let found = store.get::<Event>(&key).await?;
    let (mut event, precondition) = match found {
        Some(found) => (found.value, Precondition::At(found.revision)),
        None => (fresh(environment, &name, &namespace, (now, chance)), Precondition::Absent),
    };
    event.count += 1;
    event.last_timestamp = Some(now);
    event.reason = reason;
    event.message.clone_from(&note.message);
    event.type_ = match note.level {
        Level::Warning => EventType::Warning,
        Level::Quiet | Level::Normal => EventType::Normal,
    };
    match store.txn().put(&key, precondition, &event).commit().await {
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn fresh(
    environment: &Environment,
    name: &str,
    namespace: &str,
    (now, chance): (Timestamp, &dyn Chance),
) -> Event {
    let info = Kind::Environment.info();
    Event {
        metadata: Metadata {
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
            uid: chance::uuid(chance).to_string(),
            creation_timestamp: Some(now),
            ..Metadata::default()
        },
        involved_object: InvolvedObject {
            api_version: info.api_version(),
            kind: info.kind_name.to_owned(),
            namespace: namespace.to_owned(),
            name: environment.object_ref().name,
            uid: environment.metadata.uid.clone(),
        },
        first_timestamp: Some(now),
        count: 0,
        source: EventSource { component: "hangar".to_owned() },
        reporting_component: "hangar".to_owned(),
        ..Event::default()
    }
}

fn reason_word(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "Unknown".to_owned(),
    }
}
