//! What a deletion does first to what names the object as its owner, where its caller asked for that: deletes it, or lets it go.
//! Only then the object goes. It must never touch what only hangar makes, such as a bay: that goes with its owner, however it goes.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::meta::ObjectRef;
use crate::server::{
    draft,
    removal::{self, Options, Propagation},
    status::Status,
    write::{self, ATTEMPTS_MAX},
};
use crate::store::{self, Key, Precondition, handle::Store};

/// Which of the two an object that is being deleted waits for.
pub(super) fn waits_for(
    deletion_timestamp: Option<Timestamp>,
    finalizers: &[String],
) -> Option<Propagation> {
    deletion_timestamp?;
    [Propagation::Orphan, Propagation::Foreground]
        .into_iter()
        .find(|it| it.finalizer().is_some_and(|it| finalizers.iter().any(|own| own == it)))
}

/// Does what can be done now; whether the object waits on.
pub(super) async fn step(
    (store, now): (&Store, Timestamp),
    owner: &ObjectRef,
    dependents: Vec<Key>,
) -> Result<bool, Status> {
    let Some(current) = write::current(store, owner).await? else { return Ok(false) };
    let metadata = draft::metadata(&current.object);
    let Some(propagation) = waits_for(metadata.deletion_timestamp, &metadata.finalizers) else {
        return Ok(false);
    };
    let mut waits = false;
    for key in dependents {
        let dependent = ObjectRef::from_store_key(key.as_str());
        let Some(dependent) = dependent.filter(|it| it.kind.info().writable) else { continue };
        waits |= match propagation {
            Propagation::Orphan => {
                edit(store, &dependent, |it| drop_owner(it, &metadata.uid)).await?;
                false
            }
            Propagation::Foreground => delete((store, now), &dependent, &metadata.uid).await?,
            Propagation::Background => false,
        };
    }
    if !waits && let Some(finalizer) = propagation.finalizer() {
        edit(store, owner, |it| drop_finalizer(it, finalizer)).await?;
    }
    Ok(waits)
}

/// Deletes a dependent of the object with this uid; whether that object waits for it.
async fn delete(
    (store, now): (&Store, Timestamp),
    dependent: &ObjectRef,
    owner: &str,
) -> Result<bool, Status> {
    let Some(current) = write::current(store, dependent).await? else { return Ok(false) };
    let metadata = draft::metadata(&current.object);
    let Some(named) = metadata.owner_references.iter().find(|it| it.uid == owner) else {
        return Ok(false);
    };
    let blocks = named.block_owner_deletion == Some(true);
    match removal::delete(store, dependent, &Options::of_uid(&metadata.uid), now).await {
        Ok(deleted) => Ok(blocks && deleted.is_there()),
        Err(status) if status == Status::not_found(dependent) => Ok(false),
        Err(status) => Err(status),
    }
}

fn drop_owner(metadata: &mut Value, uid: &str) {
    if let Some(list) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        list.retain(|it| it.get("uid").and_then(Value::as_str) != Some(uid));
    }
}

fn drop_finalizer(metadata: &mut Value, finalizer: &str) {
    if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        list.retain(|it| it.as_str() != Some(finalizer));
    }
}

/// Changes an object's metadata, and takes it out when nothing keeps it any more.
async fn edit(
    store: &Store,
    object: &ObjectRef,
    change: impl Fn(&mut Value),
) -> Result<(), Status> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(current) = write::current(store, object).await? else { return Ok(()) };
        let mut changed = current.object.clone();
        change(&mut changed["metadata"]);
        if changed == current.object {
            return Ok(());
        }
        let (key, at) = (write::key(object), Precondition::At(current.revision));
        let txn = if draft::metadata(&changed).is_finished() {
            store.txn().delete(&key, at)
        } else {
            store.txn().put(&key, at, &changed)
        };
        match txn.commit().await {
            Ok(_) => return Ok(()),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::modified(object))
}
