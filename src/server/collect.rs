//! What nobody deletes by hand: dependents of objects that are gone, what is in a namespace that is being deleted, old
//! events, and hostnames whose quarantine is over. It must never delete a bay, nor what it has not just seen to be unwanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{
    self, activity,
    environment::Environment,
    hostname::{Hostname, QUARANTINE_DAYS},
    kind::Kind,
    meta::{ObjectRef, OwnerReference},
    quota::COUNTED,
};
use crate::clock::Clock;
use crate::server::{
    claims, draft, propagate, quota,
    removal::{self, Options},
    status::Status,
    write,
};
use crate::store::{self, Change, Entry, Follow, Key, Precondition, handle::Store};
use crate::tasks::Shutdown;

/// How often time alone is looked at.
const EVERY: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(60) };
/// How long an event is kept after it last happened.
const EVENT_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Deletions that are under way at once.
const CONCURRENT: usize = 16;

/// Cleans up until shutdown.
///
/// # Errors
/// When the store closes before.
pub async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut follow = store.follow("");
    let mut tick = tokio::time::interval(EVERY);
    let mut collector = Collector {
        store,
        clock,
        dependents: BTreeMap::new(),
        closing: BTreeSet::new(),
        limited: BTreeSet::new(),
        waiting: BTreeSet::new(),
    };
    let mut has_seen_all = false;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return Ok(()),
            item = follow.next() => match item {
                Some(Ok(Follow::Init)) => {
                    has_seen_all = false;
                    collector.forget();
                }
                Some(Ok(Follow::InitApply(entry) | Follow::Apply(entry))) => {
                    collector.seen(&entry, has_seen_all).await;
                }
                Some(Ok(Follow::InitDone(_))) => {
                    has_seen_all = true;
                    collector.seen_all().await;
                }
                Some(Ok(Follow::Delete(change))) => collector.gone(&change).await,
                Some(Err(store::Error::Closed)) | None => break,
                Some(Err(error)) => tracing::error!(%error, "the collector met a broken object"),
            },
            _ = tick.tick(), if has_seen_all => collector.time_passed().await,
        }
    }
    if shutdown.asked() { Ok(()) } else { Err(anyhow::anyhow!("the store was closed")) }
}

struct Collector {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Key of an owner, keys of what names it as an owner. May name too much; each is looked at before it is deleted.
    dependents: BTreeMap<String, BTreeSet<Key>>,
    /// Namespaces that are being deleted.
    closing: BTreeSet<String>,
    /// Namespaces with a quota.
    limited: BTreeSet<String>,
    /// What is being deleted and waits for its dependents.
    waiting: BTreeSet<ObjectRef>,
}

/// The part of any object that matters here.
#[derive(Debug, Deserialize)]
struct Owned {
    #[serde(default)]
    metadata: Owners,
}

/// The part of its metadata: every change of every object is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owners {
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
    finalizers: Vec<String>,
    owner_references: Vec<OwnerReference>,
}

impl Collector {
    fn forget(&mut self) {
        self.dependents.clear();
        self.closing.clear();
        self.limited.clear();
        self.waiting.clear();
    }

    async fn seen(&mut self, entry: &Entry, act: bool) {
        let Some((object, metadata)) = owners(&entry.key, &entry.value) else { return };
        for owner in &metadata.owner_references {
            let Some(owner) = owner_ref(owner, &object.namespace) else { continue };
            self.dependents.entry(owner.store_key()).or_default().insert(entry.key.clone());
        }
        if act && !metadata.owner_references.is_empty() {
            self.check_dependent(&entry.key).await;
        }
        if object.kind == Kind::ResourceQuota {
            self.limited.insert(object.namespace.clone());
        }
        let Owners { deletion_timestamp, finalizers, .. } = &metadata;
        if propagate::waits_for(*deletion_timestamp, finalizers).is_some()
            && self.waiting.insert(object.clone())
            && act
        {
            self.propagate(&object).await;
        }
        if act {
            self.count(&object).await;
        }
        if object.kind == Kind::Namespace
            && metadata.deletion_timestamp.is_some()
            && self.closing.insert(object.name.clone())
            && act
        {
            self.close(&object.name).await;
        }
    }

