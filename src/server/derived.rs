//! Objects that are not kept but follow from others, as if they were kept: one, all of them, and their changes. Pods follow
//! from environments and their bays. It must never write, nor tell of a change later than of one that came after it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use serde_json::Value;

use crate::api::{bay::Bay, environment::Environment, kind::Kind, meta::ObjectRef, pod::Pod};
use crate::server::status::Status;
use crate::store::{
    Change, Entry, Error, Event, Events, Key, Revision, WatchError,
    handle::{Store, decode_bytes},
};

const ENVIRONMENTS: &str = "environments/";
const BAYS: &str = "bays/";
const PODS: &str = "pods/";
/// Environments and bays are two lists; they are read again until nothing happened in between.
const LOOKS_MAX: usize = 64;

/// Every object under a prefix, kept or not, and the revision at which that is true.
pub(super) async fn list(
    store: &Store,
    kind: Kind,
    prefix: &str,
) -> Result<(Vec<Entry>, Revision), Status> {
    if kind != Kind::Pod {
        return Ok(store.list_bytes(prefix).await?);
    }
    let (world, revision) = World::read(store, prefix).await?;
    Ok((world.entries()?, revision))
}

/// One object, kept or not.
pub(super) async fn get(store: &Store, object: &ObjectRef) -> Result<Option<Entry>, Status> {
    let key = Key::new(&object.store_key());
    if object.kind != Kind::Pod {
        return Ok(store.get_bytes(&key).await?);
    }
    let Some((environment, bay)) = bound(store, object).await? else { return Ok(None) };
    Ok(pod(&key, &environment, &bay)?)
}

/// An environment and the bay that it says it is bound to, as they are stored.
async fn bound(store: &Store, pod: &ObjectRef) -> Result<Option<(Entry, Entry)>, Status> {
    let environment = ObjectRef::new(Kind::Environment, &pod.namespace, &pod.name);
    let key = Key::new(&environment.store_key());
    let Some(environment) = store.get_bytes(&key).await? else { return Ok(None) };
    let Some(bay) = bay_of(&environment)? else { return Ok(None) };
    let bay = store.get_bytes(&Key::new(&bay)).await?;
    Ok(bay.map(|bay| (environment, bay)))
}

/// The environment and the bay of a pod.
pub(super) async fn behind(store: &Store, pod: &ObjectRef) -> Result<(Environment, Bay), Status> {
    let found = bound(store, pod).await?.ok_or_else(|| Status::not_found(pod))?;
    let environment: Environment = decode_bytes(&found.0.key, &found.0.value)?;
    let bay: Bay = decode_bytes(&found.1.key, &found.1.value)?;
    if Pod::of(&environment, &bay).is_none() {
        return Err(Status::not_found(pod));
    }
    Ok((environment, bay))
}

/// The store's key of the bay that an environment is bound to.
fn bay_of(environment: &Entry) -> Result<Option<String>, Error> {
    let decoded: Environment = decode_bytes(&environment.key, &environment.value)?;
    let namespace = decoded.metadata.namespace.unwrap_or_default();
    Ok(decoded.status.bay.map(|bay| format!("{BAYS}{namespace}/{}", bay.name)))
}

fn pod(key: &Key, environment: &Entry, bay: &Entry) -> Result<Option<Entry>, Error> {
    let revision = environment.revision.max(bay.revision);
    let environment: Environment = decode_bytes(&environment.key, &environment.value)?;
    let bay: Bay = decode_bytes(&bay.key, &bay.value)?;
    let Some(pod) = Pod::of(&environment, &bay) else { return Ok(None) };
    let value = serde_json::to_vec(&pod)
        .map_err(|error| Error::Corrupt { key: key.as_str().to_owned(), why: error.to_string() })?;
    Ok(Some(Entry { key: key.clone(), value: value.into(), revision }))
}

/// Changes after a revision. What is not kept has to be known as it was at that revision: it is read as it is now, and what
/// happened since is taken back.
pub(super) fn watch(
    store: &Store,
    kind: Kind,
    prefix: &str,
    after: Revision,
) -> BoxFuture<'static, Result<Events, WatchError>> {
    let (store, prefix) = (store.clone(), prefix.to_owned());
    Box::pin(async move {
        if kind != Kind::Pod {
            return store.watch(&prefix, after);
        }
        // One watch of everything: of two, which tells first would be chance.
        let mut events = store.watch("", after)?;
        let unreadable = |_| WatchError::Compacted { asked: after, oldest: after };
        let (mut world, now) = World::read(&store, &prefix).await.map_err(unreadable)?;
        let mut since: Vec<Arc<[Change]>> = Vec::new();
        let mut seen = after;
        while seen < now {
            match events.next().await.unwrap_or(Err(WatchError::Closed))? {
                Event::Progress(revision) => seen = revision,
                Event::Changes(changes) => {
                    seen = changes.last().map_or(seen, |change| change.revision);
                    since.push(changes);
                }
            }
        }
        for change in since.iter().rev().flat_map(|changes| changes.iter().rev()) {
            world.put(&change.key, change.before.clone(), change.revision);
        }
        let again = stream::iter(since.into_iter().map(|it| Ok(Event::Changes(it))));
        let told = again.chain(events).scan(Some(world), |world, event| {
            let told = world.as_mut().map(|known| event.and_then(|event| known.take(event)));
            if matches!(told, Some(Err(_))) {
                *world = None;
            }
            std::future::ready(told)
        });
        Ok(told.boxed())
    })
}

