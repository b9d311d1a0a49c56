//! What happened to an environment, a pool or a template, as core Events: one object for each thing that happens, counted when it
//! happens again. It must never decide what is worth one.

use serde::Serialize;

use crate::api::{
    Timestamp,
    condition::Condition,
    core::{Event, EventSource, EventType, InvolvedObject},
    kind::Kind,
    meta::{Metadata, ObjectRef},
    micro_time::MicroTime,
};
use crate::chance::{self, Chance};
use crate::plan::{Level, Note};
use crate::reconcile::objects::key;
use crate::store::{
    Error, Revision,
    handle::{Store, Stored},
};

/// One thing that happened.
pub(crate) struct Happened<'a> {
    reason: String,
    message: &'a str,
    type_: EventType,
}

impl<'a> From<&'a Note> for Happened<'a> {
    fn from(note: &'a Note) -> Self {
        let type_ = match note.level {
            Level::Warning => EventType::Warning,
            Level::Quiet | Level::Normal => EventType::Normal,
        };
        Self { reason: word(note.reason), message: &note.message, type_ }
    }
}

/// A condition as it was, and as it is.
type Turn<'a, K, R> = (Option<&'a Condition<K, R>>, Option<&'a Condition<K, R>>);

/// That a condition has another reason than it had, where that is worth an event.
pub(crate) async fn turned<K, R: Serialize + Copy + PartialEq>(
    store: &Store,
    about: (&ObjectRef, &str),
    (before, now): Turn<'_, K, R>,
    worth: impl FnOnce(R) -> Option<EventType>,
    drawn: (Timestamp, &dyn Chance),
) -> Result<Option<Stored<Event>>, Error> {
    let turned = now.filter(|now| before.is_none_or(|it| it.reason != now.reason));
    let Some((now, type_)) = turned.and_then(|it| Some((it, worth(it.reason)?))) else {
        return Ok(None);
    };
    let what = Happened { reason: word(now.reason), message: &now.message, type_ };
    next(store, about, what, drawn).await.map(Some)
}

/// What happened, as it is to be written whatever is there by then: losing a race against another writer of the same event costs one
/// count.
pub(crate) async fn next(
    store: &Store,
    about: (&ObjectRef, &str),
    what: impl Into<Happened<'_>>,
    (now, chance): (Timestamp, &dyn Chance),
) -> Result<Stored<Event>, Error> {
    let Happened { reason, message, type_ } = what.into();
    let (object, uid) = about;
    let namespace = object.namespace.clone();
    let digest = blake3::hash(format!("{uid}\0{reason}\0{message}").as_bytes());
    let suffix: String = digest.to_hex().chars().take(10).collect();
    let name = format!("{}.{suffix}", object.name);
    let key = key(Kind::Event, &namespace, &name);
    let found = store.get::<Event>(&key).await?;
    let (mut event, revision) = match found {
        Some(found) => (found.value, found.revision),
        None => (fresh(about, &name, (now, chance)), Revision(0)),
    };
    event.count += 1;
    event.last_timestamp = Some(now);
    event.reason = reason;
    message.clone_into(&mut event.message);
    event.type_ = type_;
    Ok(Stored { key, value: event, revision })
}

fn fresh(
    (object, uid): (&ObjectRef, &str),
    name: &str,
    (now, chance): (Timestamp, &dyn Chance),
) -> Event {
    let info = object.kind.info();
    Event {
        metadata: Metadata {
            name: name.to_owned(),
            namespace: Some(object.namespace.clone()),
            uid: chance::uuid(chance).to_string(),
            creation_timestamp: Some(now),
            ..Metadata::default()
        },
        involved_object: InvolvedObject {
            api_version: info.api_version(),
            kind: info.kind_name.to_owned(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: uid.to_owned(),
            ..InvolvedObject::default()
        },
        first_timestamp: Some(now),
        event_time: Some(MicroTime(now)),
        count: 0,
        source: EventSource { component: "hangar".to_owned(), ..EventSource::default() },
        reporting_component: "hangar".to_owned(),
        ..Event::default()
    }
}

fn word(reason: impl Serialize) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "Unknown".to_owned(),
    }
}