    async fn seen_all(&mut self) {
        let dependents: BTreeSet<_> = self.dependents.values().flatten().cloned().collect();
        for key in dependents {
            self.check_dependent(&key).await;
        }
        for namespace in self.limited.clone() {
            self.count_in(&namespace).await;
        }
        self.propagate_all().await;
        report(self.release_orphans().await);
        self.close_all().await;
    }

    async fn gone(&mut self, change: &Change) {
        let before = change.before.as_deref().unwrap_or_default();
        let Some((object, metadata)) = owners(&change.key, before) else { return };
        for owner in &metadata.owner_references {
            let owner = owner_ref(owner, &object.namespace).map(|it| it.store_key());
            if let Some(known) = owner.and_then(|owner| self.dependents.get_mut(&owner)) {
                known.remove(&change.key);
            }
        }
        self.waiting.remove(&object);
        for owner in &metadata.owner_references {
            let owner = owner_ref(owner, &object.namespace);
            if let Some(owner) = owner.filter(|it| self.waiting.contains(it)) {
                self.propagate(&owner).await;
            }
        }
        for key in self.dependents.remove(change.key.as_str()).unwrap_or_default() {
            self.check_dependent(&key).await;
        }
        if object.kind == Kind::Environment
            && let Ok(environment) = serde_json::from_slice::<Environment>(before)
        {
            report(self.forget_environment(&object, &environment).await);
        }
        self.count(&object).await;
        if self.closing.contains(&object.namespace) {
            self.close(&object.namespace).await;
        }
        if object.kind == Kind::Namespace {
            self.closing.remove(&object.name);
        }
    }

    async fn time_passed(&mut self) {
        report(self.expire_events().await);
        report(self.expire_hostnames().await);
        self.propagate_all().await;
        self.close_all().await;
    }

    async fn propagate_all(&mut self) {
        for owner in self.waiting.clone() {
            self.propagate(&owner).await;
        }
    }

    /// What a deletion does first to what names its object.
    async fn propagate(&mut self, owner: &ObjectRef) {
        let dependents = self.dependents.get(&owner.store_key()).cloned().unwrap_or_default();
        let dependents = dependents.into_iter().collect();
        match propagate::step((&self.store, self.clock.now()), owner, dependents).await {
            Ok(true) => {}
            Ok(false) => {
                self.waiting.remove(owner);
            }
            Err(status) => report(Err(status)),
        }
    }

    /// Says in the quotas of its namespace what is used, after an object that counts came, went or changed.
    async fn count(&mut self, object: &ObjectRef) {
        let counts = object.kind == Kind::ResourceQuota || COUNTED.contains(&object.kind);
        if counts && self.limited.contains(&object.namespace) {
            self.count_in(&object.namespace).await;
        }
    }

    async fn count_in(&mut self, namespace: &str) {
        match quota::refresh(&self.store, namespace).await {
            Ok(0) => {
                self.limited.remove(namespace);
            }
            Ok(_) => {}
            Err(error) => report(Err(error.into())),
        }
    }

    /// Deletes a dependent none of whose owners is there any more.
    async fn check_dependent(&self, key: &Key) {
        let Some(object) = ObjectRef::from_store_key(key.as_str()) else { return };
        // A bay stands for things at Fly; the reconciler removes it when they are gone.
        if object.kind == Kind::Bay {
            return;
        }
        report(self.delete_if_orphan(&object).await);
    }

    async fn delete_if_orphan(&self, object: &ObjectRef) -> Result<(), Status> {
        let Some(current) = write::current(&self.store, object).await? else { return Ok(()) };
        let metadata = draft::metadata(&current.object);
        for owner in &metadata.owner_references {
            if self.owner_exists(owner, &object.namespace).await? {
                return Ok(());
            }
        }
        if metadata.owner_references.is_empty() {
            return Ok(());
        }
        self.delete(object, &metadata.uid).await
    }

