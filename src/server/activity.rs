//! What routers in other processes saw, written beside the objects. It must never believe a router about an environment
//! that is not there.

use futures::{StreamExt, stream};

use crate::api::{
    activity::{self, Activity, Nudge, Report, SeenRequest, WantedLook},
    environment::Environment,
    kind::Kind,
    meta::ObjectRef,
};
use crate::clock::Timestamp;
use crate::server::{status::Status, write};
use crate::store::{self, Key, Precondition, handle::Store};

/// Writes that are under way at once.
const CONCURRENT: usize = 16;

/// Reads a report.
pub(super) fn read(body: &[u8]) -> Result<Report, Status> {
    serde_json::from_slice(body)
        .map_err(|_| Status::bad_request("the body is not a report of a router's activity"))
}

/// Stores what a router saw. Environments that are not there any more are left out.
///
/// # Errors
/// The store's first failure; what was stored before it stays.
pub async fn record_activity(
    store: &Store,
    report: Report,
    now: Timestamp,
) -> Result<(), store::Error> {
    let requests = report.requests.into_iter().map(|it| request(store.clone(), it, now));
    let mut requests = stream::iter(requests).buffer_unordered(CONCURRENT);
    while let Some(result) = requests.next().await {
        result?;
    }
    let nudges = report.nudges.into_iter().map(|it| nudge(store.clone(), it, now));
    let mut nudges = stream::iter(nudges).buffer_unordered(CONCURRENT);
    while let Some(result) = nudges.next().await {
        result?;
    }
    Ok(())
}

async fn request(store: Store, seen: SeenRequest, now: Timestamp) -> Result<(), store::Error> {
    if !exists(&store, &seen.namespace, &seen.name, &seen.uid).await? {
        return Ok(());
    }
    let key = Key::new(&activity::activity_key(&seen.namespace, &seen.name));
    let stored = store.get::<Activity>(&key).await?;
    let later = activity::later(stored.as_ref().map(|it| &it.value), &seen, now.as_millisecond());
    let Some(later) = later else { return Ok(()) };
    let precondition = stored.map_or(Precondition::Absent, |it| Precondition::At(it.revision));
    match store.txn().put(&key, precondition, &later).commit().await {
        // Another router told of the same moment; the next report tells the rest.
        Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn nudge(store: Store, wanted: WantedLook, now: Timestamp) -> Result<(), store::Error> {
    if !exists(&store, &wanted.namespace, &wanted.name, &wanted.uid).await? {
        return Ok(());
    }
    let key = Key::new(&activity::nudge_key(&wanted.namespace, &wanted.name));
    let nudge = Nudge { uid: wanted.uid.clone(), at_ms: now.as_millisecond() };
    store.txn().put(&key, Precondition::Any, &nudge).commit().await.map(|_| ())
}

async fn exists(
    store: &Store,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<bool, store::Error> {
    let key = write::key(&ObjectRef::new(Kind::Environment, namespace, name));
    let found = store.get::<Environment>(&key).await?;
    Ok(found.is_some_and(|it| it.value.metadata.uid == uid))
}
