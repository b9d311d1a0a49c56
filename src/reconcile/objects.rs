//! The objects of one environment in the store: reading them for a pass, writing what the pass learned. It must never decide
//! what is written.

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::api::{
    FINALIZER, Timestamp,
    activity::{self, Activity},
    bay::{Bay, BayStatus},
    core::{BAY_KEY_TYPE, Event, Secret},
    environment::{BayRef, Environment, EnvironmentStatus},
    hostname::Hostname,
    kind::Kind,
    meta::{Metadata, ObjectRef, Resource},
    orphan::{MadeBy, Orphan, OrphanStatus, OrphanWhat, Side},
    pool::{WarmPool, WarmState},
    rollout::EnvironmentRevision,
    template::Template,
};
use crate::chance::{self, Chance};
use crate::plan::stock::{self, Vacancy};
use crate::reconcile::{
    holds::{self, Holding},
    rollout::for_environment,
};
use crate::store::{
    Error, Key, Precondition, Revision,
    handle::{Store, Stored, Write},
};

/// An environment and what hangs on it, as stored.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) environment: Stored<Environment>,
    /// As it was at the revision that the environment is kept at.
    pub(crate) template: Option<Template>,
    /// That revision.
    pub(crate) revision: Option<EnvironmentRevision>,
    /// Whether the template as it is now has yet to be recorded as a revision.
    pub(crate) unrecorded: bool,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    pub(crate) bay: Option<Stored<Bay>>,
    /// An orphan that was made for it, where it has no bay.
    pub(crate) orphan: Option<String>,
    pub(crate) last_request_at: Option<Timestamp>,
    /// What is held back until a person says so.
    pub(crate) held: Holding,
    /// For a bay that no environment has, whose `environment` is made up: how its pool wants it to wait, if there is one.
    pub(crate) vacant: Option<Option<WarmState>>,
    /// Events that go to disk with what is written next.
    pub(crate) told: Vec<Stored<Event>>,
    /// Whether more than the statuses was changed here since it was read: all of it is to be written.
    unwritten: bool,
}

pub(crate) fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key::new(&ObjectRef::new(kind, namespace, name).store_key())
}

async fn read<T: Resource>(
    store: &Store,
    namespace: &str,
    name: &str,
) -> Result<Option<Stored<T>>, Error> {
    store.get::<T>(&key(T::KIND, namespace, name)).await
}

impl Objects {
    /// Reads an environment and what hangs on it, or a bay that no environment has; `None` when there is no such thing.
    pub(crate) async fn read(store: &Store, of: &ObjectRef) -> Result<Option<Box<Self>>, Error> {
        match of.kind {
            Kind::Bay => Self::read_vacant(store, of).await,
            _ => Self::read_environment(store, of).await,
        }
    }

    /// A bay that waits in a pool, or that was given up.
    async fn read_vacant(store: &Store, of: &ObjectRef) -> Result<Option<Box<Self>>, Error> {
        let Some(bay) = read::<Bay>(store, &of.namespace, &of.name).await? else { return Ok(None) };
        let Some(made_as) = &bay.value.spec.stock else { return Ok(None) };
        if bay.value.spec.environment_ref.is_some() && !bay.value.is_deleting() {
            return Ok(None);
        }
        let pool = read::<WarmPool>(store, &of.namespace, &made_as.pool).await?;
        let pool = pool.filter(|it| it.value.metadata.uid == made_as.pool_uid);
        let warm_state = pool.as_ref().map(|it| it.value.spec.warm_state());
        let (environment, template) =
            stock::vacant(&bay.value, made_as, warm_state.unwrap_or(WarmState::Started));
        Ok(Some(Box::new(Self {
            environment: Stored {
                key: bay.key.clone(),
                revision: bay.revision,
                value: environment,
            },
            template: Some(template),
            revision: bay
                .value
                .status
                .template
                .clone()
                .map(|it| EnvironmentRevision { looked: true, ..it.into() }),
            unrecorded: false,
            secrets: BTreeMap::new(),
            bay: Some(bay),
            orphan: None,
            last_request_at: None,
            held: holds::holding(store).await?,
            vacant: Some(warm_state),
            told: Vec::new(),
            unwritten: false,
        })))
    }