    /// An owner of a kind that is not known here is taken to be there.
    async fn owner_exists(&self, owner: &OwnerReference, namespace: &str) -> Result<bool, Status> {
        let Some(object) = owner_ref(owner, namespace) else { return Ok(true) };
        let found = write::current(&self.store, &object).await?;
        Ok(found.is_some_and(|it| draft::metadata(&it.object).uid == owner.uid))
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<(), Status> {
        let options = Options::of_uid(uid);
        match removal::delete(&self.store, object, &options, self.clock.now()).await {
            Ok(_) => {
                tracing::info!(%object, "collected");
                Ok(())
            }
            Err(status) if status == Status::not_found(object) => Ok(()),
            Err(status) => Err(status),
        }
    }

    /// What belongs to an environment beside the objects.
    async fn forget_environment(
        &self,
        object: &ObjectRef,
        environment: &Environment,
    ) -> Result<(), Status> {
        for label in environment.hostnames() {
            self.release(label, &environment.metadata.uid).await?;
        }
        let keys = [
            activity::activity_key(&object.namespace, &object.name),
            activity::nudge_key(&object.namespace, &object.name),
        ];
        for key in keys {
            self.store.txn().delete(&Key::new(&key), Precondition::Any).commit().await?;
        }
        Ok(())
    }

    async fn release(&self, label: &str, uid: &str) -> Result<(), Status> {
        let now = self.clock.now();
        let Some(claim) = claims::give_up(&self.store, label, uid, now).await? else {
            return Ok(());
        };
        write::with_claims(self.store.txn(), &[claim]).commit().await?;
        Ok(())
    }

    /// Gives up hostnames whose environment went while nobody watched.
    async fn release_orphans(&self) -> Result<(), Status> {
        let (hostnames, _) = self.store.list::<Hostname>(&prefix(Kind::Hostname, None)).await?;
        for hostname in hostnames {
            let Hostname { metadata, spec, status, .. } = hostname.value;
            let holder = ObjectRef::new(Kind::Environment, &spec.namespace, &spec.environment);
            let found = write::current(&self.store, &holder).await?;
            let is_there = found.is_some_and(|it| draft::metadata(&it.object).uid == spec.uid);
            if status.released_at.is_none() && !is_there {
                self.release(&metadata.name, &spec.uid).await?;
            }
        }
        Ok(())
    }

    async fn close_all(&mut self) {
        for namespace in self.closing.clone() {
            self.close(&namespace).await;
        }
    }

    async fn close(&self, namespace: &str) {
        report(self.empty(namespace).await);
    }

    /// Environments first, with what stands for them at Fly; then what they were made from; then the namespace.
    async fn empty(&self, namespace: &str) -> Result<(), Status> {
        let object = ObjectRef::new(Kind::Namespace, "", namespace);
        let Some(current) = write::current(&self.store, &object).await? else { return Ok(()) };
        if draft::metadata(&current.object).deletion_timestamp.is_none() {
            return Ok(());
        }
        let mut left = self.delete_all(Kind::Environment, namespace).await?;
        // As long as there is a pool there are bays.
        left += self.delete_all(Kind::WarmPool, namespace).await?;
        left += self.store.list_bytes(&prefix(Kind::Bay, Some(namespace))).await?.0.len();
        if left > 0 {
            return Ok(());
        }
        let rest = Kind::ALL.into_iter().filter(|kind| kind.info().namespaced);
        for kind in rest.filter(|kind| !matches!(kind, Kind::Environment | Kind::Bay)) {
            left += self.delete_all(kind, namespace).await?;
        }
        if left > 0 {
            return Ok(());
        }
        let mut metadata = draft::metadata(&current.object);
        metadata.finalizers.retain(|it| it != api::CONTENTS_FINALIZER);
        let (key, at) = (write::key(&object), Precondition::At(current.revision));
        let txn = self.store.txn().delete(&quota::turn_key(namespace), Precondition::Any);
        let txn = if metadata.is_finished() {
            txn.delete(&key, at)
        } else {
            let mut object = current.object;
            object["metadata"]["finalizers"] = Value::from(metadata.finalizers);
            txn.put(&key, at, &object)
        };
        match txn.commit().await {
            Ok(_) => Ok(()),
            // Somebody labelled it; the next tick comes.
            Err(store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes every object of a kind in a namespace, and says how many are still there.
    async fn delete_all(&self, kind: Kind, namespace: &str) -> Result<usize, Status> {
        let prefix = prefix(kind, Some(namespace));
        for entry in self.store.list_bytes(&prefix).await?.0 {
            let Some((object, metadata)) = owners(&entry.key, &entry.value) else { continue };
            if metadata.deletion_timestamp.is_none() {
                self.delete(&object, &metadata.uid).await?;
            }
        }
        Ok(self.store.list_bytes(&prefix).await?.0.len())
    }

    async fn expire_events(&self) -> Result<(), Status> {
        let oldest = self.clock.now().saturating_sub(EVENT_KEPT).unwrap_or(jiff::Timestamp::MIN);
        let (events, _) = self.store.list::<Value>(&prefix(Kind::Event, None)).await?;
        let time = |event: &Value, path| {
            event.pointer(path).and_then(Value::as_str)?.parse::<jiff::Timestamp>().ok()
        };
        let old = events.into_iter().filter(|event| {
            time(&event.value, "/lastTimestamp")
                .or_else(|| time(&event.value, "/metadata/creationTimestamp"))
                .is_none_or(|last| last < oldest)
        });
        // One commit each: a watch can resume between any two of them.
        let mut deletions = stream::iter(old.map(|event| {
            let txn = self.store.txn().delete(&event.key, Precondition::At(event.revision));
            txn.commit()
        }))
        .buffer_unordered(CONCURRENT);
        while let Some(result) = deletions.next().await {
            ignore_conflict(result)?;
        }
        Ok(())
    }

    async fn expire_hostnames(&self) -> Result<(), Status> {
        let quarantine = SignedDuration::from_hours(24 * QUARANTINE_DAYS);
        let now = self.clock.now();
        let (hostnames, _) = self.store.list::<Hostname>(&prefix(Kind::Hostname, None)).await?;
        for hostname in hostnames {
            let Some(released_at) = hostname.value.status.released_at else { continue };
            if now.duration_since(released_at) >= quarantine {
                let at = Precondition::At(hostname.revision);
                ignore_conflict(self.store.txn().delete(&hostname.key, at).commit().await)?;
            }
        }
        Ok(())
    }
}

fn ignore_conflict<T>(result: Result<T, store::Error>) -> Result<(), store::Error> {
    match result {
        // It changed, so it is not what was decided about.
        Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn report(result: Result<(), Status>) {
    if let Err(status) = result {
        tracing::warn!(reason = status.reason, message = status.message, "could not collect");
    }
}

fn prefix(kind: Kind, namespace: Option<&str>) -> String {
    let plural = kind.info().plural;
    namespace.map_or_else(|| format!("{plural}/"), |namespace| format!("{plural}/{namespace}/"))
}

fn owner_ref(owner: &OwnerReference, namespace: &str) -> Option<ObjectRef> {
    let kind = Kind::from_manifest(&owner.api_version, &owner.kind)?;
    Some(ObjectRef::new(kind, namespace, &owner.name))
}

fn owners(key: &Key, value: &[u8]) -> Option<(ObjectRef, Owners)> {
    let object = ObjectRef::from_store_key(key.as_str())?;
    let owned: Owned = serde_json::from_slice(value).ok()?;
    Some((object, owned.metadata))
}
