//! What routers in other processes saw, written beside the objects. It must never believe a router about an environment
//! that is not there.

use std::collections::BTreeMap;

use crate::api::{
    activity::{self, Activity, Nudge, Report, SeenRequest, WantedLook},
    environment::Environment,
    kind::Kind,
    meta::ObjectRef,
};
use crate::clock::Timestamp;
use crate::server::{status::Status, write};
use crate::store::{self, Key, Precondition, handle::Store};

/// How many records one commit writes; a transaction has a limit, and one commit is one sync of the disk.
const BATCH: usize = 256;
/// How often a batch is decided anew because another router wrote meanwhile.
const ATTEMPTS_MAX: usize = 8;

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
    let Report { requests, nudges } = report;
    // The last word about each environment, so that a key stands once in a transaction.
    let mut last: BTreeMap<String, SeenRequest> = BTreeMap::new();
    for seen in requests {
        let key = activity::activity_key(&seen.namespace, &seen.name);
        if last.get(&key).is_none_or(|it| it.at_ms <= seen.at_ms) {
            last.insert(key, seen);
        }
    }
    let wanted = nudges.into_iter().map(|it| (activity::nudge_key(&it.namespace, &it.name), it));
    let wanted: BTreeMap<String, WantedLook> = wanted.collect();
    for batch in last.into_iter().collect::<Vec<_>>().chunks(BATCH) {
        write_requests(store, batch, now).await?;
    }
    for batch in wanted.into_iter().collect::<Vec<_>>().chunks(BATCH) {
        write_nudges(store, batch, now).await?;
    }
    Ok(())
}

async fn write_requests(
    store: &Store,
    batch: &[(String, SeenRequest)],
    now: Timestamp,
) -> Result<(), store::Error> {
    for _ in 0..ATTEMPTS_MAX {
        let mut txn = store.txn();
        for (key, seen) in batch {
            if !exists(store, &seen.namespace, &seen.name, &seen.uid).await? {
                continue;
            }
            let key = Key::new(key);
            let stored = store.get::<Activity>(&key).await?;
            let known = stored.as_ref().map(|it| &it.value);
            if let Some(later) = activity::later(known, seen, now.as_millisecond()) {
                let at = stored.map_or(Precondition::Absent, |it| Precondition::At(it.revision));
                txn = txn.put(&key, at, &later);
            }
        }
        match txn.commit().await {
            Ok(_) => return Ok(()),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // Others write these records all the time, so they are fresh without this report.
    Ok(())
}

async fn write_nudges(
    store: &Store,
    batch: &[(String, WantedLook)],
    now: Timestamp,
) -> Result<(), store::Error> {
    let mut txn = store.txn();
    for (key, wanted) in batch {
        if exists(store, &wanted.namespace, &wanted.name, &wanted.uid).await? {
            let nudge = Nudge { uid: wanted.uid.clone(), at_ms: now.as_millisecond() };
            txn = txn.put(&Key::new(key), Precondition::Any, &nudge);
        }
    }
    txn.commit().await.map(drop)
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
