//! What a careless controller reads from its store and writes there. It must never lose what the disk was given; the disk
//! does that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    clock::{Clock, Timestamp},
    plan::{observe::LATE_EFFECT, transit::HOST_MAX},
    sim::{careless::pools::Claims, mistakes::Mistake},
    store::{Backend, Entry, Error, Events, Key, Op, Precondition, Revision, Txn, WatchError},
};

/// How old a cached object may be.
const CACHED_FOR: Duration = Duration::from_secs(2);

/// A store with a mistake.
#[derive(Debug)]
pub(super) struct Store {
    mistake: Mistake,
    inner: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    remembered: Mutex<Remembered>,
    claims: Claims,
}

#[derive(Debug, Default)]
struct Remembered {
    /// What was there before the last write, and when that was.
    before: BTreeMap<Key, (Bytes, Duration)>,
    /// Names at Fly of a bay that went.
    bay: Option<Value>,
}

impl Store {
    pub(super) fn new(mistake: Mistake, inner: Arc<dyn Backend>, clock: Arc<dyn Clock>) -> Self {
        Self { mistake, inner, clock, remembered: Mutex::default(), claims: Claims::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is read instead.
    fn read(&self, mut entry: Entry) -> Entry {
        if self.mistake == Mistake::ReadStale {
            let now = self.clock.monotonic();
            let known =
                ["environments/", "bays/"].iter().any(|it| entry.key.as_str().starts_with(it));
            if known
                && let Some((before, at)) = self.remembered().before.get(&entry.key)
                && now < *at + CACHED_FOR
            {
                entry.value = before.clone();
            }
            return entry;
        }
        if entry.key.as_str().starts_with("bays/") {
            entry.value = changed(&entry.value, |bay| self.read_bay(&mut bay["status"]));
        }
        entry
    }

    fn read_bay(&self, status: &mut Value) {
        let now = self.clock.now();
        let at = |value: &Value| value.as_str().and_then(|it| it.parse::<Timestamp>().ok());
        match self.mistake {
            Mistake::DiscardData => set(status, "volume", "mounts", json!(0)),
            Mistake::UpdateAlways => set(status, "machine", "config", json!("")),
            Mistake::NoDeadline => set(status, "machine", "stateSince", json!(now)),
            Mistake::GiveUpHost => {
                let since = at(&status["machine"]["unreachableSince"]);
                if since.is_some_and(|at| now >= at + HOST_MAX)
                    && let Some(status) = status.as_object_mut()
                {
                    status.remove("volume");
                    status.remove("machine");
                }
            }
            _ => {}
        }
    }

    /// What is written instead.
    fn written(&self, txn: Txn) -> Txn {
        let steps = txn.steps.into_iter().map(|(key, precondition, op)| {
            let precondition = match (self.mistake, precondition) {
                (Mistake::WriteBlindly, Precondition::At(_)) => Precondition::Any,
                (_, precondition) => precondition,
            };
            let op = match op {
                Op::Put(value) => self.put(&key, value),
                op => op,
            };
            (key, precondition, op)
        });
        Txn { steps: steps.collect() }
    }

    fn put(&self, key: &Key, value: Bytes) -> Op {
        let kind = key.as_str().split('/').next().unwrap_or_default();
        match (kind, self.mistake) {
            ("holds", Mistake::IgnoreHolds) => Op::Delete,
            ("environments", Mistake::ForgetFinalizer) => {
                let object: Value = serde_json::from_slice(&value).unwrap_or_default();
                let goes = object.pointer("/metadata/deletionTimestamp").is_some();
                if goes { Op::Delete } else { Op::Put(value) }
            }
            ("environments", Mistake::ReadyUnseen) => Op::Put(changed(&value, ready)),
            ("environments", Mistake::ReuseBay) => Op::Put(changed(&value, |environment| {
                self.take_bay(environment.pointer_mut("/status/bay"), &["app"]);
            })),
            ("bays", Mistake::ReuseBay) => Op::Put(changed(&value, |bay| {
                self.take_bay(bay.get_mut("spec"), &["app", "network"]);
            })),
            ("bays", _) => Op::Put(changed(&value, |bay| self.write_bay(&mut bay["status"]))),
            (_, _) => Op::Put(value),
        }
    }

    fn write_bay(&self, status: &mut Value) {
        let Some(fields) = status.as_object_mut() else { return };
        match self.mistake {
            Mistake::NoIntent => {
                fields.remove("volumeIntendedAt");
                if let Some(machine) = fields.get_mut("machine").and_then(Value::as_object_mut) {
                    machine.remove("intendedAt");
                }
            }
            Mistake::LookOnce => {
                earlier(fields.get_mut("volumeAbsentSince"), LATE_EFFECT);
                let machine = fields.get_mut("machine");
                earlier(machine.and_then(|it| it.get_mut("absentSince")), LATE_EFFECT);
            }
            Mistake::EmptyOverData if status["missing"]["what"] == "Volume" => {
                if let Some(fields) = status.as_object_mut() {
                    fields.remove("volume");
                    fields.remove("missing");
                }
            }
            _ => {}
        }
    }

    /// Names at Fly become those of a bay that went.
    fn take_bay(&self, of: Option<&mut Value>, names: &[&str]) {
        if let (Some(of), Some(used)) = (of, &self.remembered().bay) {
            names.iter().for_each(|name| of[*name] = used[*name].clone());
        }
    }

    async fn commit_here(&self, txn: Txn) -> Result<Revision, Error> {
        let txn = self.written(txn);
        let txn = self.claims.committed(self.mistake, &*self.inner, txn).await?;
        let mut before = Vec::new();
        for (key, _, op) in &txn.steps {
            let Some(old) = self.inner.get(key).await? else { continue };
            if *op == Op::Delete && key.as_str().starts_with("bays/") {
                let bay: Value = serde_json::from_slice(&old.value).unwrap_or_default();
                self.remembered().bay = Some(bay["spec"].clone());
            }
            before.push((key.clone(), old.value));
        }
        let revision = self.inner.commit(txn).await?;
        let now = self.clock.monotonic();
        let before = before.into_iter().map(|(key, value)| (key, (value, now)));
        self.remembered().before.extend(before);
        Ok(revision)
    }
}

impl Backend for Store {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        async move { Ok(self.inner.get(key).await?.map(|it| self.read(it))) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(Vec<Entry>, Revision), Error>> {
        async move {
            let (entries, revision) = self.inner.list(prefix).await?;
            Ok((entries.into_iter().map(|it| self.read(it)).collect(), revision))
        }
        .boxed()
    }

    fn count<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<u64, Error>> {
        self.inner.count(directory)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        self.commit_here(txn).boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Events, WatchError> {
        self.inner.watch(prefix, after)
    }
}

/// The same object with a change.
fn changed(bytes: &Bytes, change: impl FnOnce(&mut Value)) -> Bytes {
    let Ok(mut object) = serde_json::from_slice::<Value>(bytes) else { return bytes.clone() };
    let before = object.clone();
    change(&mut object);
    if object == before { bytes.clone() } else { Bytes::from(object.to_string()) }
}

/// Sets a field of a part, where the part is there.
fn set(status: &mut Value, part: &str, field: &str, value: Value) {
    if let Some(part) = status.get_mut(part).and_then(Value::as_object_mut) {
        part.insert(field.to_owned(), value);
    }
}

fn earlier(at: Option<&mut Value>, by: SignedDuration) {
    let Some(at) = at else { return };
    if let Some(is) = at.as_str().and_then(|it| it.parse::<Timestamp>().ok()) {
        *at = json!(is - by);
    }
}

/// Ready as soon as there is a machine.
fn ready(environment: &mut Value) {
    let epoch = environment.pointer("/status/bay/epoch").and_then(Value::as_u64);
    if epoch.is_none_or(|it| it == 0) {
        return;
    }
    let conditions = environment.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|it| it["type"] == "Ready") {
        condition["status"] = json!("True");
    }
}
