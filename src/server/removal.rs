//! Deleting one object: marked while a finalizer keeps it, gone otherwise. The collector deletes by the same rule. It must
//! never remove what a finalizer keeps.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{kind::Kind, meta::ObjectRef};
use crate::server::{
    claims, draft,
    status::{self, Status},
    view,
    write::{self, ATTEMPTS_MAX},
};
use crate::store::{self, Precondition, Revision, handle::Store};

/// What a caller says about a deletion. `propagationPolicy` and `gracePeriodSeconds` are taken and change nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    /// What must be true of the object.
    preconditions: Option<Preconditions>,
    /// `All`: do everything but the write.
    dry_run: Option<Vec<String>>,
}

/// What must be true of an object that is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Options {
    /// Reads a body, which may be empty.
    pub(super) fn read(body: &[u8], dry_run: bool) -> Result<Self, Status> {
        let mut options: Self = match body {
            [] => Self::default(),
            body => serde_json::from_slice(body)
                .map_err(|_| Status::bad_request("the body is not a DeleteOptions in JSON"))?,
        };
        if dry_run {
            options.dry_run = Some(vec!["All".to_owned()]);
        }
        Ok(options)
    }

    /// Deletion of exactly the object with this uid.
    pub(super) fn of_uid(uid: &str) -> Self {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        Self { preconditions: Some(preconditions), dry_run: None }
    }

    /// Refuses what is not as the caller wants it to be.
    pub(super) fn check(
        &self,
        object: &ObjectRef,
        uid: &str,
        revision: Revision,
    ) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let failed = |what: &str| {
            Err(Status::conflict(
                object,
                &format!("Precondition failed: its {what} is another one"),
            ))
        };
        if wanted.uid.as_ref().is_some_and(|it| it != uid) {
            return failed("uid");
        }
        let revision = revision.to_string();
        if wanted.resource_version.as_ref().is_some_and(|it| *it != revision) {
            return failed("resourceVersion");
        }
        Ok(())
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|list| list.iter().any(|it| it == "All"))
    }
}

/// What is left after a deletion.
#[derive(Debug)]
pub(super) enum Deleted {
    /// It waits for its finalizers; as callers see it.
    Marked(Value),
    /// Nothing; as callers saw it last.
    Gone(Value),
}

impl Deleted {
    /// The answer to the caller.
    pub(super) fn answer(self, object: &ObjectRef) -> Value {
        match self {
            Self::Marked(marked) => marked,
            Self::Gone(last) => {
                let uid = last.pointer("/metadata/uid").and_then(Value::as_str);
                status::deleted(object, uid.unwrap_or_default())
            }
        }
    }

    /// The object itself.
    pub(super) fn object(self) -> Value {
        match self {
            Self::Marked(object) | Self::Gone(object) => object,
        }
    }
}

/// Deletes one object.
pub(super) async fn delete(
    store: &Store,
    object: &ObjectRef,
    options: &Options,
    now: Timestamp,
) -> Result<Deleted, Status> {
    if object.kind == Kind::Namespace && object.name == "default" {
        return Err(Status::forbidden_object(object, "this namespace may not be deleted"));
    }
    for _ in 0..ATTEMPTS_MAX {
        let old = write::current(store, object).await?;
        let old = old.ok_or_else(|| Status::not_found(object))?;
        let metadata = draft::metadata(&old.object);
        options.check(object, &metadata.uid, old.revision)?;
        let stays = !metadata.finalizers.is_empty();
        if stays && metadata.deletion_timestamp.is_some() {
            return Ok(Deleted::Marked(view::with_revision(old.object, old.revision)));
        }
        let marked = draft::deleting(object.kind, old.object.clone(), now);
        let before = write::environment(object.kind, &old.object)?;
        let claims = claims::release(store, before.as_ref(), None, now).await?;
        let at = Precondition::At(old.revision);
        let revision = if options.is_dry_run() {
            old.revision
        } else {
            let key = write::key(object);
            let txn = store.txn();
            let txn = if stays { txn.put(&key, at, &marked) } else { txn.delete(&key, at) };
            match write::with_claims(txn, &claims).commit().await {
                Ok(revision) => revision,
                Err(store::Error::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let marked = view::with_revision(marked, revision);
        return Ok(if stays { Deleted::Marked(marked) } else { Deleted::Gone(marked) });
    }
    Err(Status::modified(object))
}
