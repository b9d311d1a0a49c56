//! Creating and changing: read what is there, draft, commit with preconditions, and again when someone else was faster.
//! It must never write anything but through such a commit.

use bytes::Bytes;
use serde::Deserialize as _;
use serde_json::Value;

use crate::api::{
    admit::ViolationReason,
    core::Namespace,
    environment::Environment,
    json,
    kind::Kind,
    meta::{Metadata, ObjectRef, Resource as _},
};
use crate::chance;
use crate::server::{
    State,
    call::{Scope, Target, WriteOptions},
    claims::{self, Claim},
    draft::{self, Current, Draft},
    owners,
    patch::Change,
    quota,
    status::Status,
    view,
};
use crate::store::{
    self, Key, Precondition, Revision,
    handle::{Store, Write, decode_bytes},
};

/// How often a write is decided anew because something it depends on changed meanwhile.
pub(super) const ATTEMPTS_MAX: usize = 32;

/// What a write left behind.
#[derive(Debug)]
pub(super) struct Written {
    /// As callers see it.
    pub(super) object: Value,
    /// Remarks for the caller.
    pub(super) warnings: Vec<String>,
}

impl Written {
    fn new(draft: Draft, revision: Option<Revision>) -> Self {
        let object = match revision {
            Some(revision) => view::with_revision(draft.object, revision),
            None => draft.object,
        };
        Self { object, warnings: draft.warnings }
    }
}

/// Reads one object.
pub(super) async fn current(store: &Store, object: &ObjectRef) -> Result<Option<Current>, Status> {
    let Some(entry) = store.get_bytes(&key(object)).await? else { return Ok(None) };
    let value = decode_bytes(&entry.key, &entry.value)?;
    Ok(Some(Current { object: value, revision: entry.revision }))
}

/// Where an object is stored.
pub(super) fn key(object: &ObjectRef) -> Key {
    Key::new(&object.store_key())
}

/// Adds hostnames' records to a transaction.
pub(super) fn with_claims(mut txn: Write, claims: &[Claim]) -> Write {
    for claim in claims {
        txn = txn.put(&claim.key, claim.precondition, &claim.record);
    }
    txn
}

/// An environment, typed; `None` for other kinds.
pub(super) fn environment(kind: Kind, object: &Value) -> Result<Option<Environment>, Status> {
    if kind != Kind::Environment {
        return Ok(None);
    }
    // Keeping the path takes longer, and only what cannot be read asks for it.
    if let Ok(environment) = Environment::deserialize(object) {
        return Ok(Some(environment));
    }
    match serde_path_to_error::deserialize(object) {
        Ok(environment) => Ok(Some(environment)),
        Err(error) => Err(Status::bad_request(format!(
            "Environment in version \"v1alpha1\" cannot be handled as a Environment: `{}` cannot be read",
            error.path()
        ))),
    }
}

