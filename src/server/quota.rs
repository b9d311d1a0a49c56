//! Quotas of a namespace: one more environment is let in while there is room, and what is used is written where people read it. It
//! must never count by a list: the store knows how many there are.

use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::api::{
    kind::Kind,
    meta::ObjectRef,
    quota::{COUNTED, Count, Limit, QuotaStatus, ResourceQuota, resource_name},
};
use crate::server::{State, draft, status::Status};
use crate::store::{
    self, Key, Precondition, Revision,
    handle::{Store, Stored, Write},
};

/// A place for one more object, until its transaction was made.
#[derive(Debug, Default)]
pub(super) struct Place<'a>(Option<Turn<'a>>);

/// Creations in namespaces with a quota are made one after the other: each would only make the others try again.
#[derive(Debug)]
struct Turn<'a> {
    _only: MutexGuard<'a, ()>,
    /// Where the namespace's last creation left its mark, and when.
    key: Key,
    last: Option<Revision>,
}

/// A place for one more object of a kind, if there is room.
pub(super) async fn place<'a>(state: &'a State, object: &ObjectRef) -> Result<Place<'a>, Status> {
    let store = &state.store;
    if !COUNTED.contains(&object.kind) || limit(store, object).await?.is_none() {
        return Ok(Place::default());
    }
    let only = state.quota_turn.lock().await;
    // Read before it is counted: whoever is let in after that changes it.
    let key = turn_key(&object.namespace);
    let last = store.get_bytes(&key).await?.map(|it| it.revision);
    let used = used(store, &object.namespace, object.kind).await?;
    match limit(store, object).await? {
        Some(limit) if limit.left(used) == 0 => {
            Err(Status::forbidden_object(object, &limit.exceeded(used)))
        }
        Some(_) | None => Ok(Place(Some(Turn { _only: only, key, last }))),
    }
}

impl Place<'_> {
    /// Adds to the transaction that takes the place what makes it fail if another took one since. It is marked with
    /// the new object's uid.
    pub(super) fn take(&self, txn: Write, object: &Value) -> Write {
        let Some(Turn { key, last, .. }) = &self.0 else { return txn };
        let uid = draft::metadata(object).uid;
        txn.put(key, last.map_or(Precondition::Absent, Precondition::At), &uid)
    }
}

/// Where the uid of the object that was last let into a namespace with a quota is kept.
pub(super) fn turn_key(namespace: &str) -> Key {
    Key::new(&format!("quota-turns/{namespace}"))
}

async fn limit(store: &Store, object: &ObjectRef) -> Result<Option<Limit>, store::Error> {
    let quotas = of(store, &object.namespace).await?;
    Ok(Limit::tightest(quotas.iter().map(|it| &it.value), object.kind))
}

async fn of(store: &Store, namespace: &str) -> Result<Vec<Stored<ResourceQuota>>, store::Error> {
    let prefix = format!("{}/{namespace}/", Kind::ResourceQuota.info().plural);
    Ok(store.list(&prefix).await?.0)
}

async fn used(store: &Store, namespace: &str, kind: Kind) -> Result<u64, store::Error> {
    store.count(&format!("{}/{namespace}", kind.info().plural)).await
}

/// Writes what is used into the quotas of a namespace, where that is not what they say; how many quotas there are.
pub(super) async fn refresh(store: &Store, namespace: &str) -> Result<usize, store::Error> {
    let quotas = of(store, namespace).await?;
    for quota in &quotas {
        let mut new = quota.value.clone();
        new.status = QuotaStatus { hard: new.spec.hard.clone(), ..QuotaStatus::default() };
        for kind in COUNTED {
            let name = resource_name(kind);
            if new.spec.hard.contains_key(&name) {
                new.status.used.insert(name, Count(used(store, namespace, kind).await?));
            }
        }
        if new == quota.value {
            continue;
        }
        match store.txn().put(&quota.key, Precondition::At(quota.revision), &new).commit().await {
            // Whoever changed it is heard of, and it is looked at again.
            Ok(_) | Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(quotas.len())
}