    async fn read_environment(store: &Store, of: &ObjectRef) -> Result<Option<Box<Self>>, Error> {
        let namespace = of.namespace.as_str();
        let Some(environment) = read::<Environment>(store, namespace, &of.name).await? else {
            return Ok(None);
        };
        let spec = &environment.value.spec;
        let template = read::<Template>(store, namespace, &spec.template_ref.name).await?;
        let mut secrets = BTreeMap::new();
        for secret in &spec.secrets {
            let found = read::<Secret>(store, namespace, &secret.name).await?;
            secrets.insert(secret.name.clone(), found.map(|it| it.value));
        }
        let bay = match &environment.value.status.bay {
            Some(bay) => read::<Bay>(store, namespace, &bay.name).await?,
            None => None,
        };
        let orphan = match &bay {
            Some(_) => None,
            None => orphan_of(store, &environment.value).await?,
        };
        let activity = store.get::<Activity>(&activity_key(of)).await?;
        let last_request_at = activity
            .filter(|it| it.value.uid == environment.value.metadata.uid)
            .and_then(|it| Timestamp::from_millisecond(it.value.last_request_at_ms).ok());
        let made_from = match &template {
            Some(it) => for_environment(store, &it.value, &environment.value).await?,
            None => None,
        };
        let unrecorded = template.is_some() && made_from.is_none();
        let (template, revision) = made_from.unzip();
        let held = holds::holding(store).await?;
        let vacant = None;
        Ok(Some(Box::new(Self {
            environment,
            template,
            revision,
            unrecorded,
            secrets,
            bay,
            orphan,
            last_request_at,
            held,
            vacant,
            told: Vec::new(),
            unwritten: false,
        })))
    }

    /// Writes the status of the environment and of its bay, where they differ from what was read, and what else was changed here.
    pub(crate) async fn publish(
        &mut self,
        store: &Store,
        status: EnvironmentStatus,
        bay_status: Option<BayStatus>,
    ) -> Result<(), Error> {
        let mut txn = store.txn();
        let mut changed = false;
        let all = self.unwritten;
        if self.vacant.is_none() && (all || self.environment.value.status != status) {
            self.environment.value.status = status;
            let at = Precondition::At(self.environment.revision);
            txn = txn.put(&self.environment.key, at, &self.environment.value);
            changed = true;
        }
        let mut bay_changed = false;
        if let (Some(bay), Some(bay_status)) = (&mut self.bay, bay_status)
            && (all || bay.value.status != bay_status)
        {
            bay.value.status = bay_status;
            txn = txn.put(&bay.key, Precondition::At(bay.revision), &bay.value);
            bay_changed = true;
        }
        let told = std::mem::take(&mut self.told);
        if !changed && !bay_changed && told.is_empty() {
            return Ok(());
        }
        let revision = with_events(txn, &told).commit().await?;
        self.unwritten = false;
        if changed {
            self.environment.revision = revision;
        }
        if let Some(bay) = self.bay.as_mut().filter(|_| bay_changed) {
            bay.revision = revision;
        }
        Ok(())
    }

    /// Writes the events by themselves.
    pub(crate) async fn tell(&mut self, store: &Store) -> Result<(), Error> {
        let told = std::mem::take(&mut self.told);
        if !told.is_empty() {
            with_events(store.txn(), &told).commit().await?;
        }
        Ok(())
    }

    /// Takes in what a call came back with. It is written with what is published next; what the store has of the bay until then.
    pub(crate) fn learn(&mut self, change: impl Fn(&mut BayStatus)) -> Option<Stored<Bay>> {
        let bay = self.bay.as_mut()?;
        let stored = bay.clone();
        change(&mut bay.value.status);
        self.unwritten = true;
        Some(stored)
    }

    /// Makes a bay with a key of its own and binds it, all in one commit; with an orphan's, the orphan goes, and a bay whose place
    /// it takes goes with its key.
    pub(crate) async fn bind(
        &mut self,
        store: &Store,
        mut bay: Bay,
        orphan: Option<&Stored<Orphan>>,
        (now, chance): (Timestamp, &dyn Chance),
    ) -> Result<(), Error> {
        let secret = key_of(&mut bay, now, chance);
        let namespace = bay.metadata.namespace.clone().unwrap_or_default();
        let status = &mut self.environment.value.status;
        status.bay = Some(BayRef {
            name: bay.metadata.name.clone(),
            app: bay.spec.app.clone(),
            ..BayRef::default()
        });
        status.template.clone_from(&self.revision);
        let name = &bay.metadata.name;
        let mut txn = store.txn();
        if let Some(orphan) = orphan {
            txn = txn.delete(&orphan.key, Precondition::At(orphan.revision));
        }
        if let Some(old) = &self.bay {
            let old_key = key(Kind::Secret, &namespace, &old.value.metadata.name);
            txn = txn
                .delete(&old.key, Precondition::At(old.revision))
                .delete(&old_key, Precondition::Any);
        }
        txn.put(&key(Kind::Bay, &namespace, name), Precondition::Absent, &bay)
            .put(&key(Kind::Secret, &namespace, name), Precondition::Absent, &secret)
            .put(
                &self.environment.key,
                Precondition::At(self.environment.revision),
                &self.environment.value,
            )
            .commit()
            .await?;
        Ok(())
    }