/// A new object.
pub(super) async fn create(
    state: &State,
    scope: &Scope,
    options: &WriteOptions,
    body: Value,
) -> Result<Written, Status> {
    let store = &state.store;
    let name = draft::name(&body);
    let is_generated = name.is_empty();
    let mut last = ObjectRef::new(scope.kind, "", name);
    for _ in 0..ATTEMPTS_MAX {
        let now = state.clock.now();
        let drawn = (chance::uuid(&*state.chance), now);
        let mut draft = draft::create(scope, body.clone(), drawn, options.validation)?;
        owners::created(&mut draft, &options.writer, &body, now);
        let namespace = active_namespace(store, &draft.target).await?;
        let key = key(&draft.target);
        last = draft.target.clone();
        if store.get_bytes(&key).await?.is_some() {
            if is_generated {
                continue;
            }
            return Err(Status::already_exists(&draft.target));
        }
        let place = quota::place(state, &draft.target).await?;
        let after = environment(scope.kind, &draft.object)?;
        let claims = claims::decide(store, None, after.as_ref(), (now, &*state.chance)).await?;
        let text = text(&draft)?;
        if options.dry_run {
            return Ok(Written::new(draft, None));
        }
        let mut txn = store.txn().put_text(&key, Precondition::Absent, text);
        if let Some((key, revision)) = &namespace {
            txn = txn.check(key, Precondition::At(*revision));
        }
        txn = place.take(txn, &draft.object);
        match with_claims(txn, &claims).commit().await {
            Ok(revision) => return Ok(Written::new(draft, Some(revision))),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::modified(&last))
}

/// Another state of an object, or of its status alone.
pub(super) async fn update(
    state: &State,
    target: &Target,
    options: &WriteOptions,
    change: &Change,
) -> Result<Written, Status> {
    let object = &target.object;
    let mut turn = None;
    for _ in 0..ATTEMPTS_MAX {
        let old = current(&state.store, object).await?;
        let old = old.ok_or_else(|| Status::not_found(object))?;
        let proposed = change.apply(view::with_revision(old.object.clone(), old.revision))?;
        check_version_given(object, change, &proposed)?;
        let mut draft = draft::replace(target, &old, proposed.clone(), options.validation)?;
        let who = (target, &options.writer);
        owners::updated(&mut draft, who, (&old, &proposed), state.clock.now());
        if let Some(written) = store(state, &old, draft, options).await? {
            return Ok(written);
        }
        if turn.is_none() {
            turn = state.turns.take(object).await;
        }
    }
    Err(Status::modified(object))
}

/// Stores what an object has become; `None` when someone else was faster, and it is to be decided again on what there is now.
pub(super) async fn store(
    state: &State,
    old: &Current,
    draft: Draft,
    options: &WriteOptions,
) -> Result<Option<Written>, Status> {
    if draft.object == old.object {
        return Ok(Some(Written::new(draft, Some(old.revision))));
    }
    let text = text(&draft)?;
    let revision = commit(state, old, (&draft, text), options).await?;
    Ok(revision.map(|revision| Written::new(draft, Some(revision))))
}

/// Writes a changed object, or removes it when nothing keeps it any more; `None` when it was not what it was read as.
async fn commit(
    state: &State,
    old: &Current,
    (draft, text): (&Draft, Bytes),
    options: &WriteOptions,
) -> Result<Option<Revision>, Status> {
    let kind = draft.target.kind;
    let now = state.clock.now();
    let metadata: Metadata = draft::metadata(&draft.object);
    let before = environment(kind, &old.object)?;
    let after = environment(kind, &draft.object)?;
    let after = after.filter(|_| metadata.deletion_timestamp.is_none());
    let claims =
        claims::decide(&state.store, before.as_ref(), after.as_ref(), (now, &*state.chance))
            .await?;
    if options.dry_run {
        return Ok(Some(old.revision));
    }
    let key = key(&draft.target);
    let at = Precondition::At(old.revision);
    let txn = state.store.txn();
    let txn =
        if metadata.is_finished() { txn.delete(&key, at) } else { txn.put_text(&key, at, text) };
    match with_claims(txn, &claims).commit().await {
        Ok(revision) => Ok(Some(revision)),
        Err(store::Error::Conflict { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A whole object of hangar's own kinds says what it replaces, or two writers would undo each other.
fn check_version_given(
    object: &ObjectRef,
    change: &Change,
    proposed: &Value,
) -> Result<(), Status> {
    let given = proposed.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let is_given = given.is_some_and(|it| !it.is_empty() && it != "0");
    if is_given || !matches!(change, Change::Whole(_)) || object.kind.info().group.is_empty() {
        return Ok(());
    }
    Err(Status::invalid_field(
        object,
        "metadata.resourceVersion",
        ViolationReason::Invalid,
        "Invalid value: 0x0: must be specified for an update",
    ))
}

/// An object as it is stored; one that the store would refuse is refused with a sentence.
fn text(draft: &Draft) -> Result<Bytes, Status> {
    let text = json::text(&draft.object);
    let bytes = text.len();
    // A sealed value is a little longer than what is in it.
    let max = store::VALUE_BYTES_MAX - 1024;
    if bytes <= max {
        return Ok(text.into());
    }
    Err(Status::too_large(format!(
        "the object has {bytes} bytes with its defaults, and may have {max}"
    )))
}

/// The namespace of a new object must be there and stay there; its key and revision go into the transaction.
async fn active_namespace(
    store: &Store,
    object: &ObjectRef,
) -> Result<Option<(Key, Revision)>, Status> {
    if !object.kind.info().namespaced {
        return Ok(None);
    }
    let namespace = ObjectRef::new(Kind::Namespace, "", &object.namespace);
    let found = store.get::<Namespace>(&key(&namespace)).await?;
    let found = found.ok_or_else(|| Status::not_found(&namespace))?;
    if found.value.is_deleting() {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            object.namespace
        );
        return Err(Status::forbidden_object(object, &why));
    }
    Ok(Some((found.key, found.revision)))
}
