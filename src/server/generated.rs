//! Objects of kinds that are not kept: they are made of the registry when they are asked for, and then read, listed and watched as
//! all others. It must never write one.

use bytes::Bytes;
use serde_json::Value;

use crate::api::{definition, kind::Kind, meta::ObjectRef};
use crate::server::{
    State, derived,
    draft::{self, Current},
    status::Status,
};
use crate::store::{Entry, Key, Revision, handle::decode_bytes};

/// One object: generated, derived or kept.
pub(super) async fn current(state: &State, object: &ObjectRef) -> Result<Option<Current>, Status> {
    if !object.kind.info().is_generated() {
        let Some(entry) = derived::get(&state.store, object).await? else { return Ok(None) };
        let object = decode_bytes(&entry.key, &entry.value)?;
        return Ok(Some(Current { object, revision: entry.revision }));
    }
    let revision = revision(state);
    let mut all = definition::all(state.began).into_iter();
    let found = all.find(|it| draft::name(it) == object.name);
    Ok(found.map(|object| Current { object, revision }))
}

/// The objects whose keys start with this, generated, derived or kept, and the store's revision.
pub(super) async fn entries(
    state: &State,
    (kind, prefix): (Kind, &str),
) -> Result<(Vec<Entry>, Revision), Status> {
    if !kind.info().is_generated() {
        return derived::list(&state.store, kind, prefix).await;
    }
    let (_, now) = state.store.list_bytes(prefix).await?;
    let entry = |value: Value| {
        let name = draft::name(&value);
        let key = Key::new(&ObjectRef::new(kind, "", name).store_key());
        Entry { key, value: Bytes::from(value.to_string()), revision: revision(state) }
    };
    let mut entries: Vec<_> = definition::all(state.began).into_iter().map(entry).collect();
    entries.retain(|it| it.key.as_str().starts_with(prefix));
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((entries, now))
}

/// They have been what they are since this process began to answer.
fn revision(state: &State) -> Revision {
    state.started.max(Revision(1))
}