    /// Binds it to a bay of a pool, if that can still be had: so far only here, since it is written with what is published next.
    pub(crate) async fn claim(
        &mut self,
        store: &Store,
        vacancy: &Vacancy,
        now: Timestamp,
    ) -> Result<(), Error> {
        let environment = &mut self.environment.value;
        let namespace = environment.metadata.namespace.clone().unwrap_or_default();
        let template = environment.spec.template_ref.name.clone();
        let key = key(Kind::Bay, &namespace, &vacancy.name);
        let taken = |current| Error::Conflict { key: key.clone(), current };
        let Some(mut bay) = store.get::<Bay>(&key).await? else { return Err(taken(None)) };
        if !stock::is_vacant(&bay.value) {
            return Err(taken(Some(bay.revision)));
        }
        stock::claim(&mut bay.value, environment, self.revision.as_ref(), now);
        let as_read = self.revision.as_ref().map(|it| it.hash.as_str());
        let kept_at = environment.status.template.as_ref();
        if let Some(kept_at) = kept_at.filter(|it| as_read == Some(&it.hash)) {
            // The bay was made from what the template was read as.
            self.revision = Some(kept_at.clone());
        } else if let Some(template) = read::<Template>(store, &namespace, &template).await? {
            let Some((as_made, revision)) =
                for_environment(store, &template.value, environment).await?
            else {
                // It was changed just now; what follows from the claim would be planned without it.
                return Err(Error::Conflict {
                    key: template.key,
                    current: Some(template.revision),
                });
            };
            (self.template, self.revision) = (Some(as_made), Some(revision));
        }
        self.bay = Some(bay);
        self.unwritten = true;
        Ok(())
    }

    /// Gives its bay up: that is removed, and never bound again.
    pub(crate) async fn give_up(
        mut self: Box<Self>,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(mut bay) = self.bay.take() else { return Ok(()) };
        bay.value.metadata.deletion_timestamp.get_or_insert(now);
        // What failed is over; it is not what its removal meets with.
        bay.value.status.failure = None;
        let status = &mut self.environment.value.status;
        status.bay = None;
        status.bays_given_up = status.bays_given_up.saturating_add(1);
        let at = Precondition::At(self.environment.revision);
        store
            .txn()
            .put(&bay.key, Precondition::At(bay.revision), &bay.value)
            .put(&self.environment.key, at, &self.environment.value)
            .commit()
            .await?;
        Ok(())
    }

    /// Asks for the removal of a bay that no environment has.
    pub(crate) async fn retire(
        self: Box<Self>,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(mut bay) = self.bay else { return Ok(()) };
        bay.value.metadata.deletion_timestamp.get_or_insert(now);
        let at = Precondition::At(bay.revision);
        store.txn().put(&bay.key, at, &bay.value).commit().await?;
        Ok(())
    }

    /// The end of a bay that no environment has: it goes with its key.
    pub(crate) async fn forget_bay(self: Box<Self>, store: &Store) -> Result<(), Error> {
        let Some(bay) = self.bay else { return Ok(()) };
        let metadata = &bay.value.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let secret = key(Kind::Secret, namespace, &metadata.name);
        let at = Precondition::At(bay.revision);
        store.txn().delete(&bay.key, at).delete(&secret, Precondition::Any).commit().await?;
        Ok(())
    }

    /// The end: bay and key go, hostnames are freed, the finalizer goes, and with the last one the environment.
    pub(crate) async fn release(
        self: Box<Self>,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut environment = self.environment.value;
        let of = environment.object_ref();
        let mut txn = store.txn();
        if let Some(bay) = &self.bay {
            txn = txn.delete(&bay.key, Precondition::At(bay.revision)).delete(
                &key(Kind::Secret, &of.namespace, &bay.value.metadata.name),
                Precondition::Any,
            );
        }
        environment.metadata.finalizers.retain(|it| it != FINALIZER);
        let at = Precondition::At(self.environment.revision);
        if environment.metadata.finalizers.is_empty() {
            txn = free_hostnames(store, txn, &environment, now)
                .await?
                .delete(&self.environment.key, at)
                .delete(&activity_key(&of), Precondition::Any)
                .delete(&nudge_key(&of), Precondition::Any);
        } else {
            txn = txn.put(&self.environment.key, at, &environment);
        }
        txn.commit().await?;
        Ok(())
    }

