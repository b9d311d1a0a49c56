//! Hostnames of environments, taken and given up in the transaction that writes the environment: two environments can
//! never hold the same one. It must never commit anything itself.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::{
    environment::Environment,
    hostname::{self, Hostname},
    kind::Kind,
    meta::ObjectRef,
};
use crate::chance::{self, Chance};
use crate::server::{draft, status::Status};
use crate::store::{self, Key, Precondition, handle::Store};

/// One hostname's record to write with the environment.
#[derive(Debug)]
pub(super) struct Claim {
    /// Where.
    pub(super) key: Key,
    /// What was true when it was decided.
    pub(super) precondition: Precondition,
    /// What to write.
    pub(super) record: Hostname,
}

/// What to write so that `after` holds its hostnames, and those of `before` that it does not want are given up.
pub(super) async fn decide(
    store: &Store,
    before: Option<&Environment>,
    after: Option<&Environment>,
    (now, chance): (Timestamp, &dyn Chance),
) -> Result<Vec<Claim>, Status> {
    let mut claims = Vec::new();
    if let Some(environment) = after {
        for label in &labels(after) {
            claims.extend(take(store, label, environment, (now, chance)).await?);
        }
    }
    claims.extend(release(store, before, after, now).await?);
    Ok(claims)
}

/// What to write so that the hostnames of `before` that `after` does not want are given up; all of them without an `after`.
pub(super) async fn release(
    store: &Store,
    before: Option<&Environment>,
    after: Option<&Environment>,
    now: Timestamp,
) -> Result<Vec<Claim>, store::Error> {
    let mut claims = Vec::new();
    let Some(environment) = before else { return Ok(claims) };
    for label in labels(before).difference(&labels(after)) {
        claims.extend(give_up(store, label, &environment.metadata.uid, now).await?);
    }
    Ok(claims)
}

fn labels(environment: Option<&Environment>) -> BTreeSet<String> {
    environment.into_iter().flat_map(|it| it.hostnames()).map(str::to_owned).collect()
}

async fn take(
    store: &Store,
    label: &str,
    environment: &Environment,
    (now, chance): (Timestamp, &dyn Chance),
) -> Result<Option<Claim>, Status> {
    let key = key(label);
    let mut record = hostname::held(label, environment);
    let Some(current) = store.get::<Hostname>(&key).await? else {
        record.metadata.uid = chance::uuid(chance).to_string();
        record.metadata.creation_timestamp = Some(draft::seconds(now));
        return Ok(Some(Claim { key, precondition: Precondition::Absent, record }));
    };
    hostname::may_take(&current.value, environment, now)
        .map_err(|why| refused(environment, label, &why))?;
    record.metadata = current.value.metadata.clone();
    if record == current.value {
        return Ok(None);
    }
    Ok(Some(Claim { key, precondition: Precondition::At(current.revision), record }))
}

/// What to write so that the label is no longer held by the environment with this uid.
pub(super) async fn give_up(
    store: &Store,
    label: &str,
    uid: &str,
    now: Timestamp,
) -> Result<Option<Claim>, store::Error> {
    let key = key(label);
    let Some(current) = store.get::<Hostname>(&key).await? else { return Ok(None) };
    let mut record = current.value;
    if record.spec.uid != uid || record.status.released_at.is_some() {
        return Ok(None);
    }
    record.status.released_at = Some(draft::seconds(now));
    Ok(Some(Claim { key, precondition: Precondition::At(current.revision), record }))
}

fn key(label: &str) -> Key {
    Key::new(&ObjectRef::new(Kind::Hostname, "", label).store_key())
}

fn refused(environment: &Environment, label: &str, why: &str) -> Status {
    // Admission fills in the name where no hostname is given; then the name is what has to change.
    let name = &environment.metadata.name;
    let given = environment.spec.hostnames.iter().position(|it| it == label);
    let field = match given {
        Some(index) if environment.hostnames() != [name] => format!("spec.hostnames[{index}]"),
        Some(_) | None => "metadata.name".to_owned(),
    };
    let namespace = environment.metadata.namespace.as_deref().unwrap_or_default();
    let object = ObjectRef::new(Kind::Environment, namespace, name);
    Status::hostname_taken(&object, &field, why)
}