fn uid(object: &Bytes) -> Option<String> {
    let object: Value = serde_json::from_slice(object).ok()?;
    object.pointer("/metadata/uid")?.as_str().map(str::to_owned)
}

/// Environments and bays of a namespace, or of all, as they are stored.
struct World {
    /// What the keys of the pods that are wanted start with.
    prefix: String,
    entries: BTreeMap<Key, Entry>,
}

impl World {
    async fn read(store: &Store, prefix: &str) -> Result<(Self, Revision), Status> {
        let inside = prefix.strip_prefix(PODS).unwrap_or_default();
        let namespace = inside.split_once('/').map_or("", |(namespace, _)| namespace);
        let bays =
            if namespace.is_empty() { BAYS.to_owned() } else { format!("{BAYS}{namespace}/") };
        for _ in 0..LOOKS_MAX {
            let (environments, revision) =
                store.list_bytes(&format!("{ENVIRONMENTS}{inside}")).await?;
            let (bays, same) = store.list_bytes(&bays).await?;
            if revision == same {
                let entries = environments.into_iter().chain(bays);
                let entries = entries.map(|entry| (entry.key.clone(), entry)).collect();
                return Ok((Self { prefix: prefix.to_owned(), entries }, revision));
            }
        }
        Err(Status::unavailable("environments and bays change faster than they can be read"))
    }

    /// Every pod, in the order of their names.
    fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut pods = Vec::new();
        for (key, environment) in &self.entries {
            let Some(name) = key.as_str().strip_prefix(ENVIRONMENTS) else { continue };
            pods.extend(self.of(environment, name)?);
        }
        Ok(pods)
    }

    fn of(&self, environment: &Entry, name: &str) -> Result<Option<Entry>, Error> {
        let Some(bay) = bay_of(environment)? else { return Ok(None) };
        let Some(bay) = self.entries.get(bay.as_str()) else { return Ok(None) };
        pod(&Key::new(&format!("{PODS}{name}")), environment, bay)
    }

    fn pod(&self, name: &str) -> Result<Option<Entry>, Error> {
        match self.entries.get(format!("{ENVIRONMENTS}{name}").as_str()) {
            Some(environment) => self.of(environment, name),
            None => Ok(None),
        }
    }

    fn put(&mut self, key: &Key, value: Option<Bytes>, revision: Revision) {
        let text = key.as_str();
        if !text.starts_with(ENVIRONMENTS) && !text.starts_with(BAYS) {
            return;
        }
        match value {
            Some(value) => {
                self.entries.insert(key.clone(), Entry { key: key.clone(), value, revision });
            }
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// What the changes of one commit are to pods.
    fn take(&mut self, event: Event) -> Result<Event, WatchError> {
        let Event::Changes(changes) = event else { return Ok(event) };
        let revision = changes.last().map_or(Revision(0), |change| change.revision);
        self.changes(&changes, revision).map_err(|error| {
            tracing::error!(%error, "a watch of pods met an object that it cannot read");
            WatchError::Compacted { asked: revision, oldest: revision }
        })
    }

    fn changes(&mut self, changes: &[Change], revision: Revision) -> Result<Event, Error> {
        let mut names = Vec::new();
        for change in changes {
            names.extend(self.names(change)?);
        }
        names.sort_unstable();
        names.dedup();
        names.retain(|name| format!("{PODS}{name}").starts_with(&self.prefix));
        let before: Result<Vec<_>, Error> = names.iter().map(|name| self.pod(name)).collect();
        for change in changes {
            self.put(&change.key, change.value.clone(), change.revision);
        }
        let mut told = Vec::new();
        for (name, before) in names.iter().zip(before?) {
            let now = self.pod(name)?;
            let (before, value) = (before.map(|it| it.value), now.map(|it| it.value));
            let key = Key::new(&format!("{PODS}{name}"));
            match (before, value) {
                (before, value) if before == value => {}
                // Another machine is another pod, and whoever waits for the old one to go must hear it.
                (Some(before), Some(value)) if uid(&before) != uid(&value) => {
                    let gone =
                        Change { key: key.clone(), value: None, before: Some(before), revision };
                    told.extend([gone, Change { key, value: Some(value), before: None, revision }]);
                }
                (before, value) => told.push(Change { key, value, before, revision }),
            }
        }
        if told.is_empty() {
            Ok(Event::Progress(revision))
        } else {
            Ok(Event::Changes(told.into()))
        }
    }

    /// `namespace/name` of the environments that a change may show in.
    fn names(&self, change: &Change) -> Result<Vec<String>, Error> {
        let key = change.key.as_str();
        if let Some(name) = key.strip_prefix(ENVIRONMENTS) {
            return Ok(vec![name.to_owned()]);
        }
        let Some((namespace, _)) = key.strip_prefix(BAYS).and_then(|it| it.split_once('/')) else {
            return Ok(Vec::new());
        };
        let known = self.entries.get(key).map(|entry| &entry.value);
        let mut names = Vec::new();
        for value in known.into_iter().chain(&change.value) {
            let bay: Bay = decode_bytes(&change.key, value)?;
            let bound = bay.spec.environment_ref;
            names.extend(bound.map(|it| format!("{namespace}/{}", it.name)));
        }
        Ok(names)
    }
}