    /// The key of the bay, from its secret.
    pub(crate) async fn bay_key(&self, store: &Store) -> Result<Option<Vec<u8>>, Error> {
        let Some(bay) = &self.bay else { return Ok(None) };
        let namespace = bay.value.metadata.namespace.clone().unwrap_or_default();
        let secret = read::<Secret>(store, &namespace, &bay.value.metadata.name).await?;
        Ok(secret.and_then(|it| it.value.value("key")))
    }
}

pub(crate) fn with_events(txn: Write, told: &[Stored<Event>]) -> Write {
    told.iter().fold(txn, |txn, it| txn.put(&it.key, Precondition::Any, &it.value))
}

/// Adds to a transaction that an environment gives its hostnames up.
pub(super) async fn free_hostnames(
    store: &Store,
    mut txn: Write,
    environment: &Environment,
    now: Timestamp,
) -> Result<Write, Error> {
    for label in environment.hostnames() {
        let key = key(Kind::Hostname, "", label);
        let Some(mut record) = store.get::<Hostname>(&key).await? else { continue };
        if record.value.spec.uid != environment.metadata.uid {
            continue;
        }
        record.value.status.released_at.get_or_insert(now);
        txn = txn.put(&key, Precondition::At(record.revision), &record.value);
    }
    Ok(txn)
}

/// Gives a new bay what the store gives, and makes the secret with its key, which has its name.
pub(crate) fn key_of(bay: &mut Bay, now: Timestamp, chance: &dyn Chance) -> Secret {
    let mut bay_key = [0_u8; 16];
    chance.fill(&mut bay_key);
    if bay.metadata.uid.is_empty() {
        bay.metadata.uid = chance::uuid(chance).to_string();
    }
    bay.metadata.creation_timestamp = Some(now);
    bay.metadata.generation = 1;
    Secret {
        api_version: Kind::Secret.info().api_version(),
        kind: Kind::Secret.info().kind_name.to_owned(),
        metadata: Metadata {
            name: bay.metadata.name.clone(),
            namespace: bay.metadata.namespace.clone(),
            uid: chance::uuid(chance).to_string(),
            creation_timestamp: Some(now),
            generation: 1,
            owner_references: vec![bay.owner_reference()],
            ..Metadata::default()
        },
        data: BTreeMap::from([(
            "key".to_owned(),
            base64::engine::general_purpose::STANDARD.encode(bay_key),
        )]),
        string_data: BTreeMap::new(),
        type_: Some(BAY_KEY_TYPE.to_owned()),
        immutable: Some(true),
    }
}

/// An app of this installation that no bay names and that was made for an environment of this name.
async fn orphan_of(store: &Store, environment: &Environment) -> Result<Option<String>, Error> {
    let prefix = format!("{}/", Kind::Orphan.info().plural);
    let (orphans, _) = store.list::<Orphan>(&prefix).await?;
    let of = environment.object_ref().to_string();
    let its = |it: &OrphanStatus| {
        (it.side, it.what, it.made_by) == (Side::Unaccounted, OrphanWhat::App, MadeBy::This)
            && it.environment.as_ref() == Some(&of)
    };
    let found = orphans.into_iter().find(|it| its(&it.value.status));
    Ok(found.map(|it| it.value.metadata.name))
}

fn activity_key(of: &ObjectRef) -> Key {
    Key::new(&activity::activity_key(&of.namespace, &of.name))
}

fn nudge_key(of: &ObjectRef) -> Key {
    Key::new(&activity::nudge_key(&of.namespace, &of.name))
}

/// This installation's id, made once.
pub(crate) async fn instance(store: &Store, chance: &dyn Chance) -> Result<String, Error> {
    let key = Key::new("meta/instance");
    loop {
        if let Some(id) = store.get::<String>(&key).await? {
            return Ok(id.value);
        }
        let id = chance::uuid(chance).simple().to_string();
        match store.txn().put(&key, Precondition::Absent, &id).commit().await {
            Ok(Revision(_)) => return Ok(id),
            Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
